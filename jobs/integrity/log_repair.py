"""Restore damaged log files of all tables, and damaged data files of the tables `runs` and `written`.

`jobs.integrity.repair_plan` chooses the content that replaces each damaged file.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow.parquet as pq
from deltalake import CommitProperties
from pyspark.sql import Row

from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.integrity.repair_plan import TableRepair, find_repairs
from deltabook.jobs.records.active_files import ActiveFile, list_active_files
from deltabook.jobs.records.file_faults import Fault, describe_damage
from deltabook.jobs.records.file_records import (
    LOG_FOLDER,
    RUN_TABLES,
    last_recorded_run,
    published_version,
)
from deltabook.jobs.records.file_replacement import Replacement, replacing_files
from deltabook.jobs.records.second_copies import (
    SMALL_TABLES,
    list_copies,
    make_copies,
)
from deltabook.jobs.tables.delta_tables import open_table, table_exists
from deltabook.jobs.tables.published import COPIES_FOLDER, published_versions
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, TABLES, WRITTEN
from deltabook.udfs.storage.object_store import get_arrow_source


def repair_files(warehouse: Warehouse, records: RunRecords, faults: list[Fault]) -> None:
    """Restore the recorded content of all damaged files. If a file cannot be restored, change nothing.

    Replaced files are moved to the folder `_aside` of the warehouse.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse. The caller must have locked the warehouse.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.
    faults : list of Fault
        Results of `find_repairs` for all tables.

    Raises
    ------
    WarehouseError
        If a lost commit cannot be restored, or if a table is still damaged after the repair. In both cases
        the repair is undone, so the warehouse is unchanged.
    """
    root = warehouse.root
    faults_by_table = {
        table: table_faults
        for table in TABLES.values()
        if (table_faults := [fault for fault in faults if fault.table == table.name])
    }
    steps: dict[str, Replacement] = {}
    for table, table_faults in faults_by_table.items():
        for step in TableRepair(root, table, records).plan(table_faults):
            steps.setdefault(step.path, step)
    # Lost commits of `runs` and `written` that have neither a copy nor recorded bytes are replaced by new
    # commits. The hashes of the new commits differ from the recorded hashes, until the next run records the
    # new hashes.
    made_anew = {
        (fault.table, fault.file)
        for fault in faults
        if TABLES[fault.table] in RUN_TABLES
        and fault.file not in list_copies(root, TABLES[fault.table])
        and not records.read_content(TABLES[fault.table], fault.file)
    }
    folders = [f"{table.name}/{LOG_FOLDER}" for table in faults_by_table]
    folders += [f"{COPIES_FOLDER}/{table.name}" for table in (*RUN_TABLES, *SMALL_TABLES)]
    with replacing_files(root, steps.values(), folders):
        for table in RUN_TABLES:
            if table in faults_by_table:
                _add_lost_commits(warehouse, table, records)
        make_copies(root, is_thorough=True)
        _require_repaired(root, records, made_anew)


def _require_repaired(root: Path, records: RunRecords, made_anew: set[tuple[str, str]]) -> None:
    """Raise an error if a published table cannot be opened or is still damaged after the repair.

    `made_anew` contains (table name, path) of the commits that the repair created anew. These commits are
    expected to differ from the recorded hashes.

    Raises
    ------
    WarehouseError
        If a table cannot be opened, or is still damaged.
    """
    if published_versions(root) != dict(records.newest["versions"]):
        raise WarehouseError(
            f"warehouse {root}: the repaired `runs` would not name the published versions, so the repair is "
            "undone: put `runs` back from a backup, or ingest the raw files again into a new --warehouse"
        )
    for table in TABLES.values():
        if records.version(table) >= 0:
            list_active_files(root, table, records.version(table))
        left = [
            fault
            for fault in find_repairs(root, table, records)
            if (fault.table, fault.file) not in made_anew
        ]
        if left:
            raise WarehouseError(
                f"table {root / table.name}: the repair cannot restore {left[0].file} ({left[0].problem}) "
                "and is undone: put the file back from a backup, or ingest the raw files again into a new "
                "--warehouse"
            )


def _add_lost_commits(warehouse: Warehouse, table: Table, records: RunRecords) -> None:
    """Commit the newest data files of `runs` or `written` again, if the commits that added them are lost."""
    folder = warehouse.root / table.name
    recorded_version = published_version(RUNS, last_recorded_run(records.runs))
    if table is RUNS:
        names = [
            name
            for run in records.runs
            for name, rows in records.sealed_rows.items()
            if rows == [run] and run["version"] > recorded_version
        ]
    else:
        proofs: dict[str, str] = json.loads(records.newest["proofs"])
        names = [
            path
            for path, proof in proofs.items()
            if LOG_FOLDER not in path and not describe_damage(folder / path, proof)
        ]
    active_paths = set()
    if table_exists(warehouse.root, table):
        version = open_table(warehouse.root, table).version()
        active_paths = {file.path for file in list_active_files(warehouse.root, table, version)}
    for name in names:
        if name not in active_paths:
            warehouse.add(table, [_describe_data_file(folder / name, table)])
    # The published version of `written` must exist. So empty commits are added until `written` has this
    # version. The next run records the empty commits.
    newest = open_table(warehouse.root, table).version() if table_exists(warehouse.root, table) else -1
    for _ in range(records.version(table) - newest if table is WRITTEN else 0):
        warehouse.add(table, [], properties=CommitProperties({"deltabook": "in the place of a lost commit"}))


def drop_unreadable_files(warehouse: Warehouse, files: list[ActiveFile]) -> None:
    """Remove damaged data files from the table `runs`. The rows in these files are lost.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse. The caller must not have locked the warehouse, because this function locks it.
    files : list of ActiveFile
        Damaged data files of `runs` that have no intact copy.
    """
    with warehouse.locked(), replacing_files(warehouse.root, [], [f"{RUNS.name}/{LOG_FOLDER}"]):
        warehouse.drop(RUNS, files)
        published_versions(warehouse.root)


def _describe_data_file(file: Path, table: Table) -> Row:
    """Return the row that describes a data file to `Warehouse.add`."""
    return Row(
        table=table.name,
        path=file.name,
        bytes=file.stat().st_size,
        content_hash="",
        partition="{}",
        modified=time.time_ns() // 1_000_000,
        statistics=json.dumps({"numRecords": pq.read_metadata(get_arrow_source(file)).num_rows}),
    )
