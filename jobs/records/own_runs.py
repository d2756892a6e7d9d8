"""Whether the table `runs` is the one that runs have written, before another run goes on from it."""

from __future__ import annotations

from pathlib import Path

from deltabook.jobs.records.copy_faults import newest_changed
from deltabook.jobs.records.file_records import actions_of, log_files
from deltabook.jobs.tables.published import open_dataset
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS


def require_own_runs(warehouse: Path) -> None:
    """Stop if `runs` was changed or replaced by hand: nobody can tell what is published.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables; it has the table `runs`.

    Raises
    ------
    WarehouseError
        If its newest commit is not the one that was copied, or commits after that of the newest row add rows.
        Commits that have joined files add none.
    """
    rows = open_dataset(warehouse, RUNS).to_table(columns=["version"])
    newest = max(rows["version"].to_pylist(), default=0)
    later = [paths[-1] for version, paths in log_files(warehouse, RUNS).items() if version > newest]
    added = (action.get("add", {}) for path in later for action in actions_of(path))
    if newest_changed(warehouse) or any(one.get("dataChange") for one in added):
        raise WarehouseError(
            f"table {warehouse / RUNS.name} was changed by hand, and it tells what is published: "
            "`deltabook verify` names the change, `deltabook restore` takes it back"
        )
