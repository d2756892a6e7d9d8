"""Source `tardis`: reads CSV tables of Tardis.dev.

Format: CSV, plain text, gzip, or a zip with one member. The header shows which table a file is; the file name
does not matter.

- `incremental_book_L2`, columns `exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount`:
  level changes. Consecutive rows of one symbol with the same `local_timestamp` form one book update. Sizes
  are absolute, and a size of 0 deletes the level.
- Snapshots: the book is cleared when `is_snapshot` becomes true. Consecutive rows of one symbol with
  `is_snapshot` true form one snapshot, even if their `local_timestamp` changes. Following rows with
  `is_snapshot` false belong to the snapshot if they have the `local_timestamp` of the snapshot's last row.
- `trades`, columns `…,id,side,price,amount`: an `id` that is not a number is replaced by its hash. Side
  `unknown` is stored as empty.
- `book_snapshot_N`, columns `…,asks[0].price,asks[0].amount,bids[0].price,…`, and `quotes`, columns
  `…,ask_amount,ask_price,bid_price,bid_amount`: golden rows. The first level with empty fields ends a side.
- Order: rows stay in file order, and the sequence is `local_timestamp` in ns. If a `local_timestamp` is below
  the previous `local_timestamp`, it is raised to the previous `local_timestamp`. A `local_timestamp` far
  above the following `local_timestamp` values is ignored.
- Times: microseconds, unless their magnitude shows another unit. All times of a file must have the same unit.
- Rows before the first snapshot do not build a book.
- Unreadable rows go to quarantine, and their message is marked as damaged. If an unreadable row does not show
  which message it belongs to, the book of the row is marked as damaged.
- Proof: the feed has no ids and no checksums, so books are `unverifiable`. deltabook can report snapshots
  that reset the book, silences, and books that differ from the golden rows.

Rules: docs.tardis.dev, downloadable CSV files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from functools import lru_cache
from itertools import chain
from typing import IO

import pyarrow as pa

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import valid_name
from deltabook.udfs.sources.common import symbols
from deltabook.udfs.sources.common.file_source import FileSource, LineCounts, line_blocks
from deltabook.udfs.sources.csv.tables import TableParser, split_header
from deltabook.udfs.sources.tardis.golden import GoldenParser
from deltabook.udfs.sources.tardis.trades import TradeParser
from deltabook.udfs.sources.tardis.updates import UpdateParser

_PERPETUALS = {"binance-futures": "", "binance-delivery": "USD", "bitmex": "", "bybit": ""}
"""{exchange: the only quote asset, or empty}, for exchanges where a symbol without expiry is a perpetual."""
_DATED = re.compile(r"[FGHJKMNQUVXZ]\d\d$|-")  # XBTM20, BTCUSDH21, BTC-26NOV21

_HEAD = ("exchange", "symbol", "timestamp", "local_timestamp")
_UPDATES = (*_HEAD, "is_snapshot", "side", "price", "amount")
_TRADES = (*_HEAD, "id", "side", "price", "amount")
_QUOTES = (*_HEAD, "ask_amount", "ask_price", "bid_price", "bid_amount")


class TardisSource(FileSource):
    """Spark data source for Tardis.dev CSV tables; the module's docstring describes the format."""

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.read.format`."""
        return "tardis"

    def parse(self, stream: IO[bytes], path: str) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of one table (see `FileSource.parse`)."""
        blocks = line_blocks(stream, path)
        first = next(blocks, b"")
        if not first.strip():
            return Counter()  # Tardis has an empty file for a day without data
        names, blocks = split_header(chain([first], blocks))
        return (yield from _parser_for(path, tuple(names)).parse(blocks, self.limits))


def _parser_for(path: str, names: tuple[str, ...]) -> TableParser:
    """Return the parser of the table with the columns `names`; raise InputError if there is no such table."""
    if names == _UPDATES:
        return UpdateParser(path, names, instrument)
    if names == _TRADES:
        return TradeParser(path, names, instrument)
    if names == _QUOTES:
        return GoldenParser(path, names, instrument, "book_ticker", [names[5:3:-1]], [names[6:]])
    depth = (len(names) - len(_HEAD)) // 4
    if depth > 0 and names == _snapshot_header(depth):
        asks, bids = names[4:], names[6:]
        ask_pairs, bid_pairs = (
            [(side[index], side[index + 1]) for index in range(0, 4 * depth, 4)] for side in (asks, bids)
        )
        return GoldenParser(path, names, instrument, "vendor_book", ask_pairs, bid_pairs)
    headers = (_UPDATES, _TRADES, _QUOTES, _snapshot_header(1))
    expected = "; ".join(",".join(header) for header in headers)
    raise InputError(
        "expected the columns of one of incremental_book_L2, trades, quotes or book_snapshot_N: "
        f"{expected},…; found {','.join(names)[:400]!r}"
    )


def _snapshot_header(depth: int) -> tuple[str, ...]:
    """Return the column names of `book_snapshot_N` for N = `depth` levels per side."""
    levels = [
        f"{side}s[{level}].{what}"
        for level in range(depth)
        for side in ("ask", "bid")
        for what in ("price", "amount")
    ]
    return (*_HEAD, *levels)


@lru_cache(maxsize=1 << 12)
def instrument(exchange: str, symbol: str) -> tuple[str, str]:
    """Return the exchange and the canonical symbol of a Tardis instrument.

    Parameters
    ----------
    exchange, symbol : str
        The names as Tardis prints them, such as `binance-futures` and `BTCUSDT`.

    Returns
    -------
    (exchange, symbol) : (str, str)
        The names as the tables store them, such as BINANCE_FUTURES and BTC-USDT-PERP.

    Raises
    ------
    InputError
        If a name has characters that a name must not have.
    """
    if not exchange.isascii() or not exchange:
        raise InputError(f"exchange {exchange[:80]!r} is refused: expected a name such as binance-futures")
    valid_name(exchange.upper(), "exchange")
    venue = "OKX" if exchange.split("-")[0] == "okex" else exchange.upper().replace("-", "_")
    perpetual = exchange in _PERPETUALS and _DATED.search(symbol.upper()) is None
    quote = _PERPETUALS.get(exchange, "")
    return valid_name(venue, "exchange"), symbols.canonical_symbol(symbol, perpetual=perpetual, quote=quote)
