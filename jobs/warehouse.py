"""The warehouse: a folder of Delta tables, its published versions, its one writer at a time."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from delta.tables import DeltaTable
from filelock import FileLock, Timeout
from pyspark.sql import Column, DataFrame, SparkSession

from deltabook.jobs.published import SCHEMA_PROPERTY, is_made, open_table, published_versions
from deltabook.jobs.settings import Settings
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.names import valid_name
from deltabook.schemas.tables import RUNS, SCHEMA_VERSION, TABLES

Slice = tuple[str, str, int]
"""Exchange, symbol and hour: what is replaced at once."""

_LOCK_SECONDS = 10


@dataclass
class Run:
    """One run in the making: its id, and what it will tell."""

    run_id: str
    command: str
    started: int
    summary: dict[str, Any] = field(default_factory=dict)


class Warehouse:
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
    """

    def __init__(self, spark: SparkSession, settings: Settings):
        self.spark = spark
        self.settings = settings
        self.root = settings.warehouse.absolute()
        self.staging = self.root / "_staging"

    def path(self, table: Table) -> str:
        """Return the folder of a table."""
        return str(self.root / table.name)

    def exists(self, table: Table) -> bool:
        """Whether a table was ever made."""
        return is_made(self.root, table)

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
        WarehouseError
            If another process is writing.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root / ".lock", timeout=_LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise WarehouseError(
                f"warehouse {self.root} is being written by another process: "
                "wait for it, or name another --warehouse"
            ) from None
        try:
            self._take_back()
            started = time.time_ns()
            stamp = datetime.fromtimestamp(started / 1e9, UTC).strftime("%Y%m%dT%H%M%S")
            run = Run(f"{stamp}-{secrets.token_hex(4)}", command, started)
            yield run
            self._publish(run)
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)
            lock.release()

    def read(self, table: Table, versions: dict[str, int] | None = None) -> DataFrame:
        """Read a table as it stands, or as of the versions given; empty if it was not made by then."""
        if not self.exists(table) or (versions is not None and table.name not in versions):
            return self.spark.createDataFrame([], table.ddl)
        reader = self.spark.read.format("delta")
        if versions is not None:
            reader = reader.option("versionAsOf", versions[table.name])
        return reader.load(self.path(table))

    def rows(self, table: Table, *columns: str) -> list[dict[str, Any]]:
        """Read a small table, or a few columns of one, as it stands; without a Spark job."""
        if not self.exists(table):
            return []
        dataset = open_table(self.root, table).to_pyarrow_dataset()
        return dataset.to_table(columns=list(columns) or None).to_pylist()  # type: ignore[no-any-return]

    def data_files(self, table: Table, among: Column | None = None) -> dict[Slice, list[str]]:
        """Find the data files that hold each symbol-hour of a table, as it stands.

        Parameters
        ----------
        table : Table
            Has the columns exchange, symbol and hour.
        among : Column, optional
            Which rows to look at; None: all.

        Returns
        -------
        dict
            URIs by (exchange, symbol, hour), both sorted.
        """
        if not self.exists(table):
            return {}
        frame = self.read(table) if among is None else self.read(table).where(among)
        rows = frame.select("exchange", "symbol", "hour", "_metadata.file_path").distinct().collect()
        files: dict[Slice, list[str]] = {}
        for row in sorted(rows):
            files.setdefault((row.exchange, row.symbol, row.hour), []).append(row.file_path)
        return files

    def append(self, table: Table, rows: DataFrame | Sequence[dict[str, Any]]) -> None:
        """Add rows; none at all leaves the table as it is."""
        if not isinstance(rows, DataFrame):
            if not rows:
                return
            rows = self.frame(table, rows)
        self._create(table)
        rows.write.format("delta").mode("append").save(self.path(table))

    def overwrite(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Replace a small table whole."""
        self._create(table)
        self.frame(table, rows).write.format("delta").mode("overwrite").save(self.path(table))

    def replace(self, table: Table, rows: DataFrame, slices: Sequence[Slice], stored: bool) -> None:
        """Put rows in the place of whole slices, in one commit.

        Parameters
        ----------
        table : Table
            Has the columns exchange, symbol and hour.
        rows : DataFrame
            All of these slices. Must not be empty unless the slices are: Delta would delete them.
        slices : sequence of (exchange, symbol, hour)
            All that the rows belong to, whether the table holds something of them or not.
        stored : bool
            Whether the table holds any of them; if not, the rows are only added.
        """
        self._create(table)
        writer = rows.write.format("delta")
        if not stored:
            writer.mode("append").save(self.path(table))
            return
        predicate = self.predicate(slices)
        writer.mode("overwrite").option("replaceWhere", predicate).save(self.path(table))

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

    def frame(self, table: Table, rows: Sequence[dict[str, Any]]) -> DataFrame:
        """Make a small frame in a table's columns."""
        values = [tuple(row[name] for name in table.names) for row in rows]
        return self.spark.createDataFrame(values, table.ddl)

    def register_views(self) -> None:
        """Register every table, as published, as a temporary view of its name."""
        versions = published_versions(self.root)
        for table in TABLES.values():
            view = self.read(table, None if table is RUNS else versions)
            view.createOrReplaceTempView(table.name)

    def _create(self, table: Table) -> None:
        if self.exists(table):
            open_table(self.root, table)  # of this schema version, or an error
            return
        builder = DeltaTable.createIfNotExists(self.spark).location(self.path(table)).comment(table.doc)
        for column in table.columns:
            builder = builder.addColumn(column.name, column.type, comment=column.doc)
        if table.partition_by:
            builder = builder.partitionedBy(*table.partition_by)
        if table.statistics:
            builder = builder.property("delta.dataSkippingStatsColumns", ",".join(table.statistics))
        builder.property(SCHEMA_PROPERTY, SCHEMA_VERSION).execute()

    def _version(self, table: Table) -> int:
        return open_table(self.root, table).version()

    def _last_finished(self) -> int:
        return max((row["finished"] for row in self.rows(RUNS, "finished")), default=0)

    def _take_back(self) -> None:
        """Return every table to its published version; what came after belongs to a run that never ended."""
        versions = published_versions(self.root)
        for table in TABLES.values():
            if table is RUNS or not self.exists(table):
                continue
            published = versions.get(table.name, 0)  # version 0 is the empty table
            found = self._version(table)
            if found < published:
                raise WarehouseError(
                    f"table {self.path(table)} is at version {found}, but version {published} was published: "
                    "commits of its log are lost; put the files of _delta_log back from a copy"
                )
            if found > published:
                DeltaTable.forPath(self.spark, self.path(table)).restoreToVersion(published)

    def versions(self) -> dict[str, int]:
        """Return the Delta version of every table but `runs`, as they stand."""
        return {
            table.name: self._version(table)
            for table in TABLES.values()
            if table is not RUNS and self.exists(table)
        }

    def _publish(self, run: Run) -> None:
        self.append(
            RUNS,
            [
                {
                    "run_id": run.run_id,
                    "command": run.command,
                    "started": run.started,
                    # Readers follow the newest row: never older than the one before, whatever the clock.
                    "finished": max(time.time_ns(), self._last_finished() + 1),
                    "code_version": version("deltabook"),
                    "settings_hash": self.settings.fingerprint,
                    "versions": self.versions(),
                    "summary": json.dumps(run.summary),
                }
            ],
        )
