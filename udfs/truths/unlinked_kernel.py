"""The kernel that applies messages and vendor books to the book of an unlinked feed.

A feed is unlinked if its ids do not connect one message to the next. A lost message then leaves no trace in
the ids. Crypto Lake is such a feed, and the messages that it loses are deletes: a *stranded level* stays in
the book although the exchange has removed it. Two facts reveal a stranded level:

- The book is crossed or locked. The exchange's book never is, so the older of the two levels is stranded.
- A valid vendor book lacks the level, although the level lies in the price range that the vendor's book
  shows.

A vendor's book can be wrong too. So its first contradiction only *disputes* a level: the book no longer
counts as known at this level. The level is corrected when the next two valid vendor books contradict it too,
and no message has set it in between. If the level crosses the other side, one vendor book is enough. A level
that the vendor shows and the book lacks is not added where the book is known: a message has deleted it, and
messages are first-hand.
"""

from __future__ import annotations

import numpy as np

from deltabook.schemas.names import FULL_DEPTH, Status
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.continuity import APPLY
from deltabook.udfs.orderbook.ranked_book import (
    ASK,
    BID,
    RankedSide,
    apply_to_side,
    clear_side,
    count_known,
    delete_level,
    rescan_side,
    scan_side,
    write_side,
)
from deltabook.udfs.truths.support import (
    CROSSED,
    CROSSED_SINCE,
    DISPUTED,
    PHASE,
    REMOVED,
    RESEEDED,
    ROW_DUE,
    SEEDED,
    UNSETTLED,
    WARM_SINCE,
    correct,
    end_dispute,
    forget,
    known_limit,
    mark,
    settle_told,
)
from deltabook.udfs.truths.vendor_comparison import compare_side, seed_side

_UNSEEDED, _WARMING, _SUSPECT = int(Status.UNSEEDED), int(Status.WARMING), int(Status.SUSPECT)
_UNVERIFIABLE, _ALL = int(Status.UNVERIFIABLE), FULL_DEPTH


@kernel
def apply_unlinked_messages(
    verdicts,
    times,
    bids,
    asks,
    vendor,
    book,
    depth,
    every_message,
    last_status,
    support,
    rules,
    output,
    corrections,
):
    """Apply messages and vendor books to a book; write a row where its top changes.

    Cost: one memory access per level change, and one comparison per level of a vendor book.

    Parameters
    ----------
    verdicts : UpdateVerdicts
        Every one of n messages is applied. `status` says what the message itself
        proves: UNSEEDED at the first message of a recording session, SUSPECT if a part of the message is
        missing, else UNVERIFIABLE. It is changed in place to the status of the book after the message.
    times : int64[n]
        order_time of each message, ns since 1970 UTC.
    bids, asks : RankedChanges
        Level changes of the messages.
    vendor : VendorLevels
        Vendor books that belong between the messages.
    book : RankedBook
        The full book. `sizes` and `words` are changed in place.
    depth : int
        Number of levels per side that count as the top; at least 1.
    every_message : bool
        True: write a row for every message that is applied. False: write a row only when the top levels, the
        known depth or the status change.
    last_status : int
        `Status` of the book before the first message; -1 if there was no message yet.
    support : Support
        What supports the book; changed in place.
    rules : SupportRules
        Rules for seeds and corrections.
    output : BookOutput
        Arrays that the kernel fills.
    corrections : Corrections
        Arrays that the kernel fills.

    Returns
    -------
    (int, int, bool, bool)
        Number of rows written, the status after the last message, whether the status of a message without a
        row changed afterwards, and whether the first row repeats the last row of the batch before.
    """
    n_ranks = len(book.prices)
    top_ranks = np.full((2, depth), -1, dtype=np.int64)
    top_sizes = np.zeros((2, depth), dtype=np.int64)
    bid_side = RankedSide(book.sizes[BID], book.words[BID], top_ranks[BID], top_sizes[BID])
    ask_side = RankedSide(book.sizes[ASK], book.words[ASK], top_ranks[ASK], top_sizes[ASK])
    bid_summary = scan_side(bid_side, book.counts[BID], depth)
    ask_summary = scan_side(ask_side, book.counts[ASK], depth)
    prices = book.prices
    status = verdicts.status
    before = vendor.before
    fields, known_from, counts = support.fields, support.known_from, support.counts
    message, offsets, prices_out, sizes_out, levels, known = (
        output.message,
        output.offsets,
        output.prices,
        output.sizes,
        output.levels,
        output.known,
    )
    known_depth = output.known_depth
    bid_known = count_known(top_ranks[BID], bid_summary.top_count, known_limit(support, BID))
    ask_known = count_known(top_ranks[ASK], ask_summary.top_count, known_limit(support, ASK))
    if last_status <= _SUSPECT:
        bid_known = ask_known = 0
    rows = next_vendor = supported = 0
    is_past_changed = is_first_repeated = False
    first_row = (last_status, bid_known, ask_known)
    for index in range(len(status) + 1):
        while next_vendor < len(before) and before[next_vendor] == index:
            bid_summary, ask_summary, bid_dispute, ask_dispute = _use_vendor_book(
                vendor,
                next_vendor,
                (bid_side, ask_side),
                (bid_summary, ask_summary),
                support,
                rules,
                times[min(index, len(times) - 1)],
                (index, supported),
                corrections,
            )
            for side, dispute in ((BID, bid_dispute), (ASK, ask_dispute)):
                if dispute >= 0:
                    price = price_at(prices, side, dispute)
                    is_past_changed |= limit_past(side, price, supported, index, rows, output, status)
            supported = index
            next_vendor += 1
        if index > 0:
            last_status = status[index - 1]  # a vendor book may have lowered it
        if index == len(status):
            break
        is_changed = fields[ROW_DUE] != 0
        given = status[index]
        if given in (_UNSEEDED, _SUSPECT):
            forget(support, n_ranks)
            fields[PHASE] = _SUSPECT
        if given == _UNSEEDED:
            bid_summary, ask_summary = clear_side(bid_side, depth), clear_side(ask_side, depth)
            fields[PHASE] = _WARMING if rules.warms else _UNSEEDED
            is_changed = True
        bid_summary, is_bid_changed = apply_to_side(APPLY, bids, index, bid_side, bid_summary, -1, depth)
        ask_summary, is_ask_changed = apply_to_side(APPLY, asks, index, ask_side, ask_summary, -1, depth)
        if counts[DISPUTED] + counts[REMOVED] > 0:
            settle_told(BID, bids, index, support)
            settle_told(ASK, asks, index, support)
        is_changed |= is_bid_changed or is_ask_changed or fields[UNSETTLED] != 0
        fields[UNSETTLED] = 0
        while _is_crossed(top_ranks[BID, 0], top_ranks[ASK, 0], n_ranks) and rules.repairs:
            is_bid_told = _tells(bids, index, top_ranks[BID, 0])
            if is_bid_told == _tells(asks, index, top_ranks[ASK, 0]):
                break
            side = ASK if is_bid_told else BID
            rank = top_ranks[side, 0]
            ranked = bid_side if side == BID else ask_side
            correct(corrections, (index, supported), side, rank, ranked.sizes[rank], 0, CROSSED)
            price = price_at(prices, side, rank)
            is_past_changed |= limit_past(side, price, supported, index, rows, output, status)
            delete_level(ranked, rank)
            end_dispute(support, side, rank)
            mark(support.removed[side], counts, REMOVED, rank)
            if side == BID:
                bid_summary = rescan_side(bid_side, bid_summary.level_count - 1, depth)
            else:
                ask_summary = rescan_side(ask_side, ask_summary.level_count - 1, depth)
            fields[UNSETTLED], is_changed = 1, True
        _follow_crossing(fields, known_from, top_ranks, n_ranks, times[index], rules.warm_time)
        bid_from = known_limit(support, BID)
        ask_from = known_limit(support, ASK)
        known_before = (bid_known, ask_known)
        bid_known = count_known(top_ranks[BID], bid_summary.top_count, bid_from)
        ask_known = count_known(top_ranks[ASK], ask_summary.top_count, ask_from)
        status[index] = _decide_status(fields, top_ranks, bid_from, ask_from, known_from)
        if status[index] == _UNSEEDED or status[index] == _SUSPECT:
            bid_known = ask_known = 0
        is_bid_whole = known_from[BID] < 0 and bid_known == bid_summary.top_count
        is_ask_whole = known_from[ASK] < 0 and ask_known == ask_summary.top_count
        known_depth[index] = min(_ALL if is_bid_whole else bid_known, _ALL if is_ask_whole else ask_known)
        is_seeded = status[index] != _UNSEEDED
        has_row = is_changed or every_message or (bid_known, ask_known) != known_before
        is_row_due = (is_seeded and has_row) or status[index] != last_status
        if index == 0:
            # Write this row even if it repeats the row before the batch: `limit_past` may lower it.
            is_first_repeated = not is_row_due
        if is_row_due or index == 0:
            for side, top_count in ((BID, bid_summary.top_count), (ASK, ask_summary.top_count)):
                shown = top_count if is_seeded else 0
                write_side(side, rows, shown, top_ranks, top_sizes, prices, offsets, prices_out, sizes_out)
            levels[rows, BID] = bid_summary.level_count if is_seeded else 0
            levels[rows, ASK] = ask_summary.level_count if is_seeded else 0
            known[rows, BID], known[rows, ASK] = bid_known, ask_known
            message[rows] = index
            rows += 1
            fields[ROW_DUE] = 0
        last_status = status[index]
    if is_first_repeated:
        is_first_repeated = first_row == (status[0], known[0, BID], known[0, ASK])
    return rows, last_status, is_past_changed, is_first_repeated


@kernel
def _use_vendor_book(vendor, number, sides, summaries, support, rules, time, span, corrections):
    """Seed the book with a vendor book, or compare the two.

    Returns (summary of the bids, summary of the asks, rank of the best bid that is newly disputed or -1, rank
    of the best such ask or -1).
    """
    fields = support.fields
    bid_side, ask_side = sides
    bids, asks = summaries
    phase, crossed_since = fields[PHASE], fields[CROSSED_SINCE]
    if phase != _UNVERIFIABLE or (crossed_since >= 0 and time - crossed_since >= rules.reseed_after):
        kind = SEEDED if phase in (_UNSEEDED, _WARMING) else RESEEDED
        is_cleared = phase == _SUSPECT
        bids = seed_side(
            BID, vendor.bids, number, bid_side, bids, support, is_cleared, kind, span, corrections
        )
        asks = seed_side(
            ASK, vendor.asks, number, ask_side, asks, support, is_cleared, kind, span, corrections
        )
        fields[PHASE], fields[CROSSED_SINCE], fields[UNSETTLED] = _UNVERIFIABLE, -1, 0
        fields[ROW_DUE] = 1
        return bids, asks, -1, -1
    n_ranks = len(bid_side.sizes)
    bid_limit = ask_limit = n_ranks
    if crossed_since >= 0:
        bid_limit, ask_limit = n_ranks - 1 - ask_side.top_ranks[0], n_ranks - 1 - bid_side.top_ranks[0]
    bids, bid_dispute, is_bid_due = compare_side(
        BID, vendor.bids, number, bid_side, bids, support, bid_limit, span, corrections
    )
    asks, ask_dispute, is_ask_due = compare_side(
        ASK, vendor.asks, number, ask_side, asks, support, ask_limit, span, corrections
    )
    if is_bid_due or is_ask_due:
        fields[ROW_DUE] = 1
    if not _is_crossed(bid_side.top_ranks[0], ask_side.top_ranks[0], n_ranks):
        fields[CROSSED_SINCE] = -1
    return bids, asks, bid_dispute, ask_dispute


@kernel
def _decide_status(fields, top_ranks, bid_from, ask_from, known_from):
    """Return the status of the book. It is suspect while crossed, unsettled or disputed at its best level."""
    phase = fields[PHASE]
    if phase == _UNSEEDED:
        return _UNSEEDED
    if fields[CROSSED_SINCE] >= 0 or fields[UNSETTLED]:
        return _SUSPECT
    if phase != _UNVERIFIABLE:
        return phase
    for side, limit in ((BID, bid_from), (ASK, ask_from)):
        is_disputed = limit > known_from[side]
        if is_disputed and known_from[side] <= top_ranks[side, 0] < limit:
            return _SUSPECT
    return _UNVERIFIABLE


@kernel
def _follow_crossing(fields, known_from, top_ranks, n_ranks, time, warm_time):
    """Note since when the book is crossed; extend what is known of it; end warming if the book is stable.

    While the exchange has an ask at a price, it has no bid at this price or above it. So every bid at or
    above the best ask is one that messages have set since, and none is missing. The same holds for asks.
    """
    if _is_crossed(top_ranks[BID, 0], top_ranks[ASK, 0], n_ranks):
        if fields[CROSSED_SINCE] < 0:
            fields[CROSSED_SINCE] = time
        fields[WARM_SINCE] = -1
        return
    fields[CROSSED_SINCE] = -1
    if top_ranks[BID, 0] < 0 or top_ranks[ASK, 0] < 0:
        fields[WARM_SINCE] = -1
        return
    known_from[BID] = min(known_from[BID], n_ranks - 1 - top_ranks[ASK, 0])
    known_from[ASK] = min(known_from[ASK], n_ranks - 1 - top_ranks[BID, 0])
    if fields[PHASE] != _WARMING and fields[PHASE] != _SUSPECT:
        return
    if fields[WARM_SINCE] < 0 or fields[UNSETTLED]:
        fields[WARM_SINCE] = time
    if time - fields[WARM_SINCE] >= warm_time:
        fields[PHASE] = _UNVERIFIABLE


@kernel
def limit_past(number, price, first, end, rows, output, status):
    """Lower what is known of the messages ``first:end`` to the levels better than a price that proved wrong.

    A message whose best level has this price becomes suspect. Returns whether a message did that lies between
    two rows, so that a row is missing.

    Parameters
    ----------
    number : int
        The side.
    price : int
        Price of the level.
    first, end : int
        Range of message indices.
    rows : int
        Number of rows written so far.
    output : BookOutput
        The rows; `known` and `known_depth` are changed in place.
    status : int8[n]
        Status of the messages; changed in place.
    """
    message, offsets, prices, known = output.message, output.offsets, output.prices, output.known
    known_depth = output.known_depth
    is_row_missing = False
    first = max(first, end - _MOST_PAST)
    row, last = rows - 1, end
    while row >= 0 and last > first:
        begin = message[row]
        start, stop = offsets[number, row], offsets[number, row + 1]
        level = 0
        while level < stop - start and prices[number, start + level] != price:
            level += 1
        if level < stop - start:
            since = max(begin, first)
            for index in range(since, last):
                known_depth[index] = min(known_depth[index], level)
                if level == 0 and status[index] > _SUSPECT:
                    status[index] = _SUSPECT
            if begin >= first:
                known[row, number] = min(known[row, number], level)
                if level == 0:
                    known[row, 0] = known[row, 1] = 0
            elif level == 0:
                is_row_missing = True
        last = begin
        row -= 1
    return is_row_missing


_MOST_PAST = 4096
"""Number of messages that a contradiction can make suspect after the fact."""


@kernel
def price_at(prices, number, rank):
    """Return the price at a rank of one side."""
    return prices[rank if number == BID else len(prices) - 1 - rank]


@kernel
def _is_crossed(bid, ask, n_ranks):
    """Return whether the best bid is at or above the best ask, by their ranks; -1 is an empty side."""
    return bid >= 0 and ask >= 0 and bid >= n_ranks - 1 - ask


@kernel
def _tells(changes, index, rank):
    """Return whether a message sets the level at a rank."""
    for position in range(changes.offsets[index], changes.offsets[index + 1]):
        if changes.ranks[position] == rank and changes.sizes[position] != 0:
            return True
    return False
