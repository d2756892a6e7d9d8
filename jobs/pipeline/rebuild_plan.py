"""Plan a rebuild: choose the chunks of each instrument to process, and the checkpoint to start from.

A chunk is a range of ids, one hour by default. A checkpoint is the full book before a chunk's first event.
Chaining processes the chunks of an instrument in order and stores the checkpoint of each chunk, but writes no
books. Replaying writes the books of one chunk, starting from the chunk's checkpoint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapreplace

from deltabook.jobs.intake.instruments import Instrument
from deltabook.jobs.tables.stored import CHUNK_KEY_COLUMNS, ChunkKey, TableReader
from deltabook.schemas.names import DAY, NOT_GIVEN, GapKind
from deltabook.schemas.tables import GAPS

_KINDS_WITHOUT_END = tuple(kind.label for kind in (GapKind.TRADE_GAP, GapKind.CLOCK_JUMP, GapKind.SILENCE))
"""Kinds of gaps that no later message can resolve."""
_CHAINING_COST = 0.5
"""Cost of chaining a chunk, as a share of the cost of a single pass, which also writes the chunk's books."""
_IDLE_CORE_COST = 0.6
"""Cost of a chunk while another core is idle, as a share of the chunk's cost while all cores are busy.

Each task reads and writes its files in a second thread, which an idle core can run.
"""


@dataclass(frozen=True)
class BookGap:
    """A stored gap that a later message can resolve.

    Attributes
    ----------
    chunk : int
        Start of the chunk that contains the gap, ns since 1970 UTC.
    resolved_time : int
        Time of the message that resolved the gap, ns since 1970 UTC; `NOT_GIVEN` while the gap is open.
    """

    chunk: int
    resolved_time: int


@dataclass(frozen=True)
class RebuildPlan:
    """The chunks of one instrument that a rebuild processes.

    Attributes
    ----------
    chained : list of int
        Starts of all chunks to process, in order, ns since 1970 UTC. Chunks before `first_changed` are
        included if other messages may now resolve the gaps in these chunks, but the books of these chunks are
        not rewritten.
    changed : set of int
        Starts of the chunks whose events or settings have changed, ns since 1970 UTC.
    from_checkpoint : bool
        Whether the first chunk starts from the stored checkpoint. If false, it starts with an empty book.
    """

    chained: list[int]
    changed: set[int]
    from_checkpoint: bool

    @property
    def first_changed(self) -> int:
        """Start of the first chunk whose books may be rewritten, ns since 1970 UTC."""
        return min(self.changed)


def read_book_gaps(tables: TableReader) -> dict[Instrument, list[BookGap]]:
    """Return the stored gaps of each instrument that a later message can resolve.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.

    Returns
    -------
    dict
        Maps (exchange, symbol) to a list of gaps.
    """
    gaps: dict[Instrument, list[BookGap]] = defaultdict(list)
    for row in tables.rows(GAPS, *CHUNK_KEY_COLUMNS, "kind", "resolved_time"):
        if row["kind"] not in _KINDS_WITHOUT_END:
            gaps[row["exchange"], row["symbol"]].append(BookGap(row["hour"], row["resolved_time"]))
    return gaps


def plan_rebuild(
    fingerprints: Mapping[ChunkKey, str],
    built: Mapping[ChunkKey, str],
    gaps: Mapping[Instrument, list[BookGap]],
) -> dict[Instrument, RebuildPlan]:
    """Return a plan for each instrument that has a changed chunk.

    If events have changed, other messages may now resolve earlier gaps. Therefore the plan starts at a
    checkpoint before all gaps that other messages may resolve.

    Parameters
    ----------
    fingerprints : mapping
        Maps (exchange, symbol, chunk) of each chunk to the fingerprint of its present inputs.
    built : mapping
        Maps (exchange, symbol, chunk) of each chunk that has books to the stored fingerprint. A chunk has
        changed if its two fingerprints differ.
    gaps : mapping
        Maps (exchange, symbol) to gaps; from `read_book_gaps`.

    Returns
    -------
    dict
        Maps (exchange, symbol) to the plan.
    """
    chunks_of_instrument: dict[Instrument, list[int]] = defaultdict(list)
    for exchange, symbol, chunk in sorted(fingerprints):
        chunks_of_instrument[exchange, symbol].append(chunk)
    plans = {}
    for key, chunks in chunks_of_instrument.items():
        removed = [chunk for *built_key, chunk in built if tuple(built_key) == key and chunk not in chunks]
        changed = {chunk for chunk in chunks if fingerprints[*key, chunk] != built.get((*key, chunk))}
        for removed_chunk in removed:
            later = [chunk for chunk in chunks if chunk > removed_chunk]
            changed |= {min(later)} if later else set()
        if not changed:
            continue
        # A chunk is a range of ids, so its events may have times a little before the chunk's start. One day
        # is a safe margin.
        reopened = [
            gap.chunk
            for gap in gaps.get(key, [])
            if gap.resolved_time == NOT_GIVEN or gap.resolved_time >= min(changed) - DAY
        ]
        first = min([*changed, *reopened, *removed])
        with_checkpoint = [chunk for chunk in chunks if chunk <= first and (*key, chunk) in built]
        start = max(with_checkpoint, default=chunks[0])
        chained = [chunk for chunk in chunks if chunk >= start]
        plans[key] = RebuildPlan(chained, changed, bool(with_checkpoint))
    return plans


def is_single_pass_faster(
    plans: Mapping[Instrument, RebuildPlan], costs: Mapping[ChunkKey, int], cores: int
) -> bool:
    """Return whether one pass through each instrument is faster than chaining and then replaying in parallel.

    Parameters
    ----------
    plans : mapping
        Maps (exchange, symbol) to the plan.
    costs : mapping
        Maps (exchange, symbol, chunk) of each planned chunk to its cost, in bytes of events.
    cores : int
        Number of tasks that run at once.

    Returns
    -------
    bool
        True if the estimated end of a single pass is not later than the estimated end of chaining and then
        replaying.
    """
    by_instrument = [float(sum(costs[*key, chunk] for chunk in plan.chained)) for key, plan in plans.items()]
    by_chunk = [float(cost) for cost in costs.values()]
    single_pass = _estimate_end(by_instrument, cores) * (_IDLE_CORE_COST if len(plans) < cores else 1)
    return single_pass <= single_pass * _CHAINING_COST + _estimate_end(by_chunk, cores)


def _estimate_end(costs: list[float], cores: int) -> float:
    """Return the estimated time at which the last task ends, in units of cost.

    A core that is free takes the most expensive remaining task.
    """
    ends = [0.0] * cores
    for cost in sorted(costs, reverse=True):
        heapreplace(ends, ends[0] + cost)
    return max(ends)
