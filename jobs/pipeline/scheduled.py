"""Scheduled runs: what is new since the last run, once (`run --once`) or again and again (`run --watch`).

The ledger says what is new. Structured Streaming's `availableNow` would keep a checkpoint beside it: a second
ledger, by path and not by content, whose commits are not a run's, so that a killed run could leave the two
apart; and a JVM would have to start to find that nothing is new.

A round holds a lock of its own from its look to its report, so that scheduled runs never interleave; each of
its stages takes the warehouse's lock besides, as the same stages do when they are run by hand.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from logging import ERROR
from pathlib import Path
from threading import Event
from typing import Any

import typer
from rich.console import Console

from deltabook.expectations.suites import ERRORED, FAILED
from deltabook.jobs.console.logging import say
from deltabook.jobs.console.redaction import redacted
from deltabook.jobs.intake.ledger import missing
from deltabook.jobs.pipeline.new_files import Arrivals, look, published_ledger
from deltabook.jobs.pipeline.stages import (
    EXPECTATION_FAILED,
    REFUSED,
    REPORT,
    Stage,
    errors,
    finish,
    ingest_stage,
    message_of,
    open_warehouse,
    reconstruct_stage,
    reported,
    require_source,
    run_stages,
    tell,
    validate_stage,
    write_last_report,
)
from deltabook.jobs.process.error_causes import has_jvm_died
from deltabook.jobs.process.interruptions import SIGNALS
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import KEYS, Stored
from deltabook.jobs.warehouse.locks import SCHEDULED, WRITING, tried
from deltabook.schemas.errors import BusyError, SettingsError, WarehouseError
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.tables import RUNS, VERDICTS

SETTLE = 60
"""Seconds for which a file must not have changed, where nothing else is said."""
_MOST_SECONDS = 3600
"""Longest pause of a watch whose rounds fail."""
_BETWEEN_LOOKS = (1, 60)
"""Least and most seconds between looks; within them, the time to settle."""


@dataclass(frozen=True)
class Schedule:
    """What is taken in, and how.

    Attributes
    ----------
    source : str
        Kind of feed.
    paths : sequence of Path
        Files and folders.
    settle : int
        Seconds for which a file must not have changed.
    replace, archive, judged : bool
        As the options `--replace`, `--archive` and `--validate`.
    """

    source: str
    paths: Sequence[Path]
    settle: int
    replace: bool = False
    archive: bool = False
    judged: bool = True


def run_once(settings: Settings, schedule: Schedule, as_json: bool) -> None:
    """Run one round, and leave with its exit status.

    Parameters
    ----------
    settings : Settings
        Of the warehouse.
    schedule : Schedule
        What is taken in.
    as_json : bool
        Whether standard output ends with one JSON object, also after an error.

    Raises
    ------
    typer.Exit
        With the exit status, if it is not 0.
    """
    try:
        summary = _round(settings, schedule, errors)
    except typer.Exit as left:
        finish(_error(left), as_json)
        raise
    # Without files that were read there are no counts of theirs to tell.
    tell({name: told for name, told in summary.items() if name != "files_new" or told})
    finish(summary, as_json)
    if summary["exit_status"]:
        raise typer.Exit(summary["exit_status"])


def watch(settings: Settings, schedule: Schedule, as_json: bool) -> None:
    """Run a round whenever something is new, until SIGTERM or SIGINT; the session stays warm.

    An error that the next look may not meet is told, and the watch goes on.

    Parameters
    ----------
    settings : Settings
        Of the warehouse.
    schedule : Schedule
        What is taken in.
    as_json : bool
        Whether standard output has one JSON object for each round.
    """
    with reported():
        if told := missing(schedule.paths):
            raise SettingsError(told)
        require_source(schedule.source)
        published_ledger(settings.warehouse.absolute())
        open_warehouse(settings)
    usual = min(max(schedule.settle, _BETWEEN_LOOKS[0]), _BETWEEN_LOOKS[1])
    pause = usual
    with asked_to_end() as asked:
        say(f"watching     {', '.join(map(str, schedule.paths))}, every {usual} s")
        while not asked.is_set():
            started = time.monotonic()
            try:
                summary = _round(settings, schedule, Console(quiet=True))
            except typer.Exit as left:
                finish(_error(left), as_json)
                if _lasts(left.__cause__):
                    raise
                pause = usual if isinstance(left.__cause__, BusyError) else min(2 * pause, _MOST_SECONDS)
            else:
                pause = usual
                if summary["files_new"] or summary["refused"] or "symbol_hours" in summary:
                    line = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}  {_told(summary)}"
                    say(f"{line}; {time.monotonic() - started:.1f} s")
                    finish(summary, as_json)
            _sleep(pause, asked)


def _round(settings: Settings, schedule: Schedule, console: Console) -> dict[str, Any]:
    """Look, and do what there is to do; return what was done, with its exit status."""
    root = settings.warehouse.absolute()
    with reported(), _alone(root):
        found = look(root, schedule.source, schedule.paths, schedule.replace, schedule.settle)
        summary: dict[str, Any] = {
            "files_new": 0,
            "files_known": found.known,
            "files_waiting": found.waiting,
            "refused": found.refused,
            "refused_before": found.refused_before,
        }
        if not console.quiet:
            say(_looked(found))
        runs = Stored(root).rows(RUNS, "run_id", "command", "finished")
        stages = _stages(schedule, found, runs)
        if stages:
            _require_free(root)
            done = run_stages(settings, stages, schedule.judged, console)
            done["refused"] = [*found.refused, *done.get("refused", [])]
            done["files_known"] = found.known + done.get("files_known", 0)
            summary |= done
            if schedule.judged:
                summary["symbol_hours_failed_now"] = _failed_now(root, {row["run_id"] for row in runs})
        if schedule.judged and _lacks_report(root):
            summary |= write_last_report(settings)
    status = EXPECTATION_FAILED if summary.get("symbol_hours_failed_now") else 0
    return summary | {"exit_status": REFUSED if summary["refused"] else status}


def _stages(schedule: Schedule, found: Arrivals, runs: list[dict[str, Any]]) -> list[Stage]:
    """Return what has to be done: all stages for new files, else what an earlier run did not come to."""
    stages = [reconstruct_stage(schedule.judged), *([validate_stage()] if schedule.judged else [])]
    if found.new:
        how = schedule.replace, schedule.archive, schedule.judged
        return [ingest_stage(schedule.source, found.new, *how), *stages]
    last: dict[str, int] = {}
    for row in runs:
        last[row["command"]] = max(row["finished"], last.get(row["command"], 0))
    taken, rebuilt, judged = (
        max(last.get(name, 0) for name in names)
        for names in (("ingest", "restore"), ("reconstruct",), ("validate",))
    )
    if taken > rebuilt:
        return stages
    return stages[1:] if rebuilt > judged else []


def _failed_now(root: Path, earlier: set[str]) -> list[str]:
    """Name the symbol-hours that this round judged and failed: an old one must not ring at each round."""
    from deltabook.jobs.console.formats import hour_text

    rows = Stored(root, published_versions(root)).rows(VERDICTS, *KEYS, "suite", "verdict", "run_id")
    return sorted(
        f"{row['suite']}: {row['exchange']} {row['symbol']} {hour_text(row['hour'])}"
        for row in rows
        if row["verdict"] in (FAILED, ERRORED) and row["hour"] != ALL_HOURS and row["run_id"] not in earlier
    )


def _lacks_report(root: Path) -> bool:
    runs = Stored(root).rows(RUNS, "command", "finished")
    judged = [row["finished"] for row in runs if row["command"] == "validate"]
    report = root / REPORT
    return bool(judged) and (not report.exists() or report.stat().st_mtime_ns < max(judged))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the lock of scheduled runs, or tell at once that another holds it."""
    root.mkdir(parents=True, exist_ok=True)
    with tried(root / SCHEDULED) as is_alone:
        if is_alone is None:
            raise WarehouseError(
                f"warehouse {root} cannot be written: let it be, or name another --warehouse"
            )
        if not is_alone:
            raise BusyError(f"warehouse {root}: another scheduled run is at work; nothing was done")
        yield


def _require_free(root: Path) -> None:
    """Tell that the warehouse is being written before Spark is started for it."""
    with tried(root / WRITING) as is_free:
        if is_free is False:
            raise BusyError(f"warehouse {root} is being written by another process; nothing was done")


def _lasts(error: BaseException | None) -> bool:
    """Whether a watch would meet an error at every round: wrong settings, or a JVM that is gone."""
    if error is not None and has_jvm_died(error):
        say("deltabook: Spark has ended, and so does the watch: start it again", ERROR)
        return True
    return isinstance(error, SettingsError)


def _error(left: typer.Exit) -> dict[str, Any]:
    message = message_of(left.__cause__)[0] if left.__cause__ else ""
    return {"error": message, "exit_status": left.exit_code}


def _looked(found: Arrivals) -> str:
    return (
        f"{'looked' if found.new else 'nothing new':<12} {len(found.new):,} new, {found.known:,} known, "
        f"{found.waiting:,} waiting, {len(found.refused_before):,} refused before"
    )


def _told(summary: dict[str, Any]) -> str:
    """One round in one line."""
    parts = [
        f"{summary.get('files_read', 0):,} files read, {len(summary['refused']):,} refused, "
        f"{summary['files_waiting']:,} waiting"
    ]
    if "symbol_hours" in summary:
        parts.append(
            f"{summary['symbol_hours_rebuilt']:,} of {summary['symbol_hours']:,} symbol-hours rebuilt"
        )
    if "symbol_hours_failed_now" in summary:
        parts.append(f"{len(summary['symbol_hours_failed_now']):,} failed")
    parts += [f"refused {one['path']}: {one['reason']}" for one in summary["refused"]]
    return redacted("; ".join(parts))


@contextmanager
def asked_to_end() -> Iterator[Event]:
    """Let the first SIGTERM or SIGINT set an event, for the end of the round; a second one interrupts.

    Yields
    ------
    threading.Event
        Is set once the process was asked to end.
    """
    asked = Event()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def ask(*_: object) -> None:
        asked.set()
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in SIGNALS:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sleep(seconds: float, asked: Event) -> None:
    """Sleep in pieces: Python resumes what a signal interrupts; `asked.wait` may hold what `set` needs."""
    end = time.monotonic() + seconds
    while not asked.is_set() and time.monotonic() < end:
        time.sleep(0.2)
