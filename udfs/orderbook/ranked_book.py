"""One side of the book by price rank, and the kernels that change a side.

A side consists of an array of sizes by rank, and of a bitmap of the ranks that have a level. Asks are ranked
in descending order of price, so that the best level of either side has the highest rank. The kernels scan the
top levels again only if a change affects them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.bitmaps import highest_at_or_below, lowest_bit
from deltabook.udfs.orderbook.continuity import RESET

BID, ASK = 0, 1
"""Indices of the two sides."""


class RankedBook(NamedTuple):
    """Both sides of a book by rank.

    Attributes
    ----------
    prices : int64[r]
        Distinct prices, ascending, scaled or codes. A bid of rank k has the price ``prices[k]``, an ask of
        rank k has the price ``prices[r - 1 - k]``.
    sizes : int64[2, r]
        Size by side and rank, scaled or codes; 0 where there is no level.
    words : uint64[2, :]
        By side, the bitmap of the ranks that have a level.
    counts : int64[2]
        Number of levels of each side.
    """

    prices: NDArray[np.int64]
    sizes: NDArray[np.int64]
    words: NDArray[np.uint64]
    counts: NDArray[np.int64]


class RankedChanges(NamedTuple):
    """Level changes of n messages on one side, prices as ranks.

    Attributes
    ----------
    offsets : int64[n + 1]
        Message i changes the levels ``offsets[i]:offsets[i + 1]``.
    ranks, sizes : int64[:]
        Rank of each change's price and its new size, scaled or codes; a size of 0 deletes the level.
    """

    offsets: NDArray[np.int64]
    ranks: NDArray[np.int64]
    sizes: NDArray[np.int64]


class RankedSide(NamedTuple):
    """One side of a book and its top levels, changed in place.

    Attributes
    ----------
    sizes : int64[r]
        Size by rank; 0 where there is no level.
    words : uint64[:]
        Bitmap of the ranks that have a level.
    top_ranks, top_sizes : int64[depth]
        Rank and size of each top level as of the last scan, best first.
    """

    sizes: NDArray[np.int64]
    words: NDArray[np.uint64]
    top_ranks: NDArray[np.int64]
    top_sizes: NDArray[np.int64]


class SideSummary(NamedTuple):
    """Numbers that describe one side between two messages.

    Attributes
    ----------
    best : int
        Upper bound of the best level's rank; -1 if the side is empty.
    floor : int
        Rank of the worst top level; -1 while the side has fewer than `depth` levels. A change at a lower rank
        does not affect the top levels.
    level_count : int
        Number of levels.
    top_count : int
        Number of top levels, at most `depth`.
    """

    best: int
    floor: int
    level_count: int
    top_count: int


@kernel
def price_of_rank(prices, side, rank):
    """Return the price at a rank of one side; see `RankedBook.prices`."""
    return prices[rank if side == BID else len(prices) - 1 - rank]


@kernel
def scan_side(side, count, depth):
    """Scan the top levels of a side for the first time; return its `SideSummary`.

    Parameters
    ----------
    side : RankedSide
        The side; its `top_ranks` and `top_sizes` are filled.
    count : int
        Number of levels of the side.
    depth : int
        Number of levels that count as the top.
    """
    best = highest_at_or_below(side.words, len(side.sizes) - 1)
    top_count, _ = _scan_top(side, best, depth)
    return SideSummary(best, side.top_ranks[depth - 1] if top_count == depth else -1, count, top_count)


@kernel
def apply_to_side(action, changes, index, side, summary, retained, depth):
    """Apply one message to a side; cost: about one memory access per level change.

    Parameters
    ----------
    action : int
        APPLY or RESET.
    changes : RankedChanges
        Level changes of all messages on this side.
    index : int
        Index of the message.
    side : RankedSide
        The side; changed in place.
    summary : SideSummary
        Summary of the side before the message.
    retained : int
        Number of levels to which the venue truncates the side after the message; -1: no truncation.
    depth : int
        Number of levels that count as the top.

    Returns
    -------
    (SideSummary, bool)
        Summary of the side after the message, and whether a top level changed.
    """
    start, end = changes.offsets[index], changes.offsets[index + 1]
    best, floor, count, top_count = summary
    if action == RESET:
        side.sizes[:] = 0
        side.words[:] = np.uint64(0)
        count = 0
    best, gained, is_touched = _change_levels(changes, start, end, side, best, floor)
    count += gained
    if 0 < retained < count:
        is_touched |= _drop_worst(side, count, retained) >= floor
        count = retained
    is_changed = False
    if is_touched or action == RESET:
        best = highest_at_or_below(side.words, best)
        scanned, differs = _scan_top(side, best, depth)
        is_changed = differs or scanned != top_count
        top_count = scanned
        floor = side.top_ranks[depth - 1] if scanned == depth else -1
    return SideSummary(best, floor, count, top_count), is_changed


@kernel
def merge_side(changes, index, side, summary, known_from, depth):
    """Add the levels of a snapshot that lie where a side is not known; cost: one access per level.

    Parameters
    ----------
    changes : RankedChanges
        Levels of all messages on this side.
    index : int
        Index of the snapshot.
    side : RankedSide
        The side; changed in place.
    summary : SideSummary
        Summary of the side before the snapshot.
    known_from : int
        Lowest rank from which absent levels are known to be absent; see `known_range`.
    depth : int
        Number of levels that count as the top.

    Returns
    -------
    (SideSummary, bool)
        Summary of the side after the snapshot, and whether a top level changed.
    """
    count, is_changed = summary.level_count, False
    for position in range(changes.offsets[index], changes.offsets[index + 1]):
        rank, size = changes.ranks[position], changes.sizes[position]
        if rank < known_from and side.sizes[rank] == 0 and size != 0:
            set_level(side, rank, size)
            count += 1
            is_changed |= rank >= summary.floor
    return (rescan_side(side, count, depth) if is_changed else _with_count(summary, count)), is_changed


@kernel
def worst_rank(changes, index, n_ranks):
    """Return the lowest rank of a snapshot's levels on one side; -1 for an empty side, which is whole."""
    worst = n_ranks
    for position in range(changes.offsets[index], changes.offsets[index + 1]):
        if changes.sizes[position] != 0:
            worst = min(worst, changes.ranks[position])
    return -1 if worst == n_ranks else worst


@kernel
def count_known(top_ranks, top_count, known_from):
    """Return how many of the top levels of a side, from the best, have at least the rank `known_from`."""
    count = 0
    while count < top_count and top_ranks[count] >= known_from:
        count += 1
    return count


@kernel
def rescan_side(side, count, depth):
    """Scan the top levels of a side after single levels were set or deleted; return its `SideSummary`."""
    side.top_ranks[:] = -1
    return scan_side(side, count, depth)


@kernel
def clear_side(side, depth):
    """Delete all levels of a side; return its `SideSummary`."""
    side.sizes[:] = 0
    side.words[:] = np.uint64(0)
    return rescan_side(side, 0, depth)


@kernel
def set_level(side, rank, size):
    """Set the size of a level that has none or another; the caller scans the top levels afterwards."""
    side.sizes[rank] = size
    side.words[rank >> 6] |= np.uint64(1) << np.uint64(rank & 63)


@kernel
def _with_count(summary, count):
    return SideSummary(summary.best, summary.floor, count, summary.top_count)


@kernel
def write_side(side, row, top_count, top_ranks, top_sizes, prices, offsets, prices_out, sizes_out):
    """Write the top levels of a side to a row of the output.

    Parameters
    ----------
    side, row : int
        The side, and the index of the row.
    top_count : int
        Number of levels to write.
    top_ranks, top_sizes : int64[2, depth]
        Rank and size of the top levels by side, best first.
    prices : int64[r]
        Distinct prices; see `RankedBook.prices`.
    offsets, prices_out, sizes_out : int64[2, :]
        The fields of `BookOutput`.
    """
    start = offsets[side, row]
    for level in range(top_count):
        prices_out[side, start + level] = price_of_rank(prices, side, top_ranks[side, level])
        sizes_out[side, start + level] = top_sizes[side, level]
    offsets[side, row + 1] = start + top_count


@kernel
def holds_exactly(changes, index, side, count):
    """Return whether a snapshot has exactly the levels of a side.

    Parameters
    ----------
    changes : RankedChanges
        Levels of all messages on this side.
    index : int
        Index of the snapshot.
    side : RankedSide
        The side.
    count : int
        Number of levels of the side.
    """
    for level in range(changes.offsets[index], changes.offsets[index + 1]):
        if changes.sizes[level] != side.sizes[changes.ranks[level]]:
            return False
        count -= changes.sizes[level] != 0
    return count == 0


@kernel
def _scan_top(side, best, depth):
    """Store the top levels in `side`; return (number of top levels, whether a top level has changed)."""
    count, differs, rank = 0, False, best
    while rank >= 0 and count < depth:
        if side.top_ranks[count] != rank or side.top_sizes[count] != side.sizes[rank]:
            side.top_ranks[count], side.top_sizes[count] = rank, side.sizes[rank]
            differs = True
        count += 1
        rank = highest_at_or_below(side.words, rank - 1)
    if count < depth:
        side.top_ranks[count] = -1
    return count, differs


@kernel
def _change_levels(changes, start, end, side, best, floor):
    """Apply the changes ``start:end`` to a side, without branches that the processor cannot predict.

    Returns (upper bound of the best rank, number of levels gained, whether a level at or above `floor`
    changed).
    """
    gained, is_touched = 0, False
    for index in range(start, end):
        rank, size = changes.ranks[index], changes.sizes[index]
        old_size = side.sizes[rank]
        side.sizes[rank] = size
        was_there, is_there = int(old_size != 0), int(size != 0)
        side.words[rank >> 6] ^= np.uint64(was_there ^ is_there) << np.uint64(rank & 63)
        gained += is_there - was_there
        if rank >= floor:
            is_touched |= size != old_size
            best = max(best, rank)
    return best, gained, is_touched


@kernel
def _drop_worst(side, count, retained):
    """Delete the worst of `count` levels until `retained` remain; return the highest rank deleted, or -1."""
    deleted = -1
    while count > retained:
        deleted = lowest_bit(side.words)
        delete_level(side, deleted)
        count -= 1
    return deleted


@kernel
def delete_level(side, rank):
    """Delete the level at a rank; the caller scans the top levels afterwards."""
    side.sizes[rank] = 0
    side.words[rank >> 6] &= ~(np.uint64(1) << np.uint64(rank & 63))
