"""The job `reconstruct`: turn events into books, checkpoints and gaps.

A chunk is a range of ids, one hour by default. A checkpoint is the full book before a chunk's first event.
A chunk is rebuilt if its events or the settings have changed since its books were published. The chunks after
a changed chunk are rebuilt too, up to the first chunk whose opening book is unchanged.

The job can rebuild in two ways, with the same result:

- Single pass: one task for each instrument goes through its chunks in order and writes everything.
- Chain, then replay: one task for each instrument goes through its chunks in order and writes only
  checkpoints, gaps and checks. Then parallel tasks write the books, each of one chunk, from its checkpoint.

The job chooses the way that `is_single_pass_faster` estimates to be faster.

Measured with chunks of 8 M level changes of one symbol, on two cores: a single pass takes 0.7 s a chunk
(1.2 s of work), and chaining takes 0.44 s. Chaining itself is not split into parallel tasks. A split is
possible, because the last size at a price does not depend on earlier sizes, and takes 0.28 s a chunk. But on
two cores it is not faster than a single pass. It also cannot compute two results that depend on earlier
events: the trades since the previous row, and the levels that checksums have proven.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.intake.instruments import Instrument, get_scales, read_instruments
from deltabook.jobs.pipeline.rebuild_plan import (
    RebuildPlan,
    is_single_pass_faster,
    plan_rebuild,
    read_book_gaps,
)
from deltabook.jobs.pipeline.summary import JobSummary
from deltabook.jobs.pipeline.vendor_files import NO_VENDOR, find_vendor_files
from deltabook.jobs.tables.stored import CHUNK_KEY_COLUMNS, ChunkKey, TableReader
from deltabook.jobs.warehouse.tasks import GroupedWork, sum_file_sizes
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.fingerprints import make_fingerprint, values_of
from deltabook.schemas.frames import REBUILD_REFERENCES, REBUILT
from deltabook.schemas.names import STATUS_LABELS, Seed
from deltabook.schemas.rows import InstrumentRow, RebuildReference, RebuiltRow, VendorFields
from deltabook.schemas.tables import (
    BOOKS,
    CHECKPOINTS,
    CHECKS,
    COVERAGE,
    EVENTS,
    GAPS,
    GRIDS,
    SCHEMA_VERSION,
    both,
)
from deltabook.udfs.spark.rebuild_groups import rebuild_groups
from deltabook.udfs.storage.arrow_frames import GroupFunction

_BOOK_TABLES = (*both(BOOKS), *both(GRIDS))
_CHAIN_TABLES = (GAPS, CHECKS, COVERAGE)
"""Tables that a task writes while it goes through the chunks of an instrument, besides the checkpoints."""
_CHECKPOINT_NAMES = tuple(table.name for table in both(CHECKPOINTS))


class RebuildSteps(NamedTuple):
    """The tables that a worker writes for one chunk.

    Attributes
    ----------
    changed : bool
        Whether the chunk's events or settings have changed. Its stored books are then no longer valid.
    chained : bool
        Whether to write the chunk's checkpoint, gaps, checks and coverage.
    replayed : bool
        Whether to write the chunk's books.
    """

    changed: bool
    chained: bool
    replayed: bool


@dataclass(frozen=True)
class RebuildInputs:
    """Data files, fingerprints, instruments and vendor books from which the chunks are rebuilt.

    Attributes
    ----------
    files : dict
        Data files of `events` by (exchange, symbol, chunk), in order.
    fingerprints : dict
        Fingerprint of each chunk's inputs (data files, settings and vendor books), by (exchange, symbol,
        chunk).
    instruments : dict
        Rows of `instruments` by (exchange, symbol).
    vendor : dict
        Where the vendor books of each chunk are, as columns of `rebuild_references`, by (exchange, symbol,
        chunk).
    """

    files: dict[ChunkKey, list[str]]
    fingerprints: dict[ChunkKey, str]
    instruments: dict[Instrument, InstrumentRow]
    vendor: dict[ChunkKey, VendorFields]

    @classmethod
    def read(cls, warehouse: Warehouse) -> RebuildInputs:
        """Read the inputs of every chunk from a warehouse's tables and return them.

        Parameters
        ----------
        warehouse : Warehouse
            The warehouse to read. Its setting `seed` says whether a chunk may start from a vendor's book.
        """
        files = warehouse.files_of_both(EVENTS)
        vendor = find_vendor_files(warehouse) if warehouse.settings.seed is not Seed.NONE else {}
        fingerprints = {
            key: _make_fingerprint(warehouse, names, vendor.get(key)) for key, names in files.items()
        }
        return cls(files, fingerprints, read_instruments(warehouse), vendor)

    def estimate_costs(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, int]:
        """Return the estimated cost of rebuilding each chunk: the size of its event files in bytes.

        Parameters
        ----------
        keys : sequence of (exchange, symbol, chunk)
            The chunks to estimate.

        Returns
        -------
        dict
            Costs in bytes by (exchange, symbol, chunk).
        """
        sizes = sum_file_sizes([{"event_files": self.files[key]} for key in keys], "event_files")
        return dict(zip(keys, sizes, strict=True))

    def make_references(
        self, steps: Mapping[ChunkKey, RebuildSteps], checkpoints: Mapping[ChunkKey, str]
    ) -> list[RebuildReference]:
        """Return one row of `rebuild_references` for each chunk, from which a worker rebuilds the chunk.

        Parameters
        ----------
        steps : mapping
            Steps of each chunk to rebuild, by (exchange, symbol, chunk). The returned rows have the same
            order.
        checkpoints : mapping
            Data file of `checkpoints` by (exchange, symbol, chunk). A chunk that is missing here starts with
            an empty book.

        Returns
        -------
        list of RebuildReference
            One row for each chunk of `steps`.
        """
        return [self._make_reference(key, steps[key], checkpoints.get(key, "")) for key in steps]

    def _make_reference(self, key: ChunkKey, steps: RebuildSteps, checkpoint: str) -> RebuildReference:
        exchange, symbol, chunk = key
        instrument = self.instruments[exchange, symbol]
        return {
            "exchange": exchange,
            "symbol": symbol,
            "hour": chunk,
            "feed": instrument["feed"],
            **get_scales(instrument),
            "event_files": self.files[key],
            "checkpoint_file": checkpoint,
            "fingerprint": self.fingerprints[key],
            **self.vendor.get(key, NO_VENDOR),
            "changed": steps.changed,
            "chained": steps.chained,
            "replayed": steps.replayed,
        }


def reconstruct(warehouse: Warehouse, progress: Progress) -> JobSummary:
    """Rebuild the books whose events or settings have changed, and return counts of the warehouse's books.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse. The caller holds its lock.
    progress : Progress
        The display that shows the progress of each step.

    Returns
    -------
    JobSummary
        Counts of chunks (`symbol_hours`), of rows of books by status and of gaps by kind; the share of
        recorded time by status; the duration in seconds.
    """
    started = time.monotonic()
    inputs = RebuildInputs.read(warehouse)
    built = {
        (row["exchange"], row["symbol"], row["hour"]): row["fingerprint"]
        for table in both(CHECKPOINTS)
        for row in warehouse.rows(table, *CHUNK_KEY_COLUMNS, "fingerprint")
    }
    plans = plan_rebuild(inputs.fingerprints, built, read_book_gaps(warehouse))
    if removed := [key for key in built if key not in inputs.fingerprints]:
        for table in (*_CHAIN_TABLES, *both(CHECKPOINTS), *_BOOK_TABLES):
            warehouse.delete(table, warehouse.predicate(removed))
    rebuilt = _rebuild(warehouse, plans, inputs, built, progress) if plans else []
    statuses = sum((warehouse.counts(table, "status") for table in both(BOOKS)), Counter[str]())
    gaps = warehouse.rows(GAPS, "kind")
    return {
        "symbol_hours": len(inputs.files),
        "symbol_hours_rebuilt": len(rebuilt),
        "book_rows": dict(sorted(statuses.items())),
        "gaps": len(gaps),
        "gaps_by_kind": dict(sorted(Counter(row["kind"] for row in gaps).items())),
        "coverage": _compute_coverage(warehouse),
        "reconstruct_seconds": round(time.monotonic() - started, 2),
    }


def make_rebuild_work(
    references: Sequence[RebuildReference],
    keys: Sequence[str],
    rebuild: GroupFunction,
    costs: Mapping[ChunkKey, int],
) -> GroupedWork:
    """Return a description of the Spark work that rebuilds chunks, for `Warehouse.apply`.

    Parameters
    ----------
    references : sequence of RebuildReference
        The chunks to rebuild.
    keys : sequence of str
        Columns that decide which chunks one call of `rebuild` gets. With exchange and symbol, one call gets
        all chunks of an instrument; with exchange, symbol and hour, one chunk.
    rebuild : callable
        Function that rebuilds the chunks of one call, from `rebuild_groups`.
    costs : mapping
        Cost of each chunk in bytes, from `RebuildInputs.estimate_costs`.

    Returns
    -------
    GroupedWork
        The work. Its results are rows of the frame `rebuilt`.
    """
    costs_in_order = [costs[row["exchange"], row["symbol"], row["hour"]] for row in references]
    return GroupedWork(REBUILD_REFERENCES, references, keys, rebuild, REBUILT, costs_in_order)


def _compute_coverage(tables: TableReader) -> dict[str, float]:
    """Return the share of the recorded time, from 0 to 1, that books had each status.

    The key `silent` has the share of time without book updates, which has no status.
    """
    names = [name for name in COVERAGE.names if name in (*STATUS_LABELS, "silent")]
    rows = tables.rows(COVERAGE, *names)
    totals = {name: sum(row[name] for row in rows) for name in names}
    whole = sum(totals.values())
    return {name: time / whole for name, time in totals.items() if time}


def _make_fingerprint(warehouse: Warehouse, files: Sequence[str], vendor: VendorFields | None) -> str:
    """Return the fingerprint of a chunk's inputs.

    The fingerprint holds the names of data files, not their content, because data files never change.
    """
    policy, names = warehouse.settings.row_policy, [file.rsplit("/", 1)[-1] for file in files]
    vendor_names = [file.rsplit("/", 1)[-1] for file in vendor["vendor_files"]] if vendor else []
    values = {"schema": SCHEMA_VERSION, "settings": values_of(policy), "files": names}
    values |= {"vendor_files": vendor_names}
    return make_fingerprint("books", values)


def _rebuild(
    warehouse: Warehouse,
    plans: Mapping[Instrument, RebuildPlan],
    inputs: RebuildInputs,
    built: Mapping[ChunkKey, str],
    progress: Progress,
) -> list[ChunkKey]:
    """Rebuild the planned chunks, store the results, and return the chunks whose books were written."""
    rebuild = rebuild_groups(str(warehouse.root), warehouse.row_policy)
    costs = inputs.estimate_costs([(*key, chunk) for key, plan in plans.items() for chunk in plan.chained])
    in_single_pass = is_single_pass_faster(plans, costs, warehouse.cores)
    steps = {
        (*key, chunk): RebuildSteps(
            changed=chunk in plan.changed,
            chained=True,
            replayed=in_single_pass and chunk >= plan.first_changed,
        )
        for key, plan in plans.items()
        for chunk in plan.chained
    }
    references = inputs.make_references(steps, _find_checkpoints(warehouse, plans, built))
    work = make_rebuild_work(references, ("exchange", "symbol"), rebuild, costs)
    with progress.stage("rebuilding" if in_single_pass else "chaining", "symbols", len(plans)) as show:
        results = warehouse.apply(work, show)
    rows = [RebuiltRow._make(row) for row in results]
    chained = [(row.exchange, row.symbol, row.hour) for row in rows if row.table in _CHECKPOINT_NAMES]
    stored = [key for key in chained if key in built]
    for table in both(CHECKPOINTS):
        warehouse.add(table, results, stored)
    for table in _CHAIN_TABLES:
        warehouse.replace(table, [row._asdict() for row in rows if row.table == table.name], stored)
    replayed = [key for key in chained if key[2] >= plans[key[:2]].first_changed]
    if not in_single_pass:
        checkpoints = {key: names[0] for key, names in warehouse.files_of_both(CHECKPOINTS).items()}
        only_replay = dict.fromkeys(replayed, RebuildSteps(changed=False, chained=False, replayed=True))
        references = inputs.make_references(only_replay, checkpoints)
        work = make_rebuild_work(references, CHUNK_KEY_COLUMNS, rebuild, costs)
        with progress.stage("rebuilding", "chunks", len(replayed)) as show:
            results = warehouse.apply(work, show)
    for table in _BOOK_TABLES:
        warehouse.add(table, results, [key for key in replayed if key in built])
    return replayed


def _find_checkpoints(
    warehouse: Warehouse, plans: Mapping[Instrument, RebuildPlan], built: Mapping[ChunkKey, str]
) -> dict[ChunkKey, str]:
    """Return, for each chunk that was built before, the data file with the checkpoint at its start.

    If the plan of an instrument does not start from a checkpoint, the first chunk of the plan has no entry.
    """
    files = warehouse.files_of_both(CHECKPOINTS)
    checkpoints = {key: names[0] for key, names in files.items() if key in built}
    for key, plan in plans.items():
        if not plan.from_checkpoint:
            checkpoints.pop((*key, plan.chained[0]), None)
    return checkpoints
