"""The functions that Spark applies to groups of references: survey streams; order, chain and replay hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import CHAINED, FLAT_EVENTS, RECORDS, SURVEY
from deltabook.schemas.names import NOT_GIVEN, Cadence, EventType
from deltabook.udfs.epochs import Restart, epochs_of
from deltabook.udfs.files import local_path, read_events, read_opening
from deltabook.udfs.frames import to_frame
from deltabook.udfs.ordering import order_hour
from deltabook.udfs.rebuild import Opening, Rebuilder
from deltabook.udfs.scales import rescale
from deltabook.udfs.seeding import with_seed
from deltabook.udfs.survey import Known, epoch_times, survey_stream

Group = Callable[[tuple[Any, ...], Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]


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
    stream = dict(zip(("exchange", "symbol", "record"), map(str, key), strict=True))
    reference = _only_row(groups)
    known = Known(
        *(np.array(reference[f"known_{name}"], dtype=np.int64) for name in ("epochs", "ids", "times"))
    )
    rows = survey_stream(list(reference.record_files), known, _restarts(reference.restarts))
    yield to_frame(pa.RecordBatch.from_pylist([stream | row for row in rows], schema=SURVEY.arrow))


def order_group(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Put one symbol-hour's messages into the feed's order.

    Parameters
    ----------
    key : (str, str, int)
        Exchange, symbol and hour.
    groups : iterator of pandas.DataFrame
        One row of `event_references`.

    Yields
    ------
    pandas.DataFrame
        Rows of `flat_events`.
    """
    exchange, symbol, hour = str(key[0]), str(key[1]), int(key[2])
    reference = _only_row(groups)
    feed = FEEDS[reference.feed]
    scales = int(reference["price_scale"]), int(reference["size_scale"])
    records = [_records(file, reference) for file in reference.record_files]
    stored = pa.Table.from_batches(
        [batch for file in reference.event_files for batch in read_events(file, exchange, symbol, hour)],
        schema=FLAT_EVENTS.arrow,
    )
    if len(reference.left_out):
        stays = pc.invert(pc.is_in(stored["source_file"], pa.array(list(reference.left_out), pa.string())))
        stored = stored.filter(stays)
    new = [rescale(table, *scales) for table in records] or [RECORDS.arrow.empty_table()]
    epoch = [_epochs(table, reference) for table in new]
    new = [table.append_column("epoch", values) for table, values in zip(new, epoch, strict=True)]
    stored = _renumbered(stored, reference)
    for batch in order_hour(pa.concat_tables(new), stored, hour, feed).to_batches(max_chunksize=64 * 1024):
        yield to_frame(batch)


def chain_groups(depth: int, cadence: Cadence) -> Group:
    """Make the function that runs one symbol's hours in sequence and keeps what passes between them.

    Parameters
    ----------
    depth : int
        Levels a side in each row of `books`; trades are counted between those rows.
    cadence : Cadence
        When rows are written.

    Returns
    -------
    callable
        For `groupBy(exchange, symbol).applyInPandas`: rows of `hour_references` in, rows of
        `chained` out: the opening of each hour, and every gap.
    """

    def chain(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        exchange, symbol = str(key[0]), str(key[1])
        hours = pd.concat(groups).sort_values("hour")
        rebuilder = _rebuilder(exchange, symbol, depth, cadence, hours.iloc[0])
        rows: list[dict[str, Any]] = []
        reference: Any
        for reference in hours.itertuples(index=False):
            yield to_frame(_checkpoint(exchange, symbol, reference, rebuilder.opening()))
            for batch in _events(exchange, symbol, reference):
                rebuilder.feed_batch(batch)
            compared = rebuilder.take_compared().items()
            rows += [
                asdict(found) | {"record": "checks", "hour": int(reference.hour), "kind": str(kind)}
                for kind, found in compared
            ]
        rows += [row | {"record": "gaps"} for row in rebuilder.finish()]
        named = [row | {"exchange": exchange, "symbol": symbol} for row in rows]
        yield to_frame(pa.RecordBatch.from_pylist(named, schema=CHAINED.arrow))

    return chain


def replay_groups(depth: int, cadence: Cadence) -> Group:
    """Make the function that rebuilds one symbol-hour from its checkpoint.

    Parameters
    ----------
    depth : int
        Levels a side in each row.
    cadence : Cadence
        When rows are written.

    Returns
    -------
    callable
        For `groupBy(exchange, symbol, hour).applyInPandas`: one row of `hour_references` in, rows
        of `books` out.
    """

    def replay(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        exchange, symbol = str(key[0]), str(key[1])
        reference = _only_row(groups)
        rebuilder = _rebuilder(exchange, symbol, depth, cadence, reference)
        for batch in _events(exchange, symbol, reference):
            yield to_frame(rebuilder.feed_batch(batch))

    return replay


def _only_row(groups: Iterator[pd.DataFrame]) -> Any:
    rows = pd.concat(groups)
    if len(rows) != 1:
        raise WarehouseError(f"expected one reference a symbol-hour, found {len(rows)}")
    return rows.iloc[0]


def _records(file: str, reference: Any) -> pa.Table:
    """Read the messages of one staged file that belong to the hour."""
    # The three folders above a staged file are record=…, exchange=… and symbol=….
    folders = Path(local_path(file)).parts[-len(RECORDS.partition_by) - 1 : -1]
    values = {
        name: folder.split("=", 1)[1] for name, folder in zip(RECORDS.partition_by, folders, strict=True)
    }
    stream = "update" if values["record"] == "book_update" else "trade"
    first_epoch, first, end_epoch, end = map(int, reference[f"{stream}_range"])
    sequence = pc.field("sequence")
    if first_epoch == end_epoch:
        wanted = (sequence >= first) & (sequence < end)
    elif not len(reference[f"{stream}_restarts"]):
        wanted = sequence >= first  # the last hour of a stream that has one epoch
    else:
        wanted = None
    with Path(local_path(file)).open("rb") as raw:
        table = pq.read_table(raw, filters=wanted)
    for name, value in values.items():
        table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
    table = table.select(RECORDS.names).cast(RECORDS.arrow)
    if wanted is not None and not len(reference[f"{stream}_restarts"]):
        return table
    epoch, ids = _epochs(table, reference).to_numpy(), table["sequence"].to_numpy()
    behind = (epoch > first_epoch) | ((epoch == first_epoch) & (ids >= first))
    before = (epoch < end_epoch) | ((epoch == end_epoch) & (ids < end))
    return table.filter(pa.array(behind & before))


def _epochs(records: pa.Table, reference: Any) -> pa.Array:
    """Return the epoch of each message of one stream."""
    is_update = records.num_rows > 0 and records["record"][0].as_py() == "book_update"
    restarts = reference["update_restarts" if is_update else "trade_restarts"]
    return pa.array(_epochs_of(records, restarts))


def _epochs_of(messages: pa.Table, restarts: Any) -> NDArray[np.int64]:
    sequence, stamps, received = (messages[name].to_numpy() for name in ("sequence", "timestamp", "received"))
    return epochs_of(sequence, epoch_times(stamps, received), _restarts(restarts))


def _restarts(flat: Any) -> list[Restart]:
    return [Restart(int(time), int(below)) for time, below in zip(flat[::2], flat[1::2], strict=True)]


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
        epoch[stream] = _epochs_of(stored.filter(pa.array(stream)), restarts)
    return stored.set_column(stored.schema.get_field_index("epoch"), "epoch", pa.array(epoch))


def _events(exchange: str, symbol: str, reference: Any) -> Iterator[pa.RecordBatch]:
    if len(reference.event_files) != 1:
        raise WarehouseError(
            f"{exchange} {symbol}: hour {reference.hour} lies in {len(reference.event_files)} data files, "
            "expected one: ingest the hour again"
        )
    events = read_events(reference.event_files[0], exchange, symbol, int(reference.hour))
    return events if reference.seed_sequence == NOT_GIVEN else with_seed(events, reference)


def _rebuilder(exchange: str, symbol: str, depth: int, cadence: Cadence, reference: Any) -> Rebuilder:
    opening = Opening()
    if reference.checkpoint_file:
        opening = read_opening(reference.checkpoint_file, exchange, int(reference.hour))
    scales = int(reference.price_scale), int(reference.size_scale)
    return Rebuilder(exchange, symbol, FEEDS[reference.feed], depth, cadence, scales, opening)


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _checkpoint(exchange: str, symbol: str, reference: Any, opening: Opening) -> pa.RecordBatch:
    row = {
        "record": "checkpoints",
        "exchange": exchange,
        "symbol": symbol,
        "hour": int(reference.hour),
        "epoch": opening.epoch,
        "sequence": opening.sequence,
        "trade_sequence": opening.trade_sequence,
        "order_time": opening.order_time,
        "status": int(opening.status),
        "bridge_due": opening.bridge_due,
        "updates_seen": opening.updates_seen,
        "bid_prices": opening.bids[0],
        "bid_sizes": opening.bids[1],
        "ask_prices": opening.asks[0],
        "ask_sizes": opening.asks[1],
        "trade_count": opening.trade_count,
        "buy_volume": opening.buy_volume,
        "sell_volume": opening.sell_volume,
        "held": b"" if opening.held is None else _stream(opening.held),
        "fingerprint": reference.fingerprint,
    }
    return pa.RecordBatch.from_pylist([row], schema=CHAINED.arrow)
