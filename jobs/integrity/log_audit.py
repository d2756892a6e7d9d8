"""Compare the Delta logs of tables with the hashes that runs recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.records.active_files import list_active_files
from deltabook.jobs.records.file_faults import MISSING, UNKNOWN_FILE, Fault, describe_damage
from deltabook.jobs.records.file_records import LOG_FOLDER, last_recorded_run, list_log_files, read_actions
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS
from deltabook.udfs.storage.object_store import read_file

CHECKPOINT_POINTER = "_last_checkpoint"
"""Name of the log file that states the version of the newest checkpoint.

Delta readers work without this file, but fail if the file names a wrong version.
"""


def find_log_faults(warehouse: Path, table: Table, records: RunRecords) -> Iterator[Fault]:
    """Yield the faults of a table's log, up to the published version.

    A missing commit is not a fault if a checkpoint of the log includes the commit, because Delta may remove
    commits that a checkpoint includes.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table of the log.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.

    Yields
    ------
    Fault
        One log file that is missing, damaged or not written by any run.
    """
    faults = [*_find_recorded_faults(warehouse, table, records)]
    yield from faults
    if table is RUNS:
        yield from _find_unrecorded_faults(warehouse, records, is_log_intact=not faults)


def _find_recorded_faults(warehouse: Path, table: Table, records: RunRecords) -> Iterator[Fault]:
    """Yield the faults of log files that differ from the recorded hash or that no run has recorded."""
    folder, published = warehouse / table.name, records.version(table)
    recorded = {
        path: record
        for path, record in records.files[table.name].items()
        if path.startswith(f"{LOG_FOLDER}/")
    }
    problems = {
        path: describe_damage(folder / path, record.digest, record.size) for path, record in recorded.items()
    }
    checkpoints = [path for path in recorded if not path.endswith(".json")]
    newest_checkpoint = max((_parse_version(path) for path in checkpoints if not problems[path]), default=-1)
    pointed_version = _read_checkpoint_pointer(folder / LOG_FOLDER)
    for path, problem in problems.items():
        version = _parse_version(path)
        is_needed = version == pointed_version if path in checkpoints else version > newest_checkpoint
        if problem and (is_needed or problem != MISSING):
            yield Fault(table.name, path, problem)
    recorded_version = records.version(RUNS, last_recorded_run(records.runs))
    for version, paths in list_log_files(warehouse, table).items():
        for file in paths if version <= published else ():
            path = f"{LOG_FOLDER}/{file.name}"
            is_unrecorded = table is RUNS and version > recorded_version
            if path not in recorded and records.is_complete and not is_unrecorded:
                yield Fault(table.name, path, UNKNOWN_FILE)
    yield from _find_pointer_faults(warehouse, table)


def _find_pointer_faults(warehouse: Path, table: Table) -> Iterator[Fault]:
    """Yield a fault if `_last_checkpoint` exists but does not name a checkpoint of the log."""
    log = warehouse / table.name / LOG_FOLDER
    version = _read_checkpoint_pointer(log)
    log_files = list_log_files(warehouse, table).get(version, [])
    has_checkpoint = any(path.suffix != ".json" for path in log_files)
    if (log / CHECKPOINT_POINTER).is_file() and not has_checkpoint:
        problem = "cannot be read" if version < 0 else f"names version {version}, which has no checkpoint"
        yield Fault(table.name, f"{LOG_FOLDER}/{CHECKPOINT_POINTER}", problem)


def list_later_log_files(warehouse: Path, table: Table, version: int) -> list[Path]:
    """Return the files of a table's log that belong to versions after a given version.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table of the log.
    version : int
        Delta version of the table. Only files of later versions are returned.
    """
    log_files = list_log_files(warehouse, table)
    return [path for later, paths in log_files.items() for path in paths if later > version]


def find_unpublished_commits(warehouse: Path, table: Table, records: RunRecords) -> Iterator[Fault]:
    """Yield one fault if a table has commits after its published version.

    Call this function only while no process is writing to the warehouse, because a run in progress has made
    commits that are not published yet.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table of the log.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.

    Yields
    ------
    Fault
        Fault of the newest unpublished commit. The text of the fault describes all unpublished commits.
    """
    published = max(records.version(table), 0)  # version 0 is the empty table
    later_files = list_later_log_files(warehouse, table, published)
    if not later_files:
        return
    operations = ", ".join(name for path in later_files for name in _list_operations(path))
    newest = later_files[-1].name
    origin = "by hand, or by a run that did not finish"
    if table is RUNS:
        origin += " or whose row is lost: the changes of such a run will be undone"
    yield Fault(
        table.name,
        f"{LOG_FOLDER}/{newest}",
        f"version {_parse_version(newest)} is not published; the published version is {published}. Later "
        f"changes ({operations}) were made {origin}",
    )


def _list_operations(log_file: Path) -> list[str]:
    """Return the names of the operations in a log file, such as `WRITE`."""
    if log_file.suffix != ".json":
        return ["checkpoint"]
    try:
        return [
            action["commitInfo"]["operation"] for action in read_actions(log_file) if "commitInfo" in action
        ]
    except (ValueError, KeyError, TypeError):
        return ["unreadable"]


def _find_unrecorded_faults(warehouse: Path, records: RunRecords, is_log_intact: bool) -> Iterator[Fault]:
    """Yield the faults of the newest commits of `runs`. The hashes of these commits are not recorded yet.

    Two other checks are made instead. The commit of version n must add the row whose column `version` is n.
    If all other log files are intact (`is_log_intact`), Delta must be able to read the whole log.
    """
    swapped = find_swapped_files(warehouse, records)
    yield from (Fault(RUNS.name, path, "contains the row of another run") for path in swapped)
    first = records.version(RUNS, last_recorded_run(records.runs)) + 1
    paths = [f"{LOG_FOLDER}/{version:020}.json" for version in range(first, records.version(RUNS) + 1)]
    problems = {path: _check_run_commit(warehouse / RUNS.name / path, records, swapped) for path in paths}
    if is_log_intact and not any(problems.values()):
        try:
            list_active_files(warehouse, RUNS, records.version(RUNS))
        except WarehouseError:
            problems = dict.fromkeys(paths, "Delta cannot read this commit or another commit of the table")
    yield from (Fault(RUNS.name, path, problem) for path, problem in problems.items() if problem)


def _check_run_commit(commit: Path, records: RunRecords, swapped: dict[str, str]) -> str:
    """Return the problem of a commit of `runs`; empty if the commit adds the row of the commit's version.

    `swapped` is the result of `find_swapped_files`.
    """
    if not commit.is_file():
        return "missing, or never written"
    if not commit.stat().st_size:
        return "empty"
    try:
        added_paths = _list_added_paths(commit)
    except (ValueError, KeyError, TypeError) as error:
        return f"cannot be read ({error})"
    rows = [row for path in added_paths for row in records.sealed_rows.get(swapped.get(path, path), [])]
    runs = [run for run in records.runs if run["version"] == _parse_version(commit.name)]
    return f"does not add the row of run {runs[0]['run_id']}" if runs and rows != runs else ""


def find_swapped_files(warehouse: Path, records: RunRecords) -> dict[str, str]:
    """Return the data files of `runs` whose contents were exchanged with each other.

    The commit of version n of `runs` must add the data file with the row whose column `version` is n. A data
    file counts as exchanged if it contains another row.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.

    Returns
    -------
    dict
        Maps the path of each file whose content was exchanged to the path of the file that now has this
        content. Both paths are relative to the table's folder.
    """
    paths_by_version = {
        int(rows[0]["version"]): path for path, rows in records.sealed_rows.items() if len(rows) == 1
    }
    folder, recorded, swapped = warehouse / RUNS.name, records.files[RUNS.name], {}

    def is_intact(path: str) -> bool:
        return path in recorded and not describe_damage(folder / path, recorded[path].digest)

    for run in records.runs:
        commit = f"{LOG_FOLDER}/{int(run['version']):020}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            [path] = _list_added_paths(folder / commit)
            if records.sealed_rows.get(path) == [run] or run["version"] not in paths_by_version:
                continue  # nearly every file has the right row, and need not be hashed
            is_commit_usable = commit not in recorded or is_intact(commit)
            if is_commit_usable and not is_intact(path):
                swapped[path] = paths_by_version[run["version"]]
    return swapped


def _list_added_paths(commit: Path) -> list[str]:
    """Return the paths of the data files that a commit adds."""
    return [str(action["add"]["path"]) for action in read_actions(commit) if "add" in action]


def _read_checkpoint_pointer(log: Path) -> int:
    """Return the version that `_last_checkpoint` names; -1 if the file is missing or unreadable."""
    try:
        return int(json.loads(read_file(log / CHECKPOINT_POINTER))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def _parse_version(path: str) -> int:
    """Return the Delta version in the name of a log file."""
    return int(path.rsplit("/", 1)[-1].split(".")[0])
