"""Steps of several commands: read settings, open the warehouse, run jobs, print results, report errors."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from logging import ERROR, INFO, WARNING
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
from deltabook.schemas.feeds import AUTO, SOURCE_NAMES
from deltabook.udfs.storage.object_store import check_reachable

if TYPE_CHECKING:  # these modules import Spark, which commands load only when they need it
    from deltabook.jobs.console.progress import Progress
    from deltabook.jobs.pipeline.summary import JobSummary
    from deltabook.jobs.warehouse.run import Run
    from deltabook.jobs.warehouse.warehouse import Warehouse

_SOURCES = (AUTO, *SOURCE_NAMES)
"""What a command accepts as its source."""
EXPECTATION_FAILED, REFUSED = 1, 3
"""Exit statuses: an expectation of a suite failed; a raw file was refused."""
REPORT = "report.html"
"""File name of the report in the warehouse folder."""

_WAREHOUSE = "deltabook.jobs.warehouse.warehouse"
_MODULES = {name: f"deltabook.jobs.pipeline.{name}" for name in ("ingest", "reconstruct", "validate")}
"""Maps the name of each job to its module. `run_stages` imports these modules before Spark starts."""


class Stage(NamedTuple):
    """One job that a command runs.

    Attributes
    ----------
    name : str
        Name of the job, which is also the value of the column `command` in the table `runs`.
    work : callable
        Function that does the job. The function takes the open warehouse, the run and the progress display,
        and returns the job's summary.
    """

    name: str
    work: Callable[[Warehouse, Run, Progress], JobSummary]


@contextmanager
def report_errors() -> Iterator[None]:
    """Report an expected error of the block in one message on standard error, and raise `typer.Exit`.

    An error is expected if `describe_error` returns a message for the error. Any other error is a bug and is
    raised again unchanged.
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
    """Return the stage that reads raw files.

    If the source or a path does not exist, the command ends at once with a message.

    Parameters
    ----------
    source : str
        Name of the source, such as "binance".
    paths : list of Path
        Files and folders to read.
    replace : bool
        Whether a file with new content may replace the content that was ingested from the file's path
        (`--replace`).
    archive : bool
        Whether to store a copy of each raw file in the warehouse (`--archive`).
    judged : bool
        Whether to run the suite `raw` on the events after the files were read.

    Returns
    -------
    Stage
        The stage, to be passed to `run_stages`.
    """
    with report_errors():
        from deltabook.jobs.intake.ledger import find_files

        require_source(source)
        find_files(paths)

    def work(warehouse: Warehouse, run: Run, progress: Progress) -> JobSummary:
        from deltabook.jobs.pipeline.ingest import IngestOptions, ingest

        summary = ingest(warehouse, run, source, paths, progress, IngestOptions(replace, archive))
        return summary | (_validate(warehouse, run, progress, RAW) if judged else {})

    return Stage("ingest", work)


def split_source(first: str, paths: Sequence[Path] | None) -> tuple[str, list[Path]]:
    """Return the source and the paths of a command line, whose source may be left out.

    Parameters
    ----------
    first : str
        Name of a source, `auto`, or a path.
    paths : sequence of Path, optional
        The other paths.

    Raises
    ------
    SettingsError
        If `first` is neither a source nor a path that exists, or if there are no paths.
    """
    is_source, paths = first in _SOURCES, paths or ()
    if not is_source and Path(first).exists():
        return AUTO, [Path(first), *paths]
    if not is_source:
        expected = f"expected one of {', '.join(_SOURCES)}, or a path"
        raise SettingsError(f"{first!r} is neither a source nor a path: {expected}")
    if not paths:
        raise SettingsError(f"no paths: pass the files and folders that source {first} is to read")
    return first, [*paths]


def require_source(name: str) -> None:
    """Raise an error if no source has the given name.

    Parameters
    ----------
    name : str
        Name of the source, such as "binance", or `auto`.

    Raises
    ------
    SettingsError
        If no source has the name `name`. The message lists the sources.
    """
    if name not in _SOURCES:
        raise SettingsError(f"source {name!r}: expected one of {', '.join(_SOURCES)}")


def reconstruct_stage(judged: bool = True) -> Stage:
    """Return the stage that rebuilds books.

    Parameters
    ----------
    judged : bool
        Whether to run the suites `raw`, `events` and `books` after the rebuild. The suite `fidelity`, which
        compares books with golden rows, runs only in `validate_stage`.

    Returns
    -------
    Stage
        The stage, to be passed to `run_stages`.
    """

    def work(warehouse: Warehouse, run: Run, progress: Progress) -> JobSummary:
        from deltabook.jobs.pipeline.reconstruct import reconstruct

        summary = reconstruct(warehouse, progress)
        return summary | (_validate(warehouse, run, progress, RAW, EVENTS, BOOKS) if judged else {})

    return Stage("reconstruct", work)


def validate_stage() -> Stage:
    """Return the stage that runs all suites, including the comparison of books with golden rows."""

    def work(warehouse: Warehouse, run: Run, progress: Progress) -> JobSummary:
        return _validate(warehouse, run, progress, *SUITES)

    return Stage("validate", work)


def _validate(warehouse: Warehouse, run: Run, progress: Progress, *suites: str) -> JobSummary:
    """Run the named suites, and return the summary of their verdicts."""
    from deltabook.jobs.pipeline.validate import validate

    return validate(warehouse, run, progress, suites)


def read_settings(config: Path | None, **flags: object) -> Settings:
    """Return the settings from a file, the environment and command-line options.

    If a setting is wrong, the command ends with a message.

    Parameters
    ----------
    config : Path or None
        YAML file with settings.
    **flags : object
        Maps names of settings to values of command-line options; None means that the option was not given.

    Returns
    -------
    Settings
        Complete and checked settings.
    """
    with report_errors():
        settings = load_settings(config, flags)
        check_reachable(settings.warehouse)
    if "log" in flags:  # only commands with the option `--log` pass this flag
        set_log_form(settings.log)
    return settings


def open_warehouse(settings: Settings, for_queries: bool = False) -> Warehouse:
    """Start a Spark session or use the active session, and return the warehouse that the settings name.

    Parameters
    ----------
    settings : Settings
        Settings with the folder of the warehouse and the Spark master.
    for_queries : bool
        Whether a new session is for long queries instead of jobs. The two kinds of sessions differ in the
        options of the JVM.

    Returns
    -------
    Warehouse
        The warehouse. The folder and the tables may not exist yet: the first write creates them.
    """
    from deltabook.jobs.runtime.session import spark_session
    from deltabook.jobs.warehouse.warehouse import Warehouse

    return Warehouse(spark_session(settings, for_queries), settings)


def run_and_exit(settings: Settings, as_json: bool, stages: list[Stage], judged: bool = True) -> None:
    """Run jobs, print the summary, and raise `typer.Exit` if an expectation failed or a file was refused.

    Parameters
    ----------
    settings : Settings
        Settings of all jobs.
    as_json : bool
        Whether to print the summary as one JSON object on the last line of standard output.
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
) -> JobSummary:
    """Run jobs one after another, and return the merged summary.

    Each job is a separate run, which publishes tables when the job ends.

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
        Function that returns the context manager around each step. `report_errors` shows an error as a
        message and exits. `contextlib.nullcontext` passes errors on to the caller.

    Returns
    -------
    JobSummary
        Merged summary of the jobs. `run_id` is the id of the last run, and `run_ids` maps commands to ids.
    """
    from deltabook.jobs.console.progress import Progress
    from deltabook.jobs.process.memory import peak_memory

    summary: JobSummary = {}
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
                summary_of_job = stage.work(warehouse, run, progress)
                summary_of_job["stages"] = _round_seconds(progress.seconds)
                summary_of_job["peak_memory"] = peak_memory()
                run.summary.update(summary_of_job)
            _log_published(run)
        for key, seconds in progress.seconds.items():
            totals[key] += seconds
        summary |= summary_of_job | {"run_id": run.run_id}
    return summary | {"run_ids": run_ids, "stages": _round_seconds(totals)}


def _round_seconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


def _log_published(run: Run) -> None:
    """Log that a run was published. The log record has the duration, counts and verdicts of the run."""
    seconds = round((time.time_ns() - run.started) / 1e9, 3)
    counts = {
        name: value
        for name, value in run.summary.items()
        if isinstance(value, int | float) or name in ("verdicts", "stages", "peak_memory")
    }
    log_event("run published", f"{run.command} published in {seconds:.1f} s", INFO, seconds=seconds, **counts)


def write_last_report(settings: Settings) -> JobSummary:
    """Write the report of the newest published run into the warehouse.

    Parameters
    ----------
    settings : Settings
        Settings with the folder of the warehouse.

    Returns
    -------
    JobSummary
        `report`: path of the report. `drifts`: one text for each metric whose value in the newest run differs
        from the values in earlier runs.
    """
    from deltabook.jobs.report.page import write_report

    with report_errors():
        result = write_report(settings.warehouse, settings.warehouse / REPORT)
    return {"report": result["report"], "drifts": result["drifts"]}


def print_summary(summary: JobSummary) -> None:
    """Print the summary of a run on standard error, for people.

    Parameters
    ----------
    summary : JobSummary
        Merged summary of the jobs.
    """
    from deltabook.jobs.pipeline.summary import summary_lines

    scope = ""
    for line in summary_lines(summary):
        if line.scope != scope and not is_json_log():
            stderr_console.print(line.scope, style="bold", soft_wrap=True)
        scope = line.scope
        show_message(str(line), WARNING if line.is_problem else INFO)


def exit_with_status(summary: JobSummary, as_json: bool) -> None:
    """Print the result, and raise `typer.Exit` if an expectation failed or a file was refused.

    Parameters
    ----------
    summary : JobSummary
        Merged summary of the jobs.
    as_json : bool
        Whether to print the summary as one JSON object on the last line of standard output.

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


def print_result(result: Mapping[str, object], as_json: bool) -> None:
    """Log the exit status of a command, and print the command's result as JSON if `as_json` is true.

    Parameters
    ----------
    result : mapping
        Result of the command. Keys of the command's output schema that the result lacks become null in JSON.
    as_json : bool
        Whether to print the result as one JSON object on the last line of standard output.
    """
    if "exit_status" in result and "error" not in result:  # `report_errors` has logged an error's status
        status = result["exit_status"]
        log_event("ended", f"exit status {status}", WARNING if status else INFO, exit_status=status)
    if as_json:
        from deltabook.jobs.console.output_schema import complete_output

        complete = complete_output(current_fields().get("command", ""), dict(result))
        typer.echo(redact(json.dumps(complete, default=str)))
