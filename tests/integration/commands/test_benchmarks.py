"""Check the benchmarks: all structures give the same book, and all inputs have the same level changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from binance_data import write_capture
from feeds import changes_in
from lake_data import lake_path, write_deltas
from level_changes import LevelChanges, digest_of_book, digest_of_tops
from peer_pipelines import json_messages
from peer_replays import tardis_messages, write_csv
from requirements import minutes
from structures import STRUCTURES

from deltabook.jobs.tools.bench import run_benchmarks
from deltabook.schemas.errors import SettingsError


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> LevelChanges:
    path = lake_path(tmp_path_factory.mktemp("lake"), "book_delta_v2")
    write_deltas(path, 20_000, seed=5)
    return changes_in(path)


def tops_of(changes: LevelChanges, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Prices and sizes after every message, by sorting dicts."""
    sides: dict[bool, dict[int, int]] = {True: {}, False: {}}
    prices, sizes = (np.zeros((changes.messages, 2, depth), np.int64) for _ in range(2))
    for message in range(changes.messages):
        for index in range(changes.offsets[message], changes.offsets[message + 1]):
            side = sides[bool(changes.is_bid[index])]
            side.pop(int(changes.prices[index]), None)
            if changes.sizes[index]:
                side[int(changes.prices[index])] = int(changes.sizes[index])
        for place, is_bid in enumerate((True, False)):
            top = sorted(sides[is_bid].items(), reverse=is_bid)[:depth]
            prices[message, place], sizes[message, place] = np.array(top).T
    return prices, sizes


@pytest.mark.parametrize("depth", [1, 20])
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_keeps_the_book_and_shows_its_top(
    name: str, depth: int, simulated: LevelChanges
) -> None:
    changes = simulated.first(8_000)
    step, whole = STRUCTURES[name](changes, depth)
    parts: list[Any] = [
        step(start, min(start + 100, changes.messages)) for start in range(0, changes.messages, 100)
    ]
    if name.startswith("deltabook"):
        parts = [
            [np.stack([side.reshape(-1, depth) for side in values], axis=1) for values in part]
            for part in parts
        ]
    prices, sizes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    assert digest_of_tops(prices, sizes) == digest_of_tops(*tops_of(changes, depth))
    book = changes.book(changes.messages)
    assert digest_of_book(*whole()) == digest_of_book(book[True], book[False])


def test_a_repeated_feed_ends_with_its_own_last_book(simulated: LevelChanges) -> None:
    again = simulated.repeated(70_000)
    assert len(again.prices) >= 70_000
    assert again.book(again.messages) == simulated.book(simulated.messages)


def test_a_capture_holds_the_same_changes(simulated: LevelChanges, tmp_path: Path) -> None:
    few = simulated.first(3_000)
    write_capture(tmp_path / "capture.gz", few, "BTCUSDT")
    messages = list(json_messages(tmp_path / "capture.gz", len(few.prices)))
    assert [len(message) for message in messages] == np.diff(few.offsets).tolist()
    flat = [level for message in messages for level in message]
    assert [round(price * 100) for _, price, _ in flat] == few.prices.tolist()
    assert [round(size * 100_000) for _, _, size in flat] == few.sizes.tolist()


def test_a_file_as_tardis_has_them_holds_the_same_changes(simulated: LevelChanges, tmp_path: Path) -> None:
    few = simulated.first(3_000)
    write_csv(few, tmp_path / "changes.csv.gz")
    messages = list(tardis_messages(tmp_path / "changes.csv.gz"))
    assert [len(rows) for _, rows in messages] == np.diff(few.offsets).tolist()
    columns = list(zip(*(row[5:] for _, rows in messages for row in rows), strict=True))
    assert [side == "bid" for side in columns[0]] == few.is_bid.tolist()
    assert [round(float(price) / few.tick) for price in columns[1]] == few.prices.tolist()
    assert [round(float(size) / few.lot) for size in columns[2]] == few.sizes.tolist()


def test_a_minute_counts_what_all_stages_did_in_it() -> None:
    assert minutes([("reading", 60.0), ("rebuilding", 30.0)], 1_200, 120.0) == pytest.approx([5.0, 15.0])


@pytest.mark.parametrize(
    ("names", "peers", "told"),
    [(["kernels"], None, "no benchmark 'kernels'"), ([], Path("none/python"), "none/python: no such Python")],
)
def test_bench_reports_wrong_arguments(
    names: list[str], peers: Path | None, told: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=told):
        run_benchmarks(names, tmp_path, peers)
