"""Step through the books and trades of one symbol with a `Replayer`, without Spark.

>>> replayer = Replayer(Path("books"), "BTC-USDT", "2024-08-09T00:00:00Z", None)  # doctest: +SKIP
>>> for seen in replayer:  # doctest: +SKIP
...     print(seen.time, seen.status.label, seen.bid_prices[:1], seen.ask_prices[:1])
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from deltabook.jobs.console.formats import parse_time
from deltabook.jobs.replay.known_intervals import list_known_intervals
from deltabook.jobs.replay.recording import Recording
from deltabook.jobs.tables.instrument_lookup import resolve_symbol
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import INT64_MAX
from deltabook.udfs.replay.clocks import Clock
from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.replay import By, Replay, Suspect
from deltabook.udfs.storage.locations import parse_location

_ROWS = 8192


class Replayer:
    """Replay of the books and trades of one symbol.

    Prices and sizes are int64 at the instrument's `scales`. If the instrument is stored as DECIMAL(38,18),
    prices and sizes are Python integers at 18 decimals, in object arrays. Opening the replay of such an
    instrument reads all its chunks once.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables. The tables are read at the versions of the run that built the books.
    symbol : str
        Symbol as in the tables.
    start, end : int, str or None
        Start (inclusive) and end (exclusive) by the chosen clock: ns since 1970 UTC, or text that
        `parse_time` reads. None: no bound.
    depth : int
        Number of levels per side in an observation.
    exchange : str, optional
        Exchange of the symbol. It is required if several exchanges list the symbol.
    clock : str
        Clock that orders the messages. `received` orders by time of arrival: no message is seen before it
        arrives. A message without a receive time counts as received at its `order_time`, or with the previous
        message if that message arrives later. `exchange` orders by the exchange's time, as in the rows of
        `books`: some messages are then seen before they arrive.
    suspect : str
        What to do with steps in which the book is unsound. `skip` leaves such steps out, `mark`
        includes them with their status, and `raise` raises a GapError.
    known_only : bool
        Whether books are cut to their known levels. By default, a book shows levels that may be preceded by a
        missing one too.

    Raises
    ------
    SettingsError
        If `clock`, `suspect` or `depth` is not valid.
    WarehouseError
        If the symbol does not exist, or has no books.
    """

    def __init__(
        self,
        warehouse: Path,
        symbol: str,
        start: int | str | None = None,
        end: int | str | None = None,
        depth: int = 20,
        exchange: str | None = None,
        clock: str = Clock.RECEIVED,
        suspect: str = Suspect.MARK,
        known_only: bool = False,
    ):
        for option, value, known in (("clock", clock, Clock), ("suspect", suspect, Suspect)):
            if value not in list(known):
                raise SettingsError(f"{option} {value!r}: expected one of {', '.join(known)}")
        self._suspect, chosen_clock = Suspect(suspect), Clock(clock)
        if depth < 1:
            raise SettingsError(f"depth {depth}: expected 1 or more")
        folder = parse_location(warehouse)
        self.symbol, self.clock, self.depth = resolve_symbol(folder, symbol, exchange), chosen_clock, depth
        self.recording = Recording(folder, self.symbol, exchange, depth, chosen_clock, known_only)
        self.exchange = self.recording.feed.exchange
        self.start = self.recording.first_time() if start is None else _to_nanoseconds(start)
        self.end = INT64_MAX if end is None else _to_nanoseconds(end)
        self._replay = self._from_start()
        self._walk: Iterator[Observation] | None = None
        self._by: str | int = By.EVENT

    @property
    def scales(self) -> tuple[int, int]:
        """Number of decimal digits of prices, and of sizes: value = integer / 10^scale."""
        return self.recording.feed.scales

    @property
    def observation(self) -> Observation:
        """Observation at the current position."""
        return self._replay.observe()

    def rewind(self) -> None:
        """Move back to the start of the replay."""
        self._open(self._from_start())

    def seek(self, time: int | str | None = None, sequence: int | None = None) -> Observation:
        """Move to a time or an update, forward or back.

        Parameters
        ----------
        time : int or str, optional
            Time by the clock. The new position is after all messages up to this time.
        sequence : int, optional
            Id of a book update. The new position is after this update. If several updates have this id,
            because the venue has restarted its ids, the position is after the first of them.

        Returns
        -------
        Observation
            Observation at the new position.

        Raises
        ------
        SettingsError
            If both `time` and `sequence` are given, or neither.
        WarehouseError
            If the id is outside the range of recorded ids.
        """
        if (time is None) == (sequence is None):
            raise SettingsError("seek: expected a time or a sequence, and not both")
        if sequence is not None:
            position = self.recording.position_of_sequence(sequence)
            now = self.recording.time_before(position)
        else:
            now = _to_nanoseconds(time)  # type: ignore[arg-type]
            position = self.recording.position_of_time(now)
        self._open(self.recording.replay(position, now, now, self.end, self._suspect))
        return self.observation

    def step(self, by: str | int = By.EVENT) -> Observation | None:
        """Move forward by one step.

        Parameters
        ----------
        by : str or int
            Kind or length of the step. `event` moves to the next message, `message` to the next book update,
            `trade` to the next trade. A number is a length of time in ns.

        Returns
        -------
        Observation or None
            Observation after the step; None at the end of the replay.

        Raises
        ------
        GapError
            If the book is unsound, and `suspect` is `raise`.
        """
        if not isinstance(by, str):
            return self._replay.step(_parse_step_kind(by))
        if self._walk is None or self._by != by:
            self._walk, self._by = self._replay.walk(_parse_step_kind(by)), by
        return next(self._walk, None)

    def steps_until(self, time: int) -> Iterator[Observation]:
        """Yield an observation for each message up to a time (inclusive), and then move to that time.

        Parameters
        ----------
        time : int
            Time by the clock, ns since 1970 UTC.
        """
        return self._replay.walk_until(time)

    def steps(self, by: str | int = By.EVENT) -> Iterator[Observation]:
        """Yield an observation for each step to the end.

        If `seek` is called during the iteration, the iteration continues from the new position.

        Parameters
        ----------
        by : str or int
            Kind or length of a step, as in `step`.
        """
        while True:
            replay = self._replay
            yield from replay.walk(_parse_step_kind(by))
            if replay is self._replay:
                return

    def __iter__(self) -> Iterator[Observation]:
        """Yield an observation for each message to the end."""
        return self.steps()

    def replay_batches(self, rows: int = _ROWS, by: str | int = By.MESSAGE) -> Iterator[pa.RecordBatch]:
        """Yield all steps to the end as Arrow batches with one row for each step.

        Parameters
        ----------
        rows : int
            Maximum number of steps in a batch.
        by : str or int
            Kind or length of a step, as in `step`.

        Yields
        ------
        pyarrow.RecordBatch
            Batches with the columns that `deltabook.udfs.replay.replay.Replay.batches` describes.
        """
        return self._replay.batches(_parse_step_kind(by), rows)

    def episodes(self, length: int, seed: int, count: int) -> list[int]:
        """Return random start times of episodes in which the book is known all the time.

        A known book is sound, and its feed is not silent.

        Parameters
        ----------
        length : int
            Length of an episode, ns.
        seed : int
            Seed of the random choice; equal seeds give equal episodes.
        count : int
            Number of start times. The method divides each period with a known book into adjacent episodes,
            and returns the starts of these episodes in random order. If `count` exceeds the number of
            episodes, the episodes repeat in another random order.

        Returns
        -------
        list of int
            Start times for `seek`, ns since 1970 UTC.

        Raises
        ------
        SettingsError
            If every period with a known book is shorter than an episode.
        """
        starts = [np.arange(first, last - length + 1, length) for first, last in self._known_intervals]
        every = np.concatenate([np.empty(0, dtype=np.int64), *starts])
        if not len(every):
            longest = max((last - first for first, last in self._known_intervals), default=0)
            raise SettingsError(
                f"{self.symbol}: no period with a known book is {length} ns long; the longest has {longest} "
                "ns: choose shorter episodes"
            )
        random = np.random.default_rng(seed)
        shuffles = (random.permutation(every) for _ in range(-(-count // len(every))))
        starts_in_order = np.concatenate([np.empty(0, np.int64), *shuffles])
        return starts_in_order[:count].tolist()  # type: ignore[no-any-return]

    @cached_property
    def _known_intervals(self) -> list[tuple[int, int]]:
        """First and last time of each period with a known book, ns since 1970 UTC."""
        return list_known_intervals(self.recording, self.start, self.end)

    def _from_start(self) -> Replay:
        """Return a replay that begins with the first message at or after `start`."""
        before = self.recording.position_of_time(self.start - 1)
        return self.recording.replay(before, self.start - 1, self.start, self.end, self._suspect)

    def _open(self, replay: Replay) -> None:
        """Stop the present replay, and continue with `replay`."""
        self._replay.stop()
        self._replay, self._walk = replay, None


def merge(replayers: Sequence[Replayer], by: str | int = By.EVENT) -> Iterator[tuple[int, Observation]]:
    """Yield the steps of several replays in the order of time.

    Parameters
    ----------
    replayers : sequence of Replayer
        Replays to merge. All must have the same clock.
    by : str or int
        Kind or length of a step, as in `Replayer.step`.

    Yields
    ------
    (int, Observation)
        Index of a replay in `replayers`, and an observation of this replay. If several replays have an
        observation at the same time, the replay with the lowest index comes first.
    """

    def numbered_steps(number: int, replayer: Replayer) -> Iterator[tuple[int, Observation]]:
        return ((number, seen) for seen in replayer.steps(by))

    return heapq.merge(*map(numbered_steps, range(len(replayers)), replayers), key=lambda pair: pair[1].time)


def _parse_step_kind(by: str | int) -> By | int:
    """Return the kind of a step, or its length in ns; raise a SettingsError if `by` is not valid."""
    try:
        kind = by if isinstance(by, int) else By(by)
    except ValueError:
        kind = 0
    if isinstance(kind, int) and kind < 1:
        raise SettingsError(f"by={by!r}: expected event, message, trade, or a number of ns above 0")
    return kind


def _to_nanoseconds(time: int | str) -> int:
    """Return a time in ns since 1970 UTC."""
    return time if isinstance(time, int) else parse_time(time)
