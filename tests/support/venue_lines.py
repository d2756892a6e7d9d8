"""A few lines of each venue's feed: a snapshot, an update that deletes a level, and a trade. Reads lines."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.common.file_source import FileSource

_TIME = 1723161255208


def _line(message: object) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _coinbase(number: int, channel: str, **event: object) -> bytes:
    head = {"channel": channel, "timestamp": f"2024-08-08T23:54:1{number}.5Z", "sequence_num": number}
    return _line(head | {"events": [event]})


def _coinbase_level(side: str, price: str, size: str) -> dict[str, str]:
    return {"side": side, "event_time": "2024-08-08T23:54:10Z", "price_level": price, "new_quantity": size}


def _deribit(channel: str, data: object) -> bytes:
    return _line({"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}})


def _deribit_book(kind: str, number: int, bids: list[object], asks: list[object], **more: int) -> bytes:
    ids = {"timestamp": _TIME + number, "instrument_name": "BTC-PERPETUAL", "change_id": number} | more
    return _deribit("book.BTC-PERPETUAL.raw", {"type": kind, "bids": bids, "asks": asks} | ids)


def _gate(channel: str, result: object) -> bytes:
    return _line({"time": 1, "channel": f"futures.{channel}", "event": "update", "result": result})


VENUE_LINES: dict[str, list[bytes]] = {
    "coinbase": [
        _coinbase(0, "subscriptions", subscriptions={}),
        _coinbase(
            1,
            "l2_data",
            type="snapshot",
            product_id="BTC-USD",
            updates=[_coinbase_level("bid", "1", "1"), _coinbase_level("offer", "2", "1")],
        ),
        _coinbase(2, "ticker", type="update", tickers=[]),
        _coinbase(
            3, "l2_data", type="update", product_id="BTC-USD", updates=[_coinbase_level("offer", "2", "0")]
        ),
        _coinbase(
            4,
            "market_trades",
            type="update",
            trades=[
                {
                    "product_id": "BTC-USD",
                    "trade_id": "7",
                    "price": "1",
                    "size": "1",
                    "time": "2024-08-08T23:54:14Z",
                    "side": "BUY",
                }
            ],
        ),
    ],
    "kraken_futures": [
        _line(
            {
                "feed": "book_snapshot",
                "product_id": "PI_XBTUSD",
                "timestamp": _TIME,
                "seq": 5,
                "bids": [{"price": 1, "qty": 1}],
                "asks": [{"price": 2, "qty": 1}],
            }
        ),
        _line(
            {
                "feed": "book",
                "product_id": "PI_XBTUSD",
                "side": "sell",
                "seq": 6,
                "price": 2,
                "qty": 0,
                "timestamp": _TIME + 1,
            }
        ),
        _line({"feed": "ticker_lite", "product_id": "PI_XBTUSD", "bid": 1, "ask": 2}),
        _line(
            {
                "feed": "trade",
                "product_id": "PI_XBTUSD",
                "uid": "a-b",
                "side": "sell",
                "type": "fill",
                "seq": 9,
                "time": _TIME,
                "qty": 1,
                "price": 1,
            }
        ),
    ],
    "deribit": [
        _deribit_book("snapshot", 5, [["new", 1, 1]], [["new", 2, 1]]),
        _deribit(
            "ticker.BTC-PERPETUAL.raw",
            {
                "timestamp": _TIME + 5,
                "instrument_name": "BTC-PERPETUAL",
                "best_bid_price": 1,
                "best_bid_amount": 1,
                "best_ask_price": 2,
                "best_ask_amount": 1,
            },
        ),
        _deribit_book("change", 8, [], [["delete", 2, 0]], prev_change_id=5),
        _deribit(
            "trades.BTC-PERPETUAL.raw",
            [
                {
                    "instrument_name": "BTC-PERPETUAL",
                    "timestamp": _TIME,
                    "trade_seq": 4,
                    "trade_id": "77",
                    "direction": "sell",
                    "price": 1,
                    "amount": 10,
                }
            ],
        ),
    ],
    "bitget": [
        _line(
            {
                "action": action,
                "arg": {"instType": "USDT-FUTURES", "channel": "books", "instId": "BTCUSDT"},
                "data": [{"asks": asks, "bids": bids, "checksum": 0, "ts": str(_TIME + number)}],
            }
        )
        for number, (action, bids, asks) in enumerate(
            (("snapshot", [["1", "1"]], [["2", "1"]]), ("update", [], [["2", "0"]]))
        )
    ]
    + [
        _line(
            {
                "action": "update",
                "arg": {"instType": "USDT-FUTURES", "channel": "trade", "instId": "BTCUSDT"},
                "data": [{"ts": str(_TIME), "price": "1", "size": "1", "side": "sell", "tradeId": "5"}],
            }
        )
    ],
    "bitmex": [
        _line({"table": "orderBookL2", "action": action, "data": rows})
        for action, rows in (
            (
                "partial",
                [
                    {
                        "symbol": "XBTUSD",
                        "id": number,
                        "side": side,
                        "size": 1,
                        "price": number,
                        "timestamp": "2024-08-08T23:54:15.1Z",
                    }
                    for number, side in ((1, "Buy"), (2, "Sell"))
                ],
            ),
            (
                "delete",
                [{"symbol": "XBTUSD", "id": 2, "side": "Sell", "timestamp": "2024-08-08T23:54:15.2Z"}],
            ),
        )
    ]
    + [
        _line(
            {
                "table": "trade",
                "action": "insert",
                "data": [
                    {
                        "timestamp": "2024-08-08T23:54:15.3Z",
                        "symbol": "XBTUSD",
                        "side": "Sell",
                        "size": 1,
                        "price": 1,
                        "trdMatchID": "a-b",
                    }
                ],
            }
        )
    ],
    "gate": [
        b"https://api.gateio.ws/api/v4/futures/usdt/order_book?contract=BTC_USDT&with_id=true"
        b" -> 1723161255.1: "
        + _line(
            {
                "id": 5,
                "current": 1723161255.208,
                "update": 1723161255.207,
                "asks": [{"s": 1, "p": "2"}],
                "bids": [{"s": 1, "p": "1"}],
            }
        ),
        _gate(
            "order_book_update",
            {"t": _TIME, "s": "BTC_USDT", "U": 4, "u": 7, "b": [], "a": [{"p": "2", "s": 0}]},
        ),
        _gate("book_ticker", {"t": _TIME, "u": 7, "s": "BTC_USDT", "b": "1", "B": 1, "a": "", "A": 0}),
        _gate(
            "trades",
            [{"size": -3, "id": 9, "create_time_ms": _TIME, "price": "1", "contract": "BTC_USDT"}],
        ),
    ],
    "bitstamp": [
        b"https://www.bitstamp.net/api/v2/order_book/btcusd/ -> 1723161255.1: "
        + _line(
            {
                "timestamp": "1723161255",
                "microtimestamp": "1723161255208000",
                "bids": [["1", "1"]],
                "asks": [["2", "1"]],
            }
        ),
        _line(
            {
                "data": {
                    "timestamp": "1723161255",
                    "microtimestamp": "1723161255209000",
                    "bids": [],
                    "asks": [["2", "0"]],
                },
                "channel": "diff_order_book_btcusd",
                "event": "data",
            }
        ),
        _line(
            {
                "data": {
                    "id": 9,
                    "amount_str": "1.0",
                    "price_str": "1",
                    "type": 1,
                    "microtimestamp": "1723161255209000",
                },
                "channel": "live_trades_btcusd",
                "event": "trade",
            }
        ),
    ],
}
"""{name of a source: lines of a file}. After the lines, the book has one bid of 1 at price 1, and no ask."""


def read_counted(
    source: type[FileSource], lines: Sequence[bytes], path: str = "capture"
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return the records of a file that has these lines, and its lines by kind."""
    batches = source({}).parse(io.BytesIO(b"\n".join(lines)), path)
    records: list[dict[str, Any]] = []
    while True:
        try:
            batch = next(batches)
        except StopIteration as end:
            return records, end.value
        assert batch.schema == RECORDS.arrow
        records += batch.to_pylist()
