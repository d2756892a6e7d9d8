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
from deltabook.udfs.sources.common.message_fields import (
    count_digits,
    read_choice,
    read_integer,
    read_objects,
    read_price_levels,
    read_text,
)
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
    kind = read_choice(message, "type", ("snapshot", "update"))
    read = _read_trade if message["channel"] == TRADE else _read_book_update
    for entry in read_objects(message, "data"):
        yield read(entry, kind == "snapshot")


def _read_book_update(entry: JsonObject, is_snapshot: bool) -> Record:
    """Return the record of a snapshot or an update."""
    bids, asks = (read_price_levels(entry, side) for side in ("bids", "asks"))
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
    record: Record = {
        "record": "trade",
        "symbol": canonical_symbol(read_text(entry, "symbol")),
        "timestamp": _read_time(entry),
        "trade_id": read_integer(entry, "trade_id") if "trade_id" in entry else NOT_GIVEN,
        "side": read_choice(entry, "side", _SIDES),
    }
    return record | scale_trade(entry.get("price"), entry.get("qty"))


def _read_time(entry: JsonObject) -> int:
    """Return the time of an entry, ns since 1970 UTC; -1 if it is not given, as in snapshots."""
    return parse_iso_time(read_text(entry, "timestamp")) if "timestamp" in entry else NOT_GIVEN
