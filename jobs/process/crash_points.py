"""Points at which tests kill a process, to check what it leaves behind."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

CRASH_AT = "DELTABOOK_CRASH_AT"
"""Environment variable: the point to end at, or `?` to print every point on standard error."""

_passed: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Kill this process (SIGKILL) if the environment names this point; else do nothing.

    Parameters
    ----------
    name : str
        Name of the point, as `action.table.when`; `name:3` in the environment means its third passage.
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
    """Put a crash point before the block and one after it.

    Parameters
    ----------
    action, name : str
        Name of the operation, such as `add`, and of the table.
    """
    crash_point(f"{action}.{name}.before")
    yield
    crash_point(f"{action}.{name}.after")
