"""Messages of Kraken's WebSocket v2, channels `book` and `trade`; the source `kraken` reads them.

A book message is `{"channel":"book","type":"snapshot"|"update","data":[{"symbol","bids","asks","checksum",
"timestamp"}]}`; levels are `{"price","qty"}` with JSON numbers, whose printed digits the checksum covers.
"""

from __future__ import annotations

from collections.abc import Iterator

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import parse_iso_time
from deltabook.udfs.sources.common.json_decoding import JsonObject
from deltabook.udfs.sources.common.message_files import count_digits, excerpt, read_integer, read_text
from deltabook.udfs.sources.common.symbols import canonical_symbol

BOOK, TRADE = "book", "trade"
_SIDES = ("buy", "sell")
_MAX_CHECKSUM = 2**32 - 1


def read_message(message: JsonObject) -> Iterator[Record]:
    """Yield the records of a message of the channel `book` or `trade`.

    The records lack exchange, receive time, sequence and the depth of the book.

    Parameters
    ----------
    message : dict
        The decoded message.

    Yields
    ------
    Record
        One record for each entry of `data`.

    Raises
    ------
    ValueError, InputError
        If the message is not readable.
    """
    kind, data = message.get("type"), message.get("data")
    if kind not in ("snapshot", "update"):
        raise ValueError(f"field type: expected snapshot or update, found {excerpt(kind)}")
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise ValueError(f"field data: expected a list of objects, found {excerpt(data)}")
    read = _read_trade if message["channel"] == TRADE else _read_book_update
    for entry in data:
        yield read(entry, kind == "snapshot")


def _read_book_update(entry: JsonObject, is_snapshot: bool) -> Record:
    """Return the record of a snapshot or an update."""
    bids, asks = (_read_side(entry, side) for side in ("bids", "asks"))
    checksum = read_integer(entry, "checksum") if "checksum" in entry else NOT_GIVEN
    if checksum > _MAX_CHECKSUM:
        raise ValueError(f"field checksum: expected a CRC-32, found {checksum}")
    record: Record = {
        "record": "book_update",
        "symbol": canonical_symbol(read_text(entry, "symbol")),
        "is_snapshot": is_snapshot,
        "timestamp": _read_time(entry),
        "checksum": checksum,
        "price_digits": count_digits([price for price, _ in bids + asks]),
        "size_digits": count_digits([size for _, size in bids + asks]),
    }
    return record | scale_levels(bids, asks)


def _read_trade(entry: JsonObject, _is_snapshot: bool) -> Record:
    """Return the record of one trade."""
    side = entry.get("side")
    if side not in _SIDES:
        raise ValueError(f"field side: expected buy or sell, found {excerpt(side)}")
    record: Record = {
        "record": "trade",
        "symbol": canonical_symbol(read_text(entry, "symbol")),
        "timestamp": _read_time(entry),
        "trade_id": read_integer(entry, "trade_id") if "trade_id" in entry else NOT_GIVEN,
        "side": str(side),
    }
    return record | scale_trade(entry.get("price"), entry.get("qty"))


def _read_time(entry: JsonObject) -> int:
    """Return the time of an entry, ns since 1970 UTC; -1 if it is not given, as in snapshots."""
    return parse_iso_time(read_text(entry, "timestamp")) if "timestamp" in entry else NOT_GIVEN


def _read_side(entry: JsonObject, side: str) -> list[tuple[object, object]]:
    """Return the price and the quantity of each level of one side."""
    levels = entry.get(side)
    if not isinstance(levels, list) or not all(isinstance(level, dict) for level in levels):
        raise ValueError(f"field {side}: expected a list of levels, found {excerpt(levels)}")
    return [(level.get("price"), level.get("qty")) for level in levels]
