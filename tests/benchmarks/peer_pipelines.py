"""Run other programs that people use instead of deltabook to turn raw files into books on disk.

Usage: python peer_pipelines.py NAME RAW OUT CHANGES. CHANGES is the largest number of level changes to
process. Each program reads one symbol's file, maintains the book, and writes the top 20 levels to Parquet
whenever they change. `OMITS` in `pipeline.py` lists what a program leaves out.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

DEPTH = 20
Told = dict[str, Any]
Message = list[tuple[bool, float, float]]


def lake_messages(raw: Path, most: int) -> Iterator[Message]:
    """A plain script: polars reads, a loop makes messages."""
    import polars as pl

    frame = pl.read_parquet(raw, hive_partitioning=False).head(most)
    for _, message in frame.group_by("sequence_number", maintain_order=True):
        yield list(message.select("side_is_bid", "price", "size").iter_rows())


def json_messages(raw: Path, most: int) -> Iterator[Message]:
    """A plain script: gzip and json."""
    played = 0
    with gzip.open(raw) as file:
        for line in file:
            message = json.loads(line[20:])
            data = message.get("data", message)
            if data.get("e") == "bookTicker":
                continue
            bids, asks = data.get("b", data.get("bids")), data.get("a", data.get("asks"))
            yield [
                (is_bid, float(price), float(size))
                for is_bid, side in ((True, bids), (False, asks))
                for price, size in side
            ]
            played += len(bids) + len(asks)
            if played >= most:
                return


def with_sorted_books(messages: Iterator[Message], out: Path) -> Told:
    """Two SortedDicts; polars writes."""
    import polars as pl
    from sortedcontainers import SortedDict

    bids, asks = SortedDict(), SortedDict()
    last: tuple[Any, Any] = ([], [])
    rows: list[tuple[int, Any, Any]] = []
    played = index = 0
    for index, message in enumerate(messages):
        played += len(message)
        for is_bid, price, size in message:
            side = bids if is_bid else asks
            if size:
                side[price] = size
            else:
                side.pop(price, None)
        top = (
            [(price, bids[price]) for price in islice(reversed(bids), DEPTH)],
            list(islice(asks.items(), DEPTH)),
        )
        if top != last:
            rows.append((index, *top))
            last = top
    columns = {"message": [row[0] for row in rows]}
    for place, name in ((1, "bid"), (2, "ask")):
        for part, what in ((0, "prices"), (1, "sizes")):
            columns[f"{name}_{what}"] = [[level[part] for level in row[place]] for row in rows]
    pl.DataFrame(columns).write_parquet(out)
    return {"changes": played, "messages": index + 1, "rows": len(rows), "top": last}


def polars_lake(raw: Path, out: Path, most: int) -> Told:
    return with_sorted_books(lake_messages(raw, most), out)


def json_binance(raw: Path, out: Path, most: int) -> Told:
    return with_sorted_books(json_messages(raw, most), out)


def lakeapi_lake(raw: Path, out: Path, most: int) -> Told:
    """lakeapi's updater over pandas: the best prices after every message."""
    import pandas as pd
    from lakeapi.orderbook import OrderBookUpdater

    frame = pd.read_parquet(raw, partitioning=None).head(most)
    book = OrderBookUpdater(frame, depth_limit_min=10**9, depth_limit_max=10**9)
    seen: list[tuple[int, float, float]] = []
    while book.process_next_update():
        bid, ask = book.get_bests()
        if not seen or seen[-1][1:] != (bid, ask):
            seen.append((book.received_timestamp, bid, ask))
    pd.DataFrame(seen, columns=["received_time", "bid", "ask"]).to_parquet(out)
    top = [sorted(book.bid.items(), reverse=True)[:DEPTH], sorted(book.ask.items())[:DEPTH]]
    return {"changes": len(frame), "rows": len(seen), "top": top}


def hftbacktest_lake(raw: Path, out: Path, most: int) -> Told:
    """Crypto Lake's columns into hftbacktest's events, which are then replayed."""
    import pyarrow.parquet as pq
    from hftbacktest import BUY_EVENT, DEPTH_EVENT, EXCH_EVENT, LOCAL_EVENT, SELL_EVENT
    from hftbacktest.types import event_dtype

    with raw.open("rb") as stream:
        table = pq.read_table(stream).slice(0, most)
    events = np.zeros(len(table), dtype=event_dtype)
    side = np.where(table["side_is_bid"].to_numpy(), BUY_EVENT, SELL_EVENT)
    events["ev"] = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT | side
    # Times of its own, as it takes what bears one time together, and exchange and local order must agree.
    message = np.cumsum(np.diff(table["sequence_number"].to_numpy(), prepend=0) != 0)
    events["exch_ts"] = events["local_ts"] = message * 1000
    events["px"], events["qty"] = table["price"].to_numpy(), table["size"].to_numpy()
    return _replay(events, out)


def hftbacktest_binance(raw: Path, out: Path, most: int) -> Told:
    """hftbacktest's own converter, then its replay."""
    from hftbacktest.data.utils.binancefutures import convert

    events = convert(str(raw), buffer_size=most + 1_000_000)
    return _replay(events, out)


def _replay(events: np.ndarray, out: Path) -> Told:
    import numba
    import pyarrow as pa
    import pyarrow.parquet as pq
    from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest

    depth_events = (events["ev"] & 0xFF) != 2
    times = np.unique(events["local_ts"][depth_events])
    asset = BacktestAsset().data(events).linear_asset(1.0).constant_order_latency(0, 0)
    asset.risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
    asset.tick_size(0.01).lot_size(0.00001)
    backtest = HashMapMarketDepthBacktest([asset])

    @numba.njit
    def play(backtest, times, ticks, sizes, written):
        rows = 0
        new_ticks, new_sizes = np.zeros((2, DEPTH), np.int64), np.zeros((2, DEPTH))
        for index in range(len(times)):
            now = backtest.current_timestamp
            backtest.elapse(1 if index == 0 else times[index] - now)
            book = backtest.depth(0)
            tick, at = book.best_bid_tick, 0
            while at < DEPTH:
                size = book.bid_qty_at_tick(tick)
                if size > 0:
                    new_ticks[0, at], new_sizes[0, at] = tick, size
                    at += 1
                tick -= 1
            tick, at = book.best_ask_tick, 0
            while at < DEPTH:
                size = book.ask_qty_at_tick(tick)
                if size > 0:
                    new_ticks[1, at], new_sizes[1, at] = tick, size
                    at += 1
                tick += 1
            if rows == 0 or (new_ticks != ticks[rows - 1]).any() or (new_sizes != sizes[rows - 1]).any():
                ticks[rows], sizes[rows], written[rows] = new_ticks, new_sizes, times[index]
                rows += 1
        return rows

    ticks = np.zeros((len(times), 2, DEPTH), np.int64)
    sizes, written = np.zeros((len(times), 2, DEPTH)), np.zeros(len(times), np.int64)
    rows = play(backtest, times, ticks, sizes, written)
    columns = {"time": pa.array(written[:rows])}
    for side, name in ((0, "bid"), (1, "ask")):
        for values, what in ((ticks[:rows, side] / 100, "prices"), (sizes[:rows, side], "sizes")):
            columns[f"{name}_{what}"] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DEPTH)
    pq.write_table(pa.table(columns), out)
    top = [
        list(zip((ticks[rows - 1, side] / 100).tolist(), sizes[rows - 1, side].tolist(), strict=True))
        for side in (0, 1)
    ]
    changes = int(np.isin(events["ev"] & 0xFF, (1, 4)).sum())
    return {"changes": changes, "messages": len(times), "rows": rows, "top": top}


PIPELINES: dict[str, Callable[[Path, Path, int], Told]] = {
    "lakeapi + pandas": lakeapi_lake,
    "polars + sortedcontainers": polars_lake,
    "hftbacktest, its format and replay": hftbacktest_lake,
    "json + sortedcontainers": json_binance,
    "hftbacktest, its converter and replay": hftbacktest_binance,
}

if __name__ == "__main__":
    started = perf_counter()
    told = PIPELINES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(told | {"seconds": perf_counter() - started}))
