"""The command `golden`: books are compared with those of another recording, and the wrong side is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from captures import depth_rows, message_of, simulated_lines, write
from conftest import Outcome, invoke
from faulted import edited, into, rows

from deltabook.schemas import tables
from deltabook.schemas.names import SKIPPED, UNSOUND_LABELS
from deltabook.udfs.simulator import crypto_lake, tardis
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

MESSAGES = 200
KIND = "recording_binance"
SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


def recorded_lines() -> list[bytes]:
    """Return the market as a Binance capture, with a snapshot of all levels."""
    return list(capture_lines(Market(7), MESSAGES, "BTCUSDT"))


@pytest.fixture(scope="module")
def lake(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a warehouse of the same market as Crypto Lake has it."""
    folder = tmp_path_factory.mktemp("lake")
    day = crypto_lake.tables(Market(7), MESSAGES, "BINANCE", "BTC-USDT", book_every=3)
    run = invoke("run", "crypto_lake", *crypto_lake.write_tables(day, folder / "raw"), *into(folder / "w"))
    assert run.exit_status == 0, run.said
    return folder / "w"


@pytest.fixture
def copied(lake: Path, tmp_path: Path) -> Path:
    shutil.copytree(lake, tmp_path / "w")
    return tmp_path / "w"


def compare(warehouse: Path, lines: list[bytes], *options: str) -> Outcome:
    capture = write(warehouse.parent / "capture.gz", lines)
    return invoke("golden", "binance", capture, *options, *into(warehouse))


def is_sound(row: dict[str, Any]) -> bool:
    return row["status"] not in UNSOUND_LABELS


def books_by_id(warehouse: Path) -> dict[int, dict[str, Any]]:
    return {row["sequence"]: row for row in rows(warehouse, tables.BOOKS)}


def test_books_of_the_same_market_are_equal(copied: Path) -> None:
    before = books_by_id(copied)
    run = compare(copied, recorded_lines())
    assert run.exit_status == 0, run.said
    match = run.summary["golden_matches"][KIND]
    assert match["compared"] == match["matched"] > MESSAGES * 0.9
    assert {*match["left_out"]} <= {"unsound", "unpaired", "recording unsound"}
    assert match["compared"] + sum(match["left_out"].values()) == MESSAGES
    assert run.summary["verdicts"]["fidelity"] == "passed"
    tested = [
        row for row in rows(copied, tables.FIDELITY) if row["kind"] == KIND and row["verdict"] == "failed"
    ]
    assert tested == []
    assert books_by_id(copied) == before  # nothing of the recording is in the warehouse's own tables
    again = compare(copied, recorded_lines())
    assert (again.exit_status, again.summary["golden_matches"]) == (0, run.summary["golden_matches"])


def test_changed_sizes_are_found_with_their_ids_and_the_recording_is_blamed(copied: Path) -> None:
    lines = recorded_lines()
    for row in depth_rows(lines)[40::60]:
        message = message_of(lines[row])
        bids = [[price, f"9{size}" if float(size) else size] for price, size in message["b"]]
        lines[row] = edited(lines[row], b=bids)
    run = compare(copied, lines)
    ours, theirs = books_by_id(copied), books_by_id(copied / "recordings" / "binance")
    messages = {row["sequence"] for row in rows(copied, tables.EVENTS) if row["event_type"] == "book_update"}
    expected, last = set(), None
    for number in sorted(ours.keys() | theirs.keys()):
        last = ours.get(number, last)
        if number in messages & theirs.keys() and is_sound(theirs[number]) and last and is_sound(last):
            known = [
                min(last[f"{side}_known_levels"], theirs[number][f"{side}_known_levels"])
                for side in ("bid", "ask")
            ]
            if any(
                last[name][: known["ask" in name]] != theirs[number][name][: known["ask" in name]]
                for name in SIDES
            ):
                expected.add(number)
    mismatches = rows(copied, tables.MISMATCHES)
    assert {row["sequence"] for row in mismatches} == expected
    assert len(expected) > 3
    blamed = [row for row in mismatches if row["wrong"]]
    assert {row["wrong"] for row in blamed} == {"recording"}
    assert {row["level"] for row in blamed} == {1}
    match = run.summary["golden_matches"][KIND]
    assert match["left_out"]["recording wrong"] == len(blamed)
    assert match["compared"] - match["matched"] == len(expected) - len(blamed)


def test_a_wrong_book_is_named_too(tmp_path: Path, spark: Any) -> None:
    lines = recorded_lines()
    wrong = list(lines)
    for row in depth_rows(lines)[40::60]:
        wrong[row] = edited(
            lines[row], b=[[price, f"9{size}"] for price, size in message_of(lines[row])["b"]]
        )
    wrong = [line for line in wrong if b"@bookTicker" not in line[:80]]
    ours = write(tmp_path / "ours.gz", wrong)
    built = invoke("run", "binance", ours, "--no-validate", *into(tmp_path / "w"))
    assert built.exit_status == 0, built.said
    run = compare(tmp_path / "w", lines)
    assert run.exit_status == 1
    named = [row["wrong"] for row in rows(tmp_path / "w", tables.MISMATCHES) if row["kind"] == KIND]
    assert {*named} == {"book", ""}
    assert "recording wrong" not in run.summary["golden_matches"][KIND]["left_out"]


def test_a_gap_of_the_recording_is_not_blamed_on_the_books(copied: Path) -> None:
    lines = recorded_lines()
    del lines[depth_rows(lines)[120]]
    run = compare(copied, lines)
    assert run.exit_status == 0, run.said
    match = run.summary["golden_matches"][KIND]
    assert match["compared"] == match["matched"] > 100
    theirs = books_by_id(copied / "recordings" / "binance").values()
    unsound = sum(not is_sound(row) for row in theirs)
    assert match["left_out"]["recording unsound"] == unsound >= MESSAGES - 121
    assert match["left_out"]["unpaired"] >= 1


def test_a_recording_without_ids_is_compared_by_time(tmp_path: Path, spark: Any) -> None:
    table = "incremental_book_L2"
    lines = tardis.csv_lines(Market(7), MESSAGES, "binance", "BTCUSDT")[table]
    files = tardis.write_csv(lines, tmp_path / "raw", table, "binance", "BTCUSDT")
    built = invoke("run", "tardis", *files, *into(tmp_path / "w"))
    assert built.exit_status == 0, built.said
    run = compare(tmp_path / "w", recorded_lines(), "--name", "mine")
    match = run.summary["golden_matches"]["recording_mine"]
    assert match["compared"] == match["matched"] > MESSAGES * 0.9


def test_errors_name_what_to_do(copied: Path, tmp_path: Path) -> None:
    capture = write(tmp_path / "other.gz", simulated_lines(20, symbol="ETHUSDT"))
    run = invoke("golden", "binance", capture, *into(copied))
    assert run.exit_status == 2
    assert "the recording has BINANCE ETH-USDT, and the warehouse BINANCE BTC-USDT: pass" in run.said
    run = invoke("golden", "binance", capture, "--name", "a b", *into(copied))
    assert run.exit_status == 2 and "--name 'a b': expected 1 to 40 letters" in run.said
    run = invoke("golden", "binance", capture, *into(tmp_path / "none"))
    assert run.exit_status == 2 and "deltabook run" in run.said


def test_every_reason_is_listed_once() -> None:
    assert len({*SKIPPED}) == len(SKIPPED)
