"""`deltabook.run` makes the same tables as the command, returns its summary and raises typed errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from captures import simulated_lines, write
from kept import build_kept, rows_of

import deltabook

pytestmark = pytest.mark.spark
COMPARED = ("books", "coverage", "events", "gaps", "golden", "hours", "instruments")
"""Tables whose rows do not name the run or the file that made them."""


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(
        write(tmp_path_factory.mktemp("raw") / "BTCUSDT.gz", simulated_lines(40, "spot", "BTCUSDT", 3))
    )


def test_run_makes_the_tables_of_the_command(
    spark: Any, deltabook: Any, capture: Path, tmp_path: Path
) -> None:
    import deltabook as library

    summary = library.run("binance", capture, tmp_path / "w", chunk="5s")
    done = deltabook("run", "binance", capture, "--chunk", "5s", "--warehouse", tmp_path / "c", "--json")
    assert summary.passed
    assert summary.verdicts == done.summary["verdicts"]
    assert summary.details["book_rows"] == done.summary["book_rows"]
    assert (summary.failed_chunks, summary.refused) == (0, ())
    made, expected = rows_of(tmp_path / "w"), rows_of(tmp_path / "c")
    assert made.keys() == expected.keys()
    for name in COMPARED:
        assert made.get(name) == expected.get(name), name


def test_the_result_is_read_without_a_warning(spark: Any, tmp_path: Path) -> None:
    import deltabook as library

    warehouse = library.open(build_kept(tmp_path))
    assert warehouse.symbols()["symbol"].to_pylist() == ["BTC-USDT", "ETH-USDT"]
    assert set(warehouse.books("BTC-USDT")["status"].to_pylist()) <= {"verified", "unseeded"}
    assert warehouse.failed_chunks() == []


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("nothing", {}, "source 'nothing': expected one of"),
        ("binance", {"depth": 0}, "depth: Input should be greater"),
        ("binance", {"nothing": 1}, "nothing: Extra inputs"),
    ],
)
def test_wrong_arguments_raise_and_make_nothing(
    spark: Any, capture: Path, tmp_path: Path, source: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(deltabook.SettingsError, match=message):
        deltabook.run(source, capture, tmp_path / "w", **settings)
    assert not (tmp_path / "w").exists()


def test_a_gap_raises_where_the_run_must_end_at_one(
    spark: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [*simulated_lines(40, "spot", "BTCUSDT", 3)]
    raw = write(tmp_path / "BTCUSDT.gz", lines[: len(lines) // 2] + lines[len(lines) // 2 + 40 :])
    with pytest.raises(deltabook.DeltabookError, match="gap"):
        deltabook.run("binance", raw, tmp_path / "w", on_gap="raise")
    assert "deltabook:" not in capfd.readouterr().err
