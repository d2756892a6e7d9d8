"""Tardis' table of book updates, `incremental_book_L2`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.sources.csv.columns import Columns, Shape
from deltabook.udfs.sources.csv.level_rows import Book, LevelParser, Stamps, latest, name_of
from deltabook.udfs.sources.csv.tables import Messages
from deltabook.udfs.sources.tardis.rows import INSTRUMENT, TIMES, Clock, Named


class UpdateParser(LevelParser):
    """Reads `incremental_book_L2`."""

    def __init__(self, path: str, names: tuple[str, ...], named: Named):
        choices = {"is_snapshot": ("false", "true"), "side": ("bid", "ask")}
        positive = frozenset({"price"})
        shape = Shape(names, INSTRUMENT, TIMES, choices, ("price", "amount"), positive=positive)
        super().__init__(path, shape, "price", "amount", "side", "ask")
        self._named, self.clock = named, Clock()
        self.open: dict[Book, tuple[int, int]] = {}
        """Sequence and receive time of each book's snapshot, as long as it may go on."""

    def named(self, *texts: str) -> Book:
        """Return (exchange, symbol)."""
        return self._named(*texts)

    def held_back(self) -> int:
        """Return how many messages at a block's end wait for the next block."""
        return self.clock.held_back()

    def starts(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows whose message can be told, and which of them start one."""
        told = columns.named & columns.taken["local_timestamp"] & columns.taken["is_snapshot"]
        rows = np.flatnonzero(told)
        times, book = columns.values["local_timestamp"][rows], columns.book[rows]
        is_snapshot = columns.values["is_snapshot"][rows] == 1
        starts = np.ones(len(rows), np.bool_)
        cleared = ~is_snapshot[:-1] & is_snapshot[1:]
        goes_on = (times[1:] == times[:-1]) | (is_snapshot[1:] & is_snapshot[:-1])
        starts[1:] = (book[1:] != book[:-1]) | cleared | ~goes_on
        return rows, starts

    def stamps(self, columns: Columns, messages: Messages) -> Stamps:
        """Return times, sequence and snapshot flag of the messages kept."""
        firsts = messages.firsts[: messages.keep]
        sequence = self.clock.sequences(columns, messages)
        received = self.clock.unit.nanoseconds(columns.values["local_timestamp"][firsts])
        is_snapshot = columns.values["is_snapshot"][firsts] == 1
        self._join_snapshots(columns, messages, is_snapshot, sequence, received)
        return {
            "timestamp": self.clock.unit.nanoseconds(_newest(columns.values["timestamp"], messages)),
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
        """Give a snapshot that rows of another symbol cut the stamps of its first part."""
        last = columns.values["is_snapshot"][_last_rows(messages)] == 1
        books = columns.book[messages.firsts[: messages.keep]]
        previous = _previous(books)
        for place in np.flatnonzero(is_snapshot & ((previous < 0) | last[previous])).tolist():
            before = int(previous[place])
            first = (sequence[before], received[before]) if before >= 0 else None
            if first := first or self.open.get(name_of(columns, int(books[place]))):
                sequence[place], received[place] = first
        for code, place in latest(books).items():
            book = name_of(columns, code)
            self.open.pop(book, None)
            if last[place]:
                self.open[book] = int(sequence[place]), int(received[place])


def _last_rows(messages: Messages) -> NDArray[np.int64]:
    """Return the last row of each message kept."""
    rows = np.flatnonzero(messages.number >= 0)
    ends = np.searchsorted(messages.number[rows], np.arange(messages.keep), "right")
    last: NDArray[np.int64] = rows[ends - 1]
    return last


def _newest(times: NDArray[np.int64], messages: Messages) -> NDArray[np.int64]:
    """Return the greatest time of each message kept."""
    rows = np.flatnonzero(messages.number >= 0)
    if not len(rows):
        return times[:0]
    starts = np.searchsorted(messages.number[rows], np.arange(len(messages.firsts)))
    newest: NDArray[np.int64] = np.maximum.reduceat(times[rows], starts)[: messages.keep]
    return newest


def _previous(books: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each message the one before it of the same book; -1: none."""
    order = np.argsort(books, kind="stable")
    same = books[order[1:]] == books[order[:-1]]
    previous = np.full(len(books), -1)
    previous[order[1:][same]] = order[:-1][same]
    return previous
