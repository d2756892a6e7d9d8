"""What every command does around its jobs: settings, a session, stages, messages and exit statuses."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from logging import ERROR, INFO, WARNING
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from deltabook.expectations.suites import BOOKS, EVENTS, RAW, SUITES, import_ahead
from deltabook.jobs.console.logging import belonging, event, log_as, say
from deltabook.jobs.console.logging import errors as errors
from deltabook.jobs.console.redaction import redacted
from deltabook.jobs.process.error_causes import message_of as message_of
from deltabook.jobs.process.interruptions import Interrupted, is_interrupted
from deltabook.jobs.runtime.jvm_output import drop
from deltabook.jobs.runtime.settings import Settings, load_settings
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.storage.object_store import require_reached

EXPECTATION_FAILED, REFUSED = 1, 3
REPORT = "report.html"
"""The report's file in the warehouse."""

_WARNINGS = ("left", "refused", "failed", "drift")
"""First words of a summary's lines that tell what is not as it should be."""

_WAREHOUSE = "deltabook.jobs.warehouse.warehouse"
_MODULES = {name: f"deltabook.jobs.pipeline.{name}" for name in ("ingest", "reconstruct", "validate")}
"""Modules of the stages, imported before Spark starts."""

Stage = tuple[str, Callable[[Any, Any, Any], dict[str, Any]]]
"""A job's name, and what it does with the warehouse, its run and the progress display."""


def ingest_stage(
    source: str, paths: list[Path], replace: bool = False, archive: bool = False, judged: bool = True
) -> Stage:
    """Return the stage that reads raw files.

    Parameters
    ----------
    source : str
        Kind of feed.
    paths : list of Path
        Files and folders.
    replace, archive : bool
        As the options of those names.
    judged : bool
        Whether what was read is validated.

    Returns
    -------
    Stage
        For `run_stages`. A wrong source or path is told at once, and leaves with its exit status.
    """
    with reported():
        from deltabook.jobs.intake.ledger import find_files

        require_source(source)
        find_files(paths)

    def work(warehouse: Any, current: Any, progress: Any) -> dict[str, Any]:
        from deltabook.jobs.pipeline.ingest import Options, ingest

        found = ingest(warehouse, current, source, paths, progress, Options(replace, archive))
        return found | (_validated(warehouse, current, progress, RAW) if judged else {})

    return "ingest", work


def require_source(name: str) -> None:
    """Stop if there is no source of this name; says which there are."""
    from deltabook.udfs.sources.registry import SOURCES

    if name not in SOURCES:
        raise SettingsError(f"source {name!r}: expected one of {', '.join(SOURCES)}")


def reconstruct_stage(judged: bool = True) -> Stage:
    """Return the stage that rebuilds books.

    Parameters
    ----------
    judged : bool
        Whether they are validated, all but what golden samples tell.
    """

    def work(warehouse: Any, current: Any, progress: Any) -> dict[str, Any]:
        from deltabook.jobs.pipeline.reconstruct import reconstruct

        found = reconstruct(warehouse, progress)
        return found | (_validated(warehouse, current, progress, RAW, EVENTS, BOOKS) if judged else {})

    return "reconstruct", work


def validate_stage() -> Stage:
    """Return the stage that judges all, books by golden samples too."""

    def work(warehouse: Any, current: Any, progress: Any) -> dict[str, Any]:
        return _validated(warehouse, current, progress, *SUITES)

    return "validate", work


def _validated(warehouse: Any, current: Any, progress: Any, *suites: str) -> dict[str, Any]:
    from deltabook.jobs.pipeline.validate import validate

    return validate(warehouse, current, progress, suites)


def settings_of(config: Path | None, **flags: Any) -> Settings:
    """Merge the settings of file, environment and options.

    Parameters
    ----------
    config : Path or None
        YAML file.
    **flags : Any
        Options by the settings' names; None: not given.

    Returns
    -------
    Settings
        Checked ones; a wrong one is told, and leaves with its exit status.
    """
    with reported():
        settings = load_settings(config, flags)
        require_reached(settings.warehouse)
    if "log" in flags:  # an option of this command
        log_as(settings.log)
    return settings


def open_warehouse(settings: Settings, for_queries: bool = False) -> Any:
    """Open a warehouse in a session of its own.

    Parameters
    ----------
    settings : Settings
        Which, and on what master.
    for_queries : bool
        Whether it is opened for queries.

    Returns
    -------
    Warehouse
        Its tables are made when first written.
    """
    from deltabook.jobs.runtime.session import spark_session
    from deltabook.jobs.warehouse.warehouse import Warehouse

    return Warehouse(spark_session(settings, for_queries), settings)


def run_and_leave(settings: Settings, as_json: bool, stages: list[Stage], judged: bool = True) -> None:
    """Run jobs, tell how it went, and leave with the exit status that says so.

    Parameters
    ----------
    settings : Settings
        For all of them.
    as_json : bool
        Whether standard output ends with one JSON object.
    stages : list of Stage
        The jobs, in order.
    judged : bool
        Whether any of them judges what it made.
    """
    summary = run_stages(settings, stages, judged)
    tell(summary)
    leave(summary, as_json)


def run_stages(
    settings: Settings, stages: list[Stage], judged: bool = True, console: Console = errors
) -> dict[str, Any]:
    """Run jobs one after another, each published on its own.

    Parameters
    ----------
    settings : Settings
        For all of them.
    stages : list of Stage
        The jobs, in order.
    judged : bool
        Whether any of them judges what it made.
    console : Console
        Where to show what is done.

    Returns
    -------
    dict
        Their summaries, merged.
    """
    from deltabook.jobs.console.progress import Progress
    from deltabook.jobs.process.memory import peak_memory

    summary: dict[str, Any] = {}
    with reported():
        for name in (_WAREHOUSE, *(_MODULES[name] for name, _ in stages)):
            import_module(name)
        if judged:  # behind the start of the JVM, once nothing else is left to import
            import_ahead()
        warehouse = open_warehouse(settings)
    totals: dict[str, float] = defaultdict(float)
    for name, work in stages:
        with belonging(command=name) as fields, reported():
            with warehouse.writing(name) as current:
                fields["run_id"] = current.run_id
                event("run started", f"{name} started")
                progress = Progress(warehouse.spark, console)
                current.summary |= work(warehouse, current, progress)
                current.summary |= {"stages": _rounded(progress.seconds), "peak_memory": peak_memory()}
            _published(current)
        for stage, seconds in progress.seconds.items():
            totals[stage] += seconds
        summary |= current.summary
    return summary | {"stages": _rounded(totals)}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(one, 3) for name, one in seconds.items()}


def _published(run: Any) -> None:
    """Log a run's numbers and verdicts."""
    seconds = round((time.time_ns() - run.started) / 1e9, 3)
    kept = {
        name: value
        for name, value in run.summary.items()
        if isinstance(value, int | float) or name in ("verdicts", "stages", "peak_memory")
    }
    event("run published", f"{run.command} published in {seconds:.1f} s", seconds=seconds, **kept)


def write_last_report(settings: Settings) -> dict[str, Any]:
    """Write the report of what was published last into the warehouse, if anything was.

    Parameters
    ----------
    settings : Settings
        Which warehouse.

    Returns
    -------
    dict
        Its path and the metrics that have drifted, for the summary.
    """
    from deltabook.jobs.report.page import write_report

    with reported():
        told = write_report(settings.warehouse, settings.warehouse / REPORT)
    return {"report": told["report"], "drifts": told["drifts"]}


def tell(summary: dict[str, Any]) -> None:
    """Print the summary for people.

    Parameters
    ----------
    summary : dict
        What the jobs returned, merged.
    """
    from deltabook.jobs.pipeline.summary import summary_lines

    for line in summary_lines(summary):
        say(line, WARNING if line.split(maxsplit=1)[0] in _WARNINGS else INFO)


def leave(summary: dict[str, Any], as_json: bool) -> None:
    """Print the JSON, and leave with the exit status that says how it went.

    Parameters
    ----------
    summary : dict
        What the jobs returned, merged.
    as_json : bool
        Whether standard output ends with one JSON object.

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
    finish(summary | {"exit_status": status}, as_json)
    if status:
        raise typer.Exit(status)


def finish(result: dict[str, Any], as_json: bool) -> None:
    """Print the JSON, if it is wanted.

    Parameters
    ----------
    result : dict
        What it holds.
    as_json : bool
        Whether it is.
    """
    if "exit_status" in result and "error" not in result:  # an error was told with its status
        status = result["exit_status"]
        event("ended", f"exit status {status}", WARNING if status else INFO, exit_status=status)
    if as_json:
        typer.echo(redacted(json.dumps(result, default=str)))


@contextmanager
def reported() -> Iterator[None]:
    """Turn errors that are meant for people into one message and an exit status, whose cause they are."""
    try:
        yield
    except Exception as error:
        if is_interrupted():  # the JVM's client has made another error of it
            raise Interrupted from error
        message, status = message_of(error)
        if not message:
            raise
        drop()
        say(f"deltabook: {message}", ERROR, event="error", exit_status=status)
        raise typer.Exit(status) from error
