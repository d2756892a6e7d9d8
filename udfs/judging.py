"""The function that Spark applies to each symbol-hour of books: counts what the expectations judge.

Order, status and crossing of its rows; and how many of them equal golden rows, by id. Files are read here,
by reference, and compared column by column (measured on 16 M level changes, windows over the same rows in
Spark SQL: ten times the time).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import NOT_GIVEN, EventType, GoldenKind, Status
from deltabook.udfs.ahead import ahead
from deltabook.udfs.frames import Group, only_row, to_frame
from deltabook.udfs.matching import Matches, ShownBooks, read_rows, windows

OF_BOOKS = "books"
"""What `judged.kind` says of the rows of an hour's books themselves."""


def judge_groups(depth: int, at_once: int = 65_536) -> Group:
    """Make the function that counts one symbol-hour.

    Parameters
    ----------
    depth : int
        Levels a side of `books`: no more are compared.
    at_once : int
        Diffs whose books and golden rows are in memory at once.

    Returns
    -------
    callable
        For `groupBy(exchange, symbol, hour).applyInPandas`: a row of `judge_references` in, rows of
        `judged` out.
    """

    def judge(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        named: dict[str, Any] = dict.fromkeys(JUDGED.names, 0) | {"first_divergence": NOT_GIVEN}
        named |= {"exchange": str(key[0]), "symbol": str(key[1]), "hour": int(key[2])}
        rows = [named | row for row in _Hour(only_row(groups), depth, at_once).rows()]
        yield to_frame(pa.RecordBatch.from_pylist(rows, schema=JUDGED.arrow))

    return judge


class _Hour:
    """One symbol-hour: its diffs, and the books and golden rows that they name."""

    def __init__(self, reference: Any, depth: int, at_once: int):
        self.reference = reference
        self.depth = depth
        self.at_once = at_once
        self.diffs = self._diffs()

    def rows(self) -> list[dict[str, Any]]:
        """Return the hour's rows of `judged`, without its names and what was not counted."""
        shown = ShownBooks(self.reference)
        judged = [_counts(shown.rows)] if shown.rows.num_rows else []
        for kind, depth in ((GoldenKind.BOOK_TICKER, 1), (GoldenKind.VENDOR_BOOK, self.depth)):
            matches = Matches(depth)
            for window in ahead(windows(self.reference, kind, self.diffs, shown, self.at_once)):
                matches.add(window)
            if matches.compared:
                judged.append(
                    {
                        "kind": str(kind),
                        "compared": matches.compared,
                        "matched": matches.matched,
                        "first_divergence": matches.first_divergence,
                        "unverifiable": matches.unverifiable,
                    }
                )
        return judged

    def _diffs(self) -> pa.Table:
        """Return epochs and ids of the hour's diffs, in the feed's order."""
        columns = ("epoch", "sequence", "data.is_snapshot")
        of_hour = [("exchange", "=", self.reference.exchange), ("hour", "=", int(self.reference.hour))]
        updates = ("event_type", "=", str(EventType.BOOK_UPDATE))
        events = read_rows(self.reference.event_files, columns, [*of_hour, updates])
        return events.filter(pc.invert(events["is_snapshot"])).select(columns[:2])


def _counts(books: pa.Table) -> dict[str, Any]:
    """Count what the suite `continuity` judges of an hour's rows."""
    status = books["status"].combine_chunks()
    order = np.lexsort((_numpy(books["sequence"]), _numpy(books["epoch"])))
    times = _numpy(books["order_time"])[order]

    def rows_of(one: Status) -> int:
        return pc.sum(pc.equal(status, one.label)).as_py()  # type: ignore[no-any-return]

    return {
        "kind": OF_BOOKS,
        "rows": books.num_rows,
        "late": int((np.diff(times) < 0).sum()),
        "crossed": pc.sum(books["crossed"]).as_py(),
        "unseeded": rows_of(Status.UNSEEDED),
        "suspect": rows_of(Status.SUSPECT),
        "unverifiable": rows_of(Status.UNVERIFIABLE),
    }


def _numpy(column: Any) -> NDArray[Any]:
    return column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()  # type: ignore[no-any-return]
