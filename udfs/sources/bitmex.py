"""Source `bitmex`: reads captures of BitMEX's WebSocket.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, tables `orderBookL2` and `orderBookL2_25`: `action` is `partial` (replaces the whole book),
  `insert`, `update` or `delete`. A row names its level by `id`. Rows of `update` and `delete` may lack the
  price; the source knows it from the row that inserted the level. A row with an unknown `id` is unreadable.
- Both tables of one instrument in a file: the source reads the table that comes first and skips the other.
- Order: messages have no ids. They stay in file order, and their sequence is the receive time (see
  `common.receive_order`), or `timestamp` if a line has none. No id shows a lost message, so the book is
  `unverifiable`.
- Trades, table `trade`: `side` is the aggressor side, `trdMatchID` the id. The trades of `partial` happened
  before the subscription.
- Sizes are contracts, as printed.
- Symbols: XBTUSD is BTC-USD-PERP, XBTUSDT is BTC-USDT-PERP, XBT_USDT (spot) is BTC-USDT. Symbols with an
  expiry such as XRPU21 are not changed.
- Skipped: `quote` (it has no id; a quote may be sent before the change of the book), `instrument` and all
  other tables, and answers.
- Unreadable lines go to quarantine, and their book is marked as damaged. If an unreadable line does not show
  its symbol, every book of the file is marked as damaged.

Rules: www.bitmex.com/app/wsAPI: orderBookL2, trade, response format.
"""

from __future__ import annotations

import re

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line, parse_iso_time
from deltabook.udfs.sources.common.json_decoding import JsonObject, decode_message
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_files import (
    NO_BOOK,
    MessageSource,
    excerpt,
    hash_id,
    read_integer,
    read_text,
)
from deltabook.udfs.sources.common.receive_ordered import ReceiveOrderedParser
from deltabook.udfs.sources.common.symbols import canonical_symbol

_EXCHANGE = "BITMEX"
_BOOKS = ("orderBookL2", "orderBookL2_25")
_ACTIONS = ("partial", "insert", "update", "delete")
_SIDES = {"Buy": "buy", "Sell": "sell"}
_DATED = re.compile(r"[A-Z0-9]+[FGHJKMNQUVXZ][0-9]{2}")
_NAMED = re.compile(rb'"table"\s*:\s*"([A-Za-z0-9_]+)".*?"symbol"\s*:\s*"([A-Z0-9_]{1,40})"', re.DOTALL)


class _BitmexParser(ReceiveOrderedParser):
    """Parser of one BitMEX file."""

    marks_damage = True

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.prices: dict[str, dict[int, object]] = {}
        """{symbol: {id of a level: its price as printed}}."""
        self.tables: dict[str, str] = {}
        """{symbol: the only book table that is read, which is the symbol's first table in the file}."""

    def message(self, line: Line) -> None:
        self.note_receive_time(line)
        message = decode_message(line.payload, self.limits.most_levels)
        if not isinstance(message, dict):
            raise ValueError(f"expected an object, found {excerpt(message)}")
        table, action, data = message.get("table"), message.get("action"), message.get("data")
        if table is None:
            return self.skip("answer")
        if table not in (*_BOOKS, "trade"):
            return self.skip(str(table))
        if action not in _ACTIONS or not isinstance(data, list):
            raise ValueError(f"expected an action with data, found {excerpt(action)}")
        if not all(isinstance(row, dict) for row in data):
            raise ValueError(f"field data: expected a list of objects, found {excerpt(data)}")
        if table == "trade":
            records = [_read_trade(row) for row in data]
        else:
            records = self._read_book_update(str(table), str(action), message, data)
        for record in records:
            self.add_in_order(record | {"exchange": _EXCHANGE}, line)

    def _read_book_update(
        self, table: str, action: str, message: JsonObject, rows: list[JsonObject]
    ) -> list[Record]:
        """Return one record for each symbol of a message of a book table."""
        rows_of: dict[str, list[JsonObject]] = {}
        for row in rows:
            rows_of.setdefault(symbol_of(read_text(row, "symbol")), []).append(row)
        selected = message.get("filter")
        if not rows and isinstance(selected, dict) and "symbol" in selected:  # the partial of an empty book
            rows_of[symbol_of(read_text(selected, "symbol"))] = []
        records = []
        for symbol, of_symbol in rows_of.items():
            if self.tables.setdefault(symbol, table) != table:
                self.skip(f"{table} beside {self.tables[symbol]}")
                continue
            records.append(self._read_levels(symbol, action, of_symbol))
        return records

    def _read_levels(self, symbol: str, action: str, rows: list[JsonObject]) -> Record:
        """Return the record of one symbol's rows, and note the prices of their levels."""
        prices: dict[int, object] = {} if action == "partial" else self.prices.get(symbol, {}).copy()
        sides: dict[str, list[tuple[object, object]]] = {"Buy": [], "Sell": []}
        times = []
        for row in rows:
            level, side = read_integer(row, "id"), read_text(row, "side")
            if side not in sides:
                raise ValueError(f"field side: expected Buy or Sell, found {excerpt(side)}")
            if "price" in row and action != "delete":
                prices[level] = row["price"]
            if level not in prices:
                raise ValueError(f"field id: level {level} of {symbol} is not known: a message is missing")
            sides[side].append((prices[level], 0 if action == "delete" else row.get("size")))
            if "timestamp" in row:
                times.append(parse_iso_time(read_text(row, "timestamp")))
            if action == "delete":
                del prices[level]
        record: Record = {
            "record": "book_update",
            "symbol": symbol,
            "timestamp": max(times, default=NOT_GIVEN),
            "is_snapshot": action == "partial",
        }
        record |= scale_levels(sides["Buy"], sides["Sell"])
        self.prices[symbol] = prices
        return record

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the (exchange, symbol) of the book that an unreadable line names; see `MessageParser`."""
        match = _NAMED.search(line)
        if match is None:
            return None
        if match[1].decode() not in _BOOKS:
            return NO_BOOK
        try:
            return _EXCHANGE, symbol_of(match[2].decode("ascii"))
        except InputError:
            return None


class BitmexSource(MessageSource):
    """Spark data source for BitMEX captures; the module's docstring describes the format."""

    parser = _BitmexParser
    hosts = ("bitmex.com",)

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "bitmex"

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message changes a table of BitMEX; see `FileSource.recognizes`."""
        if not isinstance(message, dict) or message.get("action") not in _ACTIONS:
            return False
        return message.get("table") in (*_BOOKS, "trade", "quote") and "data" in message


def symbol_of(venue_symbol: str) -> str:
    """Return the canonical name of a BitMEX instrument.

    Parameters
    ----------
    venue_symbol : str
        The symbol as BitMEX prints it: XBTUSD, XBTUSDT, XRPU21, XBT_USDT.

    Returns
    -------
    str
        The symbol as the tables store it; matches `schemas.names.NAME_PATTERN`.

    Raises
    ------
    InputError
        If the symbol has characters that a name must not have.
    """
    is_perpetual = "_" not in venue_symbol and _DATED.fullmatch(venue_symbol) is None
    return canonical_symbol(venue_symbol, perpetual=is_perpetual)


def _read_trade(row: JsonObject) -> Record:
    """Return the record of one trade."""
    side = row.get("side")
    if not isinstance(side, str) or side not in _SIDES:
        raise ValueError(f"field side: expected Buy or Sell, found {excerpt(side)}")
    record: Record = {
        "record": "trade",
        "symbol": symbol_of(read_text(row, "symbol")),
        "timestamp": parse_iso_time(read_text(row, "timestamp")),
        "trade_id": hash_id(read_text(row, "trdMatchID")),
        "side": _SIDES[side],
    }
    return record | scale_trade(row.get("price"), row.get("size"))
