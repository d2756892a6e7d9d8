"""Kernels that advance the simulated market, and the layout of its state, which is one int64 vector.

Every random draw is integer arithmetic on one int64 word. A seed therefore gives the same feed with compiled
and uncompiled kernels, and in chunks of any size.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deltabook.udfs.numba_kernel import kernel

BID, ASK = 0, 1
# TOP_DEPTH: levels per side that are output after each message. QUIET_DEPTH: levels per side that a quiet
# message leaves unchanged.
TOP_DEPTH, QUIET_DEPTH = 25, 20
MILLISECOND, MESSAGE_INTERVAL = 1_000_000, 100_000_000
FIRST_UPDATE_ID, FIRST_TRADE_ID = 50_093_239_189, 3_735_683_259
# Distances from the best price are log-uniform: first an octave k is drawn, then one of the 2**k ticks in it.
# The lowest NEAR_OCTAVES octaves count as near the best price.
OCTAVES, NEAR_OCTAVES = 17, 5
# An order d ticks from the best price shares a slot with the d >> 9 ticks behind it. A slot holds one level.
# So levels far from the best price are sparse, as in real books.
SLOT_SHIFT = 9
# Order sizes are log-uniform too, from the smallest order to 2**14 times the smallest order.
SIZE_OCTAVES = 14
# Sizes are stored in a ring buffer with one entry per tick. The ring follows the mid. A level that leaves the
# ring is cancelled.
RING, RING_MASK = 1 << 18, (1 << 18) - 1
# MINIMUM_LEVELS: fewest levels of a side. MOST_FILLS: most fills of a market order. MOST_INTENSITY: largest
# value of the parameter `intensity` of `Market`.
MINIMUM_LEVELS, MOST_FILLS, MOST_INTENSITY = 40, 64, 400
# Probabilities, in units of 1/65,536. MARKET_ORDER: an order is a market order. LARGE: a market order is
# large. FLOW_FLIP: the direction of market orders flips. FLASH: a new level is cancelled at once.
# REMOVE_NEAR: a limit order that finds a level near the best price removes this level. REMOVE_EATEN: replaces
# REMOVE_NEAR on the side that market orders are hitting. REMOVE_FAR: a limit order that finds a level far
# from the best price removes this level.
MARKET_ORDER, LARGE, FLOW_FLIP, FLASH = 2_000, 2_500, 2_000, 20_000
REMOVE_NEAR, REMOVE_EATEN, REMOVE_FAR = 10_000, 56_000, 34_000
# Multiplier a of Marsaglia's multiply-with-carry generator: a * 2**32 - 1 and a * 2**31 - 1 are prime, and
# every product fits into int64.
MULTIPLIER, WORD = 1_791_398_085, 0xFFFFFFFF


def most_events(intensity: int) -> int:
    """Return an upper bound of the number of order events in one message.

    `advance` starts no order after ``5 * intensity`` events, and the last order has at most `MOST_FILLS`
    fills. The rest is reserve for the levels that are cancelled because they leave the ring.
    """
    return 6 * intensity + MOST_FILLS + 8


# The state is one vector because every array argument costs two atomic reference counts per call (with six
# arrays: 4.1 M level changes/s, with one: 6.0 M). The scalars come first. BEST, LEVELS, CHANGED and FRONT are
# pairs: bid, ask. SHOWN holds four values of the last ticker: price and size of the best bid, price and size
# of the best ask.
BEST, LEVELS, CHANGED, FRONT, SHOWN = 0, 2, 4, 6, 8
LOW, UPDATE_ID, TRADE_ID, RANDOM, ACTIVITY, FLOW, MESSAGE, CLOCK, TRADES, TICKERS = range(12, 22)
START, INTENSITY, QUIET, FLOOR, CEILING, SMALLEST = range(22, 28)
# After the scalars come the arrays of the current message: changed prices by side, trades, tickers.
ROOM = most_events(MOST_INTENSITY)
TRADE_FIELDS, TICKER_FIELDS = 5, 6
CHANGED_PRICES = 32
TRADE_ROWS = CHANGED_PRICES + 2 * ROOM
TICKER_ROWS = TRADE_ROWS + TRADE_FIELDS * ROOM
# The last arrays have one entry per tick of the ring. SIZES holds the size of the level at the tick. The book
# never crosses, so a tick belongs to one side only. STAMPS holds, by side, the number of the last message
# that changed the tick.
SIZES = TICKER_ROWS + TICKER_FIELDS * ROOM
STAMPS = SIZES + RING
STATE_LENGTH = STAMPS + 2 * RING


def new_state(
    seed: int, mid: int, start_time: int, intensity: int, quiet_share: float, smallest_order: int
) -> npt.NDArray[np.int64]:
    """Return the state of a market, int64[STATE_LENGTH], before its first message.

    Parameters
    ----------
    seed : int
        Seed of the random numbers.
    mid : int
        First best bid, ticks. The first best ask is one tick higher.
    start_time : int
        Time of the first message, ns since 1970 UTC.
    intensity : int
        Mean number of level changes per message; see `Market`.
    quiet_share : float
        Share of quiet messages, 0 to below 1; see `Market`.
    smallest_order : int
        Smallest size of an order, lots.
    """
    state = np.zeros(STATE_LENGTH, np.int64)
    # Any word from 1 to a * 2**32 - 2 can start the generator. The multiplication spreads neighboring seeds.
    state[RANDOM] = seed * 0x9E3779B97F4A7C15 % (MULTIPLIER * (WORD + 1) - 2) + 1
    state[UPDATE_ID], state[TRADE_ID] = FIRST_UPDATE_ID - 1, FIRST_TRADE_ID - 1
    state[START] = state[CLOCK] = start_time
    state[ACTIVITY], state[INTENSITY] = 1 << 15, intensity
    state[QUIET], state[SMALLEST] = int(quiet_share * (WORD + 1)), smallest_order
    state[FLOOR], state[CEILING], state[LOW] = mid // 4, mid * 4, mid - RING // 2
    _seed_book(state, mid)
    return state


@kernel
def _draw(state):
    """Return 32 random bits and advance the generator."""
    value = MULTIPLIER * (state[RANDOM] & WORD) + (state[RANDOM] >> 32)
    state[RANDOM] = value
    return value & WORD


@kernel
def _order_size(state, octaves):
    """Return a random size in lots, log-uniform over `octaves` octaves above the smallest order."""
    span = state[SMALLEST] << ((_draw(state) * octaves) >> 32)
    return span + ((_draw(state) * span) >> 32)


@kernel
def _set_level(state, side, price, size):
    """Apply one order event: set the size of a level, under a new update id.

    If the best price or size of the side changes, a ticker is added.
    """
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
def _market_order(state):
    """Execute a market order, with one trade and one update id for each maker order that is hit.

    The direction of the order flow flips with a small probability, so that several orders in a row have the
    same direction.
    """
    if _draw(state) >> 16 < FLOW_FLIP:
        state[FLOW] = 1 - state[FLOW]
    if state[BEST + BID] < state[FLOOR]:
        state[FLOW] = ASK
    elif state[BEST + ASK] > state[CEILING]:
        state[FLOW] = BID
    side = state[FLOW]
    remaining = _order_size(state, SIZE_OCTAVES if _draw(state) >> 16 < LARGE else SIZE_OCTAVES - 6)
    for _ in range(MOST_FILLS):
        if remaining == 0 or state[LEVELS + side] <= MINIMUM_LEVELS:
            break
        price = state[BEST + side]
        held = state[SIZES + (price & RING_MASK)]
        fill = min(remaining, held, _order_size(state, SIZE_OCTAVES))
        row = TRADE_ROWS + TRADE_FIELDS * state[TRADES]
        state[TRADES] += 1
        state[TRADE_ID] += 1
        state[row], state[row + 1], state[row + 2] = state[TRADE_ID], state[CLOCK], price
        state[row + 3], state[row + 4] = fill, 1 - side
        _set_level(state, side, price, held - fill)
        remaining -= fill


@kernel
def _limit_order(state):
    """Place, change or cancel an order on a random side, at a random distance behind the front of the side.

    The front of a side is the best price of the other side. In a quiet message, the front is the price of the
    side's own level number `QUIET_DEPTH`, counted from the best, so that better levels do not change.
    """
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
    found = found if held > 0 else price
    size = held + _order_size(state, SIZE_OCTAVES)
    # Near the best price, a removal is more likely on the side that market orders are hitting.
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
def _follow_mid(state):
    """Move the ring of ticks towards the mid, and cancel the levels that leave the ring."""
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
def _copy_side(state, side, limit, prices, sizes):
    """Copy at most `limit` levels of a side, best first, and return the number copied."""
    count = min(limit, state[LEVELS + side])
    price = state[BEST + side]
    for row in range(count):
        while state[SIZES + (price & RING_MASK)] == 0:
            price += 2 * side - 1
        prices[row], sizes[row] = price, state[SIZES + (price & RING_MASK)]
        price += 2 * side - 1
    return count


@kernel
def copy_book(state, head, levels):
    """Copy the best levels of both sides; cost: one memory access per tick from the best to the last level.

    Parameters
    ----------
    state : int64[STATE_LENGTH]
        State of the market.
    head : int64[4]
        Filled with update id, time (ns since 1970 UTC), number of bids and number of asks.
    levels : int64[2, 2, limit]
        Filled with prices in ticks and sizes in lots; the axes are side, price (0) or size (1), and level.
    """
    head[0], head[1] = state[UPDATE_ID], state[CLOCK]
    for side in range(2):
        head[2 + side] = _copy_side(state, side, levels.shape[2], levels[side, 0], levels[side, 1])


@kernel
def _begin_message(state):
    """Start a message: advance the clock, draw the activity and let the ring follow the mid.

    Returns the number of level changes after which the message ends.
    """
    state[MESSAGE] += 1
    state[CHANGED + BID] = state[CHANGED + ASK] = state[TRADES] = state[TICKERS] = 0
    state[CLOCK] = state[START] + (state[MESSAGE] - 1) * MESSAGE_INTERVAL
    activity = abs(state[ACTIVITY] + ((_draw(state) >> 16) - 32_768) // 2)
    state[ACTIVITY] = min(activity, 131_070 - activity)
    _follow_mid(state)
    spread = (state[ACTIVITY] * state[ACTIVITY]) >> 16
    return (state[INTENSITY] + ((state[INTENSITY] * 3 * spread) >> 16)) // 2


@kernel
def _write_message(state, row, levels, offsets, top, counts, trades, tickers):
    """Write the current message into row `row` of the output arrays of `advance`.

    The output is the changed levels (best first), the top levels of both sides after the message, the trades
    and the tickers.
    """
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
    # The four rows of `offsets` hold where each message starts in the arrays of bid levels, ask levels,
    # trades and tickers.
    first_trade, first_ticker = offsets[2, row], offsets[3, row]
    for position in range(state[TRADES]):
        for field in range(TRADE_FIELDS):
            trades[field, first_trade + position] = state[TRADE_ROWS + TRADE_FIELDS * position + field]
    for position in range(state[TICKERS]):
        for field in range(TICKER_FIELDS):
            tickers[field, first_ticker + position] = state[TICKER_ROWS + TICKER_FIELDS * position + field]
    offsets[2, row + 1], offsets[3, row + 1] = first_trade + state[TRADES], first_ticker + state[TICKERS]


@kernel
def advance(state, photograph, photo, photo_levels, messages, levels, offsets, top, counts, trades, tickers):
    """Advance the market by m messages; an order event costs 0.15 µs at any depth of the book.

    Parameters
    ----------
    state : int64[STATE_LENGTH]
        State of the market, changed in place.
    photograph : int
        Index of the message in whose middle the book is copied; m for no copy.
    photo, photo_levels : int64[4], int64[2, 2, :]
        Filled with the copy of the book, like the parameters `head` and `levels` of `copy_book`. The caller
        sets ``photo[0]`` to 0.
    messages : int64[3, m]
        Filled with end time (ns since 1970 UTC), first update id and last update id of each message.
    levels : int64[2, 2, :]
        Filled with the changed levels of all messages; the axes are side, price (0) or size (1), and level.
    offsets : int64[4, m + 1]
        Filled with the bounds of each message's bid levels, ask levels, trades and tickers. The caller sets
        the first column to 0.
    top : int64[2, 2, m, TOP_DEPTH]
        Filled with the best levels after each message, best first; the axes are side, price (0) or size (1),
        message and level.
    counts : int64[2, m]
        Filled with the number of levels in `top` for each side and message.
    trades : int64[TRADE_FIELDS, :]
        Filled with the fields of each trade: id, time, price, size, and 1 if the buyer is the maker.
    tickers : int64[TICKER_FIELDS, :]
        Filled with the fields of each ticker: update id, time, bid price, bid size, ask price, ask size.
    """
    for row in range(messages.shape[1]):
        messages[1, row] = state[UPDATE_ID] + 1
        most = state[UPDATE_ID] + 5 * state[INTENSITY]
        target = _begin_message(state)
        start = state[CLOCK]
        quiet = _draw(state) < state[QUIET]
        for side in range(2):
            _copy_side(state, side, TOP_DEPTH, top[side, 0, row], top[side, 1, row])
            state[FRONT + side] = top[side, 0, row, QUIET_DEPTH - 1] if quiet else 0
        changed = state[CHANGED + BID] + state[CHANGED + ASK]
        while changed < target and state[UPDATE_ID] < most:
            if photo[0] == 0 and photograph <= row and 4 * changed >= target:
                copy_book(state, photo, photo_levels)
            state[CLOCK] = start + MESSAGE_INTERVAL * changed // target // MILLISECOND * MILLISECOND
            if not quiet and _draw(state) >> 16 < MARKET_ORDER:
                _market_order(state)
            else:
                _limit_order(state)
            changed = state[CHANGED + BID] + state[CHANGED + ASK]
        messages[0, row] = state[START] + state[MESSAGE] * MESSAGE_INTERVAL
        messages[2, row] = state[UPDATE_ID]
        _write_message(state, row, levels, offsets, top, counts, trades, tickers)


@kernel
def _seed_book(state, mid):
    """Fill the first book: give a level to each best price, and to about five in eight of the other slots."""
    for _ in range(8):
        _draw(state)
    for side in range(2):
        state[BEST + side] = mid + side
        for octave in range(OCTAVES):
            width = max(1, (1 << octave) >> SLOT_SHIFT)
            for distance in range((1 << octave) - 1, (2 << octave) - 1, width):
                price = mid + side + (2 * side - 1) * (distance + ((_draw(state) * width) >> 32))
                inside = max(1, state[LOW]) <= price < state[LOW] + RING
                if inside and (distance == 0 or _draw(state) & 7 < 5):
                    state[SIZES + (price & RING_MASK)] = _order_size(state, SIZE_OCTAVES)
                    state[LEVELS + side] += 1
        state[SHOWN + 2 * side] = state[BEST + side]
        state[SHOWN + 2 * side + 1] = state[SIZES + (state[BEST + side] & RING_MASK)]
