"""Compare the files of a warehouse with the hashes that runs recorded, and choose a remedy for each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from rich.console import Console

from deltabook.jobs.console.stage_display import show_stage
from deltabook.jobs.integrity.data_file_audit import check_data_files, list_files_of_run
from deltabook.jobs.integrity.log_audit import find_log_faults
from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.records.active_files import ActiveFile, list_active_files
from deltabook.jobs.records.file_faults import Fault
from deltabook.jobs.records.file_records import LOG_FOLDER, RUN_TABLES
from deltabook.jobs.tables.published import empty_warehouse_error, had_runs
from deltabook.jobs.warehouse.locks import WRITE_LOCK, try_lock
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import RunRow
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, CHECKS, COVERAGE, GAPS, GRIDS, RUNS, TABLES, both
from deltabook.schemas.validation_tables import FIDELITY, MISMATCHES, SAMPLES, VALIDATIONS, VERDICTS

REBUILT_TABLES = (*both(CHECKPOINTS), *both(BOOKS), *both(GRIDS), GAPS, CHECKS, COVERAGE)
"""Tables that `reconstruct` computes from events."""
VALIDATION_TABLES = (FIDELITY, SAMPLES, *both(MISMATCHES), VERDICTS, VALIDATIONS)
"""Tables that `validate` computes from events, books and golden rows."""

FileProblems = dict[tuple[str, str], str]
"""Maps (table name, path below the table's folder) of a data file to its damage; empty text: intact."""

StageDisplay = Callable[[str, str, int], AbstractContextManager[Callable[[], None]]]
"""Function ``(name, unit, total) -> context manager`` that shows the progress of a stage.

`unit` is the plural noun of the units, such as "data files", and `total` is the number of units. The context
manager yields a function without arguments, which the caller calls once for each finished unit.
"""


@dataclass
class AuditResult:
    """Result of comparing the files of the newest published table versions with recorded hashes.

    Attributes
    ----------
    faults : list of Fault
        Faults of logs, followed by faults of data files.
    intact_files : list of ActiveFile
        Data files whose bytes match the recorded hash.
    damaged_files : list of ActiveFile
        Data files that are missing or differ from the recorded hash.
    unreadable_tables : set of str
        Names of tables whose log is damaged. Data files of these tables were not checked.
    log_file_count : int
        Number of log files that have a recorded hash and were compared.
    """

    faults: list[Fault] = field(default_factory=list)
    intact_files: list[ActiveFile] = field(default_factory=list)
    damaged_files: list[ActiveFile] = field(default_factory=list)
    unreadable_tables: set[str] = field(default_factory=set)
    log_file_count: int = 0

    @property
    def byte_count(self) -> int:
        """Total size of the checked data files in bytes."""
        return sum(file.bytes for file in (*self.intact_files, *self.damaged_files))

    def is_intact(self, table: Table) -> bool:
        """Return whether the log and all data files of a table match the recorded hashes."""
        has_damage = any(file.table is table for file in self.damaged_files)
        return table.name not in self.unreadable_tables and not has_damage

    def file_problems(self) -> FileProblems:
        """Return the damage of each checked data file; the text is empty for an intact file."""
        problems = {(file.table.name, file.path): "" for file in self.intact_files}
        return problems | {(fault.table, fault.file): fault.problem for fault in self.faults}


def stage_display(console: Console) -> StageDisplay:
    """Return a function that shows the progress of stages.

    A terminal shows a progress bar. Other outputs get one line when a stage ends.

    Parameters
    ----------
    console : Console
        Console to print to.
    """

    @contextmanager
    def stage(name: str, unit: str, total: int) -> Iterator[Callable[[], None]]:
        with show_stage(console, name, total, unit) as show:
            numbers = count(1)
            yield lambda: show(next(numbers))

    return stage


def read_run_records(warehouse: Path, is_locked: bool = False) -> RunRecords:
    """Return the hashes and sizes that runs recorded for the files that they wrote.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    is_locked : bool
        Whether the caller has locked the warehouse. If False, this function tries to lock the warehouse while
        it reads. If another process has the lock, the function reads without a lock.

    Returns
    -------
    RunRecords
        Recorded hashes and sizes. The list `runs` is empty if no row of the table `runs` is readable.

    Raises
    ------
    WarehouseError
        If nothing is published yet.
    """
    if not had_runs(warehouse):
        raise empty_warehouse_error(warehouse)
    with nullcontext(True) if is_locked else try_lock(warehouse / WRITE_LOCK) as is_idle:
        return RunRecords.read(warehouse, bool(is_idle))


def audit_files(warehouse: Path, records: RunRecords, stage: StageDisplay) -> AuditResult:
    """Compare the logs and data files of the newest published table versions with recorded hashes.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote. There must be at least one run.
    stage : callable
        Function that shows a stage; see `StageDisplay`.
    """
    result = AuditResult()
    published = [table for table in TABLES.values() if records.version(table) >= 0]
    files: list[ActiveFile] = []
    with stage("logs", "tables", len(published)) as advance:
        for table in published:
            log_faults = [*find_log_faults(warehouse, table, records)]
            result.faults += log_faults
            recorded_paths = records.files[table.name]
            result.log_file_count += sum(path.startswith(f"{LOG_FOLDER}/") for path in recorded_paths)
            if log_faults:
                result.unreadable_tables.add(table.name)
            else:
                files += list_active_files(warehouse, table, records.version(table))
            advance()
    with stage("hashing", "data files", len(files)) as advance:
        for file, problem in check_data_files(warehouse, records, files):
            if problem:
                result.faults.append(_make_fault(file, problem))
            (result.damaged_files if problem else result.intact_files).append(file)
            advance()
    return result


def _make_fault(file: ActiveFile, problem: str) -> Fault:
    """Return the fault of a damaged data file."""
    return Fault(file.table.name, file.path, problem, file.chunk_labels)


def find_run_faults(
    warehouse: Path,
    records: RunRecords,
    run: RunRow,
    known: FileProblems,
    tables: Iterable[Table] = TABLES.values(),
) -> list[Fault]:
    """Return the faults of the table versions that a run published.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.
    run : RunRow
        Row of `runs`.
    known : dict
        Results of earlier checks; files in this dict are not read again. This function adds the results of
        new checks to the dict.
    tables : iterable of Table
        Tables to check. `runs` and `written` are skipped, because `restore` never returns these two tables to
        older versions.
    """
    try:
        files = [
            *list_files_of_run(
                warehouse, records, run, [table for table in tables if table not in RUN_TABLES]
            )
        ]
    except WarehouseError as error:
        return [Fault(RUNS.name, "", str(error))]
    unchecked = [file for file in files if (file.table.name, file.path) not in known]
    for file, problem in check_data_files(warehouse, records, unchecked):
        known[file.table.name, file.path] = problem
    return [_make_fault(file, problem) for file in files if (problem := known[file.table.name, file.path])]


def choose_remedy(fault: Fault, warehouse: Path) -> str:
    """Return the commands that repair a fault, separated by semicolons.

    Parameters
    ----------
    fault : Fault
        Fault to repair. If the field `remedy` of the fault is not empty, that text is returned.
    warehouse : Path
        Warehouse folder.
    """
    table, option = TABLES[fault.table], f"--warehouse {warehouse}"
    if fault.remedy:
        return fault.remedy
    if table in RUN_TABLES or fault.is_copied or fault.file.startswith(f"{LOG_FOLDER}/"):
        return f"deltabook restore --yes {option}"
    validating = f"deltabook validate {option}"
    rebuilding = f"deltabook reconstruct {option}, with the same settings as before; {validating}"
    if table in REBUILT_TABLES:
        return f"deltabook restore --rebuild --yes {option}; {rebuilding}" if fault.file else rebuilding
    if table in VALIDATION_TABLES:
        return f"deltabook restore --rebuild --yes {option}; {validating}"
    return f"deltabook restore --from-archive --into NEW_WAREHOUSE {option}"
