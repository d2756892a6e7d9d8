"""A Gymnasium environment over replayed books (`pip install 'deltabook[rl]'`).

Importing this module registers the environment. `gymnasium.make` takes the module and the name:

>>> import gymnasium
>>> environment = gymnasium.make(  # doctest: +SKIP
...     "deltabook.jobs.replay.gym_environment:deltabook/Book-v0", warehouse="books", symbol="BTC-USDT"
... )
>>> seen, info = environment.reset(seed=1)  # doctest: +SKIP
>>> ended = False
>>> while not ended:  # follow the larger side of the book  # doctest: +SKIP
...     seen, reward, _, ended, info = environment.step(2 if seen[-6] > 0 else 0)

Processes of a vector environment must be spawned (`AsyncVectorEnv(…, context="spawn")`): the threads that
read Delta tables do not survive a fork. In a forked process, `reset` and `step` raise an error.
"""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from deltabook.jobs.replay.environment_arguments import check_arguments, check_instrument, scale_size
from deltabook.jobs.replay.replayer import Replayer
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, Status
from deltabook.udfs.replay.clocks import Clock
from deltabook.udfs.replay.fills import CancelPosition, Fill, Quote, fill_marketable_order
from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.storage.locations import parse_location

NAME = "deltabook/Book-v0"
"""Name under which this module registers the environment with Gymnasium."""
Info = dict[str, int | float | str]
"""The dict that `reset` and `step` return beside an observation; `BookEnvironment.reset` lists the keys."""
_BOUND = 10.0
"""Largest absolute value in an observation."""
_FEATURES = 6
"""Number of values in an observation besides the four values for each level."""
_BASIS_POINTS = 10_000
_PROCESS = os.getpid()
"""Id of the process that imported this module. A forked process has another id."""


class BookEnvironment(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Environment in which an agent is long, short or flat in one symbol, and trades against a replayed book.

    The agent's orders do not change the recorded book. An action is a target position. An order for the
    difference between the target and the current position reaches the book after `latency`. The order then
    does one of two things:

    - By default, the order takes levels of the other side, at their exact prices. A size that the book cannot
      fill stays unfilled.
    - If `passive` is true, the order rests at the best price of its own side, behind the whole size at that
      price. Trades at that price first fill the size ahead of the order. The order keeps its place in the
      queue as long as its open size is the size that the agent needs, and its price is the best price.
      Otherwise the order is cancelled, and a new order is placed.

    The reward is the change of wealth since the last step, in units of the quote currency. Wealth is cash,
    plus the position valued at the mid, less fees. An episode is truncated after `length`.

    An observation is an array of float32 with 4 * `levels` + 6 numbers:

    - for each bid level, best first, the distance of the price from the mid in basis points;
    - for each bid level, log(1 + size / max_size);
    - the same two groups of numbers for the ask levels;
    - the imbalance of the best levels;
    - the distance of the microprice from the mid, in basis points;
    - the spread in basis points;
    - the bought volume less the sold volume over the last step, divided by the sum of both;
    - the order flow imbalance of the best level over the last step, divided by the sum of the best sizes;
    - the position divided by `max_size`.

    All numbers are clipped to -10 to 10. A missing number is 0.

    Parameters
    ----------
    warehouse, symbol, start, end, exchange, clock
        Arguments of `Replayer`.
    levels : int
        Number of levels per side in an observation.
    step, length : int
        Time between two actions, and length of an episode, ns.
    max_size : str
        Largest position as decimal text, in the instrument's size unit.
    fee, passive_fee : float
        Fees of orders that take levels, and of orders that rest in the book, as a share of the traded value.
        A negative passive fee is a rebate.
    latency : int
        Time from an action until its order reaches the book, ns; less than `step`.
    passive : bool
        Whether orders rest in the book.
    cancelled : str
        Where cancelled orders of other traders are assumed to have been in the queue: `behind` the agent's
        order, or `ahead` of it.
    known_only : bool
        Whether observations are cut to the known levels, as in `Replayer`: a level that is not known counts
        as missing. While the best level of a side is not known, no order is placed. An order that takes more
        levels than the observation shows is still filled from the full book.

    Raises
    ------
    SettingsError
        If an argument is not valid. The message lists each invalid argument with its value and the values
        that are expected.
    WarehouseError
        If the warehouse does not exist, or has no books of the symbol.
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
        cancelled: str = CancelPosition.BEHIND,
        known_only: bool = False,
    ):
        check_arguments(
            {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        )
        self._levels, self._step, self._length = int(levels), int(step), int(length)
        self._latency = int(latency)
        self._fees, self._passive, self._cancelled = (fee, passive_fee), passive, CancelPosition(cancelled)
        shape = (4 * self._levels + _FEATURES,)
        self.observation_space = Box(-_BOUND, _BOUND, shape, np.float32)
        self.action_space = Discrete(3)
        if os.getpid() != _PROCESS:  # Gymnasium reports only errors of `reset` and `step`
            return
        check_instrument(parse_location(warehouse), symbol, exchange)
        self._replayer = Replayer(
            parse_location(warehouse),
            symbol,
            start,
            end,
            self._levels,
            exchange,
            clock,
            known_only=known_only,
        )
        price_scale, size_scale = self._replayer.scales
        self._max_size = scale_size(max_size, size_scale)
        self._unit = 10 ** (price_scale + size_scale)

    def reset(
        self, *, seed: int | None = None, options: dict[str, int | str | None] | None = None
    ) -> tuple[NDArray[np.float32], Info]:
        """Start an episode in a period in which the book is known.

        A known book is sound, and its feed is not silent.

        Parameters
        ----------
        seed : int, optional
            Seed with which this episode and later episodes are chosen at random.
        options : dict, optional
            The key `start` sets the start of the episode, as ns since 1970 UTC or ISO 8601 text. Default: a
            random start.

        Returns
        -------
        (float32[n], dict)
            The observation, and a dict with the keys `time` (ns since 1970 UTC), `sequence`, `status`,
            `position` (scaled integer), `wealth` and `fees`.

        Raises
        ------
        SettingsError
            If this process was forked, if an option is not valid, or if every period with a known book is
            shorter than an episode.
        """
        _refuse_forked()
        super().reset(seed=seed)
        if unknown := sorted(map(str, (options or {}).keys() - {"start"})):
            raise SettingsError(f"options={options!r}: expected only start, found {', '.join(unknown)}")
        start = (options or {}).get("start")
        if start is None:
            start = self._replayer.episodes(self._length, int(self.np_random.integers(2**31)), 1)[0]
        self._seen = self._replayer.seek(time=start)
        self._now = self._time = self._seen.time
        self._until = self._now + self._length
        self._position, self._fees_paid, self._wealth, self._mid_twice = Fill(), 0.0, 0.0, 0
        self._quote: Quote | None = None
        self._flow = np.zeros(3)
        return self._observe(), self._info()

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, Info]:
        """Trade towards a target position until the next action.

        Parameters
        ----------
        action : int
            Target position: 0 short, 1 flat, 2 long.

        Returns
        -------
        (float32[n], float, bool, bool, dict)
            The observation, the reward, False (an episode never terminates), whether the episode is
            truncated, and a dict with the same keys as the dict that `reset` returns.

        Raises
        ------
        SettingsError
            If this process was forked, or the action is not valid.
        """
        _refuse_forked()
        if not self.action_space.contains(action):
            raise SettingsError(f"action={action!r}: expected 0 (short), 1 (flat) or 2 (long)")
        self._flow = np.zeros(3)
        self._advance(self._now + self._latency)
        self._place_order((int(action) - 1) * self._max_size - self._position.size)
        self._now += self._step
        self._advance(self._now)
        before, self._wealth = self._wealth, self._value() - self._fees_paid
        return self._observe(), self._wealth - before, False, self._now >= self._until, self._info()

    def _advance(self, time: int) -> None:
        """Process all messages up to a time by the clock, ns since 1970 UTC."""
        if self._quote is not None:
            for seen in self._replayer.steps_until(time):
                self._add_flow(seen)
                self._settle(self._quote.update(seen), self._fees[1])
        elif time > self._time:
            step = self._replayer.step(time - self._time)
            if step is not None:
                self._add_flow(step)
        self._time, self._seen = time, self._replayer.observation

    def _add_flow(self, seen: Observation) -> None:
        """Add the signed volume, the volume and the order flow imbalance of `seen` to the running sums."""
        trades = seen.trades
        self._flow += int((trades.size * trades.side).sum()), int(trades.size.sum()), seen.ofi

    def _place_order(self, size: int) -> None:
        """Place an order that changes the position by `size`; first cancel a different resting order.

        No order is placed if `size` is 0, or if the book is suspect, unseeded or lacks a side.
        """
        if self._quote is not None and (not size or not self._quote.matches(self._seen, size)):
            self._quote = None
        if not size or self._seen.status <= Status.SUSPECT or not self._has_both_sides():
            return
        if not self._passive:
            self._settle(fill_marketable_order(self._seen, size), self._fees[0])
        elif self._quote is None:
            self._quote = Quote(self._seen, size, self._cancelled)

    def _settle(self, fill: Fill, fee: float) -> None:
        """Add a fill to the position, and its fee to the paid fees. `fee` is a share of the traded value."""
        self._position += fill
        self._fees_paid += fee * abs(fill.cost) / self._unit

    def _has_both_sides(self) -> bool:
        return len(self._seen.bid_prices) > 0 and len(self._seen.ask_prices) > 0

    def _value(self) -> float:
        """Return cash plus the position valued at the mid, in units of the quote currency.

        Only the last division is inexact.
        """
        if self._has_both_sides():
            self._mid_twice = int(self._seen.bid_prices[0]) + int(self._seen.ask_prices[0])
        value: float = (self._position.size * self._mid_twice - 2 * self._position.cost) / (2 * self._unit)
        return value

    def _observe(self) -> NDArray[np.float32]:
        """Return the present observation, in the order that the class describes."""
        seen, levels = self._seen, self._levels
        values = np.zeros(4 * levels + _FEATURES)
        if self._has_both_sides():
            mid = (float(seen.bid_prices[0]) + float(seen.ask_prices[0])) / 2
            sides = (seen.bid_prices, seen.bid_sizes), (seen.ask_prices, seen.ask_sizes)
            for side, (prices, sizes) in enumerate(sides):
                start = 2 * side * levels
                values[start : start + len(prices)] = (prices / mid - 1) * _BASIS_POINTS
                shares = (sizes / self._max_size).astype(np.float64)  # log1p does not take Python integers
                values[start + levels : start + levels + len(sizes)] = np.log1p(shares)
            spread, middle, microprice, imbalance, _ = seen.features
            values[-6] = imbalance
            values[-5:-3] = (microprice / middle - 1) * _BASIS_POINTS, spread / middle * _BASIS_POINTS
            values[-2] = self._flow[2] / float(seen.bid_sizes[0] + seen.ask_sizes[0])
        if self._flow[1]:
            values[-3] = self._flow[0] / self._flow[1]
        values[-1] = self._position.size / self._max_size
        return np.clip(values, -_BOUND, _BOUND).astype(np.float32)

    def _info(self) -> Info:
        return {
            "time": self._now,
            "sequence": self._seen.sequence,
            "status": self._seen.status.label,
            "position": self._position.size,
            "wealth": self._wealth,
            "fees": self._fees_paid,
        }


def _refuse_forked() -> None:
    """Raise an error in a forked process, where reading tables would hang or crash."""
    if os.getpid() != _PROCESS:
        raise SettingsError(
            "this process was forked, and lacks the threads that read Delta tables: "
            'spawn the processes with AsyncVectorEnv(…, context="spawn") or '
            'gymnasium.make_vec(…, vector_kwargs={"context": "spawn"})'
        )


gymnasium.register(NAME, entry_point=f"{__name__}:{BookEnvironment.__name__}")
