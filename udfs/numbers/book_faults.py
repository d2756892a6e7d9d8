"""Faults that show in the levels of a single book: it cannot be a book of the exchange."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.encoding import words

EMPTY_SIDE, NOT_POSITIVE, NOT_SORTED, CROSSED, LOCKED = BOOK_FAULTS = (
    "one side is empty",
    "a price or size is not positive",
    "levels are not sorted",
    "crossed",
    "locked",
)
"""Names of the faults. Crossed: the best bid is above the best ask. Locked: the two prices are equal."""


def find_book_faults(books: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Return which of n books have each fault.

    Parameters
    ----------
    books : pyarrow.Table
        n rows with the list columns `bid_prices`, `bid_sizes`, `ask_prices` and `ask_sizes`, as int64 or
        decimal128(38, 18), best level first.

    Returns
    -------
    dict of str to bool[n]
        For each of `BOOK_FAULTS`, True for the books that have it.
    """
    faults = {name: np.zeros(books.num_rows, dtype=np.bool_) for name in BOOK_FAULTS}
    if not books.num_rows:
        return faults
    sides = {name: books[name].combine_chunks() for name in SIDE_NAMES}
    for name, lists in sides.items():
        starts = lists.offsets.to_numpy().astype(np.int64)
        numbers = words(lists.values)
        mark_not_positive(numbers, starts, faults[NOT_POSITIVE])
        if name.endswith("prices"):
            faults[EMPTY_SIDE] |= np.diff(starts) == 0
            mark_not_monotone(numbers, starts, name.startswith("bid"), faults[NOT_SORTED])
    rows = np.flatnonzero(~faults[EMPTY_SIDE])
    bids, asks = (sides[name].take(pa.array(rows)) for name in ("bid_prices", "ask_prices"))
    bids, asks = pc.list_element(bids, 0), pc.list_element(asks, 0)
    faults[CROSSED][rows] = pc.greater(bids, asks).to_numpy(zero_copy_only=False)
    faults[LOCKED][rows] = pc.equal(bids, asks).to_numpy(zero_copy_only=False)
    return faults


@kernel
def mark_not_positive(numbers, starts, marks):
    """Set `marks` to True for each list with a number of zero or less; cost: one comparison per number.

    Parameters
    ----------
    numbers : int64[n, words]
        Numbers of all lists, as `encoding.words` returns them.
    starts : int64[rows + 1]
        Index of each list's first number, then the number of all numbers.
    marks : bool[rows]
        One value per list; True is set in place, other values stay unchanged.
    """
    for row in range(len(marks)):
        for index in range(starts[row], starts[row + 1]):
            upper = numbers[index, numbers.shape[1] - 1]
            is_zero = upper == 0 and numbers[index, 0] == 0
            marks[row] |= upper < 0 or is_zero


@kernel
def mark_not_monotone(numbers, starts, descends, marks):
    """Set `marks` to True for each list that is not strictly monotone; cost: one comparison per number.

    Parameters
    ----------
    numbers : int64[n, words]
        Numbers of all lists, as `encoding.words` returns them.
    starts : int64[rows + 1]
        Index of each list's first number, then the number of all numbers.
    descends : bool
        True: each number must be below the number before it. False: each number must be above it.
    marks : bool[rows]
        One value per list; True is set in place, other values stay unchanged.
    """
    last = numbers.shape[1] - 1
    for row in range(len(marks)):
        for index in range(starts[row] + 1, starts[row + 1]):
            low, high = (index, index - 1) if descends else (index - 1, index)
            is_less = numbers[low, last] < numbers[high, last]
            if last and numbers[low, last] == numbers[high, last]:
                is_less = np.uint64(numbers[low, 0]) < np.uint64(numbers[high, 0])
            marks[row] |= not is_less
