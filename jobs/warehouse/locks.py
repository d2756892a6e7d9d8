"""Locks of a warehouse: hold a lock, or find out whether another process holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from deltabook.udfs.storage.locations import is_remote

WRITE_LOCK = ".lock"
"""Name of the lock file, or lock object, that a process holds while it writes to a warehouse."""
SCHEDULE_LOCK = ".schedule.lock"
"""Name of the lock file, or lock object, that a scheduled run holds.

A scheduled run holds this lock from its search for new files until its report is written.
"""


@contextmanager
def hold_lock(lock: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """Hold a lock while the block runs.

    Parameters
    ----------
    lock : Path
        Lock file, or lock object in an object store.
    seconds : float
        Longest time to wait for a lock file, in seconds. This limit does not apply to a lock object: the wait
        then lasts until it is known whether the holder of the lock is alive.

    Yields
    ------
    callable
        Function without arguments that raises `WarehouseError` if the lock was lost since it was taken.

    Raises
    ------
    filelock.Timeout
        If another process still holds the lock after the wait.
    OSError
        If the lock file or lock object cannot be written.
    """
    if is_remote(lock):
        from deltabook.jobs.warehouse.s3_lease import Lease

        lease = Lease(lock)
        lease.acquire()
        try:
            yield lease.check
        finally:
            lease.release()
    else:
        with FileLock(lock, timeout=seconds):
            yield lambda: None


@contextmanager
def try_lock(lock: Path) -> Iterator[bool | None]:
    """Try to hold a lock while the block runs. The block runs in any case, even without the lock.

    Parameters
    ----------
    lock : Path
        Lock file, or lock object in an object store.

    Yields
    ------
    bool or None
        True if this process holds the lock now. False if another process holds it. None if the lock cannot be
        tried, for example in a read-only warehouse.
    """
    is_ours: bool | None = True
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(lock, 0))
        except Timeout:
            is_ours = False
        except OSError:
            is_ours = None
        yield is_ours


def is_lock_held(lock: Path) -> bool | None:
    """Return whether any process holds a lock, without waiting; None if the lock cannot be tried.

    Parameters
    ----------
    lock : Path
        Lock file, or lock object in an object store.
    """
    if is_remote(lock):
        from deltabook.jobs.warehouse.s3_lease import is_lease_fresh

        return is_lease_fresh(lock)
    if not lock.is_file():
        return False
    with try_lock(lock) as is_ours:
        return None if is_ours is None else not is_ours
