"""Kernels of source `crypto_lake`.

They convert floats to scaled integers, find the messages in the rows, and split messages into bids and asks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import INT64_MAX, NOT_GIVEN
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE, MOST_DECIMALS

BAD, STRICT = 0, 255
"""Special values of `decimals`. BAD: no valid price or size. STRICT: only Python can read the number."""
ASK, BID, LEFT_OUT = 0, 1, 2
"""Sides of a row. LEFT_OUT: the row is in quarantine or its level is absent, so it gives no level."""
_FLOAT_STEP, _MICROSECOND = 256, 1000
_POWERS = np.array([10**power for power in range(MOST_DECIMALS + 1)], dtype=np.int64)
_FLOAT_POWERS = _POWERS.astype(np.float64)  # exact: a float64 holds every power of ten up to 10^22


# Why the result v·10^-d is the shortest decimal that reads back as the float x:
#
# 1. The kernel accepts v only if v / 10^d == x. The integer v is below 10^15 and 10^d is exact in float64,
#    so the quotient is rounded once. So x is the float nearest to v·10^-d, and v·10^-d reads back as x.
# 2. Two decimals of at most 15 digits never have the same nearest float. So no other decimal of at most 15
#    digits reads back as x. The shortest decimal has no more digits than v·10^-d, so the two are the same.
# 3. The product x·10^d is off by less than 1/4, because its relative error is below 2^-52 and v is below
#    2^50. So rounding the product gives v, if such a v exists.
@kernel
def fixed_point(values, integers, decimals):
    """Convert floats to exact integers and numbers of decimals. Cost: one pass, one division per float.

    Parameters
    ----------
    values : float64[:]
        Prices or sizes.
    integers : int64[:]
        Written: value · 10^decimals.
    decimals : uint8[:]
        Written: 8 if the value has at most 8 decimals, else the value's number of decimals. `STRICT` if no
        exact integer was found. `BAD` if the value is negative or not finite.

    Returns
    -------
    int64
        Number of values whose `decimals` are not 8.
    """
    unusual = 0
    for index in range(values.size):
        value = values[index]
        if 0.0 <= value < 1e7:
            integer = np.int64(value * 1e8 + 0.5)
            if integer / 1e8 == value:
                integers[index] = integer
                decimals[index] = DEFAULT_SCALE
                continue
        integers[index], decimals[index] = _convert_unusual_float(value)
        unusual += decimals[index] != DEFAULT_SCALE
    return unusual


@kernel
def _convert_unusual_float(value):
    """Return (integer, decimals) of a float that is invalid, 10^7 or more, or has more than 8 decimals."""
    if not 0.0 <= value < np.inf:
        return 0, BAD
    if value >= 1e7:
        if value < 9.2e10:
            integer = np.int64(value * 1e4 + 0.5)
            if integer / 1e4 == value:
                return integer * 10_000, DEFAULT_SCALE
        return 0, STRICT
    for digits in range(DEFAULT_SCALE + 1, MOST_DECIMALS + 1):
        scaled = value * _FLOAT_POWERS[digits]
        if scaled >= 1e15:
            break
        integer = np.int64(scaled + 0.5)
        if integer / _FLOAT_POWERS[digits] == value:
            return integer, digits
    return 0, STRICT


@kernel
def _mark_starts(received, sequence, instrument, starts):
    """Write the first row of each message to `starts`; return the number of messages. Cost: one pass."""
    count = 0
    for row in range(received.size):
        starts[count] = row
        count += (
            row == 0
            or received[row] != received[row - 1]
            or sequence[row] != sequence[row - 1]
            or instrument[row] != instrument[row - 1]
        )
    return count


def message_starts(
    received: NDArray[np.int64], sequence: NDArray[np.int64], instrument: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the index of the first row of each message.

    Consecutive rows with the same receive time, id and instrument are one message.

    Parameters
    ----------
    received, sequence : int64[:]
        Receive time (ns) and id of each row.
    instrument : int32[:]
        Code of each row's exchange and symbol.

    Returns
    -------
    int64[:]
        Index of the first row of each message, ascending.
    """
    starts = np.empty(received.size + 1, dtype=np.int64)
    return starts[: _mark_starts(received, sequence, instrument, starts)]


@kernel
def _scale_messages(bounds, decimals, integers, scales):
    """Write the scale of each message, and rescale the message's numbers in place. Cost: three passes."""
    for message in range(bounds.size - 1):
        rows = range(bounds[message], bounds[message + 1])
        scale = DEFAULT_SCALE
        for row in rows:
            scale = max(scale, np.int64(decimals[row]))
        if scale != STRICT:
            for row in rows:
                if decimals[row] != BAD and integers[row] > INT64_MAX // _POWERS[scale - decimals[row]]:
                    scale = STRICT
                    break
        if scale != STRICT:
            for row in rows:
                if decimals[row] != BAD:
                    integers[row] *= _POWERS[scale - decimals[row]]
        scales[message] = scale


def scale_messages(
    bounds: NDArray[np.int64], decimals: NDArray[np.uint8], integers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rescale the numbers of each message to one scale per message, in place, and return the scales.

    Parameters
    ----------
    bounds : int64[:]
        Index of each message's first row, and the index after the last row of the last message.
    decimals : uint8[:]
        Decimals of each number, as `fixed_point` writes them.
    integers : int64[:]
        The numbers, each multiplied by 10^decimals; rescaled in place. If int64 cannot hold all numbers of a
        message at one scale, the numbers of that message stay unchanged.

    Returns
    -------
    int64[:]
        Scale of each message, in decimal digits; `STRICT` for a message whose numbers stay unchanged.
    """
    scales = np.empty(bounds.size - 1, dtype=np.int64)
    _scale_messages(bounds, decimals, integers, scales)
    return scales


@kernel
def _split_sides(bounds, sides, prices, sizes, offsets, split_prices, split_sizes):
    """Copy the rows of each message to the arrays of their sides. Cost: one pass over the rows."""
    asks = bids = 0
    for message in range(bounds.size - 1):
        offsets[ASK, message] = asks
        offsets[BID, message] = bids
        for row in range(bounds[message], bounds[message + 1]):
            # Write the row to the arrays of both sides, but advance only the index of the row's own side. An
            # `if` takes twice the time, because the CPU cannot predict the sides.
            split_prices[ASK, asks] = prices[row]
            split_sizes[ASK, asks] = sizes[row]
            split_prices[BID, bids] = prices[row]
            split_sizes[BID, bids] = sizes[row]
            asks += sides[row] == ASK
            bids += sides[row] == BID
    offsets[ASK, bounds.size - 1] = asks
    offsets[BID, bounds.size - 1] = bids


def split_sides(
    bounds: NDArray[np.int64],
    sides: NDArray[np.uint8],
    prices: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Split the rows of each message into asks and bids; each side keeps the order of the rows.

    Parameters
    ----------
    bounds : int64[:]
        Index of each message's first row, and the index after the last row of the last message.
    sides : uint8[:]
        Side of each row: `ASK`, `BID` or `LEFT_OUT`.
    prices, sizes : int64[:]
        Price and size of each row, scaled.

    Returns
    -------
    (offsets, prices, sizes) : (int32[2, messages + 1], int64[2, rows + 1], int64[2, rows + 1])
        Arrays whose first index is the side (`ASK` or `BID`). Message m has the levels
        ``offsets[side, m]:offsets[side, m + 1]`` of this side.
    """
    offsets = np.empty((2, bounds.size), dtype=np.int32)
    split_prices = np.empty((2, sides.size + 1), dtype=np.int64)
    split_sizes = np.empty((2, sides.size + 1), dtype=np.int64)
    _split_sides(bounds, sides, prices, sizes, offsets, split_prices, split_sizes)
    return offsets, split_prices, split_sizes


def without_float_rounding(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Restore whole microseconds that a float64 of nanoseconds has rounded (…232999936 for …233000000).

    For times from 2006 to 2043, a float64 of nanoseconds is a multiple of 256 ns. So a time that is a
    multiple of 256 ns and within 256 ns of a whole microsecond becomes that microsecond. Other times do not
    change.

    Parameters
    ----------
    times : int64[:]
        Times in ns since 1970 UTC; 0 or less means not given.

    Returns
    -------
    int64[:]
        Restored times in ns since 1970 UTC; -1 where not given.
    """
    past = times % _MICROSECOND
    nearest = times - past + np.where(past * 2 >= _MICROSECOND, _MICROSECOND, 0)
    rounded = (times % _FLOAT_STEP == 0) & (np.abs(nearest - times) <= _FLOAT_STEP) & (times < 2**62)
    return np.where(times > 0, np.where(rounded, nearest, times), NOT_GIVEN)
