"""Source `bitmex`: reads captures of BitMEX's WebSocket.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, tables `orderBookL2` and `orderBookL2_25`: `action` is `partial` (replaces the whole book),
  `insert`, `update` or `delete`. A row names its level by `id`. Rows of `update` and `delete` may lack the
  price; the source knows it from the row that inserted the level. After a `partial`, an `update` or `delete`
  of an unknown `id` shows that a message is missing, and is unreadable. Before the first `partial`, as in a
  file that continues another one, the printed price is used (given since April 2023).
- Both tables of one instrument in a file: the source reads the table that comes first and skips the other.
- Order: messages have no ids. They stay in file order, and their sequence is the receive time (see
  `common.receive_order`), or `timestamp` if a line has none. No id shows a lost message, so the book is
  `unverifiable`.
- Trades, table `trade`: `side` is the aggressor side; the hash of `trdMatchID` is the id. The trades of
  `partial` happened before the subscription. Those that the file already has are left out.
- Sizes are contracts, as printed.
- Symbols: XBTUSD is BTC-USD-PERP, XBTUSDT is BTC-USDT-PERP, XBT_USDT (spot) is BTC-USDT. Symbols with an
  expiry such as XRPU21 are not changed, as in the source `tardis`.
- Skipped: `quote` (it has no id; a quote may be sent before the change of the book), `instrument` and all
  other tables, prices of indices such as .BXBT in the table `trade`, answers, `ping` and `pong`.
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
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_fields import (
    excerpt,
    hash_id,
    read_choice,
    read_integer,
    read_objects,
    read_text,
)
from deltabook.udfs.sources.common.message_files import KEEP_ALIVE, NO_BOOK, MessageSource
from deltabook.udfs.sources.common.receive_ordered import ReceiveOrderedParser
from deltabook.udfs.sources.common.symbols import canonical_symbol

_EXCHANGE = "BITMEX"
_BOOKS = ("orderBookL2", "orderBookL2_25")
_ACTIONS = ("partial", "insert", "update", "delete")
_SIDES = {"Buy": "buy", "Sell": "sell"}
_DATED = re.compile(r"[A-Z0-9]+[FGHJKMNQUVXZ][0-9]{2}")
_SPOT = re.compile(r"(?![A-Z0-9]{2,}USDT?_)[A-Z0-9]+_[A-Z0-9]+")
"""XBT_USDT; not ETHUSD_ETH, which is a perpetual contract with another margin asset than ETHUSD."""
_NAMED_TABLE = re.compile(rb'"table"\s*:\s*"([A-Za-z0-9_]+)"')
_NAMED_SYMBOL = re.compile(rb'"symbol"\s*:\s*"([A-Z0-9_]{1,40})"')


class _BitmexParser(ReceiveOrderedParser):
    """Parser of one BitMEX file."""

    marks_damage = True

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.prices: dict[str, dict[int, object]] = {}
        """{symbol: {id of a level: its price as printed}}."""
        self.tables: dict[str, str] = {}
        """{symbol: the only book table that is read, which is the symbol's first table in the file}."""
        self.seeded: set[str] = set()
        """Symbols whose levels are all in `prices`, because the file has a `partial` of them."""
        self.last_trades: dict[str, int] = {}
        """{symbol: id of its last trade}."""

    def message(self, line: Line) -> None:
        self.note_receive_time(line)
        if line.payload.strip() in KEEP_ALIVE:
            return self.skip("ping or pong")
        message = self.decode_object(line.payload)
        table, action = message.get("table"), message.get("action")
        if table is None:
            return self.skip("answer")
        if table not in (*_BOOKS, "trade"):
            return self.skip(str(table))
        if action not in _ACTIONS:
            raise ValueError(f"expected an action with data, found {excerpt(action)}")
        rows = read_objects(message, "data")
        if table == "trade":
            self._add_trades(str(action), rows, line)
        else:
            self._add_book_updates(str(table), str(action), message, rows, line)

    def _add_trades(self, action: str, rows: list[JsonObject], line: Line) -> None:
        """Add the trades of a message; leave out prices of indices, and trades that a `partial` repeats."""
        trades = [_read_trade(row) for row in rows if not read_text(row, "symbol").startswith(".")]
        if action == "partial":
            trades = [trade for trade in trades if self.last_trades.get(trade["symbol"]) != trade["trade_id"]]
        for trade in trades:
            self.add_in_order(trade | {"exchange": _EXCHANGE}, line)
            self.last_trades[trade["symbol"]] = trade["trade_id"]
        if not trades:
            self.skip("trade that is empty, repeated or of an index")

    def _add_book_updates(
        self, table: str, action: str, message: JsonObject, rows: list[JsonObject], line: Line
    ) -> None:
        """Add one record for each symbol of a message of a book table."""
        rows_of: dict[str, list[JsonObject]] = {}
        for row in rows:
            rows_of.setdefault(symbol_of(read_text(row, "symbol")), []).append(row)
        selected = message.get("filter")
        if not rows and isinstance(selected, dict) and "symbol" in selected:  # the partial of an empty book
            rows_of[symbol_of(read_text(selected, "symbol"))] = []
        # Read all symbols before adding the first: one unreadable row puts the whole line in quarantine.
        read = [
            (symbol, *self._read_levels(symbol, action, of_symbol))
            for symbol, of_symbol in rows_of.items()
            if self.tables.get(symbol, table) == table
        ]
        for symbol, record, prices in read:
            self.add_in_order(record | {"exchange": _EXCHANGE}, line)
            self.tables[symbol] = table
            self._note_prices(symbol, action, prices)
        if not read:
            self.skip(f"{table} beside another table" if rows_of else f"empty {table}")

    def _read_levels(
        self, symbol: str, action: str, rows: list[JsonObject]
    ) -> tuple[Record, dict[int, object]]:
        """Return the record of one symbol's rows, and the printed price of each row's level."""
        known = self.prices.get(symbol, {})
        uses_printed = action in ("partial", "insert") or symbol not in self.seeded
        prices: dict[int, object] = {}
        sides: dict[str, list[tuple[object, object]]] = {"Buy": [], "Sell": []}
        times = []
        for row in rows:
            level, side = read_integer(row, "id"), read_choice(row, "side", sides)
            price = row["price"] if uses_printed and "price" in row else known.get(level)
            if price is None:
                raise ValueError(f"field id: level {level} of {symbol} is not known: a message is missing")
            prices[level] = price
            sides[side].append((price, 0 if action == "delete" else row.get("size")))
            if "timestamp" in row:
                times.append(parse_iso_time(read_text(row, "timestamp")))
        record: Record = {
            "record": "book_update",
            "symbol": symbol,
            "timestamp": max(times, default=NOT_GIVEN),
            "is_snapshot": action == "partial",
        }
        return record | scale_levels(sides["Buy"], sides["Sell"]), prices

    def _note_prices(self, symbol: str, action: str, prices: dict[int, object]) -> None:
        """Keep the prices of the levels of a message that was read."""
        if action == "partial":
            self.seeded.add(symbol)
            self.prices[symbol] = {}
        known = self.prices.setdefault(symbol, {})
        if action != "delete":
            known.update(prices)
        else:
            for level in prices:
                known.pop(level, None)

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the (exchange, symbol) of the book that an unreadable line names; see `MessageParser`."""
        table, symbols = _NAMED_TABLE.search(line), set(_NAMED_SYMBOL.findall(line))
        if table is not None and table[1].decode() not in _BOOKS:
            return NO_BOOK
        if len(symbols) != 1:  # with two names, it is unclear which books the line changes
            return None
        try:
            return _EXCHANGE, symbol_of(symbols.pop().decode("ascii"))
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
    is_perpetual = not _SPOT.fullmatch(venue_symbol) and not _DATED.fullmatch(venue_symbol)
    return canonical_symbol(venue_symbol, perpetual=is_perpetual)


def _read_trade(row: JsonObject) -> Record:
    """Return the record of one trade."""
    record: Record = {
        "record": "trade",
        "symbol": symbol_of(read_text(row, "symbol")),
        "timestamp": parse_iso_time(read_text(row, "timestamp")),
        "trade_id": hash_id(read_text(row, "trdMatchID")),
        "side": _SIDES[read_choice(row, "side", _SIDES)],
    }
    return record | scale_trade(row.get("price"), row.get("size"))
