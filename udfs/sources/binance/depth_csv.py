"""Reader of Binance's T_DEPTH tables: CSV files of depth updates of USD-M and COIN-M futures.

The columns are `symbol,timestamp,first_update_id,last_update_id,side,update_type,price,qty,pu`, one row per
level. Consecutive rows with the same symbol, time, ids and type form one message. A message of type `snap` is
the whole book at `last_update_id`. A message of type `set` is an update, and its `pu` is the last id of the
previous update. Times are milliseconds unless their magnitude shows another unit. There are no receive times.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.binance.strict_lines import instrument
from deltabook.udfs.sources.common.file_source import LineCounts, TimeUnit
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.csv.columns import Columns, TableSchema
from deltabook.udfs.sources.csv.level_rows import LevelParser, MessageColumns
from deltabook.udfs.sources.csv.tables import Messages, split_header

HEADER = "symbol,timestamp,first_update_id,last_update_id,side,update_type,price,qty,pu"
SHAPE = TableSchema(
    names=tuple(HEADER.split(",")),
    instrument=("symbol",),
    least={"timestamp": 1, "first_update_id": 0, "last_update_id": 0, "pu": NOT_GIVEN},
    choices={"side": ("b", "a"), "update_type": ("set", "snap")},
    decimals=("price", "qty"),
    positive=frozenset({"price"}),
    rising=(("first_update_id", "last_update_id"),),
)
_KEY = ("timestamp", "first_update_id", "last_update_id", "update_type")


def is_depth_csv(block: bytes) -> bool:
    """Return whether a file that starts with `block` is a T_DEPTH table, whose first column is `symbol`."""
    return block.removeprefix(b"\xef\xbb\xbf").startswith(b"symbol,")


def parse_depth_csv(
    blocks: Iterable[bytes], path: str, limits: Limits
) -> Generator[pa.RecordBatch, None, LineCounts]:
    """Yield the records of a T_DEPTH table, and return the number of rows by kind.

    Parameters
    ----------
    blocks : iterable of bytes
        Blocks of whole lines, from the header to the end of the file.
    path : str
        Path of the raw file, as column `source_file` stores it.
    limits : Limits
        Limits on the size of a message.

    Yields
    ------
    pyarrow.RecordBatch
        Records in the schema of `records`.

    Raises
    ------
    InputError
        If the header is not the header of a T_DEPTH table, or the times of the table mix units.
    """
    names, rows = split_header(blocks)
    if tuple(names) != SHAPE.names:
        raise InputError(f"expected the columns {HEADER}, found {','.join(names)[:400]}")
    return (yield from _DepthParser(path).parse(rows, limits))


class _DepthParser(LevelParser):
    """Parser of one T_DEPTH table."""

    def __init__(self, path: str):
        super().__init__(path, SHAPE, price="price", size="qty", side="side", ask="a")
        self.unit = TimeUnit()

    def name_instrument(self, *texts: str) -> tuple[str, str]:
        return instrument(texts[0], True)

    def starts(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        rows = np.flatnonzero(
            np.logical_and.reduce([columns.has_instrument, *(columns.valid[name] for name in _KEY)])
        )
        starts = np.ones(len(rows), np.bool_)
        keys = [columns.instrument_codes, *(columns.values[name] for name in _KEY)]
        starts[1:] = np.logical_or.reduce([key[rows[1:]] != key[rows[:-1]] for key in keys])
        return rows, starts

    def message_columns(self, columns: Columns, messages: Messages) -> MessageColumns:
        firsts = messages.first_rows[: messages.complete]
        values = {name: column[firsts] for name, column in columns.values.items()}
        is_snapshot = values["update_type"] == 1
        return {
            "timestamp": self.unit.to_nanoseconds(values["timestamp"]),
            "received": np.full(messages.complete, NOT_GIVEN),
            "sequence": values["last_update_id"],
            "is_snapshot": is_snapshot,
            "first_sequence": np.where(is_snapshot, NOT_GIVEN, values["first_update_id"]),
            "prev_sequence": np.where(is_snapshot, NOT_GIVEN, values["pu"]),
        }
