"""Distributions of rebuilt and golden books: tests, reported metrics, quantiles and GARCH volatility."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import scipy.signal

from deltabook.jobs.console.formats import format_chunk
from deltabook.jobs.report.books import BookSeries, Floats
from deltabook.jobs.report.inputs import Instrument, ReportInputs
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.tables import SAMPLES

QUANTILES = np.linspace(0, 1, 101)
"""Probabilities at which the distributions of samples are drawn."""
MATCH_METRICS = ("match", "price_match", "size_match")
"""Metrics of `fidelity` that count equal books or levels. All other metrics describe distributions."""
TAIL_ALPHA = (2.0, 5.0)
"""Range in which the tail exponent of returns is expected."""
_ORDER = ("spread", "mid_return", "bid_size", "ask_size", "imbalance", "inter_arrival", "ofi")
_UNITS = {
    **{"spread": "price", "mid_return": "basis points", "bid_size": "size", "ask_size": "size"},
    **{"imbalance": "−1 to 1", "inter_arrival": "s", "ofi": "size"},
}
_BASIS_POINTS = 1e4
_GARCH = ("garch_omega", "garch_alpha", "garch_beta")


@dataclass(frozen=True)
class Curve:
    """Distribution of one metric for rebuilt and for golden books.

    Attributes
    ----------
    metric : str
        Name of the metric.
    level : int
        Level of the book, from 1; 0 if the metric has none.
    unit : str
        Unit of the values.
    rebuilt, golden : float64[101]
        Quantiles of rebuilt and of golden samples at `QUANTILES`.
    """

    metric: str
    level: int
    unit: str
    rebuilt: Floats
    golden: Floats

    @property
    def name(self) -> str:
        """Metric and level, such as `spread L1`."""
        return f"{self.metric} L{self.level}" if self.level else self.metric


def describe_distributions(inputs: ReportInputs, shown: list[Instrument]) -> list[dict[str, Any]]:
    """Return the distribution metrics of each instrument and kind of golden row.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    shown : list of (str, str)
        Exchange and symbol of the instruments to describe.

    Returns
    -------
    list of dict
        One dict for each instrument and kind. `tested` and `curves` have the tested metrics and their curves
        over all chunks together; if these were not measured, of the chunk with the smallest p value.
        `reported` has the reported metrics over all chunks together; if these were not measured, of the chunk
        with the most samples. `tested_hours` is the number of tested chunks, and `failed_hours` lists the
        failed chunks.
    """
    rows: Any = inputs.latest_fidelity[~inputs.latest_fidelity["metric"].isin(MATCH_METRICS)]
    rows = rows[(rows["compared"] > 0) | rows["statistic"].notna() | (rows["verdict"] == "reported")]
    groups = []
    for (exchange, symbol, kind), group in rows.groupby(["exchange", "symbol", "kind"], sort=True):
        if (exchange, symbol) not in shown:
            continue
        tested = group[group["statistic"].notna() & (group["hour"] != ALL_HOURS)]
        hours = group["hour"].unique()
        worst = (
            tested["hour"][tested["adjusted_p"].idxmin()] if tested["adjusted_p"].notna().any() else hours[0]
        )
        hour = int(ALL_HOURS if ALL_HOURS in hours else worst)
        is_reported = group["verdict"] == "reported"
        described = group[is_reported & (group["hour"] == _most_sampled_hour(group[is_reported]))]
        entry = {
            "exchange": exchange,
            "symbol": symbol,
            "kind": kind,
            "hour": hour,
            "time": format_chunk(hour),
            "tested_hours": tested["hour"].nunique(),
            "failed_hours": [
                format_chunk(failed) for failed in tested["hour"][tested["verdict"] == "failed"].unique()
            ],
            "tested": list(_describe_metrics(group[~is_reported & (group["hour"] == hour)])),
            "reported": list(_describe_metrics(described)),
            "reported_time": format_chunk(described["hour"].iloc[0]) if len(described) else "",
            "reported_hours": group["hour"][is_reported].nunique(),
        }
        groups.append(entry | {"curves": _read_curves(inputs, entry)})
    return groups


def _most_sampled_hour(reported: Any) -> int:
    """Return the chunk with the most samples, or ALL_HOURS.

    ALL_HOURS is returned if all chunks were measured together, or if there are no rows.
    """
    if (reported["hour"] == ALL_HOURS).any() or reported.empty:
        return ALL_HOURS
    return int(reported["hour"].loc[reported["compared"].idxmax()])


def _describe_metrics(rows: Any) -> Iterator[dict[str, Any]]:
    order = {name: number for number, name in enumerate(_ORDER)}
    numbers = rows["metric"].map(order).fillna(len(order))
    for row in rows.iloc[np.lexsort([rows["level"], numbers])].to_dict("records"):
        is_tail = row["metric"] == "return_tail_alpha" and np.isfinite(row["value"])
        yield row | {
            "name": f"{row['metric']} L{row['level']}" if row["level"] else row["metric"],
            "difference": row["value"] - row["golden_value"],
            "is_odd": is_tail and not TAIL_ALPHA[0] <= row["value"] <= TAIL_ALPHA[1],
        }


def _read_curves(inputs: ReportInputs, group: dict[str, Any]) -> list[Curve]:
    """Return the curves of the tested metrics, from the stored samples.

    A metric that is tested at several levels only gets the curve of level 1.
    """
    if not inputs.stored.exists(SAMPLES):
        return []
    chosen = ds.field("level") <= 1
    for name in ("exchange", "symbol", "kind"):
        chosen &= ds.field(name) == group[name]
    table = inputs.stored.dataset(SAMPLES).to_table(filter=chosen)
    rows = table.to_pylist()
    rows = [row for row in rows if row["hour"] == group["hour"]] or rows
    curves = []
    for name, level in sorted({(row["metric"], row["level"]) for row in rows}, key=_metric_order):
        pooled = [
            np.concatenate(
                [np.array(row[side], float) for row in rows if (row["metric"], row["level"]) == (name, level)]
            )
            for side in ("rebuilt", "golden")
        ]
        own, truth = (series[np.isfinite(series)] for series in pooled)
        if len(own) and len(truth):
            factor = _BASIS_POINTS if name == "mid_return" else 1
            quantiles = (np.quantile(series, QUANTILES) * factor for series in (own, truth))
            curves.append(Curve(name, level, _UNITS.get(name, ""), *quantiles))
    return curves


def _metric_order(metric: tuple[str, int]) -> tuple[int, str, int]:
    name, level = metric
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER)), name, level


def find_garch(inputs: ReportInputs, instrument: Instrument) -> tuple[float, float, float] | None:
    """Return the GARCH(1, 1) parameters that were reported for the rebuilt books of an instrument.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    instrument : (str, str)
        Exchange and symbol.

    Returns
    -------
    (float, float, float) or None
        omega (squared basis points), alpha and beta of all chunks together. If these were not measured, the
        parameters of the chunk with the most samples. None if no parameters were reported.
    """
    rows: Any = inputs.latest_fidelity
    rows = rows[(rows["exchange"] == instrument[0]) & (rows["symbol"] == instrument[1])]
    rows = rows[rows["metric"].isin(_GARCH) & np.isfinite(rows["value"])]
    parameters = rows[rows["hour"] == _most_sampled_hour(rows)].pivot_table("value", "kind", "metric")
    parameters = parameters.reindex(columns=list(_GARCH)).dropna()
    if parameters.empty:
        return None
    omega, alpha, beta = parameters.iloc[0]
    return float(omega), float(alpha), float(beta)


def conditional_volatility(books: BookSeries, garch: tuple[float, float, float]) -> Floats:
    """Return the conditional volatility of one-second mid returns by a GARCH(1, 1) model.

    ``variance_t = omega + alpha * return_(t-1)^2 + beta * variance_(t-1)``. The first variance is the mean
    squared return. The mean squared return also replaces squared returns that are not known.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument.
    garch : (float, float, float)
        omega (squared basis points), alpha and beta.

    Returns
    -------
    float64[n - 1]
        Volatility of each second except the first, basis points; NaN if the return is not known.

    References
    ----------
    Bollerslev (1986), Generalized Autoregressive Conditional Heteroskedasticity, Journal of Econometrics
    31(3).
    """
    omega, alpha, beta = garch
    squares = books.returns() ** 2
    known = squares[np.isfinite(squares)]
    if not len(known):
        return np.full(len(squares), np.nan)
    start = known.mean()
    before = np.append(start, np.where(np.isfinite(squares), squares, start)[:-1])
    driven = omega + alpha * before
    driven[0] = start
    variance = scipy.signal.lfilter([1.0], [1.0, -beta], driven)
    return np.where(np.isfinite(squares), np.sqrt(variance), np.nan)
