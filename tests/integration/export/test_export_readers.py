"""Other programs, which know nothing of deltabook, read the exports correctly.

Some readers cannot be installed beside deltabook's packages. They run in another Python interpreter, which
the environment variable DELTABOOK_PEERS names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from captures import simulated_lines, write
from conftest import invoke
from faulted import build, into, rows
from places import SUPPORT
from test_replay import in_order

from deltabook.schemas import tables
from deltabook.schemas.names import HOUR
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

READERS = SUPPORT / "readers.py"
EDGE = 1_723_161_255_000_000_000 // HOUR * HOUR + HOUR - 4_000_000_000


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory) -> Path:
    """BTC over midnight, and ETH."""
    folder = tmp_path_factory.mktemp("readers")
    btc = capture_lines(Market(9, start_time=EDGE), 90, "BTCUSDT", snapshot_every=60)
    eth = simulated_lines(60, symbol="ETHUSDT")
    files = [write(folder / f"{name}.gz", lines) for name, lines in (("btc", btc), ("eth", eth))]
    build("binance", files, folder / "w", "--depth", "full")
    return folder / "w"


def export(warehouse: Path, folder: Path, *how: object) -> list[Path]:
    run = invoke("export", *how, "--out", folder, *into(warehouse))
    assert run.exit_status == 0, run.said
    return [folder / file["path"] for file in json.loads((folder / "manifest.json").read_text())["files"]]


def books(warehouse: Path, symbol: str = "BTC-USDT") -> list[dict[str, Any]]:
    found = in_order([row for row in rows(warehouse, tables.BOOKS) if row["symbol"] == symbol])
    return [row for row in found if row["status"] != "unseeded"]


def peer(name: str) -> str:
    """A Python that has a package."""
    if named := os.environ.get("DELTABOOK_PEERS"):
        return named
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed, and DELTABOOK_PEERS names no Python that has it")
    return sys.executable


def read_with(python: str, folder: Path, *what: object) -> dict[str, Any]:
    plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    ran = subprocess.run(
        [python, READERS, *map(str, what)], cwd=folder, env=plain, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_polars_reads_the_folders_exactly(warehouse, tmp_path):
    polars = pytest.importorskip("polars")
    export(warehouse, tmp_path / "e", "books")
    frame = polars.scan_parquet(tmp_path / "e" / "**/*.parquet", hive_partitioning=True)
    found = frame.filter(polars.col("symbol") == "BTC-USDT", polars.col("status") != "unseeded")
    expected = books(warehouse)
    for row, book in zip(found.sort("date", maintain_order=True).collect().to_dicts(), expected, strict=True):
        for side in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"):
            assert row[side] == [Decimal(value).scaleb(-8) for value in book[side]]
        assert (row["sequence"], row["timestamp"]) == (book["sequence"], book["timestamp"])
    assert {str(day) for day in found.collect()["date"]} == {"2024-08-08", "2024-08-09"}


def test_duckdb_reads_the_folders_exactly(warehouse, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    export(warehouse, tmp_path / "e", "books")
    found = duckdb.sql(
        "SELECT sequence, status, bid_price, ask_price, spread, mid, typeof(bid_price), date FROM "
        f"read_parquet('{tmp_path}/e/**/*.parquet', hive_partitioning = true) "
        "WHERE symbol = 'BTC-USDT' AND status != 'unseeded' ORDER BY hour, order_time, sequence"
    ).fetchall()
    for (sequence, status, bid, ask, spread, mid, kind, _), book in zip(found, books(warehouse), strict=True):
        best = [Decimal(book[f"{side}_prices"][0]).scaleb(-8) for side in ("bid", "ask")]
        assert (sequence, status, bid, ask) == (book["sequence"], book["status"], *best)
        assert (spread, mid * 2) == (best[1] - best[0], sum(best))
        assert kind == "DECIMAL(19,8)"
    assert {str(row[-1]) for row in found} == {"2024-08-08", "2024-08-09"}


@pytest.mark.parametrize("symbol", ["BTC-USDT", "ETH-USDT"])
def test_hftbacktest_accepts_the_events_and_ends_with_the_same_book(warehouse, tmp_path, symbol):
    python = peer("hftbacktest")
    files = export(warehouse, tmp_path / "e", "events", "--format", "hftbacktest", "--symbol", symbol)
    seen = read_with(python, tmp_path, "hftbacktest", files[-1], 0.01, 0.00001)
    last = books(warehouse, symbol)[-1]
    for side in ("bid", "ask"):
        found = {int(tick): round(size * 10**8) for tick, size in seen[f"{side}s"].items()}
        prices = [price // 10**6 for price in last[f"{side}_prices"]]
        assert found == dict(zip(prices, last[f"{side}_sizes"], strict=True))
    assert len(found) > 1000


def test_lakeapi_reads_books_as_it_reads_its_vendors(warehouse, tmp_path):
    python = peer("lakeapi")
    (path, *_) = export(warehouse, tmp_path / "e", "books", "--format", "crypto_lake", "--symbol", "ETH-USDT")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(tmp_path / "e"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = path.relative_to(tmp_path / "e").as_posix()
        seen = read_with(python, tmp_path, "lakeapi", f"http://127.0.0.1:{server.server_port}/{where}")
        server.shutdown()
    assert seen["columns"][:5] == [
        "origin_time",
        "received_time",
        "sequence_number",
        "bid_0_price",
        "bid_0_size",
    ]
    for row, book in zip(seen["rows"], books(warehouse, "ETH-USDT"), strict=True):
        assert row[:3] == [book["timestamp"], book["received"], book["sequence"]]
        levels = [
            float(Decimal(book[f"{side}_{what}"][level]).scaleb(-8))
            for side in ("bid", "ask")
            for level in range(20)
            for what in ("prices", "sizes")
        ]
        assert row[3] == levels
