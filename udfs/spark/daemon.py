"""Spark's Python daemon for local sessions, which imports the workers' modules before it forks workers.

A forked worker has these modules already, so each module is imported only once. The setting
`spark.python.daemon.module` of local sessions contains the name of this module.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable

from pyspark import daemon

from deltabook.udfs.ordering import staged_records  # noqa: F401
from deltabook.udfs.spark import fidelity_groups, ingest_groups, rebuild_groups  # noqa: F401
from deltabook.udfs.streaming import live_books, stream_source  # noqa: F401

_spark_worker: Callable[..., object] = daemon.worker
_spark_worker_main: Callable[..., object] = daemon.worker_main


def _run_worker(*arguments: object) -> object:
    """Run Spark's own worker; exit without a traceback when Spark has closed the connection."""
    try:
        return _spark_worker(*arguments)
    except BrokenPipeError:
        os._exit(1)


def _run_worker_main(*arguments: object) -> object:
    """Run Spark's own worker loop and ignore Ctrl-C.

    The command that started Spark shares the terminal, and handles Ctrl-C itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _spark_worker_main(*arguments)


if __name__ == "__main__":
    daemon.worker_main = _run_worker_main
    daemon.worker = _run_worker
    gc.freeze()
    daemon.manager()
