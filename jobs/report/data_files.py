"""List the data files of `books` and `events` by instrument, and read them in batches of limited size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.jobs.report.inputs import Instrument
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.columns import Table
from deltabook.udfs.storage.object_store import get_arrow_source

_BATCH_BYTES = 32 << 20

Period = tuple[int | None, int | None]
"""Start (inclusive) and end (exclusive) of a period, ns since 1970 UTC; None: no bound."""
WHOLE: Period = (None, None)


@dataclass(frozen=True)
class DataFile:
    """A data file of a Delta table.

    Attributes
    ----------
    path : str
        URI of the Parquet file.
    rows : int
        Number of rows in the file.
    first, last : int
        Smallest and largest `order_time` of the rows, ns since 1970 UTC.
    """

    path: str
    rows: int
    first: int
    last: int


def list_data_files(stored: TableReader, table: Table) -> dict[Instrument, list[DataFile]]:
    """Return the data files of each instrument, ordered by time.

    Parameters
    ----------
    stored : TableReader
        Reader of the published table versions.
    table : Table
        Table that is partitioned by symbol and has statistics of `exchange` and `order_time`.

    Returns
    -------
    dict of (str, str) to list of DataFile
        Files by exchange and symbol. A file with rows of two exchanges is listed under both exchanges.
    """
    files: dict[Instrument, list[DataFile]] = defaultdict(list)
    if not stored.exists(table):
        return files
    opened = open_table(stored.root, table, (stored.versions_read or {}).get(table.name))
    folder = (stored.root / table.name).as_uri()
    for row in pa.table(opened.get_add_actions(flatten=True)).to_pylist():
        path = f"{folder}/{row['path']}"
        file = DataFile(path, row["num_records"], row["min.order_time"], row["max.order_time"])
        for exchange in {row["min.exchange"], row["max.exchange"]}:
            files[exchange, row["partition.symbol"]].append(file)
    return {key: sorted(own, key=lambda file: (file.first, file.path)) for key, own in files.items()}


def clip_files(files: list[DataFile], period: Period) -> list[DataFile]:
    """Return the files that may have rows within a period, with `first` and `last` clipped to the period.

    Parameters
    ----------
    files : list of DataFile
        Data files of one instrument.
    period : (int or None, int or None)
        Start (inclusive) and end (exclusive), ns since 1970 UTC.
    """
    start, end = period
    clipped = []
    for file in files:
        first = file.first if start is None else max(file.first, start)
        last = file.last if end is None else min(file.last, end - 1)
        if first <= last:
            clipped.append(replace(file, first=first, last=last))
    return clipped


def read_batches(
    files: list[DataFile], exchange: str, names: tuple[str, ...], period: Period = WHOLE
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an instrument within a period, in batches of limited size that are ordered by time.

    Parameters
    ----------
    files : list of DataFile
        Data files of one symbol.
    exchange : str
        Exchange whose rows are yielded.
    names : tuple of str
        Columns to read; must include `order_time`.
    period : (int or None, int or None)
        Start (inclusive) and end (exclusive) of `order_time`, ns since 1970 UTC.
    """
    for file in files:
        with pq.ParquetFile(get_arrow_source(file.path), buffer_size=1 << 20) as opened:
            for group in range(opened.num_row_groups):
                for batch in _read_row_group(opened, group, ["exchange", *names]):
                    yield _select_rows(batch, exchange, period)


def _select_rows(batch: pa.RecordBatch, exchange: str, period: Period) -> pa.RecordBatch:
    """Return the rows of one exchange within a period, ordered by time."""
    is_chosen = pc.equal(batch["exchange"], exchange)
    start, end = period
    if start is not None:
        is_chosen = pc.and_(is_chosen, pc.greater_equal(batch["order_time"], start))
    if end is not None:
        is_chosen = pc.and_(is_chosen, pc.less(batch["order_time"], end))
    if not pc.all(is_chosen).as_py():
        batch = batch.filter(is_chosen)
    times = batch["order_time"].to_numpy()
    if (np.diff(times) < 0).any():
        batch = batch.take(pa.array(np.argsort(times, kind="stable")))
    return batch


def _read_row_group(opened: pq.ParquetFile, group: int, names: list[str]) -> Iterable[pa.RecordBatch]:
    """Return the rows of a Parquet row group, as one batch if the group is small, else as several batches.

    Reading one batch takes half the time of reading several batches, but needs more memory.
    """
    metadata = opened.metadata.row_group(group)
    if metadata.total_byte_size <= _BATCH_BYTES:
        table = opened.read_row_group(group, columns=names).combine_chunks()
        return table.to_batches()  # type: ignore[no-any-return]
    rows = max(_BATCH_BYTES * metadata.num_rows // metadata.total_byte_size, 64)
    return opened.iter_batches(rows, row_groups=[group], columns=names)  # type: ignore[no-any-return]
