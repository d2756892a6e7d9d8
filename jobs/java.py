"""Whether this machine has the Java that Spark needs. Standard library alone: `make` runs it first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

LEAST_JAVA = 17
_REMEDY = f"Install it (Debian: apt-get install openjdk-{LEAST_JAVA}-jre-headless) or set JAVA_HOME."


def java_problem() -> str | None:
    """Return one sentence on what is wrong with Java here, or None if all is well."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=os.path.join(home, "bin")) if home else shutil.which("java")  # noqa: PTH118
    if java is None:
        where = f"JAVA_HOME ({home}) holds no java" if home else "no java is on the PATH"
        return f"Java {LEAST_JAVA} or newer is needed, but {where}. {_REMEDY}"
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', printed.stderr + printed.stdout)
    if found is None or int(found[1]) < LEAST_JAVA:
        version = found[1] if found else "an unknown version"
        return f"Java {LEAST_JAVA} or newer is needed, but {java} is {version}. {_REMEDY}"
    return None


if __name__ == "__main__":
    problem = java_problem()
    if problem:
        sys.exit(problem)
