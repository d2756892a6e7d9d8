"""Ctrl-C and SIGTERM: what is half done is undone, one line says so, and the exit status is 128 + the signal.

This module imports little: Ctrl-C before the handlers are set ends with Python's own traceback.
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
_PATIENCE_SECONDS = 15
"""How long what is half done may take to be undone; a second signal does not wait."""


class Interrupted(KeyboardInterrupt):
    """The process was asked to end, by Ctrl-C or by SIGTERM."""


class _State:
    """What this process knows of its interruption.

    Attributes
    ----------
    number : int or None
        The signal that asked it to end.
    held_back : int
        How many `held_back` blocks are open.
    published : list of str
        The jobs of this command that have published their tables.
    timer : threading.Timer or None
        Ends the process if what is half done is not undone in time.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.held_back = 0
        self.published: list[str] = []
        self.timer: threading.Timer | None = None


_state = _State()


def install() -> None:
    """Let SIGINT and SIGTERM raise `Interrupted`; a signal that is ignored, as under nohup, stays so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def reinstall() -> None:
    """Set the handlers again if they were set before: the start of Spark replaces that of SIGINT."""
    if signal.getsignal(signal.SIGTERM) is _interrupt:
        install()


def is_interrupted() -> bool:
    """Whether this process was asked to end."""
    return _state.number is not None


def note_published(job: str) -> None:
    """Remember that a job has published its tables.

    Parameters
    ----------
    job : str
        Its name, such as "ingest".
    """
    _state.published.append(job)


def line() -> str:
    """Return the line that tells of the interruption, and of what is published all the same."""
    if not _state.published:
        return "interrupted: nothing of this run is published"
    return f"interrupted: {', '.join(_state.published)} was published, nothing after it"


def exit_status() -> int:
    """Return the exit status of an interrupted process: 130 of Ctrl-C, 143 of SIGTERM."""
    return 128 + (_state.number or signal.SIGINT)


@contextmanager
def held_back() -> Iterator[None]:
    """Let the block end before an interruption is raised: a commit is made and counted, or not begun."""
    _state.held_back += 1
    try:
        yield
    finally:
        _state.held_back -= 1
    if _state.number is not None and not _state.held_back:
        raise Interrupted


@contextmanager
def ends_block() -> Iterator[None]:
    """Let an interruption end the block, and the command go on after it: one that runs until Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        if _state.timer:
            _state.timer.cancel()
        _state.number, _state.timer = None, None
        _set_logging(True)


def leave_default() -> None:
    """Give both signals back to the system, for the moments after a command has told how it went."""
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.SIG_DFL)


def end_now(told: str) -> None:
    """End the process without waiting for threads or other packages' exit functions.

    Parameters
    ----------
    told : str
        The last line on standard error; empty: it was told already.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, RuntimeError):  # nobody reads it, or the main thread is writing to it
            continue
    if told:
        os.write(2, f"deltabook: {told}\n".encode())
    os._exit(exit_status())


def _interrupt(number: int, _: FrameType | None) -> None:
    """Raise `Interrupted` once; end at once if asked a second time."""
    if _state.number is not None:
        end_now(line())
    _state.number = number
    _set_logging(False)
    _state.timer = threading.Timer(_PATIENCE_SECONDS, end_now, (line(),))
    _state.timer.daemon = True
    _state.timer.start()
    if not _state.held_back:
        raise Interrupted


def _set_logging(is_on: bool) -> None:
    """Turn logging off once the process is interrupted: clients of the JVM log what they were doing."""
    import logging

    logging.disable(logging.NOTSET if is_on else logging.CRITICAL)
