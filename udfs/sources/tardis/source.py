"""Source `tardis`: Tardis.dev CSV tables, gzip or not; the header, not the file's name, says which.

- `incremental_book_L2` (`exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount`):
  rows of one symbol that share `local_timestamp` are one book update, sizes are absolute, 0 deletes.
  `is_snapshot` turning true clears the book: a run of true rows of one symbol is one snapshot, also if
  `local_timestamp` changes in it; false rows with the `local_timestamp` of its last row are part of it.
- `trades` (`…,id,side,price,amount`): an `id` that is no number becomes a hash of its text; a side
  `unknown` is left empty.
- `book_snapshot_N` (`…,asks[0].price,asks[0].amount,bids[0].price,…`) and `quotes`
  (`…,ask_amount,ask_price,bid_price,bid_amount`): golden rows; empty fields end a side.
- `sequence` is `local_timestamp` in ns, made non-decreasing in file order; one wild time does not drag
  the later ones along. Times are microseconds unless their magnitude says otherwise, one unit a file.
- Rows before the first snapshot build no book. A row that cannot be read goes to quarantine, and its
  message, or if that cannot be told its book, is marked as damaged.
- There are no ids and no checksums: books are unverifiable. What can be reported: snapshots that reset
  the book, silences, and books that differ from the golden rows.

Rules: docs.tardis.dev, downloadable CSV files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import IO

import pyarrow as pa

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import valid_name
from deltabook.udfs.sources.common import symbols
from deltabook.udfs.sources.common.file_source import FileSource, line_blocks
from deltabook.udfs.sources.csv.tables import TableParser, split_header
from deltabook.udfs.sources.tardis.golden import GoldenParser
from deltabook.udfs.sources.tardis.trades import TradeParser
from deltabook.udfs.sources.tardis.updates import UpdateParser

_PERPETUALS = {"binance-futures": "", "binance-delivery": "USD", "bitmex": "", "bybit": ""}
"""Exchanges whose names without an expiry are perpetual futures, and what all of them are quoted in."""
_DATED = re.compile(r"[FGHJKMNQUVXZ]\d\d$|-")  # XBTM20, BTCUSDH21, BTC-26NOV21

_HEAD = ("exchange", "symbol", "timestamp", "local_timestamp")
_UPDATES = (*_HEAD, "is_snapshot", "side", "price", "amount")
_TRADES = (*_HEAD, "id", "side", "price", "amount")
_QUOTES = (*_HEAD, "ask_amount", "ask_price", "bid_price", "bid_amount")


class TardisSource(FileSource):
    """Reads Tardis.dev CSV tables; see the module for the format."""

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "tardis"

    def parse(self, stream: IO[bytes], path: str) -> Iterator[pa.RecordBatch]:
        """Yield the records of one table (see `FileSource.parse`)."""
        names, blocks = split_header(line_blocks(stream, path))
        yield from _parser(path, tuple(names)).parse(blocks, self.limits)


def _parser(path: str, names: tuple[str, ...]) -> TableParser:
    if names == _UPDATES:
        return UpdateParser(path, names, instrument)
    if names == _TRADES:
        return TradeParser(path, names, instrument)
    if names == _QUOTES:
        return GoldenParser(path, names, instrument, "book_ticker", [names[5:3:-1]], [names[6:]])
    depth = (len(names) - len(_HEAD)) // 4
    if depth > 0 and names == _snapshot_header(depth):
        asks, bids = names[4:], names[6:]
        sides = [[(side[at], side[at + 1]) for at in range(0, 4 * depth, 4)] for side in (bids, asks)]
        return GoldenParser(path, names, instrument, "vendor_book", sides[1], sides[0])
    expected = "; ".join(",".join(shape) for shape in (_UPDATES, _TRADES, _QUOTES, _snapshot_header(1)))
    raise InputError(
        "expected the columns of one of incremental_book_L2, trades, quotes or book_snapshot_N: "
        f"{expected},…; found {','.join(names)[:400]!r}"
    )


def _snapshot_header(depth: int) -> tuple[str, ...]:
    levels = [
        f"{side}s[{level}].{what}"
        for level in range(depth)
        for side in ("ask", "bid")
        for what in ("price", "amount")
    ]
    return (*_HEAD, *levels)


@lru_cache(maxsize=1 << 12)
def instrument(exchange: str, symbol: str) -> tuple[str, str]:
    """Name an instrument.

    Parameters
    ----------
    exchange, symbol : str
        As Tardis spells them: `binance-futures`, `BTCUSDT`.

    Returns
    -------
    (exchange, symbol) : (str, str)
        As the tables name them: BINANCE_FUTURES, BTC-USDT-PERP.

    Raises
    ------
    InputError
        If one is no name.
    """
    if not exchange.isascii() or not exchange:
        raise InputError(f"exchange {exchange[:80]!r} is refused: expected a name such as binance-futures")
    valid_name(exchange.upper(), "exchange")
    venue = "OKX" if exchange.split("-")[0] == "okex" else exchange.upper().replace("-", "_")
    perpetual = exchange in _PERPETUALS and _DATED.search(symbol.upper()) is None
    quote = _PERPETUALS.get(exchange, "")
    return valid_name(venue, "exchange"), symbols.canonical(symbol, perpetual=perpetual, quote=quote)
