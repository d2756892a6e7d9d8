"""Plan the maintenance of one table: which data files to compact, and which files to remove."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict
from urllib.parse import unquote

from deltabook.jobs.records.active_files import ActiveFile, list_active_files
from deltabook.jobs.records.file_records import (
    LOG_FOLDER,
    RUN_TABLES,
    list_log_files,
    read_actions,
)
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import CHECKS, COVERAGE, GAPS, QUARANTINE, both
from deltabook.schemas.validation_tables import FIDELITY, MISMATCHES, VALIDATIONS
from deltabook.udfs.storage.object_store import StoredFile, list_folder

COMPACTED_TABLES = (
    GAPS,
    CHECKS,
    COVERAGE,
    FIDELITY,
    *both(MISMATCHES),
    VALIDATIONS,
    QUARANTINE,
    *RUN_TABLES,
)
"""Tables that `maintain` compacts. Each run adds a small file with a few rows, and readers read all rows."""
MIN_FILES_TO_COMPACT = 32
"""Smallest number of small files in one partition for which a table is compacted.

Compaction writes all rows of the small files again. With fewer files, compaction costs more than it saves.
"""
MAX_FILE_BYTES = 32 << 20
"""A data file counts as small if it has fewer bytes than this. Compacted files have about this size."""
_UNFINISHED_LOG_FILE = re.compile(r"\.tmp$|#\d+$")
"""Pattern of the endings of log file names. A name with such an ending means an incomplete file."""


class TableReport(TypedDict):
    """Counts and sizes of files of one table, in the form of the JSON output of `maintain`.

    Attributes
    ----------
    table : str
        Name of the table.
    files, files_bytes : int
        Number of data files before the maintenance, and their total size in bytes.
    joined : int
        Number of small data files that are compacted.
    joined_into : int
        Estimated number of larger files that replace the small files.
    removed, removed_bytes : int
        Number of data files that are removed, and their total size in bytes.
    log, log_bytes : int
        Number of log files before the maintenance, and their total size in bytes.
    log_removed, log_removed_bytes : int
        Number of log files that are removed, and their total size in bytes.
    """

    table: str
    files: int
    files_bytes: int
    joined: int
    joined_into: int
    removed: int
    removed_bytes: int
    log: int
    log_bytes: int
    log_removed: int
    log_removed_bytes: int


@dataclass(frozen=True)
class TableUpkeep:
    """Maintenance plan of one table.

    Attributes
    ----------
    table : Table
        The table.
    files : list of StoredFile
        All files in the table's folder, except log files.
    log_files : list of StoredFile
        All files in the folder of the Delta log.
    small_files : list of ActiveFile
        Data files to compact.
    unneeded_files : list of StoredFile
        Data files to remove.
    unneeded_log_files : list of StoredFile
        Log files to remove.
    """

    table: Table
    files: list[StoredFile]
    log_files: list[StoredFile]
    small_files: list[ActiveFile]
    unneeded_files: list[StoredFile]
    unneeded_log_files: list[StoredFile]

    def report(self) -> TableReport:
        """Return the counts and sizes that `maintain` prints."""
        bytes_by_partition: Counter[str] = Counter()
        for file in self.small_files:
            bytes_by_partition[str(file.partition)] += file.bytes
        return {
            "table": self.table.name,
            "files": len(self.files),
            "files_bytes": sum_sizes(self.files),
            "joined": len(self.small_files),
            "joined_into": sum(math.ceil(size / MAX_FILE_BYTES) for size in bytes_by_partition.values()),
            "removed": len(self.unneeded_files),
            "removed_bytes": sum_sizes(self.unneeded_files),
            "log": len(self.log_files),
            "log_bytes": sum_sizes(self.log_files),
            "log_removed": len(self.unneeded_log_files),
            "log_removed_bytes": sum_sizes(self.unneeded_log_files),
        }


def sum_sizes(files: list[StoredFile]) -> int:
    """Return the total size of files in bytes.

    Parameters
    ----------
    files : list of StoredFile
        Files whose sizes are added.
    """
    return sum(file.bytes for file in files)


def plan_table(root: Path, table: Table, oldest: int, newest: int, cutoff: int) -> TableUpkeep:
    """Return the maintenance plan of a table.

    Parameters
    ----------
    root : Path
        Warehouse folder.
    table : Table
        The table.
    oldest : int
        Oldest Delta version that is retained.
    newest : int
        Newest Delta version that is published.
    cutoff : int
        Start of the retention period, ns since 1970 UTC. Files that were written later are never removed.

    Raises
    ------
    WarehouseError
        If a commit after the oldest retained version is missing.
    """
    folder = root / table.name
    log_files = list_folder(folder / LOG_FOLDER, deep=True)
    files = [file for file in list_folder(folder, deep=True) if folder / LOG_FOLDER not in file.path.parents]
    active_files = list_active_files(root, table, newest)
    needed = _list_needed_paths(root, table, oldest) | {file.path for file in active_files}
    unneeded_files = [
        file for file in select_older(files, cutoff) if str(file.path.relative_to(folder)) not in needed
    ]
    covered = _list_covered_files(list_log_files(root, table), oldest)
    unneeded_log_files = [
        file
        for file in select_older(log_files, cutoff)
        if file.path in covered or _UNFINISHED_LOG_FILE.search(file.path.name)
    ]
    small_files = _select_small_files(active_files) if table in COMPACTED_TABLES else []
    return TableUpkeep(table, files, log_files, small_files, unneeded_files, unneeded_log_files)


def _list_needed_paths(root: Path, table: Table, oldest: int) -> set[str]:
    """Return the paths of all data files that belong to the version `oldest` or to a later version."""
    log_files = list_log_files(root, table)
    commits = {
        version: path for version, paths in log_files.items() for path in paths if path.suffix == ".json"
    }
    first = oldest
    if 0 not in commits:  # Delta has removed old commits, so only versions from the first checkpoint on exist
        first = max(oldest, min(version for version, paths in log_files.items() if len(paths) > 1))
    if missing := set(range(first + 1, max(log_files) + 1)) - commits.keys():
        raise WarehouseError(
            f"table {root / table.name}: the commits of {len(missing):,} versions from {min(missing)} on are "
            "missing: run `deltabook verify`, which names the command that restores these commits"
        )
    needed = {file.path for file in list_active_files(root, table, first)}
    for version, path in commits.items():
        for action in read_actions(path) if version > first else ():
            if "add" in action:
                needed.add(unquote(action["add"]["path"]))
    return needed


def _list_covered_files(log_files: dict[int, list[Path]], oldest: int) -> set[Path]:
    """Return the log files that no retained version needs.

    To open the version `oldest`, Delta starts at the newest checkpoint of the log that is not after `oldest`.
    All log files before that checkpoint are returned.
    """
    checkpoints = [
        version
        for version, paths in log_files.items()
        if version <= oldest and any(path.suffix != ".json" for path in paths)
    ]
    last_checkpoint = max(checkpoints, default=-1)
    return {path for version, paths in log_files.items() for path in paths if version < last_checkpoint}


def _select_small_files(active_files: list[ActiveFile]) -> list[ActiveFile]:
    """Return the files to compact; empty if no partition has `MIN_FILES_TO_COMPACT` small files."""
    partitions: dict[str, list[ActiveFile]] = defaultdict(list)
    for file in active_files:
        if file.bytes < MAX_FILE_BYTES:
            partitions[str(file.partition)].append(file)
    if max(map(len, partitions.values()), default=0) < MIN_FILES_TO_COMPACT:
        return []
    return [file for files in partitions.values() if len(files) > 1 for file in files]


def select_older(files: Iterable[StoredFile], time: int) -> list[StoredFile]:
    """Return the files that were last modified before a time.

    Parameters
    ----------
    files : iterable of StoredFile
        Files to select from.
    time : int
        Time in ns since 1970 UTC.
    """
    return [file for file in files if file.modified < time]
