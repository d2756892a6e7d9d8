r"""Source `kraken`: captures of Kraken's WebSocket v1 channels `book` and `trade`.

A line is one message, bare, behind a receive time, or as cryptofeed dumps it; gzip, zip or plain.

- `[id, {"as":…,"bs":…}, "book-N", pair]` is a book, `[id, {"a":…}, {"b":…,"c":"…"}, "book-N", pair]` a change
  of it, in one part or two: one book update, its levels in the order of the message, a price met twice
  kept twice. A level is `[price, volume, time]`; a fourth `"r"` marks one that is only sent again.
- The venue keeps N levels a side: after a message those beyond them are gone, without a deletion.
- `c` is the CRC-32 of the ten best asks and bids, printed with the decimals of the message's levels, which
  are fixed for a pair. It proves the top ten after each message: `checked`. It proves nothing below them.
- A book's time is the newest of its levels' times.
- `[id, [[price, volume, time, side, type, misc], …], "trade", pair]` is trades; `b` bought, `s` sold, as
  the aggressor. They have no ids.
- Nothing has ids, so receive times order the feed, in file order (`clock.file_order`): they never fall, and
  one that is wildly ahead does not count. A file without receive times is ordered by its messages' times.
- Of a pair with books of several depths, a file's first is read. Heartbeats, `systemStatus`, `ticker`,
  `ohlc`, `spread` and whatever else are skipped. What is broken goes to quarantine and damages its book, or,
  if the pair cannot be told, every book of the file.

Rules: Kraken WebSocket API v1, book, trade, and how to calculate the checksum.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NANOSECONDS_PER_SECOND, NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import INT64_MAX, MOST_DECIMALS, scaled_levels, scaled_trade
from deltabook.udfs.sources.common.json_decoding import decode
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_files import (
    NO_BOOK,
    Line,
    MessageParser,
    MessageSource,
    integer,
    level_list,
    shown,
)
from deltabook.udfs.sources.common.receive_order import file_order
from deltabook.udfs.sources.common.symbols import canonical

_EXCHANGE = "KRAKEN"
_BOOK = re.compile(r"book-([1-9][0-9]{0,5})")
_TIME = re.compile(r"[0-9]{1,10}(\.[0-9]{1,9})?")
_SIDES = {"b": "buy", "s": "sell"}
_ENDING = re.compile(rb'"(trade|book-[0-9]+)" *, *"([!-~]{1,80})" *\] *$')
_MOST_CHECKSUM = 2**32 - 1


class _Parser(MessageParser):
    marks_damage = True

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.clock: dict[int, int] = {}
        self.before = NOT_GIVEN
        self.depths: dict[str, int] = {}

    def message(self, line: Line) -> None:
        if line.received != NOT_GIVEN:
            self.clock[self.row] = line.received
        message = decode(line.payload, self.limits.most_levels)
        if isinstance(message, dict):
            return
        if not isinstance(message, list) or len(message) < 4:
            raise ValueError(f"expected an object or [id, …, channel, pair], found {shown(message)}")
        *parts, channel, pair = message[1:]
        if not isinstance(channel, str) or not isinstance(pair, str):
            raise ValueError(f"expected the names of a channel and a pair, found {shown([channel, pair])}")
        if channel == "trade":
            self._trades(parts, canonical(pair), line)
        elif match := _BOOK.fullmatch(channel):
            self._book(parts, canonical(pair), int(match[1]), line)

    def _book(self, parts: list[Any], symbol: str, depth: int, line: Line) -> None:
        record = _book_update(parts)
        if self.depths.setdefault(symbol, depth) != depth:
            return
        self._add_timed(record | {"symbol": symbol, "kept_levels": depth}, line)

    def _trades(self, parts: list[Any], symbol: str, line: Line) -> None:
        if len(parts) != 1 or not isinstance(parts[0], list):
            raise ValueError(f"expected one list of trades, found {shown(parts)}")
        for record in [_trade(printed) for printed in parts[0]]:
            self._add_timed(record | {"symbol": symbol}, line)

    def _add_timed(self, record: dict[str, Any], line: Line) -> None:
        time = self.clock.setdefault(self.row, record["timestamp"])
        if time == NOT_GIVEN:
            del self.clock[self.row]
            raise ValueError("neither a receive time nor the time of a level orders it")
        self.add(record | {"exchange": _EXCHANGE, "received": line.received, "sequence": time})

    def finish_block(self) -> None:
        """Give the block's records their sequence: it takes later lines to know that a clock ran wild."""
        ordered = file_order(np.fromiter(self.clock.values(), dtype=np.int64), self.before).tolist()
        by_row = dict(zip(self.clock, ordered, strict=True))
        latest = self.before
        for record in self.records.pending:
            latest = by_row.get(record["source_row"], latest)
            if record["record"] != "quarantine":
                record["sequence"] = latest
        self.before = ordered[-1] if ordered else self.before
        self.clock.clear()

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the book that a line's ending names."""
        match = _ENDING.search(line)
        if match is None:
            return None
        if match[1] == b"trade":
            return NO_BOOK
        try:
            book = _EXCHANGE, canonical(match[2].decode("ascii"))
        except InputError:
            return None
        return book if book in self.books else None


class KrakenSource(MessageSource):
    """Reads Kraken captures; see the module for the format."""

    parser = _Parser

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "kraken"


def _book_update(parts: list[Any]) -> dict[str, Any]:
    """Return the record of a book or of its change, without names, receive time and sequence."""
    whole, checksum = set(), NOT_GIVEN
    sides: dict[str, list[list[Any]]] = {"a": [], "b": []}
    times = []
    for part in parts:
        keys = [key for key in ("as", "bs", "a", "b") if isinstance(part, dict) and key in part]
        if not keys:
            raise ValueError(f"expected a part of a book with as, bs, a or b, found {shown(part)}")
        for key in keys:
            whole.add(len(key) == 2)
            sides[key[0]] += level_list(part, key)
            times += [_time(level, 2) for level in part[key]]
        if "c" in part:
            checksum = integer(part, "c")
    if len(whole) != 1:
        raise ValueError("expected a whole book or changes, found both")
    if checksum > _MOST_CHECKSUM:
        raise ValueError(f"field c: {checksum} is no CRC-32")
    levels = scaled_levels(sides["b"], sides["a"])
    printed = sides["a"] + sides["b"]
    return levels | {
        "record": "book_update",
        "is_snapshot": whole == {True},
        "timestamp": max(times, default=NOT_GIVEN),
        "checksum": checksum,
        "price_digits": _digits([price for price, _ in printed]),
        "size_digits": _digits([size for _, size in printed]),
    }


def _trade(printed: Any) -> dict[str, Any]:
    if not isinstance(printed, list) or len(printed) < 4 or printed[3] not in ("b", "s"):
        raise ValueError(f"expected a trade [price, volume, time, b or s, …], found {shown(printed)}")
    numbers = scaled_trade(printed[0], printed[1])
    return numbers | {"record": "trade", "timestamp": _time(printed, 2), "side": _SIDES[printed[3]]}


def _time(fields: list[Any], place: int) -> int:
    """Return a time printed in seconds, in ns."""
    printed = fields[place] if len(fields) > place else None
    if not isinstance(printed, str) or _TIME.fullmatch(printed) is None:
        raise ValueError(f"expected a time in seconds, with 9 decimals at most, found {shown(printed)}")
    time = int(Decimal(printed) * NANOSECONDS_PER_SECOND)
    if time > INT64_MAX:
        raise ValueError(f"time {printed} does not fit int64 in ns")
    return time


def _digits(numbers: list[Any]) -> int:
    """Return the most decimals that any of the numbers is printed with; -1 if there is none."""
    exponents = [int(Decimal(str(number)).as_tuple().exponent) for number in numbers]
    digits = max((max(0, -exponent) for exponent in exponents), default=NOT_GIVEN)
    if digits > MOST_DECIMALS:
        raise ValueError(f"a level is printed with {digits} decimals, expected {MOST_DECIMALS} at most")
    return digits
