"""Tables of a row per level: consecutive rows become book updates, without a Python step per row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.udfs.numbers.decimal_text import scaled_levels
from deltabook.udfs.sources.common.records import Records, column_batch, labels
from deltabook.udfs.sources.csv.columns import Columns, Shape
from deltabook.udfs.sources.csv.tables import Messages, TableParser

Book = tuple[str, str]
Stamps = dict[str, NDArray[Any]]


class LevelParser(TableParser):
    """Reads a table of levels.

    A row that is not readable goes to quarantine, and its message is marked as damaged. Where only its
    instrument can be told, an empty damaged update with the stamps of the book's last message is put at
    its place, and the message just before it, if it is the book's, is marked; where not even that can be
    told, this happens to every book of the file. If there is none yet, the next message is marked.

    Parameters
    ----------
    path : str
        The file's name.
    shape : Shape
        Its columns.
    price, size, side : str
        The columns of a level.
    ask : str
        What `side` says of an ask.
    """

    def __init__(self, path: str, shape: Shape, price: str, size: str, side: str, ask: str):
        super().__init__(path, shape)
        self.price, self.size, self.side, self.ask = price, size, side, ask
        self.last: dict[Book, dict[str, int]] = {}
        """The stamps of the last message of each book."""
        self.due: set[Book | None] = set()
        """Books whose next message is damaged; None: the next of any book."""
        self.unmarked: set[Book] = set()
        """Books with a message since they were last marked as damaged."""

    def stamps(self, columns: Columns, messages: Messages) -> Stamps:
        """Return the columns of the first `messages.keep` messages, but for their names and levels."""
        raise NotImplementedError

    def records(self, columns: Columns, messages: Messages) -> Iterator[pa.RecordBatch]:
        """Yield the records of the rows before `messages.end`."""
        keep = messages.keep
        strict = Records(self.path)
        stamps = self.stamps(columns, messages)
        books = columns.book[messages.firsts[:keep]]
        odd = np.zeros(keep, np.bool_)
        readable = columns.plain[: messages.end].copy()
        damage = _Damage(self, columns, messages, stamps)
        for row in columns.unusual(messages.end):
            if reason := columns.fault(row):
                strict.quarantine(self.first_row + row, columns.rows.line(row), reason)
                damage.mark(row, strict)
            else:
                odd[messages.number[row]] = readable[row] = True
        damage.settle()
        stamps |= {"damaged": damage.damaged, "source_row": self.first_row + messages.firsts[:keep]}
        if not odd.all():
            yield self._plain(columns, messages, stamps, np.flatnonzero(~odd))
        for message in np.flatnonzero(odd).tolist():
            strict.add(self._printed(columns, messages, stamps, message, readable))
        for code, place in latest(books).items():
            self.last[name_of(columns, code)] = _stamp(stamps, place)
        if len(strict):
            yield strict.batch()

    def _plain(
        self, columns: Columns, messages: Messages, stamps: Stamps, chosen: NDArray[np.int64]
    ) -> pa.RecordBatch:
        """Make the records of messages whose numbers are all plainly printed."""
        books = columns.book[messages.firsts[chosen]]
        names = [book or ("", "") for book in columns.books]
        batch: dict[str, Any] = {name: values[chosen] for name, values in stamps.items()} | {
            "record": labels(np.zeros(len(chosen), np.int64), ["book_update"]),
            "exchange": labels(books, [exchange for exchange, _ in names]),
            "symbol": labels(books, [symbol for _, symbol in names]),
        }
        wanted = np.zeros(len(messages.firsts) + 1, np.bool_)
        wanted[chosen] = True  # and not the last place, which is that of rows of no message
        rows = columns.plain & wanted[messages.number]
        asks = columns.values[self.side] == columns.shape.choices[self.side].index(self.ask)
        for side, here in (("bid", rows & ~asks), ("ask", rows & asks)):
            levels = np.flatnonzero(here)
            counts = np.bincount(messages.number[levels], minlength=len(messages.firsts))[chosen]
            offsets = pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
            for what, name in (("prices", self.price), ("sizes", self.size)):
                values = pa.array(columns.values[name][levels])
                batch[f"{side}_{what}"] = pa.ListArray.from_arrays(offsets, values)
        return column_batch(self.path, batch, len(chosen))

    def _printed(
        self,
        columns: Columns,
        messages: Messages,
        stamps: Stamps,
        message: int,
        readable: NDArray[np.bool_],
    ) -> dict[str, Any]:
        """Make the record of a message that has a number which is not plainly printed."""
        start = int(messages.firsts[message])
        end = int(messages.firsts[message + 1]) if message + 1 < len(messages.firsts) else messages.end
        rows = start + np.flatnonzero((messages.number[start:end] == message) & readable[start:end])
        sides: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
        for row in rows.tolist():
            level = columns.text(row, self.price), columns.text(row, self.size)
            sides[columns.text(row, self.side) == self.ask].append(level)
        exchange, symbol = name_of(columns, int(columns.book[start]))
        return {
            "record": "book_update",
            "exchange": exchange,
            "symbol": symbol,
            **{name: values[message].item() for name, values in stamps.items()},
            **scaled_levels(sides[False], sides[True]),
        }


class _Damage:
    """Which of a block's messages are damaged by unreadable rows.

    A book is marked once between two of its messages: unreadable rows among many books cost a step for each
    row and message, not for each pair of them.
    """

    def __init__(self, parser: LevelParser, columns: Columns, messages: Messages, stamps: Stamps):
        self.parser, self.columns, self.messages, self.stamps = parser, columns, messages, stamps
        self.books = columns.book[messages.firsts[: messages.keep]]
        self.places = _places(columns, self.books)
        self.damaged = np.zeros(messages.keep, np.bool_)
        self.due: set[tuple[int, Book | None]] = {(0, book) for book in parser.due}
        self.passed = 0

    def mark(self, row: int, records: Records) -> None:
        """Mark what an unreadable row belongs to, or may belong to."""
        if self.messages.number[row] >= 0:
            self.damaged[self.messages.number[row]] = True
            return
        before = int(np.searchsorted(self.messages.firsts[: self.messages.keep], row, "right"))
        self._pass(before)
        for book in self._candidates(row, before):
            place = -1 if book is None else self._latest(book, before)
            if book is None or (place < 0 and book not in self.parser.last):
                self.due.add((before, book))
                continue
            if place >= 0 and place == before - 1:  # others may have been finished with the block before
                self.damaged[place] = True
            if book in self.parser.unmarked:
                self.parser.unmarked.remove(book)
                stamp = _stamp(self.stamps, place) if place >= 0 else self.parser.last[book]
                names = {"exchange": book[0], "symbol": book[1], "source_row": self.parser.first_row + row}
                records.add({"record": "book_update", "damaged": True} | names | stamp)

    def settle(self) -> None:
        """Mark the next message where there was none before; what has none here waits for the next block."""
        self._pass(len(self.books))
        self.parser.due = set()
        for before, book in self.due:
            places = np.arange(len(self.damaged)) if book is None else self.places.get(book, np.arange(0))
            following = places[places >= before]
            if len(following):
                self.damaged[following[0]] = True
            else:
                self.parser.due.add(book)

    def _pass(self, before: int) -> None:
        """Note the books of the messages up to a place."""
        codes = np.unique(self.books[self.passed : before]).tolist()
        self.parser.unmarked |= {name_of(self.columns, code) for code in codes}
        self.passed = max(self.passed, before)

    def _candidates(self, row: int, before: int) -> list[Book] | list[None]:
        """Return the books that a row may belong to and that are to be marked; None: there is none yet."""
        named = self.columns.instrument(row)
        if named is not None and (self.columns.named[row] or self._is_known(named, before)):
            return [named]
        if before or self.parser.last:
            return sorted(self.parser.unmarked)  # in an order that no size of blocks changes
        return [None]

    def _is_known(self, book: Book, before: int) -> bool:
        return book in self.parser.last or self._latest(book, before) >= 0

    def _latest(self, book: Book, before: int) -> int:
        """Return the last message of a book before a place; -1: none."""
        places = self.places.get(book, np.arange(0))
        count = int(np.searchsorted(places, before))
        return int(places[count - 1]) if count else -1


def _places(columns: Columns, books: NDArray[np.int64]) -> dict[Book, NDArray[np.int64]]:
    """Return the messages of each book, in their order."""
    order = np.argsort(books, kind="stable")
    codes, starts = np.unique(books[order], return_index=True)
    parts = np.split(order, starts[1:])
    return {name_of(columns, code): part for code, part in zip(codes.tolist(), parts, strict=False)}


def latest(books: NDArray[np.int64]) -> dict[int, int]:
    """Return the last place of each book's code."""
    codes, places = np.unique(books[::-1], return_index=True)
    return dict(zip(codes.tolist(), (len(books) - 1 - places).tolist(), strict=True))


def name_of(columns: Columns, code: int) -> Book:
    """Return the name of a message's book by its code."""
    name = columns.books[code]
    assert name is not None  # only rows with a name are part of a message
    return name


def _stamp(stamps: Stamps, place: int) -> dict[str, int]:
    return {name: int(stamps[name][place]) for name in ("timestamp", "received", "sequence")}
