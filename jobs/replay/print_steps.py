"""The command `replay`: a symbol's books step by step, as lines for people or as data."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import IO, Any

from rich.text import Text

from deltabook.jobs.console.formats import parse_time, show_time
from deltabook.jobs.console.ladder_view import (
    ASK,
    BID,
    DIM,
    STATUS_STYLES,
    Column,
    Columns,
    Level,
    console_for,
    exact,
    spread_and_mid,
)
from deltabook.jobs.console.printable import printable, safe_stream
from deltabook.jobs.replay.replayer import Replayer
from deltabook.jobs.tables.instrument_lookup import instrument_named
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import NOT_GIVEN, step_of
from deltabook.schemas.tables import HOURS
from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.replay import By

FORMATS = ("table", "csv", "json")

_WIDE = 110
_LEVELS_LOOKED_AT, _HELD = 20, 1000


@dataclass
class Seen:
    """What a replay has told so far.

    Attributes
    ----------
    steps, trades : int
        How many.
    statuses : Counter
        Steps by the status of their book.
    first, last : int
        Times of the first step and of the last, by the clock, ns; -1: none yet.
    """

    steps: int = 0
    trades: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    first: int = NOT_GIVEN
    last: int = NOT_GIVEN

    def take(self, seen: Observation) -> None:
        """Count one step."""
        self.steps += 1
        self.trades += len(seen.trades)
        self.statuses[seen.status.label] += 1
        self.first = seen.time if self.first == NOT_GIVEN else self.first
        self.last = seen.time

    def summary(self) -> dict[str, Any]:
        """Return it for the JSON line."""
        told = {"steps": self.steps, "trades": self.trades, "statuses": dict(self.statuses)}
        return told | {"first": self.first, "last": self.last}


def open_replay(warehouse: Path, symbol: str, start: str | None, end: str | None, **how: Any) -> Replayer:
    """Open the replay of a symbol.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol : str
        As in the tables.
    start, end : str or None
        First time told, and the first not told any more: ISO 8601 or ns; None: all there is.
    **how : Any
        depth, exchange, clock, suspect, as of `Replayer`.

    Returns
    -------
    Replayer
        At its start.

    Raises
    ------
    SettingsError
        If a time cannot be read, or the end is not after the start.
    WarehouseError
        If there is no such symbol, or no book of it.
    """
    first, last = (None if text is None else parse_time(text) for text in (start, end))
    if first is not None and last is not None and last <= first:
        raise SettingsError(f"--to {end} is not after --from {start}")
    how["exchange"] = instrument_named(warehouse, symbol, how.get("exchange"))["exchange"]
    return Replayer(warehouse, symbol, first, last, **how)


def step_by(text: str) -> str | int:
    """Read what a step is: `event`, `message`, `trade`, or a length of time in ns.

    Raises
    ------
    SettingsError
        If it is none of them.
    """
    if text in tuple(By):
        return text
    try:
        return step_of(text)
    except ValueError:
        raise SettingsError(
            f"--by {text!r}: expected {', '.join(By)}, or a length of time such as 100ms, 1s or 5m"
        ) from None


def extent(replayer: Replayer) -> str:
    """Tell from when to when messages of the symbol were recorded."""
    hours = replayer.recording.rows_of(HOURS)
    times = [row[name] for row in hours for name in ("first_time", "last_time") if row[name] != NOT_GIVEN]
    return f"from {show_time(min(times))} to {show_time(max(times))}" if times else "at no time"


def write_steps(replayer: Replayer, by: str | int, form: str, out: IO[str]) -> Seen:
    """Write one line a step, each as soon as it is known.

    Parameters
    ----------
    replayer : Replayer
        From where it is.
    by : str or int
        As of `Replayer.step`.
    form : str
        table, for people; csv, or json (one object a line): times in ns, numbers exact.
    out : text file
        Where to.

    Returns
    -------
    Seen
        What was told.
    """
    seen = Seen()
    steps = _counted(replayer.steps(by), seen)
    if form == "table":
        console = console_for(out)
        for line in _lines(steps, replayer.scales, console.width):
            if console.is_terminal:
                console.print(line, soft_wrap=True)
            else:
                out.write(f"{printable(line.plain)}\n")
        return seen
    rows = (_row(step, replayer.scales) for step in steps)
    if form == "csv":
        writer = csv.writer(safe_stream(out))
        for row in rows:
            if seen.steps == 1:
                writer.writerow(row)
            writer.writerow(f"{value:f}" if isinstance(value, Decimal) else value for value in row.values())
    else:
        for row in rows:
            out.write(json.dumps(row, default="{:f}".format) + "\n")
    return seen


def _counted(steps: Iterable[Observation], seen: Seen) -> Iterator[Observation]:
    for step in steps:
        seen.take(step)
        yield step


def _row(seen: Observation, scales: tuple[int, int]) -> dict[str, Any]:
    bids, asks = levels_of(seen, scales, 1)
    (bid, bid_size), (ask, ask_size) = (side[0] if side else (None, None) for side in (bids, asks))
    mid = None if bid is None or ask is None else spread_and_mid(bid, ask)[1]
    trades = seen.trades
    bought, sold = (int(trades.size[trades.side == side].sum()) for side in (1, -1))
    return {
        "time": seen.time,
        "sequence": seen.sequence,
        "status": seen.status.label,
        "bid_size": bid_size,
        "bid_price": bid,
        "ask_price": ask,
        "ask_size": ask_size,
        "mid": mid,
        "updates": seen.update_count,
        "trades": len(trades),
        "buy_volume": exact(bought, scales[1]),
        "sell_volume": exact(sold, scales[1]),
    }


def levels_of(seen: Observation, scales: tuple[int, int], levels: int) -> tuple[list[Level], list[Level]]:
    """Return the best levels of bids and of asks, exact.

    Parameters
    ----------
    seen : Observation
        Whose book.
    scales : (int, int)
        Decimal digits of prices and of sizes.
    levels : int
        A side at most.
    """

    def side(prices: Any, sizes: Any) -> list[Level]:
        pairs = zip(prices[:levels].tolist(), sizes[:levels].tolist(), strict=True)
        return [(exact(price, scales[0]), exact(size, scales[1])) for price, size in pairs]

    return side(seen.bid_prices, seen.bid_sizes), side(seen.ask_prices, seen.ask_sizes)


def _lines(steps: Iterable[Observation], scales: tuple[int, int], width: int) -> Iterator[Text]:
    """Print steps below each other; a narrow terminal has times to the ms, without the date."""
    steps, columns, mids = iter(steps), Columns(), Column()
    held: list[Observation] = []
    while len(held) < _HELD and (step := next(steps, None)) is not None:
        held.append(step)
        if len(step.bid_prices) and len(step.ask_prices):  # tells how long numbers are
            bids, asks = levels_of(step, scales, _LEVELS_LOOKED_AT)
            columns.take([*bids, *asks])
            mids.take([spread_and_mid(bids[0][0], asks[0][0])[1]])
            break
    is_wide, status_width, is_first = width >= _WIDE, len("verified"), True
    for step in chain(held, steps):
        row = _row(step, scales)
        best = ((row[f"{side}_price"], row[f"{side}_size"]) for side in ("bid", "ask"))
        columns.take((price, size) for price, size in best if price is not None)
        mids.take([row["mid"]] if row["mid"] is not None else [])
        shown = show_time(row["time"])
        when = shown if is_wide else shown[11:23]
        status_width = max(status_width, len(row["status"]))
        if is_first:
            size, price = columns.size.width, columns.price.width
            named = [("size", size), ("bid", price), ("ask", price), ("size", size), ("mid", mids.width)]
            heads = ["time".ljust(len(when)), "status".ljust(status_width)]
            heads += [title.rjust(room) for title, room in named]
            yield Text("  ".join([*heads, "trades"]), DIM)
            is_first = False
        yield Text("  ").join(
            [
                Text(when),
                Text(row["status"].ljust(status_width), STATUS_STYLES.get(row["status"], "")),
                Text(columns.size.text(row["bid_size"])),
                Text(columns.price.text(row["bid_price"]), BID),
                Text(columns.price.text(row["ask_price"]), ASK),
                Text(columns.size.text(row["ask_size"])),
                Text(mids.text(row["mid"])),
                Text(f"{row['trades'] or '':>6}"),
            ]
        )
