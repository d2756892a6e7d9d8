"""Check limits of this process and of this machine before a command starts. Each message names a remedy."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
import tempfile
from pathlib import Path

_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")
"""Environment variables that set the locale. The first variable in this list that is set counts."""
_MIB = 1 << 20
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
MIN_ADDRESS_SPACE = 3072 * _MIB
"""Minimum address space of a command without Spark, in bytes. Arrow, pandas and numba reserve this many
bytes, but use only a tenth of them."""
_JVM_BEYOND_HEAP = 3072 * _MIB
"""Address space in bytes that a JVM needs besides the heap, for classes, code, threads and direct memory."""
_CONTROL_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_UNLIMITED = 1 << 60
"""Limits of this many bytes or more mean no limit. Control groups of version 1 report such large limits."""
_MIN_DESCRIPTORS_WITHOUT_SPARK = 64
"""File descriptors that a command without Spark needs at once, with a reserve for the command's threads."""
MIN_DESCRIPTORS = 512
"""File descriptors that the JVM needs at once: one for each JAR, and one for each connection to a worker."""
_MIN_FREE_SPACE = 64 * _MIB
"""Minimum free space in Spark's folder for temporary files, in bytes. Spark copies Delta's JARs into this
folder."""


def find_process_problem() -> str:
    """Return why commands cannot work in this process, with the remedy; empty if commands can work."""
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        return (
            f"the locale's encoding is {sys.getfilesystemencoding()}, and paths and tables need UTF-8: set "
            "LC_ALL=C.UTF-8, or PYTHONUTF8=1"
        )
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY and space < MIN_ADDRESS_SPACE:
        return _describe_address_space(space, MIN_ADDRESS_SPACE)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < _MIN_DESCRIPTORS_WITHOUT_SPARK:
        return _describe_descriptors(files, _MIN_DESCRIPTORS_WITHOUT_SPARK)
    try:
        tempfile.gettempdir()
    except OSError:
        return (
            "no folder for temporary files is writable (TMPDIR, /tmp, /var/tmp): free some space there, or "
            "set TMPDIR to another folder"
        )
    return ""


def choose_utf8_locale() -> dict[str, str]:
    """Return {name: value} of environment variables that make child processes read file names as UTF-8.

    Python reads file names as UTF-8 in any locale. A JVM does not: in an ASCII locale, which cron sets, a JVM
    cannot find a file whose name has characters beyond ASCII.
    """
    locale = next((os.environ[name] for name in _LOCALE if os.environ.get(name)), "C")
    is_utf8 = locale.lower().replace("-", "").endswith("utf8")
    return {} if is_utf8 else {"LC_ALL": "C.UTF-8"}


def find_spark_problem(driver_memory: str) -> str:
    """Return why Spark cannot work on this machine, with the remedy; empty if Spark can work.

    The function also raises this process's limit of open files to the user's maximum.

    Parameters
    ----------
    driver_memory : str
        Size of the JVM's heap as a number and a unit, such as "4g".
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < MIN_DESCRIPTORS:
        return _describe_descriptors(hard, MIN_DESCRIPTORS)
    heap = int(driver_memory[:-1]) * _UNITS[driver_memory[-1]]
    space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if space != resource.RLIM_INFINITY and space < heap + _JVM_BEYOND_HEAP:
        return (
            _describe_address_space(space, heap + _JVM_BEYOND_HEAP)
            + f" or lower driver_memory ({driver_memory})"
        )
    return _find_folder_problem(Path(os.environ.get("SPARK_LOCAL_DIRS", "/tmp").split(",")[0]))


def read_memory_limit() -> int | None:
    """Return the memory limit of this process's control group in bytes, or None if there is no limit."""
    try:
        groups = re.findall(r"^\d+:([^:\n]*):(.*)$", _OWN_GROUPS.read_text(), re.MULTILINE)
    except OSError:
        return None
    limits = []
    for controllers, below in groups:
        if "memory" in controllers.split(","):
            limits += _read_limits(_CONTROL_GROUPS / "memory", below, "memory.limit_in_bytes")
        elif not controllers:
            limits += _read_limits(_CONTROL_GROUPS, below, "memory.max")
    least = min(limits, default=_UNLIMITED)
    return least if least < _UNLIMITED else None


def _read_limits(root: Path, below: str, name: str) -> list[int]:
    """Return the memory limits of a control group and of the group's parents, in bytes.

    `root` is the folder of all groups, `below` is the path of the group in this folder, and `name` is the
    name of the file with a limit. A process in a container may not see its own group, so the limit of `root`
    is read too.
    """
    folder, limits = root / below.lstrip("/"), []
    for each in {folder, *folder.parents, root}:
        try:
            text = (each / name).read_text().strip()
        except OSError:
            continue
        limits += [int(text)] if text.isdecimal() else []
    return limits


def _find_folder_problem(folder: Path) -> str:
    """Return why Spark's folder for temporary files is not usable, with the remedy; empty if usable."""
    remedy = "set SPARK_LOCAL_DIRS to another folder"
    name = f"Spark's folder for temporary files, {folder},"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{name} cannot be created ({error.strerror}): {remedy}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{name} is not writable: fix its permissions, or {remedy}"
    free = shutil.disk_usage(folder).free
    if free < _MIN_FREE_SPACE:
        missing = f"{free / _MIB:,.0f} MiB free, and Spark needs {_MIN_FREE_SPACE // _MIB} MiB"
        return f"{name} has {missing}: free some space there, or {remedy}"
    return ""


def _describe_address_space(limit: int, needed: int) -> str:
    return (
        f"this process may use {limit / _MIB:,.0f} MiB of address space, and needs {needed / _MIB:,.0f} MiB: "
        "raise the limit, as with ulimit -v unlimited"
    )


def _describe_descriptors(limit: int, needed: int) -> str:
    return (
        f"this process may open {limit:,} files at once, and needs {needed:,}: raise the limit, as with "
        "ulimit -n 4096"
    )
