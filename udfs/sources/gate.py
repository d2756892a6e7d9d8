"""Source `gate`: reads captures of Gate's WebSocket v4, futures and spot, and of its REST order books.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, channels `futures.order_book_update` and `spot.order_book_update`: changed levels with absolute
  sizes; 0 deletes. `U` and `u` are the first and last update id.
- Snapshots: responses of `/api/v4/futures/…/order_book?contract=…`, the same of `/api/v4/delivery/…`, and
  `/api/v4/spot/order_book?currency_pair=…`, with `with_id=true`. The URL names market and symbol, so a file
  of responses may lie beside the file of the stream.
- Update ids: `U` is the previous `u` + 1. The first diff after a snapshot with id L has `U` ≤ L + 1 ≤ `u`.
  A book with an unbroken chain is `verified`.
- Top of book, channels `futures.book_ticker` and `spot.book_ticker`: golden rows of kind `vendor_book` at the
  update id `u`. A ticker of an id within a diff is not compared.
- Trades, channels `futures.trades` and `spot.trades`. On futures, a negative size means that the aggressor
  sold; on spot, `side` is the aggressor side. An internal trade (`is_internal`: liquidations, deleveraging)
  happened outside the book, so its side is stored as empty.
- Symbols: BTC_USDT is BTC-USDT-PERP on futures (exchange GATEIO_FUTURES), BTC-USDT on spot (GATEIO). A
  delivery contract uses the channels of futures: BTC_USDT_20211231 is BTC-USDT-211231.
- Sizes on futures are numbers of contracts.
- Times: milliseconds; seconds with decimals in snapshots of futures.
- Skipped: `futures.order_book` and `spot.order_book` (the best levels only), `futures.obu`, tickers,
  candlesticks and all other channels, and answers.
- Unreadable lines go to quarantine. If an unreadable line was a book update, the ids show the gap.

Rules: www.gate.io/docs/developers: futures WebSocket v4 and spot WebSocket v4, order book update channel.
"""

from __future__ import annotations

import re
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.message_fields import (
    excerpt,
    read_choice,
    read_integer,
    read_text,
)
from deltabook.udfs.sources.common.message_files import MessageParser, MessageSource
from deltabook.udfs.sources.common.symbols import canonical_symbol

_SPOT, _FUTURES = "GATEIO", "GATEIO_FUTURES"
_EXCHANGES = {"spot": _SPOT, "futures": _FUTURES}
_SIDES = ("buy", "sell")
_MARKETS = ("spot.", "futures.")
_ORDER_BOOK = re.compile(r".*/api/v4/(?:(spot)|(?:futures|delivery)/[a-z]+)/order_book")
_DELIVERY = re.compile(r"(.+)_20(\d{6})", re.ASCII)
_TIME = re.compile(r"\d{1,16}(\.\d{1,9})?", re.ASCII)
_MILLISECONDS = 1000


class _GateParser(MessageParser):
    """Parser of one Gate file."""

    def message(self, line: Line) -> None:
        message = self.decode_object(line.payload)
        if line.url:
            return self._add_response(message, line)
        channel, result = message.get("channel"), message.get("result")
        if not isinstance(channel, str) or message.get("event") not in ("update", "all"):
            return self.skip("answer")
        market, _, kind = channel.partition(".")
        if market not in _EXCHANGES or kind not in ("order_book_update", "trades", "book_ticker"):
            return self.skip(channel)
        entries = result if kind == "trades" and isinstance(result, list) else [result]
        objects = [entry for entry in entries if isinstance(entry, dict)]
        if len(objects) < len(entries):
            raise ValueError(f"field result: expected objects, found {excerpt(result)}")
        read = {"order_book_update": self._read_diff, "trades": self._read_trade}.get(kind, self._read_ticker)
        common: Record = {"exchange": _EXCHANGES[market], "received": line.received}
        for record in [read(entry, market == "futures") for entry in objects]:
            self.add(common | record)

    def _add_response(self, message: JsonObject, line: Line) -> None:
        """Add the snapshot of a response to a request for an order book."""
        url = urlsplit(line.url)
        match = _ORDER_BOOK.fullmatch(url.path)
        if match is None or "bids" not in message:
            return self.skip("response")
        if "id" not in message:
            raise ValueError("field id: expected an update id; request the order book with with_id=true")
        is_futures = match[1] is None
        names = parse_qs(url.query).get("contract" if is_futures else "currency_pair", [""])
        key = "update" if "update" in message else "current"
        record: Record = {
            "record": "book_update",
            "exchange": _FUTURES if is_futures else _SPOT,
            "symbol": symbol_of(names[0], is_spot=not is_futures),
            "timestamp": self._read_time(message, key, ms_per_unit=_MILLISECONDS if is_futures else 1),
            "received": line.received,
            "sequence": read_integer(message, "id"),
            "is_snapshot": True,
        }
        self.add(record | scale_levels(_read_side(message, "bids"), _read_side(message, "asks")))

    def _read_diff(self, entry: JsonObject, is_futures: bool) -> Record:
        """Return the record of a diff, without exchange and receive time."""
        first, last = read_integer(entry, "U"), read_integer(entry, "u")
        if first > last:
            raise ValueError(f"U {first} is above u {last}")
        record: Record = {
            "record": "book_update",
            "symbol": symbol_of(read_text(entry, "s"), is_spot=not is_futures),
            "timestamp": self._read_time(entry, "t"),
            "sequence": last,
            "first_sequence": first,
        }
        return record | scale_levels(_read_side(entry, "b"), _read_side(entry, "a"))

    def _read_ticker(self, entry: JsonObject, is_futures: bool) -> Record:
        """Return the golden record of the best bid and ask at an update id."""
        sides = [[(entry.get(price), entry.get(size))] for price, size in ("bB", "aA")]
        bids, asks = ([] if side[0][0] in ("", "0", None) else side for side in sides)
        record: Record = {
            "record": "golden",
            "kind": "vendor_book",
            "symbol": symbol_of(read_text(entry, "s"), is_spot=not is_futures),
            "timestamp": self._read_time(entry, "t"),
            "sequence": read_integer(entry, "u"),
        }
        return record | scale_levels(bids, asks)

    def _read_trade(self, entry: JsonObject, is_futures: bool) -> Record:
        """Return the record of one trade, without exchange and receive time."""
        size = entry.get("size" if is_futures else "amount")
        if is_futures:
            side, size = _SIDES[str(size).startswith("-")], str(size).removeprefix("-")
        else:
            side = read_choice(entry, "side", _SIDES)
        name = read_text(entry, "contract" if is_futures else "currency_pair")
        trade_id = read_integer(entry, "id")
        record: Record = {
            "record": "trade",
            "symbol": symbol_of(name, is_spot=not is_futures),
            "timestamp": self._read_time(entry, "create_time_ms"),
            "sequence": trade_id,
            "trade_id": trade_id,
            "side": "" if entry.get("is_internal") is True else side,
        }
        return record | scale_trade(entry.get("price"), size)

    def _read_time(self, entry: JsonObject, key: str, ms_per_unit: int = 1) -> int:
        """Return an exchange time, cut to whole ms, as ns since 1970 UTC; -1 if the time is 0.

        Gate prints milliseconds, or seconds with decimals; `ms_per_unit` is 1 or 1000.
        """
        printed = str(entry.get(key))
        if _TIME.fullmatch(printed) is None:
            raise ValueError(f"field {key}: expected a time since 1970, found {excerpt(entry.get(key))}")
        return self.unit.time_to_nanoseconds(int(Decimal(printed) * ms_per_unit))


class GateSource(MessageSource):
    """Spark data source for Gate captures; the module's docstring describes the format."""

    parser = _GateParser
    hosts = ("gate.io", "gateio.ws", "gate.com")

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "gate"

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message is an update of a channel of Gate; see `FileSource.recognizes`."""
        if not isinstance(message, dict) or "result" not in message:
            return False
        channel = message.get("channel")
        return isinstance(channel, str) and channel.startswith(_MARKETS)


def symbol_of(venue_symbol: str, *, is_spot: bool) -> str:
    """Return the canonical name of a Gate instrument.

    Parameters
    ----------
    venue_symbol : str
        The symbol as Gate prints it: BTC_USDT, BTC_USDT_20211231.
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
    if not is_spot and (match := _DELIVERY.fullmatch(venue_symbol)):
        return canonical_symbol(f"{match[1]}_{match[2]}")
    return canonical_symbol(venue_symbol, perpetual=not is_spot)


def _read_side(message: JsonObject, key: str) -> list[tuple[object, object]]:
    """Return the price and the size of each level: `{"p","s"}` on futures, `[price, size]` on spot."""
    levels = message.get(key)
    if not isinstance(levels, list):
        raise ValueError(f"field {key}: expected a list of levels, found {excerpt(levels)}")
    pairs: list[tuple[object, object]] = []
    for level in levels:
        if isinstance(level, dict):
            pairs.append((level.get("p"), level.get("s")))
        elif isinstance(level, list) and len(level) >= 2:
            pairs.append((level[0], level[1]))
        else:
            raise ValueError(f"field {key}: expected a level, found {excerpt(level)}")
    return pairs
