"""Finds messages that repeat another message's content, and joins messages that were split into parts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import EventType
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.numba_kernel import kernel

_SCALARS = ("timestamp", "checksum", "trade_id", "price", "size")
_MIX = 0x9E3779B97F4A7C15


def find_repeats(events: pa.Table, with_sequence: bool) -> NDArray[np.bool_]:
    """Find messages that repeat a message of another file.

    Two messages of equal content within one file are two distinct messages. So the k-th message of some
    content in a file repeats only the k-th message of this content in an earlier file.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `schemas.frames.FLAT_EVENTS`, in the feed's order.
    with_sequence : bool
        True: compare the sequence as well as time, checksum, trade and levels. Use True only if a message has
        the same sequence in every file.

    Returns
    -------
    bool[n]
        True for a message that repeats a message of an earlier file.
    """
    n = events.num_rows
    files = to_numpy(pc.rank(events["source_file"], tiebreaker="dense"))
    if (files[1:] == files[:-1]).all():
        return np.zeros(n, dtype=np.bool_)
    content = digest_messages(events)
    if with_sequence:
        _mix_column(content, to_numpy(events["sequence"]))
    rows = np.arange(n)
    order = np.lexsort((rows, files, content))
    starts = _find_changes(content[order], files[order])
    occurrence = np.empty(n, dtype=np.int64)
    occurrence[order] = rows - np.maximum.accumulate(np.where(starts, rows, 0))
    order = np.lexsort((rows, occurrence, content))
    repeated = np.empty(n, dtype=np.bool_)
    repeated[order] = ~_find_changes(content[order], occurrence[order])
    return repeated


def join_parts(events: pa.Table) -> pa.Table:
    """Join the parts of messages that were split over several rows or files.

    Book updates with equal (epoch, sequence, received, is_snapshot) are parts of one message. If an earlier
    part from another file already has a level with the same side, price and size, the repeated level is left
    out.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `schemas.frames.FLAT_EVENTS`, in the feed's order. The parts of one message are adjacent.

    Returns
    -------
    pyarrow.Table
        The same events, with one row per message. The levels of a message are in the order of
        (source_file, source_row).
    """
    is_update = to_numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    keys = [to_numpy(events[name]) for name in ("epoch", "sequence", "received", "is_snapshot")]
    starts = _find_changes(*keys) | ~is_update
    starts[1:] |= ~is_update[:-1]
    in_parts = ~starts
    in_parts[:-1] |= ~starts[1:]
    # Most messages have one row only. The rows of these messages are used without a copy.
    bounds = np.flatnonzero(np.diff(in_parts, prepend=False, append=False))
    pieces, done = [], 0
    for first, end in bounds.reshape(-1, 2).tolist():
        pieces += [
            events.slice(done, first - done),
            _join_rows(events.slice(first, end - first), starts[first:end]),
        ]
        done = end
    return pa.concat_tables([*pieces, events.slice(done)])


def _join_rows(events: pa.Table, starts: NDArray[np.bool_]) -> pa.Table:
    """Join messages that all have several parts; `starts`, bool[n], is True for a message's first part."""
    message = np.cumsum(starts) - 1
    files = to_numpy(pc.rank(events["source_file"], tiebreaker="dense"))
    first = np.flatnonzero(starts)
    joined = events.take(pa.array(first))
    for side in ("bid", "ask"):
        offsets, prices, sizes = _levels(events, side)
        is_new = np.ones(len(prices), dtype=np.bool_)
        _unmark_repeated_levels(offsets, prices, sizes, message, files, is_new)
        ends = np.concatenate(([0], np.cumsum(is_new)))[offsets]
        ends = pa.array(np.append(ends[:-1][first], ends[-1]).astype(np.int32))
        for name, values in ((f"{side}_prices", prices), (f"{side}_sizes", sizes)):
            column = pa.ListArray.from_arrays(ends, pa.array(values[is_new]))
            joined = joined.set_column(joined.schema.get_field_index(name), name, column)
    damaged = np.logical_or.reduceat(to_numpy(events["damaged"]), first)
    return joined.set_column(joined.schema.get_field_index("damaged"), "damaged", pa.array(damaged))


def digest_messages(events: pa.Table) -> NDArray[np.uint64]:
    """Return a 64-bit digest of each message's content; it leaves out source, sequence and receive time.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `schemas.frames.FLAT_EVENTS`.

    Returns
    -------
    uint64[n]
        Digests, equal for equal contents. The probability that any two of n different contents have equal
        digests is n^2 / 2^65.
    """
    content = np.zeros(events.num_rows, dtype=np.uint64)
    kind = pc.add(
        pc.cast(pc.equal(events["event_type"], EventType.TRADE), pa.int64()),
        pc.multiply(pc.cast(events["is_snapshot"], pa.int64()), 2),
    )
    side = pc.add(pc.binary_length(events["side"]), 0)
    for values in (kind, side, *(events[name] for name in _SCALARS)):
        _mix_column(content, to_numpy(values).astype(np.int64))
    for name in ("bid", "ask"):
        offsets, prices, sizes = _levels(events, name)
        with np.errstate(over="ignore"):  # digests wrap around uint64, as in the compiled kernel
            _mix_levels(content, offsets, prices.view(np.uint64), sizes.view(np.uint64))
    return content


def _mix_column(content: NDArray[np.uint64], values: NDArray[np.int64]) -> None:
    """Mix one value per message into the digests, in place."""
    with np.errstate(over="ignore"):
        _mix_scalars(content, values.view(np.uint64))


def _levels(events: pa.Table, side: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets (the first is 0), prices and sizes of one side's levels."""
    prices, sizes = (events[f"{side}_{what}"].combine_chunks() for what in ("prices", "sizes"))
    offsets = np.concatenate(([0], np.cumsum(to_numpy(pc.list_value_length(prices))))).astype(np.int64)
    return offsets, to_numpy(prices.flatten()), to_numpy(sizes.flatten())


def _find_changes(*columns: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return True for the first row, and for each row that differs from the previous row in some column."""
    changed = np.zeros(len(columns[0]), dtype=np.bool_)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed


@kernel
def _mix(digest, value):
    """Return a digest (uint64) after mixing in one more value (uint64)."""
    mixed = (digest ^ value) * np.uint64(_MIX)
    return mixed ^ (mixed >> np.uint64(29))


@kernel
def _mix_scalars(content, values):
    """Mix ``values[i]`` into ``content[i]`` for all i, both uint64[n]; cost: a multiplication per message."""
    for index in range(len(content)):
        content[index] = _mix(content[index], values[index])


@kernel
def _mix_levels(content, offsets, prices, sizes):
    """Mix the levels of each message into its digest; cost: two multiplications per level.

    Parameters
    ----------
    content : uint64[n]
        Digests, changed in place.
    offsets : int64[n + 1]
        Message i has the levels ``offsets[i]:offsets[i + 1]``.
    prices, sizes : uint64[:]
        The bits of the levels' prices and sizes.
    """
    for index in range(len(content)):
        digest = _mix(content[index], np.uint64(offsets[index + 1] - offsets[index]))
        for level in range(offsets[index], offsets[index + 1]):
            digest = _mix(_mix(digest, prices[level]), sizes[level])
        content[index] = digest


@kernel
def _unmark_repeated_levels(offsets, prices, sizes, message, files, is_new):
    """Set `is_new` to False for each level that an earlier part of the message, from another file, contains.

    Cost: quadratic in the number of levels of a message that occurs in several files.

    Parameters
    ----------
    offsets : int64[p + 1]
        Part i has the levels ``offsets[i]:offsets[i + 1]``.
    prices, sizes : int64[:]
        Levels of one side of all parts.
    message : int64[p]
        Number of the message to which each part belongs, ascending.
    files : int64[p]
        Number of the file that each part comes from.
    is_new : bool[:]
        One value per level. The caller sets all values to True; the kernel sets repeated levels to False.
    """
    first = 0
    for part in range(1, len(message)):
        if message[part] != message[part - 1]:
            first = part
            continue
        if files[part] == files[first]:
            continue
        for level in range(offsets[part], offsets[part + 1]):
            for earlier in range(offsets[first], offsets[part]):
                if prices[earlier] == prices[level] and sizes[earlier] == sizes[level]:
                    is_new[level] = False
                    break
