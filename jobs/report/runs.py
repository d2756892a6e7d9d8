"""The report's runs: what each did, how its fidelity compares with that of runs before, and all versions."""

from __future__ import annotations

import json
import platform
from collections import Counter, defaultdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from deltabook.jobs.console.formats import length_text, parse_time, time_text
from deltabook.jobs.report.facts import Facts
from deltabook.jobs.report.statistics import MATCH_METRICS
from deltabook.schemas.names import ALL_HOURS, NANOSECONDS_PER_SECOND
from deltabook.schemas.tables import SCHEMA_VERSION

RUNS_SHOWN = 20
"""Runs that are listed unless more are asked for."""
SERIES = 12
"""Lines of one chart over runs: those with the most points."""
DRIFTS = 40
"""Drifts that are listed."""
EARLIER, DEVIATIONS = 5, 6.0
"""A drift is further than so many robust standard deviations from the median of at least so many earlier."""
_TO_DEVIATION = 1.4826  # of a median absolute deviation, for a normal distribution
_LEAST_DEVIATION = 1e-9
_PACKAGES = {
    "deltabook": "deltabook",
    "Spark": "pyspark",
    "Delta Lake": "delta-spark",
    "Great Expectations": "great-expectations",
    "numba": "numba",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
}
_KEYS = ["exchange", "symbol", "kind", "metric", "level"]


def runs_since(facts: Facts, since: str | None) -> list[dict[str, Any]]:
    """Choose the runs to tell of, newest first.

    Parameters
    ----------
    facts : Facts
        What was published.
    since : str or None
        A run's id, or a time as ISO 8601; None: the last `RUNS_SHOWN`.

    Raises
    ------
    SettingsError
        If `since` is neither.
    """
    ids = [run["run_id"] for run in facts.runs]
    if since is None:
        chosen = facts.runs[-RUNS_SHOWN:]
    elif since in ids:
        chosen = facts.runs[ids.index(since) :]
    else:
        earliest = parse_time(since)
        chosen = [run for run in facts.runs if run["started"] >= earliest]
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in facts.validations:
        verdicts[row["run_id"]][row["verdict"]] += 1
    return [_told(run, verdicts[run["run_id"]]) for run in reversed(chosen)]


def _told(run: dict[str, Any], expectations: Counter[str]) -> dict[str, Any]:
    summary = json.loads(run["summary"])
    events = summary.get("level_changes", 0) + summary.get("trades", 0)
    return run | {
        "time": time_text(run["started"])[:19] + "Z",
        "length": length_text(run["finished"] - run["started"]),
        "events": f"{events:,}" if "level_changes" in summary else "–",
        "rate": f"{summary[rate]:,}" if (rate := f"{run['command']}_events_per_second") in summary else "–",
        "verdicts": summary.get("verdicts", {}),
        "failed_hours": summary.get("symbol_hours_failed", 0),
        "expectations": ", ".join(f"{count:,} {name}" for name, count in sorted(expectations.items())),
    }


def series_by_run(facts: Facts) -> Any:
    """Return one value of each fidelity metric for each run that measured it, and whether it is a drift.

    Of all hours together where the run measured that, else of its hours: the sum of matches, the greatest D.

    Parameters
    ----------
    facts : Facts
        What was published.

    Returns
    -------
    DataFrame
        exchange, symbol, kind, metric, level, run_id, number (of the run), value, is_drift, and of the values
        before it `median` and `earlier`, their count.
    """
    rows: Any = facts.fidelity
    numbers = {run["run_id"]: number for number, run in enumerate(facts.runs)}
    is_match = rows["metric"].isin(MATCH_METRICS) & (rows["compared"] > 0)
    rows = rows[(is_match | rows["statistic"].notna()) & rows["run_id"].isin(numbers)]
    keys = ["run_id", *_KEYS]
    totals = rows[rows["hour"] == ALL_HOURS].set_index(keys).index
    rows = rows[(rows["hour"] == ALL_HOURS) | ~pd.MultiIndex.from_frame(rows[keys]).isin(totals)]
    sums = rows.groupby(keys, as_index=False).agg(
        {"compared": "sum", "matched": "sum", "statistic": "max"},
    )
    is_match = sums["metric"].isin(MATCH_METRICS)
    sums["value"] = (sums["matched"] / sums["compared"]).where(is_match, sums["statistic"])
    sums["number"] = sums["run_id"].map(numbers)
    sums = sums.sort_values([*_KEYS, "number"], ignore_index=True)
    groups = sums.groupby(_KEYS, sort=False)
    found = [drifts(group["value"].to_numpy()) for _, group in groups]
    sums["earlier"] = groups.cumcount()
    sums["is_drift"], sums["median"] = map(np.concatenate, zip(*found, strict=True)) if found else ([], [])
    return sums


def drifts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell which values are far from those before them.

    Parameters
    ----------
    values : float64[n]
        In the order of runs.

    Returns
    -------
    (bool[n], float64[n])
        Further than `DEVIATIONS` robust standard deviations, by the median absolute deviation, from the
        median of at least `EARLIER` values; and that median, NaN of fewer.
    """
    found, medians = np.zeros(len(values), np.bool_), np.full(len(values), np.nan)
    for at in range(EARLIER, len(values)):
        medians[at] = np.median(values[:at])
        deviation = _TO_DEVIATION * np.median(np.abs(values[:at] - medians[at]))
        found[at] = abs(values[at] - medians[at]) > DEVIATIONS * max(deviation, _LEAST_DEVIATION)
    return found, medians


def drift_rows(series: Any, shown: list[str]) -> list[dict[str, Any]]:
    """List the drifts of the runs that are told of, newest first.

    Parameters
    ----------
    series : DataFrame
        As `series_by_run` returns it.
    shown : list of str
        Ids of those runs.
    """
    rows = series[series["is_drift"] & series["run_id"].isin(shown)]
    rows = rows.sort_values("number", ascending=False, kind="stable").head(DRIFTS)
    found = []
    for row in rows.to_dict("records"):
        level = f" L{row['level']}" if row["level"] else ""
        name = row["metric"] + level + ("" if row["metric"] in MATCH_METRICS else " D")
        text = f"{row['exchange']} {row['symbol']} {row['kind']} {name}: {row['value']:.6g}, the median of "
        text += f"{row['earlier']} runs before is {row['median']:.6g}"
        found.append(row | {"name": name, "text": text})
    return found


def lines(series: Any, shown: list[str], is_match: bool) -> list[dict[str, Any]]:
    """Choose the lines of the chart of match ratios, or of D.

    Parameters
    ----------
    series : DataFrame
        As `series_by_run` returns it.
    shown : list of str
        Ids of the runs.
    is_match : bool
        Match ratios, or the greatest D over the levels.

    Returns
    -------
    list of dict
        `name`, `runs`, `values` and `is_drift`; none if no line has two points.
    """
    rows = series[series["run_id"].isin(shown)]
    rows = rows[rows["metric"] == "match"] if is_match else rows[~rows["metric"].isin(MATCH_METRICS)]
    keys = ["exchange", "symbol", "kind", "metric"]
    found = []
    for key, group in rows.groupby(keys):
        by_run = group.sort_values("number").groupby("number", sort=True)
        best = by_run.agg({"value": "min" if is_match else "max", "is_drift": "any", "run_id": "first"})
        name = " ".join(key[:3] if is_match else key[1:])
        told = {"runs": best["run_id"].tolist(), "values": best["value"].tolist()}
        found.append({"name": name} | told | {"is_drift": best["is_drift"].tolist()})
    found = sorted(found, key=lambda line: -len(line["runs"]))[:SERIES]
    return found if found and len(found[0]["runs"]) > 1 else []


def stages(facts: Facts) -> list[dict[str, Any]]:
    """Tell the time that each stage took when it last ran.

    Parameters
    ----------
    facts : Facts
        What was published.
    """
    newest = {run["command"]: run for run in facts.runs}
    found = []
    for command, run in newest.items():
        summary = json.loads(run["summary"])
        whole = (run["finished"] - run["started"]) / NANOSECONDS_PER_SECOND
        for name in (name for name in summary if name.endswith("_seconds")):
            stage = name.removesuffix("_seconds")
            rate = summary.get(f"{stage}_events_per_second")
            told = {"command": command, "stage": stage, "run_id": run["run_id"], "seconds": summary[name]}
            found.append(told | {"whole": f"{whole:,.2f}", "rate": "–" if rate is None else f"{rate:,}"})
    return found


def versions(facts: Facts) -> dict[str, Any]:
    """Tell what wrote the tables, and what writes this report.

    Parameters
    ----------
    facts : Facts
        What was published.
    """
    found = {"Python": platform.python_version()}
    for name, package in _PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            found[name] = "not installed"
    newest = facts.runs[-1]
    return {
        "packages": found,
        "tables": sorted(dict(newest["versions"]).items()),
        "code": newest["code_version"],
        "settings_hash": newest["settings_hash"],
        "schema": SCHEMA_VERSION,
        "run_id": newest["run_id"],
        "published": time_text(newest["finished"])[:19] + "Z",
    }
