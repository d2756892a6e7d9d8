"""Sources whose files hold one message a line, bare or as a recorder dumped it.

A line is one of

- `<receive time> <message>`: nanoseconds as an integer;
- `<receive time>: <message>`: seconds with decimals (a cryptofeed dump, `.ws.` files);
- `<URL> -> <receive time>: <message>`: an answer to a request (a cryptofeed dump, `.http.` files);
- `wss://… <-> …`, `wss://… <- …`, `<URL> <- …`: connections and what was sent, which hold no message;
- the message alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import IO, Any, ClassVar

import pyarrow as pa

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import INT64_MAX
from deltabook.udfs.sources.common.file_source import FileSource, MixedUnitsError, TimeUnit, line_blocks
from deltabook.udfs.sources.common.limits import Limits, check_levels
from deltabook.udfs.sources.common.records import Records

_NANOSECONDS = re.compile(rb"(\d{19}) ")
_SECONDS = re.compile(rb"(\d{9,11}(?:\.\d{1,12})?): ")
_ANSWER = re.compile(rb"(https?://\S+) -> (\d{9,11}(?:\.\d{1,12})?): ")
_CONNECTION = re.compile(rb"(?:wss?|https?)://\S+ (?:<->|<-|->)")


NO_BOOK = ("", "")
"""What `damaged_symbol` returns for a line that was no part of any book."""


@dataclass(frozen=True)
class Line:
    """One line, taken apart.

    Attributes
    ----------
    received : int
        Receive time, ns since 1970 UTC; -1 if not given.
    payload : bytes
        The message.
    url : str
        What it answers; empty for a message of a stream.
    """

    received: int
    payload: bytes
    url: str = ""


def split_line(line: bytes) -> Line | None:
    """Take a line apart.

    Parameters
    ----------
    line : bytes
        Without its newline.

    Returns
    -------
    Line or None
        None for a line that holds no message.

    Raises
    ------
    ValueError
        If the receive time does not fit int64.
    """
    if match := _NANOSECONDS.match(line):
        received = int(match[1])
        if received > INT64_MAX:
            raise ValueError(f"receive time {received} does not fit int64")
        return Line(received, line[match.end() :])
    if match := _SECONDS.match(line):
        return Line(_seconds(match[1]), line[match.end() :])
    if match := _ANSWER.match(line):
        return Line(_seconds(match[2]), line[match.end() :], match[1].decode("ascii", "replace"))
    if not line.strip() or _CONNECTION.match(line):
        return None
    return Line(NOT_GIVEN, line)


def _seconds(text: bytes) -> int:
    received = int(Decimal(text.decode()) * NANOSECONDS_PER_SECOND)
    if received > INT64_MAX:
        raise ValueError(f"receive time {text.decode()} does not fit int64 in ns")
    return received


class MessageParser:
    """Reads the messages of one file; a source's own parser says what each of them is.

    What raises ValueError or InputError in `message` is put into quarantine. If the feed's ids cannot
    show that loss (`marks_damage`), every book of the file, or the one whose name `damaged_symbol`
    finds in the line, is marked as damaged there.

    Parameters
    ----------
    path : str
        The file's name.
    limits : Limits
        What a message may hold.
    """

    marks_damage: ClassVar[bool] = False

    def __init__(self, path: str, limits: Limits):
        self.path = path
        self.limits = limits
        self.records = Records(path)
        self.unit = TimeUnit()
        self.row = 0
        self.books: dict[tuple[str, str], dict[str, Any]] = {}
        """The last book update of each (exchange, symbol): its `timestamp`, `received`, `sequence`."""
        self.unmarked: dict[tuple[str, str], None] = {}
        """Books with an update since they were last marked as damaged, in the order of these updates."""

    def message(self, line: Line) -> None:
        """Read one message: `add` what it holds; raises ValueError or InputError if it is not readable."""
        raise NotImplementedError

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the (exchange, symbol) that an unreadable line belongs to, None if that is not known, or
        `NO_BOOK`.
        """
        return None

    def connection(self, line: bytes) -> None:
        """Take note of a line that holds no message: a connection, a request, or a blank line."""

    def finish_block(self) -> None:
        """Complete `records.pending`, the records of one block of lines, before they become a batch."""

    def finish(self) -> None:
        """Add what only the end of the file decides."""

    def add(self, record: dict[str, Any]) -> None:
        """Add a record of the line at hand; raises ValueError if it has too many levels."""
        check_levels(record, self.limits.most_levels)
        self.records.add({"source_row": self.row} | record)
        if record["record"] == "book_update":
            names = ("timestamp", "received", "sequence")
            key = record["exchange"], record["symbol"]
            self.books[key] = {name: record[name] for name in names}
            self.unmarked[key] = None

    def parse(self, stream: IO[bytes]) -> Iterator[pa.RecordBatch]:
        """Yield the file's records, a batch for each block of lines."""
        for block in line_blocks(stream, self.path):
            for line in block.splitlines():
                self.row += 1
                self._line(line)
            self.finish_block()
            if len(self.records):
                yield self.records.batch()
        self.finish()
        if len(self.records):
            yield self.records.batch()

    def _line(self, line: bytes) -> None:
        try:
            if split := split_line(line):
                self.message(split)
            else:
                self.connection(line)
        except MixedUnitsError:
            raise
        except (ValueError, InputError, RecursionError) as error:
            self.records.quarantine(self.row, line, str(error))
            if self.marks_damage:
                self._mark(self.damaged_symbol(line))

    def _mark(self, only: tuple[str, str] | None) -> None:
        """Mark one book as damaged, or all; one that is marked and had no update since is left as it is."""
        keys = list(self.unmarked) if only is None else [key for key in (only,) if key in self.unmarked]
        for key in keys:
            mark = {"record": "book_update", "exchange": key[0], "symbol": key[1], "damaged": True}
            self.records.add({"source_row": self.row} | mark | self.books[key])
            del self.unmarked[key]


class MessageSource(FileSource):
    """A source of one message a line."""

    parser: ClassVar[type[MessageParser]]
    by_lines = True

    def parse(self, stream: IO[bytes], path: str) -> Iterator[pa.RecordBatch]:
        """Yield the records of one file (see `FileSource.parse`)."""
        yield from self.parser(path, self.limits).parse(stream)


def integer(message: dict[str, Any], key: str) -> int:
    """Return a field that is an id or a time.

    Raises
    ------
    ValueError
        If it is not an integer (or the text of one) from 0 that fits int64.
    """
    value = message.get(key)
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INT64_MAX:
        raise ValueError(f"field {key}: expected an integer that fits int64, found {shown(value)}")
    return value


def text(message: dict[str, Any], key: str) -> str:
    """Return a field that is a text.

    Raises
    ------
    ValueError
        If it is not.
    """
    value = message.get(key)
    if not isinstance(value, str):
        raise ValueError(f"field {key}: expected a text, found {shown(value)}")
    return value


def level_list(message: dict[str, Any], key: str) -> list[list[Any]]:
    """Return a field that is a list of levels, each cut to its price and size.

    Raises
    ------
    ValueError
        If it is not.
    """
    value = message.get(key)
    if not isinstance(value, list) or not all(isinstance(level, list) for level in value):
        raise ValueError(f"field {key}: expected a list of levels, found {shown(value)}")
    return [level[:2] for level in value]


def text_id(text: str) -> int:
    """Return the id, 0 to 2^63 - 1, that stands for a text id such as a UUID: a hash of the text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def shown(value: object) -> str:
    """Print a value found, cut: a reason must stay readable."""
    return repr(value)[:200]
