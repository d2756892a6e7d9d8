"""Tests statistically whether rebuilt books and golden books have the same distributions.

A golden book is a record of the same book by the exchange or a vendor. The rebuilt side and the golden side
are sampled on one time grid. A metric that is tested has the verdict `passed` or `failed`. A stylized fact is
computed for both sides but not tested, and has the verdict `reported`.
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
"""Probability that at least one metric of a call fails although both sides have the same distributions."""
MIN_SAMPLES, MAX_SAMPLES = 8, 2_000
"""Lowest and highest number of independent samples per side.

With fewer samples than `MIN_SAMPLES`, a metric is not tested. More samples than `MAX_SAMPLES` are thinned
evenly.
"""
REPLICATIONS, SEED = 200, 0
"""Number of resamplings of the bootstrap, and seed of the bootstrap's random numbers."""
_SOKAL_WINDOW = 5.0
"""Sokal's constant c: the autocorrelation sum ends at the first lag that is at least c times the sum."""
_MIN_FOR_OPTIMAL_BLOCK = 16
"""The optimal length of a bootstrap block is only estimated for series longer than this number of samples."""


@dataclass(frozen=True)
class Metric:
    """One metric of rebuilt books and of golden books; most fields are columns of the table `fidelity`.

    Attributes
    ----------
    metric : str
        Name of the metric.
    level : int
        Level of the book, from 1; 0 for a metric that does not belong to one level.
    compared : int
        For a tested metric, the number of tested samples. For a stylized fact, the number of one-second
        returns. If the two sides have different numbers, this is the smaller number.
    value, golden_value : float
        For a tested metric, the mean of all samples of the rebuilt side, and of the golden side. For a
        stylized fact, the figure of each side.
    statistic : float
        Statistic D of the two-sample Kolmogorov-Smirnov test.
    p_value, adjusted_p : float
        P value of the test, and p value after Holm's correction over all tests of the call.
    distance : float
        Wasserstein-1 distance of the tested samples, in the metric's unit; missing levels are left out.
    low, high : float
        Bounds of the 95 % confidence interval of value - golden_value.
    verdict : str
        `passed`, `failed`, `reported`, or `none` if the golden side lacks the level or samples are too few.
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
    """Test whether the rebuilt books of a chunk have the same distributions as the chunk's golden books.

    Each metric is tested by a two-sample Kolmogorov-Smirnov test. The metrics are `spread` by level,
    `mid_return` (log return of the mid over a step), `bid_size`, `ask_size`, `imbalance`, `inter_arrival`
    (seconds between changes of the best prices or sizes) and `ofi` (order flow imbalance).

    The test assumes independent samples, so only every ceil(2 tau)-th sample of both sides is tested. tau is
    the longer of two autocorrelation times. The first is measured on the golden series, the second on the
    absolute distances of the golden samples from their mean.

    If only one side lacks a level at a step, the sample of this side counts as larger than all other samples,
    so that missing levels can make the test fail. If both sides lack the level, the step gives no sample.

    Parameters
    ----------
    rebuilt, golden : Grid
        Grids of m books each, with the same depth and the same steps.
    golden_depth : int
        Largest number of levels per side in any golden book.

    Returns
    -------
    list of Metric
        Tested metrics, then the metrics of `compute_stylized_facts` if both sides have enough one-second
        returns.

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
    """Yield (name, level, series) of each tested metric; a value is NaN at a step without a sample."""
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
    """Return a metric with its test result; the p value is not yet corrected for the number of tests."""
    is_missing, is_golden_missing = np.isnan(rebuilt), np.isnan(golden)
    if is_golden_missing.all():
        return Metric(name, level)
    value, golden_value = _mean(rebuilt), _mean(golden)
    low, high = _estimate_interval(rebuilt, golden, value, golden_value)
    if name == "inter_arrival":
        # The two sides change at different steps, so NaN on one side does not mean a missing level.
        samples = rebuilt[~is_missing], golden[~is_golden_missing]
    else:
        is_sample = ~(is_missing & is_golden_missing)
        samples = rebuilt[is_sample], golden[is_sample]
    present = golden[~is_golden_missing]
    # Large returns follow large returns, even if the signs of returns are independent. So the absolute
    # distances have an autocorrelation time too. When this time was not used, 31 % of the tests of equal
    # distributions failed (measured).
    tau = max(map(estimate_autocorrelation_time, (present, np.abs(present - golden_value))))
    stride = int(np.ceil(max(2 * tau, *(len(series) / MAX_SAMPLES for series in samples))))
    tested, golden_tested = (series[::stride] for series in samples)
    compared = min(len(tested), len(golden_tested))
    metric = Metric(name, level, compared, value, golden_value, low=low, high=high)
    return metric if compared < MIN_SAMPLES else _test_samples(metric, tested, golden_tested)


def _test_samples(metric: Metric, rebuilt: Series, golden: Series) -> Metric:
    """Return a metric with the test result of independent samples; a NaN sample means a missing level."""
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
    """Return the metrics with p values that are corrected for the number of tests, and with verdicts."""
    adjusted = adjust_p_values(np.array([metric.p_value for metric in metrics])).tolist()
    return [
        metric
        if np.isnan(p)
        else replace(metric, adjusted_p=p, verdict="passed" if p > SIGNIFICANCE else "failed")
        for metric, p in zip(metrics, adjusted, strict=True)
    ]


def compare_pooled(samples: dict[tuple[str, int], tuple[Series, Series]]) -> list[Metric]:
    """Test the samples of many chunks together, as `compare_grids` tests the samples of one chunk.

    Parameters
    ----------
    samples : dict
        Maps (metric, level) to a pair of series: the tested samples of the rebuilt books and of the golden
        books. A series holds all chunks in order.

    Returns
    -------
    list of Metric
        Tested metrics. More than 2,000 samples per side are thinned evenly.
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
    """Return the autocorrelation time tau of a series, in samples.

    tau successive samples carry as much information as one independent sample:
    ``tau(M) = 1 + 2 * (rho_1 + … + rho_M)``, where rho_k is the autocorrelation at lag k, and M is the
    smallest lag with ``M >= 5 * tau(M)``.

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
        P values; NaN for a metric that is not tested.

    Returns
    -------
    float64[n]
        Corrected p values, at most 1; NaN for a metric that is not tested.
    """
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full_like(p_values, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def _estimate_interval(
    rebuilt: Series, golden: Series, value: float, golden_value: float
) -> tuple[float, float]:
    """Return the 95 % confidence interval of value - golden_value.

    The method is a circular block bootstrap over the steps of the grid. If every step has a sample on both
    sides, the bootstrap resamples the differences of these pairs of samples, which is exact. Otherwise the
    two means also depend on how many of the resampled steps have a sample. The bootstrap uses a linear
    approximation of this dependence.
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
    """Return the means of resampled series.

    The series are drawn by circular blocks, as `CircularBlockBootstrap` of the package `arch` draws them.
    Running sums reduce the cost to one addition per block instead of one per sample.

    Parameters
    ----------
    series : float64[n]
        Evenly spaced samples.
    length : int
        Number of samples in a block; at most n.

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
    """Return the block length of the bootstrap, in samples.

    The length is the larger of Politis and White's optimal block length and the cube root of the number of
    samples. A long series is thinned first. With 10,000 numbers or more, OpenBLAS starts threads, and on busy
    cores the threads wait for one another (measured: `compare_grids` took 3 times as long).
    """
    from arch.bootstrap import optimal_block_length

    count, stride, length = len(series), -(-len(series) // 9_000), np.ceil(np.cbrt(len(series)))
    if count > _MIN_FOR_OPTIMAL_BLOCK:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arch warns of constant parts of a series
            optimal = optimal_block_length(series[::stride])["circular"].iloc[0]
        length = np.fmax(length, np.ceil(stride * optimal))
    return int(min(length, count))
