"""Views for people over the published tables, as SQL text: exact decimals, times as timestamps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from deltabook.jobs.queries.functions import FEATURES, FUNCTIONS, PASSED, TRADES_WITH_BOOK
from deltabook.jobs.tables.stored import Stored, live_tables
from deltabook.schemas.columns import SIDE_NAMES, Table
from deltabook.schemas.names import EventType, Status, valid_name
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, EVENTS, GRIDS, INSTRUMENTS, TABLES, both

_WIDE_LEVELS = 20
_INT64_DIGITS = 19
_WORD = re.compile(r"(\w+)\s*(\()?")
_DECIMAL = "DECIMAL(38,18)"
# The exchange's time, or that of the message's place in the feed if it has none; `/` would go through double.
_TIME = "timestamp_micros(CASE WHEN timestamp = -1 THEN order_time ELSE timestamp END div 1000)"


class Relation(NamedTuple):
    """A table, view or function: what it is, and its SQL.

    Attributes
    ----------
    kind : str
        VIEW or FUNCTION.
    head : str
        Parameters and result of a function.
    text : str
        What it selects or returns.
    """

    kind: str
    head: str
    text: str


class Relations:
    """Every relation that can be asked, as published.

    Parameters
    ----------
    stored : Stored
        Reads the published versions.
    """

    def __init__(self, stored: Stored):
        self._names = [name for names in BY_KIND.values() for name in names]
        self._stored = stored
        self._made: dict[str, Relation] = {}

    def needed(self, names: Iterable[str]) -> list[str]:
        """List some relations and all that those are made from, each after what it needs.

        Parameters
        ----------
        names : iterable of str
            Names of relations.
        """
        found: dict[str, None] = {}

        def add(some: Iterable[str]) -> None:
            for name in some:
                if name not in found:
                    add(self._named_in(self[name].text) - {name})
                    found[name] = None

        wanted = {*names}
        add(name for name in self._names if name in wanted)
        return [*found]

    def mentioned(self, text: str) -> frozenset[str]:
        """Return the names of relations in any SQL text, and of all if it has the word `show`.

        Parameters
        ----------
        text : str
            SQL that was not parsed.
        """
        return RELATIONS if "show" in text.lower() else frozenset(self._named_in(text.lower()))

    def _named_in(self, text: str) -> set[str]:
        """Return the names in a text; some functions' are those of columns too, and have a parenthesis."""
        found = _WORD.findall(text)
        return {name for name, call in found if name in self._names and (call or name not in FUNCTIONS)}

    def statement(self, name: str, temporary: bool = True) -> str:
        """Return the SQL that creates a relation.

        Parameters
        ----------
        name : str
            Which.
        temporary : bool
            Whether for one session, or for all of a server's.
        """
        kind, head, text = self[name]
        lifetime, link = "TEMPORARY " if temporary else "", "AS" if kind == "VIEW" else "RETURN"
        return f"CREATE OR REPLACE {lifetime}{kind} {name}{head} {link} {text}"

    def __getitem__(self, name: str) -> Relation:
        if name not in self._made:
            if name in FUNCTIONS:
                self._made[name] = Relation("FUNCTION", *FUNCTIONS[name])
            elif name in TABLES:
                self._made[name] = Relation("VIEW", "", self._rows_of(TABLES[name]))
            else:
                self._made[name] = Relation("VIEW", "", self._view(name))
        return self._made[name]

    def _rows_of(self, table: Table, stored: Stored | None = None) -> str:
        """Return the rows of a table at its published version; none if it was not made by then."""
        stored = stored or self._stored
        if not stored.exists(table):
            columns = (f"CAST(NULL AS {column.type}) AS {column.name}" for column in table.columns)
            return f"SELECT {', '.join(columns)} WHERE false"
        path = stored.path(table).replace("`", "``")
        version = (stored.versions_read or {}).get(table.name)
        return f"SELECT * FROM delta.`{path}`" + (f" VERSION AS OF {version}" if version is not None else "")

    def _view(self, name: str) -> str:
        if name == FAILED_HOURS:
            return self._failed_hours()
        if name in _TEXTS:
            return _TEXTS[name]
        live = live_tables(self._stored.root)
        if name in LIVE_BOOKS:
            return self._rows_of(LIVE_BOOKS[name], live)
        if name == BOOK_LIVE:
            forms = [_exact(live).rows(f"({_REST.format('live_books', BOOKS.name)})", _book)]
            if live.exists(both(BOOKS)[1]):
                rest = _REST.format("live_books_decimal", both(BOOKS)[1].name)
                forms.append(_Exact(()).rows(f"({rest})", _book))
            return " UNION ALL ".join(["SELECT * FROM book", *forms])
        table, columns, condition = _SHOWN[name]
        scaled, decimal = both(table)
        forms = [f"{self._exact.rows(scaled.name, columns)}{condition}"]
        if self._stored.exists(decimal):
            forms.append(f"{_Exact(()).rows(decimal.name, columns)}{condition}")
        return " UNION ALL ".join(forms)

    def _failed_hours(self) -> str:
        failed = self._stored.failed_hours()
        rows = [f"({_named(exchange, symbol)}, {hour}L)" for exchange, symbol, hour in failed]
        if not rows:
            return "SELECT '' AS exchange, '' AS symbol, 0L AS hour WHERE false"
        return f"SELECT * FROM VALUES {', '.join(rows)} AS failed(exchange, symbol, hour)"

    @cached_property
    def _exact(self) -> _Exact:
        return _exact(self._stored)


class _Exact:
    """Prices and sizes of a table as exact decimals.

    Scaled integers are DECIMAL(19,0) times a literal, for each scale there is; decimals are what they are.

    Parameters
    ----------
    instruments : list of (exchange, symbol, price_scale, size_scale)
        Those of scaled integers; none: the table is of decimals.
    wide : bool
        Whether its rows stand beside those of decimals, and have their type.
    """

    def __init__(self, instruments: Sequence[tuple[Any, ...]], wide: bool = True):
        self._instruments, self.wide = instruments, wide

    def rows(self, relation: str, columns: Columns) -> str:
        """Return the rows of a table, or of another relation that has its columns."""
        listed = ", ".join(columns(self))
        if not self._instruments:
            return f"SELECT {listed} FROM {relation}"
        known = self._instruments
        scales = ", ".join(f"({_named(*names)}, {price}, {size})" for *names, price, size in known)
        return (
            f"SELECT /*+ BROADCAST(scales) */ {listed} FROM {relation} "
            f"JOIN (VALUES {scales}) AS scales({', '.join(_SCALED)}) USING (exchange, symbol)"
        )

    def value(self, number: str, name: str) -> str:
        """Return a number as a decimal, by the name of its column."""
        if not self._instruments:
            return number
        scale = "price_scale" if "price" in name else "size_scale"
        scales = sorted({one[_SCALED.index(scale)] for one in self._instruments})
        # Any int64 at any of these scales, and not a digit more: wider types lose decimals in a difference.
        kind = f"DECIMAL({_INT64_DIGITS - scales[0] + scales[-1]},{scales[-1]})"
        # DECIMAL(19,0) times DECIMAL(s,s) is exact in DECIMAL(20+s,s).
        exact = [
            f"CAST(CAST({number} AS DECIMAL({_INT64_DIGITS},0)) * {Decimal(1).scaleb(-digits):f}BD AS {kind})"
            for digits in scales
        ]
        if len(exact) > 1:
            cases = " ".join(f"WHEN {digits} THEN {one}" for digits, one in zip(scales, exact, strict=True))
            exact = [f"CASE {scale} {cases} END"]
        return f"CAST({exact[0]} AS {_DECIMAL})" if self.wide else exact[0]

    def values(self, name: str) -> str:
        """Return an array of numbers as decimals."""
        return f"transform({name}, number -> {self.value('number', name)})" if self._instruments else name


def _exact(stored: Stored) -> _Exact:
    """Return how the numbers of all instruments of some tables are shown."""
    instruments = stored.rows(INSTRUMENTS)
    known = [row for row in instruments if not row["is_decimal"]]
    scales = [tuple(row[name] for name in _SCALED) for row in known]
    return _Exact(scales, wide=len(known) < len(instruments))


Columns = Callable[[_Exact], Iterable[str]]


def _named(exchange: str, symbol: str) -> str:
    return f"'{valid_name(exchange, 'exchange')}', '{valid_name(symbol, 'symbol')}'"


def _book(exact: _Exact) -> Iterable[str]:
    """List the columns of `book`: those of `books`, the best of both sides, and what lies between them."""
    yield from ("exchange", "symbol", f"{_TIME} AS time", "status")
    for name in _BEST:
        yield f"{exact.value(f'get({name}s, 0)', name)} AS {name}"
    if exact.wide:
        # So that half a sum is exact in 38 digits; prices too long for that have neither mid nor spread.
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
    yield from ("bid_levels", "ask_levels", "trade_count")
    yield from (f"{exact.value(name, name)} AS {name}" for name in ("buy_volume", "sell_volume"))
    yield f"{exact.values('ofi')} AS ofi"
    yield from ("crossed", "sequence", "timestamp", "received", "order_time", "epoch", "hour", "date")
    yield "cadence"


def _wide(exact: _Exact) -> Iterable[str]:
    """List the columns of `book_wide_all`: a row of `books` in the columns of Crypto Lake's `book`."""
    yield from ("exchange", "symbol")
    for name, clock in (("origin_time", "timestamp"), ("received_time", "received")):
        yield f"timestamp_micros(nullif({clock}, -1L) div 1000) AS {name}"
    yield "sequence AS sequence_number"
    for side in ("bid", "ask"):
        for level in range(_WIDE_LEVELS):
            for what in ("price", "size"):
                yield f"{exact.value(f'get({side}_{what}s, {level})', what)} AS {side}_{level}_{what}"
    yield from ("status", "order_time", "epoch", "hour", "date")


def _trades(exact: _Exact) -> Iterable[str]:
    """List the columns of `trades`."""
    yield from ("exchange", "symbol", f"{_TIME} AS time", "data.side AS side")
    yield from (f"{exact.value(f'data.{name}', name)} AS {name}" for name in ("price", "size"))
    yield from ("data.trade_id AS trade_id", "timestamp", "received", "order_time", "epoch", "hour", "date")


def _openings(exact: _Exact) -> Iterable[str]:
    """List the columns of `openings`. The bids of a checkpoint end with the best."""
    yield from ("exchange", "symbol", "hour")
    labels = " ".join(f"WHEN {int(status)} THEN '{status.label}'" for status in Status)
    yield f"CASE status {labels} END AS status"
    for name in _BEST:
        best = f"get({name}s, size({name}s) - 1)" if name.startswith("bid") else f"get({name}s, 0)"
        yield f"{exact.value(best, name)} AS {name}"
    yield from ("epoch", "sequence")


_SCALED = ("exchange", "symbol", "price_scale", "size_scale")
_BEST = ("bid_size", "bid_price", "ask_price", "ask_size")
_SHOWN: dict[str, tuple[Table, Columns, str]] = {
    "book_all": (BOOKS, _book, ""),
    "grid": (GRIDS, _book, ""),
    "book_wide_all": (BOOKS, _wide, ""),
    "trades_all": (EVENTS, _trades, f" WHERE event_type = '{EventType.TRADE}'"),
    "openings": (CHECKPOINTS, _openings, " WHERE event = 0"),
}
"""Views of one table and of the one of decimals beside it."""

_TEXTS = {name: PASSED.format(name) for name in ("book", "trades", "book_wide")} | {
    "features": FEATURES,
    "trades_with_book": TRADES_WITH_BOOK,
}
FAILED_HOURS = "failed_hours"
LIVE_BOOKS = {f"live_{table.name}": table for table in both(BOOKS)}
"""Tables of books that go on (see `jobs.live`), by the names of their views."""
_REST = """SELECT live.* FROM {0} AS live LEFT JOIN (
    SELECT exchange, symbol, hour, max(struct(order_time, sequence)) AS last FROM {1} GROUP BY ALL
) USING (exchange, symbol, hour) WHERE last IS NULL OR struct(live.order_time, live.sequence) > last"""
"""Rows of live books beyond what was published of their symbol-hour."""
BOOK_LIVE = "book_live"
VIEWS = (*_SHOWN, *_TEXTS, FAILED_HOURS, *LIVE_BOOKS, BOOK_LIVE)
BY_KIND: dict[str, list[str]] = {"tables": [*TABLES], "views": [*VIEWS], "functions": [*FUNCTIONS]}
"""Names of all relations, by what they are."""
RELATIONS = frozenset((*TABLES, *VIEWS, *FUNCTIONS))
"""Names of every table, view and function of a warehouse."""
