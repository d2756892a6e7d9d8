"""Read Binance messages in other envelopes: cryptofeed dumps, responses to requests, T_DEPTH tables."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from binance_lines import ASKS, EMPTY, FAST_LINES, LEVELS, VENDOR, kind_of
from binance_lines import parse as parse_ways
from csv_tables import T_DEPTH, levels, parse, table
from events import START_MS, compact, depth, snapshot
from hypothesis import example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.errors import InputError
from deltabook.udfs.sources.binance import fast_scan as scan

SPOT_URL = "https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000"
USDM_URL = "https://fapi.binance.com/fapi/v1/depth?symbol=SUSHIUSDT&limit=1000"
COINM_URL = "https://dapi.binance.com/dapi/v1/depth?limit=1000&symbol=btcusd_perp"
BLOCKS = (1, 300, 1 << 20)


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("seconds", "received"),
    [
        ("1633998512.0633569", 1_633_998_512_063_356_900),
        ("1633998512.123456789", 1_633_998_512_123_456_789),
        ("1633998512.5", 1_633_998_512_500_000_000),
        ("1633998512", 1_633_998_512_000_000_000),
        ("999999999.9", 999_999_999_900_000_000),
        ("9223372035.999999999", 9_223_372_035_999_999_999),
    ],
)
def test_fast_reader_reads_receive_times_in_seconds_exactly(seconds: str, received: int) -> None:
    for name in ("spot depth", "usdm trade", "spot ticker"):
        line = f"{seconds}: {FAST_LINES[name]}"
        assert kind_of(line) > scan.BLANK
        (record,) = parse_ways(line.encode())
        assert parse_ways(line.encode(), strict=True) == [record]
        assert record["received"] == received


@pytest.mark.parametrize("seconds", ["1633998512.1234567891", "12345678901.5", "9223372036.9", "9223372036"])
def test_receive_time_that_is_slow_is_read_the_same(seconds: str) -> None:
    line = f"{seconds}: {FAST_LINES['spot depth']}"
    assert kind_of(line) == scan.SLOW
    assert parse_ways(line.encode()) == parse_ways(line.encode(), strict=True)


@cases(300)
@given(prefix=st.from_regex(r"[0-9]{8,20}(\.[0-9]{0,11})?:? ?", fullmatch=True))
def test_both_readers_read_the_same_receive_time(prefix: str) -> None:
    line = f"{prefix}{FAST_LINES['spot depth']}".encode()
    assert parse_ways(line) == parse_ways(line, strict=True)


@pytest.mark.parametrize(
    ("url", "message", "exchange", "symbol", "timestamp"),
    [
        (SPOT_URL, VENDOR, "BINANCE", "NKN-USDT", -1),
        (USDM_URL, VENDOR | {"T": START_MS, "E": 1}, "BINANCE_FUTURES", "SUSHI-USDT-PERP", START_MS * 10**6),
        (
            COINM_URL,
            VENDOR | {"T": START_MS, "symbol": "X"},
            "BINANCE_DELIVERY",
            "BTC-USD-PERP",
            START_MS * 10**6,
        ),
    ],
)
def test_answer_to_a_request_for_depth_is_the_snapshot_of_the_symbol_in_its_url(
    url: str, message: dict[str, Any], exchange: str, symbol: str, timestamp: int
) -> None:
    (record,) = parse(f"{url} -> 1633998512.32: {compact(message)}\n".encode(), source="binance")
    assert record == EMPTY | {
        "record": "book_update",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": timestamp,
        "received": 1_633_998_512_320_000_000,
        "sequence": 7,
        "is_snapshot": True,
        "bid_prices": [6_183_763_000_000, 6_183_762_000_000],
        "bid_sizes": [378_826_000, 0],
        "ask_prices": [6_183_804_000_000],
        "ask_sizes": [32_332_000],
        "source_file": "f",
        "source_row": 1,
    }


@pytest.mark.parametrize(
    "line",
    [
        "https://api.binance.com/api/v3/exchangeInfo -> 1633998512.32: {broken",
        "https://api.binance.com/api/v3/depth/more?symbol=BTCUSDT -> 1633998512.32: {}",
        f'{SPOT_URL} -> 1633998512.32: {{"code":-1121,"msg":"Invalid symbol."}}',
        "wss://stream.binance.com:9443/stream?streams=nknusdt@depth <-> 1633998511.9",
        "wss://stream.binance.com:9443/stream <- 1633998511.9: {}",
        '1633998512.5: {"stream":"nknusdt@kline_1m","data":{"e":"kline","s":"NKNUSDT","k":{"t":1}}}',
    ],
)
def test_other_lines_of_a_dump_are_skipped(line: str) -> None:
    assert parse(f"{line}\n".encode(), source="binance") == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{SPOT_URL} -> 1633998512.32: {{", "not JSON"),
        (f"{SPOT_URL} -> 1633998512.32: []", "expected a JSON object"),
        (f"{SPOT_URL} -> 1633998512.32: {{}}", "field lastUpdateId"),
        (f"{SPOT_URL} -> 1633998512.32: {compact(VENDOR | {'bids': 5})}", "field bids"),
        (f"{SPOT_URL.replace('NKNUSDT', '%3Cb%3E')} -> 1633998512.32: {compact(VENDOR)}", "is refused"),
        (f"{SPOT_URL.partition('?')[0]} -> 1633998512.32: {compact(VENDOR)}", "symbol '' is refused"),
        (f"https://[x/api/v3/depth -> 1633998512.32: {compact(VENDOR)}", "Invalid IPv6"),
        (f"99999999999.0: {depth('spot', 3, 5)}", "does not fit int64"),
    ],
)
def test_broken_answer_is_quarantined(line: str, reason: str) -> None:
    (record,) = parse(f"{line}\n".encode(), source="binance")
    assert (record["record"], record["raw"]) == ("quarantine", line.encode())
    assert reason in record["reason"]


def test_snapshot_without_a_symbol_beside_answers_belongs_to_the_depth_of_the_file() -> None:
    lines = [depth("spot", 3, 5, LEVELS, ASKS, s="NKNUSDT"), snapshot("spot", 4, LEVELS)]
    lines.append(f"{SPOT_URL} -> 1633998512.32: {compact(VENDOR)}")
    records = parse("\n".join(lines).encode(), source="binance")
    assert {(row["exchange"], row["symbol"]) for row in records} == {("BINANCE", "NKN-USDT")}


@pytest.mark.real_data
@pytest.mark.parametrize("market", ["BINANCE", "BINANCE_FUTURES"])
def test_real_dump_is_read_without_loss(real_data: Path, market: str) -> None:
    folder = real_data / "binance" / "cryptofeed"
    answers = (folder / f"{market}.http.0.0").read_bytes()
    snapshots = parse(answers, source="binance")
    assert len(snapshots) == 4 and all(row["is_snapshot"] for row in snapshots)
    stream = (folder / f"{market}.ws.1.0").read_bytes()
    records = parse_ways(stream)
    assert records == parse_ways(stream, strict=True)
    assert {row["symbol"] for row in records} == {row["symbol"] for row in snapshots}
    assert {row["exchange"] for row in records + snapshots} == {market}
    assert min(row["received"] for row in records) > 1_626_000_000_000_000_000
    assert "quarantine" not in {row["record"] for row in records}


def level(update: int, side: str, price: object, size: object, kind: str = "set", **other: object) -> str:
    """A row of T_DEPTH: update n has the ids from 10n to 10n + 5."""
    fields: dict[str, object] = {"symbol": "BTCUSDT", "timestamp": START_MS + update}
    fields |= {"first": 10 * update, "last": 10 * update + 5, "side": side, "type": kind}
    fields |= {"price": price, "qty": size, "pu": 10 * update - 5}
    return ",".join(map(str, (fields | other).values()))


@pytest.mark.kernel
@pytest.mark.parametrize("block_bytes", BLOCKS)
def test_rows_of_one_update_are_one_message_with_its_ids(block_bytes: int) -> None:
    rows = [level(1, "b", 10, 1, "snap", pu=-1), level(1, "a", 11, "0.5", "snap", pu=-1)]
    rows += [level(2, "b", 10, 0), level(2, "a", "11.5", 2), level(2, "b", "1e-9", 1), level(3, "a", 11, 1)]
    first, second, third = parse(table(T_DEPTH, *rows), block_bytes, "binance")
    assert first == EMPTY | {
        "record": "book_update",
        "exchange": "BINANCE_FUTURES",
        "symbol": "BTC-USDT-PERP",
        "timestamp": (START_MS + 1) * 10**6,
        "sequence": 15,
        "is_snapshot": True,
        "bid_prices": [10 * 10**8],
        "bid_sizes": [10**8],
        "ask_prices": [11 * 10**8],
        "ask_sizes": [5 * 10**7],
        "source_file": "f",
        "source_row": 2,
    }
    names = (
        "first_sequence",
        "sequence",
        "prev_sequence",
        "is_snapshot",
        "price_scale",
        "source_row",
        "damaged",
    )
    assert [second[name] for name in names] == [20, 25, 15, False, 9, 4, False]
    assert levels(second, "bid") == [(Decimal(10), Decimal(0)), (Decimal("1E-9"), Decimal(1))]
    assert [third[name] for name in names] == [30, 35, 25, False, 8, 7, False]


@pytest.mark.kernel
@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize(
    ("bad", "reason", "placed"),
    [
        (level(2, "b", 10, -1), "qty -1 is negative", True),
        (level(2, "b", "NaN", 1), "price 'NaN'", True),
        (level(2, "b", 0, 1), "a level has price 0", True),
        (level(2, "bid", 1, 1), "field side: expected one of b, a", True),
        (level(2, "b", 1, 1, pu="x"), "field pu: expected an integer of at least -1", True),
        (level(2, "b", 1, 1, "delete"), "field update_type: expected one of set, snap", False),
        (level(2, "b", 1, 1, first=26), "first_update_id 26 is above last_update_id '25'", False),
        (level(2, "b", 1, 1, last="x"), "field last_update_id: expected an integer of at least 0", False),
        (level(2, "b", 1, 1, symbol="a b"), "is refused", False),
        (level(2, "b", 1, 1) + ",", "expected 9 columns, found 10", False),
    ],
)
def test_broken_row_is_quarantined_and_damages_its_message(
    bad: str, reason: str, placed: bool, block_bytes: int
) -> None:
    rows = [level(1, "b", 10, 1), level(2, "b", 9, 1), bad, level(2, "a", 11, 1), level(3, "a", 11, 2)]
    records = parse(table(T_DEPTH, *rows), block_bytes, "binance")
    (quarantined,) = [row for row in records if row["record"] == "quarantine"]
    assert (quarantined["source_row"], quarantined["raw"]) == (4, bad.encode())
    assert reason in quarantined["reason"]
    updates = [row for row in records if row["record"] == "book_update"]
    found = [(row["source_row"], row["sequence"], row["damaged"], len(row["ask_prices"])) for row in updates]
    mark = [] if placed else [(4, 25, True, 0)]
    assert found == [(2, 15, False, 0), (3, 25, True, 1), *mark, (6, 35, False, 1)]


@pytest.mark.kernel
@pytest.mark.parametrize("block_bytes", BLOCKS)
def test_instrument_spelled_in_several_ways_is_one_book(block_bytes: int) -> None:
    spelled = ["BTCUSDT", '"BTCUSDT"', "btcusdt", "BTC-USDT"]
    rows = [level(1, "b", 10 + place, 1, symbol=symbol) for place, symbol in enumerate(spelled)]
    (record,) = parse(table(T_DEPTH, *rows), block_bytes, "binance")
    assert levels(record, "bid") == [(10 + place, 1) for place in range(4)]


@pytest.mark.parametrize("header", [T_DEPTH.replace("qty", "size"), T_DEPTH + ",x", "symbol,"])
def test_table_with_other_columns_is_refused(header: str) -> None:
    with pytest.raises(InputError, match=f"expected the columns {T_DEPTH}, found {header}"):
        parse(table(header), source="binance")


@pytest.mark.real_data
@pytest.mark.parametrize("block_bytes", [500, 1 << 20])
@pytest.mark.parametrize("kind", ["snap", "update"])
def test_real_table_is_read_field_by_field(real_data: Path, kind: str, block_bytes: int) -> None:
    content = (real_data / "binance" / "t_depth" / f"btcusdt-depth-{kind}.csv").read_bytes()
    rows = list(csv.DictReader(content.decode().splitlines()))
    (record,) = parse(content, block_bytes, "binance")
    for side in ("bid", "ask"):
        printed = [(Decimal(row["price"]), Decimal(row["qty"])) for row in rows if row["side"] == side[0]]
        assert levels(record, side) == printed
    assert record["is_snapshot"] == (kind == "snap")
    assert record["sequence"] == int(rows[0]["last_update_id"])
    assert record["timestamp"] == int(rows[0]["timestamp"]) * 10**6
    assert (record["prev_sequence"], record["received"]) == (int(rows[0]["pu"]), -1)


CONTENT = table(T_DEPTH, *(level(number // 2, "ab"[number % 2], number, number) for number in range(2, 20)))
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 3_000),
        st.integers(0, 12),
        st.sampled_from([b"", b",", b"\n", b'"', b"-", b"0", b"9" * 19, b"snap", b"e9", b"\xff", b"x"]),
    ),
    min_size=1,
    max_size=4,
)


@cases(300)
@given(changes=CHANGES, block_bytes=st.integers(1, 1_000))
@example(changes=[(285, 0, b","), (964, 0, b"-")], block_bytes=1)
def test_damaged_table_is_read_quarantined_or_refused_alike_at_any_size_of_blocks(
    changes: list[tuple[int, int, bytes]], block_bytes: int
) -> None:
    content, header = CONTENT, CONTENT.index(b"\n") + 1
    for place, dropped, token in changes:
        place = header + place % (len(content) - header + 1)
        content = content[:place] + token + content[place + dropped :]
    try:
        records = parse(content, source="binance")
    except InputError:
        with pytest.raises(InputError):
            parse(content, block_bytes, "binance")
        return
    assert parse(content, block_bytes, "binance") == records
    kept = sum(len(levels(row, side)) for row in records for side in ("bid", "ask"))
    told = sum(row["record"] == "quarantine" for row in records)
    assert kept + told == sum(line.removesuffix(b"\r") != b"" for line in content.split(b"\n")[1:])
