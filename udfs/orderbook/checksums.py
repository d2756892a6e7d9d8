"""Kernels that compute venues' checksums of a book: CRC-32 over the best levels as the venue prints them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Checksum
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.bitmaps import highest_at_or_below
from deltabook.udfs.orderbook.ranked_book import ASK, BID, price_of_rank

KRAKEN_LEVELS, OKX_LEVELS = 10, 25
"""Number of levels per side that each venue's checksum covers."""
_KRAKEN, _OKX = int(Checksum.KRAKEN), int(Checksum.OKX)
_AS_NEEDED = -1
_ZERO, _POINT, _COLON = ord("0"), ord("."), ord(":")
_POLYNOMIAL = 0xEDB88320
_MOST_DIGITS = 40


def _build_crc_table() -> NDArray[np.int64]:
    """Return the CRC-32 of each of the 256 byte values, int64[256]."""
    table = np.arange(256, dtype=np.int64)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ _POLYNOMIAL, table >> 1)
    return table


_CRC_TABLE = _build_crc_table()


@kernel
def book_checksum(kind, book, digits, price_decimals, size_decimals):
    """Return the checksum of a book as an unsigned 32-bit number; cost: one table look-up per byte printed.

    Parameters
    ----------
    kind : int
        A `schemas.feeds.Checksum` other than NONE.
    book : RankedBook
        The full book.
    digits : PrintedDigits
        Decimal digits of the book's prices and sizes.
    price_decimals, size_decimals : int
        Number of decimals with which the venue prints prices and sizes; -1: as few as needed.

    Returns
    -------
    int64
        The CRC-32 by the formula in the venue's documentation: Kraken WebSocket v1, OKX v5, or Bitget.
    """
    text = np.empty(_MOST_DIGITS, dtype=np.int64)
    if kind == _KRAKEN:
        crc = _add_kraken_levels(book, digits, price_decimals, size_decimals, text)
    elif kind == _OKX:
        crc = _add_okx_levels(book, digits, _AS_NEEDED, _AS_NEEDED, text)
    else:
        crc = _add_okx_levels(book, digits, price_decimals, size_decimals, text)
    return crc ^ np.int64(0xFFFFFFFF)


@kernel
def _add_kraken_levels(book, digits, price_decimals, size_decimals, text):
    """Return the CRC of the best 10 asks and then the best 10 bids; each side starts with its best level.

    Each price and size is printed without its decimal point and without leading zeros.
    """
    prices, sizes, words, _ = book
    price_scale, size_scale, (price_wholes, size_wholes), (price_fractions, size_fractions) = digits
    crc = np.int64(0xFFFFFFFF)
    for side in (ASK, BID):
        rank = highest_at_or_below(words[side], len(prices) - 1)
        for _ in range(KRAKEN_LEVELS):
            if rank < 0:
                break
            price = price_of_rank(prices, side, rank)
            whole, fraction = _split_number(price, price_scale, price_wholes, price_fractions)
            crc = _add_fixed(crc, whole, fraction, price_scale, price_decimals, text)
            size = sizes[side, rank]
            whole, fraction = _split_number(size, size_scale, size_wholes, size_fractions)
            crc = _add_fixed(crc, whole, fraction, size_scale, size_decimals, text)
            rank = highest_at_or_below(words[side], rank - 1)
    return crc


@kernel
def _add_okx_levels(book, digits, price_decimals, size_decimals, text):
    """Return the CRC of the best 25 levels per side: best bid, best ask, second bid, second ask, and so on.

    Each level is printed as ``price:size``. Colons join the levels. OKX prints as few decimals as needed.
    Bitget prints the same number of decimals for all prices, and for all sizes, of an instrument.
    """
    prices, sizes, words, _ = book
    price_scale, size_scale, (price_wholes, size_wholes), (price_fractions, size_fractions) = digits
    crc = np.int64(0xFFFFFFFF)
    bid = highest_at_or_below(words[BID], len(prices) - 1)
    ask = highest_at_or_below(words[ASK], len(prices) - 1)
    is_first = True
    for _ in range(OKX_LEVELS):
        for side in (BID, ASK):
            rank = bid if side == BID else ask
            if rank < 0:
                continue
            if not is_first:
                crc = _add_byte(crc, _COLON)
            is_first = False
            price = price_of_rank(prices, side, rank)
            whole, fraction = _split_number(price, price_scale, price_wholes, price_fractions)
            crc = _add_printed(crc, whole, fraction, price_scale, price_decimals, text)
            crc = _add_byte(crc, _COLON)
            size = sizes[side, rank]
            whole, fraction = _split_number(size, size_scale, size_wholes, size_fractions)
            crc = _add_printed(crc, whole, fraction, size_scale, size_decimals, text)
        bid = highest_at_or_below(words[BID], bid - 1)
        ask = highest_at_or_below(words[ASK], ask - 1)
    return crc


@kernel
def _split_number(value, scale, wholes, fractions):
    """Return the digits before and after the decimal point of a number: a scaled integer, or an index."""
    if len(wholes):
        return wholes[value], fractions[value]
    unit = 1
    for _ in range(scale):
        unit *= 10
    return value // unit, value % unit


@kernel
def _add_fixed(crc, whole, fraction, scale, decimals, text):
    """Add a number with `decimals` decimals, printed without point and leading zeros, and return the CRC."""
    for _ in range(scale - max(decimals, 0)):
        if fraction % 10:
            break  # the number has more decimals than the venue prints, so the checksum cannot match anyway
        fraction //= 10
        scale -= 1
    for _ in range(decimals - scale):
        fraction *= 10
        scale += 1
    if whole == 0:
        return _add_digits(crc, fraction, 0, text)
    return _add_digits(_add_digits(crc, whole, 0, text), fraction, scale, text)


@kernel
def _add_printed(crc, whole, fraction, scale, decimals, text):
    """Add a number with `decimals` decimals, or with more if it needs them, and return the CRC."""
    while scale > max(decimals, 0) and fraction % 10 == 0:
        fraction //= 10
        scale -= 1
    for _ in range(decimals - scale):
        fraction *= 10
        scale += 1
    crc = _add_digits(crc, whole, 1, text)
    if scale:
        crc = _add_byte(crc, _POINT)
        crc = _add_digits(crc, fraction, scale, text)
    return crc


@kernel
def _add_digits(crc, value, least_digits, text):
    """Add the decimal digits of a value, and return the CRC.

    Leading zeros pad the number to `least_digits` digits. `text` is working memory.
    """
    length = 0
    while value > 0 or length < least_digits:
        text[length] = _ZERO + value % 10
        value //= 10
        length += 1
    while length > 0:
        length -= 1
        crc = _add_byte(crc, text[length])
    return crc


@kernel
def _add_byte(crc, byte):
    """Add one byte, and return the CRC."""
    return (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
