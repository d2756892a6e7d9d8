"""Messages on standard error: lines for people, or one JSON object per line for a log collector.

Every message is also a record of the logger `deltabook`. A program that calls the jobs may add its own
handler to this logger. With `--log json`, a handler on this logger and on the root logger writes each record
as one JSON object. This form also takes over standard error: lines that the JVM, workers and usage errors
print become JSON objects, too.
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
"""Names of log levels in JSON, where collectors spell them differently from Python."""
_FRAME = "╭╮╰╯│─ \n"
"""Characters of the frame that typer prints around a usage error. They are stripped from JSON messages."""
_logger = logging.getLogger("deltabook")
_logger.addHandler(logging.NullHandler())  # without any handler, Python itself would print the records
_logger.setLevel(logging.INFO)
_logger.propagate = False  # another package's `logging.warning` may have put a handler on the root logger
_original_stderr: TextIO | None = None
_pending_drains: list[tuple[str, threading.Event]] = []
"""For each take-over of standard error: the line that ends the take-over, and the event that is set when
this line was read."""
_fields: ContextVar[dict[str, Any]] = ContextVar("fields", default={})  # noqa: B039  is never changed in place


class _JsonLines(logging.StreamHandler[TextIO]):
    """Log handler that writes one JSON object per record, with fields such as the command and the run id."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record: all records of deltabook, and warnings and errors of others."""
        return record.levelno >= logging.WARNING or record.name == _logger.name

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON text; keys and passwords are replaced."""
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
    """Return whether messages on standard error are JSON."""
    return _json_handler() is not None


def set_log_form(form: LogForm) -> None:
    """Choose text or JSON for messages, Python's warnings and other packages' records on standard error.

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
    """Redirect file descriptor 2 to `_wrap_lines`, and return the original standard error, for JSON.

    If a test or a caller has replaced `sys.stderr`, return that stream and redirect nothing.
    """
    global _original_stderr
    if sys.stderr is not sys.__stderr__:
        return sys.stderr
    if _original_stderr is None:
        _original_stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
        reading, writing = os.pipe()
        os.dup2(writing, 2)  # processes that are started from now on inherit this end of the pipe
        os.close(writing)
        last_line, is_drained = secrets.token_hex(), threading.Event()
        threading.Thread(target=_wrap_lines, args=(reading, last_line, is_drained), daemon=True).start()
        _pending_drains.append((last_line, is_drained))
        atexit.register(restore_stderr)
    return _original_stderr


def _wrap_lines(reading: int, last_line: str, is_drained: threading.Event) -> None:
    """Write each line that arrives through the pipe, for example from the JVM, as a JSON object."""
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
    """Use JSON for messages after a command's end, if the command used JSON."""
    if _pending_drains and not is_json_log():
        set_log_form(LogForm.JSON)


def restore_stderr() -> None:
    """Wait until every line of standard error was written as JSON, and restore the file descriptor.

    The JVM may outlive this process and keep the pipe open. Therefore the function does not wait for the end
    of the pipe, but writes a last line and waits until this line was read.
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
        The error. Its traceback becomes a field of the record.
    exit_status : int
        The exit status with which the process will end.
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
        Fields by name, such as `command` and `run_id`. Fields of an outer block stay.

    Yields
    ------
    dict
        All fields, including those of outer blocks. A field that the block adds to this dict appears in later
        records.
    """
    merged = _fields.get() | fields
    token = _fields.set(merged)
    try:
        yield merged
    finally:
        _fields.reset(token)


def current_fields() -> dict[str, Any]:
    """Return the fields that are added to every record now."""
    return _fields.get()


def log_event(name: str, line: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event for collectors, without showing it to people.

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
    # The text is made printable because a caller's own handler may show records on a terminal.
    text = make_printable(redact(" ".join(line.split())))
    _logger.log(level, "%s", text, extra={"fields": {"event": name, **fields}})


def show_message(line: str, level: int = logging.INFO, **fields: Any) -> None:
    """Print a line on standard error and log it, with keys and passwords removed.

    Parameters
    ----------
    line : str
        The line as people read it. In JSON, each run of spaces becomes a single space.
    level : int
        Level of `logging`.
    **fields : Any
        Further fields of the record; `event` names its kind (default: "message").
    """
    log_event(fields.pop("event", "message"), line, level, **fields)
    if not is_json_log():
        stderr_console.print(redact(line), markup=False, soft_wrap=True)
