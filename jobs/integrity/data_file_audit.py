"""The data files of tables at the versions that a run published, and whether they are as they were then."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from os import cpu_count
from pathlib import Path
from typing import Any

from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.records.active_files import LiveFile, live_files
from deltabook.jobs.records.file_faults import LOST, damage
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import RUNS

Checked = tuple[LiveFile, str]
"""A file, and what is wrong with it; empty if nothing is."""


def live_of_run(
    warehouse: Path, recorded: Recorded, run: dict[str, Any], tables: list[Table]
) -> Iterator[LiveFile]:
    """List the data files of the versions that a run published.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    recorded : Recorded
        What runs have recorded.
    run : dict
        Row of `runs`.
    tables : list of Table
        Which.

    Yields
    ------
    LiveFile
        Of each table that it had.

    Raises
    ------
    WarehouseError
        If a log cannot be read.
    """
    for table in tables:
        version = recorded.version(table, run)
        if version >= 0:
            yield from live_files(warehouse, table, version)


def checked(warehouse: Path, recorded: Recorded, files: list[LiveFile]) -> Iterator[Checked]:
    """Read files whole, several at once, and compare them with what was recorded of them.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    recorded : Recorded
        What runs have recorded.
    files : list of LiveFile
        Which.

    Yields
    ------
    tuple of LiveFile and str
        Each, as it is done, and what is wrong with it.
    """
    with ThreadPoolExecutor(cpu_count()) as pool:
        tasks = {pool.submit(_problem, warehouse, recorded, file): file for file in files}
        for task in as_completed(tasks):
            yield tasks[task], task.result()


def _problem(warehouse: Path, recorded: Recorded, file: LiveFile) -> str:
    whole = warehouse / file.table.name / file.path
    known = recorded.files[file.table.name].get(file.path)
    if known is not None:
        return damage(whole, str(known["content_hash"]), file.bytes)
    if file.table is RUNS and file.path in recorded.sealed:
        return ""
    if not whole.is_file():
        return LOST
    if file.table is RUNS:
        return "its row was changed, or cannot be read: the seal does not fit"
    if recorded.is_whole:
        return "no run has written it"
    return "" if whole.stat().st_size == file.bytes else f"it has not the {file.bytes:,} bytes of its log"
