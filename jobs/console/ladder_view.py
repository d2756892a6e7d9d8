"""Drawing a ladder for a terminal: asks above, bids below, sizes as bars."""

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
"""Price and size."""

STATUS_STYLES = {
    Status.VERIFIED.label: "bold green",
    Status.CHECKED.label: "bold cyan",
    Status.UNVERIFIABLE.label: "bold yellow",
    Status.SUSPECT.label: "bold red",
    Status.UNSEEDED.label: "bold magenta",
}
ASK, BID, DIM = "red", "green", "dim"

_GAP = "  "
_BAR_LEAST, _BAR_MOST, _BAR_PIPED = 4, 60, 20
_EIGHTHS = " ▏▎▍▌▋▊▉"
_UNWRAPPED = 10_000
_EXACT = Context(prec=120)  # DECIMAL(38,18) and its sums need more than the usual 28 digits
_BASIS_POINTS = 10_000


@dataclass(frozen=True)
class Ladder:
    """A book to be drawn.

    Attributes
    ----------
    name : str
        Exchange and symbol.
    time : str
        As it is shown.
    status : str
        How far the book is proven.
    bids, asks : sequence of (Decimal, Decimal)
        Prices and sizes, best first.
    notes : sequence of str
        What is said below it.
    """

    name: str
    time: str
    status: str
    bids: Sequence[Level]
    asks: Sequence[Level]
    notes: Sequence[str] = ()


@dataclass
class Column:
    """Numbers printed below each other: exact, aligned at the point, no digit more than any of them needs.

    It only grows: what is drawn again and again does not jump.

    Attributes
    ----------
    width, digits : int
        Characters in all, and behind the point.
    """

    width: int = 0
    digits: int = 0

    def take(self, numbers: Iterable[Decimal]) -> None:
        """Make room for numbers."""
        texts = [f"{number:f}" for number in numbers]
        needed = (len(text.rstrip("0").partition(".")[2]) for text in texts if "." in text)
        before = self.width - self.digits
        self.digits = max(self.digits, *needed, 0)
        whole = max([before, *(len(text.partition(".")[0]) + (self.digits > 0) for text in texts)])
        self.width = whole + self.digits

    def text(self, number: Decimal | None) -> str:
        """Print a number that there is room for; a dash if there is none."""
        return ("–" if number is None else f"{number:.{self.digits}f}").rjust(self.width)


@dataclass
class Columns:
    """The columns of a ladder."""

    price: Column = field(default_factory=Column)
    size: Column = field(default_factory=Column)
    total: Column = field(default_factory=Column)

    def take(self, levels: Iterable[Level]) -> None:
        """Make room for prices and sizes."""
        levels = list(levels)
        self.price.take([price for price, _ in levels])
        self.size.take([size for _, size in levels])


def console_for(out: IO[str] | None = None) -> Console:
    """Return the console that prints to a stream: as wide as its terminal; without one nothing is cut."""
    out = out or sys.stdout
    return SafeConsole(file=out, highlight=False, markup=False, width=None if out.isatty() else _UNWRAPPED)


def bar_of(share: float, width: int) -> str:
    """Draw a share of a bar's width in eighths of a character; a share above 0 is seen."""
    eighths = max(round(share * width * 8), 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def exact(number: int, scale: int) -> Decimal:
    """Return a scaled integer as the number that it is."""
    return Decimal(number).scaleb(-scale, _EXACT)


def spread_and_mid(bid: Decimal, ask: Decimal) -> tuple[Decimal, Decimal]:
    """Return ask less bid, and half their sum, exact."""
    with localcontext(_EXACT):
        return ask - bid, (ask + bid) * Decimal("0.5")


def draw(ladder: Ladder, levels: int, width: int, columns: Columns | None = None) -> Text:
    """Draw a ladder: each level's price, size, size as a bar, and the sum of sizes from the best price to it.

    Parameters
    ----------
    ladder : Ladder
        What to draw.
    levels : int
        Levels a side at most.
    width : int
        Characters that there are; where they do not suffice the sums are left out, then the bars.
    columns : Columns, optional
        Those of a drawing before: they grow as is needed.

    Returns
    -------
    rich.text.Text
        Its lines.
    """
    columns = columns or Columns()
    asks, bids = _with_sums(ladder.asks[:levels]), _with_sums(ladder.bids[:levels])
    columns.take([(price, size) for price, size, _ in asks + bids])
    columns.total.take([total for _, _, total in asks + bids])
    room = _room(columns, width)
    largest = max((size for _, size, _ in asks + bids), default=Decimal(1))

    def rows(side: Sequence[tuple[Decimal, Decimal, Decimal]], style: str) -> list[Text]:
        return [
            room.row(
                Text(columns.price.text(price), style if number else f"bold {style}"),
                Text(columns.size.text(size)),
                Text(bar_of(float(size / largest), room.bar), style),
                Text(columns.total.text(total), DIM),
            )
            for number, (price, size, total) in enumerate(side)
        ]

    titles = ("price".rjust(columns.price.width), "size".rjust(columns.size.width), "")
    lines = [
        *_heading(ladder, width),
        room.row(*(Text(title, DIM) for title in (*titles, "sum".rjust(columns.total.width)))),
        *(rows(asks, ASK)[::-1] or [Text("no asks", DIM)]),
        _middle(ladder, columns.price.digits, room.whole),
        *(rows(bids, BID) or [Text("no bids", DIM)]),
        *(Text(note, DIM) for note in ladder.notes),
    ]
    return Text("\n").join(lines)


@dataclass(frozen=True)
class _Room:
    """What a line of a ladder has room for: a bar of so many characters, or none; a sum; in all."""

    bar: int
    has_sum: bool
    whole: int

    def row(self, price: Text, size: Text, bar: Text, total: Text) -> Text:
        parts = [price, size]
        if self.bar:
            bar.pad_right(self.bar - len(bar))
            parts.append(bar)
        if self.has_sum:
            parts.append(total)
        line = Text(_GAP).join(parts)
        line.rstrip()
        return line


def _room(columns: Columns, width: int) -> _Room:
    numbers = columns.price.width + len(_GAP) + columns.size.width
    of_sum = len(_GAP) + columns.total.width
    left = width - numbers - len(_GAP)
    has_sum = left - of_sum >= 2 * _BAR_LEAST
    bar = min(left - of_sum * has_sum, _BAR_PIPED if width == _UNWRAPPED else _BAR_MOST)
    bar = bar if bar >= _BAR_LEAST else 0
    return _Room(bar, has_sum, min(numbers + (len(_GAP) + bar if bar else 0) + of_sum * has_sum, width))


def _with_sums(levels: Sequence[Level]) -> list[tuple[Decimal, Decimal, Decimal]]:
    sums, total = [], Decimal(0)
    with localcontext(_EXACT):
        for price, size in levels:
            total += size
            sums.append((price, size, total))
    return sums


def _heading(ladder: Ladder, width: int) -> list[Text]:
    """Say whose book it is, when, and its status, in as few lines as there is room for."""
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


def _middle(ladder: Ladder, digits: int, width: int) -> Text:
    """Draw the line between the sides: the spread, also in basis points, and the mid, as there is room."""
    if not (ladder.bids and ladder.asks):
        return Text("─" * width, DIM)
    spread, mid = spread_and_mid(ladder.bids[0][0], ladder.asks[0][0])
    price = Column(digits=digits)
    price.take([mid])
    parts = [Text.assemble("spread ", (f"{spread:.{digits}f}", "bold"))]
    if spread < 0:
        parts[0].append(" crossed", "bold red")
    if mid > 0:
        parts.append(Text(f" ({float(spread / mid) * _BASIS_POINTS:.3g} bp)", DIM))
    parts.append(Text.assemble(f"{_GAP}mid ", (f"{mid:.{price.digits}f}", "bold")))
    while sum(map(len, parts)) > width and len(parts) > 1:
        del parts[1]
    told = Text().join(parts)
    rest = width - len(told) - 2
    if rest < 2:
        return told
    return Text.assemble(("─" * (rest // 2), DIM), " ", told, " ", ("─" * (rest - rest // 2), DIM))
