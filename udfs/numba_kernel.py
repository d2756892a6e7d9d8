"""Compilation of numba kernels: their flags, and the disk cache of compiled kernels."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import UserProvidedCacheLocator

_PACKAGE = "deltabook."
_NUMBA_LOCATORS = (
    "UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator,IPythonCacheLocator,ZipCacheLocator"
)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` in nopython mode.

    ``cache``: a compiled kernel is stored on disk, so that a Spark worker loads it in milliseconds instead of
    compiling it for seconds. ``nogil``: readers decompress while a kernel runs. Neither ``fastmath`` nor
    ``parallel``: results must be equal to the bit on every machine, and Spark already runs one chunk of a
    symbol on each core.

    A kernel takes its arrays out of a NamedTuple before its loop. Access through the tuple inside the loop
    counts references each time, which can make the loop 100 times slower.

    Parameters
    ----------
    function : callable
        Takes and returns scalars, arrays and tuples of these.
    """
    return numba.njit(function, cache=True, nogil=True)


class KernelLocator(UserProvidedCacheLocator):  # type: ignore[misc]  # numba has no annotations
    """Chooses the cache folder of this package's kernels by the content of its sources, not by their path.

    numba's own locators use the path of a kernel's file, which differs in each application that sends the
    package to an executor. They also check that file alone: a kernel that includes code or constants of
    another file would stay in the cache after that file changes.

    Parameters
    ----------
    function : callable
        The kernel.
    file : str
        Path of its file.
    """

    def __init__(self, function: Callable[..., Any], file: str):
        self._py_file = file
        self._lineno = function.__code__.co_firstlineno
        loader: Any = sys.modules[function.__module__].__loader__
        self._stamp = _digest(loader.get_source(function.__module__))
        base = os.environ.get("NUMBA_CACHE_DIR") or _cache_home() / "deltabook"
        self._cache_path = str(Path(base) / f"kernels-{_digest_sources()}" / function.__module__)

    def get_source_stamp(self) -> str:
        """Return the digest of the function's own module, which `_digest_sources` may leave out."""
        return self._stamp

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> KernelLocator | None:
        """Return the locator of a function of this package, or None: then numba uses its own locators."""
        if not py_func.__module__.startswith(_PACKAGE):
            return None
        locator = cls(py_func, py_file)
        try:
            locator.ensure_cache_path()
        except OSError:  # the home folder is not writable
            return None
        return locator


def _cache_home() -> Path:
    """Return the user's cache folder, as the XDG specification defines it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@cache
def _digest_sources() -> str:
    """Return the digest of every file of `udfs` and `schemas`, in a folder or in a zip."""
    packages = (files("deltabook.udfs"), files("deltabook.schemas"))
    return _digest(*("".join(_read_sources(package)) for package in packages))


def _read_sources(folder: Traversable) -> Iterator[str]:
    """Yield the text of every Python file in a folder and its subfolders, sorted by name."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _read_sources(entry)
        elif entry.name.endswith(".py"):
            yield entry.read_text()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.KernelLocator,{_NUMBA_LOCATORS}"
