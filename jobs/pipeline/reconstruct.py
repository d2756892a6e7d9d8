"""The job `reconstruct`: events into books, checkpoints and gaps.

An hour is built again if its events or the settings changed since the published build; with it the
hours after it, until one opens as its stored books did. Either a symbol's group goes through its
hours and writes everything, or it only chains them, keeping what passes from one to the next, and
every hour is then replayed from its checkpoint, in parallel: whichever keeps the cores busier. Both
yield the same. Measured on 8 M level changes an hour of one symbol, on two cores: an hour takes 0.7 s (1.2 s
of work), its chain 0.44 s. That books compose (the last size at a price holds, whatever was before) would let
the chain be split too, at 0.28 s an hour: on two cores no gain over going through once, and the trades since
a row and what a checksum proves do not compose.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import Any

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.intake.instruments import Instrument
from deltabook.jobs.pipeline.vendor_seeds import NO_SEED, find_seeds
from deltabook.jobs.tables.stored import KEYS, Slice
from deltabook.jobs.warehouse.tasks import Work, bytes_read
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import SCALES
from deltabook.schemas.fingerprints import Fingerprint, first_text_of, values_of
from deltabook.schemas.frames import HOUR_REFERENCES, REBUILT
from deltabook.schemas.names import DAY, NOT_GIVEN, STATUS_LABELS, GapKind, Seed
from deltabook.schemas.tables import (
    BOOKS,
    CHECKPOINTS,
    CHECKS,
    COVERAGE,
    EVENTS,
    GAPS,
    GRIDS,
    INSTRUMENTS,
    SCHEMA_VERSION,
    both,
)
from deltabook.udfs.spark.rebuild_groups import rebuild_groups
from deltabook.udfs.storage.arrow_frames import Group

_OF_INSTRUMENT = ("feed", *(column.name for column in SCALES))
_NEVER_ENDED = tuple(kind.label for kind in (GapKind.TRADE_GAP, GapKind.CLOCK_JUMP, GapKind.SILENCE))
_BOOKS = (*both(BOOKS), *both(GRIDS))
_BY_HOUR = (GAPS, CHECKS, COVERAGE)
_CHECKPOINTS = tuple(table.name for table in both(CHECKPOINTS))


_CHAINING = 0.5
"""Cost of chaining an hour, against going through it."""
_BESIDE_IDLE = 0.6
"""Cost of an hour beside an idle core, against a busy one: files are read and written in second threads."""


@dataclass
class _Plan:
    """What is rebuilt of one symbol: hours to chain, those of them that have changed, and what opens them.

    The first hour opens from its stored checkpoint if `from_checkpoint`, else from nothing. Hours before
    `first_changed` are chained only to meet their gaps again.
    """

    chained: list[int]
    changed: set[int]
    from_checkpoint: bool

    @property
    def first_changed(self) -> int:
        return min(self.changed)


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
    known = Known.of(warehouse)
    built = {
        (row["exchange"], row["symbol"], row["hour"]): row["fingerprint"]
        for table in both(CHECKPOINTS)
        for row in warehouse.rows(table, *KEYS, "fingerprint")
    }
    vanished = [key for key in built if key not in known.prints]
    plans = _plan(known.prints, built, _book_gaps(warehouse))
    for table in (*_BY_HOUR, *both(CHECKPOINTS), *_BOOKS) if vanished else ():
        warehouse.delete(table, warehouse.predicate(vanished))
    rebuilt = _rebuild(warehouse, plans, known, built, progress) if plans else []
    statuses = sum((warehouse.counts(table, "status") for table in both(BOOKS)), Counter[str]())
    gaps = warehouse.rows(GAPS, "kind")
    return {
        "symbol_hours": len(known.files),
        "symbol_hours_rebuilt": len(rebuilt),
        "book_rows": dict(sorted(statuses.items())),
        "gaps": len(gaps),
        "gaps_by_kind": dict(sorted(Counter(row["kind"] for row in gaps).items())),
        "coverage": _shares(warehouse),
        "reconstruct_seconds": round(time.monotonic() - started, 2),
    }


def _shares(warehouse: Warehouse) -> dict[str, float]:
    """Return the share of all recorded time that books had each status, or that feeds were silent."""
    names = [name for name in COVERAGE.names if name in (*STATUS_LABELS, "silent")]
    rows = warehouse.rows(COVERAGE, *names)
    totals = {name: sum(row[name] for row in rows) for name in names}
    whole = sum(totals.values())
    return {name: time / whole for name, time in totals.items() if time}


def _fingerprint(warehouse: Warehouse, files: list[str], seed: dict[str, Any] | None) -> Fingerprint:
    """Name what an hour's books are built from; data files never change, so their names are enough."""
    writing, names = warehouse.settings.writing, [file.rsplit("/", 1)[-1] for file in files]
    values = {"schema": SCHEMA_VERSION, "settings": values_of(writing), "seed": seed, "files": names}
    return Fingerprint.of("books", values, [SCHEMA_VERSION, first_text_of(writing), str(seed), *names])


def _book_gaps(warehouse: Warehouse) -> dict[Instrument, list[tuple[int, int]]]:
    """List (hour, time of its resolution or NOT_GIVEN) of every gap that a snapshot can end."""
    gaps: dict[Instrument, list[tuple[int, int]]] = defaultdict(list)
    for row in warehouse.rows(GAPS, *KEYS, "kind", "resolved_time"):
        if row["kind"] not in _NEVER_ENDED:
            gaps[row["exchange"], row["symbol"]].append((row["hour"], row["resolved_time"]))
    return gaps


def _plan(
    prints: dict[Slice, Fingerprint], built: dict[Slice, str], gaps: dict[Instrument, list[tuple[int, int]]]
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
        changed = {hour for hour in found if not prints[*key, hour].fits(built.get((*key, hour)))}
        changed |= {min(after) for one in gone if (after := [hour for hour in found if hour > one])}
        if not changed:
            continue
        # An hour is a range of ids: its events' times may lie a little before it.
        reopened = [
            hour
            for hour, resolved in gaps.get(key, [])
            if resolved == NOT_GIVEN or resolved >= min(changed) - DAY
        ]
        first = min([*changed, *reopened, *gone])
        starts = [hour for hour in found if hour <= first and (*key, hour) in built]
        start = max(starts, default=found[0])
        plans[key] = _Plan([hour for hour in found if hour >= start], changed, bool(starts))
    return plans


@dataclass
class Known:
    """What the tables know of symbol-hours: their files, fingerprints, instruments and seeds."""

    files: dict[Slice, list[str]]
    prints: dict[Slice, Fingerprint]
    instruments: dict[Instrument, dict[str, Any]]
    seeds: dict[Slice, dict[str, Any]]

    @classmethod
    def of(cls, warehouse: Warehouse) -> Known:
        """Read it."""
        files = warehouse.files_of_both(EVENTS)
        seeds = find_seeds(warehouse) if warehouse.settings.seed is Seed.GOLDEN else {}
        prints = {key: _fingerprint(warehouse, names, seeds.get(key)) for key, names in files.items()}
        instruments = {(row["exchange"], row["symbol"]): row for row in warehouse.rows(INSTRUMENTS)}
        return cls(files, prints, instruments, seeds)

    def costs(self, keys: list[Slice]) -> dict[Slice, int]:
        """Return what rebuilding each symbol-hour costs: about as much as its events have bytes."""
        sizes = bytes_read([{"event_files": self.files[key]} for key in keys], "event_files")
        return dict(zip(keys, sizes, strict=True))

    def references(
        self, keys: list[Slice], checkpoints: dict[Slice, str], told: dict[Slice, dict[str, bool]]
    ) -> list[dict[str, Any]]:
        """Return rows of `hour_references`.

        Parameters
        ----------
        keys : list of (exchange, symbol, hour)
            Which.
        checkpoints : dict
            Data file of the checkpoint that opens each, where there is one.
        told : dict
            What each is: changed, chained, replayed.
        """
        return [
            {
                "exchange": key[0],
                "symbol": key[1],
                "hour": key[2],
                **{name: self.instruments[key[:2]][name] for name in _OF_INSTRUMENT},
                "event_files": self.files[key],
                "checkpoint_file": checkpoints.get(key, ""),
                "fingerprint": self.prints[key].value,
                **self.seeds.get(key, NO_SEED),
                **told[key],
            }
            for key in keys
        ]


def _rebuild(
    warehouse: Warehouse,
    plans: dict[Instrument, _Plan],
    known: Known,
    built: dict[Slice, str],
    progress: Progress,
) -> list[Slice]:
    """Rebuild what is planned; return the symbol-hours whose books were written."""
    rebuild = rebuild_groups(str(warehouse.root), warehouse.written)
    costs = known.costs([(*key, hour) for key, plan in plans.items() for hour in plan.chained])
    at_once = _at_once(plans, costs, warehouse.cores)
    told = {
        (*key, hour): {
            "changed": hour in plan.changed,
            "chained": True,
            "replayed": at_once and hour >= plan.first_changed,
        }
        for key, plan in plans.items()
        for hour in plan.chained
    }
    checkpoints = {
        key: names[0] for key, names in warehouse.files_of_both(CHECKPOINTS).items() if key in built
    }
    for key, plan in plans.items():
        if not plan.from_checkpoint:
            checkpoints.pop((*key, plan.chained[0]), None)
    references = known.references(list(told), checkpoints, told)
    with progress.stage("rebuilding" if at_once else "chaining", "symbols", len(plans)) as show:
        found = warehouse.apply(rebuild_work(references, ("exchange", "symbol"), rebuild, costs), show)
    chained = [(row.exchange, row.symbol, row.hour) for row in found if row.table in _CHECKPOINTS]
    stored = [key for key in chained if key in built]
    for table in both(CHECKPOINTS):
        warehouse.add(table, found, stored)
    for table in _BY_HOUR:
        rows = [row.asDict() for row in found if row.table == table.name]
        warehouse.replace(table, rows, stored)
    replayed = [key for key in chained if key[2] >= plans[key[:2]].first_changed]
    added = found
    if not at_once:
        openings = {key: names[0] for key, names in warehouse.files_of_both(CHECKPOINTS).items()}
        alone = {key: {"changed": False, "chained": False, "replayed": True} for key in replayed}
        references = known.references(replayed, openings, alone)
        with progress.stage("rebuilding", "symbol-hours", len(replayed)) as show:
            added = warehouse.apply(rebuild_work(references, KEYS, rebuild, costs), show)
    for table in _BOOKS:
        warehouse.add(table, added, [key for key in replayed if key in built])
    return replayed


def rebuild_work(
    references: list[dict[str, Any]], keys: Sequence[str], rebuild: Group, costs: dict[Slice, int]
) -> Work:
    """Return the work of rebuilding hours.

    Parameters
    ----------
    references : list of dict
        Rows of `hour_references`.
    keys : sequence of str
        Columns that make a group: a symbol's hours, or one hour.
    rebuild : callable
        As `rebuild_groups` makes it.
    costs : dict
        As `Known.costs` returns them.
    """
    of_references = [costs[row["exchange"], row["symbol"], row["hour"]] for row in references]
    return Work(HOUR_REFERENCES, references, keys, rebuild, REBUILT, of_references)


def _at_once(plans: dict[Instrument, _Plan], costs: dict[Slice, int], cores: int) -> bool:
    """Whether each symbol's hours are better gone through once than chained first and then replayed."""
    by_symbol = [float(sum(costs[*key, hour] for hour in plan.chained)) for key, plan in plans.items()]
    by_hour = [float(cost) for cost in costs.values()]
    through = _longest(by_symbol, cores) * (_BESIDE_IDLE if len(plans) < cores else 1)
    return through <= through * _CHAINING + _longest(by_hour, cores)


def _longest(costs: list[float], cores: int) -> float:
    """Return when the last of these tasks ends, the dearest started first."""
    ends = [0.0] * cores
    for cost in sorted(costs, reverse=True):
        heapreplace(ends, ends[0] + cost)
    return max(ends)
