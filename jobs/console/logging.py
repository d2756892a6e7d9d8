"""Write messages to standard error: lines for people, or one JSON object per line for a log collector.

Every message is also a record of the logger `deltabook`, to which a calling program may add handlers. With
`--log json`, a handler on this logger and on the root logger writes each record as one JSON object. File
descriptor 2 is then redirected too, so that lines printed by the JVM, by workers and by the command-line
parser become JSON objects.
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
from typing import TextIO

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
"""Level names in JSON, for the levels that log collectors spell differently from Python."""
_FRAME = "╭╮╰╯│─ \n"
"""Characters that typer draws around a usage error. They are stripped from JSON messages."""
_logger = logging.getLogger("deltabook")
_logger.addHandler(logging.NullHandler())  # without any handler, Python itself would print the records
_logger.setLevel(logging.INFO)
_logger.propagate = False  # another package's `logging.warning` may have put a handler on the root logger
_original_stderr: TextIO | None = None
_pending_drains: list[tuple[str, threading.Event]] = []
"""One entry per redirection of standard error that has not ended: the unique line that ends the redirection,
and the event that `_wrap_lines` sets when it has read this line."""
Fields = dict[str, str | None]
"""Fields of all records of a command or run: `command` (None outside a command) and `run_id`."""
_fields: ContextVar[Fields] = ContextVar("fields", default={})  # noqa: B039  is never changed in place


class _JsonLines(logging.StreamHandler[TextIO]):
    """Log handler that writes one JSON object per record, with fields such as the command and the run id."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record: any record of deltabook, or a warning or error of other code."""
        return record.levelno >= logging.WARNING or record.name == _logger.name

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON text; `***` replaces keys and passwords."""
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
    """Choose text or JSON as the form of the messages on standard error.

    With JSON, also Python's warnings, and the warnings and errors that other packages log, become JSON.

    Parameters
    ----------
    form : LogForm
        Form of all later messages.
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
    """Redirect file descriptor 2 to a thread that runs `_wrap_lines`, and return the original standard error.

    If a test or a caller has replaced `sys.stderr`, redirect nothing and return the replacement.
    """
    global _original_stderr
    if sys.stderr is not sys.__stderr__:
        return sys.stderr
    if _original_stderr is None:
        _original_stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
        reading, writing = os.pipe()
        os.dup2(writing, 2)  # processes that start later inherit the writing end of the pipe
        os.close(writing)
        last_line, is_drained = secrets.token_hex(), threading.Event()
        threading.Thread(target=_wrap_lines, args=(reading, last_line, is_drained), daemon=True).start()
        _pending_drains.append((last_line, is_drained))
        atexit.register(restore_stderr)
    return _original_stderr


def _wrap_lines(reading: int, last_line: str, is_drained: threading.Event) -> None:
    """Write each line from the pipe `reading` as a JSON object, until `last_line` arrives."""
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
    """Log as JSON again if the command has ended but standard error is still redirected."""
    if _pending_drains and not is_json_log():
        set_log_form(LogForm.JSON)


def restore_stderr() -> None:
    """Wait until all pending lines of standard error are written as JSON; then undo the redirection.

    The JVM may outlive this process and keep the pipe open, so this function does not wait until the pipe is
    closed. Instead, it writes a unique last line to the pipe and waits until `_wrap_lines` has read the line.
    """
    while _pending_drains:
        last_line, is_drained = _pending_drains.pop()
        sys.stderr.flush()
        os.write(2, f"\n{last_line}\n".encode())
        if _original_stderr and is_drained.wait(_DRAIN_SECONDS):
            os.dup2(_original_stderr.fileno(), 2)


def log_error(line: str, error: BaseException, exit_status: int) -> None:
    """Log an unexpected error with its traceback.

    Parameters
    ----------
    line : str
        The error as a sentence.
    error : BaseException
        The exception that was caught.
    exit_status : int
        Exit status of the process, a field of the record.
    """
    fields = {"event": "error", "exit_status": exit_status}
    trace = (type(error), error, error.__traceback__)
    _logger.error("%s", line, exc_info=trace, extra={"fields": fields})


@contextmanager
def log_fields(**fields: str | None) -> Iterator[Fields]:
    """Add fields to every record that is logged within the block.

    Parameters
    ----------
    **fields : str or None
        Fields by name, such as `command` and `run_id`. Blocks may be nested: fields of outer blocks stay.

    Yields
    ------
    dict
        All current fields, including those of outer blocks. The block may add further fields to this dict.
    """
    merged = _fields.get() | fields
    token = _fields.set(merged)
    try:
        yield merged
    finally:
        _fields.reset(token)


def current_fields() -> Fields:
    """Return the fields that `log_fields` currently adds to every record."""
    return _fields.get()


def log_event(name: str, line: str, level: int = logging.INFO, **fields: object) -> None:
    """Send an event to JSON logs and to the log handlers of a calling program, but not to the terminal.

    Parameters
    ----------
    name : str
        Kind of event, such as "stage started".
    line : str
        The event as a sentence.
    level : int
        Level of `logging`.
    **fields : object
        Further fields of the record, such as `seconds`.
    """
    # The text is made printable because a caller's own handler may show records on a terminal.
    text = make_printable(redact(" ".join(line.split())))
    _logger.log(level, "%s", text, extra={"fields": {"event": name, **fields}})


def show_message(line: str, level: int = logging.INFO, *, event: str = "message", **fields: object) -> None:
    """Print a line on standard error and log it, with keys and passwords replaced by `***`.

    Parameters
    ----------
    line : str
        The line, laid out for a terminal. In the log record, each run of spaces becomes one space.
    level : int
        Level of `logging`.
    event : str
        Kind of event, a field of the log record.
    **fields : object
        Further fields of the log record.
    """
    log_event(event, line, level, **fields)
    if not is_json_log():
        stderr_console.print(redact(line), markup=False, soft_wrap=True)
