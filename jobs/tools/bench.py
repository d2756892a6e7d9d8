"""The job `bench`: the project's benchmarks, one after another, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from deltabook.schemas.errors import SettingsError

BENCHMARKS = (
    "kernel",
    "pipeline",
    "requirements",
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
"""In the order in which they run; each is a script of that name."""


def run_benchmarks(names: list[str], folder: Path, peers: Path | None) -> None:
    """Run benchmarks; each prints a table and writes it to ``FOLDER/results/NAME.json``.

    Parameters
    ----------
    names : list of str
        Which; all if empty.
    folder : Path
        Where their data is made, once, and their results go.
    peers : Path or None
        A Python that has the programs of `peers.txt`; without one, deltabook is measured alone.

    Raises
    ------
    SettingsError
        If a name is unknown, the scripts are not installed, or a benchmark fails.
    """
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SettingsError(f"no benchmark {unknown[0]!r}: there are {', '.join(BENCHMARKS)}")
    if peers is not None and not peers.exists():
        raise SettingsError(f"{peers}: no such Python; make bench installs the peers, or leave --peers out")
    if find_spec("psutil") is None:
        raise SettingsError("bench needs more packages: pip install 'deltabook[bench]'")
    found = find_spec("deltabook.benchmarks")
    if found is None or not found.submodule_search_locations:
        raise SettingsError("the benchmarks are not installed: run make setup in the project's folder")
    scripts = Path(next(iter(found.submodule_search_locations)))
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or BENCHMARKS:
        command = [sys.executable, str(scripts / f"{name}.py"), str(folder), *([str(peers)] if peers else [])]
        if subprocess.run(command, check=False).returncode:
            raise SettingsError(f"the benchmark {name} failed: see above")
