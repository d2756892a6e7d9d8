r"""Source `okx`: reads captures of OKX's public WebSocket v5, and of OKCoin's and OKEx's WebSocket v3.

Format: one message per line. A line holds the message alone, the message after a receive time, or a
cryptofeed dump line. Files may be plain text, gzip, or a zip with one member. A v3 message is plain JSON, or
JSON compressed with raw deflate and printed as a Python bytes literal: `b'…'`.

- Order book, v5 channels `books`, `books-l2-tbt` and `books50-l2-tbt`: `action` is `snapshot` (replaces the
  whole book) or `update` (changes levels). v3 uses the tables `…/depth_l2_tbt` and `…/depth`, and calls a
  snapshot `partial`. A level is `[price, size, …]`.
- Archive of order books (`BTC-USDT-L2orderbook-400lv-….tar.gz`): lines
  `{"instId","action","ts","asks","bids"}`, with a snapshot every 15 minutes. They have no ids and no
  checksum: each snapshot is compared with the book before it.
- Several book channels of one instrument in a file: the source reads the channel that comes first in the file
  and skips the other channels.
- Top of book, channels `books5` and `bbo-tbt`, and v3 `…/depth5`: golden rows of kind `vendor_book`.
- Trades, channel `trades` and v3 `…/trade`: `side` is the aggressor side. Trades are ordered by id.
- Update ids: `seqId` and `prevSeqId` link the messages of a channel. A book with an unbroken chain of ids is
  `verified`. Messages without ids are ordered by the exchange time. Without ids, only the checksum proves
  the book, and the book is `checked`.
- Checksum: `checksum` is the CRC-32 of the 25 best levels of each side, as printed. A checksum that is 0 or
  absent means not given (OKX sends 0 since mid-2026).
- Times: exchange time in milliseconds; ISO 8601 text in v3.
- Exchange: OKCOIN if the file name or the first connection line contains `okcoin`, otherwise OKX.
- Skipped: `trades-all`, `tickers`, candles, responses to subscriptions, `ping`, `pong` and all other
  messages.
- Unreadable lines go to quarantine, and their book is marked as damaged. If an unreadable line does not show
  its instrument, every book of the file is marked as damaged.

Rules: OKX API v5, Order book channel; OKCoin API v3, depth_l2_tbt.
"""

from __future__ import annotations

import ast
import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deltabook.schemas.names import INT64_MAX, NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line, split_line
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_fields import (
    excerpt,
    hash_id,
    read_choice,
    read_integer,
    read_level_list,
    read_objects,
    read_signed_checksum,
    read_text,
)
from deltabook.udfs.sources.common.message_files import (
    KEEP_ALIVE,
    NO_BOOK,
    MessageParser,
    MessageSource,
)
from deltabook.udfs.sources.common.symbols import canonical_symbol

MAX_INFLATED_BYTES = 16 << 20
"""Largest size of a message after decompression, bytes; a full book takes about 40 KB."""

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
_CHANNELS_WITHOUT_BOOK = {name for name, kind in _CHANNELS.items() if kind != _BOOK} | {
    "trades-all",
    "tickers",
    "ticker",
}
_IS_SNAPSHOT = {"snapshot": True, "partial": True, "update": False}
_DEFLATED = re.compile(
    rb"""b'(?:[ -&(-\[\]-~]++|\\[\\'"nrt]|\\x[0-9a-f]{2})*+'"""
    rb"""|b"(?:[ !#-\[\]-~]++|\\[\\'"nrt]|\\x[0-9a-f]{2})*+\""""
)
_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED_CHANNEL = re.compile(rb'"(?:channel"\s*:\s*"|table"\s*:\s*"[a-z]+/)([a-z0-9_-]+)"')
_NAMED_INSTRUMENT = re.compile(rb'"(?:instId|instrument_id)"\s*:\s*"((?:[^"\\]|\\u[0-9a-fA-F]{4}){1,200})"')


class _OkxParser(MessageParser):
    """Parser of one file of OKX or OKCoin."""

    marks_damage = True

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.exchange = _exchange_in(Path(path).name)
        self.exchange_is_final = False
        self.channels: dict[str, str] = {}
        """{symbol: the only book channel that is read, which is the symbol's first channel in the file}."""

    def connection(self, line: Line) -> None:
        """Set the exchange from the first connection line, unless a message precedes the line."""
        if line.url and not self.exchange_is_final:
            self.exchange_is_final = True
            if _exchange_in(line.url) == "OKCOIN":
                self.exchange = "OKCOIN"

    def message(self, line: Line) -> None:
        self.exchange_is_final = True
        if line.payload.strip() in KEEP_ALIVE:
            return self.skip("ping or pong")
        message = self.decode_object(_inflate(line.payload))
        if _is_archived(message):
            record = self._read_entry(message, "books", read_text(message, "instId"), message, line)
            return self.skip("books beside another depth") if record is None else self.add(record)
        channel, instrument = _read_channel(message)
        if "event" in message or channel not in _CHANNELS:
            return self.skip(channel if channel and "event" not in message else "answer")
        data = read_objects(message, "data")
        # Read all entries before adding the first: one unreadable entry puts the whole line in quarantine.
        records = [
            record
            for entry in data
            if (record := self._read_entry(message, channel, instrument, entry, line)) is not None
        ]
        for record in records:
            self.add(record)
        if data and not records:
            self.skip(channel)

    def _read_entry(
        self, message: JsonObject, channel: str, instrument: str, entry: JsonObject, line: Line
    ) -> Record | None:
        """Return the record of one entry of a message's `data`.

        The result is None for an entry of a book channel that is skipped, because another book channel of the
        instrument is read.
        """
        symbol = canonical_symbol(instrument or read_text(entry, "instrument_id"))
        time = self._read_time(entry)
        record: Record = {
            "exchange": self.exchange,
            "symbol": symbol,
            "timestamp": time,
            "received": line.received,
        }
        kind = _CHANNELS[channel]
        if kind == _TRADE:
            return record | _read_trade(entry, time)
        record |= scale_levels(read_level_list(entry, "bids"), read_level_list(entry, "asks"))
        if kind == _TOP:
            sequence = _read_ids(entry, time)["sequence"]
            return record | {"record": "golden", "kind": "vendor_book", "sequence": sequence}
        action = message.get("action")
        if not isinstance(action, str) or action not in _IS_SNAPSHOT:
            raise ValueError(f"field action: expected snapshot, partial or update, found {excerpt(action)}")
        record["record"], record["is_snapshot"] = "book_update", _IS_SNAPSHOT[action]
        record["checksum"] = read_signed_checksum(entry, "checksum")
        record |= _read_ids(entry, time)
        return record if self.channels.setdefault(symbol, channel) == channel else None

    def _read_time(self, entry: JsonObject) -> int:
        """Return the exchange time of an entry (`timestamp` in v3, `ts` in v5), ns since 1970 UTC."""
        if "timestamp" not in entry:
            time = self.unit.time_to_nanoseconds(read_integer(entry, "ts"))
        else:
            time = _parse_iso_time(read_text(entry, "timestamp"))
        if time <= 0:
            raise ValueError(f"expected a time after 1970, found {excerpt(entry.get('timestamp', 0))}")
        return time

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the (exchange, symbol) of the book that an unreadable line names.

        Returns
        -------
        (exchange, symbol) or None
            `NO_BOOK` if the line names only channels without a book; None if the line's book is unknown.
        """
        try:
            split = split_line(line)
            payload = _inflate(split.payload) or line
        except ValueError:
            payload = line
        channels = {name.decode("ascii") for name in _NAMED_CHANNEL.findall(payload)}
        instruments = set(_NAMED_INSTRUMENT.findall(payload))
        if channels and channels <= _CHANNELS_WITHOUT_BOOK:
            return NO_BOOK
        if len(instruments) != 1:  # with two names, it is unclear which instrument the line belongs to
            return None
        return self.find_named_book(self.exchange, instruments.pop())


class OkxSource(MessageSource):
    """Spark data source for OKX and OKCoin captures; the module's docstring describes the format."""

    parser = _OkxParser
    hosts = ("okx.com", "okex.com", "okcoin.com")

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message has a channel of OKX or a table of OKCoin; see `MessageSource`."""
        if not isinstance(message, dict):
            return False
        if _is_archived(message):
            return True
        argument, table = message.get("arg"), message.get("table")
        if isinstance(argument, dict):
            return "channel" in argument and "instType" not in argument and "data" in message
        return isinstance(table, str) and "/" in table and "data" in message

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "okx"


def _is_archived(message: JsonObject) -> bool:
    """Return whether a message is a line of OKX's archive of order books."""
    return "arg" not in message and {"instId", "action", "ts", "asks", "bids"} <= message.keys()


def _exchange_in(name: str) -> str:
    """Return OKCOIN if a file name or a URL contains `okcoin`, else OKX."""
    return "OKCOIN" if "okcoin" in name.lower() else "OKX"


def _inflate(payload: bytes) -> bytes:
    """Return the JSON of a message; decompress a payload that is printed as a Python bytes literal."""
    payload = payload.strip()
    if not payload.startswith((b"b'", b'b"')):
        return payload
    if _DEFLATED.fullmatch(payload) is None:
        raise ValueError("expected bytes printed by Python, b'…'")
    stream = zlib.decompressobj(-15)
    try:
        message = stream.decompress(ast.literal_eval(payload.decode("ascii")), MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise ValueError(f"not raw deflate: {error}") from None
    if not stream.eof:
        raise ValueError(f"the deflated message is truncated or longer than {MAX_INFLATED_BYTES >> 20} MiB")
    return message


def _read_channel(message: JsonObject) -> tuple[str, str]:
    """Return (channel, instrument) of a message.

    The values come from the field `table` or `arg`; a value that the field does not give is empty.
    """
    if "table" in message:
        return read_text(message, "table").rpartition("/")[2], ""
    if "arg" not in message:
        return "", ""
    argument = message["arg"]
    if not isinstance(argument, dict):
        raise ValueError(f"field arg: expected an object, found {excerpt(argument)}")
    channel = read_text(argument, "channel")
    return channel, read_text(argument, "instId") if channel in _CHANNELS else ""


def _read_ids(entry: JsonObject, timestamp: int) -> Record:
    """Return `sequence` and `prev_sequence` of an entry; without ids, the sequence is `timestamp` (ns)."""
    if entry.get("seqId") is None:
        return {"sequence": timestamp, "prev_sequence": NOT_GIVEN}
    is_first = entry.get("prevSeqId") in (None, -1, "-1")
    return {
        "sequence": read_integer(entry, "seqId"),
        "prev_sequence": NOT_GIVEN if is_first else read_integer(entry, "prevSeqId"),
    }


def _read_trade(entry: JsonObject, timestamp: int) -> Record:
    """Return the columns of one trade; a trade without a numeric id has `timestamp` (ns) as sequence."""
    is_v3 = "trade_id" in entry
    printed_id = entry.get("trade_id" if is_v3 else "tradeId")
    side = read_choice(entry, "side", ("buy", "sell"))
    size = next((entry[key] for key in ("sz", "size", "qty") if key in entry), None)
    if isinstance(printed_id, str) and not printed_id.isdecimal():
        trade_id, sequence = hash_id(printed_id), timestamp
    else:
        trade_id = read_integer(entry, "trade_id" if is_v3 else "tradeId")
        sequence = trade_id or timestamp
    numbers = scale_trade(entry.get("price" if is_v3 else "px"), size)
    record: Record = {"record": "trade", "side": side, "trade_id": trade_id, "sequence": sequence}
    return record | numbers


def _parse_iso_time(iso_text: str) -> int:
    """Convert a time such as 2021-07-22T23:16:39.168Z to ns since 1970 UTC."""
    if _ISO_TIME.fullmatch(iso_text) is None:
        raise ValueError(f"expected a time like 2021-07-22T23:16:39.168Z, found {excerpt(iso_text)}")
    time = (datetime.fromisoformat(iso_text) - _EPOCH) // timedelta(microseconds=1) * 1000
    if time > INT64_MAX:
        raise ValueError(f"time {iso_text} does not fit int64 in ns")
    return time
