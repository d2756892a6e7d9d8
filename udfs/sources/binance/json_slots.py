"""Kernel that reads one compact JSON message of a Binance stream into slots, one slot per known key.

A slot is the index at which three arrays hold the value of one key. `types` holds the type of the value.
`values` and `ends` hold the value itself, or the bounds of its text. The kernel reads only messages as
Binance prints them: without white space, without escapes, and without nested values except `data` and the
levels. For any other message, the kernel returns False, and `strict_lines` reads the message.
"""

from __future__ import annotations

import numpy as np

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.decimal_text import scan_decimal

# The slot of a key of one character is its character code. Longer keys use slots below 32, which are the
# codes of control characters.
OTHER, PREVIOUS, STREAM, DATA, LAST_UPDATE_ID, BIDS, ASKS = range(7)
FIRST_UNKNOWN, END_UNKNOWN = 7, 32
"""Slots from FIRST_UNKNOWN to END_UNKNOWN - 1 hold the bounds of unknown keys, to find repeated keys."""
SLOTS = 128

ABSENT, INTEGER, STRING, ARRAY, TRUE, FALSE, NULL = range(7)
"""Types of a slot. INTEGER: `values` holds the integer. STRING: `values` and `ends` bound the text."""

QUOTE, COMMA, COLON = ord('"'), ord(","), ord(":")
OPEN, CLOSE, OPEN_ARRAY, CLOSE_ARRAY = ord("{"), ord("}"), ord("["), ord("]")
BACKSLASH, SPACE = ord("\\"), ord(" ")
ZERO, NINE = ord("0"), ord("9")

_KEY_STREAM, _KEY_DATA, _KEY_LAST = b"stream", b"data", b"lastUpdateId"
_KEY_BIDS, _KEY_ASKS, _KEY_PREVIOUS = b"bids", b"asks", b"pu"
_LITERAL_TRUE, _LITERAL_FALSE, _LITERAL_NULL = b"true", b"false", b"null"


@kernel
def equals(buffer, start, end, text):
    """Return whether ``buffer[start:end]`` is `text`.

    The comparison never reads past the end of a line, because `text` contains no newline.
    """
    if end - start != len(text):
        return False
    for offset in range(len(text)):  # noqa: SIM110  (numba has no generator expressions here)
        if buffer[start + offset] != text[offset]:
            return False
    return True


@kernel
def _slot_of_key(buffer, start, end):
    """Return the slot of the key ``buffer[start:end]``; OTHER for an unknown key."""
    length = end - start
    if length == 1 and buffer[start] < SLOTS:
        return np.int64(buffer[start])
    if length == 2 and equals(buffer, start, end, _KEY_PREVIOUS):
        return PREVIOUS
    if length == 4:
        if equals(buffer, start, end, _KEY_DATA):
            return DATA
        if equals(buffer, start, end, _KEY_BIDS):
            return BIDS
        if equals(buffer, start, end, _KEY_ASKS):
            return ASKS
    if length == 6 and equals(buffer, start, end, _KEY_STREAM):
        return STREAM
    if length == 12 and equals(buffer, start, end, _KEY_LAST):
        return LAST_UPDATE_ID
    return OTHER


@kernel
def _is_repeated(buffer, start, end, values, ends, next_unknown):
    """Return whether the unknown key ``buffer[start:end]`` already occurred in this message."""
    for slot in range(FIRST_UNKNOWN, next_unknown):
        if ends[slot] - values[slot] == end - start:
            offset = 0
            while offset < end - start and buffer[start + offset] == buffer[values[slot] + offset]:
                offset += 1
            if offset == end - start:
                return True
    return False


@kernel
def _scan_string(buffer, position):
    """Return the index of the quote that closes the string opened at `position`; -1 if it is unreadable."""
    position += 1
    while buffer[position] != QUOTE:
        byte = buffer[position]
        if byte == BACKSLASH or byte < SPACE or byte >= SLOTS:
            return -1
        position += 1
    return position


@kernel
def _scan_integer(buffer, position):
    """Read an unsigned integer of at most 18 digits; return (value, index after the integer), or (0, -1)."""
    value, start = 0, position
    while ZERO <= buffer[position] <= NINE:
        if position - start == 18:
            return 0, -1
        value = value * 10 + np.int64(buffer[position]) - ZERO
        position += 1
    digits = position - start
    if digits == 0 or digits > 18 or (digits > 1 and buffer[start] == ZERO):
        return 0, -1
    return value, position


@kernel
def _scan_levels(buffer, position, levels, count, price_scale, size_scale):
    """Read `[["price","size"],…]`, whose first bracket is at `position`, into `levels` from index `count`.

    Return (count with the new levels, index after the closing bracket). The index is -1 if the text has
    another form, a price is 0, or a number does not fit its scale.
    """
    position += 1
    if buffer[position] == CLOSE_ARRAY:
        return count, position + 1
    while True:
        if buffer[position] != OPEN_ARRAY or buffer[position + 1] != QUOTE:
            return count, -1
        price, position = scan_decimal(buffer, position + 2, price_scale)
        if position < 0 or price == 0:
            return count, -1
        if buffer[position] != QUOTE or buffer[position + 1] != COMMA or buffer[position + 2] != QUOTE:
            return count, -1
        size, position = scan_decimal(buffer, position + 3, size_scale)
        if position < 0 or buffer[position] != QUOTE or buffer[position + 1] != CLOSE_ARRAY:
            return count, -1
        levels[0, count] = price
        levels[1, count] = size
        count += 1
        position += 2
        if buffer[position] == CLOSE_ARRAY:
            return count, position + 1
        if buffer[position] != COMMA:
            return count, -1
        position += 1


@kernel
def scan_object(buffer, position, end, types, values, ends, bids, asks, counts, price_scale, size_scale):
    """Read one message into slots; return whether the kernel could read the message.

    The result is False if the message repeats a key, or is not compact JSON of a known shape.

    Parameters
    ----------
    buffer : uint8[:]
        Whole lines, each with its newline.
    position, end : int
        Bounds of the message in the buffer.
    types : uint8[SLOTS]
        Written: the type of each slot's value. The caller fills the array with ABSENT.
    values, ends : int64[SLOTS]
        Written: the integer of each slot in `values`, or the bounds of its text in `values` and `ends`.
    bids, asks : int64[2, :]
        Written: prices (row 0) and sizes (row 1) of levels, after the levels of earlier messages.
    counts : int64[2]
        Numbers of bids and of asks in the block so far; updated.
    price_scale, size_scale : int
        Decimal digits of scaled prices and of scaled sizes.
    """
    if buffer[position] != OPEN:
        return False
    position += 1
    next_unknown = FIRST_UNKNOWN
    inside_data, outer_fields = False, False
    while True:
        if buffer[position] != QUOTE:
            return False
        key_end = _scan_string(buffer, position)
        if key_end < 0 or buffer[key_end + 1] != COLON:
            return False
        slot = _slot_of_key(buffer, position + 1, key_end)
        if slot == OTHER:
            if next_unknown == END_UNKNOWN:
                return False
            if _is_repeated(buffer, position + 1, key_end, values, ends, next_unknown):
                return False
            values[next_unknown], ends[next_unknown] = position + 1, key_end
            next_unknown += 1
        elif types[slot] != ABSENT:
            return False
        position = key_end + 2
        byte = buffer[position]
        if slot == DATA and byte == OPEN and not inside_data:
            types[DATA] = TRUE
            inside_data = True
            position += 1
            continue
        if inside_data and slot == STREAM:
            return False
        if not inside_data and slot != STREAM:
            outer_fields = True
        if byte == QUOTE:
            closing = _scan_string(buffer, position)
            if closing < 0:
                return False
            types[slot], values[slot], ends[slot] = STRING, position + 1, closing
            position = closing + 1
        elif ZERO <= byte <= NINE:
            value, position = _scan_integer(buffer, position)
            if position < 0:
                return False
            types[slot], values[slot] = INTEGER, value
        elif byte == OPEN_ARRAY and (slot == ord("b") or slot == BIDS):
            counts[0], position = _scan_levels(buffer, position, bids, counts[0], price_scale, size_scale)
            if position < 0:
                return False
            types[slot] = ARRAY
        elif byte == OPEN_ARRAY and (slot == ord("a") or slot == ASKS):
            counts[1], position = _scan_levels(buffer, position, asks, counts[1], price_scale, size_scale)
            if position < 0:
                return False
            types[slot] = ARRAY
        elif equals(buffer, position, position + 4, _LITERAL_TRUE):
            types[slot] = TRUE
            position += 4
        elif equals(buffer, position, min(position + 5, end), _LITERAL_FALSE):
            types[slot] = FALSE
            position += 5
        elif equals(buffer, position, position + 4, _LITERAL_NULL):
            types[slot] = NULL
            position += 4
        else:
            return False
        if inside_data and buffer[position] == CLOSE:
            inside_data = False
            position += 1
        if buffer[position] == CLOSE and not inside_data:
            return position + 1 == end and not (outer_fields and types[DATA] == TRUE)
        if buffer[position] != COMMA:
            return False
        position += 1
