"""Reading the warehouse's Parquet files in a worker, by reference.

A group that Spark hands to a worker names its files; the worker reads them itself, so that the
payload crosses neither the JVM nor a socket (measured: twice the rate, and the least memory).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import DAY
from deltabook.udfs.storage.object_store import opened, readable

BATCH_ROWS = 8192
"""Messages a batch: about a million level changes of a busy feed."""
_FEWEST_ROWS = 2048
"""A batch that is to end at a place has no fewer: what a batch costs by itself would count."""
_KEYS = ("exchange", "hour")
_FEW_VALUES = ("exchange", "event_type")
"""Texts read as dictionaries: in a third of the time, measured on an hour of 8 M changes. Batches then end
with their row group, which costs more than it spares where levels are read."""


def read_events(
    uri: str,
    exchange: str,
    symbol: str,
    hour: int,
    is_decimal: bool = False,
    rows: int = BATCH_ROWS,
    first: int = 0,
    place: int = 0,
) -> Iterator[pa.RecordBatch]:
    """Yield one hour's events of one data file, in the file's order.

    Parameters
    ----------
    uri : str
        A data file of the table `events` or `events_decimal`.
    exchange, symbol : str
        Whose events; the file's own partition is the symbol's.
    hour : int
        Start of the hour, ns since 1970 UTC.
    is_decimal : bool
        Which of the two tables.
    rows : int
        Events a batch at most.
    first, place : int
        As of `batches_of_hour`.

    Yields
    ------
    pyarrow.RecordBatch
        Columns of `flat_events`, prices and sizes as the table has them.
    """
    schema = FLAT_EVENTS.decimal().arrow if is_decimal else FLAT_EVENTS.arrow
    date = pa.scalar(hour // DAY, pa.int32()).cast(pa.date32())
    for batch in batches_of_hour(uri, exchange, hour, rows, None, first, place):
        columns = {name: batch[name] for name in batch.schema.names if name != "data"}
        data = batch["data"]
        columns |= {field.name: values for field, values in zip(data.type, data.flatten(), strict=True)}
        columns |= {
            "symbol": pa.repeat(pa.scalar(symbol), batch.num_rows),
            "date": pa.repeat(date, batch.num_rows),
        }
        yield pa.RecordBatch.from_arrays(
            [columns[field.name].cast(field.type) for field in schema], schema=schema
        )


def batches_of_hour(
    uri: str,
    exchange: str,
    hour: int,
    rows: int = BATCH_ROWS,
    columns: Sequence[str] | None = None,
    first: int = 0,
    place: int = 0,
) -> Iterator[pa.RecordBatch]:
    """Yield those rows of a data file that belong to one hour, in the file's order.

    Parameters
    ----------
    uri : str
        A data file of a table that partitions by symbol.
    exchange : str
        Whose.
    hour : int
        Start of the hour, ns since 1970 UTC.
    rows : int
        Rows a batch at most.
    columns : sequence of str, optional
        Which to read; None: all.
    first : int
        Rows of the hour that are passed over; row groups of those alone are not read.
    place : int
        Rows of the hour soon behind which a batch is to end, so that little more is read to get there; in
        vain where the file has other hours too.

    Yields
    ------
    pyarrow.RecordBatch
        As the file has them; of named columns `exchange` and `event_type` are dictionaries.
    """
    coded = [name for name in _FEW_VALUES if name in (columns or ())]
    file = pq.ParquetFile(readable(uri), read_dictionary=coded)
    metadata = file.metadata
    lengths = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    # Of a file of one hour alone no row need be looked at for whose it is.
    is_whole = all(_is_of(metadata, group, exchange, hour) for group in range(len(lengths)))
    keys = [] if is_whole or columns is None else [name for name in _KEYS if name not in columns]
    passed = 0
    while is_whole and passed < len(lengths) and lengths[passed] <= first:
        first, place = first - lengths[passed], place - lengths[passed]
        passed += 1
    starts = np.cumsum([0, *lengths[passed:]])
    at = max(int(np.searchsorted(starts, place)) - 1, 0)
    groups = list(range(passed, len(lengths)))
    sizes = [(groups[:at], rows), (groups[at : at + 1], _aligned(place - int(starts[at]), rows))]
    read = None if columns is None else [*columns, *keys]
    for part, size in [*sizes, (groups[at + 1 :], rows)] if place > 0 else [(groups, rows)]:
        for batch in file.iter_batches(size, part, read) if part else ():
            if not is_whole:
                chosen = pc.and_(pc.equal(batch["exchange"], exchange), pc.equal(batch["hour"], hour))
                batch = batch.filter(chosen)
            if keys:
                batch = batch.select(columns)
            skipped = min(first, batch.num_rows)
            first -= skipped
            if batch.num_rows > skipped:
                yield batch.slice(skipped)


def _aligned(place: int, rows: int) -> int:
    """Return a batch's rows, at most so many, of which a whole number reaches a place and little more."""
    if place <= 0:
        return rows
    return min(max(-(-place // -(-place // rows)), _FEWEST_ROWS), rows)


def _is_of(metadata: pq.FileMetaData, group: int, exchange: str, hour: int) -> bool:
    """Whether all rows of a row group are known to be of one hour."""
    stored = metadata.row_group(group)
    ends = [stored.column(metadata.schema.names.index(name)).statistics for name in _KEYS]
    return all(
        end is not None and end.min == end.max == value
        for end, value in zip(ends, (exchange, hour), strict=True)
    )


def read_checkpoint(uri: str, exchange: str, hour: int, event: int = 0) -> pa.Table:
    """Read the state before an event of an hour.

    Parameters
    ----------
    uri : str
        A data file of the table `checkpoints` or `checkpoints_decimal`; its partition is the symbol's.
    exchange : str
        Whose.
    hour : int
        Start of the hour, ns since 1970 UTC.
    event : int
        How many events of the hour come before it.

    Returns
    -------
    pyarrow.Table
        One row, as it was written.

    Raises
    ------
    WarehouseError
        If the file does not hold exactly one such row.
    """
    # A file object, not a path: pyarrow would take `symbol=…` in a path for a column.
    chosen = [("exchange", "=", exchange), ("hour", "=", hour), ("event", "=", event)]
    with opened(uri) as stream:
        table = pq.read_table(stream, filters=chosen)
    if table.num_rows != 1:
        raise WarehouseError(
            f"{uri}: expected one checkpoint of {exchange} at {hour} before event {event}, found "
            f"{table.num_rows}"
        )
    return table
