"""Messages on standard error: lines for people, or one JSON object per line for a collector.

Every message is also a record of the logger `deltabook`: a program that calls the jobs may add a handler of
its own. With `--log json` a handler on this logger and on the root logger writes each record as one JSON
object. It takes over standard error, so that what the JVM, workers and usage errors print become objects too.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO

from deltabook.jobs.console.printable import SafeConsole, make_printable
from deltabook.jobs.console.redaction import redact
from deltabook.jobs.process.interruptions import is_interrupted


class LogForm(StrEnum):
    """Form of the messages on standard error."""

    TEXT = "text"
    JSON = "json"


stderr_console = SafeConsole(stderr=True, highlight=False)

_DRAIN_SECONDS = 5
_COLLECTOR_LEVELS = {"WARNING": "warn", "CRITICAL": "fatal"}
"""Levels that collectors spell differently from Python."""
_FRAME = "╭╮╰╯│─ \n"
"""Characters of the frame around a usage error."""
_logger = logging.getLogger("deltabook")
_logger.addHandler(logging.NullHandler())  # else Python itself would print records that have no handler
_logger.setLevel(logging.INFO)
_logger.propagate = False  # another package's `logging.warning` may have put a handler on the root logger
_original_stderr: TextIO | None = None
_pending_drains: list[tuple[str, threading.Event]] = []
"""For each take-over of standard error: the line that ends it, and the event that says it was read."""
_fields: ContextVar[dict[str, Any]] = ContextVar("fields", default={})  # noqa: B039  is never changed in place


class _JsonLines(logging.StreamHandler[TextIO]):
    """Writes one JSON object per record, with the fields of the run that it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass all of deltabook's records, and warnings and errors of other packages."""
        return record.levelno >= logging.WARNING or record.name == _logger.name

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as text, without keys and passwords."""
        line = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": _COLLECTOR_LEVELS.get(record.levelname, record.levelname.lower()),
            "event": "message",
            "message": record.getMessage(),
            "logger": record.name,
            **_fields.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = logging.Formatter().formatException(record.exc_info)
        return redact(json.dumps(line, default=str))


def _json_handler() -> _JsonLines | None:
    return next((handler for handler in _logger.handlers if isinstance(handler, _JsonLines)), None)


def is_json_log() -> bool:
    """Whether messages on standard error are JSON."""
    return _json_handler() is not None


def set_log_form(form: LogForm) -> None:
    """Choose text or JSON for standard error, for Python's warnings and other packages' records too.

    Parameters
    ----------
    form : LogForm
        The form from now on.
    """
    present = _json_handler()
    new = _JsonLines(_take_over_stderr()) if form is LogForm.JSON else None
    for logger in (_logger, logging.root):
        if present:
            logger.removeHandler(present)
        if new:
            logger.addHandler(new)
    logging.captureWarnings(new is not None)


def _take_over_stderr() -> TextIO:
    """Return the stream for JSON: the original standard error; its descriptor now leads to `_wrap_lines`."""
    global _original_stderr
    if sys.stderr is not sys.__stderr__:  # a test or a caller has replaced it
        return sys.stderr
    if _original_stderr is None:
        _original_stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
        reading, writing = os.pipe()
        os.dup2(writing, 2)  # processes that are started from now on inherit it
        os.close(writing)
        last_line, is_drained = secrets.token_hex(), threading.Event()
        threading.Thread(target=_wrap_lines, args=(reading, last_line, is_drained), daemon=True).start()
        _pending_drains.append((last_line, is_drained))
        atexit.register(restore_stderr)
    return _original_stderr


def _wrap_lines(reading: int, last_line: str, is_drained: threading.Event) -> None:
    """Turn each line that anything else writes to standard error into an object."""
    handler = _JsonLines(_original_stderr)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
        for line in (line.strip(_FRAME) for line in lines):
            if line == last_line:
                return is_drained.set()
            if line and not is_interrupted():
                record = logging.LogRecord("stderr", logging.WARNING, "", 0, "%s", (line,), None)
                handler.handle(record)
    return None


def resume_json_log() -> None:
    """Make standard error JSON for messages after a command's end, if it was JSON while the command ran."""
    if _pending_drains and not is_json_log():
        set_log_form(LogForm.JSON)


def restore_stderr() -> None:
    """Wait until everything written to standard error has become objects, and restore its descriptor.

    The JVM may outlive this process, and still has its end of the pipe.
    """
    while _pending_drains:
        last_line, is_drained = _pending_drains.pop()
        sys.stderr.flush()
        os.write(2, f"\n{last_line}\n".encode())
        if _original_stderr and is_drained.wait(_DRAIN_SECONDS):
            os.dup2(_original_stderr.fileno(), 2)


def log_error(line: str, error: BaseException, exit_status: int) -> None:
    """Log an error that is a bug, with its traceback.

    Parameters
    ----------
    line : str
        One sentence on what happened.
    error : BaseException
        The error; its traceback becomes a field.
    exit_status : int
        Exit status with which the process will leave.
    """
    fields = {"event": "error", "exit_status": exit_status}
    trace = (type(error), error, error.__traceback__)
    _logger.error("%s", line, exc_info=trace, extra={"fields": fields})


@contextmanager
def log_fields(**fields: Any) -> Iterator[dict[str, Any]]:
    """Add fields to every record that is logged within the block.

    Parameters
    ----------
    **fields : Any
        Such as `command` and `run_id`; fields of an outer block stay.

    Yields
    ------
    dict
        All fields, outer ones included; a field that is added to it appears in records from then on.
    """
    merged = _fields.get() | fields
    token = _fields.set(merged)
    try:
        yield merged
    finally:
        _fields.reset(token)


def current_fields() -> dict[str, Any]:
    """Return the fields that records have now."""
    return _fields.get()


def log_event(name: str, line: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event for collectors; people see nothing of it.

    Parameters
    ----------
    name : str
        Kind of event, such as "stage started".
    line : str
        The event as a sentence.
    level : int
        Level of `logging`.
    **fields : Any
        Further fields of the record, such as `seconds`.
    """
    # A caller's own handler may show records on a terminal.
    text = make_printable(redact(" ".join(line.split())))
    _logger.log(level, "%s", text, extra={"fields": {"event": name, **fields}})


def show_message(line: str, level: int = logging.INFO, **fields: Any) -> None:
    """Print a line on standard error, and log it; keys and passwords are removed.

    Parameters
    ----------
    line : str
        The line as people read it; in JSON its runs of blanks become single ones.
    level : int
        Level of `logging`.
    **fields : Any
        Further fields of the record; `event` names its kind (default: "message").
    """
    log_event(fields.pop("event", "message"), line, level, **fields)
    if not is_json_log():
        stderr_console.print(redact(line), markup=False, soft_wrap=True)
