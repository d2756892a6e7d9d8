"""Scheduled runs: ingest new raw files, and rebuild the books that the new files change.

`deltabook run --once` makes one round, and `deltabook run --watch` makes rounds until the process is stopped.
A round scans the folders, runs the stages that are due, and writes the report. A round holds the lock of
scheduled runs from start to end, so two scheduled runs never work at the same time. As in any other command,
each stage also locks the warehouse.

The ledger (table `files`) has the hash of the content of every ingested file, so it decides which files are
new. Spark's Structured Streaming has a similar trigger, `availableNow`. This trigger is not used here for two
reasons:

- The checkpoint of a stream would be a second ledger, of paths instead of content. Spark would commit this
  checkpoint separately from the run, so the checkpoint and the ledger could disagree after a killed run.
- A JVM would have to start for each scan, even if no file is new.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import ERROR
from pathlib import Path
from typing import NamedTuple

import typer
from rich.console import Console

from deltabook.expectations.suites import ERRORED, FAILED
from deltabook.jobs.console.formats import format_chunk
from deltabook.jobs.console.logging import show_message
from deltabook.jobs.console.redaction import redact
from deltabook.jobs.intake.ledger import describe_missing_paths
from deltabook.jobs.pipeline.new_files import FolderScan, read_published_ledger, scan_folders
from deltabook.jobs.pipeline.stages import (
    EXPECTATION_FAILED,
    REFUSED,
    REPORT,
    Stage,
    describe_error,
    ingest_stage,
    open_warehouse,
    print_result,
    print_summary,
    reconstruct_stage,
    report_errors,
    require_source,
    run_stages,
    stderr_console,
    validate_stage,
    write_last_report,
)
from deltabook.jobs.pipeline.stop_signals import catch_stop_signals, sleep_until_stop
from deltabook.jobs.pipeline.summary import JobSummary
from deltabook.jobs.process.error_causes import has_jvm_died
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import CHUNK_KEY_COLUMNS, TableReader
from deltabook.jobs.warehouse.locks import SCHEDULE_LOCK, WRITE_LOCK, try_lock
from deltabook.schemas.errors import BusyError, SettingsError, WarehouseError
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.tables import RUNS
from deltabook.schemas.validation_tables import VERDICTS

SETTLE_SECONDS = 60
"""Default of `Schedule.settle`: seconds without a change after which a file counts as complete."""
_LONGEST_PAUSE = 3600
"""Longest pause after a round that failed, in seconds."""
_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 1, 60
"""Shortest and longest pause between two scans, in seconds. Between these limits, the pause is `settle`."""


@dataclass(frozen=True)
class Schedule:
    """The raw files that scheduled runs ingest, and options of the stage `ingest`.

    Attributes
    ----------
    source : str
        Name of the source that parses the files.
    paths : sequence of Path
        Files and folders to scan.
    settle : int
        Seconds without a change after which a file counts as complete.
    replace, archive, judged : bool
        Values of the options `--replace`, `--archive` and `--validate`.
    """

    source: str
    paths: Sequence[Path]
    settle: int
    replace: bool = False
    archive: bool = False
    judged: bool = True


class FinishedRun(NamedTuple):
    """A published run: three columns of the run's row in the table `runs`.

    Attributes
    ----------
    run_id : str
        Id of the run.
    command : str
        Command of the run, such as `ingest`.
    finished : int
        End of the run, ns since 1970 UTC.
    """

    run_id: str
    command: str
    finished: int


def run_once(settings: Settings, schedule: Schedule, as_json: bool) -> None:
    """Scan the folders once, run the stages that are due, and print the summary.

    Parameters
    ----------
    settings : Settings
        Settings of the warehouse.
    schedule : Schedule
        The raw files to ingest.
    as_json : bool
        Whether to print the summary, or the error, as one JSON object on the last line of standard output.

    Raises
    ------
    typer.Exit
        If the round failed, an expectation failed, or a file was refused. The exception has the exit status.
    """
    try:
        summary = _run_round(settings, schedule, stderr_console)
    except typer.Exit as failure:
        print_result(_describe_failure(failure), as_json)
        raise
    shown = summary.copy()
    if not summary["files_new"]:  # no file was read, so there are no counts of messages to show
        del shown["files_new"]
    print_summary(shown)
    print_result(summary, as_json)
    if summary["exit_status"]:
        raise typer.Exit(summary["exit_status"])


def watch(settings: Settings, schedule: Schedule, as_json: bool) -> None:
    """Scan the folders repeatedly and process new files, until SIGTERM or SIGINT.

    The Spark session stays open between rounds. If a round fails, the function prints the error and pauses
    before the next round. The pause doubles with each failure. If a round failed because another process was
    writing, the pause has the normal length.

    Parameters
    ----------
    settings : Settings
        Settings of the warehouse.
    schedule : Schedule
        The raw files to ingest.
    as_json : bool
        Whether to print one JSON object to standard output for each round that did something or failed.

    Raises
    ------
    typer.Exit
        If a round failed because a setting is wrong or Spark's JVM has died, so that later rounds would fail.
    """
    with report_errors():
        if problem := describe_missing_paths(schedule.paths):
            raise SettingsError(problem)
        require_source(schedule.source)
        read_published_ledger(settings.warehouse.absolute())
        open_warehouse(settings)
    interval = min(max(schedule.settle, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)
    pause = interval
    with catch_stop_signals() as is_stopping:
        show_message(f"watching     {', '.join(map(str, schedule.paths))}, every {interval} s")
        while not is_stopping.is_set():
            started = time.monotonic()
            try:
                summary = _run_round(settings, schedule, Console(quiet=True))
            except typer.Exit as failure:
                print_result(_describe_failure(failure), as_json)
                if _is_permanent(failure.__cause__):
                    raise
                is_busy = isinstance(failure.__cause__, BusyError)
                pause = interval if is_busy else min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = interval
                if summary["files_new"] or summary["refused"] or "symbol_hours" in summary:
                    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}  {_describe_round(summary)}"
                    show_message(f"{line}; {time.monotonic() - started:.1f} s")
                    print_result(summary, as_json)
            sleep_until_stop(pause, is_stopping)


def _run_round(settings: Settings, schedule: Schedule, console: Console) -> JobSummary:
    """Scan the folders, run the stages that are due, and return the summary of the round.

    The summary includes the exit status.
    """
    root = settings.warehouse.absolute()
    with report_errors(), _hold_schedule_lock(root):
        scan = scan_folders(root, schedule.source, schedule.paths, schedule.replace, schedule.settle)
        summary: JobSummary = {
            "files_new": 0,
            "files_known": scan.known,
            "files_waiting": scan.waiting,
            "refused": [file._asdict() for file in scan.refused],
            "refused_before": [file._asdict() for file in scan.refused_before],
        }
        if not console.quiet:
            show_message(_describe_scan(scan))
        runs = _read_finished_runs(root)
        if stages := _choose_stages(schedule, scan, runs):
            _require_no_writer(root)
            results = run_stages(settings, stages, schedule.judged, console)
            results["refused"] = [*summary["refused"], *results.get("refused", [])]
            results["files_known"] = scan.known + results.get("files_known", 0)
            summary |= results
            if schedule.judged:
                earlier_runs = {run.run_id for run in runs}
                summary["symbol_hours_failed_now"] = _list_new_failures(root, earlier_runs)
        if schedule.judged and _is_report_outdated(root):
            summary |= write_last_report(settings)
    status = EXPECTATION_FAILED if summary.get("symbol_hours_failed_now") else 0
    return summary | {"exit_status": REFUSED if summary["refused"] else status}


def _read_finished_runs(root: Path) -> list[FinishedRun]:
    """Return all published runs of a warehouse."""
    rows = TableReader(root).rows(RUNS, *FinishedRun._fields)
    return [FinishedRun(row["run_id"], row["command"], row["finished"]) for row in rows]


def _choose_stages(schedule: Schedule, scan: FolderScan, runs: Sequence[FinishedRun]) -> list[Stage]:
    """Return the stages that are due.

    If there are new files, all stages are due. Otherwise, a stage is due if the stage before it has finished
    more recently, which happens if an earlier round was killed between the two stages.
    """
    stages = [reconstruct_stage(schedule.judged), *([validate_stage()] if schedule.judged else [])]
    if scan.new:
        options = schedule.replace, schedule.archive, schedule.judged
        return [ingest_stage(schedule.source, scan.new, *options), *stages]
    finished: dict[str, int] = {}
    for run in runs:
        finished[run.command] = max(run.finished, finished.get(run.command, 0))
    if max(finished.get("ingest", 0), finished.get("restore", 0)) > finished.get("reconstruct", 0):
        return stages
    return stages[1:] if finished.get("reconstruct", 0) > finished.get("validate", 0) else []


def _list_new_failures(root: Path, earlier_runs: set[str]) -> list[str]:
    """Return the chunks that failed a suite in this round.

    Failures of earlier runs are left out, so that each failure raises the alarm only once.
    """
    rows = TableReader(root, published_versions(root)).rows(
        VERDICTS, *CHUNK_KEY_COLUMNS, "suite", "verdict", "run_id"
    )
    return sorted(
        f"{row['suite']}: {row['exchange']} {row['symbol']} {format_chunk(row['hour'])}"
        for row in rows
        if row["verdict"] in (FAILED, ERRORED)
        and row["hour"] != ALL_HOURS
        and row["run_id"] not in earlier_runs
    )


def _is_report_outdated(root: Path) -> bool:
    """Return whether the report of the warehouse is missing or older than the last run of `validate`."""
    validated = [run.finished for run in _read_finished_runs(root) if run.command == "validate"]
    report = root / REPORT
    return bool(validated) and (not report.exists() or report.stat().st_mtime_ns < max(validated))


@contextmanager
def _hold_schedule_lock(root: Path) -> Iterator[None]:
    """Hold the lock of scheduled runs in the block; raise an error if another process holds this lock."""
    root.mkdir(parents=True, exist_ok=True)
    with try_lock(root / SCHEDULE_LOCK) as is_acquired:
        if is_acquired is None:
            raise WarehouseError(
                f"warehouse {root} is not writable: fix its permissions or choose another --warehouse"
            )
        if not is_acquired:
            raise BusyError(f"warehouse {root}: another scheduled run is in progress; nothing was done")
        yield


def _require_no_writer(root: Path) -> None:
    """Raise `BusyError` if another process is writing to the warehouse. This check needs no Spark."""
    with try_lock(root / WRITE_LOCK) as is_acquired:
        if is_acquired is False:
            raise BusyError(f"warehouse {root} is being written by another process; nothing was done")


def _is_permanent(error: BaseException | None) -> bool:
    """Return whether the error of a round means that later rounds fail: a wrong setting, or a dead JVM."""
    if error is not None and has_jvm_died(error):
        show_message("deltabook: Spark has stopped, so the watch ends. Start the watch again.", ERROR)
        return True
    return isinstance(error, SettingsError)


def _describe_failure(failure: typer.Exit) -> JobSummary:
    """Return the summary of a round that ended with an error: the message and the exit status."""
    message = describe_error(failure.__cause__)[0] if failure.__cause__ else ""
    return {"error": message, "exit_status": failure.exit_code}


def _describe_scan(scan: FolderScan) -> str:
    """Return one line with the counts of a scan."""
    return (
        f"{'scanned' if scan.new else 'nothing new':<12} {len(scan.new):,} new, {scan.known:,} known, "
        f"{scan.waiting:,} waiting, {len(scan.refused_before):,} refused before"
    )


def _describe_round(summary: JobSummary) -> str:
    """Return one line with the counts of a round of `watch`."""
    parts = [
        f"{summary.get('files_read', 0):,} files read, {len(summary['refused']):,} refused, "
        f"{summary['files_waiting']:,} waiting"
    ]
    if "symbol_hours" in summary:
        parts.append(f"{summary['symbol_hours_rebuilt']:,} of {summary['symbol_hours']:,} chunks rebuilt")
    if "symbol_hours_failed_now" in summary:
        parts.append(f"{len(summary['symbol_hours_failed_now']):,} failed")
    parts += [f"refused {file['path']}: {file['reason']}" for file in summary["refused"]]
    return redact("; ".join(parts))
