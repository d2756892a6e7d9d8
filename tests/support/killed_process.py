"""A process that looks after a warehouse, or restores it, and is killed where the environment tells.

Arguments: maintain or restore, and the warehouse. `maintain` keeps nothing that was not published last.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conftest import invoke

from deltabook.jobs.maintenance import plan
from deltabook.jobs.maintenance.maintain import maintain
from deltabook.jobs.maintenance.plan import FLOOR, Policy
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.names import DAY
from deltabook.schemas.tables import RUNS


def main(command: str, folder: str) -> None:
    if command == "restore":
        outcome = invoke("restore", "--yes", "--warehouse", folder)
        sys.exit(outcome.said if outcome.exit_status else 0)
    plan.FEWEST = 2
    newest = max(row["finished"] for row in Stored(Path(folder)).rows(RUNS, "finished"))
    policy = Policy(FLOOR, None, newest + 400 * DAY + FLOOR)
    maintain(load_settings(None, {"warehouse": folder}), policy, True)


if __name__ == "__main__":
    main(*sys.argv[1:])
