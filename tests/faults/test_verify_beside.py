"""`verify` while a run writes: it checks one published state and ignores everything that is newer."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from captures import simulated_lines, write
from conftest import invoke
from deltalake import DeltaTable
from kept import build_kept, done, found_in

from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.maintenance import table_upkeep
from deltabook.jobs.maintenance import verify as verifying
from deltabook.jobs.maintenance.maintain import maintain_warehouse
from deltabook.jobs.maintenance.retention import MIN_RETENTION, RetentionPolicy
from deltabook.jobs.process import crash_points
from deltabook.jobs.records import second_copies
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse import table_writer
from deltabook.jobs.warehouse import warehouse as warehouse_module
from deltabook.schemas.names import DAY
from deltabook.schemas.tables import RUNS

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory) -> Path:
    return build_kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def copied(kept, tmp_path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "w"))


class Watched:
    """Verifies the warehouse at every step of a writer: around commits, and when only their data is there."""

    def __init__(self, warehouse: Path, monkeypatch: pytest.MonkeyPatch):
        self.warehouse = warehouse
        self.verified = 0
        self.findings: list[tuple[str, list[dict[str, Any]]]] = []
        self._append = table_writer.write_deltalake
        self._moved = second_copies.move_file
        monkeypatch.setattr(crash_points, "crash_point", self.look)
        monkeypatch.setattr(table_writer, "write_deltalake", self.append)
        monkeypatch.setattr(second_copies, "move_file", self.move)

    def look(self, point: str) -> None:
        self.verified += 1
        if found := found_in(self.warehouse):
            self.findings.append((point, found))

    def append(self, table: DeltaTable, rows: Any, mode: str) -> None:
        """As Delta does it: the data file is there for a while before the commit that adds it."""
        file = Path(table.table_uri.removeprefix("file://")) / "part-00000-uncommitted.parquet"
        if mode == "append" and not table.metadata().partition_columns:
            pq.write_table(rows, file)
            self.look(f"data of {file.parent.name}")
            file.unlink()
        self._append(table, rows, mode=mode)
        self.look(f"commit of {file.parent.name}")

    def move(self, file: Path, target: Path) -> None:
        self.look(f"copy {target.name}")
        self._moved(file, target)


@pytest.mark.long
def test_verify_finds_nothing_at_any_step_of_runs(kept, copied, monkeypatch):
    watched = Watched(copied, monkeypatch)
    where = ("--warehouse", copied, "--no-validate")
    for number in range(4):
        raw = write(copied.parent / f"{number}.gz", simulated_lines(20, "spot", f"X{number}USDT", 5 + number))
        done("ingest", "binance", raw, *where, "--chunk", "5s")
        done("reconstruct", *where)
    done("validate", "--warehouse", copied)
    assert not watched.findings, watched.findings[:3]
    assert watched.verified > 200


def test_verify_finds_nothing_at_any_step_without_second_copies(copied, monkeypatch):
    """Then nothing but the lock tells a row that is about to be committed from one whose commit is lost."""
    make_no_copies(copied, monkeypatch)
    watched = Watched(copied, monkeypatch)
    publish(copied)
    assert not watched.findings, watched.findings[:3]
    assert watched.verified > 20


def make_no_copies(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(warehouse / "_copies")
    monkeypatch.setattr(warehouse_module, "make_copies", lambda _: None)


def test_steps_of_a_run_look_like_faults_if_the_lock_is_ignored(copied, monkeypatch):
    """The steps of the test above would show a fault if `verify` took every row for a published one."""
    make_no_copies(copied, monkeypatch)
    for module in ("maintenance.verify", "integrity.audit"):
        monkeypatch.setattr(f"deltabook.jobs.{module}.try_lock", lambda _: nullcontext(True))
    watched = Watched(copied, monkeypatch)
    publish(copied)
    of_runs = [point for point, found in watched.findings if any(one["table"] == "runs" for one in found)]
    assert "data of runs" in of_runs


def test_verify_finds_nothing_at_any_step_of_maintenance(copied, monkeypatch):
    monkeypatch.setattr(table_upkeep, "MIN_FILES_TO_COMPACT", 2)
    watched = Watched(copied, monkeypatch)
    newest = max(row["finished"] for row in TableReader(copied).rows(RUNS, "finished"))
    policy = RetentionPolicy(MIN_RETENTION, None, newest + 400 * DAY + MIN_RETENTION)
    maintain_warehouse(load_settings(None, {"warehouse": copied}), policy, True)
    assert watched.verified > 30
    assert not watched.findings, watched.findings[:3]


def test_run_that_is_published_while_verify_reads_is_ignored(copied, monkeypatch):
    """Between its look at what was recorded, which finds the lock held, and the comparison with the files."""
    read = RunRecords.read
    published = []

    def read_and_write(warehouse: Path, is_idle: bool = True) -> RunRecords:
        recorded = read(warehouse, is_idle)
        if not published:
            published.append(True)
            publish(warehouse)
        return recorded

    monkeypatch.setattr(RunRecords, "read", read_and_write)
    for module in ("maintenance.verify", "integrity.audit"):
        monkeypatch.setattr(f"deltabook.jobs.{module}.try_lock", busy)
    assert found_in(copied) == []


def test_run_that_is_published_before_the_comparison_is_ignored(copied, monkeypatch):
    audit_files = verifying.audit_files

    def write_and_audit(*arguments: Any) -> Any:
        publish(copied)
        return audit_files(*arguments)

    monkeypatch.setattr(verifying, "audit_files", write_and_audit)
    assert found_in(copied) == []


def test_row_without_its_commit_is_a_fault_only_without_a_writer(copied, monkeypatch):
    """What a writer is about to commit and what was lost look alike but for the lock."""
    shutil.rmtree(copied / "_copies")
    sorted((copied / "runs" / "_delta_log").glob("*.json"))[-1].unlink()
    assert {one["table"] for one in found_in(copied)} == {"runs"}
    for module in ("maintenance.verify", "integrity.audit"):
        monkeypatch.setattr(f"deltabook.jobs.{module}.try_lock", busy)
    assert found_in(copied) == []


def busy(_lock: Path) -> Any:
    """A lock that somebody else holds."""
    return nullcontext(False)


def publish(warehouse: Path) -> None:
    raw = write(warehouse.parent / "more.gz", simulated_lines(20, "spot", "XRPUSDT", 5))
    outcome = invoke("ingest", "binance", raw, "--warehouse", warehouse, "--no-validate", "--chunk", "5s")
    assert outcome.exit_status == 0, outcome.said
