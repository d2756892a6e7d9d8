"""Limits of this process and machine, checked before a command starts: the cause and the remedy of each."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")
"""Variables that set the locale, the first that is set."""
_MIB = 1 << 20
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
LEAST_ADDRESS_SPACE = 3072 * _MIB
"""Of a command without Spark: Arrow, pandas and numba map that much, though they use a tenth."""
_JVM_BESIDES_HEAP = 3072 * _MIB
"""Address space of a JVM besides its heap: classes, compiled code, threads, direct memory."""
LEAST_DESCRIPTORS = 512
"""Files that the JVM has open at once: each JAR, and each connection to a worker."""
_LEAST_ROOM = 64 * _MIB
"""Room in Spark's folder for temporary files, before it starts: Delta's JARs are copied there."""


def process_problem() -> str:
    """Return what keeps every command from working, with the remedy; empty if nothing does."""
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        return (
            f"the locale's encoding is {sys.getfilesystemencoding()}, and paths and tables need UTF-8: set "
            "LC_ALL=C.UTF-8, or PYTHONUTF8=1"
        )
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY and space < LEAST_ADDRESS_SPACE:
        return _too_little("address space", space, LEAST_ADDRESS_SPACE, "ulimit -v unlimited")
    try:
        tempfile.gettempdir()
    except OSError:
        return (
            "no folder for temporary files can be written (TMPDIR, /tmp, /var/tmp): free some space there, "
            "or name one in TMPDIR"
        )
    return ""


def utf8_locale() -> dict[str, str]:
    """Return the variables by which programs that are started here take names of files for UTF-8.

    Python does so in any locale; a JVM in an ASCII locale, as under cron, does not find such a file.
    """
    named = next((os.environ[name] for name in _LOCALE if os.environ.get(name)), "C")
    is_utf8 = named.lower().replace("-", "").endswith("utf8")
    return {} if is_utf8 else {"LC_ALL": "C.UTF-8"}


def spark_problem(driver_memory: str) -> str:
    """Return what keeps Spark from working on this machine, with the remedy; empty if nothing does.

    The limit of open files is raised as far as this user may raise it.

    Parameters
    ----------
    driver_memory : str
        Heap of the JVM, such as "4g".
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < LEAST_DESCRIPTORS:
        return (
            f"this process may open {hard:,} files, and Spark needs {LEAST_DESCRIPTORS:,}: raise the limit, "
            f"as with ulimit -n {8 * LEAST_DESCRIPTORS}"
        )
    heap = int(driver_memory[:-1]) * _UNITS[driver_memory[-1]]
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY and space < heap + _JVM_BESIDES_HEAP:
        return (
            _too_little("address space", space, heap + _JVM_BESIDES_HEAP, "ulimit -v unlimited")
            + f" or lower driver_memory ({driver_memory})"
        )
    limit = memory_limit()
    if limit is not None and limit < heap + _JVM_LEAST_BESIDES_HEAP:
        return (
            _too_little("memory (of its control group)", limit, heap + _JVM_LEAST_BESIDES_HEAP, "")
            + f"raise that limit, or lower driver_memory ({driver_memory})"
        )
    return _folder_problem(Path(os.environ.get("SPARK_LOCAL_DIRS", "/tmp").split(",")[0]))


_JVM_LEAST_BESIDES_HEAP = 512 * _MIB
"""Memory that Python and the JVM use besides the heap, at the least."""


def memory_limit() -> int | None:
    """Return the memory that the control group of this process may use, bytes; None if it is not limited."""
    try:
        own = re.search(r"^0::(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
        folder = Path("/sys/fs/cgroup") / (own[1].lstrip("/") if own else "memory")
        name = "memory.max" if own else "memory.limit_in_bytes"
        limits = [
            int(text)
            for each in (folder, *folder.parents)
            if each.is_relative_to("/sys/fs/cgroup") and (each / name).is_file()
            for text in [(each / name).read_text().strip()]
            if text != "max"
        ]
    except (OSError, ValueError):
        return None
    found = min(limits, default=None)
    return None if found is None or found > _UNLIMITED else found


_UNLIMITED = 1 << 60
"""Control groups of version 1 have a number of this size where there is no limit."""


def _folder_problem(folder: Path) -> str:
    """Return what is wrong with Spark's folder for temporary files."""
    remedy = "free some space there, or name another folder in SPARK_LOCAL_DIRS"
    named = f"Spark's folder for temporary files, {folder},"
    if not folder.is_dir():
        return "" if "SPARK_LOCAL_DIRS" in os.environ else f"{named} is missing: {remedy}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{named} is not writable: fix its permissions, or name another folder in SPARK_LOCAL_DIRS"
    free = shutil.disk_usage(folder).free
    if free < _LEAST_ROOM:
        return f"{named} has {free / _MIB:,.0f} MiB free, and Spark needs {_LEAST_ROOM // _MIB}: {remedy}"
    return ""


def _too_little(what: str, found: int, needed: int, remedy: str) -> str:
    told = f"this process may use {found / _MIB:,.0f} MiB of {what}, and needs {needed / _MIB:,.0f}: "
    return told + (f"raise the limit, as with {remedy}" if remedy else "")
