"""The data files of a table at one version, as its log describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltabook.jobs.console.formats import hour_text
from deltabook.jobs.tables.published import add_actions, unreadable
from deltabook.jobs.tables.stored import Slice
from deltabook.schemas.columns import Table


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
