"""A separate process for faults that affect a whole process: another time zone, a full disk, and a kill.

Arguments: a capture, a second capture, and a folder. The process prints one line of JSON with the results.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path

from conftest import invoke

from deltabook.jobs.warehouse.warehouse import Warehouse

LARGEST_FILE = 4096
"""Bytes: the disk that is full cuts a write short."""


def family(process: int) -> list[int]:
    """Return a process and all that descend from it."""
    children = Path(f"/proc/{process}/task").glob("*/children")
    found = [int(child) for path in children for child in path.read_text().split()]
    return [process, *(one for child in found for one in family(child))]


def limit(size: int) -> None:
    for process in family(os.getpid()):
        resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def main(first: str, second: str, folder: str) -> None:
    how = ("--master", "local[1]", "--json")
    zone = Path(folder, "zone")
    told = {"zone": invoke("run", "binance", first, "--warehouse", zone, *how).exit_status}
    limit(LARGEST_FILE)
    full = invoke("ingest", "binance", second, "--warehouse", zone, *how)
    limit(resource.RLIM_INFINITY)
    told |= {"full": full.exit_status, "said": full.said}
    told["readable"] = invoke("sql", "SELECT count(*) AS n FROM books", "--warehouse", zone).exit_status
    print(json.dumps(told), flush=True)  # noqa: T201
    # Killed when its tables are written and the run is not: no `finally` runs, the lock is left as it is.
    Warehouse._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    invoke("ingest", "binance", first, "--warehouse", Path(folder, "killed"), *how)


if __name__ == "__main__":
    main(*sys.argv[1:])
