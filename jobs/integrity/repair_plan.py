"""Plan how to restore damaged log files of all tables, and damaged files of `runs` and `written`.

The content of restored files comes from second copies (see `jobs.records.second_copies`), or from the table
`written`, which stores the bytes of every commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deltabook.jobs.integrity.log_audit import (
    CHECKPOINT_POINTER,
    find_log_faults,
    find_swapped_files,
    find_unpublished_commits,
    list_later_log_files,
)
from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.records.active_files import list_active_files
from deltabook.jobs.records.copy_faults import NO_COPY, find_copy_faults, find_small_table_faults
from deltabook.jobs.records.file_faults import Fault, describe_damage
from deltabook.jobs.records.file_records import (
    LOG_FOLDER,
    RUN_TABLES,
    last_recorded_run,
    list_log_files,
    published_version,
    read_actions,
)
from deltabook.jobs.records.file_replacement import Replacement
from deltabook.jobs.records.second_copies import (
    SMALL_TABLES,
    SecondCopy,
    list_all_copies,
    list_copies,
)
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.tables.published import COPIES_FOLDER
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, WRITTEN
from deltabook.udfs.storage.object_store import list_folder


def find_repairs(root: Path, table: Table, records: RunRecords) -> Iterator[Fault]:
    """Yield the faults that must be repaired before the published version of a table can be opened.

    Parameters
    ----------
    root : Path
        Warehouse folder.
    table : Table
        The table.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote. There must be at least one run.

    Yields
    ------
    Fault
        A fault of the table's log, or of unpublished commits that Delta cannot roll back. For `runs`,
        `written` and small tables, also a fault of a data file or of a second copy.
    """
    faults: dict[str, Fault] = {}
    if records.version(table) >= 0:
        faults = {fault.file: fault for fault in find_log_faults(root, table, records)}
    if table in RUN_TABLES:
        for fault in find_copy_faults(root, table, records.version(table), records.is_idle):
            if fault.problem == NO_COPY:
                faults.setdefault(fault.file, fault)
            else:
                faults[fault.file] = fault
    if table in SMALL_TABLES and records.version(table) >= 0:
        is_log_intact = not faults
        faults |= {fault.file: fault for fault in compare_small_table(root, table, records, is_log_intact)}
    yield from faults.values()
    unpublished = [*find_unpublished_commits(root, table, records)]
    if unpublished and (table is RUNS or not _can_roll_back(root, table, records)):
        yield from unpublished


def compare_small_table(
    root: Path, table: Table, records: RunRecords, is_log_intact: bool
) -> Iterator[Fault]:
    """Yield the faults of a small table: damaged data files, and missing or damaged second copies.

    Parameters
    ----------
    root : Path
        Warehouse folder.
    table : Table
        One of `SMALL_TABLES`. A run must have published this table.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.
    is_log_intact : bool
        Whether the table's log can be read.

    Yields
    ------
    Fault
        One fault; see `find_small_table_faults`.
    """
    active_paths = None
    if is_log_intact:
        active_paths = {file.path for file in list_active_files(root, table, records.version(table))}
    digests = {path: record.digest for path, record in records.files[table.name].items()}
    return find_small_table_faults(root, table, active_paths, digests, records.is_idle)


def _can_roll_back(root: Path, table: Table, records: RunRecords) -> bool:
    """Return whether Delta can roll back a table to the published version.

    Delta can do so if no commit after the published version is missing or unreadable.
    """
    published = max(records.version(table), 0)
    later = {version: paths for version, paths in list_log_files(root, table).items() if version > published}
    commit_count = sum(any(path.suffix == ".json" for path in paths) for paths in later.values())
    try:
        for path in list_later_log_files(root, table, published):
            if path.suffix == ".json":
                read_actions(path)
    except ValueError:
        return False
    return sorted(later) == [*range(published + 1, published + 1 + commit_count)]


@dataclass(frozen=True)
class TableRepair:
    """Plans how to restore the files of one table.

    Attributes
    ----------
    root : Path
        Warehouse folder.
    table : Table
        Table to repair.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.
    """

    root: Path
    table: Table
    records: RunRecords

    @property
    def folder(self) -> Path:
        """Folder of the table."""
        return self.root / self.table.name

    def plan(self, faults: list[Fault]) -> Iterator[Replacement]:
        """Yield the replacements that restore the files of the table.

        Parameters
        ----------
        faults : list of Fault
            Results of `find_repairs` for this table.

        Raises
        ------
        WarehouseError
            If a commit is missing or damaged, has no second copy, and `written` has no record of its bytes.
        """
        copies = list_copies(self.root, self.table)
        if not copies:
            yield from self._discard_foreign_files()
        has_lost_commit = False
        swapped = find_swapped_files(self.root, self.records) if self.table is RUNS and not copies else {}
        for fault in faults:
            if fault.file in swapped:
                yield Replacement(f"{self.table.name}/{fault.file}", self.folder / swapped[fault.file])
            elif fault.file:
                has_lost_commit |= self._is_lost_commit(fault, copies)
                yield from self._repair_file(fault, copies)
        yield from self._discard_later_files(copies, has_lost_commit)

    def _discard_foreign_files(self) -> Iterator[Replacement]:
        """Yield replacements that move aside an unusable log of `written`, and second copies.

        The second copies belong to another warehouse.
        """
        if self.table is WRITTEN and self._is_log_lost():
            for file in list_folder(self.folder / LOG_FOLDER):
                yield Replacement(f"{self.table.name}/{LOG_FOLDER}/{file.path.name}")
        for copy in list_all_copies(self.root, self.table).values():
            yield Replacement(str(copy.file.relative_to(self.root)))

    def _is_log_lost(self) -> bool:
        """Return whether the log of `written` belongs to another warehouse, or cannot be read."""
        if self.records.is_written_foreign or self.records.is_complete:
            return self.records.is_written_foreign
        try:
            open_table(self.root, self.table)
        except WarehouseError:
            return True
        return False

    def _repair_file(self, fault: Fault, copies: dict[str, SecondCopy]) -> Iterator[Replacement]:
        """Yield the replacements for one file.

        If only the second copy of a file is damaged, the copy is replaced. A damaged file is restored from
        the second copy if the copy is intact, otherwise from the bytes in `written`. If there is neither an
        intact copy nor a record of the bytes, a damaged log file is moved aside, and a damaged data file
        stays.
        """
        path, copy = f"{self.table.name}/{fault.file}", copies.get(fault.file)
        if copy and not describe_damage(self.root / path, copy.digest):
            yield Replacement(f"{COPIES_FOLDER}/{self.table.name}/{copy.file.name}", self.root / path)
            return
        if copy and copy.is_intact():
            yield Replacement(path, copy.file)
            return
        if copy:  # the file and its copy are both damaged
            yield Replacement(f"{COPIES_FOLDER}/{self.table.name}/{copy.file.name}")
        content = self.records.read_content(self.table, fault.file)
        if content and fault.problem != NO_COPY:
            yield Replacement(path, content)
        elif not fault.file.startswith(f"{LOG_FOLDER}/") or self._lacks_only_copy(fault):
            return  # `restore` removes damaged data files later, and `repair_files` makes missing copies
        elif not fault.file.endswith(".json"):
            yield Replacement(path)
            yield Replacement(f"{self.table.name}/{LOG_FOLDER}/{CHECKPOINT_POINTER}")
        elif fault.file in self.records.files[self.table.name] and self.table not in RUN_TABLES:
            raise WarehouseError(
                f"table {self.folder}: {fault.file} is damaged and has no copy: put the file back from a "
                "backup, or run `deltabook restore --from-archive --into NEW_WAREHOUSE`"
            )
        else:
            yield Replacement(path)

    def _is_lost_commit(self, fault: Fault, copies: dict[str, SecondCopy]) -> bool:
        """Return whether the damaged file is a commit that has neither an intact copy nor recorded bytes."""
        copy = copies.get(fault.file)
        is_copied = copy and (copy.is_intact() or not describe_damage(self.folder / copy.path, copy.digest))
        is_commit = fault.file.startswith(f"{LOG_FOLDER}/") and fault.file.endswith(".json")
        if is_copied or not is_commit or self._lacks_only_copy(fault):
            return False
        return not self.records.read_content(self.table, fault.file)

    def _lacks_only_copy(self, fault: Fault) -> bool:
        """Return whether the only problem of a file is that its second copy is missing.

        The result is False for a checkpoint of the log that no run recorded, because such a file does not
        belong to the table.
        """
        is_recorded = fault.file in self.records.files[fault.table]
        return fault.problem == NO_COPY and (is_recorded or fault.file.endswith(".json"))

    def _discard_later_files(
        self, copies: dict[str, SecondCopy], has_lost_commit: bool
    ) -> Iterator[Replacement]:
        """Yield replacements that move aside the log files of versions after the last usable version.

        For a table other than `runs`, the result is empty if Delta can roll back the table to the published
        version.
        """
        last_version = max(self.records.version(self.table), 0)
        if self.table is RUNS and has_lost_commit:
            last_version = published_version(RUNS, last_recorded_run(self.records.runs))
        if self.table is RUNS or not _can_roll_back(self.root, self.table, self.records):
            for file in list_later_log_files(self.root, self.table, last_version):
                # Recorded and copied commits stay in place: a recorded commit after the published version has
                # compacted files, and a commit with a copy is intact.
                path = f"{LOG_FOLDER}/{file.name}"
                if path not in self.records.files[self.table.name] and path not in copies:
                    yield Replacement(f"{self.table.name}/{path}")
