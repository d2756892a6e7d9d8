"""Plan the maintenance of a warehouse from its logs and folders, without Spark.

A run is retained if readers saw the table versions of the run at any time within the retention period. Of
each table, the version that the oldest retained run published and all later versions are retained.

A data file is removed if the file belongs to no retained version and was written before the retention period
began. This includes files that a killed run has left. A commit is removed if a checkpoint replaces the commit
and is not later than the oldest retained version. The table `written` still contains the bytes of removed
commits.

Data files of events, golden rows, checkpoints, books and samples are never compacted. Each of these files
contains one chunk, and later stages detect changed inputs by the names of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict, cast

from deltabook.jobs.intake.ledger import ARCHIVE_FOLDER, read_ledger
from deltabook.jobs.integrity.audit import read_run_records
from deltabook.jobs.integrity.log_audit import find_log_faults
from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.maintenance.retention import RetentionPolicy
from deltabook.jobs.maintenance.table_upkeep import (
    TableReport,
    TableUpkeep,
    plan_table,
    select_older,
    sum_sizes,
)
from deltabook.jobs.records.file_records import (
    published_version,
)
from deltabook.jobs.tables.delta_tables import table_exists
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import LedgerRow, RunRow
from deltabook.schemas.tables import RUNS, TABLES
from deltabook.udfs.storage.object_store import StoredFile, list_folder

_PARTIAL_SUFFIX = ".partial"


class MaintenanceReport(TypedDict):
    """Counts and sizes of everything that `maintain` changes, in the form of the JSON output of `maintain`.

    Attributes
    ----------
    is_done : bool
        Whether the changes were made.
    kept_from : str
        Id of the oldest retained run.
    kept_since : int
        Start of the retention period, ns since 1970 UTC.
    kept_runs : int
        Number of retained runs.
    tables : list of TableReport
        One report for each table.
    left, left_bytes : int
        Number of files that killed commands left outside of tables, and their total size in bytes.
    copies, copies_bytes : int
        Number of archived copies of raw files that are removed, and their total size in bytes.
    last_copies : int
        Number of removed copies whose original raw file no longer exists.
    """

    is_done: bool
    kept_from: str
    kept_since: int
    kept_runs: int
    tables: list[TableReport]
    left: int
    left_bytes: int
    copies: int
    copies_bytes: int
    last_copies: int


@dataclass(frozen=True)
class UpkeepPlan:
    """Maintenance plan of a warehouse.

    Attributes
    ----------
    policy : RetentionPolicy
        How long versions, files and copies of raw files are retained.
    retained_runs : list of RunRow
        Rows of `runs` whose versions are retained, the newest row last.
    tables : list of TableUpkeep
        One plan for each table.
    leftovers : list of StoredFile
        Files that killed commands left outside of tables.
    ledger : list of LedgerRow
        Rows of the table `files`.
    expired_copies : list of StoredFile
        Archived copies of raw files to remove.
    """

    policy: RetentionPolicy
    retained_runs: list[RunRow]
    tables: list[TableUpkeep]
    leftovers: list[StoredFile]
    ledger: list[LedgerRow]
    expired_copies: list[StoredFile]

    @classmethod
    def make(cls, root: Path, policy: RetentionPolicy, is_locked: bool = False) -> UpkeepPlan:
        """Return the maintenance plan of a warehouse.

        Parameters
        ----------
        root : Path
            Warehouse folder.
        policy : RetentionPolicy
            How long versions, files and copies of raw files are retained.
        is_locked : bool
            Whether the caller has locked the warehouse.

        Raises
        ------
        WarehouseError
            If nothing is published yet, or a log is damaged.
        """
        versions = require_published(root)
        records = read_run_records(root, is_locked)
        rows = cast(list[RunRow], TableReader(root).rows(RUNS))
        runs = sorted(rows, key=lambda row: int(row["finished"]))
        # The last run before the retention period is retained too: readers saw its versions when the period
        # began.
        before = [index for index, run in enumerate(runs) if run["finished"] <= policy.cutoff]
        retained_runs = runs[before[-1] if before else 0 :]
        tables = []
        for table in (table for table in TABLES.values() if table_exists(root, table)):
            _require_intact_log(root, table, records)
            # Version 0 is the empty table.
            oldest, newest = (max(published_version(table, run), 0) for run in (retained_runs[0], runs[-1]))
            tables.append(plan_table(root, table, oldest, newest, policy.cutoff))
        ledger = read_ledger(TableReader(root, versions))
        leftovers = select_older(_list_leftovers(root), policy.cutoff)
        expired_copies = _list_expired_copies(root, ledger, policy)
        return cls(policy, retained_runs, tables, leftovers, ledger, expired_copies)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        has_table_work = any(
            table.small_files or table.unneeded_files or table.unneeded_log_files for table in self.tables
        )
        return not (self.leftovers or self.expired_copies or has_table_work)

    @cached_property
    def pruned_rows(self) -> list[LedgerRow]:
        """Rows of the ledger about raw files whose archived copies are removed."""
        names = {file.path.name for file in self.expired_copies}
        return [row for row in self.ledger if row["archived"] and row["content_hash"] in names]

    def report(self, is_done: bool) -> MaintenanceReport:
        """Return the counts and sizes that `maintain` prints.

        Parameters
        ----------
        is_done : bool
            Whether the changes are made. False means a dry run.
        """
        return {
            "is_done": is_done,
            "kept_from": self.retained_runs[0]["run_id"],
            "kept_since": self.policy.cutoff,
            "kept_runs": len(self.retained_runs),
            "tables": [table.report() for table in self.tables],
            "left": len(self.leftovers),
            "left_bytes": sum_sizes(self.leftovers),
            "copies": len(self.expired_copies),
            "copies_bytes": sum_sizes(self.expired_copies),
            "last_copies": sum(not Path(row["path"]).is_file() for row in self.pruned_rows),
        }


def _require_intact_log(root: Path, table: Table, records: RunRecords) -> None:
    """Raise an error if the log of a published table is damaged."""
    if records.version(table) >= 0 and (faults := [*find_log_faults(root, table, records)]):
        raise WarehouseError(
            f"table {root / table.name}: {faults[0].file}: {faults[0].problem}. Nothing is removed while a "
            "log is damaged: run `deltabook verify`, which names the command that repairs the log"
        )


def _list_leftovers(root: Path) -> list[StoredFile]:
    """Return the files that killed commands left outside of tables."""
    archived = list_folder(root / ARCHIVE_FOLDER, deep=True)
    partial = [file for file in archived if file.path.suffix == _PARTIAL_SUFFIX]
    return partial + [file for folder in root.glob("_as_of-*") for file in list_folder(folder, deep=True)]


def _list_expired_copies(
    root: Path, ledger: Sequence[LedgerRow], policy: RetentionPolicy
) -> list[StoredFile]:
    """Return the archived copies of raw files that are older than the retention period of the archive.

    The list is empty if the policy retains all copies. The list never contains copies of files that could not
    be ingested.
    """
    if policy.archive_retention is None:
        return []
    refused = {row["content_hash"] for row in ledger if row["state"] == "failed"}
    copies = [
        file
        for file in list_folder(root / ARCHIVE_FOLDER, deep=True)
        if file.path.suffix != _PARTIAL_SUFFIX and file.path.name not in refused
    ]
    return select_older(copies, policy.now - policy.archive_retention)
