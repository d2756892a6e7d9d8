"""Converts prices and sizes for export to exact decimals or nearest doubles; computes with list columns."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import DECIMAL
from deltabook.udfs.numba_kernel import kernel

_Value = TypeVar("_Value", bound=np.generic)
_INT64_DIGITS = 19
_EXACT_IN_DOUBLES = 2**53
_HALF = pa.scalar(Decimal("0.5"), pa.decimal128(1, 1))
_SUMMED = pa.decimal128(35, 18)
"""Type to which decimals are cast before they are added; half the sum of two such numbers fits 38 digits."""


def type_of(scales: list[int], is_decimal: bool) -> pa.DataType:
    """Return a decimal type that can hold every number at every one of the given scales.

    Parameters
    ----------
    scales : list of int
        Scales of the int64 numbers.
    is_decimal : bool
        Whether some of the numbers are DECIMAL(38,18).
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
        Scale of int64 numbers; not used for decimals.
    kind : pyarrow.DataType
        A decimal type that fits all numbers.
    """
    if not pa.types.is_int64(numbers.type):
        return numbers.cast(kind)
    given = numbers.fill_null(0).to_numpy(zero_copy_only=False)
    words = np.empty((len(given), 2), dtype=np.int64)
    words[:, 0], words[:, 1] = given, given >> 63
    exact = pa.decimal128(_INT64_DIGITS, scale)
    converted = pa.Array.from_buffers(exact, len(given), [None, pa.py_buffer(words)])
    if numbers.null_count:
        converted = pc.if_else(numbers.is_valid(), converted, pa.scalar(None, exact))
    return converted.cast(kind)


def doubles(numbers: pa.Array, scale: int) -> NDArray[np.float64]:
    """Return the double nearest to each number, float64[n].

    If a number has at most 15 digits, its nearest double is printed with exactly these digits.

    Parameters
    ----------
    numbers : pyarrow.Array
        int64 at a scale, or DECIMAL(38,18); nulls become NaN.
    scale : int
        Scale of int64 numbers; not used for decimals.
    """
    if not pa.types.is_int64(numbers.type):
        exact = (np.nan if value is None else float(value) for value in numbers.to_pylist())
        return np.fromiter(exact, np.float64, len(numbers))
    scaled = numbers.fill_null(0).to_numpy(zero_copy_only=False)
    # Up to 2**53, both operands are exact doubles. So the quotient is rounded only once.
    nearest: NDArray[np.float64] = scaled / 10.0**scale
    for index in np.flatnonzero(np.abs(scaled) > _EXACT_IN_DOUBLES).tolist():
        nearest[index] = float(Decimal(int(scaled[index])).scaleb(-scale))
    if numbers.null_count:
        nearest[numbers.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return nearest


def bounds(lists: pa.Array) -> NDArray[np.int64]:
    """Return the bounds of n lists, int64[n + 1]: list i is ``lists.flatten()[bounds[i]:bounds[i + 1]]``."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0] if len(offsets) else np.zeros(1, np.int64)


def listed(starts: NDArray[np.int64], values: pa.Array) -> pa.Array:
    """Return a column of lists, made from the bounds of the lists and their values.

    Parameters
    ----------
    starts : int64[n + 1]
        Bounds of the lists, as `bounds` returns them.
    values : pyarrow.Array
        Values of all lists, concatenated.
    """
    return pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), values)


def firsts(lists: pa.Array) -> pa.Array:
    """Return the first value of each list; null for an empty list."""
    starts = bounds(lists)
    indices = pa.array(starts[:-1], mask=starts[1:] == starts[:-1])
    return lists.flatten().take(indices)


def pair_levels(one: pa.Array, other: pa.Array) -> tuple[NDArray[np.int64], pa.Array, pa.Array]:
    """Return pairs of values of two columns of lists: the k-th values of a row's two lists form a pair.

    Parameters
    ----------
    one, other : pyarrow.Array
        Two columns of n lists, such as the bid prices and the ask prices.

    Returns
    -------
    (int64[n + 1], pyarrow.Array, pyarrow.Array)
        Bounds of each row's pairs, and the paired values of `one` and `other`. A row has as many pairs as its
        shorter list has values.
    """
    starts = bounds(one), bounds(other)
    shared = np.minimum(*map(np.diff, starts))
    pair_bounds = np.concatenate(([0], np.cumsum(shared)))
    level = np.arange(pair_bounds[-1]) - np.repeat(pair_bounds[:-1], shared)
    indices = (pa.array(np.repeat(side_starts[:-1], shared) + level) for side_starts in starts)
    left, right = (side.flatten().take(index) for side, index in zip((one, other), indices, strict=True))
    return pair_bounds, left, right


def grid(values: NDArray[_Value], starts: NDArray[np.int64], levels: int, nothing: float) -> NDArray[_Value]:
    """Return n lists as a matrix with one row per level and one column per list.

    Parameters
    ----------
    values : array[:]
        Values of all lists, concatenated.
    starts : int64[n + 1]
        Bounds of the lists, as `bounds` returns them.
    levels : int
        Number of levels; longer lists are cut.
    nothing : float or int
        Value for the levels that a shorter list does not have.

    Returns
    -------
    array[levels, n]
        The matrix, in C order: the values of one level are contiguous.
    """
    counts = np.diff(starts)
    if len(counts) and (counts == levels).all():
        return np.ascontiguousarray(values.reshape(-1, levels).T)
    shown = np.minimum(counts, levels)
    rows = np.repeat(np.arange(len(counts)), shown)
    level = np.arange(len(rows)) - np.repeat(np.cumsum(shown) - shown, shown)
    matrix = np.full((levels, len(counts)), nothing, dtype=values.dtype)
    matrix[level, rows] = values[starts[rows] + level]
    return matrix


def difference(more: pa.Array, less: pa.Array) -> pa.Array:
    """Return `more` minus `less`.

    A difference is null if one of its two values is null or is a decimal of at least 10^17.
    """
    if more.type == DECIMAL:
        return pc.subtract(_cast_for_sums(more), _cast_for_sums(less)).cast(DECIMAL)
    return pc.subtract(more, less)


def add_and_halve(one: pa.Array, other: pa.Array) -> pa.Array:
    """Return half the sum of two columns, exactly, with one more decimal.

    A result is null if one of its two values is null or is a decimal of at least 10^17.
    """
    if one.type == DECIMAL:
        one, other = _cast_for_sums(one), _cast_for_sums(other)
    return pc.multiply(pc.add(one, other), _HALF)


def _cast_for_sums(numbers: pa.Array) -> pa.Array:
    fits = pc.less(numbers, pa.scalar(Decimal(10) ** (_SUMMED.precision - _SUMMED.scale), DECIMAL))
    return pc.if_else(fits, numbers, pa.scalar(None, DECIMAL)).cast(_SUMMED)


def totals(values: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of each list, float64[n].

    Values are added from first to last, so that every bit of a sum equals the sum that Spark SQL computes.

    Parameters
    ----------
    values : float64[:]
        Values of all lists, concatenated.
    starts : int64[n + 1]
        Bounds of the lists, as `bounds` returns them.
    """
    sums = np.zeros(len(starts) - 1)
    sum_lists(values, starts, sums)
    return sums


@kernel
def sum_lists(values, starts, sums):
    """Sum lists; cost: one addition per value.

    Parameters
    ----------
    values : float64[:]
        Values of all lists, concatenated.
    starts : int64[n + 1]
        Bounds of the lists.
    sums : float64[n]
        Filled with the sums. The caller fills the array with zeros.
    """
    for row in range(len(sums)):
        for index in range(starts[row], starts[row + 1]):
            sums[row] += values[index]
