"""Base class of the parsers of tables with one row per level change; it joins rows into book updates.

A damage mark tells later stages that a part of a message is lost: the message has ``damaged=True``. If no
message can be marked, the mark is an additional, empty book update with ``damaged=True``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.udfs.numbers.decimal_text import scale_levels
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.records import RecordColumns, Records, build_batch, label_column
from deltabook.udfs.sources.csv.columns import Columns, TableSchema
from deltabook.udfs.sources.csv.tables import Messages, TableParser

Book: TypeAlias = tuple[str, str]
"""(exchange, symbol)."""
MessageColumns: TypeAlias = dict[str, NDArray[np.int64] | NDArray[np.bool_]]
"""{column of `records`: array with one value per message}."""


class LevelParser(TableParser):
    """Parser of a table with one row per level change.

    An unreadable row goes to quarantine, and its book gets a damage mark:

    - If the row shows its message, this message is marked as damaged.
    - If the row shows only its instrument, an empty damaged update is added at the row, with the times and
      the sequence of the book's last message. If the message just before the row belongs to the book, that
      message is marked as damaged too.
    - If the row does not show its instrument, every book that the file has named so far gets this update and
      this mark.
    - If the book has no message before the row, its next message is marked as damaged.

    Parameters
    ----------
    path : str
        Path of the raw file, as column `source_file` stores it.
    schema : TableSchema
        Columns of the table.
    price, size, side : str
        Names of the columns with the price, the size and the side of a level.
    ask : str
        Label of asks in the `side` column.
    """

    def __init__(self, path: str, schema: TableSchema, price: str, size: str, side: str, ask: str):
        super().__init__(path, schema)
        self.price, self.size, self.side, self.ask = price, size, side, ask
        self.last: dict[Book, Record] = {}
        """{book: times and sequence of the book's last message}."""
        self.due: set[Book | None] = set()
        """Books whose next message must be marked as damaged; None for the next message of any book."""
        self.unmarked: set[Book] = set()
        """Books that have a message after their last damage mark."""

    def message_columns(self, columns: Columns, messages: Messages) -> MessageColumns:
        """Return the columns of the complete messages, without exchange, symbol and levels.

        The columns are `timestamp`, `received`, `sequence` and `is_snapshot`; for feeds with linked ids also
        `first_sequence` and `prev_sequence`.
        """
        raise NotImplementedError

    def records(self, columns: Columns, messages: Messages) -> Iterator[pa.RecordBatch]:
        """Yield the records of the rows before `messages.end_row`."""
        keep = messages.complete
        strict = Records(self.path)
        message_columns = self.message_columns(columns, messages)
        books = columns.instrument_codes[messages.first_rows[:keep]]
        is_strict = np.zeros(keep, np.bool_)
        readable = columns.read_by_kernel[: messages.end_row].copy()
        damage = _Damage(self, columns, messages, message_columns)
        for row in columns.strict_rows(messages.end_row):
            if reason := columns.explain_fault(row):
                strict.quarantine(self.first_row + row, columns.rows.line(row), reason)
                damage.mark(row, strict)
            else:
                is_strict[messages.message_of_row[row]] = readable[row] = True
        damage.settle()
        message_columns |= {
            "damaged": damage.damaged,
            "source_row": self.first_row + messages.first_rows[:keep],
        }
        if not is_strict.all():
            yield self._make_fast_batch(columns, messages, message_columns, np.flatnonzero(~is_strict))
        for message in np.flatnonzero(is_strict).tolist():
            strict.add(self._read_strict(columns, messages, message_columns, message, readable))
        for code, message in last_message_by_code(books).items():
            self.last[book_of_code(columns, code)] = _times_and_sequence(message_columns, message)
        if len(strict):
            yield strict.take_batch()

    def _make_fast_batch(
        self, columns: Columns, messages: Messages, message_columns: MessageColumns, chosen: NDArray[np.int64]
    ) -> pa.RecordBatch:
        """Return the records of the messages that the kernels could read completely.

        Parameters
        ----------
        columns : Columns
            Rows of the block.
        messages : Messages
            Messages of the block.
        message_columns : dict
            {column of `records`: one value per complete message}.
        chosen : int64[:]
            Indices of the messages to return.
        """
        books = columns.instrument_codes[messages.first_rows[chosen]]
        names = [book or ("", "") for book in columns.instruments]
        batch: RecordColumns = {name: values[chosen] for name, values in message_columns.items()}
        batch["record"] = label_column(np.zeros(len(chosen), np.int64), ["book_update"])
        batch["exchange"] = label_column(books, [exchange for exchange, _ in names])
        batch["symbol"] = label_column(books, [symbol for _, symbol in names])
        wanted = np.zeros(len(messages.first_rows) + 1, np.bool_)
        wanted[chosen] = True  # the last element stays False: rows without a message have index -1
        rows = columns.read_by_kernel & wanted[messages.message_of_row]
        asks = columns.values[self.side] == columns.schema.choices[self.side].index(self.ask)
        for side, here in (("bid", rows & ~asks), ("ask", rows & asks)):
            levels = np.flatnonzero(here)
            counts = np.bincount(messages.message_of_row[levels], minlength=len(messages.first_rows))[chosen]
            offsets = pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
            for what, name in (("prices", self.price), ("sizes", self.size)):
                values = pa.array(columns.values[name][levels])
                batch[f"{side}_{what}"] = pa.ListArray.from_arrays(offsets, values)
        return build_batch(self.path, batch, len(chosen))

    def _read_strict(
        self,
        columns: Columns,
        messages: Messages,
        message_columns: MessageColumns,
        message: int,
        readable: NDArray[np.bool_],
    ) -> Record:
        """Return the record of one message with numbers that the kernels cannot read.

        Parameters
        ----------
        columns : Columns
            Rows of the block.
        messages : Messages
            Messages of the block.
        message_columns : dict
            {column of `records`: one value per complete message}.
        message : int
            Index of the message.
        readable : bool[:]
            Whether each row of the block can be read, by the kernels or by Python.
        """
        start = int(messages.first_rows[message])
        end = (
            int(messages.first_rows[message + 1])
            if message + 1 < len(messages.first_rows)
            else messages.end_row
        )
        rows = start + np.flatnonzero((messages.message_of_row[start:end] == message) & readable[start:end])
        sides: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
        for row in rows.tolist():
            level = columns.text(row, self.price), columns.text(row, self.size)
            sides[columns.text(row, self.side) == self.ask].append(level)
        exchange, symbol = book_of_code(columns, int(columns.instrument_codes[start]))
        record: Record = {
            "record": "book_update",
            "exchange": exchange,
            "symbol": symbol,
            "source_row": int(message_columns["source_row"][message]),
            "is_snapshot": bool(message_columns["is_snapshot"][message]),
            "damaged": bool(message_columns["damaged"][message]),
        }
        record |= _times_and_sequence(message_columns, message)
        record |= scale_levels(sides[False], sides[True])
        if "first_sequence" in message_columns:
            record["first_sequence"] = int(message_columns["first_sequence"][message])
            record["prev_sequence"] = int(message_columns["prev_sequence"][message])
        return record


class _Damage:
    """Adds the damage marks for the unreadable rows of one block.

    A book gets at most one mark between two of its messages. So the cost grows with the number of unreadable
    rows plus the number of messages, not with the number of rows times the number of books.
    """

    def __init__(
        self, parser: LevelParser, columns: Columns, messages: Messages, message_columns: MessageColumns
    ):
        self.parser, self.columns, self.messages, self.message_columns = (
            parser,
            columns,
            messages,
            message_columns,
        )
        self.books = columns.instrument_codes[messages.first_rows[: messages.complete]]
        self.messages_by_book = _group_by_book(columns, self.books)
        self.damaged = np.zeros(messages.complete, np.bool_)
        self.due: set[tuple[int, Book | None]] = {(0, book) for book in parser.due}
        """(index of a message, book): the book's first message from this index on must be marked as damaged.

        The book is None if the first message of any book must be marked.
        """
        self.passed = 0
        """Number of messages whose books are already in the parser's `unmarked`."""

    def mark(self, row: int, records: Records) -> None:
        """Add damage marks for one unreadable row; empty damaged updates go to `records`.

        Parameters
        ----------
        row : int
            Index of the unreadable row in the block.
        records : Records
            Collection to which damaged updates are added.
        """
        if self.messages.message_of_row[row] >= 0:
            self.damaged[self.messages.message_of_row[row]] = True
            return
        before = int(np.searchsorted(self.messages.first_rows[: self.messages.complete], row, "right"))
        self._unmark_books(before)
        for book in self._candidates(row, before):
            last_message = -1 if book is None else self._last_message(book, before)
            if book is None or (last_message < 0 and book not in self.parser.last):
                self.due.add((before, book))
                continue
            # Mark only the message just before the row: an earlier message may be in a finished block.
            if last_message >= 0 and last_message == before - 1:
                self.damaged[last_message] = True
            if book in self.parser.unmarked:
                self.parser.unmarked.remove(book)
                in_block = last_message >= 0
                stamps = (
                    _times_and_sequence(self.message_columns, last_message)
                    if in_block
                    else self.parser.last[book]
                )
                mark: Record = {
                    "record": "book_update",
                    "damaged": True,
                    "exchange": book[0],
                    "symbol": book[1],
                    "source_row": self.parser.first_row + row,
                }
                records.add(mark | stamps)

    def settle(self) -> None:
        """Mark the next message of each book that had no message before its unreadable row.

        A book whose next message is not in this block stays in the parser's `due` for a later block.
        """
        self._unmark_books(len(self.books))
        self.parser.due = set()
        for before, book in self.due:
            if book is None:
                messages = np.arange(len(self.damaged))
            else:
                messages = self.messages_by_book.get(book, np.arange(0))
            following = messages[messages >= before]
            if len(following):
                self.damaged[following[0]] = True
            else:
                self.parser.due.add(book)

    def _unmark_books(self, before: int) -> None:
        """Add the books of the messages before index `before` to the parser's `unmarked`."""
        codes = np.unique(self.books[self.passed : before]).tolist()
        self.parser.unmarked |= {book_of_code(self.columns, code) for code in codes}
        self.passed = max(self.passed, before)

    def _candidates(self, row: int, before: int) -> list[Book] | list[None]:
        """Return the books that an unreadable row may belong to.

        If the row does not show its book, the result is every book without a damage mark since its last
        message. The result is [None] if the file has no message before the row.
        """
        book = self.columns.instrument(row)
        if book is not None and (self.columns.has_instrument[row] or self._is_known(book, before)):
            return [book]
        if before or self.parser.last:
            return sorted(self.parser.unmarked)  # sorted: the order must not depend on the size of blocks
        return [None]

    def _is_known(self, book: Book, before: int) -> bool:
        return book in self.parser.last or self._last_message(book, before) >= 0

    def _last_message(self, book: Book, before: int) -> int:
        """Return the index of a book's last message before message index `before`; -1 if there is none."""
        messages = self.messages_by_book.get(book, np.arange(0))
        count = int(np.searchsorted(messages, before))
        return int(messages[count - 1]) if count else -1


def _group_by_book(columns: Columns, books: NDArray[np.int64]) -> dict[Book, NDArray[np.int64]]:
    """Return {book: ascending indices of the book's messages}."""
    order = np.argsort(books, kind="stable")
    codes, starts = np.unique(books[order], return_index=True)
    parts = np.split(order, starts[1:])
    return {book_of_code(columns, code): part for code, part in zip(codes.tolist(), parts, strict=False)}


def last_message_by_code(books: NDArray[np.int64]) -> dict[int, int]:
    """Return {code of a book: index of the book's last message}.

    Parameters
    ----------
    books : int64[n]
        Code of each message's book.
    """
    codes, from_end = np.unique(books[::-1], return_index=True)
    return dict(zip(codes.tolist(), (len(books) - 1 - from_end).tolist(), strict=True))


def book_of_code(columns: Columns, code: int) -> Book:
    """Return the (exchange, symbol) of the book with a code; the book must have a valid name."""
    book = columns.instruments[code]
    assert book is not None  # only rows with a valid instrument are part of a message
    return book


def _times_and_sequence(message_columns: MessageColumns, message: int) -> Record:
    """Return `timestamp`, `received` and `sequence` of one message."""
    return {
        "timestamp": int(message_columns["timestamp"][message]),
        "received": int(message_columns["received"][message]),
        "sequence": int(message_columns["sequence"][message]),
    }
