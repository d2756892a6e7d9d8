"""Integers printed as decimal text, exactly: one at a time in Python, whole books in a kernel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.simulator.market import Int64Array

Printing = tuple[int, int, int, int]
"""Scale and printed decimals of a price, then of a size; decimals: the scale to nine more."""

# Two decimals of at most 29 characters (19 digits, point, nine padding zeros) and `["","",],`.
LEVEL_ROOM = 70
_ZERO, _POINT, _COMMA, _QUOTE, _OPEN, _CLOSE = b'0.,"[]'


def decimal_text(value: int, scale: int, decimals: int) -> str:
    """Print ``value / 10**scale`` with `decimals` decimals.

    Parameters
    ----------
    value : int
        From 0.
    scale, decimals : int
        ``decimals >= scale``: what the scale does not reach is printed as zeros.

    Returns
    -------
    str
    """
    digits = str(value).zfill(scale + 1)
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return f"{whole}.{fraction.ljust(decimals, '0')}" if decimals else whole


def level_texts(
    prices: Int64Array,
    sizes: Int64Array,
    starts: Int64Array,
    stops: Int64Array,
    printing: Printing,
    *,
    reverse: bool = False,
) -> list[str]:
    """Print runs of levels as the inside of a JSON array.

    Parameters
    ----------
    prices, sizes : numpy.ndarray
        int64 [levels], ticks and lots, from 0.
    starts, stops : numpy.ndarray
        int64 [runs]: run i is ``[starts[i]:stops[i]]``.
    printing : tuple of int
        As `Printing` says.
    reverse : bool
        Print every run from its last level to its first.

    Returns
    -------
    list of str
        [runs] such as ``["61737.63000000","0.00000000"],["61730.17000000","0.10000000"]``.
    """
    out = np.empty(int((stops - starts).sum()) * LEVEL_ROOM, np.uint8)
    ends = np.empty(len(starts), np.int64)
    begin = _write_levels(prices, sizes, starts, stops, printing, reverse, out, ends)
    text = out[begin:].tobytes().decode()
    cuts = [0, *(ends - begin).tolist()]
    return [text[start:stop] for start, stop in pairwise(cuts)]


@kernel
def _write_decimal(out, end, value, scale, decimals):
    """Print ``value / 10**scale`` with `decimals` decimals, up to before `end`; returns its start."""
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
def _write_levels(prices, sizes, starts, stops, printing, reverse, out, ends):
    """Print each run as ``["price","size"],…``, filling `out` from its back, last run first."""
    at = len(out)
    for run in range(len(starts) - 1, -1, -1):
        ends[run] = at
        for offset in range(stops[run] - starts[run]):
            row = starts[run] + offset if reverse else stops[run] - 1 - offset
            if offset > 0:
                at -= 1
                out[at] = _COMMA
            out[at - 2], out[at - 1] = _QUOTE, _CLOSE
            at = _write_decimal(out, at - 2, sizes[row], printing[2], printing[3])
            out[at - 3], out[at - 2], out[at - 1] = _QUOTE, _COMMA, _QUOTE
            at = _write_decimal(out, at - 3, prices[row], printing[0], printing[1])
            out[at - 2], out[at - 1] = _OPEN, _QUOTE
            at -= 2
    return at
