"""Order flow imbalance, level by level, between one row of books and the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.numba_kernel import kernel


@dataclass(frozen=True)
class Top:
    """The best levels of n books, one after another.

    Attributes
    ----------
    offsets : (int64[n + 1], int64[n + 1])
        Bounds of each book's bids and asks.
    prices : (int64[:], int64[:])
        Best first, scaled or codes: they are only compared.
    sizes : (array, array)
        At those prices, as numbers that can be added: int64, or Python's integers.
    """

    offsets: tuple[NDArray[np.int64], NDArray[np.int64]]
    prices: tuple[NDArray[np.int64], NDArray[np.int64]]
    sizes: tuple[NDArray[Any], NDArray[Any]]

    def last(self) -> Top:
        """Return the last book alone."""
        parts = [slice(offsets[-2], offsets[-1]) for offsets in self.offsets]
        prices, sizes = (
            tuple(values[part] for values, part in zip(sides, parts, strict=True))
            for sides in (self.prices, self.sizes)
        )
        return top_of(prices, sizes)


def top_of(prices: Any, sizes: Any) -> Top:
    """Return one book: prices and sizes of its bids and of its asks, best first."""
    return Top(tuple(np.array([0, len(side)]) for side in prices), prices, sizes)  # type: ignore[arg-type]


def order_flow(before: Top, books: Top, replaced: NDArray[np.bool_], levels: int) -> NDArray[Any]:
    """Return the order flow imbalance of each book against the one before it.

    At level m, with best price P and size q of each side there, before (') and now:

    ``e = [Pb >= Pb'] qb - [Pb <= Pb'] qb' - [Pa <= Pa'] qa + [Pa >= Pa'] qa'``

    A level that is not there counts as one behind all others, of size 0.

    Parameters
    ----------
    before : Top
        The one book before the first.
    books : Top
        n books.
    replaced : bool[n]
        Whether a snapshot has replaced the book: what differs then is no flow, and all levels are 0.
    levels : int
        Levels whose flow is told.

    Returns
    -------
    array[n, levels]
        In units of size, positive where buyers came or sellers left; of the dtype of `sizes`.

    References
    ----------
    Cont, Kukanov and Stoikov (2014), The Price Impact of Order Book Events, Journal of Financial
    Econometrics 12(1); by level: Xu, Gould and Howison (2018), Multi-Level Order-Flow Imbalance in a
    Limit Order Book.
    """
    count = len(replaced)
    flow = np.zeros((count, levels), dtype=books.sizes[0].dtype)
    # Numbers that no int64 holds are added by Python.
    add = getattr(_add_flow, "py_func", _add_flow) if flow.dtype == object else _add_flow
    for side, sign in ((0, 1), (1, -1)):
        add(
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
    """Add one side's flow; `sign` is 1 for bids, whose higher price is the better, -1 for asks."""
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
                old = prices[start_before + level] if row else prices_before[level]
                step = sign * (prices[start + level] - old)
            if is_there and (not was_there or step >= 0):
                flow[row, level] += sign * sizes[start + level]
            if was_there and (not is_there or step <= 0):
                gone = sizes[start_before + level] if row else sizes_before[level]
                flow[row, level] -= sign * gone
            if not is_there and not was_there:
                break
