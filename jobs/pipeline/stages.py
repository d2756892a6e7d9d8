"""What every command does around its jobs: read settings, open a session, run stages, report errors, exit."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from logging import ERROR, INFO, WARNING
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console

from deltabook.expectations.suites import BOOKS, EVENTS, RAW, SUITES, start_import
from deltabook.jobs.console.closed_output import is_output_closed, leave_quietly
from deltabook.jobs.console.logging import (
    current_fields,
    is_json_log,
    log_event,
    log_fields,
    set_log_form,
    show_message,
)
from deltabook.jobs.console.logging import stderr_console as stderr_console
from deltabook.jobs.console.redaction import redact
from deltabook.jobs.process.error_causes import describe_error as describe_error
from deltabook.jobs.process.interruptions import Interrupted, is_interrupted
from deltabook.jobs.runtime.jvm_output import drop
from deltabook.jobs.runtime.settings import Settings, load_settings
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.storage.object_store import check_reachable

EXPECTATION_FAILED, REFUSED = 1, 3
REPORT = "report.html"
"""Name of the report's file in the warehouse."""

_WAREHOUSE = "deltabook.jobs.warehouse.warehouse"
_MODULES = {name: f"deltabook.jobs.pipeline.{name}" for name in ("ingest", "reconstruct", "validate")}
"""Modules of the stages, imported before Spark starts."""


class Stage(NamedTuple):
    """One job that a command runs.

    Attributes
    ----------
    name : str
        Name of the job. It is also the value of `command` in the table `runs`.
    work : callable
        Function that does the job: (warehouse, run, progress display) to summary.
    """

    name: str
    work: Callable[[Any, Any, Any], dict[str, Any]]


@contextmanager
def report_errors() -> Iterator[None]:
    """Show an error that people can act on as one message, and raise `typer.Exit` from that error.

    Other errors pass through with their traceback.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, BrokenPipeError) and is_output_closed():
            leave_quietly()
        if is_interrupted():  # a signal arrived, and the JVM's client raised this error as a consequence
            raise Interrupted from error
        message, status = describe_error(error)
        if not message:
            raise
        drop()
        show_message(f"deltabook: {message}", ERROR, event="error", exit_status=status)
        raise typer.Exit(status) from error


def ingest_stage(
    source: str, paths: list[Path], replace: bool = False, archive: bool = False, judged: bool = True
) -> Stage:
    """Return the stage that reads raw files; end the command at once if the source or a path is wrong.

    Parameters
    ----------
    source : str
        Name of the source, such as "binance".
    paths : list of Path
        Files and folders to read.
    replace : bool
        Whether a file with new content may replace an ingested file of the same path (`--replace`).
    archive : bool
        Whether to store a copy of each raw file in the warehouse (`--archive`).
    judged : bool
        Whether the suite `raw` checks what was read.

    Returns
    -------
    Stage
        The stage, to be passed to `run_stages`.
    """
    with report_errors():
        from deltabook.jobs.intake.ledger import find_files

        require_source(source)
        find_files(paths)

    def work(warehouse: Any, run: Any, progress: Any) -> dict[str, Any]:
        from deltabook.jobs.pipeline.ingest import IngestOptions, ingest

        summary = ingest(warehouse, run, source, paths, progress, IngestOptions(replace, archive))
        return summary | (_validate(warehouse, run, progress, RAW) if judged else {})

    return Stage("ingest", work)


def require_source(name: str) -> None:
    """Raise an error unless a source has this name.

    Parameters
    ----------
    name : str
        Name of the source, such as "binance".

    Raises
    ------
    SettingsError
        If no source has this name. The message lists the sources.
    """
    from deltabook.udfs.sources.registry import SOURCES

    if name not in SOURCES:
        raise SettingsError(f"source {name!r}: expected one of {', '.join(SOURCES)}")


def reconstruct_stage(judged: bool = True) -> Stage:
    """Return the stage that rebuilds books.

    Parameters
    ----------
    judged : bool
        Whether the suites `raw`, `events` and `books` check the result. The suite `fidelity`, which compares
        books with golden rows, runs only in `validate_stage`.

    Returns
    -------
    Stage
        The stage, to be passed to `run_stages`.
    """

    def work(warehouse: Any, run: Any, progress: Any) -> dict[str, Any]:
        from deltabook.jobs.pipeline.reconstruct import reconstruct

        summary = reconstruct(warehouse, progress)
        return summary | (_validate(warehouse, run, progress, RAW, EVENTS, BOOKS) if judged else {})

    return Stage("reconstruct", work)


def validate_stage() -> Stage:
    """Return the stage that runs all suites, including the comparison of books with golden rows."""

    def work(warehouse: Any, run: Any, progress: Any) -> dict[str, Any]:
        return _validate(warehouse, run, progress, *SUITES)

    return Stage("validate", work)


def _validate(warehouse: Any, run: Any, progress: Any, *suites: str) -> dict[str, Any]:
    from deltabook.jobs.pipeline.validate import validate

    return validate(warehouse, run, progress, suites)


def read_settings(config: Path | None, **flags: Any) -> Settings:
    """Return the settings from file, environment and options; end the command if a setting is wrong.

    Parameters
    ----------
    config : Path or None
        YAML file with settings.
    **flags : Any
        Values of command-line options by setting name; None means that the option was not given.

    Returns
    -------
    Settings
        Complete and checked settings.
    """
    with report_errors():
        settings = load_settings(config, flags)
        check_reachable(settings.warehouse)
    if "log" in flags:  # the present command has the option `--log`
        set_log_form(settings.log)
    return settings


def open_warehouse(settings: Settings, for_queries: bool = False) -> Any:
    """Return the warehouse of the settings, opened in a Spark session.

    Parameters
    ----------
    settings : Settings
        Settings with the folder of the warehouse and the Spark master.
    for_queries : bool
        Whether the session runs queries rather than jobs.

    Returns
    -------
    Warehouse
        The open warehouse. It creates a table at the first write to that table.
    """
    from deltabook.jobs.runtime.session import spark_session
    from deltabook.jobs.warehouse.warehouse import Warehouse

    return Warehouse(spark_session(settings, for_queries), settings)


def run_and_exit(settings: Settings, as_json: bool, stages: list[Stage], judged: bool = True) -> None:
    """Run jobs, print their summary, and raise `typer.Exit` if an expectation failed or a file was refused.

    Parameters
    ----------
    settings : Settings
        Settings of all jobs.
    as_json : bool
        Whether the last line of standard output is one JSON object.
    stages : list of Stage
        The jobs, in order.
    judged : bool
        Whether any job checks its results with suites.

    Raises
    ------
    typer.Exit
        If an expectation failed or a file was refused.
    """
    summary = run_stages(settings, stages, judged)
    print_summary(summary)
    exit_with_status(summary, as_json)


def run_stages(
    settings: Settings,
    stages: list[Stage],
    judged: bool = True,
    console: Console = stderr_console,
    guard: Callable[[], AbstractContextManager[None]] = report_errors,
) -> dict[str, Any]:
    """Run jobs one after another and return their merged summary; each job publishes its tables at its end.

    Parameters
    ----------
    settings : Settings
        Settings of all jobs.
    stages : list of Stage
        The jobs, in order.
    judged : bool
        Whether any job checks its results with suites.
    console : Console
        The console that shows progress.
    guard : callable
        Function that returns the context manager around each step: `report_errors` shows an error as a
        message and exits, `contextlib.nullcontext` passes errors on to the caller.

    Returns
    -------
    dict
        Merged summaries of the jobs, with `run_id` of the last run and `run_ids` by command.
    """
    from deltabook.jobs.console.progress import Progress
    from deltabook.jobs.process.memory import peak_memory

    summary: dict[str, Any] = {}
    run_ids: dict[str, str] = {}
    with guard():
        for name in (_WAREHOUSE, *(_MODULES[stage.name] for stage in stages)):
            import_module(name)
        if judged:  # runs in the background while the JVM starts, after all other imports are done
            start_import()
        warehouse = open_warehouse(settings)
    totals: dict[str, float] = defaultdict(float)
    for stage in stages:
        with log_fields(command=stage.name) as fields, guard():
            with warehouse.writing(stage.name) as run:
                fields["run_id"] = run_ids[stage.name] = run.run_id
                log_event("run started", f"{stage.name} started")
                progress = Progress(warehouse.spark, console)
                run.summary |= stage.work(warehouse, run, progress)
                run.summary |= {"stages": _round_seconds(progress.seconds), "peak_memory": peak_memory()}
            _log_published(run)
        for key, seconds in progress.seconds.items():
            totals[key] += seconds
        summary |= run.summary | {"run_id": run.run_id}
    return summary | {"run_ids": run_ids, "stages": _round_seconds(totals)}


def _round_seconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


def _log_published(run: Any) -> None:
    """Log a run's counts and verdicts."""
    seconds = round((time.time_ns() - run.started) / 1e9, 3)
    counts = {
        name: value
        for name, value in run.summary.items()
        if isinstance(value, int | float) or name in ("verdicts", "stages", "peak_memory")
    }
    log_event("run published", f"{run.command} published in {seconds:.1f} s", seconds=seconds, **counts)


def write_last_report(settings: Settings) -> dict[str, Any]:
    """Write the report of the newest published run into the warehouse.

    Parameters
    ----------
    settings : Settings
        Settings with the folder of the warehouse.

    Returns
    -------
    dict
        `report`: path of the report. `drifts`: texts about metrics that differ from those of earlier runs.
    """
    from deltabook.jobs.report.page import write_report

    with report_errors():
        result = write_report(settings.warehouse, settings.warehouse / REPORT)
    return {"report": result["report"], "drifts": result["drifts"]}


def print_summary(summary: dict[str, Any]) -> None:
    """Print the summary of a run on standard error.

    Parameters
    ----------
    summary : dict
        Merged summaries of the jobs.
    """
    from deltabook.jobs.pipeline.summary import summary_lines

    scope = ""
    for line in summary_lines(summary):
        if line.scope != scope and not is_json_log():
            stderr_console.print(line.scope, style="bold", soft_wrap=True)
        scope = line.scope
        show_message(str(line), WARNING if line.is_problem else INFO)


def exit_with_status(summary: dict[str, Any], as_json: bool) -> None:
    """Print the result, and raise `typer.Exit` if an expectation failed or a file was refused.

    Parameters
    ----------
    summary : dict
        Merged summaries of the jobs.
    as_json : bool
        Whether the last line of standard output is one JSON object.

    Raises
    ------
    typer.Exit
        If an expectation failed or a file was refused.
    """
    status = 0
    if any(verdict in ("failed", "errored") for verdict in summary.get("verdicts", {}).values()):
        status = EXPECTATION_FAILED
    if summary.get("refused"):
        status = REFUSED
    print_result(summary | {"exit_status": status}, as_json)
    if status:
        raise typer.Exit(status)


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """Log how a command ended, and print its result as JSON if `as_json` is true.

    Parameters
    ----------
    result : dict
        Result of the command. Keys that the command's output schema has and `result` lacks become null.
    as_json : bool
        Whether the last line of standard output is one JSON object.
    """
    if "exit_status" in result and "error" not in result:  # `report_errors` has logged an error's status
        status = result["exit_status"]
        log_event("ended", f"exit status {status}", WARNING if status else INFO, exit_status=status)
    if as_json:
        from deltabook.jobs.console.output_schema import complete_output

        complete = complete_output(current_fields().get("command", ""), result)
        typer.echo(redact(json.dumps(complete, default=str)))
