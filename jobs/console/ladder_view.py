"""Draw an order book as a ladder of text: asks above, bids below, sizes as bars."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from typing import IO

from rich.console import Console
from rich.text import Text

from deltabook.jobs.console.printable import SafeConsole
from deltabook.schemas.names import Status

Level = tuple[Decimal, Decimal]
"""Price and size of one level."""

STATUS_STYLES = {
    Status.VERIFIED.label: "bold green",
    Status.CHECKED.label: "bold cyan",
    Status.UNVERIFIABLE.label: "bold yellow",
    Status.SUSPECT.label: "bold red",
    Status.WARMING.label: "magenta",
    Status.UNSEEDED.label: "bold magenta",
}
ASK, BID, DIM = "red", "green", "dim"

_GAP = "  "
_MIN_BAR, _MAX_BAR, _PIPED_BAR = 4, 60, 20
"""Minimum and maximum width of a bar in a terminal, and width of a bar in a pipe or file, in characters."""
_EIGHTHS = " ▏▎▍▌▋▊▉"
_UNLIMITED_WIDTH = 10_000
_EXACT = Context(prec=120)  # numbers in DECIMAL(38,18) and their sums need more than the usual 28 digits
_BASIS_POINTS = 10_000


@dataclass(frozen=True)
class Ladder:
    """An order book, and the texts to draw with the book.

    Attributes
    ----------
    name : str
        Exchange and symbol, such as "BINANCE BTC-USDT".
    time : str
        Time of the book, as text.
    status : str
        Status of the book, such as "verified".
    bids, asks : sequence of (Decimal, Decimal)
        Price and size of each level, best level first.
    notes : sequence of str
        Lines to print below the ladder.
    """

    name: str
    time: str
    status: str
    bids: Sequence[Level]
    asks: Sequence[Level]
    notes: Sequence[str] = ()


@dataclass
class NumberColumn:
    """Width and decimal digits of a column of numbers.

    Numbers are printed exactly, with their decimal points below each other. The column never shrinks, so that
    a ladder that is drawn repeatedly keeps its place on the screen.

    Attributes
    ----------
    width, digits : int
        Width of the column in characters, and number of digits after the decimal point.
    """

    width: int = 0
    digits: int = 0

    def fit(self, numbers: Iterable[Decimal]) -> None:
        """Widen the column until the given numbers fit into it.

        Parameters
        ----------
        numbers : iterable of Decimal
            The numbers to print.
        """
        texts = [f"{number:f}" for number in numbers]
        digits = (len(text.rstrip("0").partition(".")[2]) for text in texts if "." in text)
        integer_width = self.width - self.digits
        self.digits = max(self.digits, *digits, 0)
        integer_width = max(
            [integer_width, *(len(text.partition(".")[0]) + (self.digits > 0) for text in texts)]
        )
        self.width = integer_width + self.digits

    def text(self, number: Decimal | None) -> str:
        """Return a number as text of the column's width; a dash for None."""
        return ("–" if number is None else f"{number:.{self.digits}f}").rjust(self.width)


@dataclass
class LadderColumns:
    """The columns of a ladder: price, size, and total (sum of all sizes from the best level to the row)."""

    price: NumberColumn = field(default_factory=NumberColumn)
    size: NumberColumn = field(default_factory=NumberColumn)
    total: NumberColumn = field(default_factory=NumberColumn)

    def fit(self, levels: Iterable[Level]) -> None:
        """Widen the columns of prices and sizes until the given levels fit into them.

        Parameters
        ----------
        levels : iterable of Level
            The levels to print.
        """
        levels = list(levels)
        self.price.fit([price for price, _ in levels])
        self.size.fit([size for _, size in levels])


def open_console(out: IO[str] | None = None) -> Console:
    """Return a console whose lines are as wide as the terminal, or unlimited in a file or a pipe.

    Parameters
    ----------
    out : text file, optional
        The stream to which the console prints; default: standard output.

    Returns
    -------
    Console
        The console. It shows unsafe characters as escape sequences.
    """
    out = out or sys.stdout
    return SafeConsole(
        file=out, highlight=False, markup=False, width=None if out.isatty() else _UNLIMITED_WIDTH
    )


def draw_bar(share: float, width: int) -> str:
    """Return a bar of block characters that fills a share of the full width.

    Parameters
    ----------
    share : float
        Share of the full width, from 0 to 1. The bar is at least one eighth of a character long.
    width : int
        Length of a full bar in characters.

    Returns
    -------
    str
        The bar, exact to one eighth of a character.
    """
    eighths = max(round(share * width * 8), 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def unscale(number: int, scale: int) -> Decimal:
    """Convert a scaled integer to the exact decimal number.

    Parameters
    ----------
    number : int
        The scaled integer: the decimal number times 10 to the power `scale`.
    scale : int
        Number of digits after the decimal point.

    Returns
    -------
    Decimal
        The exact decimal number.
    """
    return Decimal(number).scaleb(-scale, _EXACT)


def spread_and_mid(bid: Decimal, ask: Decimal) -> tuple[Decimal, Decimal]:
    """Return the exact spread and mid of a best bid and a best ask.

    Parameters
    ----------
    bid, ask : Decimal
        Best bid and best ask.

    Returns
    -------
    (Decimal, Decimal)
        Spread (ask minus bid), and mid (half of the sum of ask and bid).
    """
    with localcontext(_EXACT):
        return ask - bid, (ask + bid) * Decimal("0.5")


def draw_ladder(ladder: Ladder, levels: int, width: int, columns: LadderColumns | None = None) -> Text:
    """Return a ladder as lines of text, one line per level: price, size, bar and sum of sizes.

    The sum adds all sizes from the best level to the level of the line.

    Parameters
    ----------
    ladder : Ladder
        The book to draw.
    levels : int
        Maximum number of levels per side.
    width : int
        Characters per line. If the width is too small, the sums are left out, and, if still needed, the bars.
    columns : LadderColumns, optional
        Columns of an earlier drawing, which this function widens if needed; default: new columns.

    Returns
    -------
    rich.text.Text
        The lines.
    """
    columns = columns or LadderColumns()
    asks, bids = _add_sums(ladder.asks[:levels]), _add_sums(ladder.bids[:levels])
    columns.fit([(price, size) for price, size, _ in asks + bids])
    columns.total.fit([total for _, _, total in asks + bids])
    layout = _choose_layout(columns, width)
    largest = max((size for _, size, _ in asks + bids), default=Decimal(1))

    def rows(side: Sequence[tuple[Decimal, Decimal, Decimal]], style: str) -> list[Text]:
        return [
            layout.format_row(
                Text(columns.price.text(price), style if number else f"bold {style}"),
                Text(columns.size.text(size)),
                Text(draw_bar(float(size / largest), layout.bar), style),
                Text(columns.total.text(total), DIM),
            )
            for number, (price, size, total) in enumerate(side)
        ]

    titles = ("price".rjust(columns.price.width), "size".rjust(columns.size.width), "")
    lines = [
        *_format_heading(ladder, width),
        layout.format_row(*(Text(title, DIM) for title in (*titles, "sum".rjust(columns.total.width)))),
        *(rows(asks, ASK)[::-1] or [Text("no asks", DIM)]),
        _format_middle(ladder, columns.price.digits, layout.width),
        *(rows(bids, BID) or [Text("no bids", DIM)]),
        *(Text(note, DIM) for note in ladder.notes),
    ]
    return Text("\n").join(lines)


@dataclass(frozen=True)
class _Layout:
    """Width of a line in characters, width of the line's bar (0: no bar), and whether the line has a sum."""

    bar: int
    has_sum: bool
    width: int

    def format_row(self, price: Text, size: Text, bar: Text, total: Text) -> Text:
        parts = [price, size]
        if self.bar:
            bar.pad_right(self.bar - len(bar))
            parts.append(bar)
        if self.has_sum:
            parts.append(total)
        line = Text(_GAP).join(parts)
        line.rstrip()
        return line


def _choose_layout(columns: LadderColumns, width: int) -> _Layout:
    """Return the layout for lines of `width` characters; if space is short, without sums or without bars."""
    numbers = columns.price.width + len(_GAP) + columns.size.width
    sum_width = len(_GAP) + columns.total.width
    left = width - numbers - len(_GAP)
    has_sum = left - sum_width >= 2 * _MIN_BAR
    bar = min(left - sum_width * has_sum, _PIPED_BAR if width == _UNLIMITED_WIDTH else _MAX_BAR)
    bar = bar if bar >= _MIN_BAR else 0
    return _Layout(bar, has_sum, min(numbers + (len(_GAP) + bar if bar else 0) + sum_width * has_sum, width))


def _add_sums(levels: Sequence[Level]) -> list[tuple[Decimal, Decimal, Decimal]]:
    """Return (price, size, sum) for each level; the sum adds all sizes from the best level to this level."""
    sums, total = [], Decimal(0)
    with localcontext(_EXACT):
        for price, size in levels:
            total += size
            sums.append((price, size, total))
    return sums


def _format_heading(ladder: Ladder, width: int) -> list[Text]:
    """Return the name, time and status of a book, in as few lines as the width allows."""
    parts = [
        Text(ladder.name, "bold"),
        Text(ladder.time),
        Text(f"● {ladder.status}", STATUS_STYLES.get(ladder.status, "")),
    ]
    lines: list[Text] = []
    for part in parts:
        if lines and len(lines[-1]) + len(_GAP) + len(part) <= width:
            lines[-1] = Text(_GAP).join([lines[-1], part])
        else:
            lines.append(part)
    return lines


def _format_middle(ladder: Ladder, digits: int, width: int) -> Text:
    """Return the line between asks and bids: the spread, and, if the width allows, basis points and mid."""
    if not (ladder.bids and ladder.asks):
        return Text("─" * width, DIM)
    spread, mid = spread_and_mid(ladder.bids[0][0], ladder.asks[0][0])
    price = NumberColumn(digits=digits)
    price.fit([mid])
    parts = [Text.assemble("spread ", (f"{spread:.{digits}f}", "bold"))]
    if spread < 0:
        parts[0].append(" crossed", "bold red")
    if mid > 0:
        parts.append(Text(f" ({float(spread / mid) * _BASIS_POINTS:.3g} bp)", DIM))
    parts.append(Text.assemble(f"{_GAP}mid ", (f"{mid:.{price.digits}f}", "bold")))
    while sum(map(len, parts)) > width and len(parts) > 1:
        del parts[1]
    summary = Text().join(parts)
    rest = width - len(summary) - 2
    if rest < 2:
        return summary
    return Text.assemble(("─" * (rest // 2), DIM), " ", summary, " ", ("─" * (rest - rest // 2), DIM))
