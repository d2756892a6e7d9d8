"""Exports books, features, events or trades to plain Parquet.

The files have the columns of the SQL views. Prices and sizes are exact decimals.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.columns import SIDE_NAMES, Column
from deltabook.schemas.exports import COLUMNS, MID, What
from deltabook.schemas.names import EventType
from deltabook.udfs.arrow_arrays import count_labels
from deltabook.udfs.export.rows import (
    ParquetOptions,
    SymbolDay,
    read_requested_rows,
    read_sound_rows,
    write_parquet_file,
)
from deltabook.udfs.numbers.exported_numbers import (
    add_and_halve,
    bounds,
    decimals,
    difference,
    doubles,
    firsts,
    listed,
    pair_levels,
    totals,
)
from deltabook.udfs.replay.clocks import fill_missing_times
from deltabook.udfs.storage.event_files import flatten_events

_TIME = pa.timestamp("us", "UTC")
_ROW_GROUP_ROWS = 1 << 17


def make_path(day: SymbolDay) -> str:
    """Return the path of a symbol-day's file, relative to the export's folder."""
    key = day.instrument
    return f"exchange={key.exchange}/symbol={key.symbol}/date={key.date}/part-0.parquet"


def make_schema(day: SymbolDay) -> pa.Schema:
    """Return the schema of the file of a symbol-day; all files of one export have the same schema."""
    return pa.schema(pa.field(column.name, _make_type(column, day)) for column in COLUMNS[day.request.what])


def write_file(day: SymbolDay, path: Path) -> None:
    """Write the file of a symbol-day; write no file if the symbol-day has no rows.

    Parameters
    ----------
    day : SymbolDay
        The symbol-day to export.
    path : Path
        The file to write.
    """
    write_parquet_file(path, _make_row_groups(day), _choose_options)


def _choose_options(schema: pa.Schema) -> ParquetOptions:
    # Lists of levels get no dictionary: without a dictionary, books of 20 levels take 0.8 times the space and
    # 0.8 times the time (measured).
    scalars = [field.name for field in schema if not pa.types.is_list(field.type)]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": scalars,
        "write_statistics": scalars,
    }


def _make_row_groups(day: SymbolDay) -> Iterator[pa.Table]:
    """Yield tables of at least `_ROW_GROUP_ROWS` rows, then the remaining rows; update the day's tally."""
    schema = make_schema(day)
    buffered: list[pa.RecordBatch] = []
    is_sound = day.request.what is What.BOOKS and not day.request.has_unsound
    for batch in read_sound_rows(day) if is_sound else read_requested_rows(day):
        rows = _make_rows(batch, day, schema)
        if not rows.num_rows:
            continue
        if not is_sound:
            day.tally.add(rows.num_rows, rows["order_time"].to_numpy())
            if "status" in schema.names:
                day.tally.statuses.update(count_labels(rows["status"]))
        buffered.append(rows)
        if sum(part.num_rows for part in buffered) >= _ROW_GROUP_ROWS:
            yield pa.Table.from_batches(buffered)
            buffered = []
    if buffered:
        yield pa.Table.from_batches(buffered)


def _make_type(column: Column, day: SymbolDay) -> pa.DataType:
    if column.type == "TIMESTAMP":
        return _TIME
    if not column.scale:
        return column.arrow
    kind = day.types[column.scale]
    if column.name == MID:
        return pa.decimal128(min(kind.precision + 3, 38), kind.scale + 1)
    return pa.list_(kind) if column.type.startswith("ARRAY") else kind


def _make_rows(batch: pa.RecordBatch, day: SymbolDay, schema: pa.Schema) -> pa.RecordBatch:
    """Convert rows of a Delta table to rows of the file."""
    what = day.request.what
    if what is What.TRADES:
        batch = batch.filter(pc.equal(batch["event_type"], str(EventType.TRADE)))
    columns = flatten_events(batch)
    if what is What.EVENTS:
        is_trade = pc.equal(batch["event_type"], str(EventType.TRADE))
        for name in ("price", "size"):
            columns[name] = pc.if_else(is_trade, columns[name], pa.scalar(None, columns[name].type))
    stored = dict(columns)
    for column in COLUMNS[what]:
        if column.scale and column.name in columns:
            columns[column.name] = _make_exact(columns[column.name], column, day)
    if what in (What.BOOKS, What.FEATURES):
        columns |= _derive_from_levels(stored, day)
    columns["time"] = _make_times(batch)
    return pa.RecordBatch.from_arrays(
        [columns[field.name].cast(field.type) for field in schema], schema=schema
    )


def _make_exact(numbers: pa.Array, column: Column, day: SymbolDay) -> pa.Array:
    """Convert the numbers of a column, or its lists of numbers, to exact decimals."""
    scale, kind = day.scales[column.scale], day.types[column.scale]
    if pa.types.is_list(numbers.type):
        return listed(bounds(numbers), decimals(numbers.flatten(), scale, kind))
    return decimals(numbers, scale, kind)


def _make_times(batch: pa.RecordBatch) -> pa.Array:
    """Return each row's exchange time or, if it is missing, the row's `order_time`, as timestamps in µs."""
    timestamps, order_time = (batch[name].to_numpy() for name in ("timestamp", "order_time"))
    return pa.array(fill_missing_times(timestamps, order_time) // 1000).cast(_TIME)


def _derive_from_levels(stored: dict[str, pa.Array], day: SymbolDay) -> dict[str, pa.Array]:
    """Return the columns that are computed from levels: best prices and sizes, spreads, mid, and features.

    Parameters
    ----------
    stored : dict
        {column: values as the table stores them}.
    day : SymbolDay
        The symbol-day to export.
    """
    price = day.scales["price_scale"], day.types["price_scale"]
    size = day.scales["size_scale"], day.types["size_scale"]
    best = {name: firsts(stored[name]) for name in SIDE_NAMES}
    bid, ask = (decimals(best[f"{side}_prices"], *price) for side in ("bid", "ask"))
    bid_price, bid_size, ask_price, ask_size = (
        doubles(best[name], (price if name.endswith("prices") else size)[0]) for name in SIDE_NAMES
    )
    columns = {"mid": add_and_halve(bid, ask)}
    columns["microprice"] = _divide(bid_price * ask_size + ask_price * bid_size, bid_size + ask_size)
    if day.request.what is What.BOOKS:
        sizes = {f"{side}_size": decimals(best[f"{side}_sizes"], *size) for side in ("bid", "ask")}
        return columns | sizes | {"bid_price": bid, "ask_price": ask, "spread": difference(ask, bid)}
    starts, asks, bids = pair_levels(stored["ask_prices"], stored["bid_prices"])
    spreads = pc.subtract(asks, bids) if pa.types.is_int64(asks.type) else difference(asks, bids)
    columns["spreads"] = listed(starts, decimals(spreads, *price))
    sums = {
        name: totals(doubles(stored[name].flatten(), size[0]), bounds(stored[name]))
        for name in ("bid_sizes", "ask_sizes", "ofi")
    }
    columns["imbalance"] = _divide(bid_size - ask_size, bid_size + ask_size)
    bid_depth, ask_depth = sums["bid_sizes"], sums["ask_sizes"]
    columns["depth_imbalance"] = _divide(bid_depth - ask_depth, bid_depth + ask_depth)
    return columns | {"ofi_total": pa.array(sums["ofi"])}


def _divide(dividend: np.ndarray, divisor: np.ndarray) -> pa.Array:
    """Return the quotient of each pair of numbers; null where the divisor is 0 or NaN."""
    is_valid = (divisor != 0) & ~np.isnan(divisor)
    return pa.array(np.divide(dividend, divisor, out=np.zeros(len(divisor)), where=is_valid), mask=~is_valid)
