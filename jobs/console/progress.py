"""What a person sees while a job works: one line a stage, with its groups counted."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from rich.console import Console

from deltabook.jobs.console.logging import current, shown


class Progress:
    """Shows stages while they run, and keeps what each took.

    Parameters
    ----------
    spark : SparkSession
        Its jobs are given the stage's name.
    console : Console
        Where to show it; standard error, so that standard output stays the result.
    """

    def __init__(self, spark: SparkSession, console: Console):
        self.spark = spark
        self.console = console
        self.seconds: dict[str, float] = defaultdict(float)
        """Of each stage, in their order."""

    @contextmanager
    def stage(self, doing: str, unit: str, total: int, part: str = "") -> Iterator[Callable[[int], None]]:
        """Show a stage of `total` units.

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

        Yields
        ------
        callable
            Takes how many units are done.
        """
        started = time.monotonic()
        name = f"{doing} {part}".rstrip()
        self._name_jobs(f"{current().get('run_id', started)} {name}", f"deltabook {name}: {total:,} {unit}")
        with shown(self.console, doing, total, unit, part) as show:
            yield show
        self.seconds[name] += time.monotonic() - started

    def _name_jobs(self, group: str, description: str) -> None:
        with suppress(PySparkException):  # Spark Connect has no context to name jobs in
            self.spark.sparkContext.setJobGroup(group, description)
