"""The function that Spark applies to each symbol-hour to hold its books against golden samples.

One by one, by id, and in distribution, on a grid of time. Files are read here, by reference (measured on 16 M
level changes, windows over the same rows in Spark SQL: ten times the time).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.columns import SIDE_NAMES, SIDES
from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import NOT_GIVEN, EventType, GoldenKind
from deltabook.schemas.tables import FIDELITY, MISMATCHES, SAMPLES, form_of
from deltabook.udfs.fidelity.distribution_tests import Metric, compare
from deltabook.udfs.fidelity.golden_match import Matches, ShownBooks, Window, read_rows, windows
from deltabook.udfs.fidelity.sampling import Sampler, on_one_grid
from deltabook.udfs.spark.inspect_groups import NO_RESULT, counted
from deltabook.udfs.storage.arrow_frames import Group, only_row, to_frame
from deltabook.udfs.storage.data_files import DataFile
from deltabook.udfs.storage.prefetch import ahead

_MOST_LEVELS = 20
"""Levels a side that are told one by one."""
_IDS = ("epoch", "sequence")


def judge_groups(root: str, depth: int, minimum_match: float, at_once: int = 65_536) -> Group:
    """Make the function that judges one symbol-hour.

    Parameters
    ----------
    root : str
        Folder of the warehouse, into which mismatches are written.
    depth : int
        Levels a side of `books`: no more are compared.
    minimum_match : float
        The share of books that equal their golden rows must be above this.
    at_once : int
        Diffs whose books and golden rows are in memory at once.

    Returns
    -------
    callable
        For `packed`, grouped by exchange, symbol, hour: a row of `judge_references` in, rows of
        `judged` out.
    """

    def judge(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        reference = only_row(groups)
        diffs, shown = _diffs(reference), ShownBooks(reference)
        mismatches = DataFile(root, form_of(MISMATCHES, bool(reference.is_decimal)))
        samples = DataFile(root, SAMPLES)
        counts: dict[str, int] = {}
        rows: list[dict[str, Any]] = []
        named = {"exchange": str(key[0]), "symbol": str(key[1]), "hour": int(key[2])}
        for kind, levels in ((GoldenKind.BOOK_TICKER, 1), (GoldenKind.VENDOR_BOOK, depth)):
            matches = Matches(min(levels, _MOST_LEVELS))
            sides = _Sides(min(depth, _MOST_LEVELS), reference)
            for window in ahead(windows(reference, kind, levels, diffs, shown, at_once)):
                differing = matches.add(window)
                sides.add(window)
                mismatches.add(
                    _mismatches(window, differing, mismatches.table.arrow, named | {"kind": str(kind)})
                )
            counts |= {f"{kind} compared": matches.compared, f"{kind} matched": matches.matched}
            told = matches.metrics(minimum_match)
            # Where not every change has a row, the grid would show books that were not there any more.
            for metric in sides.compared() if shown.every.all() else ():
                told.append(columns_of(metric))
                if len(metric.rebuilt):
                    whose = named | {"kind": str(kind), "metric": metric.metric, "level": metric.level}
                    series = {"rebuilt": metric.rebuilt, "golden": metric.golden}
                    samples.add(pa.RecordBatch.from_pylist([whose | series], schema=SAMPLES.arrow))
            rows += [row | {"kind": str(kind)} for row in told]
        yield counted(key, counts)
        rows = [NO_RESULT | named | {"table": FIDELITY.name} | row for row in rows]
        rows += [NO_RESULT | named | row for row in (*mismatches.close(), *samples.close())]
        yield to_frame(pa.RecordBatch.from_pylist(rows, schema=JUDGED.arrow))

    return judge


class _Sides:
    """Both sides on one grid of time: the exchange's clock if golden rows have it, else the local one."""

    def __init__(self, depth: int, reference: Any):
        scales = (0, 0) if reference.is_decimal else (reference.price_scale, reference.size_scale)
        units = [10 ** int(scale) for scale in scales]
        self.rebuilt, self.golden = (Sampler(depth, *units) for _ in range(2))
        self.clock = ""
        self.depth = 0

    def add(self, window: Window) -> None:
        if not self.clock:
            is_given = pc.min(window.golden["timestamp"]).as_py() != NOT_GIVEN
            self.clock = "timestamp" if is_given else "received"
        for sampler, rows in ((self.rebuilt, window.books), (self.golden, window.golden)):
            sampler.add(rows[self.clock].to_numpy(), rows)
        lengths = (pc.max(pc.list_value_length(window.golden[name])).as_py() for name in SIDE_NAMES)
        self.depth = max(self.depth, *lengths)

    def compared(self) -> list[Metric]:
        rebuilt, golden = on_one_grid(self.rebuilt.grid(), self.golden.grid())
        return compare(rebuilt, golden, self.depth) if len(rebuilt.steps) else []


def columns_of(metric: Metric) -> dict[str, Any]:
    """Return a metric's columns of `fidelity`.

    Parameters
    ----------
    metric : Metric
        As `compare` gives it.
    """
    return {one.name: getattr(metric, one.name) for one in fields(metric) if one.name in FIDELITY.names}


def _diffs(reference: Any) -> pa.Table:
    """Return epochs and ids of the hour's diffs, in the feed's order."""
    of_hour = [("exchange", "=", reference.exchange), ("hour", "=", int(reference.hour))]
    updates = ("event_type", "=", str(EventType.BOOK_UPDATE))
    events = read_rows(reference.event_files, (*_IDS, "data.is_snapshot"), [*of_hour, updates])
    return events.filter(pc.invert(events["is_snapshot"])).select(_IDS)


def _mismatches(
    window: Window, differing: np.ndarray, schema: pa.Schema, named: dict[str, Any]
) -> pa.RecordBatch:
    """Return rows of `mismatches`: both sides of each pair that differs, to the depth compared."""
    at = np.flatnonzero(differing < window.depth)
    golden = window.golden.take(pa.array(window.of_golden[at]))
    book = window.books.take(pa.array(window.of_books[at]))
    columns: dict[str, Any] = {name: pa.repeat(pa.scalar(value), len(at)) for name, value in named.items()}
    columns |= {"sequence": pa.array(window.at[at]), "level": pa.array(differing[at] + 1)}
    columns |= {name: golden[name] for name in ("epoch", "timestamp", "received")}
    columns |= {name: pc.list_slice(book[name], 0, window.depth) for name in SIDE_NAMES}
    columns |= {f"golden_{side.name}": pc.list_slice(golden[side.name], 0, window.depth) for side in SIDES}
    table = pa.table([columns[field.name] for field in schema], schema=schema).combine_chunks()
    return table.to_batches()[0] if len(at) else pa.RecordBatch.from_pylist([], schema=schema)
