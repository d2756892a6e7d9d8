"""Books are cut to their known levels on request: in SQL, in exports and in replays. Sessions are listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import invoke
from faulted import build, into, rows

import deltabook
from deltabook.jobs.queries.sql import prepare_query
from deltabook.jobs.replay.replayer import Replayer
from deltabook.jobs.report.books import read_books
from deltabook.jobs.report.data_files import list_data_files
from deltabook.jobs.report.depth import measure_depth
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas import tables
from deltabook.udfs.simulator import crypto_lake
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

SYMBOL, SECOND = "ETH-USDT", 10**9
SIDES = ("bid", "ask")
Query = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def warehouse(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two sessions of a Crypto Lake feed, whose books are partly known."""
    folder = tmp_path_factory.mktemp("known")
    files = []
    for number, start in enumerate((1_723_161_255, 1_723_161_255 + 86_400)):
        market = Market(5 + number, start_time=start * SECOND)
        day = crypto_lake.tables(market, 150, "BINANCE", SYMBOL, book_every=40)
        files += crypto_lake.write_tables(day, folder / str(number))
    run = build("crypto_lake", files, folder / "w")
    assert run.exit_status == 0, run.said
    return folder / "w"


@pytest.fixture(scope="module")
def ask(spark: Any, warehouse: Path) -> Query:
    opened = Warehouse(spark, load_settings(None, {"warehouse": warehouse}))
    return lambda text: [row.asDict() for row in prepare_query(opened, text).collect()]


def check_cut(whole: dict[str, Any], cut: dict[str, Any]) -> None:
    """Compare a book with the same book that is cut to its known levels."""
    counts = {side: whole[f"{side}_known_levels"] for side in SIDES}
    for side, count in counts.items():
        for what in ("price", "size"):
            assert cut[f"{side}_{what}s"] == whole[f"{side}_{what}s"][:count]
            assert cut[f"{side}_{what}"] == (whole[f"{side}_{what}"] if count else None)
    for name in ("spread", "mid", "microprice"):
        assert cut[name] == (whole[name] if all(counts.values()) else None)
    assert {*cut} == {*whole}


def test_the_view_book_known_has_only_known_levels(ask: Query) -> None:
    order = " ORDER BY order_time, sequence"
    whole, cut = (ask(f"SELECT * FROM {view}{order}") for view in ("book", "book_known"))
    assert len(cut) == len(whole) > 100
    assert {row["bid_known_levels"] for row in whole} > {20}
    for row, known in zip(whole, cut, strict=True):
        check_cut(row, known)


def test_sessions_are_listed(ask: Query) -> None:
    found = ask("SELECT * FROM sessions ORDER BY session")
    firsts = ask("SELECT to_date(time) AS day, min(order_time) AS first FROM book_all GROUP BY 1 ORDER BY 1")
    assert [row["session"] for row in found] == [1, 2]
    assert [row["order_time"] for row in found] == [row["first"] for row in firsts]


def test_exports_can_be_cut(warehouse: Path, tmp_path: Path) -> None:
    tables_of = []
    for name, options in (("whole", ()), ("cut", ("--known",))):
        run = invoke("export", "books", "--out", tmp_path / name, *options, *into(warehouse))
        assert run.exit_status == 0, run.said
        parts = sorted((tmp_path / name).rglob("*.parquet"))
        tables_of.append([row for part in parts for row in pq.ParquetFile(part).read().to_pylist()])
    whole, cut = tables_of
    assert len(whole) == len(cut) > 100
    for row, known in zip(whole, cut, strict=True):
        check_cut(row, known)
    lake = invoke(
        "export", "books", "--format", "crypto_lake", "--known", "--out", tmp_path / "lake", *into(warehouse)
    )
    assert lake.exit_status == 0, lake.said
    found = [
        row
        for part in sorted((tmp_path / "lake").rglob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]
    counts = [sum(row[f"bid_{level}_price"] is not None for level in range(20)) for row in found]
    assert counts == [row["bid_known_levels"] for row in whole]
    refused = invoke("export", "trades", "--known", "--out", tmp_path / "trades", *into(warehouse))
    assert refused.exit_status == 2
    assert "--known: trades have no levels of books: leave out --known" in refused.said


def test_reports_and_plots_can_be_cut(warehouse: Path, tmp_path: Path) -> None:
    (instrument,) = rows(warehouse, tables.INSTRUMENTS)
    files = list_data_files(TableReader(warehouse, require_published(warehouse)), tables.BOOKS)
    whole, cut = (
        read_books(files["BINANCE", SYMBOL], instrument, levels=25, known_only=known_only)
        for known_only in (False, True)
    )
    assert whole is not None and cut is not None
    unit = 10.0 ** instrument["price_scale"]
    stored = sorted(rows(warehouse, tables.BOOKS), key=lambda row: (row["order_time"], row["sequence"]))
    last = {int(whole.grid.steps(np.array([row["order_time"]]))[0]): row for row in stored}
    for column, row in last.items():
        known = row["bid_known_levels"]
        own = [price / unit for price in row["bid_prices"][:25]]
        assert whole.bid_prices[column][: len(own)].tolist() == pytest.approx(own)
        assert cut.bid_prices[column][:known].tolist() == pytest.approx(own[:known])
        assert np.isnan(cut.bid_prices[column][known:]).all()
    sizes = [measure_depth(books).sizes.sum() for books in (whole, cut)]
    assert 0 < sizes[1] < sizes[0]
    for command, file in (("report", "report.html"), ("plot", "plot.html")):
        symbol = [SYMBOL] if command == "plot" else []
        pages = []
        for options in ([], ["--known"]):
            run = invoke(command, *symbol, "--out", tmp_path / file, *options, "--warehouse", warehouse)
            assert run.exit_status == 0, run.said
            pages.append((tmp_path / file).read_text())
        assert pages[0] != pages[1]
        if command == "report":
            assert ["cut to their known levels" in page for page in pages] == [False, True]


def test_replays_can_be_cut(warehouse: Path) -> None:
    stored = {row["sequence"]: row for row in rows(warehouse, tables.BOOKS)}
    whole, cut = (
        Replayer(warehouse, SYMBOL, clock="exchange", known_only=known_only) for known_only in (False, True)
    )
    seen = 0
    for step, known in zip(whole, cut, strict=True):
        row = stored.get(known.sequence)
        if row is None:
            continue
        seen += 1
        for side in SIDES:
            count = row[f"{side}_known_levels"]
            for what in ("prices", "sizes"):
                values = getattr(step, f"{side}_{what}").tolist()
                assert getattr(known, f"{side}_{what}").tolist() == values[:count]
    assert seen > 100
    (first, *_) = deltabook.open(warehouse).replay(SYMBOL, known_only=True)
    assert len(first.bid_prices) <= 20
