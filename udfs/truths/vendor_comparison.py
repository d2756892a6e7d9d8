"""Kernels that seed one side of a book with a vendor book, or compare the two."""

from __future__ import annotations

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.bitmaps import highest_at_or_below
from deltabook.udfs.orderbook.ranked_book import delete_level, rescan_side, set_level
from deltabook.udfs.truths.support import (
    DISPUTED,
    DISPUTED_TWICE,
    REMOVED,
    RESTORED,
    SEEDED,
    STRANDED,
    correct,
    end_dispute,
    forget_marks,
    is_marked,
    mark,
    unmark,
)


@kernel
def seed_side(number, changes, book_index, side, summary, support, is_cleared, kind, span, corrections):
    """Replace the levels of one side that are not worse than the vendor's worst level by the vendor's levels.

    Parameters
    ----------
    number : int
        The side.
    changes : RankedChanges
        Levels of all vendor books on this side.
    book_index : int
        The vendor book. Its side has at least one level.
    side, summary : RankedSide, SideSummary
        The side of the book; changed in place.
    support : Support
        What supports the book; changed in place.
    is_cleared : bool
        Whether levels that are worse than the vendor's worst level are removed too.
    kind : int
        Kind of the corrections.
    span : (int, int)
        See `correct`.
    corrections : Corrections
        Arrays that the kernel fills.

    Returns
    -------
    SideSummary
        Summary of the side afterwards.
    """
    start, end = changes.offsets[book_index], changes.offsets[book_index + 1]
    worst = changes.ranks[end - 1]
    lowest = 0 if is_cleared else worst
    count, position = summary.level_count, start
    rank = highest_at_or_below(side.words, len(side.sizes) - 1)
    while rank >= lowest:
        while position < end and changes.ranks[position] > rank:
            position += 1
        if not (position < end and changes.ranks[position] == rank):
            correct(corrections, span, number, rank, side.sizes[rank], 0, kind)
            delete_level(side, rank)
            count -= 1
        rank = highest_at_or_below(side.words, rank - 1)
    for position in range(start, end):
        rank, size = changes.ranks[position], changes.sizes[position]
        if side.sizes[rank] != size:
            correct(corrections, span, number, rank, side.sizes[rank], size, kind)
            count += side.sizes[rank] == 0
            set_level(side, rank, size)
    known_from = support.known_from
    known_from[number] = worst if is_cleared else min(known_from[number], worst)
    forget_marks(support.disputed[number], support.counts, DISPUTED)
    forget_marks(support.disputed_twice[number], support.counts, DISPUTED_TWICE)
    forget_marks(support.removed[number], support.counts, REMOVED)
    return rescan_side(side, count, len(side.top_ranks))


@kernel
def compare_side(number, changes, book_index, side, summary, support, crossed_from, span, corrections):
    """Compare one side with a vendor book; dispute, correct and add levels.

    Parameters
    ----------
    number : int
        The side.
    changes : RankedChanges
        Levels of all vendor books on this side.
    book_index : int
        The vendor book. Its side has at least one level.
    side, summary : RankedSide, SideSummary
        The side of the book; changed in place.
    support : Support
        What supports the book; changed in place.
    span : (int, int)
        See `correct`.
    corrections : Corrections
        Arrays that the kernel fills.
    crossed_from : int
        Lowest rank of the levels that cross the other side; the number of ranks if none does.

    Returns
    -------
    (SideSummary, int, bool)
        Summary of the side afterwards; the rank of the best level that is newly disputed, or -1; whether what
        the book shows or knows has changed.
    """
    start, end = changes.offsets[book_index], changes.offsets[book_index + 1]
    disputed, removed, counts = support.disputed[number], support.removed[number], support.counts
    lowest = changes.ranks[end - 1]
    known_from = support.known_from[number]
    count, position, best_dispute, is_due = summary.level_count, start, -1, False
    rank = highest_at_or_below(side.words, len(side.sizes) - 1)
    while rank >= lowest or position < end:
        vendor_rank = changes.ranks[position] if position < end else -1
        if vendor_rank > rank:  # only the vendor has the level
            is_removed = is_marked(removed, vendor_rank)
            if vendor_rank < known_from or is_removed:
                size = changes.sizes[position]
                correct(corrections, span, number, vendor_rank, 0, size, RESTORED if is_removed else SEEDED)
                set_level(side, vendor_rank, size)
                count += 1
                is_due = True
                unmark(removed, counts, REMOVED, vendor_rank)
            position += 1
            continue
        size = changes.sizes[position] if vendor_rank == rank else 0
        position += vendor_rank == rank
        if size == side.sizes[rank]:
            if is_marked(disputed, rank):
                end_dispute(support, number, rank)
                is_due = True
        elif is_marked(support.disputed_twice[number], rank) or rank >= crossed_from:
            correct(corrections, span, number, rank, side.sizes[rank], size, STRANDED)
            end_dispute(support, number, rank)
            if size == 0:
                delete_level(side, rank)
                count -= 1
                mark(removed, counts, REMOVED, rank)
            else:
                set_level(side, rank, size)
            is_due = True
            best_dispute = max(best_dispute, rank)
        else:
            if is_marked(disputed, rank):
                mark(support.disputed_twice[number], counts, DISPUTED_TWICE, rank)
            mark(disputed, counts, DISPUTED, rank)
            best_dispute = max(best_dispute, rank)
            is_due = True
        rank = highest_at_or_below(side.words, rank - 1)
    is_due |= lowest < known_from
    support.known_from[number] = min(known_from, lowest)
    return rescan_side(side, count, len(side.top_ranks)), best_dispute, is_due
