"""Make Binance lines of every kind, and parse them with the fast and the strict reader."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from events import START_MS, compact, depth, trade

from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.binance import fast_scan as scan
from deltabook.udfs.sources.binance import source as binance
from deltabook.udfs.sources.binance.source import BinanceSource
from deltabook.udfs.sources.common.records import EMPTY_RECORD

Records = list[dict[str, Any]]
EMPTY = {name: [] if value == () else value for name, value in EMPTY_RECORD.items()}
"""A record with every column at its sentinel, as it comes back from Arrow."""
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
    "price of 9 decimals": depth("spot", 3, 5, [["1.000000001", "1"]]),
    "size beyond int64": depth("spot", 3, 5, [["1", "92233720368.54775808"]]),
    "u as text": depth("spot", 3, 5, u="5"),
    "snapshot with its symbol": compact(VENDOR | {"symbol": "BTCUSD_PERP", "E": START_MS, "T": START_MS}),
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


QUARANTINED = {
    "not JSON": ("hello", "not JSON"),
    "cut JSON": (depth("spot", 3, 5, LEVELS)[:-3], "not JSON"),
    "not UTF-8": (b'\xff{"e":"depthUpdate"}', "not JSON"),
    "receive time alone": (RECEIVED, "object"),
    "short receive time": ("17231612 " + depth("spot", 3, 5), "not JSON"),
    "receive time beyond int64": ("9999999999999999999 " + depth("spot", 3, 5), "receive time"),
    "seconds beyond int64": ("9999999999.5: " + depth("spot", 3, 5), "receive time"),
    "JSON array": ("[1,2]", "expected a JSON object"),
    "key given twice": (compact(DIFF)[:-1] + ',"U":4}', "key 'U' is given twice"),
    "missing u": (compact({key: DIFF[key] for key in DIFF if key != "u"}), "field u"),
    "missing U": (compact({key: DIFF[key] for key in DIFF if key != "U"}), "field U"),
    "missing E": (compact({key: DIFF[key] for key in DIFF if key != "E"}), "field E"),
    "missing b": (compact({key: DIFF[key] for key in DIFF if key != "b"}), "field b"),
    "missing a": (compact({key: DIFF[key] for key in DIFF if key != "a"}), "field a"),
    "missing s": (compact({key: DIFF[key] for key in DIFF if key != "s"}), "field s"),
    "futures depth without T": (compact(DIFF | {"pu": 2}), "field T"),
    "missing trade id": (trade("spot", 4, t=None), "field t"),
    "missing trade price": (trade("spot", 4, p=None), "price 'None'"),
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
    "price of 21 digits": (depth("spot", 3, 5, [["1" * 21, "1"]]), "price 111"),
    "size of 19 decimals": (depth("spot", 3, 5, [["1", "0.0000000000000000001"]]), "more than 18 behind it"),
    "u beyond int64": (depth("spot", 3, 2**63, E=START_MS), "field u"),
    "u of 30 digits": (depth("spot", 3, 10**30, E=START_MS), "field u"),
    "u of 5000 digits": (depth("spot", 3, 5).replace('"u":5', '"u":' + "9" * 5_000), "not JSON"),
    "negative u": (depth("spot", -3, -2, E=START_MS), "field u"),
    "u as true": (depth("spot", 3, 5, u=True), "field u"),
    "u with a fraction": (depth("spot", 3, 5).replace('"u":5', '"u":5.0'), "field u"),
    "price is a list": (depth("spot", 3, 5, [[["1"], "1"]]), "is not a number"),  # type: ignore[list-item]
    "trade price is an object": (trade("spot", 4, p={}), "is not a number"),
    "levels are no list": (depth("spot", 3, 5, b="x"), "field b"),
    "level of one value": (depth("spot", 3, 5, [["1"]]), "expected a level"),  # type: ignore[list-item]
    "level is no list": (depth("spot", 3, 5, ["1"]), "expected a level"),  # type: ignore[list-item]
    "ticker price null": (wrapped("x", TICKER | {"b": None}), "price 'None'"),
    "snapshot's symbol": (compact(VENDOR | {"symbol": "A/B"}), "is refused"),
}


def parse(content: bytes, strict: bool = False, path: str = "f") -> Records:
    """All records by row; `strict` sends every line the strict way."""
    batches = list(binance.CaptureParser(path, strict).parse(binance.line_blocks(io.BytesIO(content))))
    return sorted(
        pa.Table.from_batches(batches, RECORDS.arrow).to_pylist(), key=lambda row: row["source_row"]
    )


def parse_line(line: str | bytes) -> dict[str, Any]:
    (record,) = parse_both(line)
    return record


def parse_both(line: str | bytes) -> Records:
    """The records of lines; both ways have to give the same."""
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
