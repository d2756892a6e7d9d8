"""The warehouse: a folder of Delta tables, its published versions, its one writer at a time."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.transaction import AddAction, RemoveAction
from filelock import Timeout
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from deltabook.jobs.console.redaction import redacted
from deltabook.jobs.warehouse.locks import WRITING, held
from deltabook.jobs.process.crash_points import crash_point
from deltabook.jobs.process.interruptions import held_back, note_published
from deltabook.jobs.process.memory import peak_memory
from deltabook.jobs.records.active_files import LiveFile
from deltabook.jobs.records.file_records import OF_RUNS, newly_written, proofs_of
from deltabook.jobs.records.file_replacement import put_back_unfinished
from deltabook.jobs.records.own_runs import require_own_runs
from deltabook.jobs.records.second_copies import keep_copies
from deltabook.jobs.runtime.disk_errors import commit, disk_named
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import (
    BEGUN_PROPERTY,
    CHUNK_PROPERTY,
    SCHEMA_PROPERTY,
    open_table,
    published_versions,
)
from deltabook.jobs.tables.seals import seal_of
from deltabook.jobs.tables.stored import Slice, Stored
from deltabook.jobs.warehouse.tasks import Work, apply_packed
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import BusyError, SettingsError
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, Cadence, Writing, step_of, valid_name
from deltabook.schemas.tables import HOURS, RUNS, SCHEMA_VERSION, TABLES, WRITTEN, both
from deltabook.udfs.storage.object_store import remove_tree

Rows = Sequence[dict[str, Any]]
"""Few enough for the driver: they are written without a Spark job (measured: 20 ms, not 800)."""

_LOCK_SECONDS = 10
_MANY = 1000


@dataclass
class Run:
    """One run in the making: its id, what it will tell, and whether it records files in any case."""

    run_id: str
    command: str
    started: int
    summary: dict[str, Any] = field(default_factory=dict)
    records: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, doing: str) -> Iterator[None]:
        """Take the time of a part of a run that starts no Spark job."""
        started = time.monotonic()
        yield
        self.seconds[doing] = round(time.monotonic() - started, 3)


def run_id_at(started: int) -> str:
    """Return the id of a new run: its start to the second, and eight random hex digits.

    Parameters
    ----------
    started : int
        ns since 1970 UTC.
    """
    stamp = datetime.fromtimestamp(started // NANOSECONDS_PER_SECOND, UTC).strftime("%Y%m%dT%H%M%S")
    return f"{stamp}-{secrets.token_hex(4)}"


class Warehouse(Stored):
    """Reads and writes the tables.

    Delta has no transaction over tables, so a run writes its tables first and then one row of
    `runs` with the version of each: readers use those versions, and what no row names does not
    exist for them. A writer first takes back what an unfinished run has left.

    Parameters
    ----------
    spark : SparkSession
        Is handed in.
    settings : Settings
        Where the warehouse is.
    versions : dict, optional
        Delta version of each table that is read, where they are not read as they stand.
    """

    def __init__(self, spark: SparkSession, settings: Settings, versions: dict[str, int] | None = None):
        super().__init__(settings.warehouse.absolute(), versions)
        self.spark = spark
        self.settings = settings
        self.staging = self.root / "_staging"
        self._hashes: dict[tuple[str, str], str] = {}
        self._check_lock: Callable[[], None] = lambda: None

    @classmethod
    def without_spark(cls, settings: Settings) -> Warehouse:
        """Open a warehouse for what needs no Spark session.

        Parameters
        ----------
        settings : Settings
            Where the warehouse is.
        """
        return cls(cast(SparkSession, None), settings)

    @contextmanager
    def writing(self, command: str) -> Iterator[Run]:
        """Hold the warehouse's lock for one run; publish its tables if it ends well.

        Parameters
        ----------
        command : str
            For `runs.command`.

        Yields
        ------
        Run
            Whose `summary` the caller fills.

        Raises
        ------
        BusyError
            If another process is writing.
        """
        with disk_named(self.root), self.locked():
            self._take_back()
            self._create(RUNS)  # before any other table: without it, something was published and is lost
            keep_copies(self.root)  # that a killed run has not made
            started = time.time_ns()
            run = Run(run_id_at(started), command, started)
            yield run
            with held_back():
                self._publish(run)
                note_published(command)
            with suppress(OSError):  # the run is published; the next one makes what a full disk has not taken
                keep_copies(self.root)

    @contextmanager
    def committing(self, action: str, table: Table) -> Iterator[None]:
        """Surround a commit to a table: the lock must still be held, and its errors are told."""
        self._check_lock()
        with commit(action, self.root / table.name):
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock; first put back what a killed repair has moved and remove what was staged."""
        self.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                self._check_lock = stack.enter_context(held(self.root / WRITING, _LOCK_SECONDS))
            except Timeout:
                raise BusyError(
                    f"warehouse {self.root} is being written by another process: "
                    "wait for it, or name another --warehouse"
                ) from None
            crash_point("lock.warehouse.after")
            stack.callback(remove_tree, self.staging)
            remove_tree(self.staging)
            put_back_unfinished(self.root)
            yield

    def read(self, table: Table) -> DataFrame:
        """Read a table; empty if it was not made by then."""
        if not self.exists(table):
            return self.spark.createDataFrame([], table.ddl)
        reader = self.spark.read.format("delta")
        version_read = (self.versions_read or {}).get(table.name)
        if version_read is not None:
            reader = reader.option("versionAsOf", version_read)
        return reader.load(self.path(table))

    @property
    def chunk(self) -> int:
        """Length of an hour of this warehouse, ns.

        Raises
        ------
        SettingsError
            If the settings name another than the one that its first ingest fixed.
        """
        asked, fixed = self.settings.chunk, self._fixed_chunk()
        if step_of(fixed) != step_of(asked):
            raise SettingsError(
                f"warehouse {self.root} has chunks of {fixed}, not of {asked}: give --chunk {fixed}, or "
                "ingest into a new --warehouse"
            )
        return step_of(asked)

    def _fixed_chunk(self) -> str:
        if not self.exists(HOURS):
            return self.settings.chunk
        return str(open_table(self.root, HOURS).metadata().configuration[CHUNK_PROPERTY])

    @property
    def written(self) -> Writing:
        """What is written of books.

        Raises
        ------
        SettingsError
            If steps of a grid would run across the end of a chunk.
        """
        writing, chunk = self.settings.writing, self._fixed_chunk()
        for cadence in (writing.cadence, *writing.grids):
            if cadence not in tuple(Cadence) and step_of(chunk) % step_of(cadence):
                raise SettingsError(
                    f"--cadence {cadence}: chunks of {chunk} cannot be cut into such steps; choose one that "
                    "divides them"
                )
        return writing

    @cached_property
    def cores(self) -> int:
        """How many tasks run at once; a cluster is asked, which cuts a range into as many parts."""
        found = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\d+)?\])?", str(self.spark.conf.get("spark.master")))
        if found is None:
            return self.spark.range(_MANY).select(F.spark_partition_id()).distinct().count()
        return (os.cpu_count() or 1) if found[1] == "*" else int(found[1] or 1)

    def read_both(self, table: Table, columns: Callable[[DataFrame], DataFrame]) -> DataFrame:
        """Read a table and the one of decimals beside it, as they stand, each through `columns`."""
        scaled, decimal = (columns(self.read(one)) for one in both(table))
        return scaled.unionByName(decimal) if self.exists(both(table)[1]) else scaled

    def add(
        self,
        table: Table,
        added: Iterable[Row],
        instead_of: Sequence[Slice] = (),
        properties: CommitProperties | None = None,
    ) -> None:
        """Commit data files that workers have written.

        Parameters
        ----------
        table : Table
            Whose.
        added : iterable of Row
            Columns of `added`; rows of other tables are passed over.
        instead_of : sequence of (exchange, symbol, hour)
            Whole slices whose place they take.
        properties : CommitProperties, optional
            What the commit says besides; one that says something is made without files too.
        """
        of_table = [row for row in added if row.table == table.name]
        self._hashes |= {(table.name, row.path): row.content_hash for row in of_table}
        files: list[AddAction | RemoveAction] = [
            AddAction(
                path=row.path,
                size=row.bytes,
                partition_values=json.loads(row.partition),
                modification_time=row.modified,
                data_change=True,
                stats=row.statistics,
            )
            for row in of_table
        ]
        self.delete(table, self.predicate(instead_of))
        if files or properties:
            held = self._create(table)
            with self.committing("add", table):
                held.create_write_transaction(
                    files,
                    "append",
                    held.schema(),
                    list(table.partition_by),
                    commit_properties=properties,
                )

    def drop(self, table: Table, files: Iterable[LiveFile]) -> None:
        """Take data files out of a table without reading them, as what is damaged cannot be."""
        now = time.time_ns() // 1_000_000
        removed: list[AddAction | RemoveAction] = [
            RemoveAction(file.path, True, now, file.bytes, file.partition)  # type: ignore[arg-type]
            for file in files
            if file.table is table
        ]
        if removed:
            held = open_table(self.root, table)
            with self.committing("drop", table):
                held.create_write_transaction(removed, "append", held.schema(), list(table.partition_by))

    def append(self, table: Table, rows: Rows) -> None:
        """Add rows; none at all leaves the table as it is."""
        if rows:
            held = self._create(table)
            with self.committing("append", table):
                write_deltalake(held, _arrow(table, rows), mode="append")

    def overwrite(self, table: Table, rows: Rows) -> None:
        """Replace a small table whole."""
        held = self._create(table)
        with self.committing("overwrite", table):
            write_deltalake(held, _arrow(table, rows), mode="overwrite")

    def replace(self, table: Table, rows: Rows, slices: Sequence[Slice]) -> None:
        """Put rows in the place of whole slices."""
        self.delete(table, self.predicate(slices))
        self.append(table, rows)

    def delete(self, table: Table, predicate: str) -> None:
        """Delete the rows for which an SQL condition holds; an empty one holds for none."""
        if predicate and self.exists(table):
            held = open_table(self.root, table)
            with self.committing("delete", table):
                held.delete(predicate)

    @staticmethod
    def predicate(slices: Sequence[Slice]) -> str:
        """Return the SQL condition for rows of these slices, from checked names and integers alone."""
        hours: dict[tuple[str, str], list[int]] = {}
        for exchange, symbol, hour in slices:
            key = (valid_name(exchange, "exchange"), valid_name(symbol, "symbol"))
            hours.setdefault(key, []).append(int(hour))
        return " OR ".join(
            f"(exchange = '{exchange}' AND symbol = '{symbol}' "
            f"AND hour IN ({', '.join(map(str, sorted(found)))}))"
            for (exchange, symbol), found in sorted(hours.items())
        )

    def apply(
        self, work: Work, show: Callable[[int], None] = lambda done: None, scratch: Path | None = None
    ) -> list[Row]:
        """Apply a function to each group of references, in Spark tasks of about equal cost.

        Parameters
        ----------
        work : Work
            The function and its references; without references there is nothing to do.
        show : callable
            Is told how many groups are done, several times a second.
        scratch : Path, optional
            Folder for the results of finished groups; None: the warehouse's own for what is staged, which a
            run alone may write.

        Returns
        -------
        list of Row
            All rows that the function has yielded.

        Raises
        ------
        WorkError
            If the function fails for a group, or its worker dies, each time that it is tried.
        """
        if not work.references:
            return []
        return apply_packed(self.spark, work, self.cores, self.root, scratch or self.staging, show)

    def _create(self, table: Table) -> DeltaTable:
        """Open a table of this schema version; make it if there is none."""
        if self.exists(table):
            return open_table(self.root, table)
        columns = [
            pa.field(column.name, column.arrow, metadata={"comment": column.doc}) for column in table.columns
        ]
        # Delta would remove commits of 30 days by itself: how far one can go back is for `maintain` to say.
        properties: dict[str, str | None] = {
            SCHEMA_PROPERTY: SCHEMA_VERSION,
            "delta.enableExpiredLogCleanup": "false",
        }
        if table is not RUNS:
            properties[BEGUN_PROPERTY] = "true"
        if table is HOURS:
            properties[CHUNK_PROPERTY] = self.settings.chunk
        if table.statistics:
            properties["delta.dataSkippingStatsColumns"] = ",".join(table.statistics)
        with self.committing("create", table):
            return DeltaTable.create(
                self.path(table),
                pa.schema(columns),
                partition_by=list(table.partition_by),
                description=table.doc,
                configuration=properties,
                raise_if_key_not_exists=False,
            )

    def _version(self, table: Table) -> int:
        return open_table(self.root, table).version()

    def _runs(self) -> list[dict[str, Any]]:
        """Return what is known of finished runs, the newest last."""
        rows = self.rows(RUNS, "finished", "versions", "version", "proofs")
        return sorted(rows, key=lambda row: int(row["finished"]))

    def _take_back(self) -> None:
        """Return every table to its published version; what came after belongs to a run that never ended."""
        versions = published_versions(self.root)
        if self.exists(RUNS):
            require_own_runs(self.root)
        for table in TABLES.values():
            if table is RUNS or not self.exists(table):
                continue
            published = versions.get(table.name, 0)  # version 0 is the empty table
            if self._version(table) > published:
                with self.committing("restore", table):
                    open_table(self.root, table).restore(published)

    def versions(self) -> dict[str, int]:
        """Return the Delta version of every table but `runs`, as they stand."""
        return {
            table.name: self._version(table)
            for table in TABLES.values()
            if table is not RUNS and self.exists(table)
        }

    def _publish(self, run: Run) -> None:
        """Record what was written, then make it exist for readers."""
        runs = self._runs()
        newest: dict[str, Any] = runs[-1] if runs else {"finished": 0, "versions": {}, "proofs": "{}"}
        named = {"run_id": run.run_id}
        written = [row | named for row in newly_written(self.root, runs, self._hashes)]
        self._hashes.clear()
        proofs = newest["proofs"]
        recorded = dict(newest["versions"]).get(WRITTEN.name, -1)
        # A run that changed nothing leaves its own row alone to the next one's records.
        if run.records or any(TABLES[row["table"]] not in OF_RUNS for row in written):
            self.append(WRITTEN, written)
            proofs = json.dumps(proofs_of(self.root, recorded))
        measured = {"stages": run.seconds, "peak_memory": peak_memory()}
        row = named | {
            "command": run.command,
            "started": run.started,
            # Readers follow the newest row: never older than the one before, whatever the clock.
            "finished": max(time.time_ns(), newest["finished"] + 1),
            "code_version": version("deltabook"),
            "settings_hash": self.settings.fingerprint,
            "versions": self.versions(),
            "summary": redacted(json.dumps(measured | run.summary)),
            "version": self._version(RUNS) + 1,
            "proofs": proofs,
        }
        self.append(RUNS, [row | {"seal": seal_of(row)}])


def _arrow(table: Table, rows: Rows) -> pa.Table:
    return pa.Table.from_pylist([*rows], schema=table.arrow)
