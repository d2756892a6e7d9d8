"""Counts of equal books and levels: to the depth that a book knows, against plain loops."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.columns import DECIMAL, SIDE_NAMES
from deltabook.schemas.names import FULL_DEPTH, NOT_GIVEN
from deltabook.udfs.fidelity.golden_match import Ids, Window
from deltabook.udfs.fidelity.match_counts import MatchCounts

DEPTH, COUNTED = 4, 3
"""Most levels that are compared, and levels that have their own counts."""

Levels = list[tuple[int, int]]
Pair = tuple[tuple[Levels, Levels], tuple[Levels, Levels], tuple[int, int]]
"""Bids and asks of a book, bids and asks of a golden row, and how many bids and asks the book knows."""

LEVELS = st.lists(st.tuples(*[st.integers(1, 2)] * 2), max_size=DEPTH + 1)
KNOWN = st.integers(0, DEPTH + 1) | st.just(FULL_DEPTH)
PAIR = st.tuples(*[st.tuples(LEVELS, LEVELS)] * 2, st.tuples(KNOWN, KNOWN))


def make_table(books: list[tuple[Levels, Levels]], is_decimal: bool) -> pa.Table:
    number = Decimal if is_decimal else int
    kind = pa.list_(DECIMAL if is_decimal else pa.int64())
    columns = [[[number(level[part]) for level in book[side]] for book in books] for side, part in PARTS]
    return pa.table([pa.array(column, kind) for column in columns], names=list(SIDE_NAMES))


PARTS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Side, and price or size, of each of `SIDE_NAMES`."""


def add_pairs(counts: MatchCounts, pairs: list[Pair], is_decimal: bool = False, **fields: Any) -> Ids:
    """Count some pairs, whose ids are 1, 2, …"""
    books, golden = (make_table([pair[at] for pair in pairs], is_decimal) for at in (0, 1))
    rows, known = np.arange(len(pairs)), np.array([pair[2] for pair in pairs]).reshape(-1, 2)
    usual = {"is_unverifiable": np.zeros(len(pairs), np.bool_), "skipped": {}} | fields
    window = Window(books, golden, rows, rows, rows + 1, known.astype(np.int64), depth=DEPTH, **usual)
    return counts.add(window)


@pytest.mark.kernel
@cases(300)
@given(st.lists(PAIR, max_size=6), st.booleans())
def test_counts_are_those_of_plain_loops(pairs: list[Pair], is_decimal: bool) -> None:
    counts = MatchCounts(COUNTED)
    found = add_pairs(counts, pairs, is_decimal)
    levels, prices, sizes = ([0] * COUNTED for _ in range(3))
    first, unknown = [], 0
    for book, golden, known in pairs:
        differing = [DEPTH]
        for shown, true, limit in zip(book, golden, known, strict=True):
            if shown and not true:
                differing.append(0)
            for level, (price, size) in enumerate(true[:DEPTH]):
                if level >= limit:
                    unknown += 1
                    continue
                own = shown[level] if level < len(shown) else (None, None)
                if own != (price, size):
                    differing.append(level)
                if level < COUNTED:
                    levels[level] += 1
                    prices[level] += own[0] == price
                    sizes[level] += own[1] == size
        first.append(min(differing))
    wrong = [number for number, level in enumerate(first, 1) if level < DEPTH]
    assert found.tolist() == first
    assert (counts.compared, counts.matched) == (len(pairs), len(pairs) - len(wrong))
    assert (counts.unknown, counts.first_divergence) == (unknown, min(wrong, default=NOT_GIVEN))
    told = (counts.levels.tolist(), counts.prices.tolist(), counts.sizes.tolist())
    assert told == (levels, prices, sizes)


TRUE = ([(9, 1), (8, 1), (7, 1)], [(11, 1), (12, 1), (13, 1)])


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("bids", "known", "differing", "unknown"),
    [
        ([(9, 1), (8, 1), (7, 1)], 3, DEPTH, 0),
        ([(9, 1), (8, 1), (6, 1)], 3, 2, 0),
        # The book does not know its third bid: whether it is there or not, right or wrong, says nothing.
        ([(9, 1), (8, 1), (6, 1)], 2, DEPTH, 1),
        ([(9, 1), (8, 1)], 2, DEPTH, 1),
        ([(9, 1), (8, 2), (6, 1)], 1, DEPTH, 2),
        ([(10, 1)], 0, DEPTH, 3),
        # The book knows more levels than it has: one that the golden row has is missing.
        ([(9, 1), (8, 1)], 3, 2, 0),
        ([(9, 1), (8, 1)], FULL_DEPTH, 2, 0),
        ([], FULL_DEPTH, 0, 0),
        ([], 0, DEPTH, 3),
    ],
)
def test_levels_are_compared_as_deep_as_the_book_is_known(
    bids: Levels, known: int, differing: int, unknown: int
) -> None:
    counts = MatchCounts(COUNTED)
    assert add_pairs(counts, [((bids, TRUE[1]), TRUE, (known, 3))]).tolist() == [differing]
    assert (counts.matched, counts.unknown) == (int(differing == DEPTH), unknown)
    assert int(counts.levels.sum()) == 3 + min(known, 3)


@pytest.mark.kernel
def test_skipped_and_unknown_are_summed_over_windows() -> None:
    counts, pairs = MatchCounts(COUNTED), [(TRUE, TRUE, (1, 3))] * 2
    add_pairs(counts, pairs, skipped={"unsound": 2, "outdated": 1}, is_unverifiable=np.ones(2, np.bool_))
    add_pairs(counts, [], skipped={"unsound": 3, "impossible": 4})
    add_pairs(counts, pairs[:1], is_unverifiable=np.ones(1, np.bool_))
    assert counts.skipped == {"unsound": 5, "outdated": 1, "impossible": 4}
    assert (counts.compared, counts.unknown, counts.unverifiable) == (3, 6, 3)
