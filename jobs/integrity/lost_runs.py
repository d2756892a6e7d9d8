"""The table `runs` made again where nothing of it is left: `written` tells what was published last."""

from __future__ import annotations

import json
import time
from importlib.metadata import version as version_of
from pathlib import Path

from deltabook.jobs.integrity.recorded import MADE_AGAIN, Recorded
from deltabook.jobs.records.active_files import live_files
from deltabook.jobs.records.file_faults import Fault
from deltabook.jobs.records.file_records import LOG, proofs_of
from deltabook.jobs.records.file_replacement import Step, repairing
from deltabook.jobs.records.second_copies import keep_copies
from deltabook.jobs.tables.published import COPIES, open_table, published_versions
from deltabook.jobs.tables.seals import seal_of
from deltabook.jobs.warehouse.warehouse import Warehouse, run_id_at
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, TABLES, WRITTEN
from deltabook.udfs.storage.object_store import files_in

NOTHING_LEFT = "put `runs` back from a copy, or ingest the raw files again into a new --warehouse"
"""What is left to do where neither `runs` nor `written` is there."""


def lost_runs(warehouse: Path, recorded: Recorded) -> Fault:
    """Return the fault of a warehouse in which no row of `runs` is left.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    recorded : Recorded
        Has no runs.
    """
    is_there = any(files_in(warehouse / RUNS.name, deep=True))
    problem = "no row of it can be relied on" if is_there else "the table is lost"
    if not _recorded_versions(recorded):
        return Fault(RUNS.name, "", f"{problem}, and `written` too", remedy=NOTHING_LEFT)
    told = "`written` tells what was published last; earlier runs cannot be restored"
    return Fault(RUNS.name, "", f"{problem}: {told}")


def make_runs_again(warehouse: Warehouse, recorded: Recorded) -> str:
    """Write one row of `runs`, which publishes every table as `written` has it last.

    Parameters
    ----------
    warehouse : Warehouse
        Is locked.
    recorded : Recorded
        Has no runs.

    Returns
    -------
    str
        Id of the run.

    Raises
    ------
    WarehouseError
        If `written` tells nothing, or a table cannot be opened as it says: then nothing is changed.
    """
    root = warehouse.root
    versions = _recorded_versions(recorded)
    if not versions:
        raise WarehouseError(
            f"warehouse {root} has neither `runs` nor `written` left, so nothing tells what was "
            f"published: {NOTHING_LEFT}"
        )
    versions[WRITTEN.name] = open_table(root, WRITTEN).version()
    left = [file.path for file in files_in(root / RUNS.name, deep=True)]
    left += [file.path for file in files_in(root / COPIES / RUNS.name)]
    steps = [Step(str(path.relative_to(root))) for path in left]
    now = time.time_ns()
    row = {
        "run_id": run_id_at(now),
        "command": "restore",
        "started": now,
        "finished": time.time_ns(),
        "code_version": version_of("deltabook"),
        "settings_hash": warehouse.settings.fingerprint,
        "versions": versions,
        "summary": json.dumps({MADE_AGAIN: RUNS.name}),
        "version": 1,
        "proofs": json.dumps(proofs_of(root, -1)),
    }
    folders = [RUNS.name, f"{RUNS.name}/{LOG}", f"{COPIES}/{RUNS.name}", f"{COPIES}/{WRITTEN.name}"]
    with repairing(root, steps, folders):
        warehouse.append(RUNS, [row | {"seal": seal_of(row)}])
        keep_copies(root, is_thorough=True)
        for name, version in published_versions(root).items():
            live_files(root, TABLES[name], version)
    return str(row["run_id"])


def _recorded_versions(recorded: Recorded) -> dict[str, int]:
    """Return the version of each table whose commit is the last that `written` has."""
    versions: dict[str, int] = {}
    for name, files in recorded.files.items():
        commits = [path.removeprefix(f"{LOG}/") for path in files if path.startswith(f"{LOG}/")]
        found = [int(commit.split(".")[0]) for commit in commits if commit.endswith(".json")]
        if found and name not in (RUNS.name, WRITTEN.name):
            versions[name] = max(found)
    return versions
