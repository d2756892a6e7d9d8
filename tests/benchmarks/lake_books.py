"""The simulated market's books as the vendor writes them: `book` files, 20 levels a side a message."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from feeds import changes_in
from lake_data import LOTS, TICKS, lake_path
from structures import BATCH_MESSAGES, ranks

LEVELS = 20


def write_books(folder: Path, symbol: str) -> Path:
    """Write the books after every message of a symbol's `book_delta_v2` file, if they are not there.

    The book is played by deltabook's kernel, whose tops `kernel.py` holds against six other programs': what a
    run must find again is not this code but the way from files to books.
    """
    path = lake_path(folder, "book", symbol=symbol)
    if path.exists():
        return path
    deltas = lake_path(folder, "book_delta_v2", symbol=symbol)
    changes = changes_in(deltas)
    with deltas.open("rb") as stream:
        table = pq.read_table(stream, columns=["received_time", "origin_time", "sequence_number"])
    table = table.take(pa.array(changes.offsets[:-1]))
    step, _ = ranks(changes, LEVELS)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, writer = path.with_name(".partial"), None
    for start in range(0, changes.messages, BATCH_MESSAGES):
        end = min(start + BATCH_MESSAGES, changes.messages)
        tops = step(start, end)
        columns = {name: table[name].slice(start, end - start) for name in table.schema.names}
        for side, name in enumerate(("bid", "ask")):
            prices, sizes = (part[side].reshape(-1, LEVELS) for part in tops)
            for level in range(LEVELS):
                columns[f"{name}_{level}_price"] = pa.array(prices[:, level] / TICKS)
                columns[f"{name}_{level}_size"] = pa.array(sizes[:, level] / LOTS)
        for name, value in (("exchange", "BINANCE"), ("symbol", symbol)):
            columns[name] = pa.repeat(pa.scalar(value), end - start).dictionary_encode()
        rows = pa.table(columns)
        writer = writer or pq.ParquetWriter(partial, rows.schema, compression="snappy")
        writer.write_table(rows)
    writer.close()
    partial.rename(path)
    return path
