"""The Bitget source reads v1 and v2 messages, and every checksum of a real capture matches."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from test_rebuilder_feeds import rebuilt, totals
from venue_lines import read_counted

from deltabook.schemas.errors import InputError
from deltabook.udfs.sources.bitget import BitgetSource, instrument
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.common.records import EMPTY_RECORD
from deltabook.udfs.storage.containers import open_file

MS = 10**6
TIME = 1649290077551
ENTRY = {"asks": [["113.50", "6.40"]], "bids": [["113.4", "2.01"]], "checksum": -1083951925, "ts": str(TIME)}


def message(channel: str, *data: Any, kind: str = "mc", symbol: str = "DASHUSDT", **more: Any) -> bytes:
    argument = {"instType": kind, "channel": channel, "instId": symbol}
    return json.dumps({"arg": argument, "data": list(data)} | more, separators=(",", ":")).encode()


SNAPSHOT = message("books", ENTRY, action="snapshot")
UPDATE = message("books", ENTRY | {"bids": [], "asks": [["113.50", "0"]]}, action="update")


def read_with_counts(*lines: bytes, path: str = "BITGET.ws.2.0") -> tuple[list[dict[str, Any]], Counter]:
    return read_counted(BitgetSource, lines, path)


def read(*lines: bytes) -> list[dict[str, Any]]:
    return read_with_counts(*lines)[0]


def only(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def test_every_field_of_a_book():
    (record,) = read(b"1649290077.5: " + SNAPSHOT)
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "BITGET_FUTURES",
        "symbol": "DASH-USDT-PERP",
        "timestamp": TIME * MS,
        "received": 1649290077_500000000,
        "sequence": TIME * MS,
        "source_file": "BITGET.ws.2.0",
        "source_row": 1,
        "is_snapshot": True,
        "checksum": 2**32 - 1083951925,
        "price_digits": 2,
        "size_digits": 2,
        "bid_prices": [113_40000000],
        "bid_sizes": [2_01000000],
        "ask_prices": [113_50000000],
        "ask_sizes": [6_40000000],
    }


def test_an_update_of_deletions_keeps_the_decimals_of_the_instrument():
    _, update = read(SNAPSHOT, UPDATE)
    assert only(update, "is_snapshot", "ask_sizes", "price_digits", "size_digits") == (False, [0], 2, 2)


def test_a_snapshot_begins_to_count_decimals_anew():
    coarse = message("books", ENTRY | {"asks": [["114", "6"]], "bids": []}, action="snapshot")
    assert [only(record, "price_digits", "size_digits") for record in read(SNAPSHOT, coarse)] == [
        (2, 2),
        (0, 0),
    ]


def test_instruments_have_their_own_decimals():
    other = message(
        "books", ENTRY | {"asks": [["9.969", "67"]], "bids": []}, action="snapshot", symbol="UNIUSDT"
    )
    assert [only(record, "price_digits", "size_digits") for record in read(SNAPSHOT, other)] == [
        (2, 2),
        (3, 0),
    ]


@pytest.mark.parametrize("checksum", [{"checksum": 0}, {"checksum": None}])
def test_a_checksum_that_is_not_given_is_not_compared(checksum):
    (record,) = read(message("books", ENTRY | checksum, action="snapshot"))
    assert record["checksum"] == -1


def test_trades_of_v1_have_no_id_and_those_of_v2_have_one():
    listed = message("trade", [str(TIME), "113.37", "0.49", "sell"], action="update")
    trade = {"ts": str(TIME), "price": "27000.5", "size": "0.001", "side": "buy", "tradeId": "1111111111"}
    v2 = message("trade", trade, trade | {"tradeId": "a-b"}, kind="SPOT", symbol="BTCUSDT", action="update")
    first, second, third = read(listed, v2)
    names = ("record", "exchange", "symbol", "timestamp", "sequence", "trade_id", "side", "price", "size")
    assert only(first, *names) == (
        "trade", "BITGET_FUTURES", "DASH-USDT-PERP", TIME * MS, TIME * MS, -1, "sell", 113_37000000, 49000000,
    )  # fmt: skip
    assert only(second, *names) == (
        "trade", "BITGET", "BTC-USDT", TIME * MS, TIME * MS, 1111111111, "buy", 27000_50000000, 100000,
    )  # fmt: skip
    assert third["trade_id"] == hash_id("a-b")


@pytest.mark.parametrize(
    ("symbol", "kind", "expected"),
    [
        ("BTCUSDT", "sp", ("BITGET", "BTC-USDT")),
        ("BTCUSDT_SPBL", "SP", ("BITGET", "BTC-USDT")),
        ("BTCUSDT", "SPOT", ("BITGET", "BTC-USDT")),
        ("BTCUSDT", "MC", ("BITGET_FUTURES", "BTC-USDT-PERP")),
        ("BTCUSDT_UMCBL", "mc", ("BITGET_FUTURES", "BTC-USDT-PERP")),
        ("BTCUSDT", "USDT-FUTURES", ("BITGET_FUTURES", "BTC-USDT-PERP")),
        ("BTCUSD", "COIN-FUTURES", ("BITGET_FUTURES", "BTC-USD-PERP")),
        ("BTCUSDU26", "COIN-FUTURES", ("BITGET_FUTURES", "BTCUSDU26")),
        ("BTCPERP", "USDC-FUTURES", ("BITGET_FUTURES", "BTC-USDC-PERP")),
    ],
)
def test_instrument_has_its_canonical_name(symbol, kind, expected):
    assert instrument(symbol, kind) == expected


def test_a_hostile_symbol_is_refused():
    with pytest.raises(InputError):
        instrument("BTC/../USDT'", "SPOT")


def test_other_messages_are_skipped_and_counted():
    records, counts = read_with_counts(
        b"wss://ws.bitget.com/mix/v1/stream <-> 1649290076.5",
        b"1649290077.5: pong",
        b'1649290077.5: {"event":"subscribe","arg":{"instType":"mc","channel":"books","instId":"DASHUSDT"}}',
        *(message(channel, {}, action="snapshot") for channel in ("books1", "books5", "books15", "ticker")),
        message("candle1m", [], action="update"),
        message("trade", action="snapshot"),
        SNAPSHOT,
    )
    assert len(records) == 1
    skipped = ("ping or pong", "answer", "books1", "books5", "books15", "ticker", "candle", "empty trade")
    assert counts == {"taken": 1, "connection": 1} | {f"other: {name}": 1 for name in skipped}


BAD = {
    "not JSON": (SNAPSHOT[:-9], "not JSON"),
    "not an object": (b"[1]", "expected an object"),
    "no action": (message("books", ENTRY), "field action"),
    "an entry that is no object": (message("books", 7, action="update"), "expected objects"),
    "no bids": (message("books", {"asks": [], "ts": "1"}, action="update"), "field bids"),
    "no time": (message("books", {"asks": [], "bids": []}, action="update"), "field ts"),
    "a checksum beyond 32 bits": (
        message("books", ENTRY | {"checksum": 2**32}, action="update"),
        "field checksum",
    ),
    "too many decimals": (
        message("books", ENTRY | {"asks": [["1." + "0" * 19, "1"]]}, action="update"),
        "decimals",
    ),
    "a negative size": (message("books", ENTRY | {"asks": [["1", "-1"]]}, action="update"), "negative"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD.keys())
def test_an_unreadable_book_line_is_quarantined_and_its_book_is_damaged(line, reason):
    _, bad, mark = read(SNAPSHOT, line)
    assert only(bad, "record", "source_row", "raw") == ("quarantine", 2, line)
    assert reason in bad["reason"]
    assert only(mark, "record", "symbol", "damaged") == ("book_update", "DASH-USDT-PERP", True)


def test_a_line_that_names_another_channel_damages_no_book():
    records = read(SNAPSHOT, message("trade", [str(TIME), "1", "1", "both"], action="update"))
    assert [only(record, "record", "damaged") for record in records] == [
        ("book_update", False),
        ("quarantine", False),
    ]


@pytest.mark.real_data
def test_a_real_capture_is_read_whole_and_every_checksum_matches(real_data: Path):
    path = str(real_data / "venues" / "BITGET.ws.2.0")
    with open_file(path) as stream:
        records, counts = read_with_counts(stream.read(), path=path)
    assert sum(counts.values()) == 475
    assert counts["taken"] == 221 and counts["quarantined"] == 0
    assert Counter((record["record"], record["is_snapshot"]) for record in records) == {
        ("book_update", True): 2,
        ("book_update", False): 192,
        ("trade", False): 125,
    }
    books: dict[str, dict[str, dict[int, int]]] = {}
    changes = deletes = absent = matched = 0
    for record in records:
        if record["record"] != "book_update":
            continue
        book = books.setdefault(record["symbol"], {})
        for side in ("bid", "ask"):
            levels = {} if record["is_snapshot"] else book[side]
            book[side] = levels
            for price, size in zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True):
                changes += not record["is_snapshot"]
                deletes += size == 0
                absent += size == 0 and price not in levels
                levels[price] = size
                if not size:
                    del levels[price]
        matched += print_checksum(book, record) == record["checksum"]
        assert max(book["bid"]) < min(book["ask"])
    assert (changes, deletes, absent, matched) == (33655, 10483, 0, 194)


def print_checksum(book: dict[str, dict[int, int]], record: dict[str, Any]) -> int:
    words = []
    bids, asks = sorted(book["bid"].items(), reverse=True)[:25], sorted(book["ask"].items())[:25]
    for bid, ask in zip(bids, asks, strict=True):
        for price, size in (bid, ask):
            words.append(f"{Decimal(price).scaleb(-8):.{record['price_digits']}f}")
            words.append(f"{Decimal(size).scaleb(-8):.{record['size_digits']}f}")
    return zlib.crc32(":".join(words).encode())


@pytest.mark.real_data
@pytest.mark.usefixtures("narrow_bitmaps")
def test_the_rebuilt_books_of_a_real_capture_are_checked(real_data: Path):
    statuses, compared, gaps = totals(rebuilt("bitget", [str(real_data / "venues" / "BITGET.ws.2.0")]))
    assert compared == {("checksum", "compared"): 194, ("checksum", "matched"): 194}
    assert (statuses, gaps) == ({"checked": 194}, [])
