"""Sample books on a time grid: samples and metrics equal those of plain loops over rows and steps."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.columns import DECIMAL, SIDE_NAMES
from deltabook.udfs.fidelity.sampling import MAX_CARRIED_STEPS, STEP_NS, Grid, Sampler, align_grids
from deltabook.udfs.rebuild.order_flow import compute_order_flow, make_top_levels

DEPTH = 2
UNITS = {"bid_prices": 10, "bid_sizes": 1000, "ask_prices": 10, "ask_sizes": 1000}
START = 1_723_158_000_000_000_000
LISTS = st.fixed_dictionaries({name: st.lists(st.integers(1, 99), max_size=3) for name in SIDE_NAMES})


def table_of(rows: list[dict[str, list[int]]], is_decimal: bool) -> pa.Table:
    columns = {}
    for name in SIDE_NAMES:
        lists = [row[name] for row in rows]
        if is_decimal:
            lists = [[Decimal(number) / UNITS[name] for number in one] for one in lists]
        columns[name] = pa.array(lists, pa.list_(DECIMAL if is_decimal else pa.int64()))
    return pa.table(columns)


def sampled(
    times: list[int],
    rows: list[dict[str, list[int]]],
    cuts: list[int],
    chosen: list[int],
    known: list[tuple[int, int]],
    is_decimal: bool = False,
) -> Grid:
    units = (1, 1) if is_decimal else (UNITS["bid_prices"], UNITS["bid_sizes"])
    sampler, table = Sampler(DEPTH, *units), table_of(rows, is_decimal)
    bounds = [0, *sorted(min(cut, len(times)) for cut in cuts), len(times)]
    for begin, end in pairwise(bounds):
        known_levels = np.array(known[begin:end], dtype=np.int64).reshape(-1, 2)
        numbers = [np.array(numbers[begin:end], dtype=np.int64) for numbers in (times, chosen)]
        sampler.add(numbers[0], table, numbers[1], known_levels)
    return sampler.grid()


def grid_of(steps: list[int], **sides: Any) -> Grid:
    """Books of one level; a side that is not given is nowhere."""
    none = [np.nan] * len(steps)
    levels = [np.array(sides.get(name, none), dtype=float)[:, None] for name in SIDE_NAMES]
    return Grid(np.array(steps, dtype=np.int64), *levels)


def numbered(steps: list[int]) -> Grid:
    return grid_of(steps, bid_prices=steps)


@cases(150)
@given(
    rows=st.lists(LISTS, min_size=1, max_size=6),
    books=st.lists(st.tuples(st.integers(-2, 5), st.integers(0, 5), *[st.integers(0, 3)] * 2), max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=3),
    is_decimal=st.booleans(),
)
def test_each_step_keeps_the_last_row_as_a_plain_loop_does(
    rows: list[dict[str, list[int]]],
    books: list[tuple[int, int, int, int]],
    cuts: list[int],
    is_decimal: bool,
) -> None:
    pauses = np.array([pause for pause, *_ in books], dtype=np.int64)
    times = (START + np.cumsum(pauses) * (STEP_NS * 2 // 5)).tolist()
    chosen = [row % len(rows) for _, row, *_ in books]
    known = [(bids, asks) for *_, bids, asks in books]
    found = sampled(times, rows, cuts, chosen, known, is_decimal)
    kept: dict[int, dict[str, list[int]]] = {}
    for time, row, counts in zip(times, chosen, known, strict=True):
        limits = dict(zip(SIDE_NAMES, np.repeat(counts, 2), strict=True))
        kept[max(time // STEP_NS, *kept, 0)] = {name: rows[row][name][: limits[name]] for name in SIDE_NAMES}
    assert found.steps.tolist() == list(kept)
    for name in SIDE_NAMES:
        expected = [(lists[name] + [np.nan] * DEPTH)[:DEPTH] for lists in kept.values()]
        expected = np.array(expected, dtype=float).reshape(-1, DEPTH) / UNITS[name]
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-15)


def test_integers_beyond_the_exact_range_of_doubles_are_rounded() -> None:
    sides = {name: [2**62 + 1] for name in SIDE_NAMES}
    assert sampled([START], [sides], [], [0], [(1, 1)]).bid_prices[0, 0] == float(2**62) / 10


def test_a_sampler_without_rows_has_an_empty_grid() -> None:
    found = Sampler(DEPTH, 1, 1).grid()
    assert (len(found.steps), found.ask_sizes.shape) == (0, (0, DEPTH))


@cases(150)
@given(*[st.lists(st.integers(0, 4 * MAX_CARRIED_STEPS), max_size=8, unique=True).map(sorted)] * 2)
def test_both_sides_are_carried_forward_as_a_plain_loop_does(own: list[int], known: list[int]) -> None:
    expected = []
    for step in range(max(own[0], known[0]), min(own[-1], known[-1]) + 1) if own and known else ():
        around = [
            (max(at for at in side if at <= step), min(at for at in side if at >= step))
            for side in (own, known)
        ]
        if all(after - before <= MAX_CARRIED_STEPS for before, after in around):
            expected.append((step, around[0][0], around[1][0]))
    rebuilt, golden = align_grids(numbered(own), numbered(known))
    assert np.array_equal(rebuilt.steps, golden.steps)
    found = (rebuilt.steps, rebuilt.bid_prices[:, 0], golden.bid_prices[:, 0])
    assert list(zip(*(values.tolist() for values in found), strict=True)) == expected


def test_a_pause_of_more_than_a_minute_is_left_out_on_both_sides() -> None:
    pause = [0, 1, 1 + MAX_CARRIED_STEPS, 2 + 2 * MAX_CARRIED_STEPS, 3 + 2 * MAX_CARRIED_STEPS]
    rebuilt, golden = align_grids(numbered(pause), numbered(list(range(2 * MAX_CARRIED_STEPS + 4))))
    expected = [*range(1 + MAX_CARRIED_STEPS + 1), 2 + 2 * MAX_CARRIED_STEPS, 3 + 2 * MAX_CARRIED_STEPS]
    assert rebuilt.steps.tolist() == golden.steps.tolist() == expected
    assert rebuilt.bid_prices[1 : 1 + MAX_CARRIED_STEPS, 0].tolist() == [1.0] * MAX_CARRIED_STEPS


def test_mid_and_imbalance_are_of_the_best_level_and_nan_where_a_side_is_missing() -> None:
    found = grid_of(
        [0, 1, 2],
        bid_prices=[10, np.nan, 8],
        ask_prices=[11, 12, 12],
        bid_sizes=[3, np.nan, 0],
        ask_sizes=[1, 5, 0],
    )
    np.testing.assert_array_equal(found.mids(), [10.5, np.nan, 10])
    np.testing.assert_array_equal(found.imbalances(), [0.5, np.nan, np.nan])


def test_inter_arrivals_end_at_changes_and_do_not_span_a_pause() -> None:
    steps = [0, 1, 2, 3, 4, 5, 900, 901, 902]
    prices = [7, 8, 8, 8, 9, np.nan, 1, 2, 3]
    found = grid_of(steps, bid_prices=prices, ask_sizes=[1, 1, 1, 2, 2, 2, 2, 2, 2]).inter_arrivals()
    none = np.nan
    np.testing.assert_allclose(found, [none, none, none, 0.2, 0.1, 0.1, none, none, 0.1])


def test_order_flow_is_cont_kukanov_and_stoikovs() -> None:
    found = grid_of(
        [0, 1, 2, 3, 9],
        bid_prices=[10, 10, 11, 10, 12],
        bid_sizes=[5, 7, 2, 4, 9],
        ask_prices=[13, 13, 13, 12, 14],
        ask_sizes=[3, 1, 1, 6, 9],
    )
    # More to buy and less to sell; a better bid; both sides lower; a pause.
    assert found.order_flow().tolist() == [0, 2 + 2, 2, -2 - 6, 0]


@pytest.mark.kernel
@cases(60)
@given(st.lists(st.tuples(*[st.lists(st.tuples(*[st.integers(1, 3)] * 2), max_size=1)] * 2), min_size=2))
def test_order_flow_is_that_of_books(books: list[Any]) -> None:
    found = Sampler(1, 1, 1)
    for step, sides in enumerate(books):
        lists = [[level[place] for level in side] for side in sides for place in (0, 1)]
        columns = dict(zip(SIDE_NAMES, lists, strict=True))
        table = table_of([columns], is_decimal=False)
        found.add(np.array([step * STEP_NS]), table, np.array([0]), np.array([[1, 1]]))
    tops = []
    for sides in books:
        levels = [np.array(side, dtype=np.int64).reshape(-1, 2) for side in sides]
        tops.append(make_top_levels(*zip(*(side.T for side in levels), strict=True)))
    told = np.array([False])
    expected = [compute_order_flow(before, top, told, 1)[0, 0] for before, top in pairwise(tops)]
    assert found.grid().order_flow().tolist() == [0, *expected]
