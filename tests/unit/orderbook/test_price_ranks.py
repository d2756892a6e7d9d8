"""Ranks of prices equal the order of sorted prices, for any prices and for both methods."""

from __future__ import annotations

import numpy as np
import pytest
from events import COMPILED
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from properties import cases

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook import price_ranks as module
from deltabook.udfs.orderbook.bitmaps import count_set_bits, highest_set_bit
from deltabook.udfs.orderbook.price_ranks import MOST_TICKS, PriceRanks, rank_prices

pytestmark = pytest.mark.kernel

LOWEST = st.sampled_from([0, 1, 7, 10**6, 6_183_763_000_000, 2**62, -5])
WIDTH = st.sampled_from([1, 2, 64, 65, 1_000, 2**20 if COMPILED else 4_096])
FAR = st.integers(0, 2**62)


def array(*prices: int) -> NDArray[np.int64]:
    return np.array(prices, dtype=np.int64)


def check(parts: list[NDArray[np.int64]], tick: int = 0) -> PriceRanks:
    """Build a ranked and compare it with sorting."""
    ranked = rank_prices(parts, tick)
    expected = np.unique(np.concatenate([*parts, array()]))
    assert (ranked.prices.dtype, ranked.prices.tolist()) == (np.int64, expected.tolist())
    for part in [*parts, expected]:
        assert ranked.find(part).tolist() == np.searchsorted(expected, part).tolist()
    return ranked


@pytest.mark.parametrize("parts", [[], [array()], [array(), array()]])
def test_no_prices_are_an_empty_ladder(parts: list[NDArray[np.int64]]) -> None:
    ranked = rank_prices(parts, 5)
    assert (len(ranked.prices), len(ranked.find(array()))) == (0, 0)


@pytest.mark.parametrize("price", [0, 1, 6_183_763_000_000, 2**62, 2**63 - 1])
@pytest.mark.parametrize("tick", [0, 1, 1_000_000])
def test_one_price_has_rank_0(price: int, tick: int) -> None:
    check([array(price)], tick)
    check([array(price, price), array(), array(price)], tick)


def test_tick_is_the_greatest_step_that_all_prices_share() -> None:
    assert check([array(100, 160), array(130)]).tick == 30
    assert check([array(1_000_000, 3_000_000)]).tick == 2_000_000


@pytest.mark.parametrize("tick", [1, 2, 10, 20])
def test_known_tick_that_fits_is_kept(tick: int) -> None:
    assert check([array(100, 160), array(120)], tick).tick == tick


@pytest.mark.parametrize(
    ("prices", "tick", "finer"), [((100, 120, 125), 20, 5), ((0, 30, 31), 30, 1), ((3, 9), 4, 2)]
)
def test_price_off_the_grid_makes_the_tick_finer(prices: tuple[int, ...], tick: int, finer: int) -> None:
    assert check([array(*prices)], tick).tick == finer


def test_off_grid_price_in_a_later_part_is_seen() -> None:
    assert check([array(0, 20), array(40), array(7)], 20).tick == 1


@pytest.mark.parametrize("top", [2**28, 2**40, 2**53 + 1, 2**62, 2**63 - 1])
def test_range_too_wide_for_a_bitmap_is_ranked_by_sorting(top: int) -> None:
    ranked = check([array(0, top, 1, top), array(top - 1)])
    assert ranked.tick == 0


@pytest.mark.parametrize("top", [2**40, 2**53 + 1, 2**62])
def test_known_tick_does_not_hide_that_the_range_is_too_wide(top: int) -> None:
    check([array(0, top, 1)], 1)
    check([array(0, top, 1)], 1_000)


@pytest.mark.parametrize("tick", [2**30, 2**40, 2**53 + 1, 2**55])
def test_wide_range_on_a_wide_tick_keeps_the_bitmap(tick: int) -> None:
    ranked = check([array(0, tick, 5 * tick, 100 * tick, 3 * tick)])
    assert ranked.tick == tick


def test_narrow_range_keeps_the_bitmap_wherever_it_lies() -> None:
    assert check([array(2**62, 2**62 + 30, 2**62 + 90)]).tick == 30


@pytest.mark.parametrize(("ticks", "bitmap"), [(63, True), (64, False), (65, False)])
def test_bitmap_has_fewer_ticks_than_the_most(
    ticks: int, bitmap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TICKS", 64)
    assert (check([array(5, 8, 5 + ticks * 3)]).tick > 0) is bitmap


@pytest.mark.skipif(not COMPILED, reason="a bitmap of 2^27 bits takes minutes uncompiled")
@pytest.mark.parametrize(
    ("ticks", "bitmap"), [(MOST_TICKS - 1, True), (MOST_TICKS, False), (MOST_TICKS + 1, False)]
)
def test_bitmap_is_left_at_most_ticks(ticks: int, bitmap: bool) -> None:
    for tick in (1, 1_000_000):
        assert (check([array(5, 5 + tick, 5 + ticks * tick)]).tick > 0) is bitmap


@pytest.mark.skipif(not COMPILED, reason="a bitmap of 2^26 bits takes minutes uncompiled")
@pytest.mark.parametrize("tick", [3, 7, 10**8 + 7, (2**62 // 2**26) | 1])
def test_place_is_exact_at_every_distance_despite_the_multiplication(tick: int) -> None:
    places = np.unique(np.random.default_rng(7).integers(0, 2**26, 5_000))
    check([np.append(places, [0, 1, 2**26 - 1]) * tick + 11])


@pytest.mark.parametrize("most", [1, 2, 64, 1_000])
def test_both_ways_give_the_same_ranks(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = np.random.default_rng(3).integers(0, 500, 200) * 7 + 13
    by_bitmap = check([prices])
    monkeypatch.setattr(module, "MOST_TICKS", most)
    by_sorting = check([prices])
    assert by_bitmap.prices.tolist() == by_sorting.prices.tolist()
    assert by_bitmap.find(prices).tolist() == by_sorting.find(prices).tolist()


@pytest.mark.parametrize("place", [0, 1, 62, 63, 64, 65, 127, 128])
def test_word_edges_are_ranked(place: int) -> None:
    check([array(0, *range(place, place + 3), 200)])
    check([np.arange(place + 1)])


@cases(400)
@given(lowest=LOWEST, width=WIDTH, step=st.integers(1, 10**6), data=st.data(), tick=st.integers(0, 100))
def test_ranks_equal_sorting_on_near_prices(
    lowest: int, width: int, step: int, data: st.DataObject, tick: int
) -> None:
    sides = st.lists(st.lists(st.integers(0, width), max_size=12), max_size=4)
    parts = [array(*(lowest + place * step for place in side)) for side in data.draw(sides)]
    check(parts, tick)


@cases(200)
@given(
    parts=st.lists(st.lists(FAR, max_size=8).map(lambda prices: array(*prices)), max_size=4),
    tick=st.integers(0, 3),
)
def test_ranks_equal_sorting_on_far_prices(parts: list[NDArray[np.int64]], tick: int) -> None:
    known = {0: 0, 1: 1, 2: 10**6, 3: 2**50}[tick]
    check([part for part in parts if len(part) < 2 or np.ptp(part) > 2**40], known)


@kernel
def ones_of(words, counts, highest):  # type: ignore[no-untyped-def]
    for index in range(len(words)):
        counts[index] = count_set_bits(words[index])
        highest[index] = highest_set_bit(words[index])


def test_bits_are_counted_and_the_highest_found() -> None:
    values = [1, 2, 3, 2**31, 2**32, 2**63, 2**63 + 1, 2**64 - 1, *(1 << place for place in range(64))]
    values += [int(value) for value in np.random.default_rng(5).integers(1, 2**64, 50, dtype=np.uint64)]
    words = np.array(values, dtype=np.uint64)
    counts, highest = np.zeros((2, len(words)), dtype=np.int64)
    ones_of(words, counts, highest)
    assert counts.tolist() == [value.bit_count() for value in values]
    assert highest.tolist() == [value.bit_length() - 1 for value in values]
