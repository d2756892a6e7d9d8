"""Source `bitstamp`: reads captures of Bitstamp's WebSocket v2, and of its REST order books.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, channel `diff_order_book_PAIR`: changed levels `[price, amount]`; 0 deletes.
- Snapshots: responses of `https://www.bitstamp.net/api/v2/order_book/PAIR`; the URL names the pair.
- Order: `microtimestamp`, the only number of a message. A diff whose `microtimestamp` is not above that of
  the snapshot is already in it, and is dropped. No id shows a lost message, so the book is `unverifiable`.
- Trades, channel `live_trades_PAIR`: `type` 0 means that the aggressor bought, 1 that it sold.
- Skipped: `order_book_PAIR` and `detail_order_book_PAIR` (the best 100 levels only), `live_orders_PAIR`,
  answers, and responses to other requests.
- Unreadable lines go to quarantine, and their book is marked as damaged. If an unreadable line does not show
  its pair, every book of the file is marked as damaged.

Rules: www.bitstamp.net/websocket/v2: live full order book (diff), live ticker; HTTP API v2: order book.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import INT64_MAX, NANOSECONDS_PER_SECOND
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.message_fields import (
    excerpt,
    read_integer,
    read_level_list,
    read_text,
)
from deltabook.udfs.sources.common.message_files import (
    NO_BOOK,
    MessageParser,
    MessageSource,
)
from deltabook.udfs.sources.common.symbols import canonical_symbol

_EXCHANGE = "BITSTAMP"
_DIFF, _TRADES = "diff_order_book_", "live_trades_"
_REST = re.compile(r"/api/v2/order_book/([a-z0-9-]+)/?")
_CHANNEL = re.compile(rb'"(diff_order_book|live_trades)_([a-z0-9-]{1,40})"')
_REQUEST = re.compile(rb"https?://[^ ]+/api/v2/order_book/([a-z0-9-]{1,40})/? -> ")
_SIDES = ("buy", "sell")
_MICROSECOND = NANOSECONDS_PER_SECOND // 10**6


class _BitstampParser(MessageParser):
    """Parser of one Bitstamp file."""

    marks_damage = True

    def message(self, line: Line) -> None:
        message = self.decode_object(line.payload)
        if line.url:
            return self._add_response(message, line)
        channel, event, data = message.get("channel"), message.get("event"), message.get("data")
        if not isinstance(channel, str) or event not in ("data", "trade"):
            return self.skip("answer")
        if not channel.startswith((_DIFF, _TRADES)):
            return self.skip(channel.rpartition("_")[0])
        if not isinstance(data, dict):
            raise ValueError(f"field data: expected an object, found {excerpt(data)}")
        if channel.startswith(_DIFF):
            self._add_levels(data, channel.removeprefix(_DIFF), line, is_snapshot=False)
        else:
            self._add_trade(data, channel.removeprefix(_TRADES), line)

    def _add_response(self, message: JsonObject, line: Line) -> None:
        """Add the snapshot of a response to a request for an order book."""
        match = _REST.fullmatch(urlsplit(line.url).path)
        if match is None or "bids" not in message:
            return self.skip("response")
        self._add_levels(message, match[1], line, is_snapshot=True)

    def _add_levels(self, data: JsonObject, pair: str, line: Line, *, is_snapshot: bool) -> None:
        """Add a snapshot or a diff."""
        time = _read_time(data)
        record: Record = {
            "record": "book_update",
            "exchange": _EXCHANGE,
            "symbol": canonical_symbol(pair),
            "timestamp": time * _MICROSECOND,
            "received": line.received,
            "sequence": time,
            "is_snapshot": is_snapshot,
        }
        self.add(record | scale_levels(read_level_list(data, "bids"), read_level_list(data, "asks")))

    def _add_trade(self, data: JsonObject, pair: str, line: Line) -> None:
        """Add a trade."""
        kind = read_integer(data, "type")
        if kind > 1:
            raise ValueError(f"field type: expected 0 or 1, found {kind}")
        trade_id = read_integer(data, "id")
        record: Record = {
            "record": "trade",
            "exchange": _EXCHANGE,
            "symbol": canonical_symbol(pair),
            "timestamp": _read_time(data) * _MICROSECOND,
            "received": line.received,
            "sequence": trade_id,
            "trade_id": trade_id,
            "side": _SIDES[kind],
        }
        self.add(record | scale_trade(read_text(data, "price_str"), read_text(data, "amount_str")))

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the (exchange, symbol) of the book that an unreadable line names; see `MessageParser`."""
        match = _CHANNEL.search(line)
        if match and match[1] == b"live_trades":
            return NO_BOOK
        pair = match[2] if match else request[1] if (request := _REQUEST.match(line)) else b""
        try:
            book = _EXCHANGE, canonical_symbol(pair.decode("ascii"))
        except InputError:
            return None
        return book if book in self.books else None

    def add(self, record: Record) -> None:
        """Add a record; see `MessageParser.add`.

        A damage mark of the book gets a sequence above that of the book's last update. A mark with the same
        sequence would be dropped, like a diff that the book already includes.
        """
        super().add(record)
        if record["record"] == "book_update":
            self.books[record["exchange"], record["symbol"]]["sequence"] += 1


class BitstampSource(MessageSource):
    """Spark data source for Bitstamp captures; the module's docstring describes the format."""

    parser = _BitstampParser
    hosts = ("bitstamp.net",)

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "bitstamp"

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message has a channel of an order book or of trades; see `FileSource`."""
        channel = message.get("channel") if isinstance(message, dict) else None
        return isinstance(channel, str) and channel.startswith((_DIFF, _TRADES, "order_book_"))


def _read_time(data: JsonObject) -> int:
    """Return the field `microtimestamp`, µs since 1970 UTC."""
    time = read_integer(data, "microtimestamp")
    if not 0 < time <= INT64_MAX // _MICROSECOND:
        raise ValueError(
            f"field microtimestamp: expected a time after 1970 that fits int64 in ns, found {time}"
        )
    return time
