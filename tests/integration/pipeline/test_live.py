"""The command `live`: its books equal those of a batch run, even after a kill at any point."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from captures import write
from conftest import invoke
from pyspark.errors import PySparkException

from deltabook.jobs.process import crash_points
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.streaming.follow_settings import FollowSettings
from deltabook.jobs.streaming.live import _LiveJob, live
from deltabook.jobs.streaming.upkeep import maintain_live_tables
from deltabook.jobs.tables.delta_tables import open_dataset, open_table
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import BusyError, SettingsError, WarehouseError
from deltabook.schemas.tables import BOOKS, INSTRUMENTS, QUARANTINE
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

HOUR_END = 1_723_161_600_000_000_000
"""The end of an hour, and of a day; the captures go across it."""
LONGEST = 70_000
"""Bytes; no line is longer."""
SPOT, FUTURES = ("BINANCE", "BTC-USDT"), ("BINANCE_FUTURES", "ETH-USDT-PERP")


def lines_of(symbol: str, market_type: str, seed: int) -> list[bytes]:
    market = Market(seed, start_time=HOUR_END - 4_500_000_000)
    return list(capture_lines(market, 90, symbol, market_type=market_type, snapshot_every=40))


class Capture:
    """A capture that grows: two symbols, one of them in two files in turn, and a broken line."""

    def __init__(self, folder: Path, seed: int = 1):
        spot, futures = lines_of("BTCUSDT", "spot", 9), lines_of("ETHUSDT", "usdm", 5)
        spot.insert(300, b"1723161597000000000 {no JSON\n")
        half = len(futures) // 2
        self.data = {
            folder / "btc.jsonl": b"".join(spot),
            folder / "eth-1.jsonl": b"".join(futures[:half]),
            folder / "eth-2.jsonl": b"".join(futures[half:]),
        }
        self.at = dict.fromkeys(self.data, 0)
        self.random = random.Random(seed)
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def is_whole(self) -> bool:
        return all(at == len(self.data[path]) for path, at in self.at.items())

    def grow(self, most: int = 200_000) -> None:
        """Append some bytes to each file that is being recorded, cut wherever it may be."""
        is_first_whole = self.at[self.paths[1]] == len(self.data[self.paths[1]])
        for path in (self.paths[0], self.paths[2 if is_first_whole else 1]):
            end = self.at[path] + self.random.randrange(1, most)
            with path.open("ab") as file:
                file.write(self.data[path][self.at[path] : end])
            self.at[path] = min(end, len(self.data[path]))

    @property
    def paths(self) -> list[Path]:
        return list(self.data)


def warehouse_at(spark, folder: Path) -> Warehouse:
    return Warehouse(spark, load_settings(None, {"warehouse": folder}))


def taken(warehouse: Path) -> dict[str, int]:
    """How many bytes of each file are in."""
    manifests = sorted(warehouse.glob("live/states/*.json"), key=lambda path: int(path.stem))
    files = json.loads(manifests[-1].read_text())["offset"]["files"] if manifests else {}
    return {path: position[0] for path, position in files.items()}


def stream(spark, warehouse: Path, capture: Capture) -> None:
    """Follow a capture that grows whenever most of it is in, until it is whole; what waits then waits on."""

    def is_over() -> bool:
        with suppress(OSError, ValueError):  # it is being written
            lengths = {str(path): path.stat().st_size for path in capture.paths if path.exists()}
            found = taken(warehouse)
            behind = (path for path, size in lengths.items() if size - found.get(path, 0) > LONGEST)
            if not any(behind):
                if capture.is_whole:
                    return all(found.get(path) == size for path, size in lengths.items())
                capture.grow()
        return False

    # Of such patience, nothing is overdue in the middle because this machine is busy.
    how = FollowSettings("binance", capture.paths[0].parent, trigger=0, patience=600)
    live(warehouse_at(spark, warehouse), how, is_over)


def drain(spark, warehouse: Path, folder: Path) -> dict:
    """Let what waits go, as after a silence."""
    how = FollowSettings("binance", folder, trigger=0, patience=0.2, idle=0.1)
    return live(warehouse_at(spark, warehouse), how)


def rows_of(root: Path, table=BOOKS) -> list[dict]:
    rows = open_dataset(root, table).to_table().to_pylist()
    return sorted(
        rows,
        key=lambda row: (
            [str(row.get(name, "")) for name in ("symbol", "hour", "order_time")] + [row.get("sequence", 0)]
        ),
    )


@pytest.fixture(scope="module")
def batch(spark, tmp_path_factory):
    """What a batch run makes of the whole capture: rows of books, and of quarantine by file name."""
    folder = tmp_path_factory.mktemp("batch")
    capture = Capture(folder / "raw")
    while not capture.is_whole:
        capture.grow()
    run = invoke("run", "binance", folder / "raw", "--warehouse", folder / "w", "--no-validate", "--json")
    assert run.exit_status == 0
    return rows_of(folder / "w"), quarantined(folder / "w")


def quarantined(root: Path) -> list[tuple]:
    rows = rows_of(root, QUARANTINE)
    return [(Path(row["source_file"]).name, row["source_row"], row["reason"], row["raw"]) for row in rows]


def check_equal(root: Path, batch) -> None:
    """Hold what was streamed against the batch: every column, in number and in value.

    Only the batch puts a snapshot of the chain before the later diffs that the stream has applied already, so
    that its books may hold more levels beyond those that are shown.
    """
    books, quarantine = batch
    found = rows_of(root)
    assert len(found) == len(books) > 120
    assert {row["hour"] for row in found} == {HOUR_END - 3_600_000_000_000, HOUR_END}
    deep = ("bid_levels", "ask_levels")
    for one, other in zip(found, books, strict=True):
        assert one | {name: other[name] for name in deep} == other
        assert all(20 < one[name] <= other[name] for name in deep if other[name])
    assert quarantined(root) == quarantine
    assert len(quarantine) == 1


@pytest.fixture(scope="module")
def streamed(spark, tmp_path_factory):
    """A warehouse whose live books were streamed from a growing capture, in two sittings."""
    folder = tmp_path_factory.mktemp("streamed") / "a folder"
    stream(spark, folder / "w", Capture(folder / "raw"))
    return folder, drain(spark, folder / "w", folder / "raw")


def test_live_books_equal_those_of_a_run(streamed, batch):
    folder, summary = streamed
    check_equal(folder / "w" / "live", batch)
    assert summary["waiting"] == summary["late"] == summary["missed"] == 0
    log = folder / "w" / "live" / "books" / "_delta_log"
    assert len(list(log.glob("*.json"))) > 6


def test_a_restart_without_new_messages_writes_no_row(streamed, batch, spark):
    folder, _ = streamed
    how = FollowSettings("binance", folder / "raw", once=True)
    assert live(warehouse_at(spark, folder / "w"), how)["rows"] == 0
    check_equal(folder / "w" / "live", batch)


class Slow:
    """A query whose Python did not start in time."""

    def processAllAvailable(self) -> None:  # noqa: N802
        raise PySparkException("[STREAM_FAILED] terminated: Python worker failed to connect back")

    def stop(self) -> None:
        pass


@pytest.mark.parametrize("slow", [2, 3])
def test_a_slow_start_of_python_is_retried_twice(slow, streamed, batch, spark, monkeypatch):
    folder, _ = streamed
    how = FollowSettings("binance", folder / "raw", once=True)
    start, begun = _LiveJob._start_query, []

    def slow_at_first(self: _LiveJob) -> object:
        begun.append(self)
        return Slow() if len(begun) <= slow else start(self)

    monkeypatch.setattr(_LiveJob, "_start_query", slow_at_first)
    with pytest.raises(PySparkException) if slow == 3 else nullcontext():
        assert live(warehouse_at(spark, folder / "w"), how)["batches"] == 0
    assert len(begun) == 3
    check_equal(folder / "w" / "live", batch)


def test_live_books_can_be_queried_before_and_beside_runs(streamed, batch, spark, deltabook, tmp_path):
    folder, _ = streamed
    books, _ = batch
    root = shutil.copytree(folder / "w", tmp_path / "w")

    def ask(text: str) -> dict:
        return json.loads(deltabook("sql", text, "--warehouse", root, "--format", "json").stdout)

    def count() -> int:
        return ask("SELECT count(*) AS n FROM book_live")["n"]

    assert count() == len(books)
    lines = (folder / "raw" / "btc.jsonl").read_bytes().splitlines(True)
    half = write(tmp_path / "btc.jsonl", lines[:900], compress=False)
    assert deltabook("run", "binance", half, "--warehouse", root).exit_status == 0
    published = ask("SELECT count(*) AS n FROM book_all")["n"]
    assert 0 < published < len(books)
    assert count() == len(books)
    assert "." in ask("SELECT bid_price FROM book_live WHERE bid_price IS NOT NULL LIMIT 1")["bid_price"]
    # A run, its checks and its upkeep leave the live tables as they are.
    for command in (["verify"], ["maintain", "--yes"], ["status"]):
        assert deltabook(*command, "--warehouse", root).exit_status == 0, command
    check_equal(root / "live", batch)
    tables = Warehouse(spark, load_settings(None, {"warehouse": root / "live"}))
    held = open_table(root / "live", BOOKS)
    version = held.transaction_version("deltabook live")
    maintain_live_tables(tables, root)
    held = open_table(root / "live", BOOKS)
    assert held.transaction_version("deltabook live") == version
    assert len(held.file_uris()) <= 4  # of two symbols and two days
    assert len(books) - published <= len(rows_of(root / "live")) < len(books)
    assert count() == len(books)


POINTS = {
    "create.quarantine.after": 1,
    "overwrite.instruments.before": 1,
    "overwrite.instruments.after": 1,
    "add.quarantine.before": 1,
    "add.quarantine.after": 1,
    "work.live.before": 4,
    "work.live.after": 5,
    "write.states.before": 6,
    "write.states.after": 7,
    "add.books.before": 7,
    "add.books.after": 7,
}
"""Where it is killed, and at which passage; what is done but once is met the first time."""


class KilledError(Exception):
    """Stands for the end of the process: nothing behind it is done."""


def test_a_kill_at_any_point_loses_and_duplicates_nothing(spark, tmp_path, batch, monkeypatch):
    capture, left, passed = Capture(tmp_path / "raw", seed=2), dict(POINTS), Counter()

    def at(name: str) -> None:
        passed[name] += 1
        if name in left and passed[name] >= left[name]:
            del left[name]
            raise KilledError(name)

    monkeypatch.setattr(crash_points, "crash_point", at)
    sittings = 0
    while True:
        sittings += 1
        try:
            stream(spark, tmp_path / "w", capture)
        except KilledError:
            continue
        break
    monkeypatch.undo()
    drain(spark, tmp_path / "w", tmp_path / "raw")
    assert not left
    assert sittings == len(POINTS) + 1
    check_equal(tmp_path / "w" / "live", batch)


def test_files_of_a_killed_micro_batch_are_removed(streamed, spark, batch):
    folder, _ = streamed
    root = folder / "w" / "live"
    left = [root / "states" / "left.arrow", *(root / "books").glob("symbol=BTC-USDT/*")][:2]
    left[1] = left[1] / "part-left.zstd.parquet"
    for path in left:
        path.write_bytes(b"left")
    live(warehouse_at(spark, folder / "w"), FollowSettings("binance", folder / "raw", once=True))
    assert not any(path.exists() for path in left)
    check_equal(root, batch)


def test_other_settings_or_a_lost_checkpoint_are_refused(streamed, spark, batch):
    folder, _ = streamed
    how = FollowSettings("binance", folder / "raw", once=True)
    deeper = Warehouse(spark, load_settings(None, {"warehouse": folder / "w", "depth": "50"}))
    with pytest.raises(SettingsError, match="were created with"):
        live(deeper, how)
    checkpoint = folder / "w" / "live" / "_checkpoint"
    checkpoint.rename(folder / "kept")
    try:
        with pytest.raises(WarehouseError, match="to start over"):
            live(warehouse_at(spark, folder / "w"), how)
    finally:
        shutil.rmtree(checkpoint)
        (folder / "kept").rename(checkpoint)
    check_equal(folder / "w" / "live", batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["crypto_lake"], "one message per line"),
        (["binance", "--cadence", "1s"], "supports only `change` and `message`"),
        (["binance", "--on-gap", "raise"], "`flag` or `wait`"),
    ],
)
def test_unsupported_settings_of_live_are_refused(options, message, deltabook, tmp_path):
    run = deltabook("live", options[0], tmp_path, *options[1:], "--warehouse", tmp_path / "w")
    assert run.exit_status == 2
    assert message in run.said


def test_a_second_writer_is_refused_and_runs_are_not(streamed, spark, deltabook, monkeypatch):
    folder, _ = streamed
    monkeypatch.setattr("deltabook.jobs.warehouse.warehouse._LOCK_SECONDS", 0)
    warehouse = warehouse_at(spark, folder / "w")
    tables = Warehouse(spark, load_settings(None, {"warehouse": folder / "w" / "live"}))
    with tables.locked():
        with pytest.raises(BusyError):
            live(warehouse, FollowSettings("binance", folder / "raw", once=True))
        with warehouse.locked():
            pass


def test_live_instruments_equal_those_of_a_run(streamed, batch):
    folder, _ = streamed
    rows = {(row["exchange"], row["symbol"]): row for row in rows_of(folder / "w" / "live", INSTRUMENTS)}
    assert rows.keys() == {SPOT, FUTURES}
    assert rows[SPOT]["trade_stream"] == "trade"
    assert open_table(folder / "w" / "live", BOOKS).transaction_version("deltabook live") > 0


@pytest.mark.long
def test_a_killed_process_loses_and_duplicates_nothing(spark, tmp_path, batch):
    capture = Capture(tmp_path / "raw")
    points = ["add.books.after:1", "write.states.after:1", "add.books.before:1"]
    for point in points:
        for _ in range(8):
            capture.grow()
        command = [
            sys.executable,
            "-m",
            "deltabook.jobs.live",
            "binance",
            tmp_path / "raw",
            "--once",
        ]
        command += ["--warehouse", tmp_path / "w", "--master", "local[2]"]
        ended = subprocess.run(
            command, env=os.environ | {crash_points.CRASH_AT: point}, capture_output=True, check=False
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    stream(spark, tmp_path / "w", capture)
    drain(spark, tmp_path / "w", tmp_path / "raw")
    check_equal(tmp_path / "w" / "live", batch)
