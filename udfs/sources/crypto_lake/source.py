"""Source `crypto_lake`: reads Crypto Lake's Parquet tables of level changes, trades and the vendor's books.

Format: Parquet. The columns show which table a file is. The path (`<table>/exchange=/symbol=/dt=/…`) is used
only if the exchange or the symbol is not a column. A file with a missing, renamed or wrongly typed column is
refused. The vendor's older column names are accepted: `receipt_timestamp`, `timestamp`, `amount`, `id`.

- `book_delta_v2`: one row per level change. Consecutive rows with the same `received_time` and
  `sequence_number` form one message. Messages are ordered by `sequence_number`, then by `received_time`. If
  no message of an instrument has a `sequence_number` above 0, the instrument's messages are ordered only by
  `received_time`.
- `trades`: ordered by `received_time`. A `trade_id` that is text is replaced by its hash.
- `book`, `level_1`, `book_1m`, `deep_book_1m`: the vendor's own books, stored as golden rows. The first level
  without price or size ends a side.
- Times: timestamps, int64 nanoseconds or float64 seconds. Whole microseconds that a float has rounded
  (…232999936 for …233000000) are restored.
- Prices and sizes: a float is stored as the shortest decimal that reads back as the same float.
- Unreadable rows (a price not above 0, a negative size, NaN or infinity) go to quarantine, and their message
  is marked as damaged. A file with a level change that has neither `received_time` nor `sequence_number` is
  refused.
- Proof: the ids prove the order of messages, but not that messages are complete, because ids are not linked
  and there are no snapshots. Books are `unverifiable`.
- Books: a day begins in mid-stream. The book starts from the levels that messages set (status `warming`), and
  the vendor's books, where they are possible, seed it, extend it and correct it. A level that a later message
  or three vendor's books in a row contradict was stranded: its delete was lost. Each correction is a row of
  `gaps`.

Rules: Crypto Lake documentation, data schema. The source was never run on files from the vendor itself: it is
tested on files made in the vendor's shape from recorded captures of exchanges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deltabook.schemas.errors import InputError
from deltabook.udfs.sources.common.file_source import (
    QUARANTINED,
    TAKEN,
    FileSource,
    LineCounts,
    Part,
    count_quarantined,
)
from deltabook.udfs.sources.common.limits import ALWAYS_ALLOWED_BYTES, MAX_EXPANSION
from deltabook.udfs.sources.crypto_lake.columns import BOOK, DELTAS, TRADES, Layout, detect_layout, is_text
from deltabook.udfs.sources.crypto_lake.deltas import DeltaReader
from deltabook.udfs.sources.crypto_lake.records import LakeReader
from deltabook.udfs.sources.crypto_lake.rows import BookReader, TradeReader

PART_ROWS = 4_000_000
"""Smallest number of rows that a task reads; only the last task of a file may read fewer.

The day of a busy instrument takes several tasks.
"""
_READERS: dict[str, type[LakeReader]] = {DELTAS: DeltaReader, BOOK: BookReader, TRADES: TradeReader}
_BATCH_ROWS = {DELTAS: 1 << 18, TRADES: 1 << 16, BOOK: 1 << 14}
_BATCH_CELLS = 1 << 22
"""Largest number of values of a batch. A table with many columns is read in batches of fewer rows."""
_COLUMN_BUFFER = 1 << 18
"""Number of bytes that are read at once from a column chunk, instead of the whole chunk."""
_VALUE_BYTES = 8
"""Bytes that a value takes in memory: a time, an id, a float, or the dictionary index of a text."""


class CryptoLakeSource(FileSource):
    """Spark data source for Crypto Lake files; the module's docstring describes the format."""

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "crypto_lake"

    def parts(self, path: str) -> list[Part]:
        """Return ranges of row groups, each with at least `PART_ROWS` rows except the last range."""
        with _open_parquet(path) as file:
            sizes = _group_sizes(file.metadata)
        bounds, rows = [0], 0
        for group, size in enumerate(sizes, 1):
            rows += size
            if rows >= PART_ROWS or group == len(sizes):
                bounds.append(group)
                rows = 0
        return list(pairwise(bounds)) if len(bounds) > 2 else [None]

    def read_part(self, path: str, part: Part) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of some row groups, and return the number of rows by kind (see `FileSource`).

        Raises
        ------
        InputError
            If no table has the file's columns, or a row of `book_delta_v2` has neither a receive time nor an
            id.
        """
        with _open_parquet(path) as file:
            metadata, layout = file.metadata, detect_layout(file.schema_arrow)
            texts = _text_columns(file.schema_arrow, layout)
        file_columns = sorted(layout.file_columns.values())
        sizes = _group_sizes(metadata)
        first, last = part or (0, len(sizes))
        _check_expansion(path, metadata, len(file_columns))
        with _open_parquet(path, metadata, texts, _COLUMN_BUFFER) as file:
            reader = _READERS[layout.table](layout, path, self.limits)
            row, quarantined = 1 + sum(sizes[:first]), 0
            end = row + sum(sizes[first:last])
            for batch in file.iter_batches(
                max(1, min(_BATCH_ROWS[layout.table], _BATCH_CELLS // len(file_columns))),
                row_groups=list(range(first, last)),
                columns=file_columns,
                use_threads=False,  # Spark already runs one task per core
            ):
                if row + batch.num_rows > end:
                    raise InputError("the file has more rows than its footer says: the file is damaged")
                for records in reader.read(batch, row) if batch.num_rows else ():
                    quarantined += count_quarantined(records)
                    yield records
                row += batch.num_rows
            if row != end:
                raise InputError(
                    f"the footer says that {end - row:,} more rows follow row {row - 1:,}, but the file ends "
                    "there: the file is damaged"
                )
            for records in reader.finish():
                quarantined += count_quarantined(records)
                yield records
        rows = sum(sizes[first:last])
        return Counter({TAKEN: rows - quarantined, QUARANTINED: quarantined})


def _open_parquet(
    path: str,
    metadata: pq.FileMetaData | None = None,
    read_dictionary: list[str] | None = None,
    buffer_size: int = 0,
) -> pq.ParquetFile:
    """Open a Parquet file; read columns of Arrow extension types as their storage types.

    The parameters are those of `pyarrow.parquet.ParquetFile`.
    """
    try:
        return pq.ParquetFile(
            path,
            metadata=metadata,
            read_dictionary=read_dictionary,
            buffer_size=buffer_size,
            pre_buffer=False,
            page_checksum_verification=True,
            arrow_extensions_enabled=False,
        )
    except UnicodeDecodeError as error:
        raise InputError(f"a column's name is not UTF-8: {error}") from None


def _group_sizes(metadata: pq.FileMetaData) -> list[int]:
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _text_columns(schema: pa.Schema, layout: Layout) -> list[str]:
    """Return the names of the text columns.

    Arrow reads these columns as dictionaries, so that repeated texts are not copied into every row.
    """
    types = {name: schema.field(name).type for name in layout.file_columns.values()}
    return sorted(name for name, type_ in types.items() if is_text(type_))


def _check_expansion(path: str, metadata: pq.FileMetaData, columns: int) -> None:
    """Raise InputError for a file that needs too much memory for its size.

    The estimate of the memory is the size of all values plus the uncompressed size of the row groups. The
    size of the values is added because a column that repeats one value takes only a few bytes in the file,
    however many rows it has. The estimate does not use the footer's sizes of single column chunks: if these
    sizes contradict each other, Arrow ends the process.
    """
    stored = Path(path).stat().st_size
    most = max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * stored)
    needed = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.num_rows < 0 or group.total_byte_size < 0:
            raise InputError("the footer has a negative size: the file is damaged")
        needed += group.num_rows * columns * _VALUE_BYTES + group.total_byte_size
        if needed > most:
            raise InputError(
                f"in memory, the file would be more than {MAX_EXPANSION} times as large as on disk: it has "
                f"{stored:,} bytes, and its values need at least {needed:,} bytes; the limit is {most:,}. "
                "Split or check the file"
            )
