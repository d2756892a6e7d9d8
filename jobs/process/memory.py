"""Read the peak memory of this process, of the JVM and of Python workers from /proc."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_PROCESSES = Path("/proc")
_JAVA = "java"
_KIB = 1024


def peak_memory() -> dict[str, int | None]:
    """Return the peak memory of this process, of Spark's JVM and of Spark's Python workers, in bytes.

    Each number is the peak resident memory since the start of a process (Linux: `VmHWM`). If a process serves
    several runs, the peak may come from an earlier run. Processes may reach their peaks at different times,
    so the sum of the peaks is an upper bound. Memory that a worker shares with the daemon that forked the
    worker is counted for every worker. Only processes that still run on this machine are included, and Spark
    ends a worker that has been idle for a minute.

    Returns
    -------
    dict
        Peak memory in bytes. `driver`: this process. `jvm`: Spark's JVM. `workers`: the sum over the JVM's
        Python processes. `jvm` and `workers` are None if /proc does not exist, or if Spark runs on another
        machine.
    """
    processes, own_id = _read_processes(), os.getpid()
    own = processes.get(own_id, {})
    own_tree = [own_id, *_list_descendants(own_id, processes)]
    driver = _read_peak(own) or _read_own_peak()
    # With spark-submit, the JVM is the parent of this process. Otherwise, the JVM is a descendant.
    candidates = [*own_tree, int(own.get("PPid", 0))]
    jvm = next((process for process in candidates if processes.get(process, {}).get("Name") == _JAVA), None)
    if jvm is None:
        return {"driver": driver, "jvm": None, "workers": None}
    workers = {*_list_descendants(jvm, processes)}.difference(() if jvm in own_tree else own_tree)
    workers_peak = sum(_read_peak(processes[process]) for process in workers)
    return {"driver": driver, "jvm": _read_peak(processes[jvm]), "workers": workers_peak}


def _read_own_peak() -> int:
    """Return the peak memory of this process in bytes. On Linux, `getrusage` returns KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB


def list_child_processes() -> set[int]:
    """Return the process ids of the running children of this process; an empty set without /proc."""
    own_id = os.getpid()
    return {process for process, status in _read_processes().items() if int(status.get("PPid", 0)) == own_id}


def _read_processes() -> dict[int, dict[str, str]]:
    """Return {process id: {field: text}} of all processes, from /proc/<id>/status; empty without /proc."""
    processes = {}
    for status in _PROCESSES.glob("[0-9]*/status"):
        try:
            lines = status.read_text().splitlines()
        except OSError:  # the process has ended, or is hidden from this user
            continue
        processes[int(status.parent.name)] = {
            name: value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
    return processes


def _list_descendants(process: int, processes: dict[int, dict[str, str]]) -> list[int]:
    """Return the process ids of all descendants of a process, children before grandchildren."""
    tree = [process]
    for parent in tree:
        tree += [child for child, status in processes.items() if status.get("PPid") == str(parent)]
    return tree[1:]


def _read_peak(status: dict[str, str]) -> int:
    """Return the peak resident memory of a process in bytes; `status` has the fields of /proc/<id>/status."""
    return int(status.get("VmHWM", "0 kB").split()[0]) * _KIB
