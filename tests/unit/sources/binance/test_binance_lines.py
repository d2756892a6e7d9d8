"""Read Binance lines: the fast and the strict reader agree, and every field is read as printed."""

from __future__ import annotations

import gzip
import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from binance_lines import (
    ASKS,
    EMPTY,
    FAST_LINES,
    LEVELS,
    RECEIVED,
    SKIPPED_LINES,
    STRICT_LINES,
    TICKER,
    kind_of,
    parse,
    parse_both,
    parse_line,
    wrapped,
)
from events import (
    COMPILED,
    START_MS,
    captures,
    decimal_book,
    depth,
    snapshot,
    trade,
)
from naive import Trade, Update, parse_lines

from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.binance import fast_scan as scan
from deltabook.udfs.sources.binance import source as binance


@pytest.mark.kernel
@pytest.mark.parametrize("name", FAST_LINES)
@pytest.mark.parametrize("received", ["", RECEIVED + " "])
def test_both_readers_read_lines_as_binance_prints_them_the_same(name: str, received: str) -> None:
    line = received + FAST_LINES[name]
    assert kind_of(line) > scan.BLANK
    record = parse_line(line)
    assert record["record"] != "quarantine"
    assert (record["received"], record["source_file"], record["source_row"]) == (int(received or -1), "f", 1)


@pytest.mark.kernel
@pytest.mark.parametrize("name", STRICT_LINES)
def test_unusual_json_is_read_by_the_strict_reader(name: str) -> None:
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
    assert record == EMPTY | {
        "record": "book_update",
        "exchange": "BINANCE_FUTURES",
        "symbol": "BTC-USDT-PERP",
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
    assert record == EMPTY | {
        "record": "trade",
        "exchange": "BINANCE",
        "symbol": "BTC-USDT",
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
        ("spot aggTrade", "agg_trade", "", "BINANCE", "BTC-USDT"),
        ("usdm aggTrade", "agg_trade", "", "BINANCE_FUTURES", "BTC-USDT-PERP"),
        ("coinm perpetual depth", "book_update", "", "BINANCE_DELIVERY", "BTC-USD-PERP"),
        ("coinm quarter depth", "book_update", "", "BINANCE_DELIVERY", "BTC-USD-241227"),
        ("quarter of a usdt contract", "book_update", "", "BINANCE_FUTURES", "BTC-USDT-241227"),
        ("coinm trade", "trade", "", "BINANCE_DELIVERY", "BTC-USD-PERP"),
        ("lower-case symbol", "book_update", "", "BINANCE", "BTC-USDT"),
        ("spot ticker", "golden", "book_ticker", "BINANCE", "BTC-USDT"),
        ("usdm ticker", "golden", "book_ticker", "BINANCE_FUTURES", "BTC-USDT-PERP"),
        ("spot partial depth", "golden", "vendor_book", "BINANCE", "BTC-USDT"),
        ("usdm partial depth", "golden", "vendor_book", "BINANCE_FUTURES", "BTC-USDT-PERP"),
    ],
)
def test_market_and_kind_follow_from_the_fields(
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
def test_both_readers_agree_with_the_oracle() -> None:
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
        symbol=record["symbol"].replace("-", ""),
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
        symbol=record["symbol"].replace("-", ""),
        timestamp=record["timestamp"] // 1_000_000,
        position=record["source_row"] - 1,
    )


def test_snapshot_takes_the_only_symbol_with_depth_updates_in_its_file() -> None:
    lines = [snapshot("spot", 4, LEVELS, ASKS), depth("spot", 3, 5), wrapped("x", TICKER | {"s": "ETHUSDT"})]
    record = next(record for record in parse_both("\n".join(lines)) if record["is_snapshot"])
    assert record == EMPTY | {
        "record": "book_update",
        "exchange": "BINANCE",
        "symbol": "BTC-USDT",
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
        ("BINANCE_FUTURES", "BTC-USDT-PERP", (START_MS + 4) * 1_000_000),
        ("BINANCE", "ETH-USDT", -1),
    ]


@pytest.mark.parametrize(
    ("others", "found"),
    [
        ([depth("spot", 3, 5), depth("spot", 3, 5, s="ETHUSDT")], "BTC-USDT, ETH-USDT"),
        ([], "none"),
        ([trade("spot", 1)], "none"),
        ([depth("usdm", 3, 5)], "none"),
    ],
)
def test_snapshot_without_exactly_one_candidate_symbol_is_quarantined(others: list[str], found: str) -> None:
    line = snapshot("spot", 4, LEVELS)
    (record,) = [row for row in parse_both("\n".join([line, *others])) if row["record"] == "quarantine"]
    assert record["reason"].endswith(f"with the depth updates of exactly one symbol: found {found}")
    assert (record["source_row"], record["raw"]) == (1, line.encode())


def test_snapshot_without_a_symbol_and_with_a_bad_level_is_quarantined() -> None:
    lines = [snapshot("spot", 4, [("1", "-1")]), depth("spot", 3, 5)]
    assert [row["reason"] for row in parse_both("\n".join(lines))] == ["size -1 is negative", ""]


def test_more_symbols_than_the_fast_reader_counts_are_read() -> None:
    count = scan.MAX_SYMBOLS + 5 if COMPILED else 50
    content = "\n".join(wrapped("x", TICKER | {"s": f"S{number}"}) for number in range(count)).encode()
    assert [record["symbol"] for record in parse(content)] == [f"S{number}" for number in range(count)]


@pytest.mark.real_data
@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_both_readers_agree_on_every_field_of_the_real_captures(market: str) -> None:
    for path in captures(market):
        content = b"".join(gzip.decompress(path.read_bytes()).splitlines(keepends=True)[:12_000])
        fast, strict = (table_of(content, strict) for strict in (False, True))
        assert fast.num_rows == content.count(b"\n")
        assert fast.equals(strict)
        assert "quarantine" not in set(fast["record"].to_pylist())


def table_of(content: bytes, strict: bool) -> pa.Table:
    batches = binance.CaptureParser("f", strict).parse(binance.line_blocks(io.BytesIO(content)))
    return pa.Table.from_batches(batches, RECORDS.arrow).sort_by("source_row").combine_chunks()


@pytest.mark.parametrize(
    ("size", "scale", "value"),
    [("3.78826000", 8, 378_826_000), ("0.000000001234", 12, 1_234), ("100000000000", 7, 10**18)],
)
def test_number_that_8_decimals_do_not_hold_has_its_record_s_own_scale(
    size: str, scale: int, value: int
) -> None:
    update, bought = parse_both(f"{depth('spot', 3, 5, [('1.5', size)])}\n{trade('spot', 4, '1.5', size)}")
    assert (update["price_scale"], update["size_scale"], update["bid_sizes"]) == (8, scale, [value])
    assert (bought["price_scale"], bought["size_scale"], bought["size"]) == (8, scale, value)
    assert update["bid_prices"] == [bought["price"]] == [150_000_000]


def test_number_too_large_for_int64_is_stored_as_printed() -> None:
    line = depth("spot", 3, 5, [("1.5", "92233720368.54775808")])
    (record,) = parse_both(line)
    assert (record["record"], record["bid_sizes"]) == ("book_update", [])
    assert json.loads(record["wide"]) == {"bids": [["1.5", "92233720368.54775808"]], "asks": []}
