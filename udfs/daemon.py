"""Spark's Python daemon on one machine: what workers need is imported once, before they are forked.

Where sessions are local, `spark.python.daemon.module` names this module.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

from pyspark import daemon

from deltabook.udfs import hours, intake, judging, staging  # noqa: F401
from deltabook.udfs.live import carrying, source  # noqa: F401

_work: Callable[..., Any] = daemon.worker


def _until_spark_has_gone(*arguments: Any) -> Any:
    """Serve as Spark's own worker does, but leave without a trace once nobody listens."""
    try:
        return _work(*arguments)
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    daemon.worker = _until_spark_has_gone
    gc.freeze()
    daemon.manager()
