"""Replays one symbol's books and trades step by step; a step shows only the messages up to its own time."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import GapError
from deltabook.schemas.names import Status
from deltabook.udfs.replay.clocks import ReplayFeed
from deltabook.udfs.replay.cursors import BookUpdates
from deltabook.udfs.replay.merging import BookArrays, MessageBlock
from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.steps import CarriedChanges, Steps
from deltabook.udfs.replay.streams import NO_TRADES

_MAX_STEPS = 65_536
_NO_CHANGES = CarriedChanges()


class By(StrEnum):
    """Kinds of events that end a step. A step may instead have a fixed length in ns."""

    EVENT = "event"
    """Every trade and every book update ends a step."""
    MESSAGE = "message"
    """Every book update ends a step."""
    TRADE = "trade"
    """Every trade ends a step."""


class Suspect(StrEnum):
    """What a replay does with steps in which the book is unsound."""

    SKIP = "skip"
    """Skip the steps with an unsound book. The next observation has `gap` set."""
    MARK = "mark"
    """Yield all steps. `status` shows the steps with an unsound book."""
    RAISE = "raise"
    """Raise a `GapError` at the first step with an unsound book."""


class Replay:
    """A replay of one symbol's messages, step by step.

    Parameters
    ----------
    source : ReplayFeed
        Instrument and clock.
    blocks : iterator of MessageBlock
        Messages to replay.
    before : BookUpdates
        Has no updates; holds the book before the first message.
    now : int
        Start of the replay by the clock, ns since 1970 UTC.
    end : int
        End of the replay by the clock, exclusive, ns since 1970 UTC.
    suspect : Suspect
        What the replay does with steps in which the book is unsound.
    """

    def __init__(
        self,
        source: ReplayFeed,
        blocks: Iterator[MessageBlock],
        before: BookUpdates,
        now: int,
        end: int,
        suspect: Suspect,
    ):
        self.now = now
        self._source, self._blocks = source, blocks
        empty = np.empty(0, dtype=np.int64)
        self._block = MessageBlock(
            empty, np.zeros(1, dtype=np.int64), 0, BookArrays(source, before), NO_TRADES
        )
        self._start, self._carried = 0, _NO_CHANGES
        self._end, self._suspect = end, suspect
        self._moves, self._max_steps = 0, _MAX_STEPS

    def observe(self) -> Observation:
        """Return the observation at the current time, without moving."""
        steps = self._make_steps(np.array([self._start]), np.array([self.now]))
        return Observation(steps, 0, self.now, int(steps.row[1]))

    def walk(self, by: By | int) -> Iterator[Observation]:
        """Step to the end, and yield an observation for each step.

        Parameters
        ----------
        by : By or int
            Kind of events that end a step; or the length of a step in ns, counted from `now`.

        Yields
        ------
        Observation
            State after each step. If another method moves the replay between two steps, the walk continues
            from the new position.

        Raises
        ------
        GapError
            With `Suspect.RAISE`, at the first step in which the book is unsound.
        """
        while (steps := self._find_steps(by)) is not None:
            end, moves = steps.end.tolist(), self._moves
            for index, (time, row) in enumerate(
                zip(steps.time.tolist(), steps.row[1:].tolist(), strict=True)
            ):
                self._start, self.now, self._carried = end[index], time, _NO_CHANGES
                self._moves = moves = moves + 1
                yield Observation(steps, index, time, row)
                if self._moves != moves:
                    break

    def step(self, by: By | int) -> Observation | None:
        """Make one step; return the observation after the step, or None at the end.

        Parameters
        ----------
        by : By or int
            Kind of events that end the step, or length of the step in ns; see `walk`.
        """
        self._max_steps = 1
        try:
            return next(self.walk(by), None)
        finally:
            self._max_steps = _MAX_STEPS

    def walk_until(self, time: int) -> Iterator[Observation]:
        """Yield an observation for each message up to a time; then set `now` to the time.

        `time` is a time by the clock, ns since 1970 UTC. Messages at exactly this time are included.
        """
        end, self._end = self._end, min(self._end, time + 1)
        try:
            yield from self.walk(By.EVENT)
        finally:
            self._end = end
        self.now = max(self.now, time)

    def batches(self, by: By | int, rows: int) -> Iterator[pa.RecordBatch]:
        """Step to the end, and yield batches with one row for each step.

        Parameters
        ----------
        by : By or int
            Kind of events that end a step, or length of a step in ns; see `walk`.
        rows : int
            Maximum number of steps in a batch.

        Yields
        ------
        pyarrow.RecordBatch
            State at the end of each step: `time` (by the clock, ns since 1970 UTC), `epoch`, `sequence`,
            `status` (code of `Status`), `gap`, and the columns of levels and level counts of the table
            `books`. Changes since the previous step: `updates`, `trade_count`, `buy_volume`, `sell_volume`,
            and `ofi` of the best level. Prices and sizes have the type of the table: scaled integers, or
            DECIMAL(38,18).
        """
        while (steps := self._find_steps(by)) is not None:
            self._start, self.now, self._carried = int(steps.end[-1]), int(steps.time[-1]), _NO_CHANGES
            self._moves += 1
            batch = steps.batch()
            yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))

    def stop(self) -> None:
        """End all iterations over this replay: no method yields anything after this call."""
        self._blocks = iter(())
        self._end, self._carried = -1, _NO_CHANGES
        self._moves += 1

    def _make_steps(self, end: NDArray[np.int64], time: NDArray[np.int64]) -> Steps:
        return Steps.of(self._block, self._start, end, time, self._carried)

    def _find_steps(self, by: By | int) -> Steps | None:
        """Return the next steps, all of which end in one block of messages; None at the end of the replay."""
        while True:
            visible = max(int(np.searchsorted(self._block.time, self._end)), self._start)
            end, time = self._find_ends(by, visible)
            if len(end):
                steps = self._filter_suspect(end, time)
                if steps is not None:
                    return steps
                if not isinstance(by, By):
                    self.now = int(time[-1])
                    continue
            is_at_end = visible < len(self._block.time)
            next_block = None if is_at_end else next(self._blocks, None)
            self._carried = self._make_steps(np.array([visible]), np.array([self.now])).sum_changes()
            self._start = visible
            if next_block is None:
                return None if isinstance(by, By) else self._make_last_step(by)
            self._block, self._start = next_block, 0

    def _find_ends(self, by: By | int, visible: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the number of messages before each step's end, and the time of each step's end.

        Only the first `visible` messages of the block are considered.
        """
        time = self._block.time[:visible]
        if not isinstance(by, By):
            # The next block may begin at the time of this block's last message. So no step ends at this time
            # yet.
            count = max((int(time[-1]) - 1 - self.now) // by, 0) if len(time) else 0
            ends_at = self.now + by * np.arange(1, min(count, self._max_steps) + 1)
            return np.maximum(np.searchsorted(time, ends_at, side="right"), self._start), ends_at
        if by is By.EVENT:
            end = np.arange(self._start + 1, visible + 1)
        else:
            is_update = np.diff(self._block.updates[self._start : visible + 1]) > 0
            end = self._start + 1 + np.flatnonzero(is_update == (by is By.MESSAGE))
        return end, time[end - 1]

    def _make_last_step(self, by: int) -> Steps | None:
        """Return the last step, which may be shorter than `by` ns; None if it would have no messages."""
        if not self._carried.updates and not self._carried.trades:
            return None
        end, time = np.array([self._start]), np.array([min(self.now + by, self._end)])
        return self._filter_suspect(end, time)

    def _filter_suspect(self, end: NDArray[np.int64], time: NDArray[np.int64]) -> Steps | None:
        """Return the steps that the option `suspect` allows; None if the option skips all steps.

        With `Suspect.RAISE`, return the steps before the first step with an unsound book. If there
        is no step before it, raise a `GapError`.
        """
        steps = self._make_steps(end, time)
        if self._suspect is Suspect.SKIP:
            is_proven = steps.status > Status.SUSPECT
            if is_proven.all():
                return steps
            return self._make_steps(end[is_proven], time[is_proven]) if is_proven.any() else None
        if self._suspect is Suspect.RAISE and steps.unproven.any():
            first = int(np.argmax(steps.unproven))
            if first == 0:
                raise self._make_gap_error(Observation(steps, 0, int(time[0]), int(steps.row[1])))
            return self._make_steps(end[:first], time[:first])
        return steps

    def _make_gap_error(self, observation: Observation) -> GapError:
        source = self._source
        return GapError(
            f"{source.exchange} {source.symbol}: the book is {observation.status.label} at "
            f"{observation.time} ns by the {source.clock} clock, sequence {observation.sequence}: "
            "start the replay after this time, or replay with suspect='skip' or 'mark'"
        )
