"""Create the table `runs` anew from the rows of the table `written`, if no row of `runs` is readable."""

from __future__ import annotations

import json
import time
from importlib.metadata import version as version_of
from pathlib import Path

from deltabook.jobs.integrity.recorded import RECREATED_KEY, RunRecords
from deltabook.jobs.records.active_files import list_active_files
from deltabook.jobs.records.file_faults import Fault
from deltabook.jobs.records.file_records import LOG_FOLDER, hash_new_records
from deltabook.jobs.records.file_replacement import Replacement, replacing_files
from deltabook.jobs.records.second_copies import make_copies
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.tables.published import COPIES_FOLDER, published_versions
from deltabook.jobs.tables.seals import compute_seal
from deltabook.jobs.warehouse.run import make_run_id
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import UnsealedRun
from deltabook.schemas.tables import RUNS, TABLES, WRITTEN
from deltabook.udfs.storage.object_store import list_folder

LAST_RESORT = "put `runs` back from a backup, or ingest the raw files again into a new --warehouse"
"""Remedy to show if neither `runs` nor `written` can be read."""


def describe_lost_runs(warehouse: Path, records: RunRecords) -> Fault:
    """Return the fault of a warehouse in which no row of `runs` is readable.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    records : RunRecords
        Hashes and sizes from the table `written`. The list `runs` is empty.
    """
    has_files = any(list_folder(warehouse / RUNS.name, deep=True))
    problem = "the table has no readable row" if has_files else "the table is missing"
    if not _recorded_versions(records):
        problem += ", and `written` has no usable records either"
        return Fault(RUNS.name, "", problem, remedy=LAST_RESORT)
    consequence = "`written` shows the last published versions, but earlier runs cannot be restored"
    return Fault(RUNS.name, "", f"{problem}: {consequence}")


def recreate_runs(warehouse: Warehouse, records: RunRecords) -> str:
    """Create the table `runs` anew, with one row that publishes the last recorded version of every table.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse. The caller must have locked the warehouse.
    records : RunRecords
        Hashes and sizes from the table `written`. The list `runs` is empty.

    Returns
    -------
    str
        Id of the run that the new row describes.

    Raises
    ------
    WarehouseError
        If `written` has no records, or if a table cannot be opened at the recorded version. In both cases the
        warehouse is left unchanged.
    """
    root = warehouse.root
    versions = _recorded_versions(records)
    if not versions:
        raise WarehouseError(
            f"warehouse {root} has neither `runs` nor `written` left, so the published versions are unknown: "
            f"{LAST_RESORT}"
        )
    versions[WRITTEN.name] = open_table(root, WRITTEN).version()
    remains = [file.path for file in list_folder(root / RUNS.name, deep=True)]
    remains += [file.path for file in list_folder(root / COPIES_FOLDER / RUNS.name)]
    steps = [Replacement(str(path.relative_to(root))) for path in remains]
    now = time.time_ns()
    row: UnsealedRun = {
        "run_id": make_run_id(now),
        "command": "restore",
        "started": now,
        "finished": time.time_ns(),
        "code_version": version_of("deltabook"),
        "settings_hash": warehouse.settings.fingerprint,
        "versions": versions,
        "summary": json.dumps({RECREATED_KEY: RUNS.name}),
        "version": 1,
        "proofs": json.dumps(hash_new_records(root, -1)),
    }
    folders = [RUNS.name, f"{RUNS.name}/{LOG_FOLDER}"]
    folders += [f"{COPIES_FOLDER}/{RUNS.name}", f"{COPIES_FOLDER}/{WRITTEN.name}"]
    with replacing_files(root, steps, folders):
        warehouse.append(RUNS, [row | {"seal": compute_seal(row)}])
        make_copies(root, is_thorough=True)
        for name, version in published_versions(root).items():
            list_active_files(root, TABLES[name], version)
    return row["run_id"]


def _recorded_versions(records: RunRecords) -> dict[str, int]:
    """Return {table name: version of the newest recorded commit} of all tables but `runs` and `written`."""
    versions: dict[str, int] = {}
    for name, files in records.files.items():
        paths = [path for path in files if path.startswith(f"{LOG_FOLDER}/") and path.endswith(".json")]
        recorded = [int(path.removeprefix(f"{LOG_FOLDER}/").split(".")[0]) for path in paths]
        if recorded and name not in (RUNS.name, WRITTEN.name):
            versions[name] = max(recorded)
    return versions
