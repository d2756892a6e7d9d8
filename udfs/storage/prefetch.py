"""Fetches the next item of an iterator in a second thread.

The second thread saves time, because Python's global lock is free while Parquet files are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the items of an iterator; a second thread computes the next item while the caller uses an item.

    Parameters
    ----------
    items : iterator
        Iterator to advance in the second thread.
    """
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(_fetch_next, items)
        while fetched := pending.result():
            pending = thread.submit(_fetch_next, items)
            yield fetched[0]


def _fetch_next(items: Iterator[T]) -> tuple[T, ...]:
    """Return a tuple with the next item; an empty tuple at the end."""
    for item in items:
        return (item,)
    return ()
