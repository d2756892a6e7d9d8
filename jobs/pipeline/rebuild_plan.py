"""Plan of a rebuild: which chunks of each instrument to process, and from which checkpoint to start.

A chunk is a range of ids, one hour by default. A checkpoint is the full book before a chunk's first event. To
chain chunks is to go through them in order and store the checkpoint that opens each one, without writing rows
of books. To replay a chunk is to write its books, starting from its checkpoint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapreplace

from deltabook.jobs.intake.instruments import Instrument
from deltabook.jobs.tables.stored import CHUNK_KEY_COLUMNS, ChunkKey, TableReader
from deltabook.schemas.fingerprints import Fingerprint
from deltabook.schemas.names import DAY, NOT_GIVEN, GapKind
from deltabook.schemas.tables import GAPS

_KINDS_WITHOUT_END = tuple(kind.label for kind in (GapKind.TRADE_GAP, GapKind.CLOCK_JUMP, GapKind.SILENCE))
"""Kinds of gaps that no later message can resolve."""
_CHAINING_COST = 0.5
"""Cost of chaining a chunk, as a share of the cost of a single pass that also writes its books."""
_IDLE_CORE_COST = 0.6
"""Cost of a chunk when a core is idle, as a share of its cost when all cores are busy. Each task reads and
writes its files in a second thread, which an idle core can run."""


@dataclass(frozen=True)
class BookGap:
    """A stored gap that a later message can resolve.

    Attributes
    ----------
    chunk : int
        Start of the chunk that contains the gap, ns since 1970 UTC.
    resolved_time : int
        Time of the message that resolved the gap, ns since 1970 UTC; NOT_GIVEN while the gap is open.
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
        processed because their gaps may now be resolved by another message. Their books are not rewritten.
    changed : set of int
        Starts of the chunks whose events or settings have changed, ns since 1970 UTC.
    from_checkpoint : bool
        Whether the first chunk starts from its stored checkpoint. If not, it starts with an empty book.
    """

    chained: list[int]
    changed: set[int]
    from_checkpoint: bool

    @property
    def first_changed(self) -> int:
        """Start of the first chunk whose books may be rewritten, ns since 1970 UTC."""
        return min(self.changed)


def read_book_gaps(tables: TableReader) -> dict[Instrument, list[BookGap]]:
    """Return the stored gaps of each instrument that a later message has resolved or can resolve.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.

    Returns
    -------
    dict
        Gaps by (exchange, symbol).
    """
    gaps: dict[Instrument, list[BookGap]] = defaultdict(list)
    for row in tables.rows(GAPS, *CHUNK_KEY_COLUMNS, "kind", "resolved_time"):
        if row["kind"] not in _KINDS_WITHOUT_END:
            gaps[row["exchange"], row["symbol"]].append(BookGap(row["hour"], row["resolved_time"]))
    return gaps


def plan_rebuild(
    fingerprints: Mapping[ChunkKey, Fingerprint],
    built: Mapping[ChunkKey, str],
    gaps: Mapping[Instrument, list[BookGap]],
) -> dict[Instrument, RebuildPlan]:
    """Return the plan of each instrument that has a changed chunk.

    The changed events may resolve earlier gaps differently. Processing therefore starts at a checkpoint that
    lies before every such gap.

    Parameters
    ----------
    fingerprints : mapping
        Fingerprint of the present inputs of every chunk, by (exchange, symbol, chunk).
    built : mapping
        Fingerprint of the inputs from which the stored books were built, by (exchange, symbol, chunk).
    gaps : mapping
        Gaps by (exchange, symbol), from `read_book_gaps`.

    Returns
    -------
    dict
        Plans by (exchange, symbol).
    """
    chunks_of_instrument: dict[Instrument, list[int]] = defaultdict(list)
    for exchange, symbol, chunk in sorted(fingerprints):
        chunks_of_instrument[exchange, symbol].append(chunk)
    plans = {}
    for key, chunks in chunks_of_instrument.items():
        removed = [chunk for *built_key, chunk in built if tuple(built_key) == key and chunk not in chunks]
        changed = {chunk for chunk in chunks if not fingerprints[*key, chunk].fits(built.get((*key, chunk)))}
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
        Plans by (exchange, symbol).
    costs : mapping
        Cost of each planned chunk, in bytes of events, by (exchange, symbol, chunk).
    cores : int
        Number of tasks that run at once.

    Returns
    -------
    bool
        True if the last task of the single pass is estimated to end no later.
    """
    by_instrument = [float(sum(costs[*key, chunk] for chunk in plan.chained)) for key, plan in plans.items()]
    by_chunk = [float(cost) for cost in costs.values()]
    single_pass = _estimate_end(by_instrument, cores) * (_IDLE_CORE_COST if len(plans) < cores else 1)
    return single_pass <= single_pass * _CHAINING_COST + _estimate_end(by_chunk, cores)


def _estimate_end(costs: list[float], cores: int) -> float:
    """Return the estimated end of the last task, in units of cost; the most expensive tasks start first."""
    ends = [0.0] * cores
    for cost in sorted(costs, reverse=True):
        heapreplace(ends, ends[0] + cost)
    return max(ends)
