"""Find a Java that Spark can use, and choose the options of the JVM.

This module imports only the standard library, because `make` runs this module before any package is
installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MIN_JAVA = 17
_SECONDS = 60
_REASON = re.compile(r"Could not|Cannot|cannot|insufficient|Error: ")
_REMEDY = f"Install it (Debian: apt-get install openjdk-{MIN_JAVA}-jre-headless) or set JAVA_HOME."


def find_java_problem() -> str | None:
    """Return a message that says why Java does not work here, with the remedy; None if Java works."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(home, "bin")) if home else shutil.which("java")  # noqa: PTH118
    if java is None:
        where = f"JAVA_HOME ({home}) holds no java" if home else "no java is on the PATH"
        return f"Java {MIN_JAVA} or newer is needed, but {where}. {_REMEDY}"
    try:
        printed = subprocess.run(
            [java, "-version"],
            capture_output=True,
            text=True,
            check=False,
            errors="replace",
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or error
        return f"Java {MIN_JAVA} or newer is needed, but {java} cannot be run ({reason}). {_REMEDY}"
    output = f"{printed.stderr}\n{printed.stdout}"
    version = re.search(r'version "(?:1\.)?(\d+)', output)
    if printed.returncode or version is None:
        first = next((line.strip() for line in output.splitlines() if _REASON.search(line)), "")
        reason = first or (output.strip().splitlines() or ["it printed nothing"])[0]
        return (
            f"{java} -version fails with status {printed.returncode}: {reason}. Check that memory is not "
            f"limited (ulimit -v), and that this is Java {MIN_JAVA} or newer. {_REMEDY}"
        )
    if int(version[1]) < MIN_JAVA:
        return f"Java {MIN_JAVA} or newer is needed, but {java} is {version[1]}. {_REMEDY}"
    return None


def find_class_archive() -> Path | None:
    """Return the path of the archive of Spark's classes, or None if `make setup` has not written an archive.

    The JVM starts faster with this archive (class data sharing).
    """
    # A truncated archive would crash the JVM. `make setup` names each archive after the archive's size in
    # bytes, so that this function can recognise a truncated archive.
    whole = (path for path in get_archive_folder().glob("*.jsa") if path.stem == str(path.stat().st_size))
    return next(whole, None)


def get_archive_folder() -> Path:
    """Return the folder of the archive for class data sharing, within this Python environment."""
    return Path(sys.prefix) / "share" / "deltabook"


def format_java_options(for_queries: bool) -> str:
    """Return the JVM options that make Spark start fast.

    Parameters
    ----------
    for_queries : bool
        Whether the JVM runs queries. Queries over many rows need the JVM's optimizing compiler (C2). Jobs do
        not need this compiler, because the rows that jobs process never enter the JVM.

    Returns
    -------
    str
        Options separated by spaces, as on a command line.
    """
    options = [] if for_queries else ["-XX:TieredStopAtLevel=1"]
    if archive := find_class_archive():
        # The JVM silently ignores an archive that another version of Java or Spark has written.
        options += ["-Xshare:auto", f'"-XX:SharedArchiveFile={archive}"']
        options += ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    return " ".join(options)


if __name__ == "__main__":
    problem = find_java_problem()
    if problem:
        sys.exit(problem)
