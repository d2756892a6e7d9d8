"""The Deribit source links change ids, and tickers equal the books that they describe."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_rebuilder_feeds import rebuilt, totals
from venue_lines import read_counted

from deltabook.schemas.errors import InputError
from deltabook.schemas.feeds import FEEDS
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.common.records import EMPTY_RECORD
from deltabook.udfs.sources.deribit import DeribitSource, symbol_of
from deltabook.udfs.storage.containers import open_file

MS = 10**6
TIME = 1626993723632
UNIT = 10**8
NAME = "BTC-PERPETUAL"


def message(channel: str, data: Any) -> bytes:
    content = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return b"1626993723.5: " + json.dumps(content).encode()


def book(kind: str, change_id: int, interval: str = "raw", **more: Any) -> bytes:
    data = {"type": kind, "timestamp": TIME, "instrument_name": NAME, "change_id": change_id}
    return message(f"book.{NAME}.{interval}", data | {"bids": [], "asks": []} | more)


def ticker(time: int, bid: Any = (32180.5, 10.0), ask: Any = (32181.0, 20.0), interval: str = "raw") -> bytes:
    data = {"timestamp": time, "instrument_name": NAME, "best_bid_price": bid[0], "best_bid_amount": bid[1]}
    data |= {"best_ask_price": ask[0], "best_ask_amount": ask[1]}
    return message(f"ticker.{NAME}.{interval}", data)


SNAPSHOT = book("snapshot", 10, bids=[["new", 32180.5, 10.0]], asks=[["new", 32181.0, 20.0]])
CHANGE = book("change", 12, prev_change_id=10, timestamp=TIME + 5, asks=[["delete", 32181.0, 0.0]])
TRADE = {"trade_seq": 30289, "trade_id": "48079289", "timestamp": TIME, "instrument_name": NAME}
TRADE |= {"price": 32180.5, "amount": 40.0, "direction": "sell", "tick_direction": 2}


def read_with_counts(*lines: bytes, path: str = "DERIBIT.ws.1.0") -> tuple[list[dict[str, Any]], Counter]:
    return read_counted(DeribitSource, lines, path)


def read(*lines: bytes) -> list[dict[str, Any]]:
    return read_with_counts(*lines)[0]


def golden(*lines: bytes) -> list[tuple[int, int]]:
    return [
        (record["source_row"], record["sequence"]) for record in read(*lines) if record["record"] == "golden"
    ]


def only(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def test_every_field_of_a_book():
    (record,) = read(SNAPSHOT)
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "DERIBIT",
        "symbol": "BTC-USD-PERP",
        "timestamp": TIME * MS,
        "received": 1626993723_500000000,
        "sequence": 10,
        "source_file": "DERIBIT.ws.1.0",
        "source_row": 1,
        "is_snapshot": True,
        "bid_prices": [3218050000000],
        "bid_sizes": [10 * UNIT],
        "ask_prices": [32181 * UNIT],
        "ask_sizes": [20 * UNIT],
    }


def test_a_change_has_the_id_before_it_and_deletes_with_size_zero():
    levels = [["new", 1.5, 2.0], ["change", 2.5, 3.0], ["delete", 3.5, 4.0]]
    (record,) = read(book("change", 12, prev_change_id=10, bids=levels))
    assert only(record, "is_snapshot", "sequence", "prev_sequence") == (False, 12, 10)
    assert record["bid_sizes"] == [2 * UNIT, 3 * UNIT, 0]


def test_a_snapshot_may_have_one_side_or_none():
    one, none = read(book("snapshot", 1, asks=[["new", 2.0, 1.0]]), book("snapshot", 2))
    assert only(one, "bid_prices", "ask_prices") == ([], [2 * UNIT])
    assert only(none, "is_snapshot", "bid_prices", "ask_prices") == (True, [], [])


def test_only_the_first_interval_of_an_instrument_is_read():
    batched = book("snapshot", 10, interval="100ms")
    records, counts = read_with_counts(SNAPSHOT, batched, CHANGE)
    assert [record["source_row"] for record in records] == [1, 3]
    assert counts["other: book at interval 100ms"] == 1
    assert [record["sequence"] for record in read(book("snapshot", 10, interval="agg2"), SNAPSHOT)] == [10]


def test_a_ticker_describes_the_last_book_message_that_is_not_newer():
    assert golden(SNAPSHOT, ticker(TIME), CHANGE) == [(2, 10)]
    assert golden(SNAPSHOT, ticker(TIME + 5), CHANGE) == [(2, 12)]
    assert golden(SNAPSHOT, CHANGE, ticker(TIME + 4)) == [(3, 10)]
    assert golden(ticker(TIME), SNAPSHOT) == [(1, 10)]


def test_a_ticker_without_a_book_message_is_no_truth():
    assert golden(ticker(TIME)) == golden(ticker(TIME - 1), SNAPSHOT) == []


def test_a_ticker_is_a_book_of_one_level_and_a_side_of_price_zero_is_empty():
    *_, both, one = read(SNAPSHOT, ticker(TIME), ticker(TIME, bid=(0.0, 0.0)))
    names = ("kind", "timestamp", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
    assert only(both, *names) == (
        "vendor_book", TIME * MS, [3218050000000], [10 * UNIT], [32181 * UNIT], [20 * UNIT],
    )  # fmt: skip
    assert only(one, "bid_prices", "ask_prices") == ([], [32181 * UNIT])


@pytest.mark.parametrize("interval", ["100ms", "agg2"])
def test_tickers_beside_a_batched_book_are_no_truth(interval):
    batched = book("snapshot", 10, interval=interval, bids=[["new", 1.0, 1.0]])
    assert golden(ticker(TIME), batched, ticker(TIME)) == []
    _, counts = read_with_counts(batched, ticker(TIME))
    assert counts["other: ticker beside a book that is not raw"] == 1


def test_every_field_of_a_trade():
    bought = TRADE | {"direction": "buy", "trade_seq": 30290, "trade_id": "ETH-34066077"}
    first, second, block = read(
        message(f"trades.{NAME}.raw", [TRADE, bought, TRADE | {"block_trade_id": "6165"}])
    )
    names = ("record", "symbol", "timestamp", "sequence", "trade_id", "side", "price", "size")
    assert only(first, *names) == (
        "trade", "BTC-USD-PERP", TIME * MS, 30289, hash_id("48079289"), "sell", 3218050000000, 40 * UNIT,
    )  # fmt: skip
    assert only(second, "sequence", "trade_id", "side") == (30290, hash_id("ETH-34066077"), "buy")
    assert block["side"] == ""
    assert FEEDS["deribit"].trade_ids


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("BTC-PERPETUAL", "BTC-USD-PERP"),
        ("BTC-24SEP21", "BTC-USD-210924"),
        ("BTC-4JUN21", "BTC-USD-210604"),
        ("SOL_USDC-PERPETUAL", "SOL-USDC-PERP"),
        ("BTC_USDC-27JUN25", "BTC-USDC-250627"),
        ("BTC_USDC", "BTC-USDC"),
        ("BTC-24SEP21-8000-P", "BTC-24SEP21-8000-P"),
    ],
)
def test_instrument_has_its_canonical_name(symbol, expected):
    assert symbol_of(symbol) == expected


def test_a_hostile_symbol_is_refused():
    with pytest.raises(InputError):
        symbol_of("BTC-../PERPETUAL'")


def test_other_messages_are_skipped_and_counted():
    records, counts = read_with_counts(
        b"wss://www.deribit.com/ws/api/v2/ <-> 1626993723.5",
        b'1626993723.5: {"jsonrpc":"2.0","id":0,"result":[]}',
        b'1626993723.5: {"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}',
        message(f"book.{NAME}.none.10.100ms", {"bids": [[1.0, 2.0]], "asks": []}),
        message(f"quote.{NAME}", {}),
        SNAPSHOT,
    )
    assert len(records) == 1
    skipped = ("answer", "heartbeat", "grouped book", "quote")
    assert counts == {"taken": 1, "connection": 1} | {f"other: {name}": 1 for name in skipped}


BAD = {
    "not JSON": (SNAPSHOT[:-9], "not JSON"),
    "not an object": (b"1626993723.5: [1]", "expected an object"),
    "data that is no object": (message(f"book.{NAME}.raw", []), "field data"),
    "a type that is not known": (book("delta", 12, prev_change_id=10), "field type"),
    "no id": (book("change", -1, prev_change_id=10), "field change_id"),
    "a change without the id before": (book("change", 12), "field prev_change_id"),
    "an action that is not known": (book("snapshot", 1, bids=[["add", 1.0, 1.0]]), "field bids"),
    "a level without an amount": (book("snapshot", 1, asks=[["new", 1.0]]), "field asks"),
    "a negative amount": (book("snapshot", 1, asks=[["new", 1.0, -1.0]]), "negative"),
    "a ticker without a time": (message(f"ticker.{NAME}.raw", {"instrument_name": NAME}), "field timestamp"),
    "trades that are no list": (message(f"trades.{NAME}.raw", {}), "field data"),
    "one bad trade of two": (
        message(f"trades.{NAME}.raw", [TRADE, TRADE | {"direction": 1}]),
        "field direction",
    ),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD.keys())
def test_an_unreadable_line_is_quarantined_and_the_next_is_read(line, reason):
    bad, good = read(line, SNAPSHOT)
    assert only(bad, "record", "source_row", "raw") == ("quarantine", 1, line)
    assert reason in bad["reason"]
    assert only(good, "record", "source_row") == ("book_update", 2)


@pytest.mark.real_data
def test_the_tickers_of_a_real_capture_equal_its_books(real_data: Path):
    path = str(real_data / "venues" / "DERIBIT.ws.1.0")
    with open_file(path) as stream:
        records, counts = read_with_counts(stream.read(), path=path)
    assert sum(counts.values()) == 139 and counts["quarantined"] == 0
    updates = [record for record in records if record["record"] == "book_update"]
    assert Counter(record["is_snapshot"] for record in updates) == {True: 10, False: 36}
    books: dict[str, dict[str, dict[int, int]]] = {}
    last_ids: dict[str, int] = {}
    best_at: dict[tuple[str, int], list[list[tuple[int, int]]]] = {}
    links = changes = deletes = 0
    for record in updates:
        symbol, levels_of = record["symbol"], books.setdefault(record["symbol"], {})
        links += not record["is_snapshot"] and record["prev_sequence"] == last_ids[symbol]
        last_ids[symbol] = record["sequence"]
        for side in ("bid", "ask"):
            levels = levels_of[side] = {} if record["is_snapshot"] else levels_of[side]
            for price, size in zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True):
                changes += not record["is_snapshot"]
                deletes += size == 0
                levels[price] = size
                if not size:
                    del levels[price]
        best_at[symbol, record["sequence"]] = [
            sorted(levels_of["bid"].items())[-1:],
            sorted(levels_of["ask"].items())[:1],
        ]
    assert (links, changes, deletes) == (36, 41, 19)
    tickers = [record for record in records if record["record"] == "golden"]
    equal = sum(
        best_at[ticker["symbol"], ticker["sequence"]]
        == [
            list(zip(ticker[f"{side}_prices"], ticker[f"{side}_sizes"], strict=True))
            for side in ("bid", "ask")
        ]
        for ticker in tickers
    )
    assert (equal, len(tickers)) == (89, 89)


@pytest.mark.real_data
@pytest.mark.usefixtures("narrow_bitmaps")
def test_the_rebuilt_books_of_a_real_capture_are_verified(real_data: Path):
    statuses, _, gaps = totals(rebuilt("deribit", [str(real_data / "venues" / "DERIBIT.ws.1.0")]))
    assert (statuses, gaps) == ({"verified": 46}, [])
