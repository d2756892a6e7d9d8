"""Functions that Spark applies to each chunk of a symbol: they count faults in its events and books.

The suites `raw`, `events` and `books` judge the counts. Workers read the data files themselves, by URI, in
batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import NOT_GIVEN, EventType, Status
from deltabook.schemas.validation_tables import VERDICTS
from deltabook.udfs.arrow_arrays import count_labels
from deltabook.udfs.numbers.book_faults import NOT_POSITIVE, NOT_SORTED, find_book_faults
from deltabook.udfs.spark.references import BooksToInspect, EventsToInspect
from deltabook.udfs.storage.arrow_frames import GroupKey, get_single_row, to_frame
from deltabook.udfs.storage.event_files import flatten_events, read_chunk_batches

EARLIEST_TIME = 1_230_768_000_000_000_000
"""Start of 2009, ns since 1970 UTC. No crypto market is older, so an earlier time counts as missing."""
_ID_COLUMNS = ("timestamp", "order_time", "epoch", "sequence", "source_file", "source_row")
_EVENT_COLUMNS = ("exchange", "hour", "event_type", *_ID_COLUMNS, "data")
_BOOK_COLUMNS = ("exchange", "hour", "order_time", "epoch", "sequence", "status", "crossed", *SIDE_NAMES)
_BOOK_BATCH_ROWS = 65_536
_IMPOSSIBLE = {"not_monotone": NOT_SORTED, "not_positive": NOT_POSITIVE}
_SOUND = pa.array([status.label for status in Status if status.is_sound])


def inspect_events_group(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Count faults and totals of one chunk's events, for the suites `raw` and `events`.

    Parameters
    ----------
    key : (str, str, int)
        Exchange, symbol and start of the chunk (ns since 1970 UTC).
    groups : iterator of pandas.DataFrame
        One row of `judge_references`.

    Yields
    ------
    pandas.DataFrame
        A row of `judged` with the counts by name.
    """
    reference = get_single_row(groups, EventsToInspect)
    counts = Counter({"out_of_range": 0, "damaged": 0, "out_of_time": 0})
    streams: dict[EventType, list[pa.RecordBatch]] = {kind: [] for kind in EventType}
    times = []
    for file in reference.event_files:
        for batch in read_chunk_batches(file, reference.exchange, reference.hour, columns=_EVENT_COLUMNS):
            columns = flatten_events(batch)
            counts.update(_count_out_of_range(columns))
            counts["damaged"] += _count_true(columns["damaged"])
            times.append(batch["order_time"].to_numpy())
            ids = batch.select([*_ID_COLUMNS]).append_column("is_snapshot", columns["is_snapshot"])
            for kind in EventType:
                streams[kind].append(ids.filter(pc.equal(batch["event_type"], str(kind))))
    counts["out_of_time"] = int((np.diff(np.concatenate(times)) < 0).sum()) if times else 0
    for kind, batches in streams.items():
        stream = pa.Table.from_batches(batches) if batches else None
        if stream is not None and stream.num_rows:
            counts.update({f"{kind} {name}": count for name, count in _count_stream(stream).items()})
    yield make_counts_frame(key, counts)


def make_counts_frame(key: GroupKey, counts: dict[str, int]) -> pd.DataFrame:
    """Return a frame with one row of `judged` that holds counts.

    Parameters
    ----------
    key : (str, str, int)
        Exchange, symbol and start of the chunk (ns since 1970 UTC).
    counts : dict of str to int
        Counts by name.
    """
    row: dict[str, object] = {**dict(zip(("exchange", "symbol", "hour"), key, strict=False))}
    row |= {"table": VERDICTS.name, "counted": list(counts), "counts": list(counts.values())}
    return to_frame(pa.RecordBatch.from_pylist([EMPTY_RESULT | row], schema=JUDGED.arrow))


_EMPTY_VALUES = {"BIGINT": NOT_GIVEN, "DOUBLE": float("nan"), "STRING": ""}
EMPTY_RESULT = {column.name: _EMPTY_VALUES.get(column.type, []) for column in JUDGED.columns}
"""A row of `judged` whose columns are all empty."""


def _count_out_of_range(columns: dict[str, pa.Array]) -> Counter[str]:
    """Return two counts for a batch of events: `out_of_range` and `level_changes`.

    A price, or the size of a trade, is out of range if it is zero or negative. The size of a level is out of
    range only if it is negative.
    """
    is_trade = pc.equal(columns["event_type"], str(EventType.TRADE))
    out_of_range, level_changes = 0, 0
    for name in SIDE_NAMES:
        numbers = columns[name].flatten()
        zero = pa.scalar(0).cast(numbers.type)
        if name.endswith("prices"):
            out_of_range += _count_true(pc.less_equal(numbers, zero))
            level_changes += len(numbers)
        else:
            out_of_range += _count_true(pc.less(numbers, zero))
    for name in ("price", "size"):
        numbers = columns[name].filter(is_trade)
        out_of_range += _count_true(pc.less_equal(numbers, pa.scalar(0).cast(numbers.type)))
    return Counter({"out_of_range": out_of_range, "level_changes": level_changes})


def _count_stream(stream: pa.Table) -> dict[str, int]:
    """Return counts of the faults in one stream's ids and times, by name.

    The events of `stream` are in the feed's order. The faults are:

    - `late`: messages that the raw file has after a message that follows them in the feed's order
    - `unordered`: ids below the previous id
    - `missing`: timestamps that are not given
    - `zero`: timestamps before `EARLIEST_TIME`
    - `regressing`: timestamps below the previous timestamp
    """
    epoch, sequence = stream["epoch"].to_numpy(), stream["sequence"].to_numpy()
    is_backward = (np.diff(epoch) < 0) | ((np.diff(epoch) == 0) & (np.diff(sequence) < 0))
    files = stream["source_file"].combine_chunks().dictionary_encode()
    # Snapshots are left out: they may be fetched at any time and may have no origin time.
    is_diff = ~stream["is_snapshot"].to_numpy()
    timestamps = stream["timestamp"].to_numpy()[is_diff]
    given = timestamps[timestamps >= EARLIEST_TIME]
    late = 0
    rows, codes = stream["source_row"].to_numpy()[is_diff], files.indices.to_numpy()[is_diff]
    for code in range(len(files.dictionary)):
        arrival_order = np.argsort(rows[codes == code], kind="stable")
        if len(arrival_order):
            late += int((arrival_order < np.maximum.accumulate(arrival_order)).sum())
    return {
        "messages": stream.num_rows,
        "diffs": len(timestamps),
        "unordered": int(is_backward.sum()),
        "late": late,
        "missing": int((timestamps == NOT_GIVEN).sum()),
        "zero": int(((timestamps != NOT_GIVEN) & (timestamps < EARLIEST_TIME)).sum()),
        "regressing": int((np.diff(given) < 0).sum()),
    }


def inspect_books_group(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Count faults and totals of one chunk's rows of `books`, for the suite `books`.

    Parameters
    ----------
    key : (str, str, int)
        Exchange, symbol and start of the chunk (ns since 1970 UTC).
    groups : iterator of pandas.DataFrame
        One row of `judge_references`.

    Yields
    ------
    pandas.DataFrame
        A row of `judged` with the counts by name.
    """
    reference = get_single_row(groups, BooksToInspect)
    names = ("rows", "crossed", "crossed_unmarked", "not_monotone", "not_positive", "out_of_order")
    counts: Counter[str] = Counter(dict.fromkeys([status.label for status in Status] + [*names], 0))
    positions: list[NDArray[np.int64]] = []
    for file in reference.book_files:
        for batch in read_chunk_batches(
            file, reference.exchange, reference.hour, _BOOK_BATCH_ROWS, _BOOK_COLUMNS
        ):
            counts["rows"] += batch.num_rows
            counts["crossed"] += _count_true(batch["crossed"])
            is_sound = pc.is_in(batch["status"], _SOUND)
            counts["crossed_unmarked"] += _count_true(pc.and_(batch["crossed"], is_sound))
            counts.update(count_labels(batch["status"]))
            counts.update(_count_impossible(batch))
            positions.append(
                np.stack([batch[name].to_numpy() for name in ("order_time", "sequence", "epoch")])
            )
    if positions:
        times, *ids = np.concatenate(positions, axis=1)
        counts["out_of_order"] = int((np.diff(times[np.lexsort(ids)]) < 0).sum())
    yield make_counts_frame(key, counts)


def _count_impossible(batch: pa.RecordBatch) -> Counter[str]:
    """Return how many rows of `books` have each of two faults.

    `not_monotone`: a price is equal to or better than the price of the level before it. `not_positive`: a
    price or size is zero or less.
    """
    faults = find_book_faults(pa.Table.from_batches([batch]))
    return Counter({name: int(faults[fault].sum()) for name, fault in _IMPOSSIBLE.items()})


def _count_true(marks: pa.Array) -> int:
    return pc.sum(marks).as_py() or 0
