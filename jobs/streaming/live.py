"""The job `live`: rebuild books from growing capture files, with a delay of a few seconds.

A Spark streaming query reads new messages in micro-batches. In each micro-batch, workers continue the book of
every symbol from the state that the previous micro-batch stored. The live tables are in the folder `live` of
the warehouse, separate from the tables that runs write and publish. The module `commits` explains how every
micro-batch is committed exactly once.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from deltabook.jobs.console.logging import log_event
from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.process.error_causes import wait_for_jvm_end
from deltabook.jobs.runtime.disk_errors import name_disk_errors
from deltabook.jobs.streaming.commits import LiveCommits
from deltabook.jobs.streaming.follow_settings import FollowSettings, check_settings, read_known_instruments
from deltabook.jobs.streaming.upkeep import maintain_live_tables
from deltabook.jobs.tables.delta_tables import LIVE_FOLDER
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.frames import CARRIED
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, NOT_GIVEN
from deltabook.schemas.rows import CarriedRow
from deltabook.schemas.tables import QUARANTINE
from deltabook.udfs.streaming.live_books import BatchStart, make_batch_function
from deltabook.udfs.streaming.stream_source import START, LiveSource, Offset

_CHECKPOINT = "_checkpoint"
"""Name of the folder with the checkpoint of the streaming query, beside the live tables."""
_COUNTS = ("batches", "messages", "skipped", "rows", "late", "missed", "quarantined")
_POLL_SECONDS = 0.1
_MOST_STARTS = 3
_SLOW_START_ERROR = "Python worker failed to connect back"
_BATCHES_BETWEEN_UPKEEP = 1000


def live(
    warehouse: Warehouse, following: FollowSettings, must_stop: Callable[[], bool] = lambda: False
) -> dict[str, int]:
    """Rebuild books from growing captures until the feed ends or a stop is requested, and return counts.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse, whose settings and instruments are used. Its folder `live` gets the live tables.
    following : FollowSettings
        The feed to follow, and when to end.
    must_stop : callable
        Function that returns true when the job must end. The function has no arguments and is called several
        times a second.

    Returns
    -------
    dict
        Counts of micro-batches, messages and rows by name. `waiting` is the number of messages that are not
        in the books yet, because earlier messages of the feed may still arrive.

    Raises
    ------
    SettingsError
        If a setting is not supported by a live feed.
    WarehouseError
        If the live tables and the checkpoint of the streaming query do not match.
    """
    check_settings(warehouse.settings, following)
    tables = Warehouse(
        warehouse.spark, warehouse.settings.model_copy(update={"warehouse": warehouse.root / LIVE_FOLDER})
    )
    with name_disk_errors(warehouse.root), tables.locked():
        job = _LiveJob(warehouse, tables, following)
        job.run(must_stop)
        return job.summarize()


class _LiveJob:
    """A streaming query that rebuilds books, and the commits of its micro-batches."""

    def __init__(self, warehouse: Warehouse, tables: Warehouse, following: FollowSettings):
        self.settings, self.following = warehouse.settings, following
        self.chunk = warehouse.chunk
        self.known = read_known_instruments(warehouse)
        self.spark, self.tables, self.root = warehouse.spark, tables, warehouse.root
        self.checkpoint = tables.root / _CHECKPOINT
        self.commits = LiveCommits(tables, following.source, self.chunk, self.settings.row_policy)
        self.counts: Counter[str] = Counter()
        self.is_processing = threading.Lock()
        self.is_ending = False
        self.error: Exception | None = None
        self.last_message = time.monotonic()
        maintain_live_tables(tables, warehouse.root)

    def run(self, must_stop: Callable[[], bool]) -> None:
        """Follow the feed; retry if a Python worker did not start within the 10 s for which Spark waits."""
        for starts_left in reversed(range(_MOST_STARTS)):
            try:
                return self._follow(must_stop)
            except Exception as error:
                if must_stop() and wait_for_jvm_end():
                    # A signal to the whole process group, as from systemd, also ends the JVM. An interrupted
                    # micro-batch is not committed; the next start reads its messages again.
                    return
                if not isinstance(error, PySparkException):
                    raise
                if not starts_left or self.counts["batches"] or _SLOW_START_ERROR not in str(error):
                    raise

    def summarize(self) -> dict[str, int]:
        """Return the counts of all micro-batches by name, and the number of the last micro-batch."""
        return {
            "batch": self.commits.batch,
            "symbols": len(self.commits.symbols),
            "waiting": self.count_waiting(),
            **{name: self.counts[name] for name in _COUNTS},
        }

    def count_waiting(self) -> int:
        """Return the number of messages that are not in the books yet; see `FollowSettings.patience`."""
        return sum(state["waiting"] for state in self.commits.symbols.values())

    def _follow(self, must_stop: Callable[[], bool]) -> None:
        """Run the streaming query until it ends or fails, the feed is idle, or a stop is requested."""
        self.is_ending = False
        query, query_error = self._start_query(), None
        try:
            if self.following.once:
                query.processAllAvailable()
            while not self.following.once and query.isActive and not must_stop():
                if self._is_idle():
                    break
                time.sleep(_POLL_SECONDS)
            query_error = query.exception()
        except PySparkException as error:
            raise self.error or error from error
        finally:
            with self.is_processing:  # waits until the present micro-batch is complete
                self.is_ending = True
            query.stop()
        if self.error is not None:
            raise self.error
        if query_error is not None:
            raise query_error

    def _is_idle(self) -> bool:
        """Return whether no message arrived in the last `FollowSettings.idle` seconds and no message waits.

        A feed is never idle before its first micro-batch. Spark always runs a first micro-batch, even if the
        feed is silent.
        """
        limit = self.following.idle
        is_silent = bool(self.counts["batches"]) and time.monotonic() - self.last_message > limit
        return limit > 0 and is_silent and not self.count_waiting()

    def _start_query(self) -> StreamingQuery:
        """Start the streaming query that reads new messages and processes them in micro-batches."""
        self.spark.dataSource.register(LiveSource)
        stream = (
            self.spark.readStream.format(LiveSource.name())
            .option("source", self.following.source)
            .option("folder", str(self.following.folder.absolute()))
            .option("offset", json.dumps(self.commits.offset))
            .option("most_bytes", self.following.most_bytes)
            .option("patience", NOT_GIVEN if self.following.once else self.following.patience)
            .options(**self.settings.limits.to_options())
            .load()
        )
        return (
            stream.writeStream.foreachBatch(self._process_batch)
            .option("checkpointLocation", str(self.checkpoint))
            .trigger(processingTime=f"{round(self.following.trigger * 1000)} milliseconds")
            .start()
        )

    def _process_batch(self, frame: DataFrame, batch: int) -> None:
        """Process one micro-batch, or skip it if it is committed already.

        After a restart, Spark may repeat a micro-batch.
        """
        with self.is_processing:
            if self.is_ending:  # a plain return would make Spark record the micro-batch as done
                raise WarehouseError("the stream was asked to end")
            try:
                offset = self._read_offset(batch)
                if (batch, offset) != (self.commits.batch, self.commits.offset):
                    self._rebuild_books(frame, batch, offset)
            except Exception as error:
                self.error = self.error or error
                raise

    def _rebuild_books(self, frame: DataFrame, batch: int, offset: Offset) -> None:
        """Continue all books with the messages of a micro-batch, and commit the results."""
        started = time.monotonic()
        before = self._read_offset(batch - 1) if batch else START
        if (batch - 1, before) != (self.commits.batch, self.commits.offset):
            raise WarehouseError(
                f"{self.checkpoint} does not match the live books in its folder, which end with micro-batch "
                f"{self.commits.batch}: remove the folder {self.checkpoint.parent} to start over"
            )
        continue_books = make_batch_function(
            BatchStart(
                root=str(self.checkpoint.parent),
                source=self.following.source,
                writing=self.settings.row_policy,
                chunk=self.chunk,
                patience=round(self.following.patience * NANOSECONDS_PER_SECOND),
                clock=self.commits.clock,
                is_silent=offset["silences"] > before["silences"],
                instruments=self.known.rows,
                restarts=self.known.restarts,
                symbols=self.commits.symbols,
            )
        )
        new = frame.groupBy("exchange", "symbol")
        waiting = self._make_waiting_frame(frame).groupBy("exchange", "symbol")
        with crash_points("work", LIVE_FOLDER):
            results = new.cogroup(waiting).applyInArrow(continue_books, CARRIED.ddl).collect()
        self.commits.commit(batch, offset, results)
        if batch % _BATCHES_BETWEEN_UPKEEP == _BATCHES_BETWEEN_UPKEEP - 1:
            maintain_live_tables(self.tables, self.root)
        self._count(batch, map(CarriedRow._make, results), time.monotonic() - started)

    def _make_waiting_frame(self, frame: DataFrame) -> DataFrame:
        """Return a frame of the symbols that have waiting messages, with the columns exchange and symbol.

        Spark's cogroup pairs new records with this frame by symbol. Therefore the books of these symbols
        continue even without new messages. A cogroup also avoids a leak of Spark 4.1: after a grouped map,
        Spark never frees the first Arrow buffers, about 0.5 MB of direct memory per task.
        """
        keys = [key for key, state in self.commits.symbols.items() if state["waiting"]]
        columns = {
            "exchange": pa.array([exchange for exchange, _ in keys], pa.string()),
            "symbol": pa.array([symbol for _, symbol in keys], pa.string()),
        }
        return frame.sparkSession.createDataFrame(pa.table(columns), "exchange STRING, symbol STRING")

    def _count(self, batch: int, rows: Iterable[CarriedRow], seconds: float) -> None:
        """Add the counts of a micro-batch to the totals, and log the micro-batch."""
        counts = Counter({"batches": 1})
        for row in rows:
            counts.update(json.loads(row.symbol_state)["counts"] if row.symbol_state else {})
            if row.table == QUARANTINE.name:
                counts["quarantined"] += json.loads(row.statistics)["numRecords"]
        if counts["messages"] or not self.counts["batches"]:
            self.last_message = time.monotonic()
        self.counts.update(counts)
        line = f"micro-batch {batch}: {counts['messages']:,} messages in {seconds:.2f} s"
        log_event("micro-batch", line, seconds=round(seconds, 3), **counts)

    def _read_offset(self, batch: int) -> Offset:
        """Return the position in the feed at which a micro-batch ends, from the query's checkpoint."""
        log = self.checkpoint / "offsets" / str(batch)
        offset: Offset = json.loads(log.read_text().splitlines()[-1])
        return offset
