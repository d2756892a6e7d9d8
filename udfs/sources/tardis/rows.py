"""Base class of the parsers of Tardis tables in which each row is a record.

The module also converts the times of a table and derives the sequence of the table's rows. Tardis tables have
no ids, so the sequence comes from the recorder's clock, column `local_timestamp`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.file_source import TimeUnit
from deltabook.udfs.sources.common.receive_order import LOOKAHEAD, order_receive_times
from deltabook.udfs.sources.common.records import RecordColumns, label_column
from deltabook.udfs.sources.csv.columns import Columns, TableSchema
from deltabook.udfs.sources.csv.level_rows import Book
from deltabook.udfs.sources.csv.tables import Messages, TableParser

InstrumentNamer = Callable[..., Book]
TIMES = {"timestamp": 0, "local_timestamp": 1}
"""{column of times: smallest valid value}; a `timestamp` of 0 means not given."""
INSTRUMENT = ("exchange", "symbol")


class Clock:
    """Converts the times of one table, and derives the sequence of messages from their receive times."""

    def __init__(self) -> None:
        self.unit = TimeUnit()
        self.before = NOT_GIVEN
        """Sequence of the last complete message of earlier blocks, ns since 1970 UTC; -1 if there is none."""

    def waiting_count(self) -> int:
        """Return how many messages at the end of a block wait until the next block is read.

        `order_receive_times` needs later messages to check the times of the waiting messages.
        """
        # A wild time of the file's first message is replaced by the time of a later message. To check the
        # time of this later message, `order_receive_times` needs the messages after it.
        return LOOKAHEAD if self.before >= 0 else 2 * LOOKAHEAD

    def sequences(self, columns: Columns, messages: Messages) -> NDArray[np.int64]:
        """Return the sequence of each complete message, ns since 1970 UTC, int64[m]."""
        times = self.unit.to_nanoseconds(columns.values["local_timestamp"][messages.first_rows])
        ordered = order_receive_times(times, self.before)[: messages.complete]
        if messages.complete:
            self.before = int(ordered[-1])
        return ordered


class RowParser(TableParser):
    """Parser of a table in which each row is a record.

    Parameters
    ----------
    path : str
        Path of the raw file, as column `source_file` stores it.
    schema : TableSchema
        Columns of the table.
    name_instrument : callable
        Maps the exchange and symbol that Tardis prints to the (exchange, symbol) that the tables store.
    """

    def __init__(self, path: str, schema: TableSchema, name_instrument: InstrumentNamer):
        super().__init__(path, schema)
        self._name_instrument, self.clock = name_instrument, Clock()

    def name_instrument(self, *texts: str) -> Book:
        """Convert the names that Tardis prints to the (exchange, symbol) that the tables store."""
        return self._name_instrument(*texts)

    def waiting_count(self) -> int:
        """Return how many messages at the end of a block wait until the next block is read."""
        return self.clock.waiting_count()

    def starts(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows with a receive time, int64[m], and whether each begins a new message, bool[m].

        Consecutive rows with the same receive time count as one message: they get the same sequence.
        """
        rows = np.flatnonzero(columns.has_instrument & columns.valid["local_timestamp"])
        times = columns.values["local_timestamp"][rows]
        starts = np.ones(len(rows), np.bool_)
        starts[1:] = times[1:] != times[:-1]
        return rows, starts


class RowStamps:
    """Columns that the records of every `RowParser` have: kind, instrument, times and sequence.

    Parameters
    ----------
    clock : Clock
        Clock that converts the table's times.
    columns : Columns
        Rows of the block.
    messages : Messages
        Messages of the block.
    first_row : int
        Row in the file of the block's first row.
    record, kind : str
        Values of the columns `record` and `kind`.
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
        self.clock, self.block, self.first_row = clock, columns, first_row
        self.record, self.kind = record, kind
        self.sequences = clock.sequences(columns, messages)
        self.message_of_row = messages.message_of_row

    def columns(self, rows: NDArray[np.int64]) -> RecordColumns:
        """Return {column of `records`: values} of some rows.

        Parameters
        ----------
        rows : int64[:]
            Indices of the rows in the block.
        """
        zeros = np.zeros(len(rows), np.int64)
        names = [book or ("", "") for book in self.block.instruments]
        return {
            "record": label_column(zeros, [self.record]),
            "kind": label_column(zeros, [self.kind]),
            "exchange": label_column(self.block.instrument_codes[rows], [exchange for exchange, _ in names]),
            "symbol": label_column(self.block.instrument_codes[rows], [symbol for _, symbol in names]),
            "timestamp": self.clock.unit.to_nanoseconds(self.block.values["timestamp"][rows]),
            "received": self.clock.unit.to_nanoseconds(self.block.values["local_timestamp"][rows]),
            "sequence": self.sequences[self.message_of_row[rows]],
            "source_row": self.first_row + rows,
        }

    def record_of(self, row: int) -> Record:
        """Return the record of one row, with the columns that the method `columns` returns."""
        exchange, symbol = self.block.instruments[self.block.instrument_codes[row]] or ("", "")
        times = self.block.values
        return {
            "record": self.record,
            "kind": self.kind,
            "exchange": exchange,
            "symbol": symbol,
            "timestamp": self.clock.unit.time_to_nanoseconds(int(times["timestamp"][row])),
            "received": self.clock.unit.time_to_nanoseconds(int(times["local_timestamp"][row])),
            "sequence": int(self.sequences[self.message_of_row[row]]),
            "source_row": self.first_row + row,
        }
