"""Exports books in the format of Crypto Lake's table `book`: one book per row, and levels as double columns.

Folders and files have the names that Crypto Lake uses. Exchange and symbol are only in the names of the
folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.udfs.export.rows import ParquetOptions, SymbolDay, read_sound_rows, write_parquet_file
from deltabook.udfs.numbers.exported_numbers import bounds, doubles, grid

_COLUMNS = ("order_time", "timestamp", "received", "sequence", "status", *SIDE_NAMES)
_TIME = pa.timestamp("ns")


def make_path(day: SymbolDay) -> str:
    """Return the path of a symbol-day's file, relative to the export's folder."""
    key = day.instrument
    return f"book/exchange={key.exchange}/symbol={key.symbol}/dt={key.date}/1.snappy.parquet"


def write_file(day: SymbolDay, path: Path) -> None:
    """Write the file of a symbol-day; write no file if the symbol-day has no rows.

    Parameters
    ----------
    day : SymbolDay
        The symbol-day to export.
    path : Path
        The file to write.
    """
    write_parquet_file(path, _make_tables(day), _choose_options)


def _choose_options(schema: pa.Schema) -> ParquetOptions:
    # Sizes seldom repeat, so a dictionary of sizes costs more space than it saves.
    return {
        "compression": "snappy",
        "use_dictionary": [name for name in schema.names if name.endswith("_price")],
    }


def _make_tables(day: SymbolDay) -> Iterator[pa.Table]:
    for batch in read_sound_rows(day, _COLUMNS):
        yield pa.Table.from_batches([_make_rows(batch, day)])


def _make_rows(batch: pa.RecordBatch, day: SymbolDay) -> pa.RecordBatch:
    columns = {
        "origin_time": _make_times(batch["timestamp"]),
        "received_time": _make_times(batch["received"]),
        "sequence_number": batch["sequence"],
    }
    for side in ("bid", "ask"):
        grids = {}
        for quantity in ("price", "size"):
            lists = batch[f"{side}_{quantity}s"]
            numbers = doubles(lists.flatten(), day.scales[f"{quantity}_scale"])
            grids[quantity] = grid(numbers, bounds(lists), day.request.levels, np.nan)
        for level in range(day.request.levels):
            for quantity, values in grids.items():
                columns[f"{side}_{level}_{quantity}"] = pa.array(values[level], from_pandas=True)
    return pa.RecordBatch.from_pydict(columns)


def _make_times(times: pa.Array) -> pa.Array:
    """Convert times in ns since 1970 UTC to Arrow timestamps; a missing time becomes null."""
    nanoseconds = times.to_numpy()
    return pa.array(nanoseconds, mask=nanoseconds < 0).cast(_TIME)
