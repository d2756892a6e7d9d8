"""Parts of all export formats: the request, the rows of a symbol-day, and the counts of each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.schemas.exports import Form, What
from deltabook.schemas.names import NOT_GIVEN, UNSOUND_LABELS
from deltabook.udfs.arrow_arrays import count_labels
from deltabook.udfs.rebuild.book_rows import cut_to_known
from deltabook.udfs.storage.event_files import read_chunk_batches
from deltabook.udfs.storage.prefetch import prefetch

BATCH_ROWS = 16_384
"""Number of rows that are read at once, as one batch."""


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes
    ----------
    what : What
        Kind of rows: books, features, events or trades.
    form : Form
        File format.
    folder : str
        Folder in which files are written.
    levels : int
        Number of levels per side, for formats in which each level has columns of its own.
    since, until : int
        Requested range of `order_time`, ns since 1970 UTC; `since` is inclusive, `until` is exclusive.
    has_unsound : bool
        Whether books with an unsound status are exported too, in formats that have a status column.
    known_only : bool
        Whether books are cut to their known levels.
    price_type, size_type : pyarrow.DataType
        Decimal types that hold all prices and all sizes of the export.
    """

    what: What
    form: Form
    folder: str
    levels: int
    since: int
    until: int
    has_unsound: bool
    known_only: bool
    price_type: pa.DataType
    size_type: pa.DataType

    def contains(self, order_time: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each time is in the requested range; bool[n]."""
        is_requested: NDArray[np.bool_] = (order_time >= self.since) & (order_time < self.until)
        return is_requested


@dataclass
class FileTally:
    """Counts of one exported file, updated while the file is written.

    The fields are columns of `schemas.exports.EXPORTED`, which describes each of them.
    """

    rows: int = 0
    first_time: int = NOT_GIVEN
    last_time: int = NOT_GIVEN
    statuses: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    shift: int = 0

    def add(self, rows: int, order_time: NDArray[np.int64]) -> None:
        """Count rows, and record the times of the first and the last row.

        Parameters
        ----------
        rows : int
            Number of rows that are written.
        order_time : int64[:]
            The `order_time` of these rows, ns since 1970 UTC; not empty if there are rows.
        """
        if not rows:
            return
        self.rows += rows
        if self.first_time == NOT_GIVEN:
            self.first_time = int(order_time[0])
        self.last_time = int(order_time[-1])


class ExportChunk(NamedTuple):
    """One chunk to export: a row of `schemas.exports.EXPORT_REFERENCES`, which describes each field."""

    exchange: str
    symbol: str
    date: str
    hour: int
    feed: str
    price_scale: int
    size_scale: int
    is_decimal: bool
    data_files: Sequence[str]
    book_files: Sequence[str]
    checkpoint_file: str
    follows: bool
    is_last: bool
    vendor_files: Sequence[str]
    vendor_from: int
    vendor_to: int

    @classmethod
    def of(cls, row: tuple[object, ...]) -> ExportChunk:
        """Return the chunk of a named tuple that has at least the fields of this class."""
        return cls(*(getattr(row, name) for name in cls._fields))


@dataclass(frozen=True)
class SymbolDay:
    """A symbol-day: one day of one instrument, which is exported into one file.

    Attributes
    ----------
    rows : sequence of named tuple
        Rows of `export_references`, one for each chunk of the day in time order; at least one.
    request : ExportRequest
        What to export.
    tally : FileTally
        Counts of the file; updated while the file is written.
    """

    rows: Sequence[tuple[object, ...]]
    request: ExportRequest
    tally: FileTally

    @cached_property
    def chunks(self) -> list[ExportChunk]:
        """The chunks of the day, in time order."""
        return [ExportChunk.of(row) for row in self.rows]

    @property
    def instrument(self) -> ExportChunk:
        """The first chunk. All chunks have the same exchange, symbol, date, feed and scales."""
        return self.chunks[0]

    @property
    def scales(self) -> dict[str, int]:
        """Decimal digits of scaled prices and of scaled sizes, by `price_scale` and `size_scale`."""
        first = self.instrument
        return {"price_scale": int(first.price_scale), "size_scale": int(first.size_scale)}

    @property
    def types(self) -> dict[str, pa.DataType]:
        """Decimal types of exact prices and of exact sizes, by `price_scale` and `size_scale`."""
        return {"price_scale": self.request.price_type, "size_scale": self.request.size_type}


def read_requested_rows(day: SymbolDay, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the requested rows of a symbol-day, in the feed's order.

    Parameters
    ----------
    day : SymbolDay
        The symbol-day to read.
    columns : sequence of str, optional
        Columns to read, which must include `order_time`; None for all columns.

    Yields
    ------
    pyarrow.RecordBatch
        Rows as the data files store them. A batch is never empty.
    """
    is_cut = day.request.known_only
    if is_cut and columns is not None:
        columns = [*columns, *(f"{side}_known_levels" for side in ("bid", "ask"))]
    for chunk in day.chunks:
        for file in chunk.data_files:
            batches = read_chunk_batches(file, chunk.exchange, int(chunk.hour), BATCH_ROWS, columns)
            for batch in prefetch(batches):
                is_requested = day.request.contains(batch["order_time"].to_numpy())
                batch = batch if is_requested.all() else batch.filter(pa.array(is_requested))
                if batch.num_rows:
                    yield cut_to_known(batch) if is_cut else batch


def read_sound_rows(day: SymbolDay, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the requested rows of books that are sound, and update the day's tally.

    Parameters
    ----------
    day : SymbolDay
        The symbol-day to read.
    columns : sequence of str, optional
        Columns to read, which must include `order_time` and `status`; None for all columns.

    Yields
    ------
    pyarrow.RecordBatch
        Rows as the data files store them. A batch is never empty.
    """
    for batch in read_requested_rows(day, columns):
        is_unsound = pc.is_in(batch["status"], pa.array(UNSOUND_LABELS))
        day.tally.left_out.update(count_labels(batch["status"].filter(is_unsound)))
        batch = batch.filter(pc.invert(is_unsound))
        if batch.num_rows:
            day.tally.statuses.update(count_labels(batch["status"]))
            day.tally.add(batch.num_rows, batch["order_time"].to_numpy())
            yield batch


class ParquetOptions(TypedDict, total=False):
    """Keyword arguments of `pyarrow.parquet.ParquetWriter` that export formats set."""

    compression: str
    compression_level: int
    use_dictionary: list[str]
    write_statistics: list[str]


def write_parquet_file(
    path: Path, tables: Iterable[pa.Table], choose_options: Callable[[pa.Schema], ParquetOptions]
) -> None:
    """Write tables into one Parquet file, one row group per table; write no file if there are no tables.

    Parameters
    ----------
    path : Path
        The file to write.
    tables : iterable of pyarrow.Table
        Tables that all have the same schema.
    choose_options : callable
        Function that returns the keyword arguments of `pyarrow.parquet.ParquetWriter` for that schema.
    """
    writer = None
    for table in tables:
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema, **choose_options(table.schema))
        writer.write_table(table)
    if writer is not None:
        writer.close()
