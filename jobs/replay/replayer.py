"""Replaying a warehouse's books without a JVM: an agent's view of them, step by step.

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
from deltabook.jobs.replay.known_intervals import proven_stretches
from deltabook.jobs.replay.recording import Recording
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.numbers.decimal_text import INT64_MAX
from deltabook.udfs.replay.clocks import Clock
from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.replay import By, Replay, Suspect
from deltabook.udfs.storage.object_store import located

_ROWS = 8192


class Replayer:
    """Steps through the books and trades of one symbol.

    Prices and sizes are integers at the instrument's `scales`: int64, or Python's own, as numpy's objects, at
    18 decimals of an instrument of DECIMAL(38,18), all hours of which are read once to open it.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables; what the run that built the books has published is read.
    symbol : str
        As in the tables.
    start, end : int, str or None
        First time told, and the first not told any more, by the clock: ns since 1970 UTC, or ISO 8601.
        None: all that is recorded.
    depth : int
        Levels a side of an observation.
    exchange : str, optional
        Needed if several exchanges list the symbol.
    clock : str
        received: messages come in the order in which they had arrived, and none before it had; one without
        a receive time at its `order_time`, or with the one before it. exchange: by the exchange's time, as
        the rows of `books` do, which know some things before they arrive.
    suspect : str
        Of steps at which the book is suspect or unseeded: skip leaves them out, mark tells them with their
        status, raise ends the replay.

    Raises
    ------
    SettingsError
        If clock, suspect or depth is none of these.
    WarehouseError
        If the symbol's books are not in the warehouse.
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
    ):
        try:
            self._suspect, which = Suspect(suspect), Clock(clock)
        except ValueError as error:
            raise SettingsError(
                f"{error}: expected a clock of received, exchange; suspect skip, mark, raise"
            ) from None
        if depth < 1:
            raise SettingsError(f"depth {depth}: expected 1 or more")
        self.symbol, self.clock, self.depth = symbol, which, depth
        self.recording = Recording(located(warehouse), symbol, exchange, depth, which)
        self.exchange = self.recording.feeding.exchange
        self.start = self.recording.first_time() if start is None else _time(start)
        self.end = INT64_MAX if end is None else _time(end)
        self._replay = self._from_start()
        self._walk: Iterator[Observation] | None = None
        self._by: str | int = By.EVENT

    @property
    def scales(self) -> tuple[int, int]:
        """Decimal digits of prices and of sizes: value = integer / 10^scale."""
        return self.recording.feeding.scales

    @property
    def observation(self) -> Observation:
        """What is seen now."""
        return self._replay.here()

    def rewind(self) -> None:
        """Go back to the start."""
        self._open(self._from_start())

    def seek(self, time: int | str | None = None, sequence: int | None = None) -> Observation:
        """Go to a place, forward or back.

        Parameters
        ----------
        time : int or str, optional
            By the clock: what has come by then is known.
        sequence : int, optional
            Of a book update: the book has it. Of ids that come again, the first.

        Returns
        -------
        Observation
            What is seen there.

        Raises
        ------
        SettingsError
            If not one of the two is given.
        WarehouseError
            If there is no such update.
        """
        if (time is None) == (sequence is None):
            raise SettingsError("seek: expected a time or a sequence")
        if sequence is not None:
            index, count = place = self.recording.place_of_sequence(sequence)
            now = self.recording.time_of(index, count)
        else:
            now = _time(time)  # type: ignore[arg-type]
            place = self.recording.place_of_time(now)
        self._open(self.recording.replay(place, now, now, self.end, self._suspect))
        return self.observation

    def step(self, by: str | int = By.EVENT) -> Observation | None:
        """Go on by one step.

        Parameters
        ----------
        by : str or int
            event: to the next message; message: to the next book update; trade: to the next trade; a
            number: so many ns on.

        Returns
        -------
        Observation or None
            What is seen then; None at the end.

        Raises
        ------
        GapError
            If the book is suspect or unseeded, and `suspect` is raise.
        """
        if not isinstance(by, str):
            return self._replay.once(_by(by))
        if self._walk is None or self._by != by:
            self._walk, self._by = self._replay.walk(_by(by)), by
        return next(self._walk, None)

    def steps_until(self, time: int) -> Iterator[Observation]:
        """Go on message by message up to a time by the clock, ns; what is seen next begins there."""
        return self._replay.walk_until(time)

    def steps(self, by: str | int = By.EVENT) -> Iterator[Observation]:
        """Go on step by step to the end, as `step` does; after a seek, from there."""
        while True:
            replay = self._replay
            yield from replay.walk(_by(by))
            if replay is self._replay:
                return

    def __iter__(self) -> Iterator[Observation]:
        """Go on message by message."""
        return self.steps()

    def replay_batches(self, rows: int = _ROWS, by: str | int = By.MESSAGE) -> Iterator[pa.RecordBatch]:
        """Go on to the end, many steps at once.

        Parameters
        ----------
        rows : int
            Steps a batch at most.
        by : str or int
            As of `step`.

        Yields
        ------
        pyarrow.RecordBatch
            See `Replay.batches`.
        """
        return self._replay.batches(_by(by), rows)

    def episodes(self, length: int, seed: int, count: int) -> list[int]:
        """Choose where episodes start: none sees a suspect or unseeded book, or a silence.

        Parameters
        ----------
        length : int
            Of an episode, ns.
        seed : int
            Equal seeds give equal episodes.
        count : int
            How many. Each shuffle has every episode once, end to end; a new one follows when it is used up.

        Returns
        -------
        list of int
            Times for `seek`, ns.

        Raises
        ------
        SettingsError
            If no stretch of the recording is so long.
        """
        starts = [np.arange(first, last - length + 1, length) for first, last in self._stretches]
        every = np.concatenate([np.empty(0, dtype=np.int64), *starts])
        if not len(every):
            longest = max((last - first for first, last in self._stretches), default=0)
            raise SettingsError(
                f"{self.symbol}: no stretch of a known book is {length} ns long; the longest has {longest} ns"
            )
        random = np.random.default_rng(seed)
        shuffles = -(-count // len(every))
        found = np.concatenate([np.empty(0, np.int64), *(random.permutation(every) for _ in range(shuffles))])
        return found[:count].tolist()  # type: ignore[no-any-return]

    @cached_property
    def _stretches(self) -> list[tuple[int, int]]:
        return proven_stretches(self.recording, self.start, self.end)

    def _from_start(self) -> Replay:
        before = self.recording.place_of_time(self.start - 1)
        return self.recording.replay(before, self.start - 1, self.start, self.end, self._suspect)

    def _open(self, replay: Replay) -> None:
        self._replay.stop()
        self._replay, self._walk = replay, None


def merge(replayers: Sequence[Replayer], by: str | int = By.EVENT) -> Iterator[tuple[int, Observation]]:
    """Step through several symbols in one order of time.

    Parameters
    ----------
    replayers : sequence of Replayer
        Of one clock.
    by : str or int
        As of `Replayer.step`.

    Yields
    ------
    (int, Observation)
        Which of them, and what it sees. At equal times the earlier of them comes first.
    """

    def told(number: int, replayer: Replayer) -> Iterator[tuple[int, Observation]]:
        return ((number, seen) for seen in replayer.steps(by))

    return heapq.merge(*map(told, range(len(replayers)), replayers), key=lambda pair: pair[1].time)


def _by(by: str | int) -> By | int:
    try:
        found = by if isinstance(by, int) else By(by)
    except ValueError:
        found = 0
    if isinstance(found, int) and found < 1:
        raise SettingsError(f"by={by!r}: expected event, message, trade, or a number of ns above 0")
    return found


def _time(time: int | str) -> int:
    return time if isinstance(time, int) else parse_time(time)
