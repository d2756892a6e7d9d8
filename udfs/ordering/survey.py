"""Surveying one stream of new messages: its hours, its epochs, and what its numbers need.

A stream is looked at whole, in its own order, before any of it is put into a table: only so can a
stamp be told that its neighbours contradict, or ids that begin anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import HOUR, NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.encoding import SCALE_OF
from deltabook.udfs.numbers.scales import digits_needed
from deltabook.udfs.ordering.clock_jumps import contradicted, far_from_receipt
from deltabook.udfs.ordering.id_resets import NEIGHBOURS, Restart, epochs_of, find_restarts, flatten
from deltabook.udfs.ordering.staged_records import read_staged

_ORDERING = ("sequence", "timestamp", "received")
_THIN = (
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
class Known:
    """Messages that are stored already, the first and last of each hour.

    Attributes
    ----------
    epochs, ids, times : int64[k]
        Of each; times in ns.
    """

    epochs: NDArray[np.int64]
    ids: NDArray[np.int64]
    times: NDArray[np.int64]


def survey_stream(
    files: list[str], known: Known, restarts: list[Restart], chunk: int = HOUR
) -> list[dict[str, Any]]:
    """Survey the new messages of one stream.

    Parameters
    ----------
    files : list of str
        Staged files of `records`, all of one exchange, symbol and kind of record.
    known : Known
        Stored messages, the first and last of each hour: what the new ones join.
    restarts : list of Restart
        Of the stream, as known so far.
    chunk : int
        Length of an hour, ns.

    Returns
    -------
    list of dict
        Rows of `survey`, without the stream's own columns: one for each file, epoch and hour.
    """
    # Only what orders a stream is held of it whole: 24 bytes a message, and as much again while it is judged.
    sequence, stamps, received = _ordering(files)
    when = epoch_times(stamps, received)
    restarts = with_new(restarts, known, sequence, when)
    epochs = epochs_of(sequence, when, restarts)
    times = witnessed_times(stamps, received)
    del when, stamps
    order = np.lexsort((sequence, epochs))
    times[order[contradicted(times[order], received[order])]] = NOT_GIVEN
    del order, sequence, received
    flat = flatten(restarts)
    rows, start = [], 0
    for file in files:
        table = read_staged(file, *_THIN)
        part = slice(start, start + table.num_rows)
        start = part.stop
        needs = _needs(file, table)
        for group in _groups(table, epochs[part], times[part], chunk):
            rows.append({"file": file, "restarts": flat} | needs | group)
            needs = dict.fromkeys(needs, 0)
    return rows


def witnessed_times(stamps: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what tells each message's hour: the exchange's time, or, where most lack it, the recorder's.

    Parameters
    ----------
    stamps, received : int64[n]
        Exchange's and recorder's times, ns; -1 where not given.

    Returns
    -------
    int64[n]
        One clock for all; -1 where that one is not given.
    """
    if np.count_nonzero(stamps != NOT_GIVEN) * 2 >= np.count_nonzero(received != NOT_GIVEN):
        return stamps.copy()
    return received.copy()


def epoch_times(stamps: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what tells each message's epoch: what tells its hour, or, without that, any time it has."""
    times = witnessed_times(stamps, received)
    times = np.where(times == NOT_GIVEN, np.where(stamps == NOT_GIVEN, received, stamps), times)
    return np.where(far_from_receipt(times, received), received, times)


def with_new(
    restarts: list[Restart], known: Known, sequence: NDArray[np.int64], times: NDArray[np.int64]
) -> list[Restart]:
    """Add the restarts that new messages show, looked for within each epoch known so far.

    Parameters
    ----------
    restarts : list of Restart
        Known so far.
    known : Known
        Stored messages that the new ones join.
    sequence, times : int64[n]
        Ids and times of the new messages, times in ns.
    """
    # A stored message stands for many: it has the weight of all the neighbours that are asked.
    weighed = [np.repeat(values, NEIGHBOURS) for values in (known.epochs, known.ids, known.times)]
    epochs = np.concatenate((weighed[0], epochs_of(sequence, times, restarts)))
    ids, stamps = np.concatenate((weighed[1], sequence)), np.concatenate((weighed[2], times))
    found = list(restarts)
    for epoch in range(len(restarts) + 1):
        ours = epochs == epoch
        found += find_restarts(ids[ours], stamps[ours])
    return sorted(found, key=lambda restart: restart.time)


def _ordering(files: list[str]) -> list[NDArray[np.int64]]:
    """Return the ids of all messages, and their exchange's and recorder's times."""
    tables = (read_staged(file, *_ORDERING).select(_ORDERING) for file in files)
    parts = [[_numpy(column) for column in table.columns] for table in tables]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _groups(
    table: pa.Table, epochs: NDArray[np.int64], times: NDArray[np.int64], chunk: int
) -> list[dict[str, Any]]:
    received = table["received"]
    hours = np.where(times == NOT_GIVEN, NOT_GIVEN, times // chunk * chunk)
    return (  # type: ignore[no-any-return]
        pa.table(
            {
                "epoch": epochs,
                "time": hours,
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


def _needs(file: str, table: pa.Table) -> dict[str, int]:
    """Return the digits that a file's numbers need; looked at only where records differ from the usual."""
    needs: dict[str, int] = {}
    for what in ("price", "size"):
        decimals, digits = DEFAULT_SCALE, 0
        if not (_numpy(table[f"{what}_scale"]) == DEFAULT_SCALE).all():
            decimals, digits = digits_of(file, what)
        needs |= {f"{what}_decimals": decimals, f"{what}_digits": digits}
    wide = read_staged(file, "wide")["wide"]
    return needs | {"wide": pc.sum(pc.not_equal(wide, b"")).as_py() or 0}


def digits_of(file: str, what: str) -> tuple[int, int]:
    """Return the digits behind the point and before it that the prices or sizes of a staged file need."""
    scale = f"{what}_scale"
    names = [name for name, scale_of in SCALE_OF.items() if scale_of == scale]
    return digits_needed(read_staged(file, *names, scale), scale)


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    return column.to_numpy()  # type: ignore[no-any-return]
