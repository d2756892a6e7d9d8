"""Write the SQL of views over published tables: prices and sizes as exact decimals, times as timestamps.

A relation is a table, a view or a function. A symbol-hour is one chunk, by default one hour, of one
instrument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple, cast

from deltabook.jobs.queries.functions import (
    BOOK_KNOWN,
    FEATURES,
    FUNCTIONS,
    PASSED,
    SESSIONS,
    SOUND,
    TRADES_WITH_BOOK,
)
from deltabook.jobs.tables.stored import TableReader, open_live_tables
from deltabook.schemas.columns import SIDE_NAMES, Table
from deltabook.schemas.names import EventType, Status, valid_name
from deltabook.schemas.rows import InstrumentRow
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, EVENTS, GRIDS, INSTRUMENTS, TABLES, both

_WIDE_LEVELS = 20
_INT64_DIGITS = 19
_WORD = re.compile(r"(\w+)\s*(\()?")
_DECIMAL = "DECIMAL(38,18)"
# The exchange's time, or `order_time` if the exchange gave none. DIV, because `/` would compute in doubles.
_TIME = "timestamp_micros(CASE WHEN timestamp = -1 THEN order_time ELSE timestamp END div 1000)"


class Relation(NamedTuple):
    """The SQL that defines a table, view or function.

    Attributes
    ----------
    kind : str
        `VIEW` or `FUNCTION`.
    head : str
        Parameters and result type of a function; empty for a view.
    text : str
        SQL of the relation's rows, or of a function's value.
    """

    kind: str
    head: str
    text: str


class Relations:
    """All tables, views and functions that a query may use, at the published table versions.

    Parameters
    ----------
    stored : TableReader
        Reader of the published table versions.
    """

    def __init__(self, stored: TableReader):
        self._names = [name for names in BY_KIND.values() for name in names]
        self._stored = stored
        self._made: dict[str, Relation] = {}

    def needed(self, names: Iterable[str]) -> list[str]:
        """Return the given relations and all relations on which they depend, in the order of creation.

        Each relation comes after all relations on which it depends.

        Parameters
        ----------
        names : iterable of str
            Names of relations.
        """
        ordered: dict[str, None] = {}

        def add(some: Iterable[str]) -> None:
            for name in some:
                if name not in ordered:
                    add(self._named_in(self[name].text) - {name})
                    ordered[name] = None

        wanted = {*names}
        add(name for name in self._names if name in wanted)
        return [*ordered]

    def mentioned(self, text: str) -> frozenset[str]:
        """Return the names of the relations in an SQL text; all relations if the text contains `show`.

        Parameters
        ----------
        text : str
            SQL text, which need not be valid.
        """
        return RELATIONS if "show" in text.lower() else frozenset(self._named_in(text.lower()))

    def _named_in(self, text: str) -> set[str]:
        """Return the names of the relations in an SQL text.

        The name of a function counts only if a parenthesis follows the name, because a column may have the
        name of a function.
        """
        words = _WORD.findall(text)
        return {name for name, call in words if name in self._names and (call or name not in FUNCTIONS)}

    def statement(self, name: str, temporary: bool = True) -> str:
        """Return the SQL that creates a relation.

        Parameters
        ----------
        name : str
            Name of the relation.
        temporary : bool
            If true, the relation exists in one session; if false, in all sessions of a server.
        """
        kind, head, text = self[name]
        lifetime, link = "TEMPORARY " if temporary else "", "AS" if kind == "VIEW" else "RETURN"
        return f"CREATE OR REPLACE {lifetime}{kind} {name}{head} {link} {text}"

    def with_failed_hours(self, names: Iterable[str]) -> list[str]:
        """Return the given relations whose rows may include symbol-hours that failed validation.

        Parameters
        ----------
        names : iterable of str
            Names of relations.
        """
        needed = {name: {*self.needed([name])} for name in sorted(names)}
        return [name for name, used in needed.items() if used & _CHUNK_TABLES and FAILED_HOURS not in used]

    def __getitem__(self, name: str) -> Relation:
        if name not in self._made:
            if name in FUNCTIONS:
                self._made[name] = Relation("FUNCTION", *FUNCTIONS[name])
            elif name in TABLES:
                self._made[name] = Relation("VIEW", "", self._table_sql(TABLES[name]))
            else:
                self._made[name] = Relation("VIEW", "", self._view_sql(name))
        return self._made[name]

    def _table_sql(self, table: Table, stored: TableReader | None = None) -> str:
        """Return the SQL of a table at the published version; a table that was not published has no rows."""
        stored = stored or self._stored
        if not stored.exists(table):
            columns = (f"CAST(NULL AS {column.type}) AS {column.name}" for column in table.columns)
            return f"SELECT {', '.join(columns)} WHERE false"
        path = stored.path(table).replace("`", "``")
        version = (stored.versions_read or {}).get(table.name)
        return f"SELECT * FROM delta.`{path}`" + (f" VERSION AS OF {version}" if version is not None else "")

    def _view_sql(self, name: str) -> str:
        """Return the SQL of a view."""
        if name == FAILED_HOURS:
            return self._failed_hours_sql()
        if name in _TEXT_VIEWS:
            return _TEXT_VIEWS[name]
        live = open_live_tables(self._stored.root)
        if name in LIVE_BOOKS:
            return self._table_sql(LIVE_BOOKS[name], live)
        if name == BOOK_LIVE:
            forms = [
                _decimal_columns(live).rows(f"({_LIVE_ROWS.format('live_books', BOOKS.name)})", _book_columns)
            ]
            if live.exists(both(BOOKS)[1]):
                rest = _LIVE_ROWS.format("live_books_decimal", both(BOOKS)[1].name)
                forms.append(_DecimalColumns(()).rows(f"({rest})", _book_columns))
            return " UNION ALL ".join(["SELECT * FROM book_marked", *forms])
        table, columns, condition = _TABLE_VIEWS[name]
        scaled, decimal = both(table)
        forms = [f"{self._decimals.rows(scaled.name, columns)}{condition}"]
        if self._stored.exists(decimal):
            forms.append(f"{_DecimalColumns(()).rows(decimal.name, columns)}{condition}")
        return " UNION ALL ".join(forms)

    def _failed_hours_sql(self) -> str:
        """Return the SQL of the view `failed_hours`: the failed symbol-hours as rows of constants."""
        failed = self._stored.failed_chunks()
        rows = [f"({_instrument_literals(exchange, symbol)}, {hour}L)" for exchange, symbol, hour in failed]
        if not rows:
            return "SELECT '' AS exchange, '' AS symbol, 0L AS hour WHERE false"
        return f"SELECT * FROM VALUES {', '.join(rows)} AS failed(exchange, symbol, hour)"

    @cached_property
    def _decimals(self) -> _DecimalColumns:
        return _decimal_columns(self._stored)


class _Scales(NamedTuple):
    """Scales of an instrument whose prices and sizes are stored as scaled integers."""

    exchange: str
    symbol: str
    price_scale: int
    size_scale: int


class _DecimalColumns:
    """Writes the SQL of a table's columns, with prices and sizes as exact decimals.

    A scaled integer is cast to DECIMAL(19,0), and multiplied by 10^-scale of the instrument. Numbers that are
    stored as decimals are not changed.

    Parameters
    ----------
    instruments : sequence of _Scales
        Scales of the instruments that store scaled integers; empty if the table stores decimals.
    wide : bool
        Whether all numbers get the type DECIMAL(38,18), for a union with rows that are stored as decimals.
    """

    def __init__(self, instruments: Sequence[_Scales], wide: bool = True):
        self._instruments, self.wide = instruments, wide

    def rows(self, relation: str, columns: Columns) -> str:
        """Return the SQL of all rows of `relation`: a table, or a relation with the columns of a table."""
        listed = ", ".join(columns(self))
        if not self._instruments:
            return f"SELECT {listed} FROM {relation}"
        scales = ", ".join(
            f"({_instrument_literals(exchange, symbol)}, {price_scale}, {size_scale})"
            for exchange, symbol, price_scale, size_scale in self._instruments
        )
        return (
            f"SELECT /*+ BROADCAST(scales) */ {listed} FROM {relation} "
            f"JOIN (VALUES {scales}) AS scales({', '.join(_Scales._fields)}) USING (exchange, symbol)"
        )

    def value(self, number: str, name: str) -> str:
        """Return the SQL of a number as a decimal.

        `number` is the SQL of the stored number. The number is a price if the column name `name` contains
        "price", otherwise a size.
        """
        if not self._instruments:
            return number
        is_price = "price" in name
        scale = "price_scale" if is_price else "size_scale"
        scales = sorted({row.price_scale if is_price else row.size_scale for row in self._instruments})
        # The type is just wide enough for an int64 at any of these scales. If the type were wider, Spark
        # would drop decimals of the difference of two prices.
        kind = f"DECIMAL({_INT64_DIGITS - scales[0] + scales[-1]},{scales[-1]})"
        # DECIMAL(19,0) times DECIMAL(s,s) is exact in DECIMAL(20+s,s).
        exact = [
            f"CAST(CAST({number} AS DECIMAL({_INT64_DIGITS},0)) * {Decimal(1).scaleb(-digits):f}BD AS {kind})"
            for digits in scales
        ]
        if len(exact) > 1:
            cases = " ".join(f"WHEN {digits} THEN {sql}" for digits, sql in zip(scales, exact, strict=True))
            exact = [f"CASE {scale} {cases} END"]
        return f"CAST({exact[0]} AS {_DECIMAL})" if self.wide else exact[0]

    def values(self, name: str) -> str:
        """Return the SQL of the array column `name`, with its numbers as decimals."""
        return f"transform({name}, number -> {self.value('number', name)})" if self._instruments else name


def _decimal_columns(stored: TableReader) -> _DecimalColumns:
    """Return an object that writes the SQL of decimal columns for all instruments of a warehouse."""
    instruments = cast(list[InstrumentRow], stored.rows(INSTRUMENTS))
    scales = [
        _Scales(row["exchange"], row["symbol"], row["price_scale"], row["size_scale"])
        for row in instruments
        if not row["is_decimal"]
    ]
    return _DecimalColumns(scales, wide=len(scales) < len(instruments))


Columns = Callable[[_DecimalColumns], Iterable[str]]
"""Function that takes a `_DecimalColumns` and returns the SQL of each column of a view."""


def _instrument_literals(exchange: str, symbol: str) -> str:
    """Return exchange and symbol as SQL literals."""
    return f"'{valid_name(exchange, 'exchange')}', '{valid_name(symbol, 'symbol')}'"


def _book_columns(exact: _DecimalColumns) -> Iterable[str]:
    """Yield the columns of `book`: the columns of `books`, the best levels, spread, mid and microprice."""
    yield from ("exchange", "symbol", f"{_TIME} AS time", "status")
    for name in _BEST:
        yield f"{exact.value(f'get({name}s, 0)', name)} AS {name}"
    if exact.wide:
        # Half of the sum of two prices must be exact in 38 digits. Prices that do not fit DECIMAL(35,18)
        # therefore have no mid and no spread.
        bid, ask = (f"try_cast({price} AS DECIMAL(35,18))" for price in ("bid_price", "ask_price"))
        yield f"CAST({ask} - {bid} AS {_DECIMAL}) AS spread"
    else:
        bid, ask = "bid_price", "ask_price"
        yield f"{ask} - {bid} AS spread"
    yield f"({ask} + {bid}) * 0.5BD AS mid"
    yield (
        "try_divide(double(bid_price) * double(ask_size) + double(ask_price) * double(bid_size), "
        "double(bid_size) + double(ask_size)) AS microprice"
    )
    yield from (f"{exact.values(name)} AS {name}" for name in SIDE_NAMES)
    yield from ("bid_levels", "ask_levels", "bid_known_levels", "ask_known_levels", "trade_count")
    yield from (f"{exact.value(name, name)} AS {name}" for name in ("buy_volume", "sell_volume"))
    yield f"{exact.values('ofi')} AS ofi"
    yield from ("crossed", "sequence", "timestamp", "received", "order_time", "epoch", "hour", "date")
    yield "cadence"


def _wide_columns(exact: _DecimalColumns) -> Iterable[str]:
    """Yield the columns of `book_wide_all`, which are those of the table `book` of Crypto Lake."""
    yield from ("exchange", "symbol")
    for name, clock in (("origin_time", "timestamp"), ("received_time", "received")):
        yield f"timestamp_micros(nullif({clock}, -1L) div 1000) AS {name}"
    yield "sequence AS sequence_number"
    for side in ("bid", "ask"):
        for level in range(_WIDE_LEVELS):
            for what in ("price", "size"):
                yield f"{exact.value(f'get({side}_{what}s, {level})', what)} AS {side}_{level}_{what}"
    yield from ("bid_known_levels", "ask_known_levels", "status", "order_time", "epoch", "hour", "date")


def _trade_columns(exact: _DecimalColumns) -> Iterable[str]:
    """Yield the columns of `trades_all`."""
    yield from ("exchange", "symbol", f"{_TIME} AS time", "data.side AS side")
    yield from (f"{exact.value(f'data.{name}', name)} AS {name}" for name in ("price", "size"))
    yield from ("data.trade_id AS trade_id", "timestamp", "received", "order_time", "epoch", "hour", "date")


def _opening_columns(exact: _DecimalColumns) -> Iterable[str]:
    """Yield the columns of `openings`. In a checkpoint, the best bid is the last bid."""
    yield from ("exchange", "symbol", "hour")
    labels = " ".join(f"WHEN {int(status)} THEN '{status.label}'" for status in Status)
    yield f"CASE status {labels} END AS status"
    for name in _BEST:
        best = f"get({name}s, size({name}s) - 1)" if name.startswith("bid") else f"get({name}s, 0)"
        yield f"{exact.value(best, name)} AS {name}"
    yield from ("epoch", "sequence")


_BEST = ("bid_size", "bid_price", "ask_price", "ask_size")
_TABLE_VIEWS: dict[str, tuple[Table, Columns, str]] = {
    "book_all": (BOOKS, _book_columns, ""),
    "grid": (GRIDS, _book_columns, ""),
    "book_wide_all": (BOOKS, _wide_columns, ""),
    "trades_all": (EVENTS, _trade_columns, f" WHERE event_type = '{EventType.TRADE}'"),
    "openings": (CHECKPOINTS, _opening_columns, " WHERE event = 0"),
}
"""Maps the name of each view of one table, and of the `_decimal` table, to (table, columns, condition)."""

_TEXT_VIEWS = {
    "book": SOUND.format("book"),
    "book_known": BOOK_KNOWN,
    "book_marked": PASSED.format("book"),
    "book_wide": SOUND.format("book_wide"),
    "trades": PASSED.format("trades"),
    "features": FEATURES,
    "trades_with_book": TRADES_WITH_BOOK,
    "sessions": SESSIONS,
}
FAILED_HOURS = "failed_hours"
_CHUNK_TABLES = {table.name for rows in (BOOKS, GRIDS, EVENTS, CHECKPOINTS) for table in both(rows)}
"""Names of the tables whose chunks can fail validation."""
LIVE_BOOKS = {f"live_{table.name}": table for table in both(BOOKS)}
"""Maps the names of the views of live books (command `live`) to their tables."""
_LIVE_ROWS = """SELECT live.* FROM {0} AS live LEFT JOIN (
    SELECT exchange, symbol, hour, max(struct(order_time, sequence)) AS last FROM {1} GROUP BY ALL
) USING (exchange, symbol, hour) WHERE last IS NULL OR struct(live.order_time, live.sequence) > last"""
"""Template of SQL that selects the live rows that are newer than the last published row of the chunk."""
BOOK_LIVE = "book_live"
VIEWS = (*_TABLE_VIEWS, *_TEXT_VIEWS, FAILED_HOURS, *LIVE_BOOKS, BOOK_LIVE)
BY_KIND: dict[str, list[str]] = {"tables": [*TABLES], "views": [*VIEWS], "functions": [*FUNCTIONS]}
"""Maps each kind of relation to the names of its relations."""
RELATIONS = frozenset((*TABLES, *VIEWS, *FUNCTIONS))
"""Names of every table, view and function of a warehouse."""
