"""Tests whether rebuilt and golden books have the same distributions, on one time grid.

Tested metrics pass or fail. Reported metrics, the stylized facts of both sides, only inform.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.fft
import scipy.stats

from deltabook.udfs.fidelity.sampling import Grid, Series, choose_decimals
from deltabook.udfs.fidelity.stylized_facts import compute_stylized_facts

SIGNIFICANCE = 0.05
"""Probability that one call fails any metric although both sides have the same distribution."""
MIN_SAMPLES, MAX_SAMPLES = 8, 2_000
"""Limits of independent samples a side: with fewer, nothing is tested; more are thinned evenly."""
REPLICATIONS, SEED = 200, 0
"""Resamplings of the bootstrap, and the seed of its random numbers."""
_SOKAL_WINDOW = 5.0
"""Sokal's c: the autocorrelation sum ends at the first lag that is c times the sum."""
_MIN_FOR_OPTIMAL_BLOCK = 16
"""Samples from which on the optimal length of a bootstrap block is estimated."""


@dataclass(frozen=True)
class Metric:
    """One metric of rebuilt books and of golden books; most fields are columns of the table `fidelity`.

    Attributes
    ----------
    metric : str
        Name of the metric.
    level : int
        Level of the book, from 1; 0: the metric is not about one level.
    compared : int
        Tested samples of the side that has fewer; one-second returns if the metric is only reported.
    value, golden_value : float
        Means of all samples of the rebuilt and the golden side, or the reported figures.
    statistic : float
        Kolmogorov-Smirnov's D.
    p_value, adjusted_p : float
        The test's p value, and the same after Holm's correction over all tests of the call.
    distance : float
        Wasserstein-1 distance of the tested samples, in the metric's unit; missing levels are left out.
    low, high : float
        95 % confidence interval of value - golden_value.
    verdict : str
        passed, failed, none (no golden level, or too few samples), or reported.
    rebuilt, golden : float64[:]
        The tested samples, in time order; NaN where one side lacks the level.
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


def compare_grids(rebuilt: Grid, golden: Grid, golden_depth: int) -> list[Metric]:
    """Test whether the rebuilt books of a chunk have the distributions of its golden books.

    Two-sample Kolmogorov-Smirnov tests of: `spread` by level, `mid_return` (log return of a step),
    `bid_size`, `ask_size`, `imbalance`, `inter_arrival` (seconds between changes of the best prices or
    sizes) and `ofi`. The test assumes independent samples, so only every ceil(2 tau)-th sample of both sides
    is tested. tau is the autocorrelation time of the golden series or of its distance from the mean,
    whichever is longer.

    A level that one side lacks counts as a sample above all others, so that the test can fail. A level that
    both sides lack is no sample.

    Parameters
    ----------
    rebuilt, golden : Grid
        m books each, of the same depth, on the same steps.
    golden_depth : int
        Most levels a side of the golden books.

    Returns
    -------
    list of Metric
        Tested metrics, then those of `compute_stylized_facts` if both sides have enough one-second returns.

    References
    ----------
    Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics
    6(2).
    """
    decimals = (
        choose_decimals(rebuilt.ask_prices, golden.ask_prices),
        choose_decimals(rebuilt.ask_sizes, golden.ask_sizes),
    )
    pairs = zip(*(_make_series(grid, golden_depth, *decimals) for grid in (rebuilt, golden)), strict=True)
    metrics = [
        _measure(name, level, series, golden_series) for (name, level, series), (_, _, golden_series) in pairs
    ]
    metrics = _decide_verdicts(metrics)
    count, facts = compute_stylized_facts(rebuilt)
    golden_count, golden_facts = compute_stylized_facts(golden)
    least = min(count, golden_count)
    return metrics + [
        Metric(name, level, least, figure, golden_facts[name, level], verdict="reported")
        for (name, level), figure in (facts.items() if golden_facts else ())
    ]


def _make_series(
    grid: Grid, golden_depth: int, price_decimals: list[int], size_decimals: list[int]
) -> Iterator[tuple[str, int, Series]]:
    """Yield name, level and series of each tested metric; a series is NaN where a step has no sample."""
    spreads = grid.ask_prices - grid.bid_prices
    spreads[:, golden_depth:] = np.nan
    for level, spread in enumerate(spreads.T, 1):
        yield "spread", level, spread.round(price_decimals[level - 1])
    follows = grid.follows()
    yield "mid_return", 0, np.where(follows, np.diff(np.log(grid.mids()), prepend=np.nan), np.nan)
    yield "bid_size", 1, grid.bid_sizes[:, 0]
    yield "ask_size", 1, grid.ask_sizes[:, 0]
    yield "imbalance", 1, grid.imbalances().round(12)
    yield "inter_arrival", 0, grid.inter_arrivals()
    yield "ofi", 1, np.where(follows, grid.order_flow().round(size_decimals[0]), np.nan)


def _measure(name: str, level: int, rebuilt: Series, golden: Series) -> Metric:
    """Return a metric with its test, without the correction for the other tests."""
    is_missing, is_golden_missing = np.isnan(rebuilt), np.isnan(golden)
    if is_golden_missing.all():
        return Metric(name, level)
    value, golden_value = _mean(rebuilt), _mean(golden)
    low, high = _estimate_interval(rebuilt, golden, value, golden_value)
    if name == "inter_arrival":
        # The two sides change at different steps, so NaN on one side is no missing level.
        samples = rebuilt[~is_missing], golden[~is_golden_missing]
    else:
        is_sample = ~(is_missing & is_golden_missing)
        samples = rebuilt[is_sample], golden[is_sample]
    present = golden[~is_golden_missing]
    # The sizes of returns cluster even if their signs do not. Without the second series, 31 % of the tests of
    # equal distributions failed (measured).
    tau = max(map(estimate_autocorrelation_time, (present, np.abs(present - golden_value))))
    stride = int(np.ceil(max(2 * tau, *(len(series) / MAX_SAMPLES for series in samples))))
    tested, golden_tested = (series[::stride] for series in samples)
    compared = min(len(tested), len(golden_tested))
    metric = Metric(name, level, compared, value, golden_value, low=low, high=high)
    return metric if compared < MIN_SAMPLES else _test_samples(metric, tested, golden_tested)


def _test_samples(metric: Metric, rebuilt: Series, golden: Series) -> Metric:
    """Return a metric with the test of its independent samples; NaN: one side lacks the level."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns where it can only compute the asymptotic p
        result = scipy.stats.ks_2samp(*(np.nan_to_num(series, nan=np.inf) for series in (rebuilt, golden)))
    present = [series[~np.isnan(series)] for series in (rebuilt, golden)]
    distance = scipy.stats.wasserstein_distance(*present) if all(map(len, present)) else np.nan
    return replace(
        metric,
        statistic=float(result.statistic),
        p_value=float(result.pvalue),
        distance=float(distance),
        rebuilt=rebuilt,
        golden=golden,
    )


def _decide_verdicts(metrics: list[Metric]) -> list[Metric]:
    """Return metrics with p values corrected for the number of tests, and with the verdicts."""
    adjusted = adjust_p_values(np.array([metric.p_value for metric in metrics])).tolist()
    return [
        metric
        if np.isnan(p)
        else replace(metric, adjusted_p=p, verdict="passed" if p > SIGNIFICANCE else "failed")
        for metric, p in zip(metrics, adjusted, strict=True)
    ]


def compare_pooled(samples: dict[tuple[str, int], tuple[Series, Series]]) -> list[Metric]:
    """Test the samples of many chunks together, as `compare_grids` tests those of one chunk.

    Parameters
    ----------
    samples : dict
        By metric and level, the tested samples of rebuilt and of golden books, chunk after chunk.

    Returns
    -------
    list of Metric
        Tested metrics; more than 2,000 samples a side are thinned evenly.
    """
    metrics = []
    for (name, level), sides in samples.items():
        stride = int(np.ceil(max(len(side) for side in sides) / MAX_SAMPLES))
        rebuilt, golden = (side[::stride] for side in sides)
        value, golden_value = _mean(rebuilt), _mean(golden)
        low = high = np.nan
        if len(rebuilt) == len(golden):
            low, high = _estimate_interval(rebuilt, golden, value, golden_value)
        compared = min(len(rebuilt), len(golden))
        metric = Metric(name, level, compared, value, golden_value, low=low, high=high)
        metrics.append(_test_samples(metric, rebuilt, golden))
    return _decide_verdicts(metrics)


def _mean(series: Series) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    present = series[~np.isnan(series)]
    return float(present.mean()) if len(present) else np.nan


def estimate_autocorrelation_time(series: Series) -> float:
    """Estimate how many successive samples of a series carry as much information as one independent sample.

    ``tau = 1 + 2 sum(rho_k)``, k from 1 to the smallest M that is at least 5 tau(M).

    Parameters
    ----------
    series : float64[n]
        Evenly spaced samples.

    Returns
    -------
    float
        At least 1; 1 for a constant series.

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
    is_enough = np.arange(len(taus)) >= _SOKAL_WINDOW * taus
    return max(float(taus[np.argmax(is_enough) if is_enough.any() else -1]), 1.0)


def adjust_p_values(p_values: Series) -> Series:
    """Correct p values for the number of tests, by Holm's step-down procedure.

    Parameters
    ----------
    p_values : float64[n]
        P values; NaN: not tested.

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


def _estimate_interval(
    rebuilt: Series, golden: Series, value: float, golden_value: float
) -> tuple[float, float]:
    """Return the 95 % confidence interval of value - golden_value, by circular block bootstrap over steps.

    If every step has a sample on both sides, the paired differences are resampled, which is exact. Otherwise
    the means also depend on how many resampled steps have a sample; that dependence is linearized.
    """
    if np.isnan(value):
        return np.nan, np.nan
    differences = np.full(len(rebuilt), value - golden_value)
    for sign, series, mean in ((1, rebuilt, value), (-1, golden, golden_value)):
        is_present = ~np.isnan(series)
        differences += sign * np.where(is_present, series - mean, 0) / is_present.mean()
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    low, high = np.percentile(
        resample_block_means(differences, _choose_block_length(differences)), [2.5, 97.5]
    )
    return float(low), float(high)


def resample_block_means(series: Series, length: int) -> Series:
    """Return means of resampled series, drawn by circular blocks as `arch`'s CircularBlockBootstrap does.

    Cost: one addition for each block, not for each sample, by running sums.

    Parameters
    ----------
    series : float64[n]
        Evenly spaced samples.
    length : int
        Samples in a block; at most n.

    Returns
    -------
    float64[REPLICATIONS]
        Mean of each resampled series.
    """
    count = len(series)
    blocks = -(-count // length)
    begins = np.random.default_rng(SEED).integers(count, size=(REPLICATIONS, blocks))
    ends = begins + length
    ends[:, -1] -= blocks * length - count
    mean = series.mean()
    sums = np.append(0, np.cumsum(np.append(series, series[:length]) - mean))
    return mean + (sums[ends] - sums[begins]).sum(axis=1) / count  # type: ignore[no-any-return]


def _choose_block_length(series: Series) -> int:
    """Return Politis and White's optimal block length, or the cube root of n if that is longer.

    A long series is thinned first: from 10,000 numbers on OpenBLAS would start threads, which wait for one
    another on busy cores (measured: `compare_grids` took 3 times as long).
    """
    from arch.bootstrap import optimal_block_length

    count, stride, length = len(series), -(-len(series) // 9_000), np.ceil(np.cbrt(len(series)))
    if count > _MIN_FOR_OPTIMAL_BLOCK:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arch warns of constant parts of a series
            optimal = optimal_block_length(series[::stride])["circular"].iloc[0]
        length = np.fmax(length, np.ceil(stride * optimal))
    return int(min(length, count))
