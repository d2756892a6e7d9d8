"""The book at one step of a replay, and the changes since the previous step."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import Status
from deltabook.udfs.replay.cursors import rebuild_full_book
from deltabook.udfs.replay.steps import Steps
from deltabook.udfs.replay.streams import Trades

_STATUSES = tuple(Status)


class Features(NamedTuple):
    """Features of one observation, as floats; all but `ofi` are NaN if a side of the book is empty.

    Attributes
    ----------
    spread, mid, microprice : float
        Spread, mid price and size-weighted mid price of the best levels, in the instrument's price unit.
    imbalance : float
        (bid size - ask size) / (bid size + ask size) of the best levels.
    ofi : float
        Order flow imbalance of the best level since the previous observation, in the instrument's size unit.
    """

    spread: float
    mid: float
    microprice: float
    imbalance: float
    ofi: float


class Observation:
    """The book at one step, and the changes since the previous observation.

    Prices and sizes are integers at the instrument's scales. If the instrument is stored as DECIMAL(38,18),
    the arrays are object arrays of Python integers. An array is a view of a large batch: copy an array before
    storing it, so that the batch can be freed.

    Parameters
    ----------
    steps : Steps
        Steps of a block of messages. The observation shows one of these steps.
    index : int
        Index of the observed step.
    time : int
        Time of the step by the clock, ns since 1970 UTC.
    row : int
        Row of `steps.books` that holds the book at the step; -1: the book before the first row.

    Attributes
    ----------
    time : int
        Time of the step by the clock, ns since 1970 UTC.
    """

    __slots__ = ("_index", "_row", "_steps", "time")

    def __init__(self, steps: Steps, index: int, time: int, row: int):
        self._steps = steps
        self._index = index
        self._row = row
        self.time = time

    @property
    def status(self) -> Status:
        """Status of the book: how far it is proven."""
        return _STATUSES[self._steps.books.statuses[self._row]]

    @property
    def sequence(self) -> int:
        """Id of the last update in the book; -1 if there is none."""
        return self._steps.books.sequences[self._row]

    @property
    def gap(self) -> bool:
        """Whether the book is unsound, or was so at any time since the previous observation."""
        return bool(self._steps.gap[self._index])

    @property
    def bid_prices(self) -> NDArray[np.int64]:
        """Bid prices, scaled, best first, int64[at most depth]."""
        books, row = self._steps.books, self._row
        if row < 0:
            return books.before["bid_prices"]
        return books.bid_prices[books.bids[row] : books.bids[row + 1]]

    @property
    def bid_sizes(self) -> NDArray[np.int64]:
        """Sizes at `bid_prices`, scaled, int64[at most depth]."""
        books, row = self._steps.books, self._row
        if row < 0:
            return books.before["bid_sizes"]
        return books.bid_sizes[books.bids[row] : books.bids[row + 1]]

    @property
    def ask_prices(self) -> NDArray[np.int64]:
        """Ask prices, scaled, best first, int64[at most depth]."""
        books, row = self._steps.books, self._row
        if row < 0:
            return books.before["ask_prices"]
        return books.ask_prices[books.asks[row] : books.asks[row + 1]]

    @property
    def ask_sizes(self) -> NDArray[np.int64]:
        """Sizes at `ask_prices`, scaled, int64[at most depth]."""
        books, row = self._steps.books, self._row
        if row < 0:
            return books.before["ask_sizes"]
        return books.ask_sizes[books.asks[row] : books.asks[row + 1]]

    @property
    def update_count(self) -> int:
        """Number of book updates since the previous observation."""
        steps, index = self._steps, self._index
        return int(steps.update[index + 1] - steps.update[index]) + (0 if index else steps.carried.updates)

    @property
    def trades(self) -> Trades:
        """Trades since the previous observation."""
        steps, index = self._steps, self._index
        trades = steps.trades.part(int(steps.trade[index]), int(steps.trade[index + 1]))
        return trades if index else trades.append_to(steps.carried.trades)

    @property
    def ofi(self) -> int:
        """Order flow imbalance of the best level since the previous observation, scaled."""
        return int(self._steps.ofi[self._index])

    @property
    def features(self) -> Features:
        """Spread, mid, microprice, imbalance and order flow imbalance, as floats."""
        steps = self._steps
        price_unit, size_unit = (10**scale for scale in steps.books.source.scales)
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
        """Return all levels of the book; the call replays a batch of updates, which takes milliseconds.

        Returns
        -------
        dict of str to int64[:]
            `bid_prices`, `bid_sizes`, `ask_prices`, `ask_sizes`, scaled, best first.
        """
        books = self._steps.books
        return rebuild_full_book(books.source, books.updates, int(self._steps.update[self._index + 1]))

    def __repr__(self) -> str:
        bid, ask = (prices[:1].tolist() for prices in (self.bid_prices, self.ask_prices))
        return f"Observation({self.time=}, {self.sequence=}, {self.status=}, {bid=}, {ask=})".replace(
            "self.", ""
        )
