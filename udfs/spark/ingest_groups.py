"""Functions that Spark applies to staged records: they survey streams, and write events and golden rows.

Staged records are the parsed messages of new raw files. They are in temporary files of the warehouse.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import EVENT_DATA, SIDES, Table
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import ADDED, FLAT_EVENTS, RECORDS, SURVEY
from deltabook.schemas.names import NOT_GIVEN, EventType, GoldenKind
from deltabook.schemas.tables import EVENTS, GOLDEN, QUARANTINE, form_of
from deltabook.udfs.numbers.encoding import Codes, Numbers, Scaled
from deltabook.udfs.numbers.scales import make_misfit_rows, rescale, to_decimals
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.ordering.id_resets import assign_epochs, unflatten_restarts
from deltabook.udfs.ordering.staged_records import read_staged, read_staged_batches, read_staged_between
from deltabook.udfs.ordering.survey import StoredMessages, choose_epoch_times, survey_stream
from deltabook.udfs.spark.references import ChunkToOrder, RecordsToExtract, StreamFiles, StreamToSurvey
from deltabook.udfs.storage.arrow_frames import GroupFunction, GroupKey, get_single_row, to_frame
from deltabook.udfs.storage.data_files import DataFile, write_data_file
from deltabook.udfs.storage.event_files import BATCH_ROWS, read_events


def survey_group(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Find the chunks and id restarts of one stream's new messages; count digits of prices and sizes.

    Parameters
    ----------
    key : (str, str, str)
        Exchange, symbol and kind of record.
    groups : iterator of pandas.DataFrame
        A single row of `stream_references`.

    Yields
    ------
    pandas.DataFrame
        Rows of `survey`.
    """
    stream = dict(zip(("exchange", "symbol", "record"), map(str, key[:3]), strict=True))
    reference = get_single_row(groups, StreamToSurvey)
    known = StoredMessages(
        *(
            np.array(values, dtype=np.int64)
            for values in (reference.known_epochs, reference.known_ids, reference.known_times)
        )
    )
    restarts, chunk = unflatten_restarts(reference.restarts), int(reference.chunk)
    rows = survey_stream(reference.record_files, known, restarts, chunk)
    yield to_frame(pa.RecordBatch.from_pylist([{**stream, **row} for row in rows], schema=SURVEY.arrow))


def order_groups(root: str) -> GroupFunction:
    """Return the function that sorts one chunk's messages into the feed's order and writes them as events.

    Parameters
    ----------
    root : str
        Folder of the warehouse.

    Returns
    -------
    callable
        Function for `make_task_function`; the key of a group is (exchange, symbol, hour). The function takes
        one row of `event_references` and yields one row of `added`.
    """

    def order(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        reference = get_single_row(groups, ChunkToOrder)
        events, numbers = _order_chunk(reference, str(key[0]), str(key[1]), int(key[2]))
        table = form_of(EVENTS, numbers.is_decimal)
        batches = (
            _nest_data(numbers.decode(batch), table) for batch in events.to_batches(max_chunksize=BATCH_ROWS)
        )
        yield to_frame(write_data_file(root, table, batches))

    return order


def _order_chunk(reference: ChunkToOrder, exchange: str, symbol: str, hour: int) -> tuple[pa.Table, Numbers]:
    """Return one chunk's events in the feed's order, and the encoding of their prices and sizes."""
    new = [
        _scale_records(records, reference)
        for stream in (reference.updates, reference.trades)
        for records in _read_chunk_records(stream)
    ]
    known = [
        batch
        for file in reference.event_files
        for batch in read_events(file, exchange, symbol, hour, bool(reference.is_decimal))
    ]
    # `Codes` replaces each decimal by its rank. Ranks suffice, because ordering only compares numbers.
    numbers = Codes.of([*new, *known]) if reference.is_decimal else Scaled(*_get_scales(reference))
    new = list(map(numbers.encode, new))
    stored = pa.Table.from_batches(map(numbers.encode, known), schema=FLAT_EVENTS.arrow)
    if reference.left_out:
        is_left_out = pc.is_in(stored["source_file"], pa.array(reference.left_out, pa.string()))
        stored = stored.filter(pc.invert(is_left_out))
    records = pa.concat_tables(new) if new else _append_epoch(RECORDS.arrow.empty_table(), [])
    stored, feed = _renew_epochs(stored, reference), FEEDS[reference.feed]
    return order_chunk(records, stored, hour, feed, int(reference.chunk)), numbers


def extract_golden_groups(root: str) -> GroupFunction:
    """Return the function that writes one instrument's golden rows and quarantined records.

    Golden rows are independent truths about a book. They come from the raw files: snapshots, checksums,
    tickers, and books of the vendor. A record is quarantined if it could not be read, or if its numbers do
    not fit the instrument's scales.

    Parameters
    ----------
    root : str
        Folder of the warehouse.

    Returns
    -------
    callable
        Function for `make_task_function`; the key of a group is (exchange, symbol). The function takes one
        row of `other_references` and yields rows of `added`.
    """

    def write(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        reference = get_single_row(groups, RecordsToExtract)
        table = form_of(GOLDEN, reference.is_decimal)
        golden, quarantined = DataFile(root, table), DataFile(root, QUARANTINE)
        for records in chain.from_iterable(map(read_staged_batches, reference.record_files)):
            if records["record"][0].as_py() == "quarantine":
                _add_rows(quarantined, records.select(QUARANTINE.names))
                continue
            if not reference.is_decimal:
                quarantined.add(make_misfit_rows(records, *_get_scales(reference)))
            _add_rows(golden, _select_golden(_scale_records(records, reference), reference.restarts, table))
        yield to_frame(pa.RecordBatch.from_pylist(golden.close() + quarantined.close(), schema=ADDED.arrow))

    return write


def _add_rows(file: DataFile, rows: pa.Table) -> None:
    for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
        file.add(batch)


def _scale_records(records: pa.Table, reference: ChunkToOrder | RecordsToExtract) -> pa.Table:
    """Return records with prices and sizes as integers at the instrument's scales, or as decimals."""
    return to_decimals(records) if reference.is_decimal else rescale(records, *_get_scales(reference))


def _get_scales(reference: ChunkToOrder | RecordsToExtract) -> tuple[int, int]:
    return int(reference.price_scale), int(reference.size_scale)


def _read_chunk_records(stream: StreamFiles) -> Iterator[pa.Table]:
    """Yield one table for each staged file, with the messages of one stream that belong to the chunk."""
    first_epoch, first, end_epoch, end = map(int, stream.range)
    restarts = stream.restarts
    for file in stream.files:
        if not restarts:  # one epoch: ids alone decide; the last chunk has no upper bound
            bounded = read_staged_between(file, first, end if end_epoch == first_epoch else None)
            yield _append_epoch(bounded, restarts)
            continue
        records = _append_epoch(read_staged(file), restarts)
        epoch, ids = records["epoch"].to_numpy(), records["sequence"].to_numpy()
        is_after_start = (epoch > first_epoch) | ((epoch == first_epoch) & (ids >= first))
        is_before_end = (epoch < end_epoch) | ((epoch == end_epoch) & (ids < end))
        yield records.filter(pa.array(is_after_start & is_before_end))


def _append_epoch(records: pa.Table, restarts: list[int]) -> pa.Table:
    """Return records with the column `epoch`, the id epoch of each record."""
    return records.append_column("epoch", pa.array(_compute_epochs(records, restarts)))


def _compute_epochs(messages: pa.Table, restarts: list[int]) -> NDArray[np.int64]:
    sequence, timestamps, received = (
        messages[name].to_numpy() for name in ("sequence", "timestamp", "received")
    )
    return assign_epochs(sequence, choose_epoch_times(timestamps, received), unflatten_restarts(restarts))


def _renew_epochs(stored: pa.Table, reference: ChunkToOrder) -> pa.Table:
    """Return stored events with newly computed epochs, because a late file may show an earlier id reset."""
    if not reference.update_restarts and not reference.trade_restarts:
        return stored
    is_update = pc.equal(stored["event_type"], EventType.BOOK_UPDATE).to_numpy()
    epoch = np.zeros(stored.num_rows, dtype=np.int64)
    for is_stream, restarts in (
        (is_update, reference.update_restarts),
        (~is_update, reference.trade_restarts),
    ):
        epoch[is_stream] = _compute_epochs(stored.filter(pa.array(is_stream)), restarts)
    return stored.set_column(stored.schema.get_field_index("epoch"), "epoch", pa.array(epoch))


def _nest_data(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """Return a flat batch as rows of `events`: columns of message data become fields of the struct `data`."""
    fields = table.arrow.field("data").type
    data = pa.StructArray.from_arrays([batch[column.name] for column in EVENT_DATA], fields=list(fields))
    columns = [data if name == "data" else batch[name] for name in table.names]
    return pa.RecordBatch.from_arrays(columns, schema=table.arrow)


def _select_golden(records: pa.Table, restarts: list[int], table: Table) -> pa.Table:
    """Return the golden rows of staged records, with the columns of the table `golden`."""
    received, timestamps = records["received"].to_numpy(), records["timestamp"].to_numpy()
    times = np.where(timestamps == NOT_GIVEN, received, timestamps)
    epoch = pa.array(assign_epochs(records["sequence"].to_numpy(), times, unflatten_restarts(restarts)))
    records = records.append_column("epoch", epoch)
    if records["record"][0].as_py() == "golden":
        return _make_golden(records, table, checksum=NOT_GIVEN)
    snapshots = records.filter(records["is_snapshot"])
    checked = records.filter(pc.not_equal(records["checksum"], NOT_GIVEN))
    no_levels: dict[str, list[int]] = {side.name: [] for side in SIDES}
    return pa.concat_tables(
        [
            _make_golden(snapshots, table, kind=str(GoldenKind.SNAPSHOT), checksum=NOT_GIVEN),
            _make_golden(checked, table, kind=str(GoldenKind.CHECKSUM), **no_levels),
        ]
    )


def _make_golden(records: pa.Table, table: Table, **constants: str | int | list[int]) -> pa.Table:
    """Return one golden row per record; a column named in `constants` has the given value in all rows."""
    if not records.num_rows:  # pyarrow cannot repeat a list zero times
        return table.arrow.empty_table()
    columns = {
        field.name: pa.repeat(pa.scalar(constants[field.name], field.type), records.num_rows)
        if field.name in constants
        else records[field.name]
        for field in table.arrow
    }
    return pa.table(columns, schema=table.arrow)
