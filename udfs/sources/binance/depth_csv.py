"""Binance's T_DEPTH tables: `symbol,timestamp,first_update_id,last_update_id,side,update_type,price,qty,pu`.

A row is a level of USD-M or COIN-M futures. Consecutive rows with the same symbol, time, ids and type
are one message: `snap` a whole book at `last_update_id`, `set` a diff whose `pu` is the id before it.
Times are milliseconds unless their magnitude says otherwise; there is no receive time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.binance.strict_lines import instrument
from deltabook.udfs.sources.common.file_source import TimeUnit
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.csv.columns import Columns, Shape
from deltabook.udfs.sources.csv.level_rows import LevelParser, Stamps
from deltabook.udfs.sources.csv.tables import Messages, split_header

HEADER = "symbol,timestamp,first_update_id,last_update_id,side,update_type,price,qty,pu"
SHAPE = Shape(
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
    """Whether a file that starts with this block is meant as a T_DEPTH table."""
    return block.removeprefix(b"\xef\xbb\xbf").startswith(b"symbol,")


def parse_depth_csv(blocks: Iterable[bytes], path: str, limits: Limits) -> Iterator[pa.RecordBatch]:
    """Yield the records of a T_DEPTH table.

    Parameters
    ----------
    blocks : iterable of bytes
        The file, in whole lines.
    path : str
        Its name.
    limits : Limits
        What a message may hold.

    Yields
    ------
    pyarrow.RecordBatch
        In the schema of `records`.

    Raises
    ------
    InputError
        If the header is another one, or times have several units.
    """
    names, rows = split_header(blocks)
    if tuple(names) != SHAPE.names:
        raise InputError(f"expected the columns {HEADER}, found {','.join(names)[:400]}")
    yield from _Parser(path, SHAPE, "price", "qty", "side", "a").parse(rows, limits)


class _Parser(LevelParser):
    def __init__(self, *arguments: object):
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.unit = TimeUnit()

    def named(self, *texts: str) -> tuple[str, str]:
        return instrument(texts[0], True)

    def starts(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        rows = np.flatnonzero(np.logical_and.reduce([columns.named, *(columns.taken[name] for name in _KEY)]))
        starts = np.ones(len(rows), np.bool_)
        keys = [columns.book, *(columns.values[name] for name in _KEY)]
        starts[1:] = np.logical_or.reduce([key[rows[1:]] != key[rows[:-1]] for key in keys])
        return rows, starts

    def stamps(self, columns: Columns, messages: Messages) -> Stamps:
        firsts = messages.firsts[: messages.keep]
        values = {name: column[firsts] for name, column in columns.values.items()}
        is_snapshot = values["update_type"] == 1
        return {
            "timestamp": self.unit.nanoseconds(values["timestamp"]),
            "received": np.full(messages.keep, NOT_GIVEN),
            "sequence": values["last_update_id"],
            "is_snapshot": is_snapshot,
            "first_sequence": np.where(is_snapshot, NOT_GIVEN, values["first_update_id"]),
            "prev_sequence": np.where(is_snapshot, NOT_GIVEN, values["pu"]),
        }
