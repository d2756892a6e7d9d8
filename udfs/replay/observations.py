"""What is seen at one step through a symbol's books and trades."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import Status
from deltabook.udfs.replay.cursors import full_book
from deltabook.udfs.replay.steps import Steps
from deltabook.udfs.replay.streams import Trades

_STATUSES = tuple(Status)


class Features(NamedTuple):
    """Floats of one observation, in units of price and size; NaN where a side is empty.

    Attributes
    ----------
    spread, mid, microprice, imbalance : float
        Of the best levels, as in the view `features`.
    ofi : float
        Order flow imbalance of the best level since the observation before.
    """

    spread: float
    mid: float
    microprice: float
    imbalance: float
    ofi: float


class Observation:
    """What is seen at one step: the book as it is, and what has come since the step before.

    Its arrays are views of the batch that it is of: keep copies of what is kept for long.

    Parameters
    ----------
    steps : Steps
        The steps that it is one of.
    at : int
        Which.
    time : int
        By the clock, ns since 1970 UTC.
    row : int
        The row of the steps' books.
    """

    __slots__ = ("_at", "_row", "_steps", "time")

    def __init__(self, steps: Steps, at: int, time: int, row: int):
        self._steps = steps
        self._at = at
        self._row = row
        self.time = time

    @property
    def status(self) -> Status:
        """How far the book is proven."""
        return _STATUSES[self._steps.shown.statuses[self._row]]

    @property
    def sequence(self) -> int:
        """Last update id that the book contains; -1 if none."""
        return self._steps.shown.sequences[self._row]

    @property
    def gap(self) -> bool:
        """Whether the book was suspect or unseeded at some time since the observation before, or is."""
        return bool(self._steps.gap[self._at])

    @property
    def bid_prices(self) -> NDArray[np.int64]:
        """Bid prices, scaled, best first, int64[at most depth]; or objects, see `Trades`."""
        shown, row = self._steps.shown, self._row
        if row < 0:
            return shown.before["bid_prices"]
        return shown.bid_prices[shown.bids[row] : shown.bids[row + 1]]

    @property
    def bid_sizes(self) -> NDArray[np.int64]:
        """Sizes at `bid_prices`, scaled."""
        shown, row = self._steps.shown, self._row
        if row < 0:
            return shown.before["bid_sizes"]
        return shown.bid_sizes[shown.bids[row] : shown.bids[row + 1]]

    @property
    def ask_prices(self) -> NDArray[np.int64]:
        """Ask prices, scaled, best first, int64[at most depth]."""
        shown, row = self._steps.shown, self._row
        if row < 0:
            return shown.before["ask_prices"]
        return shown.ask_prices[shown.asks[row] : shown.asks[row + 1]]

    @property
    def ask_sizes(self) -> NDArray[np.int64]:
        """Sizes at `ask_prices`, scaled."""
        shown, row = self._steps.shown, self._row
        if row < 0:
            return shown.before["ask_sizes"]
        return shown.ask_sizes[shown.asks[row] : shown.asks[row + 1]]

    @property
    def update_count(self) -> int:
        """Book updates since the observation before."""
        steps, at = self._steps, self._at
        return int(steps.update[at + 1] - steps.update[at]) + (0 if at else steps.since.updates)

    @property
    def trades(self) -> Trades:
        """Trades since the observation before."""
        steps, at = self._steps, self._at
        trades = steps.trades.part(int(steps.trade[at]), int(steps.trade[at + 1]))
        return trades if at else trades.behind(steps.since.trades)

    @property
    def ofi(self) -> int:
        """Order flow imbalance of the best level since the observation before, scaled."""
        return int(self._steps.ofi[self._at])

    @property
    def features(self) -> Features:
        """Spread, mid, microprice, imbalance and order flow imbalance, in floats."""
        steps = self._steps
        price_unit, size_unit = (10**scale for scale in steps.shown.feeding.scales)
        ofi = self.ofi / size_unit
        best = [getattr(self, name)[:1].tolist() for name in SIDE_NAMES]
        if not all(best):
            return Features(math.nan, math.nan, math.nan, math.nan, ofi)
        (bid,), (bid_size,), (ask,), (ask_size,) = best
        both = bid_size + ask_size
        return Features(
            (ask - bid) / price_unit,
            (ask + bid) / (2 * price_unit),
            (bid * ask_size + ask * bid_size) / (both * price_unit),
            (bid_size - ask_size) / both,
            ofi,
        )

    def full_book(self) -> dict[str, NDArray[np.int64]]:
        """Return the whole book: `bid_prices`, `bid_sizes`, `ask_prices`, `ask_sizes`, best first, scaled.

        Its batch is replayed up to here: milliseconds.
        """
        shown = self._steps.shown
        return full_book(shown.feeding, shown.updates, int(self._steps.update[self._at + 1]))

    def __repr__(self) -> str:
        bid, ask = (prices[:1].tolist() for prices in (self.bid_prices, self.ask_prices))
        return f"Observation({self.time=}, {self.sequence=}, {self.status=}, {bid=}, {ask=})".replace(
            "self.", ""
        )
