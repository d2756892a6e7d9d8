"""The function that Spark applies to each symbol-hour of books: counts what the expectations judge.

Order, status and crossing of its rows; and how many of them equal golden rows, by id. Files are read here,
by reference, and compared column by column (measured on 16 M level changes, windows over the same rows in
Spark SQL: ten times the time).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import NOT_GIVEN, Cadence, EventType, GoldenKind, Status
from deltabook.udfs.files import local_path
from deltabook.udfs.frames import Group, only_row, to_frame
from deltabook.udfs.numbers import Rows

OF_BOOKS = "books"
"""What `judged.kind` says of the rows of an hour's books themselves."""
_OF_BOOKS = ("epoch", "sequence", "order_time", "status", "cadence", "crossed")
_AT_ONCE = 65_536


def judge_groups(depth: int) -> Group:
    """Make the function that counts one symbol-hour.

    Parameters
    ----------
    depth : int
        Levels a side of `books`: no more are compared.

    Returns
    -------
    callable
        For `groupBy(exchange, symbol, hour).applyInPandas`: a row of `judge_references` in, rows of
        `judged` out.
    """

    def judge(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        named: dict[str, Any] = dict.fromkeys(JUDGED.names, 0) | {"first_divergence": NOT_GIVEN}
        named |= {"exchange": str(key[0]), "symbol": str(key[1]), "hour": int(key[2])}
        rows = [named | row for row in _Hour(only_row(groups), depth).rows()]
        yield to_frame(pa.RecordBatch.from_pylist(rows, schema=JUDGED.arrow))

    return judge


class _Hour:
    """One symbol-hour: its diffs, and the books and golden rows that they name."""

    def __init__(self, reference: Any, depth: int):
        self.reference = reference
        self.depth = depth
        self.diffs = self._diffs()

    def rows(self) -> list[dict[str, Any]]:
        """Return the hour's rows of `judged`, without its names and what was not counted."""
        golden = {
            kind: self._golden(kind, depth)
            for kind, depth in ((GoldenKind.BOOK_TICKER, 1), (GoldenKind.VENDOR_BOOK, self.depth))
        }
        golden = {kind: rows for kind, rows in golden.items() if rows.num_rows}
        lengths = [
            pc.max(pc.list_value_length(rows[side])) for rows in golden.values() for side in SIDE_NAMES
        ]
        levels = max((1, *(length.as_py() for length in lengths))) if golden else 0
        books = self._books(self.reference.book_files, levels)
        judged = [_counts(books)] if books.num_rows else []
        if golden:
            before = self._books(self.reference.files_before, levels)
            known = [rows for rows in (before.slice(max(before.num_rows - 1, 0)), books) if rows.num_rows]
            books = pa.concat_tables(known).combine_chunks() if known else books
            judged += [self._compared(kind, books, rows) for kind, rows in golden.items() if known]
        return [row for row in judged if row]

    def _diffs(self) -> pa.Table:
        """Return epochs and ids of the hour's diffs, in the feed's order."""
        columns = ["exchange", "hour", "event_type", "epoch", "sequence", "data.is_snapshot"]
        events = self._of_hour(self.reference.event_files, columns)
        is_update = pc.equal(events["event_type"], EventType.BOOK_UPDATE)
        is_diff = pc.and_not(is_update, pc.struct_field(events["data"], "is_snapshot"))
        return events.filter(is_diff).select(["epoch", "sequence"])

    def _of_hour(self, files: Any, columns: list[str]) -> pa.Table:
        """Read those of the files' rows that are the hour's."""
        tables = []
        for file in files:
            rows = pq.ParquetFile(local_path(file)).read(columns)
            own = pc.and_(
                pc.equal(rows["exchange"], self.reference.exchange),
                pc.equal(rows["hour"], self.reference.hour),
            )
            tables.append(rows.filter(own))
        return pa.concat_tables(tables)

    def _books(self, files: Any, levels: int) -> pa.Table:
        """Read the exchange's rows of books, in the feed's order, sides cut to so many levels; 0: none."""
        columns = ["exchange", *_OF_BOOKS, *(SIDE_NAMES if levels else ())]
        batches = []
        for file in files:
            # Batch by batch: a file's deep levels need not fit in memory.
            for batch in pq.ParquetFile(local_path(file)).iter_batches(columns=columns):
                own = pc.equal(batch["exchange"], self.reference.exchange)
                batch = batch if pc.all(own).as_py() else batch.filter(own)
                batches.append(_cut(batch, levels) if levels else batch)
        return pa.Table.from_batches(batches) if batches else pa.table({name: [] for name in columns})

    def _golden(self, kind: GoldenKind, depth: int) -> pa.Table:
        """Read golden rows of a kind that the hour's diffs may be held against, by id, cut to `depth`."""
        columns = ["epoch", "sequence", "source_row", *SIDE_NAMES]
        ids = pc.min_max(self.diffs["sequence"]).as_py()
        tables = []
        for file in self.reference.golden_files if self.diffs.num_rows else ():
            # The newest ticker before the first diff may be one of the hour before.
            is_ticker = kind is GoldenKind.BOOK_TICKER
            chosen = [
                ("exchange", "=", self.reference.exchange),
                ("kind", "=", str(kind)),
                ("sequence", ">=", min(ids["min"], self.reference.golden_from) if is_ticker else ids["min"]),
                ("sequence", "<=", ids["max"]),
            ]
            with Path(local_path(file)).open("rb") as stream:
                rows = pq.read_table(stream, columns=columns, filters=chosen)
            tables += [_cut(rows, depth)] if rows.num_rows else []
        if not tables:
            return pa.table({name: [] for name in columns})
        by_id = [(name, "ascending") for name in columns[:3]]
        return pa.concat_tables(tables).sort_by(by_id).combine_chunks()

    def _compared(self, kind: GoldenKind, books: pa.Table, golden: pa.Table) -> dict[str, Any]:
        """Count the comparisons of one kind; nothing if there is none."""
        parts = []
        for epoch in pc.unique(self.diffs["epoch"]).to_pylist():
            (diffs, _), (shown, first), (known, first_known) = (
                _of_epoch(table, epoch) for table in (self.diffs, books, golden)
            )
            if not (len(diffs) and len(shown) and len(known)):
                continue
            if kind is GoldenKind.BOOK_TICKER:
                # Where the recording of tickers has stopped, the last one is no truth any more.
                if not (known > diffs[0]).any():
                    continue
                at, found = diffs, _newest(known, diffs)
            else:
                at, found = known, np.arange(len(known))
            book, diff = _newest(shown, at), _newest(diffs, at)
            held = (found >= 0) & (book >= 0) & (diff >= 0) & (diffs[diff] == at)
            parts.append((book[held] + first, found[held] + first_known, at[held]))
        if not parts:
            return {}
        of_books, of_golden, at = (np.concatenate(part) for part in zip(*parts, strict=True))
        status = books["status"].take(pa.array(of_books))
        seeded = _numpy(pc.not_equal(status, Status.UNSEEDED.label))
        # Where not every change has a row, the newest row is the book only at its own id.
        every = pc.is_in(books["cadence"].take(pa.array(of_books)), pa.array([*map(str, Cadence)]))
        seeded &= _numpy(every) | (_numpy(books["sequence"])[of_books] == at)
        if not seeded.any():
            return {}
        of_books, of_golden, at = of_books[seeded], of_golden[seeded], at[seeded]
        equal = np.concatenate(
            [
                _are_equal(books, golden, *(rows[start : start + _AT_ONCE] for rows in (of_books, of_golden)))
                for start in range(0, len(at), _AT_ONCE)
            ]
        )
        unverifiable = _numpy(pc.equal(status, Status.UNVERIFIABLE.label))[seeded]
        return {
            "kind": str(kind),
            "compared": len(at),
            "matched": int(equal.sum()),
            "first_divergence": NOT_GIVEN if equal.all() else int(at[~equal].min()),
            "unverifiable": int(unverifiable.sum()),
        }


def _cut(rows: Rows, levels: int) -> Rows:
    """Leave so many levels of each side at most."""
    for side in SIDE_NAMES:
        rows = rows.set_column(rows.schema.get_field_index(side), side, pc.list_slice(rows[side], 0, levels))
    return rows


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


def _of_epoch(table: pa.Table, epoch: int) -> tuple[NDArray[np.int64], int]:
    """Return the ids of one epoch's rows, and where they begin: epochs and ids ascend."""
    epochs = _numpy(table["epoch"])
    start, end = np.searchsorted(epochs, [epoch, epoch + 1])
    return _numpy(table["sequence"])[start:end], int(start)


def _newest(ids: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of the last of ascending ids that is not above each of `at`, or -1."""
    return np.searchsorted(ids, at, side="right") - 1


def _are_equal(
    books: pa.Table, golden: pa.Table, of_books: NDArray[np.int64], of_golden: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether books equal golden rows, price and size, both sides, as deep as those show."""
    equal = np.ones(len(of_books), dtype=np.bool_)
    for side in SIDE_NAMES:
        equal &= _same_lists(books[side], golden[side], of_books, of_golden)
    return equal


def _same_lists(
    books: pa.ChunkedArray, golden: pa.ChunkedArray, of_books: NDArray[np.int64], of_golden: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether lists begin as golden ones do; a golden one may be shorter, but empty only if the other is."""
    (shown, starts), (known, known_starts) = _lists(books), _lists(golden)
    want = (known_starts[1:] - known_starts[:-1])[of_golden]
    have = (starts[1:] - starts[:-1])[of_books]
    same: NDArray[np.bool_] = np.where(want == 0, have == 0, have >= want)
    rows = np.flatnonzero(same & (want > 0))
    if not len(rows):
        return same
    count = want[rows]
    begins = np.concatenate(([0], np.cumsum(count)[:-1]))
    within = np.arange(count.sum()) - np.repeat(begins, count)
    left = shown.take(pa.array(np.repeat(starts[of_books[rows]], count) + within))
    right = known.take(pa.array(np.repeat(known_starts[of_golden[rows]], count) + within))
    same[rows] = np.add.reduceat(_numpy(pc.equal(left, right)).astype(np.int64), begins) == count
    return same


def _lists(column: pa.ChunkedArray) -> tuple[pa.Array, NDArray[np.int64]]:
    lists = column.chunk(0)
    return lists.values, lists.offsets.to_numpy().astype(np.int64)


def _numpy(column: Any) -> NDArray[Any]:
    return column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()  # type: ignore[no-any-return]
