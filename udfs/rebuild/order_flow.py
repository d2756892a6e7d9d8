"""Computes order flow imbalance by level, and traded volume, from one row of `books` to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numba_kernel import kernel

Amounts = NDArray[np.int64 | np.object_]
"""Numbers that can be added: int64, or Python integers where sums may exceed int64 (dtype object)."""
SideArrays = tuple[NDArray[np.int64], NDArray[np.int64]]
"""One array for bids, one for asks."""
SideAmounts = tuple[Amounts, Amounts]
"""Amounts of bids, amounts of asks."""


@dataclass(frozen=True)
class TopLevels:
    """The top levels of n books, concatenated.

    Attributes
    ----------
    offsets : (int64[n + 1], int64[n + 1])
        Bounds of each book's bids and asks.
    prices : (int64[:], int64[:])
        Bid and ask prices, best first, scaled or codes. Prices are only compared, never added.
    sizes : (array, array)
        Sizes at those prices, as numbers that can be added: int64, or Python integers.
    """

    offsets: SideArrays
    prices: SideArrays
    sizes: SideAmounts

    def last(self) -> TopLevels:
        """Return the top levels of the last book alone."""
        bids, asks = (slice(offsets[-2], offsets[-1]) for offsets in self.offsets)
        return make_top_levels(
            (self.prices[0][bids], self.prices[1][asks]), (self.sizes[0][bids], self.sizes[1][asks])
        )


def make_top_levels(prices: SideArrays, sizes: SideAmounts) -> TopLevels:
    """Return the top levels of a single book.

    Parameters
    ----------
    prices, sizes : (array, array)
        Bids and asks, best first; see `TopLevels`.
    """
    offsets = np.array([0, len(prices[0])]), np.array([0, len(prices[1])])
    return TopLevels(offsets, prices, sizes)


def compute_order_flow(
    before: TopLevels, books: TopLevels, replaced: NDArray[np.bool_], levels: int
) -> Amounts:
    """Return the order flow imbalance of each book relative to the book before it.

    At each level, Pb and qb are the price and the size of the bid, Pa and qa the price and the size of the
    ask. A prime (') marks the values of the previous book. A bracket is 1 if its condition is true, otherwise
    0. The imbalance is:

    ``e = [Pb >= Pb'] qb - [Pb <= Pb'] qb' - [Pa <= Pa'] qa + [Pa >= Pa'] qa'``

    A level that does not exist counts as a level of size 0 with a price worse than all others.

    Parameters
    ----------
    before : TopLevels
        The single book before the first of the n books.
    books : TopLevels
        n books.
    replaced : bool[n]
        True if a snapshot has replaced the book. The difference from the previous book is then not order
        flow, so the result is 0 at all levels.
    levels : int
        Number of levels to compute.

    Returns
    -------
    array[n, levels]
        Imbalance in units of size, with the dtype of `books.sizes`. The imbalance is positive if buyers
        arrived or sellers left.

    References
    ----------
    Cont, Kukanov and Stoikov (2014), The Price Impact of Order Book Events, Journal of Financial
    Econometrics 12(1); by level: Xu, Gould and Howison (2018), Multi-Level Order-Flow Imbalance in a
    Limit Order Book.
    """
    flow = np.zeros((len(replaced), levels), dtype=books.sizes[0].dtype)
    # Python integers (dtype object) may exceed int64: add them with the uncompiled function.
    add_flow = getattr(_add_flow, "py_func", _add_flow) if flow.dtype == object else _add_flow
    for side, sign in ((0, 1), (1, -1)):
        add_flow(
            sign,
            before.prices[side],
            before.sizes[side],
            books.offsets[side],
            books.prices[side],
            books.sizes[side],
            replaced,
            flow,
        )
    return flow


@kernel
def _add_flow(sign, prices_before, sizes_before, offsets, prices, sizes, replaced, flow):
    """Add the order flow of one side to `flow`; cost: a comparison and two additions per level.

    Parameters
    ----------
    sign : int
        1 for bids, where a higher price is better; -1 for asks.
    prices_before, sizes_before : array[:]
        Levels of the single book before the first of the n books, best first.
    offsets : int64[n + 1]
        Bounds of each book's levels.
    prices, sizes : array[:]
        Levels of all books, best first.
    replaced : bool[n]
        True if a snapshot has replaced the book.
    flow : array[n, levels]
        Changed in place.
    """
    for row in range(len(replaced)):
        if replaced[row]:
            continue
        start, count = offsets[row], offsets[row + 1] - offsets[row]
        start_before = offsets[row - 1] if row else 0
        count_before = offsets[row] - start_before if row else len(prices_before)
        for level in range(flow.shape[1]):
            is_there, was_there = level < count, level < count_before
            step = 0
            if is_there and was_there:
                old_price = prices[start_before + level] if row else prices_before[level]
                step = sign * (prices[start + level] - old_price)
            if is_there and (not was_there or step >= 0):
                flow[row, level] += sign * sizes[start + level]
            if was_there and (not is_there or step <= 0):
                old_size = sizes[start_before + level] if row else sizes_before[level]
                flow[row, level] -= sign * old_size
            if not is_there and not was_there:
                break


class TradeFlow:
    """Sums the trades from one row of `books` to the next.

    Parameters
    ----------
    last_id : int
        Id of the last trade so far; -1 if there was no trade yet.
    totals : (int, int, int)
        Sums since the last row of `books`: number of trades, volume of trades with aggressor side buy, and
        volume of trades with aggressor side sell.
    has_ids : bool
        True if each trade id is the previous id plus one. Missing and repeated trades are then detected.
    """

    def __init__(self, last_id: int, totals: tuple[int, int, int], has_ids: bool):
        self.last_id = last_id
        self.totals = np.array(totals)
        self.has_ids = has_ids

    def find_id_gaps(self, ids: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Return (index, expected id) of each trade before which trade ids are missing.

        Parameters
        ----------
        ids : int64[t]
            Ids of the next trades, in the feed's order.
        """
        ids_before = self._ids_before(ids)
        has_gap = (ids > ids_before + 1) & (ids_before != NOT_GIVEN) & self.has_ids
        return [(index, int(ids_before[index]) + 1) for index in np.flatnonzero(has_gap).tolist()]

    def sum_between_rows(
        self,
        n_events: int,
        trades: NDArray[np.int64],
        ids: NDArray[np.int64],
        sides: pa.Array,
        amounts: Amounts,
        row_events: NDArray[np.int64],
    ) -> Amounts:
        """Return the sums of the trades between the rows of a batch.

        The sums of the trades after the last row are kept for the next batch.

        Parameters
        ----------
        n_events : int
            Number of events of the batch.
        trades : int64[t]
            Index of each trade among the events.
        ids : int64[t]
            Ids of the trades.
        sides : pyarrow.Array of string
            Aggressor side of each trade, "buy" or "sell".
        amounts : array[t]
            Size of each trade, as numbers that can be added: int64, or Python integers.
        row_events : int64[r]
            Index of the event after which each row of `books` was made.

        Returns
        -------
        array[r, 3]
            For each row: number of trades, volume bought by aggressors, and volume sold by aggressors, since
            the previous row. The dtype is that of `amounts`.
        """
        is_new = (ids != self._ids_before(ids)) | (not self.has_ids)
        if len(ids):
            self.last_id = int(ids[-1])
        trades, amounts = trades[is_new], amounts[is_new]
        sides = sides.filter(pa.array(is_new))
        flow = np.zeros((n_events + 1, 3), dtype=amounts.dtype)
        for column, side in ((1, "buy"), (2, "sell")):
            is_side = pc.equal(sides, side).to_numpy(zero_copy_only=False)
            flow[trades[is_side] + 1, column] = amounts[is_side]
            flow[trades[is_side] + 1, 0] = 1
        # Differences of running sums stay exact even if the sums wrap around int64.
        running = self.totals + np.cumsum(flow, axis=0)
        bounds = np.concatenate(([0], row_events + 1))
        between: Amounts = np.diff(running[bounds], axis=0)
        if len(between):
            between[0] += self.totals
            self.totals = running[-1] - running[bounds[-1]]
        else:
            self.totals = running[-1]
        return between

    def _ids_before(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return, for each trade, the id of the previous trade."""
        return np.concatenate(([self.last_id], ids[:-1])) if len(ids) else ids
