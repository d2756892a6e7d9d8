"""Kill runs and damage tables: the next run rolls changes back, or names the fault and the remedy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from captures import depth_rows, simulated_lines, write
from faulted import books, build, into, rows, sound_capture, versions
from places import SUPPORT, child_environment

from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas import tables

pytestmark = pytest.mark.spark

EVENT = ("event_type", "sequence", "order_time", "hour", "epoch")


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def die(*_):
    raise Killed


def events(warehouse: Path) -> Counter:
    return Counter(tuple(row.values()) for row in rows(warehouse, tables.EVENTS, *EVENT))


@pytest.fixture(scope="module")
def sound(spark, tmp_path_factory):
    return sound_capture(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def copied(sound, tmp_path):
    """A warehouse to spoil."""
    shutil.copytree(sound[1], tmp_path / "w")
    return tmp_path / "w"


@pytest.fixture(scope="module")
def halves(sound, tmp_path_factory):
    """The capture as two files."""
    lines, folder = sound[0], tmp_path_factory.mktemp("halves")
    cut = depth_rows(lines)[30]
    return write(folder / "first.gz", lines[:cut]), write(folder / "second.gz", lines[cut:])


@pytest.mark.parametrize("killed", ["events", "golden", "instruments", "files", "runs"])
def test_a_run_killed_at_any_table_is_rolled_back_and_each_file_ingested_once(
    deltabook, sound, halves, tmp_path, monkeypatch, killed
):
    """The next run takes what the killed one had, and a new file."""

    def killing(method):
        def write_or_die(self, table, rows, *rest):
            method(self, table, rows, *rest)
            if table.name == killed:
                raise Killed

        return write_or_die

    first, second = halves
    with monkeypatch.context() as patched:
        for name in ("add", "append", "overwrite"):
            patched.setattr(Warehouse, name, killing(getattr(Warehouse, name)))
        if killed == "runs":  # its row is what makes the rest exist: die just before it
            patched.setattr(Warehouse, "_publish", die)
        with pytest.raises(Killed):
            deltabook("ingest", "binance", first, *into(tmp_path / "w"))
    asked = deltabook("sql", "SELECT count(*) AS n FROM events", "--warehouse", tmp_path / "w")
    assert asked.exit_status == 2
    assert "is empty" in asked.said
    run = deltabook("ingest", "binance", first, second, *into(tmp_path / "w"))
    assert (run.exit_status, run.summary["files_read"]) == (0, 2), run.said
    assert events(tmp_path / "w") == events(sound[1])
    assert len(rows(tmp_path / "w", tables.FILES)) == 2


def test_the_last_version_is_read_while_a_run_is_unfinished(deltabook, halves, tmp_path, monkeypatch):
    first, second = halves
    build("binance", [first], tmp_path / "w")
    before = events(tmp_path / "w")
    monkeypatch.setattr(Warehouse, "_publish", die)
    with pytest.raises(Killed):
        deltabook("ingest", "binance", second, *into(tmp_path / "w"))
    asked = deltabook(
        "sql", "SELECT count(*) AS n FROM events", "--warehouse", tmp_path / "w", "--format", "json"
    )
    assert json.loads(asked.stdout) == {"n": before.total()}


@pytest.mark.parametrize("table", ["events", "golden", "books", "files"])
@pytest.mark.parametrize("how", ["emptied", "removed", "all removed"])
def test_a_damaged_log_stops_the_next_run_and_names_the_remedy(deltabook, halves, copied, table, how):
    log = copied / table / "_delta_log"
    found = sorted(log.glob("*.json"))
    if how == "emptied":
        found[-1].write_bytes(b"")
    for path in found if how == "all removed" else found[-1:] if how == "removed" else ():
        path.unlink()
    kept = sorted(path.name for path in (copied / table).rglob("*.parquet"))
    for command in (("ingest", "binance", halves[1]), ("reconstruct",), ("validate",)):
        run = deltabook(*command, *into(copied))
        assert run.exit_status == 2, (command, run.said)
        assert f"{table}" in run.said and "then `deltabook restore` to put them back" in run.said
    assert sorted(path.name for path in (copied / table).rglob("*.parquet")) == kept


def test_a_lost_log_of_the_runs_stops_the_next_run(deltabook, halves, copied):
    for path in (copied / "runs" / "_delta_log").iterdir():
        path.unlink()
    before = events(copied)
    run = deltabook("ingest", "binance", halves[0], *into(copied))
    assert run.exit_status == 2
    assert "runs" in run.said and "then `deltabook restore` to put them back" in run.said
    assert events(copied) == before


def test_a_table_of_another_schema_version_is_refused(deltabook, spark, copied):
    table = f"delta.`{copied / 'events'}`"
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('deltabook.schema_version' = '1')")
    run = deltabook("reconstruct", "--warehouse", copied)
    assert run.exit_status == 2
    assert "has schema version 1, and this deltabook reads" in run.said and "new --warehouse" in run.said


def test_a_process_in_another_zone_with_a_full_disk_and_killed_leaves_the_same_tables(
    deltabook, sound, halves, tmp_path
):
    raw = write(tmp_path / "raw.gz", sound[0])
    other = write(tmp_path / "other.gz", simulated_lines(40, "spot", "ETHUSDT", 4))
    child = subprocess.run(
        [sys.executable, SUPPORT / "faulted_process.py", raw, other, tmp_path],
        env=child_environment() | {"TZ": "America/New_York"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert child.returncode == -9, child.stderr[-2000:]
    told = json.loads(child.stdout.splitlines()[-1])
    assert (told["zone"], told["readable"]) == (0, 0)
    assert told["full"] not in (0, 1)
    zone = tmp_path / "zone"
    # Another time zone: the same rows, to the day of each.
    for table in (tables.EVENTS, tables.BOOKS, tables.GOLDEN, tables.HOURS, tables.CHECKPOINTS):
        names = [name for name in table.names if name not in ("source_file", "fingerprint")]
        assert sorted(map(repr, rows(zone, table, *names))) == sorted(
            map(repr, rows(sound[1], table, *names))
        ), table.name
    # A full disk: what was published stays, and with room again the file goes in.
    run = deltabook("ingest", "binance", other, *into(zone))
    assert (run.exit_status, run.summary["files_read"]) == (0, 1), run.said
    assert {row["symbol"] for row in rows(zone, tables.EVENTS, "symbol")} == {"BTC-USDT", "ETH-USDT"}
    # Killed: every file in once, also when a new one comes with it.
    run = build("binance", [raw, other], tmp_path / "killed")
    assert (run.exit_status, run.summary["files_read"]) == (0, 2), run.said
    ours = [row for row in books(tmp_path / "killed") if "'BTC-USDT'" in row]
    assert ours == books(sound[1])
    assert versions(tmp_path / "killed")["runs"] == 2
