"""Converts numbers exactly from a record's own scales to the instrument's scales, or to decimals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import DECIMAL
from deltabook.schemas.names import INT64_MAX, NOT_GIVEN
from deltabook.schemas.tables import QUARANTINE
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.encoding import SCALE_COLUMNS

_DIGITS, _HEADROOM = 18, 1
"""Number of digits that always fit int64, and number of digits that `choose_scale` leaves free for later.

Later numbers may be larger. If the present numbers of an instrument already need the free digit, they use it.
"""


def choose_scale(decimals: int, digits: int) -> int | None:
    """Return the scale of an instrument's prices or sizes.

    Parameters
    ----------
    decimals, digits : int
        Number of digits that the numbers need after and before the decimal point.

    Returns
    -------
    int or None
        `DEFAULT_SCALE` if the numbers fit int64 at this scale, else a scale at which they fit. None if the
        numbers fit int64 at no scale.
    """
    scale = max(decimals, min(DEFAULT_SCALE, _DIGITS - digits - _HEADROOM))
    return scale if scale + digits <= _DIGITS else None


def count_digits_needed(records: pa.Table, scale_name: str) -> tuple[int, int]:
    """Return how many digits the prices, or the sizes, of records need after and before the point.

    Parameters
    ----------
    records : pyarrow.Table
        The price columns, or the size columns, of `schemas.frames.RECORDS`, and the column of their scale.
    scale_name : str
        "price_scale" for prices, "size_scale" for sizes.

    Returns
    -------
    (decimals, digits) : (int, int)
        Number of digits after and before the decimal point.
    """
    decimals, digits = 0, 0
    for name in (name for name, scale in SCALE_COLUMNS.items() if scale == scale_name):
        column = _flatten_column(records, name)
        for scale in np.unique(column.scales[column.given]).tolist():
            values = column.values[column.given & (column.scales == scale)]
            digits = max(digits, len(str(int(values.max()) // 10**scale)))
            while scale > decimals and not (values % 10).any():
                values, scale = values // 10, scale - 1
            decimals = max(decimals, scale)
    return decimals, digits


def fits(records: pa.Table, price_scale: int, size_scale: int) -> NDArray[np.bool_]:
    """Return whether each record fits an instrument's scales exactly.

    Parameters
    ----------
    records : pyarrow.Table
        n records, columns of `schemas.frames.RECORDS`.
    price_scale, size_scale : int
        Decimal digits of the instrument's prices and sizes.

    Returns
    -------
    bool[n]
        False for a record with a number that has more decimals than its scale, or that does not fit int64.
    """
    right: NDArray[np.bool_] = np.equal(to_numpy(records["wide"]), b"")
    for name, scale_name in SCALE_COLUMNS.items():
        column = _flatten_column(records, name)
        scale = price_scale if scale_name == "price_scale" else size_scale
        for own in np.unique(column.scales).tolist():
            chosen = np.flatnonzero(column.given & (column.scales == own))
            values = column.values[chosen]
            most = INT64_MAX // 10 ** max(scale - own, 0)
            wrong = (values > most) | (values % 10 ** max(own - scale, 0) != 0)
            right[column.record[chosen[wrong]]] = False
    return right


def rescale(records: pa.Table, price_scale: int, size_scale: int) -> pa.Table:
    """Convert the numbers of records to an instrument's scales.

    Parameters
    ----------
    records : pyarrow.Table
        Columns of `records`.
    price_scale, size_scale : int
        Decimal digits of the instrument's prices and sizes.

    Returns
    -------
    pyarrow.Table
        The same columns. A book update that does not fit stays, without levels and with ``damaged=True``. All
        other records that do not fit are left out. `make_misfit_rows` returns the quarantine rows of all
        records that do not fit.
    """
    wanted = {"price_scale": price_scale, "size_scale": size_scale}
    if all((to_numpy(records[name]) == scale).all() for name, scale in wanted.items()):
        return records
    right = fits(records, price_scale, size_scale)
    stays = right | to_numpy(pc.equal(records["record"], "book_update"))
    records, right = records.filter(pa.array(stays)), right[stays]
    columns = {name: records[name] for name in records.schema.names}
    for name, scale_name in SCALE_COLUMNS.items():
        column, scale = _flatten_column(records, name), wanted[scale_name]
        whole = right[column.record]
        values = np.where(whole, column.values, NOT_GIVEN)
        for own in np.unique(column.scales).tolist():
            chosen = whole & column.given & (column.scales == own)
            values[chosen] = values[chosen] * 10 ** max(scale - own, 0) // 10 ** max(own - scale, 0)
        columns[name] = column.with_values(pa.array(values), right)
    columns["damaged"] = pa.array(to_numpy(records["damaged"]) | ~right)
    columns |= {name: pa.repeat(pa.scalar(scale, pa.int64()), len(right)) for name, scale in wanted.items()}
    return pa.table(columns, schema=records.schema)


def to_decimals(records: pa.Table) -> pa.Table:
    """Convert the numbers of records to DECIMAL(38,18), exactly.

    Parameters
    ----------
    records : pyarrow.Table
        Columns of `schemas.frames.RECORDS`; more columns may follow. Numbers that do not fit int64 are in the
        column `wide`.

    Returns
    -------
    pyarrow.Table
        The same rows and columns, with prices and sizes as decimals.
    """
    is_wide = np.not_equal(to_numpy(records["wide"]), b"")
    columns = {name: records[name] for name in records.schema.names}
    for name in SCALE_COLUMNS:
        column = _flatten_column(records, name)
        columns[name] = column.with_values(_to_decimals(column))
    converted = pa.table(columns)
    if not is_wide.any():
        return converted
    rows = [_fill_in_wide_numbers(row) for row in converted.filter(pa.array(is_wide)).to_pylist()]
    wide = pa.Table.from_pylist(rows, schema=converted.schema)
    parted = pa.concat_tables([converted.filter(pa.array(~is_wide)), wide])
    order = np.argsort(np.concatenate((np.flatnonzero(~is_wide), np.flatnonzero(is_wide))))
    return parted.take(pa.array(order))


def make_misfit_rows(records: pa.Table, price_scale: int, size_scale: int) -> pa.RecordBatch:
    """Return the rows of `quarantine` for the records that do not fit an instrument's scales.

    Parameters
    ----------
    records : pyarrow.Table
        Columns of `records`.
    price_scale, size_scale : int
        Decimal digits of the instrument's prices and sizes.
    """
    wrong = records.filter(pa.array(~fits(records, price_scale, size_scale))).to_pylist()
    rows = [_make_misfit_row(record, price_scale, size_scale) for record in wrong]
    return pa.RecordBatch.from_pylist(rows, schema=QUARANTINE.arrow)


def _make_misfit_row(record: dict[str, object], price_scale: int, size_scale: int) -> dict[str, object]:
    """Return the row of `quarantine` for one record; the record's numbers as JSON are the raw bytes."""
    scales = {"price_scale": record["price_scale"], "size_scale": record["size_scale"]}
    numbers = json.dumps({name: record[name] for name in SCALE_COLUMNS} | scales)
    return {
        "source_file": record["source_file"],
        "source_row": record["source_row"],
        "reason": (
            f"{record['exchange']} {record['symbol']} {record['sequence']}: a number does not fit int64 "
            f"exactly at the instrument's scales, {price_scale} for prices and {size_scale} for sizes: "
            "ingest into a new --warehouse, which chooses new scales, or set the scales under `instruments`"
        ),
        "raw": record["wide"] or numbers.encode(),
    }


@dataclass(frozen=True)
class _FlatColumn:
    """A column of numbers, flattened if it is a column of lists.

    Attributes
    ----------
    values : int64[m]
        The numbers.
    scales : int64[m]
        Scale of each number.
    record : int64[m]
        Index of the record to which each number belongs.
    lengths : int64[n] or None
        Length of each record's list; None if the column has no lists.
    """

    values: NDArray[np.int64]
    scales: NDArray[np.int64]
    record: NDArray[np.int64]
    lengths: NDArray[np.int64] | None

    @property
    def given(self) -> NDArray[np.bool_]:
        """Whether each number is given, which means that it is not -1; bool[m]."""
        return np.asarray(self.values != NOT_GIVEN)

    def with_values(self, values: pa.Array, has_list: NDArray[np.bool_] | None = None) -> pa.Array:
        """Return a column with the same lists but other values.

        Parameters
        ----------
        values : pyarrow.Array
            m numbers.
        has_list : bool[n] or None
            False for a record whose list becomes empty; None: all lists stay.
        """
        if self.lengths is None:
            return values
        lengths = self.lengths
        if has_list is not None:
            lengths = np.where(has_list, lengths, 0)
            values = values.filter(pa.array(has_list[self.record]))
        ends = pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))
        return pa.ListArray.from_arrays(ends, values)


def _flatten_column(records: pa.Table, name: str) -> _FlatColumn:
    column, scales = records[name].combine_chunks(), to_numpy(records[SCALE_COLUMNS[name]])
    rows = np.arange(records.num_rows)
    if not pa.types.is_list(column.type):
        return _FlatColumn(to_numpy(column), scales, rows, None)
    lengths = to_numpy(pc.list_value_length(column)).astype(np.int64)
    return _FlatColumn(
        to_numpy(column.flatten()), np.repeat(scales, lengths), np.repeat(rows, lengths), lengths
    )


def _to_decimals(column: _FlatColumn) -> pa.Array:
    """Return the integers of a column as decimals, each by its own scale; -1 (not given) stays -1."""
    scales = np.where(column.given, column.scales, 0)
    parts, indices = [pa.array([], DECIMAL)], [np.empty(0, dtype=np.int64)]
    for scale in np.unique(scales).tolist():
        of_scale = np.flatnonzero(scales == scale)
        values = column.values[of_scale]
        words = np.stack((values, values >> 63), axis=1)  # two words of 64 bits, the lower word first
        kind = pa.decimal128(DECIMAL.precision, scale)
        parts.append(pa.Array.from_buffers(kind, len(of_scale), [None, pa.py_buffer(words)]).cast(DECIMAL))
        indices.append(of_scale)
    return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(indices))))


def _fill_in_wide_numbers(row: dict[str, object]) -> dict[str, object]:
    """Return a record's row with prices and sizes as decimals, parsed from the JSON in `wide`."""
    assert isinstance(row["wide"], bytes)  # the column is BINARY
    printed = json.loads(row["wide"])
    if "price" in printed:
        return row | {name: Decimal(str(printed[name])) for name in ("price", "size")}
    for side in ("bid", "ask"):
        for item, what in enumerate(("prices", "sizes")):
            row[f"{side}_{what}"] = [Decimal(str(level[item])) for level in printed[f"{side}s"]]
    return row
