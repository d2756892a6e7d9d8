"""The command `bench`: run the project's benchmarks one after another, each in its own process."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from deltabook.schemas.errors import SettingsError

SCRIPTS = Path(__file__).resolve().parents[2] / "tests" / "benchmarks"
"""Folder with the scripts of the benchmarks. It exists only in a checkout of the repository."""
BENCHMARKS = (
    "kernel",
    "pipeline",
    "requirements",
    "lake_day",
    "reading",
    "rebuilding",
    "memory",
    "storage",
    "replay",
    "startup",
    "upkeep",
    "live",
    "scaling",
    "assumptions",
)
"""Names of the benchmarks, in the order in which they run. Each benchmark is a script of the same name."""


def run_benchmarks(names: list[str], folder: Path, peers: Path | None) -> None:
    """Run benchmarks. Each benchmark prints a table and writes it to ``FOLDER/results/NAME.json``.

    Parameters
    ----------
    names : list of str
        Names of the benchmarks to run; empty means all.
    folder : Path
        Folder for results and for simulated data. Existing data is used again.
    peers : Path or None
        Python interpreter of an environment with the packages of `peers.txt`, which are measured for
        comparison. None measures only deltabook.

    Raises
    ------
    SettingsError
        If a name is unknown, if `peers`, a package or the scripts are missing, or if a benchmark fails.
    """
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SettingsError(f"no benchmark {unknown[0]!r}: there are {', '.join(BENCHMARKS)}")
    if peers is not None and not peers.exists():
        raise SettingsError(
            f"{peers}: no such Python. Run make bench, which installs the peers, or omit --peers"
        )
    if find_spec("psutil") is None:
        raise SettingsError("bench needs more packages: pip install 'deltabook[bench]'")
    if not (SCRIPTS / "peers.txt").is_file():
        raise SettingsError("an installed deltabook has no benchmarks: run them in a checkout of the source")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or BENCHMARKS:
        command = [sys.executable, str(SCRIPTS / f"{name}.py"), str(folder), *([str(peers)] if peers else [])]
        if subprocess.run(command, check=False).returncode:
            raise SettingsError(f"the benchmark {name} failed: its output above has the reason")
