"""What a live feed has come to: the tables in the folder `live`, and which micro-batch they are at.

Workers write data files and states, which nobody sees. Then the driver writes what the states are
(`states/N.json`), commits what is in quarantine, and last the rows of books, in a commit that says that they
are micro-batch N. What that commit says is so: a micro-batch that was interrupted before it is done again,
from the states of N - 1; one that was interrupted after it is known, and passed over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deltalake import CommitProperties
from deltalake.transaction import Transaction
from pyspark.sql import Row

from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.streaming.upkeep import KEPT_LOG
from deltabook.jobs.tables.published import open_table
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.fingerprints import first_text_of, values_of
from deltabook.schemas.names import NOT_GIVEN, Writing
from deltabook.schemas.tables import BOOKS, INSTRUMENTS, QUARANTINE, both
from deltabook.udfs.streaming.book_states import STATES
from deltabook.udfs.streaming.live_books import Told
from deltabook.udfs.streaming.stream_source import START, Offset

_APPLICATION = "deltabook live"
_TABLES = (QUARANTINE, *both(BOOKS)[::-1])
"""In the order of their commits: the last one decides."""


class LiveCommits:
    """The last micro-batch that is in, and the next one's way in.

    Parameters
    ----------
    tables : Warehouse
        Those of the folder `live`; nobody else writes them.
    source : str
        Name of the source that is followed.
    chunk : int
        Length of a chunk, ns.
    writing : Writing
        Which rows of books are written.

    Attributes
    ----------
    batch : int
        Number of the last micro-batch that is in; -1 if none is.
    offset : Offset
        Where it ended.
    clock : int
        When the last message of all was received, ns; -1 if there was none.
    symbols : dict
        What is kept of each, by exchange and symbol.

    Raises
    ------
    SettingsError
        If the tables were begun with other settings.
    """

    def __init__(self, tables: Warehouse, source: str, chunk: int, writing: Writing):
        self.tables = tables
        self.begun_with = {"source": source, "chunk_ns": chunk} | values_of(writing)
        self._first_text = f"{source}, chunk {chunk}, {first_text_of(writing)}"
        self.batch, self.clock = NOT_GIVEN, NOT_GIVEN
        self.offset: Offset = START
        self.symbols: dict[tuple[str, str], Told] = {}
        if not tables.exists(BOOKS):
            tables.add(BOOKS, (), properties=_of(NOT_GIVEN))
            open_table(tables.root, BOOKS).alter.set_table_properties(KEPT_LOG)
        if (batch := self._committed(BOOKS)) != NOT_GIVEN:
            self._read(batch)
        self._sweep()

    def commit(self, batch: int, offset: Offset, found: list[Row]) -> None:
        """Take in what a micro-batch has made.

        Parameters
        ----------
        batch : int
            Its number.
        offset : Offset
            Where it ends.
        found : list of Row
            Rows of `carried`.
        """
        told = {(row.exchange, row.symbol): json.loads(row.told) for row in found if row.told}
        before, symbols = self.symbols, self.symbols | told
        clock = max([self.clock, *(one["clock"] for one in told.values())])
        self._write(batch, offset, clock, symbols)
        if (instruments := _instruments(symbols)) != _instruments(before):
            self.tables.overwrite(INSTRUMENTS, instruments)
        for table in _TABLES:
            is_due = table is BOOKS or any(row.table == table.name for row in found)
            if is_due and not (self.tables.exists(table) and self._committed(table) >= batch):
                self.tables.add(table, found, properties=_of(batch))
        old, self.batch, self.offset, self.clock, self.symbols = self.batch, batch, offset, clock, symbols
        for key in told.keys() & before.keys():
            (self._states / before[key]["state"]).unlink(missing_ok=True)
        self._manifest(old).unlink(missing_ok=True)

    def _write(self, batch: int, offset: Offset, clock: int, symbols: dict[tuple[str, str], Told]) -> None:
        named = {" ".join(key): told for key, told in symbols.items()}
        kept = {"begun_with": self.begun_with, "offset": offset, "clock": clock, "symbols": named}
        self._states.mkdir(exist_ok=True)
        partial = self._manifest(batch).with_suffix(".partial")
        partial.write_text(json.dumps(kept))
        with crash_points("write", STATES):
            partial.replace(self._manifest(batch))

    def _read(self, batch: int) -> None:
        kept: dict[str, Any] = json.loads(self._manifest(batch).read_text())
        begun_with = kept.get("begun_with", kept.get("begun_as"))
        if begun_with not in (self.begun_with, self._first_text):
            raise SettingsError(
                f"live books of {self.tables.root} were begun with {begun_with}, not with "
                f"{self.begun_with}: use the same settings, or remove that folder and begin anew"
            )
        self.batch, self.offset, self.clock = batch, kept["offset"], kept["clock"]
        for name, told in kept["symbols"].items():
            exchange, symbol = name.split(" ")
            self.symbols[exchange, symbol] = told

    def _sweep(self) -> None:
        """Remove the states and data files of a micro-batch that never came in."""
        needed = {told["state"] for told in self.symbols.values()} | {self._manifest(self.batch).name}
        for path in self._states.glob("*"):
            if path.name not in needed:
                path.unlink()
        for table in _TABLES:
            if self.tables.exists(table):
                named = {uri.rsplit("/", 1)[-1] for uri in open_table(self.tables.root, table).file_uris()}
                for path in (self.tables.root / table.name).rglob("part-*.parquet"):
                    if path.name not in named:
                        path.unlink()

    def _committed(self, table: Table) -> int:
        found = open_table(self.tables.root, table).transaction_version(_APPLICATION)
        return NOT_GIVEN if found is None else found

    @property
    def _states(self) -> Path:
        return self.tables.root / STATES

    def _manifest(self, batch: int) -> Path:
        return self._states / f"{batch}.json"


def _of(batch: int) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(_APPLICATION, batch)])


def _instruments(symbols: dict[tuple[str, str], Told]) -> list[dict[str, Any]]:
    return [symbols[key]["instrument"] for key in sorted(symbols)]
