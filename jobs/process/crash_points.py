"""Points at which tests end a process at once, to see what it leaves behind."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

CRASH_AT = "DELTABOOK_CRASH_AT"
"""Environment variable: the point to end at, or `?`: every point that is passed is told on standard error."""

_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """End this process by SIGKILL if the environment names this point; else do nothing.

    Parameters
    ----------
    name : str
        As `action.table.when`; `name:3` in the environment is its third time.
    """
    wanted = os.environ.get(CRASH_AT)
    if not wanted:
        return
    _passed[name] += 1
    here = f"{name}:{_passed[name]}"
    if wanted == "?":
        print("crash point", here, file=sys.stderr)
    elif wanted in (here, f"{here}".removesuffix(":1")):
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def crash_points(action: str, name: str) -> Iterator[None]:
    """Put a point before and one after what is done within.

    Parameters
    ----------
    action, name : str
        What is done, such as `add`, and to which table.
    """
    crash_point(f"{action}.{name}.before")
    yield
    crash_point(f"{action}.{name}.after")
