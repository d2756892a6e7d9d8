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

from deltabook.udfs.ordering import staged_records as staging
from deltabook.udfs.spark import fidelity_groups as judging
from deltabook.udfs.spark import ingest_groups as intake
from deltabook.udfs.spark import rebuild_groups as hours
from deltabook.udfs.streaming import live_books as carrying
from deltabook.udfs.streaming import stream_source as source

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
