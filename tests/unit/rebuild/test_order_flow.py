"""Order flow imbalance equals the published formula in pandas, for every row and every level."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.udfs.rebuild.order_flow import TopLevels, compute_order_flow, make_top_levels

pytestmark = pytest.mark.kernel

LEVELS = 4
SIDE = st.dictionaries(st.integers(1, 9), st.integers(1, 50), max_size=LEVELS + 2)
BOOK = st.tuples(SIDE, SIDE)


def best_first(book) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Bids below 0 and asks above it, best first: the two never cross."""
    bids, asks = book
    return (
        sorted(((-price, size) for price, size in bids.items()), reverse=True),
        sorted(asks.items()),
    )


def joined(books, dtype) -> TopLevels:
    sides = list(zip(*map(best_first, books), strict=True)) if books else [[], []]
    offsets, prices, sizes = [], [], []
    for side in sides:
        offsets.append(np.concatenate(([0], np.cumsum([len(book) for book in side]))).astype(np.int64))
        levels = [level for book in side for level in book]
        prices.append(np.array([price for price, _ in levels], dtype=np.int64))
        sizes.append(np.array([size for _, size in levels], dtype=dtype))
    return TopLevels(tuple(offsets), tuple(prices), tuple(sizes))


def plain(books, levels: int) -> np.ndarray:
    """Cont, Kukanov and Stoikov's e_n with pandas, a missing level at the far end of its side."""
    frames = {}
    for side, far in (("b", -np.inf), ("a", np.inf)):
        for level in range(levels):
            found = [best_first(book)["ba".index(side)] for book in books]
            frames[f"P{side}{level}"] = [one[level][0] if level < len(one) else far for one in found]
            frames[f"q{side}{level}"] = [one[level][1] if level < len(one) else 0 for one in found]
    now = pd.DataFrame(frames)
    before = now.shift()
    flow = {}
    for level in range(levels):
        pb, qb, pa, qa = (f"{what}{level}" for what in ("Pb", "qb", "Pa", "qa"))
        flow[level] = (
            (now[pb] >= before[pb]) * now[qb]
            - (now[pb] <= before[pb]) * before[qb]
            - (now[pa] <= before[pa]) * now[qa]
            + (now[pa] >= before[pa]) * before[qa]
        )
    return pd.DataFrame(flow).iloc[1:].to_numpy(dtype=float)


@cases(300)
@given(books=st.lists(BOOK, min_size=2, max_size=12), cut=st.integers(1, 11), wide=st.booleans())
def test_flow_is_the_formula_whatever_the_batches(books, cut, wide):
    dtype = object if wide else np.int64
    cut = min(cut, len(books) - 1)
    flows, before = [], joined(books[:1], dtype)
    for part in (books[1 : cut + 1], books[cut + 1 :]):
        if part:
            now = joined(part, dtype)
            flows.append(compute_order_flow(before, now, np.zeros(len(part), dtype=bool), LEVELS))
            before = now.last()
    found = np.concatenate(flows)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(float), plain(books, LEVELS))


def test_what_a_snapshot_replaces_is_no_flow():
    books = joined([({1: 5}, {1: 5}), ({1: 7}, {1: 2})], np.int64)
    nothing = make_top_levels((np.empty(0, np.int64),) * 2, (np.empty(0, np.int64),) * 2)
    flow = compute_order_flow(nothing, books, np.array([True, False]), 1)
    assert flow.tolist() == [[0], [(7 - 5) - (2 - 5)]]


def test_numbers_beyond_int64_are_added_exactly():
    huge = 10**30
    books = joined([({1: huge}, {}), ({1: 3 * huge}, {})], object)
    flow = compute_order_flow(
        books,
        TopLevels(*((side[0], side[1]) for side in (books.offsets, books.prices, books.sizes))),
        np.array([True, False]),
        1,
    )
    assert flow.tolist() == [[0], [2 * huge]]
