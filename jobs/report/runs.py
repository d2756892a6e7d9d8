"""Runs of a warehouse for the report: a list, stages, changes of fidelity, and software versions.

Fidelity is how well rebuilt books agree with golden rows. A drift is a value of a fidelity metric that is far
from the values of earlier runs.
"""

from __future__ import annotations

import json
import platform
from collections import Counter, defaultdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from deltabook.jobs.console.formats import format_duration, format_short_time, parse_time
from deltabook.jobs.report.inputs import ReportInputs
from deltabook.jobs.report.statistics import MATCH_METRICS
from deltabook.schemas.names import ALL_HOURS, NANOSECONDS_PER_SECOND
from deltabook.schemas.tables import SCHEMA_VERSION

RUNS_SHOWN = 20
"""Number of runs that are listed by default."""
SERIES = 12
"""Maximum number of lines in a chart over runs. If there are more, those with the most points are drawn."""
DRIFTS = 40
"""Maximum number of drifts that are listed."""
EARLIER, DEVIATIONS = 5, 6.0
"""Limits for a drift. It is more than `DEVIATIONS` robust standard deviations away from the median of the
earlier values, of which there are at least `EARLIER`."""
_TO_DEVIATION = 1.4826  # standard deviation / median absolute deviation of a normal distribution
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


def select_runs(inputs: ReportInputs, since: str | None) -> list[dict[str, Any]]:
    """Return the runs to list, newest first.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    since : str or None
        Id of the first run to list; or a time that `parse_time` reads, to list runs that started at this time
        or later. None: the last `RUNS_SHOWN` runs.

    Returns
    -------
    list of dict
        Rows of `runs`, each with additional fields for its time, duration, rate and verdicts.

    Raises
    ------
    SettingsError
        If `since` is neither the id of a run nor a time.
    """
    ids = [run["run_id"] for run in inputs.runs]
    if since is None:
        chosen = inputs.runs[-RUNS_SHOWN:]
    elif since in ids:
        chosen = inputs.runs[ids.index(since) :]
    else:
        earliest = parse_time(since)
        chosen = [run for run in inputs.runs if run["started"] >= earliest]
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in inputs.validations:
        verdicts[row["run_id"]][row["verdict"]] += 1
    return [_describe_run(run, verdicts[run["run_id"]]) for run in reversed(chosen)]


def _describe_run(run: dict[str, Any], expectations: Counter[str]) -> dict[str, Any]:
    summary = json.loads(run["summary"])
    return run | {
        "time": format_short_time(run["started"])[:19] + "Z",
        "length": format_duration(run["finished"] - run["started"]),
        "events": f"{summary['events']:,}" if "events" in summary else "–",
        "rate": f"{summary[rate]:,}" if (rate := f"{run['command']}_events_per_second") in summary else "–",
        "verdicts": summary.get("verdicts", {}),
        "failed_hours": summary.get("symbol_hours_failed", 0),
        "expectations": ", ".join(f"{count:,} {name}" for name, count in sorted(expectations.items())),
    }


def measure_runs(inputs: ReportInputs) -> Any:
    """Return one value per fidelity metric and run, and whether the value is a drift.

    A run may have measured all chunks together. If so, this value is returned. Otherwise it is computed from
    the run's chunks: for a match metric, the overall match ratio; else the largest Kolmogorov-Smirnov D.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.

    Returns
    -------
    DataFrame
        Columns exchange, symbol, kind, metric, level, run_id, number (index of the run), value, is_drift,
        median (of the values of earlier runs) and earlier (number of earlier values).
    """
    rows: Any = inputs.fidelity
    numbers = {run["run_id"]: number for number, run in enumerate(inputs.runs)}
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
    drifts = [find_drifts(group["value"].to_numpy()) for _, group in groups]
    sums["earlier"] = groups.cumcount()
    sums["is_drift"], sums["median"] = map(np.concatenate, zip(*drifts, strict=True)) if drifts else ([], [])
    return sums


def find_drifts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which values are drifts: far from the values before them.

    Parameters
    ----------
    values : float64[n]
        Values of one metric, in the order of runs.

    Returns
    -------
    (bool[n], float64[n])
        Whether each value is a drift, and the median of all values before it. A drift is more than
        `DEVIATIONS` robust standard deviations away from the median. The deviation is estimated from the
        median absolute deviation. With fewer than `EARLIER` earlier values, a value is no drift, and its
        median is NaN.
    """
    is_drift, medians = np.zeros(len(values), np.bool_), np.full(len(values), np.nan)
    for index in range(EARLIER, len(values)):
        medians[index] = np.median(values[:index])
        deviation = _TO_DEVIATION * np.median(np.abs(values[:index] - medians[index]))
        distance = abs(values[index] - medians[index])
        is_drift[index] = distance > DEVIATIONS * max(deviation, _LEAST_DEVIATION)
    return is_drift, medians


def list_drifts(series: Any, shown: list[str]) -> list[dict[str, Any]]:
    """Return the drifts of the listed runs, newest first.

    Parameters
    ----------
    series : DataFrame
        Values from `measure_runs`.
    shown : list of str
        Ids of the listed runs.
    """
    rows = series[series["is_drift"] & series["run_id"].isin(shown)]
    rows = rows.sort_values("number", ascending=False, kind="stable").head(DRIFTS)
    listed = []
    for row in rows.to_dict("records"):
        level = f" L{row['level']}" if row["level"] else ""
        name = row["metric"] + level + ("" if row["metric"] in MATCH_METRICS else " D")
        text = f"{row['exchange']} {row['symbol']} {row['kind']} {name}: {row['value']:.6g}, the median of "
        text += f"{row['earlier']} runs before is {row['median']:.6g}"
        listed.append(row | {"name": name, "text": text})
    return listed


def select_chart_lines(series: Any, shown: list[str], is_match: bool) -> list[dict[str, Any]]:
    """Return the lines of a chart over runs: of match ratios, or of the Kolmogorov-Smirnov statistic D.

    Parameters
    ----------
    series : DataFrame
        Values from `measure_runs`.
    shown : list of str
        Ids of the listed runs.
    is_match : bool
        True: lines of match ratios. False: lines of the largest D over all levels.

    Returns
    -------
    list of dict
        Lines, each with `name`, `runs` (ids), `values` and `is_drift`. The list is empty if no line has two
        points.
    """
    rows = series[series["run_id"].isin(shown)]
    rows = rows[rows["metric"] == "match"] if is_match else rows[~rows["metric"].isin(MATCH_METRICS)]
    keys = ["exchange", "symbol", "kind", "metric"]
    lines = []
    for key, group in rows.groupby(keys):
        by_run = group.sort_values("number").groupby("number", sort=True)
        best = by_run.agg({"value": "min" if is_match else "max", "is_drift": "any", "run_id": "first"})
        name = " ".join(key[:3] if is_match else key[1:])
        points = {"runs": best["run_id"].tolist(), "values": best["value"].tolist()}
        lines.append({"name": name} | points | {"is_drift": best["is_drift"].tolist()})
    lines = sorted(lines, key=lambda line: -len(line["runs"]))[:SERIES]
    return lines if lines and len(lines[0]["runs"]) > 1 else []


def list_stages(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the duration and the rate of each stage, from the newest run of each command.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    newest = {run["command"]: run for run in inputs.runs}
    stages = []
    for command, run in newest.items():
        summary = json.loads(run["summary"])
        whole = (run["finished"] - run["started"]) / NANOSECONDS_PER_SECOND
        for name in (name for name in summary if name.endswith("_seconds")):
            stage = name.removesuffix("_seconds")
            rate = summary.get(f"{stage}_events_per_second")
            row = {"command": command, "stage": stage, "run_id": run["run_id"], "seconds": summary[name]}
            stages.append(row | {"whole": f"{whole:,.2f}", "rate": "–" if rate is None else f"{rate:,}"})
    return stages


def collect_versions(inputs: ReportInputs) -> dict[str, Any]:
    """Return the versions of the software, of the schema, and of each table of the newest run.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    packages = {"Python": platform.python_version()}
    for name, package in _PACKAGES.items():
        try:
            packages[name] = version(package)
        except PackageNotFoundError:
            packages[name] = "not installed"
    newest = inputs.runs[-1]
    return {
        "packages": packages,
        "tables": sorted(dict(newest["versions"]).items()),
        "code": newest["code_version"],
        "settings_hash": newest["settings_hash"],
        "schema": SCHEMA_VERSION,
        "run_id": newest["run_id"],
        "published": format_short_time(newest["finished"])[:19] + "Z",
    }
