"""Read the rows, row counts and data files of a warehouse's tables, without Spark."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow.dataset import Dataset

from deltabook.jobs.tables.delta_tables import (
    LIVE_FOLDER,
    AddAction,
    open_dataset,
    open_table,
    table_exists,
)
from deltabook.jobs.tables.failed_chunks import VERDICT_COLUMNS, VerdictReasons, group_failed_chunks
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import RUNS, both
from deltabook.schemas.validation_tables import VERDICTS
from deltabook.udfs.storage.locations import get_table_address
from deltabook.udfs.storage.object_store import get_arrow_source

ChunkKey = tuple[str, str, int]
"""Exchange, symbol and start of a chunk (column `hour`, ns since 1970 UTC).

All rows with the same key are replaced together.
"""
CHUNK_KEY_COLUMNS = ("exchange", "symbol", "hour")
"""Names of the columns that form a `ChunkKey`, in order."""

IdRangeFile = tuple[str, int, int]
"""URI of a data file, and the smallest and largest `sequence` of its rows."""


class TableReader:
    """Reads the tables of one warehouse.

    Parameters
    ----------
    root : Path
        Warehouse folder.
    versions : dict, optional
        Maps the name of each table to the Delta version to read. A table that is not in this dict does not
        exist for this reader, except `runs`, whose newest version is read. None reads the newest version of
        every table.
    """

    def __init__(self, root: Path, versions: dict[str, int] | None = None):
        self.root = root
        self.versions_read = versions

    def path(self, table: Table) -> str:
        """Return the address of a table in the form that Spark and delta-rs expect."""
        return get_table_address(self.root / table.name)

    def exists(self, table: Table) -> bool:
        """Return whether a table exists for this reader."""
        # No row of `runs` names a version of `runs`. The newest version of `runs` is therefore read.
        is_read = self.versions_read is None or table is RUNS or table.name in self.versions_read
        return is_read and table_exists(self.root, table)

    def _version_read(self, table: Table) -> int | None:
        """Return the Delta version at which this reader reads a table; None stands for the newest version."""
        return (self.versions_read or {}).get(table.name)

    def open_delta_table(self, table: Table) -> DeltaTable:
        """Open a table with delta-rs, at the version that this reader reads."""
        return open_table(self.root, table, self._version_read(table))

    def dataset(self, table: Table) -> Dataset:
        """Open the rows of a table as an Arrow dataset."""
        return open_dataset(self.root, table, self._version_read(table))

    def rows(self, table: Table, *columns: str) -> list[dict[str, Any]]:
        """Return all rows of a small table, with all columns or only the named ones.

        The list is empty if the table does not exist. `schemas.rows` has types for the rows of most tables.
        """
        if not self.exists(table):
            return []
        return self.dataset(table).to_table(columns=list(columns) or None).to_pylist()  # type: ignore[no-any-return]

    def counts(self, table: Table, column: str) -> Counter[str]:
        """Return the number of rows for each value of a column; empty if the table does not exist."""
        counts: Counter[str] = Counter()
        if self.exists(table):
            for batch in self.dataset(table).to_batches(columns=[column]):
                values_and_counts = pc.value_counts(batch[column]).flatten()
                counts.update(dict(zip(*(array.to_pylist() for array in values_and_counts), strict=True)))
        return counts

    def data_files(self, table: Table) -> dict[ChunkKey, list[str]]:
        """Return the data files of each chunk of a table.

        If a file holds only one chunk, the statistics in the Delta log name this chunk. If a file holds
        several chunks, the file is read to find them.

        Parameters
        ----------
        table : Table
            Table with the columns exchange, symbol and hour. It must be partitioned by symbol and have
            statistics of exchange and hour.

        Returns
        -------
        dict
            Sorted URIs of data files by (exchange, symbol, chunk start). The keys are sorted too.
        """
        files: dict[ChunkKey, list[str]] = defaultdict(list)
        for uri, action in self._add_actions(table):
            least = action["min.exchange"], action["min.hour"]
            greatest = action["max.exchange"], action["max.hour"]
            for exchange, hour in [least] if least == greatest else _read_exchanges_and_chunks(uri):
                files[exchange, action["partition.symbol"], hour].append(uri)
        return {key: files[key] for key in sorted(files)}

    def files_by_symbol(self, table: Table) -> dict[str, list[IdRangeFile]]:
        """Return the data files of each symbol of a table, with the id range of each file.

        Parameters
        ----------
        table : Table
            Table that is partitioned by symbol and has statistics of `sequence`.

        Returns
        -------
        dict
            List of (URI, smallest id, largest id) by symbol.
        """
        files: dict[str, list[IdRangeFile]] = defaultdict(list)
        for uri, action in self._add_actions(table):
            id_range = action["min.sequence"], action["max.sequence"]
            files[action["partition.symbol"]].append((uri, *id_range))
        return files

    def _add_actions(self, table: Table) -> list[tuple[str, AddAction]]:
        """Return the URI and the add action of each active data file of a table, sorted by path."""
        if not self.exists(table):
            return []
        actions = pa.table(self.open_delta_table(table).get_add_actions(flatten=True)).sort_by("path")
        folder = (self.root / table.name).as_uri()
        return [(f"{folder}/{action['path']}", action) for action in actions.to_pylist()]

    def failed_chunks(self) -> dict[ChunkKey, list[str]]:
        """Return the chunks that failed validation, each with its reasons; see `group_failed_chunks`."""
        return group_failed_chunks(cast(list[VerdictReasons], self.rows(VERDICTS, *VERDICT_COLUMNS)))

    def files_of_both(self, table: Table) -> dict[ChunkKey, list[str]]:
        """Return the data files that each chunk has in a table of scaled integers and in its decimal table.

        Parameters
        ----------
        table : Table
            Table of scaled integers. It must have the columns, the partitions and the statistics that
            `data_files` needs.

        Returns
        -------
        dict
            Sorted URIs of data files by (exchange, symbol, chunk start). The keys are sorted too.
        """
        files: dict[ChunkKey, list[str]] = {}
        for form in both(table):
            files |= self.data_files(form)
        return dict(sorted(files.items()))


def open_live_tables(warehouse: Path) -> TableReader:
    """Return a reader for the tables of streamed books, at their newest versions.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    """
    return TableReader(warehouse / LIVE_FOLDER)


def _read_exchanges_and_chunks(uri: str) -> list[tuple[str, int]]:
    """Return the distinct pairs (exchange, chunk start) in a data file."""
    pairs = pq.ParquetFile(get_arrow_source(uri)).read(["exchange", "hour"]).group_by(["exchange", "hour"])
    return [(row["exchange"], row["hour"]) for row in pairs.aggregate([]).to_pylist()]
