"""What supports the book of an unlinked feed: its state between two messages, and kernels that change it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.bitmaps import highest_at_or_below
from deltabook.udfs.orderbook.ranked_book import RankedChanges

PHASE, CROSSED_SINCE, WARM_SINCE, UNSETTLED, ROW_DUE, SUPPORT_FIELDS = range(6)
"""Indices into `Support.fields`.

PHASE: `Status` of the book apart from single levels. CROSSED_SINCE: order_time at which the book became
crossed, ns; -1 if it is not. WARM_SINCE: order_time since which a warming book has had two sides that do not
cross, ns; -1 if it has not. UNSETTLED: 1 from the removal of a stranded level until the next message.
ROW_DUE: 1 if the book has changed since the last row apart from messages.
"""

SEEDED, RESEEDED, STRANDED, CROSSED, RESTORED = range(5)
"""Kinds of corrections.

SEEDED: a vendor book begins the book, or adds a level where the book was not known. RESEEDED: a vendor book
replaces a book that was crossed or damaged. STRANDED: vendor books contradict a level. CROSSED: a message
contradicts an older level, because the two would cross. RESTORED: a vendor book shows a level that was
removed.
"""

DISPUTED, DISPUTED_TWICE, REMOVED = range(3)
"""Indices into `Support.counts`."""


class Support(NamedTuple):
    """What supports the book of an unlinked feed, between two messages; arrays are changed in place.

    Attributes
    ----------
    fields : int64[SUPPORT_FIELDS]
        Single values; see `SUPPORT_FIELDS`.
    known_from : int64[2]
        By side, the lowest rank from which absent levels are known to be absent; see `known_range`.
    disputed, disputed_twice, removed : uint64[2, :]
        By side, bitmaps of ranks: levels that the last vendor book contradicts, levels that the last two
        contradict, and levels that were removed as stranded. A message that sets a level ends all three.
    counts : int64[3]
        Number of levels in each of the three bitmaps.
    """

    fields: NDArray[np.int64]
    known_from: NDArray[np.int64]
    disputed: NDArray[np.uint64]
    disputed_twice: NDArray[np.uint64]
    removed: NDArray[np.uint64]
    counts: NDArray[np.int64]


class VendorLevels(NamedTuple):
    """Valid vendor books, in the order of the feed, with prices as ranks.

    Attributes
    ----------
    before : int64[k]
        Index of the message before which each vendor book is used.
    bids, asks : RankedChanges
        Levels of the vendor books, best first.
    """

    before: NDArray[np.int64]
    bids: RankedChanges
    asks: RankedChanges


class SupportRules(NamedTuple):
    """Rules by which an unlinked book is seeded and corrected.

    Attributes
    ----------
    uses_vendor : bool
        Whether vendor books are used at all; see `Rebuilder.use_vendor_books`.
    warms : bool
        Whether messages alone can build a book (status `warming`). False: the book waits for a vendor book.
    repairs : bool
        Whether the older of two levels that cross is removed.
    reseed_after : int
        Time, ns, after which the next vendor book replaces a crossed book.
    warm_time : int
        Time, ns, after which a book with two sides that do not cross ends warming.
    """

    uses_vendor: bool
    warms: bool
    repairs: bool
    reseed_after: int
    warm_time: int


class Corrections(NamedTuple):
    """Level changes that no message made; arrays that the kernel fills.

    Attributes
    ----------
    recorded : int64[1]
        Number of corrections so far.
    message : int64[:]
        Index of the message before which the level changed; for a stranded level that a message contradicts,
        the index of that message.
    side, rank, old_size, new_size : int64[:]
        The level.
    kind : int8[:]
        SEEDED, RESEEDED, STRANDED, CROSSED or RESTORED.
    since : int64[:]
        Index of the message after which the level may have been wrong.
    """

    recorded: NDArray[np.int64]
    message: NDArray[np.int64]
    side: NDArray[np.int64]
    rank: NDArray[np.int64]
    old_size: NDArray[np.int64]
    new_size: NDArray[np.int64]
    kind: NDArray[np.int8]
    since: NDArray[np.int64]


@kernel
def settle_told(number, changes, index, support):
    """End the disputes and removals of the levels that a message sets."""
    for position in range(changes.offsets[index], changes.offsets[index + 1]):
        rank = changes.ranks[position]
        end_dispute(support, number, rank)
        unmark(support.removed[number], support.counts, REMOVED, rank)


@kernel
def end_dispute(support, number, rank):
    """Forget that vendor books have contradicted a level."""
    unmark(support.disputed[number], support.counts, DISPUTED, rank)
    unmark(support.disputed_twice[number], support.counts, DISPUTED_TWICE, rank)


@kernel
def known_limit(support, number):
    """Return the lowest rank at which a side is known and not disputed."""
    known_from = support.known_from[number]
    if support.counts[DISPUTED] == 0:
        return known_from
    words = support.disputed[number]
    disputed = highest_at_or_below(words, len(words) * 64 - 1)
    return known_from if disputed < 0 else max(known_from, disputed + 1)


@kernel
def correct(corrections, span, side, rank, old_size, new_size, kind):
    """Record a correction; `span` holds the indices of the fields `message` and `since`."""
    count = corrections.recorded[0]
    if count < len(corrections.message):
        corrections.message[count], corrections.since[count] = span
        corrections.side[count], corrections.rank[count] = side, rank
        corrections.old_size[count], corrections.new_size[count] = old_size, new_size
        corrections.kind[count] = kind
        corrections.recorded[0] += 1


@kernel
def forget(support, n_ranks):
    """End everything that is known of the book, at a missing stretch or a new recording session."""
    fields = support.fields
    fields[CROSSED_SINCE] = fields[WARM_SINCE] = -1
    fields[UNSETTLED] = 0
    support.known_from[:] = n_ranks
    support.disputed[:] = np.uint64(0)
    support.disputed_twice[:] = np.uint64(0)
    support.removed[:] = np.uint64(0)
    support.counts[:] = 0


@kernel
def is_marked(words, rank):
    """Return whether the bit of a rank is set in a bitmap."""
    return words[rank >> 6] >> np.uint64(rank & 63) & np.uint64(1) != 0


@kernel
def mark(words, counts, which, rank):
    """Set the bit of a rank in a bitmap of levels, and count it in ``counts[which]``."""
    if not is_marked(words, rank):
        words[rank >> 6] |= np.uint64(1) << np.uint64(rank & 63)
        counts[which] += 1


@kernel
def unmark(words, counts, which, rank):
    """Clear the bit of a rank in a bitmap of levels, and count it in ``counts[which]``."""
    if is_marked(words, rank):
        words[rank >> 6] &= ~(np.uint64(1) << np.uint64(rank & 63))
        counts[which] -= 1


@kernel
def forget_marks(words, counts, which):
    """Clear all bits of a bitmap of levels, and count them in ``counts[which]``."""
    rank = highest_at_or_below(words, len(words) * 64 - 1)
    while rank >= 0:
        unmark(words, counts, which, rank)
        rank = highest_at_or_below(words, rank - 1)
