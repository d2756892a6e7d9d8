"""The job `book`: one symbol's ladder at one time, read without a JVM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.jobs.console.formats import length_text, show_time
from deltabook.jobs.console.ladder_view import Ladder, Level, exact
from deltabook.jobs.tables.instrument_lookup import instrument_named
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.names import HOUR, NOT_GIVEN
from deltabook.schemas.tables import BOOKS, COVERAGE, form_of
from deltabook.udfs.numbers.decimal_text import INT64_MAX


@dataclass(frozen=True)
class Book:
    """The book that held at a time.

    Attributes
    ----------
    row : dict
        Its row of `books`.
    bids, asks : list of (Decimal, Decimal)
        Prices and sizes, best first.
    at : int or None
        The time that was asked for, ns since 1970 UTC; None: the last book.
    end : int
        Time of the last book update that was recorded, ns since 1970 UTC.
    """

    row: dict[str, Any]
    bids: list[Level]
    asks: list[Level]
    at: int | None
    end: int

    @property
    def time(self) -> int:
        """The exchange's time, or that of its place in the feed if the exchange gives none, ns."""
        time: int = self.row["timestamp"]
        return self.row["order_time"] if time == NOT_GIVEN else time

    @property
    def age(self) -> int:
        """How long before the time that was asked for its row was written, ns."""
        return 0 if self.at is None else self.at - int(self.row["order_time"])

    @property
    def is_after_the_end(self) -> bool:
        """Whether the time that was asked for is after all that was recorded."""
        return self.at is not None and self.at > self.end

    def ladder(self) -> Ladder:
        """Return what is drawn of it."""
        row = self.row
        told = [f"update {row['sequence']}, {row['bid_levels']:,} bid and {row['ask_levels']:,} ask levels"]
        if self.is_after_the_end:
            told.append(f"{length_text(self.age)} old: the recording ends at {show_time(self.end)}")
        elif self.at is not None:
            told.append(f"{length_text(self.age)} old at {show_time(self.at)}")
        name = f"{row['exchange']} {row['symbol']}"
        return Ladder(name, show_time(self.time), row["status"], self.bids, self.asks, told)


def book_at(warehouse: Path, symbol: str, at: int | None, exchange: str | None) -> Book:
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
    Book
        The last row of `books` whose `order_time` is not after `at`.

    Raises
    ------
    WarehouseError
        If there is no such symbol (names those there are) or no book yet at that time.
    """
    instrument = instrument_named(warehouse, symbol, exchange)
    stored = Stored(warehouse.absolute(), require_published(warehouse))
    table = form_of(BOOKS, instrument["is_decimal"])
    own = (instrument["exchange"], symbol)
    hours = [hour for *key, hour in stored.data_files(table) if tuple(key) == own]
    if not hours:
        raise WarehouseError(f"{' '.join(own)} has no books yet: run `deltabook reconstruct`")
    row = _last_row(stored, table, own, hours, at)
    if row is None:
        first = min(
            _rows(stored, table, own, hours[0], pc.scalar(True), "order_time")["order_time"].to_pylist()
        )
        raise WarehouseError(
            f"{' '.join(own)} has no book at {show_time(at or 0)}: its first book comes later, at "
            f"{show_time(first)}"
        )
    ends = [one["to_time"] for one in stored.rows(COVERAGE) if (one["exchange"], one["symbol"]) == own]

    def levels(side: str) -> list[Level]:
        found = [row[f"{side}_{what}"] for what in ("prices", "sizes")]
        if not instrument["is_decimal"]:
            scales = instrument["price_scale"], instrument["size_scale"]
            found = [
                [exact(number, scale) for number in numbers]
                for numbers, scale in zip(found, scales, strict=True)
            ]
        return list(zip(*found, strict=True))

    return Book(row, levels("bid"), levels("ask"), at, max(*ends, row["order_time"]))


def _last_row(
    stored: Stored, table: Table, own: tuple[str, str], hours: list[int], at: int | None
) -> dict[str, Any] | None:
    """Return the last row up to a time: of the last hour that has one, of which alone rows are read."""
    order = ("order_time", "epoch", "sequence")
    for hour in reversed(hours):
        # An hour is one of ids: its first rows may be a little older than its start.
        if at is not None and hour > min(at, INT64_MAX - HOUR) + HOUR:
            continue
        chosen = pc.scalar(True) if at is None else pc.field("order_time") <= at
        places = _rows(stored, table, own, hour, chosen, *order)
        if places.num_rows:
            last = places.sort_by([(name, "ascending") for name in order]).slice(places.num_rows - 1)
            for name in order:
                chosen &= pc.field(name) == last[name][0]
            # Of rows at one id the last written holds: it is the one of most trades seen.
            return _rows(stored, table, own, hour, chosen).to_pylist()[-1]  # type: ignore[no-any-return]
    return None


def _rows(
    stored: Stored, table: Table, own: tuple[str, str], hour: int, chosen: pc.Expression, *columns: str
) -> pa.Table:
    """Read rows of one hour; all their columns, or these."""
    exchange, symbol = own
    chosen &= (pc.field("symbol") == symbol) & (pc.field("exchange") == exchange) & (pc.field("hour") == hour)
    return stored.dataset(table).to_table(filter=chosen, columns=list(columns) or None)
