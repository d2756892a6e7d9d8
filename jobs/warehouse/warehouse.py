"""Read and write a warehouse: a folder of Delta tables that has one writer at a time.

Readers see only the table versions that a run has published.
"""

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
from deltabook.schemas.rows import RunRow, UnsealedRun
from deltabook.schemas.tables import HOURS, RUNS, TABLES, WRITTEN, both
from deltabook.udfs.storage.object_store import remove_tree

_LOCK_SECONDS = 10
"""Seconds to wait for the lock of a warehouse before giving up."""
_RANGE_ROWS = 1000
"""Number of rows of a range that Spark splits into one partition for each core of a cluster."""


class Warehouse(TableWriter):
    """Reads and writes the tables of one warehouse.

    Delta has no transaction over several tables. A run therefore writes its tables first and then publishes
    them: it adds one row to the table `runs` with the Delta version of each table. Readers use the versions
    in the newest row of `runs`, so they do not see later versions. Before a run writes, it rolls back the
    changes of an earlier run that did not finish.

    Parameters
    ----------
    spark : SparkSession
        Session that reads tables and runs tasks.
    settings : Settings
        Settings with the address of the warehouse.
    versions : dict, optional
        Maps the name of each table to the Delta version to read. A table that is not in this dict does not
        exist for this reader, except `runs`, whose newest version is read. None reads the newest version of
        every table.
    """

    def __init__(self, spark: SparkSession, settings: Settings, versions: dict[str, int] | None = None):
        super().__init__(settings, versions)
        self.spark = spark
        self.staging = self.root / "_staging"

    @classmethod
    def without_spark(cls, settings: Settings) -> Warehouse:
        """Return a warehouse without a Spark session, for work that needs none.

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
            Value for the column `command` of `runs`, such as `ingest`.

        Yields
        ------
        Run
            The run in progress. The caller fills its `summary`.

        Raises
        ------
        BusyError
            If another process is writing to the warehouse.
        """
        with name_disk_errors(self.root), self.locked():
            self._roll_back_unpublished()
            for table in TABLES.values():
                self.upgrade(table)
            # Create `runs` before any other table. Tables without `runs` then mean that `runs` is lost.
            self._create(RUNS)
            make_copies(self.root)  # make the second copies that a killed run left out
            started = time.time_ns()
            run = Run(make_run_id(started), command, started)
            yield run
            with delay_interruption():
                self._publish(run)
                note_published(command)
            # The run is published already, so a full disk is no error here: the next run makes the copies.
            with suppress(OSError):
                make_copies(self.root)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the warehouse while the block runs.

        Before the block, repairs whose process was killed are rolled back. The staging folder is removed
        before and after the block.

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
        """Return a table as a Spark frame; the frame is empty if the table does not exist for this reader."""
        if not self.exists(table):
            return self.spark.createDataFrame([], table.ddl)
        reader = self.spark.read.format("delta")
        version_read = (self.versions_read or {}).get(table.name)
        if version_read is not None:
            reader = reader.option("versionAsOf", version_read)
        return reader.load(self.path(table))

    @property
    def chunk(self) -> int:
        """Length of the chunks of this warehouse in ns.

        Raises
        ------
        SettingsError
            If the chunk length in the settings differs from that of the warehouse.
        """
        asked, fixed = self.settings.chunk, self._read_chunk_length()
        if step_of(fixed) != step_of(asked):
            raise SettingsError(
                f"warehouse {self.root} has chunks of {fixed}, not of {asked}: give --chunk {fixed}, or "
                "ingest into a new --warehouse"
            )
        return step_of(asked)

    def _read_chunk_length(self) -> str:
        """Return the chunk length of the warehouse, such as 1h.

        Before the first ingest, the chunk length in the settings is returned.
        """
        if not self.exists(HOURS):
            return self.settings.chunk
        return str(open_table(self.root, HOURS).metadata().configuration[CHUNK_PROPERTY])

    @property
    def row_policy(self) -> RowPolicy:
        """Policy that decides which rows of books are written.

        Raises
        ------
        SettingsError
            If the chunk length is not a multiple of a time step of the policy.
        """
        policy, chunk = self.settings.row_policy, self._read_chunk_length()
        for cadence in (policy.cadence, *policy.grids):
            if cadence not in tuple(Cadence) and step_of(chunk) % step_of(cadence):
                raise SettingsError(
                    f"--cadence {cadence}: chunks of {chunk} cannot be cut into steps of this length. Choose "
                    "a step that fits into a chunk a whole number of times"
                )
        return policy

    @cached_property
    def cores(self) -> int:
        """Number of tasks that Spark runs at the same time."""
        local = re.fullmatch(r"local(?:\[(\d+|\*)(?:,\d+)?\])?", str(self.spark.conf.get("spark.master")))
        if local is None:  # count the partitions of a range: a cluster makes one partition per core
            return self.spark.range(_RANGE_ROWS).select(F.spark_partition_id()).distinct().count()
        return (os.cpu_count() or 1) if local[1] == "*" else int(local[1] or 1)

    def read_both(self, table: Table, columns: Callable[[DataFrame], DataFrame]) -> DataFrame:
        """Return the rows of a table of scaled integers and of its table of decimals as one Spark frame.

        Parameters
        ----------
        table : Table
            Table of scaled integers.
        columns : callable
            Function from a frame of either table to a frame. Both results must have the same columns and
            types.
        """
        scaled, decimal = (columns(self.read(form)) for form in both(table))
        return scaled.unionByName(decimal) if self.exists(both(table)[1]) else scaled

    def apply(
        self, work: GroupedWork, show: Callable[[int], None] = lambda done: None, scratch: Path | None = None
    ) -> list[Row]:
        """Apply a function to each group of references in Spark tasks, and return all rows of the results.

        `GroupedWork` explains references and groups.

        Parameters
        ----------
        work : GroupedWork
            Function to apply, and the references.
        show : callable
            Function that is called with the number of finished groups while the tasks run.
        scratch : Path, optional
            Folder for the results of finished groups. None uses the staging folder of the warehouse. Only the
            holder of the warehouse's lock may use the staging folder.

        Returns
        -------
        list of Row
            All rows that the function yields; empty if there are no references.

        Raises
        ------
        WorkError
            If all attempts for a group fail, because the function raises an error or its worker dies.
        """
        if not work.references:
            return []
        return apply_to_groups(self.spark, work, self.cores, self.root, scratch or self.staging, show)

    def _roll_back_unpublished(self) -> None:
        """Restore every table to its published version, to undo the commits of a run that did not finish."""
        versions = published_versions(self.root)
        if self.exists(RUNS):
            require_unchanged_runs(self.root)
        for table in TABLES.values():
            if table is RUNS or not self.exists(table):
                continue
            published = versions.get(table.name, 0)  # version 0 is the empty table
            if self._newest_version(table) > published:
                with self.committing("restore", table):
                    open_table(self.root, table, any_layout=True).restore(published)

    def versions(self) -> dict[str, int]:
        """Return the newest Delta version of every existing table except `runs`, by name."""
        return {
            table.name: self._newest_version(table)
            for table in TABLES.values()
            if table is not RUNS and self.exists(table)
        }

    def _publish(self, run: Run) -> None:
        """Record the files of a run in `written`, then publish the run by adding its row to `runs`."""
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
        # If all new files belong to `runs` or `written`, leave the recording of these files to the next run.
        if run.always_records or any(TABLES[str(record["table"])] not in RUN_TABLES for record in records):
            self.append(WRITTEN, records)
            proofs = json.dumps(hash_new_records(self.root, recorded_version))
        measured = {"stages": run.stage_seconds, "peak_memory": peak_memory()}
        row: UnsealedRun = {
            "run_id": run.run_id,
            "command": run.command,
            "started": run.started,
            # Readers use the row with the latest `finished`. So this time must be later than the time in the
            # previous row, even if the clock was set back.
            "finished": max(time.time_ns(), last_finished + 1),
            "code_version": version("deltabook"),
            "settings_hash": self.settings.fingerprint,
            "versions": self.versions(),
            "summary": redact(json.dumps(measured | run.summary)),
            "version": self._newest_version(RUNS) + 1,
            "proofs": proofs,
        }
        self.append(RUNS, [row | {"seal": compute_seal(row)}])
