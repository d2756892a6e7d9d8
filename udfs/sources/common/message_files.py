"""Base classes of sources whose files have one message per line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from typing import IO, ClassVar

import pyarrow as pa

from deltabook.schemas.errors import InputError
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.documents import one_message_per_line
from deltabook.udfs.sources.common.envelopes import Line, split_line
from deltabook.udfs.sources.common.file_source import (
    BLANK,
    CONNECTION,
    QUARANTINED,
    TAKEN,
    FileSource,
    LineCounts,
    MixedUnitsError,
    TimeUnit,
    line_blocks,
)
from deltabook.udfs.sources.common.json_decoding import JsonObject, decode_message
from deltabook.udfs.sources.common.limits import Limits, check_levels
from deltabook.udfs.sources.common.message_fields import excerpt
from deltabook.udfs.sources.common.records import Records
from deltabook.udfs.sources.common.symbols import canonical_symbol

_ESCAPE = re.compile(rb"\\u([0-9a-fA-F]{4})")
KEEP_ALIVE = (b"ping", b"pong")
"""Messages that keep a connection open, on several venues."""
NO_BOOK = ("", "")
"""Result of `damaged_symbol` for a line that belongs to no book, such as a trade."""


class MessageParser:
    """Parser of one file of messages; each source has a subclass that reads its messages.

    A line for which `message` raises ValueError or InputError goes to quarantine. If `marks_damage` is set,
    the book of the unreadable line also gets a damage mark: an empty book update with ``damaged=True``. The
    method `damaged_symbol` returns this book. If it returns None, every book of the file gets a damage mark.

    Parameters
    ----------
    path : str
        Path of the raw file, as column `source_file` stores it.
    limits : Limits
        Limits of a message and of the file.

    Attributes
    ----------
    marks_damage : bool
        Whether an unreadable message needs a damage mark, because the feed has no ids that show the gap.
    records : Records
        Records of the lines since the last batch.
    unit : TimeUnit
        Unit of the file's event times.
    row : int
        Row of the current line in the file, from 1.
    lines : Counter
        Number of lines by kind, so far; see `file_source.LineCounts`.
    """

    marks_damage: ClassVar[bool] = False

    def __init__(self, path: str, limits: Limits):
        self.path = path
        self.limits = limits
        self.records = Records(path)
        self.unit = TimeUnit()
        self.row = 0
        self.lines: LineCounts = Counter()
        self._kind = ""
        self.books: dict[tuple[str, str], Record] = {}
        """{(exchange, symbol): times and sequence of the book's last update}."""
        self.unmarked: dict[tuple[str, str], None] = {}
        """Books, as (exchange, symbol) keys, that have an update after their last damage mark."""

    def message(self, line: Line) -> None:
        """Read one message and `add` its records, or `skip` it.

        Raises
        ------
        ValueError, InputError
            If the message is unreadable.
        """
        raise NotImplementedError

    def decode_object(self, payload: bytes) -> JsonObject:
        """Return the decoded JSON object of a message.

        Parameters
        ----------
        payload : bytes
            The message.

        Raises
        ------
        ValueError
            If the message is not readable JSON (see `decode_message`), or is no object.
        """
        message = decode_message(payload, self.limits.most_levels)
        if not isinstance(message, dict):
            raise ValueError(f"expected an object, found {excerpt(message)}")
        return message

    def skip(self, kind: str) -> None:
        """Count the current line as a line of a kind that this source does not read.

        Parameters
        ----------
        kind : str
            Name of the channel or kind of message, such as ``ticker`` or ``answer to a subscription``.
        """
        self._kind = f"other: {kind[:40]}"

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the (exchange, symbol) of the book that an unreadable line belongs to.

        Returns
        -------
        (exchange, symbol) or None
            `NO_BOOK` if the line belongs to no book; None if the line does not show which book it belongs to.
        """
        return None

    def find_named_book(self, exchange: str, printed: bytes) -> tuple[str, str] | None:
        """Return the book that an unreadable line names; a result for `damaged_symbol`.

        Parameters
        ----------
        exchange : str
            Exchange of the line.
        printed : bytes
            Name of the instrument as the line prints it.

        Returns
        -------
        (exchange, symbol) or None
            `NO_BOOK` for a name in other letters than ASCII, which no book has. None if the file has no book
            of this name, which may be damaged.
        """
        name = _ESCAPE.sub(lambda match: chr(int(match[1], 16)).encode("utf-8", "surrogatepass"), printed)
        if _is_foreign_name(name):
            return NO_BOOK
        try:
            book = exchange, canonical_symbol(name.decode("ascii"))
        except (InputError, UnicodeDecodeError):
            return None
        return book if book in self.books else None

    def connection(self, line: Line) -> None:
        """Read a line about a connection or a request, which has no message; do nothing by default."""

    def finish_block(self) -> None:
        """Complete `records.pending`, the records of one block of lines, before they become a batch."""

    def finish(self) -> None:
        """Add the records that can only be made after the last line of the file."""

    def add(self, record: Record) -> None:
        """Add a record of the current line; raise ValueError if it has too many levels.

        Parameters
        ----------
        record : Record
            The record without `source_file` and `source_row`.
        """
        check_levels(record, self.limits.most_levels)
        self.records.add({"source_row": self.row, **record})
        if record["record"] == "book_update":
            key = record["exchange"], record["symbol"]
            self.books[key] = {
                "timestamp": record["timestamp"],
                "received": record["received"],
                "sequence": record["sequence"],
            }
            self.unmarked[key] = None

    def parse(self, stream: IO[bytes]) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of a file, one batch per block of lines; return the number of lines by kind."""
        for block in one_message_per_line(line_blocks(stream, self.path)):
            for line in block.splitlines():
                self.row += 1
                self._read_line(line)
            self.finish_block()
            if len(self.records):
                yield self.records.take_batch()
        self.finish()
        if len(self.records):
            yield self.records.take_batch()
        return self.lines

    def _read_line(self, line: bytes) -> None:
        """Read one line and count it; put an unreadable line in quarantine."""
        self._kind = TAKEN
        if self.marks_damage and line[:1] == b"\0" and self.row > 1:
            self._mark_damaged(None)  # NUL bytes stand for lines that were lost
        try:
            split = split_line(line)
            if split.payload:
                self.message(split)
            elif line.strip():
                self._kind = CONNECTION
                self.connection(split)
            else:
                self._kind = BLANK
            self.lines[self._kind] += 1
        except MixedUnitsError:
            raise
        except (ValueError, InputError, RecursionError) as error:
            self.lines[QUARANTINED] += 1
            self.records.quarantine(self.row, line, str(error))
            if self.marks_damage:
                self._mark_damaged(self.damaged_symbol(line))

    def _mark_damaged(self, book: tuple[str, str] | None) -> None:
        """Add a damage mark to one book, or to all books of the file if `book` is None.

        A damage mark is an empty book update with ``damaged=True``. A book whose last update is older than
        its last mark gets no second mark.
        """
        books = list(self.unmarked) if book is None else [book] if book in self.unmarked else []
        for exchange, symbol in books:
            mark: Record = {
                "record": "book_update",
                "exchange": exchange,
                "symbol": symbol,
                "damaged": True,
                "source_row": self.row,
            }
            self.records.add(mark | self.books[exchange, symbol])
            del self.unmarked[exchange, symbol]


class MessageSource(FileSource):
    """A source whose files have one message per line.

    Attributes
    ----------
    parser : type of MessageParser
        Class that parses one file.
    """

    parser: ClassVar[type[MessageParser]]
    by_lines = True

    def parse(self, stream: IO[bytes], path: str) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of one file (see `FileSource.parse`)."""
        return (yield from self.parser(path, self.limits).parse(stream))


def _is_foreign_name(name: bytes) -> bool:
    """Return whether a name is readable text that is not ASCII, so that it is refused and names no book.

    A damaged name is seldom valid UTF-8 of letters and digits, and may have been that of any book.
    """
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not text.isascii() and all(letter.isalnum() or letter in "-_./" for letter in text)
