"""The job `live`: books out of captures that are still growing, seconds behind them.

A streaming query reads what is new, micro-batch by micro-batch. In each, a function of one symbol carries its
book on from the state that the last one left. Its tables lie in the folder `live` of the warehouse, apart
from those of runs: a run takes nothing of them back and publishes nothing of them. How each micro-batch comes
in exactly once, `live_commits` says.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row
from pyspark.sql.streaming.query import StreamingQuery

from deltabook.jobs.console.logging import event
from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.runtime.disk_errors import disk_named
from deltabook.jobs.streaming.commits import LiveCommits
from deltabook.jobs.streaming.follow_settings import Following, check, known_of
from deltabook.jobs.streaming.upkeep import tidy
from deltabook.jobs.tables.stored import LIVE
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.frames import CARRIED
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, NOT_GIVEN
from deltabook.schemas.tables import QUARANTINE
from deltabook.udfs.streaming.live_books import Carried, carry_groups
from deltabook.udfs.streaming.stream_source import START, LiveSource, Offset

_CHECKPOINT = "_checkpoint"
_SYMBOL = ("exchange", "symbol")
_COUNTED = ("batches", "messages", "skipped", "rows", "late", "missed", "quarantined")
_BETWEEN_LOOKS = 0.1
_STARTS, _TOO_SLOW = 3, "Python worker failed to connect back"
_UPKEEP = 1000
"""Micro-batches from one upkeep to the next."""


def live(
    warehouse: Warehouse, following: Following, is_asked_to_end: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Carry books on until there is nothing more, or until asked to end.

    Parameters
    ----------
    warehouse : Warehouse
        Whose instruments are used, and in whose folder the live tables are.
    following : Following
        What is followed, and how.
    is_asked_to_end : callable
        Is asked several times a second.

    Returns
    -------
    dict
        Counts of micro-batches, messages and rows, and what still waits.

    Raises
    ------
    SettingsError
        If the settings ask for what a live feed cannot have.
    WarehouseError
        If the live tables and the stream's checkpoint do not belong together.
    """
    check(warehouse.settings, following)
    tables = Warehouse(
        warehouse.spark, warehouse.settings.model_copy(update={"warehouse": warehouse.root / LIVE})
    )
    with disk_named(warehouse.root), tables.locked():
        job = _Live(warehouse, tables, following)
        job.run(is_asked_to_end)
        return job.summary()


class _Live:
    """One streaming query, and what its micro-batches leave."""

    def __init__(self, warehouse: Warehouse, tables: Warehouse, following: Following):
        self.settings, self.following = warehouse.settings, following
        self.chunk = warehouse.chunk
        self.instruments, self.restarts = known_of(warehouse)
        self.spark, self.tables, self.root = warehouse.spark, tables, warehouse.root
        self.checkpoint = tables.root / _CHECKPOINT
        self.commits = LiveCommits(tables, following.source, self.chunk, self.settings.writing)
        self.counts: Counter[str] = Counter()
        self.busy = threading.Lock()
        self.is_ending = False
        self.error: Exception | None = None
        self.last_news = time.monotonic()
        tidy(tables, warehouse.root)

    def run(self, is_asked_to_end: Callable[[], bool]) -> None:
        """Follow to the end; begin again where Python was not started in the 10 s that Spark gives it."""
        for left in reversed(range(_STARTS)):
            try:
                return self._follow(is_asked_to_end)
            except PySparkException as error:
                if not left or self.counts["batches"] or _TOO_SLOW not in str(error):
                    raise

    def _follow(self, is_asked_to_end: Callable[[], bool]) -> None:
        self.is_ending = False
        query, failed = self._start(), None
        try:
            if self.following.once:
                query.processAllAvailable()
            while not self.following.once and query.isActive and not is_asked_to_end():
                if self._is_idle():
                    break
                time.sleep(_BETWEEN_LOOKS)
            failed = query.exception()
        except PySparkException as error:
            raise self.error or error from error
        finally:
            with self.busy:  # what is being done is done to its end
                self.is_ending = True
            query.stop()
        if self.error is not None:
            raise self.error
        if failed is not None:
            raise failed

    def summary(self) -> dict[str, Any]:
        counted = {name: self.counts[name] for name in _COUNTED}
        found = {"batch": self.commits.batch, "symbols": len(self.commits.symbols), "waiting": self.waiting}
        return found | counted

    @property
    def waiting(self) -> int:
        """Messages that are not settled yet."""
        return sum(told["waiting"] for told in self.commits.symbols.values())

    def _is_idle(self) -> bool:
        """Whether nothing has come for long; a silence is a micro-batch too, so there is one in any case."""
        idle = self.following.idle
        is_over = bool(self.counts["batches"]) and time.monotonic() - self.last_news > idle
        return idle > 0 and is_over and not self.waiting

    def _start(self) -> StreamingQuery:
        self.spark.dataSource.register(LiveSource)
        stream = (
            self.spark.readStream.format(LiveSource.name())
            .option("source", self.following.source)
            .option("folder", str(self.following.folder.absolute()))
            .option("offset", json.dumps(self.commits.offset))
            .option("most_bytes", self.following.most_bytes)
            .option("patience", NOT_GIVEN if self.following.once else self.following.patience)
            .options(**self.settings.limits.options())
            .load()
        )
        return (
            stream.writeStream.foreachBatch(self._take)
            .option("checkpointLocation", str(self.checkpoint))
            .trigger(processingTime=f"{round(self.following.trigger * 1000)} milliseconds")
            .start()
        )

    def _take(self, frame: DataFrame, batch: int) -> None:
        """Do one micro-batch: after a restart Spark may come with the last one again."""
        with self.busy:
            if self.is_ending:  # to return would tell Spark that it was done
                raise WarehouseError("the stream was asked to end")
            try:
                offset = self._offset(batch)
                if (batch, offset) != (self.commits.batch, self.commits.offset):
                    self._carry(frame, batch, offset)
            except Exception as error:
                self.error = self.error or error
                raise

    def _carry(self, frame: DataFrame, batch: int, offset: Offset) -> None:
        started = time.monotonic()
        before = self._offset(batch - 1) if batch else START
        if (batch - 1, before) != (self.commits.batch, self.commits.offset):
            raise WarehouseError(
                f"{self.checkpoint} is not that of the live books beside it, which end with micro-batch "
                f"{self.commits.batch}: remove the folder {self.checkpoint.parent} and begin anew"
            )
        carry = carry_groups(
            Carried(
                root=str(self.checkpoint.parent),
                source=self.following.source,
                writing=self.settings.writing,
                chunk=self.chunk,
                patience=round(self.following.patience * NANOSECONDS_PER_SECOND),
                clock=self.commits.clock,
                is_silent=offset["silences"] > before["silences"],
                instruments=self.instruments,
                restarts=self.restarts,
                symbols=self.commits.symbols,
            )
        )
        new, waiting = (one.groupBy(*_SYMBOL) for one in (frame, self._waiting_symbols(frame)))
        with crash_points("work", LIVE):
            found = new.cogroup(waiting).applyInArrow(carry, CARRIED.ddl).collect()
        self.commits.commit(batch, offset, found)
        if batch % _UPKEEP == _UPKEEP - 1:
            tidy(self.tables, self.root)
        self._count(batch, found, time.monotonic() - started)

    def _waiting_symbols(self, frame: DataFrame) -> DataFrame:
        """Return the symbols whose messages wait: their books are carried on even if nothing of them came.

        New records are cogrouped with them, not only grouped, also because of a leak: Spark 4.1 never frees
        the first Arrow buffers of a grouped map, about 0.5 MB of direct memory a task.
        """
        keys = [key for key, kept in self.commits.symbols.items() if kept["waiting"]]
        columns = {name: pa.array([key[at] for key in keys], pa.string()) for at, name in enumerate(_SYMBOL)}
        return frame.sparkSession.createDataFrame(pa.table(columns), "exchange STRING, symbol STRING")

    def _count(self, batch: int, found: list[Row], seconds: float) -> None:
        counts = Counter({"batches": 1})
        for row in found:
            counts.update(json.loads(row.told)["counts"] if row.told else {})
            if row.table == QUARANTINE.name:
                counts["quarantined"] += json.loads(row.statistics)["numRecords"]
        if counts["messages"] or not self.counts["batches"]:
            self.last_news = time.monotonic()
        self.counts.update(counts)
        line = f"micro-batch {batch}: {counts['messages']:,} messages in {seconds:.2f} s"
        event("micro-batch", line, seconds=round(seconds, 3), **counts)

    def _offset(self, batch: int) -> Offset:
        """Return where a micro-batch ends, as Spark has logged it before it began."""
        log = self.checkpoint / "offsets" / str(batch)
        offset: Offset = json.loads(log.read_text().splitlines()[-1])
        return offset
