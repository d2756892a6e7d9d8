"""The functions that Spark applies to groups of references: order, chain and replay symbol-hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import Cadence
from deltabook.schemas.tables import CHAINED, FLAT_EVENTS, RECORDS
from deltabook.udfs.files import local_path, read_events, read_opening
from deltabook.udfs.frames import to_frame
from deltabook.udfs.ordering import order_hour
from deltabook.udfs.rebuild import Opening, Rebuilder

Group = Callable[[tuple[Any, ...], Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]


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
    records = pa.concat_tables(
        [RECORDS.arrow.empty_table(), *(_records(file, reference) for file in reference.record_files)]
    )
    stored = pa.Table.from_batches(
        [batch for file in reference.event_files for batch in read_events(file, exchange, symbol, hour)],
        schema=FLAT_EVENTS.arrow,
    )
    for batch in order_hour(records, stored, hour).to_batches(max_chunksize=64 * 1024):
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
        for reference in hours.itertuples(index=False):
            yield to_frame(_checkpoint(exchange, symbol, reference, rebuilder.opening()))
            for batch in _events(exchange, symbol, reference):
                rebuilder.feed_batch(batch)
        gaps = [
            row | {"record": "gaps", "exchange": exchange, "symbol": symbol} for row in rebuilder.finish()
        ]
        yield to_frame(pa.RecordBatch.from_pylist(gaps, schema=CHAINED.arrow))

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
    kind = "update" if values["record"] == "book_update" else "trade"
    first, end = int(reference[f"first_{kind}"]), int(reference[f"end_{kind}"])
    ids = pc.field("sequence")
    with Path(local_path(file)).open("rb") as stream:
        table = pq.read_table(stream, filters=(ids >= first) & (ids < end))
    for name, value in values.items():
        table = table.append_column(name, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
    return table.select(RECORDS.names).cast(RECORDS.arrow)


def _events(exchange: str, symbol: str, reference: Any) -> Iterator[pa.RecordBatch]:
    if len(reference.event_files) != 1:
        raise WarehouseError(
            f"{exchange} {symbol}: hour {reference.hour} lies in {len(reference.event_files)} data files, "
            "expected one: ingest the hour again"
        )
    return read_events(reference.event_files[0], exchange, symbol, int(reference.hour))


def _rebuilder(exchange: str, symbol: str, depth: int, cadence: Cadence, reference: Any) -> Rebuilder:
    opening = Opening()
    if reference.checkpoint_file:
        opening = read_opening(reference.checkpoint_file, exchange, int(reference.hour))
    return Rebuilder(exchange, symbol, FEEDS[exchange], depth, cadence, opening)


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
