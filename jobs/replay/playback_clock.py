"""Clock of a played replay: it runs at some speed, and can be paused."""

from __future__ import annotations

import math
import time

from deltabook.schemas.names import NANOSECONDS_PER_SECOND

_FASTEST, _SLOWEST = 2.0**20, 2.0**-10


class PlaybackClock:
    """Maps the time of this computer to the time of a replay.

    Parameters
    ----------
    speed : float
        Seconds of the replay that pass in a second; infinity: as fast as possible.

    Attributes
    ----------
    speed : float
        Current speed.
    is_paused : bool
        Whether the time of the replay stands still.
    """

    def __init__(self, speed: float):
        self.speed, self.is_paused = speed, False
        self._finite_speed = speed if speed < math.inf else 1.0
        self._replay_time, self._set_at = 0, 0.0

    def set_time(self, replay_time: int) -> None:
        """Continue from a time of the replay.

        Parameters
        ----------
        replay_time : int
            ns since 1970 UTC.
        """
        self._replay_time, self._set_at = replay_time, time.monotonic()

    def now(self) -> int:
        """Return the time of the replay, ns since 1970 UTC; at infinite speed the time that was last set."""
        if self.is_paused or self.speed == math.inf:
            return self._replay_time
        played = (time.monotonic() - self._set_at) * self.speed * NANOSECONDS_PER_SECOND
        return self._replay_time + int(played)

    def seconds_until(self, replay_time: int) -> float:
        """Return how long it takes until a time of the replay, in seconds of this computer.

        Parameters
        ----------
        replay_time : int
            ns since 1970 UTC.
        """
        if self.speed == math.inf:
            return 0.0
        return (replay_time - self.now()) / NANOSECONDS_PER_SECOND / self.speed

    def toggle_pause(self) -> None:
        """Stop the time of the replay, or let it continue."""
        self.set_time(self.now())
        self.is_paused = not self.is_paused

    def change_speed(self, factor: float) -> None:
        """Multiply the speed; from infinite speed, return to the last finite one.

        Parameters
        ----------
        factor : float
            2 doubles the speed, 0.5 halves it.
        """
        self.set_time(self.now())
        if self.speed == math.inf:
            self.speed = self._finite_speed if factor < 1 else math.inf
        else:
            self.speed = self._finite_speed = min(max(self.speed * factor, _SLOWEST), _FASTEST)
