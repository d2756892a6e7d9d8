"""The report's distributions: tested and reported metrics, quantiles of both sides, GARCH volatility."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import scipy.signal

from deltabook.jobs.console.formats import hour_text
from deltabook.jobs.report.books import Books, Floats
from deltabook.jobs.report.facts import Facts, Instrument
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.tables import SAMPLES

QUANTILES = np.linspace(0, 1, 101)
"""Probabilities at which the distributions of samples are drawn."""
MATCH_METRICS = ("match", "price_match", "size_match")
"""Metrics of `fidelity` that count equal books; all others are of distributions."""
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
    """One metric's distribution on both sides, as quantiles at `QUANTILES`."""

    metric: str
    level: int
    unit: str
    rebuilt: Floats
    golden: Floats

    @property
    def name(self) -> str:
        """Metric and level."""
        return f"{self.metric} L{self.level}" if self.level else self.metric


def distributions(facts: Facts, shown: list[Instrument]) -> list[dict[str, Any]]:
    """Tell the metrics of each instrument and kind of golden row.

    Parameters
    ----------
    facts : Facts
        What was published.
    shown : list of (exchange, symbol)
        Of these instruments alone.

    Returns
    -------
    list of dict
        Of all hours together, or of the hour with the least p if that was not measured: the metrics `tested`
        and the `curves`; `reported` ones of all hours or of that with the most samples; `tested_hours`, and
        the `failed_hours` among them.
    """
    rows: Any = facts.standing[~facts.standing["metric"].isin(MATCH_METRICS)]
    rows = rows[(rows["compared"] > 0) | rows["statistic"].notna() | (rows["verdict"] == "reported")]
    found = []
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
        described = group[is_reported & (group["hour"] == _best_described(group[is_reported]))]
        told = {
            "exchange": exchange,
            "symbol": symbol,
            "kind": kind,
            "hour": hour,
            "time": hour_text(hour),
            "tested_hours": tested["hour"].nunique(),
            "failed_hours": [
                hour_text(one) for one in tested["hour"][tested["verdict"] == "failed"].unique()
            ],
            "tested": list(_told(group[~is_reported & (group["hour"] == hour)])),
            "reported": list(_told(described)),
            "reported_time": hour_text(described["hour"].iloc[0]) if len(described) else "",
            "reported_hours": group["hour"][is_reported].nunique(),
        }
        found.append(told | {"curves": _curves(facts, told)})
    return found


def _best_described(reported: Any) -> int:
    """Choose all hours together, else the hour with the most samples; ALL_HOURS if there is none."""
    if (reported["hour"] == ALL_HOURS).any() or reported.empty:
        return ALL_HOURS
    return int(reported["hour"].loc[reported["compared"].idxmax()])


def _told(rows: Any) -> Iterator[dict[str, Any]]:
    order = {name: number for number, name in enumerate(_ORDER)}
    numbers = rows["metric"].map(order).fillna(len(order))
    for row in rows.iloc[np.lexsort([rows["level"], numbers])].to_dict("records"):
        is_tail = row["metric"] == "return_tail_alpha" and np.isfinite(row["value"])
        yield row | {
            "name": f"{row['metric']} L{row['level']}" if row["level"] else row["metric"],
            "difference": row["value"] - row["golden_value"],
            "is_odd": is_tail and not TAIL_ALPHA[0] <= row["value"] <= TAIL_ALPHA[1],
        }


def _curves(facts: Facts, of: dict[str, Any]) -> list[Curve]:
    """Read the samples behind the tested metrics, of the best level where there are several."""
    if not facts.stored.exists(SAMPLES):
        return []
    chosen = ds.field("level") <= 1
    for name in ("exchange", "symbol", "kind"):
        chosen &= ds.field(name) == of[name]
    table = facts.stored.dataset(SAMPLES).to_table(filter=chosen)
    rows = table.to_pylist()
    rows = [row for row in rows if row["hour"] == of["hour"]] or rows
    curves = []
    for name, level in sorted({(row["metric"], row["level"]) for row in rows}, key=_place):
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


def _place(metric: tuple[str, int]) -> tuple[int, str, int]:
    name, level = metric
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER)), name, level


def garch_of(facts: Facts, instrument: Instrument) -> tuple[float, float, float] | None:
    """Find the GARCH(1, 1) parameters that were reported of an instrument's rebuilt books.

    Parameters
    ----------
    facts : Facts
        What was published.
    instrument : (exchange, symbol)
        Whose.

    Returns
    -------
    (float, float, float) or None
        omega (squared basis points), alpha and beta, of all hours if they were measured together, else of
        the hour with the most samples; None if none has them.
    """
    rows: Any = facts.standing
    rows = rows[(rows["exchange"] == instrument[0]) & (rows["symbol"] == instrument[1])]
    rows = rows[rows["metric"].isin(_GARCH) & np.isfinite(rows["value"])]
    found = rows[rows["hour"] == _best_described(rows)].pivot_table("value", "kind", "metric")
    found = found.reindex(columns=list(_GARCH)).dropna()
    if found.empty:
        return None
    omega, alpha, beta = found.iloc[0]
    return float(omega), float(alpha), float(beta)


def volatility(books: Books, garch: tuple[float, float, float]) -> Floats:
    """Return the conditional volatility of one-second returns: what the past says of the next.

    ``variance_t = omega + alpha * return_(t-1)^2 + beta * variance_(t-1)``; the mean square is its start and
    stands for what is not known.

    Parameters
    ----------
    books : Books
        Whose mids.
    garch : (float, float, float)
        omega, alpha and beta.

    Returns
    -------
    float64[n - 1]
        Basis points, one for each second but the first; NaN after a pause.

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
