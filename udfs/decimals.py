"""Decimal text to scaled int64, exactly: the fast way in a kernel, the strict way in Python."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np

from deltabook.udfs.compile import kernel

INT64_MAX = 2**63 - 1
_ZERO, _NINE, _POINT = ord("0"), ord("9"), ord(".")
_PRINTED = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_MOST_DIGITS = 18  # any 18 digits fit int64


@kernel
def scan_decimal(buffer, position, scale):
    """Read an unsigned decimal that ends at a quote; cost: one pass over its digits.

    Parameters
    ----------
    buffer : uint8[:]
        Text; must hold a byte that is neither a digit nor a point after the number.
    position : int
        Index of the first digit.
    scale : int
        Decimal digits to keep.

    Returns
    -------
    (value, position) : (int64, int64)
        The number times 10^scale, and the index behind it; position is -1 if the text is not
        plainly `digits[.digits]`, has a non-zero digit beyond the scale, or more than 18 digits.
    """
    value = 0
    start = position
    while _ZERO <= buffer[position] <= _NINE:
        if position - start == _MOST_DIGITS:
            return 0, -1
        value = value * 10 + np.int64(buffer[position]) - _ZERO
        position += 1
    whole_digits = position - start
    if whole_digits == 0 or whole_digits + scale > _MOST_DIGITS:
        return 0, -1
    missing = scale
    if buffer[position] == _POINT:
        position += 1
        start = position
        while _ZERO <= buffer[position] <= _NINE:
            if missing > 0:
                value = value * 10 + np.int64(buffer[position]) - _ZERO
                missing -= 1
            elif buffer[position] != _ZERO:
                return 0, -1
            position += 1
        if position == start:
            return 0, -1
    for _ in range(missing):
        value *= 10
    return value, position


def to_scaled(number: object, scale: int, what: str) -> int:
    """Convert a number as printed to an integer times 10^scale, never rounding.

    Parameters
    ----------
    number : str, int or Decimal
        The number as the source prints it.
    scale : int
        Decimal digits to keep.
    what : str
        What it is ("price", "size"), for the message.

    Returns
    -------
    int
        Fits int64.

    Raises
    ------
    ValueError
        If it is not a finite number, is negative, or the scale cannot hold it exactly.
    """
    if isinstance(number, bool) or not isinstance(number, str | int | Decimal):
        raise ValueError(f"{what} {number!r} is not a number")
    text = str(number)
    if _PRINTED.fullmatch(text) is None:
        raise ValueError(f"{what} {text[:80]!r} is not a plain finite number")
    negative, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    printed = "".join(map(str, digits))
    significant = printed.rstrip("0")
    if not significant:
        return 0
    if negative:
        raise ValueError(f"{what} {text[:80]} is negative")
    shift = exponent + len(printed) - len(significant) + scale
    if shift < 0 or len(significant) + shift > len(str(INT64_MAX)):
        raise ValueError(_does_not_fit(text, scale, what))
    scaled: int = int(significant) * 10**shift
    if scaled > INT64_MAX:
        raise ValueError(_does_not_fit(text, scale, what))
    return scaled


def _does_not_fit(text: str, scale: int, what: str) -> str:
    return (
        f"{what} {text[:80]} does not fit int64 exactly at scale {scale}: "
        f"set the instrument's {what}_scale under `instruments` in the settings"
    )
