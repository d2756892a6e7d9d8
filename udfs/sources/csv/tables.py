"""What sources of CSV tables share: blocks of lines to messages, which no border of a block cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.limits import LONGEST_LINE, Limits, too_many_levels
from deltabook.udfs.sources.csv.columns import Columns, Rows, Shape

MOST_FIELDS = 4 << 20
"""Fields that are read at a time."""
MOST_COLUMNS = 20_004
"""Columns of a table: four that name a message, and four for each of 5,000 levels."""


@dataclass(frozen=True)
class Messages:
    """Which rows of a block are one message.

    Attributes
    ----------
    number : int64[n]
        The message of each row; -1 for one that cannot be told.
    firsts : int64[m]
        The first row of each message.
    keep : int
        How many of them are known to be complete.
    end : int
        The rows before it are all that these messages, and rows of none, consist of.
    """

    number: NDArray[np.int64]
    firsts: NDArray[np.int64]
    keep: int
    end: int


class TableParser:
    """Reads one table; a message of several rows comes out whole, wherever a block's border cuts it.

    Parameters
    ----------
    path : str
        The file's name.
    shape : Shape
        Its columns.
    """

    def __init__(self, path: str, shape: Shape):
        self.path, self.shape = path, shape
        self.first_row = 2
        """Row in the file of the first row at hand; the header is row 1."""

    def named(self, *texts: str) -> tuple[str, str]:
        """Return (exchange, symbol) of the instrument's columns; raises InputError for no name."""
        raise NotImplementedError

    def starts(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows whose message can be told, and which of them start one."""
        raise NotImplementedError

    def records(self, columns: Columns, messages: Messages) -> Iterator[pa.RecordBatch]:
        """Yield the records of the rows before `messages.end`."""
        raise NotImplementedError

    def held_back(self) -> int:
        """Return how many messages at a block's end wait for the next block."""
        return 1

    def parse(self, blocks: Iterable[bytes], limits: Limits) -> Iterator[pa.RecordBatch]:
        """Yield the records of the lines behind the header.

        Parameters
        ----------
        blocks : iterable of bytes
            Whole lines.
        limits : Limits
            What a message may hold.

        Yields
        ------
        pyarrow.RecordBatch
            In the schema of `records`.

        Raises
        ------
        InputError
            If the rows of one message are more than a message may have.
        """
        carried = b""
        for block in chain(short_blocks(blocks, max(1, MOST_FIELDS // len(self.shape.names))), [None]):
            rows = Rows(carried + (block or b""), len(self.shape.names))
            columns = Columns(rows, self.shape, self.named)
            messages = self._messages(columns, at_end=block is None)
            yield from self.records(columns, messages)
            carried = rows.block[rows.line_starts[messages.end] :] if messages.end < len(rows) else b""
            if len(rows) - messages.end > self.held_back() * limits.most_levels:
                raise InputError(too_many_levels(len(rows) - messages.end, limits.most_levels))
            if len(carried) > LONGEST_LINE:
                raise InputError(f"a message is longer than {LONGEST_LINE >> 20} MiB")
            self.first_row += messages.end

    def _messages(self, columns: Columns, *, at_end: bool) -> Messages:
        rows, starts = self.starts(columns)
        number = np.full(len(columns.rows), NOT_GIVEN)
        number[rows] = np.cumsum(starts) - 1
        firsts = rows[starts]
        keep = len(firsts) if at_end else max(0, len(firsts) - self.held_back())
        end = int(firsts[keep]) if keep < len(firsts) else len(columns.rows)
        return Messages(number, firsts, keep, end)


def short_blocks(blocks: Iterable[bytes], most_lines: int) -> Iterator[bytes]:
    """Cut blocks of more lines: one of blank lines would need a hundred times its size as arrays."""
    for block in blocks:
        start = 0
        if block.count(b"\n") > most_lines:
            line_ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            for end in (line_ends[most_lines - 1 :: most_lines] + 1).tolist():
                yield block[start:end]
                start = end
        if start < len(block):
            yield block[start:]


def split_header(blocks: Iterable[bytes]) -> tuple[list[str], Iterator[bytes]]:
    """Take the header off a table's blocks.

    Returns
    -------
    (columns, blocks) : (list of str, iterator of bytes)
        The header's fields, and the lines behind it.

    Raises
    ------
    InputError
        If it has more columns than any of these tables.
    """
    rest = iter(blocks)
    first = next(rest, b"")
    header, _, body = first.partition(b"\n")
    if header.count(b",") >= MOST_COLUMNS:
        raise InputError(f"a table may have {MOST_COLUMNS:,} columns, found {header.count(b',') + 1:,}")
    names = header.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").strip().split(",")

    def behind() -> Iterator[bytes]:
        if body:
            yield body
        yield from rest

    return [name.strip().strip('"') for name in names], behind()
