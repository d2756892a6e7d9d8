"""Work in a second thread: Parquet is read and written by code that leaves Python's lock to others."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield what an iterator yields; while one item is in use, the next is made.

    Parameters
    ----------
    items : iterator
        Is advanced in a thread of its own.
    """
    with ThreadPoolExecutor(1) as aside:
        coming = aside.submit(_next, items)
        while found := coming.result():
            coming = aside.submit(_next, items)
            yield found[0]


def _next(items: Iterator[T]) -> tuple[T, ...]:
    """Return the next item, or nothing at the end."""
    for item in items:
        return (item,)
    return ()
