"""Count rows and find id ranges in data files; compare the results with the ledger and the id boundaries.

The id boundaries are the first and the last id of each chunk of a stream, in the table `hours`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import cpu_count
from pathlib import Path
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.jobs.console.formats import format_chunk
from deltabook.jobs.records.active_files import ActiveFile
from deltabook.jobs.records.file_faults import Fault
from deltabook.jobs.tables.stored import ChunkKey, TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.names import EventType, GoldenKind
from deltabook.schemas.rows import ChunkRow, LedgerRow
from deltabook.schemas.tables import (
    BOOKS,
    CHECKPOINTS,
    COVERAGE,
    EVENTS,
    FILES,
    GOLDEN,
    GRIDS,
    HOURS,
    QUARANTINE,
    both,
)
from deltabook.udfs.ordering.chunk_boundaries import make_position
from deltabook.udfs.storage.object_store import open_input

_MESSAGE_KINDS = (str(GoldenKind.SNAPSHOT), str(GoldenKind.CHECKSUM))
"""Kinds of golden rows that come from messages in `events`. The ledger counts these messages as events."""


class StreamKey(NamedTuple):
    """Key of the events of one stream in one chunk.

    Attributes
    ----------
    exchange, symbol : str
        The instrument.
    event_type : str
        Value of an `EventType`, such as `trade`.
    hour : int
        Start of the chunk, ns since 1970 UTC.
    """

    exchange: str
    symbol: str
    event_type: str
    hour: int


@dataclass
class RowCounts:
    """Rows, ids and chunks in the data files of a warehouse.

    Attributes
    ----------
    rows : dict
        Maps the name of each table to a counter that maps the path of each raw file to its number of rows.
        Rows of a decimal table, such as `events_decimal`, are counted under the name without `_decimal`.
    id_ranges : dict
        Maps each `StreamKey` to the smallest and the largest id position. A position combines the epoch and
        the id; see `udfs.ordering.chunk_boundaries.make_position`.
    chunks : dict
        Maps the name of each table to the set of chunks that have rows. Chunks of a decimal table are listed
        under the name without `_decimal`.
    """

    rows: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    id_ranges: dict[StreamKey, tuple[int, int]] = field(default_factory=dict)
    chunks: dict[str, set[ChunkKey]] = field(default_factory=lambda: defaultdict(set))

    def add_events(self, rows: pa.Table, file: ActiveFile) -> None:
        """Count the rows of one data file of `events`, and widen the id ranges of the streams in the file."""
        self.rows[EVENTS.name].update(_count_values(rows["source_file"]))
        assert file.hours is not None
        for event_type in EventType:
            stream = rows.filter(pc.equal(rows["event_type"], str(event_type)))
            if stream.num_rows:
                key = StreamKey(str(file.exchange), str(file.symbol), str(event_type), file.hours[0])
                least, greatest = _find_end(stream, pc.min), _find_end(stream, pc.max)
                earlier = self.id_ranges.get(key, (least, greatest))
                self.id_ranges[key] = min(earlier[0], least), max(earlier[1], greatest)

    def add_golden(self, rows: pa.Table, _file: ActiveFile) -> None:
        """Count the rows of one data file of `golden`, except rows that come from event messages."""
        own_rows = rows.filter(pc.invert(pc.is_in(rows["kind"], pa.array(_MESSAGE_KINDS))))
        self.rows[GOLDEN.name].update(_count_values(own_rows["source_file"]))

    def add_quarantine(self, rows: pa.Table, _file: ActiveFile) -> None:
        """Count the rows of one data file of `quarantine`."""
        self.rows[QUARANTINE.name].update(_count_values(rows["source_file"]))


def count_rows(warehouse: Path, files: list[ActiveFile], advance: Callable[[], None]) -> RowCounts:
    """Count the rows, ids and chunks in data files, several files in parallel.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    files : list of ActiveFile
        Data files of any tables. All files must be intact.
    advance : callable
        Function without arguments, which is called once after each file that was read.
    """
    counts = RowCounts()
    columns: dict[str, list[str]] = {}
    adders: dict[str, Callable[[pa.Table, ActiveFile], None]] = {}
    for tables, names, add in (
        (both(EVENTS), ["event_type", "epoch", "sequence", "source_file"], counts.add_events),
        (both(GOLDEN), ["kind", "source_file"], counts.add_golden),
        ((QUARANTINE,), ["source_file"], counts.add_quarantine),
    ):
        for table in tables:
            columns[table.name], adders[table.name] = names, add
    for file in files:
        if file.hours and file.exchange and file.symbol:
            name = file.table.name.removesuffix("_decimal")
            counts.chunks[name] |= {(file.exchange, file.symbol, hour) for hour in set(file.hours)}
    counted_files = [file for file in files if file.table.name in columns]

    def read_columns(file: ActiveFile) -> pa.Table:
        with open_input(warehouse / file.table.name / file.path) as stream:
            return pq.read_table(stream, columns=columns[file.table.name])

    with ThreadPoolExecutor(cpu_count()) as pool:
        for file, rows in zip(counted_files, pool.map(read_columns, counted_files), strict=True):
            adders[file.table.name](rows, file)
            advance()
    return counts


def is_counted(table: Table) -> bool:
    """Return whether `count_rows` reads the data files of a table.

    Parameters
    ----------
    table : Table
        The table.
    """
    return table in (*both(EVENTS), *both(GOLDEN), QUARANTINE)


def _find_end(stream: pa.Table, choose: Callable[[pa.ChunkedArray], pa.Scalar]) -> int:
    """Return the smallest id position of a stream if `choose` is `pc.min`, the largest if it is `pc.max`."""
    epoch = choose(stream["epoch"])
    sequence = choose(stream.filter(pc.equal(stream["epoch"], epoch))["sequence"])
    return make_position(epoch.as_py(), sequence.as_py())


def _count_values(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how often each value of a column occurs."""
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}


def find_count_faults(
    stored: TableReader, counts: RowCounts, is_rebuilt: bool, is_complete: bool
) -> Iterator[Fault]:
    """Yield a fault for each row count, id range or set of chunks that does not match the published tables.

    Row counts are compared with the ledger, id ranges with the id boundaries, and the chunks of books with
    the chunks of events.

    Parameters
    ----------
    stored : TableReader
        Reader of the published tables. The ledger and the id boundaries must be intact.
    counts : RowCounts
        Counts of the data files.
    is_rebuilt : bool
        Whether books were rebuilt after the last change of events. If False, chunks are not compared.
    is_complete : bool
        Whether every data file was counted. If False, missing rows are not faults.

    Yields
    ------
    Fault
        Description of one mismatch.
    """
    yield from _find_ledger_faults(cast(list[LedgerRow], stored.rows(FILES)), counts, is_complete)
    yield from _find_id_faults(cast(list[ChunkRow], stored.rows(HOURS)), counts)
    event_chunks = counts.chunks[EVENTS.name]
    for table in (CHECKPOINTS, BOOKS, GRIDS, COVERAGE) if is_complete else ():
        chunks = counts.chunks[table.name]
        missing_chunks = event_chunks - chunks if table is CHECKPOINTS else set()
        if is_rebuilt and missing_chunks:
            yield Fault(table.name, "", "chunks of events have no books", _label_chunks(missing_chunks))
        if is_rebuilt and chunks - event_chunks:
            yield Fault(table.name, "", "chunks have no events", _label_chunks(chunks - event_chunks))


def _find_ledger_faults(ledger: list[LedgerRow], counts: RowCounts, is_complete: bool) -> Iterator[Fault]:
    """Yield a fault for each raw file whose number of rows differs from the ledger."""
    ingested = {row["path"]: row for row in ledger if row["state"] == "ingested"}
    for table in (EVENTS, GOLDEN):
        for path in sorted(counts.rows[table.name].keys() - ingested.keys()):
            yield Fault(table.name, "", f"rows of {path}, which is not in the ledger")
    for path, row in ingested.items():
        events, golden, quarantined = (
            counts.rows[table.name][path] for table in (EVENTS, GOLDEN, QUARANTINE)
        )
        # The ledger counts rows before prices and sizes are scaled. Later, rows whose prices or sizes do not
        # fit the scale move to quarantine. So `quarantine` can have more rows than the ledger states, and
        # `golden` can have fewer.
        has_overflow = quarantined != row["quarantined"]
        least_golden = row["golden"] if is_complete and not has_overflow else 0
        least_quarantined = row["quarantined"] if is_complete else 0
        for name, actual, recorded, is_expected in (
            ("events", events, row["events"], events <= row["events"]),
            ("golden", golden, row["golden"], least_golden <= golden <= row["golden"]),
            ("quarantine", quarantined, row["quarantined"], quarantined >= least_quarantined),
        ):
            if not is_expected:
                yield Fault(name, "", f"{actual:,} rows of {path}, where the ledger has {recorded:,}")


def _find_id_faults(boundaries: list[ChunkRow], counts: RowCounts) -> Iterator[Fault]:
    """Yield a fault for each stream and chunk with ids outside the id boundaries of the chunk."""
    ranges = {
        StreamKey(row["exchange"], row["symbol"], row["event_type"], row["hour"]): (
            make_position(row["first_epoch"], row["first_sequence"]),
            make_position(row["last_epoch"], row["last_sequence"]),
        )
        for row in boundaries
    }
    for key, (first, last) in sorted(counts.id_ranges.items()):
        labels = _label_chunks([(key.exchange, key.symbol, key.hour)])
        if key not in ranges:
            yield Fault(HOURS.name, "", f"no id boundaries for {key.event_type} events", labels)
        elif not ranges[key][0] <= first <= last <= ranges[key][1]:
            yield Fault(
                HOURS.name, "", f"ids of {key.event_type} events lie outside the id boundaries", labels
            )


def _label_chunks(chunks: Iterable[ChunkKey]) -> tuple[str, ...]:
    """Return the names of chunks for messages: exchange, symbol and start of each chunk."""
    return tuple(f"{exchange} {symbol} {format_chunk(start)}" for exchange, symbol, start in sorted(chunks))
