"""Read pressed keys from a terminal, without waiting for Enter."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from typing import IO

_BYTES = 64


class Key(Enum):
    """A command to the player, given by pressing a key."""

    PAUSE = auto()
    STEP = auto()
    FASTER = auto()
    SLOWER = auto()
    QUIT = auto()


_SEQUENCES = {
    b"\x1b[C": Key.STEP,  # right arrow
    b"\x1bOC": Key.STEP,  # right arrow, if the terminal is in application mode
    b" ": Key.PAUSE,
    b"n": Key.STEP,
    b"+": Key.FASTER,
    b"=": Key.FASTER,  # the key of + without Shift
    b"-": Key.SLOWER,
    b"q": Key.QUIT,
}


class Keyboard:
    """Reads keys from a terminal.

    Parameters
    ----------
    descriptor : int or None
        File descriptor of the terminal. None means that there is no terminal; `wait` then never returns keys.
    """

    def __init__(self, descriptor: int | None):
        self._descriptor = descriptor

    def wait(self, seconds: float) -> list[Key]:
        """Wait for a key; return the pressed keys, or an empty list if none is pressed in time.

        Parameters
        ----------
        seconds : float
            Maximum time to wait, seconds.
        """
        if self._descriptor is None:
            time.sleep(seconds)
            return []
        if not select.select([self._descriptor], [], [], seconds)[0]:
            return []
        typed = os.read(self._descriptor, _BYTES)
        if not typed:  # the terminal is gone
            self._descriptor = None
        return parse_keys(typed)


def parse_keys(typed: bytes) -> list[Key]:
    """Return the keys that typed bytes stand for; unknown keys are left out.

    Parameters
    ----------
    typed : bytes
        Bytes from a terminal: characters, and escape sequences of arrow keys.
    """
    keys = []
    while typed:
        sequence = next((known for known in _SEQUENCES if typed.startswith(known)), None)
        if sequence is not None:
            keys.append(_SEQUENCES[sequence])
        typed = typed[len(sequence or typed[:1]) :]
    return keys


@contextmanager
def open_keyboard(stream: IO[str] | None = None) -> Iterator[Keyboard]:
    """Make a terminal report each key at once while the block runs, then restore the terminal's settings.

    Parameters
    ----------
    stream : text file, optional
        Input of the terminal; default: standard input. If the stream is not a terminal, the keyboard never
        returns keys.

    Yields
    ------
    Keyboard
        Source of keys. Ctrl-C still raises KeyboardInterrupt.
    """
    stream = stream or sys.stdin
    if stream is None or not stream.isatty():
        yield Keyboard(None)
        return
    descriptor = stream.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    try:
        yield Keyboard(descriptor)
    finally:
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
