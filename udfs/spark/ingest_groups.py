"""The functions that Spark applies to staged records: survey streams, order hours, keep what is no event."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

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
from deltabook.udfs.numbers.scales import misfits, rescale, to_decimals
from deltabook.udfs.ordering.feed_order import order_hour
from deltabook.udfs.ordering.id_resets import epochs_of, unflatten
from deltabook.udfs.ordering.staged_records import read_staged, read_staged_between, staged_batches
from deltabook.udfs.ordering.survey import Known, epoch_times, survey_stream
from deltabook.udfs.storage.arrow_frames import Group, only_row, to_frame
from deltabook.udfs.storage.data_files import DataFile, write_data_file
from deltabook.udfs.storage.event_files import BATCH_ROWS, read_events


def survey_group(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Survey one stream's new messages.

    Parameters
    ----------
    key : (str, str, str)
        Exchange, symbol and kind of record.
    groups : iterator of pandas.DataFrame
        One row of `stream_references`.

    Yields
    ------
    pandas.DataFrame
        Rows of `survey`.
    """
    stream = dict(zip(("exchange", "symbol", "record"), map(str, key[:3]), strict=True))
    reference = only_row(groups)
    known = Known(
        *(np.array(reference[f"known_{name}"], dtype=np.int64) for name in ("epochs", "ids", "times"))
    )
    restarts, chunk = unflatten(reference.restarts), int(reference.chunk)
    rows = survey_stream(list(reference.record_files), known, restarts, chunk)
    yield to_frame(pa.RecordBatch.from_pylist([stream | row for row in rows], schema=SURVEY.arrow))


def order_groups(root: str) -> Group:
    """Make the function that puts one symbol-hour's messages into the feed's order and writes its events.

    Parameters
    ----------
    root : str
        Folder of the warehouse.

    Returns
    -------
    callable
        For `packed`, grouped by exchange, symbol, hour: one row of `event_references` in, a row
        of `added` out.
    """

    def order(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        events, numbers = _ordered(only_row(groups), str(key[0]), str(key[1]), int(key[2]))
        table = form_of(EVENTS, numbers.is_decimal)
        batches = (
            _nested(numbers.decode(batch), table) for batch in events.to_batches(max_chunksize=BATCH_ROWS)
        )
        yield to_frame(write_data_file(root, table, batches))

    return order


def _ordered(reference: Any, exchange: str, symbol: str, hour: int) -> tuple[pa.Table, Numbers]:
    """Return one symbol-hour's events in the feed's order, and what their prices and sizes are."""
    new = [
        _at_scale(records, reference) for name in ("update", "trade") for records in _records(reference, name)
    ]
    known = [
        batch
        for file in reference.event_files
        for batch in read_events(file, exchange, symbol, hour, bool(reference.is_decimal))
    ]
    # By codes, if they are decimals: what is put in order is only compared.
    numbers = Codes.of([*new, *known]) if reference.is_decimal else Scaled(*_scales(reference))
    new = list(map(numbers.encode, new))
    stored = pa.Table.from_batches(map(numbers.encode, known), schema=FLAT_EVENTS.arrow)
    if len(reference.left_out):
        out = pc.is_in(stored["source_file"], pa.array(list(reference.left_out), pa.string()))
        stored = stored.filter(pc.invert(out))
    records = pa.concat_tables(new) if new else _with_epoch(RECORDS.arrow.empty_table(), [])
    stored, feed = _renumbered(stored, reference), FEEDS[reference.feed]
    return order_hour(records, stored, hour, feed, int(reference.chunk)), numbers


def others_groups(root: str) -> Group:
    """Make the function that writes one instrument's golden and quarantined rows.

    Golden are the feed's own truths, every snapshot and every checksum. In quarantine are records
    that could not be read, and those whose numbers the instrument's scales do not hold.

    Parameters
    ----------
    root : str
        Folder of the warehouse.

    Returns
    -------
    callable
        For `packed`, grouped by exchange, symbol: one row of `other_references` in, rows of
        `added` out.
    """

    def write(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        reference = only_row(groups)
        table = form_of(GOLDEN, reference.is_decimal)
        golden, quarantined = DataFile(root, table), DataFile(root, QUARANTINE)
        for records in chain.from_iterable(map(staged_batches, reference.record_files)):
            if records["record"][0].as_py() == "quarantine":
                _add(quarantined, records.select(QUARANTINE.names))
                continue
            if not reference.is_decimal:
                quarantined.add(misfits(records, *_scales(reference)))
            _add(golden, _golden(_at_scale(records, reference), reference.restarts, table))
        yield to_frame(pa.RecordBatch.from_pylist(golden.close() + quarantined.close(), schema=ADDED.arrow))

    return write


def _add(file: DataFile, rows: pa.Table) -> None:
    for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
        file.add(batch)


def _at_scale(records: pa.Table, reference: Any) -> pa.Table:
    """Bring records to what their instrument's prices and sizes are."""
    return to_decimals(records) if reference.is_decimal else rescale(records, *_scales(reference))


def _scales(reference: Any) -> tuple[int, int]:
    return int(reference.price_scale), int(reference.size_scale)


def _records(reference: Any, stream: str) -> Iterator[pa.Table]:
    """Read the messages of one stream that belong to the hour, a table for each staged file."""
    first_epoch, first, end_epoch, end = map(int, reference[f"{stream}_range"])
    restarts = reference[f"{stream}_restarts"]
    for file in reference[f"{stream}_files"]:
        if not len(restarts):  # of one epoch, ids alone tell; the last hour has no end
            bounded = read_staged_between(file, first, end if end_epoch == first_epoch else None)
            yield _with_epoch(bounded, restarts)
            continue
        records = _with_epoch(read_staged(file), restarts)
        epoch, ids = records["epoch"].to_numpy(), records["sequence"].to_numpy()
        behind = (epoch > first_epoch) | ((epoch == first_epoch) & (ids >= first))
        before = (epoch < end_epoch) | ((epoch == end_epoch) & (ids < end))
        yield records.filter(pa.array(behind & before))


def _with_epoch(records: pa.Table, restarts: Any) -> pa.Table:
    return records.append_column("epoch", pa.array(_epochs(records, restarts)))


def _epochs(messages: pa.Table, restarts: Any) -> NDArray[np.int64]:
    sequence, stamps, received = (messages[name].to_numpy() for name in ("sequence", "timestamp", "received"))
    return epochs_of(sequence, epoch_times(stamps, received), unflatten(restarts))


def _renumbered(stored: pa.Table, reference: Any) -> pa.Table:
    """Give stored events their epoch anew: a file that came late may show a restart before them."""
    if not len(reference.update_restarts) and not len(reference.trade_restarts):
        return stored
    is_update = pc.equal(stored["event_type"], EventType.BOOK_UPDATE).to_numpy()
    epoch = np.zeros(stored.num_rows, dtype=np.int64)
    for stream, restarts in (
        (is_update, reference.update_restarts),
        (~is_update, reference.trade_restarts),
    ):
        epoch[stream] = _epochs(stored.filter(pa.array(stream)), restarts)
    return stored.set_column(stored.schema.get_field_index("epoch"), "epoch", pa.array(epoch))


def _nested(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """Put the fields of `data` into one column."""
    fields = table.arrow.field("data").type
    data = pa.StructArray.from_arrays([batch[column.name] for column in EVENT_DATA], fields=list(fields))
    columns = [data if name == "data" else batch[name] for name in table.names]
    return pa.RecordBatch.from_arrays(columns, schema=table.arrow)


def _golden(records: pa.Table, restarts: Any, table: Table) -> pa.Table:
    """Select the golden rows of staged records, at the instrument's scales."""
    received, stamps = records["received"].to_numpy(), records["timestamp"].to_numpy()
    when = np.where(stamps == NOT_GIVEN, received, stamps)
    epoch = pa.array(epochs_of(records["sequence"].to_numpy(), when, unflatten(restarts)))
    records = records.append_column("epoch", epoch)
    if records["record"][0].as_py() == "golden":
        return _with(records, table, checksum=NOT_GIVEN)
    snapshots = records.filter(records["is_snapshot"])
    checked = records.filter(pc.not_equal(records["checksum"], NOT_GIVEN))
    no_levels: dict[str, Any] = {side.name: [] for side in SIDES}
    return pa.concat_tables(
        [
            _with(snapshots, table, kind=str(GoldenKind.SNAPSHOT), checksum=NOT_GIVEN),
            _with(checked, table, kind=str(GoldenKind.CHECKSUM), **no_levels),
        ]
    )


def _with(records: pa.Table, table: Table, **constants: Any) -> pa.Table:
    """Make golden rows of records, some columns of which have one value throughout."""
    if not records.num_rows:  # pyarrow cannot repeat a list no times
        return table.arrow.empty_table()
    columns = {
        field.name: pa.repeat(pa.scalar(constants[field.name], field.type), records.num_rows)
        if field.name in constants
        else records[field.name]
        for field in table.arrow
    }
    return pa.table(columns, schema=table.arrow)
