"""Converts Crypto Lake's columns of times, ids, prices and sizes exactly to numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import INT64_MAX, NANOSECONDS_PER_SECOND
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE, exact
from deltabook.udfs.sources.crypto_lake.columns import encode_labels, fill_nulls
from deltabook.udfs.sources.crypto_lake.levels import BAD, STRICT, fixed_point


def read_times(column: pa.Array) -> NDArray[np.int64]:
    """Convert a column of times to ns since 1970 UTC.

    A float64 of seconds has a precision of 0.24 µs. So a float within 0.256 µs of a whole microsecond becomes
    that microsecond.

    Parameters
    ----------
    column : pyarrow.Array
        Timestamps, int64 ns or float64 seconds.

    Returns
    -------
    int64[n]
        Times in ns since 1970 UTC; 0 or less means not given.

    Raises
    ------
    InputError
        If a time does not fit int64.
    """
    if pt.is_float64(column.type):
        seconds = column.fill_null(0.0).to_numpy()
        seconds = np.where(seconds > 0, seconds, 0.0)
        if seconds.size and seconds.max() >= INT64_MAX // NANOSECONDS_PER_SECOND:
            raise InputError(f"a time of {seconds.max()} seconds does not fit int64 nanoseconds")
        whole = np.floor(seconds)
        rest = (seconds - whole) * 1e9
        near = np.rint(rest / 1000) * 1000
        rest = np.where(np.abs(near - rest) <= 256, near, rest)
        return whole.astype(np.int64) * NANOSECONDS_PER_SECOND + np.rint(rest).astype(np.int64)
    if pt.is_timestamp(column.type):
        if column.type.unit != "ns":
            column = column.cast(pa.timestamp("ns", column.type.tz))
        column = column.view(pa.int64())
    return fill_nulls(column, 0)


def read_sequences(column: pa.Array) -> NDArray[np.int64]:
    """Convert a column of ids to integers.

    Parameters
    ----------
    column : pyarrow.Array
        Integers, or a column that contains only nulls or NaN.

    Returns
    -------
    int64[n]
        Ids; 0 means not given.

    Raises
    ------
    InputError
        If an id does not fit int64, or ids are float64 numbers, because a float64 cannot hold every id
        exactly.
    """
    if pt.is_null(column.type) or pt.is_float64(column.type):
        if not pt.is_null(column.type) and not np.isnan(column.fill_null(np.nan).to_numpy()).all():
            raise InputError("column sequence_number: expected an integer, found double: ids are not exact")
        return np.zeros(len(column), dtype=np.int64)
    ids = fill_nulls(column.cast(pa.int64()), 0)
    return ids if not ids.size or ids.min() >= 0 else np.maximum(ids, 0)


@dataclass(frozen=True)
class NumberColumn:
    """The prices or the sizes of a batch, as exact integers.

    Attributes
    ----------
    integers : int64[n]
        Each number, multiplied by 10^decimals.
    decimals : uint8[n]
        Decimals of each number, as `levels.fixed_point` writes them.
    absent : bool[n]
        Whether the value is null or NaN.
    column : pyarrow.Array
        The column as it was read.
    """

    integers: NDArray[np.int64]
    decimals: NDArray[np.uint8]
    absent: NDArray[np.bool_]
    column: pa.Array

    @property
    def unread(self) -> NDArray[np.bool_]:
        """True for a number without an exact value in `integers`: it is invalid or does not fit; bool[n]."""
        unread: NDArray[np.bool_] = (self.decimals == BAD) | (self.decimals == STRICT)
        return unread

    def printed(self, row: int) -> str:
        """Return the number in a row as text; a float is printed in its shortest form."""
        return str(self.column[row].as_py())


def read_numbers(column: pa.Array) -> NumberColumn:
    """Convert a column of prices or sizes to exact integers.

    Parameters
    ----------
    column : pyarrow.Array
        Column of type float64, decimal128, integer or text.
    """
    if pt.is_float64(column.type):
        floats = column.fill_null(np.nan).to_numpy() if column.null_count else column.to_numpy()
        integers, decimals = np.empty(len(column), np.int64), np.empty(len(column), np.uint8)
        unusual = fixed_point(floats, integers, decimals)
        absent = np.isnan(floats) if unusual else np.zeros(len(column), np.bool_)
    else:
        absent = column.is_null().to_numpy(zero_copy_only=False)
        if pt.is_integer(column.type):
            integers, decimals = _to_default_scale(fill_nulls(column, 0), 0, absent)
        elif pt.is_decimal(column.type):
            integers, decimals = _to_default_scale(_unscaled_values(column), column.type.scale, absent)
        else:
            return _read_texts(column, absent)
    rows = np.flatnonzero(decimals == STRICT)
    for row, value in zip(rows.tolist(), column.take(pa.array(rows)).to_pylist(), strict=True):
        integers[row], decimals[row] = _parse_number(str(value))
    return NumberColumn(integers, decimals, absent, column)


def _unscaled_values(column: pa.Array) -> NDArray[np.int64]:
    """Return each decimal128 number times 10^scale, int64[n]; below 0 if negative or too large for int64."""
    words = np.frombuffer(column.buffers()[1], np.int64, 2 * len(column), 16 * column.offset).reshape(-1, 2)
    return np.where(words[:, 1] == 0, words[:, 0], -1)


def _to_default_scale(
    coefficients: NDArray[np.int64] | NDArray[np.uint64], scale: int, absent: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Rescale ``coefficients · 10^-scale`` to eight decimals; return (integers, decimals).

    `decimals` is `DEFAULT_SCALE` for a converted value. It is `STRICT` for a negative value, and for a value
    that int64 cannot hold exactly with eight decimals. It is `BAD` for an absent value.
    """
    shift = DEFAULT_SCALE - scale
    if 0 <= shift <= 18:
        fits = (coefficients >= 0) & (coefficients <= INT64_MAX // 10**shift)
        integers = np.where(fits, coefficients, 0).astype(np.int64) * 10**shift
    elif -18 <= shift < 0:
        fits = (coefficients >= 0) & (coefficients % 10**-shift == 0)
        integers = np.where(fits, coefficients, 0).astype(np.int64) // 10**-shift
    else:
        fits, integers = np.zeros(len(coefficients), np.bool_), np.zeros(len(coefficients), np.int64)
    decimals = np.where(fits, DEFAULT_SCALE, STRICT).astype(np.uint8)
    decimals[absent] = BAD
    return integers, decimals


def _read_texts(column: pa.Array, absent: NDArray[np.bool_]) -> NumberColumn:
    """Convert a text column to exact integers; each distinct text is parsed once."""
    codes, values = encode_labels(column)
    read = [_parse_number(value) for value in values]
    read.append((0, BAD))  # a null has code -1, which picks the last element
    integers = np.array([integer for integer, _ in read], dtype=np.int64)[codes]
    decimals = np.array([digits for _, digits in read], dtype=np.uint8)[codes]
    return NumberColumn(integers, decimals, absent, column)


def _parse_number(text: str | None) -> tuple[int, int]:
    """Return (integer, decimals) of a printed number, where integer = number · 10^decimals.

    The result is (0, `BAD`) if the text is not a valid number, and (0, `STRICT`) if the integer does not fit
    int64.
    """
    try:
        value, digits = exact(text, "number")
    except ValueError:
        return 0, BAD
    scaled = value * 10 ** max(DEFAULT_SCALE - digits, 0)
    return (scaled, max(digits, DEFAULT_SCALE)) if scaled <= INT64_MAX else (0, STRICT)
