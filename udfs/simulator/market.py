"""A seeded limit-order market: random orders change a book, and each change becomes part of a feed.

Prices are integer ticks and sizes are integer lots. Times are int64 nanoseconds since 1970-01-01 UTC on the
exchange's clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deltabook.udfs.simulator.kernels import (
    ASK,
    BID,
    MOST_INTENSITY,
    RING,
    TICKER_FIELDS,
    TOP_DEPTH,
    TRADE_FIELDS,
    advance,
    copy_book,
    most_events,
    new_state,
)

Int64Array = npt.NDArray[np.int64]

SNAPSHOT_LEVELS = 1_000
"""Default number of levels per side of a snapshot, as in a REST snapshot."""


@dataclass(frozen=True)
class BookSnapshot:
    """The levels of both sides of the book at one update id, best first.

    Attributes
    ----------
    last_update_id : int
        Id of the last order event that the book includes.
    timestamp : int
        Time of the last order event, ns since 1970-01-01 UTC.
    bid_prices, bid_sizes, ask_prices, ask_sizes : numpy.ndarray
        int64[levels], ticks and lots. Bid prices descend, ask prices ascend.
    """

    last_update_id: int
    timestamp: int
    bid_prices: Int64Array
    bid_sizes: Int64Array
    ask_prices: Int64Array
    ask_sizes: Int64Array


@dataclass(frozen=True)
class MarketChunk:
    """The market's output over n consecutive messages; every array is int64.

    Prices are ticks and sizes are lots. Timestamps are ns since 1970-01-01 UTC on the exchange's clock. If
    the market starts at a whole millisecond, all timestamps are whole milliseconds. Message indices count
    from the first message of this chunk.

    Attributes
    ----------
    inside : BookSnapshot or None
        The book in the middle of one message. The argument `photograph` of `Market.advance` names the
        message.
    timestamps, first_update_ids, last_update_ids : numpy.ndarray
        [n] Time at which a message ends, and the ids of its first (U) and last (u) order event. A message
        starts where the previous message ends.
    bid_offsets, ask_offsets : numpy.ndarray
        [n + 1] Message i changed the levels ``offsets[i]:offsets[i + 1]``.
    bid_prices, bid_sizes, ask_prices, ask_sizes : numpy.ndarray
        [levels] Price of each changed level, and the level's size after the message; a size of 0 deletes the
        level. Within a message, the best level comes first.
    top_bid_prices, top_bid_sizes, top_ask_prices, top_ask_sizes : numpy.ndarray
        [n, 25] The true best levels after each message, best first; 0 where the side has no level.
    top_bid_counts, top_ask_counts : numpy.ndarray
        [n] Number of levels in each row of the top arrays, at most 25.
    trade_ids, trade_timestamps, trade_prices, trade_sizes : numpy.ndarray
        [trades] One trade per maker order that is hit. Each id is the previous id plus one.
    trade_buyer_is_maker, trade_messages : numpy.ndarray
        [trades] 1 if the aggressor sold, otherwise 0; and the index of the message that contains the trade.
    ticker_update_ids, ticker_timestamps : numpy.ndarray
        [tickers] One ticker per change of a best price or size: id and time of the order event.
    ticker_bid_prices, ticker_bid_sizes, ticker_ask_prices, ticker_ask_sizes : numpy.ndarray
        [tickers] The best level of both sides after the order event.
    ticker_messages : numpy.ndarray
        [tickers] Index of the message that contains the ticker.
    """

    inside: BookSnapshot | None
    timestamps: Int64Array
    first_update_ids: Int64Array
    last_update_ids: Int64Array
    bid_offsets: Int64Array
    ask_offsets: Int64Array
    bid_prices: Int64Array
    bid_sizes: Int64Array
    ask_prices: Int64Array
    ask_sizes: Int64Array
    top_bid_prices: Int64Array
    top_bid_sizes: Int64Array
    top_ask_prices: Int64Array
    top_ask_sizes: Int64Array
    top_bid_counts: Int64Array
    top_ask_counts: Int64Array
    trade_ids: Int64Array
    trade_timestamps: Int64Array
    trade_prices: Int64Array
    trade_sizes: Int64Array
    trade_buyer_is_maker: Int64Array
    trade_messages: Int64Array
    ticker_update_ids: Int64Array
    ticker_timestamps: Int64Array
    ticker_bid_prices: Int64Array
    ticker_bid_sizes: Int64Array
    ticker_ask_prices: Int64Array
    ticker_ask_sizes: Int64Array
    ticker_messages: Int64Array


class Market:
    """A limit-order market with a moving mid, reproducible from its seed.

    Parameters
    ----------
    seed : int
        Any integer. Equal seeds and parameters give equal feeds, for chunks of any size.
    price_scale, size_scale : int
        Decimals of a tick and of a lot: a price is ``ticks / 10**price_scale``, a size is
        ``lots / 10**size_scale``. Only the writers use the scales.
    starting_mid : int
        First best bid, ticks; at least 20,000. The order flow reverses when the price reaches a quarter of
        this value or four times this value.
    start_time : int
        Time at which the first message begins, ns since 1970-01-01 UTC. A message takes 100 ms.
    intensity : int
        Mean number of level changes per message, 20 to 400. A message has between half and twice this many
        level changes, and consecutive messages tend to have similar numbers of level changes.
    quiet_share : float
        Share of quiet messages, 0 to 0.999. A quiet message changes only levels below the top 20, so that it
        has neither trades nor tickers.
    smallest_order : int
        Smallest size of an order, lots. Sizes are log-uniform from this size to ``2**14`` times this size.

    Attributes
    ----------
    price_scale, size_scale : int
        Values of the parameters with the same names.

    Raises
    ------
    ValueError
        If parameters are out of range; the message lists all these parameters.
    """

    def __init__(
        self,
        seed: int,
        *,
        price_scale: int = 2,
        size_scale: int = 5,
        starting_mid: int = 6_183_763,
        start_time: int = 1_723_161_255_000_000_000,
        intensity: int = 100,
        quiet_share: float = 0.12,
        smallest_order: int = 32,
    ) -> None:
        ranges = (
            ("price_scale", price_scale, 0, 8),
            ("size_scale", size_scale, 0, 8),
            ("starting_mid", starting_mid, 20_000, 1 << 40),
            ("start_time", start_time, 0, 1 << 62),
            ("intensity", intensity, 20, MOST_INTENSITY),
            ("quiet_share", quiet_share, 0, 0.999),
            ("smallest_order", smallest_order, 1, 1 << 20),
        )
        problems = [
            f"{name} must be from {low} to {high}, is {value}"
            for name, value, low, high in ranges
            if not low <= value <= high
        ]
        if problems:
            raise ValueError("market parameters: " + "; ".join(problems))
        self.price_scale, self.size_scale = price_scale, size_scale
        self._most_events = most_events(intensity)
        self._state = new_state(seed, starting_mid, start_time, intensity, quiet_share, smallest_order)

    def advance(self, n_messages: int, *, photograph: int | None = None) -> MarketChunk:
        """Advance the market by `n_messages` messages and return their level changes, trades and tickers.

        A call reserves about 100 kB of address space per message, and uses about 10 kB of memory per message.
        Ask for a few hundred to a few thousand messages per call.

        Parameters
        ----------
        n_messages : int
            Number of messages, 0 or more.
        photograph : int, optional
            Index of a message within this chunk. In the middle of this message, the book is copied to
            `MarketChunk.inside`. The copy's update id L satisfies U <= L < u. Copying does not change the
            feed. A message of a single order has no middle. The book is then copied in the next message of
            the chunk. `MarketChunk.inside` is None if the chunk ends before that.

        Returns
        -------
        MarketChunk
        """
        room = n_messages * self._most_events
        messages = np.empty((3, n_messages), np.int64)
        levels = np.empty((2, 2, room), np.int64)
        offsets = np.zeros((4, n_messages + 1), np.int64)
        top = np.zeros((2, 2, n_messages, TOP_DEPTH), np.int64)
        counts = np.empty((2, n_messages), np.int64)
        trades = np.empty((TRADE_FIELDS, room), np.int64)
        tickers = np.empty((TICKER_FIELDS, room), np.int64)
        head, inside = np.zeros(4, np.int64), np.empty((2, 2, SNAPSHOT_LEVELS), np.int64)
        wanted = n_messages if photograph is None else photograph
        advance(self._state, wanted, head, inside, messages, levels, offsets, top, counts, trades, tickers)
        rows = np.arange(n_messages, dtype=np.int64)
        columns = [
            *messages,
            *offsets[:2],
            *_trim_levels(levels, offsets[:, -1]),
            *top.reshape(4, n_messages, TOP_DEPTH),
            *counts,
            *trades[:, : offsets[2, -1]].copy(),
            rows.repeat(np.diff(offsets[2])),
            *tickers[:, : offsets[3, -1]].copy(),
            rows.repeat(np.diff(offsets[3])),
        ]
        return MarketChunk(_make_snapshot(head, inside) if head[0] else None, *columns)

    def snapshot(self, limit: int | None = SNAPSHOT_LEVELS) -> BookSnapshot:
        """Return the book after the last message.

        Parameters
        ----------
        limit : int, optional
            Largest number of levels per side; None: all levels.

        Returns
        -------
        BookSnapshot
        """
        head, levels = np.empty(4, np.int64), np.empty((2, 2, RING if limit is None else limit), np.int64)
        copy_book(self._state, head, levels)
        return _make_snapshot(head, levels)


def _make_snapshot(head: Int64Array, levels: Int64Array) -> BookSnapshot:
    """Return the snapshot that `copy_book` wrote into `head` and `levels`."""
    return BookSnapshot(int(head[0]), int(head[1]), *_trim_levels(levels, head[2:]))


def _trim_levels(levels: Int64Array, counts: Int64Array) -> list[Int64Array]:
    """Return bid prices, bid sizes, ask prices and ask sizes, cut to the number of levels of their side."""
    return [levels[side, field, : counts[side]].copy() for side in (BID, ASK) for field in (0, 1)]
