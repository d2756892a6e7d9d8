"""Show and time each stage of a job, and name the Spark jobs of a stage after the stage."""

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
    """Shows stages while they run, and records the duration of each stage.

    Parameters
    ----------
    spark : SparkSession
        The session that runs the job.
    console : Console
        The console that shows the stages. It should write to standard error, because standard output is for
        results.

    Attributes
    ----------
    seconds : dict of str to float
        Duration of each stage in seconds, in the order in which the stages ended.
    """

    def __init__(self, spark: SparkSession, console: Console):
        self.spark = spark
        self.console = console
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str, unit: str, total: int, part: str = "") -> Iterator[Callable[[int], None]]:
        """Show a stage of `total` units while the block runs, and add the stage's duration to `seconds`.

        The Spark jobs of the stage form one Spark job group, with the run and the stage in its name.

        Parameters
        ----------
        name : str
            Key of the stage, such as "reading".
        unit : str
            Plural noun of the units, such as "files".
        total : int
            Number of units that the stage has.
        part : str
            The part on which the stage works, such as a suite; empty if the stage has no parts.

        Yields
        ------
        callable
            Function that takes the number of finished units, and shows this number.
        """
        started = time.monotonic()
        key = f"{name} {part}".rstrip()
        run = current_fields().get("run_id", started)
        self._name_spark_jobs(f"{run} {key}", f"deltabook {key}: {total:,} {unit}")
        with show_stage(self.console, name, total, unit, part) as show_done:
            yield show_done
        self.seconds[key] += time.monotonic() - started

    def _name_spark_jobs(self, group: str, description: str) -> None:
        with suppress(PySparkException):  # Spark Connect has no SparkContext, so jobs cannot be named
            self.spark.sparkContext.setJobGroup(group, description)
