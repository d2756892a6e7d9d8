"""Fast reader of Binance capture lines: one numba pass over the bytes of a block.

The fast reader handles the known messages in the compact JSON that Binance prints. It gives every other line
the kind `SLOW`. The caller passes SLOW lines to the strict reader, `strict_lines`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.decimal_text import scan_decimal
from deltabook.udfs.sources.binance.json_slots import (
    ABSENT,
    ARRAY,
    ASKS,
    BIDS,
    COLON,
    FALSE,
    INTEGER,
    LAST_UPDATE_ID,
    NINE,
    OPEN,
    PREVIOUS,
    SLOTS,
    SPACE,
    STREAM,
    STRING,
    TRUE,
    ZERO,
    equals,
    scan_object,
)

SLOW, BLANK, DEPTH, TRADE, AGG_TRADE, TICKER, PARTIAL_BOOK = range(7)
"""Kinds of lines. SLOW: the fast reader cannot read the line, so `strict_lines` must read it."""

(
    KIND,
    START,
    END,
    RECEIVED,
    EVENT_TIME,
    TRADE_TIME,
    FIRST_ID,
    LAST_ID,
    PREVIOUS_ID,
    PRICE,
    SIZE,
    BUYER_IS_MAKER,
    IN_BOOK,
    FUTURES,
    SYMBOL_CODE,
    BIDS_END,
    ASKS_END,
    FIELDS,
) = range(18)
"""Columns of `Scan.lines`; FIELDS is the number of columns."""

MAX_SYMBOLS = 4096
"""Largest number of symbols of a block that get a code; lines with any further symbol are SLOW."""
_SHORTEST_LEVEL = len('["1","0"]')

_NEWLINE, _RETURN, _AT_SIGN, _POINT = ord("\n"), ord("\r"), ord("@"), ord(".")
_MAX_SECONDS = 9_223_372_035
"""Largest number of whole seconds that, converted to nanoseconds, fits int64."""

_DEPTH_UPDATE, _TRADE_EVENT, _AGG_EVENT, _TICKER_EVENT = b"depthUpdate", b"trade", b"aggTrade", b"bookTicker"
_MARKET, _DEPTH_SUFFIX = b"MARKET", b"@depth"


@dataclass(frozen=True)
class Scan:
    """The lines of one block, read into arrays.

    Attributes
    ----------
    lines : int64[n, FIELDS]
        One row per line and one column per value; -1 where a line does not give the value. RECEIVED is in ns
        since 1970 UTC. EVENT_TIME and TRADE_TIME are in the unit in which the line prints them. START and END
        are the line's bounds in the block, in bytes. BIDS_END and ASKS_END are the numbers of bids and of
        asks in the block up to the end of the line.
    symbols : list[str]
        Symbol of each SYMBOL_CODE, in upper case, from field `s` or from the name of the stream.
    bid_prices, bid_sizes, ask_prices, ask_sizes : int64[:]
        Levels of all lines, in line order. Prices are multiplied by 10^price_scale, sizes by 10^size_scale.
    """

    lines: NDArray[np.int64]
    symbols: list[str]
    bid_prices: NDArray[np.int64]
    bid_sizes: NDArray[np.int64]
    ask_prices: NDArray[np.int64]
    ask_sizes: NDArray[np.int64]

    def level_counts(self) -> NDArray[np.int64]:
        """Return the number of levels of each line, int64[n]."""
        ends = self.lines[:, BIDS_END] + self.lines[:, ASKS_END]
        return np.diff(ends, prepend=0)


def scan_block(block: bytes, price_scale: int, size_scale: int) -> Scan:
    """Read a block of whole lines into arrays.

    Parameters
    ----------
    block : bytes
        Whole lines; the last line may lack its newline.
    price_scale, size_scale : int
        Decimal digits of scaled prices and of scaled sizes. A line is SLOW if one of its numbers has more
        decimal digits, or more than 18 digits when scaled.

    Returns
    -------
    Scan
        Arrays with one row per line.
    """
    if not block.endswith(b"\n"):
        block += b"\n"
    buffer = np.frombuffer(block, dtype=np.uint8)
    n_lines = block.count(b"\n")
    n_levels = len(block) // _SHORTEST_LEVEL + 2 * n_lines
    lines = np.full((n_lines, FIELDS), -1, dtype=np.int64)
    bids = np.empty((2, n_levels), dtype=np.int64)
    asks = np.empty((2, n_levels), dtype=np.int64)
    spans = np.empty((MAX_SYMBOLS, 2), dtype=np.int64)
    n_bids, n_asks, n_symbols = _scan_lines(buffer, lines, bids, asks, spans, price_scale, size_scale)
    symbols = [
        block[start:end].decode("ascii", "replace").upper() for start, end in spans[:n_symbols].tolist()
    ]
    return Scan(lines, symbols, bids[0, :n_bids], bids[1, :n_bids], asks[0, :n_asks], asks[1, :n_asks])


@kernel
def _find_depth_suffix(buffer, start, end):
    """Return the index of `@depth` in the stream name ``buffer[start:end]``; -1 if the suffix is absent."""
    for position in range(start, end):
        if buffer[position] == _AT_SIGN:
            suffix_end = position + len(_DEPTH_SUFFIX)
            is_depth = suffix_end <= end and equals(buffer, position, suffix_end, _DEPTH_SUFFIX)
            return position if is_depth else -1
    return -1


@kernel
def _classify(buffer, line, types, values, ends, bids, asks, counts, price_scale, size_scale):
    """Fill `line`, one row of `lines`, from a message's slots; return the bounds of the message's symbol.

    `json_slots` describes the slots. The result is (start, end) of the symbol in the buffer. If `end` is not
    above `start`, the line is SLOW.
    """
    slow = (0, -1)
    suffix_start, partial = -1, False
    if types[STREAM] == STRING:
        suffix_start = _find_depth_suffix(buffer, values[STREAM], ends[STREAM])
        if suffix_start == values[STREAM]:
            suffix_start = -1
        suffix_end = suffix_start + len(_DEPTH_SUFFIX)
        partial = suffix_start >= 0 and suffix_end < ends[STREAM] and ZERO <= buffer[suffix_end] <= NINE
    for field, slot in ((EVENT_TIME, ord("E")), (TRADE_TIME, ord("T"))):
        if types[slot] == INTEGER:
            line[field] = values[slot]
        elif types[slot] != ABSENT:
            return slow
    if types[LAST_UPDATE_ID] != ABSENT:
        # A snapshot that comes from no stream is rare and has no symbol. The strict path reads it, and
        # `CaptureParser` then finds its book.
        if not partial or types[LAST_UPDATE_ID] != INTEGER or types[ord("e")] != ABSENT:
            return slow
        if types[BIDS] != ARRAY or types[ASKS] != ARRAY:
            return slow
        if types[ord("a")] == ARRAY or types[ord("b")] == ARRAY:
            return slow
        line[KIND], line[LAST_ID] = PARTIAL_BOOK, values[LAST_UPDATE_ID]
        line[FUTURES] = types[ord("T")] != ABSENT
        return values[STREAM], suffix_start
    if types[ord("s")] != STRING or types[BIDS] == ARRAY or types[ASKS] == ARRAY:
        return slow
    event_start, event_end = values[ord("e")], ends[ord("e")]
    named = types[ord("e")] == STRING
    if named and equals(buffer, event_start, event_end, _DEPTH_UPDATE):
        if types[ord("U")] != INTEGER or types[ord("u")] != INTEGER or types[ord("E")] != INTEGER:
            return slow
        if types[ord("b")] != ARRAY or types[ord("a")] != ARRAY:
            return slow
        line[FIRST_ID], line[LAST_ID] = values[ord("U")], values[ord("u")]
        line[FUTURES] = types[PREVIOUS] == INTEGER
        if types[PREVIOUS] == INTEGER:
            if types[ord("T")] != INTEGER:
                return slow
            line[PREVIOUS_ID] = values[PREVIOUS]
        elif types[PREVIOUS] != ABSENT:
            return slow
        if line[FIRST_ID] > line[LAST_ID]:
            return slow
        line[KIND] = PARTIAL_BOOK if partial else DEPTH
        return values[ord("s")], ends[ord("s")]
    if named and (
        equals(buffer, event_start, event_end, _TRADE_EVENT)
        or equals(buffer, event_start, event_end, _AGG_EVENT)
    ):
        aggregated = buffer[event_start] == ord("a")
        id_slot = ord("a") if aggregated else ord("t")
        if types[ord("a")] == ARRAY or types[ord("b")] == ARRAY:
            return slow
        if types[id_slot] != INTEGER or types[ord("T")] != INTEGER:
            return slow
        if types[ord("p")] != STRING or types[ord("q")] != STRING:
            return slow
        if types[ord("m")] != TRUE and types[ord("m")] != FALSE:
            return slow
        price, price_end = scan_decimal(buffer, values[ord("p")], price_scale)
        size, size_end = scan_decimal(buffer, values[ord("q")], size_scale)
        if price_end != ends[ord("p")] or size_end != ends[ord("q")]:
            return slow
        line[KIND] = AGG_TRADE if aggregated else TRADE
        line[LAST_ID], line[PRICE], line[SIZE] = values[id_slot], price, size
        line[BUYER_IS_MAKER] = types[ord("m")] == TRUE
        line[FUTURES] = types[ord("M")] == ABSENT
        line[IN_BOOK] = types[ord("X")] == ABSENT or (
            types[ord("X")] == STRING and equals(buffer, values[ord("X")], ends[ord("X")], _MARKET)
        )
        return values[ord("s")], ends[ord("s")]
    if types[ord("e")] == ABSENT or (named and equals(buffer, event_start, event_end, _TICKER_EVENT)):
        if types[ord("u")] != INTEGER:
            return slow
        for slot in (ord("b"), ord("B"), ord("a"), ord("A")):
            if types[slot] != STRING:
                return slow
        bid_price, bid_price_end = scan_decimal(buffer, values[ord("b")], price_scale)
        bid_size, bid_size_end = scan_decimal(buffer, values[ord("B")], size_scale)
        ask_price, ask_price_end = scan_decimal(buffer, values[ord("a")], price_scale)
        ask_size, ask_size_end = scan_decimal(buffer, values[ord("A")], size_scale)
        if bid_price_end != ends[ord("b")] or bid_size_end != ends[ord("B")]:
            return slow
        if ask_price_end != ends[ord("a")] or ask_size_end != ends[ord("A")]:
            return slow
        if bid_price > 0:  # an empty side is printed as zeros
            bids[0, counts[0]], bids[1, counts[0]] = bid_price, bid_size
            counts[0] += 1
        if ask_price > 0:
            asks[0, counts[1]], asks[1, counts[1]] = ask_price, ask_size
            counts[1] += 1
        line[KIND], line[LAST_ID] = TICKER, values[ord("u")]
        line[FUTURES] = types[ord("e")] != ABSENT
        return values[ord("s")], ends[ord("s")]
    return slow


@kernel
def _equals_span(buffer, start, end, span):
    """Return whether ``buffer[start:end]`` equals ``buffer[span[0]:span[1]]``."""
    if span[1] - span[0] != end - start:
        return False
    for offset in range(end - start):  # noqa: SIM110  (numba has no generator expressions here)
        if buffer[start + offset] != buffer[span[0] + offset]:
            return False
    return True


@kernel
def _symbol_code(buffer, start, end, spans, buckets, n_symbols, last_code):
    """Return the code of the symbol ``buffer[start:end]``. Cost: one hash lookup.

    A new symbol gets the code `n_symbols` and is added to `spans` and `buckets`. The result is -1 if the
    symbol is new and `spans` is full. `last_code`, the code of the previous line or -1, is tried first.
    """
    if last_code >= 0 and _equals_span(buffer, start, end, spans[last_code]):
        return last_code
    bucket = 0
    for position in range(start, end):
        bucket = (bucket * 31 + np.int64(buffer[position])) % len(buckets)
    while buckets[bucket] >= 0:
        if _equals_span(buffer, start, end, spans[buckets[bucket]]):
            return buckets[bucket]
        bucket = (bucket + 1) % len(buckets)
    if n_symbols == len(spans):
        return -1
    spans[n_symbols, 0], spans[n_symbols, 1] = start, end
    buckets[bucket] = n_symbols
    return n_symbols


@kernel
def _scan_lines(buffer, lines, bids, asks, spans, price_scale, size_scale):
    """Read all lines of a block; return the numbers of bids, asks and symbols. Cost: one pass over the bytes.

    Parameters
    ----------
    buffer : uint8[:]
        Whole lines, each with its newline.
    lines : int64[n, FIELDS]
        Written: one row per line. The caller fills the array with -1.
    bids, asks : int64[2, :]
        Written: prices (row 0) and sizes (row 1) of all levels.
    spans : int64[:, 2]
        Written: start and end in the buffer of each symbol's first occurrence, indexed by symbol code.
    price_scale, size_scale : int
        Decimal digits of scaled prices and of scaled sizes.
    """
    types = np.zeros(SLOTS, dtype=np.uint8)
    values = np.zeros(SLOTS, dtype=np.int64)
    ends = np.zeros(SLOTS, dtype=np.int64)
    counts = np.zeros(2, dtype=np.int64)
    buckets = np.full(4 * len(spans) + 1, -1, dtype=np.int64)
    n_symbols, last_code, start = 0, -1, 0
    for row in range(len(lines)):
        line = lines[row]
        end = start
        while buffer[end] != _NEWLINE:
            end += 1
        line[START], line[END] = start, end
        following = end + 1
        if end > start and buffer[end - 1] == _RETURN:
            end -= 1
        line[KIND] = BLANK if end == start else SLOW
        if end > start:
            position, readable = start, True
            if buffer[position] != OPEN:
                line[RECEIVED], position = _scan_receive_time(buffer, position)
                readable = position >= 0
            types[:] = ABSENT
            bids_before, asks_before = counts[0], counts[1]
            code = -1
            if readable and scan_object(
                buffer, position, end, types, values, ends, bids, asks, counts, price_scale, size_scale
            ):
                symbol_start, symbol_end = _classify(
                    buffer, line, types, values, ends, bids, asks, counts, price_scale, size_scale
                )
                if symbol_end > symbol_start:
                    code = _symbol_code(
                        buffer, symbol_start, symbol_end, spans, buckets, n_symbols, last_code
                    )
            if code < 0:
                line[KIND] = SLOW
                counts[0], counts[1] = bids_before, asks_before
            else:
                n_symbols = max(n_symbols, code + 1)
                last_code = code
                line[SYMBOL_CODE] = code
        line[BIDS_END], line[ASKS_END] = counts[0], counts[1]
        start = following
    return counts[0], counts[1], n_symbols


@kernel
def _scan_receive_time(buffer, position):
    """Read the receive time at the start of a line, `<ns> ` or `<seconds>: `.

    Return (receive time in ns since 1970 UTC, index of the message's first byte); (-1, -1) for any other
    text.
    """
    value, start = 0, position
    while ZERO <= buffer[position] <= NINE and position - start < 19:
        if position - start == 18 and buffer[start] > ord("8"):
            return -1, -1
        value = value * 10 + np.int64(buffer[position]) - ZERO
        position += 1
    digits = position - start
    if digits == 19:
        if buffer[position] != SPACE:
            return -1, -1
        return value, position + 1
    if digits < 9 or value > _MAX_SECONDS:
        return -1, -1
    decimals = 0
    if buffer[position] == _POINT:
        position += 1
        while ZERO <= buffer[position] <= NINE and decimals < 9:
            value = value * 10 + np.int64(buffer[position]) - ZERO
            decimals += 1
            position += 1
        if decimals == 0:
            return -1, -1
    if buffer[position] != COLON or buffer[position + 1] != SPACE:
        return -1, -1
    for _ in range(9 - decimals):
        value *= 10
    return value, position + 2
