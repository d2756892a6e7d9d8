"""Base classes of sources whose files have one message per line, and readers of message fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from decimal import Decimal
from hashlib import blake2b
from typing import IO, ClassVar

import pyarrow as pa

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import INT64_MAX, NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import MOST_DECIMALS
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
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.limits import Limits, check_levels
from deltabook.udfs.sources.common.records import Records

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


def read_integer(message: JsonObject, key: str) -> int:
    """Return a field that is an id or a time.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.

    Returns
    -------
    int
        The value, from 0 to 2^63 - 1.

    Raises
    ------
    ValueError
        If the field is absent, or is neither an integer from 0 to 2^63 - 1 nor the decimal text of such an
        integer.
    """
    value = message.get(key)
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INT64_MAX:
        raise ValueError(f"field {key}: expected an integer that fits int64, found {excerpt(value)}")
    return value


def read_text(message: JsonObject, key: str) -> str:
    """Return a field that is a text.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field.

    Returns
    -------
    str
        The text.

    Raises
    ------
    ValueError
        If the field is absent or not a text.
    """
    value = message.get(key)
    if not isinstance(value, str):
        raise ValueError(f"field {key}: expected a text, found {excerpt(value)}")
    return value


def read_level_list(message: JsonObject, key: str) -> list[list[object]]:
    """Return the printed price and size of each level in a field.

    Parameters
    ----------
    message : dict
        A decoded JSON object.
    key : str
        Name of the field; its value is a list of `[price, size, …]`.

    Returns
    -------
    list of [price, size]
        Price and size of each level as printed, in the order of the message.

    Raises
    ------
    ValueError
        If the field is absent or not a list of lists.
    """
    value = message.get(key)
    if not isinstance(value, list) or not all(isinstance(level, list) for level in value):
        raise ValueError(f"field {key}: expected a list of levels, found {excerpt(value)}")
    return [level[:2] for level in value]


def count_digits(numbers: list[object]) -> int:
    """Return the largest number of decimals that any of the printed numbers has; -1 for an empty list.

    Parameters
    ----------
    numbers : list of (str, int or Decimal)
        Numbers as the venue prints them.

    Raises
    ------
    ValueError
        If a number is no plain number, or has more than `MOST_DECIMALS` decimals.
    """
    try:
        exponents = [int(Decimal(str(number)).as_tuple().exponent) for number in numbers]
    except (ArithmeticError, ValueError):
        raise ValueError(f"expected plain numbers, found {excerpt(numbers)}") from None
    digits = max((max(0, -exponent) for exponent in exponents), default=NOT_GIVEN)
    if digits > MOST_DECIMALS:
        raise ValueError(f"expected a level with at most {MOST_DECIMALS} decimals, found {digits}")
    return digits


def is_foreign_name(name: bytes) -> bool:
    """Return whether a name is readable text that is not ASCII, so that it is refused and names no book.

    A damaged name is seldom valid UTF-8 of letters and digits, and may have been that of any book.

    Parameters
    ----------
    name : bytes
        The name of an instrument as an unreadable line shows it.
    """
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not text.isascii() and all(letter.isalnum() or letter in "-_./" for letter in text)


def hash_id(text: str) -> int:
    """Return a hash, from 0 to 2^63 - 1, that replaces a text id such as a UUID."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def excerpt(value: object) -> str:
    """Return the first 200 characters of a value's repr, for an error message."""
    return repr(value)[:200]
