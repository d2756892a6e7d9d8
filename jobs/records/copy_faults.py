"""Compare files with their second copies, and choose the intact copy if a file is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from deltabook.jobs.records.file_faults import Fault, describe_damage
from deltabook.jobs.records.file_records import LOG_FOLDER, list_log_files, read_actions
from deltabook.jobs.records.second_copies import (
    SecondCopy,
    is_log_copied,
    list_all_copies,
    list_copies,
    newest_copied_version,
)
from deltabook.jobs.tables.published import COPIES_FOLDER
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import RUNS
from deltabook.udfs.storage.object_store import has_matching_file

NO_COPY = "has no second copy"
"""Value of `Fault.problem` for an intact file whose second copy is missing."""


def find_copy_faults(warehouse: Path, table: Table, published: int, is_idle: bool) -> Iterator[Fault]:
    """Compare all files of `runs` or `written` with their second copies, and yield the faults.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table `runs` or table `written`.
    published : int
        Published Delta version of the table. Every file of this version and of earlier versions must have a
        copy.
    is_idle : bool
        Whether no process is writing to the warehouse. A run makes its copies after it has published, so
        copies may be missing while a run is in progress.

    Yields
    ------
    Fault
        A file that differs from its copy, a damaged copy of an intact file, or a file without a copy. If the
        table has no copies at all, missing copies are no fault.
    """
    copies = list_copies(warehouse, table)
    if not copies and list_all_copies(warehouse, table):
        folder = f"{COPIES_FOLDER}/{table.name}"
        yield Fault(table.name, "", f"the second copies in {folder} belong to another warehouse")
    for path, copy in sorted(copies.items()):
        if problem := describe_damage(warehouse / table.name / path, copy.digest):
            yield Fault(table.name, path, problem)
        elif not copy.is_intact():
            yield Fault(table.name, path, _damaged_copy_problem(copy))
    if copies and is_log_copied(warehouse, table, copies):
        last_version = published if is_idle else newest_copied_version(copies)
        for path in _list_logged_paths(warehouse, table, last_version):
            original = warehouse / table.name / path
            if path not in copies and original.is_file() and original.stat().st_size:
                yield Fault(table.name, path, NO_COPY)


def _damaged_copy_problem(copy: SecondCopy) -> str:
    """Return the problem of an intact file whose second copy is damaged."""
    return f"its second copy {COPIES_FOLDER}/{copy.table.name}/{copy.file.name} is damaged"


def find_small_table_faults(
    warehouse: Path, table: Table, active_paths: set[str] | None, digests: dict[str, str], is_idle: bool
) -> Iterator[Fault]:
    """Compare the data files of a small table with their second copies, and yield the faults.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        One of `SMALL_TABLES`.
    active_paths : set of str, optional
        Paths of the table's active data files, relative to its folder. If the log cannot be read, pass None:
        all files that have copies are then compared.
    digests : dict
        Maps the path of each data file, below the table's folder, to the recorded SHA-256 in hex.
    is_idle : bool
        Whether no process is writing to the warehouse.

    Yields
    ------
    Fault
        One damaged file with an intact copy, or one intact file whose copy is missing or damaged. Damaged
        files without an intact copy are left out; `check_data_files` reports these files.
    """
    copies = list_copies(warehouse, table)
    if not has_matching_file(warehouse / COPIES_FOLDER / RUNS.name, "*"):
        return  # this warehouse was written by early versions of deltabook, which made no copies
    for path in sorted(copies.keys() if active_paths is None else active_paths):
        copy, digest = copies.get(path), digests.get(path, "")
        problem = describe_damage(warehouse / table.name / path, digest)
        is_copied = copy is not None and copy.digest == digest and copy.is_intact()
        if problem and is_copied:
            yield Fault(table.name, path, problem, is_copied=True)
        elif not problem and copy is None and is_idle:
            yield Fault(table.name, path, NO_COPY, is_copied=True)
        elif not problem and copy is not None and not is_copied:
            yield Fault(table.name, path, _damaged_copy_problem(copy), is_copied=True)


def is_newest_commit_changed(warehouse: Path) -> bool:
    """Return whether the newest copied commit of `runs` is missing or differs from its second copy.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    """
    newest = max(list_copies(warehouse, RUNS).values(), key=lambda copy: copy.version, default=None)
    return newest is not None and bool(describe_damage(warehouse / RUNS.name / newest.path, newest.digest))


def find_sound_data_files(warehouse: Path, table: Table, names: list[str]) -> dict[str, Path]:
    """Return the paths from which to read the data files of `runs` or `written`.

    The path is usually that of the original. If the original is damaged and its second copy is intact, the
    path is that of the copy.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table `runs` or table `written`.
    names : list of str
        Names of the Parquet files in the table's folder.

    Returns
    -------
    dict
        Maps the name of each original to the path of the file to read. If the table has no copies, all
        originals are returned. Otherwise, originals that have no copy and that no commit names are left out.
    """
    folder = warehouse / table.name
    copies = list_copies(warehouse, table)
    if not copies:
        return {name: folder / name for name in names}
    files = {}
    for path, copy in copies.items():
        if path.startswith(f"{LOG_FOLDER}/"):
            continue
        is_original_intact = not describe_damage(folder / path, copy.digest)
        # If original and copy are both damaged, take the original. The caller checks the seals of the rows or
        # the recorded hash of the file, and skips the file if they do not match.
        files[path] = copy.file if not is_original_intact and copy.is_intact() else folder / path
    if is_log_copied(warehouse, table, copies):
        uncopied = {*_list_logged_paths(warehouse, table)} - files.keys()
        files |= {name: folder / name for name in names if name in uncopied}
    return files


def _list_logged_paths(warehouse: Path, table: Table, last_version: int | None = None) -> Iterator[str]:
    """Yield the paths of a table's log files up to a version, and of the data files that these log files add.

    Paths are relative to the table's folder. If `last_version` is None, all versions are listed.
    """
    for version, paths in list_log_files(warehouse, table).items():
        for path in paths if last_version is None or version <= last_version else ():
            yield f"{LOG_FOLDER}/{path.name}"
            with suppress(ValueError, KeyError, TypeError):  # `find_log_faults` reports unreadable commits
                actions = read_actions(path) if path.suffix == ".json" else []
                yield from [unquote(action["add"]["path"]) for action in actions if "add" in action]
