"""What the JVM and its workers print to standard error: made printable, held for a moment, then shown.

It is held because a JVM that dies, or is left by an interrupted command, prints traces of what the command
tells in one line. What is printed while Spark starts is kept back until it has started: if it does not, that
is the cause.
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

from deltabook.jobs.console.printable import printable
from deltabook.jobs.process.interruptions import is_interrupted

_HELD_SECONDS, _LOOK_SECONDS = 0.5, 0.1
_KEPT_LINES = 50
_OF_NO_USE = "WARNING: Using incubator modules"
"""What every start of Spark's JVM prints."""
_STANDARD_ERROR = 2


@dataclass
class Relay:
    """One pipe that children have as their standard error.

    Attributes
    ----------
    reading, showing : int
        Descriptors of the pipe's end, and of where lines are shown.
    is_open : bool
        Whether lines are shown; before that they are kept back.
    """

    reading: int
    showing: int
    is_open: bool = False
    kept: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    """The last lines, shown or not."""
    _waiting: deque[tuple[float, str]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Read and show lines until no child has the pipe any more."""
        rest = b""
        while True:
            if select.select([self.reading], [], [], _LOOK_SECONDS)[0]:
                read = os.read(self.reading, 1 << 16)
                if not read:
                    break
                *lines, rest = (rest + read).split(b"\n")
                now = time.monotonic()
                with self._lock:
                    for line in lines:
                        text = printable(line.decode(errors="replace").rstrip("\r"))
                        if text.startswith(_OF_NO_USE):
                            continue
                        self.kept.append(text)
                        self._waiting.append((now, text))
            self.show(_HELD_SECONDS)

    def show(self, seconds: float) -> None:
        """Show the lines that were held so long.

        Parameters
        ----------
        seconds : float
            How long.
        """
        with self._lock:
            until = time.monotonic() - seconds
            while self.is_open and self._waiting and self._waiting[0][0] <= until:
                text = self._waiting.popleft()[1]
                if not is_interrupted():
                    with suppress(OSError):
                        os.write(self.showing, f"{text}\n".encode())

    def drop(self) -> None:
        """Forget what was not shown yet."""
        with self._lock:
            self._waiting.clear()


_relays: list[Relay] = []
# A forked process has no thread that reads, and a lock may stay held in it.
os.register_at_fork(after_in_child=_relays.clear)


@contextmanager
def relayed() -> Iterator[Relay]:
    """Let processes that are started within print to a relay; it shows lines once the block has ended well.

    Yields
    ------
    Relay
        Its `kept` lines may tell why the start failed.
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
    """Show at once what is held: the process ends."""
    for relay in _relays:
        relay.show(0)


def drop() -> None:
    """Do not show what is held: it is a trace of what is told otherwise."""
    for relay in _relays:
        relay.drop()
