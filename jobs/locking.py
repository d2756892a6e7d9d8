"""Locks of a warehouse, tried without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

WRITING, SCHEDULED = ".lock", ".schedule.lock"
"""Held by whatever writes the warehouse; by a scheduled run from its look to its report."""


@contextmanager
def tried(lock: Path) -> Iterator[bool | None]:
    """Hold a lock, if it is free.

    Parameters
    ----------
    lock : Path
        Its file.

    Yields
    ------
    bool or None
        Whether it is held here; None: it may not be tried, as in a warehouse that may only be read.
    """
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        yield False
        return
    except OSError:
        yield None
        return
    try:
        yield True
    finally:
        held.release()
