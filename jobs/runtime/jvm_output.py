"""Standard error of the JVM and its workers: made printable, delayed for a moment, then shown.

The delay lets a command drop traces that repeat its own one-line message, as a JVM prints when it dies or is
interrupted. Lines that are printed while Spark starts wait until it has started: if it fails, they hold the
cause.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from deltabook.jobs.console.printable import make_printable
from deltabook.jobs.process.interruptions import is_interrupted

_DELAY_SECONDS, _POLL_SECONDS = 0.5, 0.1
_MAX_LINES = 50
_IRRELEVANT = "WARNING: Using incubator modules"
"""First words of a line that every start of Spark's JVM prints."""
_STANDARD_ERROR = 2


@dataclass
class Relay:
    """One pipe that child processes have as their standard error.

    Attributes
    ----------
    reading, showing : int
        File descriptors: the pipe's reading end, and the terminal or file that shows the lines.
    is_open : bool
        Whether lines are shown; until then they wait.
    last_lines : deque of str
        The last lines, shown or not.
    """

    reading: int
    showing: int
    is_open: bool = False
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_MAX_LINES))
    _waiting: deque[tuple[float, str]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Read and show lines until the last child process has closed the pipe."""
        rest = b""
        while True:
            if select.select([self.reading], [], [], _POLL_SECONDS)[0]:
                read = os.read(self.reading, 1 << 16)
                if not read:
                    break
                *lines, rest = (rest + read).split(b"\n")
                now = time.monotonic()
                with self._lock:
                    for line in lines:
                        text = make_printable(line.decode(errors="replace").rstrip("\r"))
                        if text.startswith(_IRRELEVANT):
                            continue
                        self.last_lines.append(text)
                        self._waiting.append((now, text))
            self.show(_DELAY_SECONDS)

    def show(self, seconds: float) -> None:
        """Show the lines that have waited long enough.

        Parameters
        ----------
        seconds : float
            Seconds that a line must have waited.
        """
        with self._lock:
            until = time.monotonic() - seconds
            while self.is_open and self._waiting and self._waiting[0][0] <= until:
                text = self._waiting.popleft()[1]
                if not is_interrupted():
                    with suppress(OSError):
                        os.write(self.showing, f"{text}\n".encode())

    def drop(self) -> None:
        """Drop the lines that are not shown yet."""
        with self._lock:
            self._waiting.clear()


_relays: list[Relay] = []
# A forked process has no reading thread, and may have inherited a held lock.
os.register_at_fork(after_in_child=_relays.clear)


@contextmanager
def relay_stderr() -> Iterator[Relay]:
    """Give processes that are started within the block a relay as standard error.

    The relay shows lines once the block has ended without an error.

    Yields
    ------
    Relay
        Its `last_lines` may hold the cause of a failed start.
    """
    reading, writing = os.pipe()
    showing = os.dup(_STANDARD_ERROR)
    os.dup2(writing, _STANDARD_ERROR)
    os.close(writing)
    relay = Relay(reading, showing)
    threading.Thread(target=relay.run, daemon=True).start()
    try:
        yield relay
    finally:
        os.dup2(showing, _STANDARD_ERROR)
    relay.is_open = True
    _relays.append(relay)


def flush() -> None:
    """Show all waiting lines at once, because the process ends."""
    for relay in _relays:
        relay.show(0)


def drop() -> None:
    """Drop all waiting lines: they repeat an error that the command reports itself."""
    for relay in _relays:
        relay.drop()
