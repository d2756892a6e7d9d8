"""Commit each micro-batch of a live feed exactly once, and find the last committed micro-batch.

A state file has everything that is needed to continue one symbol's book. Micro-batch N is committed in this
order:

1. Workers write data files and state files. No reader sees these files yet.
2. The driver writes the list of state files, `states/N.json`.
3. The driver commits the table `quarantine`, which has the unreadable lines.
4. The driver commits the rows of `books`, and stores the number N in this commit.

The commit of `books` decides. If the process stops before this commit, micro-batch N is repeated from the
states of micro-batch N - 1. If the process stops after this commit, micro-batch N is complete. If Spark then
offers micro-batch N again, the job skips this micro-batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from deltalake import CommitProperties
from deltalake.transaction import Transaction
from pyspark.sql import Row

from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.streaming.upkeep import LOG_RETENTION
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.fingerprints import values_of
from deltabook.schemas.names import NOT_GIVEN, RowPolicy
from deltabook.schemas.rows import CarriedRow, InstrumentRow
from deltabook.schemas.tables import BOOKS, INSTRUMENTS, QUARANTINE, both
from deltabook.udfs.streaming.book_states import STATES
from deltabook.udfs.streaming.live_books import SymbolState
from deltabook.udfs.streaming.stream_source import START, Offset

_APPLICATION = "deltabook live"
"""Name under which a Delta commit stores the number of its micro-batch."""
_TABLES = (QUARANTINE, *both(BOOKS)[::-1])
"""The tables of a micro-batch, in the order of their commits. The last commit completes the micro-batch."""

SymbolStates = dict[tuple[str, str], SymbolState]
"""Maps (exchange, symbol) to the state from which the next micro-batch continues this instrument's book."""


class _StateList(TypedDict):
    """Content of the file `states/N.json`.

    `begun_with` has the settings with which the live tables were created. `begun_as` is the earlier name of
    `begun_with`.
    """

    begun_with: NotRequired[dict[str, object] | str]
    begun_as: NotRequired[dict[str, object] | str]
    offset: Offset
    clock: int
    symbols: dict[str, SymbolState]


class LiveCommits:
    """The last committed micro-batch of a live feed, and the method that commits the next one.

    Parameters
    ----------
    tables : Warehouse
        The tables in the folder `live`. The caller must be the only writer of these tables.
    source : str
        Name of the source that parses the feed.
    chunk : int
        Length of a chunk, ns.
    policy : RowPolicy
        Settings that say which rows of books are written.

    Attributes
    ----------
    batch : int
        Number of the last committed micro-batch; NOT_GIVEN if there is none.
    offset : Offset
        Position in the feed at which the last committed micro-batch ended.
    clock : int
        Latest receive time of all messages, ns since 1970 UTC; NOT_GIVEN if there was no message.
    symbols : dict
        Maps (exchange, symbol) to the state from which the next micro-batch continues this instrument's book.

    Raises
    ------
    SettingsError
        If the tables were created with other settings.
    """

    def __init__(self, tables: Warehouse, source: str, chunk: int, policy: RowPolicy):
        self.tables = tables
        self._begun_with = {"source": source, "chunk_ns": chunk} | values_of(policy)
        self.batch, self.clock = NOT_GIVEN, NOT_GIVEN
        self.offset: Offset = START
        self.symbols: SymbolStates = {}
        if not tables.exists(BOOKS):
            tables.add(BOOKS, (), properties=_mark_batch(NOT_GIVEN))
            open_table(tables.root, BOOKS).alter.set_table_properties(LOG_RETENTION)
        if (batch := self._read_committed_batch(BOOKS)) != NOT_GIVEN:
            self._read_state_list(batch)
        self._remove_uncommitted_files()

    def commit(self, batch: int, offset: Offset, results: Sequence[Row]) -> None:
        """Commit the data files and states that the workers of a micro-batch have written.

        Parameters
        ----------
        batch : int
            Number of the micro-batch.
        offset : Offset
            Position in the feed at which the micro-batch ends.
        results : sequence of Row
            Rows that the workers returned, with the columns of `schemas.frames.CARRIED`.
        """
        rows = [CarriedRow._make(row) for row in results]
        updated: SymbolStates = {
            (row.exchange, row.symbol): json.loads(row.symbol_state) for row in rows if row.symbol_state
        }
        before, symbols = self.symbols, self.symbols | updated
        clock = max([self.clock, *(state["clock"] for state in updated.values())])
        self._write_state_list(batch, offset, clock, symbols)
        if (instruments := _list_instruments(symbols)) != _list_instruments(before):
            self.tables.overwrite(INSTRUMENTS, instruments)
        for table in _TABLES:
            is_due = table is BOOKS or any(row.table == table.name for row in rows)
            if is_due and not (self.tables.exists(table) and self._read_committed_batch(table) >= batch):
                self.tables.add(table, results, properties=_mark_batch(batch))
        old_batch = self.batch
        self.batch, self.offset, self.clock, self.symbols = batch, offset, clock, symbols
        for key in updated.keys() & before.keys():
            (self._states / before[key]["state"]).unlink(missing_ok=True)
        self._get_state_list(old_batch).unlink(missing_ok=True)

    def _write_state_list(self, batch: int, offset: Offset, clock: int, symbols: SymbolStates) -> None:
        """Write the list of a micro-batch's states atomically: write a partial file, then rename it."""
        named = {" ".join(key): state for key, state in symbols.items()}
        values: _StateList = {
            "begun_with": self._begun_with,
            "offset": offset,
            "clock": clock,
            "symbols": named,
        }
        self._states.mkdir(exist_ok=True)
        partial = self._get_state_list(batch).with_suffix(".partial")
        partial.write_text(json.dumps(values))
        with crash_points("write", STATES):
            partial.replace(self._get_state_list(batch))

    def _read_state_list(self, batch: int) -> None:
        """Load the offset, the clock and the states from which the micro-batch after `batch` continues."""
        values: _StateList = json.loads(self._get_state_list(batch).read_text())
        if values["begun_with"] != self._begun_with:
            raise SettingsError(
                f"live books of {self.tables.root} were created with {values['begun_with']}, not with "
                f"{self._begun_with}: use the same settings, or remove that folder to start over"
            )
        self.batch, self.offset, self.clock = batch, values["offset"], values["clock"]
        for name, state in values["symbols"].items():
            exchange, symbol = name.split(" ")
            self.symbols[exchange, symbol] = state

    def _remove_uncommitted_files(self) -> None:
        """Remove state files and data files that do not belong to a committed micro-batch."""
        needed = {state["state"] for state in self.symbols.values()} | {self._get_state_list(self.batch).name}
        for path in self._states.glob("*"):
            if path.name not in needed:
                path.unlink()
        for table in _TABLES:
            if self.tables.exists(table):
                uris = open_table(self.tables.root, table).file_uris()
                committed = {uri.rsplit("/", 1)[-1] for uri in uris}
                for path in (self.tables.root / table.name).rglob("part-*.parquet"):
                    if path.name not in committed:
                        path.unlink()

    def _read_committed_batch(self, table: Table) -> int:
        """Return the number of the last micro-batch in a table's Delta log; NOT_GIVEN if the log has none."""
        batch = open_table(self.tables.root, table).transaction_version(_APPLICATION)
        return NOT_GIVEN if batch is None else batch

    @property
    def _states(self) -> Path:
        """Folder of the state files and of the lists of state files."""
        return self.tables.root / STATES

    def _get_state_list(self, batch: int) -> Path:
        """Return the path of the list of state files of a micro-batch."""
        return self._states / f"{batch}.json"


def _mark_batch(batch: int) -> CommitProperties:
    """Return the commit properties that store the number of a micro-batch in a Delta commit."""
    return CommitProperties(app_transactions=[Transaction(_APPLICATION, batch)])


def _list_instruments(symbols: Mapping[tuple[str, str], SymbolState]) -> list[InstrumentRow]:
    """Return the rows of the table `instruments` for all symbols, sorted by exchange and symbol."""
    return [symbols[key]["instrument"] for key in sorted(symbols)]
