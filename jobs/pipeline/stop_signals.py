"""Handle SIGTERM and SIGINT in commands that repeat work: finish the current work, and then end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from deltabook.jobs.process.interruptions import SIGNALS

_SLEEP_SECONDS = 0.2


@contextmanager
def catch_stop_signals() -> Iterator[Event]:
    """Make the first SIGTERM or SIGINT in the block set an event instead of interrupting the process.

    A second signal interrupts the process as usual.

    Yields
    ------
    threading.Event
        The event, which is set after the first signal.
    """
    is_stopping = Event()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        is_stopping.set()
        restore()

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        yield is_stopping
    finally:
        restore()


def sleep_until_stop(seconds: float, is_stopping: Event) -> None:
    """Sleep for some seconds, or until a stop signal arrives.

    Parameters
    ----------
    seconds : float
        Longest time to sleep, in seconds.
    is_stopping : threading.Event
        The event that `catch_stop_signals` yields.
    """
    # Sleep in short pieces, because Python resumes a sleep that a signal has interrupted. `is_stopping.wait`
    # could deadlock: `wait` may hold the event's lock when the signal handler calls `set`, which needs the
    # lock too.
    end = time.monotonic() + seconds
    while not is_stopping.is_set() and time.monotonic() < end:
        time.sleep(_SLEEP_SECONDS)
