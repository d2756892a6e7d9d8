"""Read and write a warehouse: a folder of Delta tables with one writer at a time and published versions."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import cast

from filelock import Timeout
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from deltabook.jobs.console.redaction import redact
from deltabook.jobs.process.crash_points import crash_point
from deltabook.jobs.process.interruptions import delay_interruption, note_published
from deltabook.jobs.process.memory import peak_memory
from deltabook.jobs.records.file_records import (
    RUN_TABLES,
    hash_new_records,
    list_unrecorded_files,
)
from deltabook.jobs.records.file_replacement import roll_back_unfinished_repairs
from deltabook.jobs.records.own_runs import require_unchanged_runs
from deltabook.jobs.records.second_copies import make_copies
from deltabook.jobs.runtime.disk_errors import name_disk_errors
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.delta_tables import CHUNK_PROPERTY, open_table
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.seals import compute_seal
from deltabook.jobs.warehouse.locks import WRITE_LOCK, hold_lock
from deltabook.jobs.warehouse.run import Run, make_run_id
from deltabook.jobs.warehouse.table_writer import TableWriter
from deltabook.jobs.warehouse.tasks import GroupedWork, apply_to_groups
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import BusyError, SettingsError
from deltabook.schemas.names import Cadence, RowPolicy, step_of
from deltabook.schemas.rows import RunRow
from deltabook.schemas.tables import HOURS, RUNS, TABLES, WRITTEN, both
from deltabook.udfs.storage.object_store import remove_tree

_LOCK_SECONDS = 10
"""Seconds to wait for the lock of a warehouse."""
_RANGE_ROWS = 1000
"""Rows of the range whose partitions show how many cores a cluster has."""


class Warehouse(TableWriter):
    """Reads and writes the tables of one warehouse.

    Delta has no transaction over several tables. A run therefore writes its tables first and then adds one
    row to `runs` with the version of each. Readers use the versions of the newest row; later versions are
    invisible to them. A writer first rolls back what an unfinished run has left.

    Parameters
    ----------
    spark : SparkSession
        Session for reading and for tasks.
    settings : Settings
        Settings with the address of the warehouse.
    versions : dict, optional
        Delta version to read of each table, by name; tables that are not in it do not exist for the reader.
        None reads the newest version of every table.
    """

    def __init__(self, spark: SparkSession, settings: Settings, versions: dict[str, int] | None = None):
        super().__init__(settings, versions)
        self.spark = spark
        self.staging = self.root / "_staging"

    @classmethod
    def without_spark(cls, settings: Settings) -> Warehouse:
        """Open a warehouse for work that needs no Spark session.

        Parameters
        ----------
        settings : Settings
            Settings with the address of the warehouse.
        """
        return cls(cast(SparkSession, None), settings)

    @contextmanager
    def writing(self, command: str) -> Iterator[Run]:
        """Hold the lock of the warehouse for one run, and publish the run when the block succeeds.

        Parameters
        ----------
        command : str
            Value for `runs.command`, such as ingest.

        Yields
        ------
        Run
            The run; the caller fills its `summary`.

        Raises
        ------
        BusyError
            If another process is writing to the warehouse.
        """
        with name_disk_errors(self.root), self.locked():
            self._roll_back_unpublished()
            # Create `runs` before any other table: a warehouse without it has lost what it published.
            self._create(RUNS)
            make_copies(self.root)  # those that a killed run did not make
            started = time.time_ns()
            run = Run(make_run_id(started), command, started)
            yield run
            with delay_interruption():
                self._publish(run)
                note_published(command)
            # The run is published. If the disk is full now, the next run makes the copies.
            with suppress(OSError):
                make_copies(self.root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the warehouse; first roll back killed repairs and remove staged files.

        Raises
        ------
        BusyError
            If another process is writing to the warehouse.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                self._check_lock = stack.enter_context(hold_lock(self.root / WRITE_LOCK, _LOCK_SECONDS))
            except Timeout:
                raise BusyError(
                    f"warehouse {self.root} is being written by another process: "
                    "wait for it to finish, or choose another --warehouse"
                ) from None
            crash_point("lock.warehouse.after")
            stack.callback(remove_tree, self.staging)
            remove_tree(self.staging)
            roll_back_unfinished_repairs(self.root)
            yield

    def read(self, table: Table) -> DataFrame:
        """Return a table as a Spark frame; empty if it does not exist at the version that is read."""
        if not self.exists(table):
            return self.spark.createDataFrame([], table.ddl)
        reader = self.spark.read.format("delta")
        version_read = (self.versions_read or {}).get(table.name)
        if version_read is not None:
            reader = reader.option("versionAsOf", version_read)
        return reader.load(self.path(table))

    @property
    def chunk(self) -> int:
        """Length of a chunk of this warehouse in ns.

        Raises
        ------
        SettingsError
            If the settings ask for another length than the warehouse has.
        """
        asked, fixed = self.settings.chunk, self._read_chunk_length()
        if step_of(fixed) != step_of(asked):
            raise SettingsError(
                f"warehouse {self.root} has chunks of {fixed}, not of {asked}: give --chunk {fixed}, or "
                "ingest into a new --warehouse"
            )
        return step_of(asked)

    def _read_chunk_length(self) -> str:
        """Return the chunk length of the warehouse, such as 1h; before its first ingest, the setting."""
        if not self.exists(HOURS):
            return self.settings.chunk
        return str(open_table(self.root, HOURS).metadata().configuration[CHUNK_PROPERTY])

    @property
    def row_policy(self) -> RowPolicy:
        """Policy that decides which book rows are written.

        Raises
        ------
        SettingsError
            If a chunk is not a whole number of the policy's time steps.
        """
        policy, chunk = self.settings.row_policy, self._read_chunk_length()
        for cadence in (policy.cadence, *policy.grids):
            if cadence not in tuple(Cadence) and step_of(chunk) % step_of(cadence):
                raise SettingsError(
                    f"--cadence {cadence}: chunks of {chunk} cannot be cut into such steps; choose one that "
                    "divides them"
                )
        return policy

    @cached_property
    def cores(self) -> int:
        """Number of tasks that run at the same time."""
        local = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\d+)?\])?", str(self.spark.conf.get("spark.master")))
        if local is None:  # a cluster splits a range into as many partitions as it has cores
            return self.spark.range(_RANGE_ROWS).select(F.spark_partition_id()).distinct().count()
        return (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)

    def read_both(self, table: Table, columns: Callable[[DataFrame], DataFrame]) -> DataFrame:
        """Return the rows of a table of scaled integers and of its table of decimals as one Spark frame.

        Parameters
        ----------
        table : Table
            The table of scaled integers.
        columns : callable
            Function that selects columns with the same types from either table.
        """
        scaled, decimal = (columns(self.read(form)) for form in both(table))
        return scaled.unionByName(decimal) if self.exists(both(table)[1]) else scaled

    def apply(
        self, work: GroupedWork, show: Callable[[int], None] = lambda done: None, scratch: Path | None = None
    ) -> list[Row]:
        """Apply a function to each group of references, in Spark tasks of about equal cost.

        Parameters
        ----------
        work : GroupedWork
            The function and its references.
        show : callable
            Function that is called with the number of finished groups, several times a second.
        scratch : Path, optional
            Folder for the results of finished groups. None uses the staging folder of the warehouse, which
            only a run may write.

        Returns
        -------
        list of Row
            All rows that the function yields; empty without references.

        Raises
        ------
        WorkError
            If the function fails for a group or its worker dies, in every attempt.
        """
        if not work.references:
            return []
        return apply_to_groups(self.spark, work, self.cores, self.root, scratch or self.staging, show)

    def _roll_back_unpublished(self) -> None:
        """Restore every table to its published version: later ones belong to a run that never finished."""
        versions = published_versions(self.root)
        if self.exists(RUNS):
            require_unchanged_runs(self.root)
        for table in TABLES.values():
            if table is RUNS or not self.exists(table):
                continue
            published = versions.get(table.name, 0)  # version 0 is the empty table
            if self._newest_version(table) > published:
                with self.committing("restore", table):
                    open_table(self.root, table).restore(published)

    def versions(self) -> dict[str, int]:
        """Return the newest Delta version of every existing table except `runs`, by name."""
        return {
            table.name: self._newest_version(table)
            for table in TABLES.values()
            if table is not RUNS and self.exists(table)
        }

    def _publish(self, run: Run) -> None:
        """Record the files of a run in `written`, then add its row to `runs`, which makes it visible."""
        columns = ("finished", "versions", "version", "proofs")
        runs = cast(list[RunRow], sorted(self.rows(RUNS, *columns), key=lambda row: int(row["finished"])))
        last_finished = runs[-1]["finished"] if runs else 0
        proofs = runs[-1]["proofs"] if runs else "{}"
        recorded_version = dict(runs[-1]["versions"]).get(WRITTEN.name, -1) if runs else -1
        records = [
            {**record, "run_id": run.run_id}
            for record in list_unrecorded_files(self.root, runs, self._hashes)
        ]
        self._hashes.clear()
        # The next run records the row in `runs` of a run that changed nothing else.
        if run.always_records or any(TABLES[str(record["table"])] not in RUN_TABLES for record in records):
            self.append(WRITTEN, records)
            proofs = json.dumps(hash_new_records(self.root, recorded_version))
        measured = {"stages": run.stage_seconds, "peak_memory": peak_memory()}
        row = {
            "run_id": run.run_id,
            "command": run.command,
            "started": run.started,
            # Readers follow the newest row, so this is later than the previous row's, whatever the clock
            # says.
            "finished": max(time.time_ns(), last_finished + 1),
            "code_version": version("deltabook"),
            "settings_hash": self.settings.fingerprint,
            "versions": self.versions(),
            "summary": redact(json.dumps(measured | run.summary)),
            "version": self._newest_version(RUNS) + 1,
            "proofs": proofs,
        }
        self.append(RUNS, [row | {"seal": compute_seal(row)}])
