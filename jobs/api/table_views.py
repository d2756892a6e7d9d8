"""Views of tables: the stored columns and the computed columns that a result shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.columns import Column, Table
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import NOT_GIVEN, EventType
from deltabook.schemas.tables import BOOKS, EVENTS, GRIDS, TABLES

_TIME_COLUMNS = ("order_time", "timestamp", "from_time", "hour", "started")
"""Time columns. `start` and `end` apply to the first column of this list that a table has."""
_TIME_TYPE = pa.timestamp("ns", "UTC")


class Derived(NamedTuple):
    """A column that is computed from stored columns.

    Attributes
    ----------
    sources : tuple of str
        Names of the stored columns that the computation needs.
    compute : callable
        Function that takes a table with these columns and returns the values of the computed column. Prices
        and sizes already have the types of the result.
    """

    sources: tuple[str, ...]
    compute: Callable[[pa.Table], pa.ChunkedArray]


@dataclass(frozen=True)
class View:
    """The rows and columns of a stored table that a result shows.

    Attributes
    ----------
    table : Table
        The stored table with scaled integers, such as `books`, not the table `books_decimal`.
    columns : tuple of str
        Names of the columns that are shown, in order.
    derived : mapping
        Maps the name of each computed column to its computation.
    event_type : EventType or None
        Show only events of this type, with each field of `data` as a column. None: show all rows, with the
        stored columns.
    names_failed : bool
        Whether the result lists the chunks that failed a check.
    """

    table: Table
    columns: tuple[str, ...]
    derived: Mapping[str, Derived] = field(default_factory=dict)
    event_type: EventType | None = None
    names_failed: bool = False

    @property
    def time_column(self) -> str | None:
        """Name of the column that `start` and `end` apply to; None if the table has no such column."""
        return next((name for name in _TIME_COLUMNS if name in self.table.names), None)

    def stored_columns(self) -> dict[str, Column]:
        """Return a dict that maps the name of each stored column in a result to the column's declaration.

        Examples
        --------
        >>> TRADES_VIEW.stored_columns()["price"].scale
        'price_scale'
        """
        columns = {column.name: column for column in self.table.columns}
        if self.event_type is not None:
            columns |= {one.name: one for one in columns.pop("data").fields}
        return columns

    def expression_of(self, name: str) -> pc.Expression:
        """Return the Arrow expression that reads a stored column.

        Parameters
        ----------
        name : str
            Name of the column in a result.

        Examples
        --------
        >>> str(TRADES_VIEW.expression_of("hour"))
        'hour'
        """
        return pc.field(name) if name in self.table.names else pc.field("data", name)


def _event_time(rows: pa.Table) -> pa.ChunkedArray:
    """Return the exchange's time of each row, in UTC, or `order_time` if the exchange gives no time."""
    is_missing = pc.equal(rows["timestamp"], NOT_GIVEN)
    return pc.if_else(is_missing, rows["order_time"], rows["timestamp"]).cast(_TIME_TYPE)


def _first_of(name: str) -> Derived:
    """Return a computed column that contains the first number of each list in the stored column `name`.

    In a list of prices or sizes, the first number belongs to the best level. An empty list results in null.
    """

    def compute(rows: pa.Table) -> pa.ChunkedArray:
        number_type = rows[name].type.value_type
        return pa.chunked_array([_first_elements(chunk) for chunk in rows[name].chunks], type=number_type)

    return Derived((name,), compute)


def _first_elements(lists: pa.Array) -> pa.Array:
    """Return the first element of each list; null for an empty list."""
    is_empty = pc.equal(pc.list_value_length(lists), 0)
    first = pc.if_else(is_empty, pa.scalar(None, lists.offsets.type), lists.offsets[:-1])
    return lists.values.take(first)


_TIME = {"time": Derived(("timestamp", "order_time"), _event_time)}
_BEST = {name: _first_of(f"{name}s") for name in ("bid_size", "bid_price", "ask_price", "ask_size")}
_BOOK_COLUMNS = (
    *("exchange", "symbol", "time", "status", *_BEST),
    *("bid_prices", "bid_sizes", "ask_prices", "ask_sizes", "bid_levels", "ask_levels"),
    *("trade_count", "buy_volume", "sell_volume", "ofi", "crossed", "sequence"),
    *("timestamp", "received", "order_time", "epoch", "hour", "date", "cadence"),
)
BOOKS_VIEW = View(BOOKS, _BOOK_COLUMNS, _TIME | _BEST, names_failed=True)
"""Rows of `books`, with the time and the best prices and sizes, named as in the SQL view `book_all`."""
GRIDS_VIEW = View(GRIDS, _BOOK_COLUMNS, _TIME | _BEST, names_failed=True)
"""Rows of `grids`, with the same columns as `BOOKS_VIEW`."""
TRADES_VIEW = View(
    EVENTS,
    (
        *("exchange", "symbol", "time", "side", "price", "size", "trade_id"),
        *("timestamp", "received", "order_time", "epoch", "hour", "date"),
    ),
    _TIME,
    EventType.TRADE,
    names_failed=True,
)
"""The trades of the table `events`, with the columns of the SQL view `trades_all`."""


def view_of(name: str) -> View:
    """Return a view that shows a table with its stored columns.

    Parameters
    ----------
    name : str
        Name of the table, without `_decimal`. The view includes rows of the `_decimal` table.

    Raises
    ------
    SettingsError
        If there is no such table.

    Examples
    --------
    >>> view_of("gaps").columns[:3]
    ('exchange', 'symbol', 'hour')
    """
    if name not in TABLES or name.endswith("_decimal"):
        known = ", ".join(one for one in TABLES if not one.endswith("_decimal"))
        raise SettingsError(f"no table {name!r}: expected one of {known}")
    table = TABLES[name]
    return View(table, tuple(table.names), names_failed=table in (BOOKS, GRIDS, EVENTS))
