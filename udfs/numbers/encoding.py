"""Encoding of prices and sizes as int64 for kernels: scaled integers, or codes of decimals.

An instrument usually has one scale at which all its numbers fit int64. If there is no such scale, the kernels
work on codes. The code of a price is its rank among all prices that one call of `Codes.of` collects. The code
of a size is its rank among all collected sizes. The size 0, which deletes a level, always has the code 0.
Codes are enough because kernels only compare numbers. Sums are computed from the decoded numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import DECIMAL
from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS
from deltabook.schemas.names import INT64_MAX, NOT_GIVEN
from deltabook.schemas.tables import CHECKPOINTS

SCALE_COLUMNS = {column.name: column.scale for column in RECORDS.columns if column.scale}
"""Price and size columns of messages, and the column that holds the scale of each."""
_CODED_COLUMNS = SCALE_COLUMNS | {
    column.name: column.scale for column in CHECKPOINTS.columns if column.scale == "price_scale"
}
_UNIT = 10**DECIMAL.scale
_SENTINEL = pa.scalar(Decimal(NOT_GIVEN), DECIMAL)
_NOTHING = np.empty(0, dtype=np.int64)

Rows: TypeAlias = pa.Table | pa.RecordBatch


class PrintedDigits(NamedTuple):
    """How scaled integers or codes are printed as decimals, for checksums over printed numbers.

    Attributes
    ----------
    price_scale, size_scale : int
        Number of digits after the decimal point.
    wholes, fractions : (int64[:], int64[:])
        For prices and for sizes: the digits before the decimal point, and the digits after it, of the number
        of each code. Empty if numbers are scaled integers.
    """

    price_scale: int
    size_scale: int
    wholes: tuple[NDArray[np.int64], NDArray[np.int64]] = (_NOTHING, _NOTHING)
    fractions: tuple[NDArray[np.int64], NDArray[np.int64]] = (_NOTHING, _NOTHING)


class Scaled:
    """Encoding of numbers that are int64 already, at the instrument's scales.

    Parameters
    ----------
    price_scale, size_scale : int
        Decimal digits of a price and of a size.
    """

    is_decimal = False

    def __init__(self, price_scale: int, size_scale: int):
        self.printed_digits = PrintedDigits(price_scale, size_scale)

    def encode(self, rows: Rows) -> Rows:
        """Return rows with numbers as kernels take them: unchanged, int64."""
        return rows

    def decode(self, rows: Rows) -> Rows:
        """Return rows with numbers as tables store them: unchanged, int64."""
        return rows

    def amounts(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return encoded sizes, int64[n], as numbers that can be added."""
        return sizes

    def addends(self, column: pa.Array) -> NDArray[Any]:
        """Return a stored column of sizes as numbers that can be added, int64[n]."""
        stored: NDArray[np.int64] = column.to_numpy()
        return stored

    def volume(self, amounts: Iterable[int], what: str) -> pa.Array:
        """Return sums of sizes as a column of a table.

        Parameters
        ----------
        amounts : iterable of int
            Sums of results of `amounts` or `addends`.
        what : str
            Exchange and symbol, for an error message; not used here.
        """
        return pa.array(amounts, pa.int64())

    def amount(self, volume: int) -> int:
        """Convert one stored sum back to a number that can be added; the inverse of `volume`."""
        return volume


class Codes:
    """Encoding of decimals by codes.

    Parameters
    ----------
    prices, sizes : pyarrow.Array of decimal128(38, 18)
        Distinct numbers, ascending; the first size is 0. Encoding takes about 100 bytes of memory per number.
    """

    is_decimal = True

    def __init__(self, prices: pa.Array, sizes: pa.Array):
        self.known = {"price_scale": prices, "size_scale": sizes}
        self.amount_of = _to_integers(sizes)

    @classmethod
    def of(cls, parts: Iterable[Rows]) -> Codes:
        """Return an encoding for all prices and sizes in some rows.

        Parameters
        ----------
        parts : iterable of pyarrow.Table or RecordBatch
            Rows with any of the columns of `SCALE_COLUMNS`, as decimals.
        """
        zero = pa.array([Decimal(0)], DECIMAL)
        numbers_by_scale: dict[str, list[pa.Array]] = {"price_scale": [], "size_scale": [zero]}
        for rows in parts:
            for name in _CODED_COLUMNS.keys() & set(rows.schema.names):
                numbers_by_scale[_CODED_COLUMNS[name]].append(pc.unique(_flatten(rows[name])))
        distinct = []
        for numbers in numbers_by_scale.values():
            numbers = pc.unique(pa.chunked_array(numbers, DECIMAL))
            numbers = numbers.filter(pc.not_equal(numbers, _SENTINEL))
            distinct.append(numbers.take(pc.sort_indices(numbers)))
        return cls(*distinct)

    def encode(self, rows: Rows) -> Rows:
        """Return rows with codes instead of decimals.

        Raises
        ------
        KeyError
            If a number was not collected by `of`.
        """
        return self._map_numbers(rows, self._find_codes, pa.int64())

    def decode(self, rows: Rows) -> Rows:
        """Return rows with decimals instead of codes."""
        return self._map_numbers(rows, self._find_numbers, DECIMAL)

    def amounts(self, sizes: NDArray[np.int64]) -> NDArray[np.object_]:
        """Return encoded sizes as Python integers at the scale of DECIMAL(38,18)."""
        return self.amount_of[sizes]

    def addends(self, column: pa.Array) -> NDArray[Any]:
        """Return a stored column of sizes as Python integers at the scale of DECIMAL(38,18)."""
        return _to_integers(column)

    def volume(self, amounts: Iterable[int], what: str) -> pa.Array:
        """Return sums of sizes as a column of a table; error messages begin with `what`, the instrument.

        Raises
        ------
        InputError
            If a sum has more than 20 digits before the decimal point.
        """
        try:
            return pa.array([to_decimal(amount) for amount in amounts], DECIMAL)
        except pa.ArrowInvalid:
            raise InputError(f"{what}: volumes add up to more than DECIMAL(38,18) holds") from None

    def amount(self, volume: Decimal) -> int:
        """Convert one stored sum back to a number that can be added; the inverse of `volume`."""
        return to_integer(volume)

    @property
    def printed_digits(self) -> PrintedDigits:
        """Decimal digits of the number of every code.

        Digits before the decimal point are capped at the maximum of int64: no venue prints more.
        """
        wholes, fractions = [], []
        for numbers in self.known.values():
            integers = _to_integers(numbers)
            wholes.append(np.minimum(integers // _UNIT, INT64_MAX).astype(np.int64))
            fractions.append((integers % _UNIT).astype(np.int64))
        return PrintedDigits(DECIMAL.scale, DECIMAL.scale, tuple(wholes), tuple(fractions))

    def _map_numbers(
        self, rows: Rows, mapping: Callable[[pa.Array, str], pa.Array], kind: pa.DataType
    ) -> Rows:
        """Return rows with every price and size column mapped by `mapping` and stored as type `kind`."""
        for name in _CODED_COLUMNS.keys() & set(rows.schema.names):
            index, column = rows.schema.get_field_index(name), rows[name]
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            mapped = mapping(_flatten(column), _CODED_COLUMNS[name])
            if pa.types.is_list(column.type):
                lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
                offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
                mapped, column_type = pa.ListArray.from_arrays(pa.array(offsets), mapped), pa.list_(kind)
            else:
                column_type = kind
            rows = rows.set_column(index, pa.field(name, column_type), mapped)
        return rows

    def _find_codes(self, numbers: pa.Array, scale: str) -> pa.Array:
        codes = pc.index_in(numbers, value_set=self.known[scale])
        if codes.null_count != (pc.sum(pc.equal(numbers, _SENTINEL)).as_py() or 0):
            raise KeyError(f"{scale}: a number has no code, because `Codes.of` did not collect it")
        return codes.cast(pa.int64()).fill_null(NOT_GIVEN)

    def _find_numbers(self, codes: pa.Array, scale: str) -> pa.Array:
        given = pc.if_else(pc.equal(codes, NOT_GIVEN), None, codes)
        return self.known[scale].take(given).fill_null(_SENTINEL)


Numbers = Scaled | Codes


def _flatten(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.flatten() if pa.types.is_list(column.type) else column


def words(numbers: pa.Array) -> NDArray[np.int64]:
    """Return the 64-bit words of numbers, without a copy.

    Parameters
    ----------
    numbers : pyarrow.Array of int64 or decimal128
        Numbers without nulls.

    Returns
    -------
    int64[n, words]
        One word for an int64. Two words for a decimal: the lower (unsigned), then the upper.
    """
    if not len(numbers):
        return np.empty((0, 1), dtype=np.int64)
    count = 1 if pa.types.is_int64(numbers.type) else 2
    all_words = np.frombuffer(
        numbers.buffers()[1], dtype=np.int64, count=count * len(numbers), offset=8 * count * numbers.offset
    )
    return all_words.reshape(-1, count)


def _to_integers(numbers: pa.Array) -> NDArray[np.object_]:
    """Return decimals as Python integers at the scale of their type."""
    if not len(numbers):
        return np.empty(0, dtype=object)
    low, high = words(numbers).T
    return np.asarray(high.astype(object) * 2**64 + low.copy().view(np.uint64).astype(object), dtype=object)


def to_decimal(integer: int) -> Decimal:
    """Return an integer at the scale of DECIMAL(38,18) as a Decimal with any number of digits."""
    return Decimal((int(integer < 0), tuple(map(int, str(abs(integer)))), -DECIMAL.scale))


def to_integer(number: Decimal) -> int:
    """Return a number of DECIMAL(38,18) as an integer at the scale of this type."""
    negative, digits, exponent = number.as_tuple()
    integer = int("".join(map(str, digits)) + "0" * (DECIMAL.scale + int(exponent)))
    return -integer if negative else integer
