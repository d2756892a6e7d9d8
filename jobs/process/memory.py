"""Peak memory of a run's processes, from what the kernel keeps of them."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_PROCESSES = Path("/proc")
_JAVA = "java"
_KIB = 1024


def peak_memory() -> dict[str, int | None]:
    """Return the most memory that this process, Spark's JVM and its Python workers have each held, bytes.

    Each number is resident memory at its highest since the process began (Linux: `VmHWM`), so in a session of
    several runs it may be an earlier run's. The three need not have come at one time: their sum is a bound.
    Workers are forked from one daemon and what they share with it counts in each. Only processes of this
    machine that still live are seen; Spark ends a worker that has been idle for a minute.

    Returns
    -------
    dict
        `driver`, this process; `jvm`; `workers`, the sum over the JVM's Python processes. None: it cannot be
        known, as `jvm` and `workers` where there is no /proc, or Spark is a server elsewhere.
    """
    told, here = _processes(), os.getpid()
    own, mine = told.get(here, {}), [here, *_below(here, told)]
    driver = _peak(own) or _highest()
    # Under spark-submit the JVM has started this process, not the other way round.
    candidates = [*mine, int(own.get("PPid", 0))]
    jvm = next((one for one in candidates if told.get(one, {}).get("Name") == _JAVA), None)
    if jvm is None:
        return {"driver": driver, "jvm": None, "workers": None}
    workers = {*_below(jvm, told)}.difference(() if jvm in mine else mine)
    return {"driver": driver, "jvm": _peak(told[jvm]), "workers": sum(_peak(told[one]) for one in workers)}


def _highest() -> int:
    """Return what `getrusage` tells, which Linux counts in KiB."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * _KIB


def child_processes() -> set[int]:
    """Return the ids of the processes that this one has started and that still live; none without /proc."""
    here = os.getpid()
    return {one for one, told in _processes().items() if int(told.get("PPid", 0)) == here}


def _processes() -> dict[int, dict[str, str]]:
    """Read what the kernel tells of each process; none where it tells nothing."""
    found = {}
    for status in _PROCESSES.glob("[0-9]*/status"):
        try:
            lines = status.read_text().splitlines()
        except OSError:  # it has ended, or is hidden
            continue
        found[int(status.parent.name)] = {
            name: value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
    return found


def _below(process: int, told: dict[int, dict[str, str]]) -> list[int]:
    """List the processes that one has started, and they in turn, nearest first."""
    found = [process]
    for parent in found:
        found += [one for one, status in told.items() if status.get("PPid") == str(parent)]
    return found[1:]


def _peak(status: dict[str, str]) -> int:
    return int(status.get("VmHWM", "0 kB").split()[0]) * _KIB
