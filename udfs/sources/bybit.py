"""Source `bybit`: reads Bybit's order book archive, and captures of Bybit's public WebSocket v5.

Format: one message per line. A line holds the message alone, the message after a receive time, or a
cryptofeed dump line. Files may be plain text, gzip, or a zip with one member (as in Bybit's archive).

- Order book, topic `orderbook.N.SYMBOL` (N levels per side). A `snapshot` replaces the whole book. A message
  with `u` = 1 also replaces the whole book: Bybit's service restarted. A `delta` changes levels. Bybit sends
  a deletion for each level that drops out of the best N.
- Update ids: `u` rises by one with each message. A book with an unbroken chain of ids is `verified`.
- Several depths of one instrument in a file: the source reads the depth that comes first in the file and
  skips the other depths. Depth 1 is an exception: it is the book only if the file has no deeper book.
- Depth 1 beside a deeper book, topic `orderbook.1.SYMBOL`: golden rows of kind `vendor_book`, compared where
  a message of the deeper book has the same cross sequence `seq`. Other messages of depth 1 are not compared.
- Trades, topic `publicTrade.SYMBOL`: `S` is the aggressor side. A block trade (`BT`) happened outside the
  book, so its side is stored as empty. Trades are ordered by time. A trade id that is not a number (a UUID)
  is replaced by its hash.
- Times: `ts` of a book message and `T` of a trade, in milliseconds.
- Market: spot and contracts use the same symbols, and messages do not name the market. One of the words
  `linear`, `inverse` and `spot` decides for the whole file. The source looks for this word in the first
  connection line (`wss://…/v5/public/linear`), then in the file name, then in the folder names, nearest
  folder first. If there is no such word, a book of 200 levels is spot (the archive's `ob200`), and
  everything else is a contract (the archive's `ob500`).
- Symbols: a contract is perpetual unless its name has an expiry. BTCUSDT-26DEC25 becomes BTC-USDT-251226,
  BTC-26DEC25 becomes BTC-USDC-251226, and BTCPERP becomes BTC-USDC-PERP. Symbols such as BTCUSDZ25, and the
  symbols of options, are not changed.
- Skipped: `tickers`, other topics and responses to requests. A ticker has a cross sequence `cs`. At the last
  book message whose `seq` is not above `cs`, prices are equal, but sizes may be newer than those of the book.
- Unreadable lines go to quarantine. If an unreadable line was a book update, the missing `u` shows the gap.

Rules: Bybit API v5, Orderbook, process snapshot and delta; Trade.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.bybit_tops import TopsOfBook
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_fields import (
    excerpt,
    read_choice,
    read_id,
    read_integer,
    read_level_list,
    read_objects,
    read_text,
)
from deltabook.udfs.sources.common.message_files import MessageParser, MessageSource
from deltabook.udfs.sources.common.symbols import canonical_symbol, expand_expiry, split_pair

_EXCHANGE = "BYBIT"
_BOOK = re.compile(r"orderbook\.([1-9][0-9]{0,4})\..+")
_TRADES = re.compile(r"publicTrade\..+")
_SPOT_DEPTH = "200"
_TOP_DEPTH = "1"
_SIDES = {"Buy": "buy", "Sell": "sell"}
_CATEGORIES = ("linear", "inverse", "spot")
_EXPIRY = re.compile(r"([A-Z0-9]+)-([0-9]{1,2}[A-Z]{3}[0-9]{2})")
_UNCHANGED = re.compile(r"[A-Z0-9]+USD[FGHJKMNQUVXZ][0-9]{2}|[A-Z0-9]+-[A-Z0-9]+-[0-9.]+-[CP](-[A-Z]+)?")


class _BybitParser(MessageParser):
    """Parser of one Bybit file."""

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.category = _find_category_in_path(Path(path))
        """`linear`, `inverse`, `spot`, or empty if nothing names the market."""
        self.category_is_final = False
        self.category_of: dict[str, str] = {}
        """{name of a connection: its market}, from connection lines that name both."""
        self.depths: dict[str, str] = {}
        """{symbol: the only book depth that is read, once it is decided}."""
        self.tops: dict[str, TopsOfBook] = {}
        """{symbol: its messages of depth 1}."""

    def connection(self, line: Line) -> None:
        """Set the market of a connection, and of the file unless a message precedes the line."""
        category = _find_category(re.split(r"[^a-z]+", line.url.lower()))
        if category and line.connection:
            self.category_of[line.connection] = category
        if line.url and not self.category_is_final:
            self.category_is_final = True
            self.category = category or self.category

    def message(self, line: Line) -> None:
        self.category_is_final = True
        message = self.decode_object(line.payload)
        if "topic" not in message:
            return self.skip("answer")
        topic = read_text(message, "topic")
        if match := _BOOK.fullmatch(topic):
            self._add_book_update(message, match[1], line)
        elif _TRADES.fullmatch(topic):
            self._add_trades(message, line)
        else:
            self.skip(topic.rpartition(".")[0] or topic)

    def _category(self, line: Line) -> str:
        """Return the market of the connection that received a line; empty if nothing names it."""
        return self.category_of.get(line.connection, self.category)

    def _add_book_update(self, message: JsonObject, depth: str, line: Line) -> None:
        """Add the book update of an `orderbook` message; hold or skip a message of another depth."""
        data = message.get("data")
        if not isinstance(data, dict):
            raise ValueError(f"field data: expected an object, found {excerpt(data)}")
        kind = read_choice(message, "type", ("snapshot", "delta"))
        category = self._category(line)
        is_spot = category == "spot" or (not category and depth == _SPOT_DEPTH)
        symbol = symbol_of(read_text(data, "s"), is_spot=is_spot)
        sequence = read_integer(data, "u")
        levels = scale_levels(read_level_list(data, "b"), read_level_list(data, "a"))
        record: Record = {
            "record": "book_update",
            "exchange": _EXCHANGE,
            "symbol": symbol,
            "timestamp": self.unit.time_to_nanoseconds(read_integer(message, "ts")),
            "received": line.received,
            "source_row": self.row,
            "sequence": sequence,
            "is_snapshot": kind == "snapshot" or sequence == 1,
        }
        record |= levels
        cross_sequence = data["seq"] if isinstance(data.get("seq"), int) else None
        tops = self.tops.setdefault(symbol, TopsOfBook())
        if depth == _TOP_DEPTH and symbol not in self.depths:
            if tops.hold(cross_sequence, record):
                self._read_depth_1(symbol)
        elif depth == _TOP_DEPTH != self.depths[symbol]:
            self._add_all(tops.add_top(cross_sequence, record))
        elif self.depths.setdefault(symbol, depth) != depth:
            self.skip(f"orderbook.{depth}")
        else:
            self.add(record)
            self._add_all(tops.take_golden_rows())
            self._add_all(tops.add_message(cross_sequence, sequence))

    def _read_depth_1(self, symbol: str) -> None:
        """Decide that the book of a symbol has depth 1, and add the messages that are held."""
        self.depths[symbol] = _TOP_DEPTH
        self._add_all(self.tops[symbol].take_updates())

    def _add_all(self, records: Iterable[Record]) -> None:
        for record in records:
            self.add(record)

    def finish(self) -> None:
        """Add the books of the symbols that have messages of depth 1 alone."""
        for symbol in self.tops.keys() - self.depths.keys():
            self._read_depth_1(symbol)

    def _add_trades(self, message: JsonObject, line: Line) -> None:
        """Add the trades of a `publicTrade` message."""
        data = read_objects(message, "data")
        is_spot = self._category(line) == "spot"
        # Read all trades before adding the first: one unreadable trade puts the whole line in quarantine.
        for record in [self._read_trade(entry, is_spot) for entry in data]:
            self.add(record | {"received": line.received})

    def _read_trade(self, entry: JsonObject, is_spot: bool) -> Record:
        """Return the record of one trade, without its receive time."""
        symbol = symbol_of(read_text(entry, "s"), is_spot=is_spot)
        time = self.unit.time_to_nanoseconds(read_integer(entry, "T"))
        if time == NOT_GIVEN:
            raise ValueError("field T: expected a time after 1970, found 0")
        side = _SIDES[read_choice(entry, "S", _SIDES)]
        numbers = scale_trade(entry.get("p"), entry.get("v"))
        record: Record = {
            "record": "trade",
            "exchange": _EXCHANGE,
            "symbol": symbol,
            "timestamp": time,
            "sequence": time,
            "trade_id": read_id(entry, "i"),
            "side": "" if entry.get("BT") is True else side,
        }
        return record | numbers


class BybitSource(MessageSource):
    """Spark data source for Bybit's archive and captures; the module's docstring describes the format."""

    parser = _BybitParser
    hosts = ("bybit.com", "bytick.com")

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message has one of Bybit's topics; see `FileSource.recognizes`."""
        topic = message.get("topic") if isinstance(message, dict) else None
        return isinstance(topic, str) and topic.partition(".")[0] in ("orderbook", "publicTrade", "tickers")

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "bybit"


def symbol_of(venue_symbol: str, *, is_spot: bool) -> str:
    """Return the canonical name of a Bybit instrument.

    Parameters
    ----------
    venue_symbol : str
        The symbol as Bybit prints it: BTCUSDT, BTCUSDT-26DEC25, BTCPERP.
    is_spot : bool
        Whether the instrument trades on the spot market; otherwise it is a contract.

    Returns
    -------
    str
        The symbol as the tables store it; matches `schemas.names.NAME_PATTERN`.

    Raises
    ------
    InputError
        If the symbol has characters that a name must not have.
    """
    if is_spot or _UNCHANGED.fullmatch(venue_symbol):
        return canonical_symbol(venue_symbol)
    if match := _EXPIRY.fullmatch(venue_symbol):
        base, expiry = match.groups()
        base_and_quote = split_pair(base) if split_pair(base) != base else f"{base}-USDC"
        return canonical_symbol(f"{base_and_quote}-{expand_expiry(expiry)}")
    if venue_symbol.endswith("PERP") and not venue_symbol.endswith("-PERP"):
        venue_symbol = venue_symbol.removesuffix("PERP") + "USDC"
    return canonical_symbol(venue_symbol, perpetual=True)


def _find_category_in_path(path: Path) -> str:
    """Return the market that the file name, or else the nearest folder, names; empty if neither does."""
    folders = [folder.lower() for folder in path.parts[-2::-1]]
    return _find_category([*re.split(r"[^a-z]+", path.name.lower()), *folders])


def _find_category(words: list[str]) -> str:
    """Return the first word that is the name of a market; empty if no word names a market."""
    return next((word for word in words if word in _CATEGORIES), "")
