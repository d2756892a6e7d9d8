"""The command `verify`: check that no file of a warehouse has changed since a run wrote the file. No Spark.

Logs and data files are compared with the hashes that runs recorded, and row counts with the ledger. Threads
read several files in parallel, because hashing releases Python's global interpreter lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NotRequired, TypedDict

from rich.console import Console

from deltabook.jobs.console.formats import format_size
from deltabook.jobs.intake.ledger import get_archive_path, list_raw_file_locations, read_ledger
from deltabook.jobs.integrity.audit import (
    AuditResult,
    StageDisplay,
    audit_files,
    choose_remedy,
    find_run_faults,
    read_run_records,
    stage_display,
)
from deltabook.jobs.integrity.log_audit import find_log_faults, find_unpublished_commits
from deltabook.jobs.integrity.lost_runs import describe_lost_runs
from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.integrity.recount import count_rows, find_count_faults, is_counted
from deltabook.jobs.integrity.repair_plan import compare_small_table
from deltabook.jobs.records.copy_faults import find_copy_faults
from deltabook.jobs.records.file_faults import Fault, FaultFields
from deltabook.jobs.records.file_records import RUN_TABLES
from deltabook.jobs.records.file_replacement import list_unfinished_repairs
from deltabook.jobs.records.second_copies import SMALL_TABLES
from deltabook.jobs.tables.published import had_runs
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.locks import WRITE_LOCK, try_lock
from deltabook.schemas.rows import RunRow
from deltabook.schemas.tables import FILES, HOURS, RUNS, TABLES
from deltabook.udfs.storage.raw_files import has_content


class Verification(TypedDict):
    """Result of `verify`, in the form of the JSON output of `verify`.

    Attributes
    ----------
    warehouse : str
        Warehouse folder.
    run : str
        Id of the newest run; empty if `runs` is lost.
    is_written : bool
        Whether another process was writing to the warehouse, or may have been writing because the lock file
        is not accessible. If True, only published versions were compared.
    log_files : int
        Number of log files that were compared.
    data_files : int
        Number of data files that were compared.
    bytes : int
        Total size of the compared data files.
    bytes_per_second : int
        `bytes` divided by the seconds that it took to check logs, second copies and data files.
    seconds : float
        Duration of the whole verification in seconds.
    unread : list of str
        Names of tables whose log is damaged. Data files of these tables were not compared.
    findings : list of FaultFields
        All faults, each with a remedy.
    runs : int
        Number of runs. Only a deep verification has this field.
    restorable : list of str
        Ids of the runs whose files are all intact. Only a deep verification has this field.
    """

    warehouse: str
    run: str
    is_written: bool
    log_files: int
    data_files: int
    bytes: int
    bytes_per_second: int
    seconds: float
    unread: list[str]
    findings: list[FaultFields]
    runs: NotRequired[int]
    restorable: NotRequired[list[str]]


def verify_warehouse(warehouse: Path, is_deep: bool, console: Console) -> Verification:
    """Check the files of a warehouse against recorded hashes, and row counts against the ledger.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    is_deep : bool
        Whether to also check raw files, archived copies of raw files, and files of earlier runs.
    console : Console
        Console that shows progress.

    Returns
    -------
    Verification
        The findings, and how many files and bytes were checked at which speed.

    Raises
    ------
    WarehouseError
        If nothing is published yet.
    """
    started = time.monotonic()
    stage = stage_display(console)
    # All checks use the records that are read here, even if another process publishes a run later.
    with try_lock(warehouse / WRITE_LOCK) if had_runs(warehouse) else nullcontext() as is_idle:
        records = read_run_records(warehouse, is_locked=bool(is_idle))
        faults = [*_find_unfinished_repairs(warehouse)] if is_idle else []
        if records.runs:
            faults += _find_copy_and_commit_faults(warehouse, records, bool(is_idle))
    if not records.runs:
        return _report_lost_runs(warehouse, records, faults)
    audit = audit_files(warehouse, records, stage)
    audit_seconds = time.monotonic() - started
    reported = {(fault.table, fault.file) for fault in faults}
    faults += [fault for fault in audit.faults if (fault.table, fault.file) not in reported]
    faults += _find_count_faults(warehouse, records, audit, stage)
    restorable: list[str] = []
    if is_deep:
        faults += _find_raw_file_faults(warehouse, records, stage) if audit.is_intact(FILES) else []
        restorable = _list_restorable_runs(warehouse, records, audit, stage)
    result: Verification = {
        "warehouse": str(warehouse),
        "run": records.newest["run_id"],
        "is_written": not is_idle,
        "log_files": audit.log_file_count,
        "data_files": len(audit.intact_files) + len(audit.damaged_files),
        "bytes": audit.byte_count,
        "bytes_per_second": round(audit.byte_count / audit_seconds),
        "seconds": round(time.monotonic() - started, 2),
        "unread": sorted(audit.unreadable_tables),
        "findings": _add_remedies(faults, warehouse),
    }
    if is_deep:
        result |= {"runs": len(records.runs), "restorable": restorable}
    return result


def _add_remedies(faults: list[Fault], warehouse: Path) -> list[FaultFields]:
    """Return the fields of each fault, with the remedy filled in."""
    return [{**fault.to_fields(), "remedy": choose_remedy(fault, warehouse)} for fault in faults]


def _find_unfinished_repairs(warehouse: Path) -> Iterator[Fault]:
    """Yield a fault for each repair whose process was killed."""
    for folder in list_unfinished_repairs(warehouse):
        problem = (
            f"a repair was killed and left files in {folder}; the next command that writes undoes the repair"
        )
        yield Fault(RUNS.name, "", problem)


def _find_copy_and_commit_faults(warehouse: Path, records: RunRecords, is_idle: bool) -> Iterator[Fault]:
    """Yield faults of second copies and, if no process is writing, faults of unpublished commits."""
    for table in RUN_TABLES:
        yield from find_copy_faults(warehouse, table, records.version(table), is_idle)
    for table in SMALL_TABLES:
        if records.version(table) >= 0:
            is_log_intact = not any(find_log_faults(warehouse, table, records))
            yield from compare_small_table(warehouse, table, records, is_log_intact)
    for table in TABLES.values() if is_idle else ():
        yield from find_unpublished_commits(warehouse, table, records)


def _report_lost_runs(warehouse: Path, records: RunRecords, faults: list[Fault]) -> Verification:
    """Return the result for a warehouse in which no row of `runs` is readable: nothing could be compared."""
    return {
        "warehouse": str(warehouse),
        "run": "",
        "is_written": False,
        "log_files": 0,
        "data_files": 0,
        "bytes": 0,
        "bytes_per_second": 0,
        "seconds": 0,
        "unread": [RUNS.name],
        "findings": _add_remedies([*faults, describe_lost_runs(warehouse, records)], warehouse),
    }


def _find_count_faults(
    warehouse: Path, records: RunRecords, audit: AuditResult, stage: StageDisplay
) -> Iterator[Fault]:
    """Yield the faults of row counts and ids in intact data files.

    Row counts are compared with the ledger, and ids with the id boundaries (table `hours`). Nothing is
    compared if the ledger or the id boundaries are damaged.
    """
    if not audit.is_intact(FILES) or not audit.is_intact(HOURS):
        return
    is_complete = not (audit.damaged_files or audit.unreadable_tables)
    file_count = sum(is_counted(file.table) for file in audit.intact_files)
    with stage("counting", "data files", file_count) as advance:
        counts = count_rows(warehouse, audit.intact_files, advance)
    tables = TableReader(warehouse, dict(records.newest["versions"]))
    yield from find_count_faults(tables, counts, _are_books_current(records.runs), is_complete)


def _are_books_current(runs: list[RunRow]) -> bool:
    """Return whether books were rebuilt after the last ingest.

    A run of `restore` undoes all runs after the run that it restores. Runs that were undone are ignored.
    """
    indices = {run["run_id"]: index for index, run in enumerate(runs)}
    index = len(runs) - 1
    while index >= 0 and runs[index]["command"] != "ingest":
        if runs[index]["command"] == "reconstruct":
            return True
        restored = json.loads(runs[index]["summary"]).get("restored")
        index = indices.get(restored, -1) if runs[index]["command"] == "restore" else index - 1
    return False


def _list_restorable_runs(
    warehouse: Path, records: RunRecords, audit: AuditResult, stage: StageDisplay
) -> list[str]:
    """Return the ids of the runs whose files are all intact."""
    known, restorable = audit.file_problems(), []
    with stage("runs", "published versions", len(records.runs)) as advance:
        for run in records.runs:
            if not find_run_faults(warehouse, records, run, known):
                restorable.append(str(run["run_id"]))
            advance()
    return restorable


def _find_raw_file_faults(warehouse: Path, records: RunRecords, stage: StageDisplay) -> Iterator[Fault]:
    """Yield a fault for each raw file that is lost, and for each archived copy that is missing or damaged.

    Raw files and copies are compared with the hashes in the ledger.
    """
    ledger = read_ledger(TableReader(warehouse, dict(records.newest["versions"])))
    with stage("raw files", "files", len(ledger)) as advance:
        for row in ledger:
            locations = list_raw_file_locations(warehouse, row)
            intact = [path for path in locations if has_content(path, row["content_hash"])]
            archived = get_archive_path(warehouse, row["content_hash"])
            if row["state"] == "ingested" and not intact and not row["reason"]:
                problem = "missing or changed since it was ingested, and the archive has no intact copy"
                yield Fault(FILES.name, row["path"], problem, remedy="put the file back from a backup")
            elif row["archived"] and archived not in intact:
                problem = f"the copy of {row['path']} is missing or damaged"
                remedy = f"copy {row['path']} to {archived}"
                yield Fault(FILES.name, str(archived), problem, remedy=remedy)
            advance()


def print_verification(result: Verification, console: Console) -> None:
    """Print the findings, each with its remedy, and a summary.

    Parameters
    ----------
    result : Verification
        Result of `verify_warehouse`.
    console : Console
        Console to print to.
    """
    show = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    for finding in result["findings"]:
        show(f"{finding['table']}  {finding['file'] or 'rows'}: {finding['problem']}")
        if finding["hours"]:
            show(f"    affects: {', '.join(finding['hours'])}")
        show(f"    repair:  {finding['remedy']}")
    if result["is_written"]:
        show("another process is writing, or the lock cannot be tried: only published versions were checked")
    if result["unread"]:
        tables = ", ".join(result["unread"])
        show(f"not checked, because their logs are damaged: {tables}. Repair the logs, then verify again")
    if "restorable" in result:
        show(f"{len(result['restorable'])} of {result['runs']} runs can be restored")
    size, rate = format_size(result["bytes"]), format_size(result["bytes_per_second"])
    files = f"{result['data_files']:,} data files ({size}, {rate}/s) and {result['log_files']:,} log files"
    count = len(result["findings"])
    show(f"{files}: {count or 'no'} {'finding' if count == 1 else 'findings'}")


# FIXME
