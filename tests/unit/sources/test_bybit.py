"""The Bybit source reads every field, finds the market, and keeps 500 levels per side of a real archive."""

from __future__ import annotations

import io
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources import bybit_tops
from deltabook.udfs.sources.bybit import BybitSource, symbol_of
from deltabook.udfs.sources.common.file_source import MixedUnitsError
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.common.records import EMPTY_RECORD
from deltabook.udfs.storage.containers import open_file

MS = 10**6
TIME = 1733011200691
UUID = "20f43950-d8dd-5b31-9112-a178eb6023af"
DATA = {
    "s": "XRPUSDT",
    "b": [["1.9531", "6203"], ["1.9530", "0"]],
    "a": [["1.9532", "9.5"]],
    "u": 20254869,
    "seq": 130020238981,
}
TRADE = {"T": TIME, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "16578.50", "L": "PlusTick", "i": UUID}
TRADE |= {"BT": False}


def book(depth: object = 500, kind: Any = "snapshot", ts: Any = TIME, **fields: Any) -> bytes:
    data = DATA | fields
    message = {"topic": f"orderbook.{depth}.{data['s']}", "type": kind, "ts": ts, "data": data}
    return json.dumps(message | {"cts": TIME - 102}, separators=(",", ":")).encode()


def trades(*entries: Any) -> bytes:
    message = {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": TIME + 2, "data": list(entries)}
    return json.dumps(message, separators=(",", ":")).encode()


def read(*lines: bytes, path: str = "capture") -> list[dict[str, Any]]:
    records = []
    for batch in BybitSource({}).parse(io.BytesIO(b"\n".join(lines)), path):
        assert batch.schema == RECORDS.arrow
        records += batch.to_pylist()
    return records


def only(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def test_every_field_of_a_book():
    (record,) = read(b"1733011200700000001 " + book())
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "BYBIT",
        "symbol": "XRP-USDT-PERP",
        "timestamp": TIME * MS,
        "received": 1733011200700000001,
        "sequence": 20254869,
        "source_file": "capture",
        "source_row": 1,
        "is_snapshot": True,
        "bid_prices": [195310000, 195300000],
        "bid_sizes": [620300000000, 0],
        "ask_prices": [195320000],
        "ask_sizes": [950000000],
    }


def test_a_delta_with_update_id_1_is_a_snapshot():
    delta, restart = read(book(kind="delta"), book(kind="delta", u=1))
    assert only(delta, "is_snapshot", "sequence", "received") == (False, 20254869, -1)
    assert only(restart, "is_snapshot", "sequence") == (True, 1)


def test_every_field_of_a_trade():
    (record,) = read(trades(TRADE))
    assert record == EMPTY_RECORD | {
        "record": "trade",
        "exchange": "BYBIT",
        "symbol": "BTC-USDT-PERP",
        "timestamp": TIME * MS,
        "sequence": TIME * MS,
        "source_file": "capture",
        "source_row": 1,
        "bid_prices": [],
        "bid_sizes": [],
        "ask_prices": [],
        "ask_sizes": [],
        "trade_id": hash_id(UUID),
        "side": "buy",
        "price": 1657850000000,
        "size": 100000,
    }


def test_trades_of_one_message_keep_their_order_and_sides():
    more = TRADE | {"S": "Sell", "i": "2290000000061666327"}, TRADE | {"BT": True, "i": "9" * 19}
    first, sold, block = read(trades(TRADE, *more))
    assert only(first, "side", "trade_id") == ("buy", hash_id(UUID))
    assert only(sold, "side", "trade_id") == ("sell", 2290000000061666327)
    assert only(block, "side", "trade_id") == ("", hash_id("9" * 19))


def test_text_ids_are_spread_over_63_bits():
    ids = [hash_id(str(number)) for number in range(500)]
    assert len(set(ids)) == 500
    assert 0 <= min(ids) < 2**58 < 2**62 < max(ids) < 2**63


LINEAR = b"wss://stream.bybit.com/v5/public/linear <-> 1733011200.5"
SPOT = b"wss://stream.bybit.com/v5/public/spot <-> 1733011200.5"


@pytest.mark.parametrize(
    ("lines", "path", "symbol"),
    [
        ([book(500)], "a", "XRP-USDT-PERP"),
        ([book(200)], "a", "XRP-USDT"),
        ([book(50)], "a", "XRP-USDT-PERP"),
        ([book(200)], "orderbook/linear/2025-09-01_XRPUSDT_ob200.data.zip", "XRP-USDT-PERP"),
        ([book(500)], "/data/spot/a", "XRP-USDT"),
        ([book(500)], "/data/linear/bybit_spot.gz", "XRP-USDT"),
        ([book(500)], "/spot/linear/a", "XRP-USDT-PERP"),
        ([book(50)], "/data/spotless/a", "XRP-USDT-PERP"),
        ([LINEAR, book(200)], "spot", "XRP-USDT-PERP"),
        ([b"", SPOT, LINEAR, book(50)], "a", "XRP-USDT"),
        ([book(50), SPOT, book(50)], "a", "XRP-USDT-PERP"),
        ([book(200, s="XRPUSD")], "inverse.zip", "XRP-USD-PERP"),
        ([trades(TRADE)], "spot.gz", "BTC-USDT"),
    ],
)
def test_market_is_taken_from_connection_file_name_or_folder(lines, path, symbol):
    assert {record["symbol"] for record in read(*lines, path=path)} == {symbol}


@pytest.mark.parametrize(
    ("spelled", "spot", "symbol"),
    [
        ("BTCUSDT", True, "BTC-USDT"),
        ("BTCUSDT", False, "BTC-USDT-PERP"),
        ("BTCUSD", False, "BTC-USD-PERP"),
        ("BTCPERP", False, "BTC-USDC-PERP"),
        ("1000PEPEUSDT", False, "1000PEPE-USDT-PERP"),
        ("BTCUSDT-26DEC25", False, "BTC-USDT-251226"),
        ("BTC-5DEC25", False, "BTC-USDC-251205"),
        ("BTCUSDZ25", False, "BTCUSDZ25"),
        ("BTC-26DEC25-80000-C", False, "BTC-26DEC25-80000-C"),
        ("BTC-26DEC25-80000-C-USDT", False, "BTC-26DEC25-80000-C-USDT"),
        ("PERPUSDT", True, "PERP-USDT"),
    ],
)
def test_names_of_instruments(spelled, spot, symbol):
    assert symbol_of(spelled, is_spot=spot) == symbol


def test_a_hostile_name_is_refused():
    with pytest.raises(InputError, match="is refused"):
        symbol_of("h='1' or '1'='1'", is_spot=False)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        LINEAR,
        b'{"success":true,"ret_msg":"subscribe","op":"subscribe"}',
        b'{"topic":"tickers.BTCUSDT","data":[]}',
        b'{"topic":"orderbook.rpi.BTCUSDT","data":[]}',
        b'{"topic":"orderBookL2_25.BTCUSD","data":[]}',
        b'{"topic":"","data":[]}',
    ],
)
def test_other_messages_are_skipped(line):
    assert read(line) == []


def test_only_the_first_of_several_depths_of_an_instrument_is_read():
    records = read(book(50), book(100), book(50, "delta"), book(100, s="BTCUSDT"))
    assert [record["source_row"] for record in records] == [1, 3, 4]


def top(seq: object, kind: str = "snapshot", **fields: Any) -> bytes:
    return book(1, kind, **({"b": [["1.9531", "7"]], "a": [], "u": 900, "seq": seq} | fields))


def test_depth_1_beside_a_deeper_book_is_golden_where_the_cross_sequence_is_the_same():
    records = read(top(70), book(50, u=5, seq=70), top(70, u=901), top(71), top(72), book(50, u=6, seq=72))
    names = ("record", "kind", "source_row", "sequence", "is_snapshot")
    assert [only(record, *names) for record in records] == [
        ("book_update", "", 2, 5, True),
        ("golden", "vendor_book", 1, 5, False),
        ("golden", "vendor_book", 3, 5, False),
        ("book_update", "", 6, 6, True),
        ("golden", "vendor_book", 5, 6, False),
    ]
    levels = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
    assert {only(record, "symbol", "timestamp") for record in records} == {("XRP-USDT-PERP", TIME * MS)}
    assert only(records[1], *levels) == ([195310000], [7 * 10**8], [], [])


@pytest.mark.parametrize("line", [top(None), top("70"), top(70, "delta"), top(69), top(71)])
def test_depth_1_without_a_message_of_the_same_cross_sequence_is_not_compared(line):
    records = read(line, book(50, u=5, seq=70), line, book(50, "delta", u=6, seq=75))
    assert [only(record, "record", "source_row") for record in records] == [
        ("book_update", 2),
        ("book_update", 4),
    ]


def test_a_file_of_depth_1_alone_has_a_book_of_depth_1():
    records = read(top(70), top(71, u=901), book(50, s="BTCUSDT"))
    names = ("record", "symbol", "source_row", "sequence", "is_snapshot")
    assert sorted(only(record, *names) for record in records) == [
        ("book_update", "BTC-USDT-PERP", 3, 20254869, True),
        ("book_update", "XRP-USDT-PERP", 1, 900, True),
        ("book_update", "XRP-USDT-PERP", 2, 901, True),
    ]


def test_after_many_messages_depth_1_is_the_book_and_a_later_depth_is_skipped(monkeypatch):
    monkeypatch.setattr(bybit_tops, "_MOST_HELD", 2)
    records = read(top(70), top(71), book(50), top(72))
    assert [only(record, "record", "source_row") for record in records] == [
        ("book_update", 1),
        ("book_update", 2),
        ("book_update", 4),
    ]


def test_few_messages_wait_at_once(monkeypatch):
    monkeypatch.setattr(bybit_tops, "_MOST_KNOWN", 1)
    waiting = read(book(50, u=5, seq=70), top(71), top(72), book(50, u=6, seq=71), book(50, u=7, seq=72))
    assert [row["sequence"] for row in waiting if row["record"] == "golden"] == [7]
    known = read(book(50, u=5, seq=70), book(50, u=6, seq=71), top(70), top(71))
    assert [row["sequence"] for row in known if row["record"] == "golden"] == [6]


BAD = {
    "not JSON": book()[:-5],
    "a list": b"[]",
    "nested too deeply": b"[" * 5000 + b"]" * 5000,
    "nested just not too deeply to decode": b'{"topic":' + b"[" * 985 + b"]" * 985 + b"}",
    "a topic that is no text": b'{"topic":[]}',
    "data that is no object": b'{"topic":"orderbook.500.XRPUSDT","type":"delta","data":[]}',
    "another type": book(kind="update"),
    "a type that is a list": book(kind=[]),
    "a symbol that is no text": book(s=None),
    "a hostile symbol": book(s="h='1' or '1'='1'"),
    "no id": book(u=None),
    "a negative id": book(u=-1),
    "an id beyond int64": book(u=2**63),
    "no time": book(ts=None),
    "no levels": book(b=None),
    "a level that is no list": book(b=["1"]),
    "a level without a size": book(b=[["1"]]),
    "NaN": book(b=[["NaN", "1"]]),
    "infinite": book(b=[["1", "Infinity"]]),
    "a negative size": book(b=[["1", "-1"]]),
    "a price of zero": book(a=[["0", "1"]]),
    "trades that are no list": b'{"topic":"publicTrade.BTCUSDT","data":{}}',
    "a trade that is no object": trades([]),
    "a trade of no side": trades(TRADE | {"S": "buy"}),
    "a trade without an id": trades(TRADE | {"i": None}),
    "a trade without a time": trades(TRADE | {"T": None}),
    "a trade at time zero": trades(TRADE | {"T": 0}),
    "a trade of a negative size": trades(TRADE | {"v": "-1"}),
    "a trade without a price": trades(TRADE | {"p": None}),
    "one bad trade of two": trades(TRADE, TRADE | {"p": "x"}),
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_a_bad_line_goes_to_quarantine_with_its_bytes_and_the_next_is_read(line):
    first, bad, good = read(book(), line, book(kind="delta"))
    assert only(first, "record") == ("book_update",)
    assert only(bad, "record", "source_row", "raw") == ("quarantine", 2, line)
    assert bad["reason"]
    assert only(good, "record", "source_row", "damaged") == ("book_update", 3, False)


def test_times_of_two_units_refuse_the_file():
    with pytest.raises(InputError, match="mix units"):
        read(book(), book(ts=TIME * 1000))


LINES = [book(), book(kind="delta"), trades(TRADE, TRADE), b"1733011200.5: " + book(200), LINEAR]
LINES += [top(DATA["seq"]), top(7)]


@st.composite
def mutated_lines(draw: st.DrawFn) -> bytes:
    lines = []
    for line in draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=5)):
        text = bytearray(line)
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(text)))
            text[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=2))
        lines.append(bytes(text))
    return b"\n".join(lines)


@cases(400)
@given(st.one_of(mutated_lines(), st.binary(max_size=80)))
@example(book(b=[["1", "99999999999999999999"]]))
@example(trades(TRADE | {"i": "\u0663" * 10}))
@example(book() + b"\n" + book(ts=10 * TIME))
def test_any_bytes_give_records_or_quarantine(content):
    try:
        records = read(content)
    except MixedUnitsError:  # the file is refused whole
        return
    for record in records:
        assert record["record"] in ("book_update", "trade", "golden", "quarantine")
        assert (record["record"] == "quarantine") == bool(record["reason"])
        if record["record"] != "quarantine":
            assert record["sequence"] >= 0


@pytest.mark.real_data
def test_the_real_archive_has_500_levels_a_side_after_every_message(real_data: Path):
    path = str(real_data / "bybit" / "xrpusdt-ob500.data.zip")
    with open_file(path) as stream:
        records = [row for batch in BybitSource({}).parse(stream, path) for row in batch.to_pylist()]
    assert len(records) == 50
    assert [record["is_snapshot"] for record in records] == [True] + [False] * 49
    assert [record["sequence"] for record in records] == list(range(20254869, 20254919))
    levels: dict[str, dict[int, int]] = {}
    for record in records:
        assert only(record, "record", "symbol", "received") == ("book_update", "XRP-USDT-PERP", -1)
        for side in ("bid", "ask"):
            if record["is_snapshot"]:
                levels[side] = {}
            for price, size in zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True):
                if size:
                    levels[side][price] = size
                else:
                    levels[side].pop(price, None)
            assert len(levels[side]) == 500
        assert max(levels["bid"]) < min(levels["ask"])
    assert records[1]["timestamp"] == 1733011200693 * MS


def ticker_prices(line: bytes, state: dict[str, dict[str, str]]) -> tuple[str, int, tuple[int, ...]] | None:
    """Return (symbol, `cs`, best bid and ask with sizes) of a ticker that changes them; else None."""
    message = json.loads(json.loads(line).get("data", "{}"))
    if not message.get("topic", "").startswith("tickers."):
        return None
    fields = state.setdefault(message["data"]["symbol"], {})
    fields |= message["data"]
    names = ("bid1Price", "bid1Size", "ask1Price", "ask1Size")
    if not set(names) & message["data"].keys():
        return None
    numbers = tuple(int(Decimal(fields[name]) * 10**8) for name in names)
    return symbol_of(message["data"]["symbol"], is_spot=False), message["cs"], numbers


@pytest.mark.real_data
def test_ids_of_a_real_capture_connect_and_tickers_equal_the_book_in_prices_alone(
    real_data: Path, tmp_path: Path
):
    packed = real_data / "venues" / "BYBIT.first-900.jsonl.zst"
    with pa.input_stream(str(packed), compression="zstd") as stream:
        content = stream.read()
    path = tmp_path / "capture.jsonl"
    path.write_bytes(content)
    lines = content.splitlines()
    with path.open("rb") as stream:
        records = [row for batch in BybitSource({}).parse(stream, str(path)) for row in batch.to_pylist()]
    assert Counter(record["record"] for record in records) == {"book_update": 553, "trade": 26}
    updates = [record for record in records if record["record"] == "book_update"]
    last: dict[str, int] = {}
    books: dict[str, dict[str, dict[int, int]]] = {}
    tops: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
    counts: Counter[str] = Counter()
    for record in updates:
        symbol, sequence = only(record, "symbol", "sequence")
        counts["snapshots"] += record["is_snapshot"]
        counts["linked"] += sequence == last.get(symbol, -1) + 1
        last[symbol] = sequence
        if record["is_snapshot"]:
            books[symbol] = {"bid": {}, "ask": {}}
        for side, levels in books[symbol].items():
            for price, size in zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True):
                counts["changes"] += not record["is_snapshot"]
                counts["deletes"] += not size
                counts["absent"] += not size and price not in levels
                if size:
                    levels[price] = size
                else:
                    levels.pop(price, None)
            assert len(levels) == 200
        bid, ask = max(books[symbol]["bid"]), min(books[symbol]["ask"])
        assert bid < ask
        cross_sequence = json.loads(json.loads(lines[record["source_row"] - 1])["data"])["data"]["seq"]
        top = bid, books[symbol]["bid"][bid], ask, books[symbol]["ask"][ask]
        tops.setdefault(symbol, []).append((cross_sequence, top))
    state: dict[str, dict[str, str]] = {}
    for ticker in filter(None, (ticker_prices(line, state) for line in lines)):
        symbol, clock, numbers = ticker
        below = [top for cross_sequence, top in tops[symbol] if cross_sequence <= clock]
        if below:
            counts["tickers"] += 1
            counts["prices"] += numbers[::2] == below[-1][::2]
            counts["sizes"] += numbers == below[-1]
    assert counts["prices"] == counts["tickers"] == 225
    del counts["prices"], counts["tickers"]
    assert counts.pop("sizes") < 225  # so a ticker is no golden row
    assert counts == {"snapshots": 4, "linked": 549, "changes": 6_001, "deletes": 757, "absent": 0}
