"""Parser of the Tardis table `incremental_book_L2`, which has one row per level change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.sources.csv.columns import Columns, TableSchema
from deltabook.udfs.sources.csv.level_rows import (
    Book,
    LevelParser,
    MessageColumns,
    book_of_code,
    last_message_by_code,
)
from deltabook.udfs.sources.csv.tables import Messages
from deltabook.udfs.sources.tardis.rows import INSTRUMENT, TIMES, Clock, InstrumentNamer


class UpdateParser(LevelParser):
    """Parser of `incremental_book_L2`; consecutive rows form a book update."""

    def __init__(self, path: str, names: tuple[str, ...], name_instrument: InstrumentNamer):
        choices = {"is_snapshot": ("false", "true"), "side": ("bid", "ask")}
        positive = frozenset({"price"})
        schema = TableSchema(names, INSTRUMENT, TIMES, choices, ("price", "amount"), positive=positive)
        super().__init__(path, schema, "price", "amount", "side", "ask")
        self._name_instrument, self.clock = name_instrument, Clock()
        self.open: dict[Book, tuple[int, int]] = {}
        """{book: (sequence, receive time) of the book's snapshot that later rows may continue}."""

    def name_instrument(self, *texts: str) -> Book:
        """Convert the names that Tardis prints to the (exchange, symbol) that the tables store."""
        return self._name_instrument(*texts)

    def waiting_count(self) -> int:
        """Return how many messages at the end of a block wait until the next block is read."""
        return self.clock.waiting_count()

    def starts(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows whose message is known, int64[m], and whether each begins a message, bool[m]."""
        known = columns.has_instrument & columns.valid["local_timestamp"] & columns.valid["is_snapshot"]
        rows = np.flatnonzero(known)
        times, book = columns.values["local_timestamp"][rows], columns.instrument_codes[rows]
        is_snapshot = columns.values["is_snapshot"][rows] == 1
        starts = np.ones(len(rows), np.bool_)
        cleared = ~is_snapshot[:-1] & is_snapshot[1:]
        continues = (times[1:] == times[:-1]) | (is_snapshot[1:] & is_snapshot[:-1])
        starts[1:] = (book[1:] != book[:-1]) | cleared | ~continues
        return rows, starts

    def message_columns(self, columns: Columns, messages: Messages) -> MessageColumns:
        """Return the times, sequence and snapshot flag of the complete messages."""
        firsts = messages.first_rows[: messages.complete]
        sequence = self.clock.sequences(columns, messages)
        received = self.clock.unit.to_nanoseconds(columns.values["local_timestamp"][firsts])
        is_snapshot = columns.values["is_snapshot"][firsts] == 1
        self._join_snapshots(columns, messages, is_snapshot, sequence, received)
        return {
            "timestamp": self.clock.unit.to_nanoseconds(_newest_times(columns.values["timestamp"], messages)),
            "received": received,
            "sequence": sequence,
            "is_snapshot": is_snapshot,
        }

    def _join_snapshots(
        self,
        columns: Columns,
        messages: Messages,
        is_snapshot: NDArray[np.bool_],
        sequence: NDArray[np.int64],
        received: NDArray[np.int64],
    ) -> None:
        """Give the later parts of a snapshot the sequence and receive time of its first part.

        Rows of another symbol may interrupt a snapshot. The parts before and after the interruption are then
        separate messages.
        """
        last = columns.values["is_snapshot"][_last_rows(messages)] == 1
        books = columns.instrument_codes[messages.first_rows[: messages.complete]]
        previous = _previous_messages(books)
        for message in np.flatnonzero(is_snapshot & ((previous < 0) | last[previous])).tolist():
            before = int(previous[message])
            first = (sequence[before], received[before]) if before >= 0 else None
            if first := first or self.open.get(book_of_code(columns, int(books[message]))):
                sequence[message], received[message] = first
        for code, message in last_message_by_code(books).items():
            book = book_of_code(columns, code)
            self.open.pop(book, None)
            if last[message]:
                self.open[book] = int(sequence[message]), int(received[message])


def _last_rows(messages: Messages) -> NDArray[np.int64]:
    """Return the index of the last row of each complete message, int64[m]."""
    rows = np.flatnonzero(messages.message_of_row >= 0)
    ends = np.searchsorted(messages.message_of_row[rows], np.arange(messages.complete), "right")
    last: NDArray[np.int64] = rows[ends - 1]
    return last


def _newest_times(times: NDArray[np.int64], messages: Messages) -> NDArray[np.int64]:
    """Return the newest time among the rows of each complete message, int64[m], in the unit of `times`."""
    rows = np.flatnonzero(messages.message_of_row >= 0)
    if not len(rows):
        return times[:0]
    starts = np.searchsorted(messages.message_of_row[rows], np.arange(len(messages.first_rows)))
    newest: NDArray[np.int64] = np.maximum.reduceat(times[rows], starts)[: messages.complete]
    return newest


def _previous_messages(books: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each message, the index of the previous message of the same book, int64[m]; -1 if none."""
    order = np.argsort(books, kind="stable")
    same = books[order[1:]] == books[order[:-1]]
    previous = np.full(len(books), -1)
    previous[order[1:][same]] = order[:-1][same]
    return previous
