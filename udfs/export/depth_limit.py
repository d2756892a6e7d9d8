"""Levels that a venue drops without a word, since it keeps no more: they become deletions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.book import Side

NOTHING, CHANGES, WHOLE, CLEAR = range(4)
"""What of a message becomes events: none of it, its changes, the whole book, or that there is none."""


class Kept:
    """One side's prices as far as they are shown.

    Parameters
    ----------
    sign : int
        1 of asks, -1 of bids: the best price times it is the least.
    """

    def __init__(self, sign: int):
        self.sign = sign
        self.prices: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def told(self, side: Side, kept: NDArray[np.int64], kinds: NDArray[np.int64]) -> Side:
        """Return the changes of n messages, each with the deletion of what it pushes out.

        Parameters
        ----------
        side : Side
            Their levels.
        kept : int64[n]
            Levels that are left after each; -1: all.
        kinds : int64[n]
            What of each is shown.
        """
        most = len(self.prices) + len(side.prices)
        held = np.empty(most + 1, dtype=np.int64)
        held[: len(self.prices)] = self.prices
        starts = np.zeros(len(side.offsets), dtype=np.int64)
        prices, sizes = (np.empty(most + len(side.prices), dtype=np.int64) for _ in range(2))
        count = push_out(
            *(side.offsets, side.prices, side.sizes, kept, kinds, self.sign),
            *(held, len(self.prices), starts, prices, sizes),
        )
        self.prices = held[:count].copy()
        return Side(starts, prices[: starts[-1]], sizes[: starts[-1]])


@kernel
def push_out(offsets, prices, sizes, kept, kinds, sign, held, count, told_starts, told_prices, told_sizes):
    """Apply messages to one side; cost: a binary search and a shift of the levels behind it a change.

    Parameters
    ----------
    offsets : int64[n + 1]
        Where each message's levels begin.
    prices, sizes : int64[:]
        Of all messages; a size of 0 deletes.
    kept, kinds : int64[n]
        As of `Kept.told`.
    sign : int
        1 of asks, -1 of bids.
    held : int64[:]
        Prices shown, times `sign`, ascending; has room for all.
    count : int
        How many those are before.
    told_starts : int64[n + 1]
        Filled: where each message's changes begin; the first is 0.
    told_prices, told_sizes : int64[:]
        Filled with the changes; must have room.

    Returns
    -------
    int
        How many prices are shown after.
    """
    told = 0
    for row in range(len(kinds)):
        kind = kinds[row]
        if kind in (WHOLE, CLEAR):
            count = 0
        if kind in (CHANGES, WHOLE):
            for place in range(offsets[row], offsets[row + 1]):
                told_prices[told], told_sizes[told] = prices[place], sizes[place]
                told += 1
                key = sign * prices[place]
                at = np.searchsorted(held[:count], key)
                known = at < count and held[at] == key
                if sizes[place] == 0 and known:
                    for later in range(at, count - 1):
                        held[later] = held[later + 1]
                    count -= 1
                elif sizes[place] != 0 and not known:
                    for later in range(count, at, -1):
                        held[later] = held[later - 1]
                    held[at] = key
                    count += 1
            while kept[row] >= 0 and count > kept[row]:
                count -= 1
                told_prices[told], told_sizes[told] = sign * held[count], 0
                told += 1
        told_starts[row + 1] = told
    return count
