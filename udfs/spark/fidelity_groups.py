"""The function that Spark applies to each chunk of a symbol to compare the chunk's books with golden rows.

A golden row is an independent truth about a book, such as a ticker or a vendor's book. The function compares
twice: single books with the golden rows of the same ids, and the distributions of both on a time grid.
Workers read the data files themselves, by URI. Window functions in Spark SQL over the same rows take ten
times as long (measured on 16 M level changes).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES, SIDES
from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import NOT_GIVEN, EventType, GoldenKind
from deltabook.schemas.tables import form_of
from deltabook.schemas.validation_tables import FIDELITY, MISMATCHES, SAMPLES
from deltabook.udfs.fidelity.distribution_tests import Metric, compare_grids
from deltabook.udfs.fidelity.golden_match import ChunkBooks, Window, read_windows
from deltabook.udfs.fidelity.golden_rows import Filter, GoldenReader, StoredGolden, read_matching_rows
from deltabook.udfs.fidelity.match_counts import MatchCounts, find_differing_levels
from deltabook.udfs.fidelity.recorded_books import (
    RECORDING,
    UNDECIDED,
    UPDATE_COLUMNS,
    RecordedBooks,
    Recording,
    decide_wrong,
)
from deltabook.udfs.fidelity.sampling import Sampler, align_grids
from deltabook.udfs.spark.inspect_groups import EMPTY_RESULT, make_counts_frame
from deltabook.udfs.spark.references import ChunkToJudge
from deltabook.udfs.storage.arrow_frames import GroupFunction, GroupKey, get_single_row, to_frame
from deltabook.udfs.storage.data_files import DataFile
from deltabook.udfs.storage.prefetch import prefetch

_MAX_LEVELS = 20
"""Maximum number of levels per side that have their own metrics."""


def judge_groups(root: str, depth: int, minimum_match: float, window_diffs: int = 65_536) -> GroupFunction:
    """Return the function that compares the books of one chunk with the chunk's golden rows.

    Parameters
    ----------
    root : str
        Folder of the warehouse. The function writes data files of `mismatches` and `samples` to the folder.
    depth : int
        Levels per side in the table `books`, and maximum number of levels that are compared.
    minimum_match : float
        Limit for the share of books that equal their golden rows, from 0 to 1. A share above the limit
        passes.
    window_diffs : int
        Number of diffs that are in memory at once, with their books and golden rows.

    Returns
    -------
    callable
        Function for `make_task_function`, with groups by exchange, symbol and hour. It takes one row of
        `judge_references` and yields rows of `judged`.
    """

    def judge(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        reference = get_single_row(groups, ChunkToJudge)
        chunk = _ChunkComparison(root, depth, minimum_match, window_diffs, key, reference)
        for kind, levels in ((GoldenKind.BOOK_TICKER, 1), (GoldenKind.VENDOR_BOOK, depth)):
            chunk.compare(kind, StoredGolden(reference, kind), levels)
        for recording in _list_recordings(reference):
            books = RecordedBooks(reference.exchange, recording, chunk.updates)
            chunk.compare(f"recording_{recording.name}", books, depth)
        yield make_counts_frame(key, chunk.counts)
        yield to_frame(pa.RecordBatch.from_pylist(chunk.close(), schema=JUDGED.arrow))

    return judge


class _ChunkComparison:
    """Compares one chunk's books with golden rows, and writes mismatches and samples to data files."""

    def __init__(
        self,
        root: str,
        depth: int,
        minimum_match: float,
        window_diffs: int,
        key: GroupKey,
        reference: ChunkToJudge,
    ):
        self.depth, self.minimum_match, self.window_diffs = depth, minimum_match, window_diffs
        self.reference = reference
        self.chunk: dict[str, str | int] = {
            "exchange": str(key[0]),
            "symbol": str(key[1]),
            "hour": int(key[2]),
        }
        self.updates, self.books = _read_update_ids(reference), ChunkBooks(reference)
        self.mismatches = DataFile(root, form_of(MISMATCHES, bool(reference.is_decimal)))
        self.samples = DataFile(root, SAMPLES)
        self.golden_files = (reference.golden_files, reference.ticker_files)
        self.counts: dict[str, int] = {}
        self.metrics: list[dict[str, object]] = []

    def compare(self, kind: str, golden: GoldenReader, levels: int) -> None:
        """Compare the books with the golden rows of one kind, on at most `levels` levels per side."""
        matches = MatchCounts(min(levels, _MAX_LEVELS))
        grids = _GridPair(min(self.depth, _MAX_LEVELS), self.reference)
        kind_columns = {"kind": str(kind)}
        windows = read_windows(self.reference, golden, levels, self.updates, self.books, self.window_diffs)
        schema, columns = self.mismatches.table.arrow, self.chunk | kind_columns
        for window in prefetch(windows):
            wrong, compared = np.full(len(window.ids), UNDECIDED, dtype=object), window
            if isinstance(golden, RecordedBooks):
                differing_levels = find_differing_levels(window)
                pairs = np.flatnonzero(differing_levels < window.depth)
                feeds = (self.reference.feed, golden.recording.feed)
                wrong[pairs] = decide_wrong(
                    window,
                    pairs,
                    differing_levels[pairs],
                    self.reference.exchange,
                    feeds,
                    self.golden_files,
                )
                compared = window.without(wrong == RECORDING, "recording wrong")
            differing_levels = matches.add(compared)
            grids.add(compared)
            if compared is not window:
                differing_levels = find_differing_levels(window)
            self.mismatches.add(_make_mismatches(window, differing_levels, wrong, schema, columns))
        self.counts |= {f"{kind} compared": matches.compared, f"{kind} matched": matches.matched}
        self.counts |= {f"{kind} {reason}": count for reason, count in matches.skipped.items() if count}
        if matches.unknown:
            self.counts[f"{kind} unknown levels"] = matches.unknown
        metrics: list[dict[str, object]] = [{**metric} for metric in matches.metrics(self.minimum_match)]
        # On a time grid, `books` has no row for every change, and a sample could be an outdated book.
        for metric in grids.compare() if self.books.has_every_change.all() else ():
            metrics.append(make_metric_row(metric))
            if len(metric.rebuilt):
                series = {"metric": metric.metric, "level": metric.level}
                series |= {"rebuilt": metric.rebuilt, "golden": metric.golden}
                row = self.chunk | kind_columns | series
                self.samples.add(pa.RecordBatch.from_pylist([row], schema=SAMPLES.arrow))
        self.metrics += [metric | kind_columns for metric in metrics]

    def close(self) -> list[dict[str, object]]:
        """Finish the data files; return the rows of `judged`: first all metrics, then the written files."""
        rows = [EMPTY_RESULT | self.chunk | {"table": FIDELITY.name} | metric for metric in self.metrics]
        files = (*self.mismatches.close(), *self.samples.close())
        return rows + [{**EMPTY_RESULT, **self.chunk, **file} for file in files]


class _GridPair:
    """Rebuilt and golden books on one time grid.

    Both are sampled at the compared pairs of a book and a golden row, to the known depth of the book. So a
    right book has the same samples as its golden rows, however rare these are. The time of a pair is the
    later of its two `timestamp`s, or of its receive times if the golden rows have no `timestamp`.
    """

    def __init__(self, depth: int, reference: ChunkToJudge):
        scales = (0, 0) if reference.is_decimal else (reference.price_scale, reference.size_scale)
        units = [10 ** int(scale) for scale in scales]
        self.rebuilt, self.golden = (Sampler(depth, *units) for _ in range(2))
        self.clock_column = ""
        self.golden_depth = 0

    def add(self, window: Window) -> None:
        """Sample the books and golden rows of the next window."""
        if not len(window.ids):
            return
        if not self.clock_column:
            is_given = pc.min(window.golden["timestamp"]).as_py() != NOT_GIVEN
            self.clock_column = "timestamp" if is_given else "received"
        pairs = (
            (self.rebuilt, window.books, window.book_rows),
            (self.golden, window.golden, window.golden_rows),
        )
        times = np.maximum(*(rows[self.clock_column].to_numpy()[chosen] for _, rows, chosen in pairs))
        lengths = np.stack(
            [pc.list_value_length(window.golden[side.name]).to_numpy() for side in SIDES[::2]], axis=1
        )
        # Golden rows of several tables may have different numbers of levels.
        limits = np.minimum(window.known_levels, lengths[window.golden_rows])
        for sampler, rows, chosen in pairs:
            sampler.add(times, rows, chosen, limits)
        self.golden_depth = max(self.golden_depth, int(lengths.max()))

    def compare(self) -> list[Metric]:
        """Return the metrics that compare both grids; an empty list if the grids have no step in common."""
        rebuilt, golden = align_grids(self.rebuilt.grid(), self.golden.grid())
        return compare_grids(rebuilt, golden, self.golden_depth) if len(rebuilt.steps) else []


def make_metric_row(metric: Metric) -> dict[str, object]:
    """Return the values of a metric by their column of the table `fidelity`.

    Parameters
    ----------
    metric : Metric
        A result of `compare_grids` or `compare_pooled`.
    """
    names = [field.name for field in fields(metric) if field.name in FIDELITY.names]
    return {name: getattr(metric, name) for name in names}


def _read_update_ids(reference: ChunkToJudge) -> pa.Table:
    """Return `UPDATE_COLUMNS` and is_snapshot of the chunk's book updates, in the feed's order."""
    filters: list[Filter] = [
        ("exchange", "=", reference.exchange),
        ("hour", "=", int(reference.hour)),
        ("event_type", "=", str(EventType.BOOK_UPDATE)),
    ]
    return read_matching_rows(reference.event_files, (*UPDATE_COLUMNS, "data.is_snapshot"), filters)


def _list_recordings(reference: ChunkToJudge) -> list[Recording]:
    """Return the recordings of the chunk's instrument, with their data files in order."""
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    names = zip(reference.recordings, reference.recorded_feeds, reference.recorded_files, strict=True)
    for name, feed, file in names:
        files[name, feed].append(file)
    return [Recording(name, feed, of_name) for (name, feed), of_name in files.items()]


def _make_mismatches(
    window: Window,
    differing_levels: NDArray[np.int64],
    wrong: NDArray[np.object_],
    schema: pa.Schema,
    constants: Mapping[str, str | int],
) -> pa.RecordBatch:
    """Return rows of `mismatches`: one for each pair of book and golden row that differ.

    Both sides of a row are cut to the compared depth. `wrong` says for each pair which side is wrong.
    """
    pairs = np.flatnonzero(differing_levels < window.depth)
    golden = window.golden.take(pa.array(window.golden_rows[pairs]))
    book = window.books.take(pa.array(window.book_rows[pairs]))
    columns = {name: pa.repeat(pa.scalar(value), len(pairs)) for name, value in constants.items()}
    columns |= {"sequence": pa.array(window.ids[pairs]), "level": pa.array(differing_levels[pairs] + 1)}
    columns |= {"wrong": pa.array(wrong[pairs], pa.string())}
    columns |= {name: golden[name] for name in ("epoch", "timestamp", "received")}
    columns |= {name: pc.list_slice(book[name], 0, window.depth) for name in SIDE_NAMES}
    columns |= {f"golden_{side.name}": pc.list_slice(golden[side.name], 0, window.depth) for side in SIDES}
    table = pa.table([columns[field.name] for field in schema], schema=schema).combine_chunks()
    return table.to_batches()[0] if len(pairs) else pa.RecordBatch.from_pylist([], schema=schema)
