"""List the active data files of a table version, as the Delta log describes them.

A data file is active in a version if a commit has added it and no commit up to the version has removed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deltabook.jobs.console.formats import format_chunk
from deltabook.jobs.tables.delta_tables import AddAction, read_add_actions, unreadable_table_error
from deltabook.jobs.tables.stored import ChunkKey
from deltabook.schemas.columns import Table


@dataclass(frozen=True)
class ActiveFile:
    """One data file of a table version.

    Attributes
    ----------
    table : Table
        Table that the file belongs to.
    path : str
        Path of the file below the table's folder.
    bytes : int
        Size of the file in bytes, according to the Delta log.
    rows : int
        Number of rows, according to the Delta log.
    partition : dict
        Values of the partition columns, by column name.
    exchange, symbol : str, optional
        Exchange and symbol of all rows. The exchange is None if the rows have different exchanges. Each
        of the two is None if the Delta log does not state its value.
    hours : tuple of int, optional
        Starts of the first and the last chunk in the file, ns since 1970 UTC; None if the log does not state
        these times.
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
    def chunk_labels(self) -> tuple[str, ...]:
        """Text that names the chunks in the file, as a tuple with one item; empty if the symbol is unknown.

        The text has the exchange, the symbol, and the starts of the first and the last chunk, if they are
        known.
        """
        if self.symbol is None:
            return ()
        instrument = " ".join(name for name in (self.exchange, self.symbol) if name)
        if self.hours is None:
            return (instrument,)
        first, last = map(format_chunk, self.hours)
        return (f"{instrument} {first}" if first == last else f"{instrument} {first} to {last}",)

    def may_contain(self, key: ChunkKey) -> bool:
        """Return whether the file can have rows of a chunk; True if the chunks of the file are unknown."""
        if self.symbol is None or self.hours is None:
            return True
        return (self.exchange, self.symbol) == key[:2] and self.hours[0] <= key[2] <= self.hours[1]


def list_active_files(warehouse: Path, table: Table, version: int) -> list[ActiveFile]:
    """Return the active data files of a table version.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table whose files are listed.
    version : int
        Delta version of the table.

    Returns
    -------
    list of ActiveFile
        One entry for each data file.

    Raises
    ------
    WarehouseError
        If the Delta log cannot be read.
    """
    try:
        return [_parse_action(table, action) for action in read_add_actions(warehouse, table, version)]
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable_table_error(warehouse, table, error) from None


def _parse_action(table: Table, action: AddAction) -> ActiveFile:
    """Return the data file that an add action of the Delta log describes."""
    values: Mapping[str, object] = action
    first_chunk, last_chunk = action.get("min.hour"), action.get("max.hour")
    has_one_exchange = action.get("min.exchange") == action.get("max.exchange")
    return ActiveFile(
        table=table,
        path=action["path"],
        bytes=int(action["size_bytes"]),
        rows=int(action["num_records"]),
        partition={name: str(values[f"partition.{name}"]) for name in table.partition_by},
        exchange=action.get("min.exchange") if has_one_exchange else None,
        symbol=action.get("partition.symbol"),
        hours=None if first_chunk is None or last_chunk is None else (first_chunk, last_chunk),
    )
