"""Ctrl-C and SIGTERM: unfinished work is undone, one line says so, and the exit status is 128 + the signal.

This module imports little: before the handlers are set, Ctrl-C ends with Python's own traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_UNDO_SECONDS = 15
"""Seconds that undoing may take; a second signal ends the process at once."""


class Interrupted(KeyboardInterrupt):
    """The process was asked to end, by Ctrl-C or by SIGTERM."""


class _State:
    """State of the interruption of this process.

    Attributes
    ----------
    number : int or None
        The signal that asked it to end.
    delays : int
        How many `delay_interruption` blocks are open.
    published : list of str
        Jobs of this command that have published their tables.
    timer : threading.Timer or None
        Ends the process if undoing takes too long.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.delays = 0
        self.published: list[str] = []
        self.timer: threading.Timer | None = None


_state = _State()


def install_handlers() -> None:
    """Let SIGINT and SIGTERM raise `Interrupted`; a signal that is ignored, as under nohup, stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def reinstall_handlers() -> None:
    """Restore the handlers if they were set: the start of Spark replaces the handler of SIGINT."""
    if signal.getsignal(signal.SIGTERM) is _interrupt:
        install_handlers()


def is_interrupted() -> bool:
    """Whether this process was asked to end."""
    return _state.number is not None


def note_published(job: str) -> None:
    """Record that a job has published its tables.

    Parameters
    ----------
    job : str
        Name of the job, such as "ingest".
    """
    _state.published.append(job)


def interruption_message() -> str:
    """Return the line that reports the interruption, and which jobs were published before it."""
    if not _state.published:
        return "interrupted: nothing of this run is published"
    return f"interrupted: {', '.join(_state.published)} was published, nothing after it"


def exit_status() -> int:
    """Return the exit status of an interrupted process: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_state.number or signal.SIGINT)


@contextmanager
def delay_interruption() -> Iterator[None]:
    """Raise an interruption only after the block, so that a commit is complete or not begun."""
    _state.delays += 1
    try:
        yield
    finally:
        _state.delays -= 1
    if _state.number is not None and not _state.delays:
        raise Interrupted


@contextmanager
def end_block_on_interrupt() -> Iterator[None]:
    """End the block at an interruption, and continue after it: for commands that run until Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        if _state.timer:
            _state.timer.cancel()
        _state.number, _state.timer = None, None
        _set_logging(True)


def restore_default_handlers() -> None:
    """Restore the system's handlers of both signals, once a command has reported its result."""
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


def end_now(message: str) -> None:
    """End the process without waiting for threads or other packages' exit functions.

    Parameters
    ----------
    message : str
        Last line for standard error; empty if it was shown already.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError):  # it is closed, or the main thread is writing to it
            continue
    if message:
        os.write(2, f"deltabook: {message}\n".encode())
    os._exit(exit_status())


def _interrupt(number: int, _: FrameType | None) -> None:
    """Raise `Interrupted` at the first signal; end the process at the second."""
    if _state.number is not None:
        end_now(interruption_message())
    _state.number = number
    _set_logging(False)
    _state.timer = threading.Timer(_UNDO_SECONDS, end_now, (interruption_message(),))
    _state.timer.daemon = True
    _state.timer.start()
    if not _state.delays:
        raise Interrupted


def _set_logging(is_on: bool) -> None:
    """Turn logging on or off; it is off after an interruption, when clients of the JVM log lost calls."""
    import logging

    logging.disable(logging.NOTSET if is_on else logging.CRITICAL)
