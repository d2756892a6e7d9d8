"""Stylized facts of one side's books: figures that are reported of both sides, and decide nothing."""

from __future__ import annotations

import warnings

import numpy as np

from deltabook.udfs.fidelity.sampling import STEP, Grid, Series, decimals_of

FEWEST_RETURNS = 100
"""One-second returns below which no stylized fact is reported."""
_XMINS = 20
_FEWEST_IN_TAIL = 50
_SECOND = 1_000_000_000 // STEP


def stylized_facts(grid: Grid) -> tuple[int, dict[tuple[str, int], float]]:
    """Describe one side's books by the stylized facts of their one-second returns of log mid.

    `return_tail_alpha`, `size_tail_alpha`: exponent of the power-law density behind the best of a few xmin
    (Clauset, Shalizi and Newman 2009) of absolute returns, for which the rule of thumb is 2 to 5, and of best
    sizes. `garch_omega` (squared basis points), `garch_alpha`, `garch_beta`: GARCH(1, 1) of zero mean.
    `return_autocorrelation`: lag 1. `volatility_clustering`: mean autocorrelation of absolute returns, lags 1
    to 10. `return_kurtosis`, `aggregated_kurtosis`: excess, of returns of 1 s and of 30 s. `leverage`:
    correlation with the mean squared return of the next 10 s. `ofi_return_correlation`: of order flow
    imbalance with the change of mid (Cont, Kukanov and Stoikov 2014). `spread_autocorrelation`: lag 1.

    Parameters
    ----------
    grid : Grid
        As `on_one_grid` makes it.

    Returns
    -------
    (int, dict)
        How many returns there are, and figures by metric and level: none if the returns are too few; a
        figure is NaN where a series is constant or a fit does not converge.

    References
    ----------
    Cont (2001), Empirical Properties of Asset Returns: Stylized Facts and Statistical Issues, Quantitative
    Finance 1(2).
    """
    ends = np.flatnonzero(grid.steps % _SECOND == _SECOND - 1)
    seconds = grid.steps[ends] // _SECOND
    if not len(ends):
        return 0, {}

    def by_second(series: Series) -> Series:
        found = np.full(seconds[-1] - seconds[0] + 1, np.nan)
        found[seconds - seconds[0]] = series[ends]
        return found

    mids = by_second(grid.mids())
    returns = np.diff(np.log(mids))
    squares = np.lib.stride_tricks.sliding_window_view(np.append(returns, [np.nan] * 10) ** 2, 10)
    count = int(np.isfinite(returns).sum())
    if count < FEWEST_RETURNS:
        return count, {}
    sizes = np.append(by_second(grid.bid_sizes[:, 0]), by_second(grid.ask_sizes[:, 0]))
    omega, alpha, beta = _garch(returns)
    clustering = [_autocorrelation(np.abs(returns), lag) for lag in range(1, 11)]
    flow = np.diff(by_second(np.cumsum(grid.order_flow())))
    spreads = by_second(grid.ask_prices[:, 0] - grid.bid_prices[:, 0])
    (decimals,) = decimals_of(grid.ask_prices[:, :1], grid.ask_prices[:, :1])
    facts = {
        ("return_tail_alpha", 0): _tail_alpha(np.abs(returns)),
        ("size_tail_alpha", 1): _tail_alpha(sizes),
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
    is_there = np.isfinite(first) & np.isfinite(second)
    first, second = first[is_there], second[is_there]
    if not len(first) or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


def _kurtosis(series: Series) -> float:
    known = series[np.isfinite(series)]
    if not len(known) or np.ptp(known) == 0:
        return np.nan
    squares = (known - known.mean()) ** 2
    return float((squares**2).mean() / squares.mean() ** 2 - 3)


def _garch(returns: Series) -> tuple[float, float, float]:
    from arch.univariate import GARCH, ZeroMean

    known = returns[np.isfinite(returns)]
    if np.ptp(known) == 0:
        return np.nan, np.nan, np.nan
    scale = np.sqrt((known**2).mean())  # the optimizer wants numbers close to 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ZeroMean(known / scale, volatility=GARCH(), rescale=False)
        result = model.fit(disp="off", show_warning=False)
    if result.convergence_flag:
        return np.nan, np.nan, np.nan
    omega, alpha, beta = map(float, result.params)
    return omega * (scale * 1e4) ** 2, alpha, beta


def _tail_alpha(amounts: Series) -> float:
    numbers = np.sort(amounts[amounts > 0])
    if len(numbers) <= _FEWEST_IN_TAIL or np.ptp(numbers) == 0:
        return np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib comes along; data may happen to be whole numbers
        import powerlaw

        places = np.linspace(0, len(numbers) - _FEWEST_IN_TAIL, _XMINS).astype(int)
        xmins = np.unique(numbers[places])
        tails = [numbers[numbers >= xmin] for xmin in xmins]
        ranges = {"alpha": [1.01, 50.0]}  # its own end at 3
        fits = [
            powerlaw.Power_Law(data=tail, xmin=tail[0], parameter_ranges=ranges, verbose=0)
            for tail in tails
            if np.ptp(tail) > 0
        ]
    return float(min(fits, key=lambda fit: fit.D).alpha)
