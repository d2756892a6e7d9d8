"""A message with a repeated key is quarantined, in every dialect, at every place and by both readers."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import pytest
from binance_lines import FAST_LINES, kind_of, parse_both
from hypothesis import given
from hypothesis import strategies as st
from properties import cases
from test_every_source import BYBIT, OKX

from deltabook.udfs.simulator import kraken
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.sources.binance import fast_scan as scan
from deltabook.udfs.sources.common.json_decoding import decode_message
from deltabook.udfs.sources.registry import SOURCES

OKX_V3 = (
    b'{"table":"spot/depth_l2_tbt","action":"partial","data":[{"instrument_id":"BTC-USDT","asks":[["2","1","0","1"]],'
    b'"bids":[["1","1","0","1"]],"timestamp":"2021-07-22T23:16:39.168Z","checksum":0}]}'
)
OKX_TRADES = (
    b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1","px":"1","sz":"2",'
    b'"side":"buy","ts":"1723161255208"},{"instId":"BTC-USDT","tradeId":"2","px":"1","sz":"2","side":"sell",'
    b'"ts":"1723161255209"}]}'
)
BYBIT_TRADES = (
    b'{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1723161255208,"data":[{"T":1723161255208,"s":"BTCUSDT",'
    b'"S":"Buy","v":"1","p":"2","i":"5","BT":false}]}'
)
LINES: dict[str, list[bytes]] = {
    "binance": [line.encode() for line in FAST_LINES.values()],
    "okx": [*(line.strip() for line in OKX), OKX_V3, OKX_TRADES],
    "bybit": [*(line.strip() for line in BYBIT), BYBIT_TRADES],
    "kraken": [
        line.strip().split(b": ", 1)[1]
        for line in list(kraken.dump_lines(Market(5), 20, "XBT/USD"))
        if b'"book-' in line
    ],
}


@dataclass(frozen=True)
class Member:
    """A member of an object, met while JSON is printed anew."""

    key: str
    value: Any


def members_of(value: Any) -> list[Member]:
    """All members of all objects of a message, in the order in which `Printer` numbers them."""
    if isinstance(value, dict):
        own = [Member(key, item) for key, item in value.items()]
        return own + [inner for item in value.values() for inner in members_of(item)]
    if isinstance(value, list):
        return [inner for item in value for inner in members_of(item)]
    return []


class Printer:
    """Prints a message, the member of one number twice: the second time with another value and spelling."""

    def __init__(self, number: int, twin: str, escaped: bool, apart: bool, colon: str):
        self.number, self.twin, self.escaped, self.apart, self.colon = number, twin, escaped, apart, colon
        self.met = 0

    def text(self, value: Any) -> str:
        if isinstance(value, list):
            return "[" + ",".join(map(self.text, value)) + "]"
        if not isinstance(value, dict):
            return json.dumps(value)
        numbers = range(self.met, self.met + len(value))
        self.met += len(value)
        printed, repeated = [], ""
        for number, (key, item) in zip(numbers, value.items(), strict=True):
            printed.append(f"{json.dumps(key)}{self.colon}{self.text(item)}")
            if number == self.number:
                spelled = f'"\\u{ord(key[0]):04x}{key[1:]}"' if self.escaped else json.dumps(key)
                repeated = f"{spelled}{self.colon}{self.twin}"
                place = len(printed) - 1
        if repeated:
            printed.insert(len(printed) if self.apart else place, repeated)
        return "{" + ",".join(printed) + "}"


@st.composite
def repeated(draw: st.DrawFn) -> tuple[str, str, str]:
    """A dialect, one of its messages with a key given twice, and that key."""
    source = draw(st.sampled_from(sorted(LINES)))
    message = json.loads(draw(st.sampled_from(LINES[source])))
    members = members_of(message)
    number = draw(st.integers(0, len(members) - 1))
    same = json.dumps(members[number].value)
    twin = draw(st.sampled_from([same, "1", '"1"', "null", "[]", "{}", '"a:b"', '[["1","2"]]']))
    printer = Printer(
        number, twin, draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from([":", ": "]))
    )
    return source, printer.text(message), members[number].key


def records_of(source: str, line: str) -> list[dict[str, Any]]:
    if source == "binance":
        return parse_both(line)
    batches = SOURCES[source]({}).parse(io.BytesIO(line.encode()), "f")
    return [row for batch in batches for row in batch.to_pylist()]


@cases(400)
@given(repeated())
def test_message_with_a_key_given_twice_is_quarantined(case: tuple[str, str, str]) -> None:
    source, line, key = case
    (record,) = records_of(source, line)
    assert record["record"] == "quarantine"
    assert record["reason"] == f"key {key!r} is given twice in one object"
    assert record["raw"] == line.encode()


@pytest.mark.parametrize("source", sorted(LINES))
def test_message_without_a_repeated_key_is_read(source: str) -> None:
    for line in LINES[source]:
        assert "quarantine" not in {row["record"] for row in records_of(source, line.decode())}


@pytest.mark.kernel
def test_fast_reader_leaves_every_repeated_key_to_the_strict_reader() -> None:
    usual = FAST_LINES["spot depth, bare"][:-1]
    assert kind_of(usual + "}") == scan.DEPTH
    for known in ("u", "e", "b"):
        assert kind_of(f'{usual},"{known}":1}}') == scan.SLOW
    for unknown in ("x", "zz", "nq", "asset", ""):
        assert kind_of(f'{usual},"{unknown}":1}}') == scan.DEPTH
        assert kind_of(f'{usual},"{unknown}":1,"other":2,"{unknown}":1}}') == scan.SLOW


@pytest.mark.kernel
def test_distinct_unknown_keys_stay_with_the_fast_reader_up_to_its_limit() -> None:
    def with_unknown(count: int) -> str:
        more = ",".join(f'"key{number}":{number}' for number in range(count))
        return f"{FAST_LINES['spot depth, bare'][:-1]},{more}}}"

    assert kind_of(with_unknown(25)) == scan.DEPTH
    assert kind_of(with_unknown(26)) == scan.SLOW
    (record,) = parse_both(with_unknown(26))
    assert record["record"] == "book_update"


def test_response_with_two_symbols_in_its_url_is_quarantined() -> None:
    url = "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&symbol=ETHUSDT"
    (record,) = parse_both(f'{url} -> 1723161253.9: {{"lastUpdateId":5,"bids":[],"asks":[]}}')
    assert record["record"] == "quarantine"
    assert "several symbols" in record["reason"]


def test_repeated_name_of_an_instrument_damages_every_book_of_an_okx_file() -> None:
    other = OKX[0].replace(b"BTC-USDT", b"ETH-USDT")
    bad = OKX[1].replace(b'"instId":"BTC-USDT"', b'"instId":"ETH-USDT","instId":"BTC-USDT"')
    batches = SOURCES["okx"]({}).parse(io.BytesIO(OKX[0] + other + bad), "f")
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert {row["symbol"] for row in rows if row["damaged"]} == {"BTC-USDT", "ETH-USDT"}


def test_colons_and_escapes_in_texts_do_not_hide_a_repeated_key() -> None:
    for payload in (
        b'{"a":"\\u003a","b":1,"b":2}',
        b'{"a":"x","b":[["c:d"]],"a":"y"}',
        b'{"a:b":1,"a:b":2}',
        b'[0,[{"a":1,"a":2}]]',
        b'[[{"a":1,"a":2}]]',
    ):
        with pytest.raises(ValueError, match="given twice"):
            decode_message(payload)
    for payload in (
        b'{"a":"1:2","b":[["c:d"]]}',
        b'{"a":{"a":1},"b":"\\u003a"}',
        b'[[{"a":1},{"a":2}]]',
        b'{"u":-1e5}',
    ):
        assert decode_message(payload) == json.loads(payload)
