"""Exact decimal text of integers: a single number in Python, the levels of whole books in a kernel."""

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
        Decimal digits of the integers: a price is ``ticks / 10**price_scale``.
    price_decimals, size_decimals : int
        Decimals that are printed: from the scale to nine more.
    """

    price_scale: int
    price_decimals: int
    size_scale: int
    size_decimals: int


# Two decimals of at most 29 characters (19 digits, point, nine padding zeros) and `["","",],`.
LEVEL_ROOM = 70
_ZERO, _POINT, _COMMA, _QUOTE, _OPEN, _CLOSE = b'0.,"[]'


def decimal_text(value: int, scale: int, decimals: int) -> str:
    """Print ``value / 10**scale`` with `decimals` decimals.

    Parameters
    ----------
    value : int
        0 or more.
    scale, decimals : int
        Decimal digits of `value`, and printed ones: ``decimals >= scale``. Zeros fill the difference.

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
    """Print runs of levels as the inside of a JSON array.

    Parameters
    ----------
    prices, sizes : numpy.ndarray
        int64[levels], ticks and lots, 0 or more.
    starts, stops : numpy.ndarray
        int64 [runs]: run i is ``[starts[i]:stops[i]]``.
    decimal_format : DecimalFormat
        Scales and printed decimals.
    reverse : bool
        Print every run from its last level to its first.

    Returns
    -------
    list of str
        [runs] such as ``["61737.63000000","0.00000000"],["61730.17000000","0.10000000"]``.
    """
    out = np.empty(int((stops - starts).sum()) * LEVEL_ROOM, np.uint8)
    ends = np.empty(len(starts), np.int64)
    begin = _write_levels(prices, sizes, starts, stops, decimal_format, reverse, out, ends)
    text = out[begin:].tobytes().decode()
    cuts = [0, *(ends - begin).tolist()]
    return [text[start:stop] for start, stop in pairwise(cuts)]


@kernel
def _write_decimal(out, end, value, scale, decimals):
    """Write ``value / 10**scale`` with `decimals` decimals into `out` before `end`; return its start."""
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
    """Print each run as ``["price","size"],…``, filling `out` from its end, last run first.

    Cost: one division per digit.

    Parameters
    ----------
    prices, sizes, starts, stops, decimal_format, reverse
        As of `level_texts`.
    out : uint8[:]
        Filled with text up to its end; must have `LEVEL_ROOM` bytes per level.
    ends : int64[runs]
        Filled with the end of each run's text in `out`.

    Returns
    -------
    int
        Index in `out` at which the text begins.
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
