"""Whether the logs of tables are as runs have written them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.records.active_files import live_files
from deltabook.jobs.records.file_faults import LOST, Fault, damage
from deltabook.jobs.records.file_records import LOG, actions_of, log_files, recorded_before
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS
from deltabook.udfs.storage.object_store import content

POINTER = "_last_checkpoint"
"""File of a log that names its newest checkpoint. Readers do without it; one that is wrong stops them."""


def log_faults(warehouse: Path, table: Table, recorded: Recorded) -> Iterator[Fault]:
    """Compare a log, up to the version that was published, with what runs have recorded of it.

    Of commits that a checkpoint holds Delta may remove the files: they are missed by nobody.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        Whose log.
    recorded : Recorded
        What runs have recorded.

    Yields
    ------
    Fault
        Each file that is lost, damaged, or of no run.
    """
    faults = [*_recorded_faults(warehouse, table, recorded)]
    yield from faults
    if table is RUNS:
        yield from _unproven_runs(warehouse, recorded, not faults)


def _recorded_faults(warehouse: Path, table: Table, recorded: Recorded) -> Iterator[Fault]:
    published = recorded.version(table)
    told_of = recorded.version(RUNS, recorded_before(recorded.runs))
    known = {path: row for path, row in recorded.files[table.name].items() if path.startswith(f"{LOG}/")}
    problems = {
        path: damage(warehouse / table.name / path, str(row["content_hash"]), int(row.get("bytes", -1)))
        for path, row in known.items()
    }
    checkpoints = [path for path in known if not path.endswith(".json")]
    base = max((_version(path) for path in checkpoints if not problems[path]), default=-1)
    pointed_at = _last_checkpoint(warehouse / table.name / LOG)
    for path, problem in problems.items():
        is_needed = _version(path) == pointed_at if path in checkpoints else _version(path) > base
        if problem and (is_needed or problem != LOST):
            yield Fault(table.name, path, problem)
    for version, paths in log_files(warehouse, table).items():
        for file in paths if version <= published else ():
            path = f"{LOG}/{file.name}"
            is_unproven = table is RUNS and version > told_of
            if path not in known and recorded.is_whole and not is_unproven:
                yield Fault(table.name, path, "no run has written it")
    yield from _pointer_faults(warehouse, table)


def _pointer_faults(warehouse: Path, table: Table) -> Iterator[Fault]:
    """Look whether `_last_checkpoint`, if it is there, names a checkpoint of the log."""
    log = warehouse / table.name / LOG
    pointed_at = _last_checkpoint(log)
    checkpoints = (path for path in log_files(warehouse, table).get(pointed_at, []) if path.suffix != ".json")
    if (log / POINTER).is_file() and not any(checkpoints):
        problem = "it cannot be read" if pointed_at < 0 else f"there is no checkpoint of version {pointed_at}"
        yield Fault(table.name, f"{LOG}/{POINTER}", problem)


def later_files(warehouse: Path, table: Table, version: int) -> list[Path]:
    """List the files of a log after a version.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        Whose log.
    version : int
        Of the table.
    """
    return [path for later, paths in log_files(warehouse, table).items() for path in paths if later > version]


def beyond(warehouse: Path, table: Table, recorded: Recorded) -> Iterator[Fault]:
    """Tell of commits after the version that was published, in a warehouse that nobody is writing.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        Whose log.
    recorded : Recorded
        What runs have recorded.

    Yields
    ------
    Fault
        One, of the last of them, if there are any.
    """
    published = max(recorded.version(table), 0)  # version 0 is the empty table
    later = later_files(warehouse, table, published)
    if not later:
        return
    done = []
    for path in later:
        if path.suffix != ".json":
            done.append("a checkpoint")
            continue
        try:
            told = [
                action["commitInfo"]["operation"] for action in actions_of(path) if "commitInfo" in action
            ]
        except (ValueError, KeyError, TypeError):
            told = ["unreadable"]
        done += told
    yield Fault(
        table.name,
        f"{LOG}/{later[-1].name}",
        f"version {_version(later[-1].name)} is not published, {published} is ({', '.join(done)} since): "
        "changed by hand, or by a run that never ended"
        + (" or whose row is lost: what it has written is undone" if table is RUNS else ""),
    )


def _unproven_runs(warehouse: Path, recorded: Recorded, is_sound: bool) -> Iterator[Fault]:
    """Look at the commits of `runs` of which no row of `written` tells: each adds a run's row.

    `is_sound` tells whether no other file of the log is lost or damaged: then Delta must be able to read it.
    """
    moved = misplaced_rows(warehouse, recorded)
    yield from (Fault(RUNS.name, path, "it holds the row of another run") for path in moved)
    first = recorded.version(RUNS, recorded_before(recorded.runs)) + 1
    paths = [f"{LOG}/{version:020}.json" for version in range(first, recorded.version(RUNS) + 1)]
    problems = {path: _unproven(warehouse / RUNS.name / path, recorded, moved) for path in paths}
    if is_sound and not any(problems.values()):
        try:
            live_files(warehouse, RUNS, recorded.version(RUNS))
        except WarehouseError:
            problems = dict.fromkeys(paths, "Delta cannot read it, or another one of its table")
    yield from (Fault(RUNS.name, path, problem) for path, problem in problems.items() if problem)


def _unproven(commit: Path, recorded: Recorded, moved: dict[str, str]) -> str:
    """Return what is wrong with a commit of `runs` by what it adds; empty if nothing is."""
    if not commit.is_file():
        return "it is lost, or was never written"
    if not commit.stat().st_size:
        return "it is empty"
    try:
        added = _added_by(commit)
    except (ValueError, KeyError, TypeError) as error:
        return f"it cannot be read ({error})"
    rows = [row for path in added for row in recorded.sealed.get(moved.get(path, path), [])]
    runs = [run for run in recorded.runs if run["version"] == _version(commit.name)]
    return f"it does not add the row of run {runs[0]['run_id']}" if runs and rows != runs else ""


def misplaced_rows(warehouse: Path, recorded: Recorded) -> dict[str, str]:
    """Find data files of `runs` that have changed places: each commit adds the row of the run of its version.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    recorded : Recorded
        What runs have recorded.

    Returns
    -------
    dict
        By path of a data file, the path of the one that has its content.
    """
    places = {int(rows[0]["version"]): path for path, rows in recorded.sealed.items() if len(rows) == 1}
    folder, proven, found = warehouse / RUNS.name, recorded.files[RUNS.name], {}
    for run in recorded.runs:
        commit = f"{LOG}/{int(run['version']):020}.json"
        if commit in proven and damage(folder / commit, str(proven[commit]["content_hash"])):
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):
            [path] = _added_by(folder / commit)
            is_proven = path in proven and not damage(folder / path, str(proven[path]["content_hash"]))
            if not is_proven and recorded.sealed.get(path) != [run] and run["version"] in places:
                found[path] = places[run["version"]]
    return found


def _added_by(commit: Path) -> list[str]:
    return [str(action["add"]["path"]) for action in actions_of(commit) if "add" in action]


def _last_checkpoint(log: Path) -> int:
    """Return the version of the checkpoint that readers of a log start from; -1 if none is named."""
    try:
        return int(json.loads(content(log / POINTER))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def _version(path: str) -> int:
    return int(path.rsplit("/", 1)[-1].split(".")[0])
