"""Write the simulated market's books as Crypto Lake's table `book` has them: 20 levels a side per message."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feeds import changes_in
from lake_data import LOTS, TICKS, lake_path
from structures import BATCH_MESSAGES, near_and_hash

LEVELS = 20


def write_books(folder: Path, symbol: str) -> Path:
    """Write the books of 20 levels a side in a symbol's `book_delta_v2` file, if they are not there.

    They are played by another structure than deltabook's kernel, a sorted array over a hash.
    """
    path = lake_path(folder, "book", symbol=symbol)
    if path.exists():
        return path
    deltas = lake_path(folder, "book_delta_v2", symbol=symbol)
    changes = changes_in(deltas)
    with deltas.open("rb") as stream:
        table = pq.read_table(stream, columns=["received_time", "origin_time", "sequence_number"])
    table = table.take(pa.array(changes.offsets[:-1]))
    step, _ = near_and_hash(changes, LEVELS)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, writer = path.with_name(".partial"), None
    for start in range(0, changes.messages, BATCH_MESSAGES):
        end = min(start + BATCH_MESSAGES, changes.messages)
        prices, sizes = step(start, end)
        whole = (sizes[:, :, -1] > 0).all(axis=1)  # the vendor publishes no book of fewer levels
        prices, sizes = prices[whole], sizes[whole]
        columns = {
            name: table[name].slice(start, end - start).filter(pa.array(whole)) for name in table.schema.names
        }
        for side, name in enumerate(("bid", "ask")):
            for level in range(LEVELS):
                columns[f"{name}_{level}_price"] = pa.array(prices[:, side, level] / TICKS)
                columns[f"{name}_{level}_size"] = pa.array(sizes[:, side, level] / LOTS)
        for name, value in (("exchange", "BINANCE"), ("symbol", symbol)):
            columns[name] = pa.repeat(pa.scalar(value), len(prices)).dictionary_encode()
        rows = pa.table(columns)
        writer = writer or pq.ParquetWriter(partial, rows.schema, compression="snappy")
        writer.write_table(rows)
    writer.close()
    partial.rename(path)
    return path
