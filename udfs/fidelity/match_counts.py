"""Counts of books that equal their golden rows: whole books, and single levels."""

from __future__ import annotations

from collections import Counter
from typing import NotRequired, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.fidelity.golden_match import Window
from deltabook.udfs.fidelity.golden_rows import Ids
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.encoding import words

_SIDE_COLUMNS = (("bid_prices", "bid_sizes"), ("ask_prices", "ask_sizes"))


class MatchMetric(TypedDict):
    """One row of `fidelity` for a share of equal values; columns of the table without a key here are empty.

    The keys `value` and `golden_value` are missing if nothing was compared.
    """

    metric: str
    level: int
    compared: int
    matched: int
    verdict: str
    value: NotRequired[float]
    golden_value: NotRequired[float]
    unverifiable: NotRequired[int]
    first_divergence: NotRequired[int]


class MatchCounts:
    """Running counts over the compared pairs of a book and a golden row.

    Parameters
    ----------
    depth : int
        Number of levels per side that are counted level by level.

    Attributes
    ----------
    compared, matched, unverifiable : int
        Number of compared pairs, of equal pairs, and of compared pairs whose book has the status
        `unverifiable`.
    unknown : int
        Number of golden levels within the compared depth that are not compared, because the book does not
        know its side so deep; see `known_range`.
    skipped : Counter
        Number of pairs that are not compared, by reason; see `schemas.names.SKIPPED`.
    first_divergence : int
        Smallest id of a pair that differs; -1 if there is none.
    levels, prices, sizes : int64[depth]
        Counts by level, over both sides: compared golden levels, levels with an equal price, and levels with
        an equal size.
    """

    def __init__(self, depth: int):
        self.compared = self.matched = self.unverifiable = self.unknown = 0
        self.skipped: Counter[str] = Counter()
        self.first_divergence = NOT_GIVEN
        self.levels, self.prices, self.sizes = (np.zeros(depth, dtype=np.int64) for _ in range(3))

    def add(self, window: Window) -> Ids:
        """Compare the pairs of a window and count them.

        Parameters
        ----------
        window : Window
            The next window.

        Returns
        -------
        int64[n]
            For each pair, index of the first level that differs on either side, from 0; the window's depth if
            the pair is equal.
        """
        first = np.full(len(window.ids), window.depth, dtype=np.int64)
        counts = (self.levels, self.prices, self.sizes)
        for side, columns in enumerate(_SIDE_COLUMNS):
            book, golden = (_read_side(table, columns) for table in (window.books, window.golden))
            rows, limits = (window.book_rows, window.golden_rows), window.known_levels[:, side]
            self.unknown += compare_side(*book, *golden, *rows, limits, window.depth, first, *counts)
        is_equal = first == window.depth
        self.skipped.update(window.skipped)
        self.compared += len(first)
        self.matched += int(is_equal.sum())
        self.unverifiable += int(window.is_unverifiable.sum())
        if not is_equal.all():
            least = int(window.ids[~is_equal].min())
            is_first = self.first_divergence == NOT_GIVEN
            self.first_divergence = least if is_first else min(self.first_divergence, least)
        return first

    def metrics(self, minimum_match: float) -> list[MatchMetric]:
        """Return one metric for whole books, then for each level one metric for prices and one for sizes.

        Parameters
        ----------
        minimum_match : float
            Limit for the share of equal pairs, from 0 to 1. A share above the limit passes.
        """
        whole = make_match_metric("match", 0, self.compared, self.matched, minimum_match)
        whole |= {"unverifiable": self.unverifiable, "first_divergence": self.first_divergence}
        by_level = [
            make_match_metric(name, level + 1, int(levels), int(matched[level]), minimum_match)
            for level, levels in enumerate(self.levels)
            for name, matched in (("price_match", self.prices), ("size_match", self.sizes))
            if levels
        ]
        return [whole, *by_level]


def find_differing_levels(window: Window) -> Ids:
    """Return for each pair of a window the first level that differs; see `MatchCounts.add`.

    Parameters
    ----------
    window : Window
        The window.
    """
    return MatchCounts(0).add(window)


def make_match_metric(
    name: str, level: int, compared: int, matched: int, minimum_match: float
) -> MatchMetric:
    """Return the columns of `fidelity` for a share of equal values.

    Parameters
    ----------
    name : str
        Name of the metric.
    level : int
        Level of the book, from 1; 0 for a metric of whole books.
    compared, matched : int
        Number of compared values, and number of equal values.
    minimum_match : float
        Limit for the share of equal values, from 0 to 1. A share above the limit passes.
    """
    metric: MatchMetric = {
        "metric": name,
        "level": level,
        "compared": compared,
        "matched": matched,
        "verdict": "none",
    }
    if compared:
        share = matched / compared
        verdict = "passed" if share > minimum_match else "failed"
        metric |= {"value": share, "golden_value": 1.0, "verdict": verdict}
    return metric


def _read_side(table: pa.Table, columns: tuple[str, str]) -> tuple[NDArray[np.int64], NDArray[np.int64], Ids]:
    """Return prices and sizes of one side, as `encoding.words` returns them, and each row's start index."""
    numbers = []
    for name in columns:
        lists = table[name].combine_chunks()
        starts = lists.offsets.to_numpy().astype(np.int64)
        numbers.append(words(lists.values.slice(starts[0], starts[-1] - starts[0])))
    return numbers[0], numbers[1], starts - starts[0]


@kernel
def compare_side(
    prices,
    sizes,
    starts,
    golden_prices,
    golden_sizes,
    golden_starts,
    book_rows,
    golden_rows,
    limits,
    depth,
    first,
    levels,
    same_prices,
    same_sizes,
):
    """Compare one side of books with golden rows, level by level; cost: one comparison per level.

    Levels beyond the end of a golden side, or beyond the known levels of the book, are not compared. But if
    the golden side is empty and the book's side is not, the pair differs at level 0.

    Parameters
    ----------
    prices, sizes : int64[m, words]
        Levels of all books, best first; see `encoding.words`.
    starts : int64[rows + 1]
        Index of each book's first level, then the number of all levels.
    golden_prices, golden_sizes : int64[k, words]
        Levels of all golden rows, best first.
    golden_starts : int64[golden rows + 1]
        Index of each golden row's first level, then the number of all golden levels.
    book_rows, golden_rows : int64[n]
        Indices of the book and of the golden row of each pair.
    limits : int64[n]
        Number of known levels of each pair's book.
    depth : int
        Maximum number of levels to compare.
    first : int64[n]
        For each pair, the first level found so far that differs, from 0; updated in place.
    levels, same_prices, same_sizes : int64[counted levels]
        Counts by level: compared levels, equal prices, equal sizes; updated in place.

    Returns
    -------
    int
        Number of golden levels that are not compared because the book does not know them.
    """
    unknown = 0
    for pair in range(len(book_rows)):
        begin, golden_begin = starts[book_rows[pair]], golden_starts[golden_rows[pair]]
        have = starts[book_rows[pair] + 1] - begin
        want = min(golden_starts[golden_rows[pair] + 1] - golden_begin, depth)
        if want == 0 and have > 0:
            first[pair] = 0
        unknown += max(want - limits[pair], 0)
        for level in range(min(want, limits[pair])):
            counts = level < len(levels)
            if counts:
                levels[level] += 1
            if level >= have:
                first[pair] = min(first[pair], level)
                continue
            price = size = True
            for word in range(prices.shape[1]):
                price &= prices[begin + level, word] == golden_prices[golden_begin + level, word]
                size &= sizes[begin + level, word] == golden_sizes[golden_begin + level, word]
            if counts:
                same_prices[level] += price
                same_sizes[level] += size
            if not (price and size):
                first[pair] = min(first[pair], level)
    return unknown
