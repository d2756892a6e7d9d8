"""Base class of the readers of Crypto Lake tables, which builds records and puts rows in quarantine."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from deltabook.schemas.frames import RECORDS
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.records import EMPTY_RECORD, Records, label_column
from deltabook.udfs.sources.crypto_lake.columns import Instruments, Layout
from deltabook.udfs.sources.crypto_lake.levels import ASK, BID, STRICT, scale_messages, split_sides

NO_ORDER = "expected received_time or sequence_number, found neither: the order of the row is unknown"


class LakeColumns(TypedDict, total=False):
    """Columns of `records` for n records; a column has n values, or one value for all records."""

    record: str
    kind: str
    exchange: str | pa.Array
    symbol: str | pa.Array
    timestamp: NDArray[np.int64]
    received: NDArray[np.int64]
    sequence: NDArray[np.int64]
    source_row: NDArray[np.int64]
    damaged: NDArray[np.bool_] | bool
    bid_prices: pa.Array
    bid_sizes: pa.Array
    ask_prices: pa.Array
    ask_sizes: pa.Array
    trade_id: NDArray[np.int64]
    side: pa.Array
    price: NDArray[np.int64]
    size: NDArray[np.int64]
    price_scale: NDArray[np.int64] | int
    size_scale: NDArray[np.int64] | int


class LakeReader:
    """Reader that turns the batches of one file into records, in file order.

    Parameters
    ----------
    layout : Layout
        Table, column names and depth of the file.
    path : str
        Path of the raw file, as column `source_file` stores it.
    limits : Limits
        Limits on the size of the file and of a message.
    """

    def __init__(self, layout: Layout, path: str, limits: Limits):
        self.layout = layout
        self.path = path
        self.limits = limits
        self.instruments = Instruments(path, layout.file_columns, limits.most_symbols)
        self.records = Records(path)
        self.fields = RECORDS.arrow
        self.constants: dict[tuple[object, pa.DataType], pa.Array] = {}
        """{(value, type): longest column of this repeated value so far}."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the records of a batch.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            Rows of the file.
        row : int
            Row number in the file of the batch's first row, from 1.
        """
        raise NotImplementedError

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Yield the records that waited for the end of the file."""
        yield from ()

    def column(self, batch: pa.RecordBatch, name: str) -> pa.Array:
        """Return a column of a batch, given the vendor's current name of the column."""
        return batch[self.layout.file_columns[name]]

    def quarantine(self, batch: pa.RecordBatch, index: int, row: int, error: ValueError) -> None:
        """Put a row of a batch in quarantine.

        The row is stored as a JSON object {column: value}. Times keep the unit of their column.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            Rows of the file.
        index : int
            Index of the row in the batch.
        row : int
            Row number in the file of the batch's first row, from 1.
        error : ValueError
            The error that says why the row is not readable.
        """
        values = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            cell = column[index].cast(pa.int64()) if pt.is_timestamp(column.type) else column[index]
            value = cell.as_py()
            values[name] = str(value) if isinstance(value, float) and not math.isfinite(value) else value
        self.records.quarantine(row + index, json.dumps(values, default=str).encode(), str(error))

    def build_batch(self, instrument: NDArray[np.int32], columns: LakeColumns) -> pa.RecordBatch:
        """Return a batch of n records.

        Parameters
        ----------
        instrument : int32[n]
            Code of each record's instrument.
        columns : LakeColumns
            Columns of the records; absent columns get their sentinels. This method adds the columns
            `exchange` and `symbol` to the dict.
        """
        exchanges, symbols = ([pair[index] for pair in self.instruments.names] for index in (0, 1))
        is_one = len(exchanges) == 1
        columns["exchange"] = exchanges[0] if is_one else label_column(instrument, exchanges)
        columns["symbol"] = symbols[0] if is_one else label_column(instrument, symbols)
        defaults = EMPTY_RECORD | {"source_file": self.path}
        arrays = []
        for field in self.fields:
            value = columns.get(field.name, defaults[field.name])
            if isinstance(value, np.ndarray):
                value = pa.array(value, field.type)
            elif not isinstance(value, pa.Array):
                value = self._constant_column(value, field.type, len(instrument))
            arrays.append(value)
        return pa.RecordBatch.from_arrays(arrays, schema=self.fields)

    def _constant_column(self, value: object, type_: pa.DataType, count: int) -> pa.Array:
        """Return a column that repeats one value `count` times.

        The result is a slice of the longest column of this value so far. `constants` keeps this column.
        """
        column = self.constants.get((value, type_))
        if column is None or len(column) < count:
            column = self.constants[value, type_] = pa.repeat(pa.scalar(value, type_), count)
        return column.slice(0, count)

    def emit(self, batch: pa.RecordBatch, left_out: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
        """Yield a batch without the records in `left_out`, then the records in `self.records`.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            Records of a batch.
        left_out : bool[n]
            True for a record to leave out of the batch: its row is in quarantine, or the list `self.records`
            contains another record of this row.
        """
        if left_out.any():
            batch = batch.filter(pa.array(~left_out))
        if batch.num_rows:
            yield batch
        if len(self.records):
            yield self.records.take_batch()


def level_columns(
    bounds: NDArray[np.int64],
    sides: NDArray[np.uint8],
    prices: NDArray[np.int64],
    price_decimals: NDArray[np.uint8],
    sizes: NDArray[np.int64],
    size_decimals: NDArray[np.uint8],
) -> LakeColumns:
    """Return the columns with the levels and the scales of messages.

    Parameters
    ----------
    bounds : int64[:]
        Index of each message's first row, and the index after the last row of the last message.
    sides : uint8[:]
        Side of each row: `ASK`, `BID` or `LEFT_OUT`.
    prices : int64[:]
        Price of each row times 10^decimals; rescaled in place to the scale of its message.
    price_decimals : uint8[:]
        Decimals of each price, as `levels.fixed_point` writes them.
    sizes : int64[:]
        Size of each row times 10^decimals; rescaled in place to the scale of its message.
    size_decimals : uint8[:]
        Decimals of each size, as `levels.fixed_point` writes them.

    Returns
    -------
    LakeColumns
        The levels and the scales of the messages. If a scale of a message is `STRICT`, the levels of this
        message are not valid and must be read from the printed numbers.
    """
    price_scale, size_scale = (
        scale_messages(bounds, decimals, values)
        if (decimals[: bounds[-1]] != DEFAULT_SCALE).any()
        else DEFAULT_SCALE
        for values, decimals in ((prices, price_decimals), (sizes, size_decimals))
    )
    offsets, split_prices, split_sizes = split_sides(bounds, sides, prices, sizes)
    return {
        "price_scale": price_scale,
        "size_scale": size_scale,
        "bid_prices": _make_lists(offsets[BID], split_prices[BID]),
        "bid_sizes": _make_lists(offsets[BID], split_sizes[BID]),
        "ask_prices": _make_lists(offsets[ASK], split_prices[ASK]),
        "ask_sizes": _make_lists(offsets[ASK], split_sizes[ASK]),
    }


def _make_lists(offsets: NDArray[np.int32], values: NDArray[np.int64]) -> pa.Array:
    """Return an Arrow array of the lists ``values[offsets[i]:offsets[i + 1]]``."""
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[: offsets[-1]]))


def strict_messages(columns: LakeColumns) -> NDArray[np.bool_]:
    """Return whether each message must be read from its printed numbers, bool[n].

    Parameters
    ----------
    columns : LakeColumns
        The result of `level_columns`, and `received` with one time per message.
    """
    strict = np.zeros(len(columns["received"]), dtype=np.bool_)
    strict |= columns["price_scale"] == STRICT
    strict |= columns["size_scale"] == STRICT
    return strict
