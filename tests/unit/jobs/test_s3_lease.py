"""The lock in an object store has one holder at a time, even if the previous holder was killed."""

from __future__ import annotations

import threading

import pytest
from filelock import Timeout
from obstore.store import MemoryStore

from deltabook.jobs.warehouse import s3_lease
from deltabook.jobs.warehouse.s3_lease import Lease, is_lease_fresh
from deltabook.schemas.errors import WarehouseError
from deltabook.udfs.storage.locations import parse_location

PLACE = "s3a://bucket/books/.lock"


class Blind:
    """A store that passes conditions over, as old ones do."""

    def __init__(self, store: MemoryStore):
        self.store = store
        self.delete = store.delete
        self.head = store.head

    def put(self, key: str, told: bytes, *, mode: object) -> object:
        del mode
        return self.store.put(key, told)


@pytest.fixture
def store(monkeypatch):
    """A store in memory, and times so short that a test need not wait."""
    found = MemoryStore()
    monkeypatch.setattr(s3_lease, "open_store", lambda _: (found, "books/.lock"))
    monkeypatch.setattr(s3_lease, "RENEWAL_SECONDS", 0.05)
    monkeypatch.setattr(s3_lease, "EXPIRY_SECONDS", 2.0)
    monkeypatch.setattr(s3_lease, "_POLL_SECONDS", 0.01)
    return found


def lease() -> Lease:
    return Lease(parse_location(PLACE))


def left_behind(store: MemoryStore) -> Lease:
    """A lease whose process was killed: nothing renews it."""
    found = lease()
    found.acquire()
    found.is_released.set()
    found.renewer.join()
    return found


def test_second_writer_is_refused_while_the_first_lives_and_not_after(store):
    first, second = lease(), lease()
    first.acquire()
    assert is_lease_fresh(parse_location(PLACE))
    with pytest.raises(Timeout):
        second.acquire()
    first.check()
    first.release()
    assert not is_lease_fresh(parse_location(PLACE))
    second.acquire()
    second.release()
    assert not store.list().collect()


def test_lock_of_a_killed_writer_is_taken_over(store):
    left_behind(store)
    heir = lease()
    heir.acquire()
    heir.check()
    heir.release()


def test_of_two_heirs_one_gets_it(store):
    left_behind(store)
    got: list[bool] = []

    def wait() -> None:
        heir = lease()
        try:
            heir.acquire()
        except Timeout:
            got.append(False)
        else:
            got.append(True)
            ended.wait()
            heir.release()

    ended = threading.Event()
    heirs = [threading.Thread(target=wait) for _ in range(2)]
    for heir in heirs:
        heir.start()
    while not got or (len(got) < 2 and False not in got):
        ended.wait(0.01)
    ended.set()
    for heir in heirs:
        heir.join()
    assert sorted(got) == [False, True]


def test_writer_that_has_lost_its_lock_may_not_commit(store):
    late = left_behind(store)
    heir = lease()
    heir.acquire()
    with pytest.raises(WarehouseError, match="could not be renewed in time"):
        late.check()
    late.release()  # what it no longer holds it does not remove
    assert is_lease_fresh(parse_location(PLACE))
    heir.check()
    heir.release()


def test_store_without_conditions_is_refused(store, monkeypatch):
    monkeypatch.setattr(s3_lease, "open_store", lambda _: (Blind(store), "books/.lock"))
    with pytest.raises(WarehouseError, match="conditional writes"):
        lease().acquire()
    assert not store.list().collect()
