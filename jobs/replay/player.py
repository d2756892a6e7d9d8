"""The command `replay --watch`: a symbol's books, played in the terminal in place."""

from __future__ import annotations

import math
import time
from collections import deque
from decimal import Decimal

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from deltabook.jobs.console.formats import show_time
from deltabook.jobs.console.ladder_view import ASK, BID, DIM, Columns, Ladder, draw, exact
from deltabook.jobs.process.interruptions import ends_block
from deltabook.jobs.replay.print_steps import Seen, levels_of
from deltabook.jobs.replay.replayer import Replayer
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import NANOSECONDS_PER_SECOND
from deltabook.udfs.replay.observations import Observation

AS_FAST_AS_IT_GOES = "max"

_FRAME_SECONDS = 0.05
_TRADES_KEPT = 100
_TIME_WIDTH, _GAP_WIDTH = 12, 2
_BESIDE_GAP, _LADDER_LEAST = 3, 40
_AROUND_LEVELS = 7  # lines: the heading's three, titles, the spread, two notes
_SIDE_STYLES = {1: BID, -1: ASK}


def speed_of(text: str) -> float:
    """Read how many times faster than it was a replay is played; infinity if as fast as it goes.

    Raises
    ------
    SettingsError
        If it is not a number above 0.
    """
    try:
        speed = math.inf if text == AS_FAST_AS_IT_GOES else float(text)
    except ValueError:
        speed = 0
    if not speed > 0 or (speed == math.inf) != (text == AS_FAST_AS_IT_GOES):
        raise SettingsError(f"--speed {text!r}: expected a number above 0, such as 10 or 0.5, or max")
    return speed


def check_terminal(console: Console) -> None:
    """Refuse to play where nothing can be drawn in place.

    Raises
    ------
    SettingsError
        If standard output is no terminal, or one that cannot move its cursor.
    """
    if not console.file.isatty() or console.is_dumb_terminal:
        raise SettingsError("--watch needs a terminal: leave it out for lines, or give --format csv or json")


class Player:
    """Plays a replay in a terminal, in place.

    Parameters
    ----------
    replayer : Replayer
        From where it is.
    console : Console
        Of a terminal.
    levels : int
        Levels a side at most; as many are shown as the terminal has lines for.
    speed : float
        How many times faster than it was.
    """

    def __init__(self, replayer: Replayer, console: Console, levels: int, speed: float):
        self._replayer, self._console, self._levels, self._speed = replayer, console, levels, speed
        self._seen, self._columns = Seen(), Columns()
        self._trades: deque[tuple[int, int, Decimal, Decimal]] = deque(maxlen=_TRADES_KEPT)

    def play(self, by: str | int) -> Seen:
        """Play to the end, or until Ctrl-C; the last book is left behind on the terminal.

        Parameters
        ----------
        by : str or int
            As of `Replayer.step`.

        Returns
        -------
        Seen
            What was told.
        """
        last: Observation | None = None
        with Live(console=self._console, screen=True, auto_refresh=False) as live, ends_block():
            started, drawn = time.monotonic(), -math.inf
            for step in self._replayer.steps(by):
                if last is not None and self._speed < math.inf:
                    self._wait(live, last, step.time, started)
                last = step
                self._take(step)
                if time.monotonic() - drawn >= _FRAME_SECONDS:
                    live.update(self._frame(step, step.time, is_playing=True), refresh=True)
                    drawn = time.monotonic()
        if last is not None:
            self._console.print(self._frame(last, last.time, is_playing=False))
        return self._seen

    def _wait(self, live: Live, last: Observation, until: int, started: float) -> None:
        """Wait for the time of the next step; the clock goes on."""
        length = (until - self._seen.first) / NANOSECONDS_PER_SECOND / self._speed
        while (left := started + length - time.monotonic()) > 0:
            time.sleep(min(left, _FRAME_SECONDS))
            if left > _FRAME_SECONDS:
                played = (time.monotonic() - started) * self._speed * NANOSECONDS_PER_SECOND
                now = min(self._seen.first + int(played), until)
                live.update(self._frame(last, now, is_playing=True), refresh=True)

    def _take(self, step: Observation) -> None:
        self._seen.take(step)
        price_scale, size_scale = self._replayer.scales
        trades = step.trades
        arrays = (trades.time, trades.side, trades.price, trades.size)
        newest = (array[-_TRADES_KEPT:].tolist() for array in arrays)
        for when, side, price, size in zip(*newest, strict=True):
            self._trades.append((when, side, exact(price, price_scale), exact(size, size_scale)))

    def _frame(self, step: Observation, now: int, is_playing: bool) -> RenderableType:
        width, height = self._console.size
        levels = max(min(self._levels, (height - _AROUND_LEVELS) // 2), 1)
        bids, asks = levels_of(step, self._replayer.scales, levels)
        speed = AS_FAST_AS_IT_GOES if self._speed == math.inf else f"{self._speed:g}"
        seen = f"{self._seen.steps:,} steps, {self._seen.trades:,} trades"
        notes = [f"update {step.sequence}, by the {self._replayer.clock} clock"]
        notes.append(f"{seen}, speed {speed}; Ctrl-C leaves" if is_playing else seen)
        ladder = Ladder(
            f"{self._replayer.exchange} {self._replayer.symbol}",
            show_time(now)[:23] + "Z" if is_playing else show_time(now),
            step.status.label,
            bids,
            asks,
            notes,
        )
        self._columns.take((price, size) for _, _, price, size in self._trades)
        beside = _TIME_WIDTH + self._columns.price.width + self._columns.size.width + 2 * _GAP_WIDTH
        if width - beside - _BESIDE_GAP < _LADDER_LEAST:
            return draw(ladder, levels, width, self._columns)
        both = RichTable.grid(padding=(0, _BESIDE_GAP, 0, 0), pad_edge=False)
        left = draw(ladder, levels, width - beside - _BESIDE_GAP, self._columns)
        both.add_row(left, self._last_trades(2 * levels + 3))
        return both

    def _last_trades(self, count: int) -> Text:
        price, size = self._columns.price, self._columns.size
        titles = ["trades".ljust(_TIME_WIDTH), "price".rjust(price.width), "size".rjust(size.width)]
        lines = [Text("  ".join(titles), DIM)]
        for when, side, at, amount in list(self._trades)[: -count - 1 : -1]:
            line = Text(show_time(when)[11:23] + "  ", DIM)
            line.append(f"{price.text(at)}  {size.text(amount)}", _SIDE_STYLES.get(side, DIM))
            lines.append(line)
        return Text("\n").join(lines)
