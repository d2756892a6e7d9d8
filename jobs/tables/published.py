"""Find and open the published version of each table, without a JVM.

Delta has no transaction over several tables. A run therefore writes its tables first and then publishes them:
it adds one row to the table `runs` with the Delta version of each table. Readers open the versions that the
newest row of `runs` names.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import Dataset

from deltabook.jobs.tables.delta_tables import (
    LOG_FILE_PATTERNS,
    open_dataset,
    open_table,
    table_exists,
    unreadable_table_error,
)
from deltabook.jobs.tables.failed_chunks import VERDICT_COLUMNS, ChunkName, group_failed_chunks
from deltabook.jobs.tables.seals import is_seal_valid
from deltabook.schemas.errors import FailedChunksWarning, WarehouseError
from deltabook.schemas.rows import RunRow
from deltabook.schemas.tables import (
    BOOKS,
    CHECKPOINTS,
    CHECKPOINTS_DECIMAL,
    EVENTS,
    GRIDS,
    RUNS,
    TABLES,
    WRITTEN,
    both,
)
from deltabook.schemas.validation_tables import VERDICTS
from deltabook.udfs.storage.locations import is_remote, parse_location
from deltabook.udfs.storage.object_store import has_matching_file, match_file_sizes

_JUDGED_TABLES = {table.name for rows in (BOOKS, GRIDS, EVENTS, CHECKPOINTS) for table in both(rows)}
"""Names of the tables whose chunks can fail validation."""
COPIES_FOLDER = "_copies"
"""Folder of the warehouse with second copies; see `jobs.records.second_copies`."""
HAS_RUNS_PROPERTY = "deltabook.has_runs"
"""Delta property that marks a table as created after the table `runs`."""


def published_table(warehouse: Path | str, name: str, exclude_failed: bool = False) -> Dataset:
    """Open the published version of a table, for DuckDB, polars, pandas or Arrow.

    Parameters
    ----------
    warehouse : Path or str
        Warehouse folder, or its address in an object store.
    name : str
        Table name, such as `books`.
    exclude_failed : bool
        Whether rows of chunks that failed validation are left out, as in the views `book` and `trades`. If
        False, the rows are included, and a `FailedChunksWarning` states the number of failed chunks.

    Returns
    -------
    pyarrow.dataset.Dataset
        Rows of the table, with the columns that `schemas.tables` declares.

    Raises
    ------
    WarehouseError
        If nothing is published yet, or no published table has this name. The message lists the tables.
    """
    root = parse_location(warehouse)
    versions = require_published(root)
    if name not in versions:
        raise WarehouseError(f"warehouse {warehouse} has no table {name}: there are {', '.join(versions)}")
    opened = open_dataset(root, TABLES[name], versions[name])
    if name not in _JUDGED_TABLES or VERDICTS.name not in versions:
        return opened
    verdicts = open_dataset(root, VERDICTS, versions[VERDICTS.name]).to_table(columns=[*VERDICT_COLUMNS])
    failed = [*group_failed_chunks(verdicts.to_pylist())]
    if not failed:
        return opened
    if exclude_failed:
        return opened.filter(~_match_chunks(failed))
    warnings.warn(
        f"{len(failed):,} chunks of the warehouse failed validation, and table {name} includes their rows: "
        "pass exclude_failed=True to leave them out. The table verdicts has the reasons",
        FailedChunksWarning,
        stacklevel=2,
    )
    return opened


def _match_chunks(chunks: Iterable[ChunkName]) -> pc.Expression:
    """Return the filter condition that selects the rows of the given chunks."""
    hours: dict[tuple[str, str], list[int]] = defaultdict(list)
    for exchange, symbol, hour in chunks:
        hours[exchange, symbol].append(hour)
    condition = pc.scalar(False)
    for (exchange, symbol), own in hours.items():
        is_own = (pc.field("exchange") == exchange) & (pc.field("symbol") == symbol)
        condition |= is_own & pc.field("hour").isin(own)
    return condition


def published_versions(warehouse: Path) -> dict[str, int]:
    """Return the published Delta version of each table by name; empty if nothing is published yet.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.

    Raises
    ------
    WarehouseError
        If `runs` is lost or damaged, or if published commits of a table are missing. Without this check,
        Delta would silently read an older version.
    """
    # List the copies before reading `runs`. A run makes its commit before the copy, so the commit of every
    # copy in the list must exist.
    newest_copied = _newest_copied_version(warehouse)
    if not table_exists(warehouse, RUNS):
        if was_published(warehouse):
            raise _missing_commits_error(warehouse, RUNS.name)
        return {}
    _check_log(warehouse, RUNS.name, max(newest_copied, 0))
    newest = _read_newest_run(warehouse)
    versions = dict(newest["versions"]) if newest else {}
    for name, version in versions.items():
        _check_log(warehouse, name, version)
    return versions


def was_published(warehouse: Path) -> bool:
    """Return whether a warehouse without the table `runs` had this table before.

    A data file or a second copy of `runs` shows that `runs` existed. A table with the property
    `HAS_RUNS_PROPERTY` shows the same, because a run creates `runs` before all other tables and sets this
    property on all other tables.

    Earlier versions of deltabook did not set this property. In a warehouse of an earlier version, the first
    run built no books, and created `runs` last, right after it wrote to `written`. There, rows in `written`
    or in a table of checkpoints show that `runs` existed.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    """
    if has_matching_file(warehouse / RUNS.name, "*.parquet") or _newest_copied_version(warehouse) >= 0:
        return True
    for table in TABLES.values():
        if table is not RUNS and table_exists(warehouse, table):
            opened = open_table(warehouse, table)
            has_rows = opened.version() > 0 and table in (WRITTEN, CHECKPOINTS, CHECKPOINTS_DECIMAL)
            if has_rows or HAS_RUNS_PROPERTY in opened.metadata().configuration:
                return True
    return False


def had_runs(warehouse: Path) -> bool:
    """Return whether any run was ever published in a warehouse, even if `runs` is lost or damaged now.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    """
    if table_exists(warehouse, RUNS):
        log_names = match_file_sizes(warehouse / RUNS.name / "_delta_log", *LOG_FILE_PATTERNS)
        has_data = has_matching_file(warehouse / RUNS.name, "*.parquet")
        has_later_commits = any(not name.startswith(f"{0:020}.") for name in log_names)
        return has_data or _newest_copied_version(warehouse) > 0 or has_later_commits
    return was_published(warehouse)


def _newest_copied_version(warehouse: Path) -> int:
    """Return the newest version of `runs` whose commit has a second copy; -1 if no commit has a copy."""
    names = match_file_sizes(warehouse / COPIES_FOLDER / RUNS.name, "*.json.*")
    return max((int(name.split(".")[0]) for name in names if name.split(".")[0].isdecimal()), default=-1)


def _read_newest_run(warehouse: Path) -> RunRow | None:
    """Return the newest row of `runs`, or None if the table is empty; raise an error if its seal is wrong."""
    try:
        runs = open_dataset(warehouse, RUNS)
        order = runs.to_table(columns=["finished", "version"])
        if order.num_rows == 0:
            return None
        newest = pc.max(order["finished"])
        # Select the row by its index. A filter would skip data files according to the statistics in the log,
        # which may be damaged.
        indices = pc.indices_nonzero(pc.equal(order["finished"], newest))
        rows = cast(list[RunRow], runs.take(indices, columns=RUNS.names).to_pylist())
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise unreadable_table_error(warehouse, RUNS, error) from None
    # The row with the latest `finished` also has the highest `version`, unless one of these columns is
    # damaged.
    is_newest = len(rows) == 1 and rows[0]["version"] == pc.max(order["version"]).as_py()
    if not is_newest or not is_seal_valid(rows[0]):
        raise WarehouseError(
            f"table {warehouse / RUNS.name}: a row is damaged, so the published versions are unknown: run "
            "`deltabook verify` to find the file, then `deltabook restore` to put it back"
        )
    return rows[0]


def _check_log(warehouse: Path, table: str, published: int) -> None:
    """Raise an error if the log of a table ends before the published version or has an empty commit."""
    sizes = match_file_sizes(warehouse / table / "_delta_log", *LOG_FILE_PATTERNS)
    versions = [name.split(".")[0] for name in sizes]
    newest = max((int(version) for version in versions if version.isdecimal()), default=-1)
    if newest < published or any(size == 0 for name, size in sizes.items() if name.endswith(".json")):
        raise _missing_commits_error(warehouse, table)


def _missing_commits_error(warehouse: Path, table: str) -> WarehouseError:
    """Return the error for a table whose log lacks published commits."""
    return WarehouseError(
        f"table {warehouse / table}: published commits are missing: run `deltabook verify` to list the "
        "missing or damaged files of its _delta_log, then `deltabook restore` to put them back"
    )


def require_published(warehouse: Path) -> dict[str, int]:
    """Return the published Delta version of each table by name; raise an error if nothing is published.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.

    Raises
    ------
    WarehouseError
        If nothing is published yet, or for a reason that `published_versions` states.
    """
    versions = published_versions(warehouse)
    if not versions:
        raise empty_warehouse_error(warehouse)
    return versions


def empty_warehouse_error(warehouse: Path) -> WarehouseError:
    """Return the error for a folder in which nothing is published yet, or which is no warehouse at all.

    Parameters
    ----------
    warehouse : Path
        Folder that the user passed as the warehouse.

    Returns
    -------
    WarehouseError
        Error for the caller to raise.
    """
    if _has_only_other_files(warehouse):
        return WarehouseError(
            f"{warehouse}: not a warehouse: the folder has files, but no tables. As --warehouse, pass the "
            "folder that `deltabook run` or `deltabook demo` has written"
        )
    return WarehouseError(f"warehouse {warehouse} is empty: run `deltabook run` or `deltabook demo` first")


def _has_only_other_files(folder: Path) -> bool:
    """Return whether a local folder has visible files or folders, but none that belongs to a warehouse."""
    if is_remote(folder) or not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if not path.name.startswith((".", "_"))}
    return bool(names) and not names & {*TABLES, "report.html"}
