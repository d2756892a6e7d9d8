"""The command `book`: show the order book of one symbol at one time. Starts no Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.jobs.console.formats import format_duration, format_time
from deltabook.jobs.console.ladder_view import Ladder, Level, unscale
from deltabook.jobs.tables.instrument_lookup import find_instrument
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.names import HOUR, INT64_MAX, NANOSECONDS_PER_SECOND, NOT_GIVEN
from deltabook.schemas.rows import InstrumentRow
from deltabook.schemas.tables import BOOKS, COVERAGE, form_of

Numbers = Sequence[int] | Sequence[Decimal]
"""Prices or sizes of one side, best first: scaled integers in `books`, decimals in `books_decimal`."""


class BookRow(TypedDict):
    """The columns of a row of `books` or `books_decimal` that identify the book and give its levels."""

    exchange: str
    symbol: str
    hour: int
    timestamp: int
    order_time: int
    sequence: int
    bid_prices: Numbers
    bid_sizes: Numbers
    ask_prices: Numbers
    ask_sizes: Numbers
    bid_levels: int
    ask_levels: int
    bid_known_levels: int
    ask_known_levels: int
    status: str


@dataclass(frozen=True)
class BookAtTime:
    """The order book of a symbol at a requested time.

    Attributes
    ----------
    row : BookRow
        The book's row of `books` or `books_decimal`. In addition to the declared keys, the dict has all other
        columns of the table.
    bids, asks : list of (Decimal, Decimal)
        Price and size of each level, best first.
    asked_time : int or None
        Requested time, ns since 1970 UTC; None if the last book was requested.
    end : int
        Time of the last book update in the recording, ns since 1970 UTC.
    """

    row: BookRow
    bids: list[Level]
    asks: list[Level]
    asked_time: int | None
    end: int

    @property
    def time(self) -> int:
        """Exchange time of the book, or `order_time` if the exchange gives no time; ns since 1970 UTC."""
        row = self.row
        return row["order_time"] if row["timestamp"] == NOT_GIVEN else row["timestamp"]

    @property
    def age(self) -> int:
        """Requested time minus the `order_time` of the book, ns; 0 if the last book was requested."""
        return 0 if self.asked_time is None else self.asked_time - self.row["order_time"]

    @property
    def is_after_the_end(self) -> bool:
        """Whether the requested time is after the last book update in the recording."""
        return self.asked_time is not None and self.asked_time > self.end

    def age_notice(self) -> str:
        """Return a line with the book's age; empty unless the requested time is after the recording's end."""
        if not self.is_after_the_end:
            return ""
        seconds = self.age / NANOSECONDS_PER_SECOND
        return f"{seconds:,.3f} s old: the recording ends at {format_time(self.end)}"

    def ladder(self) -> Ladder:
        """Return the book with name, time and notes, in the form that `draw_ladder` draws."""
        row = self.row
        notes = [
            f"update {row['sequence']}, {row['bid_levels']:,} bid and {row['ask_levels']:,} ask levels",
            f"known: the best {row['bid_known_levels']:,} of {len(self.bids):,} bids, "
            f"{row['ask_known_levels']:,} of {len(self.asks):,} asks",
        ]
        if self.asked_time is not None and not self.is_after_the_end:
            notes.append(f"{format_duration(self.age)} old at {format_time(self.asked_time)}")
        name = f"{row['exchange']} {row['symbol']}"
        return Ladder(name, format_time(self.time), row["status"], self.bids, self.asks, notes)


def read_book(warehouse: Path, symbol: str, time: int | None, exchange: str | None) -> BookAtTime:
    """Return the order book of a symbol at a time.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables. The published table versions are read.
    symbol : str
        Symbol as in the tables.
    time : int or None
        Time, ns since 1970 UTC, which is compared with `order_time`. None: return the last book.
    exchange : str or None
        Exchange of the symbol; required only if several exchanges list the symbol.

    Returns
    -------
    BookAtTime
        The last row of `books` whose `order_time` is not after `time`.

    Raises
    ------
    WarehouseError
        If the symbol does not exist (the message lists the existing symbols), if the symbol has no books yet,
        or if the symbol's first book is later than `time`.
    """
    instrument = find_instrument(warehouse, symbol, exchange)
    stored = TableReader(warehouse.absolute(), require_published(warehouse))
    table = form_of(BOOKS, instrument["is_decimal"])
    key = (instrument["exchange"], instrument["symbol"])
    chunks = [chunk for *own, chunk in stored.data_files(table) if tuple(own) == key]
    if not chunks:
        raise WarehouseError(f"{' '.join(key)} has no books yet: run `deltabook reconstruct`")
    row = _read_last_row(stored, table, key, chunks, time)
    if row is None:
        times = _read_rows(stored, table, key, chunks[0], pc.scalar(True), "order_time")["order_time"]
        raise WarehouseError(
            f"{' '.join(key)} has no book at {format_time(time or 0)}: its first book comes later, at "
            f"{format_time(min(times.to_pylist()))}"
        )
    covered = [
        chunk["to_time"] for chunk in stored.rows(COVERAGE) if (chunk["exchange"], chunk["symbol"]) == key
    ]
    bids = _exact_levels(row["bid_prices"], row["bid_sizes"], instrument)
    asks = _exact_levels(row["ask_prices"], row["ask_sizes"], instrument)
    return BookAtTime(row, bids, asks, time, max(*covered, row["order_time"]))


def _exact_levels(prices: Numbers, sizes: Numbers, instrument: InstrumentRow) -> list[Level]:
    """Return the price and size of each level of one side, as exact decimals."""
    exact_prices = _to_decimals(prices, instrument["price_scale"])
    return list(zip(exact_prices, _to_decimals(sizes, instrument["size_scale"]), strict=True))


def _to_decimals(numbers: Numbers, scale: int) -> list[Decimal]:
    return [number if isinstance(number, Decimal) else unscale(number, scale) for number in numbers]


def _read_last_row(
    stored: TableReader, table: Table, key: tuple[str, str], chunks: list[int], time: int | None
) -> BookRow | None:
    """Return the last row of `books` whose `order_time` is at most `time`; None if no row is that early.

    The search starts at the last chunk, goes back in time, and stops when a chunk has such a row.
    """
    order = ("order_time", "epoch", "sequence")
    for chunk in reversed(chunks):
        # A chunk is a range of ids, so its first rows may be a little older than the chunk's start.
        if time is not None and chunk > min(time, INT64_MAX - HOUR) + HOUR:
            continue
        chosen = pc.scalar(True) if time is None else pc.field("order_time") <= time
        keys = _read_rows(stored, table, key, chunk, chosen, *order)
        if keys.num_rows:
            last = keys.sort_by([(name, "ascending") for name in order]).slice(keys.num_rows - 1)
            for name in order:
                chosen &= pc.field(name) == last[name][0]
            # Several rows may have the same id. The last of these rows counts the most trades.
            row: BookRow = _read_rows(stored, table, key, chunk, chosen).to_pylist()[-1]
            return row
    return None


def _read_rows(
    stored: TableReader, table: Table, key: tuple[str, str], chunk: int, chosen: pc.Expression, *columns: str
) -> pa.Table:
    """Return the rows of one chunk that a filter selects, with the given columns (default: all columns)."""
    exchange, symbol = key
    chosen &= (
        (pc.field("symbol") == symbol) & (pc.field("exchange") == exchange) & (pc.field("hour") == chunk)
    )
    return stored.dataset(table).to_table(filter=chosen, columns=list(columns) or None)
