"""What the readers of all Crypto Lake tables share: batches of records, quarantine, levels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from deltabook.schemas.frames import RECORDS
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.records import EMPTY_RECORD, Records
from deltabook.udfs.sources.crypto_lake.columns import Instruments, Layout
from deltabook.udfs.sources.crypto_lake.levels import ASK, BID, STRICT, scale_messages, split_sides

NO_PLACE = "neither received_time nor sequence_number is given: the row has no place in the order"


class LakeReader:
    """Makes records of the batches of one file, in their order.

    Parameters
    ----------
    layout : Layout
        The file's columns.
    path : str
        Its name, for `source_file`.
    limits : Limits
        What the file and a message may hold.
    """

    def __init__(self, layout: Layout, path: str, limits: Limits):
        self.layout = layout
        self.path = path
        self.limits = limits
        self.instruments = Instruments(path, layout.spelled, limits.most_symbols)
        self.records = Records(path)
        self.fields = RECORDS.arrow
        self.constants: dict[tuple[Any, pa.DataType], pa.Array] = {}

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the records of a batch whose first row is row `row` of the file, from 1."""
        raise NotImplementedError

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Yield what was held back until the last batch."""
        yield from ()

    def column(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        """Return a column by its current name."""
        return batch[self.layout.spelled[name]]

    def quarantine(self, batch: pa.RecordBatch, index: int, row: int, error: ValueError) -> None:
        """Put a row of a batch into quarantine: its values as JSON, times in the column's own unit."""
        values = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            cell = column[index].cast(pa.int64()) if pt.is_timestamp(column.type) else column[index]
            value = cell.as_py()
            values[name] = str(value) if isinstance(value, float) and not math.isfinite(value) else value
        self.records.quarantine(row + index, json.dumps(values, default=str).encode(), str(error))

    def batch(self, instrument: NDArray[np.int32], columns: dict[str, Any]) -> pa.RecordBatch:
        """Make a batch of records; columns left out get their sentinels."""
        for place, name in enumerate(("exchange", "symbol")):
            names = [pair[place] for pair in self.instruments.names]
            columns[name] = names[0] if len(names) == 1 else labelled(instrument, names)
        empty = EMPTY_RECORD | {"source_file": self.path}
        arrays = []
        for field in self.fields:
            value = columns.get(field.name, empty[field.name])
            if isinstance(value, np.ndarray):
                value = pa.array(value, field.type)
            elif not isinstance(value, pa.Array):
                value = self.constant(value, field.type, len(instrument))
            arrays.append(value)
        return pa.RecordBatch.from_arrays(arrays, schema=self.fields)

    def constant(self, value: Any, type_: pa.DataType, count: int) -> pa.Array:
        """Return a column of one value, cut from the longest made so far."""
        made = self.constants.get((value, type_))
        if made is None or len(made) < count:
            made = self.constants[value, type_] = pa.repeat(pa.scalar(value, type_), count)
        return made.slice(0, count)

    def made(self, batch: pa.RecordBatch, left_out: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
        """Yield a batch without some of its records, then the records that were made one by one."""
        if left_out.any():
            batch = batch.filter(pa.array(~left_out))
        if batch.num_rows:
            yield batch
        if len(self.records):
            yield self.records.batch()


def level_columns(
    bounds: NDArray[np.int64],
    sides: NDArray[np.uint8],
    prices: NDArray[np.int64],
    price_decimals: NDArray[np.uint8],
    sizes: NDArray[np.int64],
    size_decimals: NDArray[np.uint8],
) -> dict[str, Any]:
    """Make the level columns and scales of messages.

    Parameters
    ----------
    bounds : int64[:]
        Where messages begin among the rows, and the end of the last.
    sides : uint8[:]
        `ASK`, `BID` or `LEFT_OUT`.
    prices, sizes : int64[:]
        Brought to their message's scale, in place.
    price_decimals, size_decimals : uint8[:]
        As `lake_levels.fixed_point` writes them.

    Returns
    -------
    dict
        Columns of `schemas.frames.RECORDS`; a scale of `STRICT` says that the message's are not right.
    """
    columns: dict[str, Any] = {}
    for what, values, decimals in (("price", prices, price_decimals), ("size", sizes, size_decimals)):
        if (decimals[: bounds[-1]] != DEFAULT_SCALE).any():
            columns[f"{what}_scale"] = scale_messages(bounds, decimals, values)
        else:
            columns[f"{what}_scale"] = DEFAULT_SCALE
    offsets, split_prices, split_sizes = split_sides(bounds, sides, prices, sizes)
    for side, code in (("bid", BID), ("ask", ASK)):
        for what, values in (("prices", split_prices), ("sizes", split_sizes)):
            kept = pa.array(values[code, : offsets[code, -1]])
            columns[f"{side}_{what}"] = pa.ListArray.from_arrays(pa.array(offsets[code]), kept)
    return columns


def strict_messages(columns: dict[str, Any]) -> NDArray[np.bool_]:
    """Return which messages of `level_columns` only the strict way can read."""
    strict = np.zeros(len(columns["received"]), dtype=np.bool_)
    for name in ("price_scale", "size_scale"):
        strict |= columns[name] == STRICT
    return strict


def labelled(codes: NDArray[np.int32], names: list[str]) -> pa.Array:
    """Return the text column that codes stand for."""
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string())).cast(pa.string())
