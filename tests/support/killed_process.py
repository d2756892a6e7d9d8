"""A separate process that runs `maintain` or `restore`, and is killed where an environment variable says.

Arguments: maintain or restore, and the warehouse. `maintain` keeps only the newest published state.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conftest import invoke

from deltabook.jobs.maintenance import table_upkeep
from deltabook.jobs.maintenance.maintain import maintain_warehouse
from deltabook.jobs.maintenance.retention import MIN_RETENTION, RetentionPolicy
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.names import DAY
from deltabook.schemas.tables import RUNS


def main(command: str, folder: str) -> None:
    if command == "restore":
        outcome = invoke("restore", "--yes", "--warehouse", folder)
        sys.exit(outcome.said if outcome.exit_status else 0)
    table_upkeep.MIN_FILES_TO_COMPACT = 2
    newest = max(row["finished"] for row in TableReader(Path(folder)).rows(RUNS, "finished"))
    policy = RetentionPolicy(MIN_RETENTION, None, newest + 400 * DAY + MIN_RETENTION)
    maintain_warehouse(load_settings(None, {"warehouse": folder}), policy, True)


if __name__ == "__main__":
    main(*sys.argv[1:])
