"""Run the suites `raw`, `events` and `books`.

A suite is a set of Great Expectations checks. An expectation is one of these checks. Spark workers count the
rows and problems of each chunk, and the expectations compare these counts with limits. The result of a suite
for one chunk is its verdict: passed, failed, none or errored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from pyspark.sql import Row

from deltabook.expectations import suites
from deltabook.expectations.books import judge_books
from deltabook.expectations.events import judge_events
from deltabook.expectations.raw import judge_raw
from deltabook.expectations.suites import ERRORED, FAILED, PASSED, Judgement
from deltabook.jobs.console.formats import format_chunk
from deltabook.jobs.pipeline.verdict_inputs import VerdictInputs
from deltabook.jobs.tables.stored import CHUNK_KEY_COLUMNS, ChunkKey
from deltabook.jobs.warehouse.run import Run
from deltabook.jobs.warehouse.tasks import GroupedWork, sum_file_sizes
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import JUDGE_REFERENCES, JUDGED
from deltabook.schemas.names import EventType, GapKind, Status
from deltabook.schemas.rows import JudgedRow, VerdictRow
from deltabook.schemas.validation_tables import VALIDATIONS, VERDICTS
from deltabook.udfs.spark.inspect_groups import inspect_books_group, inspect_events_group
from deltabook.udfs.storage.arrow_frames import GroupFunction

_BOOK_GAPS = ("sequence_gap", "unbridgeable_snapshot", "missing_snapshot", "checksum_failure")
"""Kinds of gaps that the suite `events` counts as missing book updates.

The suite does not count the other kinds. A clock jump loses no message, because ids order the feed. The table
`coverage` records silence. Missing trades, unreadable messages and crossed books have expectations of their
own.
"""

Counts = dict[ChunkKey, dict[str, int]]
"""The numbers that workers counted, by name, for each chunk."""


class SuiteVerdict(NamedTuple):
    """A suite's verdict on one chunk.

    Attributes
    ----------
    key : tuple
        Exchange, symbol and start of the chunk (ns since 1970 UTC; ALL_HOURS: all chunks of the symbol).
    verdict : str
        passed, failed, errored or none.
    reasons : str
        The expectations that do not hold, with the observed values; empty if all hold.
    counts : dict
        The numbers that the expectations compared with limits, by name.
    hides : bool
        Whether books that no status marks may be wrong. Views leave out such a chunk.
    """

    key: ChunkKey
    verdict: str
    reasons: str
    counts: dict[str, int]
    hides: bool = False


@dataclass(frozen=True)
class SuiteRun:
    """One suite in one run of `validate`, with the chunks to judge and the inputs of the suite.

    Attributes
    ----------
    warehouse : Warehouse
        The warehouse that `run` writes.
    run : Run
        The present run. Its id is stored with the results.
    inputs : VerdictInputs
        Data files, gaps and checks of every chunk.
    keys : list of (exchange, symbol, chunk)
        The chunks whose inputs have changed.
    verdicts : mapping
        Present rows of the table `verdicts` by (suite, exchange, symbol, chunk).
    show : callable
        Function that shows progress. Its argument is the number of finished chunks.
    """

    warehouse: Warehouse
    run: Run
    inputs: VerdictInputs
    keys: list[ChunkKey]
    verdicts: Mapping[tuple[str, str, str, int], VerdictRow]
    show: Callable[[int], None]

    def apply(self, function: GroupFunction) -> list[Row]:
        """Apply a function to each chunk on Spark's workers, and return the resulting rows of `judged`.

        Parameters
        ----------
        function : callable
            Function that takes the row of `judge_references` of one chunk.
        """
        references = [self.inputs.references[key] for key in self.keys]
        costs = sum_file_sizes(references, "event_files", "book_files")
        work = GroupedWork(JUDGE_REFERENCES, references, CHUNK_KEY_COLUMNS, function, JUDGED, costs)
        return self.warehouse.apply(work, self.show)

    def count(self, function: GroupFunction) -> Counts:
        """Apply a function to each chunk on Spark's workers, and return the counts of each chunk.

        Parameters
        ----------
        function : callable
            Function that takes the row of `judge_references` of one chunk.
        """
        return get_counts(map(JudgedRow._make, self.apply(function)))

    def conclude(
        self,
        suite: str,
        keys: Sequence[ChunkKey],
        counts: Counts,
        judgements: Sequence[Judgement],
        rows: int,
    ) -> list[SuiteVerdict]:
        """Append the results of the expectations to `validations`, and return the verdict on each chunk.

        Parameters
        ----------
        suite : str
            Name of the suite.
        keys : sequence of (exchange, symbol, chunk)
            The chunks that the suite judged.
        counts : dict
            Counts of each chunk by name, which become part of the verdicts.
        judgements : sequence of Judgement
            The result of each expectation.
        rows : int
            Number of rows that the expectations checked, for the table `validations`.
        """
        results = [
            {
                "run_id": self.run.run_id,
                "suite": suite,
                "expectation": judgement.expectation,
                "verdict": judgement.verdict,
                "observed": judgement.observed,
                "rows": rows,
            }
            for judgement in judgements
        ]
        self.warehouse.append(VALIDATIONS, results)
        errors = [f"{one.expectation}: {one.observed}" for one in judgements if one.verdict == ERRORED]
        verdicts = []
        for key in keys:
            failed = [one for one in judgements if key in one.failed]
            failures = [f"{one.expectation}: {one.failed[key]}" for one in failed]
            reasons = failures + errors
            verdict = ERRORED if errors else FAILED if reasons else PASSED
            hides = bool(errors) or any(one.expectation not in suites.MARKED_RULES for one in failed)
            verdicts.append(SuiteVerdict(key, verdict, "; ".join(reasons), counts[key], hides))
        return verdicts


def get_key_columns(key: ChunkKey) -> dict[str, str | int]:
    """Return the key columns of a chunk, and the chunk's start as text.

    Parameters
    ----------
    key : tuple
        Exchange, symbol and start of the chunk, ns since 1970 UTC.

    Returns
    -------
    dict
        exchange, symbol, hour (ns), and time (ISO 8601, UTC).
    """
    exchange, symbol, chunk = key
    return {"exchange": exchange, "symbol": symbol, "hour": chunk, "time": format_chunk(chunk)}


def judge_raw_suite(suite_run: SuiteRun) -> list[SuiteVerdict]:
    """Judge whether the messages of each chunk are readable, in time and plausible, and return the verdicts.

    Parameters
    ----------
    suite_run : SuiteRun
        The chunks to judge.

    Returns
    -------
    list of SuiteVerdict
        One verdict for each chunk.
    """
    counts = suite_run.count(inspect_events_group)
    frame = _make_summary({key: _compute_raw_columns(numbers) for key, numbers in counts.items()})
    settings = suite_run.warehouse.settings
    judgements = judge_raw(frame, settings.most_late, settings.most_untimed)
    return suite_run.conclude(suites.RAW, suite_run.keys, counts, judgements, len(frame))


def _compute_raw_columns(counts: Mapping[str, int]) -> dict[str, int | float]:
    """Return the columns that the suite `raw` compares with limits, from the counts of one chunk.

    `late`, `untimed` and `regressing` are shares of messages, from 0 to 1. Each share is computed for book
    updates and for trades; the column holds the larger one.
    """
    shares = {"late": 0.0, "untimed": 0.0, "regressing": 0.0}
    for kind in EventType:
        names = ("diffs", "missing", "zero", *shares)
        numbers = {name: counts.get(f"{kind} {name}", 0) for name in names}
        untimed = numbers["missing"] + numbers["zero"]
        # If no message of a stream has a time, the venue sends no times. That is not an error.
        numbers["untimed"] = untimed if untimed < numbers["diffs"] else 0
        diffs = max(numbers["diffs"], 1)
        shares = {name: max(share, numbers[name] / diffs) for name, share in shares.items()}
    return {"out_of_range": counts["out_of_range"], "damaged": counts["damaged"]} | shares


def judge_events_suite(suite_run: SuiteRun) -> list[SuiteVerdict]:
    """Judge whether the events of each chunk are in order and without gaps, and return the verdicts.

    The suite `raw` must have run before, because this suite uses counts from its verdicts.

    Parameters
    ----------
    suite_run : SuiteRun
        The chunks to judge.

    Returns
    -------
    list of SuiteVerdict
        One verdict for each chunk.
    """
    counts: Counts = {}
    for key in suite_run.keys:
        gaps = suite_run.inputs.gaps[key]
        raw = suite_run.verdicts[suites.RAW, *key]["counts"]
        counts[key] = {
            "gaps": sum(number for kind, number in gaps.items() if kind in _BOOK_GAPS),
            "trade_gaps": gaps[GapKind.TRADE_GAP.label],
            "unordered": sum(raw.get(f"{kind} unordered", 0) for kind in EventType),
            "out_of_time": raw["out_of_time"],
        }
    frame = _make_summary(counts)
    return suite_run.conclude(suites.EVENTS, suite_run.keys, counts, judge_events(frame), len(frame))


def judge_books_suite(suite_run: SuiteRun) -> list[SuiteVerdict]:
    """Judge whether the rows of `books` of each chunk are plausible, and return the verdicts.

    Books are plausible if, for example, they are never crossed.

    Parameters
    ----------
    suite_run : SuiteRun
        The chunks to judge.

    Returns
    -------
    list of SuiteVerdict
        One verdict for each chunk.
    """
    counts = suite_run.count(inspect_books_group)
    for key, numbers in counts.items():
        sound = sum(numbers[status.label] for status in Status if status.is_sound)
        suspect = 0 if FEEDS[suite_run.inputs.references[key]["feed"]].is_unlinked else numbers["suspect"]
        numbers["worse"] = suspect if sound else numbers["rows"]
    frame = _make_summary(counts)
    return suite_run.conclude(suites.BOOKS, suite_run.keys, counts, judge_books(frame), len(frame))


def get_key(row: JudgedRow) -> ChunkKey:
    """Return the key of the chunk to which a row of the frame `judged` belongs.

    Parameters
    ----------
    row : JudgedRow
        Row of the frame `judged`.

    Returns
    -------
    tuple
        Exchange, symbol and start of the chunk, ns since 1970 UTC.
    """
    return row.exchange, row.symbol, row.hour


def get_counts(rows: Iterable[JudgedRow]) -> Counts:
    """Return the counts of each chunk from the rows that workers returned.

    Parameters
    ----------
    rows : iterable of JudgedRow
        Rows of the frame `judged`.

    Returns
    -------
    dict
        {(exchange, symbol, chunk): {name: number}}.
    """
    return {
        get_key(row): dict(zip(row.counted, row.counts, strict=True))
        for row in rows
        if row.table == VERDICTS.name
    }


def _make_summary(columns_of_key: Mapping[ChunkKey, Mapping[str, float]]) -> pd.DataFrame:
    """Return the frame for the expectations: one row for each chunk, with key columns and counts."""
    return pd.DataFrame([get_key_columns(key) | dict(columns) for key, columns in columns_of_key.items()])
