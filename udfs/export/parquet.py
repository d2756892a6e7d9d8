"""Plain Parquet: books, features, events or trades as the views for people show them, in exact decimals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.schemas.columns import SIDE_NAMES, Column
from deltabook.schemas.exports import COLUMNS, MID, What
from deltabook.schemas.names import NOT_GIVEN, EventType
from deltabook.udfs.export.rows import Target, counts_of, flattened, rows_asked
from deltabook.udfs.numbers.exported_numbers import (
    bounds,
    decimals,
    difference,
    doubles,
    firsts,
    half_sum,
    level_by_level,
    listed,
    totals,
)

_TIME = pa.timestamp("us", "UTC")
_GROUP_ROWS = 1 << 17


def path_of(target: Target) -> str:
    """Return where a symbol-day goes."""
    of = target.of
    return f"exchange={of.exchange}/symbol={of.symbol}/date={of.date}/part-0.parquet"


def schema_of(target: Target) -> pa.Schema:
    """Return the columns and their types, the same for all files of an export."""
    return pa.schema(pa.field(column.name, _type_of(column, target)) for column in COLUMNS[target.asked.what])


def write(target: Target, path: Path) -> None:
    """Write a symbol-day; nothing at all if it has no rows.

    Parameters
    ----------
    target : Target
        What is written.
    path : Path
        The file.
    """
    schema = schema_of(target)
    writer, held = None, []
    for batch in rows_asked(target):
        rows = _rows(batch, target, schema)
        if rows.num_rows:
            target.tally.add(rows.num_rows, rows["order_time"].to_numpy())
            if "status" in schema.names:
                target.tally.statuses.update(counts_of(rows["status"]))
            held.append(rows)
        if sum(one.num_rows for one in held) >= _GROUP_ROWS:
            writer = writer or _writer(path, schema)
            writer.write_table(pa.Table.from_batches(held))
            held = []
    if held:
        writer = writer or _writer(path, schema)
        writer.write_table(pa.Table.from_batches(held))
    if writer is not None:
        writer.close()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Levels without a dictionary take less room and time (measured on books of 20 levels: 0.8 and 0.8).
    single = [field.name for field in schema if not pa.types.is_list(field.type)]
    return pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, use_dictionary=single, write_statistics=single
    )


def _type_of(column: Column, target: Target) -> pa.DataType:
    if column.type == "TIMESTAMP":
        return _TIME
    if not column.scale:
        return column.arrow
    kind = target.type_of[column.scale]
    if column.name == MID:
        return pa.decimal128(min(kind.precision + 3, 38), kind.scale + 1)
    return pa.list_(kind) if column.type.startswith("ARRAY") else kind


def _rows(batch: pa.RecordBatch, target: Target, schema: pa.Schema) -> pa.RecordBatch:
    what = target.asked.what
    if what is What.TRADES:
        batch = batch.filter(pc.equal(batch["event_type"], str(EventType.TRADE)))
    found = flattened(batch)
    if what is What.EVENTS:
        is_trade = pc.equal(batch["event_type"], str(EventType.TRADE))
        for name in ("price", "size"):
            found[name] = pc.if_else(is_trade, found[name], pa.scalar(None, found[name].type))
    plain = dict(found)
    for column in COLUMNS[what]:
        if column.scale and column.name in found:
            found[column.name] = _exact(found[column.name], column, target)
    if what in (What.BOOKS, What.FEATURES):
        found |= _of_books(plain, target)
    found["time"] = _times(batch)
    return pa.RecordBatch.from_arrays([found[one.name].cast(one.type) for one in schema], schema=schema)


def _exact(numbers: pa.Array, column: Column, target: Target) -> pa.Array:
    scale, kind = target.scale_of[column.scale], target.type_of[column.scale]
    if pa.types.is_list(numbers.type):
        return listed(bounds(numbers), decimals(numbers.flatten(), scale, kind))
    return decimals(numbers, scale, kind)


def _times(batch: pa.RecordBatch) -> pa.Array:
    """Return the exchange's time, or that of the message's place in the feed if it has none."""
    stamps, order_time = (batch[name].to_numpy() for name in ("timestamp", "order_time"))
    return pa.array(np.where(stamps == NOT_GIVEN, order_time, stamps) // 1000).cast(_TIME)


def _of_books(plain: dict[str, pa.Array], target: Target) -> dict[str, pa.Array]:
    """Return what is reckoned of the levels: the best ones, spreads, mid, and the features."""
    price = target.scale_of["price_scale"], target.type_of["price_scale"]
    size = target.scale_of["size_scale"], target.type_of["size_scale"]
    best = {name: firsts(plain[name]) for name in SIDE_NAMES}
    bid, ask = (decimals(best[f"{side}_prices"], *price) for side in ("bid", "ask"))
    bid_price, bid_size, ask_price, ask_size = (
        doubles(best[name], (price if name.endswith("prices") else size)[0]) for name in SIDE_NAMES
    )
    found = {"mid": half_sum(bid, ask)}
    found["microprice"] = _ratio(bid_price * ask_size + ask_price * bid_size, bid_size + ask_size)
    if target.asked.what is What.BOOKS:
        sizes = {f"{side}_size": decimals(best[f"{side}_sizes"], *size) for side in ("bid", "ask")}
        return found | sizes | {"bid_price": bid, "ask_price": ask, "spread": difference(ask, bid)}
    starts, asks, bids = level_by_level(plain["ask_prices"], plain["bid_prices"])
    spreads = pc.subtract(asks, bids) if pa.types.is_int64(asks.type) else difference(asks, bids)
    found["spreads"] = listed(starts, decimals(spreads, *price))
    sums = {
        name: totals(doubles(plain[name].flatten(), size[0]), bounds(plain[name]))
        for name in ("bid_sizes", "ask_sizes", "ofi")
    }
    found["imbalance"] = _ratio(bid_size - ask_size, bid_size + ask_size)
    both = sums["bid_sizes"], sums["ask_sizes"]
    found["depth_imbalance"] = _ratio(both[0] - both[1], both[0] + both[1])
    return found | {"ofi_total": pa.array(sums["ofi"])}


def _ratio(above: np.ndarray, below: np.ndarray) -> pa.Array:
    """Divide; null where there is nothing to divide by."""
    given = (below != 0) & ~np.isnan(below)
    return pa.array(np.divide(above, below, out=np.zeros(len(below)), where=given), mask=~given)
