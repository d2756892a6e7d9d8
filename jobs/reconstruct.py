"""The job `reconstruct`: events into books, checkpoints and gaps.

An hour is built again if its events or the settings changed since the published build; with it all
later hours of its symbol. First one task a symbol chains the hours, keeping only what passes from
one to the next; then every hour is replayed from its checkpoint, in parallel.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from deltabook.jobs.instruments import Instrument
from deltabook.jobs.progress import Progress
from deltabook.jobs.seeds import NO_SEED, find_seeds
from deltabook.jobs.warehouse import Slice, Warehouse
from deltabook.schemas.columns import SCALES, Table
from deltabook.schemas.frames import ADDED, CHAINED, HOUR_REFERENCES
from deltabook.schemas.names import HOUR, NOT_GIVEN, GapKind, Seed
from deltabook.schemas.tables import (
    BOOKS,
    CHECKPOINTS,
    CHECKS,
    EVENTS,
    GAPS,
    INSTRUMENTS,
    SCHEMA_VERSION,
    both,
)
from deltabook.udfs.hours import chain_groups, replay_groups

_KEYS = ("exchange", "symbol", "hour")
_OF_INSTRUMENT = ("feed", *(column.name for column in SCALES))
_NEVER_ENDED = (GapKind.TRADE_GAP.label, GapKind.CLOCK_JUMP.label)


@dataclass
class _Plan:
    """What is rebuilt of one symbol: hours to chain, and those of them whose books are written again."""

    chained: list[int]
    replayed: list[int]


def reconstruct(warehouse: Warehouse, progress: Progress) -> dict[str, Any]:
    """Rebuild the books whose events changed.

    Parameters
    ----------
    warehouse : Warehouse
        Is being written.
    progress : Progress
        Where to show what is done.

    Returns
    -------
    dict
        Counts of symbol-hours, rows of books by status, and gaps.
    """
    started = time.monotonic()
    settings = warehouse.settings
    files = _data_files(warehouse, EVENTS)
    instruments = {(row["exchange"], row["symbol"]): row for row in warehouse.rows(INSTRUMENTS)}
    built = {
        (row["exchange"], row["symbol"], row["hour"]): row["fingerprint"]
        for table in both(CHECKPOINTS)
        for row in warehouse.rows(table, *_KEYS, "fingerprint")
    }
    seeds = find_seeds(warehouse) if settings.seed is Seed.GOLDEN else {}
    prints = {key: _fingerprint(warehouse, names, seeds.get(key)) for key, names in files.items()}
    vanished = [key for key in built if key not in prints]
    plans = _plan(prints, built, _book_gaps(warehouse))
    for table in (*both(BOOKS), *both(CHECKPOINTS), GAPS, CHECKS) if vanished else ():
        warehouse.delete(table, warehouse.predicate(vanished))
    replayed = [(*key, hour) for key, plan in plans.items() for hour in plan.replayed]
    if replayed:
        chained = [(*key, hour) for key, plan in plans.items() for hour in plan.chained]
        known = _Known(files, prints, instruments, seeds)
        references = known.references(chained, _openings(warehouse, plans, built))
        _chain(warehouse, plans, references, built, progress)
        openings = _data_files(warehouse, CHECKPOINTS)
        references = known.references(replayed, {key: openings[key][0] for key in replayed})
        replay = replay_groups(str(warehouse.root), settings.depth, settings.cadence)
        with progress.stage("rebuilding", "symbol-hours", len(replayed)):
            added = warehouse.apply(HOUR_REFERENCES, references, _KEYS, replay, ADDED)
        for table in both(BOOKS):
            warehouse.add(table, added, [key for key in replayed if key in built])
    statuses = warehouse.read_both(BOOKS, lambda rows: rows.select("status"))
    counts = statuses.groupBy("status").count().collect()
    return {
        "symbol_hours": len(files),
        "symbol_hours_rebuilt": len(replayed),
        "book_rows": {row.status: row["count"] for row in sorted(counts)},
        "gaps": len(warehouse.rows(GAPS, "hour")),
        "reconstruct_seconds": round(time.monotonic() - started, 2),
    }


def _data_files(warehouse: Warehouse, table: Table) -> dict[Slice, list[str]]:
    """Find the data files of every symbol-hour, of scaled integers or of decimals."""
    files: dict[Slice, list[str]] = {}
    for one in both(table):
        files |= warehouse.data_files(one)
    return dict(sorted(files.items()))


def _fingerprint(warehouse: Warehouse, files: list[str], seed: dict[str, Any] | None) -> str:
    """Name what an hour's books are built from; data files never change, so their names are enough."""
    settings = warehouse.settings
    parts = [
        SCHEMA_VERSION,
        str(settings.depth),
        str(settings.cadence),
        str(seed),
        *(file.rsplit("/", 1)[-1] for file in files),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _book_gaps(warehouse: Warehouse) -> dict[Instrument, list[tuple[int, int]]]:
    """List (hour, time of its resolution or NOT_GIVEN) of every gap that a snapshot can end."""
    gaps: dict[Instrument, list[tuple[int, int]]] = defaultdict(list)
    for row in warehouse.rows(GAPS, *_KEYS, "kind", "resolved_time"):
        if row["kind"] not in _NEVER_ENDED:
            gaps[row["exchange"], row["symbol"]].append((row["hour"], row["resolved_time"]))
    return gaps


def _plan(
    prints: dict[Slice, str], built: dict[Slice, str], gaps: dict[Instrument, list[tuple[int, int]]]
) -> dict[Instrument, _Plan]:
    """Decide what to rebuild: from the first changed hour on, chained from a checkpoint before it.

    The chain starts early enough to meet again every gap that what changed may resolve otherwise.
    """
    hours: dict[Instrument, list[int]] = defaultdict(list)
    for exchange, symbol, hour in sorted(prints):
        hours[exchange, symbol].append(hour)
    plans = {}
    for key, found in hours.items():
        gone = [hour for exchange, symbol, hour in built if (exchange, symbol) == key and hour not in found]
        changed = [
            hour
            for hour in found
            if built.get((*key, hour)) != prints[*key, hour] or (gone and hour > min(gone))
        ]
        if not changed:
            continue
        # An hour is a range of ids: its events' times may lie a little before it.
        reopened = [
            hour
            for hour, resolved in gaps.get(key, [])
            if resolved == NOT_GIVEN or resolved >= changed[0] - HOUR
        ]
        first = min([changed[0], *reopened])
        starts = [hour for hour in found if hour <= first and (*key, hour) in built]
        start = max(starts, default=found[0])
        plans[key] = _Plan(
            [hour for hour in found if hour >= start], [hour for hour in found if hour >= changed[0]]
        )
    return plans


def _openings(
    warehouse: Warehouse, plans: dict[Instrument, _Plan], built: dict[Slice, str]
) -> dict[Slice, str]:
    """Find the checkpoint that each chain starts from; a chain from a symbol's first hour has none."""
    starts = [(*key, plan.chained[0]) for key, plan in plans.items() if (*key, plan.chained[0]) in built]
    if not starts:
        return {}
    files = _data_files(warehouse, CHECKPOINTS)
    return {start: files[start][0] for start in starts}


@dataclass
class _Known:
    """What the tables know of symbol-hours: their files, fingerprints, instruments and seeds."""

    files: dict[Slice, list[str]]
    prints: dict[Slice, str]
    instruments: dict[Instrument, dict[str, Any]]
    seeds: dict[Slice, dict[str, Any]]

    def references(self, keys: list[Slice], checkpoints: dict[Slice, str]) -> list[dict[str, Any]]:
        return [
            {
                "exchange": key[0],
                "symbol": key[1],
                "hour": key[2],
                **{name: self.instruments[key[:2]][name] for name in _OF_INSTRUMENT},
                "event_files": self.files[key],
                "checkpoint_file": checkpoints.get(key, ""),
                "fingerprint": self.prints[key],
                **self.seeds.get(key, NO_SEED),
            }
            for key in keys
        ]


def _chain(
    warehouse: Warehouse,
    plans: dict[Instrument, _Plan],
    references: list[dict[str, Any]],
    built: dict[Slice, str],
    progress: Progress,
) -> None:
    """Write the checkpoints, gaps and checks of the hours to be chained."""
    settings = warehouse.settings
    chain = chain_groups(str(warehouse.root), settings.depth, settings.cadence)
    with progress.stage("chaining", "symbols", len(plans)):
        found = warehouse.apply(HOUR_REFERENCES, references, ("exchange", "symbol"), chain, CHAINED)
    slices = [tuple(reference[name] for name in _KEYS) for reference in references]
    slices = [key for key in slices if key in built]
    for table in both(CHECKPOINTS):
        warehouse.add(table, found, slices)
    for table in (GAPS, CHECKS):
        rows = [row.asDict() for row in found if row.table == table.name]
        warehouse.replace(table, rows, slices)


if __name__ == "__main__":
    from deltabook.jobs.cli import main

    main("reconstruct")
