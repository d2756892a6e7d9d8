"""A Gymnasium environment over replayed books; needs `pip install deltabook[rl]`.

Importing this module registers it, so an agent asks for it by module and name:

>>> import gymnasium
>>> environment = gymnasium.make(  # doctest: +SKIP
...     "deltabook.jobs.replay.gym_environment:deltabook/Book-v0", warehouse="books", symbol="BTC-USDT"
... )
>>> seen, info = environment.reset(seed=1)  # doctest: +SKIP
>>> ended = False
>>> while not ended:  # follow the larger side of the book  # doctest: +SKIP
...     seen, reward, _, ended, info = environment.step(2 if seen[-6] > 0 else 0)

Processes of a vector environment have to be spawned (`AsyncVectorEnv(…, context="spawn")`): the threads that
read Delta tables do not survive a fork. An environment in a forked process refuses `reset` and `step`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from deltabook.jobs.replay.environment_arguments import check_arguments, check_instrument, size_of
from deltabook.jobs.replay.replayer import Replayer
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, Status
from deltabook.udfs.replay.clocks import Clock
from deltabook.udfs.replay.fills import Cancelled, Fill, Quote, take
from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.storage.object_store import located

NAME = "deltabook/Book-v0"
_BOUND = 10.0
_FEATURES = 6
_BASIS_POINTS = 10_000
_PROCESS = os.getpid()
"""The process that imported this module; a forked one has another id."""


class BookEnvironment(gymnasium.Env[NDArray[np.float32], np.int64]):
    """An agent that holds long, short or nothing of one symbol, against its replayed book.

    The book is as recorded: it does not notice the agent's orders. An action is a target position. To get
    there, an order for the difference reaches the book `latency` later, and

    - walks the levels of the other side, exactly; what the book does not hold is not filled; or
    - if `passive`, rests at the best price of its own side, behind all the size there. Trades at that price
      take what is ahead first. It stays, with its place in the queue, while the same order is wanted at the
      same price; else it is cancelled, and a new one is placed.

    The reward is the change of wealth since the step before, in units of the quote currency: cash and
    position at the mid, less fees. An episode is truncated after `length`, or where the recording ends.

    An observation has, of `levels` bids and then of asks, best first, the distances of the prices from the
    mid in basis points of it, then log(1 + size / max_size) of each. Then the imbalance of the best level;
    the distance of the microprice from the mid, and the spread, in the same unit; of the step, bought less
    sold volume over their sum, and the order flow imbalance of the best level over its sizes; and the
    position over `max_size`. All are clipped to -10 to 10; what is not there is 0.

    Parameters
    ----------
    warehouse, symbol, start, end, exchange, clock
        As of `Replayer`.
    levels : int
        Levels a side of an observation.
    step, length : int
        Between two actions, and of an episode, ns.
    max_size : str
        Largest position, in units of size.
    fee, passive_fee : float
        Share of what is traded, by orders that take and that rest; a passive fee below 0 is a rebate.
    latency : int
        From an action to the book, ns; less than `step`.
    passive : bool
        Whether orders rest.
    cancelled : str
        behind or ahead: where in the queue the orders stood that were cancelled.

    Raises
    ------
    SettingsError
        If an argument is not usable: names each, its value, and what is expected.
    WarehouseError
        If there is no such warehouse, or no book of the symbol in it.
    """

    def __init__(
        self,
        warehouse: Path | str,
        symbol: str,
        start: int | str | None = None,
        end: int | str | None = None,
        exchange: str | None = None,
        clock: str = Clock.RECEIVED,
        levels: int = 10,
        step: int = NANOSECONDS_PER_SECOND,
        length: int = 60 * NANOSECONDS_PER_SECOND,
        max_size: str = "1",
        fee: float = 0.0,
        passive_fee: float = 0.0,
        latency: int = 0,
        passive: bool = False,
        cancelled: str = Cancelled.BEHIND,
    ):
        check_arguments(
            {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        )
        self._levels, self._step, self._length = int(levels), int(step), int(length)
        self._latency = int(latency)
        self._fees, self._passive, self._cancelled = (fee, passive_fee), passive, Cancelled(cancelled)
        shape = (4 * self._levels + _FEATURES,)
        self.observation_space = Box(-_BOUND, _BOUND, shape, np.float32)
        self.action_space = Discrete(3)
        if os.getpid() != _PROCESS:  # Gymnasium passes on only what `reset` and `step` raise
            return
        check_instrument(located(warehouse), symbol, exchange)
        self._replayer = Replayer(located(warehouse), symbol, start, end, self._levels, exchange, clock)
        price_scale, size_scale = self._replayer.scales
        self._max_size = size_of(max_size, size_scale)
        self._unit = 10 ** (price_scale + size_scale)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode within the stretches in which the book is known.

        Parameters
        ----------
        seed : int, optional
            Of all episodes from this one on.
        options : dict, optional
            `start`: when it begins, ns or ISO 8601, instead.

        Returns
        -------
        (float32[n], dict)
            What is seen, and `time`, `sequence`, `status`, `position`, `wealth`, `fees`.

        Raises
        ------
        SettingsError
            If this process was forked, if an option is not usable, or if no stretch of the recording is so
            long.
        """
        _refuse_forked()
        super().reset(seed=seed)
        if unknown := sorted(map(str, (options or {}).keys() - {"start"})):
            raise SettingsError(f"options={options!r}: expected start alone, found {', '.join(unknown)}")
        start = (options or {}).get("start")
        if start is None:
            start = self._replayer.episodes(self._length, int(self.np_random.integers(2**31)), 1)[0]
        self._seen = self._replayer.seek(time=start)
        self._now = self._time = self._seen.time
        self._until = self._now + self._length
        self._held, self._paid, self._wealth, self._mid_twice = Fill(), 0.0, 0.0, 0
        self._quote: Quote | None = None
        self._flow = np.zeros(3)
        return self._observe(), self._info()

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Aim at a position until the next action.

        Parameters
        ----------
        action : int
            0 short, 1 nothing, 2 long.

        Returns
        -------
        (float32[n], float, bool, bool, dict)
            What is seen, the reward, False, whether the episode is over, and what `reset` tells besides.

        Raises
        ------
        SettingsError
            If this process was forked, or there is no such action.
        """
        _refuse_forked()
        if not self.action_space.contains(action):
            raise SettingsError(f"action={action!r}: expected 0 (short), 1 (nothing) or 2 (long)")
        self._flow = np.zeros(3)
        self._go_on(self._now + self._latency)
        self._order((int(action) - 1) * self._max_size - self._held.size)
        self._now += self._step
        self._go_on(self._now)
        before, self._wealth = self._wealth, self._value() - self._paid
        return self._observe(), self._wealth - before, False, self._now >= self._until, self._info()

    def _go_on(self, time: int) -> None:
        """Live through the messages up to a time."""
        if self._quote is not None:
            for seen in self._replayer.steps_until(time):
                self._note(seen)
                self._settle(self._quote.meet(seen), self._fees[1])
        elif time > self._time:
            step = self._replayer.step(time - self._time)
            if step is not None:
                self._note(step)
        self._time, self._seen = time, self._replayer.observation

    def _note(self, seen: Observation) -> None:
        trades = seen.trades
        self._flow += int((trades.size * trades.side).sum()), int(trades.size.sum()), seen.ofi

    def _order(self, size: int) -> None:
        """Send the order for `size` more, and cancel another."""
        if self._quote is not None and (not size or not self._quote.is_as_wanted(self._seen, size)):
            self._quote = None
        if not size or self._seen.status <= Status.SUSPECT or not self._has_both_sides():
            return
        if not self._passive:
            self._settle(take(self._seen, size), self._fees[0])
        elif self._quote is None:
            self._quote = Quote(self._seen, size, self._cancelled)

    def _settle(self, fill: Fill, fee: float) -> None:
        self._held += fill
        self._paid += fee * abs(fill.cost) / self._unit

    def _has_both_sides(self) -> bool:
        return len(self._seen.bid_prices) > 0 and len(self._seen.ask_prices) > 0

    def _value(self) -> float:
        """Return cash and position at the mid; exact but for one division."""
        if self._has_both_sides():
            self._mid_twice = int(self._seen.bid_prices[0]) + int(self._seen.ask_prices[0])
        value: float = (self._held.size * self._mid_twice - 2 * self._held.cost) / (2 * self._unit)
        return value

    def _observe(self) -> NDArray[np.float32]:
        seen, levels = self._seen, self._levels
        found = np.zeros(4 * levels + _FEATURES)
        if self._has_both_sides():
            mid = (float(seen.bid_prices[0]) + float(seen.ask_prices[0])) / 2
            sides = (seen.bid_prices, seen.bid_sizes), (seen.ask_prices, seen.ask_sizes)
            for place, (prices, sizes) in enumerate(sides):
                start = 2 * place * levels
                found[start : start + len(prices)] = (prices / mid - 1) * _BASIS_POINTS
                shares = (sizes / self._max_size).astype(np.float64)  # of objects there are no logarithms
                found[start + levels : start + levels + len(sizes)] = np.log1p(shares)
            spread, middle, microprice, imbalance, _ = seen.features
            found[-6] = imbalance
            found[-5:-3] = (microprice / middle - 1) * _BASIS_POINTS, spread / middle * _BASIS_POINTS
            found[-2] = self._flow[2] / float(seen.bid_sizes[0] + seen.ask_sizes[0])
        if self._flow[1]:
            found[-3] = self._flow[0] / self._flow[1]
        found[-1] = self._held.size / self._max_size
        return np.clip(found, -_BOUND, _BOUND).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        return {
            "time": self._now,
            "sequence": self._seen.sequence,
            "status": self._seen.status.label,
            "position": self._held.size,
            "wealth": self._wealth,
            "fees": self._paid,
        }


def _refuse_forked() -> None:
    """Refuse to go on in a forked process, where what reads the tables would hang or crash."""
    if os.getpid() != _PROCESS:
        raise SettingsError(
            "the environment is in a forked process, where the threads that read Delta tables are missing: "
            'start the processes anew, with AsyncVectorEnv(…, context="spawn"), or '
            'gymnasium.make_vec(…, vector_kwargs={"context": "spawn"})'
        )


gymnasium.register(NAME, entry_point=f"{__name__}:{BookEnvironment.__name__}")
