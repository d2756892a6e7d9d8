"""Open Delta tables with delta-rs, without a JVM."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, cast

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.dataset import Dataset

from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.schemas.tables import SCHEMA_VERSION
from deltabook.udfs.storage.locations import get_table_address
from deltabook.udfs.storage.object_store import has_matching_file, open_file_system

SCHEMA_PROPERTY = "deltabook.schema_version"
"""Delta property of every table: the schema version of the code that created the table."""
CHUNK_PROPERTY = "deltabook.chunk"
"""Delta property of `hours`: the chunk length of the warehouse, such as 1h."""
LIVE_FOLDER = "live"
"""Folder of the warehouse with the tables of streamed books; see `jobs.streaming.live`."""
_EARLIEST_LAYOUT = 7
"""Schema version of deltabook 0.1.0, the first that was released."""
LOG_FILE_PATTERNS = ("*.json", "*.checkpoint*.parquet")
"""Glob patterns for the names of commits and checkpoints in a Delta log."""


AddAction = TypedDict(
    "AddAction",
    {
        "path": str,
        "size_bytes": int,
        "num_records": int,
        "partition.symbol": str,
        "min.exchange": str,
        "max.exchange": str,
        "min.hour": int,
        "max.hour": int,
        "min.sequence": int,
        "max.sequence": int,
        "min.order_time": int,
        "max.order_time": int,
    },
    total=False,
)
"""Entry of a Delta log for one active data file: path, size in bytes, number of rows, and statistics.

`partition.NAME` is the value of a partition column. `min.NAME` and `max.NAME` are the smallest and the
largest value of a column in the file. If a table lacks the column or its statistics, the dict lacks the key.
If only a file lacks the statistics, the value may be None. Use `get` where a key can be missing.
"""


def table_exists(warehouse: Path, table: Table) -> bool:
    """Return whether a table exists: its log has a commit or a checkpoint.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table to look for.
    """
    return has_matching_file(warehouse / table.name / "_delta_log", *LOG_FILE_PATTERNS)


def open_table(
    warehouse: Path, table: Table, version: int | None = None, any_layout: bool = False
) -> DeltaTable:
    """Open a table with delta-rs.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table to open.
    version : int, optional
        Delta version to open; None opens the newest.
    any_layout : bool
        Whether the table may have the columns of an earlier schema version.

    Returns
    -------
    deltalake.DeltaTable
        The opened table. Its data files are not read yet.

    Raises
    ------
    WarehouseError
        If the log cannot be read, or the table has the columns of another schema version.
    """
    try:
        opened = DeltaTable(get_table_address(warehouse / table.name), version=version)
    except DeltaError as error:
        raise unreadable_table_error(warehouse, table, error) from None
    layout = read_layout(opened)
    if layout > int(SCHEMA_VERSION) or layout < _EARLIEST_LAYOUT:
        raise WarehouseError(
            f"table {warehouse / table.name} has schema version {layout}, and this deltabook reads versions "
            f"{_EARLIEST_LAYOUT} to {SCHEMA_VERSION}: use the version of deltabook that wrote the table, or "
            "ingest the raw files again into a new --warehouse"
        )
    if layout < table.layout and not any_layout:
        raise WarehouseError(
            f"table {warehouse / table.name} was written by an earlier version of deltabook (schema version "
            f"{layout}, needed: {table.layout}): {_get_upgrade(warehouse)}"
        )
    return opened


def read_layout(table: DeltaTable) -> int:
    """Return the schema version with which a table was created; -1 if it is not given."""
    return int(table.metadata().configuration.get(SCHEMA_PROPERTY, NOT_GIVEN))


def _get_upgrade(warehouse: Path) -> str:
    """Return what to do about a table with the columns of an earlier schema version."""
    if warehouse.name == LIVE_FOLDER:
        return f"remove the folder {warehouse} to start the live books over"
    return f"run `deltabook reconstruct --warehouse {warehouse}` to rebuild it from the table events"


def unreadable_table_error(warehouse: Path, table: Table, error: Exception) -> WarehouseError:
    """Return the error to raise when the log or the data files of a table cannot be read.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table that cannot be read.
    error : Exception
        The exception that the reader raised.
    """
    return WarehouseError(
        f"table {warehouse / table.name} cannot be opened ({error}): run `deltabook verify` to list the "
        "missing or damaged files of its _delta_log, then `deltabook restore` to put them back"
    )


def read_add_actions(warehouse: Path, table: Table, version: int | None = None) -> list[AddAction]:
    """Return path, size, row count and statistics of each active data file of a table, from its Delta log.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table whose files are listed.
    version : int, optional
        Delta version to read; None reads the newest version.

    Returns
    -------
    list of AddAction
        One dict for each file.

    Raises
    ------
    WarehouseError
        If the log cannot be read.
    """
    opened = open_table(warehouse, table, version)
    try:
        return cast(list[AddAction], pa.table(opened.get_add_actions(flatten=True)).to_pylist())
    except (DeltaError, pa.ArrowException) as error:
        raise unreadable_table_error(warehouse, table, error) from None


def open_dataset(warehouse: Path, table: Table, version: int | None = None) -> Dataset:
    """Open the rows of a table as an Arrow dataset.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        The table.
    version : int, optional
        Delta version; None opens the newest.

    Returns
    -------
    pyarrow.dataset.Dataset
        Rows of the table. No data file is read yet.

    Raises
    ------
    WarehouseError
        If the table cannot be opened; see `open_table`.

    Notes
    -----
    The data files are read with Arrow's own file system, not with Delta's file system. The latter is
    implemented in Python, and the threads that read through it can outlive the interpreter and abort the
    process (seen in one of several hundred commands).
    """
    file_system = open_file_system(warehouse / table.name)
    return open_table(warehouse, table, version).to_pyarrow_dataset(filesystem=file_system)
