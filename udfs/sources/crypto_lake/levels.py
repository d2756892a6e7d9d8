"""Kernels of the source `crypto_lake`: floats to integers, rows to messages, messages to sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE, INT64_MAX, MOST_DECIMALS

BAD, STRICT = 0, 255
"""In place of a count of decimals: no number of a book, and one that only the strict way can read."""
ASK, BID, LEFT_OUT = 0, 1, 2
"""What a row is."""
_FLOAT_STEP, _MICROSECOND = 256, 1000
_POWERS = np.array([10**power for power in range(MOST_DECIMALS + 1)], dtype=np.int64)
_FLOAT_POWERS = _POWERS.astype(np.float64)  # exact: a float64 holds every power of ten up to 10^22


# Why this is the shortest decimal that reads back as the float x. The integer v is below 10^15 and 10^d is
# exact, so v / 10^d is rounded once: x is the float nearest to the decimal v·10^-d, which thus reads back
# as x. Two decimals of at most 15 digits never share a float, so no other of 15 digits or less does;
# the shortest has no more digits than this one, and must be it. The product x·10^d is off by less than
# a quarter (its relative error is below 2^-52, v is below 2^50): rounding it finds v if there is one.
@kernel
def fixed_point(values, integers, decimals):
    """Turn floats into integers with a number of decimals, exactly; cost: one pass, a division each.

    Parameters
    ----------
    values : float64[:]
        Prices or sizes.
    integers : int64[:]
        Written: value · 10^decimals.
    decimals : uint8[:]
        Written: 8 if that holds the value, else as few as do, else `STRICT`; `BAD` if it is negative or
        not finite.

    Returns
    -------
    int64
        How many are not held by 8 decimals.
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
        integers[index], decimals[index] = _unusual(value)
        unusual += decimals[index] != DEFAULT_SCALE
    return unusual


@kernel
def _unusual(value):
    """Turn a float that eight decimals and 15 digits do not hold into (integer, decimals)."""
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
    """Find where messages begin: rows that follow each other with the same three values are one.

    Parameters
    ----------
    received, sequence : int64[:]
        Receive time and id of each row.
    instrument : int32[:]
        Code of its exchange and symbol.

    Returns
    -------
    int64[:]
        Index of each message's first row.
    """
    starts = np.empty(received.size + 1, dtype=np.int64)
    return starts[: _mark_starts(received, sequence, instrument, starts)]


@kernel
def _scale(bounds, decimals, integers, scales):
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
    """Bring each message's numbers to one scale, in place.

    Parameters
    ----------
    bounds : int64[:]
        Where messages begin, and the end of the last.
    decimals : uint8[:]
        Of each number, as `fixed_point` writes them.
    integers : int64[:]
        The numbers; those of a message that no int64 holds at one scale stay as they are.

    Returns
    -------
    int64[:]
        Scale of each message, or `STRICT`.
    """
    scales = np.empty(bounds.size - 1, dtype=np.int64)
    _scale(bounds, decimals, integers, scales)
    return scales


@kernel
def _split(bounds, sides, prices, sizes, offsets, split_prices, split_sizes):
    asks = bids = 0
    for message in range(bounds.size - 1):
        offsets[ASK, message] = asks
        offsets[BID, message] = bids
        for row in range(bounds[message], bounds[message + 1]):
            # Written to both, kept on one: sides alternate at random, and a branch costs twice the time.
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
    """Part the rows of each message into asks and bids, in their order.

    Parameters
    ----------
    bounds : int64[:]
        Where messages begin, and the end of the last.
    sides : uint8[:]
        `ASK`, `BID` or `LEFT_OUT`.
    prices, sizes : int64[:]
        Of each row.

    Returns
    -------
    (offsets, prices, sizes) : (int32[2, messages + 1], int64[2, rows + 1], int64[2, rows + 1])
        Indexed by side; message m has what lies from ``offsets[side, m]`` up to ``offsets[side, m + 1]``.
    """
    offsets = np.empty((2, bounds.size), dtype=np.int32)
    split_prices = np.empty((2, sides.size + 1), dtype=np.int64)
    split_sizes = np.empty((2, sides.size + 1), dtype=np.int64)
    _split(bounds, sides, prices, sizes, offsets, split_prices, split_sizes)
    return offsets, split_prices, split_sizes


def without_float_rounding(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Restore whole microseconds that a float64 of nanoseconds has rounded (…232999936 for …233).

    Such a float is a multiple of 256 ns from 2006 to 2043; a time that is, and lies within 256 ns of a
    whole microsecond, becomes it. Other times keep their nanoseconds.

    Parameters
    ----------
    times : int64[:]
        ns since 1970 UTC; 0 or less: not given.

    Returns
    -------
    int64[:]
        The same, -1 for those not given.
    """
    past = times % _MICROSECOND
    nearest = times - past + np.where(past * 2 >= _MICROSECOND, _MICROSECOND, 0)
    rounded = (times % _FLOAT_STEP == 0) & (np.abs(nearest - times) <= _FLOAT_STEP) & (times < 2**62)
    return np.where(times > 0, np.where(rounded, nearest, times), NOT_GIVEN)
