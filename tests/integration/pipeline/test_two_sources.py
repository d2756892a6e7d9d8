"""Ingest from two sources, in turn and at the same time: only one source may write each instrument."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from captures import simulated_lines, write
from crashing import _folder, assert_same, drivers, state
from test_concurrency import held

from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.tables import BOOKS, EVENTS, FILES, INSTRUMENTS
from deltabook.udfs.simulator import kraken, tardis
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

BITCOIN, ETHER, KRAKENS = ("BINANCE", "BTC-USDT"), ("BINANCE", "ETH-USDT"), ("KRAKEN", "BTC-USD")


@cache
def files() -> dict[str, Path]:
    """A capture of Binance, one of Kraken, and tables of Tardis: of the same instrument, and of another."""
    folder = _folder() / "two-sources"
    paths = {"bitcoin": write(folder / "bitcoin.gz", simulated_lines(60))}
    paths["kraken"] = kraken.write_dump(kraken.dump_lines(Market(5), 60, "XBT/USD"), folder)
    for name, symbol in (("same", "BTCUSDT"), ("ether", "ETHUSDT")):
        lines = tardis.csv_lines(Market(7), 60, "binance", symbol)["incremental_book_L2"]
        (paths[name],) = tardis.write_csv(lines, folder / name, "incremental_book_L2", "binance", symbol)
    return paths


def run(warehouse: Path, source: str, *names: str) -> tuple[object, ...]:
    return ("run", source, *(files()[name] for name in names), "--warehouse", warehouse, "--json")


def outcome(result: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    """Exit status, why which file was refused, and what was said."""
    [(status, stdout, stderr)] = result["outcomes"]
    refused = json.loads(stdout.splitlines()[-1])["refused"] if stdout else []
    return status, {row["path"]: row["reason"] for row in refused}, " ".join(stderr.split())


def sources_of(warehouse: Path) -> dict[tuple[str, str], str]:
    rows = TableReader(warehouse, published_versions(warehouse)).rows(INSTRUMENTS)
    return {(row["exchange"], row["symbol"]): row["feed"] for row in rows}


def files_of(warehouse: Path, symbol: str, exchange: str) -> set[str]:
    rows = TableReader(warehouse, published_versions(warehouse)).rows(
        EVENTS, "exchange", "symbol", "source_file"
    )
    return {row["source_file"] for row in rows if (row["exchange"], row["symbol"]) == (exchange, symbol)}


def assert_sound(warehouse: Path, feeds: dict[tuple[str, str], str]) -> None:
    """Every instrument has books, no message is in twice, and no event is of a file that was refused."""
    assert sources_of(warehouse) == feeds
    stored = TableReader(warehouse, published_versions(warehouse))
    held = Counter(row["source_file"] for row in stored.rows(EVENTS, "source_file"))
    assert held == {row["path"]: row["events"] for row in stored.rows(FILES) if row["state"] == "ingested"}
    rows = stored.rows(BOOKS, "exchange", "symbol")
    assert {(row["exchange"], row["symbol"]) for row in rows} == feeds.keys()


def test_second_source_of_an_instrument_is_refused_by_file(tmp_path):
    warehouse = tmp_path / "w"
    assert outcome(drivers().run(run(warehouse, "binance", "bitcoin")))[:2] == (0, {})
    before = state(warehouse)
    status, refused, said = outcome(drivers().run(run(warehouse, "tardis", "same")))
    assert status == 3
    (reason,) = refused.values()
    assert refused.keys() == {str(files()["same"])}
    assert (
        "BINANCE BTC-USDT is built from source binance here" in reason and "use another --warehouse" in reason
    )
    assert reason in said
    unchanged = {name: digest for name, digest in before.items() if name != "files"}
    assert unchanged.items() <= state(warehouse).items()
    status, refused, _ = outcome(drivers().run(run(warehouse, "tardis", "same", "ether")))
    assert (status, refused.keys()) == (3, {str(files()["same"])})
    assert_sound(warehouse, {BITCOIN: "binance", ETHER: "tardis"})


def test_two_sources_at_once_wait_for_each_other(tmp_path):
    warehouse, in_turn = tmp_path / "w", tmp_path / "turn"
    first = held(tmp_path, "add.events.before:1", run(warehouse, "binance", "bitcoin"))
    second = drivers().start(run(warehouse, "kraken", "kraken"))
    (tmp_path / "on").touch()
    assert [outcome(drivers().result(number))[:2] for number in (first, second)] == [(0, {}), (0, {})]
    assert_sound(warehouse, {BITCOIN: "binance", KRAKENS: "kraken"})
    for source, name in (("kraken", "kraken"), ("binance", "bitcoin")):
        assert outcome(drivers().run(run(in_turn, source, name)))[0] == 0
    of = {"events", "golden", "books", "hours", "instruments", "gaps", "coverage"}
    found, expected = ({name: at[name] for name in of & at.keys()} for at in map(state, (warehouse, in_turn)))
    assert_same(found, expected, "at once and in the other order")


def test_of_two_sources_of_one_instrument_the_first_writer_wins(tmp_path):
    warehouse = tmp_path / "w"
    first = held(tmp_path, "add.events.before:1", run(warehouse, "tardis", "same"))
    second = drivers().start(run(warehouse, "binance", "bitcoin"))
    (tmp_path / "on").touch()
    assert outcome(drivers().result(first))[:2] == (0, {})
    status, refused, _ = outcome(drivers().result(second))
    assert (status, refused.keys()) == (3, {str(files()["bitcoin"])})
    assert "BINANCE BTC-USDT is built from source tardis here" in refused[str(files()["bitcoin"])]
    assert_sound(warehouse, {BITCOIN: "tardis"})
    assert files_of(warehouse, "BTC-USDT", "BINANCE") == {str(files()["same"])}
