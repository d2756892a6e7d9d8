"""Crypto Lake's table `book`: a row of books a row, its levels as columns of doubles.

Folders and file names are the vendor's, whose files have exchange and symbol in the folders' names alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.udfs.export.rows import Target, proven_rows
from deltabook.udfs.numbers.exported_numbers import bounds, doubles, grid

_READ = ("order_time", "timestamp", "received", "sequence", "status", *SIDE_NAMES)
_TIME = pa.timestamp("ns")


def path_of(target: Target) -> str:
    """Return where a symbol-day goes."""
    of = target.of
    return f"book/exchange={of.exchange}/symbol={of.symbol}/dt={of.date}/1.snappy.parquet"


def write(target: Target, path: Path) -> None:
    """Write a symbol-day; nothing at all if it has no rows.

    Parameters
    ----------
    target : Target
        What is written.
    path : Path
        The file.
    """
    writer = None
    for batch in proven_rows(target, _READ):
        rows = _rows(batch, target)
        if writer is None:
            # Sizes seldom come again: a dictionary of them costs more than it spares.
            repeating = [name for name in rows.schema.names if name.endswith("_price")]
            writer = pq.ParquetWriter(path, rows.schema, compression="snappy", use_dictionary=repeating)
        writer.write_batch(rows)
    if writer is not None:
        writer.close()


def _rows(batch: pa.RecordBatch, target: Target) -> pa.RecordBatch:
    columns = {
        "origin_time": _time(batch["timestamp"]),
        "received_time": _time(batch["received"]),
        "sequence_number": batch["sequence"],
    }
    for side in ("bid", "ask"):
        laid = {}
        for what in ("price", "size"):
            lists = batch[f"{side}_{what}s"]
            numbers = doubles(lists.flatten(), target.scale_of[f"{what}_scale"])
            laid[what] = grid(numbers, bounds(lists), target.asked.levels, np.nan)
        for level in range(target.asked.levels):
            for what, values in laid.items():
                columns[f"{side}_{level}_{what}"] = pa.array(values[level], from_pandas=True)
    return pa.RecordBatch.from_pydict(columns)


def _time(stamps: pa.Array) -> pa.Array:
    times = stamps.to_numpy()
    return pa.array(times, mask=times < 0).cast(_TIME)
