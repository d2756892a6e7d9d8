"""The Tardis source turns rows into messages, keeps numbers as printed, and reads every field correctly."""

from __future__ import annotations

import csv
import gzip
from decimal import Decimal
from pathlib import Path

import pytest
from csv_tables import HEAD, QUOTES, T0, TRADES, UPDATES, Record, levels, parse, short, table, update

from deltabook.schemas.errors import InputError
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.tardis.source import TardisSource, instrument

SNAPSHOT_2 = f"{HEAD},asks[0].price,asks[0].amount,bids[0].price,bids[0].amount"
SNAPSHOT_2 += ",asks[1].price,asks[1].amount,bids[1].price,bids[1].amount"
NAMES = f"binance-futures,BTCUSDT,{T0},{T0 + 5}"


def updates(*rows: str, block_bytes: int = 1 << 20) -> list[tuple[object, ...]]:
    return [
        short(record)
        for record in parse(table(UPDATES, *rows), block_bytes)
        if record["record"] == "book_update"
    ]


@pytest.mark.kernel
def test_rows_of_one_local_time_are_one_message() -> None:
    rows = [update(1, "bid", 10, 1, True), update(1, "ask", "10.5", "0.25", True)]
    rows += [update(2, "bid", 10, 0), update(2, "bid", 9, 3), update(2, "bid", 9, 4), update(3, "ask", 11, 2)]
    assert updates(*rows) == [
        (2, True, 1, False, [(10, 1)], [(10.5, 0.25)]),
        (4, False, 2, False, [(10, 0), (9, 3), (9, 4)], []),
        (7, False, 3, False, [], [(11, 2)]),
    ]


def test_run_of_snapshot_rows_is_one_snapshot_whatever_its_times() -> None:
    rows = [update(1, "bid", 1, 1), update(2, "bid", 10, 1, True), update(3, "bid", 9, 1, True)]
    rows += [update(4, "ask", 11, 1, True), update(5, "ask", 11, 2)]
    assert updates(*rows) == [
        (2, False, 1, False, [(1, 1)], []),
        (3, True, 2, False, [(10, 1), (9, 1)], [(11, 1)]),
        (6, False, 5, False, [], [(11, 2)]),
    ]


def test_snapshot_after_changes_of_the_same_time_is_a_message_of_its_own() -> None:
    rows = [update(1, "bid", 1, 1), update(1, "bid", 10, 1, True)]
    assert [row[:3] for row in updates(*rows)] == [(2, False, 1), (3, True, 1)]


def test_changes_of_a_snapshot_s_own_time_are_part_of_it() -> None:
    """They have its sequence: as a message of their own they would be put before it."""
    rows = [update(1, "bid", 10, 1, True), update(1, "bid", 10, 2), update(2, "bid", 10, 3)]
    assert updates(*rows) == [
        (2, True, 1, False, [(10, 1), (10, 2)], []),
        (4, False, 2, False, [(10, 3)], []),
    ]


def test_symbols_of_one_file_are_separate_messages() -> None:
    rows = [update(1, "bid", 10, 1), update(1, "bid", 20, 1, symbol="ETH-PERPETUAL"), update(1, "bid", 9, 1)]
    found = [(record["symbol"], record["source_row"]) for record in parse(table(UPDATES, *rows))]
    assert found == [("BTC-USD-PERP", 2), ("ETH-USD-PERP", 3), ("BTC-USD-PERP", 4)]


@pytest.mark.parametrize("block_bytes", [1, 200, 1 << 20])
def test_snapshot_interrupted_by_another_symbol_has_one_sequence(block_bytes: int) -> None:
    rows = [update(1, "bid", 10, 1, True), update(2, "bid", 20, 1, True, symbol="ETH-PERPETUAL")]
    rows += [update(3, "bid", 9, 1, True), update(4, "bid", 9, 2), update(5, "bid", 8, 2, True)]
    rows += [update(time, "bid", 20, time, symbol="ETH-PERPETUAL") for time in range(6, 40)]
    records = [row for row in parse(table(UPDATES, *rows), block_bytes) if row["symbol"] == "BTC-USD-PERP"]
    stamps = [(row["sequence"] // 1000 - T0, row["received"] // 1000 - T0) for row in records]
    assert stamps == [(1, 1), (1, 1), (4, 4), (5, 5)]


def test_sequence_never_falls_and_a_wild_time_changes_no_other() -> None:
    hour = 3_600_000_000
    times = [10, 20, 15, 30, 40 + hour, 50, 60, 70, 80, 90, 100]
    found = updates(*(update(time, "bid", 1, 1) for time in times))
    assert [row[2] for row in found] == [10, 20, 20, 30, 30, 50, 60, 70, 80, 90, 100]
    records = parse(table(UPDATES, *(update(time, "bid", 1, 1) for time in times)))
    assert [row["received"] // 1000 - T0 for row in records] == times


def test_fields_of_an_update_are_as_printed() -> None:
    (record,) = parse(table(UPDATES, update(50, "ask", "6421.5", 18640)))
    assert (record["record"], record["exchange"], record["symbol"]) == (
        "book_update", "DERIBIT", "BTC-USD-PERP",
    )  # fmt: skip
    assert (record["timestamp"], record["received"]) == ((T0 + 43) * 1000, (T0 + 50) * 1000)
    assert (record["first_sequence"], record["prev_sequence"], record["price_scale"]) == (-1, -1, 8)
    assert (record["ask_prices"], record["ask_sizes"]) == ([642_150_000_000], [1_864_000_000_000])


@pytest.mark.parametrize(
    ("price", "size", "scales"),
    [("0.0000000001", "1", (10, 8)), ("1e-7", "2E3", (8, 8)), ("1", "100000000000", (8, 7))],
)
def test_number_that_8_decimals_do_not_hold_has_a_scale_of_its_own(
    price: str, size: str, scales: tuple[int, int]
) -> None:
    rows = [update(1, "bid", price, size), update(1, "ask", 2, 1), update(2, "bid", 1, 1)]
    first, second = parse(table(UPDATES, *rows))
    assert (first["price_scale"], first["size_scale"]) == scales
    assert levels(first, "bid") == [(Decimal(price), Decimal(size))]
    assert levels(first, "ask") == [(Decimal(2), Decimal(1))]
    assert (second["price_scale"], second["size_scale"]) == (8, 8)


def test_number_too_large_for_int64_is_stored_as_printed() -> None:
    first, second = parse(table(UPDATES, update(1, "bid", 1, "92233720368.54775808"), update(2, "bid", 1, 1)))
    assert (first["wide"], first["bid_prices"]) == (
        b'{"bids": [["1", "92233720368.54775808"]], "asks": []}',
        [],
    )
    assert second["wide"] == b""


def test_same_number_printed_differently_is_the_same() -> None:
    records = parse(table(QUOTES, f"{NAMES},1,9682,9681.0,1", f"{NAMES},1.00,9682.0,9681,1.0"))
    assert records[0] | {"source_row": 3} == records[1]


def test_trade_fields_are_as_printed() -> None:
    rows = [
        f"{NAMES},42377944,buy,9682,0.132",
        f"{NAMES},ccc3c1fa-212c,sell,9682.5,2",
        f"{NAMES},,unknown,1,1",
    ]
    records = parse(table(TRADES, *rows))
    assert [(row["trade_id"], row["side"], row["price"], row["size"]) for row in records] == [
        (42377944, "buy", 968_200_000_000, 13_200_000),
        (hash_id("ccc3c1fa-212c"), "sell", 968_250_000_000, 200_000_000),
        (-1, "", 100_000_000, 100_000_000),
    ]
    assert {(row["record"], row["timestamp"], row["sequence"]) for row in records} == {
        ("trade", T0 * 1000, (T0 + 5) * 1000)
    }


@pytest.mark.parametrize("number", ["-5", "9223372036854775808", "12x", "0x1F", "1.5"])
def test_id_that_is_no_int64_is_a_text(number: str) -> None:
    (record,) = parse(table(TRADES, f"{NAMES},{number},buy,1,1"))
    assert record["trade_id"] == hash_id(number) >= 0


def test_trade_with_an_unusual_number_is_exact() -> None:
    rows = [f"{NAMES},7,sell,0.0000000001,1e-7", f"{NAMES},8,sell,1,1"]
    (first, second) = parse(table(TRADES, *rows))
    assert (first["price"], first["price_scale"], first["size"], first["size_scale"]) == (1, 10, 10, 8)
    names = ("record", "symbol", "exchange", "timestamp", "received", "sequence", "side", "source_file")
    assert {name: first[name] for name in names} == {name: second[name] for name in names}
    assert (first["trade_id"], first["source_row"]) == (7, 2)


def golden(record: Record) -> tuple[object, ...]:
    sides = [[tuple(map(float, level)) for level in levels(record, side)] for side in ("bid", "ask")]
    return (record["record"], record["kind"], record["is_snapshot"], *sides)


def test_quotes_and_snapshots_are_golden() -> None:
    (quote,) = parse(table(QUOTES, f"{NAMES},0.84,9682,9681.92,0.67"))
    (book,) = parse(table(SNAPSHOT_2, f"{NAMES},12,1,11,2,13,3,10,4"))
    assert golden(quote) == ("golden", "book_ticker", False, [(9681.92, 0.67)], [(9682, 0.84)])
    assert golden(book) == ("golden", "vendor_book", False, [(11, 2), (10, 4)], [(12, 1), (13, 3)])
    assert quote["sequence"] == quote["received"] == (T0 + 5) * 1000


def test_empty_fields_end_a_side() -> None:
    (quote,) = parse(table(QUOTES, f"{NAMES},,,9681.92,0.67"))
    rows = [f"{NAMES},12,1,11,2,,,10,4", f"{NAMES},,,11,2,,,,", f"{NAMES},,,1e-9,2,,,,"]
    books = parse(table(SNAPSHOT_2, *rows))
    assert golden(quote)[3:] == ([(9681.92, 0.67)], [])
    assert [golden(book)[3:] for book in books] == [
        ([(11, 2), (10, 4)], [(12, 1)]),
        ([(11, 2)], []),
        ([(1e-9, 2)], []),
    ]


@pytest.mark.parametrize(
    ("exchange", "symbol", "expected"),
    [
        ("binance", "BTCUSDT", ("BINANCE", "BTC-USDT")),
        ("binance", "btcusdt", ("BINANCE", "BTC-USDT")),
        ("binance-futures", "BTCUSDT", ("BINANCE_FUTURES", "BTC-USDT-PERP")),
        ("binance-futures", "BTCUSDT_241227", ("BINANCE_FUTURES", "BTC-USDT-241227")),
        ("binance-delivery", "BTCUSD_PERP", ("BINANCE_DELIVERY", "BTC-USD-PERP")),
        ("binance-delivery", "BTCUSD_241227", ("BINANCE_DELIVERY", "BTC-USD-241227")),
        ("bitmex", "XBTUSD", ("BITMEX", "BTC-USD-PERP")),
        ("bitmex", "XBTM20", ("BITMEX", "XBTM20")),
        ("bybit", "BTCUSDT", ("BYBIT", "BTC-USDT-PERP")),
        ("bybit", "BTC-26NOV21", ("BYBIT", "BTC-26NOV21")),
        ("bybit-spot", "BTCUSDT", ("BYBIT_SPOT", "BTC-USDT")),
        ("deribit", "BTC-PERPETUAL", ("DERIBIT", "BTC-USD-PERP")),
        ("okex", "BTC-USDT", ("OKX", "BTC-USDT")),
        ("okex-swap", "BTC-USDT-SWAP", ("OKX", "BTC-USDT-PERP")),
        ("okex-futures", "BTC-USD-210924", ("OKX", "BTC-USD-210924")),
        ("kraken", "XBT/USD", ("KRAKEN", "BTC-USD")),
    ],
)
def test_instrument_has_its_canonical_name(exchange: str, symbol: str, expected: tuple[str, str]) -> None:
    assert instrument(exchange, symbol) == expected


@pytest.mark.parametrize(
    "header",
    [
        "", "x", HEAD, f"{UPDATES},extra", UPDATES.replace("amount", "size"), TRADES.replace("id,", ""),
        QUOTES.replace("ask_amount,ask_price", "ask_price,ask_amount"), SNAPSHOT_2.rpartition(",")[0],
        SNAPSHOT_2.replace("asks[1]", "asks[2]"), UPDATES.upper(),
    ],
)  # fmt: skip
def test_unknown_header_is_refused_with_the_expected_columns(header: str) -> None:
    with pytest.raises(InputError, match="expected the columns of one of incremental_book_L2") as refused:
        parse(table(header, update(1, "bid", 1, 1)))
    assert UPDATES in str(refused.value)
    assert repr(header[:400]) in str(refused.value)


@pytest.mark.parametrize("header", [f'"{UPDATES.replace(",", chr(34) + "," + chr(34))}"', f"\ufeff{UPDATES}"])
def test_quotes_and_a_byte_order_mark_in_the_header_change_nothing(header: str) -> None:
    row = update(1, "bid", 1, 1)
    quoted = ",".join(f'"{field}"' for field in row.split(","))
    assert parse(table(header, quoted)) == parse(table(UPDATES, row))


def test_line_ends_and_blank_lines_change_nothing_but_row_numbers() -> None:
    rows = [update(time, "bid", 1, 1) for time in range(1, 4)]
    plain, spaced = table(UPDATES, *rows), "\r\n".join([UPDATES, rows[0], "", rows[1], rows[2]]).encode()
    found = parse(spaced)
    assert [row["source_row"] for row in found] == [2, 4, 5]
    assert [row | {"source_row": 0} for row in found] == [row | {"source_row": 0} for row in parse(plain)]


@pytest.mark.parametrize("header", [UPDATES, TRADES, QUOTES, SNAPSHOT_2])
def test_table_without_rows_has_no_records(header: str) -> None:
    assert parse(table(header)) == parse(header.encode()) == []


@pytest.mark.parametrize(("factor", "unit"), [(0.001, 10**6), (1, 1000), (1000, 1)])
def test_unit_of_time_follows_from_magnitude(factor: float, unit: int) -> None:
    time = int(T0 * factor)
    (record,) = parse(table(TRADES, f"binance,BTCUSDT,{time},{time + 1},7,buy,1,1"))
    assert (record["timestamp"], record["received"]) == (time * unit, (time + 1) * unit)


def test_table_that_mixes_units_of_time_is_refused() -> None:
    rows = [f"binance,BTCUSDT,{T0},{T0},7,buy,1,1", f"binance,BTCUSDT,{T0 * 1000},{T0 * 1000},8,buy,1,1"]
    with pytest.raises(InputError, match="mix units"):
        parse(table(TRADES, *rows))


def test_gzip_is_read_as_spark_calls_it(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(gzip.compress(table(UPDATES, update(1, "bid", 1, 1)), mtime=0))
    reader = TardisSource({"path": str(path)}).reader(None)

    def kinds() -> list[tuple[str, str]]:
        rows = [row for batch in reader.read(reader.partitions()[0]) for row in batch.to_pylist()]
        return [(row["record"], row["kind"]) for row in rows]

    assert kinds() == [("book_update", ""), ("file", "read")]
    path.write_bytes(path.read_bytes()[:-4])
    assert kinds()[-1] == ("file", "failed")


@pytest.mark.real_data
@pytest.mark.parametrize("block_bytes", [997, 1 << 20])
def test_real_rows_are_read_field_by_field(real_data: Path, block_bytes: int) -> None:
    for path in sorted((real_data / "tardis").glob("*.csv")):
        content = path.read_bytes()
        rows = list(csv.DictReader(content.decode().splitlines()))
        records = parse(content, block_bytes if len(content) < 10_000 else max(block_bytes, 40_000))
        if "incremental" in path.name:
            (record,) = records
            assert record["is_snapshot"] and record["bid_prices"] == []
            expected = [(Decimal(row["price"]), Decimal(row["amount"])) for row in rows]
            assert levels(record, "ask") == expected
            continue
        assert [record["source_row"] for record in records] == list(range(2, len(rows) + 2))
        for row, record in zip(rows, records, strict=True):
            assert record["timestamp"] == int(row["timestamp"]) * 1000
            assert record["received"] == int(row["local_timestamp"]) * 1000
            check_real(row, record)
        assert (record["exchange"], record["symbol"]) == instrument(row["exchange"], row["symbol"])
        sequences = [record["sequence"] for record in records]
        assert sequences == sorted(sequences)


def check_real(row: dict[str, str], record: Record) -> None:
    if record["record"] == "trade":
        number = int(row["id"]) if row["id"].isdigit() else hash_id(row["id"])
        assert (record["trade_id"], record["side"]) == (number, row["side"])
        assert Decimal(record["price"]).scaleb(-8) == Decimal(row["price"])
        assert Decimal(record["size"]).scaleb(-8) == Decimal(row["amount"])
        return
    for side in ("bid", "ask"):
        if record["kind"] == "book_ticker":
            names = [(f"{side}_price", f"{side}_amount")]
        else:
            depth = len(row) // 4 - 1
            names = [(f"{side}s[{level}].price", f"{side}s[{level}].amount") for level in range(depth)]
        assert levels(record, side) == [(Decimal(row[price]), Decimal(row[size])) for price, size in names]
