"""Time order books of other libraries on the same level changes. Usage: python peer_books.py NAME FILE DEPTH.

The measured time covers updating the book and reading its top after every message. The measured time does not
cover making the objects or arrays that a library takes as input. This rule favours libraries with an
expensive input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from level_changes import LevelChanges, digest_of_book, digest_of_tops

Played = tuple[float, dict[str, str]]
"""Seconds, and digests of the final book and of what was seen on the way."""


def with_sortedcontainers(changes: LevelChanges, depth: int) -> Played:
    from sortedcontainers import SortedDict

    bids, asks = SortedDict(), SortedDict()

    def best(side: SortedDict) -> int:
        return side.peekitem(-1 if side is bids else 0)[0]

    def top(side: SortedDict) -> list[tuple[int, int]]:
        keys = reversed(side) if side is bids else iter(side)
        return [(price, side[price]) for price in islice(keys, depth)]

    return _with_mappings(changes, depth, (bids, asks), best, top, lambda side: dict(side))


def with_order_book(changes: LevelChanges, depth: int) -> Played:
    from order_book import OrderBook

    book = OrderBook()
    sides = (book.bids, book.asks)

    def top(side: Any) -> list[tuple[int, int]]:
        return [side.index(place) for place in range(depth)]

    return _with_mappings(
        changes, depth, sides, lambda side: side.index(0)[0], top, lambda side: side.to_dict()
    )


def _with_mappings(
    changes: LevelChanges,
    depth: int,
    sides: tuple[Any, Any],
    best: Callable[[Any], int],
    top: Callable[[Any], Any],
    whole: Callable[[Any], dict[int, int]],
) -> Played:
    """A book of two sorted mappings, in a plain loop."""
    bids, asks = sides
    offsets = changes.offsets.tolist()
    levels = list(zip(changes.is_bid.tolist(), changes.prices.tolist(), changes.sizes.tolist(), strict=True))
    seen: list[Any] = []
    started = perf_counter()
    for start, end in pairwise(offsets):
        for is_bid, price, size in levels[start:end]:
            side = bids if is_bid else asks
            if size:
                side[price] = size
            elif price in side:
                del side[price]
        seen.append((best(bids), best(asks)) if depth == 1 else (top(bids), top(asks)))
    seconds = perf_counter() - started
    if depth == 1:
        tops = digest_of_tops(np.array(seen))
    else:
        both = np.array(seen)  # messages, sides, levels, (price, size)
        tops = digest_of_tops(both[..., 0], both[..., 1])
    return seconds, {"book": digest_of_book(whole(bids), whole(asks)), "tops": tops}


def with_lakeapi(changes: LevelChanges, depth: int) -> Played:
    import pandas as pd
    from lakeapi.orderbook import OrderBookUpdater

    message = np.repeat(np.arange(1, changes.messages + 1), np.diff(changes.offsets))
    frame = pd.DataFrame(
        {
            "received_time": message,
            "sequence_number": message,
            "side_is_bid": changes.is_bid,
            "price": changes.prices.astype(np.float64),
            "size": changes.sizes.astype(np.float64),
        }
    )
    unlimited = {"depth_limit_min": 10**9, "depth_limit_max": 10**9}
    OrderBookUpdater(frame.head(1), **unlimited).process_next_update()  # compiles
    book = OrderBookUpdater(frame, **unlimited)
    seen = []
    started = perf_counter()
    while book.process_next_update():
        if depth == 1:
            seen.append(book.get_bests())
        else:
            bids = sorted(book.bid.items(), reverse=True)[:depth]
            seen.append((bids, sorted(book.ask.items())[:depth]))
    seconds = perf_counter() - started
    if depth == 1:
        tops = digest_of_tops(np.array(seen))
    else:
        both = np.array(seen)
        tops = digest_of_tops(both[..., 0], both[..., 1])
    sides = ({int(price): int(size) for price, size in side.items()} for side in (book.bid, book.ask))
    return seconds, {"book": digest_of_book(*sides), "tops": tops}


def with_nautilus_trader(changes: LevelChanges, depth: int) -> Played:
    from nautilus_trader.model.book import OrderBook
    from nautilus_trader.model.data import BookOrder, OrderBookDelta
    from nautilus_trader.model.enums import BookAction, BookType, OrderSide
    from nautilus_trader.model.identifiers import InstrumentId
    from nautilus_trader.model.objects import Price, Quantity

    instrument = InstrumentId.from_str("BTCUSDT.BINANCE")
    book = OrderBook(instrument, BookType.L2_MBP)
    # It reports deletions of levels that are not there at length: they are left out of its input.
    held, deltas = set(), []
    offsets = [0]
    for start, end in zip(changes.offsets.tolist(), changes.offsets.tolist()[1:], strict=False):
        columns = (column[start:end].tolist() for column in (changes.is_bid, changes.prices, changes.sizes))
        for is_bid, price, size in zip(*columns, strict=True):
            if not size and (is_bid, price) not in held:
                continue
            (held.add if size else held.discard)((is_bid, price))
            order = BookOrder(
                OrderSide.BUY if is_bid else OrderSide.SELL, Price(price, 0), Quantity(size, 0), price
            )
            action = BookAction.UPDATE if size else BookAction.DELETE
            deltas.append(
                OrderBookDelta(instrument, action, order, 0, len(offsets), len(offsets), len(offsets))
            )
        offsets.append(len(deltas))
    seen: list[Any] = []
    started = perf_counter()
    for start, end in pairwise(offsets):
        for delta in deltas[start:end]:
            book.apply_delta(delta)
        if depth == 1:
            seen.append((book.best_bid_price(), book.best_ask_price()))
        else:
            seen.append((book.bids()[:depth], book.asks()[:depth]))
    seconds = perf_counter() - started
    if depth == 1:
        tops = digest_of_tops(np.array([[int(price) for price in pair] for pair in seen]))
    else:
        both = np.array(
            [[[(int(level.price), round(level.size())) for level in side] for side in pair] for pair in seen]
        )
        tops = digest_of_tops(both[..., 0], both[..., 1])
    sides = ({int(level.price): round(level.size()) for level in side} for side in (book.bids(), book.asks()))
    return seconds, {"book": digest_of_book(*sides), "tops": tops}


def with_hftbacktest_hashmap(changes: LevelChanges, depth: int) -> Played:
    from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest

    asset = BacktestAsset()
    return _with_hftbacktest(changes, depth, asset, lambda: HashMapMarketDepthBacktest([asset]))


def with_hftbacktest_roivector(changes: LevelChanges, depth: int) -> Played:
    from hftbacktest import BacktestAsset, ROIVectorMarketDepthBacktest

    asset = BacktestAsset()
    asset.roi_lb(float(changes.prices.min()))
    asset.roi_ub(float(changes.prices.max()))
    return _with_hftbacktest(changes, depth, asset, lambda: ROIVectorMarketDepthBacktest([asset]))


def _with_hftbacktest(changes: LevelChanges, depth: int, asset: Any, opened: Callable[[], Any]) -> Played:
    import numba
    from hftbacktest import BUY_EVENT, DEPTH_EVENT, EXCH_EVENT, LOCAL_EVENT, SELL_EVENT
    from hftbacktest.types import event_dtype

    apart = 1000  # ns between messages
    events = np.zeros(len(changes.prices), dtype=event_dtype)
    side = np.where(changes.is_bid, BUY_EVENT, SELL_EVENT)
    events["ev"] = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT | side
    message = np.repeat(np.arange(1, changes.messages + 1), np.diff(changes.offsets))
    events["exch_ts"] = events["local_ts"] = message * apart
    events["px"], events["qty"] = changes.prices, changes.sizes

    @numba.njit
    def play(backtest, messages, depth, prices, sizes):
        for index in range(messages):
            backtest.elapse(apart if index else 1)  # it tells the end of the data at the last message
            book = backtest.depth(0)
            bid, ask = book.best_bid_tick, book.best_ask_tick
            if depth == 1:
                prices[index, 0, 0], prices[index, 1, 0] = bid, ask
                continue
            at = 0
            while at < depth:
                size = book.bid_qty_at_tick(bid)
                if size > 0:
                    prices[index, 0, at], sizes[index, 0, at] = bid, size
                    at += 1
                bid -= 1
            at = 0
            while at < depth:
                size = book.ask_qty_at_tick(ask)
                if size > 0:
                    prices[index, 1, at], sizes[index, 1, at] = ask, size
                    at += 1
                ask += 1

    asset.data(events).linear_asset(1.0).constant_order_latency(0, 0).risk_adverse_queue_model()
    asset.no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0).tick_size(1.0).lot_size(1.0)
    backtest = opened()
    shape = (changes.messages, 2, depth)
    prices, sizes = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    play(backtest, 0, depth, prices, sizes)  # compiles
    started = perf_counter()
    play(backtest, changes.messages, depth, prices, sizes)
    seconds = perf_counter() - started
    book = backtest.depth(0)
    low, high = int(changes.prices.min()), int(changes.prices.max())
    ticks = range(low, high + 1)
    bids = {tick: int(book.bid_qty_at_tick(tick)) for tick in ticks if book.bid_qty_at_tick(tick) > 0}
    asks = {tick: int(book.ask_qty_at_tick(tick)) for tick in ticks if book.ask_qty_at_tick(tick) > 0}
    tops = digest_of_tops(prices) if depth == 1 else digest_of_tops(prices, sizes)
    return seconds, {"book": digest_of_book(bids, asks), "tops": tops}


PEERS = {
    "lakeapi": with_lakeapi,
    "hftbacktest HashMap": with_hftbacktest_hashmap,
    "hftbacktest ROIVector": with_hftbacktest_roivector,
    "order_book": with_order_book,
    "nautilus_trader": with_nautilus_trader,
    "sortedcontainers": with_sortedcontainers,
}

if __name__ == "__main__":
    name, file, depth = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    changes = LevelChanges.load(file)
    seconds, digests = PEERS[name](changes, depth)
    told = {"seconds": seconds, "changes": len(changes.prices), "version": version(name.split()[0])}
    print(json.dumps(told | digests))
