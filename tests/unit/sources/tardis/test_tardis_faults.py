"""Bad rows of Tardis tables are quarantined and make their book suspect, whatever the size of blocks."""

from __future__ import annotations

import csv
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from csv_tables import HEAD, QUOTES, T0, TRADES, UPDATES, Record, levels, parse, short, table, update
from hypothesis import example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.errors import InputError
from deltabook.udfs.sources.csv import columns, tables

SNAPSHOT_1 = f"{HEAD},asks[0].price,asks[0].amount,bids[0].price,bids[0].amount"
SNAPSHOT_2 = f"{SNAPSHOT_1},asks[1].price,asks[1].amount,bids[1].price,bids[1].amount"
NAMES = f"binance-futures,BTCUSDT,{T0},{T0 + 5}"
BAD_LEVELS = {
    "negative size": (update(2, "bid", 9, -1), "amount -1 is negative"),
    "negative price": (update(2, "bid", -9, 1), "price -9 is negative"),
    "price 0": (update(2, "bid", "0.0", 1), "field price: a level has price 0"),
    "NaN size": (update(2, "bid", 9, "NaN"), "amount 'NaN' is not a plain finite number"),
    "infinite price": (update(2, "bid", "Infinity", 1), "price 'Infinity' is not a plain finite number"),
    "empty price": (update(2, "bid", "", 1), "price '' is not a plain finite number"),
    "price of 21 digits": (update(2, "bid", "1" * 21, 1), "more than 20 digits"),
    "size of 19 decimals": (update(2, "bid", 1, "0." + "0" * 18 + "1"), "more than 18 behind it"),
    "unknown side": (update(2, "buy", 9, 1), "field side: expected one of bid, ask, found 'buy'"),
    "timestamp no number": (update(2, "bid", 9, 1, timestamp="x"), "field timestamp: expected an integer"),
    "negative timestamp": (
        update(2, "bid", 9, 1, timestamp=-5),
        "field timestamp: expected an integer of at least 0",
    ),
}
UNPLACED = {
    "local time no number": (update(2, "bid", 9, 1, local_timestamp="x"), "field local_timestamp"),
    "local time 0": (update(2, "bid", 9, 1, local_timestamp=0), "field local_timestamp: expected an integer"),
    "local time beyond int64": (update(2, "bid", 9, 1, local_timestamp=2**63), "field local_timestamp"),
    "local time with a fraction": (
        update(2, "bid", 9, 1, local_timestamp=f"{T0}.5"),
        "field local_timestamp",
    ),
    "is_snapshot is no flag": (
        update(2, "bid", 9, 1, is_snapshot="True"),
        "field is_snapshot: expected one of",
    ),
    "too few columns": (update(2, "bid", 9, 1).rpartition(",")[0], "expected 8 columns, found 7"),
    "too many columns": (update(2, "bid", 9, 1) + ",", "expected 8 columns, found 9"),
    "one word": ("x", "expected 8 columns, found 1"),
    "refused symbol": (update(2, "bid", 9, 1, symbol="<b>"), "symbol '<B>' is refused"),
    "symbol too long": (update(2, "bid", 9, 1, symbol="X" * 41), "is refused"),
    "empty exchange": (update(2, "bid", 9, 1, exchange=""), "exchange '' is refused"),
    "exchange with a quote": (update(2, "bid", 9, 1, exchange="a' or '1'='1"), "is refused"),
}
BLOCKS = (1, 200, 1 << 20)
TAIL = [update(time, "ask", 12, time) for time in range(3, 40)]


def quarantined(records: list[Record]) -> list[tuple[int, bytes]]:
    return [(row["source_row"], row["raw"]) for row in records if row["record"] == "quarantine"]


@pytest.mark.kernel
@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize("name", BAD_LEVELS)
def test_bad_row_is_quarantined_and_its_message_is_damaged(name: str, block_bytes: int) -> None:
    bad, reason = BAD_LEVELS[name]
    rows = [update(1, "bid", 10, 1, True), update(2, "bid", 8, 1), bad, update(2, "ask", 11, 1), *TAIL]
    records = parse(table(UPDATES, *rows), block_bytes)
    assert quarantined(records) == [(4, bad.encode())]
    assert reason in next(row["reason"] for row in records if row["record"] == "quarantine")
    found = [short(row) for row in records if row["record"] == "book_update"]
    assert found[:2] == [(2, True, 1, False, [(10, 1)], []), (3, False, 2, True, [(8, 1)], [(11, 1)])]
    assert len(found) == 2 + len(TAIL) and not any(damaged for *_, damaged, _, _ in found[2:])


@pytest.mark.parametrize("name", BAD_LEVELS)
def test_message_of_a_bad_row_alone_is_an_empty_damaged_update(name: str) -> None:
    bad, _ = BAD_LEVELS[name]
    rows = [update(1, "bid", 10, 1), bad, update(3, "bid", 8, 1)]
    found = [short(row) for row in parse(table(UPDATES, *rows)) if row["record"] == "book_update"]
    assert found[1] == (3, False, 2, True, [], [])
    assert [row[3] for row in found] == [False, True, False]


@pytest.mark.kernel
@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize("name", UNPLACED)
def test_bad_row_of_no_message_damages_its_book_there(name: str, block_bytes: int) -> None:
    bad, reason = UNPLACED[name]
    rows = [update(1, "bid", 10, 1, True), update(2, "bid", 8, 1), bad, bad, *TAIL]
    records = parse(table(UPDATES, *rows), block_bytes)
    assert quarantined(records) == [(4, bad.encode()), (5, bad.encode())]
    assert reason in next(row["reason"] for row in records if row["record"] == "quarantine")
    found = [short(row) for row in records if row["record"] == "book_update"]
    assert found[:4] == [
        (2, True, 1, False, [(10, 1)], []),
        (3, False, 2, True, [(8, 1)], []),
        (4, False, 2, True, [], []),
        (6, False, 3, False, [], [(12, 3)]),
    ]


@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize("name", UNPLACED)
def test_bad_row_before_the_first_message_damages_the_next(name: str, block_bytes: int) -> None:
    records = parse(table(UPDATES, UNPLACED[name][0], *TAIL), block_bytes)
    found = [row["damaged"] for row in records if row["record"] == "book_update"]
    assert found == [True] + [False] * (len(TAIL) - 1)


@pytest.mark.parametrize("block_bytes", BLOCKS)
def test_bad_row_damages_the_book_it_names_or_else_all(block_bytes: int) -> None:
    others = [update(time, "ask", 12, time, symbol="ETH-PERPETUAL") for time in range(3, 40)]
    rows = [update(1, "bid", 10, 1), *others]
    for bad, names in (
        (update(50, "bid", 1, 1, is_snapshot="?"), {"BTC-USD-PERP"}),
        (update(50, "bid", 1, 1).rpartition(",")[0], {"BTC-USD-PERP"}),
        (update(50, "bid", 1, 1, symbol="BTC-PERP").rpartition(",")[0], {"BTC-USD-PERP", "ETH-USD-PERP"}),
        ("deribit", {"BTC-USD-PERP", "ETH-USD-PERP"}),
    ):
        records = parse(table(UPDATES, *rows, bad, *TAIL[20:]), block_bytes)
        marks = [row for row in records if row["source_row"] == 40 and row["record"] == "book_update"]
        assert {row["symbol"] for row in marks} == names
        assert all(row["damaged"] and not row["is_snapshot"] for row in marks)


BAD_ROWS = [
    (TRADES, f"{NAMES},1,buy,NaN,1", "price 'NaN'"),
    (TRADES, f"{NAMES},1,buy,1,-1", "amount -1 is negative"),
    (TRADES, f"{NAMES},1,bid,1,1", "field side: expected one of unknown, buy, sell, found 'bid'"),
    (TRADES, f"{NAMES},1,buy,1", "expected 8 columns, found 7"),
    (TRADES, f"binance,,{T0},{T0},1,buy,1,1", "symbol '' is refused"),
    (TRADES, f"binance,BTCUSDT,{T0},-1,1,buy,1,1", "field local_timestamp"),
    (QUOTES, f"{NAMES},1,-9682,9681,1", "ask_price -9682 is negative"),
    (QUOTES, f"{NAMES},1,0,9681,1", "a level has price 0"),
    (QUOTES, f"{NAMES},,9682,9681,1", "only a price or only an amount"),
    (QUOTES, f"{NAMES},1,,9681,1", "only a price or only an amount"),
    (SNAPSHOT_2, f"{NAMES},,,11,2,13,3,10,4", "follows an empty level"),
    (SNAPSHOT_2, f"{NAMES},12,1,11,2,13,3,10,inf", "bids[1].amount 'inf'"),
    (SNAPSHOT_2, f"{NAMES},12,1,11,2", "expected 12 columns, found 8"),
]


@pytest.mark.kernel
@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize(("header", "bad", "reason"), BAD_ROWS)
def test_bad_row_of_a_table_of_rows_is_quarantined(
    header: str, bad: str, reason: str, block_bytes: int
) -> None:
    good = {TRADES: f"{NAMES},1,buy,1,1", QUOTES: f"{NAMES},1,2,1,1", SNAPSHOT_2: f"{NAMES},2,1,1,1,,,,"}
    records = parse(table(header, good[header], bad, good[header]), block_bytes)
    assert [row["record"] == "quarantine" for row in records] == [False, True, False]
    assert (records[1]["raw"], records[1]["source_row"]) == (bad.encode(), 3)
    assert reason in records[1]["reason"]


def test_many_labels_and_many_lines_give_the_same_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [update(time, "bid", 1, 1, symbol=f"S{time % 5}", is_snapshot=str(time)) for time in range(30)]
    content = table(UPDATES, *rows, *TAIL, "", *TAIL)
    expected = parse(content)
    monkeypatch.setattr(columns, "MAX_LABELS", 2)
    monkeypatch.setattr(tables, "MAX_FIELDS", 24)
    assert parse(content) == expected


def test_message_longer_than_the_cap_refuses_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 10_000)
    rows = [update(1, "bid", price, 1, True) for price in range(1, 500)]
    with pytest.raises(InputError, match="a message is longer than"):
        parse(table(UPDATES, *rows), 100)


def naive(rows: list[str]) -> list[tuple[Any, ...]]:
    """Messages of good rows of one symbol, a row at a time: first row, snapshot, time, levels."""
    messages: list[list[Any]] = []
    last: dict[str, str] = {}
    for number, row in enumerate(csv.DictReader([UPDATES, *rows]), 2):
        same_time = bool(last) and row["local_timestamp"] == last["local_timestamp"]
        both = bool(last) and row["is_snapshot"] == last["is_snapshot"] == "true"
        cleared = bool(last) and last["is_snapshot"] == "false" and row["is_snapshot"] == "true"
        if not last or cleared or not (same_time or both):
            messages.append([number, row["is_snapshot"] == "true", int(row["local_timestamp"]), [], []])
        level = (Decimal(row["price"]), Decimal(row["amount"]))
        messages[-1][3 if row["side"] == "bid" else 4].append(level)
        last = row
    return [tuple(message) for message in messages]


PRICES = st.sampled_from(["10", "9.5", "0.00000001", "1e-9", "123456789012", "10.0"])
SIZES = st.sampled_from(["0", "1", "0.25", "3e-7", "99999999999.123"])
STEPS = st.tuples(st.integers(0, 2), st.sampled_from(["bid", "ask"]), PRICES, SIZES, st.booleans())


@cases(200)
@given(steps=st.lists(STEPS, max_size=40), block_bytes=st.integers(1, 3_000))
def test_messages_are_those_of_a_row_by_row_reader_at_any_size_of_blocks(
    steps: list[Any], block_bytes: int
) -> None:
    time, rows = 1, []
    for step, *level, snapshot in steps:
        time += step
        rows.append(update(time, *level, snapshot))
    records = parse(table(UPDATES, *rows), block_bytes)
    found = [
        (
            row["source_row"],
            row["is_snapshot"],
            row["received"] // 1000,
            levels(row, "bid"),
            levels(row, "ask"),
        )
        for row in records
    ]
    assert found == naive(rows)
    assert not any(row["damaged"] for row in records)


LINES = [
    table(UPDATES, *(update(time // 2, "bid", 10, time, time < 6) for time in range(2, 40))),
    table(UPDATES, *(update(time, "bid", 1, 1, symbol=f"S{time % 2}") for time in range(1, 25))),
    table(TRADES, f"{NAMES},1,buy,1,1", f"{NAMES},x,sell,1e-9,2", f"{NAMES},3,unknown,5,2"),
    table(QUOTES, f"{NAMES},1,2,1,1", f"{NAMES},,,1,1"),
    table(SNAPSHOT_2, f"{NAMES},2,1,1,1,,,,", f"{NAMES},2,1,1,1,3,1,0.5,1"),
]
TOKENS = [
    b",",
    b"\n",
    b"\r",
    b'"',
    b"-",
    b"0",
    b"9" * 20,
    b".",
    b"e9",
    b"NaN",
    b"true",
    b"x",
    b"\x00",
    b"\xff",
]
TOKENS += [b"\xd9\xa3", b" ", b",,", b"1585699200000000", b"bid", b"<b>"]
CHANGES = st.lists(
    st.tuples(st.integers(0, 3_000), st.integers(0, 12), st.sampled_from([b"", *TOKENS])),
    min_size=1,
    max_size=5,
)


@cases(400)
@given(content=st.sampled_from(LINES), changes=CHANGES, block_bytes=st.integers(1, 1_500))
@example(content=LINES[1], changes=[(0, 1, b""), (235, 0, b",")], block_bytes=1)
def test_damaged_table_is_read_quarantined_or_refused_alike_at_any_size_of_blocks(
    content: bytes, changes: list[tuple[int, int, bytes]], block_bytes: int
) -> None:
    header = content.index(b"\n") + 1
    for place, dropped, token in changes:
        place = header + place % (len(content) - header + 1)
        content = content[:place] + token + content[place + dropped :]
    try:
        records = parse(content)
    except InputError:
        with pytest.raises(InputError):
            parse(content, block_bytes)
        return
    assert parse(content, block_bytes) == records
    lines = content.split(b"\n")[1:]
    told = {row["source_row"]: row["raw"] for row in records if row["record"] == "quarantine"}
    assert all(raw == lines[row - 2].removesuffix(b"\r") for row, raw in told.items())
    if content.startswith(UPDATES.encode()):
        kept = sum(len(levels(row, "bid")) + len(levels(row, "ask")) for row in records)
    else:
        kept = sum(row["record"] in ("trade", "golden") for row in records)
    assert kept + len(told) == sum(line.removesuffix(b"\r") != b"" for line in lines)


@cases(200)
@given(content=st.binary(max_size=80), header=st.sampled_from(["", UPDATES, TRADES, QUOTES, SNAPSHOT_1]))
def test_any_bytes_are_quarantined_or_refused(content: bytes, header: str) -> None:
    try:
        records = parse(table(header) + content)
    except InputError:
        return
    assert {row["record"] for row in records} <= {"quarantine"}


@cases(300)
@given(
    text=st.one_of(st.from_regex(r"-?[0-9]{0,22}(\.[0-9]{0,20})?(e-?[0-9]{1,2})?", fullmatch=True), st.text())
)
def test_number_is_exact_or_quarantined(text: str) -> None:
    if set(text) & set(',\r\n"'):
        return
    (record,) = parse(table(TRADES, f"{NAMES},1,buy,{text},1"))
    if record["record"] == "quarantine":
        return
    try:
        expected = Decimal(text)
    except InvalidOperation:  # pragma: no cover
        pytest.fail(f"{text!r} is no number")
    price = Decimal(record["price"]).scaleb(-record["price_scale"])
    assert price == expected or (record["wide"] and text.encode() in record["wide"])
