"""Source `crypto_lake`: Parquet files of Crypto Lake, the tables book_delta_v2, trades and book.

A file's columns say which table it is of; its path (`<table>/exchange=/symbol=/dt=/…`) is asked only for
an exchange or symbol that is no column. A column that is missing, renamed or of another type refuses the
file; the vendor's older names are known: `receipt_timestamp`, `timestamp`, `amount`, `id`.

- `book_delta_v2`, a row per level change: rows that follow each other with the same `received_time` and
  `sequence_number` are one message. Its order is `sequence_number`, then `received_time`; where no message
  has a `sequence_number` above 0, `received_time` alone.
- `trades`: ordered by `received_time`; a `trade_id` that is text is replaced by its hash.
- `book`, the vendor's top levels, becomes golden rows; a level without price or size ends its side.
- Times are timestamps, int64 nanoseconds or float64 seconds; whole microseconds that a float has rounded
  (…232999936 for …233) are restored. Prices and sizes are the shortest decimals that print as the floats do.
- A price that is not above 0, a negative size, NaN or infinity puts the row into quarantine and marks its
  message as damaged. A level change without `received_time` and `sequence_number` refuses the file.

What it can prove: order, but not completeness, as no id names the message before and nothing says where a
snapshot is. Its books are `unverifiable`; golden rows of `book` can seed them.

Rules: Crypto Lake documentation, data schema of book_delta_v2, book and trades.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deltabook.schemas.errors import InputError
from deltabook.udfs.sources.common.file_source import FileSource, Part
from deltabook.udfs.sources.common.limits import MOST_EXPANSION, SMALL_BYTES
from deltabook.udfs.sources.crypto_lake.columns import BOOK, DELTAS, TRADES, Layout, is_text, layout_of
from deltabook.udfs.sources.crypto_lake.deltas import DeltaReader
from deltabook.udfs.sources.crypto_lake.records import LakeReader
from deltabook.udfs.sources.crypto_lake.rows import BookReader, TradeReader

PART_ROWS = 4_000_000
"""Rows of a task, at least: a day of a busy instrument is split into several."""
_READERS: dict[str, type[LakeReader]] = {DELTAS: DeltaReader, BOOK: BookReader, TRADES: TradeReader}
_BATCH_ROWS = {DELTAS: 1 << 18, TRADES: 1 << 16, BOOK: 1 << 14}
_BATCH_CELLS = 1 << 22
"""Values of a batch: a table of many columns is read by fewer rows."""
_COLUMN_BUFFER = 1 << 18  # a column is read by so many bytes, not a whole row group at once
_VALUE_BYTES = 8
"""Bytes of a value in memory: a time, an id or a float; of a text its place in a dictionary."""


class CryptoLakeSource(FileSource):
    """Reads Crypto Lake files; see the module for the format."""

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "crypto_lake"

    def parts(self, path: str) -> list[Part]:
        """Return ranges of row groups of about `PART_ROWS` rows; a small file is one part."""
        with _opened(path) as file:
            sizes = _group_sizes(file.metadata)
        bounds, rows = [0], 0
        for group, size in enumerate(sizes, 1):
            rows += size
            if rows >= PART_ROWS or group == len(sizes):
                bounds.append(group)
                rows = 0
        return list(pairwise(bounds)) if len(bounds) > 2 else [None]

    def read_part(self, path: str, part: Part) -> Iterator[pa.RecordBatch]:
        """Yield the records of some row groups of a file (see `FileSource.read_part`).

        Raises
        ------
        InputError
            If the file's columns are not those of a table, or a value leaves a row without its place.
        """
        with _opened(path) as file:
            metadata, layout = file.metadata, layout_of(file.schema_arrow)
            texts = _texts(file.schema_arrow, layout)
        spelled = sorted(layout.spelled.values())
        sizes = _group_sizes(metadata)
        first, last = part or (0, len(sizes))
        _check_expansion(path, metadata, len(spelled))
        with _opened(path, metadata=metadata, read_dictionary=texts, buffer_size=_COLUMN_BUFFER) as file:
            reader = _READERS[layout.table](layout, path, self.limits)
            row = 1 + sum(sizes[:first])
            end = row + sum(sizes[first:last])
            for batch in file.iter_batches(
                max(1, min(_BATCH_ROWS[layout.table], _BATCH_CELLS // len(spelled))),
                row_groups=list(range(first, last)),
                columns=spelled,
                use_threads=False,  # Spark runs a task on each core
            ):
                if row + batch.num_rows > end:
                    raise InputError("it has more rows than its footer says")
                if batch.num_rows:
                    yield from reader.read(batch, row)
                row += batch.num_rows
            if row != end:
                raise InputError(f"its footer says that {end - row:,} more rows follow row {row - 1:,}")
            yield from reader.finish()


def _opened(path: str, **options: Any) -> pq.ParquetFile:
    """Open a file; an extension type that its metadata names is read as what it is stored as."""
    try:
        return pq.ParquetFile(
            path,
            pre_buffer=False,
            page_checksum_verification=True,
            arrow_extensions_enabled=False,
            **options,
        )
    except UnicodeDecodeError as error:
        raise InputError(f"a column's name is not UTF-8: {error}") from None


def _group_sizes(metadata: pq.FileMetaData) -> list[int]:
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _texts(schema: pa.Schema, layout: Layout) -> list[str]:
    """Return the columns of texts, read as dictionaries: else each row would copy a text that many have."""
    types = {name: schema.field(name).type for name in layout.spelled.values()}
    return sorted(name for name, type_ in types.items() if is_text(type_))


def _check_expansion(path: str, metadata: pq.FileMetaData, columns: int) -> None:
    """Refuse a file whose rows need more memory than decompressed text of its size might.

    What counts is the size of the values in memory, as a column of one value takes a few bytes however many
    rows it has, and the size of its pages when they are decompressed. What the footer says of single column
    chunks is not looked at: Arrow ends the process where that contradicts itself.
    """
    stored = Path(path).stat().st_size
    most = max(SMALL_BYTES, MOST_EXPANSION * stored)
    needed = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.num_rows < 0 or group.total_byte_size < 0:
            raise InputError("its footer has a negative size")
        needed += group.num_rows * columns * _VALUE_BYTES + group.total_byte_size
        if needed > most:
            raise InputError(
                f"it grows more than {MOST_EXPANSION} times when it is read: {stored:,} bytes "
                f"say that they hold at least {needed:,} bytes of values, and may hold {most:,}"
            )
