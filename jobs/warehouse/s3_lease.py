"""Lock a warehouse in an object store with a lock object that the holder of the lock keeps renewing.

The holder creates the lock object on the condition that the object does not exist, and rewrites it every
`RENEWAL_SECONDS`. A process that wants the lock watches the lock object. If the object changes, the holder is
alive. If the object stays the same for `EXPIRY_SECONDS`, the holder is gone. The process then takes the lock:
it overwrites the object on the condition that the object is still the same. A holder that cannot renew the
object in time has lost the lock and stops writing. Clocks of different machines are never compared.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import Timeout

from deltabook.schemas.errors import WarehouseError
from deltabook.udfs.storage.object_store import open_store, wrap_store_errors

if TYPE_CHECKING:
    from obstore import UpdateVersion

RENEWAL_SECONDS = 5.0
"""Seconds between two renewals of the lock object by its holder."""
EXPIRY_SECONDS = 30.0
"""Seconds without a renewal after which another process may take over the lock."""
_POLL_SECONDS = 0.5
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Id of a clock that also runs while the machine is suspended, if the system has such a clock."""


class Lease:
    """A lock in an object store. Its methods have the names that `filelock.FileLock` uses.

    Parameters
    ----------
    place : Path
        Address of the lock object.
    """

    def __init__(self, place: Path):
        self.place = place
        self.store, self.key = open_store(place)
        self.e_tag: str | None = None
        self.renewed_at = 0.0
        self.write_count = 0
        self.is_released = threading.Event()
        self.renewer: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lock. If the lock has a holder, first wait until it is known whether the holder is alive.

        Raises
        ------
        filelock.Timeout
            If another process holds the lock and is alive.
        WarehouseError
            If the store ignores the conditions of a write. Such a store cannot be used for locks.
        OSError
            If the lock object cannot be written.
        """
        last_tag, seen_since = "", _now()
        while not self._put("create"):
            tag = self._read_tag()
            if tag and last_tag and tag != last_tag:
                raise Timeout(str(self.place))
            if tag != last_tag:
                last_tag, seen_since = tag, _now()
            if last_tag and _now() - seen_since >= EXPIRY_SECONDS and self._put({"e_tag": last_tag}):
                break
            time.sleep(_POLL_SECONDS)
        if self._put("create"):  # the object exists, so a second creation shows that conditions are ignored
            self._delete()
            raise WarehouseError(
                f"{self.place}: this store ignores conditional writes, so it cannot prevent two writers. Use "
                "a store that supports them (If-None-Match)"
            )
        self.renewer = threading.Thread(target=self._renew, daemon=True)
        self.renewer.start()

    def check(self) -> None:
        """Raise an error if the lock is lost.

        Raises
        ------
        WarehouseError
            If the last renewal is so long ago that another process may soon take over the lock.
        """
        if _now() - self.renewed_at > EXPIRY_SECONDS - 2 * RENEWAL_SECONDS:
            raise WarehouseError(
                f"{self.place}: the lock could not be renewed in time, so another process may be writing: "
                "nothing of this run is published. Check the connection to the object store, then run again"
            )

    def release(self) -> None:
        """Stop renewing the lock, and delete the lock object unless the lock is lost."""
        self.is_released.set()
        if self.renewer is not None:
            self.renewer.join()
        with suppress(WarehouseError, OSError):  # a lock object that cannot be deleted now expires later
            self.check()
            self._delete()

    def _delete(self) -> None:
        with wrap_store_errors(self.place):
            self.store.delete(self.key)

    def _renew(self) -> None:
        """Renew the lock until it is released or lost."""
        while not self.is_released.wait(RENEWAL_SECONDS):
            with suppress(OSError):  # try again; if no attempt succeeds in time, `check` raises an error
                if not self._put({"e_tag": self.e_tag}):
                    return

    def _put(self, mode: Literal["create"] | UpdateVersion) -> bool:
        """Write the lock object on a condition, and return whether the condition was met.

        `mode` is "create" (the object must not exist) or {"e_tag": tag} (the object must have this tag).
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        self.write_count += 1
        started = _now()
        content = f"{socket.gethostname()} {os.getpid()} {id(self)} {self.write_count}\n"
        try:
            with wrap_store_errors(self.place):
                self.e_tag = self.store.put(self.key, content.encode(), mode=mode)["e_tag"]
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return False
        self.renewed_at = started
        return True

    def _read_tag(self) -> str:
        """Return the entity tag of the lock object, which each write changes; empty if there is no object."""
        with suppress(FileNotFoundError), wrap_store_errors(self.place):
            return str(self.store.head(self.key)["e_tag"])
        return ""


def _now() -> float:
    """Return the time of `_CLOCK` in seconds."""
    return time.clock_gettime(_CLOCK)


def is_lease_fresh(place: Path) -> bool:
    """Return whether a lock object was renewed within the last `EXPIRY_SECONDS`.

    The local clock is compared with the store's clock, so use the result for display only.

    Parameters
    ----------
    place : Path
        Address of the lock object.
    """
    store, key = open_store(place)
    try:
        written: datetime = store.head(key)["last_modified"]
    except FileNotFoundError:
        return False
    return (datetime.now(UTC) - written).total_seconds() < EXPIRY_SECONDS
