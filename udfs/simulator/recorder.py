"""When a recorder receives what the market publishes: the same times in every dialect.

A latency is a function of the event's id alone, so it depends neither on what else a dialect
prints nor on the chunking.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from deltabook.udfs.simulator.market import BookSnapshot, Int64Array, Market, MarketChunk

LATENCY = (2_000_000, 9_000_000)
"""Least and most time from an event to its receive time, ns."""
MESSAGES, PARTIALS, TRADES, TICKERS, SNAPSHOTS = range(5)
"""Streams, in the order in which lines received at the same time are written."""
_GOLDEN, _ODD, _STREAM_SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), 56


@dataclass(frozen=True)
class ReceiveTimes:
    """Receive times of a chunk's events, int64 ns since 1970-01-01 UTC; no stream is reordered.

    Attributes
    ----------
    messages, partials : numpy.ndarray
        [messages] Of each diff, and of the top of the book sent after it.
    trades : numpy.ndarray
        [trades]
    tickers : numpy.ndarray
        [tickers]
    """

    messages: Int64Array
    partials: Int64Array
    trades: Int64Array
    tickers: Int64Array


class Recorder:
    """Stamps the events of one market, chunk after chunk."""

    def __init__(self) -> None:
        self._last = dict.fromkeys(range(5), 0)

    def receive(self, chunk: MarketChunk) -> ReceiveTimes:
        """Stamp a chunk's events.

        Parameters
        ----------
        chunk : MarketChunk
            Follows the one before.

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
        """Stamp one whole book, received after every message so far.

        Parameters
        ----------
        book : BookSnapshot
            The book.
        happened : int
            When it was sent, ns.
        stream : int
            `SNAPSHOTS` if it was fetched apart, `MESSAGES` if it is a message of the feed.

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
        # Neighbouring ids must not have neighbouring latencies: multiply, fold, multiply.
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
    """Run a market on, a bounded number of messages at a time.

    Parameters
    ----------
    market : Market
        Is advanced by `n_messages`.
    n_messages : int
        How many messages, from 0.
    recorder : Recorder
        Stamps them.
    chunk_messages : int
        Messages in memory at a time.

    Yields
    ------
    (chunk, received) : (MarketChunk, ReceiveTimes)
    """
    for start in range(0, n_messages, chunk_messages):
        chunk = market.advance(min(chunk_messages, n_messages - start))
        yield chunk, recorder.receive(chunk)


class ReceiveQueue:
    """Holds lines back until no line that is still to come can precede them."""

    def __init__(self) -> None:
        self._pending: list[tuple[int, int, str]] = []

    def add(self, received: int, stream: int, line: str) -> None:
        """Queue a line; those of one stream must be added in order."""
        self._pending.append((received, stream, line))

    def ready(self, until: int | None = None) -> Iterator[tuple[int, str]]:
        """Yield receive time and text of the lines received before `until` (None: all), in that order."""
        self._pending.sort(key=itemgetter(0, 1))
        ready = [line for line in self._pending if until is None or line[0] < until]
        self._pending = self._pending[len(ready) :]
        for received, _, text in ready:
            yield received, text
