"""Counts and boundaries taken anew from the data files, and compared with the ledger's."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import cpu_count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.jobs.console.formats import hour_text
from deltabook.jobs.records.active_files import LiveFile
from deltabook.jobs.records.file_faults import Fault
from deltabook.jobs.tables.stored import Slice, Stored
from deltabook.schemas.columns import Table
from deltabook.schemas.names import EventType, GoldenKind
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
from deltabook.udfs.ordering.chunk_boundaries import position
from deltabook.udfs.storage.object_store import opened

_FROM_MESSAGES = (str(GoldenKind.SNAPSHOT), str(GoldenKind.CHECKSUM))
"""Kinds of golden rows that the ledger counts as events."""


@dataclass
class Recount:
    """What data files hold.

    Attributes
    ----------
    rows : dict
        By name of the table of scaled integers: rows by raw file.
    ids : dict
        Least and greatest position of an id, by exchange, symbol, event type and hour.
    hours : dict
        Symbol-hours by name of the table of scaled integers.
    """

    rows: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    ids: dict[tuple[str, str, str, int], tuple[int, int]] = field(default_factory=dict)
    hours: dict[str, set[Slice]] = field(default_factory=lambda: defaultdict(set))


def recount(warehouse: Path, files: list[LiveFile], seen: Callable[[], None]) -> Recount:
    """Count rows anew, in several files at once.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    files : list of LiveFile
        Sound ones.
    seen : callable
        Is called after each file that was read.

    Returns
    -------
    Recount
        What was counted.
    """
    found = Recount()
    reading: dict[str, Callable[[pa.Table, LiveFile, Recount], None]] = {}
    columns: dict[str, list[str]] = {}
    for tables, names, work in (
        (both(EVENTS), ["event_type", "epoch", "sequence", "source_file"], _of_events),
        (both(GOLDEN), ["kind", "source_file"], _of_golden),
        ((QUARANTINE,), ["source_file"], _of_quarantine),
    ):
        for table in tables:
            reading[table.name], columns[table.name] = work, names
    for file in files:
        if file.hours and file.exchange and file.symbol:
            name = file.table.name.removesuffix("_decimal")
            found.hours[name] |= {(file.exchange, file.symbol, hour) for hour in set(file.hours)}
    read = [file for file in files if file.table.name in reading]

    def rows_of(file: LiveFile) -> pa.Table:
        with opened(warehouse / file.table.name / file.path) as stream:
            return pq.read_table(stream, columns=columns[file.table.name])

    with ThreadPoolExecutor(cpu_count()) as pool:
        for file, rows in zip(read, pool.map(rows_of, read), strict=True):
            reading[file.table.name](rows, file, found)
            seen()
    return found


def needs_reading(table: Table) -> bool:
    """Whether rows of a table are read to be counted."""
    return table in (*both(EVENTS), *both(GOLDEN), QUARANTINE)


def _of_events(rows: pa.Table, file: LiveFile, found: Recount) -> None:
    found.rows[EVENTS.name].update(_values(rows["source_file"]))
    assert file.hours is not None
    for kind in EventType:
        stream = rows.filter(pc.equal(rows["event_type"], str(kind)))
        if stream.num_rows:
            key = (str(file.exchange), str(file.symbol), str(kind), file.hours[0])
            ends = (_end(stream, pc.min), _end(stream, pc.max))
            before = found.ids.get(key, ends)
            found.ids[key] = (min(before[0], ends[0]), max(before[1], ends[1]))


def _end(stream: pa.Table, of: Callable[[pa.ChunkedArray], pa.Scalar]) -> int:
    """Return the position of the first or the last id: of the first or last epoch, the least or greatest."""
    epoch = of(stream["epoch"])
    return position(epoch.as_py(), of(stream.filter(pc.equal(stream["epoch"], epoch))["sequence"]).as_py())


def _of_golden(rows: pa.Table, _file: LiveFile, found: Recount) -> None:
    of_files = rows.filter(pc.invert(pc.is_in(rows["kind"], pa.array(_FROM_MESSAGES))))
    found.rows[GOLDEN.name].update(_values(of_files["source_file"]))


def _of_quarantine(rows: pa.Table, _file: LiveFile, found: Recount) -> None:
    found.rows[QUARANTINE.name].update(_values(rows["source_file"]))


def _values(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}


def recount_faults(stored: Stored, found: Recount, is_settled: bool, is_whole: bool) -> Iterator[Fault]:
    """Compare what was counted with the ledger, boundaries of ids, and one table's hours with another's.

    Parameters
    ----------
    stored : Stored
        The published tables, of which the small ones are sound.
    found : Recount
        What data files hold.
    is_settled : bool
        Whether books were rebuilt after the last change of events.
    is_whole : bool
        Whether every data file could be counted.

    Yields
    ------
    Fault
        Each count or boundary that is not the ledger's.
    """
    yield from _ledger_faults(stored.rows(FILES), found, is_whole)
    yield from _id_faults(stored.rows(HOURS), found)
    events = found.hours[EVENTS.name]
    for table in (CHECKPOINTS, BOOKS, GRIDS, COVERAGE) if is_whole else ():
        built = found.hours[table.name]
        lacking = events - built if table is CHECKPOINTS else set()
        if is_settled and lacking:
            yield Fault(table.name, "", "symbol-hours of events have no books", _named(lacking))
        if is_settled and built - events:
            yield Fault(table.name, "", "its symbol-hours have no events", _named(built - events))


def _ledger_faults(ledger: list[dict[str, Any]], found: Recount, is_whole: bool) -> Iterator[Fault]:
    known = {row["path"]: row for row in ledger if row["state"] == "ingested"}
    for table in (EVENTS, GOLDEN, QUARANTINE):
        for path in sorted(found.rows[table.name].keys() - known.keys() if table is not QUARANTINE else ()):
            yield Fault(table.name, "", f"rows of {path}, which the ledger does not know")
    for path, row in known.items():
        events, golden, quarantined = (found.rows[table.name][path] for table in (EVENTS, GOLDEN, QUARANTINE))
        more = quarantined - row["quarantined"]  # numbers that the scales do not hold
        for name, told, least in (
            ("events", events, 0),
            ("golden", golden, row["golden"] if more == 0 and is_whole else 0),
            ("quarantine", quarantined, row["quarantined"] if is_whole else 0),
        ):
            most = told if name == "quarantine" else row[name]
            if not least <= told <= most:
                ledger_tells = row["quarantined" if name == "quarantine" else name]
                yield Fault(name, "", f"{told:,} rows of {path}, where the ledger has {ledger_tells:,}")


def _id_faults(hours: list[dict[str, Any]], found: Recount) -> Iterator[Fault]:
    ranges = {
        (row["exchange"], row["symbol"], row["event_type"], row["hour"]): tuple(
            position(row[f"{end}_epoch"], row[f"{end}_sequence"]) for end in ("first", "last")
        )
        for row in hours
    }
    for key, (first, last) in sorted(found.ids.items()):
        named = (f"{key[0]} {key[1]} {hour_text(key[3])}",)
        if key not in ranges:
            yield Fault(HOURS.name, "", f"no boundaries of the {key[2]} ids", named)
        elif not ranges[key][0] <= first <= last <= ranges[key][1]:
            yield Fault(HOURS.name, "", f"{key[2]} ids lie outside the boundaries", named)


def _named(keys: set[Slice]) -> tuple[str, ...]:
    return tuple(f"{exchange} {symbol} {hour_text(hour)}" for exchange, symbol, hour in sorted(keys))
