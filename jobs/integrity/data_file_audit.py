"""Compare the data files of published table versions with the hashes that runs recorded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from os import cpu_count
from pathlib import Path
from typing import NamedTuple

from deltabook.jobs.integrity.recorded import RunRecords
from deltabook.jobs.records.active_files import ActiveFile, list_active_files
from deltabook.jobs.records.file_faults import MISSING, UNKNOWN_FILE, describe_damage
from deltabook.schemas.columns import Table
from deltabook.schemas.rows import RunRow
from deltabook.schemas.tables import RUNS


class CheckedFile(NamedTuple):
    """A data file and the result of its check.

    Attributes
    ----------
    file : ActiveFile
        The checked file.
    problem : str
        Description of the damage; empty if the file is intact.
    """

    file: ActiveFile
    problem: str


def list_files_of_run(
    warehouse: Path, records: RunRecords, run: RunRow, tables: list[Table]
) -> Iterator[ActiveFile]:
    """Yield the data files of the table versions that a run published.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.
    run : RunRow
        Row of the table `runs`.
    tables : list of Table
        Tables to list. Tables that the run did not publish are skipped.

    Yields
    ------
    ActiveFile
        One data file.

    Raises
    ------
    WarehouseError
        If the Delta log of a table cannot be read.
    """
    for table in tables:
        version = records.version(table, run)
        if version >= 0:
            yield from list_active_files(warehouse, table, version)


def check_data_files(warehouse: Path, records: RunRecords, files: list[ActiveFile]) -> Iterator[CheckedFile]:
    """Compare data files with the recorded hashes, several files in parallel.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    records : RunRecords
        Hashes and sizes that runs recorded for the files that they wrote.
    files : list of ActiveFile
        Files to check.

    Yields
    ------
    CheckedFile
        A file and the result of its check, in the order in which the checks finish.
    """
    with ThreadPoolExecutor(cpu_count()) as pool:
        tasks = {pool.submit(_check_file, warehouse, records, file): file for file in files}
        for task in as_completed(tasks):
            yield CheckedFile(tasks[task], task.result())


def _check_file(warehouse: Path, records: RunRecords, file: ActiveFile) -> str:
    """Return a description of a data file's damage, or empty text if the file is intact."""
    path = warehouse / file.table.name / file.path
    record = records.files[file.table.name].get(file.path)
    if record is not None:
        return describe_damage(path, record.digest, file.bytes)
    if file.table is RUNS and file.path in records.sealed_rows:
        return ""
    if not path.is_file():
        return MISSING
    if file.table is RUNS:
        return "the row in this file was changed or cannot be read: the seal of the row does not match"
    if records.is_complete:
        return UNKNOWN_FILE
    return (
        ""
        if path.stat().st_size == file.bytes
        else f"its size is not {file.bytes:,} bytes, as the log states"
    )
