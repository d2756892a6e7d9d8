"""The verdict on the books, the comparison of books with golden rows, and the first differences.

A golden row is an independent truth about a book. A symbol-hour is one chunk of one instrument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.expectations.suites import ERRORED, FAILED, NONE, SUITES, WORST_FIRST
from deltabook.jobs.console.formats import format_chunk, format_match, format_share, format_short_time
from deltabook.jobs.report.inputs import STATUSES, ReportInputs
from deltabook.schemas.names import ALL_HOURS, NOT_GIVEN
from deltabook.schemas.tables import MISMATCHES, both

REASONS = 20
"""Maximum number of reasons for failures that are listed."""
COMPARISONS = 200
"""Maximum number of listed symbol-hours in the golden comparison: those with the lowest share of matches."""
DIVERGENCES = 10
"""Maximum number of mismatches that are shown in detail: the book beside its golden row."""
LEVELS_BESIDE = 2
"""Number of levels that are shown above and below the first level that differs."""


def summarize_verdict(inputs: ReportInputs) -> dict[str, Any]:
    """Return the overall verdict, the verdict of each suite, and the numbers behind the verdicts.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.

    Returns
    -------
    dict
        `overall` (verdict), `suites` (each with the number of symbol-hours by verdict), `reasons` (of the
        first failures), `matches` (share of golden matches by kind), `worst` (distribution test with the
        smallest p value), `gaps` (number of gaps), `coverage` (share of time by status), and further counts.
    """
    suites: list[dict[str, Any]] = []
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
    reasons = [row | {"time": format_chunk(row["hour"])} for row in bad[:REASONS]]
    counts = sum((Counter(row["counts"]) for row in inputs.verdicts), Counter())
    matches = [
        {
            "kind": name.removesuffix(" compared"),
            "text": format_match(counts[name.replace(" compared", " matched")], counts[name]),
        }
        for name in sorted(counts)
        if name.endswith(" compared") and counts[name]
    ]
    tested: Any = inputs.latest_fidelity[inputs.latest_fidelity["adjusted_p"].notna()]
    worst = None
    if len(tested):
        worst = tested.loc[tested["adjusted_p"].idxmin()].to_dict()
        worst |= {"time": format_chunk(worst["hour"]), "tests": len(tested)}
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
        "gap_kinds": sorted((row["counts"], row["values"]) for row in kinds)[::-1],
        "coverage": [(name, format_share(time[name], sum(time.values()))) for name in STATUSES if time[name]],
    }


def _count_chunks(rows: Iterable[dict[str, Any]]) -> int:
    """Return the number of symbol-hours among rows of `verdicts`."""
    return len({(row["exchange"], row["symbol"], row["hour"]) for row in rows})


def _worst_verdict(verdicts: Iterable[str]) -> str:
    """Return the worst of the verdicts; NONE if there are no verdicts."""
    return min(verdicts, key=WORST_FIRST.index, default=NONE)


def compare_with_golden(inputs: ReportInputs) -> dict[str, Any]:
    """Return how many books of each symbol-hour equal their golden rows.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.

    Returns
    -------
    dict
        `rows` (symbol-hours, lowest share of matches first), `more` (number of rows left out), and `by_level`
        (maps kind of golden row, then metric, to a list of (level, matched, compared)).
    """
    rows: Any = inputs.latest_fidelity
    rows = rows[(rows["metric"] == "match") & (rows["compared"] > 0) & (rows["hour"] != ALL_HOURS)]
    worst = rows.assign(ratio=rows["matched"] / rows["compared"]).sort_values("ratio", kind="stable")
    listed = [
        row
        | {"time": format_chunk(row["hour"]), "ratio_text": format_share(row["matched"], row["compared"], 4)}
        | {"first": "–" if row["first_divergence"] == NOT_GIVEN else str(row["first_divergence"])}
        for row in worst.head(COMPARISONS).to_dict("records")
    ]
    levels: Any = inputs.latest_fidelity
    levels = levels[levels["metric"].isin(["price_match", "size_match"]) & (levels["hour"] != ALL_HOURS)]
    levels = levels[levels["compared"] > 0].groupby(["kind", "metric", "level"], observed=True)
    by_level: dict[str, dict[str, list[tuple[int, int, int]]]] = {}
    for (kind, metric, level), sums in levels[["matched", "compared"]].sum().iterrows():
        metrics = by_level.setdefault(kind, {"price_match": [], "size_match": []})
        metrics[metric].append((int(level), int(sums["matched"]), int(sums["compared"])))
    return {"rows": listed, "more": len(rows) - len(listed), "by_level": by_level}


def describe_levels(metrics: dict[str, list[tuple[int, int, int]]]) -> list[str]:
    """Return the share of matches at each level as texts.

    Parameters
    ----------
    metrics : dict
        Maps `price_match` and `size_match` to lists of (level, matched, compared).
    """
    return [
        f"level {level}: {metric.removesuffix('_match')}s {format_match(matched, compared)}"
        for metric, rows in metrics.items()
        for level, matched, compared in rows
    ]


def list_divergences(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the first `DIVERGENCES` books that differ from their golden rows, with the golden rows.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.

    Returns
    -------
    list of dict
        Rows of `mismatches`. Each also has `levels`: prices and sizes of the levels around the first level
        that differs, as texts.
    """
    first: list[dict[str, Any]] = []
    order = ("hour", "exchange", "symbol", "epoch", "sequence", "kind")
    for table in filter(inputs.stored.exists, both(MISMATCHES)):
        batches = inputs.stored.dataset(table).to_batches(batch_size=4096)
        for batch in (batch for batch in batches if batch.num_rows):
            ordered = pa.Table.from_batches([batch]).sort_by([(name, "ascending") for name in order])
            first += ordered.slice(0, DIVERGENCES).to_pylist()
            first = sorted(first, key=lambda row: [row[name] for name in order])[:DIVERGENCES]
    return [_show_divergence(row, inputs.instruments[row["exchange"], row["symbol"]]) for row in first]


def _show_divergence(row: dict[str, Any], instrument: dict[str, Any]) -> dict[str, Any]:
    scale = {"prices": instrument["price_scale"], "sizes": instrument["size_scale"]}
    sides: dict[str, list[str]] = {}
    names = (
        f"{source}{side}_{kind}" for source in ("", "golden_") for side in ("bid", "ask") for kind in scale
    )
    for name in names:
        digits = -scale[name.rsplit("_", 1)[1]]
        sides[name] = [
            f"{number.normalize():f}" if instrument["is_decimal"] else f"{Decimal(number).scaleb(digits):f}"
            for number in row[name]
        ]
    longest = max(map(len, sides.values()))
    levels = []
    for level in range(max(row["level"] - 1 - LEVELS_BESIDE, 0), min(row["level"] + LEVELS_BESIDE, longest)):
        cells = {name: side[level] if level < len(side) else "–" for name, side in sides.items()}
        differs = {name for name in cells if cells[name] != cells[f"golden_{name.removeprefix('golden_')}"]}
        differs |= {f"golden_{name}" for name in differs}
        levels.append({"number": level + 1, "cells": cells, "differs": differs})
    time = row["timestamp"] if row["timestamp"] != NOT_GIVEN else row["received"]
    return row | {"levels": levels, "time": format_short_time(time)}
