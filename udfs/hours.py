"""The functions that Spark applies to hours of events: chain a symbol's hours, and replay each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd
import pyarrow as pa

from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import CHAINED
from deltabook.schemas.names import NOT_GIVEN, Cadence
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, CHECKS, GAPS
from deltabook.udfs.datafiles import write_data_file
from deltabook.udfs.files import read_events, read_opening
from deltabook.udfs.frames import Group, only_row, to_frame
from deltabook.udfs.rebuild import Opening, Rebuilder
from deltabook.udfs.seeding import with_seed


def chain_groups(root: str, depth: int, cadence: Cadence) -> Group:
    """Make the function that runs one symbol's hours in sequence and keeps what passes between them.

    Parameters
    ----------
    root : str
        Folder of the warehouse.
    depth : int
        Levels a side in each row of `books`; trades are counted between those rows.
    cadence : Cadence
        When rows are written.

    Returns
    -------
    callable
        For `groupBy(exchange, symbol).applyInPandas`: rows of `hour_references` in, rows of
        `chained` out: the data file with the opening of each hour, every gap, every comparison.
    """

    def chain(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        exchange, symbol = str(key[0]), str(key[1])
        hours = pd.concat(groups).sort_values("hour")
        rebuilder = _rebuilder(exchange, symbol, depth, cadence, hours.iloc[0])
        rows: list[dict[str, Any]] = []
        reference: Any
        for reference in hours.itertuples(index=False):
            opening = _checkpoint(exchange, symbol, reference, rebuilder.opening())
            rows += write_data_file(root, CHECKPOINTS, [opening]).to_pylist()
            for batch in _events(exchange, symbol, reference):
                rebuilder.feed_batch(batch)
            compared = rebuilder.take_compared().items()
            rows += [
                asdict(found) | {"table": CHECKS.name, "hour": int(reference.hour), "kind": str(kind)}
                for kind, found in compared
            ]
        rows += [row | {"table": GAPS.name} for row in rebuilder.finish()]
        named = [row | {"exchange": exchange, "symbol": symbol} for row in rows]
        yield to_frame(pa.RecordBatch.from_pylist(named, schema=CHAINED.arrow))

    return chain


def replay_groups(root: str, depth: int, cadence: Cadence) -> Group:
    """Make the function that rebuilds one symbol-hour from its checkpoint.

    Parameters
    ----------
    root : str
        Folder of the warehouse.
    depth : int
        Levels a side in each row.
    cadence : Cadence
        When rows are written.

    Returns
    -------
    callable
        For `groupBy(exchange, symbol, hour).applyInPandas`: one row of `hour_references` in, a row
        of `added` out.
    """

    def replay(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        exchange, symbol = str(key[0]), str(key[1])
        reference = only_row(groups)
        rebuilder = _rebuilder(exchange, symbol, depth, cadence, reference)
        batches = map(rebuilder.feed_batch, _events(exchange, symbol, reference))
        yield to_frame(write_data_file(root, BOOKS, batches))

    return replay


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
    return pa.RecordBatch.from_pylist([row], schema=CHECKPOINTS.arrow)
