"""From a record's own scales to its instrument's, or to decimals, exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import DECIMAL
from deltabook.schemas.names import NOT_GIVEN
from deltabook.schemas.tables import QUARANTINE
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE, INT64_MAX
from deltabook.udfs.numbers.encoding import SCALE_OF

_DIGITS, _HEADROOM = 18, 1
"""Any 18 digits fit int64, and nine times as much; one digit more is left room for where none is needed."""


def scale_for(decimals: int, digits: int) -> int | None:
    """Choose a scale: eight decimals unless the numbers need more, or room before the point.

    Parameters
    ----------
    decimals, digits : int
        What the numbers need behind the point, and before it.

    Returns
    -------
    int or None
        None: no int64 holds them all at any one scale.
    """
    scale = max(decimals, min(DEFAULT_SCALE, _DIGITS - digits - _HEADROOM))
    return scale if scale + digits <= _DIGITS else None


def digits_needed(records: pa.Table, scale_name: str) -> tuple[int, int]:
    """Tell how many digits all prices, or all sizes, need.

    Parameters
    ----------
    records : pyarrow.Table
        Those columns of `records`, and their scale's.
    scale_name : str
        price_scale or size_scale.

    Returns
    -------
    (decimals, digits) : (int, int)
        Behind the point, and before it.
    """
    decimals, digits = 0, 0
    for name in (name for name, scale in SCALE_OF.items() if scale == scale_name):
        column = _flat(records, name)
        for scale in np.unique(column.scales[column.given]).tolist():
            values = column.values[column.given & (column.scales == scale)]
            digits = max(digits, len(str(int(values.max()) // 10**scale)))
            while scale > decimals and not (values % 10).any():
                values, scale = values // 10, scale - 1
            decimals = max(decimals, scale)
    return decimals, digits


def fits(records: pa.Table, price_scale: int, size_scale: int) -> NDArray[np.bool_]:
    """Tell which records an instrument's scales hold exactly.

    Parameters
    ----------
    records : pyarrow.Table
        Columns of `records`.
    price_scale, size_scale : int
        The instrument's.

    Returns
    -------
    bool[n]
        False for a record of which a number has more decimals, or does not fit int64.
    """
    right: NDArray[np.bool_] = np.equal(_numpy(records["wide"]), b"")
    for name, scale_name in SCALE_OF.items():
        column = _flat(records, name)
        scale = price_scale if scale_name == "price_scale" else size_scale
        for own in np.unique(column.scales).tolist():
            chosen = np.flatnonzero(column.given & (column.scales == own))
            values = column.values[chosen]
            most = INT64_MAX // 10 ** max(scale - own, 0)
            wrong = (values > most) | (values % 10 ** max(own - scale, 0) != 0)
            right[column.record[chosen[wrong]]] = False
    return right


def rescale(records: pa.Table, price_scale: int, size_scale: int) -> pa.Table:
    """Bring records to an instrument's scales.

    Parameters
    ----------
    records : pyarrow.Table
        Columns of `records`.
    price_scale, size_scale : int
        The instrument's.

    Returns
    -------
    pyarrow.Table
        The same columns. A book update that does not fit has no levels any more and is damaged; a
        trade that does not fit is left out. (Whoever decided the scales puts both into quarantine.)
    """
    wanted = {"price_scale": price_scale, "size_scale": size_scale}
    if all((_numpy(records[name]) == scale).all() for name, scale in wanted.items()):
        return records
    right = fits(records, price_scale, size_scale)
    stays = right | _numpy(pc.equal(records["record"], "book_update"))
    records, right = records.filter(pa.array(stays)), right[stays]
    columns = {name: records[name] for name in records.schema.names}
    for name, scale_name in SCALE_OF.items():
        column, scale = _flat(records, name), wanted[scale_name]
        whole = right[column.record]
        values = np.where(whole, column.values, NOT_GIVEN)
        for own in np.unique(column.scales).tolist():
            chosen = whole & column.given & (column.scales == own)
            values[chosen] = values[chosen] * 10 ** max(scale - own, 0) // 10 ** max(own - scale, 0)
        columns[name] = column.with_values(pa.array(values), right)
    columns["damaged"] = pa.array(_numpy(records["damaged"]) | ~right)
    columns |= {name: pa.repeat(pa.scalar(scale, pa.int64()), len(right)) for name, scale in wanted.items()}
    return pa.table(columns, schema=records.schema)


def to_decimals(records: pa.Table) -> pa.Table:
    """Bring records of any scales, and those that no int64 holds, to DECIMAL(38,18).

    Parameters
    ----------
    records : pyarrow.Table
        Columns of `records`, perhaps with others behind them.

    Returns
    -------
    pyarrow.Table
        The same rows and columns, prices and sizes as decimals. An int64 at any scale is exact.
    """
    is_wide = np.not_equal(_numpy(records["wide"]), b"")
    columns = {name: records[name] for name in records.schema.names}
    for name in SCALE_OF:
        column = _flat(records, name)
        columns[name] = column.with_values(_decimals(column))
    converted = pa.table(columns)
    if not is_wide.any():
        return converted
    rows = [_as_printed(row) for row in converted.filter(pa.array(is_wide)).to_pylist()]
    wide = pa.Table.from_pylist(rows, schema=converted.schema)
    parted = pa.concat_tables([converted.filter(pa.array(~is_wide)), wide])
    order = np.argsort(np.concatenate((np.flatnonzero(~is_wide), np.flatnonzero(is_wide))))
    return parted.take(pa.array(order))


def misfits(records: pa.Table, price_scale: int, size_scale: int) -> pa.RecordBatch:
    """Return the rows of `quarantine` for the records that an instrument's scales do not hold.

    Parameters
    ----------
    records : pyarrow.Table
        Columns of `records`.
    price_scale, size_scale : int
        The instrument's.
    """
    wrong = records.filter(pa.array(~fits(records, price_scale, size_scale))).to_pylist()
    rows = [_misfit(record, price_scale, size_scale) for record in wrong]
    return pa.RecordBatch.from_pylist(rows, schema=QUARANTINE.arrow)


def _misfit(record: dict[str, Any], price_scale: int, size_scale: int) -> dict[str, Any]:
    scales = {"price_scale": record["price_scale"], "size_scale": record["size_scale"]}
    numbers = json.dumps({name: record[name] for name in SCALE_OF} | scales)
    return {
        "source_file": record["source_file"],
        "source_row": record["source_row"],
        "reason": (
            f"{record['exchange']} {record['symbol']} {record['sequence']}: a number does not fit int64 "
            f"exactly at the instrument's scales, {price_scale} for prices and {size_scale} for sizes: "
            "ingest into a new --warehouse, which decides the scales anew, or set them under `instruments`"
        ),
        "raw": record["wide"] or numbers.encode(),
    }


@dataclass(frozen=True)
class _Flat:
    """A column of numbers without its lists: of each its value, its scale, and its record's place."""

    values: NDArray[np.int64]
    scales: NDArray[np.int64]
    record: NDArray[np.int64]
    lengths: NDArray[np.int64] | None

    @property
    def given(self) -> NDArray[np.bool_]:
        return np.asarray(self.values != NOT_GIVEN)

    def with_values(self, values: pa.Array, kept: NDArray[np.bool_] | None = None) -> pa.Array:
        """Return a column of the same shape; the list of a record that is not kept is empty."""
        if self.lengths is None:
            return values
        lengths = self.lengths
        if kept is not None:
            lengths, values = np.where(kept, lengths, 0), values.filter(pa.array(kept[self.record]))
        ends = pa.array(np.concatenate(([0], np.cumsum(lengths))).astype(np.int32))
        return pa.ListArray.from_arrays(ends, values)


def _flat(records: pa.Table, name: str) -> _Flat:
    column, scales = records[name].combine_chunks(), _numpy(records[SCALE_OF[name]])
    places = np.arange(records.num_rows)
    if not pa.types.is_list(column.type):
        return _Flat(_numpy(column), scales, places, None)
    lengths = _numpy(pc.list_value_length(column)).astype(np.int64)
    return _Flat(_numpy(column.flatten()), np.repeat(scales, lengths), np.repeat(places, lengths), lengths)


def _decimals(column: _Flat) -> pa.Array:
    """Return integers at scales of their own as decimals; -1 (not given) stays -1."""
    scales = np.where(column.given, column.scales, 0)
    parts, places = [pa.array([], DECIMAL)], [np.empty(0, dtype=np.int64)]
    for scale in np.unique(scales).tolist():
        place = np.flatnonzero(scales == scale)
        values = column.values[place]
        words = np.stack((values, values >> 63), axis=1)  # two words of 64 bits, the low one first
        kind = pa.decimal128(DECIMAL.precision, scale)
        parts.append(pa.Array.from_buffers(kind, len(place), [None, pa.py_buffer(words)]).cast(DECIMAL))
        places.append(place)
    return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(places))))


def _as_printed(row: dict[str, Any]) -> dict[str, Any]:
    """Fill in the numbers of a record that no int64 holds."""
    printed = json.loads(row["wide"])
    if "price" in printed:
        return row | {name: Decimal(str(printed[name])) for name in ("price", "size")}
    for side in ("bid", "ask"):
        for place, what in enumerate(("prices", "sizes")):
            row[f"{side}_{what}"] = [Decimal(str(level[place])) for level in printed[f"{side}s"]]
    return row


def _numpy(column: Any) -> NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy()  # type: ignore[no-any-return]
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
