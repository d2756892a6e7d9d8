"""Source `gate`: reads captures of Gate's WebSocket v4, futures and spot, and of its REST order books.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, channels `futures.order_book_update` and `spot.order_book_update`: changed levels with absolute
  sizes; 0 deletes. `U` and `u` are the first and last update id.
- Snapshots: responses of `/api/v4/futures/…/order_book?contract=…` and
  `/api/v4/spot/order_book?currency_pair=…` with `with_id=true`. The URL names market and symbol, so a file of
  responses may lie beside the file of the stream.
- Update ids: `U` is the previous `u` + 1. The first diff after a snapshot with id L has `U` ≤ L + 1 ≤ `u`.
  A book with an unbroken chain is `verified`.
- Top of book, channels `futures.book_ticker` and `spot.book_ticker`: golden rows of kind `vendor_book` at the
  update id `u`. A ticker of an id within a diff is not compared.
- Trades, channels `futures.trades` and `spot.trades`. On futures, a negative size means that the aggressor
  sold; on spot, `side` is the aggressor side.
- Symbols: BTC_USDT is BTC-USDT-PERP on futures (exchange GATEIO_FUTURES), BTC-USDT on spot (GATEIO).
- Skipped: `futures.order_book` and `spot.order_book` (the best levels only), `futures.obu`, tickers,
  candlesticks and all other channels, and answers.
- Unreadable lines go to quarantine. If an unreadable line was a book update, the ids show the gap.

Rules: www.gate.io/docs/developers: futures WebSocket v4 and spot WebSocket v4, order book update channel.
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.json_decoding import JsonObject, decode_message
from deltabook.udfs.sources.common.message_files import (
    MessageParser,
    MessageSource,
    excerpt,
    read_integer,
    read_text,
)
from deltabook.udfs.sources.common.symbols import canonical_symbol

_SPOT, _FUTURES = "GATEIO", "GATEIO_FUTURES"
_EXCHANGES = {"spot": _SPOT, "futures": _FUTURES}
_SIDES = ("buy", "sell")
_MARKETS = ("spot.", "futures.")
_RESPONSE_SYMBOL = ("contract", "currency_pair")


class _GateParser(MessageParser):
    """Parser of one Gate file."""

    def message(self, line: Line) -> None:
        message = decode_message(line.payload, self.limits.most_levels)
        if not isinstance(message, dict):
            raise ValueError(f"expected an object, found {excerpt(message)}")
        if line.url:
            return self._add_response(message, line)
        channel, result = message.get("channel"), message.get("result")
        if not isinstance(channel, str) or message.get("event") not in ("update", "all"):
            return self.skip("answer")
        market, _, kind = channel.partition(".")
        if market not in _EXCHANGES or kind not in ("order_book_update", "trades", "book_ticker"):
            return self.skip(channel)
        entries = result if kind == "trades" and isinstance(result, list) else [result]
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"field result: expected objects, found {excerpt(result)}")
        read = {"order_book_update": self._read_diff, "trades": self._read_trade}.get(kind, self._read_ticker)
        common: Record = {"exchange": _EXCHANGES[market], "received": line.received}
        for record in [read(entry, market == "futures") for entry in entries]:
            self.add(common | record)

    def _add_response(self, message: JsonObject, line: Line) -> None:
        """Add the snapshot of a response to a request for an order book."""
        url = urlsplit(line.url)
        is_futures = "/futures/" in url.path
        if not url.path.endswith("/order_book") or "/delivery/" in url.path or "bids" not in message:
            return self.skip("response")
        if "id" not in message:
            raise ValueError("field id: expected an update id; request the order book with with_id=true")
        query = parse_qs(url.query)
        named = next((query[name] for name in _RESPONSE_SYMBOL if name in query), [""])
        seconds = message.get("update", message.get("current", 0))
        time = int(str(seconds).replace(".", "").ljust(13, "0")[:13]) if is_futures else int(str(seconds))
        record: Record = {
            "record": "book_update",
            "exchange": _FUTURES if is_futures else _SPOT,
            "symbol": canonical_symbol(named[0], perpetual=is_futures),
            "timestamp": self.unit.time_to_nanoseconds(time) if time else NOT_GIVEN,
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
            "symbol": canonical_symbol(read_text(entry, "s"), perpetual=is_futures),
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
            "symbol": canonical_symbol(read_text(entry, "s"), perpetual=is_futures),
            "timestamp": self._read_time(entry, "t"),
            "sequence": read_integer(entry, "u"),
        }
        return record | scale_levels(bids, asks)

    def _read_trade(self, entry: JsonObject, is_futures: bool) -> Record:
        """Return the record of one trade, without exchange and receive time."""
        size = entry.get("size" if is_futures else "amount")
        if is_futures:
            is_sale = str(size).startswith("-")
            side, size = _SIDES[is_sale], str(size).removeprefix("-")
        else:
            side = str(entry.get("side"))
            if side not in _SIDES:
                raise ValueError(f"field side: expected buy or sell, found {excerpt(side)}")
        printed = entry.get("create_time_ms")
        time = int(str(printed).partition(".")[0]) if printed is not None else NOT_GIVEN
        trade_id = read_integer(entry, "id")
        record: Record = {
            "record": "trade",
            "symbol": canonical_symbol(
                read_text(entry, "contract" if is_futures else "currency_pair"), perpetual=is_futures
            ),
            "timestamp": self.unit.time_to_nanoseconds(time),
            "sequence": trade_id,
            "trade_id": trade_id,
            "side": side,
        }
        return record | scale_trade(entry.get("price"), size)

    def _read_time(self, entry: JsonObject, key: str) -> int:
        """Return the exchange time, ns since 1970 UTC."""
        return self.unit.time_to_nanoseconds(read_integer(entry, key))


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
        channel = message.get("channel") if isinstance(message, dict) else None
        return isinstance(channel, str) and channel.startswith(_MARKETS) and "result" in message


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
