"""Books on a fixed grid of time: of each step the last one, as floats, and series of them for statistics."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES

STEP = 100_000_000
"""Length of a step of the grid, ns."""
LONGEST = 60_000_000_000 // STEP
"""Steps that a row stands for at most: with nothing for longer, the recording had stopped."""

Steps = NDArray[np.int64]
Levels = NDArray[np.float64]
Series = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """One book a step.

    Attributes
    ----------
    steps : int64[m]
        Time // STEP, ascending, distinct.
    bid_prices, bid_sizes, ask_prices, ask_sizes : float64[m, depth]
        Best first, in the instrument's own units; NaN where there is no such level.
    """

    steps: Steps
    bid_prices: Levels
    bid_sizes: Levels
    ask_prices: Levels
    ask_sizes: Levels

    def take(self, at: NDArray[np.intp], steps: Steps) -> Grid:
        """Return some of the books, at steps of their own.

        Parameters
        ----------
        at : intp[k]
            Which, in order; may repeat.
        steps : int64[k]
            Their steps.
        """
        return Grid(steps, *(getattr(self, name)[at] for name in SIDE_NAMES))

    def follows(self) -> NDArray[np.bool_]:
        """Return whether each step comes right behind the one before it: not the first, nor after a pause."""
        return np.diff(self.steps, prepend=self.steps[:1] - 2) == 1  # type: ignore[no-any-return]

    def mids(self) -> Series:
        """Return (best bid + best ask) / 2."""
        return (self.bid_prices[:, 0] + self.ask_prices[:, 0]) / 2

    def imbalances(self) -> Series:
        """Return (bid size - ask size) / (bid size + ask size) at the best level; NaN if both are 0."""
        bids, asks = self.bid_sizes[:, 0], self.ask_sizes[:, 0]
        return np.divide(bids - asks, bids + asks, where=bids + asks != 0, out=np.full_like(bids, np.nan))

    def order_flow(self) -> Series:
        """Return the order flow imbalance of the best level since the step before, by `orderflow`'s rule.

        It is 0 where no step comes right before.
        """
        flow = np.zeros(len(self.steps))
        for sign, levels, sizes in (
            (1, self.bid_prices, self.bid_sizes),
            (-1, self.ask_prices, self.ask_sizes),
        ):
            prices, amounts = sign * levels[:, 0], np.nan_to_num(sizes[:, 0])
            prices = np.where(np.isnan(prices), -np.inf, prices)
            came, gone = prices[1:] >= prices[:-1], prices[1:] <= prices[:-1]
            flow[1:] += sign * (came * amounts[1:] - gone * amounts[:-1])
        return np.where(self.follows(), flow, 0)

    def inter_arrivals(self) -> Series:
        """Return, at each change of the best prices or sizes, the seconds since the last; else NaN."""
        best = np.stack([getattr(self, name)[:, 0] for name in SIDE_NAMES])
        best = np.where(np.isnan(best), -1, best)
        follows = self.follows()
        changes = np.flatnonzero(follows[1:] & (best[:, 1:] != best[:, :-1]).any(axis=0)) + 1
        pauses = np.cumsum(~follows)[changes]
        found = np.full(len(self.steps), np.nan)
        seconds = np.diff(self.steps[changes]) * (STEP / 1e9)
        found[changes[1:]] = np.where(np.diff(pauses) == 0, seconds, np.nan)
        return found


class Sampler:
    """Keeps of one side's rows the last of each step; only those are converted.

    A step is that of the running maximum of the times: a time that falls back begins none.

    Parameters
    ----------
    depth : int
        Levels a side that are kept.
    price_unit, size_unit : int
        10^scale, by which integers are divided; decimals are not scaled.
    """

    def __init__(self, depth: int, price_unit: int, size_unit: int):
        self.depth = depth
        self.units = {name: price_unit if "price" in name else size_unit for name in SIDE_NAMES}
        self.last = np.iinfo(np.int64).min
        self.parts: list[Grid] = []

    def add(self, times: NDArray[np.int64], rows: pa.Table) -> None:
        """Take the next rows of the feed.

        Parameters
        ----------
        times : int64[n]
            ns since 1970 UTC.
        rows : pyarrow.Table
            n rows; the lists `bid_prices`, `bid_sizes`, `ask_prices`, `ask_sizes` of int64 or
            decimal128(38, 18), best first, of any length.
        """
        if not len(times):
            return
        steps = np.maximum.accumulate(np.maximum(times // STEP, self.last))
        at = _lasts(steps)
        sides = (self._levels(rows[name], at, self.units[name]) for name in SIDE_NAMES)
        self.parts.append(Grid(steps[at], *sides))
        self.last = int(steps[-1])

    def grid(self) -> Grid:
        """Return what was kept, one row a step."""
        nothing = np.empty((0, self.depth))
        parts = [Grid(np.empty(0, dtype=np.int64), *[nothing] * len(SIDE_NAMES)), *self.parts]
        steps = np.concatenate([part.steps for part in parts])
        sides = (np.concatenate([getattr(part, name) for part in parts]) for name in SIDE_NAMES)
        at = _lasts(steps)  # a step that goes on in the next batch is there twice
        return Grid(steps, *sides).take(at, steps[at])

    def _levels(self, column: Any, at: NDArray[np.intp], unit: int) -> Levels:
        """Return the first levels of the lists at `at`: float64[k, depth], NaN behind a list's end."""
        lists = column.combine_chunks()
        offsets = lists.offsets.to_numpy()
        begins, levels = offsets[at], np.arange(self.depth)
        is_there = levels < (offsets[at + 1] - begins)[:, None]
        numbers = lists.values.take(pa.array((begins[:, None] + levels)[is_there]))
        found = np.full(is_there.shape, np.nan)
        if pa.types.is_decimal(numbers.type):
            found[is_there] = numbers.cast(pa.float64()).to_numpy()
        else:
            found[is_there] = numbers.to_numpy() / unit
        return found


def _lasts(steps: Steps) -> NDArray[np.intp]:
    """Return where the last of each run of equal steps is."""
    return np.flatnonzero(np.diff(steps, append=steps[-1:] + 1))


def on_one_grid(rebuilt: Grid, golden: Grid) -> tuple[Grid, Grid]:
    """Carry both sides' books forward onto every step that both have.

    That is from the later of the first steps to the earlier of the last ones, without the steps between two
    rows of either side that are more than 60 s apart.

    Parameters
    ----------
    rebuilt, golden : Grid
        As sampled, each on steps of its own.

    Returns
    -------
    (Grid, Grid)
        On the same steps; empty if the two have none in common.
    """
    shared = [
        np.arange(max(begin, known_begin), min(end, known_end) + 1)
        for (begin, end), (known_begin, known_end) in product(_runs(rebuilt.steps), _runs(golden.steps))
    ]
    steps = np.concatenate([np.empty(0, dtype=np.int64), *shared])
    return _carried(rebuilt, steps), _carried(golden, steps)


def _runs(steps: Steps) -> list[tuple[int, int]]:
    """Return first and last step of each stretch without a long pause."""
    if not len(steps):
        return []
    pauses = np.flatnonzero(np.diff(steps) > LONGEST)
    begins, ends = steps[np.append(0, pauses + 1)], steps[np.append(pauses, len(steps) - 1)]
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _carried(grid: Grid, steps: Steps) -> Grid:
    return grid.take(np.searchsorted(grid.steps, steps, side="right") - 1, steps)


def decimals_of(rebuilt: Levels, golden: Levels) -> list[int]:
    """Return, by level, to which decimal a difference of such numbers means something: about 13 digits.

    Without rounding, a spread of one tick would be as many different ones as there are prices.

    Parameters
    ----------
    rebuilt, golden : float64[m, depth]
        Prices or sizes; NaN where there is no level.
    """
    levels = zip(rebuilt.T, golden.T, strict=True)
    usual = [[np.median(side[side > 0]) for side in sides if (side > 0).any()] for sides in levels]
    return [12 - int(np.floor(np.log10(max(sides, default=1)))) for sides in usual]
