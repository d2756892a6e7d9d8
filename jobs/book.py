"""The job `book`: one symbol's ladder at one time, read without a JVM."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich.table import Table as RichTable

from deltabook.jobs.published import open_dataset, require_published
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.names import ALL_HOURS, HOUR, NANOSECONDS_PER_SECOND
from deltabook.schemas.tables import BOOKS, INSTRUMENTS, form_of
from deltabook.udfs.decimals import INT64_MAX

_BAR_WIDTH = 20
_LEAST_NANOSECONDS = 10**17  # 1973; a smaller number is a time in another unit
_FRACTION = re.compile(r"(:\d\d)\.(\d+)")


@dataclass(frozen=True)
class Ladder:
    """A book to be shown: a row of `books` with its prices and sizes as decimals, best first."""

    row: dict[str, Any]
    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]


def parse_time(text: str) -> int:
    """Read a time given as ISO 8601 (UTC unless it names an offset) or as ns since 1970 UTC.

    Raises
    ------
    SettingsError
        If it is neither.
    """
    if text.isascii() and text.isdecimal() and _LEAST_NANOSECONDS <= int(text) <= INT64_MAX:
        return int(text)
    # datetime keeps six digits of a fraction: the fraction is read apart.
    fraction = _FRACTION.search(text)
    try:
        moment = None if text.isdecimal() else datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    except ValueError:
        moment = None
    if moment is None:
        raise SettingsError(
            f"time {text!r}: expected ISO 8601 such as 2024-08-09T00:01:02.5Z, or ns since 1970 (19 digits)"
        )
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime.fromtimestamp(0, UTC)
    seconds = since.days * 86_400 + since.seconds
    nanoseconds = int(fraction[2].ljust(9, "0")[:9]) if fraction else 0
    return min(max(seconds * NANOSECONDS_PER_SECOND + nanoseconds, 0), INT64_MAX)


def show_time(nanoseconds: int) -> str:
    """Print a time in ns as ISO 8601, UTC, to the ns."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def hour_text(hour: int) -> str:
    """Print a symbol-hour's time as ISO 8601, UTC."""
    return "all hours" if hour == ALL_HOURS else f"{show_time(int(hour))[:19]}Z"


def book_at(warehouse: Path, symbol: str, at: int | None, exchange: str | None) -> Ladder:
    """Find the book that held at a time.

    Parameters
    ----------
    warehouse : Path
        Its published versions are read.
    symbol : str
        As in the tables.
    at : int or None
        Exchange time, ns since 1970 UTC; None: the last book.
    exchange : str or None
        Needed if several exchanges list the symbol.

    Returns
    -------
    Ladder
        The last row of `books` whose `order_time` is not after `at`.

    Raises
    ------
    WarehouseError
        If there is no such symbol (names those there are) or no book yet at that time.
    """
    versions = require_published(warehouse)
    instruments = _table(warehouse, INSTRUMENTS, versions).to_table().to_pylist()
    found = [row for row in instruments if row["symbol"] == symbol and exchange in (None, row["exchange"])]
    if not found:
        there = ", ".join(sorted(f"{row['exchange']} {row['symbol']}" for row in instruments))
        raise WarehouseError(
            f"no {' '.join(filter(None, (exchange, symbol)))} in {warehouse}; there are: {there}"
        )
    if len(found) > 1:
        venues = ", ".join(sorted(row["exchange"] for row in found))
        raise WarehouseError(f"{symbol} is listed on {venues}: choose one with --exchange")
    instrument = found[0]
    books = _table(warehouse, form_of(BOOKS, instrument["is_decimal"]), versions)
    chosen = (pc.field("symbol") == symbol) & (pc.field("exchange") == instrument["exchange"])
    if at is not None:
        chosen &= (pc.field("order_time") <= at) & (pc.field("hour") <= min(at, INT64_MAX - HOUR) + HOUR)
    hours = books.to_table(filter=chosen, columns=["hour"])
    if hours.num_rows == 0:
        when = show_time(at) if at is not None else "any time"
        raise WarehouseError(f"{symbol} has no book at {when}: its first book comes later")
    hour = pc.max(hours["hour"]).as_py()
    rows = books.to_table(filter=chosen & (pc.field("hour") == hour))
    # Ids order the rows; of rows at one id the last written holds, and that is the one of most trades seen.
    order = pc.sort_indices(
        rows, [("order_time", "ascending"), ("epoch", "ascending"), ("sequence", "ascending")]
    )
    row = rows.take(order[-1:]).to_pylist()[0]

    def levels(side: str) -> list[tuple[Decimal, Decimal]]:
        found = [row[f"{side}_{what}"] for what in ("prices", "sizes")]
        if not instrument["is_decimal"]:
            scales = instrument["price_scale"], instrument["size_scale"]
            found = [
                [Decimal(number).scaleb(-scale) for number in numbers]
                for numbers, scale in zip(found, scales, strict=True)
            ]
        return list(zip(*found, strict=True))

    return Ladder(row, levels("bid"), levels("ask"))


def render(ladder: Ladder, levels: int) -> RichTable:
    """Draw a ladder: asks above, bids below, sizes as bars.

    Parameters
    ----------
    ladder : Ladder
        What to draw.
    levels : int
        Levels a side at most.

    Returns
    -------
    rich.table.Table
        For a console.
    """
    row = ladder.row
    title = f"{row['exchange']} {row['symbol']}  {show_time(row['timestamp'])}  {row['status']}"
    caption = f"update {row['sequence']}, {row['bid_levels']:,} bid and {row['ask_levels']:,} ask levels"
    table = RichTable(
        title=title, caption=caption, show_edge=False, title_justify="left", caption_justify="left"
    )
    table.add_column("size", justify="right")
    table.add_column("price", justify="right")
    table.add_column("", width=_BAR_WIDTH)
    asks, bids = ladder.asks[:levels], ladder.bids[:levels]
    largest = max((size for _, size in asks + bids), default=Decimal(1))
    for side, colour in ((asks[::-1], "red"), (bids, "green")):
        for price, size in side:
            bar = "█" * max(1, int(_BAR_WIDTH * size / largest))
            table.add_row(f"{size:f}", f"[{colour}]{price:f}[/]", f"[{colour}]{bar}[/]")
        if colour == "red":
            table.add_section()
    return table


def _table(warehouse: Path, table: Table, versions: dict[str, int]) -> ds.Dataset:
    if table.name not in versions:
        raise WarehouseError(f"warehouse {warehouse} has no {table.name} yet: run `deltabook reconstruct`")
    return open_dataset(warehouse, table, versions[table.name])


if __name__ == "__main__":
    from deltabook.jobs.cli import main

    main("book")
