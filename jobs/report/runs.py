"""Describe the runs of a warehouse for the report: raw files, stages, fidelity and software versions.

Fidelity measures how well rebuilt books agree with golden rows. A drift is a value of a fidelity metric that
is far from the values of earlier runs.
"""

from __future__ import annotations

import json
import platform
from collections import Counter, defaultdict
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deltabook.jobs.console.formats import format_duration, format_short_time, parse_time
from deltabook.jobs.report.books import Floats
from deltabook.jobs.report.inputs import ReportInputs, RunSummary
from deltabook.jobs.report.statistics import MATCH_METRICS
from deltabook.schemas.names import ALL_HOURS, NANOSECONDS_PER_SECOND
from deltabook.schemas.rows import LedgerRow, RunRow
from deltabook.schemas.tables import FILE_LINES, FILES, SCHEMA_VERSION

_MOST_SHOWN = 50
"""Number of refused files that the report lists."""

RUNS_SHOWN = 20
"""Number of runs that are listed by default."""
SERIES = 12
"""Maximum number of lines in a chart over runs. The lines with the most points are drawn."""
DRIFTS = 40
"""Maximum number of drifts that are listed."""
EARLIER, DEVIATIONS = 5, 6.0
"""A value is a drift if it is far from the median of the values of earlier runs.

`EARLIER` is the smallest number of earlier values for this comparison. `DEVIATIONS` is the distance from
which on a value is far, in robust standard deviations.
"""
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


class ListedRun(RunRow):
    """Row of `runs`, with texts and counts for the report.

    `expectations` is a text with the number of expectations that got each verdict.
    """

    time: str
    length: str
    events: str
    rate: str
    verdicts: dict[str, str]
    failed_hours: int
    expectations: str


class MetricValue(TypedDict):
    """Value of a fidelity metric in one run: a row of the frame that `measure_runs` returns."""

    exchange: str
    symbol: str
    kind: str
    metric: str
    level: int
    run_id: str
    number: int
    value: float
    is_drift: bool
    median: float
    earlier: int


class Drift(MetricValue):
    """A drift, with the name of its metric, and its description as text."""

    name: str
    text: str


class ChartLine(TypedDict):
    """Line of a chart over runs. Each list has one item for each point."""

    name: str
    runs: list[str]
    values: list[float]
    is_drift: list[bool]


class StageRow(TypedDict):
    """A stage of a run.

    `seconds` is the duration of the stage. `whole` is the duration of the whole run in seconds, and `rate` is
    the number of events per second; both are texts.
    """

    command: str
    stage: str
    run_id: str
    seconds: float
    whole: str
    rate: str


class Versions(TypedDict):
    """Versions of the installed packages, and facts about the newest run.

    `tables` has the Delta versions that the run published, `code` is the version of deltabook that made the
    run, and `published` is the time at which the run ended. `schema` is the schema version of the tables.
    """

    packages: dict[str, str]
    tables: list[tuple[str, int]]
    code: str
    settings_hash: str
    schema: str
    run_id: str
    published: str


def select_runs(inputs: ReportInputs, since: str | None) -> list[ListedRun]:
    """Return the runs to list, newest first.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    since : str or None
        First run to list: the id of a run, or a time that `parse_time` reads. With a time, runs that started
        at this time or later are listed. None lists the newest runs; `RUNS_SHOWN` is their maximum number.

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


def _describe_run(run: RunRow, expectations: Counter[str]) -> ListedRun:
    """Return a row of `runs` with texts for the report.

    `expectations` maps each verdict to the number of expectations of the run that got this verdict.
    """
    summary: RunSummary = json.loads(run["summary"])
    rate: int | float | None = json.loads(run["summary"]).get(f"{run['command']}_events_per_second")
    return {
        **run,
        "time": format_short_time(run["started"])[:19] + "Z",
        "length": format_duration(run["finished"] - run["started"]),
        "events": f"{summary['events']:,}" if "events" in summary else "–",
        "rate": "–" if rate is None else f"{rate:,}",
        "verdicts": summary.get("verdicts", {}),
        "failed_hours": summary.get("symbol_hours_failed", 0),
        "expectations": ", ".join(f"{count:,} {name}" for name, count in sorted(expectations.items())),
    }


def measure_runs(inputs: ReportInputs) -> pd.DataFrame:
    """Return one value per fidelity metric and run, and whether the value is a drift.

    If a run measured a metric over all chunks together, this value is returned. Otherwise the value is
    computed from the values of the chunks. The value of a match metric is then the share of matches over all
    chunks. The value of a distribution metric is the largest Kolmogorov-Smirnov D of any chunk.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.

    Returns
    -------
    DataFrame
        The columns of `MetricValue`. `number` is the index of the run, `earlier` counts the values of earlier
        runs, and `median` is the median of these values.
    """
    rows = inputs.fidelity
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
    sums["is_drift"] = np.concatenate([is_drift for is_drift, _ in drifts]) if drifts else []
    sums["median"] = np.concatenate([medians for _, medians in drifts]) if drifts else []
    return sums


def find_drifts(values: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Return whether each value is a drift, and the median of the values before it.

    Parameters
    ----------
    values : float64[n]
        Values of one metric, in the order of runs.

    Returns
    -------
    (bool[n], float64[n])
        Whether each value is a drift, and the median of the values before it. `EARLIER` and `DEVIATIONS`
        define a drift. The standard deviation is estimated from the median absolute deviation. A value with
        too few values before it is no drift, and its median is NaN.
    """
    is_drift, medians = np.zeros(len(values), np.bool_), np.full(len(values), np.nan)
    for index in range(EARLIER, len(values)):
        medians[index] = np.median(values[:index])
        deviation = _TO_DEVIATION * np.median(np.abs(values[:index] - medians[index]))
        distance = abs(values[index] - medians[index])
        is_drift[index] = distance > DEVIATIONS * max(deviation, _LEAST_DEVIATION)
    return is_drift, medians


def list_drifts(series: pd.DataFrame, shown: list[str]) -> list[Drift]:
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
    listed: list[Drift] = []
    for row in cast(list[MetricValue], rows.to_dict("records")):
        level = f" L{row['level']}" if row["level"] else ""
        name = row["metric"] + level + ("" if row["metric"] in MATCH_METRICS else " D")
        text = f"{row['exchange']} {row['symbol']} {row['kind']} {name}: {row['value']:.6g}, the median of "
        text += f"{row['earlier']} runs before is {row['median']:.6g}"
        listed.append({**row, "name": name, "text": text})
    return listed


def select_chart_lines(series: pd.DataFrame, shown: list[str], is_match: bool) -> list[ChartLine]:
    """Return the lines of a chart over runs, either of match ratios or of Kolmogorov-Smirnov D.

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
    list of ChartLine
        Lines with the most points first; empty if no line has two points.
    """
    rows = series[series["run_id"].isin(shown)]
    rows = rows[rows["metric"] == "match"] if is_match else rows[~rows["metric"].isin(MATCH_METRICS)]
    keys = ["exchange", "symbol", "kind", "metric"]
    lines: list[ChartLine] = []
    for key, group in rows.groupby(keys):
        by_run = group.sort_values("number").groupby("number", sort=True)
        best = by_run.agg({"value": "min" if is_match else "max", "is_drift": "any", "run_id": "first"})
        name = " ".join(map(str, key[:3] if is_match else key[1:]))
        lines.append(
            {
                "name": name,
                "runs": best["run_id"].tolist(),
                "values": best["value"].tolist(),
                "is_drift": best["is_drift"].tolist(),
            }
        )
    lines = sorted(lines, key=lambda line: -len(line["runs"]))[:SERIES]
    return lines if lines and len(lines[0]["runs"]) > 1 else []


def list_stages(inputs: ReportInputs) -> list[StageRow]:
    """Return the duration and the rate of each stage of the newest run of each command.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    """
    newest = {run["command"]: run for run in inputs.runs}
    stages: list[StageRow] = []
    for command, run in newest.items():
        summary = json.loads(run["summary"])
        whole = (run["finished"] - run["started"]) / NANOSECONDS_PER_SECOND
        for name in (name for name in summary if name.endswith("_seconds")):
            stage = name.removesuffix("_seconds")
            rate = summary.get(f"{stage}_events_per_second")
            stages.append(
                {
                    "command": command,
                    "stage": stage,
                    "run_id": run["run_id"],
                    "seconds": summary[name],
                    "whole": f"{whole:,.2f}",
                    "rate": "–" if rate is None else f"{rate:,}",
                }
            )
    return stages


def collect_versions(inputs: ReportInputs) -> Versions:
    """Return the versions of the installed software, and of the tables that the newest run published.

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
        "tables": sorted(newest["versions"].items()),
        "code": newest["code_version"],
        "settings_hash": newest["settings_hash"],
        "schema": SCHEMA_VERSION,
        "run_id": newest["run_id"],
        "published": format_short_time(newest["finished"])[:19] + "Z",
    }


class RefusedRow(TypedDict):
    """A refused file, the source that was to read it, and the reason."""

    path: str
    source: str
    reason: str


class RawFilesPart(TypedDict):
    """Values of the section about raw files.

    `sources` has (source, number of files) of the files that were read, `kinds` has (kind, number of lines),
    most frequent first. `more_refused` is the number of refused files that `refused` leaves out.
    """

    sources: list[tuple[str, int]]
    kinds: list[tuple[str, int]]
    refused: list[RefusedRow]
    more_refused: int


def describe_raw_files(inputs: ReportInputs) -> RawFilesPart:
    """Return the values of the section about raw files.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of the warehouse.
    """
    ledger = cast(list[LedgerRow], inputs.stored.rows(FILES))
    sources = Counter(row["source"] for row in ledger if row["state"] == "ingested")
    kinds: Counter[str] = Counter()
    for row in inputs.stored.rows(FILE_LINES, "kind", "lines"):
        kinds[row["kind"]] += row["lines"]
    refused: list[RefusedRow] = [
        {"path": row["path"], "source": row["source"], "reason": row["reason"]}
        for row in sorted(ledger, key=lambda row: row["path"])
        if row["state"] == "failed"
    ]
    return {
        "sources": sources.most_common(),
        "kinds": kinds.most_common(),
        "refused": refused[:_MOST_SHOWN],
        "more_refused": max(0, len(refused) - _MOST_SHOWN),
    }
