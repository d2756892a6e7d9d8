"""The BitMEX source knows the prices of row ids, marks lost messages, and equals the quotes of a capture."""

from __future__ import annotations

import io
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from events import in_first_epoch
from venue_lines import read_counted

from deltabook.schemas.errors import InputError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import HOUR
from deltabook.udfs.ordering.feed_order import order_chunk
from deltabook.udfs.sources.bitmex import BitmexSource, symbol_of
from deltabook.udfs.sources.common.envelopes import split_line
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.common.records import EMPTY_RECORD
from deltabook.udfs.sources.tardis.source import instrument
from deltabook.udfs.storage.containers import open_file

START, SECOND = 1626993370_000000000, 10**9
ISO, ISO_NS = "2021-07-22T22:36:10.014Z", 1626993370_014000000
UNIT = 10**8


def row(row_id: int, side: str = "Buy", symbol: str = "XBTUSD", **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "id": row_id, "side": side} | more


def message(table: str, action: str, *rows: Any, after: int = 0, **more: Any) -> bytes:
    content = {"table": table, "action": action} | more | {"data": list(rows)}
    return f"{1626993370 + after}.0: ".encode() + json.dumps(content).encode()


def book(action: str, *rows: Any, **more: Any) -> bytes:
    return message("orderBookL2", action, *rows, **more)


ROWS = (row(7, size=500, price=32180), row(5, "Sell", size=20, price=32180.5))
TYPES = {"types": {"symbol": "symbol", "id": "long"}, "filter": {"symbol": "XBTUSD"}}
PARTIAL = book("partial", *ROWS, **TYPES)
ETHER = book("partial", row(9, symbol="ETHUSD", size=3, price=2000), filter={"symbol": "ETHUSD"})
TRADE = {"timestamp": ISO, "symbol": "XBTUSD", "side": "Sell", "size": 100, "price": 32180.5}
TRADE |= {"tickDirection": "PlusTick", "trdMatchID": "6e70bebe-235e-08a6"}


def read_with_counts(*lines: bytes, path: str = "BITMEX.ws.1.0") -> tuple[list[dict[str, Any]], Counter]:
    return read_counted(BitmexSource, lines, path)


def read(*lines: bytes) -> list[dict[str, Any]]:
    return read_with_counts(*lines)[0]


def only(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def test_every_field_of_a_book():
    (record,) = read(PARTIAL)
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "BITMEX",
        "symbol": "BTC-USD-PERP",
        "received": START,
        "sequence": START,
        "source_file": "BITMEX.ws.1.0",
        "source_row": 1,
        "is_snapshot": True,
        "bid_prices": [32180 * UNIT],
        "bid_sizes": [500 * UNIT],
        "ask_prices": [3218050000000],
        "ask_sizes": [20 * UNIT],
    }


def test_rows_without_a_price_have_the_price_of_their_id():
    lines = (
        book("update", row(7, size=400), after=1),
        book("insert", row(8, size=1, price=32179.5, timestamp=ISO), after=2),
        book("update", row(8, size=2), row(5, "Sell", size=30), after=3),
        book("delete", row(8), after=4),
    )
    _, update, insert, both, delete = read(PARTIAL, *lines)
    sides = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
    assert only(update, *sides) == ([32180 * UNIT], [400 * UNIT], [], [])
    assert only(insert, *sides, "timestamp") == ([3217950000000], [UNIT], [], [], ISO_NS)
    assert only(both, *sides) == ([3217950000000], [2 * UNIT], [3218050000000], [30 * UNIT])
    assert only(delete, *sides, "sequence") == ([3217950000000], [0], [], [], START + 4 * SECOND)


@pytest.mark.parametrize("more", [{}, {"price": 32179}])
@pytest.mark.parametrize("action", ["update", "delete"])
def test_an_id_that_no_message_gave_shows_a_lost_message(action, more):
    _, bad, mark = read(PARTIAL, book(action, row(99, size=1, **more), after=1))
    assert bad["record"] == "quarantine" and "a message is missing" in bad["reason"]
    assert only(mark, "symbol", "damaged") == ("BTC-USD-PERP", True)


def test_an_unreadable_line_changes_no_known_price():
    bad = book("insert", row(8, size=1, price=32179), row(9, "Both", size=1, price=1), after=1)
    *_, last, _ = read(PARTIAL, bad, PARTIAL, book("update", row(8, size=1), after=2))
    assert last["record"] == "quarantine"


def test_a_partial_forgets_the_ids_before_it():
    records = read(
        PARTIAL, book("partial", row(1, size=1, price=1), **TYPES), book("delete", row(7), after=1)
    )
    assert [record["record"] for record in records] == [
        "book_update",
        "book_update",
        "quarantine",
        "book_update",
    ]


def test_a_file_that_continues_another_one_is_read_by_its_printed_prices():
    continued = book("delete", row(9, price=99)), book("update", row(9, size=1))
    taken, bad, _ = read(*continued)
    assert only(taken, "bid_prices", "bid_sizes") == ([99 * UNIT], [0])
    assert "not known" in bad["reason"]


def test_only_the_first_table_of_an_instrument_is_read():
    records, counts = read_with_counts(PARTIAL, message("orderBookL2_25", "partial", *ROWS, **TYPES))
    assert len(records) == 1
    assert counts == {"taken": 1, "other: orderBookL2_25 beside another table": 1}
    assert read(message("orderBookL2_25", "partial", *ROWS, **TYPES))[0]["is_snapshot"]


def test_an_empty_partial_is_an_empty_book():
    _, empty = read(PARTIAL, book("partial", **TYPES))
    assert only(empty, "symbol", "is_snapshot", "bid_prices", "ask_prices") == ("BTC-USD-PERP", True, [], [])


def test_a_message_of_two_instruments_gives_two_updates_or_none():
    good = book("update", row(7, size=1), row(9, symbol="ETHUSD", size=1), after=1)
    bad = book("update", row(7, size=1), row(77, symbol="ETHUSD", size=1), after=1)
    assert [record["symbol"] for record in read(PARTIAL, ETHER, good)[2:]] == ["BTC-USD-PERP", "ETH-USD-PERP"]
    quarantined, *marks = read(PARTIAL, ETHER, bad)[2:]
    assert quarantined["record"] == "quarantine"
    assert [only(mark, "symbol", "damaged") for mark in marks] == [
        ("BTC-USD-PERP", True),
        ("ETH-USD-PERP", True),
    ]


def test_every_field_of_a_trade():
    (trade,) = read(message("trade", "insert", TRADE))
    names = ("record", "symbol", "timestamp", "sequence", "trade_id", "side", "price", "size")
    assert only(trade, *names) == (
        "trade", "BTC-USD-PERP", ISO_NS, START, hash_id("6e70bebe-235e-08a6"), "sell", 3218050000000,
        100 * UNIT,
    )  # fmt: skip


def test_the_last_trade_that_a_partial_repeats_is_stored_once():
    lines = [message("trade", action, TRADE) for action in ("partial", "insert", "partial")]
    records, counts = read_with_counts(*lines)
    assert [record["source_row"] for record in records] == [1, 2]
    assert counts["taken"] == 2


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("XBTUSD", "BTC-USD-PERP"),
        ("XBTUSDT", "BTC-USDT-PERP"),
        ("XRPU21", "XRPU21"),
        ("ETHUSDTZ25", "ETHUSDTZ25"),
        ("ETHUSD_ETH", "ETHUSD-ETH-PERP"),
    ],
)
def test_contracts_are_named_as_in_the_source_tardis(symbol, expected):
    assert symbol_of(symbol) == expected == instrument("bitmex", symbol)[1]


def test_a_spot_pair_is_not_named_as_the_perpetual():
    assert symbol_of("XBT_USDT") == "BTC-USDT"
    with pytest.raises(InputError):
        symbol_of("XBT/../USD'")


def test_other_messages_are_skipped_and_counted():
    records, counts = read_with_counts(
        b"wss://www.bitmex.com/realtime <-> 1626993367.3",
        b"1626993370.0: pong",
        b'1626993370.0: {"success":true,"subscribe":"trade:XBTUSD"}',
        message("quote", "insert", {"symbol": "XBTUSD"}),
        message("orderBook10", "update", {"symbol": "XBTUSD"}),
        message("trade", "insert", TRADE | {"symbol": ".BXBT"}),
        message("trade", "partial"),
        PARTIAL,
    )
    assert len(records) == 1
    skipped = {"ping or pong": 1, "answer": 1, "quote": 1, "orderBook10": 1}
    skipped["trade that is empty, repeated or of an i"] = 2
    expected = {f"other: {name}": count for name, count in skipped.items()}
    assert counts == {"taken": 1, "connection": 1} | expected


BAD = {
    "not JSON": PARTIAL[:-9],
    "an action that is not known": book("replace", *ROWS),
    "data that is no list": book("insert", 7).replace(b"7]", b'7,{"symbol":"XBTUSD"}]'),
    "a row without an id": book("update", {"symbol": "XBTUSD", "side": "Buy", "size": 1}),
    "a row without a side": book("update", {"symbol": "XBTUSD", "id": 7, "size": 1}),
    "an insert without a price": book("insert", row(8, size=1)),
    "an update without a size": book("update", row(7)),
    "a negative size": book("update", row(7, size=-1)),
    "a time that is no time": book("update", row(7, size=1, timestamp="now")),
    "nothing that orders it": book("update", row(7, size=1)).partition(b": ")[2],
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_an_unreadable_book_line_is_quarantined_and_its_book_alone_is_damaged(line):
    *_, bad, mark = read(PARTIAL, ETHER, line)
    assert only(bad, "record", "raw") == ("quarantine", line) and bad["reason"]
    assert only(mark, "symbol", "damaged") == ("BTC-USD-PERP", True)


def test_an_unreadable_trade_damages_no_book():
    records = read(PARTIAL, message("trade", "insert", TRADE | {"side": "Both"}))
    assert [record["record"] for record in records] == ["book_update", "quarantine"]


def test_equal_messages_without_a_time_in_two_files_are_two_messages():
    first = [PARTIAL, *(book("update", row(7, size=size, price=32180), after=size) for size in (1, 2))]
    second = [book("update", row(7, size=1, price=32180), after=3)]
    batches = []
    for path, lines in (("a", first), ("b", second)):
        batches += BitmexSource({}).parse(io.BytesIO(b"\n".join(lines)), path)
    records = in_first_epoch(pa.Table.from_batches(batches))
    nothing = FLAT_EVENTS.arrow.empty_table()
    events = order_chunk(records, nothing, START // HOUR * HOUR, FEEDS["bitmex"]).to_pylist()
    assert [event["bid_sizes"][0] // UNIT for event in events] == [500, 1, 2, 1]


@pytest.mark.real_data
def test_the_books_of_a_real_capture_equal_its_quotes(real_data: Path):
    path = str(real_data / "venues" / "BITMEX.ws.1.0")
    with open_file(path) as stream:
        lines = stream.read().splitlines()
    records, counts = read_with_counts(*lines, path=path)
    assert sum(counts.values()) == 2124 and counts["quarantined"] == 0
    kinds = Counter((record["record"], record["is_snapshot"]) for record in records)
    assert kinds == {("book_update", True): 10, ("book_update", False): 1969, ("trade", False): 27}
    updates = [record for record in records if record["record"] == "book_update"]
    sizes = [
        size for one in updates if not one["is_snapshot"] for size in one["bid_sizes"] + one["ask_sizes"]
    ]
    assert (len(sizes), sizes.count(0)) == (2587, 543)
    record_of = {record["source_row"]: record for record in updates}
    books: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
    equal = compared = 0
    for number, line in enumerate(lines, start=1):
        if number in record_of:
            apply(books.setdefault(record_of[number]["symbol"], {}), record_of[number])
        elif b'"table":"quote","action":"insert"' in line:
            quote = json.loads(split_line(line).payload, parse_float=Decimal)["data"][-1]
            bids, asks = (books[symbol_of(quote["symbol"])][side] for side in ("bid", "ask"))
            best = max(bids.items()), min(asks.items())
            quoted = (quote["bidPrice"], quote["bidSize"]), (quote["askPrice"], quote["askSize"])
            compared += 1
            equal += best == quoted
    assert (equal, compared) == (83, 83)
    assert {"BTC-USD-PERP", "XRPU21", "MATIC-USDT-PERP"} <= books.keys() and len(books) == 10


def apply(levels_of: dict[str, dict[Decimal, Decimal]], record: dict[str, Any]) -> None:
    for side in ("bid", "ask"):
        levels = {} if record["is_snapshot"] else levels_of[side]
        levels_of[side] = levels
        for price, size in zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True):
            exact_price = Decimal(price).scaleb(-record["price_scale"])
            assert size or exact_price in levels  # a deleted level was there
            levels[exact_price] = Decimal(size).scaleb(-record["size_scale"])
            if not size:
                del levels[exact_price]
