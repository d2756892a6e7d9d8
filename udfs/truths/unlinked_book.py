"""The full order book of an unlinked feed: applies batches of messages and vendor books."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import NANOSECONDS_PER_SECOND, NOT_GIVEN, Status
from deltabook.udfs.orderbook.book import (
    Book,
    Levels,
    SideChanges,
    TopOfBookRows,
    allocate_output,
    trim_output,
)
from deltabook.udfs.orderbook.continuity import UpdateVerdicts
from deltabook.udfs.orderbook.known_range import KnownRange, find_side_ranks
from deltabook.udfs.orderbook.price_ranks import PriceRanks
from deltabook.udfs.orderbook.ranked_book import ASK, BID, RankedChanges
from deltabook.udfs.truths.support import (
    CROSSED_SINCE,
    DISPUTED,
    DISPUTED_TWICE,
    PHASE,
    REMOVED,
    ROW_DUE,
    SUPPORT_FIELDS,
    UNSETTLED,
    WARM_SINCE,
    Corrections,
    Support,
    SupportRules,
    VendorLevels,
)
from deltabook.udfs.truths.unlinked_kernel import apply_unlinked_messages
from deltabook.udfs.truths.vendor_books import VendorBooks

WARM_TIME = 10 * NANOSECONDS_PER_SECOND
"""Time, ns, for which a warming book must have had two sides that do not cross."""


def _no_prices() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class SupportState:
    """What supports the book of an unlinked feed between two batches.

    Attributes
    ----------
    phase : Status
        Status of the book apart from single levels.
    crossed_since, warm_since : int
        order_time since which the book is crossed, and since which it is stable, ns since 1970 UTC; -1 if it
        is not.
    is_unsettled : bool
        True from the removal of a stranded level until the next message.
    is_row_due : bool
        True if a vendor book has changed the book since the last message.
    disputed_bids, disputed_asks, removed_bids, removed_asks : int64[:]
        Prices of levels that the last vendor book contradicts, twice if the last two do, and of levels that
        were removed as stranded.
    """

    phase: Status = Status.UNSEEDED
    crossed_since: int = NOT_GIVEN
    warm_since: int = NOT_GIVEN
    is_unsettled: bool = False
    is_row_due: bool = False
    disputed_bids: NDArray[np.int64] = field(default_factory=_no_prices)
    disputed_asks: NDArray[np.int64] = field(default_factory=_no_prices)
    removed_bids: NDArray[np.int64] = field(default_factory=_no_prices)
    removed_asks: NDArray[np.int64] = field(default_factory=_no_prices)

    @property
    def prices(self) -> list[NDArray[np.int64]]:
        """All prices of the state."""
        return [self.disputed_bids, self.disputed_asks, self.removed_bids, self.removed_asks]


NO_SUPPORT = SupportState()


@dataclass(frozen=True)
class LevelCorrections:
    """m level changes that no message made, in order.

    Attributes
    ----------
    message : int64[m]
        Index of the message before which the level changed; of the last message if it changed after that. If
        `kind` is CROSSED: index of the message that contradicts the level.
    side : int64[m]
        BID or ASK.
    price, old_size, new_size : int64[m]
        The level, scaled or codes; a size of 0 stands for no level.
    kind : int8[m]
        A kind of `support`.
    since : int64[m]
        Index of the message after which the level may have been wrong.
    """

    message: NDArray[np.int64]
    side: NDArray[np.int64]
    price: NDArray[np.int64]
    old_size: NDArray[np.int64]
    new_size: NDArray[np.int64]
    kind: NDArray[np.int8]
    since: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.message)


class UnlinkedBook(Book):
    """Holds the full order book of a symbol of an unlinked feed from one batch of messages to the next.

    Parameters
    ----------
    bids, asks, depth, status, known
        See `Book`.
    support : SupportState
        What supports the book before the first batch.
    rules : SupportRules
        Rules for seeds and corrections.

    Attributes
    ----------
    support : SupportState
        What supports the book after the last batch.
    """

    def __init__(
        self,
        bids: Levels,
        asks: Levels,
        depth: int,
        status: int,
        known: tuple[KnownRange, KnownRange],
        support: SupportState,
        rules: SupportRules,
    ):
        super().__init__(bids, asks, depth, status, known, has_whole_snapshots=False)
        self.support = support
        self.rules = rules

    def count_known_levels(self) -> list[int]:
        """Return the number of known bids and asks among the top levels; a disputed level ends a side's."""
        bids, asks = super().count_known_levels()
        (bid_prices, _), (ask_prices, _) = self.sides
        if len(disputed := self.support.disputed_bids):
            bids = min(bids, int((bid_prices > disputed.max()).sum()))
        if len(disputed := self.support.disputed_asks):
            asks = min(asks, int((ask_prices < disputed.min()).sum()))
        return [bids, asks]

    def apply_unlinked(
        self,
        bids: SideChanges,
        asks: SideChanges,
        times: NDArray[np.int64],
        verdicts: UpdateVerdicts,
        vendor: VendorBooks,
        before: NDArray[np.int64],
        every_message: bool,
    ) -> tuple[TopOfBookRows, LevelCorrections]:
        """Apply a batch of n messages, and the vendor books that belong between them.

        Parameters
        ----------
        bids, asks : SideChanges
            Level changes of the messages.
        times : int64[n]
            order_time of the messages, ns since 1970 UTC.
        verdicts : UpdateVerdicts
            What each message proves; `status` is changed in place to the status of the book.
        vendor : VendorBooks
            Valid vendor books.
        before : int64[k]
            Index of the message before which each vendor book belongs, not decreasing; n: after the last one.
        every_message : bool
            True: write a row for every message. False: write a row only when the top levels, the known depth
            or the status change.
        """
        sides = (vendor.bids.prices, vendor.asks.prices)
        ranks = self.rank_prices(bids.prices, asks.prices, *sides, *self.support.prices)
        book, known_from = self.rank_book(ranks), self.rank_known(ranks)
        depth = max(1, min(self.depth, len(ranks.prices)))
        output = allocate_output(len(times), depth)
        support = self._rank_support(known_from, ranks)
        most = len(bids.prices) + len(asks.prices) + int(book.counts.sum())
        corrections = _allocate_corrections(most + 2 * sum(map(len, sides)))
        n_rows, self.status, is_row_missing, is_first_repeated = apply_unlinked_messages(
            verdicts,
            times,
            *(_rank_changes(side, ranks, number) for number, side in ((BID, bids), (ASK, asks))),
            VendorLevels(
                before,
                _rank_changes(vendor.bids, ranks, BID),
                _rank_changes(vendor.asks, ranks, ASK),
            ),
            book,
            depth,
            every_message,
            self.status,
            support,
            self.rules,
            output,
            corrections,
        )
        self.take_sides(book, known_from, ranks)
        self.support = _read_support(support, ranks)
        rows = trim_output(output, n_rows)
        if is_row_missing:
            rows = _add_missing_rows(rows, verdicts.status)
        if is_first_repeated:
            rows = _take_rows(rows, np.arange(1, len(rows.message)))
        return rows, _read_corrections(corrections, ranks, len(times) - 1)

    def _rank_support(self, known_from: NDArray[np.int64], ranks: PriceRanks) -> Support:
        state, n_words = self.support, len(ranks.prices) // 64 + 1
        fields = np.zeros(SUPPORT_FIELDS, dtype=np.int64)
        fields[PHASE] = state.phase
        fields[CROSSED_SINCE], fields[WARM_SINCE] = state.crossed_since, state.warm_since
        fields[UNSETTLED], fields[ROW_DUE] = state.is_unsettled, state.is_row_due
        marks = np.zeros((3, 2, n_words), dtype=np.uint64)
        counts = np.zeros(3, dtype=np.int64)
        for side in (BID, ASK):
            disputed, times = np.unique((state.disputed_bids, state.disputed_asks)[side], return_counts=True)
            removed = (state.removed_bids, state.removed_asks)[side]
            for which, prices in (
                (DISPUTED, disputed),
                (DISPUTED_TWICE, disputed[times > 1]),
                (REMOVED, removed),
            ):
                found = find_side_ranks(ranks, side, prices)
                words = marks[which, side]
                np.bitwise_or.at(words, found >> 6, np.uint64(1) << (found & 63).astype(np.uint64))
                counts[which] += len(found)
        return Support(fields, known_from, marks[DISPUTED], marks[DISPUTED_TWICE], marks[REMOVED], counts)


def _read_support(support: Support, ranks: PriceRanks) -> SupportState:
    fields = support.fields

    def list_marked(side: int, *bitmaps: NDArray[np.uint64]) -> NDArray[np.int64]:
        bits = (np.unpackbits(words[side].view(np.uint8), bitorder="little") for words in bitmaps)
        marked = np.concatenate([np.flatnonzero(one) for one in bits])
        return np.sort(ranks.prices[marked if side == BID else len(ranks.prices) - 1 - marked])

    disputed = (list_marked(side, support.disputed, support.disputed_twice) for side in (BID, ASK))
    removed = (list_marked(side, support.removed) for side in (BID, ASK))
    return SupportState(
        Status(int(fields[PHASE])),
        int(fields[CROSSED_SINCE]),
        int(fields[WARM_SINCE]),
        bool(fields[UNSETTLED]),
        bool(fields[ROW_DUE]),
        *disputed,
        *removed,
    )


def _rank_changes(side: SideChanges, ranks: PriceRanks, number: int) -> RankedChanges:
    return RankedChanges(side.offsets, find_side_ranks(ranks, number, side.prices), side.sizes)


def _allocate_corrections(most: int) -> Corrections:
    message, side, rank, old_size, new_size, since = (np.empty(most, dtype=np.int64) for _ in range(6))
    recorded, kind = np.zeros(1, dtype=np.int64), np.empty(most, dtype=np.int8)
    return Corrections(recorded, message, side, rank, old_size, new_size, kind, since)


def _read_corrections(corrections: Corrections, ranks: PriceRanks, last: int) -> LevelCorrections:
    count = int(corrections.recorded[0])
    side, rank = corrections.side[:count], corrections.rank[:count]
    price = ranks.prices[np.where(side == BID, rank, len(ranks.prices) - 1 - rank)]
    return LevelCorrections(
        np.minimum(corrections.message[:count], last),
        side,
        price,
        corrections.old_size[:count],
        corrections.new_size[:count],
        corrections.kind[:count],
        np.minimum(corrections.since[:count], last),
    )


def _add_missing_rows(rows: TopOfBookRows, status: NDArray[np.int8]) -> TopOfBookRows:
    """Add a row at each message whose status was changed afterwards and that has no row.

    The added row repeats the levels of the row before it, and nothing of it is known. The first message must
    have a row.
    """
    changed = np.flatnonzero((np.diff(status, prepend=status[:1]) != 0) & (status == Status.SUSPECT))
    added = np.setdiff1d(changed, rows.message)
    source = np.searchsorted(rows.message, added, side="right") - 1
    order = np.argsort(np.concatenate((rows.message, added)), kind="stable")
    taken = np.concatenate((np.arange(len(rows.message)), source))[order]
    is_added = (order >= len(rows.message))[:, None]
    with_added = _take_rows(rows, taken)
    return replace(
        with_added,
        message=np.concatenate((rows.message, added))[order],
        known=np.where(is_added, np.int32(0), with_added.known),
    )


def _take_rows(rows: TopOfBookRows, taken: NDArray[np.intp]) -> TopOfBookRows:
    """Return the rows at some indices."""
    offsets, prices, sizes = zip(*(_take_levels(rows, side, taken) for side in (BID, ASK)), strict=True)
    return replace(
        rows,
        message=rows.message[taken],
        offsets=offsets,
        prices=prices,
        sizes=sizes,
        levels=rows.levels[taken],
        known=rows.known[taken],
    )


def _take_levels(
    rows: TopOfBookRows, side: int, taken: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets, prices and sizes of one side of some rows."""
    lengths = np.diff(rows.offsets[side])[taken]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    levels = np.repeat(rows.offsets[side][:-1][taken] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return offsets, rows.prices[side][levels], rows.sizes[side][levels]
