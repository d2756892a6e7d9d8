"""Rebuild instruments with numbers beyond int64: the books are right, and are stored as DECIMAL(38,18)."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from captures import depth_rows, message_of, write
from faulted import build, edited, into, lake, rows

from deltabook.schemas import tables
from deltabook.schemas.names import HOUR
from deltabook.udfs.simulator import kraken
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

EIGHT, MORE = Decimal("0.00000001"), "0000000001"
SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
PLAIN = ("sequence", "order_time", "status", "bid_levels", "ask_levels", "crossed", "trade_count", "hour")


def longer(number: str) -> str:
    """Ten digits more: 18 decimals, and no two numbers change places."""
    return number + MORE if float(number) else number


def with_more_digits(line: bytes) -> bytes:
    message = message_of(line)
    changed = {
        side: [[longer(price), longer(size)] for price, size in message[side]]
        for side in ("b", "a", "bids", "asks")
        if isinstance(message.get(side), list)
    }
    changed |= {name: longer(message[name]) for name in "pqbBaA" if isinstance(message.get(name), str)}
    return edited(line, **changed)


def across_an_hour() -> list[bytes]:
    """A capture over an hour's edge, in which a diff is lost and a later snapshot heals."""
    start = 1_723_161_255_000_000_000 // HOUR * HOUR + HOUR - 4_000_000_000
    lines = list(capture_lines(Market(9, start_time=start), 90, "BTCUSDT", snapshot_every=60))
    lost = depth_rows(lines)[35]
    return lines[:lost] + lines[lost + 1 :]


def as_decimals(found: list[dict], scale: int = 8) -> list[tuple]:
    """Rows of `books`, or those of `books_decimal` without the digits that were added, in order."""

    def number(value: int | Decimal) -> Decimal:
        return value.quantize(EIGHT) if isinstance(value, Decimal) else Decimal(value).scaleb(-scale)

    comparable = []
    for row in found:
        levels = [tuple(map(number, row[side])) for side in SIDES]
        volumes = [number(row[name]) for name in ("buy_volume", "sell_volume")]
        comparable.append((*(row[name] for name in PLAIN), *levels, *volumes))
    return sorted(comparable, key=repr)


def gaps(warehouse: Path) -> list[dict]:
    found = rows(warehouse, tables.GAPS)
    return sorted(({name: row[name] for name in row if name != "source_file"} for row in found), key=repr)


def instruments(folder: Path, text: str) -> Path:
    path = folder / "instruments.yaml"
    path.write_text(f"instruments: {text}\n")
    return path


def test_numbers_beyond_int64_give_the_same_books_in_any_file_order(deltabook, tmp_path):
    lines = across_an_hour()
    usual = build("binance", [write(tmp_path / "usual.gz", lines)], tmp_path / "usual")
    long = list(map(with_more_digits, lines))
    cut = depth_rows(long)[40]
    files = [write(tmp_path / "later.gz", long[cut:]), write(tmp_path / "earlier.gz", long[:cut])]
    for file in files:  # the later first: its hours are chained from a checkpoint, and put in order anew
        run = build("binance", [file], tmp_path / "long")
    assert run.summary["decimal_instruments"] == ["BINANCE BTC-USDT"]
    assert "DECIMAL(38,18): see tables events_decimal and books_decimal" in run.said
    assert rows(tmp_path / "long", tables.EVENTS) == rows(tmp_path / "long", tables.BOOKS) == []
    books = rows(tmp_path / "long", tables.BOOKS_DECIMAL)
    assert as_decimals(books) == as_decimals(rows(tmp_path / "usual", tables.BOOKS))
    assert all(price % EIGHT == Decimal("1e-18") for row in books for price in row["bid_prices"])
    assert gaps(tmp_path / "long") == gaps(tmp_path / "usual") != []
    assert run.summary["symbol_hours"] == usual.summary["symbol_hours"] == 2
    judged = [deltabook("validate", *into(tmp_path / name)).summary for name in ("usual", "long")]
    assert judged[0]["golden_matches"] == judged[1]["golden_matches"]
    assert all(judged[1]["golden_matches"][kind]["matched"] > 50 for kind in ("book_ticker", "vendor_book"))
    again = deltabook("run", "binance", *files, *into(tmp_path / "long"))
    assert again.summary["symbol_hours_rebuilt"] == 0


def test_views_ladder_and_raw_show_decimals_beside_scaled_integers(deltabook, tmp_path):
    one, other = (list(capture_lines(Market(3), 40, symbol)) for symbol in ("BTCUSDT", "ETHUSDT"))
    at = depth_rows(other)[-1]
    other[at] = edited(other[at], b=[["0.000000000000000003", "99999999999999999999.5"]])
    files = [write(tmp_path / "one.gz", one), write(tmp_path / "other.gz", other)]
    run = build("binance", files, tmp_path / "w")
    assert (run.exit_status, run.summary["quarantined"]) == (0, 0), run.said
    assert run.summary["decimal_instruments"] == ["BINANCE ETH-USDT"]

    def asked(what: str) -> list[dict]:
        shown = deltabook("sql", what, "--warehouse", tmp_path / "w", "--format", "json")
        return [json.loads(line) for line in shown.stdout.splitlines()]

    last = "SELECT bid_price, ask_price, spread, mid, bid_prices, status FROM book WHERE symbol = '{}' "
    (btc,), (eth,) = (
        asked(last.format(symbol) + "ORDER BY order_time DESC LIMIT 1") for symbol in ("BTC-USDT", "ETH-USDT")
    )
    # One market seen twice: only the far level is the other's own.
    for name in ("bid_price", "ask_price", "spread", "mid", "status"):
        assert btc[name] == eth[name]
    assert Decimal(eth["spread"]) == Decimal(eth["ask_price"]) - Decimal(eth["bid_price"])
    assert Decimal(eth["mid"]) * 2 == Decimal(eth["ask_price"]) + Decimal(eth["bid_price"])
    traded = "SELECT trade_id, side, price, size FROM trades WHERE symbol = '{}' ORDER BY trade_id"
    assert asked(traded.format("BTC-USDT")) == asked(traded.format("ETH-USDT")) != []
    wild = asked("SELECT max(array_max(data.bid_sizes)) AS size FROM events_decimal")
    assert wild == [{"size": "99999999999999999999.500000000000000000"}]
    ladder = deltabook("book", "ETH-USDT", *into(tmp_path / "w")).summary
    assert ladder["bids"][0][0] == eth["bid_price"]
    sequence = message_of(other[at])["u"]
    assert deltabook("raw", "ETH-USDT", sequence, "--warehouse", tmp_path / "w").stdout == other[at].decode()


def test_a_vendor_book_seeds_decimal_instruments(tmp_path):
    files = lake(tmp_path / "lake", seeded=False)
    asked = instruments(tmp_path, "{BINANCE: {BTC-USDT: {is_decimal: true}}}")
    run = build("crypto_lake", files, tmp_path / "usual", "--seed", "golden")
    assert run.exit_status == 0, run.said
    run = build("crypto_lake", files, tmp_path / "asked", "--seed", "golden", config=asked)
    assert run.exit_status == 0, run.said
    usual, decimal = rows(tmp_path / "usual", tables.BOOKS), rows(tmp_path / "asked", tables.BOOKS_DECIMAL)
    assert as_decimals(decimal) == as_decimals(usual)
    assert {row["status"] for row in decimal} == {"unseeded", "unverifiable"}


def test_checksums_cover_decimal_books(deltabook, tmp_path):
    dump = list(kraken.dump_lines(Market(5), 60, "XBT/USD", depth=100))
    asked = instruments(tmp_path, "{KRAKEN: {BTC-USD: {is_decimal: true}}}")
    run = build("kraken", [kraken.write_dump(dump, tmp_path)], tmp_path / "w", config=asked)
    assert (run.exit_status, run.summary["gaps"]) == (0, 0), run.said
    (checks,) = rows(tmp_path / "w", tables.CHECKS, "kind", "compared", "matched")
    assert checks["matched"] == checks["compared"] >= 50
    assert rows(tmp_path / "w", tables.BOOKS) == []


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("source", "venue", "matched"), [("kraken", "KRAKEN", 4269), ("okx", "OKX", 290)], ids=["kraken", "okx"]
)
def test_real_checksums_match_decimal_books(deltabook, real_data, tmp_path, source, venue, matched):
    deltabook("ingest", source, real_data / source, *into(tmp_path / "names"))
    symbols = [row["symbol"] for row in rows(tmp_path / "names", tables.INSTRUMENTS, "symbol")]
    each = ", ".join(f"{symbol}: {{is_decimal: true}}" for symbol in symbols)
    asked = instruments(tmp_path, f"{{{venue}: {{{each}}}}}")
    run = build(source, [real_data / source], tmp_path / "w", config=asked)
    assert (run.exit_status, run.summary["gaps"]) == (0, 0), run.said
    found = [row for row in rows(tmp_path / "w", tables.CHECKS) if row["kind"] == "checksum"]
    assert sum(row["matched"] for row in found) == sum(row["compared"] for row in found) == matched


def test_scales_of_a_recorded_instrument_never_change(deltabook, tmp_path):
    lines = list(capture_lines(Market(3), 20, "BTCUSDT"))
    raw = write(tmp_path / "raw.gz", lines)
    build("binance", [raw], tmp_path / "w")
    asked = instruments(tmp_path, "{BINANCE: {BTC-USDT: {is_decimal: true}}}")
    more = write(tmp_path / "more.gz", lines[:9])
    run = deltabook("ingest", "binance", more, "--config", asked, *into(tmp_path / "w"))
    assert run.exit_status == 2
    assert "scales never change: use a new --warehouse" in run.said
