"""Summarize verdicts, compare books with golden rows, and show the first books that differ from them.

A golden row is an independent truth about a book. A symbol-hour is one chunk of one instrument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypedDict, cast

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.expectations.suites import ERRORED, FAILED, NONE, SUITES, WORST_FIRST
from deltabook.jobs.console.formats import format_chunk, format_match, format_share, format_short_time
from deltabook.jobs.report.inputs import STATUSES, FidelityRow, ReportInputs, list_fidelity_rows
from deltabook.schemas.names import ALL_HOURS, NOT_GIVEN
from deltabook.schemas.rows import InstrumentRow, VerdictRow
from deltabook.schemas.tables import both
from deltabook.schemas.validation_tables import MISMATCHES

REASONS = 20
"""Maximum number of failed verdicts that are listed with their reasons."""
COMPARISONS = 200
"""Maximum number of symbol-hours that are listed in the golden comparison, worst first."""
DIVERGENCES = 10
"""Maximum number of mismatches that are shown in detail, with the book beside its golden row."""
LEVELS_BESIDE = 2
"""Number of levels that are shown before and after the first level that differs."""

MatchesByMetric = dict[str, list[tuple[int, int, int]]]
"""Maps `price_match` and `size_match` to lists of (level, number of matches, number of comparisons)."""


class SuiteSummary(TypedDict):
    """A suite's overall verdict.

    `counts` maps each verdict to the number of symbol-hours with this verdict. `totals` does the same for
    symbols that were judged over all their chunks together.
    """

    name: str
    verdict: str
    counts: dict[str, int]
    totals: dict[str, int]


class Failure(VerdictRow):
    """Row of `verdicts` that failed, with the start of its chunk as text."""

    time: str


class GoldenMatch(TypedDict):
    """Share of golden rows of one kind that equal the rebuilt books, as text."""

    kind: str
    text: str


class WorstTest(FidelityRow):
    """The distribution test with the smallest p value.

    `time` is the start of its chunk as text, and `tests` is the number of all tests.
    """

    time: str
    tests: int


class VerdictSummary(TypedDict):
    """Verdicts on all books, and the numbers behind them.

    `not_judged` lists the suites without a verdict. `symbol_hours` counts the symbol-hours with a verdict,
    `failed` counts the symbol-hours that failed a suite, and `failed_totals` counts the symbols that failed a
    suite over all their chunks together. `more_reasons` counts the failures that `reasons` leaves out.
    `gap_kinds` has the number of gaps of each kind, most frequent kind first. `coverage` lists each status
    with its share of time as text.
    """

    overall: str
    not_judged: list[str]
    suites: list[SuiteSummary]
    symbol_hours: int
    failed: int
    failed_totals: int
    reasons: list[Failure]
    more_reasons: int
    matches: list[GoldenMatch]
    worst: WorstTest | None
    gaps: int
    gap_kinds: list[tuple[int, str]]
    coverage: list[tuple[str, str]]


class ComparedChunk(FidelityRow):
    """Row of `fidelity` that counts the equal books of one symbol-hour, with texts for the report."""

    ratio: float
    time: str
    ratio_text: str
    first: str


class GoldenComparison(TypedDict):
    """Comparison of books with golden rows.

    `rows` lists the symbol-hours, worst first, and `more` is the number of symbol-hours that `rows` leaves
    out. `by_level` maps each kind of golden row to the matches at each level.
    """

    rows: list[ComparedChunk]
    more: int
    by_level: dict[str, MatchesByMetric]


class MismatchRow(TypedDict):
    """The columns of a row of `mismatches` or `mismatches_decimal`, without the levels."""

    exchange: str
    symbol: str
    hour: int
    kind: str
    epoch: int
    sequence: int
    timestamp: int
    received: int
    level: int


class ShownLevel(TypedDict):
    """One level of a mismatch.

    `number` is the level, from 1. `cells` maps column names to texts. `differs` has the names of the columns
    in which book and golden row differ.
    """

    number: int
    cells: dict[str, str]
    differs: set[str]


class Divergence(MismatchRow):
    """A book that differs from its golden row, with the levels around the first difference as text."""

    levels: list[ShownLevel]
    time: str


def summarize_verdict(inputs: ReportInputs) -> VerdictSummary:
    """Summarize the verdicts of all suites, and the counts behind them.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    suites: list[SuiteSummary] = []
    for name in SUITES:
        suite_rows = [row for row in inputs.verdicts if row["suite"] == name]
        hours, totals = (
            Counter(row["verdict"] for row in suite_rows if (row["hour"] == ALL_HOURS) == is_total)
            for is_total in (False, True)
        )
        suites.append(
            {
                "name": name,
                "verdict": _worst_verdict([*hours, *totals]),
                "counts": dict(hours),
                "totals": dict(totals),
            }
        )
    bad = sorted(
        (row for row in inputs.verdicts if row["verdict"] in (FAILED, ERRORED)),
        key=lambda row: (WORST_FIRST.index(row["verdict"]), row["exchange"], row["symbol"], row["hour"]),
    )
    reasons: list[Failure] = [{**row, "time": format_chunk(row["hour"])} for row in bad[:REASONS]]
    counts = sum((Counter(row["counts"]) for row in inputs.verdicts), Counter())
    matches: list[GoldenMatch] = [
        {
            "kind": name.removesuffix(" compared"),
            "text": format_match(counts[name.replace(" compared", " matched")], counts[name]),
        }
        for name in sorted(counts)
        if name.endswith(" compared") and counts[name]
    ]
    tested = inputs.latest_fidelity[inputs.latest_fidelity["adjusted_p"].notna()]
    worst: WorstTest | None = None
    if len(tested):
        row = list_fidelity_rows(tested.loc[[tested["adjusted_p"].idxmin()]])[0]
        worst = {**row, "time": format_chunk(row["hour"]), "tests": len(tested)}
    kinds = pc.value_counts(inputs.gaps["kind"]).to_pylist()
    time = {name: int(inputs.coverage[name].sum()) for name in STATUSES}
    return {
        "overall": _worst_verdict(suite["verdict"] for suite in suites),
        "not_judged": [suite["name"] for suite in suites if suite["verdict"] == NONE],
        "suites": suites,
        "symbol_hours": _count_chunks(row for row in inputs.verdicts if row["hour"] != ALL_HOURS),
        "failed": _count_chunks(row for row in bad if row["hour"] != ALL_HOURS),
        "failed_totals": _count_chunks(row for row in bad if row["hour"] == ALL_HOURS),
        "reasons": reasons,
        "more_reasons": len(bad) - len(reasons),
        "matches": matches,
        "worst": worst,
        "gaps": inputs.gaps.num_rows,
        "gap_kinds": sorted(((kind["counts"], kind["values"]) for kind in kinds), reverse=True),
        "coverage": [(name, format_share(time[name], sum(time.values()))) for name in STATUSES if time[name]],
    }


def _count_chunks(rows: Iterable[VerdictRow]) -> int:
    """Return the number of symbol-hours among rows of `verdicts`."""
    return len({(row["exchange"], row["symbol"], row["hour"]) for row in rows})


def _worst_verdict(verdicts: Iterable[str]) -> str:
    """Return the first verdict in the order of `WORST_FIRST`; NONE if there are no verdicts."""
    return min(verdicts, key=WORST_FIRST.index, default=NONE)


def compare_with_golden(inputs: ReportInputs) -> GoldenComparison:
    """Return the share of books that equal their golden rows, by symbol-hour and by level.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    rows = inputs.latest_fidelity
    rows = rows[(rows["metric"] == "match") & (rows["compared"] > 0) & (rows["hour"] != ALL_HOURS)]
    worst = rows.assign(ratio=rows["matched"] / rows["compared"]).sort_values("ratio", kind="stable")
    listed: list[ComparedChunk] = [
        {
            **row,
            "ratio": row["matched"] / row["compared"],
            "time": format_chunk(row["hour"]),
            "ratio_text": format_share(row["matched"], row["compared"], 4),
            "first": "–" if row["first_divergence"] == NOT_GIVEN else str(row["first_divergence"]),
        }
        for row in list_fidelity_rows(worst.head(COMPARISONS))
    ]
    levels = inputs.latest_fidelity
    levels = levels[levels["metric"].isin(["price_match", "size_match"]) & (levels["hour"] != ALL_HOURS)]
    groups = levels[levels["compared"] > 0].groupby(["kind", "metric", "level"], observed=True)
    sums = groups[["matched", "compared"]].sum().reset_index()
    by_level: dict[str, MatchesByMetric] = {}
    for row in list_fidelity_rows(sums):
        metrics = by_level.setdefault(row["kind"], {"price_match": [], "size_match": []})
        metrics[row["metric"]].append((row["level"], row["matched"], row["compared"]))
    return {"rows": listed, "more": len(rows) - len(listed), "by_level": by_level}


def describe_levels(metrics: MatchesByMetric) -> list[str]:
    """Return one text per metric and level, with the number and the share of matches.

    Parameters
    ----------
    metrics : dict
        Maps `price_match` and `size_match` to lists of (level, number of matches, number of comparisons).
    """
    return [
        f"level {level}: {metric.removesuffix('_match')}s {format_match(matched, compared)}"
        for metric, rows in metrics.items()
        for level, matched, compared in rows
    ]


def list_divergences(inputs: ReportInputs) -> list[Divergence]:
    """Return the first books that differ from their golden rows, each together with its golden row.

    `DIVERGENCES` is the maximum number of these books.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    first: list[MismatchRow] = []
    order = ("hour", "exchange", "symbol", "epoch", "sequence", "kind")
    for table in filter(inputs.stored.exists, both(MISMATCHES)):
        batches = inputs.stored.dataset(table).to_batches(batch_size=4096)
        for batch in (batch for batch in batches if batch.num_rows):
            ordered = pa.Table.from_batches([batch]).sort_by([(name, "ascending") for name in order])
            first += ordered.slice(0, DIVERGENCES).to_pylist()
            first = sorted(first, key=_divergence_order)[:DIVERGENCES]
    return [_show_divergence(row, inputs.instruments[row["exchange"], row["symbol"]]) for row in first]


def _divergence_order(row: MismatchRow) -> tuple[int, str, str, int, int, str]:
    return row["hour"], row["exchange"], row["symbol"], row["epoch"], row["sequence"], row["kind"]


def _show_divergence(row: MismatchRow, instrument: InstrumentRow) -> Divergence:
    """Return a row of `mismatches` with the levels around its first difference as text."""
    columns: Mapping[str, object] = row
    scale = {"prices": instrument["price_scale"], "sizes": instrument["size_scale"]}
    sides: dict[str, list[str]] = {}
    names = (
        f"{source}{side}_{kind}" for source in ("", "golden_") for side in ("bid", "ask") for kind in scale
    )
    for name in names:
        digits = -scale[name.rsplit("_", 1)[1]]
        sides[name] = [
            f"{number.normalize():f}"
            if isinstance(number, Decimal)
            else f"{Decimal(number).scaleb(digits):f}"
            for number in cast(Sequence[int | Decimal], columns[name])
        ]
    longest = max(map(len, sides.values()))
    levels: list[ShownLevel] = []
    for level in range(max(row["level"] - 1 - LEVELS_BESIDE, 0), min(row["level"] + LEVELS_BESIDE, longest)):
        cells = {name: side[level] if level < len(side) else "–" for name, side in sides.items()}
        differs = {name for name in cells if cells[name] != cells[f"golden_{name.removeprefix('golden_')}"]}
        differs |= {f"golden_{name}" for name in differs}
        levels.append({"number": level + 1, "cells": cells, "differs": differs})
    time = row["timestamp"] if row["timestamp"] != NOT_GIVEN else row["received"]
    return {**row, "levels": levels, "time": format_short_time(time)}
