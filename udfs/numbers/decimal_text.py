"""Converts decimal text exactly to scaled int64, with a fast kernel or with a strict parser in Python."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache

import numpy as np

from deltabook.schemas.names import INT64_MAX
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.record import Record

DEFAULT_SCALE = 8
"""Number of decimals of the scaled integers of most records.

If the numbers of a record have more decimals, the record has a larger scale. If they are too large for int64
at this scale, the record has a smaller scale.
"""
MOST_DECIMALS, MOST_WHOLE_DIGITS = 18, 20
"""Largest number of digits after and before the decimal point that DECIMAL(38,18) holds."""
_ZERO, _NINE, _POINT = ord("0"), ord("9"), ord(".")
_PRINTED = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_MOST_DIGITS = 18  # any 18 digits fit int64


@kernel
def scan_decimal(buffer, position, scale):
    """Read an unsigned decimal at a position of a text; cost: one pass over the digits.

    Parameters
    ----------
    buffer : uint8[:]
        ASCII text. A byte that is neither a digit nor a point must follow the number.
    position : int
        Index of the first digit.
    scale : int
        Number of decimals of the result.

    Returns
    -------
    (value, position) : (int64, int64)
        The number multiplied by 10^scale, and the index after the number. This index is -1 if the text is not
        ``digits[.digits]``, if a digit beyond the scale is not zero, or if the value has more than 18 digits.
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


def exact(number: object, what: str) -> tuple[int, int]:
    """Parse a printed number exactly.

    Parameters
    ----------
    number : str, int or Decimal
        The number as the source prints it.
    what : str
        "price" or "size", for the error message.

    Returns
    -------
    (coefficient, decimals) : (int, int)
        The number is coefficient / 10^decimals, with as few decimals as possible (0 or more).

    Raises
    ------
    ValueError
        If `number` is not a finite number, is negative, or has more digits than DECIMAL(38,18) holds.
    """
    if isinstance(number, bool) or not isinstance(number, str | int | Decimal):
        raise ValueError(f"{what} {str(number)[:80]!r} is not a number")
    return _parse_exact(str(number), what)


@lru_cache(maxsize=1 << 17)
def _parse_exact(text: str, what: str) -> tuple[int, int]:
    if _PRINTED.fullmatch(text) is None:
        raise ValueError(f"{what} {text[:80]!r} is not a plain finite number")
    negative, digits, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    printed = "".join(map(str, digits))
    significant = printed.rstrip("0").lstrip("0")
    if not significant:
        return 0, 0
    if negative:
        raise ValueError(f"{what} {text[:80]} is negative")
    exponent += len(printed) - len(printed.rstrip("0"))
    if -exponent > MOST_DECIMALS or len(significant) + exponent > MOST_WHOLE_DIGITS:
        raise ValueError(
            f"{what} {text[:80]} has more than {MOST_WHOLE_DIGITS} digits before the point or more than "
            f"{MOST_DECIMALS} behind it"
        )
    if exponent >= 0:
        return int(significant) * 10**exponent, 0
    return int(significant), -exponent


def common_scale(numbers: Sequence[tuple[int, int]]) -> int | None:
    """Return a scale at which all numbers fit int64, or None if there is no such scale.

    Parameters
    ----------
    numbers : sequence of (coefficient, decimals)
        Results of `exact`.

    Returns
    -------
    int or None
        `DEFAULT_SCALE` if all numbers fit int64 at this scale. If a number has more decimals, the result is
        the largest number of decimals. If a number is too large for int64 at this scale, the result is the
        largest lower scale at which all numbers fit.
    """
    needed = max((decimals for _, decimals in numbers), default=0)
    for scale in range(max(needed, DEFAULT_SCALE), needed - 1, -1):
        if all(value * 10 ** (scale - decimals) <= INT64_MAX for value, decimals in numbers):
            return scale
    return None


def scale_levels(bids: Sequence[Sequence[object]], asks: Sequence[Sequence[object]]) -> Record:
    """Convert the printed levels of a message to the level columns of its record.

    Parameters
    ----------
    bids, asks : sequence of (price, size, …)
        Levels of each side; prices and sizes as the source prints them: str, int or Decimal.

    Returns
    -------
    Record
        The level columns with scaled integers, the columns of the two scales, and `wide`. If no scale fits
        all prices or all sizes, the level columns are empty, and `wide` has the printed numbers.

    Raises
    ------
    ValueError
        If a level is not a pair of plain finite numbers, a price is not positive, or a size is negative.
    """
    bid_prices, ask_prices = (
        [exact(_item_of_level(level, 0), "price") for level in side] for side in (bids, asks)
    )
    if any(value == 0 for side in (bid_prices, ask_prices) for value, _ in side):
        raise ValueError("a level has price 0")
    bid_sizes, ask_sizes = (
        [exact(_item_of_level(level, 1), "size") for level in side] for side in (bids, asks)
    )
    price_scale, size_scale = common_scale(bid_prices + ask_prices), common_scale(bid_sizes + ask_sizes)
    if price_scale is None or size_scale is None:
        return {
            "bid_prices": [],
            "bid_sizes": [],
            "ask_prices": [],
            "ask_sizes": [],
            "price_scale": DEFAULT_SCALE if price_scale is None else price_scale,
            "size_scale": DEFAULT_SCALE if size_scale is None else size_scale,
            "wide": _serialize_numbers({"bids": bids, "asks": asks}),
        }
    return {
        "bid_prices": _scale_numbers(bid_prices, price_scale),
        "bid_sizes": _scale_numbers(bid_sizes, size_scale),
        "ask_prices": _scale_numbers(ask_prices, price_scale),
        "ask_sizes": _scale_numbers(ask_sizes, size_scale),
        "price_scale": price_scale,
        "size_scale": size_scale,
        "wide": b"",
    }


def scale_trade(price: object, size: object) -> Record:
    """Convert the printed price and size of a trade to the number columns of its record.

    Parameters
    ----------
    price, size : str, int or Decimal
        Price and size as the source prints them.

    Returns
    -------
    Record
        `price` and `size` as scaled integers, the columns of the two scales, and `wide`. If the price or the
        size fits int64 at no scale, `price` and `size` are 0, and `wide` has the printed numbers.

    Raises
    ------
    ValueError
        If a number is not plain and finite, or is negative.
    """
    scaled_price, scaled_size = _scale_number(price, "price"), _scale_number(size, "size")
    if scaled_price is None or scaled_size is None:
        return scale_trade(0, 0) | {"wide": _serialize_numbers({"price": price, "size": size})}
    return {
        "price": scaled_price[0],
        "size": scaled_size[0],
        "price_scale": scaled_price[1],
        "size_scale": scaled_size[1],
        "wide": b"",
    }


def _scale_number(number: object, what: str) -> tuple[int, int] | None:
    """Return (scaled integer, scale) of a printed number; None if the number fits int64 at no scale."""
    coefficient, decimals = exact(number, what)
    scale = common_scale([(coefficient, decimals)])
    return None if scale is None else (coefficient * 10 ** (scale - decimals), scale)


def _scale_numbers(numbers: list[tuple[int, int]], scale: int) -> list[int]:
    return [value * 10 ** (scale - decimals) for value, decimals in numbers]


def _item_of_level(level: Sequence[object], item: int) -> object:
    """Return the price (0) or the size (1) of a level."""
    if not isinstance(level, list | tuple) or len(level) < 2:
        raise ValueError(f"expected a level [price, size], found {str(level)[:200]!r}")
    return level[item]


def _serialize_numbers(numbers: dict[str, object]) -> bytes:
    return json.dumps(numbers, default=str).encode()
