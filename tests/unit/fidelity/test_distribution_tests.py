"""Compare distributions: metrics equal plain formulas, faults fail their metrics, equal books pass."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.validation_tables import FIDELITY
from deltabook.udfs.fidelity import distribution_tests
from deltabook.udfs.fidelity.distribution_tests import (
    REPLICATIONS,
    SEED,
    Metric,
    adjust_p_values,
    compare_grids,
    compare_pooled,
    estimate_autocorrelation_time,
    resample_block_means,
)
from deltabook.udfs.fidelity.sampling import Grid
from deltabook.udfs.fidelity.stylized_facts import compute_stylized_facts

DEPTH = 3
TESTED = [*(("spread", level) for level in range(1, DEPTH + 1)), ("mid_return", 0), ("bid_size", 1)]
TESTED += [("ask_size", 1), ("imbalance", 1), ("inter_arrival", 0), ("ofi", 1)]
SPREADS = {("spread", level) for level in range(1, DEPTH + 1)}
SHORT, LONG = 1_000, 6_000
"""Steps; the short ones have too few returns for stylized facts."""


def autoregressive(rng: Any, persistence: float, *shape: int) -> Any:
    """Stationary AR(1) series of variance 1."""
    noise = rng.standard_normal(shape) * np.sqrt(1 - persistence**2)
    noise[0] /= np.sqrt(1 - persistence**2)
    return scipy.signal.lfilter([1], [1, -persistence], noise, axis=0)


def market(
    seed: int, count: int, persistence: float = 0.8, order: Any = None, is_volatile: bool = False
) -> Grid:
    """Books that rest at times; spreads, sizes and returns, or just their volatility, are AR(1)."""
    rng = np.random.default_rng(seed)
    moves = rng.random(count) < 0.7
    moves[0] = True
    returns = 1e-4 * autoregressive(rng, 0 if is_volatile else persistence, moves.sum())
    returns *= np.exp(is_volatile * autoregressive(rng, 0.98, len(returns)))
    mids = 100 * np.exp(np.cumsum(returns if order is None else returns[order(len(returns))]))
    gaps = 0.01 * np.exp(0.3 * autoregressive(rng, persistence, len(mids), 2, DEPTH))
    sizes = np.exp(0.5 * autoregressive(rng, persistence, len(mids), 2, DEPTH))
    away = np.cumsum(gaps, axis=2)
    sides = (mids[:, None] - away[:, 0], sizes[:, 0], mids[:, None] + away[:, 1], sizes[:, 1])
    grid = Grid(np.arange(len(mids)), *sides)
    return grid.take(np.cumsum(moves) - 1, np.arange(count))


def books(mids: Any, **sides: Any) -> Grid:
    """Books of one level, on successive steps, of sizes 1 and a spread of 2 unless given."""
    mids = np.asarray(mids, dtype=float)
    usual = {"bid_prices": mids - 1, "bid_sizes": 1.0, "ask_prices": mids + 1, "ask_sizes": 1.0} | sides
    levels = (np.broadcast_to(np.asarray(usual[name], dtype=float), len(mids)) for name in SIDE_NAMES)
    return Grid(np.arange(len(mids)), *(level[:, None] for level in levels))


def by_second(returns: Any, **sides: Any) -> Grid:
    """Books whose one-second log returns are given: what a second ends with is there all along."""
    mids = 100 * np.exp(np.append(0, np.cumsum(returns)))
    return books(np.repeat(mids, 10), **{name: np.repeat(side, 10) for name, side in sides.items()})


def compared(rebuilt: Grid, golden: Grid, known_depth: int = DEPTH) -> dict[tuple[str, int], Metric]:
    return {(one.metric, one.level): one for one in compare_grids(rebuilt, golden, known_depth)}


def verdicts(metrics: dict[tuple[str, int], Metric], verdict: str) -> set[tuple[str, int]]:
    return {key for key, one in metrics.items() if one.verdict == verdict}


def test_the_fields_of_a_metric_are_those_of_the_table() -> None:
    columns = FIDELITY.names[FIDELITY.names.index("metric") :]
    counted = {"matched", "unverifiable", "first_divergence"}
    fields = [*Metric.__dataclass_fields__]
    assert fields == [*(name for name in columns if name not in counted), "rebuilt", "golden"]


def test_equal_books_pass_every_test() -> None:
    metrics = compared(market(1, LONG), market(1, LONG))
    tested = {key: one for key, one in metrics.items() if one.verdict != "reported"}
    assert [*tested] == TESTED
    for one in tested.values():
        told = (one.verdict, one.statistic, one.p_value, one.adjusted_p, one.distance, one.low, one.high)
        assert told == ("passed", 0, 1, 1, 0, 0, 0)
        assert one.value == one.golden_value
        assert len(one.rebuilt) == len(one.golden) == one.compared >= 8
    facts = [one for one in metrics.values() if one.verdict == "reported"]
    assert len(facts) == 12
    for one in facts:
        assert one.value == one.golden_value and np.isfinite(one.value), one
        assert one.compared == LONG // 10 - 1 and len(one.rebuilt) == 0 and np.isnan(one.p_value)


def test_means_are_of_each_metrics_definition() -> None:
    golden = books(
        [10, 10, 11, 11],
        bid_prices=[8, 9, 9, 9],
        bid_sizes=[1, 3, 3, 3],
        ask_prices=[12, 11, 13, 13],
        ask_sizes=[1, 1, 1, 3],
    )
    found = {key: one.golden_value for key, one in compared(golden, golden, 1).items()}
    assert found == pytest.approx(
        {
            ("spread", 1): (4 + 2 + 4 + 4) / 4,
            ("mid_return", 0): np.log(11 / 10) / 3,
            ("bid_size", 1): 10 / 4,
            ("ask_size", 1): 6 / 4,
            ("imbalance", 1): (0 + 0.5 + 0.5 + 0) / 4,
            ("inter_arrival", 0): 0.1,  # it changes at the steps 1, 2 and 3
            ("ofi", 1): ((3 - 1) + 1 - 2) / 3,  # both sides better, the ask gone, more to sell
        }
    )


def test_changes_of_the_two_sides_need_not_come_at_the_same_steps() -> None:
    rebuilt, golden = (books(100 + np.arange(start, start + 400) // 2) for start in (1, 2))
    one = compared(rebuilt, golden, 1)["inter_arrival", 0]
    assert (one.verdict, one.statistic, one.distance) == ("passed", 0, 0)
    assert one.value == one.golden_value == pytest.approx(0.2)
    assert not np.isnan([*one.rebuilt, *one.golden]).any()


def faulted(fault: str, books: Grid) -> Grid:
    if fault == "sizes":
        return replace(books, bid_sizes=books.bid_sizes * 1.5, ask_sizes=books.ask_sizes * 1.5)
    if fault == "bid sizes":
        return replace(books, bid_sizes=books.bid_sizes * 1.5)
    if fault == "ask prices":
        return replace(books, ask_prices=books.ask_prices + 0.02)
    if fault == "second bid":
        lacking = books.bid_prices.copy()
        lacking[::3, 1] = np.nan
        return replace(books, bid_prices=lacking)
    # The book of three steps ago.
    return books.take(np.maximum(np.arange(len(books.steps)) - 3, 0), books.steps)


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ("sizes", {("bid_size", 1), ("ask_size", 1), ("ofi", 1)}),
        ("bid sizes", {("bid_size", 1), ("imbalance", 1)}),
        ("ask prices", SPREADS),
        ("second bid", {("spread", 2)}),
        ("late", set()),
    ],
)
def test_a_fault_fails_the_metrics_that_it_touches_and_no_other(fault: str, failed: set[Any]) -> None:
    golden = market(2, LONG)
    metrics = compared(faulted(fault, golden), golden)
    assert verdicts(metrics, "failed") == failed
    assert verdicts(metrics, "passed") == set(TESTED) - failed
    for key in failed - {("spread", 2), ("ofi", 1), ("imbalance", 1)}:
        one = metrics[key]
        assert one.low - 1e-9 <= one.value - one.golden_value <= one.high + 1e-9
        assert one.low > 0 and one.distance > 0


def test_a_level_that_only_golden_has_counts_as_the_greatest_sample() -> None:
    golden = books(100 + np.arange(400) % 7)
    lacking = golden.ask_prices.copy()
    lacking[::4] = np.nan
    one = compared(replace(golden, ask_prices=lacking), golden, 1)["spread", 1]
    assert one.statistic == pytest.approx(np.isnan(one.rebuilt).mean())
    assert (one.verdict, one.value, one.golden_value, one.distance) == ("failed", 2, 2, 0)
    golden = replace(golden, bid_sizes=np.random.default_rng(0).choice([0.5, 2], (400, 1)))
    one = compared(replace(golden, bid_sizes=golden.bid_sizes + 0 * lacking), golden, 1)["imbalance", 1]
    assert one.statistic == pytest.approx(np.isnan(one.rebuilt).mean())
    nowhere = np.full_like(lacking, np.nan)
    one = compared(replace(golden, ask_prices=nowhere), golden, 1)["spread", 1]
    assert (one.verdict, one.statistic) == ("failed", 1)
    assert np.isnan([one.value, one.distance, one.low, one.high]).all()


def test_a_level_that_both_lack_is_no_sample() -> None:
    golden = market(3, SHORT)
    lacking = golden.ask_prices.copy()
    lacking[500:, 1] = np.nan
    golden = replace(golden, ask_prices=lacking)
    one = compared(golden, golden)["spread", 2]
    assert one.verdict == "passed" and not np.isnan(one.rebuilt).any()
    assert one.value == pytest.approx((golden.ask_prices - golden.bid_prices)[:500, 1].mean())


def test_a_level_that_golden_lacks_is_not_judged() -> None:
    rebuilt = market(4, SHORT)
    lacking = rebuilt.bid_prices.copy()
    lacking[:, 2] = np.nan
    metrics = compared(rebuilt, replace(rebuilt, bid_prices=lacking))
    assert verdicts(metrics, "none") == {("spread", 3)}
    metrics = compared(rebuilt, rebuilt, known_depth=1)
    assert verdicts(metrics, "none") == {("spread", 2), ("spread", 3)}
    none = metrics["spread", 3]
    assert none.compared == len(none.rebuilt) == 0 and np.isnan([none.value, none.golden_value]).all()


def test_a_tick_is_a_tick_at_any_price() -> None:
    rng = np.random.default_rng(19)
    ticks, sizes = rng.integers(1, 4, 2_000), rng.integers(1, 6, 2_000) / 10
    at_prices = (cents + np.arange(2_000) % 9 for cents in (7, 6_182_800))
    books_at = [
        books(at, bid_prices=at / 100, ask_prices=(at + ticks) / 100, ask_sizes=sizes) for at in at_prices
    ]
    metrics = compared(*books_at, 1)
    assert verdicts(metrics, "failed") == {("mid_return", 0)}
    assert {one.statistic for key, one in metrics.items() if key[0] in ("spread", "ofi", "imbalance")} == {0}


def test_shuffled_returns_have_the_distributions_but_not_the_stylized_facts() -> None:
    golden = market(5, LONG)
    shuffled = compared(market(5, LONG, order=np.random.default_rng(0).permutation), golden)
    assert verdicts(shuffled, "passed") == set(TESTED)
    one = shuffled["return_autocorrelation", 0]
    assert one.value < one.golden_value - 0.1


def test_constant_books_pass_and_have_no_stylized_facts() -> None:
    golden = books(np.full(LONG, 100.0))
    metrics = compared(golden, golden, 1)
    assert verdicts(metrics, "none") == {("inter_arrival", 0)}  # nothing ever changes
    assert all(one.adjusted_p == 1 for one in metrics.values() if one.verdict == "passed")
    facts = [one for one in metrics.values() if one.verdict == "reported"]
    assert len(facts) == 12 and np.isnan([[one.value, one.golden_value] for one in facts]).all()
    dearer = compared(replace(golden, ask_prices=golden.ask_prices + 1), golden, 1)["spread", 1]
    assert (dearer.verdict, dearer.statistic, dearer.low, dearer.high) == ("failed", 1, 1, 1)


def test_too_few_samples_are_not_judged() -> None:
    # White noise: every second step is a sample.
    rng = np.random.default_rng(6)
    for count, verdict in ((14, "none"), (15, "passed")):
        golden = books(100 + np.zeros(count), bid_sizes=rng.permutation(count) % 2)
        one = compared(golden, golden, 1)["spread", 1]
        assert (one.verdict, one.compared) == (verdict, (count + 1) // 2)
        assert np.isnan(one.p_value) == (verdict == "none") and one.value == 2


def test_at_most_two_thousand_samples_are_kept_all_along_the_hour() -> None:
    count = 36_000
    one = compared(books(np.full(count, 50.0)), books(np.full(count, 50.0)), 1)["bid_size", 1]
    assert one.compared == len(one.golden) == 2_000


def test_no_books_are_not_judged() -> None:
    assert verdicts(compared(books([]), books([]), 1), "none") == {key for key in TESTED if key[1] < 2}


NUMBER = st.one_of(st.just(np.nan), st.integers(1, 3).map(float))


@cases(100)
@given(st.lists(st.tuples(st.integers(1, 2), *[NUMBER] * 8), max_size=40))
def test_any_books_are_compared_without_a_warning(rows: list[tuple[float, ...]]) -> None:
    numbers = np.array(rows, dtype=float).reshape(-1, 9)
    steps = np.cumsum(numbers[:, 0]).astype(np.int64)
    rebuilt, golden = (Grid(steps, *numbers[:, at : at + 4].T[:, :, None]) for at in (1, 5))
    for one in compared(rebuilt, golden, 1).values():
        assert one.verdict in ("passed", "failed", "none")
        assert np.isnan(one.adjusted_p) == (one.verdict == "none")
        assert np.isnan(one.adjusted_p) or one.p_value <= one.adjusted_p <= 1
        assert np.isnan(one.low) or one.low <= one.high


def test_the_same_call_gives_the_same_bits_and_leaves_no_filter_of_warnings() -> None:
    rebuilt, golden, filters = market(7, LONG), market(8, LONG), [*warnings.filters]
    first, second = (compare_grids(rebuilt, golden, DEPTH) for _ in range(2))
    for one, again in zip(first, second, strict=True):
        np.testing.assert_equal(asdict(one), asdict(again))
    assert filters == warnings.filters


def test_holms_correction_is_that_of_a_known_example() -> None:
    adjusted = adjust_p_values(np.array([0.01, np.nan, 0.04, 0.03, 0.005]))  # R: p.adjust(p, "holm")
    np.testing.assert_allclose(adjusted, [0.03, np.nan, 0.06, 0.06, 0.02])
    assert adjust_p_values(np.array([0.9, 0.8])).tolist() == [1, 1]


@pytest.mark.parametrize("persistence", [0, 0.5, 0.9])
def test_autocorrelation_time_is_that_of_an_autoregressive_series(persistence: float) -> None:
    series = autoregressive(np.random.default_rng(9), persistence, 200_000)
    assert estimate_autocorrelation_time(series) == pytest.approx(
        (1 + persistence) / (1 - persistence), rel=0.05
    )


def test_autocorrelation_time_is_at_least_1() -> None:
    assert estimate_autocorrelation_time(np.array([])) == estimate_autocorrelation_time(np.full(9, 0.1)) == 1
    assert estimate_autocorrelation_time(np.tile([1.0, -1.0], 50)) == 1


@pytest.mark.parametrize(("count", "length"), [(100, 1), (100, 7), (101, 10), (12, 12)])
def test_block_means_are_those_of_arch(count: int, length: int) -> None:
    from arch.bootstrap import CircularBlockBootstrap

    series = np.random.default_rng(10).standard_normal(count) + 5
    theirs = CircularBlockBootstrap(length, series, seed=SEED).apply(np.mean, REPLICATIONS)
    np.testing.assert_allclose(resample_block_means(series, length), theirs[:, 0], rtol=1e-12)


@pytest.mark.parametrize("missing", [0, 0.75])
def test_the_interval_covers_the_true_difference_of_means(missing: float) -> None:
    covered = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        sizes = 51 + autoregressive(rng, 0.7, 990)
        is_there = rng.random((2, 990)) >= missing
        golden = books(np.full(990, 100.0), ask_sizes=np.where(is_there[0], 50, np.nan))
        rebuilt = replace(golden, ask_sizes=np.where(is_there[1], sizes, np.nan)[:, None])
        one = compared(rebuilt, golden, 1)["ask_size", 1]
        covered.append(one.low < 1 < one.high)
    assert 0.85 <= np.mean(covered) <= 1


def failed_families(seeds: range, **kind: Any) -> float:
    """Share of pairs of independent books of one process of which any metric fails."""
    pairs = ((market(seed, SHORT, **kind), market(seed + 10_000, SHORT, **kind)) for seed in seeds)
    return float(np.mean([bool(verdicts(compared(*pair), "failed")) for pair in pairs]))


@pytest.mark.parametrize(("kind", "count"), [({"persistence": 0.8}, 200), ({"is_volatile": True}, 100)])
def test_one_family_in_twenty_fails_if_the_distributions_are_the_same(
    kind: dict[str, Any], count: int
) -> None:
    assert failed_families(range(count), **kind) <= 0.06


@pytest.mark.parametrize("kind", [{"persistence": 0.8}, {"is_volatile": True}])
def test_without_thinning_far_more_fail(kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution_tests, "estimate_autocorrelation_time", lambda series: 0.5)
    assert failed_families(range(20), **kind) >= 0.5


def facts_of(grid: Grid) -> dict[str, float]:
    return {name: figure for (name, _), figure in compute_stylized_facts(grid)[1].items()}


def test_stylized_facts_need_a_hundred_returns() -> None:
    returns = np.random.default_rng(11).standard_normal(100) * 1e-4
    assert compute_stylized_facts(by_second(returns[1:])) == (99, {})
    count, facts = compute_stylized_facts(by_second(returns))
    assert (count, len(facts)) == (100, 12)


def test_stylized_facts_are_those_of_plain_formulas() -> None:
    rng = np.random.default_rng(12)
    returns = rng.standard_t(5, 900) * 1e-4
    bids, asks = rng.integers(1, 9, (2, 901))
    found = facts_of(by_second(returns, bid_sizes=bids, ask_sizes=asks))

    def correlation(first: Any, second: Any) -> float:
        return float(np.corrcoef(first, second)[0, 1])

    sizes = np.abs(returns)
    mids = 100 * np.exp(np.append(0, np.cumsum(returns)))
    half_minutes = np.diff(np.log(mids[29::30]))
    future = [np.mean(returns[at + 1 : at + 11] ** 2) for at in range(890)]
    rises = np.diff(mids) > 0
    flow = np.where(rises, bids[1:] + asks[:-1], -bids[:-1] - asks[1:])
    plain = {
        "return_autocorrelation": correlation(returns[1:], returns[:-1]),
        "volatility_clustering": np.mean([correlation(sizes[k:], sizes[:-k]) for k in range(1, 11)]),
        "return_kurtosis": scipy.stats.kurtosis(returns),
        "aggregated_kurtosis": scipy.stats.kurtosis(half_minutes),
        "leverage": correlation(returns[:890], future),
        "ofi_return_correlation": correlation(flow, np.diff(mids)),
    }
    assert {name: found[name] for name in plain} == pytest.approx(plain, rel=1e-6)
    assert np.isnan(found["spread_autocorrelation"])


def test_spread_autocorrelation_is_found() -> None:
    half = np.exp(0.1 * autoregressive(np.random.default_rng(13), 0.6, 3_000))
    mids = 100 * np.exp(1e-4 * np.random.default_rng(14).standard_normal(3_000).cumsum())
    found = facts_of(books(np.repeat(mids, 10), ask_prices=np.repeat(mids - 1 + 2 * half, 10)))
    assert found["spread_autocorrelation"] == pytest.approx(0.6, abs=0.05)


def test_a_spread_of_always_one_tick_is_constant() -> None:
    cents = 6_182_800 + np.random.default_rng(21).integers(-99, 99, 2_000).cumsum()
    assert np.isnan(
        facts_of(books(cents, bid_prices=cents / 100, ask_prices=(cents + 1) / 100))["spread_autocorrelation"]
    )


def test_the_parameters_of_a_garch_process_are_found() -> None:
    rng, omega, alpha, beta = np.random.default_rng(15), 0.1, 0.15, 0.75
    returns, variance = np.zeros(6_000), omega / (1 - alpha - beta)
    for at, noise in enumerate(rng.standard_normal(6_000)):
        returns[at] = noise * np.sqrt(variance)
        variance = omega + alpha * returns[at] ** 2 + beta * variance
    found = facts_of(by_second(returns * 1e-4))  # basis points
    assert found["garch_omega"] == pytest.approx(omega, rel=0.4)
    assert found["garch_alpha"] == pytest.approx(alpha, abs=0.04)
    assert found["garch_beta"] == pytest.approx(beta, abs=0.06)
    assert found["volatility_clustering"] > 0.05


@pytest.mark.parametrize("exponent", [2.5, 4.0])
def test_the_exponent_of_a_power_law_is_found(exponent: float) -> None:
    rng = np.random.default_rng(16)
    returns, sizes = (rng.pareto(exponent - 1, count) + 1 for count in (3_000, 3_001))
    returns *= 1e-5 * rng.choice([-1, 1], 3_000)
    found = facts_of(by_second(returns, bid_sizes=sizes, ask_sizes=sizes[::-1]))
    assert found["return_tail_alpha"] == pytest.approx(exponent, rel=0.1)
    assert found["size_tail_alpha"] == pytest.approx(exponent, rel=0.1)


def test_a_pause_is_neither_a_return_nor_a_flow() -> None:
    before, after = (by_second(np.random.default_rng(seed).standard_normal(150) * 1e-4) for seed in (17, 18))
    after = replace(
        after, **{name: getattr(after, name) * 2 for name in SIDE_NAMES}, steps=after.steps + 5_000
    )
    sides = (
        np.concatenate([getattr(one, name) for one in (before, after)]) for name in ("steps", *SIDE_NAMES)
    )
    both = Grid(*sides)
    count, facts = compute_stylized_facts(both)
    assert count == 300
    assert facts["return_kurtosis", 0] < 2
    one = compared(both, both, 1)["mid_return", 0]
    within = [np.log(part.mids()[-1] / part.mids()[0]) for part in (before, after)]
    assert one.value == pytest.approx(sum(within) / (2 * 1_509))


def test_hours_together_are_tested_as_one() -> None:
    random = np.random.default_rng(5)
    hours = [(random.normal(size=60), random.normal(size=60)) for _ in range(50)]
    together = {
        ("spread", 1): tuple(np.concatenate(side) for side in zip(*hours, strict=True)),
        ("ofi", 1): (np.zeros(30), np.append(np.zeros(9), np.ones(20))),
    }
    spread, ofi = compare_pooled(together)
    own, truth = (side[::2] for side in together["spread", 1])  # 3,000 a side are more than are tested
    result = scipy.stats.ks_2samp(own, truth)
    assert (spread.compared, spread.statistic, spread.p_value) == (1500, result.statistic, result.pvalue)
    assert (spread.value, spread.golden_value) == (own.mean(), truth.mean())
    assert spread.low < own.mean() - truth.mean() < spread.high
    assert (spread.verdict, ofi.verdict) == ("passed", "failed")
    assert ofi.adjusted_p == pytest.approx(2 * ofi.p_value)
    assert (ofi.compared, ofi.value, np.isnan(ofi.low)) == (29, 0.0, True)
