"""Prices to ranks: the distinct prices of a batch and a book, sorted, and each price's place among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.bitmaps import count_ones

MOST_TICKS = 1 << 27
"""A wider price range, in ticks, is ranked by sorting instead of a bitmap (16 MiB)."""


@dataclass(frozen=True)
class Ladder:
    """Distinct prices and a way from price to rank.

    Attributes
    ----------
    prices : int64[n]
        Distinct, ascending, scaled. A price's index is its rank.
    lowest, tick : int
        The grid that the bitmap stands on; a tick of 0 means that ranks come from a search.
    words : uint64[:]
        Bit t of the bitmap is set if the price ``lowest + t * tick`` is there.
    before : int64[:]
        Set bits before each word.
    """

    prices: NDArray[np.int64]
    lowest: int
    tick: int
    words: NDArray[np.uint64]
    before: NDArray[np.int64]

    def ranks(self, prices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rank of each price; every price must be one of the ladder's."""
        if self.tick == 0:
            return np.searchsorted(self.prices, prices)
        ranks = np.empty(len(prices), dtype=np.int64)
        _rank(prices, self.lowest, 1.0 / self.tick, self.words, self.before, ranks)
        return ranks


def build_ladder(parts: list[NDArray[np.int64]], tick: int) -> Ladder:
    """Collect the distinct prices of several arrays.

    Parameters
    ----------
    parts : list of int64[:]
        Prices, scaled, in any order.
    tick : int
        The tick to try first, 0 if none is known; a finer one is found if a price is off its grid.

    Returns
    -------
    Ladder
        Cost: one pass to set bits, one over the bitmap; sorting only where the range is too wide.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return Ladder(np.empty(0, np.int64), 0, tick, np.zeros(1, np.uint64), np.zeros(1, np.int64))
    lowest = min(int(part.min()) for part in parts)
    span = max(int(part.max()) for part in parts) - lowest
    while True:
        if tick:
            if span // tick >= MOST_TICKS:
                break
            words = np.zeros(span // tick // 64 + 1, dtype=np.uint64)
            if all(_mark(part, lowest, tick, 1.0 / tick, words) for part in parts):
                before = np.empty(len(words), dtype=np.int64)
                prices = np.empty(_count(words, before), dtype=np.int64)
                _list(words, lowest, tick, prices)
                return Ladder(prices, lowest, tick, words, before)
        for part in parts:
            tick = int(np.gcd.reduce(part - lowest, initial=tick))
        tick = tick or 1
    return Ladder(np.unique(np.concatenate(parts)), lowest, 0, np.zeros(1, np.uint64), np.zeros(1, np.int64))


@kernel
def _mark(prices, lowest, tick, inverse, words):
    """Set each price's bit; False at the first price off the grid."""
    for price in prices:
        # A multiplication instead of a division: exact after rounding, as fewer than 2^52 ticks.
        place = np.int64((price - lowest) * inverse + 0.5)
        if lowest + place * tick != price:
            return False
        words[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
    return True


@kernel
def _count(words, before):
    """Fill `before`; return the number of set bits."""
    total = 0
    for index in range(len(words)):
        before[index] = total
        total += count_ones(words[index])
    return total


@kernel
def _list(words, lowest, tick, prices):
    rank = 0
    for index in range(len(words)):
        word = words[index]
        place = np.int64(index) * 64
        while word != np.uint64(0):
            if word & np.uint64(1):
                prices[rank] = lowest + place * tick
                rank += 1
            word >>= np.uint64(1)
            place += 1


@kernel
def _rank(prices, lowest, inverse, words, before, ranks):
    for index in range(len(prices)):
        place = np.int64((prices[index] - lowest) * inverse + 0.5)
        below = (np.uint64(1) << np.uint64(place & 63)) - np.uint64(1)
        ranks[index] = before[place >> 6] + count_ones(words[place >> 6] & below)
