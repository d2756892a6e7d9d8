"""Stepping through one symbol's books and trades: every step sees what had come by then, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import GapError
from deltabook.schemas.names import Status
from deltabook.udfs.replay.clocks import Feeding
from deltabook.udfs.replay.cursors import Updates
from deltabook.udfs.replay.merging import Block, Shown
from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.steps import Since, Steps
from deltabook.udfs.replay.streams import NO_TRADES

_STEPS_AT_ONCE = 65_536
_NOTHING = Since()


class By(StrEnum):
    """Where a step ends; the other kind is a length of time, in ns."""

    EVENT = "event"
    """At every message, trade or book update."""
    MESSAGE = "message"
    """At every book update."""
    TRADE = "trade"
    """At every trade."""


class Suspect(StrEnum):
    """What becomes of steps at which the book is suspect or unseeded."""

    SKIP = "skip"
    """They are left out; the observation after them says so."""
    MARK = "mark"
    """They are told, with their status."""
    RAISE = "raise"
    """The replay ends at the first."""


class Replay:
    """A way through the messages of one symbol.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    blocks : iterator of Block
        What comes.
    before : Updates
        No updates, and the book before them.
    now : int
        Time by the clock, ns.
    end : int
        Messages of this time, ns, or later are not told.
    suspect : Suspect
        What becomes of steps at which the book is not known.
    """

    def __init__(
        self, feeding: Feeding, blocks: Iterator[Block], before: Updates, now: int, end: int, suspect: Suspect
    ):
        self.now = now
        self._feeding, self._blocks = feeding, blocks
        nothing = np.empty(0, dtype=np.int64)
        self._block = Block(nothing, np.zeros(1, dtype=np.int64), 0, Shown(feeding, before), NO_TRADES)
        self._start, self._since = 0, _NOTHING
        self._end, self._suspect = end, suspect
        self._moves, self._at_once = 0, _STEPS_AT_ONCE

    def here(self) -> Observation:
        """Return what is seen without a step."""
        steps = self._steps(np.array([self._start]), np.array([self.now]))
        return Observation(steps, 0, self.now, int(steps.row[1]))

    def walk(self, by: By | int) -> Iterator[Observation]:
        """Step to the end.

        Parameters
        ----------
        by : By or int
            Where steps end; a number: after so many ns, counted from `now`.

        Yields
        ------
        Observation
            One a step. Another walk, or a stop, may come between: it goes on from there.

        Raises
        ------
        GapError
            At the first step at which the book is suspect or unseeded, if told so.
        """
        while (steps := self._next(by)) is not None:
            end, moves = steps.end.tolist(), self._moves
            for at, (time, row) in enumerate(zip(steps.time.tolist(), steps.row[1:].tolist(), strict=True)):
                self._start, self.now, self._since = end[at], time, _NOTHING
                self._moves = moves = moves + 1
                yield Observation(steps, at, time, row)
                if self._moves != moves:
                    break

    def once(self, by: By | int) -> Observation | None:
        """Go on by one step alone; None at the end."""
        self._at_once = 1
        try:
            return next(self.walk(by), None)
        finally:
            self._at_once = _STEPS_AT_ONCE

    def walk_until(self, time: int) -> Iterator[Observation]:
        """Step message by message, up to a time by the clock, ns, which is `now` then."""
        end, self._end = self._end, min(self._end, time + 1)
        try:
            yield from self.walk(By.EVENT)
        finally:
            self._end = end
        self.now = max(self.now, time)

    def batches(self, by: By | int, rows: int) -> Iterator[pa.RecordBatch]:
        """Step to the end, many steps at once.

        Parameters
        ----------
        by : By or int
            As of `walk`.
        rows : int
            Steps a batch at most.

        Yields
        ------
        pyarrow.RecordBatch
            One row a step: `time` (by the clock, ns), `epoch`, `sequence`, `status` (its code), `gap`, the
            levels and their counts as in `books`; since the step before `updates`, `trade_count`,
            `buy_volume`, `sell_volume`, and `ofi` of the best level; numbers as in the table of books: scaled
            integers, or DECIMAL(38,18).
        """
        while (steps := self._next(by)) is not None:
            self._start, self.now, self._since = int(steps.end[-1]), int(steps.time[-1]), _NOTHING
            self._moves += 1
            whole = steps.batch()
            yield from (whole.slice(start, rows) for start in range(0, whole.num_rows, rows))

    def stop(self) -> None:
        """End every walk."""
        self._blocks = iter(())
        self._end, self._since = -1, _NOTHING
        self._moves += 1

    def _steps(self, end: NDArray[np.int64], time: NDArray[np.int64]) -> Steps:
        return Steps.of(self._block, self._start, end, time, self._since)

    def _next(self, by: By | int) -> Steps | None:
        """Return the next steps that end in one block."""
        while True:
            visible = max(int(np.searchsorted(self._block.time, self._end)), self._start)
            end, time = self._ends(by, visible)
            if len(end):
                steps = self._known(end, time)
                if steps is not None:
                    return steps
                if not isinstance(by, By):
                    self.now = int(time[-1])
                    continue
            ended = visible < len(self._block.time)
            following = None if ended else next(self._blocks, None)
            self._since = self._steps(np.array([visible]), np.array([self.now])).all_since()
            self._start = visible
            if following is None:
                return None if isinstance(by, By) else self._last(by)
            self._block, self._start = following, 0

    def _ends(self, by: By | int, visible: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where steps end in what is visible of the block, and their times."""
        time = self._block.time[:visible]
        if not isinstance(by, By):
            # The next block may begin at the time at which this one ends.
            count = max((int(time[-1]) - 1 - self.now) // by, 0) if len(time) else 0
            ends_at = self.now + by * np.arange(1, min(count, self._at_once) + 1)
            return np.maximum(np.searchsorted(time, ends_at, side="right"), self._start), ends_at
        if by is By.EVENT:
            end = np.arange(self._start + 1, visible + 1)
        else:
            is_update = np.diff(self._block.updates[self._start : visible + 1]) > 0
            end = self._start + 1 + np.flatnonzero(is_update == (by is By.MESSAGE))
        return end, time[end - 1]

    def _last(self, by: int) -> Steps | None:
        """Return the step that is not full: what came after the last one."""
        if not self._since.updates and not self._since.trades:
            return None
        end, time = np.array([self._start]), np.array([min(self.now + by, self._end)])
        return self._known(end, time)

    def _known(self, end: NDArray[np.int64], time: NDArray[np.int64]) -> Steps | None:
        """Return steps, but for those that `suspect` leaves out; None if it leaves out all."""
        steps = self._steps(end, time)
        if self._suspect is Suspect.SKIP:
            proven = steps.status > Status.SUSPECT
            if proven.all():
                return steps
            return self._steps(end[proven], time[proven]) if proven.any() else None
        if self._suspect is Suspect.RAISE and steps.unproven.any():
            first = int(np.argmax(steps.unproven))
            if first == 0:
                raise self._error(Observation(steps, 0, int(time[0]), int(steps.row[1])))
            return self._steps(end[:first], time[:first])
        return steps

    def _error(self, seen: Observation) -> GapError:
        of = self._feeding
        return GapError(
            f"{of.exchange} {of.symbol}: the book is {seen.status.label} at {seen.time} ns by the {of.clock} "
            f"clock, sequence {seen.sequence}: start after it, or replay with suspect='skip' or 'mark'"
        )
