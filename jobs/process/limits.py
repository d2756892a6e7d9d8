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
_CONTROL_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60
"""Control groups of version 1 have a number of this size where there is no limit."""
_LEAST_DESCRIPTORS = 64
"""Files that a command without Spark has open at once, with room for its threads."""
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
        return _too_little(space, LEAST_ADDRESS_SPACE)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < _LEAST_DESCRIPTORS:
        return _too_few_files(files, _LEAST_DESCRIPTORS)
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
        return _too_few_files(hard, LEAST_DESCRIPTORS)
    heap = int(driver_memory[:-1]) * _UNITS[driver_memory[-1]]
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY and space < heap + _JVM_BESIDES_HEAP:
        return _too_little(space, heap + _JVM_BESIDES_HEAP) + f" or lower driver_memory ({driver_memory})"
    return _folder_problem(Path(os.environ.get("SPARK_LOCAL_DIRS", "/tmp").split(",")[0]))


def memory_limit() -> int | None:
    """Return the memory that the control group of this process may use, bytes; None if it is not limited."""
    try:
        groups = re.findall(r"^\d+:([^:\n]*):(.*)$", _OWN_GROUPS.read_text(), re.MULTILINE)
    except OSError:
        return None
    limits = []
    for controllers, below in groups:
        if "memory" in controllers.split(","):
            limits += _limits(_CONTROL_GROUPS / "memory", below, "memory.limit_in_bytes")
        elif not controllers:
            limits += _limits(_CONTROL_GROUPS, below, "memory.max")
    found = min(limits, default=_UNLIMITED)
    return found if found < _UNLIMITED else None


def _limits(root: Path, below: str, name: str) -> list[int]:
    """Read the limits of a control group and of those around it; a container may not see its own."""
    folder, found = root / below.lstrip("/"), []
    for each in {folder, *folder.parents, root}:
        try:
            text = (each / name).read_text().strip()
        except OSError:
            continue
        found += [int(text)] if text.isdecimal() else []
    return found


def _folder_problem(folder: Path) -> str:
    """Return what is wrong with Spark's folder for temporary files."""
    remedy = "free some space there, or name another folder in SPARK_LOCAL_DIRS"
    named = f"Spark's folder for temporary files, {folder},"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{named} cannot be made ({error.strerror}): name another folder in SPARK_LOCAL_DIRS"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{named} is not writable: fix its permissions, or name another folder in SPARK_LOCAL_DIRS"
    free = shutil.disk_usage(folder).free
    if free < _LEAST_ROOM:
        return f"{named} has {free / _MIB:,.0f} MiB free, and Spark needs {_LEAST_ROOM // _MIB}: {remedy}"
    return ""


def _too_little(found: int, needed: int) -> str:
    return (
        f"this process may use {found / _MIB:,.0f} MiB of address space, and needs {needed / _MIB:,.0f}: "
        "raise the limit, as with ulimit -v unlimited"
    )


def _too_few_files(found: int, needed: int) -> str:
    return (
        f"this process may open {found:,} files at once, and needs {needed:,}: raise the limit, as with "
        "ulimit -n 4096"
    )
