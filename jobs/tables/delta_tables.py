"""Open Delta tables with delta-rs, without a JVM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.dataset import Dataset

from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import (
    SCHEMA_VERSION,
)
from deltabook.udfs.storage.locations import get_table_address
from deltabook.udfs.storage.object_store import has_matching_file, open_file_system

SCHEMA_PROPERTY = "deltabook.schema_version"
"""Delta property of every table: the schema version that wrote it."""
CHUNK_PROPERTY = "deltabook.chunk"
"""Delta property of `hours`: the chunk length of the warehouse, such as 1h."""
LOG_FILE_PATTERNS = ("*.json", "*.checkpoint*.parquet")
"""Glob patterns of the files in a Delta log: commits and checkpoints."""


def table_exists(warehouse: Path, table: Table) -> bool:
    """Return whether a table was ever created: its log has a commit or a checkpoint.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        The table.
    """
    return has_matching_file(warehouse / table.name / "_delta_log", *LOG_FILE_PATTERNS)


def open_table(warehouse: Path, table: Table, version: int | None = None) -> DeltaTable:
    """Open a table with delta-rs.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        The table.
    version : int, optional
        Delta version to open; None opens the newest.

    Returns
    -------
    deltalake.DeltaTable
        The opened table. Its data files are not read yet.

    Raises
    ------
    WarehouseError
        If the log cannot be read, or the table has another schema version than this code.
    """
    try:
        opened = DeltaTable(get_table_address(warehouse / table.name), version=version)
    except DeltaError as error:
        raise unreadable_table_error(warehouse, table, error) from None
    schema_version = opened.metadata().configuration.get(SCHEMA_PROPERTY, "unknown")
    if schema_version != SCHEMA_VERSION:
        raise WarehouseError(
            f"table {warehouse / table.name} has schema version {schema_version}, this deltabook needs "
            f"{SCHEMA_VERSION}: ingest the raw files again into a new --warehouse"
        )
    return opened


def unreadable_table_error(warehouse: Path, table: Table, error: Exception) -> WarehouseError:
    """Return the error to raise when the log or the data files of a table cannot be read.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        The table.
    error : Exception
        The exception that the reader raised.
    """
    return WarehouseError(
        f"table {warehouse / table.name} cannot be opened ({error}): run `deltabook verify` to list the "
        "missing or damaged files of its _delta_log, then `deltabook restore` to put them back"
    )


def read_add_actions(warehouse: Path, table: Table, version: int | None = None) -> list[dict[str, Any]]:
    """Return the active data files of a table, as its log describes them.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        The table.
    version : int, optional
        Delta version; None reads the newest.

    Returns
    -------
    list of dict
        For each file `path`, `size_bytes`, `num_records`, `partition.*` values and `min.*`, `max.*`
        statistics.

    Raises
    ------
    WarehouseError
        If the log cannot be read.
    """
    opened = open_table(warehouse, table, version)
    try:
        return pa.table(opened.get_add_actions(flatten=True)).to_pylist()  # type: ignore[no-any-return]
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
        Rows of the table. Arrow's own file system reads them: threads that read through Delta's file system,
        which is implemented in Python, can outlive the interpreter and abort it (seen in one of several
        hundred commands).

    Raises
    ------
    WarehouseError
        As `open_table`.
    """
    file_system = open_file_system(warehouse / table.name)
    return open_table(warehouse, table, version).to_pyarrow_dataset(filesystem=file_system)
