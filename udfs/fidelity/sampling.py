"""Books sampled on a regular time grid, as floats, and the series that statistics need.

The sample of a time step is the last book in the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES

STEP_NS = 100_000_000
"""Length of a grid step, ns."""
MAX_CARRIED_STEPS = 60_000_000_000 // STEP_NS
"""Maximum number of steps for which a book stays valid without a newer book (60 s).

A longer silence counts as a pause of the recording.
"""

Steps = NDArray[np.int64]
Levels = NDArray[np.float64]
Series = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """One book for each step of a time grid.

    Attributes
    ----------
    steps : int64[m]
        Number of each step: time in ns since 1970 UTC // STEP_NS. Ascending and distinct.
    bid_prices, bid_sizes, ask_prices, ask_sizes : float64[m, depth]
        Prices and sizes of levels, best first, in the instrument's units; NaN for a missing level.
    """

    steps: Steps
    bid_prices: Levels
    bid_sizes: Levels
    ask_prices: Levels
    ask_sizes: Levels

    def take(self, rows: NDArray[np.intp], steps: Steps) -> Grid:
        """Return a grid with chosen books at new steps.

        Parameters
        ----------
        rows : intp[k]
            Indices of the chosen books. An index may occur several times.
        steps : int64[k]
            Number of the new step of each chosen book.
        """
        return Grid(steps, *(getattr(self, name)[rows] for name in SIDE_NAMES))

    def follows(self) -> NDArray[np.bool_]:
        """Return whether each step directly follows the previous step; False for the first step."""
        return np.diff(self.steps, prepend=self.steps[:1] - 2) == 1  # type: ignore[no-any-return]

    def mids(self) -> Series:
        """Return the mid price of each step: (best bid + best ask) / 2."""
        return (self.bid_prices[:, 0] + self.ask_prices[:, 0]) / 2

    def imbalances(self) -> Series:
        """Return (bid size - ask size) / (bid size + ask size) at the best prices; NaN if both are 0."""
        bids, asks = self.bid_sizes[:, 0], self.ask_sizes[:, 0]
        return np.divide(bids - asks, bids + asks, where=bids + asks != 0, out=np.full_like(bids, np.nan))

    def order_flow(self) -> Series:
        """Return the order flow imbalance of the best level since the previous step.

        The module `udfs.rebuild.order_flow` has the definition. The value is 0 if the previous step is not
        part of the grid.
        """
        flow = np.zeros(len(self.steps))
        for sign, levels, sizes in (
            (1, self.bid_prices, self.bid_sizes),
            (-1, self.ask_prices, self.ask_sizes),
        ):
            prices, amounts = sign * levels[:, 0], np.nan_to_num(sizes[:, 0])
            prices = np.where(np.isnan(prices), -np.inf, prices)
            is_added, is_removed = prices[1:] >= prices[:-1], prices[1:] <= prices[:-1]
            flow[1:] += sign * (is_added * amounts[1:] - is_removed * amounts[:-1])
        return np.where(self.follows(), flow, 0)

    def inter_arrivals(self) -> Series:
        """Return, for each step at which the best prices or sizes change, the seconds since the last change.

        The value is NaN at a step without a change, and at the first change after a pause.
        """
        best = np.stack([getattr(self, name)[:, 0] for name in SIDE_NAMES])
        best = np.where(np.isnan(best), -1, best)
        follows = self.follows()
        changes = np.flatnonzero(follows[1:] & (best[:, 1:] != best[:, :-1]).any(axis=0)) + 1
        pauses = np.cumsum(~follows)[changes]
        intervals = np.full(len(self.steps), np.nan)
        seconds = np.diff(self.steps[changes]) * (STEP_NS / 1e9)
        intervals[changes[1:]] = np.where(np.diff(pauses) == 0, seconds, np.nan)
        return intervals


class Sampler:
    """Collects the last row of each time step from batches of rows.

    Only the collected rows are converted to floats. A row's step comes from the running maximum of the times,
    so a row whose time is earlier than a previous time belongs to the current step.

    Parameters
    ----------
    depth : int
        Number of levels per side to collect.
    price_unit, size_unit : int
        10^scale: divisors of integer prices and sizes. Decimals are not divided.
    """

    def __init__(self, depth: int, price_unit: int, size_unit: int):
        self.depth = depth
        self.units = {name: price_unit if "price" in name else size_unit for name in SIDE_NAMES}
        self.last_step = np.iinfo(np.int64).min
        self.parts: list[Grid] = []

    def add(
        self,
        times: NDArray[np.int64],
        rows: pa.Table,
        chosen: NDArray[np.int64],
        known_levels: NDArray[np.int64],
    ) -> None:
        """Sample the next n books of the feed.

        Parameters
        ----------
        times : int64[n]
            Time of each book, ns since 1970 UTC.
        rows : pyarrow.Table
            Rows with the list columns `bid_prices`, `bid_sizes`, `ask_prices`, `ask_sizes`. Each list has
            int64 or decimal128(38, 18) values, best first, and any length.
        chosen : int64[n]
            Index of the row of each book. An index may occur several times.
        known_levels : int64[n, 2]
            Number of bids and asks of each book to collect; worse levels count as missing.
        """
        if not len(times):
            return
        steps = np.maximum.accumulate(np.maximum(times // STEP_NS, self.last_step))
        last = _find_last_rows(steps)
        sides = (
            self._read_levels(rows[name], chosen[last], known_levels[last, column // 2], self.units[name])
            for column, name in enumerate(SIDE_NAMES)
        )
        self.parts.append(Grid(steps[last], *sides))
        self.last_step = int(steps[-1])

    def grid(self) -> Grid:
        """Return the samples so far, one row for each step."""
        no_levels = np.empty((0, self.depth))
        parts = [Grid(np.empty(0, dtype=np.int64), *[no_levels] * len(SIDE_NAMES)), *self.parts]
        steps = np.concatenate([part.steps for part in parts])
        sides = (np.concatenate([getattr(part, name) for part in parts]) for name in SIDE_NAMES)
        last_rows = _find_last_rows(steps)  # a step that spans two batches has two rows
        return Grid(steps, *sides).take(last_rows, steps[last_rows])

    def _read_levels(
        self, column: pa.ChunkedArray, rows: NDArray[np.int64], known_levels: NDArray[np.int64], unit: int
    ) -> Levels:
        """Return the first `depth` levels of rows, float64[k, depth]; NaN where there is no known level."""
        lists = column.combine_chunks()
        offsets = lists.offsets.to_numpy()
        begins, levels = offsets[rows], np.arange(self.depth)
        has_level = levels < np.minimum(offsets[rows + 1] - begins, known_levels)[:, None]
        numbers = lists.values.take(pa.array((begins[:, None] + levels)[has_level]))
        floats = np.full(has_level.shape, np.nan)
        if pa.types.is_decimal(numbers.type):
            floats[has_level] = numbers.cast(pa.float64()).to_numpy()
        else:
            floats[has_level] = numbers.to_numpy() / unit
        return floats


def _find_last_rows(steps: Steps) -> NDArray[np.intp]:
    """Return the index of the last row of each run of equal steps."""
    return np.flatnonzero(np.diff(steps, append=steps[-1:] + 1))


def align_grids(rebuilt: Grid, golden: Grid) -> tuple[Grid, Grid]:
    """Return both grids on the steps that both cover; a step without a sample gets the last earlier book.

    A grid covers all steps from its first to its last sample, except between two samples that are more than
    60 s apart.

    Parameters
    ----------
    rebuilt, golden : Grid
        Grids whose steps may differ.

    Returns
    -------
    (Grid, Grid)
        Both grids on the same steps; empty if they have no step in common.
    """
    shared = [
        np.arange(max(begin, golden_begin), min(end, golden_end) + 1)
        for (begin, end), (golden_begin, golden_end) in product(
            _find_runs(rebuilt.steps), _find_runs(golden.steps)
        )
    ]
    steps = np.concatenate([np.empty(0, dtype=np.int64), *shared])
    return _carry_forward(rebuilt, steps), _carry_forward(golden, steps)


def _find_runs(steps: Steps) -> list[tuple[int, int]]:
    """Return the first and the last step of each stretch without a pause of more than 60 s."""
    if not len(steps):
        return []
    pauses = np.flatnonzero(np.diff(steps) > MAX_CARRIED_STEPS)
    begins, ends = steps[np.append(0, pauses + 1)], steps[np.append(pauses, len(steps) - 1)]
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _carry_forward(grid: Grid, steps: Steps) -> Grid:
    """Return a grid with the newest book at each of the given steps."""
    return grid.take(np.searchsorted(grid.steps, steps, side="right") - 1, steps)


def choose_decimals(rebuilt: Levels, golden: Levels) -> list[int]:
    """Return, for each level, the number of decimals to which differences of prices or sizes are rounded.

    About 13 significant digits remain. Without rounding, float errors would turn a spread of one tick into
    many slightly different spreads.

    Parameters
    ----------
    rebuilt, golden : float64[m, depth]
        Prices or sizes; NaN where there is no level.

    Returns
    -------
    list of int
        Decimals for each of the `depth` levels.
    """
    levels = zip(rebuilt.T, golden.T, strict=True)
    medians = [[np.median(side[side > 0]) for side in sides if (side > 0).any()] for sides in levels]
    return [12 - int(np.floor(np.log10(max(sides, default=1)))) for sides in medians]
