"""Base class of the parsers of CSV tables, which joins rows into messages.

The rows of one message may lie in two blocks of lines. The parser then keeps the rows of the first block
until it reads the second block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.file_source import (
    HEADER,
    QUARANTINED,
    TAKEN,
    LineCounts,
    count_quarantined,
)
from deltabook.udfs.sources.common.limits import MAX_LINE_BYTES, Limits, too_many_levels
from deltabook.udfs.sources.csv.columns import Columns, TableSchema, TextRows

MAX_FIELDS = 4 << 20
"""Largest number of fields that are read at once."""
MAX_COLUMNS = 20_004
"""Largest number of columns of a table: four of the message, and four for each of 5,000 levels."""


@dataclass(frozen=True)
class Messages:
    """Messages of a block of n rows, and the rows that belong to each message.

    Attributes
    ----------
    message_of_row : int64[n]
        Index of each row's message; -1 for a row whose message is unknown.
    first_rows : int64[m]
        First row of each message.
    complete : int
        Number of complete messages. The complete messages come before the incomplete messages.
    end_row : int
        Index after the last row of the complete messages. Later rows wait for the next block.
    """

    message_of_row: NDArray[np.int64]
    first_rows: NDArray[np.int64]
    complete: int
    end_row: int


class TableParser:
    """Parser of one table; subclasses know the columns and the meaning of the rows.

    A message whose rows lie in two blocks becomes one whole message.

    Parameters
    ----------
    path : str
        Path of the raw file, as column `source_file` stores it.
    schema : TableSchema
        Columns of the table.
    """

    def __init__(self, path: str, schema: TableSchema):
        self.path, self.schema = path, schema
        self.first_row = 2
        """Row number in the file of the current block's first row; the header is row 1."""

    def name_instrument(self, *texts: str) -> tuple[str, str]:
        """Return the (exchange, symbol) for the texts of the instrument's columns; may raise InputError."""
        raise NotImplementedError

    def starts(self, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows whose message is known, int64[m], and whether each begins a message, bool[m]."""
        raise NotImplementedError

    def records(self, columns: Columns, messages: Messages) -> Iterator[pa.RecordBatch]:
        """Yield the records of the rows before `messages.end_row`."""
        raise NotImplementedError

    def waiting_count(self) -> int:
        """Return how many messages at the end of a block wait until the next block is read."""
        return 1

    def parse(self, blocks: Iterable[bytes], limits: Limits) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of the lines after the header, and return the number of lines by kind.

        Parameters
        ----------
        blocks : iterable of bytes
            Blocks of whole lines.
        limits : Limits
            Limits on the size of a message.

        Yields
        ------
        pyarrow.RecordBatch
            Records in the schema of `records`.

        Raises
        ------
        InputError
            If a message has more rows or bytes than the limits allow.
        """
        waiting, quarantined = b"", 0
        for block in chain(short_blocks(blocks, max(1, MAX_FIELDS // len(self.schema.names))), [None]):
            rows = TextRows(waiting + (block or b""), len(self.schema.names))
            columns = Columns(rows, self.schema, self.name_instrument)
            messages = self._find_messages(columns, at_end=block is None)
            for batch in self.records(columns, messages):
                quarantined += count_quarantined(batch)
                yield batch
            waiting = (
                rows.block[rows.line_starts[messages.end_row] :] if messages.end_row < len(rows) else b""
            )
            if len(rows) - messages.end_row > self.waiting_count() * limits.most_levels:
                raise InputError(too_many_levels(len(rows) - messages.end_row, limits.most_levels))
            if len(waiting) > MAX_LINE_BYTES:
                row = self.first_row + messages.end_row
                raise InputError(
                    f"a message is longer than {MAX_LINE_BYTES >> 20} MiB (from row {row:,}). "
                    "Remove the file from the input"
                )
            self.first_row += messages.end_row
        taken = self.first_row - 2 - quarantined
        return Counter({HEADER: 1, TAKEN: taken, QUARANTINED: quarantined})

    def _find_messages(self, columns: Columns, *, at_end: bool) -> Messages:
        """Return the messages of a block; at the end of the file, all messages count as complete."""
        rows, starts = self.starts(columns)
        number = np.full(len(columns.rows), NOT_GIVEN)
        number[rows] = np.cumsum(starts) - 1
        firsts = rows[starts]
        keep = len(firsts) if at_end else max(0, len(firsts) - self.waiting_count())
        end = int(firsts[keep]) if keep < len(firsts) else len(columns.rows)
        return Messages(number, firsts, keep, end)


def short_blocks(blocks: Iterable[bytes], most_lines: int) -> Iterator[bytes]:
    """Yield the blocks, cut into pieces of at most `most_lines` lines each.

    Without the cut, a block of blank lines would turn into arrays a hundred times as large as the block.
    """
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
    """Split the header line off the blocks of a table.

    Parameters
    ----------
    blocks : iterable of bytes
        Blocks of whole lines, from the start of the file.

    Returns
    -------
    (columns, blocks) : (list of str, iterator of bytes)
        The column names, and the lines after the header.

    Raises
    ------
    InputError
        If the header has more than `MAX_COLUMNS` columns.
    """
    rest = iter(blocks)
    first = next(rest, b"")
    header, _, body = first.partition(b"\n")
    if header.count(b",") >= MAX_COLUMNS:
        raise InputError(f"expected at most {MAX_COLUMNS:,} columns, found {header.count(b',') + 1:,}")
    names = header.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").strip().split(",")

    body_blocks = chain([body], rest) if body else rest
    return [name.strip().strip('"') for name in names], body_blocks
