"""Describe the distributions of rebuilt and golden books by tests, metrics, quantiles and volatility."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import scipy.signal

from deltabook.jobs.console.formats import format_chunk
from deltabook.jobs.report.books import BookSeries, Floats
from deltabook.jobs.report.inputs import FidelityRow, Instrument, ReportInputs, list_fidelity_rows
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.validation_tables import SAMPLES

QUANTILES = np.linspace(0, 1, 101)
"""Probabilities of the quantiles that are drawn."""
MATCH_METRICS = ("match", "price_match", "size_match")
"""Metrics of `fidelity` that count equal books or equal levels. Other metrics describe distributions."""
TAIL_ALPHA = (2.0, 5.0)
"""Range of plausible tail exponents of returns. The report marks an exponent outside this range."""
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
        Level of the book, from 1; 0 if the metric has no level.
    unit : str
        Unit of the values.
    rebuilt, golden : float64[101]
        Quantiles of rebuilt and of golden samples, at the probabilities `QUANTILES`.
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


class MetricRow(FidelityRow):
    """Row of `fidelity` for a distribution metric, with three more fields for the report.

    `name` consists of the metric and the level. `difference` is the value of rebuilt books less the value of
    golden books. `is_odd` says whether the metric is a tail exponent outside the range `TAIL_ALPHA`.
    """

    name: str
    difference: float
    is_odd: bool


class DistributionGroup(TypedDict):
    """Distribution metrics of one instrument, compared with one kind of golden row.

    A tested metric has a statistical test. A reported metric has only values, for rebuilt and for golden
    books.

    `tested` and `curves` describe the chunk that starts at `hour`, and `time` is this start as text.
    `reported` describes the chunk that starts at `reported_time`. All three may also describe all chunks
    together. `tested_hours` counts the chunks with tested metrics, and `reported_hours` counts the chunks
    with reported metrics. `failed_hours` lists the starts of the chunks in which a test failed.
    """

    exchange: str
    symbol: str
    kind: str
    hour: int
    time: str
    tested_hours: int
    failed_hours: list[str]
    tested: list[MetricRow]
    reported: list[MetricRow]
    reported_time: str
    reported_hours: int
    curves: list[Curve]


class _SampleRow(TypedDict):
    """The columns of a row of `samples` that are needed to draw curves."""

    hour: int
    metric: str
    level: int
    rebuilt: list[float]
    golden: list[float]


def describe_distributions(inputs: ReportInputs, shown: list[Instrument]) -> list[DistributionGroup]:
    """Return tested metrics, reported metrics and curves for each instrument and kind of golden row.

    `DistributionGroup` explains tested and reported metrics.

    Parameters
    ----------
    inputs : ReportInputs
        Tables of a warehouse.
    shown : list of (str, str)
        Exchange and symbol of the instruments to describe.

    Returns
    -------
    list of DistributionGroup
        Metrics over all chunks together, if the run measured such metrics. Otherwise the tested metrics come
        from the chunk with the smallest p value, and the reported metrics come from the chunk with the most
        samples.
    """
    rows = inputs.latest_fidelity[~inputs.latest_fidelity["metric"].isin(MATCH_METRICS)]
    rows = rows[(rows["compared"] > 0) | rows["statistic"].notna() | (rows["verdict"] == "reported")]
    groups: list[DistributionGroup] = []
    for key, group in rows.groupby(["exchange", "symbol", "kind"], sort=True):
        exchange, symbol, kind = map(str, key)
        if (exchange, symbol) not in shown:
            continue
        tested = group[group["statistic"].notna() & (group["hour"] != ALL_HOURS)]
        hours = group["hour"].unique()
        if ALL_HOURS in hours:
            hour = ALL_HOURS
        elif tested["adjusted_p"].notna().any():
            hour = int(tested.nsmallest(1, "adjusted_p")["hour"].iloc[0])
        else:
            hour = int(hours[0])
        is_reported = group["verdict"] == "reported"
        described = group[is_reported & (group["hour"] == _most_sampled_hour(group[is_reported]))]
        groups.append(
            {
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
                "curves": _read_curves(inputs, (exchange, symbol), kind, hour),
            }
        )
    return groups


def _most_sampled_hour(reported: pd.DataFrame) -> int:
    """Return the start of the chunk with the most samples.

    Return `ALL_HOURS` if a row covers all chunks together, or if there are no rows.
    """
    if (reported["hour"] == ALL_HOURS).any() or reported.empty:
        return ALL_HOURS
    return int(reported["hour"].iloc[int(reported["compared"].argmax())])


def _describe_metrics(rows: pd.DataFrame) -> Iterator[MetricRow]:
    """Yield rows of `fidelity` in the order of `_ORDER` and by level, with the columns of `MetricRow`."""
    order = {name: number for number, name in enumerate(_ORDER)}
    numbers = rows["metric"].map(order).fillna(len(order))
    for row in list_fidelity_rows(rows.iloc[np.lexsort([rows["level"], numbers])]):
        is_tail = row["metric"] == "return_tail_alpha" and np.isfinite(row["value"])
        yield {
            **row,
            "name": f"{row['metric']} L{row['level']}" if row["level"] else row["metric"],
            "difference": row["value"] - row["golden_value"],
            "is_odd": bool(is_tail) and not TAIL_ALPHA[0] <= row["value"] <= TAIL_ALPHA[1],
        }


def _read_curves(inputs: ReportInputs, instrument: Instrument, kind: str, hour: int) -> list[Curve]:
    """Return the curve of each tested metric, from the samples of one chunk.

    `hour` is the start of the chunk. If the chunk has no samples, the samples of all chunks are used. If a
    metric has several levels, only level 1 has a curve.
    """
    if not inputs.stored.exists(SAMPLES):
        return []
    chosen = ds.field("level") <= 1
    for name, value in zip(("exchange", "symbol", "kind"), (*instrument, kind), strict=True):
        chosen &= ds.field(name) == value
    rows: list[_SampleRow] = inputs.stored.dataset(SAMPLES).to_table(filter=chosen).to_pylist()
    rows = [row for row in rows if row["hour"] == hour] or rows
    curves = []
    for name, level in sorted({(row["metric"], row["level"]) for row in rows}, key=_metric_order):
        chosen_rows = [row for row in rows if (row["metric"], row["level"]) == (name, level)]
        own = _pool_samples([row["rebuilt"] for row in chosen_rows])
        truth = _pool_samples([row["golden"] for row in chosen_rows])
        if len(own) and len(truth):
            factor = _BASIS_POINTS if name == "mid_return" else 1
            quantiles = (np.quantile(series, QUANTILES) * factor for series in (own, truth))
            curves.append(Curve(name, level, _UNITS.get(name, ""), *quantiles))
    return curves


def _pool_samples(samples: list[list[float]]) -> Floats:
    """Return the finite values of several lists of samples as one array."""
    pooled: Floats = np.concatenate([np.array(values, float) for values in samples])
    return pooled[np.isfinite(pooled)]


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
        omega (squared basis points), alpha and beta. They were fitted to all chunks together or, if no such
        fit was reported, to the chunk with the most samples. None if no parameters were reported.
    """
    rows = inputs.latest_fidelity
    rows = rows[(rows["exchange"] == instrument[0]) & (rows["symbol"] == instrument[1])]
    rows = rows[rows["metric"].isin(_GARCH) & np.isfinite(rows["value"])]
    parameters = rows[rows["hour"] == _most_sampled_hour(rows)].pivot_table("value", "kind", "metric")
    parameters = parameters.reindex(columns=list(_GARCH)).dropna()
    if parameters.empty:
        return None
    omega, alpha, beta = parameters.iloc[0]
    return float(omega), float(alpha), float(beta)


def conditional_volatility(books: BookSeries, garch: tuple[float, float, float]) -> Floats:
    """Return the conditional volatility of one-second mid returns under a GARCH(1, 1) model.

    ``variance_t = omega + alpha * return_(t-1)^2 + beta * variance_(t-1)``. The first variance is the mean of
    the squared returns. This mean also replaces each squared return that is NaN.

    Parameters
    ----------
    books : BookSeries
        Books of one instrument.
    garch : (float, float, float)
        omega (squared basis points), alpha and beta.

    Returns
    -------
    float64[n - 1]
        Volatility of each second except the first, basis points; NaN where the return is NaN.

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
