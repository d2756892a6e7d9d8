"""The venues' checksums of a book, as kernels: CRC-32 over the best levels as the venue prints them.

A side is given as the book keeps it: sizes by rank and a bitmap of occupied ranks, the best level
the highest rank; asks are ranked downwards.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Checksum
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.bitmaps import highest_at_or_below

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
def _parts(value, scale, wholes, fractions):
    """Return what stands before the point and behind it, of a scaled integer or of a code."""
    if len(wholes):
        return wholes[value], fractions[value]
    unit = 1
    for _ in range(scale):
        unit *= 10
    return value // unit, value % unit


@kernel
def _fixed(crc, whole, fraction, scale, digits, text):
    """Add a number printed with `digits` decimals, without its point and leading zeros."""
    for _ in range(scale - max(digits, 0)):
        if fraction % 10:
            break  # it has more decimals than the venue prints: its own digits cannot match
        fraction //= 10
        scale -= 1
    for _ in range(digits - scale):
        fraction *= 10
        scale += 1
    if whole == 0:
        return _digits(crc, fraction, 0, text)
    return _digits(_digits(crc, whole, 0, text), fraction, scale, text)


@kernel
def _shortest(crc, whole, fraction, scale, text):
    """Add a number printed with as few decimals as it needs."""
    while scale > 0 and fraction % 10 == 0:
        fraction //= 10
        scale -= 1
    crc = _digits(crc, whole, 1, text)
    if scale:
        crc = _byte(crc, _POINT)
        crc = _digits(crc, fraction, scale, text)
    return crc


@kernel
def _price(prices, side, rank):
    return prices[rank if side == 0 else len(prices) - 1 - rank]


@kernel
def _kraken(prices, sizes, words, scales, wholes, fractions, price_digits, size_digits, text):
    crc = np.int64(0xFFFFFFFF)
    for side in (1, 0):
        rank = highest_at_or_below(words[side], len(prices) - 1)
        for _ in range(KRAKEN_LEVELS):
            if rank < 0:
                break
            price = _parts(_price(prices, side, rank), scales[0], wholes[0], fractions[0])
            size = _parts(sizes[side, rank], scales[1], wholes[1], fractions[1])
            crc = _fixed(crc, price[0], price[1], scales[0], price_digits, text)
            crc = _fixed(crc, size[0], size[1], scales[1], size_digits, text)
            rank = highest_at_or_below(words[side], rank - 1)
    return crc


@kernel
def _okx(prices, sizes, words, scales, wholes, fractions, text):
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
            price = _parts(_price(prices, side, rank), scales[0], wholes[0], fractions[0])
            size = _parts(sizes[side, rank], scales[1], wholes[1], fractions[1])
            crc = _shortest(crc, price[0], price[1], scales[0], text)
            crc = _byte(crc, _COLON)
            crc = _shortest(crc, size[0], size[1], scales[1], text)
        bid = highest_at_or_below(words[0], bid - 1)
        ask = highest_at_or_below(words[1], ask - 1)
    return crc


@kernel
def book_checksum(kind, prices, sizes, words, scales, wholes, fractions, price_digits, size_digits):
    """Return a book's checksum as an unsigned 32-bit number; cost: a table look-up a byte printed.

    Parameters
    ----------
    kind : int
        `schemas.feeds.Checksum`.
    prices : int64[n]
        Distinct prices, ascending, scaled or codes.
    sizes : int64[2, n]
        By side and rank, scaled or codes.
    words : uint64[2, :]
        Occupied ranks of each side.
    scales : (int, int)
        Decimal digits of prices and sizes.
    wholes, fractions : (int64[:], int64[:])
        Of prices and of sizes, by code; see `numbers.Printing`.
    price_digits, size_digits : int
        Decimals that the venue prints; -1: as few as needed.

    Returns
    -------
    int64
        As the venue's documentation computes it: Kraken WebSocket v1, OKX v5.
    """
    text = np.empty(_MOST_DIGITS, dtype=np.int64)
    if kind == _KRAKEN:
        crc = _kraken(prices, sizes, words, scales, wholes, fractions, price_digits, size_digits, text)
    else:
        crc = _okx(prices, sizes, words, scales, wholes, fractions, text)
    return crc ^ np.int64(0xFFFFFFFF)
