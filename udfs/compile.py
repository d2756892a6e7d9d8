"""Compile flags of every numba kernel, in one place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from deltabook.schemas import errors


def _cache_folder() -> str:
    """Name a folder for compiled kernels that changes with any file of `udfs` or `schemas`.

    numba looks at a kernel's own file alone: a kernel compiled with another's code or constants in it
    would outlive a change of that other file.
    """
    folders = (Path(__file__).parent, Path(errors.__file__).parent)
    stamps = [
        (str(file), file.stat().st_mtime_ns) for folder in folders for file in sorted(folder.rglob("*.py"))
    ]
    digest = hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(base) / "deltabook" / f"kernels-{digest}")


numba.config.CACHE_DIR = os.environ.get("NUMBA_CACHE_DIR") or _cache_folder()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` in nopython mode.

    ``cache``: a compiled kernel is kept on disk, so that a Spark worker loads it in milliseconds
    instead of compiling for seconds. ``nogil``: readers decompress while a kernel runs.
    No ``fastmath`` and no ``parallel``: results must be the same bits on every machine, and
    Spark already runs one symbol-hour per core.
    """
    return numba.njit(function, cache=True, nogil=True)
