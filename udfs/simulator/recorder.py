"""Assigns receive times to the simulated market's events, the same times for every venue's message format.

The latency of an event depends only on its stream and its id. So an event has the same receive time in a
dialect that prints fewer messages, and with chunks of another size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from deltabook.udfs.simulator.market import BookSnapshot, Int64Array, Market, MarketChunk

LATENCY = (2_000_000, 9_000_000)
"""Shortest and longest latency from an event to its receive time, ns."""
MESSAGES, PARTIALS, TRADES, TICKERS, SNAPSHOTS = range(5)
"""Numbers of the streams. At equal receive times, the line of the lower stream number comes first."""
_GOLDEN, _ODD, _STREAM_SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), 56


@dataclass(frozen=True)
class ReceiveTimes:
    """Receive times of a chunk's events, int64 ns since 1970-01-01 UTC, never decreasing within a stream.

    Attributes
    ----------
    messages, partials : numpy.ndarray
        [messages] Receive time of each diff, and of the partial book after each diff.
    trades : numpy.ndarray
        [trades] Receive time of each trade.
    tickers : numpy.ndarray
        [tickers] Receive time of each ticker.
    """

    messages: Int64Array
    partials: Int64Array
    trades: Int64Array
    tickers: Int64Array


class Recorder:
    """Assigns receive times to the events of one market, chunk after chunk."""

    def __init__(self) -> None:
        self._last = dict.fromkeys(range(5), 0)

    def receive(self, chunk: MarketChunk) -> ReceiveTimes:
        """Return the receive times of a chunk's events.

        Parameters
        ----------
        chunk : MarketChunk
            The chunk that follows the chunk of the previous call.

        Returns
        -------
        ReceiveTimes
        """
        messages = self._stamp(MESSAGES, chunk.timestamps, chunk.last_update_ids)
        partials = self._stamp(PARTIALS, np.maximum(chunk.timestamps, messages - LATENCY[0]), messages)
        return ReceiveTimes(
            messages=messages,
            partials=partials,
            trades=self._stamp(TRADES, chunk.trade_timestamps, chunk.trade_ids),
            tickers=self._stamp(TICKERS, chunk.ticker_timestamps, chunk.ticker_update_ids),
        )

    def receive_book(self, book: BookSnapshot, happened: int, stream: int = SNAPSHOTS) -> int:
        """Return the receive time of one whole book, at or after the receive times of all diffs so far.

        Parameters
        ----------
        book : BookSnapshot
            The book.
        happened : int
            Time at which the venue sends the book, ns since 1970-01-01 UTC.
        stream : int
            `SNAPSHOTS` for a book that the client requests over REST, `MESSAGES` for a message of the feed.

        Returns
        -------
        int
            Receive time, ns since 1970-01-01 UTC.
        """
        self._last[stream] = max(self._last[stream], self._last[MESSAGES])
        return int(self._stamp(stream, np.array([happened]), np.array([book.last_update_id]))[0])

    def _stamp(self, stream: int, happened: Int64Array, ids: Int64Array) -> Int64Array:
        if len(ids) == 0:
            return ids
        # Hash the id (multiply, fold, multiply), so that similar ids do not get similar latencies.
        mixed = (ids.astype(np.uint64) + np.array(stream << _STREAM_SHIFT, np.uint64)) * _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _ODD
        span = np.uint64(LATENCY[1] - LATENCY[0])
        latencies = LATENCY[0] + ((mixed >> np.uint64(32)) % span).astype(np.int64)
        received: Int64Array = np.maximum.accumulate(np.maximum(happened + latencies, self._last[stream]))
        self._last[stream] = int(received[-1])
        return received


def recorded_chunks(
    market: Market, n_messages: int, recorder: Recorder, chunk_messages: int = 256
) -> Iterator[tuple[MarketChunk, ReceiveTimes]]:
    """Advance a market chunk by chunk and yield each chunk with its receive times.

    Parameters
    ----------
    market : Market
        The market. It is advanced by `n_messages`.
    n_messages : int
        Number of messages, 0 or more.
    recorder : Recorder
        Assigns the receive times.
    chunk_messages : int
        Number of messages per chunk; only one chunk is in memory at a time.

    Yields
    ------
    (chunk, received) : (MarketChunk, ReceiveTimes)
        The chunk, and the receive times of its events.
    """
    for start in range(0, n_messages, chunk_messages):
        chunk = market.advance(min(chunk_messages, n_messages - start))
        yield chunk, recorder.receive(chunk)


class ReceiveQueue:
    """Sorts lines by receive time, and keeps them until `ready` removes them."""

    def __init__(self) -> None:
        self._pending: list[tuple[int, int, str]] = []

    def add(self, received: int, stream: int, line: str) -> None:
        """Queue a line; add the lines of one stream in the order of their receive times."""
        self._pending.append((received, stream, line))

    def ready(self, until: int | None = None) -> Iterator[tuple[int, str]]:
        """Remove the lines received before `until`, and yield (receive time, text) of each, sorted by time.

        If `until` is None, all lines are removed and yielded.
        """
        self._pending.sort(key=itemgetter(0, 1))
        ready = [line for line in self._pending if until is None or line[0] < until]
        self._pending = self._pending[len(ready) :]
        for received, _, text in ready:
            yield received, text
