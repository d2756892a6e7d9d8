"""Source `kraken_futures`: reads captures of Kraken Futures' WebSocket v1.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, feeds `book_snapshot` (replaces the whole book) and `book` (one level: `side`, `price`, `qty`;
  quantity 0 deletes the level).
- Update ids: `seq` of a product rises by one. A book with an unbroken chain is `verified`.
- Trades, feeds `trade_snapshot` and `trade`: `side` is the aggressor side, `uid` the id, `seq` the order. The
  trades of `trade_snapshot` happened before the subscription, so they have no receive time.
- Symbols: PI_XBTUSD (inverse) is BTC-USD-PERP. PF_XBTUSD (margined in several assets, another market) is
  BTC-USD-LINEAR-PERP. FI_XBTUSD_210924 is BTC-USD-210924, FF_XBTUSD_240927 is BTC-USD-LINEAR-240927.
- Times: `timestamp` of books, `time` of trades, in milliseconds.
- Skipped: `ticker_lite` and `ticker` (they have no id, and come one or two book messages early), `heartbeat`
  and all other feeds, and answers to subscriptions.
- Unreadable lines go to quarantine. If an unreadable line was a book update, the missing `seq` shows the gap.

Rules: docs.kraken.com, Futures WebSocket: book, trade.
"""

from __future__ import annotations

import re

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.message_fields import (
    hash_id,
    read_choice,
    read_integer,
    read_objects,
    read_price_levels,
    read_text,
)
from deltabook.udfs.sources.common.message_files import MessageParser, MessageSource
from deltabook.udfs.sources.common.symbols import canonical_symbol, split_pair

_EXCHANGE = "KRAKEN_FUTURES"
_PRODUCT = re.compile(r"([PF])([IFV])_([A-Z0-9]+?)(?:_(\d{6}))?")
_SIDES = {"buy": "bids", "sell": "asks"}
_FEEDS = ("book_snapshot", "book", "trade_snapshot", "trade")


class _KrakenFuturesParser(MessageParser):
    """Parser of one Kraken Futures file."""

    def message(self, line: Line) -> None:
        message = self.decode_object(line.payload)
        feed = message.get("feed")
        if "event" in message or feed not in _FEEDS:
            return self.skip(str(feed) if feed and "event" not in message else "answer")
        if feed == "trade":
            records = [self._read_trade(message)]
        elif feed == "trade_snapshot":
            trades = read_objects(message, "trades")
            # Kraken lists the newest trade first.
            records = sorted(map(self._read_trade, trades), key=lambda record: record["sequence"])
        else:
            records = [self._read_book_update(message, feed == "book_snapshot")]
        received = NOT_GIVEN if feed == "trade_snapshot" else line.received
        for record in records:
            self.add(record | {"exchange": _EXCHANGE, "received": received})

    def _read_book_update(self, message: JsonObject, is_snapshot: bool) -> Record:
        """Return the record of a snapshot or of a change of one level."""
        sides: dict[str, list[tuple[object, object]]] = {"bids": [], "asks": []}
        if is_snapshot:
            for side in sides:
                sides[side] = read_price_levels(message, side)
        else:
            side = _SIDES[read_choice(message, "side", _SIDES)]
            sides[side].append((message.get("price"), message.get("qty")))
        record: Record = {
            "record": "book_update",
            "symbol": symbol_of(read_text(message, "product_id")),
            "timestamp": self.unit.time_to_nanoseconds(read_integer(message, "timestamp")),
            "sequence": read_integer(message, "seq"),
            "is_snapshot": is_snapshot,
        }
        return record | scale_levels(sides["bids"], sides["asks"])

    def _read_trade(self, trade: JsonObject) -> Record:
        """Return the record of one trade."""
        record: Record = {
            "record": "trade",
            "symbol": symbol_of(read_text(trade, "product_id")),
            "timestamp": self.unit.time_to_nanoseconds(read_integer(trade, "time")),
            "sequence": read_integer(trade, "seq"),
            "trade_id": hash_id(read_text(trade, "uid")),
            "side": read_choice(trade, "side", _SIDES),
        }
        return record | scale_trade(trade.get("price"), trade.get("qty"))


class KrakenFuturesSource(MessageSource):
    """Spark data source for Kraken Futures captures; the module's docstring describes the format."""

    parser = _KrakenFuturesParser
    hosts = ("futures.kraken.com", "cryptofacilities.com")

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "kraken_futures"

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message has a feed of a product; see `FileSource.recognizes`."""
        return isinstance(message, dict) and message.get("feed") in _FEEDS and "product_id" in message


def symbol_of(venue_symbol: str) -> str:
    """Return the canonical name of a Kraken Futures product.

    Parameters
    ----------
    venue_symbol : str
        The product as Kraken prints it: PI_XBTUSD, PF_XBTUSD, FI_XBTUSD_210924; any case.

    Returns
    -------
    str
        The symbol as the tables store it; matches `schemas.names.NAME_PATTERN`.

    Raises
    ------
    InputError
        If the symbol is no product of Kraken Futures.
    """
    match = _PRODUCT.fullmatch(venue_symbol.upper())
    if match is None:
        raise InputError(f"symbol {venue_symbol[:80]!r} is refused: expected a product such as PI_XBTUSD")
    kind, margin, pair, expiry = match.groups()
    if (kind == "F") != bool(expiry):
        raise InputError(f"symbol {venue_symbol[:80]!r} is refused: expected an expiry for FI_, none for PI_")
    market = "" if margin == "I" else "-LINEAR"
    return canonical_symbol(f"{split_pair(pair)}{market}-{expiry or 'PERP'}")
