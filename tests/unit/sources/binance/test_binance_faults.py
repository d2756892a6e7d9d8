"""Bad Binance lines are quarantined and raise no error. Both readers give the same reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
from binance_lines import (
    ASKS,
    DIFF,
    EMPTY,
    FAST_LINES,
    FUTURES_TICKER,
    LEVELS,
    QUARANTINED,
    RECEIVED,
    STRICT_LINES,
    TICKER,
    VENDOR,
    parse,
    parse_both,
    parse_line,
    wrapped,
)
from events import START_MS, compact, depth, snapshot, trade
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.udfs.sources.common import file_source


@pytest.mark.kernel
@pytest.mark.parametrize("name", QUARANTINED)
def test_unreadable_line_is_quarantined_with_file_row_reason_and_bytes(name: str) -> None:
    line, reason = QUARANTINED[name]
    raw = line.encode() if isinstance(line, str) else line
    good = depth("spot", 1, 2).encode()
    records = parse_both(good + b"\n" + raw + b"\n" + depth("spot", 6, 7).encode())
    assert [record["record"] for record in records] == ["book_update", "quarantine", "book_update"]
    assert reason in records[1]["reason"]
    assert records[1] == EMPTY | {
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
def test_both_readers_read_messages_that_binance_never_sends_the_same(name: str) -> None:
    parse_both(AMBIGUOUS[name])


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


@cases(1_500)
@given(line=st.sampled_from(MUTATED), changes=CHANGES)
def test_damaged_line_is_accepted_skipped_or_quarantined_and_never_raised(line: bytes, changes: Any) -> None:
    for step in changes:
        line = change(line, *step)
    line = line.replace(b"\n", b"")
    content = line + b"\n"
    try:
        records = parse(content)
    except file_source.InputError:
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
