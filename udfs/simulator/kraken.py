"""Writes the simulated market's feed as a cryptofeed dump of Kraken's WebSocket v1.

The dump has book messages of a chosen depth, with checksums, and trades.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path

from deltabook.udfs.simulator.market import Int64Array, Market, MarketChunk
from deltabook.udfs.simulator.printing import decimal_text
from deltabook.udfs.simulator.recorder import (
    LATENCY,
    MESSAGES,
    TRADES,
    ReceiveQueue,
    ReceiveTimes,
    Recorder,
    recorded_chunks,
)

DEPTHS = (10, 25, 100, 500, 1000)
"""Depths that a client can subscribe to, levels per side."""
CHANNELS = ("book", "trade")
CHECKSUM_DEPTH = 10
SIZE_DECIMALS, LEAST_PRICE_DECIMALS = 8, 5
_ADDRESS, _BOOK_ID, _TRADE_ID = "wss://ws.kraken.com", 336, 337
_SECOND, _MICROSECOND = 1_000_000_000, 1_000


def dump_lines(
    market: Market, messages: int, pair: str, *, depth: int = 1000, channels: Sequence[str] = CHANNELS
) -> Iterator[bytes]:
    """Advance a market and return its feed as the lines that one connection receives.

    A client of this feed truncates its book to the best `depth` levels per side. A book message lists the
    levels that the client has to change: first the changed levels inside the depth, then the levels that
    moved back inside the depth, marked ``r``. The feed sends nothing when a level moves out of the depth or
    changes outside the depth. The checksum covers the true top ten levels per side after the message. The
    newest level time in a message is the market's time of the message.

    Parameters
    ----------
    market : Market
        The market. It is advanced by `messages`.
    messages : int
        Number of the market's diffs. A diff that changes nothing inside the depth has no book message.
    pair : str
        The venue's name of the instrument, such as ``XBT/USD``.
    depth : int
        Levels per side that the client subscribes to; one of `DEPTHS`.
    channels : sequence of str
        Channels that the connection subscribes to; members of `CHANNELS`.

    Returns
    -------
    iterator of bytes
        Lines ``<receive time, float s>: <raw JSON>``, each with its newline, sorted by receive time.

    Raises
    ------
    ValueError
        If the venue does not offer a setting; the message lists all such settings.
    """
    problems = [] if depth in DEPTHS else [f"depth must be one of {DEPTHS}, is {depth}"]
    problems += [
        f"channel must be one of {CHANNELS}, is {name!r}" for name in channels if name not in CHANNELS
    ]
    if problems:
        raise ValueError("dump settings: " + "; ".join(problems))
    printer = _Printer(pair, depth, market.price_scale, market.size_scale)
    return (f"{line}\n".encode() for line in _lines(market, messages, printer, channels))


def write_dump(lines: Iterable[bytes], folder: Path, connection: int = 0) -> Path:
    """Write a dump to ``KRAKEN.ws.<connection>.0``, cryptofeed's name for the first file of a connection.

    Parameters
    ----------
    lines : iterable of bytes
        Result of `dump_lines`.
    folder : Path
        Folder to write to; it is created if it does not exist.
    connection : int
        Number of the connection.

    Returns
    -------
    Path
        The file written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"KRAKEN.ws.{connection}.0"
    path.write_bytes(b"".join(lines))
    return path


@dataclass
class _Level:
    lots: int
    time: int


@dataclass(frozen=True)
class _Change:
    key: int
    level: _Level
    republished: bool = False


class _Side:
    """One side of the market's full book, and the keys of the levels that a truncating client has.

    A key is a price in ticks, negated for bids, so that the best level has the smallest key.
    """

    def __init__(self, sign: int, depth: int, prices: Int64Array, sizes: Int64Array, time: int) -> None:
        self.sign, self.depth = sign, depth
        # The market does not say when a level of its first book last changed. So each level is assumed to be
        # 997 us older than the next better level.
        self.levels = {
            sign * price: _Level(lots, time - 997 * _MICROSECOND * place)
            for place, (price, lots) in enumerate(zip(prices.tolist(), sizes.tolist(), strict=True))
        }
        self.keys = list(self.levels)
        self.held = set(self.keys[:depth])

    def top(self, depth: int) -> list[_Change]:
        return [_Change(key, self.levels[key]) for key in islice(self.keys, depth)]

    def apply(self, prices: list[int], sizes: list[int], time: int) -> list[_Change]:
        """Change the full book; return the changes that the venue sends to the client, in order."""
        before = {}
        for price, lots in zip(prices, sizes, strict=True):
            key = self.sign * price
            before[key] = self.levels[key].lots if key in self.levels else 0
            self._set(key, _Level(lots, time))
        inside = set(self.keys[: self.depth])
        changes = []
        for key, lots in before.items():
            level = self.levels.get(key)
            if level is None and key in self.held:
                changes.append(_Change(key, _Level(0, time)))
            elif level is not None and key in inside and (key not in self.held or level.lots != lots):
                changes.append(_Change(key, level))
        back = inside - self.held - {change.key for change in changes}
        self.held = inside
        return changes + [_Change(key, self.levels[key], republished=True) for key in sorted(back)]

    def _set(self, key: int, level: _Level) -> None:
        if level.lots == 0 and key in self.levels:
            del self.levels[key], self.keys[bisect_left(self.keys, key)]
        elif level.lots > 0:
            if key not in self.levels:
                insort(self.keys, key)
            self.levels[key] = level


@dataclass(frozen=True)
class _Printer:
    """Prints the messages of one pair."""

    pair: str
    depth: int
    price_scale: int
    size_scale: int

    def price(self, ticks: int) -> str:
        return decimal_text(abs(ticks), self.price_scale, max(self.price_scale, LEAST_PRICE_DECIMALS))

    def size(self, lots: int) -> str:
        return decimal_text(lots, self.size_scale, SIZE_DECIMALS)

    def levels(self, changes: Iterable[_Change]) -> str:
        return ",".join(
            f'["{self.price(change.key)}","{self.size(change.level.lots)}","{_seconds(change.level.time)}"'
            + (',"r"]' if change.republished else "]")
            for change in changes
        )

    def snapshot(self, asks: _Side, bids: _Side) -> str:
        parts = f'"as":[{self.levels(asks.top(self.depth))}],"bs":[{self.levels(bids.top(self.depth))}]'
        return f'[{_BOOK_ID},{{{parts}}},"book-{self.depth}","{self.pair}"]'

    def update(self, ask_changes: list[_Change], bid_changes: list[_Change], checksum: int) -> str:
        sides = (("a", ask_changes), ("b", bid_changes))
        parts = [f'{{"{side}":[{self.levels(changes)}]' for side, changes in sides if changes]
        parts[-1] += f',"c":"{checksum}"'
        return f'[{_BOOK_ID},{",".join(f"{part}}}" for part in parts)},"book-{self.depth}","{self.pair}"]'

    def checksum(self, asks: _Side, bids: _Side) -> int:
        tops = asks.top(CHECKSUM_DEPTH) + bids.top(CHECKSUM_DEPTH)
        texts = (text for change in tops for text in (self.price(change.key), self.size(change.level.lots)))
        return zlib.crc32("".join(text.replace(".", "").lstrip("0") for text in texts).encode())

    def trades(self, fills: Sequence[tuple[int, ...]]) -> str:
        """Return the message of the fills of one taker order.

        Several fills are printed as a market order (``m``), a single fill as a limit order (``l``).
        """
        kind = "m" if len(fills) > 1 else "l"
        items = ",".join(
            f'["{self.price(ticks)}","{self.size(lots)}","{_seconds(time)}","{"bs"[maker]}","{kind}",""]'
            for time, _, ticks, lots, maker in fills
        )
        return f'[{_TRADE_ID},[{items}],"trade","{self.pair}"]'

    def opening(self, channels: Sequence[str], first: int) -> Iterator[str]:
        """Yield the lines before the first data message, which is received at `first` (ns).

        cryptofeed also records its own requests in a dump.
        """
        asked = {"book": f'"name":"book","depth":{self.depth}', "trade": '"name":"trade"'}
        granted = {"book": f'"depth":{self.depth},"name":"book"', "trade": '"name":"trade"'}
        ids = {
            "book": f'{_BOOK_ID},"channelName":"book-{self.depth}"',
            "trade": f'{_TRADE_ID},"channelName":"trade"',
        }
        tenth = _SECOND // 10
        yield f"{_ADDRESS} <-> {_float(first - 9 * tenth)}"
        for place, channel in enumerate(channels):
            body = f'"event":"subscribe","pair":["{self.pair}"],"subscription":{{{asked[channel]}}}'
            yield f"{_ADDRESS} <- {_float(first - (8 - place) * tenth)}: {{{body}}}"
        answers = [
            '"connectionID":17843232920108168701,"event":"systemStatus","status":"online","version":"1.8.3"'
        ]
        for channel in channels:
            answer = f'"channelID":{ids[channel]},"event":"subscriptionStatus","pair":"{self.pair}"'
            answers.append(f'{answer},"status":"subscribed","subscription":{{{granted[channel]}}}')
        answers.append('"event":"heartbeat"')
        for place, answer in enumerate(answers):
            yield f"{_float(first - (5 - place) * tenth)}: {{{answer}}}"


def _lines(market: Market, messages: int, printer: _Printer, channels: Sequence[str]) -> Iterator[str]:
    recorder, queue, book = Recorder(), ReceiveQueue(), market.snapshot(limit=None)
    asks = _Side(1, printer.depth, book.ask_prices, book.ask_sizes, book.timestamp)
    bids = _Side(-1, printer.depth, book.bid_prices, book.bid_sizes, book.timestamp)
    received = recorder.receive_book(book, book.timestamp, MESSAGES)
    yield from printer.opening(channels, received)
    if "book" in channels:
        queue.add(received, MESSAGES, printer.snapshot(asks, bids))
    for chunk, times in recorded_chunks(market, messages, recorder):
        if "book" in channels:
            _queue_books(queue, printer, asks, bids, chunk, times)
        if "trade" in channels:
            _queue_trades(queue, printer, chunk, times)
        yield from _printed(queue.ready(int(chunk.timestamps[-1]) + LATENCY[0]))
    yield from _printed(queue.ready())
    # A dump ends with two empty lines.
    yield from ("", "")


def _queue_books(
    queue: ReceiveQueue, printer: _Printer, asks: _Side, bids: _Side, chunk: MarketChunk, times: ReceiveTimes
) -> None:
    ask_runs = _runs(chunk.ask_offsets, chunk.ask_prices, chunk.ask_sizes)
    bid_runs = _runs(chunk.bid_offsets, chunk.bid_prices, chunk.bid_sizes)
    ends = zip(chunk.timestamps.tolist(), times.messages.tolist(), strict=True)
    for (time, received), ask_run, bid_run in zip(ends, ask_runs, bid_runs, strict=True):
        told_asks, told_bids = asks.apply(*ask_run, time), bids.apply(*bid_run, time)
        new = [change for change in told_asks + told_bids if not change.republished]
        if new:
            # Each change gets a time one microsecond after the change before it. The last change gets the
            # time of the message.
            for place, change in enumerate(reversed(new)):
                change.level.time = time - place * _MICROSECOND
            queue.add(received, MESSAGES, printer.update(told_asks, told_bids, printer.checksum(asks, bids)))


def _runs(
    offsets: Int64Array, prices: Int64Array, sizes: Int64Array
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield, for each message, the prices and the sizes of the levels that it changed."""
    for start, stop in pairwise(offsets.tolist()):
        yield prices[start:stop].tolist(), sizes[start:stop].tolist()


def _queue_trades(queue: ReceiveQueue, printer: _Printer, chunk: MarketChunk, times: ReceiveTimes) -> None:
    """Queue one message for all trades of equal time, with the receive time of the last of these trades."""
    columns = (
        chunk.trade_timestamps,
        times.trades,
        chunk.trade_prices,
        chunk.trade_sizes,
        chunk.trade_buyer_is_maker,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for _, group in groupby(rows, key=itemgetter(0)):
        fills = list(group)
        queue.add(fills[-1][1], TRADES, printer.trades(fills))


def _printed(lines: Iterable[tuple[int, str]]) -> Iterator[str]:
    return (f"{_float(received)}: {text}" for received, text in lines)


def _float(nanoseconds: int) -> str:
    return repr(nanoseconds / _SECOND)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // _SECOND}.{nanoseconds % _SECOND // _MICROSECOND:06d}"
