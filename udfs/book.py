"""The order book kernel: applies level changes and writes the top levels whenever they change.

A side is an array of sizes by rank and a bitmap of the ranks that hold a size; asks are ranked
downwards, so that on both sides the best level is the highest rank. The top levels are scanned
again only when a change reaches them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.bits import highest_one
from deltabook.udfs.compile import kernel
from deltabook.udfs.continuity import IGNORE, RESET, Verdicts
from deltabook.udfs.ladder import build_ladder

BID, ASK = 0, 1

Levels = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Prices and sizes of one side, scaled, prices ascending."""


@dataclass(frozen=True)
class Side:
    """The level changes of n messages on one side.

    Attributes
    ----------
    offsets : int64[n + 1]
        Message i holds the levels ``offsets[i]:offsets[i + 1]``.
    prices, sizes : int64[:]
        Scaled; a size of 0 deletes.
    """

    offsets: NDArray[np.int64]
    prices: NDArray[np.int64]
    sizes: NDArray[np.int64]


@dataclass(frozen=True)
class Tops:
    """Books written: one row each time.

    Attributes
    ----------
    message : int64[r]
        Index of the message that each row follows.
    offsets : (int64[r + 1], int64[r + 1])
        Bounds of each row's bid and ask levels.
    prices, sizes : (int64[:], int64[:])
        Best first, at most `depth` a row.
    levels : int64[r, 2]
        Levels of the full book, bids and asks.
    """

    message: NDArray[np.int64]
    offsets: tuple[NDArray[np.int64], NDArray[np.int64]]
    prices: tuple[NDArray[np.int64], NDArray[np.int64]]
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]]
    levels: NDArray[np.int64]


class Book:
    """A full order book between batches.

    Parameters
    ----------
    bids, asks : (int64[:], int64[:])
        Prices and sizes, scaled, prices ascending and distinct.
    depth : int
        Levels a side that count as the top.
    written_status : int
        Status of the last row written, -1 if none was.
    """

    def __init__(self, bids: Levels, asks: Levels, depth: int, written_status: int):
        self.sides = [bids, asks]
        self.depth = depth
        self.written_status = written_status
        self.tick = 0

    def apply(self, bids: Side, asks: Side, verdicts: Verdicts, every_message: bool) -> Tops:
        """Apply a batch of messages.

        Parameters
        ----------
        bids, asks : Side
            Level changes of n messages.
        verdicts : Verdicts
            What each message does, and the status after it.
        every_message : bool
            Write a row for every message that is applied, not only when the top or status changes.

        Returns
        -------
        Tops
            The rows written.
        """
        parts = [self.sides[BID][0], self.sides[ASK][0], bids.prices, asks.prices]
        ladder = build_ladder(parts, self.tick)
        self.tick = ladder.tick
        n_ranks = len(ladder.prices)
        n_messages = len(verdicts.action)
        sizes = np.zeros((2, n_ranks), dtype=np.int64)
        words = np.zeros((2, n_ranks // 64 + 1), dtype=np.uint64)
        live = (ladder.ranks(parts[BID]), n_ranks - 1 - ladder.ranks(parts[ASK]))
        counts = np.array([len(live[BID]), len(live[ASK])])
        for side in (BID, ASK):
            sizes[side, live[side]] = self.sides[side][1]
            _occupy(words[side], live[side])
        most = n_messages * self.depth
        message = np.empty(n_messages, dtype=np.int64)
        offsets = np.zeros((2, n_messages + 1), dtype=np.int64)
        prices_out, sizes_out = np.empty((2, most), np.int64), np.empty((2, most), np.int64)
        levels = np.empty((n_messages, 2), dtype=np.int64)
        rows, self.written_status = _apply(
            verdicts.action,
            verdicts.status,
            bids.offsets,
            ladder.ranks(bids.prices),
            bids.sizes,
            asks.offsets,
            n_ranks - 1 - ladder.ranks(asks.prices),
            asks.sizes,
            ladder.prices,
            sizes,
            words,
            counts,
            self.depth,
            every_message,
            self.written_status,
            message,
            offsets,
            prices_out,
            sizes_out,
            levels,
        )
        bid_ranks, ask_ranks = np.flatnonzero(sizes[BID]), np.flatnonzero(sizes[ASK][::-1])
        self.sides = [
            (ladder.prices[bid_ranks], sizes[BID][bid_ranks]),
            (ladder.prices[ask_ranks], sizes[ASK][::-1][ask_ranks]),
        ]
        ends = (int(offsets[BID, rows]), int(offsets[ASK, rows]))
        return Tops(
            message[:rows],
            (offsets[BID, : rows + 1], offsets[ASK, : rows + 1]),
            (prices_out[BID, : ends[BID]], prices_out[ASK, : ends[ASK]]),
            (sizes_out[BID, : ends[BID]], sizes_out[ASK, : ends[ASK]]),
            levels[:rows],
        )


@kernel
def _occupy(words, ranks):
    for rank in ranks:
        words[rank >> 6] |= np.uint64(1) << np.uint64(rank & 63)


@kernel
def _highest(words, start):
    """Return the highest occupied rank at or below `start`, or -1."""
    if start < 0:
        return -1
    index = start >> 6
    word = words[index] & (~np.uint64(0) >> np.uint64(63 - (start & 63)))
    while word == np.uint64(0):
        index -= 1
        if index < 0:
            return -1
        word = words[index]
    return index * 64 + highest_one(word)


@kernel
def _take_top(words, sizes, best, depth, ranks, top_sizes):
    """List the best levels; return (how many, whether they differ from those listed before)."""
    count, differs, rank = 0, False, best
    while rank >= 0 and count < depth:
        if ranks[count] != rank or top_sizes[count] != sizes[rank]:
            ranks[count], top_sizes[count] = rank, sizes[rank]
            differs = True
        count += 1
        rank = _highest(words, rank - 1)
    return count, differs


@kernel
def _change_side(ranks, new_sizes, start, end, sizes, words, best, floor):
    """Apply one message's changes to a side.

    Returns (best or an upper bound of it, levels gained, whether a level at or above `floor` changed).
    """
    gained, touched = 0, False
    for index in range(start, end):
        rank, size = ranks[index], new_sizes[index]
        old = sizes[rank]
        if size == old:
            continue
        sizes[rank] = size
        if rank >= floor:
            touched = True
        if old == 0:
            words[rank >> 6] |= np.uint64(1) << np.uint64(rank & 63)
            gained += 1
            best = max(best, rank)
        elif size == 0:
            words[rank >> 6] &= ~(np.uint64(1) << np.uint64(rank & 63))
            gained -= 1
    return best, gained, touched


@kernel
def _apply(
    action,
    status,
    bid_offsets,
    bid_ranks,
    bid_sizes,
    ask_offsets,
    ask_ranks,
    ask_sizes,
    prices,
    sizes,
    words,
    counts,
    depth,
    every_message,
    written_status,
    message,
    offsets,
    prices_out,
    sizes_out,
    levels,
):
    """Run all messages through the book; cost: about one memory access a level change."""
    n_ranks = len(prices)
    best = np.full(2, n_ranks - 1, dtype=np.int64)
    floor = np.full(2, -1, dtype=np.int64)
    top_ranks = np.full((2, depth), -1, dtype=np.int64)
    top_sizes = np.zeros((2, depth), dtype=np.int64)
    top_counts = np.zeros(2, dtype=np.int64)
    for side in range(2):
        best[side] = _highest(words[side], n_ranks - 1)
        top_counts[side], _ = _take_top(
            words[side], sizes[side], best[side], depth, top_ranks[side], top_sizes[side]
        )
        floor[side] = top_ranks[side, depth - 1] if top_counts[side] == depth else -1
    rows = 0
    for index in range(len(action)):
        changed = False
        if action[index] != IGNORE:
            reset = action[index] == RESET
            for side in range(2):
                if reset:
                    sizes[side, :] = 0
                    words[side, :] = np.uint64(0)
                    best[side], counts[side], floor[side] = -1, 0, -1
                if side == BID:
                    best[side], gained, touched = _change_side(
                        bid_ranks, bid_sizes, bid_offsets[index], bid_offsets[index + 1],
                        sizes[side], words[side], best[side], floor[side],
                    )  # fmt: skip
                else:
                    best[side], gained, touched = _change_side(
                        ask_ranks, ask_sizes, ask_offsets[index], ask_offsets[index + 1],
                        sizes[side], words[side], best[side], floor[side],
                    )  # fmt: skip
                counts[side] += gained
                if touched or reset:
                    best[side] = _highest(words[side], best[side])
                    count, differs = _take_top(
                        words[side], sizes[side], best[side], depth, top_ranks[side], top_sizes[side]
                    )
                    changed |= differs or count != top_counts[side]
                    top_counts[side] = count
                    floor[side] = top_ranks[side, depth - 1] if count == depth else -1
        if changed or (every_message and action[index] != IGNORE) or status[index] != written_status:
            written_status = status[index]
            for side in range(2):
                at = offsets[side, rows]
                for place in range(top_counts[side]):
                    rank = top_ranks[side, place]
                    prices_out[side, at + place] = prices[rank if side == BID else n_ranks - 1 - rank]
                    sizes_out[side, at + place] = top_sizes[side, place]
                offsets[side, rows + 1] = at + top_counts[side]
                levels[rows, side] = counts[side]
            message[rows] = index
            rows += 1
    return rows, written_status
