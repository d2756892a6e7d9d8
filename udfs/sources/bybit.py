"""Source `bybit`: Bybit's order book archive, and captures of its public WebSocket v5.

A line is one message, bare, behind a receive time, or as cryptofeed dumps it; gzip, zip (one file in it, as
the archive's are) or plain.

- `orderbook.N.SYMBOL`: a `snapshot`, or a message whose `u` is 1 (the service restarted), is the whole book
  of N levels a side, a `delta` changes of it; the venue deletes what leaves the N levels. `u` rises by one:
  an unbroken chain is `verified`. Of an instrument with several depths, a file's first is read.
- `publicTrade.SYMBOL`: trades; `S` is the taker's side, a block trade (`BT`) was outside the book and has
  none. Their time orders them. An id that is a text (a UUID) becomes a number by a hash.
- Times are `ts` of a book and `T` of a trade, milliseconds.
- Spot and contracts spell a symbol alike, and no message says which it is. What says `linear`, `inverse` or
  `spot` decides, for the whole file: its first connection line (`wss://…/v5/public/linear`), else a word of
  its name, else a folder it is in, the nearest first. If nothing does, a book of 200 levels is spot's (the
  archive's `ob200`), and everything else is a contract's (the archive's `ob500`).
- A contract is perpetual unless its name has an expiry: BTCUSDT-26DEC25 is BTC-USDT-251226, BTC-26DEC25 is
  BTC-USDC-251226, BTCPERP is BTC-USDC-PERP; BTCUSDZ25 and options keep their names.
- Other topics and answers to requests are skipped. What is broken goes to quarantine, and `u` shows the gap.

Rules: Bybit API v5, Orderbook, process snapshot and delta; Trade.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import INT64_MAX, scaled_levels, scaled_trade
from deltabook.udfs.sources.common.json_decoding import decode
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_files import (
    Line,
    MessageParser,
    MessageSource,
    integer,
    level_list,
    shown,
    text,
    text_id,
)
from deltabook.udfs.sources.common.symbols import canonical, pair

_EXCHANGE = "BYBIT"
_BOOK = re.compile(r"orderbook\.([1-9][0-9]{0,4})\..+")
_TRADES = re.compile(r"publicTrade\..+")
_SPOT_DEPTH = "200"
_SIDES = {"Buy": "buy", "Sell": "sell"}
_CATEGORIES = ("linear", "inverse", "spot")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_EXPIRY = re.compile(rf"([A-Z0-9]+)-([0-9]{{1,2}})({'|'.join(_MONTHS)})([0-9]{{2}})")
_KEPT = re.compile(r"[A-Z0-9]+USD[FGHJKMNQUVXZ][0-9]{2}|[A-Z0-9]+-[A-Z0-9]+-[0-9.]+-[CP](-[A-Z]+)?")


class _Parser(MessageParser):
    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.category = _category_of_path(Path(path))
        self.decided = False
        self.depths: dict[str, str] = {}

    def connection(self, line: bytes) -> None:
        """Let the first connection say whether it is spot's, if no message came before it."""
        if line.strip() and not self.decided:
            self.decided = True
            url = line.split(b" ", 1)[0].decode("ascii", "replace").lower()
            self.category = _named(re.split(r"[^a-z]+", url)) or self.category

    def message(self, line: Line) -> None:
        self.decided = True
        message = decode(line.payload, self.limits.most_levels)
        if not isinstance(message, dict):
            raise ValueError(f"expected an object, found {shown(message)}")
        if "topic" not in message:
            return
        topic = text(message, "topic")
        if match := _BOOK.fullmatch(topic):
            self._book(message, match[1], line)
        elif _TRADES.fullmatch(topic):
            self._trades(message, line)

    def _book(self, message: dict[str, Any], depth: str, line: Line) -> None:
        data, kind = message.get("data"), message.get("type")
        if not isinstance(data, dict):
            raise ValueError(f"field data: expected an object, found {shown(data)}")
        if kind not in ("snapshot", "delta"):
            raise ValueError(f"field type: expected snapshot or delta, found {shown(kind)}")
        spot = self.category == "spot" or (not self.category and depth == _SPOT_DEPTH)
        symbol = symbol_of(text(data, "s"), spot=spot)
        sequence = integer(data, "u")
        levels = scaled_levels(level_list(data, "b"), level_list(data, "a"))
        record = levels | {
            "record": "book_update",
            "exchange": _EXCHANGE,
            "symbol": symbol,
            "timestamp": self.unit.one(integer(message, "ts")),
            "received": line.received,
            "sequence": sequence,
            "is_snapshot": kind == "snapshot" or sequence == 1,
        }
        if self.depths.setdefault(symbol, depth) == depth:
            self.add(record)

    def _trades(self, message: dict[str, Any], line: Line) -> None:
        data = message.get("data")
        if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
            raise ValueError(f"field data: expected a list of objects, found {shown(data)}")
        for record in [self._trade(entry) for entry in data]:
            self.add(record | {"received": line.received})

    def _trade(self, entry: dict[str, Any]) -> dict[str, Any]:
        symbol = symbol_of(text(entry, "s"), spot=self.category == "spot")
        time = self.unit.one(integer(entry, "T"))
        if time == NOT_GIVEN:
            raise ValueError("field T: expected a time after 1970, found 0")
        side = _SIDES.get(text(entry, "S"))
        if side is None:
            raise ValueError(f"field S: expected Buy or Sell, found {shown(entry['S'])}")
        printed = text(entry, "i")
        is_number = printed.isdecimal() and len(printed) < 20 and int(printed) <= INT64_MAX
        return scaled_trade(entry.get("p"), entry.get("v")) | {
            "record": "trade",
            "exchange": _EXCHANGE,
            "symbol": symbol,
            "timestamp": time,
            "sequence": time,
            "trade_id": int(printed) if is_number else text_id(printed),
            "side": "" if entry.get("BT") is True else side,
        }


class BybitSource(MessageSource):
    """Reads Bybit's archive and captures; see the module for the format."""

    parser = _Parser

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "bybit"


def symbol_of(spelled: str, *, spot: bool) -> str:
    """Return the canonical name of an instrument.

    Parameters
    ----------
    spelled : str
        As Bybit spells it.
    spot : bool
        Whether it is spot's.

    Returns
    -------
    str
        Matches `schemas.names.NAME_PATTERN`.

    Raises
    ------
    InputError
        If it is no name.
    """
    if spot or _KEPT.fullmatch(spelled):
        return canonical(spelled)
    if match := _EXPIRY.fullmatch(spelled):
        base, day, month, year = match.groups()
        quoted = pair(base) if pair(base) != base else f"{base}-USDC"
        return canonical(f"{quoted}-{year}{_MONTHS.index(month) + 1:02}{int(day):02}")
    if spelled.endswith("PERP") and not spelled.endswith("-PERP"):
        spelled = spelled.removesuffix("PERP") + "USDC"
    return canonical(spelled, perpetual=True)


def _category_of_path(path: Path) -> str:
    places = [*re.split(r"[^a-z]+", path.name.lower()), *(folder.lower() for folder in path.parts[-2::-1])]
    return _named(places)


def _named(words: list[str]) -> str:
    return next((word for word in words if word in _CATEGORIES), "")
