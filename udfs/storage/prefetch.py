"""Iteration with a second thread that fetches the next item: Parquet I/O runs without Python's lock."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield the items of an iterator; the next item is computed while one is in use.

    Parameters
    ----------
    items : iterator
        Runs in a second thread.
    """
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(_fetch_next, items)
        while fetched := pending.result():
            pending = thread.submit(_fetch_next, items)
            yield fetched[0]


def _fetch_next(items: Iterator[T]) -> tuple[T, ...]:
    """Return the next item in a tuple; an empty tuple at the end."""
    for item in items:
        return (item,)
    return ()
