"""How the distributions of rebuilt books differ from those of golden ones, on one grid of time.

Tested metrics decide; reported ones are the stylized facts of both sides, side by side, and decide nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.fft
import scipy.stats

from deltabook.udfs.fidelity.sampling import Grid, Series, decimals_of
from deltabook.udfs.fidelity.stylized_facts import stylized_facts

SIGNIFICANCE = 0.05
"""Chance that one call fails a metric of books that have the golden distribution."""
FEWEST, MOST = 8, 2_000
"""Independent samples a side: below, nothing is tested; above, every so many is kept."""
REPLICATIONS, SEED = 200, 0
"""Of the bootstrap."""
_WINDOW = 5.0  # Sokal's c
_FEWEST_FOR_LENGTH = 16


@dataclass(frozen=True)
class Metric:
    """One metric of rebuilt books against golden ones; the fields are those of the table `fidelity`.

    Attributes
    ----------
    metric, level : str, int
        What, and of which level of the book; 0: of no one level.
    compared : int
        Samples a side that were tested, the lesser number; one-second returns if only reported.
    value, golden_value : float
        Means of all samples, or the reported figure.
    statistic, p_value, adjusted_p : float
        Kolmogorov-Smirnov's D, its p, and p after Holm's correction over the call's tests.
    distance : float
        Wasserstein-1 of the tested samples that there are on either side, in the metric's unit.
    low, high : float
        95 % interval of value - golden_value.
    verdict : str
        passed, failed, none (no such golden level, or too few samples), or reported.
    rebuilt, golden : float64[:]
        The tested samples, in time; NaN where one side lacks the level.
    """

    metric: str
    level: int
    compared: int = 0
    value: float = np.nan
    golden_value: float = np.nan
    statistic: float = np.nan
    p_value: float = np.nan
    adjusted_p: float = np.nan
    distance: float = np.nan
    low: float = np.nan
    high: float = np.nan
    verdict: str = "none"
    rebuilt: Series = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    golden: Series = field(default_factory=lambda: np.empty(0), repr=False, compare=False)


def compare(rebuilt: Grid, golden: Grid, known_depth: int) -> list[Metric]:
    """Test and describe the rebuilt books of a symbol-hour against its golden ones.

    Tested by two-sample Kolmogorov-Smirnov: `spread` by level, `mid_return` (log, a step), `bid_size`,
    `ask_size`, `imbalance`, `inter_arrival` (s between changes of the best prices or sizes) and `ofi`. The
    test takes samples for independent ones, so of both sides only every ceil(2 tau)-th is tested, tau being
    the autocorrelation time of the golden series or of its distance from the mean, whichever is longer.

    A level missing on one side alone counts as a sample above all others, so that it can fail; missing on
    both, it is no sample.

    Parameters
    ----------
    rebuilt, golden : Grid
        m books each, of the same depth, on the same steps.
    known_depth : int
        Levels a side that golden books have at most.

    Returns
    -------
    list of Metric
        The tested ones, then those of `stylized_facts` if both sides have enough one-second returns.

    References
    ----------
    Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics
    6(2).
    """
    decimals = (
        decimals_of(rebuilt.ask_prices, golden.ask_prices),
        decimals_of(rebuilt.ask_sizes, golden.ask_sizes),
    )
    pairs = zip(*(_tested(grid, known_depth, *decimals) for grid in (rebuilt, golden)), strict=True)
    metrics = [_measured(name, level, own, truth) for (name, level, own), (_, _, truth) in pairs]
    metrics = _judged(metrics)
    count, facts = stylized_facts(rebuilt)
    known_count, known = stylized_facts(golden)
    least = min(count, known_count)
    return metrics + [
        Metric(name, level, least, figure, known[name, level], verdict="reported")
        for (name, level), figure in (facts.items() if known else ())
    ]


def _tested(
    grid: Grid, known_depth: int, of_prices: list[int], of_sizes: list[int]
) -> Iterator[tuple[str, int, Series]]:
    """Yield name, level and series of each tested metric; NaN where a step has no sample."""
    spreads = grid.ask_prices - grid.bid_prices
    spreads[:, known_depth:] = np.nan
    for level, spread in enumerate(spreads.T, 1):
        yield "spread", level, spread.round(of_prices[level - 1])
    follows = grid.follows()
    yield "mid_return", 0, np.where(follows, np.diff(np.log(grid.mids()), prepend=np.nan), np.nan)
    yield "bid_size", 1, grid.bid_sizes[:, 0]
    yield "ask_size", 1, grid.ask_sizes[:, 0]
    yield "imbalance", 1, grid.imbalances().round(12)
    yield "inter_arrival", 0, grid.inter_arrivals()
    yield "ofi", 1, np.where(follows, grid.order_flow().round(of_sizes[0]), np.nan)


def _measured(name: str, level: int, rebuilt: Series, golden: Series) -> Metric:
    """Return a metric with all but what depends on the other tests."""
    lacking, unknown = np.isnan(rebuilt), np.isnan(golden)
    if unknown.all():
        return Metric(name, level)
    value, golden_value = _mean(rebuilt), _mean(golden)
    low, high = _interval(rebuilt, golden, value, golden_value)
    # Changes of the two sides come at different steps: that one has none is no missing level.
    is_own = name == "inter_arrival"
    chosen = (~lacking, ~unknown) if is_own else (~(lacking & unknown),) * 2
    samples = rebuilt[chosen[0]], golden[chosen[1]]
    known = golden[~unknown]
    # Returns that cluster in size alone are as little independent (measured: 31 % of tests of equals failed).
    tau = max(map(autocorrelation_time, (known, np.abs(known - golden_value))))
    stride = int(np.ceil(max(2 * tau, *(len(series) / MOST for series in samples))))
    own, truth = (series[::stride] for series in samples)
    found = Metric(name, level, min(len(own), len(truth)), value, golden_value, low=low, high=high)
    if found.compared < FEWEST:
        return found
    return _tested_by(found, own, truth)


def _tested_by(metric: Metric, rebuilt: Series, golden: Series) -> Metric:
    """Return a metric with what independent samples tell; NaN where one side lacks the level."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says so where only the asymptotic p is to be had
        result = scipy.stats.ks_2samp(*(np.nan_to_num(series, nan=np.inf) for series in (rebuilt, golden)))
    there = [series[~np.isnan(series)] for series in (rebuilt, golden)]
    distance = scipy.stats.wasserstein_distance(*there) if all(map(len, there)) else np.nan
    return replace(
        metric,
        statistic=float(result.statistic),
        p_value=float(result.pvalue),
        distance=float(distance),
        rebuilt=rebuilt,
        golden=golden,
    )


def _judged(metrics: list[Metric]) -> list[Metric]:
    """Return metrics with the p that is theirs among so many tests, and what follows from it."""
    adjusted = holm(np.array([one.p_value for one in metrics])).tolist()
    return [
        one if np.isnan(p) else replace(one, adjusted_p=p, verdict="passed" if p > SIGNIFICANCE else "failed")
        for one, p in zip(metrics, adjusted, strict=True)
    ]


def pooled(samples: dict[tuple[str, int], tuple[Series, Series]]) -> list[Metric]:
    """Test the samples of many hours together, as `compare` tests those of one.

    Parameters
    ----------
    samples : dict
        By metric and level: those that were tested, of rebuilt and of golden books, hour after hour.

    Returns
    -------
    list of Metric
        The arrays are those samples, of more than 2,000 a side every so many.
    """
    metrics = []
    for (name, level), sides in samples.items():
        stride = int(np.ceil(max(len(side) for side in sides) / MOST))
        own, truth = (side[::stride] for side in sides)
        value, golden_value = (_mean(side) for side in (own, truth))
        low, high = _interval(own, truth, value, golden_value) if len(own) == len(truth) else (np.nan, np.nan)
        found = Metric(name, level, min(len(own), len(truth)), value, golden_value, low=low, high=high)
        metrics.append(_tested_by(found, own, truth))
    return _judged(metrics)


def _mean(series: Series) -> float:
    there = series[~np.isnan(series)]
    return float(there.mean()) if len(there) else np.nan


def autocorrelation_time(series: Series) -> float:
    """Estimate how many samples of a series tell as much as one independent sample.

    ``tau = 1 + 2 sum(rho_k)``, k from 1 to the least M that is at least 5 tau(M).

    Parameters
    ----------
    series : float64[n]
        Evenly spaced.

    Returns
    -------
    float
        At least 1; 1 of a constant series.

    References
    ----------
    Sokal (1997), Monte Carlo Methods in Statistical Mechanics.
    """
    if not len(series) or np.ptp(series) == 0:
        return 1.0
    size = scipy.fft.next_fast_len(2 * len(series), real=True)
    power = np.abs(scipy.fft.rfft(series - series.mean(), size)) ** 2
    covariance = scipy.fft.irfft(power, size)[: len(series)]
    taus = 2 * np.cumsum(covariance / covariance[0]) - 1
    is_enough = np.arange(len(taus)) >= _WINDOW * taus
    return max(float(taus[np.argmax(is_enough) if is_enough.any() else -1]), 1.0)


def holm(p_values: Series) -> Series:
    """Correct p values for being many, by Holm's step-down procedure.

    Parameters
    ----------
    p_values : float64[n]
        NaN: not tested.

    Returns
    -------
    float64[n]
        At most 1; NaN where not tested.
    """
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full_like(p_values, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def _interval(rebuilt: Series, golden: Series, value: float, golden_value: float) -> tuple[float, float]:
    """Return the 95 % interval of value - golden_value, by circular block bootstrap over steps.

    Both means are linear in the resampled steps but for how many have a sample; that is linearized, which is
    exact where all have one: then the paired differences are resampled.
    """
    if np.isnan(value):
        return np.nan, np.nan
    differences = np.full(len(rebuilt), value - golden_value)
    for sign, series, mean in ((1, rebuilt, value), (-1, golden, golden_value)):
        is_there = ~np.isnan(series)
        differences += sign * np.where(is_there, series - mean, 0) / is_there.mean()
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    low, high = np.percentile(block_means(differences, _block_length(differences)), [2.5, 97.5])
    return float(low), float(high)


def block_means(series: Series, length: int) -> Series:
    """Return means of a series resampled by circular blocks, as `arch`'s CircularBlockBootstrap draws them.

    Cost: one addition a block, not a sample, with running sums.

    Parameters
    ----------
    series : float64[n]
        Evenly spaced.
    length : int
        Of a block; at most n.

    Returns
    -------
    float64[REPLICATIONS]
    """
    count = len(series)
    blocks = -(-count // length)
    begins = np.random.default_rng(SEED).integers(count, size=(REPLICATIONS, blocks))
    ends = begins + length
    ends[:, -1] -= blocks * length - count
    mean = series.mean()
    sums = np.append(0, np.cumsum(np.append(series, series[:length]) - mean))
    return mean + (sums[ends] - sums[begins]).sum(axis=1) / count  # type: ignore[no-any-return]


def _block_length(series: Series) -> int:
    """Return Politis and White's optimal length, or the cube root of n if that is longer.

    Of a long series they see every so many alone: from 10,000 numbers on OpenBLAS would start threads, which
    on busy cores wait for one another (measured: `compare` took 3 times as long).
    """
    from arch.bootstrap import optimal_block_length

    count, stride, length = len(series), -(-len(series) // 9_000), np.ceil(np.cbrt(len(series)))
    if count > _FEWEST_FOR_LENGTH:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parts of a series may be constant
            optimal = optimal_block_length(series[::stride])["circular"].iloc[0]
        length = np.fmax(length, np.ceil(stride * optimal))
    return int(min(length, count))
