"""The market's feed as a Binance capture: one `<local receive time, ns> <raw message>` line per message."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from deltabook.udfs.compile import kernel
from deltabook.udfs.simulator.market import MILLISECOND, BookSnapshot, Int64Array, Market, MarketChunk

# Two decimals of at most 29 characters (19 digits, point, nine padding zeros) and `["","",],`.
LEVEL_ROOM = 70
# The exchange stamps what it publishes a little after what happened, ms.
PUBLISH_DELAY = 1


@kernel
def _write_decimal(out, end, value, scale, decimals):  # type: ignore[no-untyped-def]
    """Print ``value / 10**scale`` with `decimals` decimals, up to before `end`; returns its start."""
    for _ in range(decimals - scale):
        end -= 1
        out[end] = 48
    digit = 0
    while value > 0 or digit <= scale:
        if digit == scale and decimals > 0:
            end -= 1
            out[end] = 46
        end -= 1
        out[end] = 48 + value % 10
        value //= 10
        digit += 1
    return end


@kernel
def _write_levels(prices, sizes, starts, stops, ascending, printing, out, ends):  # type: ignore[no-untyped-def]
    """Print each segment as ``["price","size"],…``, filling `out` from its back, last segment first."""
    at = len(out)
    for segment in range(len(starts) - 1, -1, -1):
        ends[segment] = at
        for offset in range(stops[segment] - starts[segment]):
            row = starts[segment] + offset if ascending else stops[segment] - 1 - offset
            if offset > 0:
                at -= 1
                out[at] = 44
            out[at - 2], out[at - 1] = 34, 93
            at = _write_decimal(out, at - 2, sizes[row], printing[2], printing[3])
            out[at - 3], out[at - 2], out[at - 1] = 34, 44, 34
            at = _write_decimal(out, at - 3, prices[row], printing[0], printing[1])
            out[at - 2], out[at - 1] = 91, 34
            at -= 2
    return at


def level_texts(
    prices: Int64Array,
    sizes: Int64Array,
    starts: Int64Array,
    stops: Int64Array,
    printing: Int64Array,
    *,
    reverse: bool = False,
) -> list[bytes]:
    """Print runs of levels as the inside of a JSON array, by integer arithmetic alone.

    Parameters
    ----------
    prices, sizes : numpy.ndarray
        int64 [levels], ticks and lots, from 0.
    starts, stops : numpy.ndarray
        int64 [runs]: run i is ``[starts[i]:stops[i]]``.
    printing : numpy.ndarray
        int64 [4]: scale and printed decimals of a price, then of a size; decimals are no fewer than the
        scale, and no more than nine above it.
    reverse : bool
        Print every run from its last level to its first.

    Returns
    -------
    list of bytes
        [runs] such as ``["61737.63000000","0.00000000"],["61730.17000000","0.10000000"]``.
    """
    out = np.empty(int((stops - starts).sum()) * LEVEL_ROOM + LEVEL_ROOM, np.uint8)
    ends = np.zeros(len(starts), np.int64)
    begin = _write_levels(prices, sizes, starts, stops, reverse, printing, out, ends)
    text = out[begin:].tobytes()
    cuts = [0, *(ends - begin).tolist()]
    return [text[cuts[i] : cuts[i + 1]] for i in range(len(starts))]


def decimal_text(value: int, scale: int, decimals: int) -> str:
    """Print ``value / 10**scale`` with `decimals` decimals, exactly.

    Parameters
    ----------
    value : int
        From 0.
    scale, decimals : int
        ``decimals >= scale``: what the scale does not reach is printed as zeros.

    Returns
    -------
    str
    """
    digits = str(value).zfill(scale + 1)
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return f"{whole}.{fraction.ljust(decimals, '0')}" if decimals else whole


@dataclass
class _Writer:
    """Turns chunks into lines and holds back those that a later line may precede."""

    symbol: str
    spot: bool
    printing: Int64Array
    interval: int
    stride: int
    partial: bool
    latency: tuple[int, int]
    generator: random.Random
    previous_update_id: int = 0
    order: int = 0
    last_received: dict[str, int] = field(default_factory=dict)
    pending: list[tuple[int, int, str]] = field(default_factory=list)

    def receive(self, stream: str, happened: int, line: str, after: int = 0) -> int:
        """Give a line its receive time: never before the last of its stream, nor before `after`."""
        lowest, highest = self.latency
        at = max(
            happened + self.generator.randint(lowest, highest), self.last_received.get(stream, after), after
        )
        self.last_received[stream] = at
        self.order += 1
        self.pending.append((at, self.order, line))
        return at

    def stream(self, name: str, data: str) -> str:
        return f'{{"stream":"{self.symbol.lower()}@{name}","data":{data}}}'

    def decimals(self, price: int, size: int) -> tuple[str, str]:
        scales = self.printing.tolist()
        return decimal_text(price, scales[0], scales[1]), decimal_text(size, scales[2], scales[3])

    def trade_lines(self, chunk: MarketChunk) -> list[tuple[int, int, str]]:
        """Message index, time, line."""
        columns = (
            chunk.trade_messages,
            chunk.trade_ids,
            chunk.trade_timestamps,
            chunk.trade_prices,
            chunk.trade_sizes,
            chunk.trade_buyer_is_maker,
        )
        lines = []
        for row, trade, time, ticks, lots, maker in zip(*(c.tolist() for c in columns), strict=True):
            price, size = self.decimals(ticks, lots)
            at = time // MILLISECOND
            flag = "true" if maker else "false"
            if self.spot:
                data = (
                    f'{{"e":"trade","E":{at + PUBLISH_DELAY},"s":"{self.symbol}","t":{trade},'
                    f'"p":"{price}","q":"{size}","T":{at},"m":{flag},"M":true}}'
                )
            else:
                data = (
                    f'{{"e":"trade","E":{at + PUBLISH_DELAY},"T":{at},"s":"{self.symbol}","t":{trade},'
                    f'"p":"{price}","q":"{size}","X":"MARKET","m":{flag}}}'
                )
            lines.append((row, time, self.stream("trade", data)))
        return lines

    def ticker_lines(self, chunk: MarketChunk) -> list[tuple[int, int, str]]:
        """Message index, time, line."""
        columns = (
            chunk.ticker_messages,
            chunk.ticker_update_ids,
            chunk.ticker_timestamps,
            chunk.ticker_bid_prices,
            chunk.ticker_bid_sizes,
            chunk.ticker_ask_prices,
            chunk.ticker_ask_sizes,
        )
        lines = []
        for row, update, time, bid, bid_lots, ask, ask_lots in zip(
            *(c.tolist() for c in columns), strict=True
        ):
            bid_price, bid_size = self.decimals(bid, bid_lots)
            ask_price, ask_size = self.decimals(ask, ask_lots)
            head = "" if self.spot else '"e":"bookTicker",'
            at = time // MILLISECOND
            tail = "" if self.spot else f',"T":{at},"E":{at + PUBLISH_DELAY}'
            data = (
                f'{{{head}"u":{update * self.stride},"s":"{self.symbol}","b":"{bid_price}","B":"{bid_size}",'
                f'"a":"{ask_price}","A":"{ask_size}"{tail}}}'
            )
            lines.append((row, time, self.stream("bookTicker", data)))
        return lines

    def snapshot_line(self, book: BookSnapshot) -> str:
        bids, asks = (
            level_texts(prices, sizes, np.zeros(1, np.int64), np.array([len(prices)]), self.printing)[0]
            for prices, sizes in ((book.bid_prices, book.bid_sizes), (book.ask_prices, book.ask_sizes))
        )
        at = book.timestamp // MILLISECOND
        times = "" if self.spot else f'"E":{at + PUBLISH_DELAY},"T":{at},'
        return (
            f'{{"lastUpdateId":{book.last_update_id * self.stride},{times}'
            f'"bids":[{bids.decode()}],"asks":[{asks.decode()}]}}'
        )

    def depth_lines(self, chunk: MarketChunk) -> list[tuple[int, str, str]]:
        """Time, diff line, partial book line of every message."""
        # A USD-M diff lists its bids from the lowest up, a spot diff from the best down.
        changed = [
            level_texts(prices, sizes, offsets[:-1], offsets[1:], self.printing, reverse=reverse)
            for prices, sizes, offsets, reverse in (
                (chunk.bid_prices, chunk.bid_sizes, chunk.bid_offsets, not self.spot),
                (chunk.ask_prices, chunk.ask_sizes, chunk.ask_offsets, False),
            )
        ]
        tops = (
            (chunk.top_bid_prices, chunk.top_bid_sizes, chunk.top_bid_counts),
            (chunk.top_ask_prices, chunk.top_ask_sizes, chunk.top_ask_counts),
        )
        best = [_top_texts(*top, self.printing) if self.partial else changed[0] for top in tops]
        ids = zip(chunk.first_update_ids.tolist(), chunk.last_update_ids.tolist(), strict=True)
        suffix = f"@{self.interval // MILLISECOND}ms"
        lines = []
        for row, (time, (first, last)) in enumerate(zip(chunk.timestamps.tolist(), ids, strict=True)):
            at, symbol = time // MILLISECOND, self.symbol
            previous = self.previous_update_id or first - 1
            self.previous_update_id = last
            if self.spot:
                head = f'"e":"depthUpdate","E":{at},"s":"{symbol}"'
            else:
                head = f'"e":"depthUpdate","E":{at + PUBLISH_DELAY},"T":{at},"s":"{symbol}"'
            head += f',"U":{first * self.stride},"u":{last * self.stride}'
            head += "" if self.spot else f',"pu":{previous * self.stride}'
            bids, asks = changed[0][row].decode(), changed[1][row].decode()
            diff = self.stream("depth" + suffix, f'{{{head},"b":[{bids}],"a":[{asks}]}}')
            partial = ""
            if self.partial:
                bids, asks = best[0][row].decode(), best[1][row].decode()
                body = f'{{"lastUpdateId":{last * self.stride},"bids":[{bids}],"asks":[{asks}]}}'
                body = body if self.spot else f'{{{head},"b":[{bids}],"a":[{asks}]}}'
                partial = self.stream("depth20" + suffix, body)
            lines.append((time, diff, partial))
        return lines

    def add(self, chunk: MarketChunk) -> None:
        """Queue every line of a chunk, message by message so that the chunking leaves no trace."""
        events: list[list[tuple[str, int, str]]] = [[] for _ in chunk.timestamps]
        for stream, lines in (("trade", self.trade_lines(chunk)), ("ticker", self.ticker_lines(chunk))):
            for row, time, line in lines:
                events[row].append((stream, time, line))
        for row, (time, diff, partial) in enumerate(self.depth_lines(chunk)):
            for stream, happened, line in events[row]:
                self.receive(stream, happened, line)
            received = self.receive("depth", time, diff)
            if partial:
                self.receive("partial", time, partial, after=received)

    def flush(self, until: int | None) -> Iterator[bytes]:
        """Yield the queued lines received up to `until` (None: all), in receive order."""
        self.pending.sort()
        ready = [line for line in self.pending if until is None or line[0] <= until]
        self.pending = self.pending[len(ready) :]
        for received, _, text in ready:
            yield f"{received} {text}\n".encode()


def _top_texts(
    prices: Int64Array, sizes: Int64Array, counts: Int64Array, printing: Int64Array
) -> list[bytes]:
    starts: Int64Array = np.arange(len(counts), dtype=np.int64) * prices.shape[1]
    return level_texts(prices.ravel(), sizes.ravel(), starts, starts + counts, printing)


def capture_lines(
    market: Market,
    n_messages: int,
    symbol: str,
    *,
    market_type: Literal["spot", "usdm"] = "spot",
    snapshot_message: int = 5,
    snapshot_every: int | None = None,
    snapshot_limit: int = 1000,
    partial_depth: bool = True,
    price_decimals: int | None = None,
    size_decimals: int | None = None,
    update_id_stride: int = 1,
    latency: tuple[int, int] = (2_000_000, 9_000_000),
    latency_seed: int = 0,
    chunk_messages: int = 64,
) -> Iterator[bytes]:
    """Run a market on and write its feed as the lines of a Binance capture.

    The lines come in receive order; a stream is never reordered. A REST snapshot holds the book at an id
    strictly inside one diff (U <= id < u) and is received after that diff: the diffs before that one are
    stale, it bridges, and any received between it and the snapshot have to be kept.

    Parameters
    ----------
    market : Market
        Is advanced by `n_messages`.
    n_messages : int
        Diffs to write.
    symbol : str
        As the exchange prints it, such as ``BTCUSDT``.
    market_type : {"spot", "usdm"}
        Dialect: field order, fields, and the order of a diff's bids.
    snapshot_message : int
        Index of the diff that the first REST snapshot falls inside; none is written if there is no such diff.
    snapshot_every : int, optional
        Messages between REST snapshots; None: only the first.
    snapshot_limit : int
        Levels a side of a REST snapshot.
    partial_depth : bool
        Write the true top 20 after every diff as ``@depth20``.
    price_decimals, size_decimals : int, optional
        Printed decimals, no fewer than the market's scales; None: eight on spot, the scales on USD-M.
    update_id_stride : int
        Every printed update id is the market's times this; more than 1 makes U jump past the
        previous u, as the real USD-M feed does (its chain is `pu`).
    latency : tuple of int
        Least and most ns from an event to its receive time; negative for a local clock that runs behind.
    latency_seed : int
        Seed of the latencies.
    chunk_messages : int
        Messages in memory at a time; leaves no trace in the lines.

    Returns
    -------
    iterator of bytes
        ``<local receive time, ns> <raw JSON>`` and a newline.

    Raises
    ------
    ValueError
        Settings that no such capture can have; the text names all of them.
    """
    spot = market_type == "spot"
    price_decimals = (8 if spot else market.price_scale) if price_decimals is None else price_decimals
    size_decimals = (8 if spot else market.size_scale) if size_decimals is None else size_decimals
    checks = (
        (market_type in ("spot", "usdm"), f"market_type must be spot or usdm, is {market_type}"),
        (
            0 <= price_decimals - market.price_scale <= 9,
            f"price_decimals must be {market.price_scale} to nine more, is {price_decimals}",
        ),
        (
            0 <= size_decimals - market.size_scale <= 9,
            f"size_decimals must be {market.size_scale} to nine more, is {size_decimals}",
        ),
        (
            snapshot_every is None or snapshot_every > 0,
            f"snapshot_every must be above 0, is {snapshot_every}",
        ),
        (latency[0] <= latency[1], f"latency must be least, most; is {latency}"),
        (chunk_messages > 0, f"chunk_messages must be above 0, is {chunk_messages}"),
        (snapshot_message >= 0, f"snapshot_message must be from 0, is {snapshot_message}"),
        (snapshot_limit > 0, f"snapshot_limit must be above 0, is {snapshot_limit}"),
        (update_id_stride > 0, f"update_id_stride must be above 0, is {update_id_stride}"),
    )
    if problems := [text for fine, text in checks if not fine]:
        raise ValueError("capture settings: " + "; ".join(problems))
    printing = np.array([market.price_scale, price_decimals, market.size_scale, size_decimals], np.int64)
    writer = _Writer(
        symbol,
        spot,
        printing,
        market.message_interval,
        update_id_stride,
        partial_depth,
        latency,
        random.Random(latency_seed),
    )
    return _lines(
        market, writer, n_messages, chunk_messages, snapshot_message, snapshot_every, snapshot_limit
    )


def _lines(
    market: Market,
    writer: _Writer,
    n_messages: int,
    chunk_messages: int,
    wanted: int,
    snapshot_every: int | None,
    snapshot_limit: int,
) -> Iterator[bytes]:
    """Advance the market chunk by chunk; `wanted` is the message that the next snapshot falls inside."""
    done = 0
    while done < n_messages:
        # A chunk ends with the message that a snapshot falls into, so that it holds at most one.
        number = min(chunk_messages, n_messages - done)
        if done <= wanted < done + number:
            number = wanted + 1 - done
        photograph = wanted - done if wanted < done + number else None
        chunk = market.advance(number, photograph=photograph, photograph_limit=snapshot_limit)
        writer.add(chunk)
        done += number
        end = int(chunk.timestamps[-1])
        if chunk.inside is not None:
            writer.receive(
                "rest",
                end + market.message_interval,
                writer.snapshot_line(chunk.inside),
                after=writer.last_received["depth"],
            )
            wanted = wanted + snapshot_every if snapshot_every else n_messages
        elif wanted < done:
            wanted = done
        # Whatever comes later happens at `end` or after it.
        yield from writer.flush(end + writer.latency[0])
    yield from writer.flush(None)
