"""The venues' checksums of a book, as kernels: CRC-32 over the best levels as the venue prints them.

A side is given as the book keeps it: sizes by rank and a bitmap of occupied ranks, the best level
the highest rank; asks are ranked downwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Checksum
from deltabook.udfs.bits import highest_at_or_below
from deltabook.udfs.compile import kernel

KRAKEN_LEVELS, OKX_LEVELS = 10, 25
_KRAKEN = int(Checksum.KRAKEN)
_ZERO, _POINT, _COLON = ord("0"), ord("."), ord(":")
_POLYNOMIAL = 0xEDB88320
_MOST_DIGITS = 40


def _table() -> NDArray[np.int64]:
    table = np.arange(256, dtype=np.int64)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ _POLYNOMIAL, table >> 1)
    return table


_TABLE = _table()


@kernel
def _byte(crc, byte):
    return (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]


@kernel
def _digits(crc, value, least, text):
    """Add the decimal digits of a value, at least `least` of them, to the checksum."""
    place = 0
    while value > 0 or place < least:
        text[place] = _ZERO + value % 10
        value //= 10
        place += 1
    while place > 0:
        place -= 1
        crc = _byte(crc, text[place])
    return crc


@kernel
def _fixed(crc, value, scale, digits, text):
    """Add a number printed with `digits` decimals, without its point and leading zeros."""
    for _ in range(scale - max(digits, 0)):
        if value % 10:
            break  # it has more decimals than the venue prints: its own digits cannot match
        value //= 10
    for _ in range(digits - scale):
        value *= 10
    return _digits(crc, value, 0, text)


@kernel
def _shortest(crc, value, scale, text):
    """Add a number printed with as few decimals as it needs."""
    decimals = scale
    while decimals > 0 and value % 10 == 0:
        value //= 10
        decimals -= 1
    unit = 1
    for _ in range(decimals):
        unit *= 10
    crc = _digits(crc, value // unit, 1, text)
    if decimals:
        crc = _byte(crc, _POINT)
        crc = _digits(crc, value % unit, decimals, text)
    return crc


@kernel
def _price(prices, side, rank):
    return prices[rank if side == 0 else len(prices) - 1 - rank]


@kernel
def _kraken(prices, sizes, words, price_scale, size_scale, price_digits, size_digits, text):
    crc = np.int64(0xFFFFFFFF)
    for side in (1, 0):
        rank = highest_at_or_below(words[side], len(prices) - 1)
        for _ in range(KRAKEN_LEVELS):
            if rank < 0:
                break
            crc = _fixed(crc, _price(prices, side, rank), price_scale, price_digits, text)
            crc = _fixed(crc, sizes[side, rank], size_scale, size_digits, text)
            rank = highest_at_or_below(words[side], rank - 1)
    return crc


@kernel
def _okx(prices, sizes, words, price_scale, size_scale, text):
    crc = np.int64(0xFFFFFFFF)
    bid = highest_at_or_below(words[0], len(prices) - 1)
    ask = highest_at_or_below(words[1], len(prices) - 1)
    first = True
    for _ in range(OKX_LEVELS):
        for side in (0, 1):
            rank = bid if side == 0 else ask
            if rank < 0:
                continue
            if not first:
                crc = _byte(crc, _COLON)
            first = False
            crc = _shortest(crc, _price(prices, side, rank), price_scale, text)
            crc = _byte(crc, _COLON)
            crc = _shortest(crc, sizes[side, rank], size_scale, text)
        bid = highest_at_or_below(words[0], bid - 1)
        ask = highest_at_or_below(words[1], ask - 1)
    return crc


@kernel
def book_checksum(kind, prices, sizes, words, price_scale, size_scale, price_digits, size_digits):
    """Return a book's checksum as an unsigned 32-bit number; cost: a table look-up a byte printed.

    Parameters
    ----------
    kind : int
        `schemas.feeds.Checksum`.
    prices : int64[n]
        Distinct prices, ascending, scaled.
    sizes : int64[2, n]
        By side and rank, scaled.
    words : uint64[2, :]
        Occupied ranks of each side.
    price_scale, size_scale : int
        Decimal digits of the integers.
    price_digits, size_digits : int
        Decimals that the venue prints; -1: as few as needed.

    Returns
    -------
    int64
        As the venue's documentation computes it: Kraken WebSocket v1, OKX v5.
    """
    text = np.empty(_MOST_DIGITS, dtype=np.int64)
    if kind == _KRAKEN:
        crc = _kraken(prices, sizes, words, price_scale, size_scale, price_digits, size_digits, text)
    else:
        crc = _okx(prices, sizes, words, price_scale, size_scale, text)
    return crc ^ np.int64(0xFFFFFFFF)
