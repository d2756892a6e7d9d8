"""Messages met more than once, and messages met in parts, where a feed has no ids that would tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import EventType
from deltabook.udfs.numba_kernel import kernel

_SCALARS = ("timestamp", "checksum", "trade_id", "price", "size")
_MIX = 0x9E3779B97F4A7C15


def repeats_of_content(events: pa.Table, with_sequence: bool) -> NDArray[np.bool_]:
    """Find messages that another file has told before.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `flat_events`, in the feed's order.
    with_sequence : bool
        Whether the same message has the same sequence in every file; else only its time, checksum,
        trade and levels count.

    Returns
    -------
    bool[n]
        True for a message whose content an earlier one has. What one file tells twice happened twice:
        the k-th of its kind in one file is the k-th in another.
    """
    n = events.num_rows
    files = _numpy(pc.rank(events["source_file"], tiebreaker="dense"))
    if (files[1:] == files[:-1]).all():
        return np.zeros(n, dtype=np.bool_)
    content = contents(events)
    if with_sequence:
        _add(content, _numpy(events["sequence"]))
    places = np.arange(n)
    order = np.lexsort((places, files, content))
    starts = _changes(content[order], files[order])
    occurrence = np.empty(n, dtype=np.int64)
    occurrence[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    order = np.lexsort((places, occurrence, content))
    repeated = np.empty(n, dtype=np.bool_)
    repeated[order] = ~_changes(content[order], occurrence[order])
    return repeated


def join_parts(events: pa.Table) -> pa.Table:
    """Make one message of the parts that files cut it into.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `flat_events`, in the feed's order: parts of one message are neighbours.

    Returns
    -------
    pyarrow.Table
        The same, with book updates of one (epoch, sequence, received, is_snapshot) as one. The levels
        stay in the order of (source_file, source_row); a level that another file has told already, the
        same price and size on the same side, is left out.
    """
    is_update = _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    keys = [_numpy(events[name]) for name in ("epoch", "sequence", "received", "is_snapshot")]
    starts = _changes(*keys) | ~is_update
    starts[1:] |= ~is_update[:-1]
    in_parts = ~starts
    in_parts[:-1] |= ~starts[1:]
    # Most messages are whole: what lies between those in parts is passed on without a copy.
    bounds = np.flatnonzero(np.diff(in_parts, prepend=False, append=False))
    pieces, done = [], 0
    for first, end in bounds.reshape(-1, 2).tolist():
        pieces += [
            events.slice(done, first - done),
            _joined(events.slice(first, end - first), starts[first:end]),
        ]
        done = end
    return pa.concat_tables([*pieces, events.slice(done)])


def _joined(events: pa.Table, starts: NDArray[np.bool_]) -> pa.Table:
    """Join messages each of which is in parts, the first part where `starts` says."""
    message = np.cumsum(starts) - 1
    files = _numpy(pc.rank(events["source_file"], tiebreaker="dense"))
    first = np.flatnonzero(starts)
    joined = events.take(pa.array(first))
    for side in ("bid", "ask"):
        offsets, prices, sizes = _levels(events, side)
        fresh = np.ones(len(prices), dtype=np.bool_)
        _mark_fresh(offsets, prices, sizes, message, files, fresh)
        ends = np.concatenate(([0], np.cumsum(fresh)))[offsets]
        ends = pa.array(np.append(ends[:-1][first], ends[-1]).astype(np.int32))
        for name, values in ((f"{side}_prices", prices), (f"{side}_sizes", sizes)):
            column = pa.ListArray.from_arrays(ends, pa.array(values[fresh]))
            joined = joined.set_column(joined.schema.get_field_index(name), name, column)
    damaged = np.logical_or.reduceat(_numpy(events["damaged"]), first)
    return joined.set_column(joined.schema.get_field_index("damaged"), "damaged", pa.array(damaged))


def contents(events: pa.Table) -> NDArray[np.uint64]:
    """Return a 64-bit digest of what each message says, its source, ids and receive time left out.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `flat_events`.

    Returns
    -------
    uint64[n]
        Equal for equal contents; that two others are equal has odds of n^2 / 2^65.
    """
    content = np.zeros(events.num_rows, dtype=np.uint64)
    kind = pc.add(
        pc.cast(pc.equal(events["event_type"], EventType.TRADE), pa.int64()),
        pc.multiply(pc.cast(events["is_snapshot"], pa.int64()), 2),
    )
    side = pc.add(pc.binary_length(events["side"]), 0)
    for values in (kind, side, *(events[name] for name in _SCALARS)):
        _add(content, _numpy(values).astype(np.int64))
    for name in ("bid", "ask"):
        offsets, prices, sizes = _levels(events, name)
        with np.errstate(over="ignore"):  # as compiled: a digest wraps around
            _mix_levels(content, offsets, prices.view(np.uint64), sizes.view(np.uint64))
    return content


def _add(content: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
    with np.errstate(over="ignore"):
        _mix_scalars(content, values.view(np.uint64))


def _levels(events: pa.Table, side: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return a side's offsets, from 0, and its prices and sizes."""
    prices, sizes = (events[f"{side}_{what}"].combine_chunks() for what in ("prices", "sizes"))
    offsets = np.concatenate(([0], np.cumsum(_numpy(pc.list_value_length(prices))))).astype(np.int64)
    return offsets, _numpy(prices.flatten()), _numpy(sizes.flatten())


def _changes(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each row differs from the one before in any column; the first does."""
    changed = np.zeros(len(columns[0]), dtype=np.bool_)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed


@kernel
def _mix(digest, value):
    mixed = (digest ^ value) * np.uint64(_MIX)
    return mixed ^ (mixed >> np.uint64(29))


@kernel
def _mix_scalars(content, values):
    for index in range(len(content)):
        content[index] = _mix(content[index], values[index])


@kernel
def _mix_levels(content, offsets, prices, sizes):
    for index in range(len(content)):
        digest = _mix(content[index], np.uint64(offsets[index + 1] - offsets[index]))
        for place in range(offsets[index], offsets[index + 1]):
            digest = _mix(_mix(digest, prices[place]), sizes[place])
        content[index] = digest


@kernel
def _mark_fresh(offsets, prices, sizes, message, files, fresh):
    """Unmark each level that an earlier part from another file has; looks only into messages of several."""
    first = 0
    for part in range(1, len(message)):
        if message[part] != message[part - 1]:
            first = part
            continue
        if files[part] == files[first]:
            continue
        for place in range(offsets[part], offsets[part + 1]):
            for earlier in range(offsets[first], offsets[part]):
                if prices[earlier] == prices[place] and sizes[earlier] == sizes[place]:
                    fresh[place] = False
                    break


def _numpy(column: Any) -> NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy()  # type: ignore[no-any-return]
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
