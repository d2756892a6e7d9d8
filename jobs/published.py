"""What has been published, read from the tables' own logs without a JVM."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.dataset import Dataset

from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, SCHEMA_VERSION, TABLES
from deltabook.udfs.storage import files_below, has_any, located, names_in, table_address

SCHEMA_PROPERTY = "deltabook.schema_version"
CHUNK_PROPERTY = "deltabook.chunk"
LOG_FILES = ("*.json", "*.checkpoint*.parquet")
"""Commits of a log, and checkpoints of them."""


def is_made(warehouse: Path, table: Table) -> bool:
    """Whether a table was ever made: its log holds a commit or a checkpoint of them."""
    return has_any(warehouse / table.name / "_delta_log", *LOG_FILES)


def open_table(warehouse: Path, table: Table, version: int | None = None) -> DeltaTable:
    """Open a table at a version, or as it stands.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    table : Table
        Which.
    version : int, optional
        Delta version; None: the newest.

    Returns
    -------
    deltalake.DeltaTable
        Not yet read.

    Raises
    ------
    WarehouseError
        If it cannot be opened, or has another schema version than this code.
    """
    try:
        opened = DeltaTable(table_address(warehouse / table.name), version=version)
    except DeltaError as error:
        raise WarehouseError(
            f"table {warehouse / table.name} cannot be opened ({error}): `deltabook verify` names the files "
            "of its _delta_log that are lost or damaged, and `deltabook restore` puts them back"
        ) from None
    found = opened.metadata().configuration.get(SCHEMA_PROPERTY, "unknown")
    if found != SCHEMA_VERSION:
        raise WarehouseError(
            f"table {warehouse / table.name} has schema version {found}, this deltabook needs "
            f"{SCHEMA_VERSION}: ingest the raw files again into a new --warehouse"
        )
    return opened


def open_dataset(warehouse: Path, table: Table, version: int | None = None) -> Dataset:
    """Open a table's rows at a version, or as they stand; parameters and errors are those of `open_table`.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    table : Table
        Which.
    version : int, optional
        Delta version; None: the newest.

    Returns
    -------
    pyarrow.dataset.Dataset
        Read through Arrow's own file system: threads that read through Delta's, which is Python's, may
        outlive the interpreter, and abort it (seen in one command of some hundreds).
    """
    files = files_below(warehouse / table.name)
    return open_table(warehouse, table, version).to_pyarrow_dataset(filesystem=files)


def published_table(warehouse: Path | str, name: str) -> Dataset:
    """Open a table as it was last published, for DuckDB, polars, pandas or Arrow.

    Parameters
    ----------
    warehouse : Path or str
        The folder of the tables.
    name : str
        Of the table.

    Returns
    -------
    pyarrow.dataset.Dataset
        Its columns are those of `schemas.tables`.

    Raises
    ------
    WarehouseError
        If nothing was published yet, or not that table; names those there are.
    """
    root = located(warehouse)
    versions = require_published(root)
    if name not in versions:
        raise WarehouseError(f"warehouse {warehouse} has no table {name}: there are {', '.join(versions)}")
    return open_dataset(root, TABLES[name], versions[name])


def published_versions(warehouse: Path) -> dict[str, int]:
    """Return the version of each table that the newest finished run names; empty if there is none.

    Raises
    ------
    WarehouseError
        If commits up to those versions are lost: Delta would go on without a word from what is left.
    """
    if not is_made(warehouse, RUNS):
        if has_any(warehouse / RUNS.name, "*.parquet"):
            raise _lost(warehouse, RUNS.name)
        return {}
    _check_log(warehouse, RUNS.name, 0)
    runs = open_dataset(warehouse, RUNS).to_table(columns=["finished", "versions"])
    if runs.num_rows == 0:
        return {}
    newest = pc.index(runs["finished"], pc.max(runs["finished"])).as_py()
    versions = dict(runs["versions"][newest].as_py())
    for name, version in versions.items():
        _check_log(warehouse, name, version)
    return versions


def _check_log(warehouse: Path, table: str, published: int) -> None:
    files = names_in(warehouse / table / "_delta_log", *LOG_FILES)
    versions = [name.split(".")[0] for name in files]
    newest = max((int(version) for version in versions if version.isdecimal()), default=-1)
    if newest < published or any(size == 0 for name, size in files.items() if name.endswith(".json")):
        raise _lost(warehouse, table)


def _lost(warehouse: Path, table: str) -> WarehouseError:
    return WarehouseError(
        f"table {warehouse / table}: commits that were published are lost: `deltabook verify` names the "
        "files of its _delta_log, and `deltabook restore` puts them back"
    )


def require_published(warehouse: Path) -> dict[str, int]:
    """Return the published versions.

    Raises
    ------
    WarehouseError
        If nothing was published yet.
    """
    versions = published_versions(warehouse)
    if not versions:
        raise WarehouseError(f"warehouse {warehouse} is empty: run `deltabook run` or `deltabook demo` first")
    return versions
