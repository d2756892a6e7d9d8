"""Write the output of the command `replay`: one line for each step, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import IO, TypedDict

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from deltabook.jobs.console.formats import format_time, parse_period
from deltabook.jobs.console.ladder_view import (
    ASK,
    BID,
    DIM,
    STATUS_STYLES,
    LadderColumns,
    Level,
    NumberColumn,
    open_console,
    spread_and_mid,
    unscale,
)
from deltabook.jobs.console.printable import make_printable, wrap_stream
from deltabook.jobs.replay.replayer import Replayer
from deltabook.jobs.tables.instrument_lookup import find_instrument
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import NOT_GIVEN, step_of
from deltabook.udfs.replay.observations import Observation
from deltabook.udfs.replay.replay import By

FORMATS = ("table", "csv", "json")

_WIDE_TERMINAL = 110
"""Minimum width of a terminal, in characters, in which times have their date and nanoseconds."""
_SAMPLE_LEVELS, _SAMPLE_STEPS = 20, 1000
"""Number of levels, and maximum number of steps, that are read to choose the widths of columns."""


class StepCounts(TypedDict):
    """Fields of the JSON summary of the command `replay`; `ReplaySummary` describes them."""

    steps: int
    trades: int
    statuses: dict[str, int]
    first: int
    last: int


class StepRow(TypedDict):
    """One step of a replay as a row of CSV or JSON.

    `time` is in ns since 1970 UTC; prices and sizes are exact. `updates`, `trades`, `buy_volume` and
    `sell_volume` cover the time since the previous step. A price or size is None if its side of the book is
    empty.
    """

    time: int
    sequence: int
    status: str
    bid_size: Decimal | None
    bid_price: Decimal | None
    ask_price: Decimal | None
    ask_size: Decimal | None
    mid: Decimal | None
    updates: int
    trades: int
    buy_volume: Decimal
    sell_volume: Decimal


@dataclass
class ReplaySummary:
    """Counts of the steps that a replay has shown so far.

    Attributes
    ----------
    steps, trades : int
        Number of steps, and number of trades in all steps.
    statuses : Counter
        Number of steps by the status of the book.
    first, last : int
        Times of the first and the last step by the replay's clock, ns since 1970 UTC; -1: no step yet.
    """

    steps: int = 0
    trades: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    first: int = NOT_GIVEN
    last: int = NOT_GIVEN

    def add_step(self, seen: Observation) -> None:
        """Count a step."""
        self.steps += 1
        self.trades += len(seen.trades)
        self.statuses[seen.status.label] += 1
        self.first = seen.time if self.first == NOT_GIVEN else self.first
        self.last = seen.time

    def summary(self) -> StepCounts:
        """Return the counts and times as the fields of the command's JSON summary."""
        return {
            "steps": self.steps,
            "trades": self.trades,
            "statuses": dict(self.statuses),
            "first": self.first,
            "last": self.last,
        }


def open_replay(
    warehouse: Path,
    symbol: str,
    start: str | None,
    end: str | None,
    depth: int,
    exchange: str | None,
    clock: str,
    suspect: str,
) -> Replayer:
    """Return the replay of a symbol within a period.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol : str
        Symbol as in the tables.
    start, end : str or None
        Start (inclusive) and end (exclusive), as text that `parse_time` reads; None: no bound.
    depth : int
        Number of levels per side in an observation.
    exchange : str or None
        Exchange of the symbol. It is required if several exchanges list the symbol.
    clock, suspect : str
        Arguments of `Replayer`.

    Returns
    -------
    Replayer
        Replayer at the start of the period.

    Raises
    ------
    SettingsError
        If a time cannot be read, or the end is not after the start.
    WarehouseError
        If the symbol does not exist, or has no books.
    """
    first, last = parse_period(start, end)
    found = find_instrument(warehouse, symbol, exchange)
    return Replayer(warehouse, found["symbol"], first, last, depth, found["exchange"], clock, suspect)


def parse_step(text: str) -> str | int:
    """Return the kind of a step (`event`, `message` or `trade`), or the length of a step in ns.

    Parameters
    ----------
    text : str
        Value of `--by`.

    Raises
    ------
    SettingsError
        If the text is neither a kind of step nor a length of time.
    """
    if text in tuple(By):
        return text
    try:
        return step_of(text)
    except ValueError:
        raise SettingsError(
            f"--by {text!r}: expected {', '.join(By)}, or a length of time such as 100ms, 1s or 5m"
        ) from None


def describe_recorded_time(replayer: Replayer) -> str:
    """Return the range of times of the symbol's recorded messages as text, such as `from … to …`."""
    chunks = replayer.recording.read_id_ranges()
    times = [time for row in chunks for time in (row["first_time"], row["last_time"]) if time != NOT_GIVEN]
    return f"from {format_time(min(times))} to {format_time(max(times))}" if times else "at no time"


def write_steps(replayer: Replayer, by: str | int, form: str, out: IO[str]) -> ReplaySummary:
    """Write a line for each step, as soon as the step is known.

    Parameters
    ----------
    replayer : Replayer
        Replay to write, from its current position on.
    by : str or int
        Kind or length of a step, as in `Replayer.step`.
    form : str
        Format: `table`, `csv`, or `json` (one object per line). CSV and JSON have times in ns since 1970 UTC
        and exact numbers.
    out : text file
        Stream to write to.

    Returns
    -------
    ReplaySummary
        Counts of the written steps.
    """
    seen = ReplaySummary()
    steps = _count_steps(replayer.steps(by), seen)
    if form == "table":
        console = open_console(out)
        for line in _table_lines(steps, replayer.scales, console.width):
            if console.is_terminal:
                console.print(line, soft_wrap=True)
            else:
                out.write(f"{make_printable(line.plain)}\n")
        return seen
    rows = (_step_row(step, replayer.scales) for step in steps)
    if form == "csv":
        writer = csv.writer(wrap_stream(out))
        for row in rows:
            if seen.steps == 1:
                writer.writerow(row)
            writer.writerow(f"{value:f}" if isinstance(value, Decimal) else value for value in row.values())
    else:
        for row in rows:
            out.write(json.dumps(row, default="{:f}".format) + "\n")
    return seen


def _count_steps(steps: Iterable[Observation], seen: ReplaySummary) -> Iterator[Observation]:
    """Yield the steps unchanged, and add each step to the counts in `seen`."""
    for step in steps:
        seen.add_step(step)
        yield step


def _step_row(seen: Observation, scales: tuple[int, int]) -> StepRow:
    """Return a step as a row of CSV or JSON."""
    bids, asks = exact_levels(seen, scales, 1)
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
        "buy_volume": unscale(bought, scales[1]),
        "sell_volume": unscale(sold, scales[1]),
    }


def exact_levels(seen: Observation, scales: tuple[int, int], levels: int) -> tuple[list[Level], list[Level]]:
    """Return the best levels of both sides as exact decimals.

    Parameters
    ----------
    seen : Observation
        Step of a replay.
    scales : (int, int)
        Decimal digits of prices and of sizes.
    levels : int
        Maximum number of levels per side.

    Returns
    -------
    (list of (Decimal, Decimal), list of (Decimal, Decimal))
        Price and size of each bid and ask, best first.
    """

    def side(prices: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[Level]:
        pairs = zip(prices[:levels].tolist(), sizes[:levels].tolist(), strict=True)
        return [(unscale(price, scales[0]), unscale(size, scales[1])) for price, size in pairs]

    return side(seen.bid_prices, seen.bid_sizes), side(seen.ask_prices, seen.ask_sizes)


def _table_lines(steps: Iterable[Observation], scales: tuple[int, int], width: int) -> Iterator[Text]:
    """Yield a line of titles, then an aligned line for each step.

    `width` is the width of the terminal in characters. In a narrow terminal, times have no date and end with
    milliseconds.
    """
    steps, columns, mids = iter(steps), LadderColumns(), NumberColumn()
    sample: list[Observation] = []
    while len(sample) < _SAMPLE_STEPS and (step := next(steps, None)) is not None:
        sample.append(step)
        if len(step.bid_prices) and len(step.ask_prices):  # this step shows how wide numbers are
            bids, asks = exact_levels(step, scales, _SAMPLE_LEVELS)
            columns.fit([*bids, *asks])
            mids.fit([spread_and_mid(bids[0][0], asks[0][0])[1]])
            break
    is_wide, status_width, is_first = width >= _WIDE_TERMINAL, len("verified"), True
    for step in chain(sample, steps):
        row = _step_row(step, scales)
        best = ((row["bid_price"], row["bid_size"]), (row["ask_price"], row["ask_size"]))
        columns.fit((price, size) for price, size in best if price is not None and size is not None)
        mids.fit([row["mid"]] if row["mid"] is not None else [])
        shown = format_time(row["time"])
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
