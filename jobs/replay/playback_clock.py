"""Run the clock of a replay in the terminal, whose speed can change and which can be paused."""

from __future__ import annotations

import math
import time

from deltabook.schemas.names import NANOSECONDS_PER_SECOND

_FASTEST, _SLOWEST = 2.0**20, 2.0**-10


class PlaybackClock:
    """Converts the time of this computer to the time of a replay.

    Parameters
    ----------
    speed : float
        Seconds of the replay per second of this computer; infinity: as fast as possible.

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
        """Set the time of the replay; the clock continues from this time.

        Parameters
        ----------
        replay_time : int
            ns since 1970 UTC.
        """
        self._replay_time, self._set_at = replay_time, time.monotonic()

    def now(self) -> int:
        """Return the present time of the replay, ns since 1970 UTC.

        If the clock is paused or its speed is infinite, return the time that was set last.
        """
        if self.is_paused or self.speed == math.inf:
            return self._replay_time
        played = (time.monotonic() - self._set_at) * self.speed * NANOSECONDS_PER_SECOND
        return self._replay_time + int(played)

    def seconds_until(self, replay_time: int) -> float:
        """Return how long to wait until the replay reaches a given time, in seconds of this computer's clock.

        The result is negative if the replay has passed this time, and 0 if the speed is infinite.

        Parameters
        ----------
        replay_time : int
            Time that the replay is to reach, ns since 1970 UTC.
        """
        if self.speed == math.inf:
            return 0.0
        return (replay_time - self.now()) / NANOSECONDS_PER_SECOND / self.speed

    def toggle_pause(self) -> None:
        """Pause the clock, or let it continue if it is paused."""
        self.set_time(self.now())
        self.is_paused = not self.is_paused

    def change_speed(self, factor: float) -> None:
        """Multiply the speed by a factor.

        An infinite speed stays infinite, except that a factor below 1 restores the last finite speed.

        Parameters
        ----------
        factor : float
            Factor above 0: 2 doubles the speed, 0.5 halves it.
        """
        self.set_time(self.now())
        if self.speed == math.inf:
            self.speed = self._finite_speed if factor < 1 else math.inf
        else:
            self.speed = self._finite_speed = min(max(self.speed * factor, _SLOWEST), _FASTEST)
