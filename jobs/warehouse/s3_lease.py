"""A lock in an object store: an object that is made if there is none, and renewed while it is held.

No clock is compared with another. Whoever wants the lock watches the object: if it changes, its holder lives;
if it has not for `LOST` seconds, its holder is gone, and it is taken over on the condition that it still has
not changed. A holder that could not renew it for as long has lost it, and may write no more.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from deltabook.schemas.errors import WarehouseError
from deltabook.udfs.storage.object_store import named, object_of

RENEWED, LOST = 5.0, 30.0
"""Seconds after which a holder renews, and after which one that has not is gone."""
_LOOKS = 0.5
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that also runs while the machine is suspended."""


class Lease:
    """A lock, as `filelock.FileLock` is one.

    Parameters
    ----------
    place : Path
        Of the object.
    """

    def __init__(self, place: Path):
        self.place = place
        self.store, self.key = object_of(place)
        self.tag: str | None = None
        self.renewed = 0.0
        self.count = 0
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock; until it is known whether its holder lives, wait.

        Raises
        ------
        filelock.Timeout
            If another holds it.
        WarehouseError
            If the store writes without regard to conditions, so that no lock can be had.
        OSError
            If it may not be written.
        """
        seen, since = "", _now()
        while not self._put("create"):
            found = self._seen()
            if found and seen and found != seen:
                raise Timeout(str(self.place))
            if found != seen:
                seen, since = found, _now()
            if seen and _now() - since >= LOST and self._put({"e_tag": seen}):
                break
            time.sleep(_LOOKS)
        if self._put("create"):  # over the object that was just written
            self._delete()
            raise WarehouseError(
                f"{self.place}: this store overwrites what it was told to make only if it is not there, so "
                "two writers could not be told apart. Use one with conditional writes (If-None-Match)"
            )
        self.thread = threading.Thread(target=self._renew, daemon=True)
        self.thread.start()

    def check(self) -> None:
        """Stop a writer that has lost its lock.

        Raises
        ------
        WarehouseError
            If it could not be renewed in time.
        """
        if _now() - self.renewed > LOST - 2 * RENEWED:
            raise WarehouseError(
                f"{self.place} could not be renewed in time, and another process may be writing by now: "
                "nothing of this run is published. See that the object store can be reached, and run again"
            )

    def release(self) -> None:
        """Give the lock back, unless it is lost."""
        self.ended.set()
        if self.thread is not None:
            self.thread.join()
        with suppress(WarehouseError, OSError):  # what cannot be removed now is taken over later
            self.check()
            self._delete()

    def _delete(self) -> None:
        with named(self.place):
            self.store.delete(self.key)

    def _renew(self) -> None:
        while not self.ended.wait(RENEWED):
            with suppress(OSError):  # it is tried again, until `check` finds that it is too late
                if not self._put({"e_tag": self.tag}):
                    return

    def _put(self, mode: Any) -> bool:
        """Write the object on a condition; return whether that held."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        self.count += 1
        began = _now()
        told = f"{socket.gethostname()} {os.getpid()} {id(self)} {self.count}\n"
        try:
            with named(self.place):
                self.tag = self.store.put(self.key, told.encode(), mode=mode)["e_tag"]
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return False
        self.renewed = began
        return True

    def _seen(self) -> str:
        with suppress(FileNotFoundError), named(self.place):
            return str(self.store.head(self.key)["e_tag"])
        return ""


def _now() -> float:
    return time.clock_gettime(_CLOCK)


def is_fresh(place: Path) -> bool:
    """Whether a lock was renewed of late, by this machine's clock: for display alone."""
    store, key = object_of(place)
    try:
        written: datetime = store.head(key)["last_modified"]
    except FileNotFoundError:
        return False
    return (datetime.now(UTC) - written).total_seconds() < LOST
