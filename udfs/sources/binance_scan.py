"""The fast way through Binance capture lines: one numba pass over the bytes of a block.

It recognises compact JSON of the known messages exactly; any other line is left to the strict way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.udfs.compile import kernel
from deltabook.udfs.decimals import scan_decimal

SLOW, BLANK, DEPTH, TRADE, AGG_TRADE, TICKER, PARTIAL_BOOK = range(7)
"""What a line is. SLOW: to be read the strict way."""

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
"""Columns of `Scan.lines`."""

MOST_SYMBOLS = 4096
_SHORTEST_LEVEL = len('["1","0"]')

_QUOTE, _COMMA, _COLON, _MINUS = ord('"'), ord(","), ord(":"), ord("-")
_OPEN, _CLOSE, _OPEN_ARRAY, _CLOSE_ARRAY = ord("{"), ord("}"), ord("["), ord("]")
_BACKSLASH, _NEWLINE, _RETURN, _SPACE, _AT = ord("\\"), ord("\n"), ord("\r"), ord(" "), ord("@")
_ZERO, _NINE = ord("0"), ord("9")

# One slot per known key: a single character is its own slot, longer keys take the free low numbers.
_OTHER, _PREVIOUS, _STREAM, _DATA, _LAST_UPDATE_ID, _BIDS, _ASKS = range(7)
_SLOTS = 128
_ABSENT, _INTEGER, _STRING, _ARRAY, _TRUE, _FALSE, _NULL = range(7)

_KEY_STREAM, _KEY_DATA, _KEY_LAST = b"stream", b"data", b"lastUpdateId"
_KEY_BIDS, _KEY_ASKS, _KEY_PREVIOUS = b"bids", b"asks", b"pu"
_DEPTH_UPDATE, _TRADE_EVENT, _AGG_EVENT, _TICKER_EVENT = b"depthUpdate", b"trade", b"aggTrade", b"bookTicker"
_MARKET, _AT_DEPTH = b"MARKET", b"@depth"
_LITERAL_TRUE, _LITERAL_FALSE, _LITERAL_NULL = b"true", b"false", b"null"


@dataclass(frozen=True)
class Scan:
    """A block of lines as arrays.

    Attributes
    ----------
    lines : int64[n, FIELDS]
        One row a line; times as printed (the receive time in ns), -1 where not given. START and END
        bound the line in the block. BIDS_END and ASKS_END count the levels up to and with this line.
    symbols : list[str]
        By SYMBOL_CODE; as printed in `s`, or taken from the stream's name in upper case.
    bid_prices, bid_sizes, ask_prices, ask_sizes : int64[:]
        The levels of all lines, scaled.
    """

    lines: NDArray[np.int64]
    symbols: list[str]
    bid_prices: NDArray[np.int64]
    bid_sizes: NDArray[np.int64]
    ask_prices: NDArray[np.int64]
    ask_sizes: NDArray[np.int64]


def scan_block(block: bytes, price_scale: int, size_scale: int) -> Scan:
    """Scan a block of whole lines.

    Parameters
    ----------
    block : bytes
        Lines, the last with or without its newline.
    price_scale, size_scale : int
        Decimal digits to keep.

    Returns
    -------
    Scan
        With a row for every line.
    """
    if not block.endswith(b"\n"):
        block += b"\n"
    buffer = np.frombuffer(block, dtype=np.uint8)
    n_lines = block.count(b"\n")
    n_levels = len(block) // _SHORTEST_LEVEL + 2 * n_lines
    lines = np.full((n_lines, FIELDS), -1, dtype=np.int64)
    bids = np.empty((2, n_levels), dtype=np.int64)
    asks = np.empty((2, n_levels), dtype=np.int64)
    spans = np.empty((MOST_SYMBOLS, 2), dtype=np.int64)
    n_bids, n_asks, n_symbols = _scan_lines(buffer, lines, bids, asks, spans, price_scale, size_scale)
    symbols = [
        block[start:end].decode("ascii", "replace").upper() for start, end in spans[:n_symbols].tolist()
    ]
    return Scan(lines, symbols, bids[0, :n_bids], bids[1, :n_bids], asks[0, :n_asks], asks[1, :n_asks])


@kernel
def _equals(buffer, start, end, text):
    if end - start != len(text):
        return False
    for offset in range(len(text)):  # noqa: SIM110  (numba has no generator expressions here)
        if buffer[start + offset] != text[offset]:
            return False
    return True


@kernel
def _slot(buffer, start, end):
    length = end - start
    if length == 1 and buffer[start] < _SLOTS:
        return np.int64(buffer[start])
    if length == 2 and _equals(buffer, start, end, _KEY_PREVIOUS):
        return _PREVIOUS
    if length == 4:
        if _equals(buffer, start, end, _KEY_DATA):
            return _DATA
        if _equals(buffer, start, end, _KEY_BIDS):
            return _BIDS
        if _equals(buffer, start, end, _KEY_ASKS):
            return _ASKS
    if length == 6 and _equals(buffer, start, end, _KEY_STREAM):
        return _STREAM
    if length == 12 and _equals(buffer, start, end, _KEY_LAST):
        return _LAST_UPDATE_ID
    return _OTHER


@kernel
def _scan_string(buffer, position):
    """Return the index of the closing quote of the string that starts behind `position`, or -1."""
    position += 1
    while buffer[position] != _QUOTE:
        byte = buffer[position]
        if byte == _BACKSLASH or byte < _SPACE or byte >= _SLOTS:
            return -1
        position += 1
    return position


@kernel
def _scan_integer(buffer, position):
    """Return (value, index behind) of an unsigned integer of at most 18 digits, or (0, -1)."""
    value, start = 0, position
    while _ZERO <= buffer[position] <= _NINE:
        value = value * 10 + np.int64(buffer[position]) - _ZERO
        position += 1
    digits = position - start
    if digits == 0 or digits > 18 or (digits > 1 and buffer[start] == _ZERO):
        return 0, -1
    return value, position


@kernel
def _scan_levels(buffer, position, levels, count, price_scale, size_scale):
    """Read `[["price","size"],…]` from its bracket; return (levels so far, index behind), or (_, -1)."""
    position += 1
    if buffer[position] == _CLOSE_ARRAY:
        return count, position + 1
    while True:
        if buffer[position] != _OPEN_ARRAY or buffer[position + 1] != _QUOTE:
            return count, -1
        price, position = scan_decimal(buffer, position + 2, price_scale)
        if position < 0 or price == 0:
            return count, -1
        if buffer[position] != _QUOTE or buffer[position + 1] != _COMMA or buffer[position + 2] != _QUOTE:
            return count, -1
        size, position = scan_decimal(buffer, position + 3, size_scale)
        if position < 0 or buffer[position] != _QUOTE or buffer[position + 1] != _CLOSE_ARRAY:
            return count, -1
        levels[0, count] = price
        levels[1, count] = size
        count += 1
        position += 2
        if buffer[position] == _CLOSE_ARRAY:
            return count, position + 1
        if buffer[position] != _COMMA:
            return count, -1
        position += 1


@kernel
def _scan_object(buffer, position, end, types, values, ends, bids, asks, counts, price_scale, size_scale):
    """Read one message into slots; False where it is not compact JSON of the known shape."""
    if buffer[position] != _OPEN:
        return False
    position += 1
    inside_data, outer_fields = False, False
    while True:
        if buffer[position] != _QUOTE:
            return False
        key_end = _scan_string(buffer, position)
        if key_end < 0 or buffer[key_end + 1] != _COLON:
            return False
        slot = _slot(buffer, position + 1, key_end)
        if slot != _OTHER and types[slot] != _ABSENT:
            return False
        position = key_end + 2
        byte = buffer[position]
        if slot == _DATA and byte == _OPEN and not inside_data:
            types[_DATA] = _TRUE
            inside_data = True
            position += 1
            continue
        if not inside_data and slot != _STREAM:
            outer_fields = True
        if byte == _QUOTE:
            closing = _scan_string(buffer, position)
            if closing < 0:
                return False
            types[slot], values[slot], ends[slot] = _STRING, position + 1, closing
            position = closing + 1
        elif _ZERO <= byte <= _NINE:
            value, position = _scan_integer(buffer, position)
            if position < 0:
                return False
            types[slot], values[slot] = _INTEGER, value
        elif byte == _OPEN_ARRAY and (slot == ord("b") or slot == _BIDS):
            counts[0], position = _scan_levels(buffer, position, bids, counts[0], price_scale, size_scale)
            if position < 0:
                return False
            types[slot] = _ARRAY
        elif byte == _OPEN_ARRAY and (slot == ord("a") or slot == _ASKS):
            counts[1], position = _scan_levels(buffer, position, asks, counts[1], price_scale, size_scale)
            if position < 0:
                return False
            types[slot] = _ARRAY
        elif _equals(buffer, position, position + 4, _LITERAL_TRUE):
            types[slot] = _TRUE
            position += 4
        elif _equals(buffer, position, min(position + 5, end), _LITERAL_FALSE):
            types[slot] = _FALSE
            position += 5
        elif _equals(buffer, position, position + 4, _LITERAL_NULL):
            types[slot] = _NULL
            position += 4
        else:
            return False
        if inside_data and buffer[position] == _CLOSE:
            inside_data = False
            position += 1
        if buffer[position] == _CLOSE and not inside_data:
            return position + 1 == end and not (outer_fields and types[_DATA] == _TRUE)
        if buffer[position] != _COMMA:
            return False
        position += 1


@kernel
def _at_depth(buffer, start, end):
    """Return the index of `@depth` in a stream's name, or -1."""
    for position in range(start, end - len(_AT_DEPTH) + 1):
        if buffer[position] == _AT and _equals(buffer, position, position + len(_AT_DEPTH), _AT_DEPTH):
            return position
    return -1


@kernel
def _classify(buffer, line, types, values, ends, bids, asks, counts, price_scale, size_scale):
    """Fill one row of `lines` from the slots; return the symbol's span, with end -1 if the line is slow."""
    slow = (0, -1)
    depth_at, partial = -1, False
    if types[_STREAM] == _STRING:
        depth_at = _at_depth(buffer, values[_STREAM], ends[_STREAM])
        behind = depth_at + len(_AT_DEPTH)
        partial = depth_at >= 0 and behind < ends[_STREAM] and _ZERO <= buffer[behind] <= _NINE
    for field, slot in ((EVENT_TIME, ord("E")), (TRADE_TIME, ord("T"))):
        if types[slot] == _INTEGER:
            line[field] = values[slot]
        elif types[slot] != _ABSENT:
            return slow
    if types[_LAST_UPDATE_ID] != _ABSENT:
        # A bare snapshot is rare and has no symbol of its own: the strict way places it.
        if not partial or types[_LAST_UPDATE_ID] != _INTEGER or types[ord("e")] != _ABSENT:
            return slow
        if types[_BIDS] != _ARRAY or types[_ASKS] != _ARRAY:
            return slow
        line[KIND], line[LAST_ID] = PARTIAL_BOOK, values[_LAST_UPDATE_ID]
        line[FUTURES] = types[ord("E")] != _ABSENT
        return values[_STREAM], depth_at
    if types[ord("s")] != _STRING:
        return slow
    event_start, event_end = values[ord("e")], ends[ord("e")]
    named = types[ord("e")] == _STRING
    if named and _equals(buffer, event_start, event_end, _DEPTH_UPDATE):
        if types[ord("U")] != _INTEGER or types[ord("u")] != _INTEGER or types[ord("E")] != _INTEGER:
            return slow
        if types[ord("b")] != _ARRAY or types[ord("a")] != _ARRAY:
            return slow
        line[FIRST_ID], line[LAST_ID] = values[ord("U")], values[ord("u")]
        line[FUTURES] = types[_PREVIOUS] == _INTEGER
        if types[_PREVIOUS] == _INTEGER:
            if types[ord("T")] != _INTEGER:
                return slow
            line[PREVIOUS_ID] = values[_PREVIOUS]
        elif types[_PREVIOUS] != _ABSENT:
            return slow
        if line[FIRST_ID] > line[LAST_ID]:
            return slow
        line[KIND] = PARTIAL_BOOK if partial else DEPTH
        return values[ord("s")], ends[ord("s")]
    if named and (
        _equals(buffer, event_start, event_end, _TRADE_EVENT)
        or _equals(buffer, event_start, event_end, _AGG_EVENT)
    ):
        aggregated = buffer[event_start] == ord("a")
        id_slot = ord("a") if aggregated else ord("t")
        if types[id_slot] != _INTEGER or types[ord("T")] != _INTEGER:
            return slow
        if types[ord("p")] != _STRING or types[ord("q")] != _STRING:
            return slow
        if types[ord("m")] != _TRUE and types[ord("m")] != _FALSE:
            return slow
        price, behind_price = scan_decimal(buffer, values[ord("p")], price_scale)
        size, behind_size = scan_decimal(buffer, values[ord("q")], size_scale)
        if behind_price != ends[ord("p")] or behind_size != ends[ord("q")]:
            return slow
        line[KIND] = AGG_TRADE if aggregated else TRADE
        line[LAST_ID], line[PRICE], line[SIZE] = values[id_slot], price, size
        line[BUYER_IS_MAKER] = types[ord("m")] == _TRUE
        line[FUTURES] = types[ord("M")] == _ABSENT
        line[IN_BOOK] = types[ord("X")] == _ABSENT or (
            types[ord("X")] == _STRING and _equals(buffer, values[ord("X")], ends[ord("X")], _MARKET)
        )
        return values[ord("s")], ends[ord("s")]
    if types[ord("e")] == _ABSENT or (named and _equals(buffer, event_start, event_end, _TICKER_EVENT)):
        if types[ord("u")] != _INTEGER:
            return slow
        for slot in (ord("b"), ord("B"), ord("a"), ord("A")):
            if types[slot] != _STRING:
                return slow
        bid_price, behind_bid = scan_decimal(buffer, values[ord("b")], price_scale)
        bid_size, behind_bid_size = scan_decimal(buffer, values[ord("B")], size_scale)
        ask_price, behind_ask = scan_decimal(buffer, values[ord("a")], price_scale)
        ask_size, behind_ask_size = scan_decimal(buffer, values[ord("A")], size_scale)
        if behind_bid != ends[ord("b")] or behind_bid_size != ends[ord("B")]:
            return slow
        if behind_ask != ends[ord("a")] or behind_ask_size != ends[ord("A")]:
            return slow
        if bid_price > 0:  # an empty side is printed as zeros
            bids[0, counts[0]], bids[1, counts[0]] = bid_price, bid_size
            counts[0] += 1
        if ask_price > 0:
            asks[0, counts[1]], asks[1, counts[1]] = ask_price, ask_size
            counts[1] += 1
        line[KIND], line[LAST_ID] = TICKER, values[ord("u")]
        line[FUTURES] = types[ord("e")] != _ABSENT
        return values[ord("s")], ends[ord("s")]
    return slow


@kernel
def _symbol_code(buffer, start, end, spans, n_symbols, last):
    """Return the code of a symbol, `n_symbols` if it is new, or -1 if there are too many."""
    if last >= 0:
        length = spans[last, 1] - spans[last, 0]
        if length == end - start and np.array_equal(
            buffer[start:end], buffer[spans[last, 0] : spans[last, 1]]
        ):
            return last
    for code in range(n_symbols):
        if np.array_equal(buffer[start:end], buffer[spans[code, 0] : spans[code, 1]]):
            return code
    if n_symbols == len(spans):
        return -1
    spans[n_symbols, 0], spans[n_symbols, 1] = start, end
    return n_symbols


@kernel
def _scan_lines(buffer, lines, bids, asks, spans, price_scale, size_scale):
    types = np.zeros(_SLOTS, dtype=np.uint8)
    values = np.zeros(_SLOTS, dtype=np.int64)
    ends = np.zeros(_SLOTS, dtype=np.int64)
    counts = np.zeros(2, dtype=np.int64)
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
            if buffer[position] != _OPEN:
                line[RECEIVED], position = _received(buffer, position)
                readable = position >= 0
            types[:] = _ABSENT
            bids_before, asks_before = counts[0], counts[1]
            code = -1
            if readable and _scan_object(
                buffer, position, end, types, values, ends, bids, asks, counts, price_scale, size_scale
            ):
                symbol_start, symbol_end = _classify(
                    buffer, line, types, values, ends, bids, asks, counts, price_scale, size_scale
                )
                if symbol_end > symbol_start:
                    code = _symbol_code(buffer, symbol_start, symbol_end, spans, n_symbols, last_code)
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
def _received(buffer, position):
    """Return (receive time in ns, index of the message) of `<19 digits> {`, else (-1, -1)."""
    value, start = 0, position
    while _ZERO <= buffer[position] <= _NINE and position - start < 19:
        value = value * 10 + np.int64(buffer[position]) - _ZERO
        position += 1
    if position - start != 19 or buffer[position] != _SPACE or buffer[start] > ord("8"):
        return -1, -1
    return value, position + 1
