"""Tables of a warehouse as their logs and files tell them, without Spark."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyarrow.dataset import Dataset

from deltabook.expectations.suites import ERRORED, FAILED
from deltabook.jobs.tables.published import is_made, open_dataset, open_table
from deltabook.schemas.columns import Table
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.tables import RUNS, VERDICTS, both
from deltabook.udfs.storage.object_store import readable, table_address

Slice = tuple[str, str, int]
"""Exchange, symbol and hour: what is replaced at once."""
KEYS = ("exchange", "symbol", "hour")
"""The columns that name it."""


LIVE = "live"
"""Folder of the tables of books that go on, in that of the warehouse: see `jobs.live`."""

IdFile = tuple[str, int, int]
"""URI of a data file, and the least and greatest id of its rows."""


class Stored:
    """Reads tables.

    Parameters
    ----------
    root : Path
        Folder of the warehouse.
    versions : dict, optional
        Delta version of each table that is read, where they are not read as they stand.
    """

    def __init__(self, root: Path, versions: dict[str, int] | None = None):
        self.root = root
        self.versions_read = versions

    def path(self, table: Table) -> str:
        """Return the address of a table, for Spark and for the Delta client."""
        return table_address(self.root / table.name)

    def exists(self, table: Table) -> bool:
        """Whether a table was ever made, or had been at the version that is read."""
        # Of `runs` no row names a version: it is read as it stands.
        is_read = self.versions_read is None or table is RUNS or table.name in self.versions_read
        return is_read and is_made(self.root, table)

    def _opened(self, table: Table) -> DeltaTable:
        return open_table(self.root, table, (self.versions_read or {}).get(table.name))

    def dataset(self, table: Table) -> Dataset:
        """Open a table's rows."""
        return open_dataset(self.root, table, (self.versions_read or {}).get(table.name))

    def rows(self, table: Table, *columns: str) -> list[dict[str, Any]]:
        """Read a small table, or a few columns of one, as it stands; without a Spark job."""
        if not self.exists(table):
            return []
        return self.dataset(table).to_table(columns=list(columns) or None).to_pylist()  # type: ignore[no-any-return]

    def counts(self, table: Table, column: str) -> Counter[str]:
        """Count the rows of a table as it stands, by what one column says; without a Spark job."""
        counts: Counter[str] = Counter()
        if self.exists(table):
            for batch in self.dataset(table).to_batches(columns=[column]):
                found = pc.value_counts(batch[column]).flatten()
                counts.update(dict(zip(*(values.to_pylist() for values in found), strict=True)))
        return counts

    def data_files(self, table: Table) -> dict[Slice, list[str]]:
        """Find the data files that hold each symbol-hour of a table, as it stands.

        The log tells it of a file with one symbol-hour; one with several is looked into.

        Parameters
        ----------
        table : Table
            Has the columns exchange, symbol and hour, partitions by symbol and keeps statistics of the
            other two.

        Returns
        -------
        dict
            URIs by (exchange, symbol, hour), both sorted.
        """
        files: dict[Slice, list[str]] = defaultdict(list)
        for uri, row in self._added(table):
            least, greatest = ((row[f"{end}.exchange"], row[f"{end}.hour"]) for end in ("min", "max"))
            for exchange, hour in [least] if least == greatest else _keys_within(uri):
                files[exchange, row["partition.symbol"], hour].append(uri)
        return {key: files[key] for key in sorted(files)}

    def files_by_symbol(self, table: Table) -> dict[str, list[IdFile]]:
        """Find the data files of each symbol, of a table that partitions by it, as it stands.

        Parameters
        ----------
        table : Table
            Keeps statistics of `sequence`.

        Returns
        -------
        dict
            URIs by symbol, each with the least and the greatest id of its rows.
        """
        files: dict[str, list[IdFile]] = defaultdict(list)
        for uri, row in self._added(table):
            files[row["partition.symbol"]].append((uri, row["min.sequence"], row["max.sequence"]))
        return files

    def _added(self, table: Table) -> list[tuple[str, dict[str, Any]]]:
        """List the URIs of a table's data files, and what its log says of each."""
        if not self.exists(table):
            return []
        actions = pa.table(self._opened(table).get_add_actions(flatten=True)).sort_by("path")
        folder = (self.root / table.name).as_uri()
        return [(f"{folder}/{row['path']}", row) for row in actions.to_pylist()]

    def failed_hours(self) -> dict[Slice, list[str]]:
        """Return the symbol-hours that a suite has failed, and why."""
        failed: dict[Slice, list[str]] = defaultdict(list)
        for row in self.rows(VERDICTS, *KEYS, "suite", "verdict", "reasons"):
            if row["verdict"] in (FAILED, ERRORED) and row["hour"] != ALL_HOURS:
                key = row["exchange"], row["symbol"], row["hour"]
                failed[key].append(f"{row['suite']}: {row['reasons'] or row['verdict']}")
        return dict(sorted(failed.items()))

    def files_of_both(self, table: Table) -> dict[Slice, list[str]]:
        """Find the data files of every symbol-hour, of scaled integers or of decimals."""
        files: dict[Slice, list[str]] = {}
        for one in both(table):
            files |= self.data_files(one)
        return dict(sorted(files.items()))


def live_tables(warehouse: Path) -> Stored:
    """Return the tables of books that go on, as they stand."""
    return Stored(warehouse / LIVE)


def _keys_within(uri: str) -> list[tuple[str, int]]:
    """List the exchanges and hours of one data file."""
    keys = pq.ParquetFile(readable(uri)).read(["exchange", "hour"]).group_by(["exchange", "hour"])
    return [(row["exchange"], row["hour"]) for row in keys.aggregate([]).to_pylist()]
