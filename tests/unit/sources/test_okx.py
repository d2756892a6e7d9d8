"""The OKX source reads every field of v5 and v3 messages, and matches checksums of OKX and OKCoin."""

from __future__ import annotations

import io
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.common.file_source import MixedUnitsError
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.common.records import EMPTY_RECORD
from deltabook.udfs.sources.okx import MAX_INFLATED_BYTES, OkxSource
from deltabook.udfs.storage.containers import open_file

MS = 10**6
TIME = 1652459225393
LEVELS = {
    "asks": [["30238.8", "2", "0", "1"]],
    "bids": [["30210.4", "4", "0", "1"], ["30209", "0", "0", "0"]],
}
ENTRY = LEVELS | {"ts": str(TIME), "checksum": -914047754}
LINKED = ENTRY | {"checksum": 0, "seqId": 12, "prevSeqId": 10}
TRADE = {
    "instId": "BTC-USDT",
    "tradeId": "7849",
    "px": "30218.8",
    "sz": "1.5",
    "side": "buy",
    "ts": str(TIME),
}
V3_ENTRY = LEVELS | {"timestamp": "2021-07-22T23:16:39.168Z", "checksum": 1015498480}
V3_TIME = 1626995799168
V3_TRADE = {"side": "sell", "trade_id": "75501", "price": "1709.67", "size": "0.0043"}
V3_TRADE |= {"instrument_id": "ETH-EUR", "timestamp": "2021-07-22T23:16:39.168Z"}


def v5(channel: str, *entries: Any, instrument: Any = "BTC-USDT", **more: Any) -> bytes:
    argument = {"channel": channel, "instId": instrument}
    return json.dumps({"arg": argument} | more | {"data": list(entries)}, separators=(",", ":")).encode()


def v3(table: str, *entries: Any, **more: Any) -> bytes:
    return json.dumps({"table": table} | more | {"data": list(entries)}, separators=(",", ":")).encode()


def deflated(message: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return repr(stream.compress(message) + stream.flush()).encode()


def dumped(message: bytes, seconds: str = "1652459225.5") -> bytes:
    return seconds.encode() + b": " + message


SNAPSHOT = v5("books", ENTRY, action="snapshot")
UPDATE = v5("books", ENTRY, action="update")
PARTIAL = v3("spot/depth_l2_tbt", {"instrument_id": "ETH-EUR"} | V3_ENTRY, action="partial")


def read(*lines: bytes, path: str = "OKX.ws.1.0") -> list[dict[str, Any]]:
    records = []
    for batch in OkxSource({}).parse(io.BytesIO(b"\n".join(lines)), path):
        assert batch.schema == RECORDS.arrow
        records += batch.to_pylist()
    return records


def only(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def test_every_field_of_a_book():
    (record,) = read(dumped(SNAPSHOT))
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "OKX",
        "symbol": "BTC-USDT",
        "timestamp": TIME * MS,
        "received": 1652459225_500000000,
        "sequence": TIME * MS,
        "source_file": "OKX.ws.1.0",
        "source_row": 1,
        "is_snapshot": True,
        "prev_sequence": -1,
        "checksum": 2**32 - 914047754,
        "price_digits": -1,
        "size_digits": -1,
        "kept_levels": -1,
        "bid_prices": [3021040000000, 3020900000000],
        "bid_sizes": [4 * 10**8, 0],
        "ask_prices": [3023880000000],
        "ask_sizes": [2 * 10**8],
        "price_scale": 8,
        "size_scale": 8,
    }


def test_sequence_ids_link_updates_and_a_checksum_of_zero_is_not_given():
    whole, change, beat = read(
        v5("books", LINKED | {"prevSeqId": -1}, action="snapshot"),
        v5("books", LINKED, action="update"),
        v5("books", LINKED | {"asks": [], "bids": [], "prevSeqId": 12}, action="update"),
    )
    names = ("is_snapshot", "sequence", "prev_sequence", "first_sequence", "checksum", "received")
    assert only(whole, *names) == (True, 12, -1, -1, -1, -1)
    assert only(change, *names) == (False, 12, 10, -1, -1, -1)
    assert only(beat, *names, "bid_prices") == (False, 12, 12, -1, -1, -1, [])


@pytest.mark.parametrize("channel", ["books", "books-l2-tbt", "books50-l2-tbt"])
@pytest.mark.parametrize(
    ("instrument", "symbol"),
    [("UNI-USD-SWAP", "UNI-USD-PERP"), ("BTC-USD-220527", "BTC-USD-220527"), ("BTC-USDT", "BTC-USDT")],
)
def test_channels_and_instruments(channel, instrument, symbol):
    (record,) = read(v5(channel, ENTRY, instrument=instrument, action="update"))
    assert only(record, "record", "symbol", "is_snapshot") == ("book_update", symbol, False)


@pytest.mark.parametrize("channel", ["books5", "bbo-tbt"])
def test_a_top_of_book_is_golden(channel):
    first, linked = read(v5(channel, ENTRY), v5(channel, LINKED))
    names = ("record", "kind", "sequence", "timestamp", "bid_prices", "ask_sizes")
    prices = [3021040000000, 3020900000000]
    assert only(first, *names) == ("golden", "vendor_book", TIME * MS, TIME * MS, prices, [2 * 10**8])
    assert only(linked, *names) == ("golden", "vendor_book", 12, TIME * MS, prices, [2 * 10**8])


def test_trades_are_ordered_by_their_ids():
    (record,) = read(dumped(v5("trades", TRADE)))
    names = ("record", "symbol", "trade_id", "sequence", "side", "price", "size", "timestamp")
    assert only(record, *names) == (
        "trade",
        "BTC-USDT",
        7849,
        7849,
        "buy",
        3021880000000,
        150000000,
        TIME * MS,
    )


@pytest.mark.parametrize(("printed", "trade_id"), [("0", 0), ("a-b", hash_id("a-b")), (0, 0)])
def test_a_trade_without_a_usable_id_is_ordered_by_its_time(printed, trade_id):
    (record,) = read(v5("trades", TRADE | {"tradeId": printed}))
    assert only(record, "trade_id", "sequence") == (trade_id, TIME * MS)


def test_v3_messages_deflated_or_not_are_read_alike():
    plain, packed = read(dumped(PARTIAL), dumped(deflated(PARTIAL)))
    assert packed == plain | {"source_row": 2}
    names = ("symbol", "timestamp", "sequence", "is_snapshot", "checksum")
    assert only(packed, *names) == ("ETH-EUR", V3_TIME * MS, V3_TIME * MS, True, 1015498480)


def test_v3_tables_of_trades_tops_and_swaps():
    swap = {"instrument_id": "BTC-USD-SWAP"} | V3_ENTRY
    future = {"instrument_id": "BTC-USD-190628", "qty": "3"} | V3_TRADE
    future = {key: value for key, value in future.items() if key != "size"} | {
        "instrument_id": "BTC-USD-190628"
    }
    trade, top, update, sold = read(
        deflated(v3("spot/trade", V3_TRADE)),
        v3("swap/depth5", swap),
        v3("swap/depth", swap, action="update"),
        v3("futures/trade", future),
    )
    names = ("record", "symbol", "trade_id", "sequence", "side", "price", "size", "timestamp")
    expected = ("trade", "ETH-EUR", 75501, 75501, "sell", 170967000000, 430000, V3_TIME * MS)
    assert only(trade, *names) == expected
    assert only(top, "record", "kind", "symbol") == ("golden", "vendor_book", "BTC-USD-PERP")
    assert only(update, "record", "symbol", "is_snapshot") == ("book_update", "BTC-USD-PERP", False)
    assert only(sold, "symbol", "size") == ("BTC-USD-190628", 3 * 10**8)


OKX_LINE = b"wss://ws.okx.com:8443/ws/v5/public <-> 1652459224.5"
OKCOIN_LINE = b"wss://real.okcoin.com:8443/ws/v3 <-> 1626995795.9"


@pytest.mark.parametrize(
    ("lines", "path", "exchange"),
    [
        ([UPDATE], "capture", "OKX"),
        ([UPDATE], "some/OKCoin.ws.1.0", "OKCOIN"),
        ([UPDATE], "okcoin/capture", "OKX"),
        ([OKCOIN_LINE, UPDATE], "capture", "OKCOIN"),
        ([b"", OKCOIN_LINE, OKX_LINE, UPDATE], "capture", "OKCOIN"),
        ([OKX_LINE, OKCOIN_LINE, UPDATE], "capture", "OKX"),
        ([OKX_LINE, UPDATE], "okcoin.gz", "OKCOIN"),
        ([UPDATE, OKCOIN_LINE, UPDATE], "capture", "OKX"),
    ],
)
def test_exchange_is_taken_from_the_first_connection_or_the_file_name(lines, path, exchange):
    assert {record["exchange"] for record in read(*lines, path=path)} == {exchange}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        OKX_LINE,
        dumped(b"pong"),
        b"ping",
        dumped(b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}'),
        dumped(deflated(b'{"event":"subscribe","channel":"spot/depth_l2_tbt:ETH-EUR"}')),
        v5("tickers", {"last": "1"}),
        v5("trades-all", TRADE),
        b'{"arg":{"channel":"status"},"data":[{}]}',
        v3("spot/ticker", {"last": "1"}),
        v3("spot/candle60s", {}),
        b'{"code":"0","data":[]}',
    ],
)
def test_other_messages_are_skipped(line):
    assert read(line) == []


def book(**fields: Any) -> bytes:
    return v5("books", ENTRY | fields, action="update")


def top_level(*fields: Any) -> bytes:
    return book(asks=[list(fields)])


def trade(**fields: Any) -> bytes:
    return v5("trades", TRADE | fields)


BOMB = deflated(b'{"table":"' + b" " * MAX_INFLATED_BYTES + b'"}')
BAD = {
    "not JSON": UPDATE[:-5],
    "a list": b"[]",
    "text of bytes that is cut off": b"b'\\xab",
    "text of bytes that calls": b"b''.join([])",
    "bytes of another escape": b"b'\\d'",
    "bytes that are no deflate": b"b'\\xff\\xff\\xff'",
    "deflate that is cut off": deflated(PARTIAL)[:-40] + b"'",
    "deflate that is a bomb": BOMB,
    "deflate of no JSON": deflated(b"{"),
    "nested too deeply": b"[" * 5000 + b"]" * 5000,
    "nested just not too deeply to decode": b'{"arg":' + b"[" * 985 + b"]" * 985 + b"}",
    "arg that is no object": b'{"arg":[],"data":[]}',
    "a channel that is no text": v5(7, ENTRY),
    "no instrument": v5("books", ENTRY, instrument=None, action="update"),
    "a hostile instrument": v5("books", ENTRY, instrument="h='1' or '1'='1'", action="update"),
    "a table that is no text": b'{"table":1,"data":[]}',
    "data that is no list": b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":{}}',
    "an entry that is no object": v5("books", [], action="update"),
    "no action": v5("books", ENTRY),
    "another action": v5("books", ENTRY, action="insert"),
    "an action that is a list": v5("books", ENTRY, action=[]),
    "no bids": v5("books", {key: ENTRY[key] for key in ("asks", "ts")}, action="update"),
    "a level that is no list": book(asks=["1"]),
    "a level without a size": top_level("1"),
    "NaN": top_level("NaN", "1"),
    "infinite": top_level("1", "Infinity"),
    "a negative size": top_level("1", "-1"),
    "a price of zero": top_level("0", "1"),
    "no time": v5("books", LEVELS, action="update"),
    "a time of zero": book(ts="0"),
    "a time that is no number": book(ts="now"),
    "a time beyond int64": book(ts=str(2**63)),
    "a checksum that is a text": book(checksum="1"),
    "a checksum that is a truth": book(checksum=False),
    "a checksum beyond 32 bits": book(checksum=2**32),
    "a sequence that is negative": book(seqId=-2),
    "a previous sequence that is no number": book(seqId=3, prevSeqId="x"),
    "a v3 time of no zone": PARTIAL.replace(b"168Z", b"168"),
    "a v3 time of no day": PARTIAL.replace(b"07-22", b"02-31"),
    "a v3 time beyond int64": PARTIAL.replace(b"2021", b"9999"),
    "a v3 time before 1970": PARTIAL.replace(b"2021", b"1969"),
    "no v3 instrument": v3("spot/depth", V3_ENTRY, action="update"),
    "a trade of no side": trade(side="long"),
    "a side that is a list": trade(side=[]),
    "a trade without an id": trade(tradeId=None),
    "a trade of a negative size": trade(sz="-1"),
    "a trade without a price": trade(px=None),
    "one bad trade of two": v5("trades", TRADE, TRADE | {"px": "x"}),
}


def test_times_of_two_units_refuse_the_file():
    with pytest.raises(InputError, match="mix units"):
        read(UPDATE, UPDATE.replace(str(TIME).encode(), b"%d" % (TIME * 1000)))


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_a_bad_line_goes_to_quarantine_with_its_bytes_and_the_next_is_read(line):
    first, bad, *_, good = read(v5("bbo-tbt", ENTRY), line, SNAPSHOT)
    assert only(first, "record") == ("golden",)
    assert only(bad, "record", "source_row", "raw") == ("quarantine", 2, line)
    assert bad["reason"]
    assert only(good, "record", "source_row", "damaged") == ("book_update", 3, False)


OTHER = v5("books", ENTRY, instrument="ETH-EUR", action="snapshot")


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        (book(checksum="x"), ["BTC-USDT"]),
        (dumped(UPDATE[:-9]), ["BTC-USDT"]),
        (deflated(PARTIAL.replace(b"partial", b"whole")), ["ETH-EUR"]),
        (trade(px="x"), []),
        (v5("books5", {}), []),
        (v5("books", {}, instrument="XRP-USDT"), ["BTC-USDT", "ETH-EUR"]),
        (v5("books", {}, instrument="X'"), ["BTC-USDT", "ETH-EUR"]),
        (b"b'\\xff'", ["BTC-USDT", "ETH-EUR"]),
        (b"{", ["BTC-USDT", "ETH-EUR"]),
        (b"99999999999: {}", ["BTC-USDT", "ETH-EUR"]),
    ],
)
def test_a_bad_line_damages_the_book_it_names_else_all(line, damaged):
    marks = [record for record in read(SNAPSHOT, OTHER, line) if record["damaged"]]
    assert sorted(record["symbol"] for record in marks) == damaged
    assert all(only(mark, "sequence", "source_row") == (TIME * MS, 3) for mark in marks)


def archived(action: str = "update", **fields: Any) -> bytes:
    levels = {"asks": [["30238.8", "2", "1"]], "bids": [["30210.4", "0", "0"]]}
    line = {"instId": "BTC-USDT", "action": action, "ts": str(TIME)} | levels | fields
    return json.dumps(line, separators=(",", ":")).encode()


def test_lines_of_the_archive_are_book_updates_ordered_by_their_time():
    whole, change = read(archived("snapshot"), archived(ts=str(TIME + 10)))
    names = (
        "record",
        "exchange",
        "symbol",
        "is_snapshot",
        "sequence",
        "timestamp",
        "prev_sequence",
        "checksum",
    )
    head = "book_update", "OKX", "BTC-USDT"
    assert only(whole, *names) == (*head, True, TIME * MS, TIME * MS, -1, -1)
    assert only(change, *names) == (*head, False, (TIME + 10) * MS, (TIME + 10) * MS, -1, -1)
    levels = ("ask_prices", "ask_sizes", "bid_prices", "bid_sizes")
    assert only(change, *levels) == ([3023880000000], [2 * 10**8], [3021040000000], [0])
    assert OkxSource.recognizes(json.loads(archived()))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (archived("insert"), "field action"),
        (archived(bids={}), "field bids"),
        (archived(ts="now"), "field ts"),
        (archived(instId=None), "field instId"),
        (archived(asks=[["1", "-1", "1"]]), "negative"),
    ],
)
def test_an_unreadable_line_of_the_archive_is_quarantined_and_damages_its_book(line, reason):
    records = read(archived("snapshot"), line)
    assert reason in records[1]["reason"]
    assert [only(record, "symbol", "damaged") for record in records[2:]] == [("BTC-USDT", True)]


@pytest.mark.parametrize("line", [archived(instId="狗狗-USDT"), v5("books", ENTRY, instrument="狗狗-USDT")])
@pytest.mark.parametrize("is_escaped", [True, False])
def test_a_name_that_is_not_ascii_damages_no_other_book(line, is_escaped):
    printed = line if is_escaped else json.dumps(json.loads(line), ensure_ascii=False).encode()
    records = read(SNAPSHOT, OTHER, printed)
    assert [record["record"] for record in records] == ["book_update", "book_update", "quarantine"]


def test_only_the_first_channel_of_an_instrument_is_read():
    records = read(SNAPSHOT, v5("books-l2-tbt", ENTRY, action="snapshot"), v5("books5", ENTRY), UPDATE)
    assert [record["source_row"] for record in records] == [1, 3, 4]


LINES = [
    SNAPSHOT,
    dumped(UPDATE),
    v5("trades", TRADE),
    v5("books5", LINKED),
    PARTIAL,
    dumped(deflated(PARTIAL)),
]
LINES += [v5("books", LINKED, action="update"), v3("spot/trade", V3_TRADE), OKCOIN_LINE]


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
@given(
    st.one_of(mutated_lines(), st.binary(max_size=80), st.binary(max_size=80).map(lambda b: repr(b).encode()))
)
@example(
    b'{"arg":{"channel":"trades","instId":"A-B"},"data":[{"tradeId":"\xd9\xa3","px":1,"sz":1,"side":"buy"}]}'
)
@example(deflated(b"\xff\xfe"))
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


def apply(levels: dict[str, dict[int, int]], record: dict[str, Any]) -> None:
    for side in ("bid", "ask"):
        if record["is_snapshot"]:
            levels[side] = {}
        for price, size in zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True):
            if size:
                levels[side][price] = size
            else:
                levels[side].pop(price, None)


def printed(value: int, scale: int) -> str:
    digits = str(value).zfill(scale + 1)
    return f"{digits[:-scale]}.{digits[-scale:]}".rstrip("0").rstrip(".")


def checksum(levels: dict[str, dict[int, int]], scales: tuple[int, int]) -> int:
    sides = sorted(levels["bid"].items(), reverse=True)[:25], sorted(levels["ask"].items())[:25]
    parts = [
        f"{printed(side[place][0], scales[0])}:{printed(side[place][1], scales[1])}"
        for place in range(25)
        for side in sides
        if place < len(side)
    ]
    return zlib.crc32(":".join(parts).encode())


def rebuild(path: Path) -> tuple[list[dict[str, Any]], int]:
    with open_file(str(path)) as stream:
        records = [row for batch in OkxSource({}).parse(stream, str(path)) for row in batch.to_pylist()]
    assert {record["record"] for record in records} == {"book_update", "trade"}
    books: dict[str, dict[str, dict[int, int]]] = {}
    matched = 0
    for record in records:
        if record["record"] == "book_update":
            levels = books.setdefault(record["symbol"], {})
            apply(levels, record)
            scales = record["price_scale"], record["size_scale"]
            assert scales == (8, 8)
            matched += checksum(levels, scales) == record["checksum"]
    return records, matched


@pytest.mark.real_data
def test_every_checksum_of_a_real_okx_capture_matches(real_data: Path):
    records, matched = rebuild(real_data / "okx" / "OKX.ws.1.0")
    counts = Counter((record["exchange"], record["record"]) for record in records)
    assert counts == {("OKX", "book_update"): 290, ("OKX", "trade"): 74}
    assert matched == 290
    symbols = {record["symbol"] for record in records}
    assert symbols == {"BTC-USD-220527", "UNI-USD-PERP", "BTC-USDT"}
    first = next(record for record in records if record["record"] == "trade")
    names = ("symbol", "trade_id", "sequence", "price", "size", "side", "timestamp")
    assert only(first, *names) == (
        "BTC-USD-220527",
        7849,
        7849,
        3021880000000,
        10**8,
        "buy",
        1652459199958 * MS,
    )


@pytest.mark.real_data
@pytest.mark.parametrize(("number", "updates"), [(1, 1031), (2, 1031), (3, 1099)])
def test_every_checksum_of_a_real_okcoin_capture_matches(real_data: Path, number: int, updates: int):
    records, matched = rebuild(real_data / "okcoin" / f"OKCOIN.ws.{number}.0")
    assert {record["exchange"] for record in records} == {"OKCOIN"}
    counts = Counter(record["record"] for record in records)
    assert counts == {"book_update": updates, "trade": 10}
    assert matched == updates
    updates_only = [record for record in records if record["record"] == "book_update"]
    # A quiet book's snapshot carries the time of its last change.
    assert all(0 < record["received"] - record["timestamp"] < 15 * 10**9 for record in updates_only)
