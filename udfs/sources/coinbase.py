"""Source `coinbase`: reads captures of Coinbase's Advanced Trade WebSocket.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, channel `l2_data`: an event is a `snapshot` (replaces the whole book) or an `update`. A level
  has `side` (`bid` or `offer`), `price_level` and `new_quantity`; 0 deletes the level. Coinbase deletes
  levels that it never published.
- Ids: `sequence_num` counts all messages of a connection, whatever their channel and symbol. So the chain of
  ids is that of the connection. `prev_sequence` of a book message is the `sequence_num` of the symbol's book
  message before, as long as the connection's count has no hole. After a hole, it is the number before the
  message, so that the ids do not connect. A book with an unbroken chain is `verified`.
- At the end of a file, each book gets an empty update with the number of the connection's last message. So a
  file that continues another one connects to it.
- A count that falls is a new connection. A file without names of connections is one connection.
- A symbol that two connections of a file carry is read from the connection that comes first.
- Trades, channel `market_trades`: `side` is the side of the maker's order, so the aggressor is on the other
  side. Trades are ordered by id. The trades of a snapshot happened before the subscription, so they have no
  receive time.
- Times: the time of a message (`timestamp`) for books, `time` for trades.
- Skipped: `ticker` (it has no id, and its best prices belong to a moment between two book messages),
  `candles`, `heartbeats`, `subscriptions`, `status` and all other channels.
- Unreadable lines go to quarantine. They leave a hole in the count, which is a gap of every book.

Rules: docs.cdp.coinbase.com, Advanced Trade WebSocket: level2, sequence numbers, market trades.
"""

from __future__ import annotations

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line, parse_iso_time
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_fields import (
    read_choice,
    read_integer,
    read_objects,
    read_text,
)
from deltabook.udfs.sources.common.message_files import MessageParser, MessageSource
from deltabook.udfs.sources.common.symbols import canonical_symbol

_EXCHANGE = "COINBASE"
_BOOK, _TRADES = "l2_data", "market_trades"
_AGGRESSOR = {"BUY": "sell", "SELL": "buy"}
_SIDES = ("bid", "offer")


class _CoinbaseParser(MessageParser):
    """Parser of one Coinbase file."""

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.counts: dict[str, int] = {}
        """{name of a connection: `sequence_num` of its last message}."""
        self.last_sequences: dict[str, dict[str, int]] = {}
        """{name of a connection: {symbol: `sequence_num` of its last book message without a hole since}}."""
        self.before: dict[str, int] = {}
        """{name of a connection without a hole so far: the number before its first message}."""
        self.last_lines: dict[str, Record] = {}
        """{name of a connection: times and row of its last message}."""
        self.connection_of: dict[str, str] = {}
        """{symbol: name of the connection from which the symbol is read}."""

    def message(self, line: Line) -> None:
        message = self.decode_object(line.payload)
        if "sequence_num" not in message:
            return self.skip(str(message.get("channel") or message.get("type") or "answer"))
        sequence = read_integer(message, "sequence_num")
        channel = read_text(message, "channel")
        if channel not in (_BOOK, _TRADES):
            self._count(line, sequence)
            return self.skip(channel)
        events = read_objects(message, "events")
        time = parse_iso_time(read_text(message, "timestamp"))
        common: Record = {"exchange": _EXCHANGE, "received": line.received}
        # Read all events before adding the first: one unreadable event puts the whole line in quarantine.
        if channel == _TRADES:
            records = [
                _read_trade(trade) | ({"received": NOT_GIVEN} if event.get("type") == "snapshot" else {})
                for event in events
                for trade in read_objects(event, "trades")
            ]
        else:
            records = [_read_book_update(event) | {"timestamp": time} for event in events]
        self._count(line, sequence)
        for record in records:
            if channel == _BOOK:
                symbol = record["symbol"]
                if self.connection_of.setdefault(symbol, line.connection) != line.connection:
                    self.skip("book of a second connection")
                    continue
                record |= self._link(line.connection, symbol, sequence, record["is_snapshot"])
            self.add(common | record)

    def _count(self, line: Line, sequence: int) -> None:
        """Note the number of a connection's message; forget the chains of its books after a hole."""
        connection = line.connection
        self.last_lines[connection] = {"received": line.received, "source_row": self.row}
        last = self.counts.get(connection)
        if last is None:
            self.before[connection] = sequence - 1
        elif sequence != last + 1:
            self.last_sequences.get(connection, {}).clear()
            self.before.pop(connection, None)
        self.counts[connection] = sequence

    def _link(self, connection: str, symbol: str, sequence: int, is_snapshot: bool) -> Record:
        """Return the ids of a book message: its number, and that of the symbol's book message before."""
        last_sequences = self.last_sequences.setdefault(connection, {})
        last = last_sequences.get(symbol, self.before.get(connection, sequence - 1))
        last_sequences[symbol] = sequence
        return {"sequence": sequence, "prev_sequence": NOT_GIVEN if is_snapshot else last}

    def finish(self) -> None:
        """Add an empty update to each book whose connection has had later messages, with the last number."""
        for connection, last_sequences in self.last_sequences.items():
            count = self.counts[connection]
            for symbol, last in last_sequences.items():
                if last < count and (_EXCHANGE, symbol) in self.books:
                    record: Record = {
                        "record": "book_update",
                        "exchange": _EXCHANGE,
                        "symbol": symbol,
                        "timestamp": self.books[_EXCHANGE, symbol]["timestamp"],
                        "sequence": count,
                        "prev_sequence": last,
                    }
                    self.add(record | self.last_lines[connection])


class CoinbaseSource(MessageSource):
    """Spark data source for Coinbase captures; the module's docstring describes the format."""

    parser = _CoinbaseParser
    hosts = ("coinbase.com",)

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "coinbase"

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message has a channel and a sequence number; see `FileSource.recognizes`."""
        return isinstance(message, dict) and {"channel", "sequence_num", "events"} <= message.keys()


def _read_book_update(event: JsonObject) -> Record:
    """Return the record of a snapshot or an update, without ids and times."""
    kind = read_choice(event, "type", ("snapshot", "update"))
    sides: dict[str, list[tuple[object, object]]] = {side: [] for side in _SIDES}
    for level in read_objects(event, "updates"):
        sides[read_choice(level, "side", sides)].append((level.get("price_level"), level.get("new_quantity")))
    record: Record = {
        "record": "book_update",
        "symbol": canonical_symbol(read_text(event, "product_id")),
        "is_snapshot": kind == "snapshot",
    }
    return record | scale_levels(sides["bid"], sides["offer"])


def _read_trade(trade: JsonObject) -> Record:
    """Return the record of one trade, without exchange and receive time."""
    trade_id = read_integer(trade, "trade_id")
    record: Record = {
        "record": "trade",
        "symbol": canonical_symbol(read_text(trade, "product_id")),
        "timestamp": parse_iso_time(read_text(trade, "time")),
        "sequence": trade_id,
        "trade_id": trade_id,
        "side": _AGGRESSOR[read_choice(trade, "side", _AGGRESSOR)],
    }
    return record | scale_trade(trade.get("price"), trade.get("size"))
