"""Simulated files look like each venue's files: same fields, order, types, digits and prefixes."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from deltabook.udfs.simulator import crypto_lake, kraken, tardis
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

SHORTEST = r"(0|[1-9]\d*)(\.\d*[1-9])?"
"""A number without trailing zeros, bare point or exponent."""


def form(value: object) -> object:
    """Names and order of fields, types, decimals of numbers as text; other text stands for itself."""
    if isinstance(value, dict):
        return tuple((name, form(field)) for name, field in value.items())
    if isinstance(value, list):
        items = [form(field) for field in value]
        # Of a run of levels or trades each form counts once.
        return tuple(dict.fromkeys(items) if all(isinstance(field, list) for field in value) else items)
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
        return "decimals", len(value.partition(".")[2])
    return value if isinstance(value, str) else type(value).__name__


# Binance


def binance_forms(lines: Iterable[bytes]) -> dict[str, set]:
    forms: dict[str, set] = {}
    for line in lines:
        received, text = re.fullmatch(rb"(\d{19}) (\{.*\})\n", line).groups()
        message = json.loads(text)
        data = message.get("data", message)
        kind = "rest"
        if "stream" in message:
            assert list(message) == ["stream", "data"]
            symbol, kind = message["stream"].split("@", 1)
            assert symbol == data["s"].lower()
            kind = re.sub(r"@\d+ms$", "", kind)
        assert all(len(str(data[name])) == 13 for name in ("E", "T") if name in data)
        assert int(received) > 0
        if data.get("b") != [] and data.get("a") != []:
            forms.setdefault(kind, set()).add(form(data))
    return forms


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("market_type", "file", "parameters"),
    [
        ("spot", "spot/btcusdt_20240808.gz", {}),
        ("usdm", "usdm/btcusdt_20240718.gz", {"price_scale": 2, "size_scale": 3, "smallest_order": 1}),
    ],
)
def test_binance_messages_have_the_form_of_real_ones(real_data, market_type, file, parameters):
    with gzip.open(real_data / "binance" / file) as lines:
        real = binance_forms(islice(lines, 6_000))
    lines = capture_lines(
        Market(1, **parameters), 60, "BTCUSDT", market_type=market_type, partial_depth=False
    )
    assert binance_forms(lines) == real


# Kraken


def kraken_forms(lines: Iterable[str], pair: str) -> set:
    """Prefix kind and form of each line that is of a pair, or of none."""
    forms = set()
    for line in lines:
        line = re.sub(r'"pair":\[[^]]*\]', f'"pair":["{pair}"]', line.rstrip("\n"))
        prefix, _, text = re.fullmatch(
            r"(wss://ws.kraken.com <->? \d+\.\d{1,7}|\d+\.\d{1,7}|)(: )?(.*)", line
        ).groups()
        kind = re.sub(r"\d+\.\d{1,7}$", "time", prefix)
        assert not prefix or re.search(r"\b\d{10}\.\d{1,7}$", prefix)
        message = json.loads(text) if text else None
        if not isinstance(message, list):
            if not text or '"pair"' not in text or f'"{pair}"' in text:
                forms.add((kind, form(message)))
        elif message[-1] == pair and message[-2] == "trade":
            forms |= {(kind, "trade", form(trade)) for trade in message[1]}
            forms.add((kind, form([message[0], *message[2:]])))
        elif message[-1] == pair:
            forms.add((kind, form(message)))
    return forms


@pytest.mark.real_data
def test_kraken_lines_have_the_form_of_real_ones(real_data):
    for file, channel in (("KRAKEN.ws.50.0", "book"), ("KRAKEN.ws.48.0", "trade")):
        real = kraken_forms((real_data / "kraken" / file).read_text().splitlines(), "SC/EUR")
        ours = set()
        # In a shallow book some messages have one side alone.
        for depth in (10, 1000):
            lines = kraken.dump_lines(
                Market(1, price_scale=6, intensity=20), 150, "SC/EUR", depth=depth, channels=(channel,)
            )
            # None of the real messages has a republished level.
            plain = [line.decode() for line in lines if b'"r"]' not in line]
            ours |= kraken_forms(
                (re.sub(r'(book-|"depth":)10\b', r"\g<1>1000", line) for line in plain), "SC/EUR"
            )
        assert ours == real


def test_a_republished_level_has_a_fourth_field_and_its_own_older_time():
    text = b"".join(kraken.dump_lines(Market(1), 50, "XBT/USD", depth=100)).decode()
    marked = re.findall(r'\["\d+\.\d{5}","\d+\.\d{8}","(\d{10}\.\d{6})","r"\]', text)
    assert marked and len(marked) == text.count('"r"')
    plain = re.findall(r'"(\d{10}\.\d{6})"\]', text)
    assert min(marked) < max(plain)


# Tardis

COLUMNS = {
    "exchange": r"[a-z]+(-[a-z]+)?",
    "symbol": r"[A-Z-]+",
    "timestamp": r"\d{13}000",
    "local_timestamp": r"\d{16}",
    "is_snapshot": r"true|false",
    "side": r"ask|bid|buy|sell",
    "id": r"\d+",
}
REAL_FILES = {
    "incremental_book_L2": "deribit_incremental_book_L2_BTC-PERPETUAL.csv",
    "trades": "tardis_trades.csv",
    "book_snapshot_25": "binance-futures_book_snapshot_25_BTCUSDT.csv",
    "quotes": "tardis_quotes.csv",
}


@pytest.mark.real_data
def test_tardis_tables_have_the_form_of_real_ones(real_data):
    simulated = tardis.csv_lines(Market(1, size_scale=3), 30, "binance-futures", "BTCUSDT")
    assert simulated.keys() == REAL_FILES.keys()
    for table, lines in simulated.items():
        real = (real_data / "tardis" / REAL_FILES[table]).read_bytes().decode().splitlines(keepends=True)
        ours = list(lines)
        assert ours[0] == real[0]
        for text in (real, ours):
            assert all(line.endswith("\n") and "\r" not in line for line in text)
            for row in csv.DictReader(text):
                for name, value in row.items():
                    assert re.fullmatch(COLUMNS.get(name, SHORTEST), value), (table, name, value)


def test_tardis_book_begins_with_its_snapshot_asks_from_the_best_up():
    rows = list(csv.DictReader(tardis.csv_lines(Market(1), 3, "binance", "X")["incremental_book_L2"]))
    flags = [row["is_snapshot"] for row in rows]
    count = flags.count("true")
    assert flags == ["true"] * count + ["false"] * (len(rows) - count)
    assert len({row["local_timestamp"] for row in rows[:count]}) == 1
    assert len({row["local_timestamp"] for row in rows}) == 4
    asks = [float(row["price"]) for row in rows[:count] if row["side"] == "ask"]
    assert asks == sorted(asks)
    assert any(row["amount"] == "0" for row in rows[count:])


def test_tardis_files_are_a_day_each_with_a_header(tmp_path):
    day = 86_400_000_000_000
    market = Market(1, start_time=1_723_161_255_000_000_000 // day * day + day - 1_000_000_000)
    lines = tardis.csv_lines(market, 30, "binance", "BTCUSDT")["trades"]
    paths = tardis.write_csv(lines, tmp_path, "trades", "binance", "BTCUSDT")
    assert [path.name for path in paths] == [
        f"binance_trades_2024-08-{day}_BTCUSDT.csv.gz" for day in ("08", "09")
    ]
    for path in paths:
        header, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
        assert header == tardis.HEADERS["trades"] and rows


# Crypto Lake: no file of it is at hand, so the columns and types are those that the vendor documents.

NS = pa.timestamp("ns")
LAKE_TYPES = {
    "book_delta_v2": {
        "received_time": NS, "origin_time": NS, "sequence_number": pa.int64(), "side_is_bid": pa.bool_(),
        "price": pa.float64(), "size": pa.float64(), "exchange": pa.string(), "symbol": pa.string(),
    },
    "trades": {
        "side": pa.string(), "quantity": pa.float64(), "price": pa.float64(), "trade_id": pa.int64(),
        "origin_time": NS, "received_time": NS, "exchange": pa.string(), "symbol": pa.string(),
    },
    "book": {
        "received_time": NS, "origin_time": NS, "sequence_number": pa.int64(),
        **{f"{side}_{n}_{what}": pa.float64()
           for side in ("bid", "ask") for n in range(20) for what in ("price", "size")},
        "exchange": pa.string(), "symbol": pa.string(),
    },
}  # fmt: skip


def test_crypto_lake_faults_have_their_shares():
    def make(faults: crypto_lake.LakeFaults) -> dict[str, pa.Table]:
        return crypto_lake.tables(Market(2), 2_000, "BINANCE", "X", book_every=2, faults=faults)

    sound = make(crypto_lake.LakeFaults())
    spoilt = make(crypto_lake.LakeFaults(lost_deletes=0.1, crossed_books=0.2, book_delay=5_000_000))
    deletes = [pc.sum(pc.equal(day["book_delta_v2"]["size"], 0)).as_py() for day in (sound, spoilt)]
    assert deletes[1] / deletes[0] == pytest.approx(0.9, abs=0.01)
    changes = [
        day["book_delta_v2"].num_rows - count for day, count in zip((sound, spoilt), deletes, strict=True)
    ]
    assert changes[0] == changes[1]
    assert spoilt["trades"] == sound["trades"]
    crossed = [
        pc.mean(pc.greater(day["book"]["bid_0_price"], day["book"]["ask_0_price"])).as_py()
        for day in (sound, spoilt)
    ]
    assert crossed == [0, pytest.approx(0.2, abs=0.04)]
    delays = pc.subtract(spoilt["book"]["received_time"], sound["book"]["received_time"]).unique()
    assert delays.cast(pa.int64()).to_pylist() == [5_000_000]
    prices = spoilt["book"]["bid_0_price"].to_pylist()
    assert prices == [round(price, 2) for price in prices]


def test_crypto_lake_tables_have_the_documented_columns_and_types():
    tables = crypto_lake.tables(Market(1), 5, "BINANCE", "BTC-USDT")
    assert {name: dict(zip(t.schema.names, t.schema.types, strict=True)) for name, t in tables.items()} == (
        LAKE_TYPES
    )
    empty = crypto_lake.tables(Market(1), 0, "BINANCE", "BTC-USDT")
    assert all(empty[name].schema == tables[name].schema and not empty[name].num_rows for name in tables)
    assert set(tables["trades"]["side"].to_pylist()) <= {"buy", "sell"}
    for table in tables.values():
        assert all(column.null_count == 0 for column in table.columns)


def test_crypto_lake_floats_print_as_the_decimals_that_they_are():
    rows = crypto_lake.tables(Market(1, price_scale=8, starting_mid=1 << 36), 20, "BINANCE", "X", seeded=True)
    deltas = rows["book_delta_v2"]
    assert all(len(repr(price).partition(".")[2]) <= 8 for price in deltas["price"].to_pylist())
    assert all(len(repr(size).partition(".")[2]) <= 5 for size in deltas["size"].to_pylist() if size >= 0.001)


def test_crypto_lake_is_seeded_before_the_first_message_or_not_at_all():
    seeded, plain = (
        crypto_lake.tables(Market(1), 4, "BINANCE", "X", seeded=flag)["book_delta_v2"]
        for flag in (True, False)
    )
    numbers = seeded["sequence_number"].to_pylist()
    count = numbers.count(numbers[0])
    assert count > 2_000 and numbers == sorted(numbers)
    assert min(seeded["size"].to_pylist()[:count]) > 0
    assert seeded.slice(count).equals(plain)


def test_crypto_lake_book_rows_come_as_often_as_asked():
    every = crypto_lake.tables(Market(1), 600, "BINANCE", "X")["book"]
    some = crypto_lake.tables(Market(1), 600, "BINANCE", "X", book_every=7)["book"]
    assert some.equals(every.take(list(range(0, 600, 7))))
    with pytest.raises(ValueError, match="book_every must be at least 1"):
        crypto_lake.tables(Market(1), 1, "BINANCE", "X", book_every=0)


def test_crypto_lake_float_times_are_off_by_less_than_a_float_step():
    exact = crypto_lake.tables(Market(1), 9, "BINANCE", "X")["trades"]
    rounded = crypto_lake.tables(Market(1), 9, "BINANCE", "X", float_times=True)["trades"]
    for name in ("origin_time", "received_time"):
        pairs = [table[name].cast("int64").to_pylist() for table in (exact, rounded)]
        differences = [abs(a - b) for a, b in zip(*pairs, strict=True)]
        assert 0 < max(differences) <= 128
        assert all(time % 256 == 0 for time in pairs[1])
    assert rounded.drop_columns(["origin_time", "received_time"]).equals(
        exact.drop_columns(["origin_time", "received_time"])
    )


def test_crypto_lake_files_lie_where_the_vendor_puts_them(tmp_path: Path):
    day = 86_400_000_000_000
    market = Market(1, start_time=1_723_161_255_000_000_000 // day * day + day - 1_000_000_000)
    tables = crypto_lake.tables(market, 30, "BINANCE", "BTC-USDT")
    paths = crypto_lake.write_tables(tables, tmp_path)
    where = "exchange=BINANCE/symbol=BTC-USDT"
    assert sorted(path.relative_to(tmp_path).as_posix() for path in paths) == sorted(
        f"{table}/{where}/dt=2024-08-{day}/1.snappy.parquet" for table in tables for day in ("08", "09")
    )
    for name, table in tables.items():
        files = [pq.ParquetFile(path) for path in sorted(paths) if path.is_relative_to(tmp_path / name)]
        assert {f.metadata.row_group(0).column(0).compression for f in files} == {"SNAPPY"}
        rows = pa.concat_tables([f.read() for f in files])
        assert rows.equals(table.drop_columns(["exchange", "symbol"]))


def test_kraken_dump_has_the_name_of_a_cryptofeed_dump(tmp_path):
    path = kraken.write_dump(kraken.dump_lines(Market(1), 3, "XBT/USD", depth=10), tmp_path, 50)
    assert path.name == "KRAKEN.ws.50.0"
    assert path.read_bytes().endswith(b"\n\n\n")
