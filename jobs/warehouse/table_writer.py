"""Commit rows and data files to the Delta tables of a warehouse."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.transaction import AddAction, RemoveAction
from pyspark.sql import Row

from deltabook.jobs.records.active_files import ActiveFile
from deltabook.jobs.records.file_records import FileHashes
from deltabook.jobs.runtime.disk_errors import guard_commit
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.delta_tables import CHUNK_PROPERTY, SCHEMA_PROPERTY, open_table, read_layout
from deltabook.jobs.tables.published import HAS_RUNS_PROPERTY
from deltabook.jobs.tables.stored import ChunkKey, TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.names import valid_name
from deltabook.schemas.tables import HOURS, RUNS, SCHEMA_VERSION

Rows = Sequence[Mapping[str, object]]
"""A few rows to write, as mappings from column name to value.

The driver itself writes these rows, which takes about 20 ms. A Spark job takes about 800 ms, but its workers
write files of any size.
"""


class TableWriter(TableReader):
    """Reads and writes the tables of one warehouse.

    A method may make several commits, such as a commit that deletes rows and a commit that adds rows.

    Parameters
    ----------
    settings : Settings
        Settings with the address and the chunk length of the warehouse.
    versions : dict, optional
        Maps the name of each table to the Delta version to read. A table that is not in this dict does not
        exist for this reader, except `runs`, whose newest version is read. None reads the newest version of
        every table.
    """

    def __init__(self, settings: Settings, versions: dict[str, int] | None = None):
        super().__init__(settings.warehouse.absolute(), versions)
        self.settings = settings
        self._hashes: FileHashes = {}
        self._check_lock: Callable[[], None] = lambda: None

    @contextmanager
    def committing(self, action: str, table: Table) -> Iterator[None]:
        """Check that the lock is still held, then run a block that commits to a table.

        If Delta refuses the commit, the error says why and what to do.

        Parameters
        ----------
        action : str
            Kind of the commit, such as `add`. Tests can kill the process at crash points before and after the
            commit. The names of these crash points contain the kind.
        table : Table
            Table that the block commits to.
        """
        self._check_lock()
        with guard_commit(action, self.root / table.name):
            yield

    def add(
        self,
        table: Table,
        added: Iterable[Row],
        instead_of: Sequence[ChunkKey] = (),
        properties: CommitProperties | None = None,
    ) -> None:
        """Commit data files that workers have written.

        Parameters
        ----------
        table : Table
            Table to add the files to.
        added : iterable of Row
            Description of each file, with the columns of `schemas.frames.ADDED`. Descriptions of files of
            other tables are ignored.
        instead_of : sequence of (exchange, symbol, chunk start)
            Chunks whose present rows are deleted before the files are added.
        properties : CommitProperties, optional
            Metadata of the commit. If given, a commit is made even if there are no files to add.
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
            delta_table = self._create(table)
            with self.committing("add", table):
                delta_table.create_write_transaction(
                    files,
                    "append",
                    delta_table.schema(),
                    list(table.partition_by),
                    commit_properties=properties,
                )

    def drop(self, table: Table, files: Iterable[ActiveFile]) -> None:
        """Remove data files from a table without reading the files, so even damaged files can be removed.

        Parameters
        ----------
        table : Table
            Table to remove the files from.
        files : iterable of ActiveFile
            Files to remove. Files of other tables are ignored.
        """
        now = time.time_ns() // 1_000_000
        removed: list[AddAction | RemoveAction] = [
            RemoveAction(file.path, True, now, file.bytes, file.partition)  # type: ignore[arg-type]
            for file in files
            if file.table is table
        ]
        if removed:
            delta_table = open_table(self.root, table)
            with self.committing("drop", table):
                delta_table.create_write_transaction(
                    removed, "append", delta_table.schema(), list(table.partition_by)
                )

    def append(self, table: Table, rows: Rows) -> None:
        """Add rows to a table. If there are no rows, no commit is made."""
        if rows:
            delta_table = self._create(table)
            with self.committing("append", table):
                write_deltalake(delta_table, _to_arrow(table, rows), mode="append")

    def overwrite(self, table: Table, rows: Rows) -> None:
        """Replace all rows of a small table."""
        delta_table = self._create(table)
        with self.committing("overwrite", table):
            write_deltalake(delta_table, _to_arrow(table, rows), mode="overwrite")

    def replace(self, table: Table, rows: Rows, slices: Sequence[ChunkKey]) -> None:
        """Delete the rows of some chunks from a table, then add new rows.

        Parameters
        ----------
        table : Table
            Table to change.
        rows : sequence of mapping
            New rows, as mappings from column name to value.
        slices : sequence of (exchange, symbol, chunk start)
            Chunks whose rows are deleted.
        """
        self.delete(table, self.predicate(slices))
        self.append(table, rows)

    def delete(self, table: Table, predicate: str) -> None:
        """Delete the rows that satisfy an SQL condition. An empty condition deletes nothing."""
        if predicate and self.exists(table):
            delta_table = open_table(self.root, table)
            with self.committing("delete", table):
                delta_table.delete(predicate)

    @staticmethod
    def predicate(slices: Sequence[ChunkKey]) -> str:
        """Return the SQL condition that selects the rows of some chunks.

        The names in the condition are validated, so they cannot inject SQL.

        Parameters
        ----------
        slices : sequence of (exchange, symbol, chunk start)
            Chunks to select. If there are no chunks, the condition is empty.
        """
        chunks: dict[tuple[str, str], list[int]] = {}
        for exchange, symbol, chunk in slices:
            key = (valid_name(exchange, "exchange"), valid_name(symbol, "symbol"))
            chunks.setdefault(key, []).append(int(chunk))
        return " OR ".join(
            f"(exchange = '{exchange}' AND symbol = '{symbol}' "
            f"AND hour IN ({', '.join(map(str, sorted(starts)))}))"
            for (exchange, symbol), starts in sorted(chunks.items())
        )

    def _create(self, table: Table) -> DeltaTable:
        """Open a table, or create it if it does not exist."""
        if self.exists(table):
            return open_table(self.root, table)
        with self.committing("create", table):
            return DeltaTable.create(
                self.path(table),
                _make_schema(table),
                partition_by=list(table.partition_by),
                description=table.doc,
                configuration=self._make_properties(table),
                raise_if_key_not_exists=False,
            )

    def upgrade(self, table: Table) -> None:
        """Empty a table that has the columns of an earlier schema version, and give it the present columns.

        Only tables that are rebuilt from `events` change their columns. So no data are lost, and the rows of
        a published version stay readable for the version of deltabook that wrote them.
        """
        if not self.exists(table):
            return
        old = open_table(self.root, table, any_layout=True)
        if read_layout(old) >= table.layout:
            return
        with self.committing("upgrade", table):
            write_deltalake(old, _make_schema(table).empty_table(), mode="overwrite", schema_mode="overwrite")
            old.alter.set_table_properties({SCHEMA_PROPERTY: SCHEMA_VERSION}, raise_if_not_exists=False)

    def _make_properties(self, table: Table) -> dict[str, str | None]:
        """Return the Delta properties of a new table."""
        # By default Delta removes commits after 30 days. Prevent this, because `maintain` removes the commits
        # that are older than its retention period.
        properties: dict[str, str | None] = {
            SCHEMA_PROPERTY: SCHEMA_VERSION,
            "delta.enableExpiredLogCleanup": "false",
        }
        if table is not RUNS:
            properties[HAS_RUNS_PROPERTY] = "true"
        if table is HOURS:
            properties[CHUNK_PROPERTY] = self.settings.chunk
        if table.statistics:
            properties["delta.dataSkippingStatsColumns"] = ",".join(table.statistics)
        return properties

    def _newest_version(self, table: Table) -> int:
        """Return the newest Delta version of a table, published or not."""
        return open_table(self.root, table, any_layout=True).version()


def _make_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a new table, with the description of each column."""
    return pa.schema(
        [pa.field(column.name, column.arrow, metadata={"comment": column.doc}) for column in table.columns]
    )


def _to_arrow(table: Table, rows: Rows) -> pa.Table:
    return pa.Table.from_pylist([*rows], schema=table.arrow)
