"""Golden rows of one chunk: where they come from, and how they are read window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import FULL_DEPTH, GoldenKind, Status
from deltabook.schemas.tables import BOOKS, GOLDEN
from deltabook.udfs.storage.object_store import open_input

Ids = NDArray[np.int64]
Filter = tuple[str, str, str | int]
"""A condition on rows: column, operator, value."""
TIMES = ("timestamp", "received")
GOLDEN_COLUMNS = ("epoch", "sequence", "source_row", *TIMES, *SIDE_NAMES)
"""Columns of golden rows that a comparison reads."""
RECORDED_COLUMNS = ("recorded_epoch", "recorded_sequence", "status")
"""Columns of a recording's books as golden rows: their own ids and status in the recording."""
KNOWN_COLUMNS = ("status", "bid_known_levels", "ask_known_levels", "bid_levels", "ask_levels")
"""Columns of `books` that say what is known of a book."""
_SOUND = pa.array([status.label for status in Status if status.is_sound])
_FIELDS = {field.name: field for field in (*GOLDEN.arrow, *BOOKS.arrow)}


class JudgedChunk(Protocol):
    """A chunk whose books are compared: columns of `judge_references`."""

    @property
    def exchange(self) -> str:
        """Exchange of the chunk."""

    @property
    def hour(self) -> int:
        """Start of the chunk, ns since 1970 UTC."""

    @property
    def feed(self) -> str:
        """Feed of the instrument."""

    @property
    def book_files(self) -> Sequence[str]:
        """Data files of `books` of the chunk."""

    @property
    def files_before(self) -> Sequence[str]:
        """Data files of `books` of the last earlier chunk that has rows."""

    @property
    def golden_files(self) -> Sequence[str]:
        """Data files of `golden` that may have ids of the chunk."""

    @property
    def golden_from(self) -> int:
        """Lowest id of golden rows that may be paired.

        This is the lowest id of the previous chunk, or of this chunk if the previous chunk has another epoch.
        """


@dataclass(frozen=True)
class GoldenRows:
    """k golden rows of successive ids of one epoch, in the feed's order.

    Attributes
    ----------
    rows : pyarrow.Table
        Columns `GOLDEN_COLUMNS`; if they are books of a recording, `RECORDED_COLUMNS` too.
    known_levels : int64[k, 2]
        Number of levels of each row and side that are compared; FULL_DEPTH: all.
    skipped : dict of str to int
        Number of golden rows that are left out, by reason.
    """

    rows: pa.Table
    known_levels: Ids
    skipped: dict[str, int]

    @classmethod
    def of(cls, rows: pa.Table) -> GoldenRows:
        """Return golden rows of which all levels are compared."""
        return cls(rows, np.full((rows.num_rows, 2), FULL_DEPTH, dtype=np.int64), {})


class GoldenReader(Protocol):
    """Reads the golden rows of one chunk and kind, window by window."""

    @property
    def is_ticker(self) -> bool:
        """Whether a row states the best bid and ask, and holds until the next row."""

    def read(self, epoch: int, low: int, high: int, diffs: pa.Table) -> GoldenRows:
        """Return the golden rows of a window.

        Parameters
        ----------
        epoch : int
            Epoch of the window.
        low, high : int
            Range of ids, inclusive.
        diffs : pyarrow.Table
            The diffs of the window.
        """


class StoredGolden:
    """Reads golden rows of one kind from the table `golden`.

    Parameters
    ----------
    reference : JudgedChunk
        The chunk and its files.
    kind : GoldenKind
        `book_ticker` or `vendor_book`.
    """

    def __init__(self, reference: JudgedChunk, kind: GoldenKind):
        self.reference, self.kind = reference, kind

    @property
    def is_ticker(self) -> bool:
        """Whether the rows are tickers."""
        return self.kind is GoldenKind.BOOK_TICKER

    def read(self, epoch: int, low: int, high: int, diffs: pa.Table) -> GoldenRows:
        """Return the golden rows of a window; see `GoldenReader`."""
        filters: list[Filter] = [
            ("exchange", "=", self.reference.exchange),
            ("kind", "=", str(self.kind)),
            ("epoch", "=", epoch),
            ("sequence", ">=", low),
            ("sequence", "<=", high),
        ]
        rows = read_matching_rows(self.reference.golden_files, GOLDEN_COLUMNS, filters)
        # Of rows with the same id, the deepest comes last, because the last row of a time step is sampled.
        rows = rows.append_column("levels", pc.list_value_length(rows["bid_prices"]))
        order = [(name, "ascending") for name in ("sequence", "levels", "source_row")]
        return GoldenRows.of(rows.sort_by(order).select(GOLDEN_COLUMNS))


def find_sound(rows: pa.Table) -> NDArray[np.bool_]:
    """Return whether the status of each row of `books` is sound; see `Status.is_sound`."""
    is_sound: NDArray[np.bool_] = pc.is_in(rows["status"], _SOUND).to_numpy()
    return is_sound


def count_known_levels(rows: pa.Table, feed: str) -> Ids:
    """Return the number of known levels of rows of `books`.

    Parameters
    ----------
    rows : pyarrow.Table
        Columns `KNOWN_COLUMNS`; n rows.
    feed : str
        Name of the feed.

    Returns
    -------
    int64[n, 2]
        Known bids and asks. FULL_DEPTH: the side is known as a whole, because the feed's snapshots are whole
        and all its levels are known.
    """
    known, levels = (
        np.stack([rows[f"{side}_{name}"].to_numpy() for side in ("bid", "ask")], axis=1).astype(np.int64)
        for name in ("known_levels", "levels")
    )
    is_whole = (known == levels) & FEEDS[feed].whole_snapshots
    return np.where(is_whole, FULL_DEPTH, known)


def read_matching_rows(files: Sequence[str], columns: tuple[str, ...], filters: Sequence[Filter]) -> pa.Table:
    """Read the rows of data files that match all filters; row groups without matching rows are not read.

    Parameters
    ----------
    files : sequence of str
        URIs of the data files.
    columns : tuple of str
        Columns to read.
    filters : sequence of (str, str, value)
        Conditions that every row meets: column, operator, value.

    Returns
    -------
    pyarrow.Table
        Matching rows, in the order of the files.
    """
    tables = []
    for file in files:
        # Pass a file object, not a path: pyarrow would parse `symbol=…` in a path as a column.
        with open_input(file) as stream:
            tables.append(pq.read_table(stream, columns=list(columns), filters=list(filters)))
    tables = [table for table in tables if table.num_rows] or tables[:1]
    return pa.concat_tables(tables) if tables else make_empty_table(columns)


def make_empty_table(columns: tuple[str, ...]) -> pa.Table:
    """Return a table without rows, of columns of `golden` and `books`."""
    return pa.schema([_FIELDS[name] for name in columns]).empty_table()
