"""Compile flags of every numba kernel, and where compiled kernels are kept, in one place."""

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

_OURS = "deltabook."
_OTHERS = (
    "UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator,IPythonCacheLocator,ZipCacheLocator"
)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` in nopython mode.

    ``cache``: a compiled kernel is kept on disk, so that a Spark worker loads it in milliseconds
    instead of compiling for seconds. ``nogil``: readers decompress while a kernel runs.
    No ``fastmath`` and no ``parallel``: results must be the same bits on every machine, and
    Spark already runs one symbol-hour per core.
    """
    return numba.njit(function, cache=True, nogil=True)


class KernelLocator(UserProvidedCacheLocator):  # type: ignore[misc]  # numba has no annotations
    """Tells numba where the kernels of this package are kept: by what its sources say, not where they lie.

    numba by itself keeps a kernel under the path of its file, which is another in each application that an
    executor is sent the package for, and looks at that file alone: a kernel compiled with another's code or
    constants in it would outlive a change of that other file.
    """

    def __init__(self, function: Callable[..., Any], file: str):
        self._py_file = file
        self._lineno = function.__code__.co_firstlineno
        loader: Any = sys.modules[function.__module__].__loader__
        self._stamp = _digest(loader.get_source(function.__module__))
        base = os.environ.get("NUMBA_CACHE_DIR") or _home() / "deltabook"
        self._cache_path = str(Path(base) / f"kernels-{_sources()}" / function.__module__)

    def get_source_stamp(self) -> str:
        """Digest of the function's own module, which may be one that `_sources` leaves out."""
        return self._stamp

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> KernelLocator | None:
        """Return the locator of a function of this package; None leaves it to numba's own."""
        if not py_func.__module__.startswith(_OURS):
            return None
        found = cls(py_func, py_file)
        try:
            found.ensure_cache_path()
        except OSError:  # no home that can be written
            return None
        return found


def _home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@cache
def _sources() -> str:
    """Digest of every file of `udfs` and `schemas`, in a folder or in a zip."""
    return _digest("".join(_texts(files("deltabook.udfs"))), "".join(_texts(files("deltabook.schemas"))))


def _texts(folder: Traversable) -> Iterator[str]:
    for found in sorted(folder.iterdir(), key=lambda one: one.name):
        if found.is_dir():
            yield from _texts(found)
        elif found.name.endswith(".py"):
            yield found.read_text()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.KernelLocator,{_OTHERS}"
