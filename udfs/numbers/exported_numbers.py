"""Prices and sizes on their way out of a warehouse: exact decimals, or the doubles nearest to them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import DECIMAL
from deltabook.udfs.numba_kernel import kernel

_INT64_DIGITS = 19
_EXACT_IN_DOUBLES = 2**53
_HALF = pa.scalar(Decimal("0.5"), pa.decimal128(1, 1))
_SUMMED = pa.decimal128(35, 18)
"""Prices of which half a sum is exact in 38 digits."""


def type_of(scales: list[int], is_decimal: bool) -> pa.DataType:
    """Return one type for numbers of several scales.

    Parameters
    ----------
    scales : list of int
        Decimal digits of int64 numbers.
    is_decimal : bool
        Whether there are numbers of DECIMAL(38,18) among them.
    """
    if is_decimal:
        return DECIMAL
    return pa.decimal128(_INT64_DIGITS - min(scales) + max(scales), max(scales))


def decimals(numbers: pa.Array, scale: int, kind: pa.DataType) -> pa.Array:
    """Return numbers as exact decimals.

    Parameters
    ----------
    numbers : pyarrow.Array
        int64 at a scale, or DECIMAL(38,18); may hold nulls.
    scale : int
        Decimal digits of an int64.
    kind : pyarrow.DataType
        A decimal that holds them.
    """
    if not pa.types.is_int64(numbers.type):
        return numbers.cast(kind)
    given = numbers.fill_null(0).to_numpy(zero_copy_only=False)
    words = np.empty((len(given), 2), dtype=np.int64)
    words[:, 0], words[:, 1] = given, given >> 63
    exact = pa.decimal128(_INT64_DIGITS, scale)
    found = pa.Array.from_buffers(exact, len(given), [None, pa.py_buffer(words)])
    if numbers.null_count:
        found = pc.if_else(numbers.is_valid(), found, pa.scalar(None, exact))
    return found.cast(kind)


def doubles(numbers: pa.Array, scale: int) -> NDArray[np.float64]:
    """Return for each number the double nearest to it, which prints as it does up to 15 digits.

    Parameters
    ----------
    numbers : pyarrow.Array
        int64 at a scale, or DECIMAL(38,18); nulls become NaN.
    scale : int
        Decimal digits of an int64.
    """
    if not pa.types.is_int64(numbers.type):
        exact = (np.nan if value is None else float(value) for value in numbers.to_pylist())
        return np.fromiter(exact, np.float64, len(numbers))
    scaled = numbers.fill_null(0).to_numpy(zero_copy_only=False)
    # Both are exact in a double, so that their quotient is rounded once.
    found: NDArray[np.float64] = scaled / 10.0**scale
    for place in np.flatnonzero(np.abs(scaled) > _EXACT_IN_DOUBLES).tolist():
        found[place] = float(Decimal(int(scaled[place])).scaleb(-scale))
    if numbers.null_count:
        found[numbers.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return found


def bounds(lists: pa.Array) -> NDArray[np.int64]:
    """Return where each list begins in `lists.flatten()`, and where the last ends."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0] if len(offsets) else np.zeros(1, np.int64)


def listed(starts: NDArray[np.int64], values: pa.Array) -> pa.Array:
    """Return lists of values.

    Parameters
    ----------
    starts : int64[n + 1]
        As `bounds` returns them.
    values : pyarrow.Array
        Of all lists.
    """
    return pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), values)


def firsts(lists: pa.Array) -> pa.Array:
    """Return the first value of each list; null if it is empty."""
    starts = bounds(lists)
    place = pa.array(starts[:-1], mask=starts[1:] == starts[:-1])
    return lists.flatten().take(place)


def level_by_level(one: pa.Array, other: pa.Array) -> tuple[NDArray[np.int64], pa.Array, pa.Array]:
    """Pair the levels of both sides.

    Parameters
    ----------
    one, other : pyarrow.Array
        Lists of prices.

    Returns
    -------
    (int64[n + 1], pyarrow.Array, pyarrow.Array)
        Where each row's pairs begin, and the values of either side: as many as both have.
    """
    starts = bounds(one), bounds(other)
    shared = np.minimum(*map(np.diff, starts))
    of_pairs = np.concatenate(([0], np.cumsum(shared)))
    inside = np.arange(of_pairs[-1]) - np.repeat(of_pairs[:-1], shared)
    places = (pa.array(np.repeat(of_side[:-1], shared) + inside) for of_side in starts)
    left, right = (side.flatten().take(place) for side, place in zip((one, other), places, strict=True))
    return of_pairs, left, right


def grid(values: NDArray[Any], starts: NDArray[np.int64], levels: int, nothing: Any) -> NDArray[Any]:
    """Lay lists out as a table with one column a level.

    Parameters
    ----------
    values : array[:]
        Of all lists.
    starts : int64[n + 1]
        As `bounds` returns them.
    levels : int
        How many of each list at most.
    nothing : scalar
        What stands where a list has ended.

    Returns
    -------
    array[levels, n]
        A level's values lie side by side.
    """
    counts = np.diff(starts)
    if len(counts) and (counts == levels).all():
        return np.ascontiguousarray(values.reshape(-1, levels).T)
    shown = np.minimum(counts, levels)
    rows = np.repeat(np.arange(len(counts)), shown)
    level = np.arange(len(rows)) - np.repeat(np.cumsum(shown) - shown, shown)
    laid = np.full((levels, len(counts)), nothing, dtype=values.dtype)
    laid[level, rows] = values[starts[rows] + level]
    return laid


def difference(more: pa.Array, less: pa.Array) -> pa.Array:
    """Subtract decimals; null where one is, or where prices are too long for half their sum."""
    if more.type == DECIMAL:
        return pc.subtract(_summed(more), _summed(less)).cast(DECIMAL)
    return pc.subtract(more, less)


def half_sum(one: pa.Array, other: pa.Array) -> pa.Array:
    """Return half the sum of decimals, exactly: with a digit more; null as of `difference`."""
    if one.type == DECIMAL:
        one, other = _summed(one), _summed(other)
    return pc.multiply(pc.add(one, other), _HALF)


def _summed(numbers: pa.Array) -> pa.Array:
    fits = pc.less(numbers, pa.scalar(Decimal(10) ** (_SUMMED.precision - _SUMMED.scale), DECIMAL))
    return pc.if_else(fits, numbers, pa.scalar(None, DECIMAL)).cast(_SUMMED)


def totals(values: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum each list, first to last, as SQL does: the same bits.

    Parameters
    ----------
    values : float64[:]
        Of all lists.
    starts : int64[n + 1]
        As `bounds` returns them.
    """
    found = np.zeros(len(starts) - 1)
    add_up(values, starts, found)
    return found


@kernel
def add_up(values, starts, found):
    """Sum lists; cost: an addition a value.

    Parameters
    ----------
    values : float64[:]
        Of all lists.
    starts : int64[n + 1]
        Where each begins.
    found : float64[n]
        Their sums; zeros before.
    """
    for row in range(len(found)):
        for place in range(starts[row], starts[row + 1]):
            found[row] += values[place]
