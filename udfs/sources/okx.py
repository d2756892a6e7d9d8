r"""Source `okx`: captures of OKX's public WebSocket v5, and of OKCoin's and OKEx's v3.

A line is one message, bare, behind a receive time, or as cryptofeed dumps it; gzip, zip or plain. A message
of v3 is the Python text `b'…'` of raw-deflated JSON, or the JSON.

- v5 `books`, `books-l2-tbt`, `books50-l2-tbt`: `action` `snapshot` is the whole book, `update` changes of it.
  v3 the same in the tables `…/depth_l2_tbt` and `…/depth`, where a whole book is called `partial`. A level
  is `[price, size, …]`. Of an instrument with several such channels, a file's first is read.
- `books5`, `bbo-tbt`, and v3 `…/depth5` are whole tops of book: golden rows of the kind `vendor_book`.
- `trades`, and v3 `…/trade`, are trades; `side` is the taker's; their ids order them.
- `seqId` and `prevSeqId` link a channel's messages: an unbroken chain is `verified`. Without them the time
  `ts` orders the feed, and only the checksum proves it: `checked`.
- `checksum` is the CRC-32 of the 25 best levels as printed. 0, or none: not given (since mid-2026).
- Times are of the exchange: milliseconds, or ISO 8601 text in v3.
- A file is OKCOIN's if its name or its first connection line says okcoin, else OKX's.
- `trades-all`, `tickers`, candles, answers to subscriptions, `ping` and `pong`, and whatever else are
  skipped. What is broken goes to quarantine and damages its book, or, if the instrument cannot be told,
  every book of the file.

Rules: OKX API v5, Order book channel; OKCoin API v3, depth_l2_tbt.
"""

from __future__ import annotations

import ast
import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import INT64_MAX, scaled_levels, scaled_trade
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
    split_line,
    text,
    text_id,
)
from deltabook.udfs.sources.common.symbols import canonical

LARGEST_MESSAGE = 16 << 20
"""Bytes that a deflated message may have when it is inflated: a full book has about 40 KB."""

_BOOK, _TOP, _TRADE = "book", "top", "trade"
_CHANNELS = {
    "books": _BOOK,
    "books-l2-tbt": _BOOK,
    "books50-l2-tbt": _BOOK,
    "depth_l2_tbt": _BOOK,
    "depth": _BOOK,
    "books5": _TOP,
    "bbo-tbt": _TOP,
    "depth5": _TOP,
    "trades": _TRADE,
    "trade": _TRADE,
}
_NO_BOOKS = {name for name, kind in _CHANNELS.items() if kind != _BOOK} | {"trades-all", "tickers", "ticker"}
_WHOLE = {"snapshot": True, "partial": True, "update": False}
_KEEP_ALIVE = (b"ping", b"pong")
_DEFLATED = re.compile(
    rb"""b'(?:[ -&(-\[\]-~]++|\\[\\'"nrt]|\\x[0-9a-f]{2})*+'"""
    rb"""|b"(?:[ !#-\[\]-~]++|\\[\\'"nrt]|\\x[0-9a-f]{2})*+\""""
)
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED_CHANNEL = re.compile(rb'"(?:channel"\s*:\s*"|table"\s*:\s*"[a-z]+/)([a-z0-9_-]+)"')
_NAMED_INSTRUMENT = re.compile(rb'"(?:instId|instrument_id)"\s*:\s*"([!-~]{1,80}?)"')


class _Parser(MessageParser):
    marks_damage = True

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.exchange = _exchange(Path(path).name)
        self.decided = False
        self.channels: dict[str, str] = {}

    def connection(self, line: bytes) -> None:
        """Let the first connection say whose file it is, if no message came before it."""
        if line.strip() and not self.decided:
            self.decided = True
            if _exchange(line.split(b" ", 1)[0].decode("ascii", "replace")) == "OKCOIN":
                self.exchange = "OKCOIN"

    def message(self, line: Line) -> None:
        self.decided = True
        if line.payload.strip() in _KEEP_ALIVE:
            return
        message = decode(_inflated(line.payload), self.limits.most_levels)
        if not isinstance(message, dict):
            raise ValueError(f"expected an object, found {shown(message)}")
        channel, instrument = _channel(message)
        if "event" in message or channel not in _CHANNELS:
            return
        data = message.get("data")
        if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
            raise ValueError(f"field data: expected a list of objects, found {shown(data)}")
        records = [
            record
            for entry in data
            if (record := self._record(message, channel, instrument, entry, line)) is not None
        ]
        for record in records:
            self.add(record)

    def _record(
        self, message: dict[str, Any], channel: str, instrument: str, entry: dict[str, Any], line: Line
    ) -> dict[str, Any] | None:
        symbol = canonical(instrument or text(entry, "instrument_id"))
        time = self._time(entry)
        head: dict[str, Any] = {"exchange": self.exchange, "symbol": symbol}
        head |= {"timestamp": time, "received": line.received}
        kind = _CHANNELS[channel]
        if kind == _TRADE:
            return head | _trade(entry, time)
        head |= scaled_levels(level_list(entry, "bids"), level_list(entry, "asks"))
        if kind == _TOP:
            sequence = _ids(entry, time)["sequence"]
            return head | {"record": "golden", "kind": "vendor_book", "sequence": sequence}
        action = message.get("action")
        if not isinstance(action, str) or action not in _WHOLE:
            raise ValueError(f"field action: expected snapshot, partial or update, found {shown(action)}")
        head |= {"record": "book_update", "is_snapshot": _WHOLE[action], "checksum": _checksum(entry)}
        head |= _ids(entry, time)
        return head if self.channels.setdefault(symbol, channel) == channel else None

    def _time(self, entry: dict[str, Any]) -> int:
        if "timestamp" not in entry:
            time = self.unit.one(integer(entry, "ts"))
        else:
            time = _iso_time(text(entry, "timestamp"))
        if time <= 0:
            raise ValueError(f"expected a time after 1970, found {shown(entry.get('timestamp', 0))}")
        return time

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the book of the channel and instrument that a line names."""
        try:
            split = split_line(line)
            payload = _inflated(split.payload) if split else line
        except ValueError:
            payload = line
        channels = {name.decode("ascii") for name in _NAMED_CHANNEL.findall(payload)}
        instruments = {name.decode("ascii") for name in _NAMED_INSTRUMENT.findall(payload)}
        if channels and channels <= _NO_BOOKS:
            return NO_BOOK
        if len(instruments) != 1:  # a name given twice says of neither that it is the line's
            return None
        try:
            book = self.exchange, canonical(instruments.pop())
        except InputError:
            return None
        return book if book in self.books else None


class OkxSource(MessageSource):
    """Reads captures of OKX and OKCoin; see the module for the format."""

    parser = _Parser

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "okx"


def _exchange(named: str) -> str:
    return "OKCOIN" if "okcoin" in named.lower() else "OKX"


def _inflated(payload: bytes) -> bytes:
    """Return a message's JSON."""
    payload = payload.strip()
    if not payload.startswith((b"b'", b'b"')):
        return payload
    if _DEFLATED.fullmatch(payload) is None:
        raise ValueError("expected the Python text of bytes, b'…'")
    stream = zlib.decompressobj(-15)
    try:
        message = stream.decompress(ast.literal_eval(payload.decode("ascii")), LARGEST_MESSAGE)
    except zlib.error as error:
        raise ValueError(f"not raw deflate: {error}") from None
    if not stream.eof:
        raise ValueError(f"the deflated message is cut off, or longer than {LARGEST_MESSAGE >> 20} MiB")
    return message


def _channel(message: dict[str, Any]) -> tuple[str, str]:
    """Return the channel's name, and the instrument's if it stands beside it; empty if there is none."""
    if "table" in message:
        return text(message, "table").rpartition("/")[2], ""
    if "arg" not in message:
        return "", ""
    argument = message["arg"]
    if not isinstance(argument, dict):
        raise ValueError(f"field arg: expected an object, found {shown(argument)}")
    channel = text(argument, "channel")
    return channel, text(argument, "instId") if channel in _CHANNELS else ""


def _ids(entry: dict[str, Any], timestamp: int) -> dict[str, int]:
    """Return `sequence` and `prev_sequence`; without ids the time, ns, stands for them."""
    if entry.get("seqId") is None:
        return {"sequence": timestamp, "prev_sequence": NOT_GIVEN}
    first = entry.get("prevSeqId") in (None, -1, "-1")
    return {
        "sequence": integer(entry, "seqId"),
        "prev_sequence": NOT_GIVEN if first else integer(entry, "prevSeqId"),
    }


def _checksum(entry: dict[str, Any]) -> int:
    """Return the checksum, which is printed as a signed number, as an unsigned one."""
    value = entry.get("checksum")
    if value is None or (value == 0 and not isinstance(value, bool)):
        return NOT_GIVEN
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**31) <= value < 2**32:
        raise ValueError(f"field checksum: expected a CRC-32, found {shown(value)}")
    return value & 0xFFFFFFFF


def _trade(entry: dict[str, Any], timestamp: int) -> dict[str, Any]:
    v3 = "trade_id" in entry
    printed = entry.get("trade_id" if v3 else "tradeId")
    side = entry.get("side")
    if side not in ("buy", "sell"):
        raise ValueError(f"field side: expected buy or sell, found {shown(side)}")
    size = next((entry[key] for key in ("sz", "size", "qty") if key in entry), None)
    if isinstance(printed, str) and not printed.isdecimal():
        trade_id, sequence = text_id(printed), timestamp
    else:
        trade_id = integer(entry, "trade_id" if v3 else "tradeId")
        sequence = trade_id or timestamp
    numbers = scaled_trade(entry.get("price" if v3 else "px"), size)
    return numbers | {"record": "trade", "side": side, "trade_id": trade_id, "sequence": sequence}


def _iso_time(printed: str) -> int:
    """Return a time in ns."""
    if _ISO_TIME.fullmatch(printed) is None:
        raise ValueError(f"expected a time like 2021-07-22T23:16:39.168Z, found {shown(printed)}")
    time = (datetime.fromisoformat(printed) - _EPOCH) // timedelta(microseconds=1) * 1000
    if time > INT64_MAX:
        raise ValueError(f"time {printed} does not fit int64 in ns")
    return time
