"""A repair that is killed or fails at any step is completed, or rolled back as a whole."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import invoke
from kept import build_kept, done, files_in, flip, found_in, rows_of
from places import SUPPORT, child_environment

from deltabook.jobs.process import crash_points
from deltabook.jobs.process.crash_points import CRASH_AT
from deltabook.jobs.records import file_replacement
from deltabook.jobs.records.file_replacement import (
    ASIDE_FOLDER,
    Replacement,
    list_unfinished_repairs,
    replacing_files,
)
from deltabook.schemas.tables import RUNS, WRITTEN

pytestmark = pytest.mark.spark


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory) -> Path:
    return build_kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def spoilt(kept) -> Path:
    """A warehouse of which a row of `runs`, a file of `written`, logs and a ledger are damaged."""
    warehouse = kept.parent / "spoilt"
    shutil.copytree(kept, warehouse)
    spoil(warehouse)
    return warehouse


@pytest.fixture
def copied(spoilt, tmp_path) -> Path:
    return Path(shutil.copytree(spoilt, tmp_path / "w"))


def spoil(warehouse: Path) -> None:
    for name in ("runs", "written"):
        flip(sorted((warehouse / name).glob("*.parquet"))[1])
    flip(sorted((warehouse / "files").glob("*.parquet"))[-1])
    sorted((warehouse / "runs" / "_delta_log").glob("*.json"))[-1].unlink()
    sorted((warehouse / "books" / "_delta_log").glob("*.json"))[-1].write_bytes(b"{")


def points_of(warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Name the crash points that a restore passes, each once."""
    passed: list[str] = []
    with monkeypatch.context() as patched:
        for module in (crash_points, file_replacement):
            patched.setattr(module, "crash_point", passed.append)
        done("restore", "--yes", "--warehouse", warehouse)
    return [*dict.fromkeys(passed)]


def kill_at(point: str, time: int, monkeypatch: pytest.MonkeyPatch, warehouse: Path) -> None:
    left = time

    def pass_by(passed: str) -> None:
        nonlocal left
        left -= passed == point
        if passed == point and left == 0:
            raise Killed

    with monkeypatch.context() as patched:
        for module in (crash_points, file_replacement):
            patched.setattr(module, "crash_point", pass_by)
        with pytest.raises(Killed):
            invoke("restore", "--yes", "--warehouse", warehouse)


def test_restore_that_is_killed_anywhere_is_completed_by_the_next(spoilt, kept, tmp_path, monkeypatch):
    shutil.copytree(spoilt, tmp_path / "undisturbed")
    points = points_of(tmp_path / "undisturbed", monkeypatch)
    assert {"repair.step.before", "repair.step.inside", "repair.steps.after", "append.runs.after"} <= {
        *points
    }
    for point in points:
        for time in (1, 3) if point.startswith("repair.step.") else (1,):
            warehouse = tmp_path / "w"
            shutil.copytree(spoilt, warehouse)
            kill_at(point, time, monkeypatch, warehouse)
            findings = found_in(warehouse)
            if list_unfinished_repairs(warehouse):
                assert any("a repair was killed" in one["problem"] for one in findings), point
            asked = invoke("status", "--warehouse", warehouse)
            assert asked.exit_status == 0 or "`deltabook restore`" in asked.said, (point, asked.said)
            done("restore", "--yes", "--warehouse", warehouse)
            assert found_in(warehouse) == [], point
            assert rows_of(warehouse) == rows_of(kept), point
            assert list_unfinished_repairs(warehouse) == []
            shutil.rmtree(warehouse)


def test_repair_that_is_killed_during_its_rollback_is_rolled_back_by_the_next(copied, monkeypatch):
    kill_at("repair.steps.after", 1, monkeypatch, copied)
    kill_at("repair.reverse.before", 3, monkeypatch, copied)
    done("restore", "--yes", "--warehouse", copied)
    assert found_in(copied) == []


def test_run_after_a_killed_repair_rolls_it_back_before_it_starts(copied, spoilt, monkeypatch):
    kill_at("repair.step.after", 2, monkeypatch, copied)
    before = files_in(spoilt)
    refused = invoke("validate", "--warehouse", copied)
    assert refused.exit_status == 2 and "`deltabook verify`" in refused.said
    assert files_in(copied) == before


@pytest.mark.parametrize("failing", range(1, 9, 2))
def test_repair_with_a_failing_step_is_rolled_back_completely(copied, monkeypatch, failing):
    before, moves, moved = files_in(copied), 0, file_replacement.move_file

    def move_or_fail(path: Path, target: Path) -> None:
        nonlocal moves
        moves += 1
        if moves == failing:
            raise OSError(28, "No space left on device")
        moved(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(file_replacement, "move_file", move_or_fail)
        refused = invoke("restore", "--yes", "--warehouse", copied)
    assert refused.exit_status == 2 and refused.stderr.count("deltabook: ") == 1
    assert {path: data for path, data in files_in(copied).items() if ASIDE_FOLDER not in path} == before
    done("restore", "--yes", "--warehouse", copied)
    assert found_in(copied) == []


def test_repair_that_would_leave_an_unreadable_table_is_rolled_back(copied, monkeypatch):
    """As if a copy were not what it should be: what is proven is the result."""
    before = files_in(copied)
    with monkeypatch.context() as patched:
        name = "deltabook.jobs.integrity.log_repair._add_lost_commits"
        patched.setattr(name, lambda *_: flip_newest(copied))
        refused = invoke("restore", "--yes", "--warehouse", copied)
    assert refused.exit_status == 2
    assert files_in(copied).keys() == before.keys()


def flip_newest(warehouse: Path) -> None:
    sorted((warehouse / "events" / "_delta_log").glob("*.json"))[-1].write_bytes(b"{")


def test_all_files_are_replaced_or_none(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    steps = [Replacement("a", b"new"), Replacement("b"), Replacement("d", tmp_path / "c")]
    with pytest.raises(ZeroDivisionError), replacing_files(tmp_path, steps, ["."]):
        assert {path: data for path, data in files_in(tmp_path).items() if "/" not in path} == {
            "a": b"new",
            "c": b"c",
            "d": b"c",
        }
        (tmp_path / "made").touch()
        raise ZeroDivisionError
    assert files_in(tmp_path) == {"a": b"a", "b": b"b", "c": b"c"}
    with replacing_files(tmp_path, steps, []):
        pass
    assert (tmp_path / "a").read_text() == "new" and not (tmp_path / "b").exists()
    assert [path.read_text() for path in (tmp_path / ASIDE_FOLDER).rglob("[ab]")] in (["a", "b"], ["b", "a"])


@pytest.mark.parametrize(
    ("command", "point"),
    [
        ("restore", "repair.step.inside:2"),
        ("restore", "append.runs.before"),
        ("maintain", "join.runs.after"),
        ("maintain", "remove.written.before"),
        ("maintain", "copy.runs.before"),
    ],
)
def test_command_that_is_killed_by_sigkill_is_completed_by_the_next(kept, spoilt, tmp_path, command, point):
    warehouse = Path(shutil.copytree(spoilt if command == "restore" else kept, tmp_path / "w"))
    asked = [sys.executable, SUPPORT / "killed_process.py", command, warehouse]
    killed = subprocess.run(
        asked, env=child_environment() | {CRASH_AT: point}, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    if command == "maintain":
        assert rows_of(warehouse) == rows_of(kept)
    again = subprocess.run(asked, env=child_environment(), capture_output=True, check=False)
    assert again.returncode == 0, again.stderr[-2000:]
    assert found_in(warehouse, deep=True) == []
    assert rows_of(warehouse) == rows_of(kept)


@pytest.mark.parametrize("table", [RUNS, WRITTEN], ids=["runs", "written"])
def test_one_flipped_byte_of_a_published_row_is_repaired(kept, tmp_path, table):
    """At any place of any of its data files, with and without second copies."""
    for number, path in enumerate(sorted((kept / table.name).glob("*.parquet"))):
        for is_copied in (True, False):
            warehouse = Path(shutil.copytree(kept, tmp_path / f"{number}{is_copied}"))
            if not is_copied:
                shutil.rmtree(warehouse / "_copies")
            flip(warehouse / table.name / path.name)
            named = {one["table"] for one in found_in(warehouse)}
            if not named:  # of the newest row nothing but its seal is known, and that fits
                assert not is_copied and rows_of(warehouse) == rows_of(kept)
                continue
            assert table.name in named
            done("restore", "--yes", "--warehouse", warehouse)
            assert found_in(warehouse) == []
            if is_copied or table is WRITTEN:
                assert rows_of(warehouse) == rows_of(kept)
