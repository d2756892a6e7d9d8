"""Logs of tables put back from the copies that runs have kept of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import Row

from deltabook.jobs.integrity.live import live_files
from deltabook.jobs.integrity.logs import Fault, beyond, damage, later_files, log_faults
from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.integrity.written import (
    LOG,
    OF_RUNS,
    actions_of,
    published_version,
    recorded_before,
)
from deltabook.jobs.published import is_made, open_table
from deltabook.jobs.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS
from deltabook.udfs.storage import moved, readable

ASIDE = "_aside"
"""Folder of the warehouse for files that others took the place of."""


def mends(root: Path, table: Table, recorded: Recorded) -> Iterator[Fault]:
    """List what of a log is to be mended before the table can be opened as it was published.

    Parameters
    ----------
    root : Path
        Folder of the tables.
    table : Table
        Whose log.
    recorded : Recorded
        What runs have recorded.

    Yields
    ------
    Fault
        Each file.
    """
    if recorded.version(table) >= 0:
        yield from log_faults(root, table, recorded)
    later = [*beyond(root, table, recorded)]
    if later and (table is RUNS or not _is_readable(root, table, recorded)):
        yield from later


def _is_readable(root: Path, table: Table, recorded: Recorded) -> bool:
    try:
        for path in later_files(root, table, max(recorded.version(table), 0)):
            if path.suffix == ".json":
                actions_of(path)
    except ValueError:
        return False
    return True


def mend(warehouse: Warehouse, table: Table, recorded: Recorded) -> None:
    """Put the files of a log back, as they were recorded; move aside what was in their place.

    Parameters
    ----------
    warehouse : Warehouse
        Is locked.
    table : Table
        Whose log.
    recorded : Recorded
        What runs have recorded.

    Raises
    ------
    WarehouseError
        If a commit is lost of which there is no copy.
    """
    root = warehouse.root
    aside = root / ASIDE / str(time.time_ns()) / table.name
    faults = [*log_faults(root, table, recorded)] if recorded.version(table) >= 0 else []
    for fault in faults:
        path, content = root / table.name / fault.file, recorded.content(table, fault.file)
        _move(path, aside)
        if content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif not fault.file.endswith(".json"):
            _move(path.with_name("_last_checkpoint"), aside)
        elif fault.file in recorded.files[table.name] and table not in OF_RUNS:
            raise WarehouseError(
                f"table {root / table.name}: no copy of {fault.file} is kept: put it back from one, or "
                "`deltabook restore --from-archive --into NEW_WAREHOUSE`"
            )
    if table is RUNS and any(recorded.content(RUNS, fault.file) == b"" for fault in faults):
        unproven = published_version(RUNS, recorded_before(recorded.runs))
        for path in later_files(root, table, unproven):
            if f"{LOG}/{path.name}" not in recorded.files[table.name]:  # one that has joined files is
                _move(path, aside)
    if table is RUNS or not _is_readable(root, table, recorded):
        for path in later_files(root, table, max(recorded.version(table), 0)):
            _move(path, aside)
    if table in OF_RUNS:
        _add_lost(warehouse, table, recorded)


def _move(path: Path, aside: Path) -> None:
    if path.exists():
        aside.mkdir(parents=True, exist_ok=True)
        moved(path, aside / path.name)


def _add_lost(warehouse: Warehouse, table: Table, recorded: Recorded) -> None:
    """Add the newest runs' data files again, one by one: of these commits no later run has kept a copy."""
    folder = warehouse.root / table.name
    unproven = published_version(RUNS, recorded_before(recorded.runs))
    if table is RUNS:
        names = [
            name
            for run in recorded.runs
            for name, rows in recorded.sealed.items()
            if rows == [run] and run["version"] > unproven
        ]
    else:
        proofs = {path: row for path, row in json.loads(recorded.newest["proofs"]).items() if LOG not in path}
        names = [path for path, proof in proofs.items() if not damage(folder / path, proof)]
    there = set()
    if is_made(warehouse.root, table):
        version = open_table(warehouse.root, table).version()
        there = {file.path for file in live_files(warehouse.root, table, version)}
    for name in names:
        if name not in there:
            warehouse.add(table, [_added(folder / name, table)])


def _added(file: Path, table: Table) -> Row:
    return Row(
        table=table.name,
        path=file.name,
        bytes=file.stat().st_size,
        content_hash="",
        partition="{}",
        modified=time.time_ns() // 1_000_000,
        statistics=json.dumps({"numRecords": pq.read_metadata(readable(file)).num_rows}),
    )
