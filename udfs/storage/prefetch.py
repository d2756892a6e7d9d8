"""Iteration in which a second thread fetches the next item.

This saves time, because reading Parquet files releases Python's global lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the items of an iterator; a second thread computes the next item while the caller uses this one.

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
