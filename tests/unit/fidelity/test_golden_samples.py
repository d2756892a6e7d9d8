"""Books compared with golden rows that are taken out of a dense book now and then: false alarms and power.

The dense book changes every 20 ms. A golden row is the book at one of its changes. Both are sampled where a
golden row is paired with the book of the same id, as `udfs.spark.fidelity_groups` does.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from test_distribution_tests import autoregressive

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.udfs.fidelity import distribution_tests
from deltabook.udfs.fidelity.distribution_tests import Metric, compare_grids
from deltabook.udfs.fidelity.golden_match import Window
from deltabook.udfs.fidelity.match_counts import MatchCounts
from deltabook.udfs.fidelity.sampling import Sampler, align_grids

DEPTH = 3
CHANGE_NS = 20_000_000
"""Time between two changes of the dense book."""
CHANGES = 9_000
"""Three minutes."""
START = 1_723_158_000_000_000_000
PERIODS = (0.1, 0.33, 1)
"""Seconds from one golden row to the next."""
MINIMUM_MATCH = 0.999
"""The default of the setting `minimum_match`."""


@pytest.fixture(autouse=True)
def no_stylized_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the metrics that cannot fail: they take most of the time."""
    monkeypatch.setattr(distribution_tests, "compute_stylized_facts", lambda grid: (0, {}))


class DenseBook(NamedTuple):
    """A book after each of its changes.

    Attributes
    ----------
    times : int64[changes]
        Time of each change, ns since 1970 UTC.
    prices, sizes : int64[changes, 2, DEPTH]
        Levels by change and side (bids, asks), best first, in ticks and lots.
    """

    times: NDArray[np.int64]
    prices: NDArray[np.int64]
    sizes: NDArray[np.int64]


def make_dense_book(seed: int) -> DenseBook:
    """Return a book with a mid that is a random walk, and with spreads and sizes that are AR(1).

    A tick is so small that the returns of two such books have the same distribution at any price.
    """
    rng = np.random.default_rng(seed)
    mids = np.round(1e8 * np.exp(np.cumsum(1e-5 * rng.standard_normal(CHANGES)))).astype(np.int64)
    steps = np.exp(0.5 * autoregressive(rng, 0.95, CHANGES, 2, DEPTH))
    away = 1000 * np.cumsum(1 + np.round(2 * steps), axis=2).astype(np.int64)
    prices = mids[:, None, None] + np.array([-1, 1])[:, None] * away
    sizes = 1 + np.round(50 * np.exp(0.7 * autoregressive(rng, 0.9, CHANGES, 2, DEPTH)))
    return DenseBook(START + CHANGE_NS * np.arange(CHANGES), prices, sizes.astype(np.int64))


def choose_golden(book: DenseBook, seconds: float, seed: int) -> NDArray[np.int64]:
    """Return the indices of the changes that a vendor publishes, who does so at regular times."""
    period = seconds * 1e9
    times = START + period * np.random.default_rng(seed).random() + period * np.arange(CHANGES)
    return np.searchsorted(book.times, times[times < book.times[-1]], side="right") - 1


def make_table(book: DenseBook, rows: NDArray[np.int64]) -> pa.Table:
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * DEPTH)
    sides = (values[rows, side].ravel() for side in (0, 1) for values in (book.prices, book.sizes))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(side)) for side in sides]
    return pa.table(dict(zip(SIDE_NAMES, lists, strict=True)))


def compare_distributions(
    rebuilt: DenseBook,
    golden: DenseBook,
    rows: NDArray[np.int64],
    rebuilt_rows: NDArray[np.int64] | None = None,
) -> list[Metric]:
    """Return the metrics of two books that are sampled at the same changes.

    `rebuilt_rows` are other changes at which the rebuilt book is sampled.
    """
    grids = []
    for book, chosen in ((rebuilt, rows if rebuilt_rows is None else rebuilt_rows), (golden, rows)):
        sampler, known = Sampler(DEPTH, 100, 1000), np.full((len(chosen), 2), DEPTH)
        sampler.add(book.times[chosen], make_table(book, np.arange(CHANGES)), chosen, known)
        grids.append(sampler.grid())
    return compare_grids(*align_grids(*grids), DEPTH)


def name_failed(metrics: list[Metric]) -> set[str]:
    return {metric.metric for metric in metrics if metric.verdict == "failed"}


def put_fault(book: DenseBook, fault: str, seed: int) -> DenseBook:
    """Return a book that was rebuilt with a fault."""
    rng = np.random.default_rng(seed)
    prices, sizes = book.prices.copy(), book.sizes.copy()
    if fault == "1 % of sizes tripled":
        sizes[rng.random(sizes.shape) < 0.01] *= 3
    elif fault == "all sizes doubled":
        sizes *= 2
    elif fault == "second ask shifted":
        prices[:, 1, 1] += 2_000
    else:  # `stale best bid`: the best bid of half a second ago is still there, where it is better
        stale = np.roll(prices[:, 0, 0], 25)
        is_stranded = stale > prices[:, 0, 0]
        is_stranded[:25] = False
        prices[is_stranded, 0, 1:] = prices[is_stranded, 0, :-1]
        prices[is_stranded, 0, 0] = stale[is_stranded]
    return book._replace(prices=prices, sizes=sizes)


def find_failed(rebuilt: DenseBook, golden: DenseBook, rows: NDArray[np.int64]) -> set[str]:
    """Return the names of the metrics that fail, of single books and of distributions."""
    pairs, known = np.arange(len(rows)), np.full((len(rows), 2), DEPTH)
    tables = (make_table(book, rows) for book in (rebuilt, golden))
    matches = MatchCounts(DEPTH)
    matches.add(Window(*tables, pairs, pairs, rows, known, np.zeros(len(rows), np.bool_), DEPTH, {}))
    failed = {metric["metric"] for metric in matches.metrics(MINIMUM_MATCH) if metric["verdict"] == "failed"}
    return failed | name_failed(compare_distributions(rebuilt, golden, rows))


@pytest.mark.parametrize("seconds", PERIODS)
def test_a_right_book_has_the_samples_of_its_golden_rows(seconds: float) -> None:
    for seed in range(10):
        book = make_dense_book(seed)
        rows = choose_golden(book, seconds, seed)
        metrics = [metric for metric in compare_distributions(book, book, rows) if metric.p_value >= 0]
        assert {metric.metric for metric in metrics} >= {
            "spread",
            "bid_size",
            "ask_size",
            "ofi",
            "mid_return",
        }
        assert {(metric.verdict, metric.statistic) for metric in metrics} == {("passed", 0)}


@pytest.mark.parametrize("seconds", [period for period in PERIODS if period > 0.1])
def test_a_right_book_that_is_sampled_more_often_than_its_golden_rows_fails(seconds: float) -> None:
    book = make_dense_book(0)
    metrics = compare_distributions(book, book, choose_golden(book, seconds, 0), np.arange(CHANGES))
    assert name_failed(metrics) >= {"inter_arrival", "mid_return", "ofi"}


def test_at_most_one_family_in_twenty_fails_if_the_distributions_are_the_same() -> None:
    seeds = range(200)
    failed = dict.fromkeys(PERIODS, 0)
    for seed in seeds:
        rebuilt, golden = make_dense_book(seed), make_dense_book(seed + len(seeds))
        for seconds in PERIODS:
            rows = choose_golden(golden, seconds, seed)
            failed[seconds] += bool(name_failed(compare_distributions(rebuilt, golden, rows)))
    assert all(count <= 0.05 * len(seeds) for count in failed.values()), failed


@pytest.mark.parametrize("seconds", PERIODS)
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        # One size in a hundred does not change a distribution enough. Single books show it.
        ("1 % of sizes tripled", {"match", "size_match"}),
        ("all sizes doubled", {"match", "size_match", "bid_size", "ask_size"}),
        ("second ask shifted", {"match", "price_match", "spread"}),
        ("stale best bid", {"match", "price_match", "spread"}),
    ],
)
def test_a_fault_fails_the_metrics_that_show_it_with_most_seeds(
    fault: str, found: set[str], seconds: float
) -> None:
    seeds = range(20)
    failed: Counter[str] = Counter()
    for seed in seeds:
        golden = make_dense_book(seed)
        rows = choose_golden(golden, seconds, seed)
        failed.update(find_failed(put_fault(golden, fault, seed), golden, rows))
    assert {name for name, count in failed.items() if count > 0.8 * len(seeds)} >= found
    assert failed["match"] == len(seeds)
