"""The functions that Spark applies to symbol-hours: they count what the suites raw, events and books judge.

Files are read here, by reference, batch by batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import NOT_GIVEN, EventType, Status
from deltabook.schemas.tables import VERDICTS
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.encoding import words
from deltabook.udfs.storage.arrow_frames import only_row, to_frame
from deltabook.udfs.storage.event_files import batches_of_hour

FIRST_TIME = 1_230_768_000_000_000_000
"""2009, ns: no feed of these markets is older, so an earlier time is none."""
_HEAD = ("timestamp", "order_time", "epoch", "sequence", "source_file", "source_row")
_OF_EVENTS = ("exchange", "hour", "event_type", *_HEAD, "data")
_OF_BOOKS = ("exchange", "hour", "order_time", "epoch", "sequence", "status", "crossed", *SIDE_NAMES)
_BATCH = 65_536


def inspect_events_group(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Count what is to be said of one symbol-hour's events.

    Parameters
    ----------
    key : tuple
        Exchange, symbol and hour.
    groups : iterator of pandas.DataFrame
        One row of `judge_references`.

    Yields
    ------
    pandas.DataFrame
        A row of `judged`.
    """
    reference = only_row(groups)
    counts = Counter({"out_of_range": 0, "damaged": 0, "out_of_time": 0})
    heads: dict[EventType, list[pa.RecordBatch]] = {kind: [] for kind in EventType}
    times = []
    for file in reference.event_files:
        for batch in batches_of_hour(file, reference.exchange, reference.hour, columns=_OF_EVENTS):
            data = dict(
                zip((field.name for field in batch["data"].type), batch["data"].flatten(), strict=True)
            )
            counts.update(_out_of_range(data, batch["event_type"]))
            counts["damaged"] += _count(data["damaged"])
            times.append(batch["order_time"].to_numpy())
            head = batch.select([*_HEAD]).append_column("is_snapshot", data["is_snapshot"])
            for kind in EventType:
                heads[kind].append(head.filter(pc.equal(batch["event_type"], str(kind))))
    counts["out_of_time"] = int((np.diff(np.concatenate(times)) < 0).sum()) if times else 0
    for kind, batches in heads.items():
        stream = pa.Table.from_batches(batches) if batches else None
        if stream is not None and stream.num_rows:
            counts.update({f"{kind} {name}": count for name, count in _of_stream(stream).items()})
    yield counted(key, counts)


def counted(key: tuple[Any, ...], counts: dict[str, int]) -> pd.DataFrame:
    """Make the row of `judged` that tells counts.

    Parameters
    ----------
    key : tuple
        Exchange, symbol and hour.
    counts : dict
        By name.
    """
    row = dict(zip(("exchange", "symbol", "hour"), key, strict=False)) | {"table": VERDICTS.name}
    row |= {"counted": list(counts), "counts": list(counts.values())}
    return to_frame(pa.RecordBatch.from_pylist([NO_RESULT | row], schema=JUDGED.arrow))


_EMPTY = {"BIGINT": NOT_GIVEN, "DOUBLE": float("nan"), "STRING": ""}
NO_RESULT = {column.name: _EMPTY.get(column.type, []) for column in JUDGED.columns}
"""A row of `judged` that says nothing."""


def _out_of_range(data: dict[str, pa.Array], kinds: pa.Array) -> Counter[str]:
    """Count prices that are not above zero, negative sizes, and trades of nothing."""
    is_trade = pc.equal(kinds, str(EventType.TRADE))
    found, levels = 0, 0
    for side in SIDE_NAMES:
        numbers = data[side].flatten()
        zero = pa.scalar(0).cast(numbers.type)
        wrong = pc.less_equal(numbers, zero) if side.endswith("prices") else pc.less(numbers, zero)
        found += _count(wrong)
        levels += len(numbers) if side.endswith("prices") else 0
    for name in ("price", "size"):
        found += _count(pc.less_equal(data[name].filter(is_trade), pa.scalar(0).cast(data[name].type)))
    return Counter({"out_of_range": found, "level_changes": levels})


def _of_stream(stream: pa.Table) -> dict[str, int]:
    """Count what one stream's order and times show; events stand in the feed's order, by id."""
    epoch, sequence = stream["epoch"].to_numpy(), stream["sequence"].to_numpy()
    back = (np.diff(epoch) < 0) | ((np.diff(epoch) == 0) & (np.diff(sequence) < 0))
    files = stream["source_file"].combine_chunks().dictionary_encode()
    # A snapshot may be fetched at any time, and need not have one.
    own = ~stream["is_snapshot"].to_numpy()
    stamps = stream["timestamp"].to_numpy()[own]
    given = stamps[stamps >= FIRST_TIME]
    late = 0
    rows, codes = stream["source_row"].to_numpy()[own], files.indices.to_numpy()[own]
    for code in range(len(files.dictionary)):
        arrived = np.argsort(rows[codes == code], kind="stable")
        late += int((arrived < np.maximum.accumulate(arrived)).sum()) if len(arrived) else 0
    return {
        "messages": stream.num_rows,
        "diffs": len(stamps),
        "unordered": int(back.sum()),
        "late": late,
        "missing": int((stamps == NOT_GIVEN).sum()),
        "zero": int(((stamps != NOT_GIVEN) & (stamps < FIRST_TIME)).sum()),
        "regressing": int((np.diff(given) < 0).sum()),
    }


def inspect_books_group(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Count what is to be said of one symbol-hour's rows of books.

    Parameters
    ----------
    key : tuple
        Exchange, symbol and hour.
    groups : iterator of pandas.DataFrame
        One row of `judge_references`.

    Yields
    ------
    pandas.DataFrame
        A row of `judged`.
    """
    reference = only_row(groups)
    names = ("rows", "crossed", "not_monotone", "not_positive", "out_of_order")
    counts: Counter[str] = Counter(dict.fromkeys([status.label for status in Status] + [*names], 0))
    places: list[NDArray[np.int64]] = []
    for file in reference.book_files:
        for batch in batches_of_hour(file, reference.exchange, reference.hour, _BATCH, _OF_BOOKS):
            counts["rows"] += batch.num_rows
            counts["crossed"] += _count(batch["crossed"])
            told = pc.value_counts(batch["status"]).flatten()
            counts.update(dict(zip(*(values.to_pylist() for values in told), strict=True)))
            counts.update(_impossible(batch))
            places.append(np.stack([batch[name].to_numpy() for name in ("order_time", "sequence", "epoch")]))
    if places:
        times, *ids = np.concatenate(places, axis=1)
        counts["out_of_order"] = int((np.diff(times[np.lexsort(ids)]) < 0).sum())
    yield counted(key, counts)


def _impossible(batch: pa.RecordBatch) -> Counter[str]:
    """Count rows whose levels do not get worse, or have a price or size that is not above zero."""
    disordered, nothing = np.zeros(batch.num_rows, dtype=np.bool_), np.zeros(batch.num_rows, dtype=np.bool_)
    for side in SIDE_NAMES:
        lists = batch[side]
        starts = lists.offsets.to_numpy().astype(np.int64)
        numbers = words(lists.values)
        not_positive(numbers, starts, nothing)
        if side.endswith("prices"):
            not_worse(numbers, starts, side.startswith("bid"), disordered)
    return Counter({"not_monotone": int(disordered.sum()), "not_positive": int(nothing.sum())})


@kernel
def not_positive(numbers, starts, found):
    """Find lists with a number that is not above zero.

    Parameters
    ----------
    numbers : int64[n, words]
        See `numbers.words`.
    starts : int64[rows + 1]
        Where each list begins.
    found : bool[rows]
        Is set where there is one.
    """
    for row in range(len(found)):
        for place in range(starts[row], starts[row + 1]):
            upper = numbers[place, numbers.shape[1] - 1]
            is_zero = upper == 0 and numbers[place, 0] == 0
            found[row] |= upper < 0 or is_zero


@kernel
def not_worse(numbers, starts, descends, found):
    """Find lists that are not strictly monotone.

    Parameters
    ----------
    numbers : int64[n, words]
        See `numbers.words`.
    starts : int64[rows + 1]
        Where each list begins.
    descends : bool
        Whether each number must be below the one before, not above.
    found : bool[rows]
        Is set where one is not.
    """
    last = numbers.shape[1] - 1
    for row in range(len(found)):
        for place in range(starts[row] + 1, starts[row + 1]):
            one, two = (place, place - 1) if descends else (place - 1, place)
            less = numbers[one, last] < numbers[two, last]
            if last and numbers[one, last] == numbers[two, last]:
                less = np.uint64(numbers[one, 0]) < np.uint64(numbers[two, 0])
            found[row] |= not less


def _count(marks: Any) -> int:
    return pc.sum(marks).as_py() or 0
