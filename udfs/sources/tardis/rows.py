"""What Tardis' tables have in common: their times, and the order of the recorder's clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.file_source import TimeUnit
from deltabook.udfs.sources.common.receive_order import FOLLOWING, file_order
from deltabook.udfs.sources.common.records import labels
from deltabook.udfs.sources.csv.columns import Columns, Shape
from deltabook.udfs.sources.csv.level_rows import Book
from deltabook.udfs.sources.csv.tables import Messages, TableParser

Named = Callable[..., Book]
TIMES = {"timestamp": 0, "local_timestamp": 1}
"""The columns of times, and the least that each may say; a `timestamp` of 0 is none."""
INSTRUMENT = ("exchange", "symbol")


class Clock:
    """The times of one table: their unit, and the order that the recorder's clock gives its messages."""

    def __init__(self) -> None:
        self.unit = TimeUnit()
        self.before = NOT_GIVEN

    def held_back(self) -> int:
        """Return how many messages at a block's end cannot be judged yet: each looks at those after it."""
        # The first message of a file may take the time of one of the next, which have to be judged before.
        return FOLLOWING if self.before >= 0 else 2 * FOLLOWING

    def sequences(self, columns: Columns, messages: Messages) -> NDArray[np.int64]:
        """Return the sequence of the messages kept, ns."""
        times = self.unit.nanoseconds(columns.values["local_timestamp"][messages.firsts])
        ordered = file_order(times, self.before)[: messages.keep]
        if messages.keep:
            self.before = int(ordered[-1])
        return ordered


class RowParser(TableParser):
    """Reads a table whose rows are records.

    Parameters
    ----------
    path : str
        The file's name.
    shape : Shape
        Its columns.
    named : callable
        From exchange and symbol as printed to those of the tables.
    """

    def __init__(self, path: str, shape: Shape, named: Named):
        super().__init__(path, shape)
        self._named, self.clock = named, Clock()

    def named(self, *texts: str) -> Book:
        """Return (exchange, symbol)."""
        return self._named(*texts)

    def held_back(self) -> int:
        """Return how many messages at a block's end wait for the next block."""
        return self.clock.held_back()

    def starts(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Take rows with one receive time as one message: all of them get one sequence."""
        rows = np.flatnonzero(columns.named & columns.taken["local_timestamp"])
        times = columns.values["local_timestamp"][rows]
        starts = np.ones(len(rows), np.bool_)
        starts[1:] = times[1:] != times[:-1]
        return rows, starts


class RowStamps:
    """What records of a row each have in common: their kind, names, times and sequence.

    Parameters
    ----------
    clock : Clock
        The table's times.
    columns, messages
        The block.
    first_row : int
        Row in the file of the block's first row.
    record, kind : str
        What they are.
    """

    def __init__(
        self,
        clock: Clock,
        columns: Columns,
        messages: Messages,
        first_row: int,
        record: str,
        kind: str = "",
    ):
        self.clock, self.of, self.first_row = clock, columns, first_row
        self.record, self.kind = record, kind
        self.sequences = clock.sequences(columns, messages)
        self.number = messages.number

    def columns(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """Return the columns of the records of some rows."""
        zeros = np.zeros(len(rows), np.int64)
        names = [book or ("", "") for book in self.of.books]
        return {
            "record": labels(zeros, [self.record]),
            "kind": labels(zeros, [self.kind]),
            "exchange": labels(self.of.book[rows], [exchange for exchange, _ in names]),
            "symbol": labels(self.of.book[rows], [symbol for _, symbol in names]),
            "timestamp": self.clock.unit.nanoseconds(self.of.values["timestamp"][rows]),
            "received": self.clock.unit.nanoseconds(self.of.values["local_timestamp"][rows]),
            "sequence": self.sequences[self.number[rows]],
            "source_row": self.first_row + rows,
        }

    def one(self, row: int) -> dict[str, Any]:
        """Return the same of one row."""
        columns = self.columns(np.array([row]))
        return {
            name: values[0].as_py() if isinstance(values, pa.Array) else int(values[0])
            for name, values in columns.items()
        }
