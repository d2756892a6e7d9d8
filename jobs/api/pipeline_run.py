"""`run`: ingest, reconstruct and validate as one Python function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deltabook.jobs.pipeline.stages import (
    ingest_stage,
    reconstruct_stage,
    require_source,
    run_stages,
    validate_stage,
)
from deltabook.jobs.pipeline.summary import JobSummary
from deltabook.jobs.process.error_causes import describe_error
from deltabook.jobs.process.optional_packages import describe_missing_package
from deltabook.jobs.runtime.settings import load_settings
from deltabook.schemas.errors import DeltabookError, SettingsError

_FAILED = frozenset({"failed", "errored"})


@dataclass(frozen=True)
class RunSummary:
    """Counts, durations and verdicts of a run.

    Attributes
    ----------
    verdicts : mapping
        Maps each suite (`raw`, `events`, `books`, `fidelity`) to its verdict: `passed`, `failed`, `errored`
        or `none`. Empty if nothing was validated.
    failed_chunks : int
        Number of chunks that failed a check, over all symbols.
    refused : tuple of dict
        Raw files that the run refused to read, each with `path` and `reason`.
    stages : mapping
        Maps the name of each stage to the duration of the stage in seconds.
    details : dict
        All counts, rates and verdicts, as `deltabook run --json` prints them.

    Examples
    --------
    >>> RunSummary({"raw": "passed"}, 0, (), {}, {}).passed
    True
    """

    verdicts: Mapping[str, str]
    failed_chunks: int
    refused: tuple[Mapping[str, str], ...]
    stages: Mapping[str, float]
    details: JobSummary

    @property
    def passed(self) -> bool:
        """Whether no suite failed and no file was refused."""
        return not self.refused and not _FAILED & {*self.verdicts.values()}


def run(
    source: str,
    paths: Path | str | Sequence[Path | str],
    warehouse: Path | str,
    *,
    replace: bool = False,
    archive: bool = False,
    validate: bool = True,
    progress: bool = False,
    config: Path | str | None = None,
    **settings: object,
) -> RunSummary:
    """Read raw files, rebuild the affected books, check all tables, and publish the result.

    If a Spark session is active, the run uses that session; otherwise the run starts a session. The session
    stays open after the run.

    Parameters
    ----------
    source : str
        Name of a source, such as `binance`. `deltabook sources` lists the names.
    paths : Path, str or sequence of Path or str
        Raw files, and folders with raw files.
    warehouse : Path or str
        Folder of the tables, or s3a://bucket/folder. A missing folder is created.
    replace : bool
        Whether to read a file again if the file's content has changed since an earlier run. If so, the new
        content replaces the old content.
    archive : bool
        Whether a copy of each raw file is stored in the warehouse.
    validate : bool
        Whether to check the tables with the suites.
    progress : bool
        Whether to show the progress of the stages on standard error.
    config : Path, str or None
        YAML file of settings.
    **settings : object
        Settings by name, such as `master`, `depth`, `cadence` or `chunk`; see `deltabook.Settings`.

    Returns
    -------
    RunSummary
        Verdicts and counts. A failed check raises no error: look at `passed`.

    Raises
    ------
    SettingsError
        If a setting, source or path is not valid, or Spark is not installed.
    BusyError
        If another process is writing to the warehouse.
    DeltabookError
        If the run failed. Nothing of a failed run is published.

    Examples
    --------
    >>> summary = run("binance", "captures/", "books", cadence="change,1s")  # doctest: +SKIP
    >>> summary.passed, summary.verdicts  # doctest: +SKIP
    (True, {'raw': 'passed', 'events': 'passed', 'books': 'passed', 'fidelity': 'passed'})
    """
    listed = [paths] if isinstance(paths, Path | str) else paths
    files = [Path(path) for path in listed]
    flags = {"warehouse": str(warehouse), **settings}
    console = Console(stderr=True, quiet=not progress)
    with _raise_known_errors():
        from deltabook.jobs.intake.ledger import find_files

        loaded = load_settings(None if config is None else Path(config), flags)
        require_source(source)
        find_files(files)
        stages = [ingest_stage(source, files, replace, archive, validate), reconstruct_stage(validate)]
        if validate:
            stages.append(validate_stage())
        summary = run_stages(loaded, stages, validate, console, guard=_raise_known_errors)
    return RunSummary(
        verdicts=summary.get("verdicts", {}),
        failed_chunks=summary.get("symbol_hours_failed", 0),
        refused=tuple(summary.get("refused", ())),
        stages=summary["stages"],
        details=summary,
    )


@contextmanager
def _raise_known_errors() -> Iterator[None]:
    """Replace a known error of Spark, Delta or the system by a `DeltabookError` with cause and remedy."""
    try:
        yield
    except DeltabookError:
        raise
    except Exception as error:
        if message := describe_missing_package(error):
            raise SettingsError(message) from error
        message, _ = describe_error(error)
        if not message:
            raise
        raise DeltabookError(message) from error
