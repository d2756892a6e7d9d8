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

import pyarrow as pa
import pyarrow.parquet as pq

from deltabook.udfs.sources.base import FileSource, Part
from deltabook.udfs.sources.lake_columns import BOOK, DELTAS, TRADES, layout_of
from deltabook.udfs.sources.lake_deltas import DeltaReader
from deltabook.udfs.sources.lake_records import LakeReader
from deltabook.udfs.sources.lake_rows import BookReader, TradeReader

PART_ROWS = 4_000_000
"""Rows of a task, at least: a day of a busy instrument is split into several."""
_READERS: dict[str, type[LakeReader]] = {DELTAS: DeltaReader, BOOK: BookReader, TRADES: TradeReader}
_BATCH_ROWS = {DELTAS: 1 << 18, TRADES: 1 << 16, BOOK: 1 << 14}
_COLUMN_BUFFER = 1 << 18  # a column is read by so many bytes, not a whole row group at once


class CryptoLakeSource(FileSource):
    """Reads Crypto Lake files; see the module for the format."""

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "crypto_lake"

    def parts(self, path: str) -> list[Part]:
        """Return ranges of row groups of about `PART_ROWS` rows; a small file is one part."""
        with pq.ParquetFile(path) as file:
            sizes = _group_sizes(file)
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
        with pq.ParquetFile(path) as file:
            metadata, layout = file.metadata, layout_of(file.schema_arrow)
        with pq.ParquetFile(
            path,
            metadata=metadata,
            read_dictionary=sorted({"exchange", "symbol", "side"} & layout.spelled.keys()),
            buffer_size=_COLUMN_BUFFER,
            pre_buffer=False,
            page_checksum_verification=True,
        ) as file:
            sizes = _group_sizes(file)
            first, last = part or (0, len(sizes))
            reader = _READERS[layout.table](layout, path)
            row = 1 + sum(sizes[:first])
            for batch in file.iter_batches(
                _BATCH_ROWS[layout.table],
                row_groups=list(range(first, last)),
                columns=sorted(layout.spelled.values()),
                use_threads=False,  # Spark runs a task on each core
            ):
                if batch.num_rows:
                    yield from reader.read(batch, row)
                row += batch.num_rows
            yield from reader.finish()


def _group_sizes(file: pq.ParquetFile) -> list[int]:
    return [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
