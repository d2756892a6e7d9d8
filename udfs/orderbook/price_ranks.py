"""Ranks prices: the rank of a price is its index among the sorted distinct prices of a book and a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.bitmaps import count_set_bits

MOST_TICKS = 1 << 27
"""Widest price range, in ticks, that is ranked with a bitmap (16 MiB). A wider range is ranked by sorting."""


@dataclass(frozen=True)
class PriceRanks:
    """Distinct prices and the mapping from price to rank.

    Attributes
    ----------
    prices : int64[n]
        Distinct prices, ascending, scaled or codes. A price's index is its rank.
    lowest : int
        The price of bit 0 of the bitmap.
    tick : int
        Price step from one bit to the next; 0 if ranks are found by binary search instead.
    words : uint64[:]
        Bitmap: bit t is set if the price ``lowest + t * tick`` occurs.
    bits_before : int64[:]
        Number of set bits before each word.
    """

    prices: NDArray[np.int64]
    lowest: int
    tick: int
    words: NDArray[np.uint64]
    bits_before: NDArray[np.int64]

    def find(self, prices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rank of each price, int64[:]; every price must be one of `self.prices`."""
        if self.tick == 0:
            return np.searchsorted(self.prices, prices)
        ranks = np.empty(len(prices), dtype=np.int64)
        _look_up_ranks(prices, self.lowest, 1.0 / self.tick, self.words, self.bits_before, ranks)
        return ranks


def rank_prices(parts: list[NDArray[np.int64]], tick: int) -> PriceRanks:
    """Rank the distinct prices of several arrays.

    Cost: one pass over the prices and one over the bitmap. If the price range is too wide for a bitmap, the
    prices are sorted instead.

    Parameters
    ----------
    parts : list of int64[:]
        Prices, scaled or codes, in any order.
    tick : int
        The price step to try first; 0 if no step is known. If the difference of some price from the lowest
        price is not a multiple of this step, a finer step is used.

    Returns
    -------
    PriceRanks
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return PriceRanks(np.empty(0, np.int64), 0, tick, np.zeros(1, np.uint64), np.zeros(1, np.int64))
    lowest = min(int(part.min()) for part in parts)
    span = max(int(part.max()) for part in parts) - lowest
    while True:
        if tick:
            if span // tick >= MOST_TICKS:
                break
            words = np.zeros(span // tick // 64 + 1, dtype=np.uint64)
            if all(_mark_prices(part, lowest, tick, 1.0 / tick, words) for part in parts):
                bits_before = np.empty(len(words), dtype=np.int64)
                prices = np.empty(_count_bits_before(words, bits_before), dtype=np.int64)
                _list_prices(words, lowest, tick, prices)
                return PriceRanks(prices, lowest, tick, words, bits_before)
        for part in parts:
            tick = int(np.gcd.reduce(part - lowest, initial=tick))
        tick = tick or 1
    distinct = np.unique(np.concatenate(parts))
    return PriceRanks(distinct, lowest, 0, np.zeros(1, np.uint64), np.zeros(1, np.int64))


@kernel
def _mark_prices(prices, lowest, tick, inverse_tick, words):
    """Set the bit of each price; return False at the first price that is off the grid of the tick."""
    for price in prices:
        # A multiplication instead of a division: exact after rounding, as there are fewer than 2^52 ticks.
        bit = np.int64((price - lowest) * inverse_tick + 0.5)
        if lowest + bit * tick != price:
            return False
        words[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
    return True


@kernel
def _count_bits_before(words, bits_before):
    """Fill `bits_before` with the number of set bits before each word; return the number of all set bits."""
    total = 0
    for index in range(len(words)):
        bits_before[index] = total
        total += count_set_bits(words[index])
    return total


@kernel
def _list_prices(words, lowest, tick, prices):
    """Fill `prices` with the price of each set bit, ascending."""
    rank = 0
    for index in range(len(words)):
        word = words[index]
        bit = np.int64(index) * 64
        while word != np.uint64(0):
            if word & np.uint64(1):
                prices[rank] = lowest + bit * tick
                rank += 1
            word >>= np.uint64(1)
            bit += 1


@kernel
def _look_up_ranks(prices, lowest, inverse_tick, words, bits_before, ranks):
    """Fill `ranks` with the rank of each price: the number of set bits below the bit of the price."""
    for index in range(len(prices)):
        bit = np.int64((prices[index] - lowest) * inverse_tick + 0.5)
        bits_below = (np.uint64(1) << np.uint64(bit & 63)) - np.uint64(1)
        ranks[index] = bits_before[bit >> 6] + count_set_bits(words[bit >> 6] & bits_below)
