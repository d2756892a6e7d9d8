"""The report's verdict and golden comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.expectations.suites import ERRORED, FAILED, NONE, SUITES, WORST_FIRST
from deltabook.jobs.console.formats import hour_text, match_text, share_text, time_text
from deltabook.jobs.report.facts import STATUSES, Facts
from deltabook.schemas.names import ALL_HOURS, NOT_GIVEN
from deltabook.schemas.tables import MISMATCHES, both

REASONS = 20
"""Failing reasons that are told."""
COMPARISONS = 200
"""Rows of the golden comparison that are listed: those with the fewest matches first."""
DIVERGENCES = 10
"""Mismatches that are shown with both sides."""
LEVELS_BESIDE = 2
"""Levels shown above and below the one that differs."""


def verdict(facts: Facts) -> dict[str, Any]:
    """Tell the overall verdict, each suite's, and what they rest on.

    Parameters
    ----------
    facts : Facts
        What was published.
    """
    suites: list[dict[str, Any]] = []
    for name in SUITES:
        of_suite = [row for row in facts.verdicts if row["suite"] == name]
        hours, totals = (
            Counter(row["verdict"] for row in of_suite if (row["hour"] == ALL_HOURS) == is_total)
            for is_total in (False, True)
        )
        suites.append(
            {
                "name": name,
                "verdict": _worst([*hours, *totals]),
                "counts": dict(hours),
                "totals": dict(totals),
            }
        )
    bad = sorted(
        (row for row in facts.verdicts if row["verdict"] in (FAILED, ERRORED)),
        key=lambda row: (WORST_FIRST.index(row["verdict"]), row["exchange"], row["symbol"], row["hour"]),
    )
    reasons = [row | {"time": hour_text(row["hour"])} for row in bad[:REASONS]]
    counts = sum((Counter(row["counts"]) for row in facts.verdicts), Counter())
    matches = [
        {
            "kind": name.removesuffix(" compared"),
            "text": match_text(counts[name.replace(" compared", " matched")], counts[name]),
        }
        for name in sorted(counts)
        if name.endswith(" compared") and counts[name]
    ]
    tested: Any = facts.standing[facts.standing["adjusted_p"].notna()]
    worst = None
    if len(tested):
        worst = tested.loc[tested["adjusted_p"].idxmin()].to_dict()
        worst |= {"time": hour_text(worst["hour"]), "tests": len(tested)}
    kinds = pc.value_counts(facts.gaps["kind"]).to_pylist()
    time = {name: int(facts.coverage[name].sum()) for name in STATUSES}
    return {
        "overall": _worst(suite["verdict"] for suite in suites),
        "not_judged": [suite["name"] for suite in suites if suite["verdict"] == NONE],
        "suites": suites,
        "symbol_hours": _count(row for row in facts.verdicts if row["hour"] != ALL_HOURS),
        "failed": _count(row for row in bad if row["hour"] != ALL_HOURS),
        "failed_totals": _count(row for row in bad if row["hour"] == ALL_HOURS),
        "reasons": reasons,
        "more_reasons": len(bad) - len(reasons),
        "matches": matches,
        "worst": worst,
        "gaps": facts.gaps.num_rows,
        "gap_kinds": sorted((row["counts"], row["values"]) for row in kinds)[::-1],
        "coverage": [(name, share_text(time[name], sum(time.values()))) for name in STATUSES if time[name]],
    }


def _count(rows: Iterable[dict[str, Any]]) -> int:
    return len({(row["exchange"], row["symbol"], row["hour"]) for row in rows})


def _worst(verdicts: Iterable[str]) -> str:
    """Return the worst; where nothing was judged, NONE."""
    return min(verdicts, key=WORST_FIRST.index, default=NONE)


def comparisons(facts: Facts) -> dict[str, Any]:
    """Tell how many books of each symbol-hour equal their golden rows.

    Parameters
    ----------
    facts : Facts
        What was published.
    """
    rows: Any = facts.standing
    rows = rows[(rows["metric"] == "match") & (rows["compared"] > 0) & (rows["hour"] != ALL_HOURS)]
    worst = rows.assign(ratio=rows["matched"] / rows["compared"]).sort_values("ratio", kind="stable")
    told = [
        row
        | {"time": hour_text(row["hour"]), "ratio_text": share_text(row["matched"], row["compared"], 4)}
        | {"first": "–" if row["first_divergence"] == NOT_GIVEN else str(row["first_divergence"])}
        for row in worst.head(COMPARISONS).to_dict("records")
    ]
    levels: Any = facts.standing
    levels = levels[levels["metric"].isin(["price_match", "size_match"]) & (levels["hour"] != ALL_HOURS)]
    levels = levels[levels["compared"] > 0].groupby(["kind", "metric", "level"], observed=True)
    by_level: dict[str, dict[str, list[tuple[int, int, int]]]] = {}
    for (kind, metric, level), sums in levels[["matched", "compared"]].sum().iterrows():
        of_kind = by_level.setdefault(kind, {"price_match": [], "size_match": []})
        of_kind[metric].append((int(level), int(sums["matched"]), int(sums["compared"])))
    return {"rows": told, "more": len(rows) - len(told), "by_level": by_level}


def level_texts(of_kind: dict[str, list[tuple[int, int, int]]]) -> list[str]:
    """Tell the matches by level in words.

    Parameters
    ----------
    of_kind : dict
        Of `price_match` and `size_match`, (level, matched, compared).
    """
    return [
        f"level {level}: {metric.removesuffix('_match')}s {match_text(matched, compared)}"
        for metric, rows in of_kind.items()
        for level, matched, compared in rows
    ]


def divergences(facts: Facts) -> list[dict[str, Any]]:
    """Show the first books that are not their golden rows, both sides.

    Parameters
    ----------
    facts : Facts
        What was published.
    """
    first: list[dict[str, Any]] = []
    order = ("hour", "exchange", "symbol", "epoch", "sequence", "kind")
    for table in (one for one in both(MISMATCHES) if facts.stored.exists(one)):
        batches = facts.stored.dataset(table).to_batches(batch_size=4096)
        for batch in (batch for batch in batches if batch.num_rows):
            least = pa.Table.from_batches([batch]).sort_by([(name, "ascending") for name in order])
            first += least.slice(0, DIVERGENCES).to_pylist()
            first = sorted(first, key=lambda row: [row[name] for name in order])[:DIVERGENCES]
    return [_divergence(row, facts.instruments[row["exchange"], row["symbol"]]) for row in first]


def _divergence(row: dict[str, Any], instrument: dict[str, Any]) -> dict[str, Any]:
    scale = {"prices": instrument["price_scale"], "sizes": instrument["size_scale"]}
    sides: dict[str, list[str]] = {}
    for name in (f"{of}{side}_{what}" for of in ("", "golden_") for side in ("bid", "ask") for what in scale):
        digits = -scale[name.rsplit("_", 1)[1]]
        sides[name] = [
            f"{number.normalize():f}" if instrument["is_decimal"] else f"{Decimal(number).scaleb(digits):f}"
            for number in row[name]
        ]
    longest = max(map(len, sides.values()))
    at = range(max(row["level"] - 1 - LEVELS_BESIDE, 0), min(row["level"] + LEVELS_BESIDE, longest))
    levels = []
    for level in at:
        cells = {name: side[level] if level < len(side) else "–" for name, side in sides.items()}
        differs = {name for name in cells if cells[name] != cells[f"golden_{name.removeprefix('golden_')}"]}
        differs |= {f"golden_{name}" for name in differs}
        levels.append({"number": level + 1, "cells": cells, "differs": differs})
    time = row["timestamp"] if row["timestamp"] != NOT_GIVEN else row["received"]
    return row | {"levels": levels, "time": time_text(time)}
