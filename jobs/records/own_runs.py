"""Check that nobody has edited the table `runs` by hand, before a new run relies on this table."""

from __future__ import annotations

from pathlib import Path

from deltabook.jobs.records.copy_faults import is_newest_commit_changed
from deltabook.jobs.records.file_records import list_log_files, read_actions
from deltabook.jobs.tables.delta_tables import open_dataset
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS


def require_unchanged_runs(warehouse: Path) -> None:
    """Raise an error if the table `runs` was edited or replaced by hand.

    `runs` decides which table versions are published, so a run must not build on a changed `runs`.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder. The table `runs` must exist.

    Raises
    ------
    WarehouseError
        If the newest commit that has a second copy differs from this copy, or if a commit after the commit of
        the newest run adds rows. Commits that only compact files are allowed.
    """
    rows = open_dataset(warehouse, RUNS).to_table(columns=["version"])
    newest = max(rows["version"].to_pylist(), default=0)
    later_commits = [
        paths[-1] for version, paths in list_log_files(warehouse, RUNS).items() if version > newest
    ]
    added_files = (action.get("add", {}) for path in later_commits for action in read_actions(path))
    if is_newest_commit_changed(warehouse) or any(file.get("dataChange") for file in added_files):
        raise WarehouseError(
            f"table {warehouse / RUNS.name} was changed by hand, so the published versions are unknown: run "
            "`deltabook verify` to see the change, then `deltabook restore` to undo it"
        )
