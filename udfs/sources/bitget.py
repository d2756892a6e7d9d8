"""Source `bitget`: reads captures of Bitget's public WebSocket, v1 and v2.

Format: one message per line, alone or in an envelope (see `common.envelopes`). Files may be packed in any
known way.

- Order book, channel `books`: `action` is `snapshot` (replaces the whole book) or `update`. A level is
  `[price, size]`; size 0 deletes the level.
- Checksum: `checksum` is the CRC-32, as a signed number, of `bid:size:ask:size…` over the 25 best levels of
  each side, as printed. Each size is printed as it was sent last. A checksum that matches makes the book
  `checked`; messages have no ids that prove completeness.
- Order: `ts`, the exchange time in milliseconds.
- Trades, channel `trade`: v1 `[ts, price, size, side]`, v2 an object. `side` is the aggressor side.
- Market: `instType` `sp` or `SPOT` is spot (exchange BITGET). `mc`, `USDT-FUTURES`, `COIN-FUTURES` and
  `USDC-FUTURES` are contracts (exchange BITGET_FUTURES), perpetual unless the symbol has an expiry.
- Skipped: `books1`, `books5` and `books15` (the best levels only), `ticker` (no sizes, rounded prices),
  `candle…` and all other channels, and answers.
- Unreadable lines go to quarantine, and their book is marked as damaged. If an unreadable line does not show
  its instrument, every book of the file is marked as damaged.

Rules: www.bitget.com/api-doc: WebSocket, depth channel, checksum; trading channel.
"""

from __future__ import annotations

import re

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_fields import (
    count_digits,
    excerpt,
    read_choice,
    read_id,
    read_integer,
    read_level_list,
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

_SPOT = ("sp", "SP", "SPOT")
_IS_SNAPSHOT = {"snapshot": True, "update": False}
_SIDES = ("buy", "sell")
_SUFFIX = re.compile(r"_(?:[A-Z]*UMCBL|[A-Z]*DMCBL|[A-Z]*CMCBL|[A-Z]*SPBL)$")
_DATED = re.compile(r"([A-Z0-9]+?)(USDT?)[FGHJKMNQUVXZ][0-9]{2}")
_NAMED = re.compile(rb'"channel"\s*:\s*"([a-z0-9]+)".{0,40}?"instId"\s*:\s*"([!-~]{1,80}?)"')


class _BitgetParser(MessageParser):
    """Parser of one Bitget file."""

    marks_damage = True

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.digits: dict[tuple[str, str], tuple[int, int]] = {}
        """{(exchange, symbol): decimals with which Bitget prints prices and sizes of the instrument}."""

    def message(self, line: Line) -> None:
        if line.payload.strip() in KEEP_ALIVE:
            return self.skip("ping or pong")
        message = self.decode_object(line.payload)
        argument, data = message.get("arg"), message.get("data")
        if not isinstance(argument, dict) or "event" in message or data is None:
            return self.skip("answer")
        channel = read_text(argument, "channel")
        if channel not in ("books", "trade"):
            return self.skip("candle" if channel.startswith("candle") else channel)
        if not isinstance(data, list):
            raise ValueError(f"field data: expected a list, found {excerpt(data)}")
        exchange, symbol = instrument(read_text(argument, "instId"), read_text(argument, "instType"))
        read = self._read_trade if channel == "trade" else self._read_book_update
        action = message.get("action")
        # Read all entries before adding the first: one unreadable entry puts the whole line in quarantine.
        records = [read(entry, action) for entry in data]
        for record in records:
            if record["record"] == "book_update":
                record |= self._widen_digits((exchange, symbol), record)
            self.add({"exchange": exchange, "symbol": symbol, "received": line.received} | record)
        if not records:
            self.skip(f"empty {channel}")

    def _widen_digits(self, key: tuple[str, str], record: Record) -> Record:
        """Return the decimals of an instrument's prices and sizes, counted since the last snapshot.

        Bitget prints all prices, and all sizes but 0, of an instrument with the same number of decimals.
        """
        digits = (0, 0) if record["is_snapshot"] else self.digits.get(key, (0, 0))
        digits = max(digits[0], record["price_digits"]), max(digits[1], record["size_digits"])
        self.digits[key] = digits
        return {"price_digits": digits[0], "size_digits": digits[1]}

    def _read_book_update(self, entry: object, action: object) -> Record:
        """Return the record of a snapshot or an update, without instrument and receive time."""
        if not isinstance(entry, dict):
            raise ValueError(f"field data: expected objects, found {excerpt(entry)}")
        if not isinstance(action, str) or action not in _IS_SNAPSHOT:
            raise ValueError(f"field action: expected snapshot or update, found {excerpt(action)}")
        bids, asks = (read_level_list(entry, side) for side in ("bids", "asks"))
        time = self.unit.time_to_nanoseconds(read_integer(entry, "ts"))
        record: Record = {
            "record": "book_update",
            "is_snapshot": _IS_SNAPSHOT[action],
            "timestamp": time,
            "sequence": time,
            "checksum": read_signed_checksum(entry, "checksum"),
            "price_digits": count_digits([price for price, _ in bids + asks]),
            "size_digits": count_digits([size for _, size in bids + asks]),
        }
        return record | scale_levels(bids, asks)

    def _read_trade(self, entry: object, _action: object) -> Record:
        """Return the record of one trade, without instrument and receive time."""
        if isinstance(entry, list) and len(entry) == 4:
            entry = dict(zip(("ts", "price", "size", "side"), entry, strict=True))
        if not isinstance(entry, dict):
            raise ValueError(f"expected a trade, found {excerpt(entry)}")
        time = self.unit.time_to_nanoseconds(read_integer(entry, "ts"))
        record: Record = {
            "record": "trade",
            "timestamp": time,
            "sequence": time,
            "trade_id": read_id(entry, "tradeId") if "tradeId" in entry else NOT_GIVEN,
            "side": read_choice(entry, "side", _SIDES),
        }
        return record | scale_trade(entry.get("price"), entry.get("size"))

    def damaged_symbol(self, line: bytes) -> tuple[str, str] | None:
        """Return the (exchange, symbol) of the book that an unreadable line names; see `MessageParser`."""
        match = _NAMED.search(line)
        if match is None:
            return None
        if match[1] != b"books":
            return NO_BOOK
        is_spot = any(b'"' + name.encode() + b'"' in line for name in _SPOT)
        try:
            return instrument(match[2].decode("ascii"), "SPOT" if is_spot else "mc")
        except InputError:
            return None


class BitgetSource(MessageSource):
    """Spark data source for Bitget captures; the module's docstring describes the format."""

    parser = _BitgetParser
    hosts = ("bitget.com",)

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "bitget"

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a message has a channel and a type of instrument; see `FileSource.recognizes`."""
        argument = message.get("arg") if isinstance(message, dict) else None
        return isinstance(argument, dict) and {"instType", "channel", "instId"} <= argument.keys()


def instrument(venue_symbol: str, instrument_type: str) -> tuple[str, str]:
    """Return the exchange and the canonical symbol of a Bitget instrument.

    Parameters
    ----------
    venue_symbol : str
        The symbol as Bitget prints it: BTCUSDT, BTCUSDT_UMCBL, BTCPERP, BTCUSDU26.
    instrument_type : str
        The field `instType`.

    Returns
    -------
    (exchange, symbol) : (str, str)
        The names as the tables store them, such as BITGET_FUTURES and BTC-USDT-PERP.

    Raises
    ------
    InputError
        If the symbol has characters that a name must not have.
    """
    name = _SUFFIX.sub("", venue_symbol.upper()) if venue_symbol.isascii() else venue_symbol
    if instrument_type in _SPOT:
        return "BITGET", canonical_symbol(name)
    if name.endswith("PERP") and name != "PERP":  # margined in USDC
        name = name.removesuffix("PERP") + "USDC"
    return "BITGET_FUTURES", canonical_symbol(name, perpetual=_DATED.fullmatch(name) is None)
