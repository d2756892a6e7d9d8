"""Show the standard error of the JVM and its workers after a short delay.

When the JVM dies or is interrupted, it prints stack traces. These traces only repeat what the command itself
reports in one line. The delay gives the command time to drop the traces before they are shown. While Spark
starts, all lines wait until the start has succeeded. If the start fails, the cause of the failure is read
from these lines.
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
"""First words of a harmless line that Spark's JVM prints at every start. The line is not shown."""
_STANDARD_ERROR = 2


@dataclass
class Relay:
    """A pipe that child processes use as standard error. Its lines are shown after a delay.

    Attributes
    ----------
    reading, showing : int
        File descriptors: the end of the pipe from which lines are read, and the terminal or file that shows
        them.
    is_open : bool
        Whether lines may be shown. While this is false, lines wait.
    last_lines : deque of str
        The last lines that were read, including dropped lines.
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
        """Show the lines that have waited long enough, if the relay is open.

        Parameters
        ----------
        seconds : float
            Show only lines that have waited at least this many seconds.
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
    """Make a relay the standard error of all processes that the block starts.

    The relay begins to show lines when the block ends without an error.

    Yields
    ------
    Relay
        The relay. After a failed start, its `last_lines` may hold the cause.
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
    """Show all waiting lines without further delay. Call this before the process ends."""
    for relay in _relays:
        relay.show(0)


def drop() -> None:
    """Drop all waiting lines, because they repeat an error that the command reports itself."""
    for relay in _relays:
        relay.drop()
