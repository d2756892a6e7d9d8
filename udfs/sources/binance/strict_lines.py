"""The strict way through one Binance capture line: any valid JSON, every field checked, errors named."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from deltabook.schemas.names import NOT_GIVEN, valid_name
from deltabook.udfs.numbers.decimal_text import exact, scaled_levels, scaled_trade
from deltabook.udfs.sources.common import symbols
from deltabook.udfs.sources.common.json_decoding import decode
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_files import Line, integer, shown, text

SPOT, USD_M, COIN_M = "BINANCE", "BINANCE_FUTURES", "BINANCE_DELIVERY"
_COIN_MARGINED = re.compile(r".+USD_(PERP|\d{6})")
_PARTIAL_STREAM = re.compile(r"([^@]+)@depth\d")
_BARE_SNAPSHOT = "lastUpdateId"
_DEPTH_PATH = re.compile(r"/(api|fapi|dapi)/v\d+/depth")
_MARKETS = {"api": SPOT, "fapi": USD_M, "dapi": COIN_M}


def instrument(spelled: str, futures: bool) -> tuple[str, str]:
    """Name the market and the instrument of a message.

    Parameters
    ----------
    spelled : str
        As Binance spells it: BTCUSDT, BTCUSDT_241227, BTCUSD_PERP (COIN-M); any case.
    futures : bool
        Whether the message is one of the futures markets.

    Returns
    -------
    (exchange, symbol) : (str, str)
        As the tables name them.

    Raises
    ------
    InputError
        If it is no name.
    """
    spelled = valid_name(spelled.upper() if spelled.isascii() else spelled, "symbol")
    if not futures:
        return SPOT, symbols.canonical(spelled)
    if _COIN_MARGINED.fullmatch(spelled):
        return COIN_M, symbols.canonical(spelled, perpetual=True, quote="USD")
    return USD_M, symbols.canonical(spelled, perpetual=True)


def read_line(line: Line, most_levels: int = Limits.most_levels) -> dict[str, Any] | None:
    """Read one capture line.

    Parameters
    ----------
    line : Line
        As `messages.split_line` takes it apart.
    most_levels : int
        Level changes that a message may have.

    Returns
    -------
    dict or None
        Columns of `records` (times as printed); None for a message that is none of ours. A snapshot
        that names no symbol comes back with its message under `pending` for `place_snapshot`.

    Raises
    ------
    ValueError, InputError
        If the line is not readable; the text says why.
    """
    if line.url:
        record = _answer(line, most_levels)
        return None if record is None else {"received": line.received, **record}
    message = decode(line.payload, most_levels)
    if not isinstance(message, dict):
        raise ValueError("expected a JSON object")
    stream = message.get("stream", "")
    if isinstance(message.get("data"), dict):
        message = message["data"]
    record = _read_message(message, stream if isinstance(stream, str) else "")
    return None if record is None else {"received": line.received, **record}


def place_snapshot(message: dict[str, Any], exchange: str, symbol: str) -> dict[str, Any]:
    """Make the record of a REST snapshot whose instrument is known.

    Parameters
    ----------
    message : dict
        The decoded snapshot.
    exchange, symbol : str
        Its instrument.

    Returns
    -------
    dict
        Columns of `records`.

    Raises
    ------
    ValueError
        If it is not readable.
    """
    return {
        "record": "book_update",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": integer(message, "T") if "T" in message else NOT_GIVEN,
        "sequence": integer(message, _BARE_SNAPSHOT),
        "is_snapshot": True,
        **_sides(message, "bids", "asks"),
    }


def _answer(line: Line, most_levels: int) -> dict[str, Any] | None:
    """Read an answer to a request; the URL says whose depth it is."""
    url = urlsplit(line.url)
    path = _DEPTH_PATH.fullmatch(url.path)
    if path is None:
        return None
    message = decode(line.payload, most_levels)
    if not isinstance(message, dict):
        raise ValueError("expected a JSON object")
    if "code" in message and _BARE_SNAPSHOT not in message:
        return None  # an error instead of a snapshot
    asked = parse_qs(url.query).get("symbol", [""])
    if len(asked) > 1:
        raise ValueError(f"the URL asks for several symbols: {shown(asked)}")
    _, symbol = instrument(asked[0], path[1] != "api")
    return place_snapshot(message, _MARKETS[path[1]], symbol)


def _read_message(message: dict[str, Any], stream: str) -> dict[str, Any] | None:
    event = message.get("e", "")
    partial = _PARTIAL_STREAM.match(stream)
    if _BARE_SNAPSHOT in message and not event:
        futures = "T" in message
        if partial:
            return _partial_book(message, partial[1], futures)
        if isinstance(message.get("symbol"), str):
            return place_snapshot(message, *instrument(message["symbol"], futures))
        return {"pending": message}
    if event == "depthUpdate":
        return (_partial_book if partial else _depth)(message, text(message, "s"), "pu" in message)
    if event in ("trade", "aggTrade"):
        return _trade(message, event)
    if event == "bookTicker" or (not event and {"u", "b", "B", "a", "A"} <= message.keys()):
        return _ticker(message, bool(event))
    return None


def _depth(message: dict[str, Any], spelled: str, futures: bool) -> dict[str, Any]:
    exchange, symbol = instrument(spelled, futures)
    record: dict[str, Any] = {
        "record": "book_update",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": integer(message, "T" if futures or "T" in message else "E"),
        "sequence": integer(message, "u"),
        "first_sequence": integer(message, "U"),
        "prev_sequence": integer(message, "pu") if futures else NOT_GIVEN,
        **_sides(message, "b", "a"),
    }
    if record["first_sequence"] > record["sequence"]:
        raise ValueError(f"U {record['first_sequence']} is above u {record['sequence']}")
    return record


def _partial_book(message: dict[str, Any], spelled: str, futures: bool) -> dict[str, Any]:
    exchange, symbol = instrument(spelled, futures)
    bids, asks, last = ("b", "a", "u") if message.get("e") else ("bids", "asks", _BARE_SNAPSHOT)
    return {
        "record": "golden",
        "kind": "vendor_book",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": _time_if_given(message),
        "sequence": integer(message, last),
        **_sides(message, bids, asks),
    }


def _trade(message: dict[str, Any], event: str) -> dict[str, Any]:
    exchange, symbol = instrument(text(message, "s"), "M" not in message)
    if not isinstance(message.get("m"), bool):
        raise ValueError(f"field m: expected true or false, found {shown(message.get('m'))}")
    trade_id = integer(message, "t" if event == "trade" else "a")
    in_book = message.get("X", "MARKET") == "MARKET"
    return {
        "record": "trade" if event == "trade" else "agg_trade",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": integer(message, "T"),
        "sequence": trade_id,
        "trade_id": trade_id,
        "side": ("sell" if message["m"] else "buy") if in_book else "",
        **scaled_trade(message.get("p"), message.get("q")),
    }


def _ticker(message: dict[str, Any], futures: bool) -> dict[str, Any]:
    exchange, symbol = instrument(text(message, "s"), futures)
    bids, asks = ([(message.get(price), message.get(size))] for price, size in ("bB", "aA"))
    return {
        "record": "golden",
        "kind": "book_ticker",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": _time_if_given(message),
        "sequence": integer(message, "u"),
        **scaled_levels(_without_zeros(bids), _without_zeros(asks)),
    }


def _without_zeros(levels: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Leave out an empty side, which is printed as zeros; its size has to be readable all the same."""
    for _, size in levels:
        exact(size, "size")
    return [level for level in levels if exact(level[0], "price")[0]]


def _time_if_given(message: dict[str, Any]) -> int:
    return next((integer(message, key) for key in ("T", "E") if key in message), NOT_GIVEN)


def _sides(message: dict[str, Any], bids: str, asks: str) -> dict[str, Any]:
    for key in (bids, asks):
        if not isinstance(message.get(key), list):
            raise ValueError(f"field {key}: expected levels, found {shown(message.get(key))}")
    return scaled_levels(message[bids], message[asks])
