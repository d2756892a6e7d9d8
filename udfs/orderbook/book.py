"""The order book kernel: applies level changes and writes the top levels whenever they change.

A side is an array of sizes by rank and a bitmap of the ranks that hold a size; asks are ranked
downwards, so that on both sides the best level is the highest rank. The top levels are scanned
again only when a change reaches them. What only the book itself can tell is told here: whether a
checksum is right, whether a snapshot equals the book that it replaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Checksum
from deltabook.schemas.names import NOT_GIVEN, GapKind, Status
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.encoding import Printing
from deltabook.udfs.orderbook.bitmaps import highest_at_or_below, lowest, occupy
from deltabook.udfs.orderbook.checksums import book_checksum
from deltabook.udfs.orderbook.continuity import IGNORE, RESET, SEED, Verdicts
from deltabook.udfs.orderbook.price_ranks import build_ladder

BID, ASK = 0, 1
_UNSEEDED, _SUSPECT, _UNVERIFIABLE = int(Status.UNSEEDED), int(Status.SUSPECT), int(Status.UNVERIFIABLE)
_CHECKED, _CHECKSUM_FAILURE = int(Status.CHECKED), int(GapKind.CHECKSUM_FAILURE)
_NO_CHECKSUM = int(Checksum.NONE)

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
class Proofs:
    """What n messages let a book be held against.

    Attributes
    ----------
    kind : Checksum
        What the checksums are computed over.
    printing : Printing
        The digits of prices and sizes.
    checksum : int64[n]
        Unsigned CRC-32 of the book after the message; -1 if not given.
    price_digits, size_digits : int64[n]
        Decimals in the checksum's text; -1: as few as needed.
    kept_levels : int64[n]
        Levels a side that are left after the message; -1: all.
    """

    kind: Checksum
    printing: Printing
    checksum: NDArray[np.int64]
    price_digits: NDArray[np.int64]
    size_digits: NDArray[np.int64]
    kept_levels: NDArray[np.int64]


NOT_CHECKED, WRONG, RIGHT = -1, 0, 1
"""How a book compared."""


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
    checksum_verdicts, snapshot_verdicts : int8[n]
        For each message NOT_CHECKED, WRONG or RIGHT: the book after it against its checksum, and the
        book before it, if it is a snapshot of the feed's own and the book was whole, against its levels.
    """

    message: NDArray[np.int64]
    offsets: tuple[NDArray[np.int64], NDArray[np.int64]]
    prices: tuple[NDArray[np.int64], NDArray[np.int64]]
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]]
    levels: NDArray[np.int64]
    checksum_verdicts: NDArray[np.int8]
    snapshot_verdicts: NDArray[np.int8]


class Book:
    """A full order book between batches.

    Parameters
    ----------
    bids, asks : (int64[:], int64[:])
        Prices and sizes, scaled, prices ascending and distinct.
    depth : int
        Levels a side that count as the top.
    status : int
        Status after the last message, -1 if there was none.
    """

    def __init__(self, bids: Levels, asks: Levels, depth: int, status: int):
        self.sides = [bids, asks]
        self.depth = depth
        self.status = status
        self.tick = 0

    def apply(
        self, bids: Side, asks: Side, verdicts: Verdicts, proofs: Proofs | None, every_message: bool
    ) -> Tops:
        """Apply a batch of messages.

        Parameters
        ----------
        bids, asks : Side
            Level changes of n messages.
        verdicts : Verdicts
            What each message does, and the status after it as far as ids tell. Where a checksum says
            otherwise, it is changed in place: the status, and the gap if the message shows one.
        proofs : Proofs or None
            Of the messages; None for a feed that gives none.
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
            occupy(words[side], live[side])
        depth = max(1, min(self.depth, n_ranks))
        most = n_messages * depth
        message = np.empty(n_messages, dtype=np.int64)
        offsets = np.zeros((2, n_messages + 1), dtype=np.int64)
        prices_out, sizes_out = np.empty((2, most), np.int64), np.empty((2, most), np.int64)
        levels = np.empty((n_messages, 2), dtype=np.int64)
        compares = proofs is not None
        proofs = proofs or _no_proofs(n_messages)
        checksum_verdicts = np.full(n_messages, NOT_CHECKED, dtype=np.int8)
        snapshot_verdicts = np.full(n_messages, NOT_CHECKED, dtype=np.int8)
        rows, self.status = _apply(
            verdicts.action,
            verdicts.status,
            verdicts.gap,
            verdicts.expected,
            verdicts.found,
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
            depth,
            every_message,
            self.status,
            compares,
            int(proofs.kind),
            (proofs.printing.price_scale, proofs.printing.size_scale),
            proofs.printing.wholes,
            proofs.printing.fractions,
            proofs.checksum,
            proofs.price_digits,
            proofs.size_digits,
            proofs.kept_levels,
            checksum_verdicts,
            snapshot_verdicts,
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
            checksum_verdicts,
            snapshot_verdicts,
        )


def _no_proofs(n_messages: int) -> Proofs:
    nothing = np.full(n_messages, NOT_GIVEN, dtype=np.int64)
    return Proofs(Checksum.NONE, Printing(0, 0), nothing, nothing, nothing, nothing)


@kernel
def _take_top(words, sizes, best, depth, ranks, top_sizes):
    """List the best levels; return (how many, whether they differ from those listed before)."""
    count, differs, rank = 0, False, best
    while rank >= 0 and count < depth:
        if ranks[count] != rank or top_sizes[count] != sizes[rank]:
            ranks[count], top_sizes[count] = rank, sizes[rank]
            differs = True
        count += 1
        rank = highest_at_or_below(words, rank - 1)
    return count, differs


@kernel
def _change_side(ranks, new_sizes, start, end, sizes, words, best, floor):
    """Apply one message's changes to a side, with no branch on what cannot be foreseen.

    Returns (best or an upper bound of it, levels gained, whether a level at or above `floor` changed).
    """
    gained, touched = 0, False
    for index in range(start, end):
        rank, size = ranks[index], new_sizes[index]
        old = sizes[rank]
        sizes[rank] = size
        was, stays = int(old != 0), int(size != 0)
        words[rank >> 6] ^= np.uint64(was ^ stays) << np.uint64(rank & 63)
        gained += stays - was
        if rank >= floor:
            touched |= size != old
            best = max(best, rank)
    return best, gained, touched


@kernel
def _is_whole_side(ranks, new_sizes, start, end, sizes, count):
    """Whether a snapshot's levels are the side's, all of them and no others."""
    for index in range(start, end):
        if new_sizes[index] != sizes[ranks[index]]:
            return False
        count -= new_sizes[index] != 0
    return count == 0


@kernel
def _clear_from(sizes, words, lowest_rank):
    """Delete all levels at or above a rank; return how many there were."""
    cleared = 0
    rank = highest_at_or_below(words, len(sizes) - 1)
    while rank >= lowest_rank:
        sizes[rank] = 0
        words[rank >> 6] &= ~(np.uint64(1) << np.uint64(rank & 63))
        cleared += 1
        rank = highest_at_or_below(words, rank - 1)
    return cleared


@kernel
def _seeded_from(ranks, start, end, shown):
    """Return the rank from which on a vendor's top levels say all that there is."""
    if end == start or end - start < shown:
        return 0
    return ranks[start:end].min()


@kernel
def _keep_best(sizes, words, count, kept):
    """Delete the worst levels until `kept` are left; return the highest rank deleted, or -1."""
    deleted = -1
    while count > kept:
        deleted = lowest(words)
        sizes[deleted] = 0
        words[deleted >> 6] &= ~(np.uint64(1) << np.uint64(deleted & 63))
        count -= 1
    return deleted


@kernel
def _apply_side(
    act,
    ranks,
    new_sizes,
    start,
    end,
    sizes,
    words,
    best,
    floor,
    count,
    kept,
    shown,
    depth,
    top_ranks,
    top_sizes,
    top_count,
):
    """Apply one message to a side; return (best, floor, count, levels of the top, whether it changed)."""
    fresh = act >= RESET  # or SEED
    if act == RESET:
        sizes[:] = 0
        words[:] = np.uint64(0)
        count = 0
    elif act == SEED:
        count -= _clear_from(sizes, words, _seeded_from(ranks, start, end, shown))
    best, gained, touched = _change_side(ranks, new_sizes, start, end, sizes, words, best, floor)
    count += gained
    if 0 < kept < count:
        touched |= _keep_best(sizes, words, count, kept) >= floor
        count = kept
    changed = False
    if touched or fresh:
        best = highest_at_or_below(words, best)
        listed, differs = _take_top(words, sizes, best, depth, top_ranks, top_sizes)
        changed = differs or listed != top_count
        top_count = listed
        floor = top_ranks[depth - 1] if listed == depth else -1
    return best, floor, count, top_count, changed


@kernel
def _apply(
    action,
    status,
    gap,
    expected,
    found,
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
    last_status,
    compares,
    kind,
    scales,
    wholes,
    fractions,
    checksum,
    price_digits,
    size_digits,
    kept_levels,
    checksum_verdicts,
    snapshot_verdicts,
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
        best[side] = highest_at_or_below(words[side], n_ranks - 1)
        top_counts[side], _ = _take_top(
            words[side], sizes[side], best[side], depth, top_ranks[side], top_sizes[side]
        )
        floor[side] = top_ranks[side, depth - 1] if top_counts[side] == depth else -1
    rows = 0
    for index in range(len(action)):
        changed = False
        act = action[index]
        if act != IGNORE:
            fresh = act >= RESET  # or SEED
            if compares and act == RESET and last_status > _SUSPECT:
                equal = _is_whole_side(
                    bid_ranks, bid_sizes, bid_offsets[index], bid_offsets[index + 1], sizes[BID], counts[BID]
                ) and _is_whole_side(
                    ask_ranks, ask_sizes, ask_offsets[index], ask_offsets[index + 1], sizes[ASK], counts[ASK]
                )
                snapshot_verdicts[index] = RIGHT if equal else WRONG
            bid_change = _apply_side(
                act, bid_ranks, bid_sizes, bid_offsets[index], bid_offsets[index + 1], sizes[BID], words[BID],
                best[BID], floor[BID], counts[BID], kept_levels[index], expected[index], depth,
                top_ranks[BID], top_sizes[BID], top_counts[BID],
            )  # fmt: skip
            ask_change = _apply_side(
                act, ask_ranks, ask_sizes, ask_offsets[index], ask_offsets[index + 1], sizes[ASK], words[ASK],
                best[ASK], floor[ASK], counts[ASK], kept_levels[index], expected[index], depth,
                top_ranks[ASK], top_sizes[ASK], top_counts[ASK],
            )  # fmt: skip
            best[BID], floor[BID], counts[BID], top_counts[BID], bids_changed = bid_change
            best[ASK], floor[ASK], counts[ASK], top_counts[ASK], asks_changed = ask_change
            changed = bids_changed or asks_changed
            if last_status == _SUSPECT and not fresh:
                status[index] = _SUSPECT  # a checksum has failed since the last snapshot
            if kind != _NO_CHECKSUM and checksum[index] != NOT_GIVEN and status[index] != _UNSEEDED:
                computed = book_checksum(
                    kind, prices, sizes, words, scales, wholes, fractions,
                    price_digits[index], size_digits[index],
                )  # fmt: skip
                checksum_verdicts[index] = RIGHT if computed == checksum[index] else WRONG
                if computed == checksum[index]:
                    status[index] = _CHECKED if status[index] == _UNVERIFIABLE else status[index]
                elif status[index] > _SUSPECT:
                    status[index] = _SUSPECT
                    gap[index], expected[index], found[index] = _CHECKSUM_FAILURE, checksum[index], computed
        elif last_status == _SUSPECT:
            status[index] = _SUSPECT
        seeded = status[index] != _UNSEEDED
        if (seeded and (changed or (every_message and act != IGNORE))) or status[index] != last_status:
            for side in range(2):
                at = offsets[side, rows]
                shown = top_counts[side] if seeded else 0
                for place in range(shown):
                    rank = top_ranks[side, place]
                    prices_out[side, at + place] = prices[rank if side == BID else n_ranks - 1 - rank]
                    sizes_out[side, at + place] = top_sizes[side, place]
                offsets[side, rows + 1] = at + shown
                levels[rows, side] = counts[side] if seeded else 0
            message[rows] = index
            rows += 1
        last_status = status[index]
    return rows, last_status
