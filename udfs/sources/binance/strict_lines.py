"""Strict reader of one Binance capture line.

The strict reader accepts any valid JSON, checks every field that it uses, and explains each error. It reads
the lines that the fast reader (`fast_scan`) cannot read.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from deltabook.schemas.names import NOT_GIVEN, valid_name
from deltabook.udfs.numbers.decimal_text import exact, scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common import symbols
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.json_decoding import JsonObject, decode_message
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_fields import (
    excerpt,
    read_integer,
    read_text,
)

SPOT, USD_M, COIN_M = "BINANCE", "BINANCE_FUTURES", "BINANCE_DELIVERY"
_COIN_MARGINED = re.compile(r".+USD_(PERP|\d{6})")
_PARTIAL_STREAM = re.compile(r"([^@]+)@depth\d")
_SNAPSHOT_ID = "lastUpdateId"
_DEPTH_PATH = re.compile(r"/(api|fapi|dapi)/v\d+/depth")
_MARKETS = {"api": SPOT, "fapi": USD_M, "dapi": COIN_M}


class SnapshotWithoutSymbol(NamedTuple):
    """A REST depth snapshot that does not name its symbol.

    Attributes
    ----------
    message : dict
        The decoded snapshot. When the symbol is known, pass it to `snapshot_record`.
    """

    message: JsonObject


class Skipped(NamedTuple):
    """A message that this source does not read.

    Attributes
    ----------
    kind : str
        Name of the stream or kind of message.
    """

    kind: str


def instrument(venue_symbol: str, is_futures: bool) -> tuple[str, str]:
    """Return the exchange and the canonical symbol of a message.

    Parameters
    ----------
    venue_symbol : str
        The symbol as Binance prints it: BTCUSDT, BTCUSDT_241227, BTCUSD_PERP (COIN-M); any case.
    is_futures : bool
        Whether the message comes from a futures market.

    Returns
    -------
    (exchange, symbol) : (str, str)
        The names as the tables store them, such as BINANCE_FUTURES and BTC-USDT-PERP.

    Raises
    ------
    InputError
        If the symbol has characters that a name must not have.
    """
    venue_symbol = valid_name(venue_symbol.upper() if venue_symbol.isascii() else venue_symbol, "symbol")
    if not is_futures:
        return SPOT, symbols.canonical_symbol(venue_symbol)
    if _COIN_MARGINED.fullmatch(venue_symbol):
        return COIN_M, symbols.canonical_symbol(venue_symbol, perpetual=True, quote="USD")
    return USD_M, symbols.canonical_symbol(venue_symbol, perpetual=True)


def read_line(line: Line, most_levels: int = Limits.most_levels) -> Record | SnapshotWithoutSymbol | Skipped:
    """Read one capture line.

    Parameters
    ----------
    line : Line
        A line as `envelopes.split_line` returns it.
    most_levels : int
        Largest number of level changes of a message.

    Returns
    -------
    Record, SnapshotWithoutSymbol or Skipped
        The record of the message, with `received` in ns since 1970 UTC and `timestamp` in the unit that the
        message uses. A `SnapshotWithoutSymbol` for a snapshot whose symbol the line does not show. A
        `Skipped` for a message that this source does not read.

    Raises
    ------
    ValueError, InputError
        If the line is not readable; the error message gives the reason.
    """
    if line.url:
        response = _read_response(line, most_levels)
        return response if isinstance(response, Skipped) else {"received": line.received, **response}
    message = decode_message(line.payload, most_levels)
    if not isinstance(message, dict):
        raise ValueError("expected a JSON object")
    stream = message.get("stream", "")
    if isinstance(message.get("data"), dict):
        message = message["data"]
    record = _read_message(message, stream if isinstance(stream, str) else "")
    if isinstance(record, Skipped | SnapshotWithoutSymbol):
        return record
    return {"received": line.received, **record}


def snapshot_record(message: JsonObject, exchange: str, symbol: str) -> Record:
    """Return the record of a REST depth snapshot of a known instrument.

    Parameters
    ----------
    message : dict
        The decoded snapshot.
    exchange, symbol : str
        The snapshot's exchange and symbol, as the tables store them.

    Returns
    -------
    Record
        The record, with `timestamp` in the unit that the snapshot uses; -1 if not given.

    Raises
    ------
    ValueError
        If a field is absent or not readable; the error message names the field.
    """
    record: Record = {
        "record": "book_update",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": read_integer(message, "T") if "T" in message else NOT_GIVEN,
        "sequence": read_integer(message, _SNAPSHOT_ID),
        "is_snapshot": True,
    }
    return record | _read_levels(message, "bids", "asks")


def _read_response(line: Line, most_levels: int) -> Record | Skipped:
    """Return the record of a response to a depth request; `Skipped` for any other response.

    The URL of the request names the market and the symbol.
    """
    url = urlsplit(line.url)
    path = _DEPTH_PATH.fullmatch(url.path)
    if path is None:
        return Skipped(f"response of {url.path.rpartition('/')[2]}")
    message = decode_message(line.payload, most_levels)
    if not isinstance(message, dict):
        raise ValueError("expected a JSON object")
    if "code" in message and _SNAPSHOT_ID not in message:
        return Skipped("error response")
    requested = parse_qs(url.query).get("symbol", [""])
    if len(requested) > 1:
        raise ValueError(f"the URL asks for several symbols: {excerpt(requested)}")
    _, symbol = instrument(requested[0], path[1] != "api")
    return snapshot_record(message, _MARKETS[path[1]], symbol)


def _read_message(message: JsonObject, stream: str) -> Record | SnapshotWithoutSymbol | Skipped:
    """Return the record of a message; `Skipped` for a message that this source does not read.

    The event type `e` and the name of the stream decide what the message is.
    """
    event = message.get("e", "")
    partial = _PARTIAL_STREAM.match(stream)
    if _SNAPSHOT_ID in message and not event:
        is_futures = "T" in message
        if partial:
            return _read_partial_book(message, partial[1], is_futures)
        venue_symbol = message.get("symbol")
        if isinstance(venue_symbol, str):
            return snapshot_record(message, *instrument(venue_symbol, is_futures))
        return SnapshotWithoutSymbol(message)
    if event == "depthUpdate":
        read = _read_partial_book if partial else _read_depth_update
        return read(message, read_text(message, "s"), "pu" in message)
    if event in ("trade", "aggTrade"):
        return _read_trade(message, is_aggregate=event == "aggTrade")
    if event == "bookTicker" or (not event and {"u", "b", "B", "a", "A"} <= message.keys()):
        return _read_ticker(message, bool(event))
    kind = event if event and isinstance(event, str) else stream.partition("@")[2] or "answer"
    return Skipped(kind)


def _read_depth_update(message: JsonObject, venue_symbol: str, is_futures: bool) -> Record:
    """Return the record of a `depthUpdate` message, a book update."""
    exchange, symbol = instrument(venue_symbol, is_futures)
    record: Record = {
        "record": "book_update",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": read_integer(message, "T" if is_futures or "T" in message else "E"),
        "sequence": read_integer(message, "u"),
        "first_sequence": read_integer(message, "U"),
        "prev_sequence": read_integer(message, "pu") if is_futures else NOT_GIVEN,
    }
    record |= _read_levels(message, "b", "a")
    if record["first_sequence"] > record["sequence"]:
        raise ValueError(f"U {record['first_sequence']} is above u {record['sequence']}")
    return record


def _read_partial_book(message: JsonObject, venue_symbol: str, is_futures: bool) -> Record:
    """Return the golden record of a partial book message, which contains the best levels of the book."""
    exchange, symbol = instrument(venue_symbol, is_futures)
    bids, asks, last = ("b", "a", "u") if message.get("e") else ("bids", "asks", _SNAPSHOT_ID)
    record: Record = {
        "record": "golden",
        "kind": "vendor_book",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": _time_if_given(message),
        "sequence": read_integer(message, last),
    }
    return record | _read_levels(message, bids, asks)


def _read_trade(message: JsonObject, *, is_aggregate: bool) -> Record:
    """Return the record of a `trade` or `aggTrade` message."""
    exchange, symbol = instrument(read_text(message, "s"), "M" not in message)
    if not isinstance(message.get("m"), bool):
        raise ValueError(f"field m: expected true or false, found {excerpt(message.get('m'))}")
    trade_id = read_integer(message, "a" if is_aggregate else "t")
    in_book = message.get("X", "MARKET") == "MARKET"
    record: Record = {
        "record": "agg_trade" if is_aggregate else "trade",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": read_integer(message, "T"),
        "sequence": trade_id,
        "trade_id": trade_id,
        "side": ("sell" if message["m"] else "buy") if in_book else "",
    }
    return record | scale_trade(message.get("p"), message.get("q"))


def _read_ticker(message: JsonObject, is_futures: bool) -> Record:
    """Return the golden record of a `bookTicker` message, which contains the best bid and ask."""
    exchange, symbol = instrument(read_text(message, "s"), is_futures)
    bids, asks = ([(message.get(price), message.get(size))] for price, size in ("bB", "aA"))
    record: Record = {
        "record": "golden",
        "kind": "book_ticker",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": _time_if_given(message),
        "sequence": read_integer(message, "u"),
    }
    return record | scale_levels(_drop_empty_side(bids), _drop_empty_side(asks))


def _drop_empty_side(levels: list[tuple[object, object]]) -> list[tuple[object, object]]:
    """Return the levels whose price is not 0; Binance prints a level of price 0 for an empty side.

    Raises
    ------
    ValueError
        If a price or a size is not readable, also in a level that is removed.
    """
    for _, size in levels:
        exact(size, "size")
    return [level for level in levels if exact(level[0], "price")[0]]


def _time_if_given(message: JsonObject) -> int:
    """Return the transaction time, else the event time, in the message's unit; -1 if neither is given."""
    return next((read_integer(message, key) for key in ("T", "E") if key in message), NOT_GIVEN)


def _read_levels(message: JsonObject, bids: str, asks: str) -> Record:
    """Return the level columns of a message, whose fields named by `bids` and `asks` contain the levels."""
    return scale_levels(_read_side(message, bids), _read_side(message, asks))


def _read_side(message: JsonObject, key: str) -> list[list[object]]:
    """Return the decoded levels of one field; `scale_levels` will check each level."""
    levels = message.get(key)
    if not isinstance(levels, list):
        raise ValueError(f"field {key}: expected a list of levels, found {excerpt(levels)}")
    return levels
