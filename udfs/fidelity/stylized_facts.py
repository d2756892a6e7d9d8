"""Computes stylized facts of a series of books, which are reported but not tested."""

from __future__ import annotations

import warnings

import numpy as np

from deltabook.udfs.fidelity.sampling import STEP_NS, Grid, Series, choose_decimals

MIN_RETURNS = 100
"""Fewest one-second returns for which stylized facts are reported."""
_XMIN_CANDIDATES = 20
_MIN_TAIL_SAMPLES = 50
_STEPS_PER_SECOND = 1_000_000_000 // STEP_NS


def compute_stylized_facts(grid: Grid) -> tuple[int, dict[tuple[str, int], float]]:
    """Compute stylized facts of one-second log returns of the mid price, and of best sizes and spreads.

    - `return_tail_alpha`, `size_tail_alpha`: exponent of the power-law density of values from xmin on, where
      xmin is the best of a few candidates (Clauset, Shalizi and Newman 2009). Absolute returns usually have
      an exponent of 2 to 5.
    - `garch_omega` (squared basis points), `garch_alpha`, `garch_beta`: GARCH(1, 1) with zero mean.
    - `return_autocorrelation`: autocorrelation of returns at lag 1.
    - `volatility_clustering`: mean autocorrelation of absolute returns at lags 1 to 10.
    - `return_kurtosis`, `aggregated_kurtosis`: excess kurtosis of returns over 1 s and over 30 s.
    - `leverage`: correlation of a return with the mean squared return of the next 10 s.
    - `ofi_return_correlation`: correlation of order flow imbalance with the change of the mid price (Cont,
      Kukanov and Stoikov 2014).
    - `spread_autocorrelation`: autocorrelation of the spread at lag 1.

    Parameters
    ----------
    grid : Grid
        Books on the steps of `align_grids`.

    Returns
    -------
    (int, dict)
        Number of one-second returns, and {(metric, level): figure}. The dict is empty if there are fewer
        than MIN_RETURNS returns. A figure is NaN if it cannot be computed, because a series is constant or
        too short, or a fit does not converge.

    References
    ----------
    Cont (2001), Empirical Properties of Asset Returns: Stylized Facts and Statistical Issues, Quantitative
    Finance 1(2).
    """
    ends = np.flatnonzero(grid.steps % _STEPS_PER_SECOND == _STEPS_PER_SECOND - 1)
    seconds = grid.steps[ends] // _STEPS_PER_SECOND
    if not len(ends):
        return 0, {}

    def sample_seconds(series: Series) -> Series:
        samples = np.full(seconds[-1] - seconds[0] + 1, np.nan)
        samples[seconds - seconds[0]] = series[ends]
        return samples

    mids = sample_seconds(grid.mids())
    returns = np.diff(np.log(mids))
    squares = np.lib.stride_tricks.sliding_window_view(np.append(returns, [np.nan] * 10) ** 2, 10)
    count = int(np.isfinite(returns).sum())
    if count < MIN_RETURNS:
        return count, {}
    sizes = np.append(sample_seconds(grid.bid_sizes[:, 0]), sample_seconds(grid.ask_sizes[:, 0]))
    omega, alpha, beta = _fit_garch(returns)
    clustering = [_autocorrelation(np.abs(returns), lag) for lag in range(1, 11)]
    flow = np.diff(sample_seconds(np.cumsum(grid.order_flow())))
    spreads = sample_seconds(grid.ask_prices[:, 0] - grid.bid_prices[:, 0])
    (decimals,) = choose_decimals(grid.ask_prices[:, :1], grid.ask_prices[:, :1])
    facts = {
        ("return_tail_alpha", 0): _fit_tail_alpha(np.abs(returns)),
        ("size_tail_alpha", 1): _fit_tail_alpha(sizes),
        ("garch_omega", 0): omega,
        ("garch_alpha", 0): alpha,
        ("garch_beta", 0): beta,
        ("return_autocorrelation", 0): _autocorrelation(returns, 1),
        ("volatility_clustering", 0): float(np.mean(clustering)),
        ("return_kurtosis", 0): _kurtosis(returns),
        ("aggregated_kurtosis", 0): _kurtosis(np.diff(np.log(mids[-(seconds[0] + 1) % 30 :: 30]))),
        ("leverage", 0): _correlation(returns, squares[1:].mean(axis=1)),
        ("ofi_return_correlation", 1): _correlation(flow, np.diff(mids)),
        ("spread_autocorrelation", 1): _autocorrelation(spreads.round(decimals), 1),
    }
    return count, facts


def _autocorrelation(series: Series, lag: int) -> float:
    return _correlation(series[:-lag], series[lag:])


def _correlation(first: Series, second: Series) -> float:
    """Return the correlation over the positions at which both series are finite.

    The result is NaN if one of the series is constant at these positions.
    """
    is_present = np.isfinite(first) & np.isfinite(second)
    first, second = first[is_present], second[is_present]
    if not len(first) or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


def _kurtosis(series: Series) -> float:
    """Return the excess kurtosis of the finite values; NaN if all finite values are equal."""
    finite = series[np.isfinite(series)]
    if not len(finite) or np.ptp(finite) == 0:
        return np.nan
    squares = (finite - finite.mean()) ** 2
    return float((squares**2).mean() / squares.mean() ** 2 - 3)


def _fit_garch(returns: Series) -> tuple[float, float, float]:
    """Return omega (squared basis points), alpha and beta of a GARCH(1, 1); NaN if the fit fails."""
    from arch.univariate import GARCH, ZeroMean

    finite = returns[np.isfinite(returns)]
    if np.ptp(finite) == 0:
        return np.nan, np.nan, np.nan
    scale = np.sqrt((finite**2).mean())  # the optimizer works best with numbers close to 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ZeroMean(finite / scale, volatility=GARCH(), rescale=False)
        result = model.fit(disp="off", show_warning=False)
    if result.convergence_flag:
        return np.nan, np.nan, np.nan
    omega, alpha, beta = map(float, result.params)
    return omega * (scale * 1e4) ** 2, alpha, beta


def _fit_tail_alpha(amounts: Series) -> float:
    """Return the power-law exponent of the positive amounts from the best-fitting xmin on.

    The result is NaN if there are too few positive amounts, or if they are all equal.
    """
    numbers = np.sort(amounts[amounts > 0])
    if len(numbers) <= _MIN_TAIL_SAMPLES or np.ptp(numbers) == 0:
        return np.nan
    with warnings.catch_warnings():
        # powerlaw imports matplotlib, and warns if all data are whole numbers.
        warnings.simplefilter("ignore")
        import powerlaw

        indices = np.linspace(0, len(numbers) - _MIN_TAIL_SAMPLES, _XMIN_CANDIDATES).astype(int)
        xmins = np.unique(numbers[indices])
        tails = [numbers[numbers >= xmin] for xmin in xmins]
        ranges = {"alpha": [1.01, 50.0]}  # the default range ends at 3
        fits = [
            powerlaw.Power_Law(data=tail, xmin=tail[0], parameter_ranges=ranges, verbose=0)
            for tail in tails
            if np.ptp(tail) > 0
        ]
    return float(min(fits, key=lambda fit: fit.D).alpha)
