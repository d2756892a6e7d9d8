"""Compile flags of every numba kernel, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` in nopython mode.

    ``cache``: a compiled kernel is kept on disk, so that a Spark worker loads it in milliseconds
    instead of compiling for seconds. ``nogil``: readers decompress while a kernel runs.
    No ``fastmath`` and no ``parallel``: results must be the same bits on every machine, and
    Spark already runs one symbol-hour per core.
    """
    return numba.njit(function, cache=True, nogil=True)
