r"""Source `kraken`: reads captures of Kraken's WebSocket v1 channels `book` and `trade`.

Format: one message per line. A line holds the message alone, the message after a receive time, or a
cryptofeed dump line. Files may be plain text, gzip, or a zip with one member.

- Order book snapshot: `[id, {"as":…,"bs":…}, "book-N", pair]`, N levels per side.
- Order book update: `[id, {"a":…}, {"b":…,"c":"…"}, "book-N", pair]`. Asks and bids stand in one part (an
  object) or in two parts. A message with two parts is one book update. Levels stay in the order of the
  message. A price that occurs twice in a message is stored twice.
- Level: `[price, volume, time]`. A fourth field `"r"` marks a level that Kraken sends again unchanged.
- Depth: Kraken's book has N levels per side. After each message, Kraken drops the levels beyond the best N
  without sending a deletion.
- Checksum: `c` is the CRC-32 of the ten best asks and bids, printed with the decimals of the message's levels
  (fixed for each pair). The checksum proves the ten best levels per side after each message, so the book is
  `checked`. The checksum proves nothing about deeper levels.
- Time of a book message: the newest of the times of its levels.
- Trades: `[id, [[price, volume, time, side, type, misc], …], "trade", pair]`. `side` is `b` if the aggressor
  bought, and `s` if the aggressor sold. Trades have no ids.
- Order: messages have no ids. They stay in file order, and their sequence is the receive time. If a receive
  time is below the previous receive time, it is raised to the previous receive time. A receive time far above
  the following receive times is ignored. A file without receive times is ordered by the times of its
  messages.
- Several depths of one pair in a file: the source reads the depth that comes first in the file and skips the
  other depths.
- Skipped: heartbeats, `systemStatus`, `ticker`, `ohlc`, `spread` and all other messages.
- Unreadable lines go to quarantine, and their book is marked as damaged. If an unreadable line does not show
  its pair, every book of the file is marked as damaged.

Rules: Kraken WebSocket API v1, book, trade, and how to calculate the checksum.
"""

from __future__ import annotations

import re
from decimal import Decimal

from deltabook.schemas.names import INT64_MAX, NANOSECONDS_PER_SECOND, NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources import kraken_v2
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.json_decoding import JsonObject, decode_message
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_fields import (
    count_digits,
    excerpt,
    read_integer,
    read_level_list,
)
from deltabook.udfs.sources.common.message_files import (
    NO_BOOK,
    MessageSource,
)
from deltabook.udfs.sources.common.receive_ordered import ReceiveOrderedParser
from deltabook.udfs.sources.common.symbols import canonical_symbol

_EXCHANGE = "KRAKEN"
_BOOK = re.compile(r"book-([1-9][0-9]{0,5})")
_TIME = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")
_SIDES = {"b": "buy", "s": "sell"}
_LINE_END = re.compile(rb'"(trade|book-[0-9]+)" *, *"((?:[^"\\]|\\u[0-9a-fA-F]{4}){1,200})" *\] *$')
_MAX_CHECKSUM = 2**32 - 1


class _KrakenParser(ReceiveOrderedParser):
    """Parser of one Kraken file."""

    marks_damage = True

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.subscribed: dict[str, int] = {}
        """{symbol as Kraken prints it: depth that the answer to a subscription of WebSocket v2 names}."""
        self.depths: dict[str, int] = {}
        """{symbol: the only book depth that is read, which is the symbol's first depth in the file}."""

    def message(self, line: Line) -> None:
        self.note_receive_time(line)
        message = decode_message(line.payload, self.limits.most_levels)
        if isinstance(message, dict):
            return self._read_v2(message, line)
        if not isinstance(message, list) or len(message) < 4:
            raise ValueError(f"expected an object or [id, …, channel, pair], found {excerpt(message)}")
        *parts, channel, pair_name = message[1:]
        if not isinstance(channel, str) or not isinstance(pair_name, str):
            names = excerpt([channel, pair_name])
            raise ValueError(f"expected the names of a channel and a pair, found {names}")
        if channel == "trade":
            self._add_trades(parts, canonical_symbol(pair_name), line)
        elif match := _BOOK.fullmatch(channel):
            self._add_book_update(parts, canonical_symbol(pair_name), int(match[1]), line)
        else:
            self.skip(channel)

    def _read_v2(self, message: JsonObject, line: Line) -> None:
        """Add the records of a message of WebSocket v2, or note the depth that an answer names."""
        channel, result = message.get("channel"), message.get("result")
        if isinstance(result, dict) and isinstance(result.get("depth"), int):
            self.subscribed[str(result.get("symbol"))] = int(str(result["depth"]))
        if channel not in (kraken_v2.BOOK, kraken_v2.TRADE):
            return self.skip(str(channel or message.get("event") or "answer"))
        records = list(kraken_v2.read_message(message))
        for record in records:
            symbol = record["symbol"]
            if record["record"] == "book_update":
                self._note_depth(record)
                record |= {"kept_levels": self.depths.get(symbol, NOT_GIVEN)}
            self.add_in_order(record | {"exchange": _EXCHANGE}, line)

    def _note_depth(self, record: Record) -> None:
        """Set the depth of a book of WebSocket v2: the subscribed depth, else that of the first snapshot."""
        if not record["is_snapshot"] or record["symbol"] in self.depths:
            return
        named = {canonical_symbol(name): depth for name, depth in self.subscribed.items()}
        length = max(len(record["bid_prices"]), len(record["ask_prices"]))
        self.depths[record["symbol"]] = named.get(record["symbol"], length)

    def _add_book_update(self, parts: list[object], symbol: str, depth: int, line: Line) -> None:
        """Add a snapshot or an update; skip a message of a depth that is not read."""
        record = _read_book_update(parts)
        if self.depths.setdefault(symbol, depth) != depth:
            return self.skip(f"book-{depth}")
        self.add_in_order(record | {"exchange": _EXCHANGE, "symbol": symbol, "kept_levels": depth}, line)

    def _add_trades(self, parts: list[object], symbol: str, line: Line) -> None:
        """Add the trades of a message."""
        if len(parts) != 1 or not isinstance(parts[0], list):
            raise ValueError(f"expected one list of trades, found {excerpt(parts)}")
        for record in [_read_trade(trade) for trade in parts[0]]:
            self.add_in_order(record | {"exchange": _EXCHANGE, "symbol": symbol}, line)

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the (exchange, symbol) of the book that an unreadable line names at its end.

        Returns
        -------
        (exchange, symbol) or None
            `NO_BOOK` for a line of trades; None if the line names no book of this file.
        """
        match = _LINE_END.search(line)
        if match is None:
            return None
        if match[1] == b"trade":
            return NO_BOOK
        return self.find_named_book(_EXCHANGE, match[2])


class KrakenSource(MessageSource):
    """Spark data source for Kraken captures; the module's docstring describes the format."""

    parser = _KrakenParser
    hosts = ("kraken.com",)

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message names a channel of WebSocket v1 or v2; see `FileSource.recognizes`."""
        if isinstance(message, dict):
            is_v2 = message.get("channel") in (kraken_v2.BOOK, kraken_v2.TRADE) and "data" in message
            return is_v2 and message.get("type") in ("snapshot", "update")
        if not isinstance(message, list) or len(message) < 4:
            return False
        channel = message[-2]
        return isinstance(channel, str) and bool(_BOOK.fullmatch(channel) or channel in ("trade", "ticker"))

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "kraken"


def _read_book_update(parts: list[object]) -> Record:
    """Return the record of a snapshot or an update, without exchange, symbol, receive time and sequence."""
    is_snapshot, checksum = set(), NOT_GIVEN
    sides: dict[str, list[list[object]]] = {"a": [], "b": []}
    times = []
    for part in parts:
        if not isinstance(part, dict) or not (keys := [key for key in ("as", "bs", "a", "b") if key in part]):
            raise ValueError(f'expected an object with a key "as", "bs", "a" or "b", found {excerpt(part)}')
        for key in keys:
            is_snapshot.add(len(key) == 2)
            sides[key[0]] += read_level_list(part, key)
            times += [_read_time(level) for level in part[key]]
        if "c" in part:
            checksum = read_integer(part, "c")
    if len(is_snapshot) != 1:
        raise ValueError("expected a snapshot (as, bs) or an update (a, b), found both in one message")
    if checksum > _MAX_CHECKSUM:
        raise ValueError(f"field c: expected a CRC-32, found {checksum}")
    levels = scale_levels(sides["b"], sides["a"])
    printed_levels = sides["a"] + sides["b"]
    record: Record = {
        "record": "book_update",
        "is_snapshot": is_snapshot == {True},
        "timestamp": max(times, default=NOT_GIVEN),
        "checksum": checksum,
        "price_digits": count_digits([price for price, _ in printed_levels]),
        "size_digits": count_digits([size for _, size in printed_levels]),
    }
    return record | levels


def _read_trade(trade: object) -> Record:
    """Return the record of one trade, without exchange, symbol, receive time and sequence."""
    if not isinstance(trade, list) or len(trade) < 4 or trade[3] not in ("b", "s"):
        raise ValueError(f"expected a trade [price, volume, time, b or s, …], found {excerpt(trade)}")
    numbers = scale_trade(trade[0], trade[1])
    record: Record = {"record": "trade", "timestamp": _read_time(trade), "side": _SIDES[trade[3]]}
    return record | numbers


def _read_time(fields: list[object]) -> int:
    """Return the time of a level or a trade, ns since 1970 UTC.

    Kraken prints the time as the third field, in seconds.
    """
    seconds = fields[2] if len(fields) > 2 else None
    if not isinstance(seconds, str) or _TIME.fullmatch(seconds) is None:
        raise ValueError(f"expected a time in seconds with at most 9 decimals, found {excerpt(seconds)}")
    time = int(Decimal(seconds) * NANOSECONDS_PER_SECOND)
    if time > INT64_MAX:
        raise ValueError(f"time {seconds} s does not fit int64 in ns")
    return time
