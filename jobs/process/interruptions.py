"""Handle Ctrl-C and SIGTERM: undo unfinished work, print one line, and exit with status 128 + signal number.

This module imports little, so that the handlers can be set early. Before the handlers are set, Ctrl-C ends
the process with Python's own traceback.
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
"""Seconds after a signal in which unfinished work can be undone. After this time, the process ends anyway."""


class Interrupted(KeyboardInterrupt):
    """Raised when Ctrl-C or SIGTERM asks the process to end."""


class _State:
    """State of the interruption of this process.

    Attributes
    ----------
    number : int or None
        Number of the signal that asked the process to end; None if there was no signal.
    delays : int
        Number of nested `delay_interruption` blocks that the process is executing now.
    published : list of str
        Jobs of this command that have published their tables.
    timer : threading.Timer or None
        Timer that ends the process if undoing takes too long; None before the first signal.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.delays = 0
        self.published: list[str] = []
        self.timer: threading.Timer | None = None


_state = _State()


def install_handlers() -> None:
    """Make SIGINT and SIGTERM raise `Interrupted`. A signal that is ignored, as with nohup, stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def reinstall_handlers() -> None:
    """Set the handlers again after the start of Spark, because Spark replaces the handler of SIGINT.

    Nothing happens if `install_handlers` was not called before.
    """
    if signal.getsignal(signal.SIGTERM) is _interrupt:
        install_handlers()


def is_interrupted() -> bool:
    """Return whether a signal has asked this process to end."""
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
    """Return the message that reports an interruption and names the jobs that have published tables."""
    if not _state.published:
        return "interrupted: nothing of this run is published"
    return f"interrupted: {', '.join(_state.published)} was published, nothing after it"


def exit_status() -> int:
    """Return the exit status of an interrupted process: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + (_state.number or signal.SIGINT)


@contextmanager
def delay_interruption() -> Iterator[None]:
    """Delay an interruption until the end of the block, so that a commit is either complete or not begun."""
    _state.delays += 1
    try:
        yield
    finally:
        _state.delays -= 1
    if _state.number is not None and not _state.delays:
        raise Interrupted


@contextmanager
def end_block_on_interrupt() -> Iterator[None]:
    """Run a block that ends at Ctrl-C or SIGTERM. The process then continues after the block as usual."""
    try:
        yield
    except KeyboardInterrupt:
        if _state.timer:
            _state.timer.cancel()
        _state.number, _state.timer = None, None
        _set_logging(True)


def restore_default_handlers() -> None:
    """Restore the system's default handlers of SIGINT and SIGTERM, after a command has shown its result."""
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


def end_now(message: str) -> None:
    """End the process without waiting for threads or other packages' exit functions.

    Parameters
    ----------
    message : str
        Last line to print on standard error; empty if nothing is left to print.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError):  # the stream is closed, or the main thread is using it
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
    """Turn logging on or off.

    Logging is off after an interruption. If it were on, py4j would log each call to the JVM that fails.
    """
    import logging

    logging.disable(logging.NOTSET if is_on else logging.CRITICAL)
