"""What is told on standard error while a job works: lines and bars for people, or JSON for a collector.

All that is told is also a record of the logger `deltabook`: a program that calls the jobs may put a handler
of its own on it. `--log json` puts one there and on the root logger that writes each record as one JSON
object, and takes over standard error, so that what the JVM, workers and usage errors print are objects too.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from deltabook.jobs.console.printable import SafeConsole, printable
from deltabook.jobs.console.redaction import redacted
from deltabook.jobs.process.interruptions import is_interrupted


class LogForm(StrEnum):
    """What standard error is."""

    TEXT = "text"
    JSON = "json"


errors = SafeConsole(stderr=True, highlight=False)

_DRAIN_SECONDS = 5
_LEVELS = {"WARNING": "warn", "CRITICAL": "fatal"}
"""Levels that collectors spell otherwise than Python."""
_FRAME = "╭╮╰╯│─ \n"
"""Of what a usage error is framed in."""
_RATES = (("s", 1), ("min", 60), ("h", 3600))
_log = logging.getLogger("deltabook")
_log.addHandler(logging.NullHandler())  # else Python itself would print what nobody listens to
_log.setLevel(logging.INFO)
_log.propagate = False  # to a handler that another package's `logging.warning` may have put on the root
_taken_over: TextIO | None = None
_giving_back: list[tuple[str, threading.Event]] = []
_current: ContextVar[dict[str, Any]] = ContextVar("current", default={})  # noqa: B039  is never changed in place


class _JsonLines(logging.StreamHandler[TextIO]):
    """Writes one JSON object a record, with the fields of the run that it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass what deltabook tells, and of other packages warnings and errors."""
        return record.levelno >= logging.WARNING or record.name == _log.name

    def format(self, record: logging.LogRecord) -> str:
        """Return the object; keys and passwords are cut out."""
        line = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": _LEVELS.get(record.levelname, record.levelname.lower()),
            "event": "message",
            "message": record.getMessage(),
            "logger": record.name,
            **_current.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = logging.Formatter().formatException(record.exc_info)
        return redacted(json.dumps(line, default=str))


def _handler() -> _JsonLines | None:
    return next((one for one in _log.handlers if isinstance(one, _JsonLines)), None)


def is_json() -> bool:
    """Whether standard error is JSON."""
    return _handler() is not None


def log_as(form: LogForm) -> None:
    """Make standard error text or JSON, Python's warnings and other packages' records with it.

    Parameters
    ----------
    form : LogForm
        Which.
    """
    found, new = _handler(), _JsonLines(_stream()) if form is LogForm.JSON else None
    for logger in (_log, logging.root):
        if found:
            logger.removeHandler(found)
        if new:
            logger.addHandler(new)
    logging.captureWarnings(new is not None)


def _stream() -> TextIO:
    """Return where JSON goes: what was standard error, while its descriptor now leads to `_wrap`."""
    global _taken_over
    if sys.stderr is not sys.__stderr__:  # it is not the process's own
        return sys.stderr
    if _taken_over is None:
        _taken_over = os.fdopen(os.dup(2), "w", encoding="utf-8")
        reading, writing = os.pipe()
        os.dup2(writing, 2)  # processes that are started from now on inherit it
        os.close(writing)
        end, ended = secrets.token_hex(), threading.Event()
        threading.Thread(target=_wrap, args=(reading, end, ended), daemon=True).start()
        _giving_back.append((end, ended))
        atexit.register(give_back)
    return _taken_over


def _wrap(reading: int, end: str, ended: threading.Event) -> None:
    """Turn each line that anything else writes to standard error into an object."""
    handler = _JsonLines(_taken_over)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
        for line in (line.strip(_FRAME) for line in lines):
            if line == end:
                return ended.set()
            if line and not is_interrupted():
                record = logging.LogRecord("stderr", logging.WARNING, "", 0, "%s", (line,), None)
                handler.handle(record)
    return None


def resume() -> None:
    """Make standard error JSON again if it was so while the command ran, for what is told after its end."""
    if _giving_back and not is_json():
        log_as(LogForm.JSON)


def give_back() -> None:
    """Wait until all that was written to standard error is told, and give its descriptor back.

    The JVM, which may outlive this process, keeps its end of the pipe.
    """
    while _giving_back:
        end, ended = _giving_back.pop()
        sys.stderr.flush()
        os.write(2, f"\n{end}\n".encode())
        if _taken_over and ended.wait(_DRAIN_SECONDS):
            os.dup2(_taken_over.fileno(), 2)


def log_error(line: str, error: BaseException, exit_status: int) -> None:
    """Log an error that is not meant for people, with its traceback.

    Parameters
    ----------
    line : str
        What happened.
    error : BaseException
        Its traceback becomes a field.
    exit_status : int
        With which the process will leave.
    """
    fields = {"event": "error", "exit_status": exit_status}
    trace = (type(error), error, error.__traceback__)
    _log.error("%s", line, exc_info=trace, extra={"fields": fields})


@contextmanager
def belonging(**fields: Any) -> Iterator[dict[str, Any]]:
    """Give all that is told within these fields.

    Parameters
    ----------
    **fields : Any
        Such as `command` and `run_id`; those of an outer context stay.

    Yields
    ------
    dict
        Them all; what is put in later counts from then on.
    """
    held = _current.get() | fields
    token = _current.set(held)
    try:
        yield held
    finally:
        _current.reset(token)


def current() -> dict[str, Any]:
    """Return the fields of what is told now."""
    return _current.get()


def event(name: str, line: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log what happened; people see nothing of it.

    Parameters
    ----------
    name : str
        What, such as "stage started".
    line : str
        The same as a sentence.
    level : int
        Of `logging`.
    **fields : Any
        What belongs to it, such as `seconds`.
    """
    # Whoever handles the records may show them at a terminal.
    text = printable(redacted(" ".join(line.split())))
    _log.log(level, "%s", text, extra={"fields": {"event": name, **fields}})


def say(line: str, level: int = logging.INFO, **fields: Any) -> None:
    """Tell a line; keys and passwords are cut out.

    Parameters
    ----------
    line : str
        What people read; in JSON its columns are words.
    level : int
        Of `logging`.
    **fields : Any
        What a collector is told besides.
    """
    event(fields.pop("event", "message"), line, level, **fields)
    if not is_json():
        errors.print(redacted(line), markup=False, soft_wrap=True)


class _Rate(ProgressColumn):
    """How fast it goes, once that is known."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(rate_text(speed) if speed else "", style="progress.data.speed")


def rate_text(rate: float) -> str:
    """Print a rate, by the second, minute or hour.

    Parameters
    ----------
    rate : float
        Units a second.
    """
    unit, seconds = next((one for one in _RATES if rate * one[1] >= 1), _RATES[-1])
    return f"{rate * seconds:,.1f}/{unit}"


@contextmanager
def shown(
    console: Console, name: str, total: int, unit: str, part: str = ""
) -> Iterator[Callable[[int], None]]:
    """Show a stage: on a terminal a bar with rate and time left, elsewhere one line when it ends.

    Of a single unit neither is known before it is done, so neither is shown.

    Parameters
    ----------
    console : Console
        Where to.
    name : str
        What is done, such as "reading".
    total : int
        How many units there are.
    unit : str
        What is counted, such as "files".
    part : str
        Of what, where a stage has several parts.

    Yields
    ------
    callable
        Takes how many are done.
    """
    told: dict[str, Any] = {"stage": f"{name} {part}".rstrip(), "unit": unit, "total": total}
    line = f"{name:<12} {total:,} {unit}{part and f': {part}'}"
    event("stage started", f"{told['stage']} started", **told)
    started = time.monotonic()
    many = (_Rate(), TimeRemainingColumn(), TextColumn("left")) if total > 1 else ()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit + (part and f": {part}")),
        TimeElapsedColumn(),
        *many,
    )
    is_hidden = is_json() or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=is_hidden) as bars:
        bar = bars.add_task(f"{name:<12}", total=total)
        yield lambda done: bars.update(bar, completed=done)
    seconds = time.monotonic() - started
    rate = total / seconds if seconds else 0.0
    told |= {"seconds": round(seconds, 3), "rate": round(rate, 3)}
    event("stage ended", f"{line} in {seconds:.1f} s", **told)
    if not is_json():
        speed = f", {rate_text(rate)}" if many and rate else ""
        console.print(f"{line} in {seconds:.1f} s{speed}", highlight=False)
