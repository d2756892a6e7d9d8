"""A seeded limit-order market: its orders, its book, and the feed that they make.

Prices are integer ticks, sizes integer lots, times int64 nanoseconds since 1970-01-01 UTC on the
exchange's clock. Every draw is integer arithmetic on one int64 word, so that a compiled run and
a run with ``NUMBA_DISABLE_JIT=1`` give the same stream, and so does any chunking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deltabook.udfs.compile import kernel

Int64Array = npt.NDArray[np.int64]

BID, ASK = 0, 1
TOP_DEPTH = 20
# Distances from the touch are log-uniform: an octave k, then one of the 2**k ticks in it.
OCTAVES = 17
# An order d ticks from the touch owns the d >> 9 ticks behind it: far levels are sparse, as in reality.
SLOT_SHIFT = 9
# Sizes live in a ring of ticks that follows the mid; levels that fall out of it are cancelled.
RING = 1 << 18
RING_MASK = RING - 1
MINIMUM_LEVELS = 40
MILLISECOND = 1_000_000
# Probabilities, of 65,536.
MARKET_ORDER, LARGE, FLOW_FLIP, FLASH = 2_000, 2_500, 2_000, 20_000
REMOVE_NEAR, REMOVE_EATEN, REMOVE_FAR = 10_000, 56_000, 34_000
NEAR_OCTAVES = 5
MOST_FILLS = 64
MOST_INTENSITY = 400
# Marsaglia's multiply-with-carry multiplier: a * 2**32 - 1 and a * 2**31 - 1 are prime, and no
# product leaves int64.
MULTIPLIER = 1_791_398_085
WORD = 0xFFFFFFFF

# The market is one int64 vector: every array argument costs two atomic reference counts a call (six
# arrays: 4.1 M level changes/s, one: 6.0 M). Scalars first; a pair holds bid, ask.
BEST, LEVELS, CHANGED, FRONT, SHOWN = 0, 2, 4, 6, 8
LOW, UPDATE_ID, TRADE_ID, RANDOM, ACTIVITY, FLOW, MESSAGE, CLOCK, TRADES, TICKERS = range(12, 22)
START, INTERVAL, INTENSITY, QUIET, FLOOR, CEILING, SMALLEST, SIZE_OCTAVES = range(22, 30)
# Then this message's own: changed prices by side, trades, tickers; `ROOM` is the most there can be.
ROOM = 6 * MOST_INTENSITY + MOST_FILLS + 8
TRADE_FIELDS, TICKER_FIELDS = 5, 6
CHANGED_PRICES = 32
TRADE_ROWS = CHANGED_PRICES + 2 * ROOM
TICKER_ROWS = TRADE_ROWS + TRADE_FIELDS * ROOM
# Then by tick in the ring: size of whichever side has the tick (the book never crosses), and by
# side the last message that changed it.
SIZES = TICKER_ROWS + TICKER_FIELDS * ROOM
STAMPS = SIZES + RING
STATE_LENGTH = STAMPS + 2 * RING


@kernel
def _draw(state):  # type: ignore[no-untyped-def]
    """32 random bits."""
    value = MULTIPLIER * (state[RANDOM] & WORD) + (state[RANDOM] >> 32)
    state[RANDOM] = value
    return value & WORD


@kernel
def _order_size(state, octaves):  # type: ignore[no-untyped-def]
    """Log-uniform, hence heavy-tailed, over that many octaves from the smallest order."""
    span = state[SMALLEST] << ((_draw(state) * octaves) >> 32)
    return span + ((_draw(state) * span) >> 32)


@kernel
def _set_level(state, side, price, size):  # type: ignore[no-untyped-def]
    """One order event: the level's new size under a new update id, and the ticker it may cause."""
    slot = price & RING_MASK
    before = state[SIZES + slot]
    state[SIZES + slot] = size
    state[UPDATE_ID] += 1
    if state[STAMPS + side * RING + slot] != state[MESSAGE]:
        state[STAMPS + side * RING + slot] = state[MESSAGE]
        state[CHANGED_PRICES + side * ROOM + state[CHANGED + side]] = price
        state[CHANGED + side] += 1
    away = 2 * side - 1
    if before == 0 and size > 0:
        state[LEVELS + side] += 1
        if (price - state[BEST + side]) * away < 0:
            state[BEST + side] = price
    elif before > 0 and size == 0:
        state[LEVELS + side] -= 1
        if price == state[BEST + side]:
            price += away
            while state[SIZES + (price & RING_MASK)] == 0:
                price += away
            state[BEST + side] = price
    best, shown = state[BEST + side], SHOWN + 2 * side
    held = state[SIZES + (best & RING_MASK)]
    if best != state[shown] or held != state[shown + 1]:
        state[shown], state[shown + 1] = best, held
        row = TICKER_ROWS + TICKER_FIELDS * state[TICKERS]
        state[TICKERS] += 1
        state[row], state[row + 1] = state[UPDATE_ID], state[CLOCK]
        for field in range(4):
            state[row + 2 + field] = state[SHOWN + field]


@kernel
def _market_order(state):  # type: ignore[no-untyped-def]
    """Sweep one side, a trade and an update id for each maker; flow keeps its direction for a while."""
    if _draw(state) >> 16 < FLOW_FLIP:
        state[FLOW] = 1 - state[FLOW]
    if state[BEST + BID] < state[FLOOR]:
        state[FLOW] = ASK
    elif state[BEST + ASK] > state[CEILING]:
        state[FLOW] = BID
    side = state[FLOW]
    octaves = state[SIZE_OCTAVES]
    remaining = _order_size(state, octaves if _draw(state) >> 16 < LARGE else max(1, octaves - 6))
    for _ in range(MOST_FILLS):
        if remaining == 0 or state[LEVELS + side] <= MINIMUM_LEVELS:
            break
        price = state[BEST + side]
        held = state[SIZES + (price & RING_MASK)]
        fill = min(remaining, held, _order_size(state, octaves))
        row = TRADE_ROWS + TRADE_FIELDS * state[TRADES]
        state[TRADES] += 1
        state[TRADE_ID] += 1
        state[row], state[row + 1], state[row + 2] = state[TRADE_ID], state[CLOCK], price
        state[row + 3], state[row + 4] = fill, 1 - side
        _set_level(state, side, price, held - fill)
        remaining -= fill


@kernel
def _limit_order(state):  # type: ignore[no-untyped-def]
    """Place, change or cancel at a random distance behind the front of a random side."""
    choice = _draw(state)
    side, roll = choice & 1, choice >> 16
    octave = (_draw(state) * OCTAVES) >> 32
    distance = (1 << octave) - 1 + (_draw(state) & ((1 << octave) - 1))
    away = 2 * side - 1
    front = state[FRONT + side] if state[FRONT + side] > 0 else state[BEST + 1 - side]
    price = front + away * (1 + distance)
    last = price + away * (distance >> SLOT_SHIFT)
    if min(price, last) < max(1, state[LOW]) or max(price, last) >= state[LOW] + RING:
        return
    found = price
    while found != last and state[SIZES + (found & RING_MASK)] == 0:
        found += away
    held = state[SIZES + (found & RING_MASK)]
    if held == 0:
        found = price
    size = held + _order_size(state, state[SIZE_OCTAVES])
    # Near the touch, orders leave more readily on the side that the flow is eating.
    remove = REMOVE_FAR
    if octave < NEAR_OCTAVES:
        remove = REMOVE_EATEN if side == state[FLOW] else REMOVE_NEAR
    flash = roll < FLASH if held == 0 else roll & 15 == 0
    if held > 0 and roll < remove and state[LEVELS + side] > MINIMUM_LEVELS:
        size, flash = 0, False
    elif held > 0 and roll & 1 == 0 and not flash:
        size = 1 + ((held - 1) >> 8) * (_draw(state) & 255)
    _set_level(state, side, found, size)
    if flash:
        _set_level(state, side, found, held)


@kernel
def _follow_mid(state):  # type: ignore[no-untyped-def]
    """Move the ring of ticks towards the mid, cancelling what falls out of it."""
    wanted = (state[BEST + BID] + state[BEST + ASK]) // 2 - RING // 2
    for _ in range(min(abs(wanted - state[LOW]), 1_024)):
        rising = wanted > state[LOW]
        side = BID if rising else ASK
        price = state[LOW] if rising else state[LOW] + RING - 1
        if state[SIZES + (price & RING_MASK)] > 0:
            if state[LEVELS + side] <= MINIMUM_LEVELS or state[CHANGED + side] >= state[INTENSITY] // 4:
                break
            _set_level(state, side, price, 0)
        state[LOW] += 1 if rising else -1


@kernel
def _copy_side(state, side, limit, prices, sizes):  # type: ignore[no-untyped-def]
    """The best `limit` levels of a side, best first; returns how many there are."""
    count = min(limit, state[LEVELS + side])
    price = state[BEST + side]
    for row in range(count):
        while state[SIZES + (price & RING_MASK)] == 0:
            price += 2 * side - 1
        prices[row] = price
        sizes[row] = state[SIZES + (price & RING_MASK)]
        price += 2 * side - 1
    return count


@kernel
def _begin_message(state):  # type: ignore[no-untyped-def]
    """Set clock, activity and ring; returns how many levels the message is to change."""
    state[MESSAGE] += 1
    state[CHANGED + BID] = state[CHANGED + ASK] = state[TRADES] = state[TICKERS] = 0
    state[CLOCK] = state[START] + (state[MESSAGE] - 1) * state[INTERVAL]
    activity = abs(state[ACTIVITY] + ((_draw(state) >> 16) - 32_768) // 2)
    state[ACTIVITY] = min(activity, 131_070 - activity)
    _follow_mid(state)
    spread = (state[ACTIVITY] * state[ACTIVITY]) >> 16
    return (state[INTENSITY] + ((state[INTENSITY] * 3 * spread) >> 16)) // 2


@kernel
def _write_message(state, row, levels, offsets, top, counts, trades, tickers, ends):  # type: ignore[no-untyped-def]
    """The message's changed levels, best first, the top of both sides after it, its trades and tickers."""
    for side in range(2):
        number, start = state[CHANGED + side], offsets[side, row]
        first = CHANGED_PRICES + side * ROOM
        prices = state[first : first + number]
        prices.sort()
        for position in range(number):
            price = prices[position] if side == ASK else prices[number - 1 - position]
            behind = (price - state[BEST + side]) * (2 * side - 1) >= 0
            levels[side, 0, start + position] = price
            levels[side, 1, start + position] = state[SIZES + (price & RING_MASK)] if behind else 0
        offsets[side, row + 1] = start + number
        counts[side, row] = _copy_side(state, side, TOP_DEPTH, top[side, 0, row], top[side, 1, row])
    for position in range(state[TRADES]):
        for field in range(TRADE_FIELDS):
            trades[field, ends[0] + position] = state[TRADE_ROWS + TRADE_FIELDS * position + field]
        trades[TRADE_FIELDS, ends[0] + position] = row
    for position in range(state[TICKERS]):
        for field in range(TICKER_FIELDS):
            tickers[field, ends[1] + position] = state[TICKER_ROWS + TICKER_FIELDS * position + field]
        tickers[TICKER_FIELDS, ends[1] + position] = row
    ends[0] += state[TRADES]
    ends[1] += state[TICKERS]


@kernel
def _advance(  # type: ignore[no-untyped-def]
    state, photograph, photo, photo_levels, messages, levels, offsets, top, counts, trades, tickers, ends
):
    """Run a message for each column of `messages`; an order event costs 0.15 µs however deep the book."""
    for row in range(messages.shape[1]):
        messages[1, row] = state[UPDATE_ID] + 1
        most = state[UPDATE_ID] + 5 * state[INTENSITY]
        target = _begin_message(state)
        start = state[CLOCK]
        quiet = _draw(state) < state[QUIET]
        for side in range(2):
            count = _copy_side(state, side, TOP_DEPTH, top[side, 0, row], top[side, 1, row])
            state[FRONT + side] = top[side, 0, row, count - 1] if quiet else 0
        changed = state[CHANGED + BID] + state[CHANGED + ASK]
        while changed < target and state[UPDATE_ID] < most:
            if photo[0] == 0 and 0 <= photograph <= row and 4 * changed >= target:
                photo[0], photo[1] = state[UPDATE_ID], state[CLOCK]
                for side in range(2):
                    limit = photo_levels.shape[2]
                    photo[2 + side] = _copy_side(
                        state, side, limit, photo_levels[side, 0], photo_levels[side, 1]
                    )
            elapsed = state[INTERVAL] * changed // target
            state[CLOCK] = start + elapsed - elapsed % MILLISECOND
            if not quiet and _draw(state) >> 16 < MARKET_ORDER:
                _market_order(state)
            else:
                _limit_order(state)
            changed = state[CHANGED + BID] + state[CHANGED + ASK]
        messages[0, row] = state[START] + state[MESSAGE] * state[INTERVAL]
        messages[2, row] = state[UPDATE_ID]
        _write_message(state, row, levels, offsets, top, counts, trades, tickers, ends)


@kernel
def _seed_book(state, mid):  # type: ignore[no-untyped-def]
    """Put orders on some five of eight slots of both sides, and always at the touch."""
    for side in range(2):
        away = 2 * side - 1
        state[BEST + side] = mid + side
        for octave in range(OCTAVES):
            width = max(1, (1 << octave) >> SLOT_SHIFT)
            for distance in range((1 << octave) - 1, (2 << octave) - 1, width):
                price = mid + side + away * (distance + ((_draw(state) * width) >> 32))
                inside = max(1, state[LOW]) <= price < state[LOW] + RING
                if inside and (distance == 0 or _draw(state) & 7 < 5):
                    state[SIZES + (price & RING_MASK)] = _order_size(state, state[SIZE_OCTAVES])
                    state[LEVELS + side] += 1
        state[SHOWN + 2 * side] = state[BEST + side]
        state[SHOWN + 2 * side + 1] = state[SIZES + (state[BEST + side] & RING_MASK)]


@dataclass(frozen=True)
class BookSnapshot:
    """The levels of both sides at one update id, best first.

    Attributes
    ----------
    last_update_id : int
        Id of the last order event that the book holds.
    timestamp : int
        Time of that event, ns since 1970-01-01 UTC.
    bid_prices, bid_sizes, ask_prices, ask_sizes : numpy.ndarray
        int64 [levels], ticks and lots; bids fall, asks rise.
    """

    last_update_id: int
    timestamp: int
    bid_prices: Int64Array
    bid_sizes: Int64Array
    ask_prices: Int64Array
    ask_sizes: Int64Array


@dataclass(frozen=True)
class MarketChunk:
    """What the market did in n consecutive messages; every array is int64.

    Prices are ticks, sizes lots, timestamps ns since 1970-01-01 UTC (exchange clock, whole
    milliseconds if the start time is), message indices count from this chunk's first message.

    Attributes
    ----------
    inside : BookSnapshot or None
        The book in the middle of the message that `Market.advance` was told to photograph.
    timestamps, first_update_ids, last_update_ids : numpy.ndarray
        [n] Time at which a message ends, and the first (U) and last (u) order event in it.
    bid_offsets, ask_offsets : numpy.ndarray
        [n + 1] Message i changed the levels ``offsets[i]:offsets[i + 1]``.
    bid_prices, bid_sizes, ask_prices, ask_sizes : numpy.ndarray
        [levels] Changed levels, best first within a message, with their size after it; 0: deleted.
    top_bid_prices, top_bid_sizes, top_ask_prices, top_ask_sizes : numpy.ndarray
        [n, 20] The true best levels after each message, best first, 0 beyond the levels there are.
    top_bid_counts, top_ask_counts : numpy.ndarray
        [n] How many of those 20 levels there are.
    trade_ids, trade_timestamps, trade_prices, trade_sizes : numpy.ndarray
        [trades] One per maker order hit; ids rise by one.
    trade_buyer_is_maker, trade_messages : numpy.ndarray
        [trades] 1 if the aggressor sold, else 0; index of the message that a trade falls into.
    ticker_update_ids, ticker_timestamps : numpy.ndarray
        [tickers] One per change of a best price or size: the event that made it, and its time.
    ticker_bid_prices, ticker_bid_sizes, ticker_ask_prices, ticker_ask_sizes : numpy.ndarray
        [tickers] The best level of both sides after that event.
    ticker_messages : numpy.ndarray
        [tickers] Index of the message that a ticker falls into.
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
    """A limit-order market with a moving mid, replayable from its seed.

    Parameters
    ----------
    seed : int
        Any integer; the same seed and parameters give the same stream in any chunking.
    price_scale, size_scale : int
        Decimals of a tick and of a lot: a price is ``ticks / 10**price_scale``. Only printing uses them.
    starting_mid : int
        First best bid, ticks; from 20,000. The flow turns back at a quarter and at four times of it.
    start_time : int
        Time at which the first message begins, ns since 1970-01-01 UTC.
    message_interval : int
        Feed time that a message covers, ns; from 1,000,000.
    intensity : int
        Mean level changes a message, 20 to 400; a message has from a half to twice as many, and the
        next message tends to be as busy as the last.
    quiet_share : float
        Share of messages, 0 up to but not 1, that change only levels below the top 20: no trades, no tickers.
    smallest_order, size_octaves : int
        An order is ``smallest_order`` to ``smallest_order * 2**size_octaves`` lots, log-uniform.
    first_update_id, first_trade_id : int
        Id of the first order event and of the first trade; from 1.

    Attributes
    ----------
    price_scale, size_scale, message_interval : int
        As given.

    Raises
    ------
    ValueError
        Some parameter is out of its range; the text names all that are.
    """

    def __init__(
        self,
        seed: int,
        *,
        price_scale: int = 2,
        size_scale: int = 5,
        starting_mid: int = 6_183_763,
        start_time: int = 1_723_161_255_000_000_000,
        message_interval: int = 100_000_000,
        intensity: int = 100,
        quiet_share: float = 0.12,
        smallest_order: int = 32,
        size_octaves: int = 14,
        first_update_id: int = 50_093_239_189,
        first_trade_id: int = 3_735_683_259,
    ) -> None:
        ranges = (
            ("price_scale", price_scale, 0, 9),
            ("size_scale", size_scale, 0, 9),
            ("starting_mid", starting_mid, 20_000, 1 << 40),
            ("start_time", start_time, 0, 1 << 62),
            ("message_interval", message_interval, MILLISECOND, 60_000 * MILLISECOND),
            ("intensity", intensity, 20, MOST_INTENSITY),
            ("quiet_share", quiet_share, 0, 0.999),
            ("smallest_order", smallest_order, 1, 1 << 20),
            ("size_octaves", size_octaves, 1, 24),
            ("first_update_id", first_update_id, 1, 1 << 62),
            ("first_trade_id", first_trade_id, 1, 1 << 62),
        )
        problems = [
            f"{name} must be from {low} to {high}, is {value}"
            for name, value, low, high in ranges
            if not low <= value <= high
        ]
        if problems:
            raise ValueError("market parameters: " + "; ".join(problems))
        self.price_scale, self.size_scale, self.message_interval = price_scale, size_scale, message_interval
        # Most order events a message can have: its limit, one last order, and the ring's own cancels.
        self._capacity = 6 * intensity + MOST_FILLS + 8
        state = np.zeros(STATE_LENGTH, np.int64)
        # Any word from 1 to a * 2**32 - 2 starts the generator; neighbouring seeds are driven apart first.
        state[RANDOM] = seed * 0x9E3779B97F4A7C15 % (MULTIPLIER * (WORD + 1) - 2) + 1
        state[UPDATE_ID], state[TRADE_ID] = first_update_id - 1, first_trade_id - 1
        state[START] = state[CLOCK] = start_time
        state[INTERVAL], state[INTENSITY], state[ACTIVITY] = message_interval, intensity, 1 << 15
        state[QUIET] = int(quiet_share * (WORD + 1))
        state[FLOOR], state[CEILING] = starting_mid // 4, starting_mid * 4
        state[SMALLEST], state[SIZE_OCTAVES] = smallest_order, size_octaves
        state[LOW] = starting_mid - RING // 2
        self._state = state
        for _ in range(8):
            _draw(state)
        _seed_book(state, starting_mid)

    def advance(
        self, n_messages: int, *, photograph: int | None = None, photograph_limit: int = 1000
    ) -> MarketChunk:
        """Run the market on.

        Reserves some 100 kB of address space a message while it runs, and touches a tenth of it: ask for
        a few hundred to a few thousand at a time.

        Parameters
        ----------
        n_messages : int
            How many messages, from 0.
        photograph : int, optional
            Index, within this chunk, of a message in the middle of which the book is copied: its update
            id U <= L < u. It changes nothing in the stream. Should one order be that message whole,
            the next message is taken instead; None in `MarketChunk.inside` if the chunk has no next.
        photograph_limit : int
            Levels a side of that copy.

        Returns
        -------
        MarketChunk
        """
        room = n_messages * self._capacity
        trades = np.empty((TRADE_FIELDS + 1, room), np.int64)
        tickers = np.empty((TICKER_FIELDS + 1, room), np.int64)
        ends = np.zeros(2, np.int64)
        messages = np.zeros((3, n_messages), np.int64)
        levels = np.empty((2, 2, room), np.int64)
        offsets = np.zeros((2, n_messages + 1), np.int64)
        top = np.zeros((2, 2, n_messages, TOP_DEPTH), np.int64)
        counts = np.zeros((2, n_messages), np.int64)
        photo = np.zeros(4, np.int64)
        photo_levels = np.zeros((2, 2, photograph_limit), np.int64)
        wanted = -1 if photograph is None else photograph
        outputs = (messages, levels, offsets, top, counts, trades, tickers, ends)
        _advance(self._state, wanted, photo, photo_levels, *outputs)
        sides = [levels[side, field, : offsets[side, -1]].copy() for side in (BID, ASK) for field in (0, 1)]
        columns = [
            *messages,
            *offsets,
            *sides,
            *(top[side, field] for side in (BID, ASK) for field in (0, 1)),
            *counts,
            *trades[:, : ends[0]].copy(),
            *tickers[:, : ends[1]].copy(),
        ]
        return MarketChunk(_snapshot(photo, photo_levels) if photo[0] else None, *columns)

    def snapshot(self, limit: int | None = 1000) -> BookSnapshot:
        """Copy the book as it is after the last message.

        Parameters
        ----------
        limit : int, optional
            Most levels a side; None: all of them.

        Returns
        -------
        BookSnapshot
        """
        most = int(self._state[LEVELS : LEVELS + 2].max()) if limit is None else limit
        levels = np.zeros((2, 2, most), np.int64)
        counts = [
            _copy_side(self._state, side, most, levels[side, 0], levels[side, 1]) for side in (BID, ASK)
        ]
        return _snapshot([self._state[UPDATE_ID], self._state[CLOCK], *counts], levels)


def _snapshot(head: Any, levels: Int64Array) -> BookSnapshot:
    """From [update id, time, bid count, ask count] and [side, price or size, level]."""
    sides = [levels[side, field, : head[2 + side]].copy() for side in (BID, ASK) for field in (0, 1)]
    return BookSnapshot(int(head[0]), int(head[1]), *sides)
