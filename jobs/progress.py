"""What a person sees while a job works: one line a stage, with its tasks counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

_POLL_SECONDS = 0.3


class Progress:
    """Shows stages on a terminal as bars, elsewhere as one line when each ends.

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

    @contextmanager
    def stage(self, doing: str, unit: str, total: int) -> Iterator[None]:
        """Show a stage whose Spark job has one task for each of `total` units.

        Parameters
        ----------
        doing : str
            What is done, such as "reading".
        unit : str
            What is counted, such as "files".
        total : int
            How many there are.
        """
        started = time.monotonic()
        group = f"{doing} {started}"
        tracker = self._tracker(group)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
        )
        with Bars(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        ) as bars:
            bar = bars.add_task(f"{doing:<12}", total=total)
            done = threading.Event()
            poller = threading.Thread(
                target=self._poll, args=(tracker, group, total, lambda n: bars.update(bar, completed=n), done)
            )
            poller.start()
            try:
                yield
            finally:
                done.set()
                poller.join()
        self.console.print(
            f"{doing:<12} {total:,} {unit} in {time.monotonic() - started:.1f} s", highlight=False
        )

    def _tracker(self, group: str) -> Any:
        try:
            context = self.spark.sparkContext
        except PySparkException:  # Spark Connect has none: stages are shown without their tasks
            return None
        context.setJobGroup(group, group)
        return context.statusTracker()

    @staticmethod
    def _poll(tracker: Any, group: str, total: int, show: Any, done: threading.Event) -> None:
        while tracker is not None and not done.wait(_POLL_SECONDS):
            for job in tracker.getJobIdsForGroup(group):
                info = tracker.getJobInfo(job)
                for stage in info.stageIds if info else ():
                    tasks = tracker.getStageInfo(stage)
                    if tasks and tasks.numTasks == total:
                        show(tasks.numCompletedTasks)
