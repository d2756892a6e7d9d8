"""The command `book`: show the order book of one symbol at one time. Starts no Spark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from deltabook.schemas.tables import BOOKS, COVERAGE, form_of


@dataclass(frozen=True)
class BookAtTime:
    """The order book of a symbol at a requested time.

    Attributes
    ----------
    row : dict
        Row of the table `books` that holds the book.
    bids, asks : list of (Decimal, Decimal)
        Price and size of each level, best first.
    asked_time : int or None
        Requested time, ns since 1970 UTC; None: the last book was requested.
    end : int
        Time of the last recorded book update, ns since 1970 UTC.
    """

    row: dict[str, Any]
    bids: list[Level]
    asks: list[Level]
    asked_time: int | None
    end: int

    @property
    def time(self) -> int:
        """Exchange time of the row, or its `order_time` if the exchange gives no time; ns since 1970 UTC."""
        time: int = self.row["timestamp"]
        return self.row["order_time"] if time == NOT_GIVEN else time

    @property
    def age(self) -> int:
        """Time from the row's `order_time` to the requested time, ns; 0 if the last book was requested."""
        return 0 if self.asked_time is None else self.asked_time - int(self.row["order_time"])

    @property
    def is_after_the_end(self) -> bool:
        """Whether the requested time is after the last recorded book update."""
        return self.asked_time is not None and self.asked_time > self.end

    def age_notice(self) -> str:
        """Return a line with the age of the book; empty unless the requested time is after the recording."""
        if not self.is_after_the_end:
            return ""
        seconds = self.age / NANOSECONDS_PER_SECOND
        return f"{seconds:,.3f} s old: the recording ends at {format_time(self.end)}"

    def ladder(self) -> Ladder:
        """Return the book as a `Ladder`, which the console can draw."""
        row = self.row
        notes = [f"update {row['sequence']}, {row['bid_levels']:,} bid and {row['ask_levels']:,} ask levels"]
        if self.asked_time is not None and not self.is_after_the_end:
            notes.append(f"{format_duration(self.age)} old at {format_time(self.asked_time)}")
        name = f"{row['exchange']} {row['symbol']}"
        return Ladder(name, format_time(self.time), row["status"], self.bids, self.asks, notes)


def read_book(warehouse: Path, symbol: str, time: int | None, exchange: str | None) -> BookAtTime:
    """Return the order book of a symbol at a time.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables, which are read at their published versions.
    symbol : str
        Symbol as in the tables.
    time : int or None
        Exchange time, ns since 1970 UTC; None: the last book.
    exchange : str or None
        Needed if several exchanges list the symbol.

    Returns
    -------
    BookAtTime
        The last row of `books` whose `order_time` is not after `time`.

    Raises
    ------
    WarehouseError
        If the symbol does not exist, or its first book is later than `time`. If the symbol does not exist,
        the message lists the existing symbols.
    """
    instrument = find_instrument(warehouse, symbol, exchange)
    stored = TableReader(warehouse.absolute(), require_published(warehouse))
    table = form_of(BOOKS, instrument["is_decimal"])
    key = (instrument["exchange"], symbol)
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
    bids, asks = (_exact_levels(row, side, instrument) for side in ("bid", "ask"))
    return BookAtTime(row, bids, asks, time, max(*covered, row["order_time"]))


def _exact_levels(row: dict[str, Any], side: str, instrument: dict[str, Any]) -> list[Level]:
    """Return price and size of each level of one side, as exact decimals."""
    columns = [row[f"{side}_{name}"] for name in ("prices", "sizes")]
    if not instrument["is_decimal"]:
        scales = instrument["price_scale"], instrument["size_scale"]
        columns = [
            [unscale(number, scale) for number in numbers]
            for numbers, scale in zip(columns, scales, strict=True)
        ]
    return list(zip(*columns, strict=True))


def _read_last_row(
    stored: TableReader, table: Table, key: tuple[str, str], chunks: list[int], time: int | None
) -> dict[str, Any] | None:
    """Return the last row of `books` that is not after a time; None if there is none.

    Chunks are searched from the last to the first, so only the needed chunks are read.
    """
    order = ("order_time", "epoch", "sequence")
    for chunk in reversed(chunks):
        # A chunk is a range of ids: its first rows may be a little older than its start.
        if time is not None and chunk > min(time, INT64_MAX - HOUR) + HOUR:
            continue
        chosen = pc.scalar(True) if time is None else pc.field("order_time") <= time
        keys = _read_rows(stored, table, key, chunk, chosen, *order)
        if keys.num_rows:
            last = keys.sort_by([(name, "ascending") for name in order]).slice(keys.num_rows - 1)
            for name in order:
                chosen &= pc.field(name) == last[name][0]
            # Several rows may have the same id. The last one written is valid: it includes the most trades.
            return _read_rows(stored, table, key, chunk, chosen).to_pylist()[-1]  # type: ignore[no-any-return]
    return None


def _read_rows(
    stored: TableReader, table: Table, key: tuple[str, str], chunk: int, chosen: pc.Expression, *columns: str
) -> pa.Table:
    """Return the chosen rows of one chunk, with the given columns; without columns, with all."""
    exchange, symbol = key
    chosen &= (
        (pc.field("symbol") == symbol) & (pc.field("exchange") == exchange) & (pc.field("hour") == chunk)
    )
    return stored.dataset(table).to_table(filter=chosen, columns=list(columns) or None)
