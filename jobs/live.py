"""The job `live`: books out of captures that are still growing, seconds behind them.

A streaming query reads what is new, micro-batch by micro-batch; in each, one task a symbol carries its book
on from the state that the last one left. Its tables lie in the folder `live` of the warehouse, apart from
those of runs: a run takes nothing of them back and publishes nothing of them.

Exactly once: workers write data files and states, which nobody sees. Then the driver writes what the states
are (`states/N.json`), commits what is in quarantine, and last the rows of books, in a commit that says that
they are micro-batch N. What that commit says is so: a micro-batch that was interrupted before it is done
again, from the states of N - 1; one that was interrupted after it is known and passed over.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties
from deltalake.transaction import Transaction
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.streaming import StreamingQuery

from deltabook.jobs.crashing import crash_points
from deltabook.jobs.failures import disk_named
from deltabook.jobs.published import open_table, published_versions
from deltabook.jobs.settings import Settings
from deltabook.jobs.stored import Stored
from deltabook.jobs.telling import event
from deltabook.jobs.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.frames import CARRIED, RECORDS
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, NOT_GIVEN, Cadence, OnGap
from deltabook.schemas.tables import BOOKS, INSTRUMENTS, QUARANTINE, both
from deltabook.udfs.live.carrying import STATES, Carried, Told, carry_groups
from deltabook.udfs.live.source import START, LiveSource, Offset
from deltabook.udfs.sources.records import EMPTY_RECORD
from deltabook.udfs.sources.registry import SOURCES

LIVE = "live"
"""Folder of the live tables, in that of the warehouse."""
CHECKPOINT = "_checkpoint"
_APPLICATION = "deltabook live"
_TABLES = (QUARANTINE, *both(BOOKS)[::-1])
"""In the order of their commits: the last one decides."""


@dataclass(frozen=True)
class Following:
    """How a folder is followed.

    Attributes
    ----------
    source : str
        A name of `SOURCES`.
    folder : Path
        Where captures grow.
    trigger : float
        Seconds between the starts of two micro-batches, at least.
    patience : float
        Seconds for which a message waits for others that may belong before it.
    most_bytes : int
        About how much a micro-batch reads.
    once : bool
        Whether to end with what is there.
    idle : float
        Seconds without anything new after which it ends; 0: never.
    """

    source: str
    folder: Path
    trigger: float = 1.0
    patience: float = 2.0
    most_bytes: int = 16 << 20
    once: bool = False
    idle: float = 0.0


def live_tables(warehouse: Path) -> Stored:
    """Return the live tables of a warehouse."""
    return Stored(warehouse / LIVE)


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


def check(settings: Settings, following: Following) -> None:
    """Stop if the settings ask for what a live feed cannot have.

    Parameters
    ----------
    settings : Settings
        Of the warehouse.
    following : Following
        What is followed, and how.

    Raises
    ------
    SettingsError
        Names it, and what to do.
    """
    writing = settings.writing
    by_lines = [name for name, source in SOURCES.items() if source.by_lines]
    if following.source not in by_lines:
        raise SettingsError(
            f"source {following.source!r}: live reads files of one message a line: {', '.join(by_lines)}"
        )
    if not following.folder.is_dir():
        raise SettingsError(f"no such folder: {following.folder}")
    if writing.cadence not in tuple(Cadence) or writing.grids:
        raise SettingsError(
            f"--cadence {settings.cadence}: live writes every change or every message; grids of time are "
            "for `deltabook run`"
        )
    if writing.on_gap is OnGap.RAISE:
        raise SettingsError("--on-gap raise: live goes on; choose flag or wait")
    if settings.master.startswith("sc://"):
        raise SettingsError(f"--master {settings.master}: live needs a session of its own, not a server's")


class _Live:
    """One streaming query, and what its micro-batches leave."""

    def __init__(self, warehouse: Warehouse, tables: Warehouse, following: Following):
        self.tables, self.following = tables, following
        self.settings = warehouse.settings
        self.fixed = _fixed_instruments(warehouse)
        self.chunk = warehouse.chunk
        self.begun_as = f"{following.source}, chunk {self.chunk}, {self.settings.writing}"
        self.counts: Counter[str] = Counter()
        self.busy = threading.Lock()
        self.is_ending, self.error = False, None
        self.last_news = time.monotonic()
        self._settle()

    def run(self, is_asked_to_end: Callable[[], bool]) -> None:
        query = self._start(self.tables.spark)
        try:
            if self.following.once:
                query.processAllAvailable()
            while not self.following.once and query.isActive and not is_asked_to_end():
                if 0 < self.following.idle < time.monotonic() - self.last_news and not self._waits:
                    break
                query.awaitTermination(0.2)
        except PySparkException as error:
            raise self.error or error from error
        finally:
            with self.busy:  # what is being done is done to its end
                self.is_ending = True
            query.stop()
        if self.error is not None:
            raise self.error
        if (failed := query.exception()) is not None:
            raise failed

    def summary(self) -> dict[str, Any]:
        symbols = self.kept["symbols"]
        waiting = sum(told["waiting"] for told in symbols.values())
        counted = {name: self.counts[name] for name in (*_COUNTED, "quarantined")}
        return {"batch": self.kept["batch"], **counted, "symbols": len(symbols), "waiting": waiting}

    def _start(self, spark: SparkSession) -> StreamingQuery:
        spark.dataSource.register(LiveSource)
        patience = self.following.patience
        stream = (
            spark.readStream.format(LiveSource.name())
            .option("source", self.following.source)
            .option("folder", str(self.following.folder.absolute()))
            .option("offset", json.dumps(self.kept["offset"]))
            .option("most_bytes", self.following.most_bytes)
            .option("patience", NOT_GIVEN if self.following.once else patience)
            .load()
        )
        return (
            stream.writeStream.foreachBatch(self._take)
            .option("checkpointLocation", self._path(CHECKPOINT).as_uri())
            .trigger(processingTime=f"{round(self.following.trigger * 1000)} milliseconds")
            .start()
        )

    def _settle(self) -> None:
        """Find the last micro-batch that is in; remove what one that is not has left."""
        self.tables.add(BOOKS, (), properties=None if self.tables.exists(BOOKS) else _named(NOT_GIVEN))
        batch = self._committed(BOOKS)
        nothing = {"batch": NOT_GIVEN, "offset": START, "clock": NOT_GIVEN, "symbols": {}}
        self.kept: dict[str, Any] = nothing | {"begun_as": self.begun_as}
        if batch != NOT_GIVEN:
            self.kept = json.loads(self._manifest(batch).read_text())
        if self.kept["begun_as"] != self.begun_as:
            raise SettingsError(
                f"live books of {self.tables.root} were begun with other settings ({self.kept['begun_as']}, not "
                f"{self.begun_as}): use the same, or remove that folder and begin anew"
            )
        self._sweep()

    def _take(self, frame: DataFrame, batch: int) -> None:
        """Do one micro-batch: Spark calls it again with the same one until it has returned."""
        with self.busy:
            try:
                if self.is_ending:
                    raise WarehouseError("the stream was asked to end")
                if batch != self.kept["batch"] or self._offset(batch) != self.kept["offset"]:
                    self._carry(frame, batch)
            except Exception as error:
                self.error = self.error or error
                raise

    def _carry(self, frame: DataFrame, batch: int) -> None:
        started = time.monotonic()
        offset = self._offset(batch)
        before = self._offset(batch - 1) if batch else START
        if batch != self.kept["batch"] + 1 or before != self.kept["offset"]:
            raise WarehouseError(
                f"{self._path(CHECKPOINT)} is not that of the live books beside it, which end with micro-batch "
                f"{self.kept['batch']}: remove the folder {self.tables.root} and begin anew"
            )
        with crash_points("work", LIVE):
            found = self._carried(frame, offset)
        kept = self._after(batch, offset, found)
        with crash_points("write", STATES):
            path = self._manifest(batch)
            path.with_suffix(".partial").write_text(json.dumps(kept))
            path.with_suffix(".partial").replace(path)
        self._name_instruments(kept["symbols"])
        for table in _TABLES:
            if table is BOOKS or any(row.table == table.name for row in found):
                self._add_once(table, found, batch)
        self._forget(kept)
        self._count(found, time.monotonic() - started)

    def _carried(self, frame: DataFrame, offset: Offset) -> list[Row]:
        symbols = {tuple(name.split(" ")): told for name, told in self.kept["symbols"].items()}
        carry = carry_groups(
            Carried(
                root=str(self.tables.root),
                source=self.following.source,
                writing=self.settings.writing,
                chunk=self.chunk,
                patience=round(self.following.patience * NANOSECONDS_PER_SECOND),
                clock=self.kept["clock"],
                is_silent=offset["silences"] > self.kept["offset"]["silences"],
                instruments=self.fixed,
                symbols=symbols,
            )
        )
        # Symbols whose messages wait are looked at even if none of theirs came.
        wakes = [
            EMPTY_RECORD | {"record": "wake", "exchange": exchange, "symbol": symbol}
            for (exchange, symbol), told in symbols.items()
            if told["waiting"]
        ]
        if wakes:
            rows = pa.Table.from_pylist(wakes, schema=RECORDS.arrow)
            frame = frame.unionByName(frame.sparkSession.createDataFrame(rows, RECORDS.ddl))
        return frame.groupBy("exchange", "symbol").applyInArrow(carry, CARRIED.ddl).collect()

    def _after(self, batch: int, offset: Offset, found: list[Row]) -> dict[str, Any]:
        told: dict[str, Told] = {
            f"{row.exchange} {row.symbol}": json.loads(row.told) for row in found if row.told
        }
        symbols = self.kept["symbols"] | told
        clock = max([self.kept["clock"], *(one["clock"] for one in told.values())])
        return self.kept | {"batch": batch, "offset": offset, "clock": clock, "symbols": symbols}

    def _add_once(self, table: Table, found: list[Row], batch: int) -> None:
        if not self.tables.exists(table) or self._committed(table) < batch:
            self.tables.add(table, found, properties=_named(batch))

    def _name_instruments(self, symbols: dict[str, Told]) -> None:
        rows = [told["instrument"] for _, told in sorted(symbols.items())]
        if rows != [told["instrument"] for _, told in sorted(self.kept["symbols"].items())]:
            self.tables.overwrite(INSTRUMENTS, rows)

    def _forget(self, kept: dict[str, Any]) -> None:
        """Remove the states that the next micro-batch does not start from."""
        old, self.kept = self.kept, kept
        needed = {told["state"] for told in kept["symbols"].values()}
        for told in old["symbols"].values():
            if told["state"] not in needed:
                self._path(STATES, told["state"]).unlink(missing_ok=True)
        self._manifest(old["batch"]).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove states and data files that no commit names."""
        needed = {told["state"] for told in self.kept["symbols"].values()}
        needed.add(self._manifest(self.kept["batch"]).name)
        for path in self._path(STATES).glob("*"):
            if path.name not in needed:
                path.unlink()
        for table in _TABLES:
            if self.tables.exists(table):
                named = {uri.rsplit("/", 1)[-1] for uri in open_table(self.tables.root, table).file_uris()}
                for path in self._path(table.name).rglob("part-*.parquet"):
                    if path.name not in named:
                        path.unlink()

    def _count(self, found: list[Row], seconds: float) -> None:
        counts: Counter[str] = Counter()
        for row in found:
            counts.update(json.loads(row.told)["counts"] if row.told else {})
            if row.table == QUARANTINE.name:
                counts["quarantined"] += json.loads(row.statistics)["numRecords"]
        counts["batches"] = 1
        self.counts.update(counts)
        if counts["messages"]:
            self.last_news = time.monotonic()
        line = f"micro-batch {self.kept['batch']}: {counts['messages']:,} messages in {seconds:.2f} s"
        event("micro-batch", line, seconds=round(seconds, 3), **counts)

    @property
    def _waits(self) -> bool:
        return any(told["waiting"] for told in self.kept["symbols"].values())

    def _committed(self, table: Table) -> int:
        found = open_table(self.tables.root, table).transaction_version(_APPLICATION)
        return NOT_GIVEN if found is None else found

    def _offset(self, batch: int) -> Offset:
        """Return where a micro-batch ends, as Spark has logged it before it began."""
        log = self._path(CHECKPOINT, "offsets", str(batch))
        offset: Offset = json.loads(log.read_text().splitlines()[-1]) if log.exists() else {}
        return offset

    def _manifest(self, batch: int) -> Path:
        return self._path(STATES, f"{batch}.json")

    def _path(self, *parts: str) -> Path:
        return self.tables.root.joinpath(*parts)


_COUNTED = ("batches", "messages", "skipped", "rows", "late", "missed")


def _named(batch: int) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(_APPLICATION, batch)])


def _fixed_instruments(warehouse: Warehouse) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what the warehouse's last published run, and else the settings, say of instruments."""
    given = {
        (exchange, symbol): scales.model_dump()
        for exchange, symbols in warehouse.settings.instruments.items()
        for symbol, scales in symbols.items()
    }
    published = Stored(warehouse.root, published_versions(warehouse.root))
    return given | {(row["exchange"], row["symbol"]): row for row in published.rows(INSTRUMENTS)}


if __name__ == "__main__":
    from deltabook.jobs.cli import main

    main("live")
