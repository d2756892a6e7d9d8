"""Adds deletions of levels for venues that publish only the best levels of each side.

When better levels push a level out of the published depth, such a venue drops the level without a message. A
program that applies the exported level changes needs a deletion for each dropped level.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.book import SideChanges

NOTHING, CHANGES, WHOLE, CLEAR = range(4)
"""Kinds of updates. The kind of an update decides which rows the export writes.

NOTHING: no rows. CHANGES: the level changes of the update. WHOLE: rows that clear the book, then the whole
book as a snapshot. CLEAR: rows that clear the book.
"""


class ShownPrices:
    """Prices of one side of the book after all rows exported so far.

    Parameters
    ----------
    sign : int
        1 for asks, -1 for bids. The best price has the smallest ``sign * price``.
    """

    def __init__(self, sign: int):
        self.sign = sign
        self.prices: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def limit_depth(
        self, side: SideChanges, level_limits: NDArray[np.int64], kinds: NDArray[np.int64]
    ) -> SideChanges:
        """Return the level changes of n messages, plus a deletion for each level that is pushed out.

        Parameters
        ----------
        side : SideChanges
            Level changes of the messages.
        level_limits : int64[n]
            Number of levels that the venue publishes after each message; -1 for all levels.
        kinds : int64[n]
            Kind of each message: NOTHING, CHANGES, WHOLE or CLEAR.

        Returns
        -------
        SideChanges
            Level changes of the same n messages. The deletions of a message come after the message's own
            changes.
        """
        max_shown = len(self.prices) + len(side.prices)
        shown = np.empty(max_shown + 1, dtype=np.int64)
        shown[: len(self.prices)] = self.prices
        offsets = np.zeros(len(side.offsets), dtype=np.int64)
        prices, sizes = (np.empty(max_shown + len(side.prices), dtype=np.int64) for _ in range(2))
        count = limit_depth(
            *(side.offsets, side.prices, side.sizes, level_limits, kinds, self.sign),
            *(shown, len(self.prices), offsets, prices, sizes),
        )
        self.prices = shown[:count].copy()
        return SideChanges(offsets, prices[: offsets[-1]], sizes[: offsets[-1]])


@kernel
def limit_depth(
    offsets,
    prices,
    sizes,
    level_limits,
    kinds,
    sign,
    shown,
    count,
    out_offsets,
    out_prices,
    out_sizes,
):
    """Apply messages to the prices that one side shows, and add deletions for prices that are pushed out.

    Cost: for each level change, a binary search and a shift of the worse levels.

    Parameters
    ----------
    offsets : int64[n + 1]
        Message i has the level changes ``offsets[i]:offsets[i + 1]``.
    prices, sizes : int64[:]
        Level changes of all messages; a size of 0 deletes the level.
    level_limits, kinds : int64[n]
        See `ShownPrices.limit_depth`.
    sign : int
        1 for asks, -1 for bids.
    shown : int64[:]
        Shown prices times `sign`, ascending; updated in place. The array must have room for all changes.
    count : int
        Number of shown prices before the first message.
    out_offsets : int64[n + 1]
        Written: message i has the changes ``out_offsets[i]:out_offsets[i + 1]`` of the result. The first
        offset must be 0.
    out_prices, out_sizes : int64[:]
        Written: the changes of all messages. The arrays must have room for all changes and deletions.

    Returns
    -------
    int
        Number of shown prices after the last message.
    """
    written = 0
    for message in range(len(kinds)):
        kind = kinds[message]
        if kind in (WHOLE, CLEAR):
            count = 0
        if kind in (CHANGES, WHOLE):
            for change in range(offsets[message], offsets[message + 1]):
                out_prices[written], out_sizes[written] = prices[change], sizes[change]
                written += 1
                key = sign * prices[change]
                rank = np.searchsorted(shown[:count], key)
                is_shown = rank < count and shown[rank] == key
                if sizes[change] == 0 and is_shown:
                    for later in range(rank, count - 1):
                        shown[later] = shown[later + 1]
                    count -= 1
                elif sizes[change] != 0 and not is_shown:
                    for later in range(count, rank, -1):
                        shown[later] = shown[later - 1]
                    shown[rank] = key
                    count += 1
            while level_limits[message] >= 0 and count > level_limits[message]:
                count -= 1
                out_prices[written], out_sizes[written] = sign * shown[count], 0
                written += 1
        out_offsets[message + 1] = written
    return count
