"""Computes how a replayed book would fill simulated orders; the orders do not change the book."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.streams import Trades


class CancelPosition(StrEnum):
    """Whether other traders' orders behind or ahead of the simulated order are assumed to be cancelled first.

    A recorded book shows by how much the size at a price fell. It does not show the queue positions of the
    cancelled orders.
    """

    BEHIND = "behind"
    """Orders behind the simulated order are cancelled first, then orders ahead of it."""
    AHEAD = "ahead"
    """Orders ahead of the simulated order are cancelled first, then orders behind it."""


@dataclass(frozen=True)
class Fill:
    """Size and cost of a trade.

    Attributes
    ----------
    size : int
        Traded size, scaled; positive if bought, negative if sold.
    cost : int
        Money paid, scaled by 10^(price scale + size scale); negative if money was received.
    """

    size: int = 0
    cost: int = 0

    def __add__(self, other: Fill) -> Fill:
        return Fill(self.size + other.size, self.cost + other.cost)


def fill_marketable_order(observation: Observation, size: int) -> Fill:
    """Return the fill of a marketable order, which takes levels of the other side, best first.

    The part of the order that the book cannot fill is cancelled.

    Parameters
    ----------
    observation : Observation
        The book. If the order needs more levels than the observation shows, the full book is rebuilt.
    size : int
        Size of the order, scaled; positive to buy, negative to sell.
    """
    side = "ask" if size > 0 else "bid"
    shown = getattr(observation, f"{side}_prices"), getattr(observation, f"{side}_sizes")
    fill = _take_levels(*shown, size)
    if fill.size == size:
        return fill
    book = observation.full_book()
    return _take_levels(book[f"{side}_prices"], book[f"{side}_sizes"], size)


def _take_levels(prices: NDArray[np.int64], sizes: NDArray[np.int64], size: int) -> Fill:
    """Return the fill of an order that takes the given levels, best first, until the order is filled."""
    sign, remaining, cost = (1 if size > 0 else -1), abs(size), 0
    for price, available in zip(prices.tolist(), sizes.tolist(), strict=True):
        if not remaining:
            break
        taken = min(remaining, available)
        remaining, cost = remaining - taken, cost + taken * price
    return Fill(sign * (abs(size) - remaining), sign * cost)


class Quote:
    """A simulated limit order at the best price of its side, queued behind the whole size at that price.

    - A trade at the order's price fills the orders ahead in the queue first, then this order.
    - A trade beyond the order's price, lower for a buy order or higher for a sell order, fills this order
      completely.
    - If the other side of the book reaches the order's price, all sizes that it offers at this price or at a
      better price fill this order.

    Parameters
    ----------
    observation : Observation
        The book at the time of the order. The order gets the best price of its side.
    size : int
        Size of the order, scaled; positive to buy, negative to sell.
    cancelled : CancelPosition
        Which orders of other traders are assumed to be cancelled first.

    Attributes
    ----------
    sign : int
        1 to buy, -1 to sell.
    left : int
        Size that is not yet filled, scaled.
    price : int
        Price of the order, scaled.
    ahead : int
        Size ahead of the order in the queue, scaled.
    """

    def __init__(self, observation: Observation, size: int, cancelled: CancelPosition):
        self.sign, self.left = (1 if size > 0 else -1), abs(size)
        self._own, self._other = ("bid", "ask") if size > 0 else ("ask", "bid")
        self._cancelled = cancelled
        self.price = int(getattr(observation, f"{self._own}_prices")[0])
        self.ahead = self._resting = self._get_size_at_price(observation)

    def matches(self, observation: Observation, size: int) -> bool:
        """Return whether the unfilled size equals `size` and the order's price is the best of its side."""
        best = getattr(observation, f"{self._own}_prices")[:1].tolist()
        return size == self.sign * self.left and best == [self.price]

    def update(self, observation: Observation) -> Fill:
        """Update the order with the changes since the previous observation, and return the resulting fill.

        Parameters
        ----------
        observation : Observation
            Observation after a step of one message.
        """
        fill = self._fill_by_trades(observation.trades)
        if observation.update_count:
            self._update_queue(self._get_size_at_price(observation))
            fill += self._fill_by_quotes(observation)
        return fill

    def _fill_by_trades(self, trades: Trades) -> Fill:
        fill = Fill()
        for side, price, size in zip(
            trades.side.tolist(), trades.price.tolist(), trades.size.tolist(), strict=True
        ):
            if side != -self.sign or self.sign * (price - self.price) > 0:
                continue
            if price == self.price:
                filled_ahead = min(size, self.ahead)
                self.ahead -= filled_ahead
                self._resting -= min(size, self._resting)
                fill += self._fill(size - filled_ahead)
            else:
                fill += self._fill(self.left)
        return fill

    def _update_queue(self, resting: int) -> None:
        if self._cancelled is CancelPosition.AHEAD:
            self.ahead -= min(max(self._resting - resting, 0), self.ahead)
        self.ahead = min(self.ahead, resting)
        self._resting = resting

    def _fill_by_quotes(self, observation: Observation) -> Fill:
        prices, sizes = (
            getattr(observation, f"{self._other}_prices"),
            getattr(observation, f"{self._other}_sizes"),
        )
        return self._fill(int(sizes[self.sign * (prices - self.price) <= 0].sum()))

    def _fill(self, size: int) -> Fill:
        filled = min(size, self.left)
        self.left -= filled
        return Fill(self.sign * filled, self.sign * filled * self.price)

    def _get_size_at_price(self, observation: Observation) -> int:
        is_at_price = getattr(observation, f"{self._own}_prices") == self.price
        return int(getattr(observation, f"{self._own}_sizes")[is_at_price].sum())
