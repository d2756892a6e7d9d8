"""The Binance source: both ways through a line agree, and what cannot be read is named, never raised."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Container
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from events import (
    COMPILED,
    DATA,
    START_MS,
    captures,
    compact,
    decimal_book,
    depth,
    examples,
    read_lines,
    snapshot,
    trade,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Trade, Update, parse_lines

from deltabook.schemas.tables import RECORDS
from deltabook.udfs.sources import base, binance
from deltabook.udfs.sources import binance_scan as scan
from deltabook.udfs.sources.base import EMPTY_RECORD, line_blocks
from deltabook.udfs.sources.binance import BinanceSource

Records = list[dict[str, Any]]
RECEIVED = "1723161253937085768"
LEVELS = [["61837.63000000", "3.78826000"], ["61837.62000000", "0.00000000"]]
ASKS = [["61838.04000000", "0.32332000"]]
VENDOR = {"lastUpdateId": 7, "bids": LEVELS, "asks": ASKS}
TICKER = {"u": 9, "s": "BTCUSDT", "b": "10.5", "B": "1", "a": "10.6", "A": "2"}
FUTURES_TICKER = {"e": "bookTicker"} | TICKER | {"T": START_MS, "E": START_MS + 2}


def wrapped(stream: str, data: Any) -> str:
    return compact({"stream": stream, "data": data})


def data_of(line: str) -> dict[str, Any]:
    return json.loads(line)["data"]


def agg_trade(market: str, **more: Any) -> str:
    ids = {
        "e": "aggTrade",
        "E": START_MS + 1,
        "s": "BTCUSDT",
        "a": 26129,
        "p": "0.01633102",
        "q": "4.70443515",
    }
    body = (
        ids | {"f": 27781, "l": 27781, "T": START_MS, "m": True} | ({"M": True} if market == "spot" else {})
    )
    return wrapped("btcusdt@aggTrade", body | more)


DIFF = data_of(depth("spot", 3, 5, LEVELS, ASKS))
FUTURES_DIFF = data_of(depth("usdm", 3, 5, LEVELS, ASKS))

FAST_LINES = {
    "spot depth": depth("spot", 3, 5, LEVELS, ASKS),
    "spot depth, no levels": depth("spot", 3, 5),
    "spot depth, bare": compact(DIFF),
    "usdm depth": depth("usdm", 3, 5, LEVELS, ASKS),
    "usdm depth, first id of all": depth("usdm", 0, 5, LEVELS, pu=0),
    "coinm perpetual depth": depth("usdm", 3, 5, [["61837.6", "12"]], s="BTCUSD_PERP", ps="BTCUSD"),
    "coinm quarter depth": depth("usdm", 3, 5, [["61837.6", "12"]], s="BTCUSD_241227", ps="BTCUSD"),
    "quarter of a usdt contract": depth("usdm", 3, 5, [["61837.6", "12"]], s="BTCUSDT_241227"),
    "lower-case symbol": depth("spot", 3, 5, LEVELS, s="btcusdt"),
    "spot trade": trade("spot", 4, "61837.63000000", "0.00009000", m=True),
    "spot trade, buyer": trade("spot", 4, "61837.63000000", "0.00009000"),
    "usdm trade": trade("usdm", 4, "61837.6", "0.002", m=True),
    "coinm trade": trade("usdm", 4, "61837.6", "3", s="BTCUSD_PERP"),
    "insurance fund": trade("usdm", 4, "9000.0", "0.002", X="INSURANCE_FUND"),
    "spot aggTrade": agg_trade("spot"),
    "usdm aggTrade": agg_trade("usdm"),
    "spot ticker": wrapped("btcusdt@bookTicker", TICKER),
    "usdm ticker": wrapped("btcusdt@bookTicker", FUTURES_TICKER),
    "ticker, no bids": wrapped("btcusdt@bookTicker", TICKER | {"b": "0.00000000", "B": "0.00000000"}),
    "ticker, no asks": wrapped("btcusdt@bookTicker", TICKER | {"a": "0.00000000", "A": "0.00000000"}),
    "spot partial depth": wrapped("btcusdt@depth20@100ms", VENDOR),
    "spot partial depth, 5 levels": wrapped("btcusdt@depth5", VENDOR),
    "usdm partial depth": wrapped("btcusdt@depth20@100ms", FUTURES_DIFF),
    "unknown fields": depth("spot", 3, 5, LEVELS, zz="x", y=7, x=None, w=True, v=False),
    "keys in another order": wrapped("btcusdt@depth", dict(reversed(DIFF.items()))),
    "data before stream": compact({"data": DIFF, "stream": "btcusdt@depth"}),
    "trade keys in another order": wrapped("x", dict(reversed(data_of(trade("spot", 4)).items()))),
    "microseconds": depth("spot", 3, 5, LEVELS, E=START_MS * 1000 + 123),
}
STRICT_LINES = {
    "white space": json.dumps({"stream": "btcusdt@depth", "data": DIFF}, indent=None),
    "white space in a trade": json.dumps(json.loads(trade("usdm", 4))),
    "numbers without quotes": depth("spot", 3, 5, [[61837.63, 3]]),
    "exponent": depth("spot", 3, 5, [["6.2e4", "1E-8"]]),
    "levels with a third field": depth("spot", 3, 5, [["61837.63", "3", []]]),
    "escape": compact(DIFF).replace('"BTCUSDT"', '"BTC\\u0055SDT"'),
    "nested unknown field": depth("spot", 3, 5, LEVELS, zz={"a": [1, {"b": 2}]}),
    "negative unknown field": depth("spot", 3, 5, LEVELS, zz=-1),
    "id of 19 digits": depth("spot", 2**63 - 2, 2**63 - 1, LEVELS, E=START_MS),
    "price of 19 digits": depth("spot", 3, 5, [["92233720368.54775807", "1"]]),
    "snapshot with its symbol": compact(VENDOR | {"symbol": "BTCUSD_PERP", "E": START_MS, "T": START_MS}),
    "key given twice": compact(DIFF)[:-1] + ',"U":4}',
}
SKIPPED_LINES = {
    "answer to a subscription": '{"result":null,"id":1}',
    "server shutdown": compact({"e": "serverShutdown", "E": START_MS}),
    "server shutdown, wrapped": wrapped("!serverShutdown", {"e": "serverShutdown", "E": START_MS}),
    "event unknown today": wrapped("btcusdt@kline_1m", {"e": "kline", "s": "BTCUSDT", "k": {"t": 1}}),
    "array of tickers": wrapped("!ticker@arr", [{"e": "24hrTicker", "s": "BTCUSDT"}]),
    "mark price": wrapped(
        "x", {"e": "markPriceUpdate", "E": START_MS, "s": "BTCUSDT", "p": "1", "T": START_MS}
    ),
    "liquidation": wrapped("x", {"e": "forceOrder", "E": START_MS, "o": {"s": "BTCUSDT"}}),
    "error": '{"error":{"code":2,"msg":"Invalid request"},"id":1}',
    "empty object": "{}",
}


class Everything(Container[str]):
    def __contains__(self, _symbol: object) -> bool:
        return True


def parse(content: bytes, strict: bool = False, path: str = "f") -> Records:
    """All records by row; `strict` sends every line the strict way."""
    parser = binance._Parser(path, {})
    if strict:
        parser.set_apart = Everything()  # type: ignore[assignment]
    batches = list(parser.parse(io.BytesIO(content)))
    return sorted(
        pa.Table.from_batches(batches, RECORDS.arrow).to_pylist(), key=lambda row: row["source_row"]
    )


def parse_line(line: str | bytes) -> dict[str, Any]:
    (record,) = parse_both(line)
    return record


def parse_both(line: str | bytes) -> Records:
    """The records of one line; both ways have to give the same."""
    content = line.encode() if isinstance(line, str) else line
    records = parse(content)
    assert records == parse(content, strict=True)
    return records


def kind_of(line: str) -> int:
    return int(scan.scan_block(line.encode(), 8, 8).lines[0, scan.KIND])


def read(path: Path, **options: str) -> Records:
    """A file's records through the reader, as Spark calls it; the last is the file's own."""
    reader = BinanceSource({"path": str(path), **options}).reader(None)
    return [row for batch in reader.read(reader.partitions()[0]) for row in batch.to_pylist()]


@pytest.mark.kernel
@pytest.mark.parametrize("name", FAST_LINES)
@pytest.mark.parametrize("received", ["", RECEIVED + " "])
def test_line_as_binance_prints_it_is_read_alike_by_both_ways(name: str, received: str) -> None:
    line = received + FAST_LINES[name]
    assert kind_of(line) > scan.BLANK
    record = parse_line(line)
    assert record["record"] != "quarantine"
    assert (record["received"], record["source_file"], record["source_row"]) == (int(received or -1), "f", 1)


@pytest.mark.kernel
@pytest.mark.parametrize("name", STRICT_LINES)
def test_unusual_json_is_read_by_the_strict_way(name: str) -> None:
    assert kind_of(STRICT_LINES[name]) == scan.SLOW
    assert parse_line(STRICT_LINES[name])["record"] != "quarantine"


@pytest.mark.parametrize("name", [name for name in FAST_LINES if name != "microseconds"])
def test_white_space_in_the_json_changes_nothing(name: str) -> None:
    spaced = json.dumps(json.loads(FAST_LINES[name]))
    assert kind_of(spaced) == scan.SLOW
    assert parse_both(spaced) == parse_both(FAST_LINES[name])


@pytest.mark.kernel
@pytest.mark.parametrize("name", SKIPPED_LINES)
def test_message_that_is_none_of_ours_is_skipped(name: str) -> None:
    assert parse_both(SKIPPED_LINES[name]) == []
    assert parse_both(f"{RECEIVED} {SKIPPED_LINES[name]}") == []


def test_depth_fields_are_as_printed() -> None:
    record = parse_line(f"{RECEIVED} {FAST_LINES['usdm depth']}")
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "BINANCE_FUTURES",
        "symbol": "BTCUSDT",
        "timestamp": (START_MS + 5) * 1_000_000,
        "received": int(RECEIVED),
        "sequence": 5,
        "first_sequence": 3,
        "prev_sequence": 2,
        "bid_prices": [6_183_763_000_000, 6_183_762_000_000],
        "bid_sizes": [378_826_000, 0],
        "ask_prices": [6_183_804_000_000],
        "ask_sizes": [32_332_000],
        "source_file": "f",
        "source_row": 1,
    }


def test_trade_fields_are_as_printed() -> None:
    record = parse_line(FAST_LINES["spot trade"])
    assert record == EMPTY_RECORD | {
        "record": "trade",
        "exchange": "BINANCE",
        "symbol": "BTCUSDT",
        "timestamp": (START_MS + 4) * 1_000_000,
        "sequence": 4,
        "trade_id": 4,
        "side": "sell",
        "price": 6_183_763_000_000,
        "size": 9_000,
        "source_file": "f",
        "source_row": 1,
    }
    assert parse_line(FAST_LINES["spot trade, buyer"])["side"] == "buy"


def test_trade_of_the_insurance_fund_has_no_side() -> None:
    record = parse_line(FAST_LINES["insurance fund"])
    assert (record["record"], record["side"], record["price"]) == ("trade", "", 9_000 * 10**8)


@pytest.mark.parametrize(
    ("name", "record", "kind", "exchange", "symbol"),
    [
        ("spot aggTrade", "agg_trade", "", "BINANCE", "BTCUSDT"),
        ("usdm aggTrade", "agg_trade", "", "BINANCE_FUTURES", "BTCUSDT"),
        ("coinm perpetual depth", "book_update", "", "BINANCE_DELIVERY", "BTCUSD_PERP"),
        ("coinm quarter depth", "book_update", "", "BINANCE_DELIVERY", "BTCUSD_241227"),
        ("quarter of a usdt contract", "book_update", "", "BINANCE_FUTURES", "BTCUSDT_241227"),
        ("coinm trade", "trade", "", "BINANCE_DELIVERY", "BTCUSD_PERP"),
        ("lower-case symbol", "book_update", "", "BINANCE", "BTCUSDT"),
        ("spot ticker", "golden", "book_ticker", "BINANCE", "BTCUSDT"),
        ("usdm ticker", "golden", "book_ticker", "BINANCE_FUTURES", "BTCUSDT"),
        ("spot partial depth", "golden", "vendor_book", "BINANCE", "BTCUSDT"),
        ("usdm partial depth", "golden", "vendor_book", "BINANCE_FUTURES", "BTCUSDT"),
    ],
)
def test_market_and_kind_are_told_from_the_fields(
    name: str, record: str, kind: str, exchange: str, symbol: str
) -> None:
    found = parse_line(FAST_LINES[name])
    assert [found[key] for key in ("record", "kind", "exchange", "symbol")] == [
        record,
        kind,
        exchange,
        symbol,
    ]


def test_empty_side_of_a_ticker_is_no_level() -> None:
    no_bids, no_asks = (parse_line(FAST_LINES[f"ticker, no {side}"]) for side in ("bids", "asks"))
    assert (no_bids["bid_prices"], no_bids["ask_prices"]) == ([], [1_060_000_000])
    assert (no_asks["bid_prices"], no_asks["ask_prices"]) == ([1_050_000_000], [])


def test_spot_ticker_and_partial_depth_have_no_time() -> None:
    assert [parse_line(FAST_LINES[name])["timestamp"] for name in ("spot ticker", "spot partial depth")] == [
        -1,
        -1,
    ]
    assert parse_line(FAST_LINES["usdm ticker"])["timestamp"] == START_MS * 1_000_000


@pytest.mark.kernel
def test_both_ways_agree_with_the_oracle() -> None:
    lines = [depth("spot", 3, 5, LEVELS, ASKS), trade("spot", 4, "1.5", "2", m=True), depth("spot", 6, 6)]
    capture = parse_lines(lines)
    for strict in (False, True):
        first, second, third = parse("\n".join(lines).encode(), strict)
        for record, update in ((first, capture.updates[0]), (third, capture.updates[1])):
            assert as_update(record) == update
        assert as_trade(second) == capture.trades[0]


def as_update(record: dict[str, Any]) -> Update:
    return Update(
        record["is_snapshot"],
        record["sequence"],
        *(tuple(side) for side in decimal_book(record)),
        record["first_sequence"],
        record["prev_sequence"],
        symbol=record["symbol"],
        timestamp=record["timestamp"] // 1_000_000,
        position=record["source_row"] - 1,
    )


def as_trade(record: dict[str, Any]) -> Trade:
    price, size = (Decimal(record[name]).scaleb(-8) for name in ("price", "size"))
    return Trade(
        record["sequence"],
        price,
        size,
        record["side"] == "sell",
        symbol=record["symbol"],
        timestamp=record["timestamp"] // 1_000_000,
        position=record["source_row"] - 1,
    )


QUARANTINED = {
    "not JSON": ("hello", "not JSON"),
    "cut JSON": (depth("spot", 3, 5, LEVELS)[:-3], "not JSON"),
    "not UTF-8": (b'\xff{"e":"depthUpdate"}', "not JSON"),
    "receive time alone": (RECEIVED, "object"),
    "short receive time": ("17231612 " + depth("spot", 3, 5), "not JSON"),
    "receive time beyond int64": ("9999999999999999999 " + depth("spot", 3, 5), "receive time"),
    "JSON array": ("[1,2]", "expected a JSON object"),
    "missing u": (compact({key: DIFF[key] for key in DIFF if key != "u"}), "field u"),
    "missing U": (compact({key: DIFF[key] for key in DIFF if key != "U"}), "field U"),
    "missing E": (compact({key: DIFF[key] for key in DIFF if key != "E"}), "field E"),
    "missing b": (compact({key: DIFF[key] for key in DIFF if key != "b"}), "field b"),
    "missing a": (compact({key: DIFF[key] for key in DIFF if key != "a"}), "field a"),
    "missing s": (compact({key: DIFF[key] for key in DIFF if key != "s"}), "field s"),
    "futures depth without T": (compact(DIFF | {"pu": 2}), "field T"),
    "missing trade id": (trade("spot", 4, t=None), "field t"),
    "missing trade price": (trade("spot", 4, p=None), "price None"),
    "maker is no boolean": (trade("spot", 4, m="true"), "field m"),
    "negative size": (depth("spot", 3, 5, [["1", "-1"]]), "size -1 is negative"),
    "negative price": (depth("spot", 3, 5, [["-1", "1"]]), "price -1 is negative"),
    "negative trade size": (trade("spot", 4, size="-0.5"), "size -0.5 is negative"),
    "NaN price": (depth("spot", 3, 5, [["NaN", "1"]]), "price 'NaN' is not a plain finite number"),
    "infinite price": (depth("spot", 3, 5, [["Infinity", "1"]]), "price 'Infinity'"),
    "bare NaN": (depth("spot", 3, 5).replace('"b":[]', '"b":[[NaN,"1"]]'), "not JSON"),
    "NaN trade price": (trade("spot", 4, "NaN"), "price 'NaN'"),
    "price 0": (depth("spot", 3, 5, [["0.00", "1"]]), "price 0"),
    "U above u": (depth("spot", 6, 5), "U 6 is above u 5"),
    "symbol with a slash": (depth("spot", 3, 5, s="../../etc"), "symbol '../../ETC' is refused"),
    "symbol with a quote": (depth("spot", 3, 5, s="X' or '1'='1"), "is refused"),
    "symbol too long": (depth("spot", 3, 5, s="X" * 41), "is refused"),
    "empty symbol": (depth("spot", 3, 5, s=""), "is refused"),
    "symbol that is a number": (depth("spot", 3, 5, s=5), "field s"),
    "trade symbol": (trade("spot", 4, s="A B"), "is refused"),
    "ticker symbol": (wrapped("x", TICKER | {"s": "<b>"}), "is refused"),
    "partial depth symbol": (wrapped("a b@depth5", VENDOR), "is refused"),
    "price beyond the scale": (depth("spot", 3, 5, [["1.000000001", "1"]]), "does not fit int64 exactly"),
    "size beyond the scale": (depth("spot", 3, 5, [["1", "0.000000001"]]), "does not fit int64 exactly"),
    "price beyond int64": (
        depth("spot", 3, 5, [["92233720368.54775808", "1"]]),
        "does not fit int64 exactly",
    ),
    "u beyond int64": (depth("spot", 3, 2**63, E=START_MS), "field u"),
    "u of 30 digits": (depth("spot", 3, 10**30, E=START_MS), "field u"),
    "u of 5000 digits": (depth("spot", 3, 5).replace('"u":5', '"u":' + "9" * 5_000), "not JSON"),
    "negative u": (depth("spot", -3, -2, E=START_MS), "field u"),
    "u as text": (depth("spot", 3, 5, u="5"), "field u"),
    "u as true": (depth("spot", 3, 5, u=True), "field u"),
    "u with a fraction": (depth("spot", 3, 5).replace('"u":5', '"u":5.0'), "field u"),
    "levels are no list": (depth("spot", 3, 5, b="x"), "field b"),
    "level of one value": (depth("spot", 3, 5, [["1"]]), "field b"),  # type: ignore[list-item]
    "level is no list": (depth("spot", 3, 5, ["1"]), "field b"),  # type: ignore[list-item]
    "ticker price null": (wrapped("x", TICKER | {"b": None}), "price None"),
    "snapshot's symbol": (compact(VENDOR | {"symbol": "A/B"}), "is refused"),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", QUARANTINED)
def test_unreadable_line_is_quarantined_with_file_row_reason_and_bytes(name: str) -> None:
    line, reason = QUARANTINED[name]
    raw = line.encode() if isinstance(line, str) else line
    good = depth("spot", 1, 2).encode()
    records = parse_both(good + b"\n" + raw + b"\n" + depth("spot", 6, 7).encode())
    assert [record["record"] for record in records] == ["book_update", "quarantine", "book_update"]
    assert reason in records[1]["reason"]
    assert records[1] == EMPTY_RECORD | {
        "record": "quarantine",
        "source_file": "f",
        "source_row": 2,
        "reason": records[1]["reason"],
        "raw": raw,
    }


@pytest.mark.parametrize("key", ["b", "B", "a", "A", "u", "s"])
def test_ticker_that_lacks_a_field_is_quarantined(key: str) -> None:
    line = wrapped("x", {name: value for name, value in FUTURES_TICKER.items() if name != key})
    record = parse_line(line)
    assert (record["record"], record["raw"]) == ("quarantine", line.encode())


@pytest.mark.parametrize("number", ["1e999999999999999999999", "-1e-999999999999999999999", "1e9999999"])
def test_number_with_an_absurd_exponent_is_quarantined(number: str) -> None:
    line = depth("spot", 3, 5).replace('"b":[]', f'"b":[[{number},"1"]]')
    assert parse_line(line)["record"] == "quarantine"


@pytest.mark.parametrize("opening", ["[", '{"a":', RECEIVED + ' {"b":['])
def test_deeply_nested_json_is_quarantined(opening: str) -> None:
    line = opening[:-1] + opening[-1:] * 100_000 if opening != '{"a":' else opening * 100_000
    assert parse_line(line)["record"] == "quarantine"


def test_reason_of_a_huge_field_stays_short() -> None:
    for line in (depth("spot", 3, 5, b="x" * 100_000), depth("spot", 3, 5, u="5" * 100_000)):
        assert len(parse_line(line)["reason"]) < 1_000


@pytest.mark.parametrize("symbol", ["BTCU\N{LATIN SMALL LETTER LONG S}DT", "\N{LATIN SMALL LETTER SHARP S}"])
def test_letter_that_upper_case_turns_into_ascii_makes_no_symbol(symbol: str) -> None:
    """`ſ`.upper() is `S`: a message of another instrument would enter BTCUSDT's book."""
    assert parse_line(depth("spot", 3, 5, s=symbol))["record"] == "quarantine"


AMBIGUOUS = {
    "levels under b and under bids": compact(DIFF | {"bids": [["2", "2"]]}),
    "trade with levels": trade("spot", 4, b=[["2", "2"]]),
    "ticker with levels": wrapped("x", TICKER | {"bids": [["2", "2"]]}),
    "partial depth with levels under b too": wrapped("x@depth5", VENDOR | {"b": [["2", "2"]]}),
    "stream named inside data alone": compact({"data": DIFF | {"stream": "btcusdt@depth5"}}),
    "stream named before and inside data": compact({"stream": "x", "data": DIFF | {"stream": "y@depth5"}}),
    "two at signs": wrapped("btcusdt@@depth5", DIFF),
    "partial depth behind another stream": wrapped("btcusdt@x@depth5", DIFF),
    "partial depth of nothing": wrapped("@depth5", DIFF),
    "partial depth of nothing, spot": wrapped("@depth5", VENDOR),
    "partial depth with E alone": wrapped("x@depth5", VENDOR | {"E": START_MS}),
    "partial depth with T alone": wrapped("x@depth5", VENDOR | {"T": START_MS}),
    "partial depth with E and T": wrapped("x@depth5", VENDOR | {"E": START_MS, "T": START_MS + 1}),
    "partial depth as an event without T": wrapped("x@depth5", DIFF),
    "spot depth with T": compact(DIFF | {"T": START_MS - 1}),
    "event named null": compact(DIFF | {"e": None}),
    "event named empty": compact(DIFF | {"e": ""}),
    "ticker of an empty name": wrapped("x", TICKER | {"e": ""}),
    "data is null beside a message": compact(DIFF | {"data": None}),
    "data is true beside a message": compact(DIFF | {"data": True}),
    "fields beside data": compact({"stream": "x", "E": 1, "data": DIFF}),
    "fields behind data": compact({"stream": "x", "data": DIFF, "E": 1}),
    "stream is a number": wrapped(5, DIFF),  # type: ignore[arg-type]
    "data in data": compact({"stream": "x", "data": DIFF | {"data": DIFF}}),
    "trade with lastUpdateId": trade("spot", 4, lastUpdateId=5),
    "trade outside the market, null": trade("usdm", 4, X=None),
    "pu null": compact(DIFF | {"pu": None}),
    "snapshot that calls itself a stream": wrapped("btcusdt@depth", VENDOR),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_message_that_binance_never_sends_is_read_alike_by_both_ways(name: str) -> None:
    parse_both(AMBIGUOUS[name])


@pytest.mark.kernel
def test_crlf_and_blank_lines_change_nothing_but_row_numbers() -> None:
    lines = [FAST_LINES["spot depth"], "", FAST_LINES["spot trade"], STRICT_LINES["white space"]]
    expected = parse_both("\n".join(lines))
    assert [record["source_row"] for record in expected] == [1, 3, 4]
    assert parse_both("\r\n".join(lines) + "\r\n") == expected
    assert parse_both("\n".join(lines) + "\n\n\r\n") == expected


def test_quarantined_line_is_kept_without_its_line_end() -> None:
    assert parse_line("hello\r\n")["raw"] == b"hello"


def test_last_line_without_newline_is_read() -> None:
    assert len(parse_both(FAST_LINES["spot depth"] + "\n" + FAST_LINES["spot trade"])) == 2


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\r\n\n"])
def test_empty_file_has_no_records_and_is_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(content)
    assert [(record["record"], record["kind"]) for record in read(path)] == [("file", "read")]


def test_snapshot_takes_the_only_symbol_whose_depth_the_file_holds() -> None:
    lines = [snapshot("spot", 4, LEVELS, ASKS), depth("spot", 3, 5), wrapped("x", TICKER | {"s": "ETHUSDT"})]
    record = next(record for record in parse_both("\n".join(lines)) if record["is_snapshot"])
    assert record == EMPTY_RECORD | {
        "record": "book_update",
        "exchange": "BINANCE",
        "symbol": "BTCUSDT",
        "sequence": 4,
        "is_snapshot": True,
        "bid_prices": [6_183_763_000_000, 6_183_762_000_000],
        "bid_sizes": [378_826_000, 0],
        "ask_prices": [6_183_804_000_000],
        "ask_sizes": [32_332_000],
        "source_file": "f",
        "source_row": 1,
    }


def test_snapshot_of_futures_goes_to_the_futures_symbol_and_has_its_time() -> None:
    lines = [depth("spot", 3, 5, s="ETHUSDT"), depth("usdm", 3, 5), snapshot("usdm", 4), snapshot("spot", 3)]
    placed = [record for record in parse_both("\n".join(lines)) if record["is_snapshot"]]
    assert [(record["exchange"], record["symbol"], record["timestamp"]) for record in placed] == [
        ("BINANCE_FUTURES", "BTCUSDT", (START_MS + 4) * 1_000_000),
        ("BINANCE", "ETHUSDT", -1),
    ]


@pytest.mark.parametrize(
    ("others", "found"),
    [
        ([depth("spot", 3, 5), depth("spot", 3, 5, s="ETHUSDT")], "BTCUSDT, ETHUSDT"),
        ([], "none"),
        ([trade("spot", 1)], "none"),
        ([depth("usdm", 3, 5)], "none"),
    ],
)
def test_snapshot_that_no_one_symbol_claims_is_quarantined(others: list[str], found: str) -> None:
    line = snapshot("spot", 4, LEVELS)
    (record,) = [row for row in parse_both("\n".join([line, *others])) if row["record"] == "quarantine"]
    assert record["reason"].endswith(f"must hold the depth of just one: found {found}")
    assert (record["source_row"], record["raw"]) == (1, line.encode())


def test_snapshot_with_a_bad_level_is_quarantined_when_it_is_placed() -> None:
    lines = [snapshot("spot", 4, [("1", "-1")]), depth("spot", 3, 5)]
    assert [row["reason"] for row in parse_both("\n".join(lines))] == ["size -1 is negative", ""]


@pytest.mark.kernel
@pytest.mark.parametrize(("factor", "unit"), [(1, 1_000_000), (1_000, 1_000), (1_000_000, 1)])
def test_unit_of_time_is_told_by_magnitude(factor: int, unit: int) -> None:
    printed = START_MS * factor + 1
    lines = [depth("spot", 3, 5, E=printed), trade("spot", 4, T=printed + 1, E=printed + 2)]
    assert [row["timestamp"] for row in parse_both("\n".join(lines))] == [
        printed * unit,
        (printed + 1) * unit,
    ]


def mixed(first: Callable[[int], str], second: Callable[[int], str], others: int) -> str:
    return "\n".join([first(START_MS), *[depth("spot", 3, 5)] * others, second(START_MS * 1_000)])


def spot_depth_at(time: int) -> str:
    return depth("spot", 3, 5, LEVELS, E=time)


def spaced_depth_at(time: int) -> str:
    return json.dumps(json.loads(spot_depth_at(time)))


@pytest.mark.parametrize("first", [spot_depth_at, spaced_depth_at])
@pytest.mark.parametrize("second", [spot_depth_at, spaced_depth_at])
@pytest.mark.parametrize("block_bytes", [100, base.BLOCK_BYTES])
def test_file_that_mixes_units_of_time_fails_whole(
    first: Any, second: Any, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binance, "line_blocks", partial(line_blocks, block_bytes=block_bytes))
    path = tmp_path / "mixed"
    path.write_text(mixed(first, second, 3))
    verdict = read(path)[-1]
    assert (verdict["record"], verdict["kind"], verdict["source_file"]) == ("file", "failed", str(path))
    assert "mix units" in verdict["reason"]


def test_snapshot_in_another_unit_fails_its_file_too(tmp_path: Path) -> None:
    path = tmp_path / "mixed"
    odd = snapshot("usdm", 4, LEVELS, E=START_MS * 1_000, T=START_MS * 1_000)
    path.write_text(f"{depth('usdm', 3, 5)}\n{odd}\n")
    assert read(path)[-1]["kind"] == "failed"


@pytest.mark.kernel
@pytest.mark.parametrize("time", [9_223_372_036_855, 99_999_999_999_999, 9_223_372_036_854_776, 10**17 - 1])
def test_time_never_wraps_around_int64(time: int, tmp_path: Path) -> None:
    """No unit may be chosen in which the time in ns leaves int64."""
    path = tmp_path / "late"
    path.write_text(depth("spot", 3, 5, E=time))
    *records, verdict = read(path)
    stamps = {record["timestamp"] for record in records if record["record"] == "book_update"}
    assert verdict["kind"] == "failed" or stamps <= {time * unit for unit in (1, 10**3, 10**6)}


def whole_file(lines: int = 60) -> bytes:
    texts = [f"{RECEIVED} {depth('spot', row, row, LEVELS, ASKS)}\n" for row in range(1, lines)]
    return gzip.compress("".join(texts).encode(), mtime=0)


@pytest.mark.parametrize("keep", [1, 12, 50, -1, -4, -8, -9])
def test_truncated_gzip_ends_in_a_failed_file_record(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    path.write_bytes(whole_file()[:keep])
    verdict = read(path)[-1]
    if keep == 1:
        assert [record["record"] for record in read(path)] == ["quarantine", "file"]  # not gzip any more
    else:
        assert (verdict["record"], verdict["kind"]) == ("file", "failed")
        assert verdict["reason"].startswith("EOFError: ")


@pytest.mark.parametrize("place", [-8, -5, -4, -1, 60])
def test_corrupt_gzip_ends_in_a_failed_file_record(place: int, tmp_path: Path) -> None:
    content = bytearray(whole_file())
    content[place] ^= 0x55
    path = tmp_path / "capture.gz"
    path.write_bytes(bytes(content))
    verdict = read(path)[-1]
    assert (verdict["record"], verdict["kind"], verdict["source_file"]) == ("file", "failed", str(path))
    assert verdict["reason"]


def test_garbage_behind_gzip_ends_in_a_failed_file_record(tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    path.write_bytes(whole_file() + b"garbage")
    assert read(path)[-1]["kind"] == "failed"


def test_missing_file_and_folder_end_in_a_failed_file_record(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        assert [(record["record"], record["kind"]) for record in read(path)] == [("file", "failed")]


def test_gzip_is_known_by_its_bytes_whatever_the_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_text(FAST_LINES["spot depth"])
    (tmp_path / "zipped.txt").write_bytes(gzip.compress(FAST_LINES["spot depth"].encode()))
    first, second = (read(tmp_path / name)[0] for name in ("plain.gz", "zipped.txt"))
    assert first | {"source_file": ""} == second | {"source_file": ""}


def test_gzip_of_several_members_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "twice.gz").write_bytes(whole_file() + whole_file())
    assert [record["source_row"] for record in read(tmp_path / "twice.gz")[:-1]] == list(range(1, 119))


def test_line_longer_than_the_cap_fails_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "LONGEST_LINE", 1_000)
    monkeypatch.setattr(binance, "line_blocks", partial(line_blocks, block_bytes=100))
    path = tmp_path / "long"
    path.write_text(FAST_LINES["spot depth"] + "\n" + "x" * 2_000)
    assert "a line is longer than" in read(path)[-1]["reason"]


def test_several_files_are_several_tasks(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        Path(path).write_text(FAST_LINES["spot depth"])
    reader = BinanceSource({"paths": json.dumps(paths)}).reader(None)
    assert [partition.value for partition in reader.partitions()] == paths


EVERY_LINE = [*FAST_LINES.values(), *STRICT_LINES.values(), *SKIPPED_LINES.values()]
EVERY_LINE += [line for line, _ in QUARANTINED.values() if isinstance(line, str) and len(line) < 2_000]
EVERY_LINE = [line for line in EVERY_LINE if line != FAST_LINES["microseconds"]]


@pytest.mark.kernel
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1_000, 4_096])
def test_size_of_blocks_changes_nothing(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\n".join([snapshot("spot", 4, LEVELS), *EVERY_LINE, "", *EVERY_LINE, "\r"]).encode()
    expected = parse(content)
    assert {record["record"] for record in expected} >= {"book_update", "trade", "agg_trade", "golden"}
    monkeypatch.setattr(binance, "line_blocks", partial(line_blocks, block_bytes=block_bytes))
    assert parse(content) == expected
    assert parse(content, strict=True) == expected


@settings(derandomize=True, deadline=None, max_examples=examples(200))
@given(content=st.binary(max_size=60), block_bytes=st.integers(1, 70))
def test_blocks_are_whole_lines_and_lose_no_byte(content: bytes, block_bytes: int) -> None:
    content = content.replace(b"\x01", b"\n").replace(b"\x00", b"\n")
    blocks = list(line_blocks(io.BytesIO(content), block_bytes))
    assert b"".join(blocks) == content
    assert all(block.endswith(b"\n") for block in blocks[:-1])


def test_instrument_has_its_own_scales() -> None:
    scales = json.dumps({"BINANCE BTCUSDT": [2, 5]})
    lines = [depth("spot", 3, 5, [("61837.63", "3.78826")]), depth("spot", 3, 5, LEVELS[:1], s="ETHUSDT")]
    lines += [depth("usdm", 3, 5, [("61837.63", "3.78826")]), trade("spot", 4, "1.50", "2")]
    rows = read_lines(lines, scales=scales).sort_by("source_row").to_pylist()
    assert [row["bid_prices"] for row in rows[:3]] == [[6_183_763], [6_183_763_000_000], [6_183_763_000_000]]
    assert [row["bid_sizes"] for row in rows[:3]] == [[378_826], [378_826_000], [378_826_000]]
    assert (rows[3]["price"], rows[3]["size"]) == (150, 200_000)


def test_value_beyond_the_instruments_scale_is_quarantined_and_a_greater_scale_holds_it() -> None:
    line = depth("spot", 3, 5, [("0.000000001234", "1")], s="SHIBUSDT")
    assert read_lines([line])["record"].to_pylist() == ["quarantine"]
    assert read_lines([line], scales='{"BINANCE SHIBUSDT": [6, 2]}')["record"].to_pylist() == ["quarantine"]
    (row,) = read_lines([line], scales='{"BINANCE SHIBUSDT": [12, 2]}').to_pylist()
    assert (row["bid_prices"], row["bid_sizes"]) == ([1_234], [100])


def test_snapshot_takes_the_scales_of_its_symbol() -> None:
    lines = [snapshot("spot", 4, [("1.5", "2")]), depth("spot", 3, 5)]
    rows = read_lines(lines, scales='{"BINANCE BTCUSDT": [1, 0]}').to_pylist()
    assert [row["bid_prices"] for row in rows if row["is_snapshot"]] == [[15]]


def test_more_symbols_than_the_fast_way_counts_are_read() -> None:
    count = scan.MOST_SYMBOLS + 5 if COMPILED else 50
    content = "\n".join(wrapped("x", TICKER | {"s": f"S{number}"}) for number in range(count)).encode()
    assert [record["symbol"] for record in parse(content)] == [f"S{number}" for number in range(count)]


@pytest.mark.real_data
@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_both_ways_agree_on_every_field_of_the_real_captures(market: str) -> None:
    for path in captures(market):
        content = gzip.decompress(path.read_bytes())
        tables = []
        for symbols in (set(), Everything()):
            parser = binance._Parser(str(path), {})
            parser.set_apart = symbols  # type: ignore[assignment]
            tables.append(pa.Table.from_batches(parser.parse(io.BytesIO(content)), RECORDS.arrow))
        fast, strict = (table.sort_by("source_row").combine_chunks() for table in tables)
        assert fast.num_rows == content.count(b"\n") - (0 if fast.num_rows else 1)
        for name in RECORDS.names:
            assert fast[name].equals(strict[name]), name
        assert "quarantine" not in set(fast["record"].to_pylist())


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["BINANCE.ws.1.0", "BINANCE_FUTURES.ws.1.0"])
def test_both_ways_agree_on_a_capture_of_many_symbols(name: str) -> None:
    path = DATA / "binance" / "cryptofeed" / name
    if not path.is_file():
        pytest.skip(f"the real captures are absent: no file {path}")
    messages = [line.partition(b": ")[2] for line in path.read_bytes().splitlines()]
    content = b"\n".join(message for message in messages if message.startswith(b"{"))
    records = parse_both(content)
    assert len({record["symbol"] for record in records}) > 1
    assert "quarantine" not in {record["record"] for record in records}


MUTATED = [
    line.encode()
    for line in (
        *(f"{RECEIVED} {FAST_LINES[name]}" for name in FAST_LINES if name != "microseconds"),
        *STRICT_LINES.values(),
        f"{RECEIVED} {snapshot('usdm', 4, LEVELS, ASKS)}",
    )
]
TOKENS = [
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"-",
    b"0",
    b"9",
    b".",
    b"e",
    b"E",
    b"\\",
    b" ",
    b"\r",
    b"\t",
]
TOKENS += [
    b"@depth5",
    b"null",
    b"true",
    b"1e9",
    b'"b":[["1","1"]],',
    b'"bids":[],',
    b'"stream":"x",',
    b"\xff",
]
TOKENS += [
    b"9" * 20,
    b"NaN",
    b"[]",
    b"{}",
    b'"T":1,',
    b'"e":"trade",',
    b'"data":{',
    b"@",
    b"\xc5\xbf",
    b"\x00",
]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "drop key", "double"]),
        st.integers(0, 10_000),
        st.integers(1, 255),
        st.sampled_from(TOKENS),
    ),
    min_size=1,
    max_size=4,
)
KEY = re.compile(rb'"\w+":("[^"]*"|[0-9a-z]+),?')


def change(line: bytes, how: str, place: int, amount: int, token: bytes) -> bytes:
    place %= len(line) + 1
    if how == "flip":
        return line[:place] + bytes(byte ^ amount for byte in line[place : place + 1]) + line[place + 1 :]
    if how == "cut":
        return line[:place] + line[place + amount % 12 :]
    if how == "insert":
        return line[:place] + token + line[place:]
    keys = list(KEY.finditer(line))
    if not keys:
        return line
    start, end = keys[place % len(keys)].span()
    return line[:start] + line[end:] if how == "drop key" else line[:end] + b"," + line[start:]


@settings(derandomize=True, deadline=None, max_examples=examples(4_000))
@given(line=st.sampled_from(MUTATED), changes=CHANGES)
def test_damaged_line_is_accepted_skipped_or_quarantined_and_never_raised(line: bytes, changes: Any) -> None:
    for step in changes:
        line = change(line, *step)
    line = line.replace(b"\n", b"")
    content = line + b"\n"
    try:
        records = parse(content)
    except base.InputError:
        return  # a time in another unit: the file is refused whole
    assert len(records) <= 1
    for record in records:
        assert (record["record"] == "quarantine") == bool(record["reason"])
        if record["record"] == "quarantine":
            assert record["raw"].rstrip(b"\r") == line.rstrip(b"\r")
        else:
            assert re.fullmatch(r"[A-Z0-9._-]{1,40}", record["symbol"])
            assert len(record["bid_prices"]) == len(record["bid_sizes"])
            assert min([1, *record["bid_prices"], *record["ask_prices"]]) > 0
            assert min([0, *record["bid_sizes"], *record["ask_sizes"]]) == 0
            assert min(record["timestamp"], record["received"], record["sequence"]) >= -1
    assert records == parse(content, strict=True)
