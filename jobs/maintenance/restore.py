"""The command `restore`: return a warehouse to the table versions that an earlier run has published.

The command computes no books and no verdicts. First, the command repairs damaged log files, and damaged files
of `runs` and `written`: either all these files or none. The content of repaired files comes from second
copies or from the table `written`. Then Delta returns each table to the version that the earlier run
published. Last, the command publishes the result as a new run. Replaced files are moved to the folder
`_aside`. No file is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deltabook.jobs.intake.ledger import read_ledger
from deltabook.jobs.integrity.audit import (
    AuditResult,
    StageDisplay,
    audit_files,
    find_run_faults,
    read_run_records,
)
from deltabook.jobs.integrity.log_audit import find_unpublished_commits
from deltabook.jobs.integrity.log_repair import drop_unreadable_files, repair_files
from deltabook.jobs.integrity.lost_runs import describe_lost_runs, recreate_runs
from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.integrity.recovery import RestoreReport
from deltabook.jobs.integrity.repair_plan import find_repairs
from deltabook.jobs.records.active_files import ActiveFile
from deltabook.jobs.records.file_faults import describe_damage
from deltabook.jobs.records.file_records import RUN_TABLES, list_written_since
from deltabook.jobs.runtime.disk_errors import name_disk_errors
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.delta_tables import open_table, table_exists
from deltabook.jobs.tables.published import empty_warehouse_error, had_runs
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import RunRow
from deltabook.schemas.tables import FILES, RUNS, TABLES, WRITTEN

_MAX_LISTED = 5
"""Largest number of runs or faults that an error message lists."""


def restore_warehouse(
    settings: Settings, run_id: str | None, is_meant: bool, stage: StageDisplay
) -> RestoreReport:
    """Restore every table to the version that a run published.

    Parameters
    ----------
    settings : Settings
        Settings with the address of the warehouse.
    run_id : str, optional
        Id of the run to restore. None chooses the newest run whose files are all intact.
    is_meant : bool
        Whether to apply the changes. If False, the changes are only reported.
    stage : callable
        Function that shows a stage; see `StageDisplay`.

    Returns
    -------
    RestoreReport
        The changes that were made or, after a dry run, the planned changes. If a dry run finds damaged logs,
        the report has only the repair of the logs, because the state of the tables is unknown until the logs
        are repaired.

    Raises
    ------
    WarehouseError
        If no run has the id `run_id`, or if files of the run are missing or damaged.
    """
    warehouse = Warehouse.without_spark(settings)
    root = warehouse.root
    if not had_runs(root):
        raise empty_warehouse_error(root)
    report: RestoreReport = {
        "is_done": is_meant,
        "logs": [],
        "recorded_again": 0,
        "run": run_id,
        "taken_back": [],
        "undone": [],
        "ingest_again": [],
    }
    with name_disk_errors(root), warehouse.locked():
        records = read_run_records(root, is_locked=True)
        if not records.runs:
            report["logs"] = [describe_lost_runs(root, records).to_fields()]
            if is_meant:
                report["run"] = recreate_runs(warehouse, records)
            return report
        if run_id is not None:
            _find_run(records, run_id)
        log_faults = [fault for table in TABLES.values() for fault in find_repairs(root, table, records)]
        report["logs"] = [fault.to_fields() for fault in log_faults]
        if log_faults and not is_meant:
            return report
        if log_faults:
            repair_files(warehouse, records, log_faults)
        unpublished = [
            fault for table in TABLES.values() for fault in find_unpublished_commits(root, table, records)
        ]
    audit = audit_files(root, records, stage)
    # If logs were damaged, the dry run showed only the repair of the logs, so the user has not agreed to undo
    # runs. In this case, restore the newest run unless the user named another run, and leave damaged data
    # files to the next `restore`.
    is_chosen_by_audit = run_id is not None or not log_faults
    chosen = _choose_run(root, records, audit, run_id) if is_chosen_by_audit else records.newest
    undone = records.runs[records.runs.index(chosen) + 1 :]
    damaged_runs = [file for file in audit.damaged_files if file.table is RUNS]
    damaged_written = [file for file in audit.damaged_files if file.table is WRITTEN]
    report["taken_back"] = [fault.to_fields() for fault in unpublished]
    report["run"] = chosen["run_id"]
    report["undone"] = [run["run_id"] for run in undone]
    report["ingest_again"] = _list_later_raw_files(root, records, chosen, audit) if undone else []
    report["files"] = [f"{RUNS.name} {file.path} (the rows in this file are lost)" for file in damaged_runs]
    has_lost_records = bool(damaged_written) or not records.is_complete
    if is_meant and (log_faults or unpublished or undone or has_lost_records or damaged_runs):
        if damaged_runs:
            drop_unreadable_files(warehouse, damaged_runs)
        _restore_tables(warehouse, records, chosen, report, damaged_written if has_lost_records else None)
    return report


def _restore_tables(
    warehouse: Warehouse,
    records: RunRecords,
    chosen: RunRow,
    report: RestoreReport,
    damaged_written: list[ActiveFile] | None,
) -> None:
    """Restore the tables to the versions of a run, publish the result, and complete the report.

    `damaged_written` is None if the table `written` has lost no rows. Otherwise, `damaged_written` lists the
    damaged data files of `written`; the list is empty if rows are lost only because files are missing.
    """
    with warehouse.writing("restore") as run:
        run.always_records = True  # so that repaired logs of `runs` and `written` are recorded too
        with run.stage("going back"):
            for table in TABLES.values():
                version, wanted = records.version(table), max(records.version(table, chosen), 0)
                if table not in RUN_TABLES and version > 0 and version != wanted:
                    open_table(warehouse.root, table).restore(wanted)
        if damaged_written is not None:
            report["recorded_again"] = _record_files_again(warehouse, records, damaged_written, run.run_id)
        run.summary |= {"restored": chosen["run_id"], "undone": report["undone"]}


def _find_run(records: RunRecords, run_id: str) -> RunRow:
    """Return the run with the given id; raise a `WarehouseError` if no run has this id."""
    for run in records.runs:
        if run["run_id"] == run_id:
            return run
    newest = ", ".join(run["run_id"] for run in records.runs[-_MAX_LISTED:])
    raise WarehouseError(f"no run {run_id} in this warehouse; the newest runs: {newest}")


def _choose_run(root: Path, records: RunRecords, audit: AuditResult, run_id: str | None) -> RunRow:
    """Return the run to restore: the run `run_id`, or, if that is None, the newest run with intact files.

    A `WarehouseError` is raised if files of the run `run_id` are missing or damaged, or if no run is intact.
    """
    known = audit.file_problems()
    if run_id is None:
        for run in reversed(records.runs):
            if not find_run_faults(root, records, run, known):
                return run
        raise WarehouseError(
            "every run has missing or damaged files: run `deltabook restore --from-archive --into "
            "NEW_WAREHOUSE` to ingest the raw files again, or `deltabook restore --rebuild` if only tables "
            "that are computed from events are damaged"
        )
    run = _find_run(records, run_id)
    faults = find_run_faults(root, records, run, known)
    first_retained = records.first_retained_index()
    if faults and records.runs.index(run) < first_retained:
        raise WarehouseError(
            f"run {run_id} cannot be restored: `deltabook maintain` has removed files that only this run and "
            f"earlier runs had; the oldest run with all its files is {records.runs[first_retained]['run_id']}"
        )
    if faults:
        listed = "; ".join(f"{fault.table} {fault.file}: {fault.problem}" for fault in faults[:_MAX_LISTED])
        raise WarehouseError(
            f"run {run_id} cannot be restored, because files of the run are damaged: {listed}. Choose "
            "another --run, or leave out --run to restore the newest intact run"
        )
    return run


def _list_later_raw_files(root: Path, records: RunRecords, chosen: RunRow, audit: AuditResult) -> list[str]:
    """Return the raw files that runs after the chosen run ingested; empty if the ledger is damaged."""
    if not audit.is_intact(FILES):
        return []
    newest, restored = (
        {
            row["content_hash"]: row["path"]
            for row in read_ledger(TableReader(root, dict(run["versions"])))
            if row["state"] == "ingested"
        }
        for run in (records.newest, chosen)
    )
    return sorted(path for digest, path in newest.items() if digest not in restored)


def _record_files_again(
    warehouse: Warehouse, records: RunRecords, damaged: list[ActiveFile], run_id: str
) -> int:
    """Remove damaged data files from `written`, and record the present hashes of files without a record.

    Returns
    -------
    int
        Number of files that were recorded again.
    """
    warehouse.drop(WRITTEN, damaged)
    root = warehouse.root
    known_paths = {name: {*files} for name, files in records.files.items()}
    # A repair may have replaced lost commits of `written` by new commits. The hashes of the new commits
    # differ from the recorded hashes, so the new commits are recorded again.
    known_paths[WRITTEN.name] = {
        path
        for path, record in records.files[WRITTEN.name].items()
        if not describe_damage(root / WRITTEN.name / path, record.digest)
    }
    rows = [
        {**record, "run_id": run_id}
        for table in TABLES.values()
        if table_exists(root, table)
        for record in list_written_since(root, table, 0, {}, known_paths.get(table.name, ()))
    ]
    warehouse.append(WRITTEN, rows)
    return len(rows)


def describe_restore(report: RestoreReport) -> Iterator[str]:
    """Yield lines of text that describe what `restore` changed, or, after a dry run, the planned changes.

    Parameters
    ----------
    report : RestoreReport
        Result of `restore_warehouse` or `drop_damaged_results`.

    Yields
    ------
    str
        A line of text. Most changes have one line.
    """
    for fault in report.get("logs", ()):
        yield f"repair       {fault['table']} {fault['file'] or 'rows'}: {fault['problem']}"
    for fault in report.get("taken_back", ()):
        yield f"roll back    {fault['table']}: {fault['problem']}"
    for name in report.get("files", ()):
        yield f"remove       {name}"
    for chunk in report.get("rebuilt", ()):
        yield f"rebuild      {chunk}"
    for chunk in report.get("judged", ()):
        yield f"validate     {chunk}"
    if report.get("logs"):
        yield "next         after the repair, run deltabook verify again, which can then check data files too"
    if report.get("run"):
        yield f"restore      run {report['run']}"
    for run in report.get("undone", ()):
        yield f"undo         run {run}"
    for path in report.get("ingest_again", ()):
        yield f"ingest again {path}"
    if report.get("recorded_again"):
        yield f"record       hashes of {report['recorded_again']:,} files anew: the old records are lost"
    yield "done" if report["is_done"] else "nothing changed: pass --yes to apply"
