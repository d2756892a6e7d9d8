"""Spark's Python daemon on one machine: what workers need is imported once, before they are forked.

Where sessions are local, `spark.python.daemon.module` names this module.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from typing import Any

from pyspark import daemon

from deltabook.udfs.ordering import staged_records  # noqa: F401
from deltabook.udfs.spark import fidelity_groups, ingest_groups, rebuild_groups  # noqa: F401
from deltabook.udfs.streaming import live_books, stream_source  # noqa: F401

_work: Callable[..., Any] = daemon.worker
_main: Callable[..., Any] = daemon.worker_main


def _until_spark_has_gone(*arguments: Any) -> Any:
    """Serve as Spark's own worker does, but leave without a trace once nobody listens."""
    try:
        return _work(*arguments)
    except BrokenPipeError:
        os._exit(1)


def _deaf_to_ctrl_c(*arguments: Any) -> Any:
    """Do a worker's work, and leave it to the command to answer Ctrl-C at the terminal that both have."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _main(*arguments)


if __name__ == "__main__":
    daemon.worker_main = _deaf_to_ctrl_c
    daemon.worker = _until_spark_has_gone
    gc.freeze()
    daemon.manager()
