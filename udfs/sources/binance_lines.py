"""The strict way through one Binance capture line: any valid JSON, every field checked, errors named."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from deltabook.schemas.errors import InputError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import NOT_GIVEN, valid_name
from deltabook.udfs.decimals import INT64_MAX, to_scaled


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"number {text[:80]} is out of range") from None


_DECODER = msgspec.json.Decoder(float_hook=_decimal)
_RECEIVED = re.compile(rb"(\d{19}) ")
_COIN_MARGINED = re.compile(r".+USD_(PERP|\d{6})")
_PARTIAL_STREAM = re.compile(r"([^@]+)@depth\d")
_BARE_SNAPSHOT = "lastUpdateId"

ScaleOf = Callable[[str, str], tuple[int, int]]


def exchange_of(symbol: str, futures: bool) -> str:
    """Name the market of a message: spot, USD-M, or COIN-M (`BTCUSD_PERP`, `BTCUSD_241227`)."""
    if not futures:
        return "BINANCE"
    return "BINANCE_DELIVERY" if _COIN_MARGINED.fullmatch(symbol) else "BINANCE_FUTURES"


def scales_of(scales: dict[Any, Any]) -> ScaleOf:
    """Return the look-up of an instrument's (price_scale, size_scale): its own, or its feed's."""

    def look_up(exchange: str, symbol: str) -> tuple[int, int]:
        feed = FEEDS[exchange]
        return scales.get((exchange, symbol), (feed.price_scale, feed.size_scale))  # type: ignore[no-any-return]

    return look_up


def read_line(line: bytes, scale_of: ScaleOf) -> dict[str, Any] | None:
    """Read one capture line.

    Parameters
    ----------
    line : bytes
        `<receive time, ns> <JSON>`, or the JSON alone; no newline.
    scale_of : callable
        ``(exchange, symbol) -> (price_scale, size_scale)``.

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
    received = NOT_GIVEN
    if match := _RECEIVED.match(line):
        received = int(match[1])
        line = line[match.end() :]
        if received > INT64_MAX:
            raise ValueError(f"receive time {received} does not fit int64")
    try:
        message = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("expected a JSON object")
    stream = message.get("stream", "")
    if isinstance(message.get("data"), dict):
        message = message["data"]
    record = _read_message(message, stream if isinstance(stream, str) else "", scale_of)
    return None if record is None else {"received": received, **record}


def place_snapshot(message: dict[str, Any], symbol: str, scale_of: ScaleOf) -> dict[str, Any]:
    """Make the record of a REST snapshot whose symbol is known.

    Parameters
    ----------
    message : dict
        The decoded snapshot.
    symbol : str
        Its instrument.
    scale_of : callable
        ``(exchange, symbol) -> (price_scale, size_scale)``.

    Returns
    -------
    dict
        Columns of `records`.
    """
    exchange = exchange_of(symbol, "T" in message)
    return {
        "record": "book_update",
        "exchange": exchange,
        "symbol": valid_name(symbol, "symbol"),
        "timestamp": _integer(message, "T") if "T" in message else NOT_GIVEN,
        "sequence": _integer(message, _BARE_SNAPSHOT),
        "is_snapshot": True,
        **_sides(message, "bids", "asks", scale_of(exchange, symbol)),
    }


def _read_message(message: dict[str, Any], stream: str, scale_of: ScaleOf) -> dict[str, Any] | None:
    event = message.get("e", "")
    partial = _PARTIAL_STREAM.match(stream)
    if _BARE_SNAPSHOT in message and not event:
        if partial:
            return _partial_book(message, partial[1].upper(), "T" in message, scale_of)
        if isinstance(message.get("symbol"), str):
            return place_snapshot(message, message["symbol"], scale_of)
        return {"pending": message}
    if event == "depthUpdate":
        return (_partial_book if partial else _depth)(message, _symbol(message), "pu" in message, scale_of)
    if event in ("trade", "aggTrade"):
        return _trade(message, event, scale_of)
    if event == "bookTicker" or (not event and {"u", "b", "B", "a", "A"} <= message.keys()):
        return _ticker(message, bool(event), scale_of)
    return None


def _depth(message: dict[str, Any], symbol: str, futures: bool, scale_of: ScaleOf) -> dict[str, Any]:
    exchange = exchange_of(symbol, futures)
    record: dict[str, Any] = {
        "record": "book_update",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": _integer(message, "T" if futures or "T" in message else "E"),
        "sequence": _integer(message, "u"),
        "first_sequence": _integer(message, "U"),
        "prev_sequence": _integer(message, "pu") if futures else NOT_GIVEN,
        **_sides(message, "b", "a", scale_of(exchange, symbol)),
    }
    if record["first_sequence"] > record["sequence"]:
        raise ValueError(f"U {record['first_sequence']} is above u {record['sequence']}")
    return record


def _partial_book(message: dict[str, Any], symbol: str, futures: bool, scale_of: ScaleOf) -> dict[str, Any]:
    exchange = exchange_of(valid_name(symbol, "symbol"), futures)
    bids, asks, last = ("b", "a", "u") if message.get("e") else ("bids", "asks", _BARE_SNAPSHOT)
    time = next((key for key in ("T", "E") if key in message), None)
    return {
        "record": "golden",
        "kind": "vendor_book",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": _integer(message, time) if time else NOT_GIVEN,
        "sequence": _integer(message, last),
        **_sides(message, bids, asks, scale_of(exchange, symbol)),
    }


def _trade(message: dict[str, Any], event: str, scale_of: ScaleOf) -> dict[str, Any]:
    symbol = _symbol(message)
    exchange = exchange_of(symbol, "M" not in message)
    price_scale, size_scale = scale_of(exchange, symbol)
    if not isinstance(message.get("m"), bool):
        raise ValueError(f"field m: expected true or false, found {message.get('m')!r}")
    trade_id = _integer(message, "t" if event == "trade" else "a")
    in_book = message.get("X", "MARKET") == "MARKET"
    return {
        "record": "trade" if event == "trade" else "agg_trade",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": _integer(message, "T"),
        "sequence": trade_id,
        "trade_id": trade_id,
        "side": ("sell" if message["m"] else "buy") if in_book else "",
        "price": to_scaled(message.get("p"), price_scale, "price"),
        "size": to_scaled(message.get("q"), size_scale, "size"),
    }


def _ticker(message: dict[str, Any], futures: bool, scale_of: ScaleOf) -> dict[str, Any]:
    symbol = _symbol(message)
    exchange = exchange_of(symbol, futures)
    levels = {"b": [[message.get("b"), message.get("B")]], "a": [[message.get("a"), message.get("A")]]}
    time = next((key for key in ("T", "E") if key in message), None)
    return {
        "record": "golden",
        "kind": "book_ticker",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": _integer(message, time) if time else NOT_GIVEN,
        "sequence": _integer(message, "u"),
        **_sides(levels, "b", "a", scale_of(exchange, symbol), empty_price_allowed=True),
    }


def _shown(value: object) -> str:
    """Print a value found, cut: a reason must stay readable."""
    return repr(value)[:200]


def _symbol(message: dict[str, Any]) -> str:
    symbol = message.get("s")
    if not isinstance(symbol, str):
        raise ValueError(f"field s: expected a symbol, found {_shown(symbol)}")
    return valid_name(symbol.upper() if symbol.isascii() else symbol, "symbol")


def _integer(message: dict[str, Any], key: str) -> int:
    value = message.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INT64_MAX:
        raise ValueError(f"field {key}: expected an integer that fits int64, found {_shown(value)}")
    return value


def _sides(
    message: dict[str, Any],
    bids: str,
    asks: str,
    scales: tuple[int, int],
    *,
    empty_price_allowed: bool = False,
) -> dict[str, list[int]]:
    sides: dict[str, list[int]] = {}
    for side, key in (("bid", bids), ("ask", asks)):
        prices, sizes = [], []
        levels = message.get(key)
        if not isinstance(levels, list):
            raise ValueError(f"field {key}: expected levels, found {_shown(levels)}")
        for level in levels:
            if not isinstance(level, list) or len(level) < 2:
                raise ValueError(f"field {key}: expected [price, size], found {_shown(level)}")
            price = to_scaled(level[0], scales[0], "price")
            size = to_scaled(level[1], scales[1], "size")
            if price == 0:
                if empty_price_allowed:
                    continue
                raise ValueError(f"field {key}: a level has price 0")
            prices.append(price)
            sizes.append(size)
        sides |= {f"{side}_prices": prices, f"{side}_sizes": sizes}
    return sides


__all__ = ["InputError", "exchange_of", "place_snapshot", "read_line", "scales_of"]
