"""Stages of a Spark job: shown while they run, timed, and named in Spark's job groups."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from rich.console import Console

from deltabook.jobs.console.logging import current_fields
from deltabook.jobs.console.stage_display import show_stage


class Progress:
    """Shows stages while they run, and records how long each took.

    Parameters
    ----------
    spark : SparkSession
        The session whose jobs are named after the stage.
    console : Console
        The console that shows the stages: standard error, so that standard output has only the result.

    Attributes
    ----------
    seconds : dict of str to float
        Seconds of each stage, in the order in which the stages began.
    """

    def __init__(self, spark: SparkSession, console: Console):
        self.spark = spark
        self.console = console
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str, unit: str, total: int, part: str = "") -> Iterator[Callable[[int], None]]:
        """Show a stage of `total` units, and add its time to `seconds`.

        Its Spark jobs form a job group, named after the run and the stage.

        Parameters
        ----------
        name : str
            Key of the stage, such as "reading".
        unit : str
            Plural noun of what is counted, such as "files".
        total : int
            How many units the stage has.
        part : str
            The suite or other part that the stage works on, where a stage has several.

        Yields
        ------
        callable
            Takes the number of units that are done so far.
        """
        started = time.monotonic()
        key = f"{name} {part}".rstrip()
        run = current_fields().get("run_id", started)
        self._name_spark_jobs(f"{run} {key}", f"deltabook {key}: {total:,} {unit}")
        with show_stage(self.console, name, total, unit, part) as show_done:
            yield show_done
        self.seconds[key] += time.monotonic() - started

    def _name_spark_jobs(self, group: str, description: str) -> None:
        with suppress(PySparkException):  # Spark Connect has no context that could name jobs
            self.spark.sparkContext.setJobGroup(group, description)
