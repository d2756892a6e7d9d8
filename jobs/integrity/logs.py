"""Whether the logs of tables are as runs have written them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from deltabook.jobs.integrity.faults import LOST, Fault, damage
from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.integrity.written import LOG, actions_of, log_files, recorded_before
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import RUNS
from deltabook.udfs.storage import content

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
    if table is RUNS:
        yield from _unproven_runs(warehouse, recorded)


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


def _unproven_runs(warehouse: Path, recorded: Recorded) -> Iterator[Fault]:
    """Look at the commits of `runs` of which no row of `written` tells: each adds a run's row."""
    added_by = {int(run["version"]): run for run in recorded.runs}
    first = recorded.version(RUNS, recorded_before(recorded.runs)) + 1
    for version in range(first, recorded.version(RUNS) + 1):
        path = f"{LOG}/{version:020}.json"
        commit = warehouse / RUNS.name / path
        if not commit.is_file() or not commit.stat().st_size:
            yield Fault(
                RUNS.name, path, "it is empty" if commit.is_file() else "it is lost, or was never written"
            )
            continue
        try:
            added = [action["add"]["path"] for action in actions_of(commit) if "add" in action]
        except (ValueError, KeyError, TypeError) as error:
            yield Fault(RUNS.name, path, f"it cannot be read ({error})")
            continue
        run = added_by.get(version)
        if run is not None and [recorded.sealed.get(name) for name in added] != [[run]]:
            yield Fault(RUNS.name, path, f"it does not add the row of run {run['run_id']}")


def _last_checkpoint(log: Path) -> int:
    """Return the version of the checkpoint that readers of a log start from; -1 if none is named."""
    try:
        return int(json.loads(content(log / POINTER))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def _version(path: str) -> int:
    return int(path.rsplit("/", 1)[-1].split(".")[0])
