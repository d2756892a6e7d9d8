"""Prices and sizes as kernels take them, int64: scaled integers as they are, or codes of decimals.

An instrument whose numbers no int64 holds at one scale goes through the same kernels by codes: a
price's code is its rank among all the prices at hand, a size's likewise, and the size 0 has the code
0, which deletes a level. Kernels compare, and never reckon; what is added up is the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import DECIMAL
from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import INT64_MAX

SCALE_OF = {column.name: column.scale for column in RECORDS.columns if column.scale}
"""The columns of prices and sizes that messages have, and which scale is theirs."""
_UNIT = 10**DECIMAL.scale
_SENTINEL = pa.scalar(Decimal(NOT_GIVEN), DECIMAL)
_NOTHING = np.empty(0, dtype=np.int64)

Rows = Any
"""A pyarrow.Table or RecordBatch."""


@dataclass(frozen=True)
class Printing:
    """What a number's decimal digits are, for checksums over them.

    Attributes
    ----------
    price_scale, size_scale : int
        Decimal digits of what lies behind the point.
    wholes, fractions : (int64[:], int64[:])
        Of prices and of sizes, by code: what stands before the point and behind it. Empty: numbers are
        no codes.
    """

    price_scale: int
    size_scale: int
    wholes: tuple[NDArray[np.int64], NDArray[np.int64]] = (_NOTHING, _NOTHING)
    fractions: tuple[NDArray[np.int64], NDArray[np.int64]] = (_NOTHING, _NOTHING)


class Scaled:
    """Numbers that are int64 already, at the instrument's scales.

    Parameters
    ----------
    price_scale, size_scale : int
        Decimal digits.
    """

    is_decimal = False

    def __init__(self, price_scale: int, size_scale: int):
        self.printing = Printing(price_scale, size_scale)

    def encode(self, rows: Rows) -> Rows:
        """Return rows as kernels take them."""
        return rows

    def decode(self, rows: Rows) -> Rows:
        """Return rows as tables hold them."""
        return rows

    def amounts(self, sizes: NDArray[np.int64]) -> NDArray[Any]:
        """Return sizes as numbers that can be added."""
        return sizes

    def addends(self, column: pa.Array) -> NDArray[Any]:
        """Return the sizes of a table's column as numbers that can be added."""
        return column.to_numpy()  # type: ignore[no-any-return]

    def volume(self, amounts: Iterable[Any], what: str) -> pa.Array:
        """Return sums of `amounts` as a column of a table."""
        return pa.array(amounts, pa.int64())

    def amount(self, volume: int) -> int:
        """Return a value of such a column as a sum again."""
        return volume


class Codes:
    """Decimals, and the codes that stand for them.

    Parameters
    ----------
    prices, sizes : pyarrow.Array of decimal128(38, 18)
        Distinct, ascending; the least size is 0. Memory: about 100 bytes each while they are coded.
    """

    is_decimal = True

    def __init__(self, prices: pa.Array, sizes: pa.Array):
        self.known = {"price_scale": prices, "size_scale": sizes}
        self.amount_of = _integers(sizes)

    @classmethod
    def of(cls, parts: Iterable[Rows]) -> Codes:
        """Collect the numbers of all the rows that are to be coded.

        Parameters
        ----------
        parts : iterable of pyarrow.Table or RecordBatch
            With any of the columns of `SCALE_OF`, as decimals.
        """
        zero = pa.array([Decimal(0)], DECIMAL)
        found: dict[str, list[pa.Array]] = {"price_scale": [], "size_scale": [zero]}
        for rows in parts:
            for name in SCALE_OF.keys() & set(rows.schema.names):
                found[SCALE_OF[name]].append(pc.unique(_flat(rows[name])))
        distinct = []
        for numbers in found.values():
            numbers = pc.unique(pa.chunked_array(numbers, DECIMAL))
            numbers = numbers.filter(pc.not_equal(numbers, _SENTINEL))
            distinct.append(numbers.take(pc.sort_indices(numbers)))
        return cls(*distinct)

    def encode(self, rows: Rows) -> Rows:
        """Return rows with codes in the place of decimals.

        Raises
        ------
        KeyError
            If a number is none of those collected.
        """
        return self._mapped(rows, self._codes, pa.int64())

    def decode(self, rows: Rows) -> Rows:
        """Return rows with decimals in the place of codes."""
        return self._mapped(rows, self._numbers, DECIMAL)

    def amounts(self, sizes: NDArray[np.int64]) -> NDArray[Any]:
        """Return sizes as numbers that can be added: Python's integers, at the scale of DECIMAL(38,18)."""
        return self.amount_of[sizes]

    def addends(self, column: pa.Array) -> NDArray[Any]:
        """Return the sizes of a table's column as numbers that can be added: Python's integers."""
        return _integers(column)

    def volume(self, amounts: Iterable[Any], what: str) -> pa.Array:
        """Return sums of `amounts` as a column of a table.

        Raises
        ------
        InputError
            If a sum has more than 20 digits before the point; `what` tells whose it is.
        """
        try:
            return pa.array([to_decimal(amount) for amount in amounts], DECIMAL)
        except pa.ArrowInvalid:
            raise InputError(f"{what}: volumes add up to more than DECIMAL(38,18) holds") from None

    def amount(self, volume: Decimal) -> int:
        """Return a value of such a column as a sum again."""
        return to_integer(volume)

    @property
    def printing(self) -> Printing:
        """The digits of every number; before the point no venue prints more than int64 holds."""
        wholes, fractions = [], []
        for numbers in self.known.values():
            integers = _integers(numbers)
            wholes.append(np.minimum(integers // _UNIT, INT64_MAX).astype(np.int64))
            fractions.append((integers % _UNIT).astype(np.int64))
        return Printing(DECIMAL.scale, DECIMAL.scale, tuple(wholes), tuple(fractions))

    def _mapped(self, rows: Rows, mapping: Any, kind: pa.DataType) -> Rows:
        for name in SCALE_OF.keys() & set(rows.schema.names):
            at, column = rows.schema.get_field_index(name), rows[name]
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            mapped = mapping(_flat(column), SCALE_OF[name])
            if pa.types.is_list(column.type):
                lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
                offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
                mapped, kind_of = pa.ListArray.from_arrays(pa.array(offsets), mapped), pa.list_(kind)
            else:
                kind_of = kind
            rows = rows.set_column(at, pa.field(name, kind_of), mapped)
        return rows

    def _codes(self, numbers: pa.Array, scale: str) -> pa.Array:
        codes = pc.index_in(numbers, value_set=self.known[scale])
        if codes.null_count != (pc.sum(pc.equal(numbers, _SENTINEL)).as_py() or 0):
            raise KeyError(f"a number of {scale} was not collected before it was coded")
        return codes.cast(pa.int64()).fill_null(NOT_GIVEN)

    def _numbers(self, codes: pa.Array, scale: str) -> pa.Array:
        given = pc.if_else(pc.equal(codes, NOT_GIVEN), None, codes)
        return self.known[scale].take(given).fill_null(_SENTINEL)


Numbers = Scaled | Codes


def _flat(column: Any) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.flatten() if pa.types.is_list(column.type) else column


def words(numbers: pa.Array) -> NDArray[np.int64]:
    """Return the words that numbers consist of, without a copy.

    Parameters
    ----------
    numbers : pyarrow.Array of int64 or decimal128
        None is null.

    Returns
    -------
    int64[n, words]
        One word of an int64, two of a decimal: the lower, unsigned, and the upper.
    """
    if not len(numbers):
        return np.empty((0, 1), dtype=np.int64)
    count = 1 if pa.types.is_int64(numbers.type) else 2
    found = np.frombuffer(
        numbers.buffers()[1], dtype=np.int64, count=count * len(numbers), offset=8 * count * numbers.offset
    )
    return found.reshape(-1, count)


def _integers(numbers: pa.Array) -> NDArray[Any]:
    """Return decimals as Python's integers, at their own scale."""
    if not len(numbers):
        return np.empty(0, dtype=object)
    low, high = words(numbers).T
    return np.asarray(high.astype(object) * 2**64 + low.copy().view(np.uint64).astype(object), dtype=object)


def to_decimal(integer: int) -> Decimal:
    """Return the decimal that an integer at the scale of DECIMAL(38,18) stands for, whatever its length."""
    return Decimal((int(integer < 0), tuple(map(int, str(abs(integer)))), -DECIMAL.scale))


def to_integer(number: Decimal) -> int:
    """Return a number of DECIMAL(38,18) as an integer at its scale."""
    negative, digits, exponent = number.as_tuple()
    integer = int("".join(map(str, digits)) + "0" * (DECIMAL.scale + int(exponent)))
    return -integer if negative else integer
