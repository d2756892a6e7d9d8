"""What orders of our own would have got from a replayed book, which does not notice them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.streams import Trades


class Cancelled(StrEnum):
    """Where in the queue the orders stood that were cancelled."""

    BEHIND = "behind"
    """Behind ours, as long as the size that is left allows."""
    AHEAD = "ahead"
    """Ahead of ours, as far as there were any."""


@dataclass(frozen=True)
class Fill:
    """What was traded.

    Attributes
    ----------
    size : int
        Scaled; positive if bought.
    cost : int
        Paid, at the scale of prices and sizes together; negative if received.
    """

    size: int = 0
    cost: int = 0

    def __add__(self, other: Fill) -> Fill:
        return Fill(self.size + other.size, self.cost + other.cost)


def take(seen: Observation, size: int) -> Fill:
    """Walk the other side of a book, level by level, as a marketable order that is cancelled at its end.

    Parameters
    ----------
    seen : Observation
        The book; levels below those shown are looked up where the order needs them.
    size : int
        To buy if positive, to sell if negative, scaled.
    """
    side = "ask" if size > 0 else "bid"
    shown = getattr(seen, f"{side}_prices"), getattr(seen, f"{side}_sizes")
    fill = _walk(*shown, size)
    if fill.size == size:
        return fill
    whole = seen.full_book()
    return _walk(whole[f"{side}_prices"], whole[f"{side}_sizes"], size)


def _walk(prices: NDArray[np.int64], sizes: NDArray[np.int64], size: int) -> Fill:
    sign, due, cost = (1 if size > 0 else -1), abs(size), 0
    for price, there in zip(prices.tolist(), sizes.tolist(), strict=True):
        if not due:
            break
        part = min(due, there)
        due, cost = due - part, cost + part * price
    return Fill(sign * (abs(size) - due), sign * cost)


class Quote:
    """A limit order that rests at a price, behind all the size that was there when it came.

    Trades at its price take what is ahead of it first; a trade at a worse price has taken it whole. If the
    other side comes to its price, it takes what is offered there.

    Parameters
    ----------
    seen : Observation
        The book when it came: it rests at the best price of its side.
    size : int
        To buy if positive, to sell if negative, scaled.
    cancelled : Cancelled
        Where in the queue cancelled orders stood.
    """

    def __init__(self, seen: Observation, size: int, cancelled: Cancelled):
        self.sign, self.left = (1 if size > 0 else -1), abs(size)
        self._own, self._other = ("bid", "ask") if size > 0 else ("ask", "bid")
        self._cancelled = cancelled
        self.price = int(getattr(seen, f"{self._own}_prices")[0])
        self.ahead = self._resting = self._at_price(seen)

    def is_as_wanted(self, seen: Observation, size: int) -> bool:
        """Whether it is the order for `size` at the best price of the book that is seen."""
        best = getattr(seen, f"{self._own}_prices")[:1].tolist()
        return size == self.sign * self.left and best == [self.price]

    def meet(self, seen: Observation) -> Fill:
        """Live through what has come since the observation before.

        Parameters
        ----------
        seen : Observation
            Of one message.
        """
        fill = self._meet_trades(seen.trades)
        if seen.update_count:
            self._move_up(self._at_price(seen))
            fill += self._meet_quotes(seen)
        return fill

    def _meet_trades(self, trades: Trades) -> Fill:
        fill = Fill()
        for side, price, size in zip(
            trades.side.tolist(), trades.price.tolist(), trades.size.tolist(), strict=True
        ):
            if side != -self.sign or self.sign * (price - self.price) > 0:
                continue
            if price == self.price:
                passed = min(size, self.ahead)
                self.ahead -= passed
                self._resting -= min(size, self._resting)
                fill += self._filled(size - passed)
            else:
                fill += self._filled(self.left)
        return fill

    def _move_up(self, resting: int) -> None:
        if self._cancelled is Cancelled.AHEAD:
            self.ahead -= min(max(self._resting - resting, 0), self.ahead)
        self.ahead = min(self.ahead, resting)
        self._resting = resting

    def _meet_quotes(self, seen: Observation) -> Fill:
        prices, sizes = getattr(seen, f"{self._other}_prices"), getattr(seen, f"{self._other}_sizes")
        return self._filled(int(sizes[self.sign * (prices - self.price) <= 0].sum()))

    def _filled(self, size: int) -> Fill:
        part = min(size, self.left)
        self.left -= part
        return Fill(self.sign * part, self.sign * part * self.price)

    def _at_price(self, seen: Observation) -> int:
        at = getattr(seen, f"{self._own}_prices") == self.price
        return int(getattr(seen, f"{self._own}_sizes")[at].sum())
