"""The Java that Spark needs, and how it is started. Standard library alone: `make` runs it first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

LEAST_JAVA = 17
_SECONDS = 60
_REASON = re.compile(r"Could not|Cannot|cannot|insufficient|Error: ")
_REMEDY = f"Install it (Debian: apt-get install openjdk-{LEAST_JAVA}-jre-headless) or set JAVA_HOME."


def java_problem() -> str | None:
    """Return one sentence on what is wrong with Java here, or None if all is well."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(home, "bin")) if home else shutil.which("java")  # noqa: PTH118
    if java is None:
        where = f"JAVA_HOME ({home}) holds no java" if home else "no java is on the PATH"
        return f"Java {LEAST_JAVA} or newer is needed, but {where}. {_REMEDY}"
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
        return f"Java {LEAST_JAVA} or newer is needed, but {java} cannot be run ({reason}). {_REMEDY}"
    told = f"{printed.stderr}\n{printed.stdout}"
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    if printed.returncode or found is None:
        first = next((line.strip() for line in told.splitlines() if _REASON.search(line)), "")
        reason = first or (told.strip().splitlines() or ["it prints nothing"])[0]
        return (
            f"{java} -version fails with status {printed.returncode}: {reason}. See that memory is not "
            f"limited (ulimit -v), or that this is a Java {LEAST_JAVA} or newer. {_REMEDY}"
        )
    if int(found[1]) < LEAST_JAVA:
        return f"Java {LEAST_JAVA} or newer is needed, but {java} is {found[1]}. {_REMEDY}"
    return None


def class_archive() -> Path | None:
    """Return the classes of Spark as a JVM holds them in memory, if `make setup` has kept them here."""
    # Cut short, it would bring the JVM down: its name tells its size.
    found = (path for path in archive_folder().glob("*.jsa") if path.stem == str(path.stat().st_size))
    return next(found, None)


def archive_folder() -> Path:
    """Return where that is: in this environment."""
    return Path(sys.prefix) / "share" / "deltabook"


def java_options(for_queries: bool) -> str:
    """Return the options of a JVM that is to start fast.

    Parameters
    ----------
    for_queries : bool
        Whether it runs queries: those that go through many rows need its second compiler, which costs a job,
        whose rows never enter the JVM, more than it gives.

    Returns
    -------
    str
        As a command line has them.
    """
    options = [] if for_queries else ["-XX:TieredStopAtLevel=1"]
    if archive := class_archive():
        # One that another Java or another Spark has made is passed over in silence.
        options += ["-Xshare:auto", f'"-XX:SharedArchiveFile={archive}"']
        options += ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    return " ".join(options)


if __name__ == "__main__":
    problem = java_problem()
    if problem:
        sys.exit(problem)
