"""The data files of tables at the versions that a run published, and whether they are as they were then."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import Any

from deltabook.jobs.book import hour_text
from deltabook.jobs.integrity.faults import LOST, damage
from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.published import add_actions, unreadable
from deltabook.jobs.stored import Slice
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import RUNS


@dataclass(frozen=True)
class LiveFile:
    """One data file of a version of a table, and what the log says of it.

    Attributes
    ----------
    table : Table
        Whose.
    path : str
        Below the table's folder.
    bytes : int
        Its size.
    rows : int
        How many it holds.
    partition : dict
        Values of the partition columns.
    exchange, symbol : str, optional
        Whose rows; None where the table or its log does not tell.
    hours : tuple of int, optional
        The first and the last hour of its rows, likewise.
    """

    table: Table
    path: str
    bytes: int
    rows: int
    partition: dict[str, str]
    exchange: str | None
    symbol: str | None
    hours: tuple[int, int] | None

    @property
    def named(self) -> tuple[str, ...]:
        """Its symbol-hours, as people are told of them."""
        if self.symbol is None:
            return ()
        whose = " ".join(name for name in (self.exchange, self.symbol) if name)
        if self.hours is None:
            return (whose,)
        first, last = map(hour_text, self.hours)
        return (f"{whose} {first}" if first == last else f"{whose} {first} to {last}",)

    def holds(self, key: Slice) -> bool:
        """Whether rows of a symbol-hour may be in it."""
        if self.symbol is None or self.hours is None:
            return True
        return (self.exchange, self.symbol) == key[:2] and self.hours[0] <= key[2] <= self.hours[1]


Checked = tuple[LiveFile, str]
"""A file, and what is wrong with it; empty if nothing is."""


def live_files(warehouse: Path, table: Table, version: int) -> list[LiveFile]:
    """List the data files of a version of a table.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        Which.
    version : int
        Of its log.

    Raises
    ------
    WarehouseError
        If its log cannot be read.
    """
    try:
        return [_live(table, row) for row in add_actions(warehouse, table, version)]
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(warehouse, table, error) from None


def _live(table: Table, row: dict[str, Any]) -> LiveFile:
    ends = (row.get("min.hour"), row.get("max.hour"))
    one = row.get("min.exchange") if row.get("min.exchange") == row.get("max.exchange") else None
    return LiveFile(
        table=table,
        path=row["path"],
        bytes=int(row["size_bytes"]),
        rows=int(row["num_records"]),
        partition={name: str(row[f"partition.{name}"]) for name in table.partition_by},
        exchange=one,
        symbol=row.get("partition.symbol"),
        hours=None if ends[0] is None or ends[1] is None else (ends[0], ends[1]),
    )


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
