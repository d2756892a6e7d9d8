"""Writes the simulated market's feed as a Binance capture.

A capture has one line per message: ``<local receive time, ns> <raw JSON message>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deltabook.udfs.simulator.kernels import MESSAGE_INTERVAL, MILLISECOND, TOP_DEPTH
from deltabook.udfs.simulator.market import BookSnapshot, Int64Array, Market, MarketChunk
from deltabook.udfs.simulator.printing import DecimalFormat, decimal_text, level_texts
from deltabook.udfs.simulator.recorder import (
    LATENCY,
    MESSAGES,
    PARTIALS,
    SNAPSHOTS,
    TICKERS,
    TRADES,
    ReceiveQueue,
    ReceiveTimes,
    Recorder,
)

# Time from an event (field T) to the publication of its message (field E), ms.
PUBLISH_DELAY = 1
# Levels per side of a partial book.
PARTIAL_DEPTH = 20


@dataclass(frozen=True)
class _Dialect:
    """Prints the messages of one symbol, with the fields and the field order of its market type.

    Attributes
    ----------
    symbol : str
        The exchange's name of the instrument.
    spot : bool
        True for spot, False for USD-M futures.
    decimal_format : DecimalFormat
        Scales of the market's integers, and the number of printed decimals.
    stride : int
        Factor by which the market's update ids are multiplied before they are printed.
    """

    symbol: str
    spot: bool
    decimal_format: DecimalFormat
    stride: int

    def stream(self, name: str, data: str) -> str:
        return f'{{"stream":"{self.symbol.lower()}@{name}","data":{data}}}'

    def price(self, ticks: int) -> str:
        return decimal_text(ticks, self.decimal_format.price_scale, self.decimal_format.price_decimals)

    def size(self, lots: int) -> str:
        return decimal_text(lots, self.decimal_format.size_scale, self.decimal_format.size_decimals)

    def trades(self, chunk: MarketChunk) -> Iterator[str]:
        for trade, time, ticks, lots, maker in _rows(
            chunk.trade_ids,
            chunk.trade_timestamps,
            chunk.trade_prices,
            chunk.trade_sizes,
            chunk.trade_buyer_is_maker,
        ):
            at, flag = time // MILLISECOND, "true" if maker else "false"
            body = f'"s":"{self.symbol}","t":{trade},"p":"{self.price(ticks)}","q":"{self.size(lots)}"'
            if self.spot:
                body = f'{body},"T":{at},"m":{flag},"M":true'
            else:
                body = f'"T":{at},{body},"X":"MARKET","m":{flag}'
            yield self.stream("trade", f'{{"e":"trade","E":{at + PUBLISH_DELAY},{body}}}')

    def tickers(self, chunk: MarketChunk) -> Iterator[str]:
        for update_id, time, bid, bid_lots, ask, ask_lots in _rows(
            chunk.ticker_update_ids,
            chunk.ticker_timestamps,
            chunk.ticker_bid_prices,
            chunk.ticker_bid_sizes,
            chunk.ticker_ask_prices,
            chunk.ticker_ask_sizes,
        ):
            body = (
                f'"u":{update_id * self.stride},"s":"{self.symbol}",'
                f'"b":"{self.price(bid)}","B":"{self.size(bid_lots)}",'
                f'"a":"{self.price(ask)}","A":"{self.size(ask_lots)}"'
            )
            if not self.spot:
                at = time // MILLISECOND
                body = f'"e":"bookTicker",{body},"T":{at},"E":{at + PUBLISH_DELAY}'
            yield self.stream("bookTicker", f"{{{body}}}")

    def depth_update(self, time: int, first: int, last: int, bids: str, asks: str) -> str:
        at = time // MILLISECOND
        times = f'"E":{at}' if self.spot else f'"E":{at + PUBLISH_DELAY},"T":{at}'
        ids = f'"U":{first * self.stride},"u":{last * self.stride}'
        if not self.spot:
            ids += f',"pu":{(first - 1) * self.stride}'
        return f'{{"e":"depthUpdate",{times},"s":"{self.symbol}",{ids},"b":[{bids}],"a":[{asks}]}}'

    def diffs(self, chunk: MarketChunk) -> Iterator[str]:
        """Yield the diff of each message.

        A USD-M diff lists its bids from the lowest price up, a spot diff from the highest price down.
        """
        starts, stops = chunk.bid_offsets[:-1], chunk.bid_offsets[1:]
        bids = level_texts(
            chunk.bid_prices, chunk.bid_sizes, starts, stops, self.decimal_format, reverse=not self.spot
        )
        starts, stops = chunk.ask_offsets[:-1], chunk.ask_offsets[1:]
        asks = level_texts(chunk.ask_prices, chunk.ask_sizes, starts, stops, self.decimal_format)
        ids = _rows(chunk.timestamps, chunk.first_update_ids, chunk.last_update_ids)
        for (time, first, last), bid, ask in zip(ids, bids, asks, strict=True):
            yield self.stream("depth@100ms", self.depth_update(time, first, last, bid, ask))

    def partials(self, chunk: MarketChunk) -> Iterator[str]:
        """Yield a partial book after each message: the true top 20 levels per side."""
        starts: Int64Array = np.arange(len(chunk.timestamps), dtype=np.int64) * TOP_DEPTH
        bids, asks = (
            level_texts(prices.ravel(), sizes.ravel(), starts, starts + counts, self.decimal_format)
            for prices, sizes, counts in (
                (chunk.top_bid_prices, chunk.top_bid_sizes, chunk.top_bid_counts.clip(max=PARTIAL_DEPTH)),
                (chunk.top_ask_prices, chunk.top_ask_sizes, chunk.top_ask_counts.clip(max=PARTIAL_DEPTH)),
            )
        )
        ids = _rows(chunk.timestamps, chunk.first_update_ids, chunk.last_update_ids)
        for (time, first, last), bid, ask in zip(ids, bids, asks, strict=True):
            if self.spot:
                data = f'{{"lastUpdateId":{last * self.stride},"bids":[{bid}],"asks":[{ask}]}}'
            else:
                data = self.depth_update(time, first, last, bid, ask)
            yield self.stream("depth20@100ms", data)

    def snapshot(self, book: BookSnapshot) -> str:
        bids, asks = (
            level_texts(prices, sizes, np.array([0]), np.array([len(prices)]), self.decimal_format)[0]
            for prices, sizes in ((book.bid_prices, book.bid_sizes), (book.ask_prices, book.ask_sizes))
        )
        at = book.timestamp // MILLISECOND
        times = "" if self.spot else f'"E":{at + PUBLISH_DELAY},"T":{at},'
        return (
            f'{{"lastUpdateId":{book.last_update_id * self.stride},{times}"bids":[{bids}],"asks":[{asks}]}}'
        )


def _queue_chunk(
    queue: ReceiveQueue, dialect: _Dialect, chunk: MarketChunk, received: ReceiveTimes, partial_depth: bool
) -> None:
    """Add the lines of all events of a chunk to the queue that sorts lines by receive time."""
    streams = [
        (TRADES, received.trades, dialect.trades(chunk)),
        (TICKERS, received.tickers, dialect.tickers(chunk)),
        (MESSAGES, received.messages, dialect.diffs(chunk)),
    ]
    if partial_depth:
        streams.append((PARTIALS, received.partials, dialect.partials(chunk)))
    for stream, times, lines in streams:
        for time, line in zip(times.tolist(), lines, strict=True):
            queue.add(time, stream, line)


def capture_lines(
    market: Market,
    n_messages: int,
    symbol: str,
    *,
    market_type: Literal["spot", "usdm"] = "spot",
    snapshot_message: int = 5,
    snapshot_every: int | None = None,
    partial_depth: bool = True,
    update_id_stride: int = 1,
    chunk_messages: int = 64,
) -> Iterator[bytes]:
    """Advance a market and return its feed as the lines of a Binance capture.

    The lines are sorted by receive time, and each stream keeps its own order. A REST snapshot holds the book
    at an id L inside one diff (U <= L < u), and is received after this diff. So this diff connects to the
    snapshot, and earlier diffs are stale. A reader must keep all diffs from this diff on until the snapshot
    arrives.

    Parameters
    ----------
    market : Market
        The market. It is advanced by `n_messages`.
    n_messages : int
        Number of diffs to write.
    symbol : str
        The exchange's name of the instrument, such as ``BTCUSDT``.
    market_type : {"spot", "usdm"}
        Market type. It decides the fields of a message and their order, the order of a diff's bids, and the
        number of printed decimals: eight for spot, the market's scales for USD-M.
    snapshot_message : int
        Index of the diff that holds the id of the first REST snapshot. If the feed has no such diff, no
        snapshot is written.
    snapshot_every : int, optional
        Number of messages between REST snapshots; None: write only the first snapshot.
    partial_depth : bool
        True: write the true top 20 levels after every diff as a message of the stream ``@depth20``.
    update_id_stride : int
        Every printed update id is the market's update id times this number. With a number above 1, a diff's U
        is higher than the previous diff's u plus one. The real USD-M feed has such holes in its ids too, and
        links each diff to the previous diff by `pu`.
    chunk_messages : int
        Number of messages in memory at a time. The lines do not depend on this number.

    Returns
    -------
    iterator of bytes
        Lines ``<local receive time, ns> <raw JSON>``, each with its newline.

    Raises
    ------
    ValueError
        If settings are invalid; the message lists all invalid settings.
    """
    problems = (
        [] if market_type in ("spot", "usdm") else [f"market_type must be spot or usdm, is {market_type}"]
    )
    problems += [
        f"{name} must be at least {least}, is {value}"
        for name, value, least in (
            ("snapshot_message", snapshot_message, 0),
            ("snapshot_every", snapshot_every, 1),
            ("update_id_stride", update_id_stride, 1),
            ("chunk_messages", chunk_messages, 1),
        )
        if value is not None and value < least
    ]
    if problems:
        raise ValueError("capture settings: " + "; ".join(problems))
    spot = market_type == "spot"
    scales = market.price_scale, market.size_scale
    decimals = (8, 8) if spot else scales
    decimal_format = DecimalFormat(scales[0], decimals[0], scales[1], decimals[1])
    dialect = _Dialect(symbol, spot, decimal_format, update_id_stride)
    return _lines(
        market, n_messages, dialect, snapshot_message, snapshot_every, partial_depth, chunk_messages
    )


def _lines(
    market: Market,
    n_messages: int,
    dialect: _Dialect,
    wanted: int,
    snapshot_every: int | None,
    partial_depth: bool,
    chunk_messages: int,
) -> Iterator[bytes]:
    """Advance the market chunk by chunk and yield the capture's lines.

    `wanted` is the index of the message that holds the id of the next snapshot.
    """
    recorder, queue = Recorder(), ReceiveQueue()
    done = 0
    while done < n_messages:
        # A chunk ends with the message that holds a snapshot's id. So a chunk has at most one snapshot.
        number = min(chunk_messages, n_messages - done, wanted + 1 - done)
        done += number
        chunk = market.advance(number, photograph=number - 1 if wanted < done else None)
        _queue_chunk(queue, dialect, chunk, recorder.receive(chunk), partial_depth)
        end = int(chunk.timestamps[-1])
        if chunk.inside is not None:
            received = recorder.receive_book(chunk.inside, end + MESSAGE_INTERVAL)
            queue.add(received, SNAPSHOTS, dialect.snapshot(chunk.inside))
            wanted = wanted + snapshot_every if snapshot_every else n_messages
        elif wanted < done:
            wanted = done
        # Every later event happens at `end` or after `end`. So it is received at least `LATENCY[0]` after
        # `end`.
        yield from _printed(queue.ready(end + LATENCY[0]))
    yield from _printed(queue.ready())


def _printed(lines: Iterable[tuple[int, str]]) -> Iterator[bytes]:
    for received, text in lines:
        yield f"{received} {text}\n".encode()


def _rows(*columns: Int64Array) -> Iterator[tuple[int, ...]]:
    return zip(*(column.tolist() for column in columns), strict=True)
