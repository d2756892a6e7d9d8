"""The command `replay --watch`: play the order book of a symbol in the terminal, like a film."""

from __future__ import annotations

import math
import time
from collections import deque
from decimal import Decimal

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from deltabook.jobs.console.formats import format_time
from deltabook.jobs.console.ladder_view import ASK, BID, DIM, Ladder, LadderColumns, draw_ladder, unscale
from deltabook.jobs.process.interruptions import end_block_on_interrupt
from deltabook.jobs.replay.keyboard import Key, Keyboard, open_keyboard
from deltabook.jobs.replay.playback_clock import PlaybackClock
from deltabook.jobs.replay.replayer import Replayer
from deltabook.jobs.replay.step_output import ReplaySummary, exact_levels
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.replay.observations import Observation

MAX_SPEED = "max"

_FRAME_SECONDS = 0.05
_TRADES_STORED = 100
_TIME_WIDTH, _GAP_WIDTH = 12, 2
_BESIDE_GAP, _LADDER_LEAST = 3, 40
_OTHER_LINES = 8  # three heading lines, a line of titles, a line with the spread, three notes
_KEYS_HELP = "space pause, +/- speed, n step, q quit"
_SIDE_STYLES = {1: BID, -1: ASK}


def parse_speed(text: str) -> float:
    """Return the speed of a replay as a multiple of the recorded speed; infinity for `max`.

    Parameters
    ----------
    text : str
        Value of `--speed`: a multiple of the recorded speed, or `max`.

    Raises
    ------
    SettingsError
        If the text is neither a number above 0 nor `max`.
    """
    try:
        speed = math.inf if text == MAX_SPEED else float(text)
    except ValueError:
        speed = 0
    if not speed > 0 or (speed == math.inf) != (text == MAX_SPEED):
        raise SettingsError(f"--speed {text!r}: expected a number above 0, such as 10 or 0.5, or max")
    return speed


def require_terminal(console: Console) -> None:
    """Check that a replay can be played on a console.

    Parameters
    ----------
    console : Console
        Console of standard output.

    Raises
    ------
    SettingsError
        If the output is not a terminal, or the terminal cannot move its cursor.
    """
    if not console.file.isatty() or console.is_dumb_terminal:
        raise SettingsError("--watch needs a terminal: omit --watch to print one line for each step instead")


class Player:
    """Plays a replay in a terminal. Keys pause the replay, change its speed, make single steps, and quit.

    Parameters
    ----------
    replayer : Replayer
        Replay to play, from its current position on.
    console : Console
        Console of a terminal.
    levels : int
        Maximum number of levels per side. Fewer levels are shown if the terminal has too few lines.
    speed : float
        Multiple of the recorded speed; infinity: as fast as possible.
    """

    def __init__(self, replayer: Replayer, console: Console, levels: int, speed: float):
        self._replayer, self._console, self._levels = replayer, console, levels
        self._clock = PlaybackClock(speed)
        self._summary, self._columns = ReplaySummary(), LadderColumns()
        self._trades: deque[tuple[int, int, Decimal, Decimal]] = deque(maxlen=_TRADES_STORED)
        self._pending_steps, self._has_quit = 0, False

    def play(self, by: str | int) -> ReplaySummary:
        """Play to the end, or until the user presses q or Ctrl-C. The last book stays on the terminal.

        Parameters
        ----------
        by : str or int
            Kind or length of a step, as in `Replayer.step`.

        Returns
        -------
        ReplaySummary
            Counts of the shown steps.
        """
        last: Observation | None = None
        screen = Live(console=self._console, screen=True, auto_refresh=False)
        with open_keyboard() as keyboard, screen as live, end_block_on_interrupt():
            drawn = -math.inf
            for step in self._replayer.steps(by):
                if last is not None:
                    self._wait_for_step(live, keyboard, last, step.time)
                    if self._has_quit:
                        break
                else:
                    self._clock.set_time(step.time)
                last = step
                self._add_step(step)
                if self._clock.is_paused or time.monotonic() - drawn >= _FRAME_SECONDS:
                    self._draw_frame(live, step, step.time)
                    drawn = time.monotonic()
                    if self._clock.speed == math.inf:
                        self._handle_keys(keyboard.wait(0))
        if last is not None:
            self._console.print(self._frame(last, last.time, is_playing=False))
        return self._summary

    def _wait_for_step(self, live: Live, keyboard: Keyboard, last: Observation, step_time: int) -> None:
        """Wait until `step_time`, the time of the next step; handle keys while waiting.

        `last` is the step that the terminal shows in the meantime.
        """
        while not self._has_quit:
            if self._pending_steps:
                self._pending_steps -= 1
                self._clock.set_time(step_time)
                return
            seconds = math.inf if self._clock.is_paused else self._clock.seconds_until(step_time)
            if seconds <= 0:
                return
            keys = keyboard.wait(min(seconds, _FRAME_SECONDS))
            self._handle_keys(keys)
            if keys or (seconds > _FRAME_SECONDS and not self._clock.is_paused):
                self._draw_frame(live, last, min(self._clock.now(), step_time))

    def _handle_keys(self, keys: list[Key]) -> None:
        for key in keys:
            match key:
                case Key.PAUSE:
                    self._clock.toggle_pause()
                case Key.STEP:
                    if not self._clock.is_paused:
                        self._clock.toggle_pause()
                    self._pending_steps += 1
                case Key.FASTER:
                    self._clock.change_speed(2)
                case Key.SLOWER:
                    self._clock.change_speed(0.5)
                case Key.QUIT:
                    self._has_quit = True

    def _draw_frame(self, live: Live, step: Observation, now: int) -> None:
        live.update(self._frame(step, now, is_playing=True), refresh=True)

    def _add_step(self, step: Observation) -> None:
        """Count a step, and store its newest trades for the display."""
        self._summary.add_step(step)
        price_scale, size_scale = self._replayer.scales
        trades = step.trades
        arrays = (trades.time, trades.side, trades.price, trades.size)
        newest = (array[-_TRADES_STORED:].tolist() for array in arrays)
        for trade_time, side, price, size in zip(*newest, strict=True):
            self._trades.append((trade_time, side, unscale(price, price_scale), unscale(size, size_scale)))

    def _frame(self, step: Observation, now: int, is_playing: bool) -> RenderableType:
        """Return what the terminal shows: the ladder of a step, and the last trades if there is room.

        `now` is the time to show, ns since 1970 UTC. `is_playing` is false for the last book, which stays on
        the terminal.
        """
        width, height = self._console.size
        levels = max(min(self._levels, (height - _OTHER_LINES) // 2), 1)
        bids, asks = exact_levels(step, self._replayer.scales, levels)
        counts = f"{self._summary.steps:,} steps, {self._summary.trades:,} trades"
        notes = [f"update {step.sequence}, by the {self._replayer.clock} clock"]
        notes += [f"{counts}, {self._describe_speed()}", _KEYS_HELP] if is_playing else [counts]
        ladder = Ladder(
            f"{self._replayer.exchange} {self._replayer.symbol}",
            format_time(now)[:23] + "Z" if is_playing else format_time(now),
            step.status.label,
            bids,
            asks,
            notes,
        )
        self._columns.fit((price, size) for _, _, price, size in self._trades)
        beside = _TIME_WIDTH + self._columns.price.width + self._columns.size.width + 2 * _GAP_WIDTH
        if width - beside - _BESIDE_GAP < _LADDER_LEAST:
            return draw_ladder(ladder, levels, width, self._columns)
        panels = RichTable.grid(padding=(0, _BESIDE_GAP, 0, 0), pad_edge=False)
        ladder_text = draw_ladder(ladder, levels, width - beside - _BESIDE_GAP, self._columns)
        panels.add_row(ladder_text, self._last_trades(2 * levels + 3))
        return panels

    def _describe_speed(self) -> str:
        speed = MAX_SPEED if self._clock.speed == math.inf else f"{self._clock.speed:g}"
        return f"speed {speed}, paused" if self._clock.is_paused else f"speed {speed}"

    def _last_trades(self, count: int) -> Text:
        """Return the newest trades as text, newest first, at most `count` of them."""
        price, size = self._columns.price, self._columns.size
        titles = ["trades".ljust(_TIME_WIDTH), "price".rjust(price.width), "size".rjust(size.width)]
        lines = [Text("  ".join(titles), DIM)]
        for trade_time, side, trade_price, amount in list(self._trades)[: -count - 1 : -1]:
            line = Text(format_time(trade_time)[11:23] + "  ", DIM)
            line.append(f"{price.text(trade_price)}  {size.text(amount)}", _SIDE_STYLES.get(side, DIM))
            lines.append(line)
        return Text("\n").join(lines)
