"""Validate by command: only changed chunks are judged again, and default views leave out failed chunks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from captures import depth_rows, simulated_lines, with_wrong_tickers, write
from faulted import into, rows

from deltabook.expectations.suites import SUITES
from deltabook.schemas import tables
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark


def verdicts(warehouse: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of `verdicts` by symbol and suite, of warehouses with one hour a symbol."""
    return {(row["symbol"], row["suite"]): row for row in rows(warehouse, tables.VERDICTS)}


def asked(deltabook: Any, warehouse: Path, query: str) -> tuple[Any, str]:
    outcome = deltabook("sql", query, "--format", "json", "--warehouse", warehouse)
    return [json.loads(line) for line in outcome.stdout.splitlines()], outcome.stderr


@pytest.fixture(scope="module")
def one_of_two(spark, tmp_path_factory):
    """Two markets, of one of which a diff is lost and some tickers are wrong; with the run."""
    from conftest import invoke

    folder = tmp_path_factory.mktemp("verdicts")
    broken = with_wrong_tickers(simulated_lines(symbol="ETHUSDT", seed=4), every=20)
    del broken[depth_rows(broken)[60]]
    files = [write(folder / "btc.gz", simulated_lines()), write(folder / "eth.gz", broken)]
    return folder / "w", files, invoke("run", "binance", *files, *into(folder / "w"))


def test_failed_chunk_is_left_out_of_the_default_views(one_of_two, deltabook):
    warehouse, _, run = one_of_two
    assert run.exit_status == 1
    assert run.summary["symbol_hours_failed"] == 1
    assert "left out     1 chunks from the views book and trades" in run.stderr
    for view in ("book", "trades"):
        count = "SELECT symbol, count(*) > 50 AS some FROM {} GROUP BY symbol ORDER BY symbol"
        seen, said = asked(deltabook, warehouse, count.format(view))
        assert seen == [{"symbol": "BTC-USDT", "some": True}]
        assert "without 1 symbol-hours that failed validation" in said
        assert f"{view}_all" in said
        seen, said = asked(deltabook, warehouse, count.format(f"{view}_all"))
        assert [row["symbol"] for row in seen] == ["BTC-USDT", "ETH-USDT"]
        assert "without" not in said


def test_verdicts_have_reasons_and_counts(one_of_two):
    warehouse, _, _ = one_of_two
    found = verdicts(warehouse)
    assert {suite: found["BTC-USDT", suite]["verdict"] for suite in SUITES} == dict.fromkeys(SUITES, "passed")
    events = found["ETH-USDT", "events"]
    assert (events["verdict"], events["reasons"]) == ("failed", "no gaps: 1")
    assert dict(events["counts"])["gaps"] == 1
    assert (found["ETH-USDT", "fidelity"]["verdict"], events["hides"]) == ("failed", False)
    assert [suite for suite in SUITES if found["ETH-USDT", suite]["hides"]] == ["fidelity"]
    assert found["ETH-USDT", "raw"]["verdict"] == "passed"
    assert dict(found["ETH-USDT", "raw"]["counts"])["book_update late"] == 0


def test_mismatches_and_the_first_divergence_are_stored(one_of_two):
    warehouse, _, _ = one_of_two
    kept = rows(warehouse, tables.MISMATCHES)
    match = [row for row in rows(warehouse, tables.FIDELITY) if row["metric"] == "match"]
    for row in match:
        of = [one for one in kept if (one["symbol"], one["kind"]) == (row["symbol"], row["kind"])]
        assert len(of) == row["compared"] - row["matched"]
        assert row["first_divergence"] == min((one["sequence"] for one in of), default=-1)
    assert {row["symbol"] for row in kept} == {"ETH-USDT"}
    for row in kept:
        level = row["level"] - 1
        sides = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
        assert any(row[side][level : level + 1] != row[f"golden_{side}"][level : level + 1] for side in sides)


def test_unchanged_chunks_are_not_judged_again(one_of_two, deltabook):
    warehouse, files, run = one_of_two
    before = verdicts(warehouse)
    again = deltabook("run", "binance", *files, *into(warehouse))
    assert "checking" not in again.stderr
    assert again.summary["verdicts"] == run.summary["verdicts"]
    assert again.summary["golden_matches"] == run.summary["golden_matches"]
    assert verdicts(warehouse) == before


def test_new_file_or_setting_judges_only_changed_chunks_again(deltabook, tmp_path, monkeypatch):
    warehouse = tmp_path / "w"
    deltabook("run", "binance", write(tmp_path / "btc.gz", simulated_lines()), *into(warehouse))
    first = verdicts(warehouse)
    other = write(tmp_path / "eth.gz", simulated_lines(symbol="ETHUSDT", seed=4))
    deltabook("run", "binance", other, *into(warehouse))
    second = verdicts(warehouse)
    assert {key: second[key] for key in first} == first
    assert {symbol for symbol, _ in second} == {"BTC-USDT", "ETH-USDT"}
    monkeypatch.setenv("DELTABOOK_MINIMUM_MATCH", "0.5")
    deltabook("validate", *into(warehouse))
    third = verdicts(warehouse)
    assert {suite for (_, suite), row in third.items() if row not in second.values()} == {"fidelity"}


def test_validation_can_be_skipped_and_done_later(deltabook, tmp_path):
    warehouse, raw = tmp_path / "w", write(tmp_path / "btc.gz", simulated_lines())
    run = deltabook("run", "binance", raw, "--no-validate", *into(warehouse))
    assert run.summary["verdicts"] is None
    assert "checking" not in run.stderr
    assert rows(warehouse, tables.VERDICTS) == []
    seen, _ = asked(deltabook, warehouse, "SELECT count(*) > 50 AS some FROM book")
    assert seen == [{"some": True}]
    judged = deltabook("validate", *into(warehouse))
    assert judged.summary["verdicts"] == dict.fromkeys(SUITES, "passed")


def test_each_stage_has_its_own_suites(deltabook, tmp_path):
    warehouse, raw = tmp_path / "w", write(tmp_path / "btc.gz", simulated_lines())
    taken = deltabook("ingest", "binance", raw, *into(warehouse))
    assert taken.summary["verdicts"] == {"raw": "passed"}
    built = deltabook("reconstruct", *into(warehouse))
    assert built.summary["verdicts"] == dict.fromkeys(("raw", "events", "books"), "passed")
    assert {suite for _, suite in verdicts(warehouse)} == {"raw", "events", "books"}


def test_verdicts_of_removed_chunks_are_removed(deltabook, tmp_path):
    warehouse, raw = tmp_path / "w", tmp_path / "raw.gz"
    deltabook("run", "binance", write(raw, simulated_lines()), *into(warehouse))
    write(raw, simulated_lines(symbol="ETHUSDT", seed=4))
    deltabook("run", "binance", raw, "--replace", *into(warehouse))
    assert {symbol for symbol, _ in verdicts(warehouse)} == {"ETH-USDT"}


def test_every_distribution_of_a_level_with_golden_samples_is_tested(one_of_two):
    warehouse, _, run = one_of_two
    metrics = {
        (row["kind"], row["metric"], row["level"]): row
        for row in rows(warehouse, tables.FIDELITY)
        if row["symbol"] == "BTC-USDT" and row["matched"] == -1 and row["verdict"] != "reported"
    }
    others = {
        ("mid_return", 0),
        ("bid_size", 1),
        ("ask_size", 1),
        ("imbalance", 1),
        ("inter_arrival", 0),
        ("ofi", 1),
    }
    every = others | {("spread", level) for level in range(1, 21)}
    assert metrics.keys() == {(kind, *metric) for kind in ("book_ticker", "vendor_book") for metric in every}
    tested = {key for key, row in metrics.items() if row["adjusted_p"] > 0.05 and row["verdict"] == "passed"}
    none = {key for key, row in metrics.items() if row["verdict"] == "none" and math.isnan(row["p_value"])}
    assert tested | none == metrics.keys()
    assert none >= {("book_ticker", "spread", level) for level in range(2, 21)}
    assert tested >= {("vendor_book", "spread", level) for level in range(1, 21)}
    assert run.summary["distribution_tests"]["tested"] >= len(tested)
    samples = {
        (row["kind"], row["metric"], row["level"]): row
        for row in rows(warehouse, tables.SAMPLES)
        if row["symbol"] == "BTC-USDT"
    }
    assert samples.keys() == tested
    for key, row in samples.items():
        assert metrics[key]["compared"] == min(len(row["rebuilt"]), len(row["golden"]))


def test_chunks_of_a_symbol_are_compared_together_too(deltabook, tmp_path):
    hour = 3_600_000_000_000
    start = 1_723_161_255_000_000_000 // hour * hour + hour - 12_000_000_000
    raw = write(tmp_path / "raw.gz", capture_lines(Market(9, start_time=start), 240, "BTCUSDT"))
    run = deltabook("run", "binance", raw, *into(tmp_path / "w"))
    assert (run.exit_status, run.summary["symbol_hours"]) == (0, 2)
    metrics = [
        row
        for row in rows(tmp_path / "w", tables.FIDELITY)
        if row["metric"] == "spread" and row["level"] == 1
    ]
    whole, *parts = sorted(
        (row for row in metrics if row["kind"] == "vendor_book"), key=lambda row: row["hour"]
    )
    assert whole["hour"] == -1
    assert [part["hour"] % hour for part in parts] == [0, 0]
    assert whole["compared"] == sum(part["compared"] for part in parts)
    assert (whole["verdict"], whole["statistic"]) == ("passed", 0.0)
    of_all = [row for row in rows(tmp_path / "w", tables.VERDICTS) if row["hour"] == -1]
    assert [(row["suite"], row["verdict"]) for row in of_all] == [("fidelity", "passed")]
