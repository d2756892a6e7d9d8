"""Time other programs that replay level changes message by message from Python.

Usage: python peer_replays.py NAME FILE. The script prints one JSON object. It runs in a separate Python
environment without deltabook.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from level_changes import LevelChanges, digest_of_book

Played = tuple[float, str]
"""Seconds, and the digest of the last book."""

HEADER = ["exchange", "symbol", "timestamp", "local_timestamp", "is_snapshot", "side", "price", "amount"]
"""Of Tardis' `incremental_book_L2` files."""


def tardis_messages(file: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """Generate the messages of an `incremental_book_L2` file: local time, and rows of its columns."""
    with gzip.open(file, "rt", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        for time, group in itertools.groupby(rows, key=lambda row: row[3]):
            yield time, list(group)


def with_tardis_records(file: Path) -> Played:
    """Keep a book of generated messages in sorted dicts."""
    from sortedcontainers import SortedDict

    bids, asks = SortedDict(), SortedDict()
    started = perf_counter()
    for _, changes in tardis_messages(csv_of(file)):
        for row in changes:
            book, price, amount = bids if row[5] == "bid" else asks, float(row[6]), float(row[7])
            if amount:
                book[price] = amount
            else:
                book.pop(price, None)
        if bids and asks:
            _ = bids.peekitem(-1)[0], asks.peekitem(0)[0]
    seconds = perf_counter() - started
    changes = LevelChanges.load(file)
    sides = (
        {round(price / changes.tick): round(size / changes.lot) for price, size in side.items()}
        for side in (bids, asks)
    )
    return seconds, digest_of_book(*sides)


def with_hftbacktest_from_python(file: Path) -> Played:
    """Call hftbacktest's own methods from Python, once a message; its events are in memory before."""
    from hftbacktest import (
        BUY_EVENT,
        DEPTH_EVENT,
        EXCH_EVENT,
        LOCAL_EVENT,
        SELL_EVENT,
        BacktestAsset,
        HashMapMarketDepthBacktest,
    )
    from hftbacktest.types import event_dtype

    apart = 1000  # ns between messages
    changes = LevelChanges.load(file)
    events = np.zeros(len(changes.prices), dtype=event_dtype)
    events["ev"] = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT | np.where(changes.is_bid, BUY_EVENT, SELL_EVENT)
    message = np.repeat(np.arange(1, changes.messages + 1), np.diff(changes.offsets))
    events["exch_ts"] = events["local_ts"] = message * apart
    events["px"], events["qty"] = changes.prices, changes.sizes
    asset = BacktestAsset().data(events).linear_asset(1.0).constant_order_latency(0, 0)
    asset.risk_adverse_queue_model().no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
    backtest = HashMapMarketDepthBacktest([asset.tick_size(1.0).lot_size(1.0)])
    backtest.elapse(0)  # compiles
    _ = backtest.depth(0).best_bid, backtest.depth(0).best_ask
    started = perf_counter()
    for index in range(changes.messages):
        backtest.elapse(apart if index else 1)  # it tells the end of the data at the last message
        book = backtest.depth(0)
        _ = book.best_bid, book.best_ask
    seconds = perf_counter() - started
    ticks = range(int(changes.prices.min()), int(changes.prices.max()) + 1)
    bids, asks = (
        {tick: round(size(tick)) for tick in ticks if size(tick) > 0}
        for size in (book.bid_qty_at_tick, book.ask_qty_at_tick)
    )
    return seconds, digest_of_book(bids, asks)


def csv_of(file: Path) -> Path:
    """Name the CSV file of a file of level changes."""
    return file.with_suffix(".csv.gz")


def write_csv(changes: LevelChanges, file: Path, apart: int = 11_250) -> None:
    """Write level changes as Tardis does: one row each, messages `apart` microseconds."""
    first = 1_723_075_200_000_000
    with gzip.open(file, "wt", newline="", compresslevel=1) as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for message, (start, end) in enumerate(itertools.pairwise(changes.offsets.tolist())):
            time = first + message * apart
            parts = (column[start:end].tolist() for column in (changes.is_bid, changes.prices, changes.sizes))
            for is_bid, price, size in zip(*parts, strict=True):
                level = f"{price * changes.tick:.2f}", f"{size * changes.lot:.5f}"
                side = "bid" if is_bid else "ask"
                writer.writerow(["binance", "BTCUSDT", time, time + 7_000, "false", side, *level])


REPLAYS: dict[str, Any] = {
    "hftbacktest, from Python": with_hftbacktest_from_python,
    "Tardis records + sortedcontainers": with_tardis_records,
}

if __name__ == "__main__":
    name, file = sys.argv[1], Path(sys.argv[2])
    seconds, book = REPLAYS[name](file)
    changes = LevelChanges.load(file)
    told = {"seconds": seconds, "changes": len(changes.prices), "messages": changes.messages, "book": book}
    print(json.dumps(told))
