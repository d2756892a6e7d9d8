"""The kernel that applies messages to a book and writes the top levels whenever they change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Checksum
from deltabook.schemas.names import FULL_DEPTH, NOT_GIVEN, GapKind, Status
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.encoding import PrintedDigits
from deltabook.udfs.orderbook.checksums import book_checksum
from deltabook.udfs.orderbook.continuity import APPLY, IGNORE, MERGE, RESET
from deltabook.udfs.orderbook.ranked_book import (
    ASK,
    BID,
    RankedSide,
    apply_to_side,
    clear_side,
    count_known,
    holds_exactly,
    merge_side,
    scan_side,
    worst_rank,
    write_side,
)

_UNSEEDED, _SUSPECT, _UNVERIFIABLE = int(Status.UNSEEDED), int(Status.SUSPECT), int(Status.UNVERIFIABLE)
_CHECKED, _CHECKSUM_FAILURE = int(Status.CHECKED), int(GapKind.CHECKSUM_FAILURE)
_NEW_SESSION, _SEQUENCE_GAP = int(GapKind.NEW_SESSION), int(GapKind.SEQUENCE_GAP)
_NO_CHECKSUM, _ALL = int(Checksum.NONE), FULL_DEPTH

NOT_CHECKED, WRONG, RIGHT = -1, 0, 1
"""Results of a comparison of the book with a checksum or a snapshot."""


class IntegrityFields(NamedTuple):
    """Fields of n messages that the book can be checked against.

    Attributes
    ----------
    kind : int
        A `schemas.feeds.Checksum`: the venue's formula.
    digits : PrintedDigits
        Decimal digits of prices and sizes.
    checksum : int64[n]
        Unsigned CRC-32 that the venue gives for the book after the message; -1 if not given.
    price_digits, size_digits : int64[n]
        Decimals of prices and sizes in the text that the checksum covers; -1: as few as needed.
    kept_levels : int64[n]
        Levels per side to which the venue truncates its book after the message; -1: no truncation.
    """

    kind: int
    digits: PrintedDigits
    checksum: NDArray[np.int64]
    price_digits: NDArray[np.int64]
    size_digits: NDArray[np.int64]
    kept_levels: NDArray[np.int64]


class BookOutput(NamedTuple):
    """Arrays that a kernel fills for n messages.

    Attributes
    ----------
    message : int64[n]
        Index of the message that each row follows.
    offsets : int64[2, n + 1]
        By side, the index in `prices` and `sizes` at which each row's levels begin; the first column is 0.
    prices, sizes : int64[2, n * depth]
        By side, the top levels of each row, best first.
    levels : int64[n, 2]
        Number of levels of the full book, by row and side.
    known : int32[n, 2]
        By row and side, how many of the row's levels, from the best, are known; see `known_range`.
    known_depth : int64[n]
        Number of levels that are known on both sides after each message, at most `depth`; `FULL_DEPTH` if
        both sides are known as a whole.
    checksum_verdicts, snapshot_verdicts : int8[n]
        NOT_CHECKED, WRONG or RIGHT for each message. The caller fills both with NOT_CHECKED.
    """

    message: NDArray[np.int64]
    offsets: NDArray[np.int64]
    prices: NDArray[np.int64]
    sizes: NDArray[np.int64]
    levels: NDArray[np.int64]
    known: NDArray[np.int32]
    known_depth: NDArray[np.int64]
    checksum_verdicts: NDArray[np.int8]
    snapshot_verdicts: NDArray[np.int8]


@kernel
def apply_messages(
    verdicts,
    bids,
    asks,
    book,
    known_from,
    has_whole_snapshots,
    depth,
    every_message,
    last_status,
    has_integrity,
    integrity,
    output,
):
    """Apply messages to a book and write a row where its top changes; cost: one memory access per change.

    Parameters
    ----------
    verdicts : UpdateVerdicts
        What each of n messages does to the book, and what its ids prove. `status` is changed in place to the
        status of the book after the message, `gap` where a checksum does not match.
    bids, asks : RankedChanges
        Level changes of the messages.
    book : RankedBook
        The full book. `sizes` and `words` are changed in place. `counts` is only read: it holds the number of
        levels before the messages.
    known_from : int64[2]
        By side, the lowest rank from which absent levels are known to be absent; changed in place.
    has_whole_snapshots : bool
        `Feed.whole_snapshots`.
    depth : int
        Number of levels per side that count as the top; at least 1.
    every_message : bool
        True: write a row for every message that is applied. False: write a row only when the top levels or
        the status change.
    last_status : int
        `Status` of the book before the first message; -1 if there was no message yet.
    has_integrity : bool
        True: compare the book with the feed's own snapshots and checksums.
    integrity : IntegrityFields
        Checksums of the messages, and the depth to which the venue truncates its book after each message.
    output : BookOutput
        Arrays that the kernel fills.

    Returns
    -------
    (int, int)
        Number of rows written, and the status after the last message.
    """
    n_ranks = len(book.prices)
    top_ranks = np.full((2, depth), -1, dtype=np.int64)
    top_sizes = np.zeros((2, depth), dtype=np.int64)
    bid_side = RankedSide(book.sizes[BID], book.words[BID], top_ranks[BID], top_sizes[BID])
    ask_side = RankedSide(book.sizes[ASK], book.words[ASK], top_ranks[ASK], top_sizes[ASK])
    bid_summary = scan_side(bid_side, book.counts[BID], depth)
    ask_summary = scan_side(ask_side, book.counts[ASK], depth)
    prices = book.prices
    # Unpack the tuples once, before the loop: access through a tuple inside the loop counts references.
    actions, status, gap, expected, found = verdicts
    kind, digits, checksum, price_digits, size_digits, kept_levels = integrity
    (
        message,
        offsets,
        prices_out,
        sizes_out,
        levels,
        known,
        known_depth,
        checksum_verdicts,
        snapshot_verdicts,
    ) = output
    bid_from, ask_from = known_from[BID], known_from[ASK]
    bid_known = count_known(top_ranks[BID], bid_summary.top_count, bid_from)
    ask_known = count_known(top_ranks[ASK], ask_summary.top_count, ask_from)
    rows, due = 0, 0
    for index in range(len(actions)):
        is_changed = False
        action = actions[index]
        if status[index] == _UNSEEDED and last_status > _UNSEEDED:  # a new recording session
            bid_summary, ask_summary = clear_side(bid_side, depth), clear_side(ask_side, depth)
        is_merged = False
        if action == MERGE:
            action = IGNORE  # the snapshot may be ahead of the book; the next diff takes both to the same id
        elif action == APPLY and status[index] > _SUSPECT and last_status > _SUSPECT:
            for snapshot in range(due, index):
                if actions[snapshot] == MERGE:
                    bid_summary, is_bid_changed = merge_side(
                        bids, snapshot, bid_side, bid_summary, bid_from, depth
                    )
                    ask_summary, is_ask_changed = merge_side(
                        asks, snapshot, ask_side, ask_summary, ask_from, depth
                    )
                    is_changed |= is_bid_changed or is_ask_changed
                    bid_from = min(bid_from, worst_rank(bids, snapshot, n_ranks))
                    ask_from = min(ask_from, worst_rank(asks, snapshot, n_ranks))
                    is_merged = True
        if action != IGNORE:
            due = index + 1
            is_continued = gap[index] != _NEW_SESSION and gap[index] != _SEQUENCE_GAP
            if has_integrity and action == RESET and last_status > _SUSPECT and is_continued:
                is_equal = holds_exactly(bids, index, bid_side, bid_summary.level_count) and holds_exactly(
                    asks, index, ask_side, ask_summary.level_count
                )
                snapshot_verdicts[index] = RIGHT if is_equal else WRONG
            retained = kept_levels[index]
            bid_summary, is_bid_changed = apply_to_side(
                action, bids, index, bid_side, bid_summary, retained, depth
            )
            ask_summary, is_ask_changed = apply_to_side(
                action, asks, index, ask_side, ask_summary, retained, depth
            )
            is_changed |= is_bid_changed or is_ask_changed
            if action == RESET:
                bid_from = -1 if has_whole_snapshots else worst_rank(bids, index, n_ranks)
                ask_from = -1 if has_whole_snapshots else worst_rank(asks, index, n_ranks)
        if last_status == _SUSPECT and action != RESET and status[index] > _SUSPECT:
            status[index] = _SUSPECT  # a checksum has failed since the last snapshot
        has_checksum = kind != _NO_CHECKSUM and checksum[index] != NOT_GIVEN
        if has_checksum and action != IGNORE and status[index] != _UNSEEDED:
            computed = book_checksum(kind, book, digits, price_digits[index], size_digits[index])
            checksum_verdicts[index] = RIGHT if computed == checksum[index] else WRONG
            if computed == checksum[index]:
                status[index] = _CHECKED if status[index] == _UNVERIFIABLE else status[index]
            elif status[index] > _SUSPECT:
                status[index] = _SUSPECT
                gap[index], expected[index], found[index] = _CHECKSUM_FAILURE, checksum[index], computed
        if status[index] <= _SUSPECT:
            bid_from = ask_from = n_ranks
            bid_known = ask_known = 0
        elif is_changed or is_merged or action == RESET:
            bid_best, ask_best = top_ranks[BID, 0], top_ranks[ASK, 0]
            if bid_best >= 0 and ask_best >= 0 and bid_best < n_ranks - 1 - ask_best:
                # While the exchange has an ask at a price, it has no bid at this price or above it. So no bid
                # there is missing, now or later. The same holds for asks.
                bid_from = min(bid_from, n_ranks - 1 - ask_best)
                ask_from = min(ask_from, n_ranks - 1 - bid_best)
            bid_known = count_known(top_ranks[BID], bid_summary.top_count, bid_from)
            ask_known = count_known(top_ranks[ASK], ask_summary.top_count, ask_from)
        is_bid_whole = bid_from < 0 and bid_known == bid_summary.top_count
        is_ask_whole = ask_from < 0 and ask_known == ask_summary.top_count
        known_depth[index] = min(_ALL if is_bid_whole else bid_known, _ALL if is_ask_whole else ask_known)
        if known_depth[index] == 0 and status[index] > _UNVERIFIABLE:
            status[index] = _UNVERIFIABLE
        is_seeded = status[index] != _UNSEEDED
        has_row = is_changed or (every_message and action != IGNORE)
        if (is_seeded and has_row) or status[index] != last_status:
            for side in (BID, ASK):
                summary = bid_summary if side == BID else ask_summary
                top_count = summary.top_count if is_seeded else 0
                write_side(
                    side, rows, top_count, top_ranks, top_sizes, prices, offsets, prices_out, sizes_out
                )
                levels[rows, side] = summary.level_count if is_seeded else 0
            known[rows, BID], known[rows, ASK] = bid_known, ask_known
            message[rows] = index
            rows += 1
        last_status = status[index]
    known_from[BID], known_from[ASK] = bid_from, ask_from
    return rows, last_status
