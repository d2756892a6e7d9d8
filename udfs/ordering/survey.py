"""Surveys one stream's new messages: finds their chunks and id epochs, and counts digits of prices and sizes.

The survey reads all new messages of a stream before any message is written to a table. Wrong timestamps and
restarts of ids can only be recognized in the whole stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import HOUR, NOT_GIVEN
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.encoding import SCALE_COLUMNS
from deltabook.udfs.numbers.scales import count_digits_needed
from deltabook.udfs.ordering.clock_jumps import find_times_far_from_receipt, find_wrong_times
from deltabook.udfs.ordering.id_resets import (
    NEIGHBORS,
    Restart,
    assign_epochs,
    find_restarts,
    flatten_restarts,
)
from deltabook.udfs.ordering.staged_records import read_staged

_ORDER_COLUMNS = ("sequence", "timestamp", "received")
_COUNTED_COLUMNS = (
    "received",
    "sequence",
    "is_snapshot",
    "checksum",
    "level_changes",
    "price_scale",
    "size_scale",
)
_COUNTS = ("messages", "level_changes", "snapshots", "checksums")


@dataclass(frozen=True)
class StoredMessages:
    """The first and the last stored message of each chunk of a stream.

    Attributes
    ----------
    epochs, ids, times : int64[k]
        Id epoch, id and time of each of the k messages; times in ns since 1970 UTC.
    """

    epochs: NDArray[np.int64]
    ids: NDArray[np.int64]
    times: NDArray[np.int64]


class _IdGroup(TypedDict):
    """Columns of `survey` that describe the messages of one staged file in one chunk and id epoch."""

    # pylint: disable=duplicate-code  # the tuple in `schemas.rows` cannot inherit these fields
    epoch: int
    time: int
    first: int
    last: int
    first_time: int
    last_time: int
    received: int
    messages: int
    level_changes: int
    snapshots: int
    checksums: int


class _Digits(TypedDict):
    """Columns of `survey` that contain how many digits the prices and sizes of one staged file need."""

    price_decimals: int
    price_digits: int
    size_decimals: int
    size_digits: int
    wide: int


class SurveyedGroup(_IdGroup, _Digits):
    """Row of `survey` without exchange, symbol and kind of record."""

    file: str
    restarts: list[int]


_NO_DIGITS: _Digits = {
    "price_decimals": 0,
    "price_digits": 0,
    "size_decimals": 0,
    "size_digits": 0,
    "wide": 0,
}


def survey_stream(
    files: list[str], known: StoredMessages, restarts: list[Restart], chunk: int = HOUR
) -> list[SurveyedGroup]:
    """Group one stream's new messages by id epoch and chunk, and count the digits of prices and sizes.

    Parameters
    ----------
    files : list of str
        Paths of staged files of `records`, all of one exchange, symbol and kind of record.
    known : StoredMessages
        Stored messages of the stream.
    restarts : list of Restart
        Restarts of the stream's ids that are known so far.
    chunk : int
        Length of a chunk, ns.

    Returns
    -------
    list of SurveyedGroup
        One group for each combination of file, epoch and chunk that has messages.
    """
    # Only the ids and times of the whole stream are in memory. They need 24 bytes per message. Sorting them
    # needs another 24 bytes per message.
    sequence, stamps, received = _read_ids_and_times(files)
    epoch_times = choose_epoch_times(stamps, received)
    restarts = add_new_restarts(restarts, known, sequence, epoch_times)
    epochs = assign_epochs(sequence, epoch_times, restarts)
    times = choose_clock_times(stamps, received)
    del epoch_times, stamps
    order = np.lexsort((sequence, epochs))
    times[order[find_wrong_times(times[order], received[order])]] = NOT_GIVEN
    del order, sequence, received
    flat_restarts = flatten_restarts(restarts)
    rows: list[SurveyedGroup] = []
    start = 0
    for file in files:
        table = read_staged(file, *_COUNTED_COLUMNS)
        part = slice(start, start + table.num_rows)
        start = part.stop
        digits = _count_digits(file, table)
        for group in _group_by_chunk(table, epochs[part], times[part], chunk):
            rows.append({"file": file, "restarts": flat_restarts, **digits, **group})
            digits = _NO_DIGITS  # only the first row of a file has the file's digits
    return rows


def choose_clock_times(stamps: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the times that assign messages to chunks.

    The recorder's receive times are used if they are given for more than twice as many messages as the
    exchange's timestamps. Otherwise the exchange's timestamps are used.

    Parameters
    ----------
    stamps, received : int64[n]
        Times by the clocks of the exchange and the recorder, ns since 1970 UTC; -1 where not given.

    Returns
    -------
    int64[n]
        Times by the same clock for all messages, ns since 1970 UTC; -1 where that clock's time is not given.
    """
    if np.count_nonzero(stamps != NOT_GIVEN) * 2 >= np.count_nonzero(received != NOT_GIVEN):
        return stamps.copy()
    return received.copy()


def choose_epoch_times(stamps: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the times that assign messages to id epochs.

    These are the times that `choose_clock_times` returns. Where the chosen clock's time is not given, the
    other clock's time is used.

    Parameters
    ----------
    stamps, received : int64[n]
        Times by the clocks of the exchange and the recorder, ns since 1970 UTC; -1 where not given.

    Returns
    -------
    int64[n]
        Times, ns since 1970 UTC; -1 where neither time is given. A time that is too far from the recorder's
        receive time is replaced with the receive time.
    """
    times = choose_clock_times(stamps, received)
    times = np.where(times == NOT_GIVEN, np.where(stamps == NOT_GIVEN, received, stamps), times)
    return np.where(find_times_far_from_receipt(times, received), received, times)


def add_new_restarts(
    restarts: list[Restart], known: StoredMessages, sequence: NDArray[np.int64], times: NDArray[np.int64]
) -> list[Restart]:
    """Return the known restarts together with the restarts that the new messages show within each epoch.

    Parameters
    ----------
    restarts : list of Restart
        Restarts known so far, sorted by time.
    known : StoredMessages
        Stored messages of the stream.
    sequence, times : int64[n]
        Ids and times of the new messages, times in ns since 1970 UTC.

    Returns
    -------
    list of Restart
        Known and new restarts, sorted by time.
    """
    # A stored message represents many messages. It is repeated, so that it counts as all the neighbors that
    # `find_restarts` compares.
    weighted = [np.repeat(values, NEIGHBORS) for values in (known.epochs, known.ids, known.times)]
    epochs = np.concatenate((weighted[0], assign_epochs(sequence, times, restarts)))
    ids, all_times = np.concatenate((weighted[1], sequence)), np.concatenate((weighted[2], times))
    all_restarts = list(restarts)
    for epoch in range(len(restarts) + 1):
        is_in_epoch = epochs == epoch
        all_restarts += find_restarts(ids[is_in_epoch], all_times[is_in_epoch])
    return sorted(all_restarts, key=lambda restart: restart.time)


def _read_ids_and_times(files: list[str]) -> list[NDArray[np.int64]]:
    """Return the ids, exchange times and receive times of the messages of all files."""
    tables = (read_staged(file, *_ORDER_COLUMNS).select(_ORDER_COLUMNS) for file in files)
    parts = [[to_numpy(column) for column in table.columns] for table in tables]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _group_by_chunk(
    table: pa.Table, epochs: NDArray[np.int64], times: NDArray[np.int64], chunk: int
) -> list[_IdGroup]:
    """Group a file's messages by epoch and chunk; return each group's id range, time range and counts."""
    received = table["received"]
    chunk_starts = np.where(times == NOT_GIVEN, NOT_GIVEN, times // chunk * chunk)
    return (  # type: ignore[no-any-return]
        pa.table(
            {
                "epoch": epochs,
                "time": chunk_starts,
                "stamp": times,
                "sequence": table["sequence"],
                "received": pc.if_else(pc.equal(received, NOT_GIVEN), None, received),
                "level_changes": table["level_changes"],
                "snapshots": pc.cast(table["is_snapshot"], pa.int64()),
                "checksums": pc.cast(pc.not_equal(table["checksum"], NOT_GIVEN), pa.int64()),
            }
        )
        .group_by(["epoch", "time"])
        .aggregate(
            [
                ("sequence", "min"),
                ("sequence", "max"),
                ("stamp", "min"),
                ("stamp", "max"),
                ("received", "min"),
                ("sequence", "count"),
                ("level_changes", "sum"),
                ("snapshots", "sum"),
                ("checksums", "sum"),
            ]
        )
        .rename_columns(["epoch", "time", "first", "last", "first_time", "last_time", "received", *_COUNTS])
        .sort_by([("epoch", "ascending"), ("time", "ascending")])
        .to_pylist()
    )


def _count_digits(file: str, table: pa.Table) -> _Digits:
    """Return how many digits a file's prices and sizes need.

    The prices and sizes are read only if a scale differs from `DEFAULT_SCALE`.
    """
    needed = []
    for what in ("price", "size"):
        has_default_scale = (to_numpy(table[f"{what}_scale"]) == DEFAULT_SCALE).all()
        needed.append((DEFAULT_SCALE, 0) if has_default_scale else find_digits_needed(file, what))
    (price_decimals, price_digits), (size_decimals, size_digits) = needed
    return {
        "price_decimals": price_decimals,
        "price_digits": price_digits,
        "size_decimals": size_decimals,
        "size_digits": size_digits,
        "wide": pc.sum(pc.not_equal(read_staged(file, "wide")["wide"], b"")).as_py() or 0,
    }


def find_digits_needed(file: str, what: str) -> tuple[int, int]:
    """Return how many digits after and before the decimal point a staged file's prices or sizes need.

    Parameters
    ----------
    file : str
        Path of a staged file of `records`.
    what : str
        "price" or "size".
    """
    scale = f"{what}_scale"
    names = [name for name, scale_of in SCALE_COLUMNS.items() if scale_of == scale]
    return count_digits_needed(read_staged(file, *names, scale), scale)
