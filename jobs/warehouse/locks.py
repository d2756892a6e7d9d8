"""Locks of a warehouse: held while it is written, or tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from deltabook.udfs.storage.object_store import is_remote

WRITING, SCHEDULED = ".lock", ".schedule.lock"
"""Held by whatever writes the warehouse; by a scheduled run from its look to its report."""


@contextmanager
def held(lock: Path, seconds: float) -> Iterator[Callable[[], None]]:
    """Hold a lock.

    Parameters
    ----------
    lock : Path
        Its file, or its object in an object store.
    seconds : float
        How long to wait for it; for one in an object store, until it is known whether its holder lives.

    Yields
    ------
    callable
        Raises `WarehouseError` if the lock was lost meanwhile.

    Raises
    ------
    filelock.Timeout
        If another holds it.
    OSError
        If it may not be written.
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
def tried(lock: Path) -> Iterator[bool | None]:
    """Hold a lock, if it is free.

    Parameters
    ----------
    lock : Path
        As of `held`.

    Yields
    ------
    bool or None
        Whether it is held here; None: it may not be tried, as in a warehouse that may only be read.
    """
    is_ours: bool | None = True
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock, 0))
        except Timeout:
            is_ours = False
        except OSError:
            is_ours = None
        yield is_ours


def is_held(lock: Path) -> bool | None:
    """Tell whether a lock is held, without waiting; None: that cannot be known.

    Parameters
    ----------
    lock : Path
        As of `held`.
    """
    if is_remote(lock):
        from deltabook.jobs.warehouse.s3_lease import is_fresh

        return is_fresh(lock)
    if not lock.is_file():
        return False
    with tried(lock) as is_free:
        return None if is_free is None else not is_free
