"""The Kraken source reads every field, orders by receive time, and matches checksums of a real capture."""

from __future__ import annotations

import io
import json
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.common import message_files
from deltabook.udfs.sources.common.file_source import line_blocks
from deltabook.udfs.sources.common.receive_order import MAX_LEAD, order_receive_times
from deltabook.udfs.sources.common.records import EMPTY_RECORD
from deltabook.udfs.sources.kraken import KrakenSource
from deltabook.udfs.storage.containers import open_file

SECOND = 10**9
START = 1618678133 * SECOND
BOOK = {
    "as": [["56218.30000", "0.15000000", "1618678117.243818"]],
    "bs": [["56218.20000", "2.00000000", "1618678132.100001"], ["56217.00000", "1.5", "1618678131.0", "r"]],
}
CHANGE = {"a": [["56218.30000", "0.00000000", "1618678140.000001"]], "c": "4105471083"}
SNAPSHOT = [464, BOOK, "book-10", "XBT/CHF"]
UPDATE = [464, CHANGE, "book-10", "XBT/CHF"]
TWO_PARTS = [
    464,
    {"a": [["0.042990", "1.00000000", "1618678145.920470"], ["0.042990", "0.0", "1618678145.920471"]]},
    {"b": [["0.042990", "0.00000000", "1618678145.920708"]], "c": "7"},
    "book-1000",
    "SC/EUR",
]
TRADES = [
    1921,
    [
        ["0.043030", "1081.72663000", "1618678157.908269", "b", "l", ""],
        ["0.042960", "5000", "1618678158", "s", "m", ""],
    ],
    "trade",
    "SC/EUR",
]


def dumped(message: Any, seconds: float = 0) -> bytes:
    return b"%.6f: %s" % (1618678133 + seconds, json.dumps(message, separators=(",", ":")).encode())


def read(*lines: bytes, path: str = "KRAKEN.ws.50.0") -> list[dict[str, Any]]:
    batches = KrakenSource({}).parse(io.BytesIO(b"\n".join(lines)), path)
    records = []
    for batch in batches:
        assert batch.schema == RECORDS.arrow
        records += batch.to_pylist()
    return records


def only(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


def test_every_field_of_a_book():
    (record,) = read(dumped(SNAPSHOT))
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "KRAKEN",
        "symbol": "BTC-CHF",
        "timestamp": 1618678132_100001000,
        "received": START,
        "sequence": START,
        "source_file": "KRAKEN.ws.50.0",
        "source_row": 1,
        "is_snapshot": True,
        "prev_sequence": -1,
        "checksum": -1,
        "price_digits": 5,
        "size_digits": 8,
        "kept_levels": 10,
        "bid_prices": [56218_20000000, 56217_00000000],
        "bid_sizes": [2_00000000, 1_50000000],
        "ask_prices": [56218_30000000],
        "ask_sizes": [15000000],
        "price_scale": 8,
        "size_scale": 8,
    }


def test_a_change_has_its_checksum_and_is_no_snapshot():
    (record,) = read(dumped(UPDATE, 7))
    assert only(record, "record", "is_snapshot", "checksum") == ("book_update", False, 4105471083)
    assert only(record, "bid_prices", "ask_prices", "ask_sizes") == ([], [56218_30000000], [0])


def test_two_parts_are_one_update_with_repeated_levels_in_order():
    (record,) = read(dumped(TWO_PARTS))
    assert only(record, "symbol", "kept_levels", "checksum") == ("SC-EUR", 1000, 7)
    assert only(record, "ask_prices", "ask_sizes") == ([4299000, 4299000], [100000000, 0])
    assert only(record, "bid_prices", "bid_sizes") == ([4299000], [0])
    assert record["timestamp"] == 1618678145_920708000
    assert only(record, "price_digits", "size_digits") == (6, 8)


def test_a_one_sided_or_empty_book_is_a_whole_book():
    one, empty = read(
        dumped([1, {"as": BOOK["as"]}, "book-10", "XBT/CHF"]),
        dumped([1, {"as": [], "bs": []}, "book-10", "ETH/CHF"]),
    )
    assert only(one, "is_snapshot", "bid_prices", "ask_prices") == (True, [], [56218_30000000])
    names = ("is_snapshot", "timestamp", "price_digits", "size_digits", "sequence")
    assert only(empty, *names) == (True, -1, -1, -1, START)


def test_more_decimals_than_eight_widen_the_scale_and_keep_the_digits():
    levels = [["0.0000229001", "1.000000000", "1618678140.000001"]]
    (record,) = read(dumped([1, {"a": levels}, "book-10", "ADA/XBT"]))
    assert only(record, "price_scale", "price_digits", "size_scale", "size_digits") == (10, 10, 8, 9)
    assert only(record, "ask_prices", "ask_sizes") == ([229001], [10**8])


def test_each_trade_of_a_message_is_a_record_with_the_aggressors_side():
    bought, sold = read(dumped(TRADES))
    names = ("record", "symbol", "timestamp", "sequence", "trade_id", "side", "price", "size", "source_row")
    assert only(bought, *names) == (
        "trade",
        "SC-EUR",
        1618678157_908269000,
        START,
        -1,
        "buy",
        4303000,
        108172663000,
        1,
    )
    assert only(sold, *names) == (
        "trade",
        "SC-EUR",
        1618678158 * SECOND,
        START,
        -1,
        "sell",
        4296000,
        500000000000,
        1,
    )


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"wss://ws.kraken.com <-> 1618678132.38",
        b'wss://ws.kraken.com <- 1618678132.8: {"event":"subscribe"}',
        dumped({"event": "heartbeat"}),
        dumped({"event": "systemStatus", "connectionID": 18239578009413566319}),
        dumped([1, ["1", "2", "3", "4", "5"], "spread", "XBT/CHF"]),
        dumped([1, ["1"], "ohlc-5", "XBT/CHF"]),
        dumped([1, {"a": []}, "ticker", "XBT/CHF"]),
    ],
)
def test_other_messages_are_skipped(line):
    assert read(line) == []


def changed(**fields: Any) -> list[Any]:
    return [464, CHANGE | fields, "book-10", "XBT/CHF"]


def level(*fields: Any) -> list[Any]:
    return changed(a=[list(fields)])


BAD = {
    "not JSON": b'1618678133.0: [464,{"a":[["562',
    "a receive time beyond int64": b"99999999999: []",
    "not UTF-8": b'1618678133.0: [1,{},"book-10","\xff"]',
    "a number": dumped(7),
    "too short": dumped([464, BOOK, "book-10"]),
    "no name of a channel": dumped([464, BOOK, 10, "XBT/CHF"]),
    "no pair": dumped([464, BOOK, "book-10", None]),
    "a hostile pair": dumped([464, BOOK, "book-10", "XBT/../../CHF'"]),
    "a part that is no object": dumped([464, [], "book-10", "XBT/CHF"]),
    "an empty part": dumped([464, {}, "book-10", "XBT/CHF"]),
    "a second part without levels": dumped([464, CHANGE, {"c": "7"}, "book-10", "XBT/CHF"]),
    "a book and a change": dumped([464, BOOK | CHANGE, "book-10", "XBT/CHF"]),
    "levels that are no list": dumped(changed(a={})),
    "a level that is no list": dumped(changed(a=["1.0"])),
    "a level without a size": dumped(level("1.0")),
    "a level without a time": dumped(level("1.0", "2.0")),
    "a level time that is a number": dumped(level("1.0", "2.0", 1618678140.5)),
    "a level time finer than ns": dumped(level("1.0", "2.0", "1618678140.0000000001")),
    "a level time beyond int64": dumped(level("1.0", "2.0", "9999999999.9")),
    "NaN": dumped(level("NaN", "2.0", "1618678140.1")),
    "infinite": dumped(level("1.0", "inf", "1618678140.1")),
    "a negative size": dumped(level("1.0", "-2.0", "1618678140.1")),
    "a price of zero": dumped(level("0.0", "2.0", "1618678140.1")),
    "zeros beyond any scale": dumped(level("1.0", "0." + "0" * 40, "1618678140.1")),
    "a checksum that is no number": dumped(changed(c="x")),
    "a checksum beyond 32 bits": dumped(changed(c=str(2**32))),
    "nested too deeply": b"1618678133.0: " + b"[" * 5000 + b"]" * 5000,
    "nested just not too deeply to decode": b"1618678133.0: " + b"[" * 990 + b"]" * 990,
    "trades that are no list": dumped([1, {}, "trade", "XBT/CHF"]),
    "a trade that is no list": dumped([1, [{}], "trade", "XBT/CHF"]),
    "a trade without a side": dumped([1, [["1", "2", "1618678140.1"]], "trade", "XBT/CHF"]),
    "a trade of no side": dumped([1, [["1", "2", "1618678140.1", "x"]], "trade", "XBT/CHF"]),
    "a side that is a list": dumped([1, [["1", "2", "1618678140.1", []]], "trade", "XBT/CHF"]),
    "a trade of a negative size": dumped([1, [["1", "-2", "1618678140.1", "b"]], "trade", "XBT/CHF"]),
    "one bad trade of two": dumped([1, [TRADES[1][0], ["1", "2", "x", "b"]], "trade", "XBT/CHF"]),
    "nothing that orders it": json.dumps([1, {"as": []}, "book-10", "XBT/CHF"]).encode(),
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
def test_a_bad_line_goes_to_quarantine_with_its_bytes_and_the_next_is_read(line):
    bad, good = read(line, dumped(SNAPSHOT))
    assert only(bad, "record", "source_row", "raw") == ("quarantine", 1, line)
    assert bad["reason"]
    assert only(good, "record", "source_row", "damaged") == ("book_update", 2, False)


def test_a_bad_line_damages_the_book_it_names():
    lines = dumped(SNAPSHOT), dumped(TWO_PARTS, 1), dumped(changed(c="x"), 2)
    *_, bad, mark = read(*lines)
    assert only(bad, "record", "source_row") == ("quarantine", 3)
    names = ("record", "symbol", "damaged", "source_row", "sequence", "bid_prices", "is_snapshot")
    assert only(mark, *names) == ("book_update", "BTC-CHF", True, 3, START + 2 * SECOND, [], False)


@pytest.mark.parametrize(
    "line", [b'1618678135.0: [464,{"a":[["562', b"\x00", dumped([1, {}, "book-10", "XMR/USD"])]
)
def test_a_bad_line_that_names_no_known_book_damages_all(line):
    marks = [record for record in read(dumped(SNAPSHOT), dumped(TWO_PARTS, 1), line) if record["damaged"]]
    assert {record["symbol"] for record in marks} == {"BTC-CHF", "SC-EUR"}
    assert {record["sequence"] >= START + SECOND for record in marks} == {True}


@pytest.mark.parametrize("pair", [b'"\xe7\x8b\x97/USD"', b'"\\u72d7/USD"'])
def test_a_name_that_is_not_ascii_damages_no_book(pair):
    line = dumped([1, BOOK, "book-10", "XMR/USD"], 2).replace(b'"XMR/USD"', pair)
    records = read(dumped(SNAPSHOT), dumped(TWO_PARTS, 1), line)
    assert [record["record"] for record in records] == ["book_update", "book_update", "quarantine"]


def test_an_escaped_name_damages_its_book():
    line = dumped(changed(c="x"), 2).replace(b'"XBT/CHF"', b'"\\u0058BT/CHF"')
    *_, bad, mark = read(dumped(SNAPSHOT), dumped(TWO_PARTS, 1), line)
    assert only(bad, "record") == ("quarantine",)
    assert only(mark, "symbol", "damaged") == ("BTC-CHF", True)


def test_a_bad_trade_damages_no_book():
    records = read(dumped(SNAPSHOT), dumped([1, {}, "trade", "XBT/CHF"]))
    assert [record["damaged"] for record in records] == [False, False]


def test_only_the_first_depth_of_a_pair_is_read():
    records = read(dumped(SNAPSHOT), dumped([464, BOOK, "book-100", "XBT/CHF"], 1), dumped(UPDATE, 2))
    assert [record["source_row"] for record in records] == [1, 3]


def test_falling_receive_times_do_not_change_the_order_of_the_file():
    records = read(*(dumped(UPDATE, seconds) for seconds in (5, 3, 4, 6)))
    assert [record["sequence"] - START for record in records] == [5 * SECOND] * 3 + [6 * SECOND]
    assert [record["received"] - START for record in records] == [n * SECOND for n in (5, 3, 4, 6)]


def test_one_wild_receive_time_does_not_drag_the_later_ones():
    seconds = [1, 2, 3, 7200, 4, 5, 6]
    records = read(*(dumped(UPDATE, after) for after in seconds))
    assert [(record["sequence"] - START) // SECOND for record in records] == [1, 2, 3, 3, 4, 5, 6]


def test_bare_lines_are_ordered_by_their_own_times():
    bare = [json.dumps(message).encode() for message in (SNAPSHOT, UPDATE, SNAPSHOT, TRADES)]
    records = read(*bare)
    assert [record["received"] for record in records] == [-1] * 5
    times = [1618678132_100001000, 1618678140_000001000, 1618678140_000001000, 1618678157_908269000]
    assert [record["sequence"] for record in records] == [*times, times[-1]]


def test_order_continues_across_blocks(monkeypatch):
    lines = [dumped(UPDATE, seconds) for seconds in (5, 3, 4, 6, 2, 9)]
    whole = read(*lines)
    monkeypatch.setattr(message_files, "line_blocks", partial(line_blocks, block_bytes=len(lines[0]) * 2))
    assert read(*lines) == whole


SMALL_STEPS = st.lists(st.integers(0, 30 * SECOND), min_size=3, max_size=60).map(np.cumsum)


@cases(100)
@given(st.lists(st.integers(0, 2**62), max_size=40), st.integers(-1, 2**62))
def test_receive_order_never_falls_and_stays_within_its_times(times, before):
    ordered = order_receive_times(np.array(times, dtype=np.int64), before)
    assert len(ordered) == len(times)
    assert (np.diff(ordered) >= 0).all()
    assert (ordered >= before).all()
    assert set(ordered.tolist()) <= {*times, before}


@cases(100)
@given(SMALL_STEPS, st.data())
def test_receive_order_ignores_one_wild_time_anywhere(steps, data):
    times = START + steps
    assert (order_receive_times(times, -1) == times).all()
    place = data.draw(st.integers(0, len(times)))
    wild = np.insert(times, place, times[-1] + MAX_LEAD * data.draw(st.integers(2, 10**6)))
    ordered = order_receive_times(wild, -1)
    assert (np.delete(ordered, place) == times).all()
    assert ordered[place] == times[max(place - 1, 0)]


def test_file_order_believes_a_jump_that_later_times_confirm():
    times = START + np.arange(20, dtype=np.int64) * SECOND
    times[10:] += 2 * MAX_LEAD
    assert (order_receive_times(times, -1) == times).all()
    assert order_receive_times(np.empty(0, dtype=np.int64), 5).tolist() == []


LINES = [*map(dumped, (SNAPSHOT, UPDATE, TWO_PARTS, TRADES)), json.dumps(UPDATE).encode()]


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
@example(b'[464,{"a":[["0e-9999","1","1618678140.1"]]},"book-10","XBT/CHF"]')
@example(b'[464,{"a":[[1e400,1,"1618678140.1"]]},"book-10","XBT/CHF"]')
@example(b'[464,{"a":[["1","99999999999999999999","1618678140.1"]]},"book-10","XBT/CHF"]')
def test_any_bytes_give_records_or_quarantine(content):
    for record in read(content):
        assert record["record"] in ("book_update", "trade", "quarantine")
        assert (record["record"] == "quarantine") == bool(record["reason"])
        if record["record"] != "quarantine":
            assert record["sequence"] >= 0


def apply(book: dict[str, dict[int, int]], record: dict[str, Any]) -> None:
    for side, sign in (("bid", -1), ("ask", 1)):
        if record["is_snapshot"]:
            book[side] = {}
        levels = book[side]
        for price, size in zip(record[f"{side}_prices"], record[f"{side}_sizes"], strict=True):
            if size:
                levels[price] = size
            else:
                levels.pop(price, None)
        for price in sorted(levels, key=lambda price: sign * price)[record["kept_levels"] :]:
            del levels[price]


def printed(value: int, scale: int, digits: int) -> str:
    # A pair printed with nine decimals can have a scale of eight: trailing zeros need none.
    return str(value * 10**digits // 10**scale)


def checksum(book: dict[str, dict[int, int]], record: dict[str, Any]) -> int:
    text = ""
    for levels in (sorted(book["ask"].items())[:10], sorted(book["bid"].items(), reverse=True)[:10]):
        for price, size in levels:
            text += printed(price, record["price_scale"], record["price_digits"])
            text += printed(size, record["size_scale"], record["size_digits"])
    return zlib.crc32(text.encode())


@pytest.mark.real_data
def test_every_checksum_of_a_real_capture_matches(real_data: Path):
    path = str(real_data / "kraken" / "KRAKEN.ws.50.0")
    with open_file(path) as stream:
        records = [row for batch in KrakenSource({}).parse(stream, path) for row in batch.to_pylist()]
    books: dict[str, dict[str, dict[int, int]]] = {}
    matched = compared = 0
    for record in records:
        assert record["record"] == "book_update"
        book = books.setdefault(record["symbol"], {})
        apply(book, record)
        if record["checksum"] >= 0:
            compared += 1
            matched += checksum(book, record) == record["checksum"]
    assert (matched, compared) == (4269, 4269)
    assert len(books) == 10 and sum(record["is_snapshot"] for record in records) == 10
    sequences = [record["sequence"] for record in records]
    assert sequences == sorted(sequences)
    assert all(0 <= record["sequence"] - record["received"] < SECOND for record in records)


@pytest.mark.real_data
def test_trades_of_a_real_capture(real_data: Path):
    path = str(real_data / "kraken" / "KRAKEN.ws.48.0")
    with open_file(path) as stream:
        records = [row for batch in KrakenSource({}).parse(stream, path) for row in batch.to_pylist()]
    assert {record["record"] for record in records} == {"trade"}
    names = ("symbol", "timestamp", "received", "sequence", "side", "price", "size", "trade_id")
    assert only(records[-1], *names) == (
        "SC-EUR",
        1618678158_135041000,
        1618678158_165955000,
        1618678158_165955000,
        "buy",
        4304000,
        2000000000000,
        -1,
    )
