"""What has been published, read from the tables' own logs without a JVM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.dataset import Dataset

from deltabook.jobs.tables.seals import is_sealed
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import (
    CHECKPOINTS,
    CHECKPOINTS_DECIMAL,
    RUNS,
    SCHEMA_VERSION,
    TABLES,
    WRITTEN,
)
from deltabook.udfs.storage.object_store import files_below, has_any, located, names_in, table_address

SCHEMA_PROPERTY = "deltabook.schema_version"
CHUNK_PROPERTY = "deltabook.chunk"
LOG_FILES = ("*.json", "*.checkpoint*.parquet")
"""Commits of a log, and checkpoints of them."""
COPIES = "_copies"
"""Folder of the warehouse for second copies of the files of `runs` and `written`."""
BEGUN_PROPERTY = "deltabook.has_runs"
"""Property of a table that was made when `runs` was there already."""


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
        The table.
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
        raise unreadable(warehouse, table, error) from None
    found = opened.metadata().configuration.get(SCHEMA_PROPERTY, "unknown")
    if found != SCHEMA_VERSION:
        raise WarehouseError(
            f"table {warehouse / table.name} has schema version {found}, this deltabook needs "
            f"{SCHEMA_VERSION}: ingest the raw files again into a new --warehouse"
        )
    return opened


def unreadable(warehouse: Path, table: Table, error: Exception) -> WarehouseError:
    """Return the error of a table whose log or data files cannot be read.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    table : Table
        The table.
    error : Exception
        What its reader has raised.
    """
    return WarehouseError(
        f"table {warehouse / table.name} cannot be opened ({error}): `deltabook verify` names the files "
        "of its _delta_log that are lost or damaged, and `deltabook restore` puts them back"
    )


def add_actions(warehouse: Path, table: Table, version: int | None = None) -> list[dict[str, Any]]:
    """List the data files of a table, as its log describes them.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    table : Table
        The table.
    version : int, optional
        Delta version; None: the newest.

    Returns
    -------
    list of dict
        `path`, `size_bytes`, `num_records` and the statistics and partition values of each.

    Raises
    ------
    WarehouseError
        If the log cannot be read.
    """
    opened = open_table(warehouse, table, version)
    try:
        return pa.table(opened.get_add_actions(flatten=True)).to_pylist()  # type: ignore[no-any-return]
    except (DeltaError, pa.ArrowException) as error:
        raise unreadable(warehouse, table, error) from None


def open_dataset(warehouse: Path, table: Table, version: int | None = None) -> Dataset:
    """Open a table's rows at a version, or as they stand; parameters and errors are those of `open_table`.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    table : Table
        The table.
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
        If `runs` is lost or damaged, or commits up to those versions are lost: Delta would go on without a
        word from what is left.
    """
    copied = _newest_copied(warehouse)  # before `runs` itself: a run copies what it has committed
    if not is_made(warehouse, RUNS):
        if was_published(warehouse):
            raise _lost(warehouse, RUNS.name)
        return {}
    _check_log(warehouse, RUNS.name, max(copied, 0))
    newest = _newest_run(warehouse)
    versions = dict(newest["versions"]) if newest else {}
    for name, version in versions.items():
        _check_log(warehouse, name, version)
    return versions


def was_published(warehouse: Path) -> bool:
    """Return whether anything shows that a warehouse without the table `runs` once had it.

    A first run that was killed before its end leaves tables, too. It has made `runs` before them; those of
    earlier versions, which have not, have written to `written` last, and made no books.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    """
    if has_any(warehouse / RUNS.name, "*.parquet") or _newest_copied(warehouse) >= 0:
        return True
    for table in TABLES.values():
        if table is not RUNS and is_made(warehouse, table):
            opened = open_table(warehouse, table)
            has_rows = opened.version() > 0 and table in (WRITTEN, CHECKPOINTS, CHECKPOINTS_DECIMAL)
            if has_rows or BEGUN_PROPERTY in opened.metadata().configuration:
                return True
    return False


def had_rows(warehouse: Path) -> bool:
    """Return whether anything shows that `runs` once had rows, whether it is there or not.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    """
    if is_made(warehouse, RUNS):
        names = names_in(warehouse / RUNS.name / "_delta_log", *LOG_FILES)
        is_added = has_any(warehouse / RUNS.name, "*.parquet") or _newest_copied(warehouse) > 0
        return is_added or any(not name.startswith(f"{0:020}.") for name in names)
    return was_published(warehouse)


def _newest_copied(warehouse: Path) -> int:
    """Return the newest version of `runs` whose commit has a second copy; -1 if none has."""
    names = names_in(warehouse / COPIES / RUNS.name, "*.json.*")
    return max((int(name.split(".")[0]) for name in names if name.split(".")[0].isdecimal()), default=-1)


def _newest_run(warehouse: Path) -> dict[str, Any] | None:
    """Read the row of the newest finished run, and check its seal."""
    try:
        runs = open_dataset(warehouse, RUNS)
        places = runs.to_table(columns=["finished", "version"])
        if places.num_rows == 0:
            return None
        newest = pc.max(places["finished"])
        # By place, not by a filter: that would leave out files by statistics, which nothing proves here.
        chosen = pc.indices_nonzero(pc.equal(places["finished"], newest))
        rows = runs.take(chosen, columns=RUNS.names).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable(warehouse, RUNS, error) from None
    # The newest by its time is the newest by its version, unless one of the two is damaged.
    if len(rows) != 1 or rows[0]["version"] != pc.max(places["version"]).as_py() or not is_sealed(rows[0]):
        raise WarehouseError(
            f"table {warehouse / RUNS.name}: a row is damaged, and it tells what is published: `deltabook "
            "verify` names the file, and `deltabook restore` puts it back"
        )
    return dict(rows[0])


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
        raise empty(warehouse)
    return versions


def empty(warehouse: Path) -> WarehouseError:
    """Return the error of a warehouse in which nothing was published yet.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    """
    return WarehouseError(f"warehouse {warehouse} is empty: run `deltabook run` or `deltabook demo` first")
