"""The prices of one side of a book at which an absent level is known to be absent.

A snapshot of N levels shows every level from its best to its worst price. A worse level may exist or not: the
book learns of it only when it changes. So a side is *known* from some price to its better end. A level of the
book is known if its price lies in that range, because no better level can be missing then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.orderbook.price_ranks import PriceRanks
from deltabook.udfs.orderbook.ranked_book import BID

WHOLE = -1
"""Rank that stands for the whole side. The number of ranks stands for nothing."""


@dataclass(frozen=True)
class KnownRange:
    """The known range of one side.

    Attributes
    ----------
    is_whole : bool
        True if all prices are known.
    price : int or None
        The worst known price, scaled or a code; None if all prices or none are known.
    """

    is_whole: bool = False
    price: int | None = None

    @property
    def prices(self) -> NDArray[np.int64]:
        """The worst known price as an array of one number; empty if there is none."""
        return np.array([] if self.price is None else [self.price], dtype=np.int64)

    def find_rank(self, ranks: PriceRanks, side: int) -> int:
        """Return the lowest known rank of a side: `WHOLE`, or the number of ranks if nothing is known."""
        if self.is_whole:
            return WHOLE
        if self.price is None:
            return len(ranks.prices)
        return int(find_side_ranks(ranks, side, self.prices)[0])

    @classmethod
    def from_rank(cls, rank: int, ranks: PriceRanks, side: int) -> KnownRange:
        """Return the range that begins at a rank, the inverse of `find_rank`."""
        if rank == WHOLE:
            return cls(is_whole=True)
        if rank == len(ranks.prices):
            return cls()
        return cls(price=int(ranks.prices[rank if side == BID else len(ranks.prices) - 1 - rank]))


NOTHING_KNOWN = KnownRange()


def find_side_ranks(ranks: PriceRanks, side: int, prices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the ranks of prices on a side: asks are ranked in descending order."""
    found = ranks.find(prices)
    return found if side == BID else len(ranks.prices) - 1 - found
