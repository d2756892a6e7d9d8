"""Crash points: named places in the code where a test kills the process, to check what a crash leaves."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

CRASH_AT = "DELTABOOK_CRASH_AT"
"""Environment variable with the name of the crash point at which this process is killed.

With the value `?`, the process is not killed, but prints the name of each crash point that it passes on
standard error.
"""

_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Kill this process (SIGKILL) if the environment variable DELTABOOK_CRASH_AT names this crash point.

    Parameters
    ----------
    name : str
        Name of the point, in the form `action.table.when`. The value `name:3` of the environment variable
        kills the process when it reaches the point for the third time.
    """
    wanted = os.environ.get(CRASH_AT)
    if not wanted:
        return
    _passed[name] += 1
    passage = f"{name}:{_passed[name]}"
    if wanted == "?":
        print("crash point", passage, file=sys.stderr)
    elif wanted in (passage, passage.removesuffix(":1")):
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def crash_points(action: str, name: str) -> Iterator[None]:
    """Put one crash point before the block and one after the block.

    Parameters
    ----------
    action, name : str
        The two parts of the crash points' names: an operation, such as `add`, and a table.
    """
    crash_point(f"{action}.{name}.before")
    yield
    crash_point(f"{action}.{name}.after")
