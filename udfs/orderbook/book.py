"""The full order book of one symbol: applies batches of messages and returns the top levels that change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Checksum
from deltabook.schemas.names import FULL_DEPTH, NOT_GIVEN, Status
from deltabook.udfs.numbers.encoding import PrintedDigits
from deltabook.udfs.orderbook.bitmaps import set_bits
from deltabook.udfs.orderbook.book_kernel import NOT_CHECKED, BookOutput, IntegrityFields, apply_messages
from deltabook.udfs.orderbook.continuity import UpdateVerdicts
from deltabook.udfs.orderbook.known_range import KnownRange, find_side_ranks
from deltabook.udfs.orderbook.price_ranks import PriceRanks, rank_prices
from deltabook.udfs.orderbook.ranked_book import ASK, BID, RankedBook, RankedChanges

Levels = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Prices and sizes of one side, int64[:] each, prices ascending.

In this package, *scaled or codes* means the two encodings of `udfs.numbers.encoding`: integers at the
instrument's scales, or codes of decimals.
"""


@dataclass(frozen=True)
class SideChanges:
    """Level changes of n messages on one side.

    Attributes
    ----------
    offsets : int64[n + 1]
        Message i changes the levels ``offsets[i]:offsets[i + 1]``.
    prices, sizes : int64[:]
        Price of each level and its new size, scaled or codes; a size of 0 deletes the level.
    """

    offsets: NDArray[np.int64]
    prices: NDArray[np.int64]
    sizes: NDArray[np.int64]


@dataclass(frozen=True)
class TopOfBookRows:
    """The r rows that n messages write: the top levels of the book after a message.

    Attributes
    ----------
    message : int64[r]
        Index of the message that each row follows.
    offsets : (int64[r + 1], int64[r + 1])
        Bounds of each row's bid and ask levels.
    prices, sizes : (int64[:], int64[:])
        Levels of all rows, bids and asks, scaled or codes; best first, at most `depth` per row.
    levels : int64[r, 2]
        Number of levels of the full book, bids and asks.
    known : int32[r, 2]
        How many levels of each row, bids and asks, from the best, are known (see `known_range`).
    known_depth : int64[n]
        Number of levels that are known on both sides after each message, at most `depth`; `FULL_DEPTH` if
        both sides are known as a whole.
    checksum_verdicts : int8[n]
        NOT_CHECKED, WRONG or RIGHT for each message: compares the book after the message with the message's
        checksum.
    snapshot_verdicts : int8[n]
        NOT_CHECKED, WRONG or RIGHT for each message: compares a snapshot's levels with the book just before
        the snapshot. NOT_CHECKED for diffs, for snapshots that do not come from the feed itself, and while
        the book is unseeded or suspect.
    """

    message: NDArray[np.int64]
    offsets: tuple[NDArray[np.int64], NDArray[np.int64]]
    prices: tuple[NDArray[np.int64], NDArray[np.int64]]
    sizes: tuple[NDArray[np.int64], NDArray[np.int64]]
    levels: NDArray[np.int64]
    known: NDArray[np.int32]
    known_depth: NDArray[np.int64]
    checksum_verdicts: NDArray[np.int8]
    snapshot_verdicts: NDArray[np.int8]


class Book:
    """Holds the full order book of one symbol from one batch of messages to the next.

    Parameters
    ----------
    bids, asks : (int64[:], int64[:])
        Prices and sizes of the book's levels, scaled or codes; prices ascending and distinct.
    depth : int
        Number of levels per side that count as the top.
    status : int
        `Status` after the last message; -1 if there was no message yet.
    known : (KnownRange, KnownRange)
        Known range of each side.
    has_whole_snapshots : bool
        `Feed.whole_snapshots`.

    Attributes
    ----------
    sides : list of (int64[:], int64[:])
        Bids and asks after the last batch, in the form of the parameters.
    known : (KnownRange, KnownRange)
        Known range of each side after the last batch.
    tick : int
        Price step of the last batch, in units of the prices; 0 before the first batch.
    """

    def __init__(
        self,
        bids: Levels,
        asks: Levels,
        depth: int,
        status: int,
        known: tuple[KnownRange, KnownRange],
        has_whole_snapshots: bool,
    ):
        self.sides = [bids, asks]
        self.depth = depth
        self.status = status
        self.known = known
        self.has_whole_snapshots = has_whole_snapshots
        self.tick = 0

    def apply(
        self,
        bids: SideChanges,
        asks: SideChanges,
        verdicts: UpdateVerdicts,
        integrity: IntegrityFields | None,
        every_message: bool,
    ) -> TopOfBookRows:
        """Apply a batch of n messages.

        Parameters
        ----------
        bids, asks : SideChanges
            Level changes of the messages.
        verdicts : UpdateVerdicts
            What each message does to the book, and the status that the message's ids prove. If a checksum
            does not match, `status` and `gap` are changed in place.
        integrity : IntegrityFields or None
            Checksums of the messages, and the depth to which the venue truncates its book. None for a feed
            that sends no snapshots itself (`Feed.own_snapshots`): such a feed has neither.
        every_message : bool
            True: write a row for every message that is applied. False: write a row only when the top levels
            or the status change.

        Returns
        -------
        TopOfBookRows
            The rows written.
        """
        ranks = self.rank_prices(bids.prices, asks.prices)
        book = self.rank_book(ranks)
        known_from = self.rank_known(ranks)
        depth = max(1, min(self.depth, len(ranks.prices)))
        output = allocate_output(len(verdicts.action), depth)
        n_rows, self.status = apply_messages(
            verdicts,
            RankedChanges(bids.offsets, find_side_ranks(ranks, BID, bids.prices), bids.sizes),
            RankedChanges(asks.offsets, find_side_ranks(ranks, ASK, asks.prices), asks.sizes),
            book,
            known_from,
            self.has_whole_snapshots,
            depth,
            every_message,
            self.status,
            integrity is not None,
            _no_integrity_fields(len(verdicts.action)) if integrity is None else integrity,
            output,
        )
        self.take_sides(book, known_from, ranks)
        return trim_output(output, n_rows)

    def count_known(self) -> int:
        """Return the number of levels that are known on both sides, as `TopOfBookRows.known_depth`."""
        if self.status <= Status.SUSPECT:
            return 0
        counts = self.count_known_levels()
        return min(
            FULL_DEPTH if known.is_whole and count == min(len(prices), self.depth) else count
            for known, count, (prices, _) in zip(self.known, counts, self.sides, strict=True)
        )

    def count_known_levels(self) -> list[int]:
        """Return the number of known bids and of known asks among the top levels; see `TopOfBookRows`."""
        (bid_prices, _), (ask_prices, _) = self.sides
        bids, asks = self.known
        counts = []
        for known, prices, sign in ((bids, bid_prices[::-1], 1), (asks, ask_prices, -1)):
            top = prices[: self.depth]
            is_out = sign * top < sign * known.price if known.price is not None else top != top
            count = int(np.argmax(is_out)) if is_out.any() else len(top)
            counts.append(count if known.is_whole or known.price is not None else 0)
        return counts if self.status > Status.SUSPECT else [0, 0]

    def rank_prices(self, *prices: NDArray[np.int64]) -> PriceRanks:
        """Return ranks for some prices, int64[:] each, and for those that the book holds."""
        own = [self.sides[BID][0], self.sides[ASK][0], self.known[BID].prices, self.known[ASK].prices]
        ranks = rank_prices([*own, *prices], self.tick)
        self.tick = ranks.tick
        return ranks

    def rank_known(self, ranks: PriceRanks) -> NDArray[np.int64]:
        """Return the lowest known rank of each side, int64[2]."""
        return np.array([self.known[side].find_rank(ranks, side) for side in (BID, ASK)])

    def take_sides(self, book: RankedBook, known_from: NDArray[np.int64], ranks: PriceRanks) -> None:
        """Store the levels and the known ranges that a kernel has left in a ranked book."""
        bid_ranks, ask_ranks = np.flatnonzero(book.sizes[BID]), np.flatnonzero(book.sizes[ASK][::-1])
        self.sides = [
            (ranks.prices[bid_ranks], book.sizes[BID][bid_ranks]),
            (ranks.prices[ask_ranks], book.sizes[ASK][::-1][ask_ranks]),
        ]
        bid_from, ask_from = known_from.tolist()
        self.known = (
            KnownRange.from_rank(bid_from, ranks, BID),
            KnownRange.from_rank(ask_from, ranks, ASK),
        )

    def rank_book(self, ranks: PriceRanks) -> RankedBook:
        """Return the book with one entry per rank of a price."""
        n_ranks = len(ranks.prices)
        sizes = np.zeros((2, n_ranks), dtype=np.int64)
        words = np.zeros((2, n_ranks // 64 + 1), dtype=np.uint64)
        bid_ranks = ranks.find(self.sides[BID][0])
        ask_ranks = find_side_ranks(ranks, ASK, self.sides[ASK][0])
        for side, side_ranks in ((BID, bid_ranks), (ASK, ask_ranks)):
            sizes[side, side_ranks] = self.sides[side][1]
            set_bits(words[side], side_ranks)
        return RankedBook(ranks.prices, sizes, words, np.array([len(bid_ranks), len(ask_ranks)]))


def allocate_output(n_messages: int, depth: int) -> BookOutput:
    """Return arrays for the rows of n messages with `depth` levels per side."""
    most_levels = n_messages * depth
    return BookOutput(
        message=np.empty(n_messages, dtype=np.int64),
        offsets=np.zeros((2, n_messages + 1), dtype=np.int64),
        prices=np.empty((2, most_levels), dtype=np.int64),
        sizes=np.empty((2, most_levels), dtype=np.int64),
        levels=np.empty((n_messages, 2), dtype=np.int64),
        known=np.empty((n_messages, 2), dtype=np.int32),
        known_depth=np.empty(n_messages, dtype=np.int64),
        checksum_verdicts=np.full(n_messages, NOT_CHECKED, dtype=np.int8),
        snapshot_verdicts=np.full(n_messages, NOT_CHECKED, dtype=np.int8),
    )


def trim_output(output: BookOutput, n_rows: int) -> TopOfBookRows:
    """Return the filled part of the kernel's output."""
    ends = (int(output.offsets[BID, n_rows]), int(output.offsets[ASK, n_rows]))
    return TopOfBookRows(
        output.message[:n_rows],
        (output.offsets[BID, : n_rows + 1], output.offsets[ASK, : n_rows + 1]),
        (output.prices[BID, : ends[BID]], output.prices[ASK, : ends[ASK]]),
        (output.sizes[BID, : ends[BID]], output.sizes[ASK, : ends[ASK]]),
        output.levels[:n_rows],
        output.known[:n_rows],
        output.known_depth,
        output.checksum_verdicts,
        output.snapshot_verdicts,
    )


def _no_integrity_fields(n_messages: int) -> IntegrityFields:
    absent = np.full(n_messages, NOT_GIVEN, dtype=np.int64)
    return IntegrityFields(int(Checksum.NONE), PrintedDigits(0, 0), absent, absent, absent, absent)
