"""Source `deribit`: reads captures of Deribit's JSON-RPC WebSocket v2.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, channels `book.INSTRUMENT.raw` and `book.INSTRUMENT.100ms` (or `agg2`): `type` is `snapshot`
  (replaces the whole book) or `change`. A level is `["new" | "change" | "delete", price, amount]`. A
  snapshot may lack levels on one side, or on both.
- Update ids: `prev_change_id` equals `change_id` of the message before. A book with an unbroken chain is
  `verified`.
- Several intervals of one instrument in a file: the source reads the channel that comes first in the file and
  skips the others.
- Top of book, channel `ticker.INSTRUMENT.*`: golden rows of kind `vendor_book`. A ticker has no id. It
  describes the last book message whose `timestamp` is not above the ticker's. A price of 0 means that the
  side is empty. Beside a book at another interval than `raw`, whose messages may be older than the ticker,
  tickers are skipped.
- Trades, channel `trades.*`: `direction` is the aggressor side; it is stored as empty for a block trade
  (`block_trade_id`), which happened outside the book. `trade_seq` of an instrument rises by one.
- Symbols: BTC-PERPETUAL is BTC-USD-PERP, BTC-24SEP21 is BTC-USD-210924. The symbols of options are not
  changed.
- Skipped: grouped books (`book.INSTRUMENT.GROUP.DEPTH.INTERVAL`), `quote`, all other channels, and answers.
- Unreadable lines go to quarantine. If an unreadable line was a book update, the ids show the gap.

Rules: docs.deribit.com, subscriptions: book.(instrument_name).(interval), ticker, trades.
"""

from __future__ import annotations

import re

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.held_tickers import HeldTickers
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_fields import (
    excerpt,
    hash_id,
    read_choice,
    read_integer,
    read_objects,
    read_text,
)
from deltabook.udfs.sources.common.message_files import MessageParser, MessageSource
from deltabook.udfs.sources.common.symbols import canonical_symbol, expand_expiry

_EXCHANGE = "DERIBIT"
_BOOK = re.compile(r"book\.([^.]+)\.(raw|100ms|agg2)")
_EVERY_CHANGE = "raw"
_OPTION = re.compile(r".+-[0-9d]+-[CP]")
_ACTIONS = ("new", "change", "delete")
_SIDES = ("buy", "sell")


class _DeribitParser(MessageParser):
    """Parser of one Deribit file."""

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.channels: dict[str, str] = {}
        """{symbol: the only book channel that is read, which is the symbol's first channel in the file}."""
        self.tickers = HeldTickers()

    def message(self, line: Line) -> None:
        message = self.decode_object(line.payload)
        parameters = message.get("params")
        if not isinstance(parameters, dict) or "channel" not in parameters:
            return self.skip(str(message.get("method", "answer")))
        channel, data = read_text(parameters, "channel"), parameters.get("data")
        kind = channel.partition(".")[0]
        if kind == "trades":
            self._add_trades(read_objects(parameters, "data"), line)
        elif kind not in ("book", "ticker"):
            self.skip(kind)
        elif not isinstance(data, dict):
            raise ValueError(f"field data: expected an object, found {excerpt(data)}")
        elif kind == "ticker":
            self._add_ticker(data, line)
        elif match := _BOOK.fullmatch(channel):
            self._add_book_update(data, match[2], line)
        else:
            self.skip("grouped book")

    def _add_book_update(self, data: JsonObject, interval: str, line: Line) -> None:
        """Add a snapshot or a change; skip a message of an interval that is not read."""
        kind = read_choice(data, "type", ("snapshot", "change")) if "type" in data else "change"
        symbol, time = symbol_of(read_text(data, "instrument_name")), self._read_time(data)
        is_snapshot = kind == "snapshot"
        record: Record = {
            "record": "book_update",
            "exchange": _EXCHANGE,
            "symbol": symbol,
            "timestamp": time,
            "received": line.received,
            "sequence": read_integer(data, "change_id"),
            "prev_sequence": NOT_GIVEN if is_snapshot else read_integer(data, "prev_change_id"),
            "is_snapshot": is_snapshot,
        }
        record |= scale_levels(_read_side(data, "bids"), _read_side(data, "asks"))
        if self.channels.setdefault(symbol, interval) != interval:
            return self.skip(f"book at interval {interval}")
        self.add(record)
        if interval != _EVERY_CHANGE:
            return
        for ticker in self.tickers.add_message(symbol, time, record["sequence"]):
            self.add(ticker)

    def _add_ticker(self, data: JsonObject, line: Line) -> None:
        """Hold a ticker until the book message that it describes is known."""
        symbol, time = symbol_of(read_text(data, "instrument_name")), self._read_time(data)
        sides = [
            [(data.get(f"best_{side}_price"), data.get(f"best_{side}_amount"))] for side in ("bid", "ask")
        ]
        bids, asks = ([] if side[0][0] in (0, None) else side for side in sides)
        record: Record = {
            "record": "golden",
            "kind": "vendor_book",
            "exchange": _EXCHANGE,
            "symbol": symbol,
            "timestamp": time,
            "received": line.received,
            "source_row": self.row,
        }
        record |= scale_levels(bids, asks)
        if self.channels.get(symbol, _EVERY_CHANGE) != _EVERY_CHANGE:
            return self.skip("ticker beside a book that is not raw")
        for ticker in self.tickers.add_ticker(symbol, time, record):
            self.add(ticker)

    def _add_trades(self, entries: list[JsonObject], line: Line) -> None:
        """Add the trades of a message."""
        for record in [self._read_trade(entry) for entry in entries]:
            self.add(record | {"received": line.received})

    def _read_trade(self, entry: JsonObject) -> Record:
        """Return the record of one trade, without its receive time."""
        side = read_choice(entry, "direction", _SIDES)
        record: Record = {
            "record": "trade",
            "exchange": _EXCHANGE,
            "symbol": symbol_of(read_text(entry, "instrument_name")),
            "timestamp": self._read_time(entry),
            "sequence": read_integer(entry, "trade_seq"),
            "trade_id": hash_id(read_text(entry, "trade_id")),
            "side": "" if entry.get("block_trade_id") is not None else side,
        }
        return record | scale_trade(entry.get("price"), entry.get("amount"))

    def _read_time(self, data: JsonObject) -> int:
        """Return the exchange time, ns since 1970 UTC."""
        return self.unit.time_to_nanoseconds(read_integer(data, "timestamp"))

    def finish(self) -> None:
        """Add the tickers that still wait."""
        for ticker in self.tickers.finish():
            self.add(ticker)


class DeribitSource(MessageSource):
    """Spark data source for Deribit captures; the module's docstring describes the format."""

    parser = _DeribitParser
    hosts = ("deribit.com",)

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "deribit"

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message is one of a subscription; see `FileSource.recognizes`."""
        if not isinstance(message, dict) or message.get("method") != "subscription":
            return False
        parameters = message.get("params")
        return isinstance(parameters, dict) and "channel" in parameters and "data" in parameters


def symbol_of(venue_symbol: str) -> str:
    """Return the canonical name of a Deribit instrument.

    Parameters
    ----------
    venue_symbol : str
        The symbol as Deribit prints it: BTC-PERPETUAL, BTC-24SEP21, SOL_USDC-PERPETUAL, BTC_USDC,
        BTC-24SEP21-40000-C.

    Returns
    -------
    str
        The symbol as the tables store it; matches `schemas.names.NAME_PATTERN`.

    Raises
    ------
    InputError
        If the symbol has characters that a name must not have.
    """
    if _OPTION.fullmatch(venue_symbol):
        return canonical_symbol(venue_symbol)
    base, _, expiry = venue_symbol.partition("-")
    pair = base if "_" in base else f"{base}_USD"
    return canonical_symbol(f"{pair}-{expand_expiry(expiry)}" if expiry else base)


def _read_side(data: JsonObject, key: str) -> list[tuple[object, object]]:
    """Return the price and the size of each level of one side; the size of a deleted level is 0."""
    levels = data.get(key)
    if not isinstance(levels, list) or not all(_is_level(level) for level in levels):
        raise ValueError(f"field {key}: expected a list of [action, price, amount], found {excerpt(levels)}")
    return [(price, 0 if action == "delete" else amount) for action, price, amount in levels]


def _is_level(level: object) -> bool:
    return isinstance(level, list) and len(level) == 3 and level[0] in _ACTIONS
