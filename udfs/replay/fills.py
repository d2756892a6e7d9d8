"""Fills of simulated orders against a replayed book, which the orders do not change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.streams import Trades


class CancelPosition(StrEnum):
    """Assumed position in the queue of the orders that others cancelled."""

    BEHIND = "behind"
    """Behind the simulated order, as far as the remaining size allows."""
    AHEAD = "ahead"
    """Ahead of the simulated order, as far as there were orders ahead."""


@dataclass(frozen=True)
class Fill:
    """Size and cost of a trade.

    Attributes
    ----------
    size : int
        Traded size, scaled; positive if bought, negative if sold.
    cost : int
        Money paid, scaled by the product of both scales; negative if received.
    """

    size: int = 0
    cost: int = 0

    def __add__(self, other: Fill) -> Fill:
        return Fill(self.size + other.size, self.cost + other.cost)


def fill_marketable_order(observation: Observation, size: int) -> Fill:
    """Return the fill of a marketable order that takes the other side level by level; the rest is cancelled.

    Parameters
    ----------
    observation : Observation
        The book; its full depth is rebuilt if the order needs more levels than it shows.
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
    """Return the fill of an order that takes levels, best first, up to its size."""
    sign, remaining, cost = (1 if size > 0 else -1), abs(size), 0
    for price, available in zip(prices.tolist(), sizes.tolist(), strict=True):
        if not remaining:
            break
        taken = min(remaining, available)
        remaining, cost = remaining - taken, cost + taken * price
    return Fill(sign * (abs(size) - remaining), sign * cost)


class Quote:
    """A simulated limit order at the best price, queued behind the whole size at that price.

    Trades at its price fill the orders ahead of it first. A trade at a worse price fills it completely. If
    the other side reaches its price, it is filled with the size offered there.

    Parameters
    ----------
    observation : Observation
        The book when the order is placed, at the best price of its side.
    size : int
        Size of the order, scaled; positive to buy, negative to sell.
    cancelled : CancelPosition
        Assumed position in the queue of the orders that others cancelled.

    Attributes
    ----------
    sign : int
        1 to buy, -1 to sell.
    left : int
        Size that is not filled, scaled.
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
        """Return whether the order still has this size and the best price of its side."""
        best = getattr(observation, f"{self._own}_prices")[:1].tolist()
        return size == self.sign * self.left and best == [self.price]

    def update(self, observation: Observation) -> Fill:
        """Return the fill of the order by the changes since the observation before.

        Parameters
        ----------
        observation : Observation
            Observation of a step of one message.
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
