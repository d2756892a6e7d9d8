"""The command `maintain`: it merges and removes only what it should, even if it is killed and run again."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from captures import simulated_lines, write
from conftest import invoke
from faulted import rows
from rich.console import Console

from deltabook.jobs.maintenance import plan, retention, table_upkeep
from deltabook.jobs.maintenance.maintain import maintain_warehouse
from deltabook.jobs.maintenance.retention import MIN_RETENTION, RetentionPolicy
from deltabook.jobs.maintenance.verify import verify_warehouse
from deltabook.jobs.process import crash_points
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas import tables
from deltabook.schemas.names import DAY
from deltabook.schemas.tables import TABLES

pytestmark = pytest.mark.spark

LATER = 400 * DAY
HASH_CACHE = ("events", "books", "checkpoints", "coverage", "golden", "fidelity", "samples", "files", "hours")
OF_COPIES = ("archived", "reason")


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def said(*arguments: object) -> dict[str, Any]:
    outcome = invoke(*arguments, "--json")
    assert outcome.exit_status == 0, outcome.said
    return outcome.summary


def found_in(warehouse: Path) -> dict[str, Any]:
    return verify_warehouse(warehouse, True, Console(file=io.StringIO()))


def runs_of(warehouse: Path) -> list[dict[str, Any]]:
    return sorted(rows(warehouse, tables.RUNS), key=lambda row: row["finished"])


def look_after(
    warehouse: Path, since: int | None = None, archive: int | None = None, *, is_meant: bool = True
) -> dict[str, Any]:
    """Keep what is from a time on; by default nothing is as young."""
    now = (since or runs_of(warehouse)[-1]["finished"] + LATER) + MIN_RETENTION
    return maintain_warehouse(
        load_settings(None, {"warehouse": warehouse}), RetentionPolicy(MIN_RETENTION, archive, now), is_meant
    )


def content(warehouse: Path, versions: dict[str, int] | None = None) -> dict[str, list[str]]:
    """Every row that readers see; of the ledger what copies there are is not looked at."""
    stored = TableReader(warehouse, versions or published_versions(warehouse))
    found = {name: stored.rows(TABLES[name]) for name in HASH_CACHE if stored.exists(TABLES[name])}
    return {
        name: sorted(repr({key: value for key, value in row.items() if key not in OF_COPIES}) for row in rows)
        for name, rows in found.items()
        if rows
    }


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory) -> Path:
    """A symbol's two hours of five seconds, read in three goes, the last of them judged; a refused file."""
    folder = tmp_path_factory.mktemp("kept")
    lines = list(simulated_lines(90))
    third = len(lines) // 3
    where = ("--warehouse", folder / "w")
    for number in range(3):
        raw = write(folder / f"{number}.gz", lines[number * third : (number + 1) * third])
        said("ingest", "binance", raw, *where, "--archive", "--chunk", "5s", "--no-validate")
        said("reconstruct", *where, "--no-validate")
    bad = write(folder / "bad.gz", [b"1723161255020413617 nothing\n"])
    invoke("ingest", "binance", bad, *where, "--archive", "--chunk", "5s", "--no-validate")
    said("validate", *where)
    return folder


@pytest.fixture
def copied(built, tmp_path) -> Path:
    return Path(shutil.copytree(built / "w", tmp_path / "w"))


@pytest.fixture
def eager(monkeypatch) -> None:
    """Two files of a partition are joined."""
    monkeypatch.setattr(table_upkeep, "MIN_FILES_TO_COMPACT", 2)


def test_dry_run_reports_all_changes_and_makes_none(copied, eager, monkeypatch):
    before = files_in(copied)
    later = runs_of(copied)[-1]["finished"] + LATER
    monkeypatch.setattr(retention, "time", SimpleNamespace(time_ns=lambda: later))
    outcome = invoke("maintain", "--prune-archive", "30d", "--warehouse", copied, "--json")
    assert outcome.exit_status == 0 and "nothing changed: pass --yes to apply" in outcome.stdout
    told = {row["table"]: row for row in outcome.summary["tables"]}
    assert re.search(rf"\nbooks +{told['books']['files']} ", outcome.stdout)
    assert told["books"]["removed"] > 0 and told["books"]["joined"] == 0
    assert told["validations"]["joined"] > 2 and told["validations"]["joined_into"] == 1
    assert (outcome.summary["is_done"], outcome.summary["copies"], outcome.summary["kept_runs"]) == (
        False,
        3,
        1,
    )
    assert files_in(copied) == before


def test_readers_see_the_same_in_fewer_files_and_verify_finds_nothing(copied, eager):
    before, told = content(copied), look_after(copied, is_meant=False)
    runs = [run["run_id"] for run in runs_of(copied)]
    assert look_after(copied) == told | {"is_done": True}
    assert content(copied) == before
    summary = json.loads(runs_of(copied)[-1]["summary"])
    assert [*summary["stages"]] == ["joining", "removing"] and summary["peak_memory"]
    found = found_in(copied)
    assert found["findings"] == []
    assert {runs[-1], runs_of(copied)[-1]["run_id"]} <= set(found["restorable"])
    assert not {*runs[:5]} & set(found["restorable"])
    assert len(open_table(copied, tables.VALIDATIONS).file_uris()) == 1
    for table in ("events", "books", "hours", "files"):
        on_disk = {
            str(path) for path in (copied / table).rglob("*.parquet") if "_delta_log" not in path.parts
        }
        newest = {uri.removeprefix("file://") for uri in open_table(copied, TABLES[table]).file_uris()}
        assert on_disk == newest, table
    look_after(copied)  # what was joined is not needed any more
    assert found_in(copied)["findings"] == []
    assert content(copied) == before
    assert len(runs_of(copied)) == len(runs) + 2


def test_where_nothing_is_to_be_done_no_run_is_written(copied):
    look_after(copied)
    before = files_in(copied)
    told = look_after(copied)
    assert sum(row["removed"] + row["joined"] + row["log_removed"] for row in told["tables"]) == 0
    assert files_in(copied) == before


def test_nothing_is_rebuilt_or_rechecked(copied, eager):
    look_after(copied)
    judged = rows(copied, tables.VALIDATIONS)
    assert said("reconstruct", "--warehouse", copied)["symbol_hours_rebuilt"] == 0
    said("validate", "--warehouse", copied)
    assert rows(copied, tables.VALIDATIONS) == judged
    assert found_in(copied)["findings"] == []


@pytest.mark.parametrize("place", [1, 3])
def test_every_run_that_was_published_within_the_retention_can_be_restored(copied, eager, place):
    runs = runs_of(copied)
    then = [content(copied, dict(run["versions"])) for run in runs]
    # A run is what readers have until the next is published.
    done = look_after(copied, since=runs[place + 1]["finished"] - 1)
    assert (done["kept_from"], done["kept_runs"]) == (runs[place]["run_id"], len(runs) - place)
    for run, rows_then in zip(runs[place:], then[place:], strict=True):
        assert content(copied, dict(run["versions"])) == rows_then
    whole = {run["run_id"] for run in runs[place:]}
    restorable = set(found_in(copied)["restorable"])
    assert whole <= restorable
    assert not {run["run_id"] for run in runs[:place] if run["command"] == "reconstruct"} & restorable
    said("restore", "--run", runs[place]["run_id"], "--yes", "--warehouse", copied)
    assert content(copied) == then[place]
    assert found_in(copied)["findings"] == []


def test_restore_reports_a_run_whose_files_were_removed(copied):
    first, kept = runs_of(copied)[1], runs_of(copied)[-1]
    look_after(copied)
    before = files_in(copied)
    refused = invoke("restore", "--run", first["run_id"], "--yes", "--warehouse", copied)
    assert refused.exit_status == 2 and "`deltabook maintain` has removed files" in refused.said
    assert f"the oldest run with all its files is {kept['run_id']}" in refused.said
    assert files_in(copied) == before


def test_files_left_by_killed_commands_are_removed_when_they_are_old_enough(copied):
    events = next((copied / "events").rglob("*.parquet")).parent
    names = ["part-1.zstd.parquet", "part-2.zstd.parquet#1"]
    left = [events / name for name in names] + [
        copied / "events" / "_delta_log" / "00000000000000000099.json#1",
        copied / "_archive" / "ab" / "abcd.partial",
        copied / "_as_of-0a0b0c0d" / "books" / "symbol=BTC-USDT" / "part-3.parquet",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    since = runs_of(copied)[0]["started"] - DAY
    before = files_in(copied)
    assert look_after(copied, since=since)["left"] == 0
    assert files_in(copied) == before
    for path in left:
        os.utime(path, ns=(since - 1, since - 1))
    done = look_after(copied, since=since)
    assert (done["left"], sum(row["removed"] + row["log_removed"] for row in done["tables"])) == (2, 3)
    assert not any(path.exists() for path in left)
    assert found_in(copied)["findings"] == []
    gone = before.keys() - files_in(copied).keys()
    assert gone == {str(path.relative_to(copied)) for path in left}


@pytest.mark.parametrize(
    "options", [("--keep", "6d"), ("--keep", "24h"), ("--keep", "-9d"), ("--prune-archive", "6d")]
)
def test_retention_below_the_minimum_is_refused(copied, options):
    outcome = invoke("maintain", *options, "--yes", "--warehouse", copied)
    assert outcome.exit_status == 2
    assert outcome.stderr.startswith(f"deltabook: {' '.join(options)}: expected a number of days")
    assert outcome.stderr.count("\n") == 1


def test_empty_and_locked_warehouses_are_reported(tmp_path, copied):
    outcome = invoke("maintain", "--warehouse", tmp_path / "none")
    assert outcome.exit_status == 2 and "is empty" in outcome.stderr
    assert not (tmp_path / "none").exists()


def commits(warehouse: Path, table: str) -> list[Path]:
    return sorted((warehouse / table / "_delta_log").glob("*.json"))


def checkpointed(warehouse: Path) -> None:
    """Runs that write the ledger, with a checkpoint of its log in the first of them."""
    held = Warehouse.without_spark(load_settings(None, {"warehouse": warehouse}))
    for number in range(3):
        with held.writing("validate"):
            held.overwrite(tables.FILES, held.rows(tables.FILES))
            if number == 0:
                open_table(warehouse, tables.FILES).create_checkpoint()


def test_commits_before_a_checkpoint_go_and_later_ones_stay(copied):
    checkpointed(copied)
    runs, before = runs_of(copied), content(copied)
    (checkpoint,) = (copied / "files" / "_delta_log").glob("*.checkpoint.parquet")
    version = int(checkpoint.name.split(".")[0])
    names = [path.name for path in commits(copied, "files")]
    done = look_after(copied, since=runs[-3]["finished"] - 1)  # of the version before it nothing goes
    assert sum(row["log_removed"] for row in done["tables"]) == 0
    done = look_after(copied, since=runs[-2]["finished"] - 1)
    told = {row["table"]: row["log_removed"] for row in done["tables"] if row["log_removed"]}
    assert told == {"files": version}
    assert [path.name for path in commits(copied, "files")] == names[version:]
    for run in runs[-3:]:
        assert content(copied, dict(run["versions"])) == before
    assert found_in(copied)["findings"] == []
    checkpoint.write_bytes(b"PAR1")
    assert found_in(copied)["findings"] != []
    said("restore", "--yes", "--warehouse", copied)  # by the copies of commits
    assert found_in(copied)["findings"] == []
    assert content(copied) == before


@pytest.mark.parametrize("which", [1, -1])
def test_nothing_is_removed_where_a_log_is_not_whole(copied, which):
    lost = commits(copied, "books")[which]
    lost.unlink()
    before = files_in(copied)
    outcome = invoke("maintain", "--yes", "--warehouse", copied)
    assert outcome.exit_status == 2 and "books" in outcome.stderr
    assert files_in(copied) == before


def test_commit_lost_after_the_oldest_retained_version_is_noticed_behind_a_checkpoint(copied):
    checkpointed(copied)
    commits(copied, "files")[2].unlink()
    before = files_in(copied)
    with pytest.raises(plan.WarehouseError, match="commits of 1 versions from 2 on are missing"):
        look_after(copied, since=runs_of(copied)[0]["finished"])
    assert files_in(copied) == before


def archived(warehouse: Path) -> set[str]:
    return {path.name for path in (warehouse / "_archive").rglob("*") if path.is_file()}


def test_copies_are_pruned_by_age_and_those_of_refused_files_stay(built, copied, tmp_path):
    ledger = {Path(row["path"]).name: row for row in rows(copied, tables.FILES)}
    assert {row["content_hash"] for row in ledger.values()} == archived(copied)
    young = ledger["2.gz"]["content_hash"]
    now = runs_of(copied)[-1]["finished"] + LATER + MIN_RETENTION
    os.utime(copied / "_archive" / young[:2] / young, ns=(now, now))
    done = look_after(copied, archive=90 * DAY)
    assert (done["copies"], done["last_copies"]) == (2, 0)
    assert archived(copied) == {young, ledger["bad.gz"]["content_hash"]}
    after = {Path(row["path"]).name: row for row in rows(copied, tables.FILES)}
    assert [after[name]["archived"] for name in ("0.gz", "1.gz")] == ["", ""]
    assert after["bad.gz"] == ledger["bad.gz"] and after["2.gz"] == ledger["2.gz"]
    original = built / "0.gz"
    moved = original.rename(original.with_suffix(".moved"))
    try:
        assert found_in(copied)["findings"] == []  # the ledger says why there is no copy
        again = invoke(
            "restore", "--from-archive", "--into", tmp_path / "new", "--warehouse", copied, "--json"
        )
    finally:
        moved.rename(original)
    assert again.exit_status == 3
    assert [one["path"] for one in again.summary["refused"]] == [str(original)]


@pytest.mark.parametrize(
    "point",
    [
        "join.validations.before",
        "join.validations.after",
        "join.written.after",
        "join.runs.after",
        "overwrite.files.after",
        "remove.events.before",
        "remove.events.inside",
        "remove.written.after",
        "append.written.after",
        "append.runs.before",
        "append.runs.after",
        "remove.archive.inside",
    ],
)
def test_killed_anywhere_all_is_readable_and_the_next_one_ends_it(copied, eager, monkeypatch, point):
    before, newest = content(copied), runs_of(copied)[-1]
    *name, when = point.split(".")
    removed, unlink = 0, Path.unlink

    def pass_by(passed: str) -> None:
        if passed == point:
            raise Killed

    def remove_some(path: Path, missing_ok: bool = False) -> None:
        nonlocal removed
        if name[1] in path.parts or f"_{name[1]}" in path.parts:
            removed += 1
            if removed == 2:
                raise Killed
        unlink(path)

    with monkeypatch.context() as patched:
        patched.setattr(crash_points, "crash_point", pass_by)
        if when == "inside":
            patched.setattr(Path, "unlink", remove_some)
        with pytest.raises(Killed):
            look_after(copied, archive=30 * DAY)
    assert content(copied) == before
    assert content(copied, dict(newest["versions"])) == before
    look_after(copied, archive=30 * DAY)
    assert content(copied) == before
    assert found_in(copied)["findings"] == []
    assert len(archived(copied)) == 1
    assert said("reconstruct", "--warehouse", copied)["symbol_hours_rebuilt"] == 0
    assert found_in(copied)["findings"] == []


def test_joined_runs_are_listed_and_verified_as_before(copied, eager):
    before, seen = runs_of(copied), content(copied)
    look_after(copied)
    look_after(copied)
    assert len(list((copied / "runs").glob("*.parquet"))) < len(before)
    assert runs_of(copied)[: len(before)] == before
    shutil.rmtree(copied / "runs" / "_delta_log")
    assert {one["table"] for one in found_in(copied)["findings"]} == {"runs"}
    said("restore", "--yes", "--warehouse", copied)
    assert found_in(copied)["findings"] == []
    assert runs_of(copied)[: len(before)] == before
    assert content(copied) == seen


def test_delta_removes_no_commits_by_itself(copied):
    for name in ("events", "files", "runs"):
        properties = open_table(copied, TABLES[name]).metadata().configuration
        assert properties["delta.enableExpiredLogCleanup"] == "false"
