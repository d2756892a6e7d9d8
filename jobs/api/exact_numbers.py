"""Convert stored prices and sizes to exact decimals or integers, as Arrow arrays.

Most instruments store prices and sizes as int64 at a fixed scale: value = integer / 10^scale. Instruments
whose numbers do not fit in an int64 store DECIMAL(38,18).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.columns import Column
from deltabook.schemas.names import NOT_GIVEN
from deltabook.schemas.rows import ScaleFields

_INT64_DIGITS, _DECIMAL_DIGITS, _DECIMAL_SCALE = 19, 38, 18
_WIDE = pa.decimal128(_DECIMAL_DIGITS, _DECIMAL_SCALE)
_WIDE_INTEGER = pa.decimal128(_DECIMAL_DIGITS, 0)
_MAY_BE_MISSING = frozenset({"price", "size"})
"""Fields of `events.data` that contain the value `NOT_GIVEN` if an event has no price or size."""


@dataclass(frozen=True)
class NumberForm:
    """Arrow types of the prices and sizes in a result.

    Attributes
    ----------
    decimals : bool
        True: exact decimals. False: integers at the instrument's scales.
    scales : mapping
        Maps `price_scale` and `size_scale` to a number of decimal digits, if all instruments of the result
        have equal scales and store int64. None if scales differ, or if an instrument stores DECIMAL(38,18).
    has_wide_integers : bool
        Whether any instrument of the result stores DECIMAL(38,18). If so, integers need DECIMAL(38,0).
    """

    decimals: bool
    scales: Mapping[str, int] | None
    has_wide_integers: bool

    def type_of(self, scale_name: str) -> pa.DataType:
        """Return the Arrow type of prices or of sizes.

        Parameters
        ----------
        scale_name : str
            `price_scale` or `size_scale`.

        Examples
        --------
        >>> NumberForm(True, {"price_scale": 2, "size_scale": 5}, False).type_of("price_scale")
        Decimal128Type(decimal128(19, 2))
        """
        if not self.decimals:
            return _WIDE_INTEGER if self.has_wide_integers else pa.int64()
        return _WIDE if self.scales is None else pa.decimal128(_INT64_DIGITS, self.scales[scale_name])


def choose_form(instruments: Iterable[ScaleFields], decimals: bool) -> NumberForm:
    """Return the Arrow types that hold the prices and sizes of several instruments exactly.

    Parameters
    ----------
    instruments : iterable of dict
        Rows of the table `instruments`; only their scales are used.
    decimals : bool
        True: the result has exact decimals. False: it has integers.

    Returns
    -------
    NumberForm
        Form with the narrowest types that can represent all numbers. Decimals are DECIMAL(19, scale) if all
        instruments store int64 at equal scales, otherwise DECIMAL(38,18). Integers are int64 if all
        instruments store int64, otherwise DECIMAL(38,0).

    Examples
    --------
    >>> choose_form([{"price_scale": 2, "size_scale": 5, "is_decimal": False}], True).scales
    {'price_scale': 2, 'size_scale': 5}
    """
    rows = list(instruments)
    is_wide = any(row["is_decimal"] for row in rows)
    pairs = {(row["price_scale"], row["size_scale"]) for row in rows}
    if is_wide or len(pairs) != 1:
        return NumberForm(decimals, None, is_wide)
    price_scale, size_scale = pairs.pop()
    return NumberForm(decimals, {"price_scale": price_scale, "size_scale": size_scale}, False)


def convert_column(
    values: pa.ChunkedArray, column: Column, scales: Mapping[str, int], form: NumberForm
) -> pa.ChunkedArray:
    """Convert the prices and sizes in a column of one instrument to the form of the result.

    Parameters
    ----------
    values : pyarrow.ChunkedArray
        Stored values: numbers (int64 at the instrument's scale, or DECIMAL(38,18)), or lists or structs of
        such numbers.
    column : Column
        Declaration of the column.
    scales : mapping
        Maps `price_scale` and `size_scale` to the instrument's number of decimal digits.
    form : NumberForm
        Form of the result.

    Returns
    -------
    pyarrow.ChunkedArray
        The values of `values` in the types of `form`. If the form has decimals, a price or size that an event
        lacks is null.

    Examples
    --------
    >>> from deltabook.schemas.columns import scaled
    >>> form = choose_form([{"price_scale": 2, "size_scale": 5, "is_decimal": False}], True)
    >>> stored = pa.chunked_array([pa.array([12345])])
    >>> convert_column(stored, scaled("fee", "Fee", "price_scale"), {"price_scale": 2}, form)[0].as_py()
    Decimal('123.45')
    """
    chunks = [_convert(chunk, column, scales, form) for chunk in values.chunks]
    return pa.chunked_array(chunks, type=converted_type(values.type, column, form))


def converted_type(stored: pa.DataType, column: Column, form: NumberForm) -> pa.DataType:
    """Return the Arrow type of a column of a result.

    Parameters
    ----------
    stored : pyarrow.DataType
        Type of the stored column.
    column : Column
        Declaration of the column.
    form : NumberForm
        Form of the result.

    Examples
    --------
    >>> from deltabook.schemas.columns import EXCHANGE
    >>> converted_type(pa.string(), EXCHANGE, choose_form([], True))
    DataType(string)
    """
    if column.fields:
        return pa.struct(
            [
                (field.name, converted_type(stored.field(field.name).type, field, form))
                for field in column.fields
            ]
        )
    if not column.scale:
        return stored
    number = form.type_of(column.scale)
    return pa.list_(number) if pa.types.is_list(stored) else number


def _convert(values: pa.Array, column: Column, scales: Mapping[str, int], form: NumberForm) -> pa.Array:
    """Return one Arrow array in the form of the result; `convert_column` explains the parameters."""
    if column.fields:
        fields = [
            _convert(pc.struct_field(values, field.name), field, scales, form) for field in column.fields
        ]
        names = [field.name for field in column.fields]
        return pa.StructArray.from_arrays(fields, names, mask=values.is_null())
    if not column.scale:
        return values
    target = form.type_of(column.scale)
    if not pa.types.is_list(values.type):
        return _convert_numbers(values, column, scales, target)
    offsets = pc.subtract(values.offsets, values.offsets[0])
    numbers = _convert_numbers(values.flatten(), column, scales, target)
    return pa.ListArray.from_arrays(offsets, numbers, mask=values.is_null() if values.null_count else None)


def _convert_numbers(
    numbers: pa.Array, column: Column, scales: Mapping[str, int], target: pa.DataType
) -> pa.Array:
    """Convert an array of numbers, not of lists, to the Arrow type `target`.

    `convert_column` explains `column` and `scales`.
    """
    is_wide_integer = target == _WIDE_INTEGER
    if column.name in _MAY_BE_MISSING and not (target == pa.int64() or is_wide_integer):
        missing = pa.scalar(NOT_GIVEN, pa.int64()).cast(numbers.type)
        numbers = pc.if_else(pc.equal(numbers, missing), pa.scalar(None, numbers.type), numbers)
    if pa.types.is_decimal(numbers.type):
        return _rescale(numbers, target) if is_wide_integer else numbers
    if target == pa.int64():
        return numbers
    if is_wide_integer:
        return numbers.cast(pa.decimal128(_INT64_DIGITS, 0)).cast(target)
    exact = pa.decimal128(_INT64_DIGITS, scales[column.scale])
    return _rescale(numbers.cast(pa.decimal128(_INT64_DIGITS, 0)), exact).cast(target)


def _rescale(numbers: pa.Array, target: pa.DataType) -> pa.Array:
    """Return decimals with unchanged digits, and with the scale of `target`: only the decimal point moves."""
    return pa.Array.from_buffers(target, len(numbers), numbers.buffers(), numbers.null_count, numbers.offset)
