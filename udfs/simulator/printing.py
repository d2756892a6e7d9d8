"""Prints scaled integers as exact decimal text: one number in Python, or many book levels in a kernel."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.simulator.market import Int64Array


class DecimalFormat(NamedTuple):
    """How prices and sizes are printed.

    Attributes
    ----------
    price_scale, size_scale : int
        Number of decimal digits of the integers that stand after the point: a price is
        ``ticks / 10**price_scale``, a size is ``lots / 10**size_scale``.
    price_decimals, size_decimals : int
        Number of decimals that are printed: at least the scale, at most the scale plus nine.
    """

    price_scale: int
    price_decimals: int
    size_scale: int
    size_decimals: int


# Largest number of bytes in the text of one level: two numbers of at most 29 characters each (19 digits, a
# point, nine padding zeros), and the JSON punctuation around the two numbers.
LEVEL_ROOM = 70
_ZERO, _POINT, _COMMA, _QUOTE, _OPEN, _CLOSE = b'0.,"[]'


def decimal_text(value: int, scale: int, decimals: int) -> str:
    """Return ``value / 10**scale`` as text with `decimals` decimals.

    Parameters
    ----------
    value : int
        Scaled number, 0 or more.
    scale : int
        Number of decimal digits of `value` that stand after the point.
    decimals : int
        Number of decimals to print, at least `scale`. Zeros fill the difference.

    Returns
    -------
    str
        Such as ``61737.63000000``.
    """
    digits = str(value).zfill(scale + 1)
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return f"{whole}.{fraction.ljust(decimals, '0')}" if decimals else whole


def level_texts(
    prices: Int64Array,
    sizes: Int64Array,
    starts: Int64Array,
    stops: Int64Array,
    decimal_format: DecimalFormat,
    *,
    reverse: bool = False,
) -> list[str]:
    """Print each run of levels as the elements of a JSON array, and return one text per run.

    A run is a range of adjacent levels.

    Parameters
    ----------
    prices, sizes : numpy.ndarray
        int64[levels], ticks and lots, 0 or more.
    starts, stops : numpy.ndarray
        int64[runs]: run i holds the levels ``starts[i]:stops[i]``.
    decimal_format : DecimalFormat
        Scales and printed decimals.
    reverse : bool
        True: print every run from its last level to its first level.

    Returns
    -------
    list of str
        One text per run, such as ``["61737.63000000","0.00000000"],["61730.17000000","0.10000000"]``.
    """
    out = np.empty(int((stops - starts).sum()) * LEVEL_ROOM, np.uint8)
    ends = np.empty(len(starts), np.int64)
    begin = _write_levels(prices, sizes, starts, stops, decimal_format, reverse, out, ends)
    text = out[begin:].tobytes().decode()
    cuts = [0, *(ends - begin).tolist()]
    return [text[start:stop] for start, stop in pairwise(cuts)]


@kernel
def _write_decimal(out, end, value, scale, decimals):
    """Write ``value / 10**scale`` with `decimals` decimals into `out`, ending before the index `end`.

    Returns the index of the first character.
    """
    for _ in range(decimals - scale):
        end -= 1
        out[end] = _ZERO
    digit = 0
    while value > 0 or digit <= scale:
        if digit == scale and decimals > 0:
            end -= 1
            out[end] = _POINT
        end -= 1
        out[end] = _ZERO + value % 10
        value //= 10
        digit += 1
    return end


@kernel
def _write_levels(prices, sizes, starts, stops, decimal_format, reverse, out, ends):
    """Write each run as ``["price","size"],…`` into `out`, from the end of `out` backwards.

    Cost: one division per digit.

    Parameters
    ----------
    prices, sizes, starts, stops, decimal_format, reverse
        The parameters of `level_texts`.
    out : uint8[:]
        Buffer with `LEVEL_ROOM` bytes per level. The text fills the last bytes of the buffer.
    ends : int64[runs]
        Filled with the index in `out` after the last character of each run.

    Returns
    -------
    int
        Index in `out` of the first character.
    """
    begin = len(out)
    for run in range(len(starts) - 1, -1, -1):
        ends[run] = begin
        for offset in range(stops[run] - starts[run]):
            row = starts[run] + offset if reverse else stops[run] - 1 - offset
            if offset > 0:
                begin -= 1
                out[begin] = _COMMA
            out[begin - 2], out[begin - 1] = _QUOTE, _CLOSE
            begin = _write_decimal(
                out, begin - 2, sizes[row], decimal_format.size_scale, decimal_format.size_decimals
            )
            out[begin - 3], out[begin - 2], out[begin - 1] = _QUOTE, _COMMA, _QUOTE
            begin = _write_decimal(
                out, begin - 3, prices[row], decimal_format.price_scale, decimal_format.price_decimals
            )
            out[begin - 2], out[begin - 1] = _OPEN, _QUOTE
            begin -= 2
    return begin
