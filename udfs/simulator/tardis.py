"""Writes the simulated market's feed as Tardis.dev's downloadable CSV tables."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from deltabook.udfs.simulator.market import BookSnapshot, Int64Array, Market, MarketChunk
from deltabook.udfs.simulator.printing import decimal_text
from deltabook.udfs.simulator.recorder import MESSAGES, ReceiveTimes, Recorder, recorded_chunks

MICROSECOND = 1_000
SNAPSHOT_DEPTH = 25
_KEYS = "exchange,symbol,timestamp,local_timestamp"
HEADERS = {
    "incremental_book_L2": f"{_KEYS},is_snapshot,side,price,amount",
    "trades": f"{_KEYS},id,side,price,amount",
    "book_snapshot_25": ",".join(
        [
            _KEYS,
            *(
                f"{side}[{level}].{field}"
                for level in range(SNAPSHOT_DEPTH)
                for side in ("asks", "bids")
                for field in ("price", "amount")
            ),
        ]
    ),
    "quotes": f"{_KEYS},ask_amount,ask_price,bid_price,bid_amount",
}
"""Header line of each table, by table name."""


@lru_cache(maxsize=1 << 16)
def plain_number(value: int, scale: int) -> str:
    """Return ``value / 10**scale`` as its shortest decimal text.

    The text has no trailing zeros, no point without decimals and no exponent.

    Parameters
    ----------
    value : int
        Scaled number, 0 or more.
    scale : int
        Number of decimal digits of `value` that stand after the point.

    Returns
    -------
    str
        Such as ``61737.63``.
    """
    text = decimal_text(value, scale, scale)
    return text.rstrip("0").rstrip(".") if scale else text


def csv_lines(market: Market, messages: int, exchange: str, symbol: str) -> dict[str, Iterator[str]]:
    """Advance a market and return its feed as Tardis.dev's tables.

    `incremental_book_L2` begins with the whole book (`is_snapshot` is true), followed by the level changes of
    each message. `book_snapshot_25` has the true best 25 levels per side after each message that changes
    them.

    Parameters
    ----------
    market : Market
        The market. It is advanced by `messages`.
    messages : int
        Number of diffs to write.
    exchange, symbol : str
        The vendor's names of the exchange and the instrument, such as ``binance-futures`` and ``BTCUSDT``.

    Returns
    -------
    dict of str to iterator of str
        Maps each table name in `HEADERS` to the table's lines. The first line is the header. Each line ends
        with a newline.
    """
    recorder, writer = Recorder(), _Writer(f"{exchange},{symbol}", market.price_scale, market.size_scale)
    lines: dict[str, list[str]] = {name: [f"{header}\n"] for name, header in HEADERS.items()}
    book = market.snapshot(limit=None)
    lines["incremental_book_L2"] += writer.snapshot(
        book, recorder.receive_book(book, book.timestamp, MESSAGES)
    )
    for chunk, received in recorded_chunks(market, messages, recorder):
        lines["incremental_book_L2"] += writer.changes(chunk, received)
        lines["trades"] += writer.trades(chunk, received)
        lines["book_snapshot_25"] += writer.tops(chunk, received)
        lines["quotes"] += writer.quotes(chunk, received)
    return {name: iter(table) for name, table in lines.items()}


def write_csv(lines: Iterable[str], folder: Path, table: str, exchange: str, symbol: str) -> list[Path]:
    """Write one table in the vendor's file layout: one gzip file per day, each with the header.

    A file's name is ``<exchange>_<table>_<day>_<symbol>.csv.gz``. The day is the UTC date of
    `local_timestamp`.

    Parameters
    ----------
    lines : iterable of str
        Lines of one table, from `csv_lines`.
    folder : Path
        Folder to write to; it is created if it does not exist.
    table, exchange, symbol : str
        Parts of the file's name.

    Returns
    -------
    list of Path
        The files written; empty for a table without rows.
    """
    header, *rows = lines
    days: dict[str, list[str]] = {}
    for row in rows:
        seconds = int(row.split(",", 4)[3]) // 1_000_000
        days.setdefault(f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}", [header]).append(row)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for day, text in days.items():
        path = folder / f"{exchange}_{table}_{day}_{symbol}.csv.gz"
        path.write_bytes(gzip.compress("".join(text).encode(), 1, mtime=0))
        paths.append(path)
    return paths


class _Writer:
    """Prints the rows of every table of one symbol."""

    def __init__(self, where: str, price_scale: int, size_scale: int) -> None:
        self.where, self.price_scale, self.size_scale = where, price_scale, size_scale
        self.shown: list[str] | None = None

    def keys(self, happened: int, received: int) -> str:
        return f"{self.where},{happened // MICROSECOND},{received // MICROSECOND}"

    def numbers(self, prices: Int64Array, sizes: Int64Array) -> Iterator[str]:
        """Yield the text ``price,amount`` of each level."""
        for price, size in zip(prices.tolist(), sizes.tolist(), strict=True):
            yield f"{plain_number(price, self.price_scale)},{plain_number(size, self.size_scale)}"

    def snapshot(self, book: BookSnapshot, received: int) -> Iterator[str]:
        keys = self.keys(book.timestamp, received)
        for level in self.numbers(book.ask_prices, book.ask_sizes):
            yield f"{keys},true,ask,{level}\n"
        for level in self.numbers(book.bid_prices, book.bid_sizes):
            yield f"{keys},true,bid,{level}\n"

    def changes(self, chunk: MarketChunk, received: ReceiveTimes) -> Iterator[str]:
        sides = (
            ("ask", chunk.ask_offsets.tolist(), list(self.numbers(chunk.ask_prices, chunk.ask_sizes))),
            ("bid", chunk.bid_offsets.tolist(), list(self.numbers(chunk.bid_prices, chunk.bid_sizes))),
        )
        times = zip(chunk.timestamps.tolist(), received.messages.tolist(), strict=True)
        for message, (happened, local) in enumerate(times):
            keys = self.keys(happened, local)
            for side, offsets, levels in sides:
                for level in levels[offsets[message] : offsets[message + 1]]:
                    yield f"{keys},false,{side},{level}\n"

    def trades(self, chunk: MarketChunk, received: ReceiveTimes) -> Iterator[str]:
        columns = (
            chunk.trade_timestamps.tolist(),
            received.trades.tolist(),
            chunk.trade_ids.tolist(),
            chunk.trade_buyer_is_maker.tolist(),
            self.numbers(chunk.trade_prices, chunk.trade_sizes),
        )
        for happened, local, trade, maker, numbers in zip(*columns, strict=True):
            side = "sell" if maker else "buy"
            yield f"{self.keys(happened, local)},{trade},{side},{numbers}\n"

    def tops(self, chunk: MarketChunk, received: ReceiveTimes) -> Iterator[str]:
        asks = self.numbers(chunk.top_ask_prices.ravel(), chunk.top_ask_sizes.ravel())
        bids = self.numbers(chunk.top_bid_prices.ravel(), chunk.top_bid_sizes.ravel())
        for happened, local in zip(chunk.timestamps.tolist(), received.messages.tolist(), strict=True):
            top = [f"{next(asks)},{next(bids)}" for _ in range(SNAPSHOT_DEPTH)]
            if top != self.shown:
                yield f"{self.keys(happened, local)},{','.join(top)}\n"
            self.shown = top

    def quotes(self, chunk: MarketChunk, received: ReceiveTimes) -> Iterator[str]:
        columns = (
            chunk.ticker_timestamps.tolist(),
            received.tickers.tolist(),
            self.numbers(chunk.ticker_ask_prices, chunk.ticker_ask_sizes),
            self.numbers(chunk.ticker_bid_prices, chunk.ticker_bid_sizes),
        )
        for happened, local, ask, bid in zip(*columns, strict=True):
            price, amount = ask.split(",")
            yield f"{self.keys(happened, local)},{amount},{price},{bid}\n"
