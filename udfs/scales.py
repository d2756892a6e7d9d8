"""From a record's own scales to its instrument's, exactly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.schemas.tables import QUARANTINE
from deltabook.udfs.decimals import INT64_MAX

_COLUMNS = {
    "bid_prices": "price_scale",
    "ask_prices": "price_scale",
    "price": "price_scale",
    "bid_sizes": "size_scale",
    "ask_sizes": "size_scale",
    "size": "size_scale",
}


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
    right: NDArray[np.bool_] = np.equal(records["wide"].to_numpy(), b"")
    for name, scale_name in _COLUMNS.items():
        scales = _numpy(records[scale_name])
        scale = price_scale if scale_name == "price_scale" else size_scale
        for own in np.unique(scales[right]).tolist():
            if own == scale:
                continue
            chosen = np.flatnonzero(scales == own)
            right[chosen] &= _all_fit(records[name].take(pa.array(chosen)), own, scale)
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
    rows = records.to_pylist()
    for row, whole in zip(rows, right.tolist(), strict=True):
        for name, scale_name in _COLUMNS.items():
            row[name] = _converted(row[name], row[scale_name], wanted[scale_name]) if whole else ()
        if not whole:
            row |= {"damaged": True, "price": NOT_GIVEN, "size": NOT_GIVEN}
        row |= wanted
    return pa.Table.from_pylist(rows, schema=records.schema)


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
    numbers = json.dumps({name: record[name] for name in _COLUMNS} | scales)
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


def _converted(values: Any, own: int, scale: int) -> Any:
    if isinstance(values, list):
        return [_converted(value, own, scale) for value in values]
    if values == NOT_GIVEN or own == scale:
        return values
    return values * 10 ** (scale - own) if scale > own else values // 10 ** (own - scale)


def _all_fit(column: pa.ChunkedArray, own: int, scale: int) -> NDArray[np.bool_]:
    if not pa.types.is_list(column.type):
        values = _numpy(column)
        return np.asarray((values == NOT_GIVEN) | _fit(values, own, scale))
    column = column.combine_chunks()
    flat = _fit(_numpy(column.flatten()), own, scale)
    wrong_before = np.concatenate(([0], np.cumsum(~flat)))
    ends = np.concatenate(([0], np.cumsum(_numpy(pc.list_value_length(column)))))
    return np.asarray(wrong_before[ends[1:]] == wrong_before[ends[:-1]])


def _fit(values: NDArray[np.int64], own: int, scale: int) -> NDArray[np.bool_]:
    if scale > own:
        return np.asarray(values <= INT64_MAX // 10 ** (scale - own))
    return np.asarray(values % 10 ** (own - scale) == 0)


def _numpy(column: Any) -> NDArray[Any]:
    if isinstance(column, pa.ChunkedArray):
        return column.to_numpy()  # type: ignore[no-any-return]
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
