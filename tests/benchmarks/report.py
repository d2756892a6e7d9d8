"""Show the result of a benchmark as a table, and write it as JSON with the machine and the versions used."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

WIDTH = 140
PACKAGES = (
    "deltabook",
    "pyspark",
    "delta-spark",
    "great-expectations",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
)


def machine() -> dict[str, Any]:
    """Say what it ran on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return {
        "processor": ", ".join(sorted(names)) or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Say which versions of deltabook's own packages ran."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def tell(
    folder: Path,
    name: str,
    title: str,
    rows: list[dict[str, Any]],
    notes: tuple[str, ...] = (),
    **more: Any,
) -> None:
    """Print a table and write it to ``FOLDER/results/NAME.json``.

    Parameters
    ----------
    folder : Path
        The benchmark's data folder.
    name, title : str
        Of the file and of the table.
    rows : list of dict
        Column to value; numbers as JSON has them, printed short.
    notes : tuple of str
        Printed below the table.
    **more
        What else belongs into the file.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_shown(row.get(column)) for column in columns))
    console = Console(width=WIDTH)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    here = machine()
    console.print(
        f"{here['processor']}, {here['cores']} cores, {here['memory_gib']} GiB; Python {here['python']}, "
        + ", ".join(f"{package} {number}" for package, number in versions().items()),
        style="dim",
        highlight=False,
    )
    results = folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    told = {"title": title, "at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": here}
    told |= {"versions": versions(), "rows": rows, "notes": notes} | more
    (results / f"{name}.json").write_text(json.dumps(told, indent=1))


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
