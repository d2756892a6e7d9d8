"""What a person sees while a job works: one line a stage, with its tasks counted."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from rich.console import Console

from deltabook.jobs.telling import current, shown

_POLL_SECONDS = 0.3


class Progress:
    """Shows stages as they go, and keeps what each took.

    Parameters
    ----------
    spark : SparkSession
        Whose tasks are counted.
    console : Console
        Where to show it; standard error, so that standard output stays the result.
    """

    def __init__(self, spark: SparkSession, console: Console):
        self.spark = spark
        self.console = console
        self.seconds: dict[str, float] = defaultdict(float)
        """Of each stage, in their order."""

    @contextmanager
    def stage(self, doing: str, unit: str, total: int, part: str = "") -> Iterator[None]:
        """Show a stage whose Spark job has one task for each of `total` units.

        Its Spark jobs are a group, named by the run and the stage.

        Parameters
        ----------
        doing : str
            What is done, such as "reading".
        unit : str
            What is counted, such as "files".
        total : int
            How many there are.
        part : str
            Of what, where a stage has several parts.
        """
        started = time.monotonic()
        name = f"{doing} {part}".rstrip()
        group = f"{current().get('run_id', started)} {name}"
        tracker = self._tracker(group, f"deltabook {name}: {total:,} {unit}")
        with shown(self.console, doing, total, unit, part) as show:
            done = threading.Event()
            poller = threading.Thread(target=self._poll, args=(tracker, group, total, show, done))
            poller.start()
            try:
                yield
            finally:
                done.set()
                poller.join()
        self.seconds[name] += time.monotonic() - started

    def _tracker(self, group: str, description: str) -> Any:
        try:
            context = self.spark.sparkContext
        except PySparkException:  # Spark Connect has none: stages are shown without their tasks
            return None
        context.setJobGroup(group, description)
        return context.statusTracker()

    @staticmethod
    def _poll(
        tracker: Any, group: str, total: int, show: Callable[[int], None], done: threading.Event
    ) -> None:
        while tracker is not None and not done.wait(_POLL_SECONDS):
            for job in tracker.getJobIdsForGroup(group):
                info = tracker.getJobInfo(job)
                for stage in info.stageIds if info else ():
                    tasks = tracker.getStageInfo(stage)
                    if tasks and tasks.numTasks == total:
                        show(tasks.numCompletedTasks)
