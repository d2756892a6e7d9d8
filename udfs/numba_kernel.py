"""Compiles numba kernels, and chooses the folder in which compiled kernels are cached on disk."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

import numba
from numba.core.caching import UserProvidedCacheLocator

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

_PACKAGE = "deltabook."
_NUMBA_LOCATORS = (
    "UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator,IPythonCacheLocator,ZipCacheLocator"
)


def kernel(function: Callable[..., object]) -> Dispatcher:
    """Compile a function with numba in nopython mode.

    - ``cache`` is on: numba stores a compiled kernel on disk. A Spark worker then loads the kernel in
      milliseconds instead of compiling it for seconds.
    - ``nogil`` is on: other threads can decompress input while a kernel runs.
    - ``fastmath`` is off: results must be equal to the bit on every machine.
    - ``parallel`` is off: Spark already runs one chunk of a symbol on each core.

    A kernel should assign the arrays of a NamedTuple to variables before its loop. Inside the loop, each
    access through the tuple would update a reference count, which can make the loop 100 times slower.

    Parameters
    ----------
    function : callable
        The function. It takes and returns scalars, arrays, and tuples of scalars and arrays.
    """
    compiled: Dispatcher = numba.njit(function, cache=True, nogil=True)
    return compiled


class KernelLocator(UserProvidedCacheLocator):  # type: ignore[misc]  # numba has no annotations
    """Chooses the cache folder of this package's kernels by the content of the package's source files.

    numba's own locators choose the folder by the path of a kernel's file. This path differs in each
    application that sends the package to an executor. numba's locators also check only the kernel's own file
    for changes. If a kernel uses code or constants of another file and that file changes, numba would still
    load the outdated kernel.

    Parameters
    ----------
    function : callable
        The kernel.
    file : str
        Path of the kernel's source file.
    """

    def __init__(self, function: FunctionType, file: str):
        self._py_file = file
        self._lineno = function.__code__.co_firstlineno
        loader = vars(sys.modules[function.__module__])["__loader__"]
        self._stamp = _digest(loader.get_source(function.__module__))
        base = os.environ.get("NUMBA_CACHE_DIR") or _cache_home() / "deltabook"
        self._cache_path = str(Path(base) / f"kernels-{_digest_sources()}" / function.__module__)

    def get_source_stamp(self) -> str:
        """Return the digest of the module that defines the kernel.

        The name of the cache folder depends only on the files of `udfs` and `schemas`. The digest is needed
        for a kernel that stands in another folder of the package.
        """
        return self._stamp

    @classmethod
    def from_function(cls, py_func: FunctionType, py_file: str) -> KernelLocator | None:
        """Return the locator of a function, or None to make numba use its own locators.

        The result is None if the function is not in this package, or if the cache folder is not writable.
        """
        if not py_func.__module__.startswith(_PACKAGE):
            return None
        locator = cls(py_func, py_file)
        try:
            locator.ensure_cache_path()
        except OSError:  # the home folder is not writable
            return None
        return locator


def _cache_home() -> Path:
    """Return the user's cache folder as the XDG Base Directory specification defines it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@cache
def _digest_sources() -> str:
    """Return one digest of all Python files of `udfs` and `schemas`; the package may be a folder or a zip."""
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
