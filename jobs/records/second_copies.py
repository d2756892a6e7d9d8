"""Make and list second copies: backups of important files, in the folder `_copies` of the warehouse.

A file is important if every repair relies on it. All files of `runs` and `written` have a second copy. Of the
small tables (the ledger, the id boundaries, the epochs and the instruments), only the active data files have
second copies. The name of a copy consists of the original's name and the SHA-256 of the original's bytes, so
a copy can be verified without the original. A run makes the copies at its end. If a run is killed before it
has made all copies, the next run makes the missing copies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.records.file_faults import describe_damage
from deltabook.jobs.records.file_records import LOG_FOLDER, RUN_TABLES, list_written_since
from deltabook.jobs.tables.delta_tables import read_add_actions, table_exists
from deltabook.jobs.tables.published import COPIES_FOLDER
from deltabook.jobs.tables.seals import read_proven_paths
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import EPOCHS, FILE_LINES, FILES, HOURS, INSTRUMENTS, RUNS, WRITTEN
from deltabook.udfs.storage.object_store import (
    copy_file,
    list_folder,
    match_file_sizes,
    move_file,
    remove_file,
)
from deltabook.udfs.storage.raw_files import hash_file

SMALL_TABLES = (FILES, FILE_LINES, HOURS, EPOCHS, INSTRUMENTS)
"""Tables whose published data files have second copies."""
_COPY_NAME = re.compile(r"(?P<name>.+)\.(?P<digest>[0-9a-f]{64})")
_LOG_FILE_NAME = re.compile(r"\d{20}\.")


@dataclass(frozen=True)
class SecondCopy:
    """The second copy of one file.

    Attributes
    ----------
    table : Table
        Table of the original.
    path : str
        Path of the original below the table's folder.
    digest : str
        SHA-256 of the original when the copy was made, in hex.
    file : Path
        Path of the copy itself.
    """

    table: Table
    path: str
    digest: str
    file: Path

    @property
    def version(self) -> int:
        """Delta version of the commit if the original is a commit; -1 for any other file."""
        name = self.path.removeprefix(f"{LOG_FOLDER}/")
        return int(name.split(".")[0]) if name != self.path and name.endswith(".json") else -1

    def is_intact(self) -> bool:
        """Return whether the copy exists and its bytes match the hash in its name."""
        return self.file.is_file() and hash_file(self.file) == self.digest


def list_copies(warehouse: Path, table: Table) -> dict[str, SecondCopy]:
    """Return the second copies of a table's files; empty if the copies belong to another warehouse.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        A table that has copies.

    Returns
    -------
    dict
        Maps the path of each original, below the table's folder, to its second copy.
    """
    copies = list_all_copies(warehouse, table)
    return {} if are_copies_foreign(warehouse, table, copies) else copies


def are_copies_foreign(warehouse: Path, table: Table, copies: dict[str, SecondCopy]) -> bool:
    """Return whether a table's second copies belong to another warehouse, but the table's own files do not.

    Only copies of `runs` and `written` are examined; for other tables, the result is False. The copies belong
    to this warehouse if `is_log_copied` is true. Otherwise, the files of the other one of these two tables
    decide. Rows of `runs` list data files of `written`, so files of the two tables belong together if a
    listed file exists. The copies are foreign if the table's own files belong together with the files of the
    other table, but the copies do not.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        A table that has copies.
    copies : dict
        Result of `list_all_copies`.
    """
    if table not in RUN_TABLES or is_log_copied(warehouse, table, copies):
        return False
    other = WRITTEN if table is RUNS else RUNS
    other_files = _list_data_files(warehouse, other)
    other_files |= _select_data_copies(list_all_copies(warehouse, other))
    originals, copied = _list_data_files(warehouse, table), _select_data_copies(copies)
    if table is WRITTEN:
        proven = read_proven_paths(other_files.values())
        fits = [not proven.isdisjoint(side) for side in (originals, copied)]
    else:
        fits = [not read_proven_paths(side.values()).isdisjoint(other_files) for side in (originals, copied)]
    return fits == [True, False]


def _select_data_copies(copies: dict[str, SecondCopy]) -> dict[str, Path]:
    """Return a dict that maps the path of each original data file to the path of its copy.

    Copies of log files are left out.
    """
    return {path: copy.file for path, copy in copies.items() if not path.startswith(f"{LOG_FOLDER}/")}


def _list_data_files(warehouse: Path, table: Table) -> dict[str, Path]:
    """Return a dict that maps the name of each Parquet file in a table's folder to its path."""
    folder = warehouse / table.name
    return {name: folder / name for name in match_file_sizes(folder, "*.parquet")}


def list_all_copies(warehouse: Path, table: Table) -> dict[str, SecondCopy]:
    """Return the second copies of a table's files, even if they belong to another warehouse.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        A table that has copies.

    Returns
    -------
    dict
        Maps the path of each original, below the table's folder, to its second copy.
    """
    copies = {}
    for file in list_folder(warehouse / COPIES_FOLDER / table.name):
        if match := _COPY_NAME.fullmatch(file.path.name):
            name = match["name"]
            path = f"{LOG_FOLDER}/{name}" if _LOG_FILE_NAME.match(name) else name
            copies[path] = SecondCopy(table, path, match["digest"], file.path)
    return copies


def make_copies(warehouse: Path, is_thorough: bool = False) -> None:
    """Make the missing second copies of `runs`, `written` and the small tables.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder. The caller holds its lock.
    is_thorough : bool
        Whether to look for missing copies of the files of all commits. If False, only the newest copied
        commit and later commits are considered.
    """
    for table in RUN_TABLES:
        if not table_exists(warehouse, table):
            continue
        copies = list_all_copies(warehouse, table)
        if are_copies_foreign(warehouse, table, copies):
            remove_copies(warehouse, table, {*copies})
            copies = {}
        # Data files are copied before the commits that add them. A copied commit therefore shows that all
        # earlier copies exist. The copy of a checkpoint of the same version can still be missing.
        first_version = 0 if is_thorough else max(newest_copied_version(copies), 0)
        records = list_written_since(warehouse, table, first_version, {}, copies.keys())
        # An empty file is damaged, so it gets no copy.
        not_empty = [record for record in records if record["bytes"]]
        for record in sorted(not_empty, key=lambda record: LOG_FOLDER in record["path"]):
            _make_copy(warehouse, table, record["path"], record["content_hash"])
    for table in SMALL_TABLES:
        if table_exists(warehouse, table):
            _copy_active_files(warehouse, table)


def _copy_active_files(warehouse: Path, table: Table) -> None:
    """Copy the active data files of a small table, and remove the copies of its inactive files."""
    copies = list_copies(warehouse, table)
    active_paths = {str(action["path"]) for action in read_add_actions(warehouse, table)}
    for path in sorted(active_paths - copies.keys()):
        if (original := warehouse / table.name / path).is_file():
            _make_copy(warehouse, table, path, hash_file(original))
    remove_copies(warehouse, table, copies.keys() - active_paths)


def newest_copied_version(copies: dict[str, SecondCopy]) -> int:
    """Return the newest Delta version whose commit has a copy; -1 if no commit has a copy.

    Parameters
    ----------
    copies : dict
        Maps the paths of one table's original files to the copies.
    """
    return max((copy.version for copy in copies.values()), default=-1)


def _make_copy(warehouse: Path, table: Table, path: str, digest: str) -> None:
    """Copy one file, given by its path below the table's folder and its SHA-256 in hex."""
    folder = warehouse / COPIES_FOLDER / table.name
    folder.mkdir(parents=True, exist_ok=True)
    name = path.removeprefix(f"{LOG_FOLDER}/")
    partial = folder / f"{name}.partial"
    with crash_points("copy", table.name):
        copy_file(warehouse / table.name / path, partial)
        move_file(partial, folder / f"{name}.{digest}")


def remove_copies(warehouse: Path, table: Table, paths: set[str]) -> None:
    """Remove the second copies of some files of a table.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder. The caller holds its lock.
    table : Table
        Table of the originals. Nothing happens if the table has no copies.
    paths : set of str
        Paths of the originals below the table's folder.
    """
    copies = list_all_copies(warehouse, table) if paths else {}
    for path in paths & copies.keys():
        remove_file(copies[path].file)


def is_log_copied(warehouse: Path, table: Table, copies: dict[str, SecondCopy]) -> bool:
    """Return whether second copies belong to the present log of a table.

    The result is True if at least one commit equals its copy, or if the log has none of the copied commits.
    Single damaged commits therefore do not change the result.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table `runs` or table `written`.
    copies : dict
        Maps the path of each original to its second copy, as the result of `list_all_copies` does.
    """
    folder = warehouse / table.name
    commits = [copy for copy in copies.values() if copy.version >= 0 and (folder / copy.path).is_file()]
    return not commits or any(not describe_damage(folder / copy.path, copy.digest) for copy in commits)
