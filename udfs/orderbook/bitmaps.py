"""Bit operations of 64-bit words that numba does not offer by name, and bitmaps made of such words."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from deltabook.udfs.numba_kernel import kernel

_LANES = 64

if config.DISABLE_JIT:

    def count_ones(word: Any) -> int:
        """Return the number of set bits."""
        return int(word).bit_count()

    def highest_one(word: Any) -> int:
        """Return the index of the highest set bit of a non-zero word."""
        return int(word).bit_length() - 1

else:

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def count_ones(_typing_context: Any, word: Any) -> Any:
        """Return the number of set bits."""

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.ctpop(arguments[0])

        return types.int64(word), generate

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def highest_one(_typing_context: Any, word: Any) -> Any:
        """Return the index of the highest set bit of a non-zero word."""

        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
            return builder.sub(ir.Constant(ir.IntType(_LANES), _LANES - 1), zeros)

        return types.int64(word), generate


@kernel
def occupy(words, ranks):
    """Set the bits of all `ranks`."""
    for rank in ranks:
        words[rank >> 6] |= np.uint64(1) << np.uint64(rank & 63)


@kernel
def highest_at_or_below(words, start):
    """Return the highest set bit of a bitmap at or below `start`, or -1."""
    if start < 0:
        return -1
    index = start >> 6
    word = words[index] & (~np.uint64(0) >> np.uint64(63 - (start & 63)))
    while word == np.uint64(0):
        index -= 1
        if index < 0:
            return -1
        word = words[index]
    return index * 64 + highest_one(word)


@kernel
def lowest(words):
    """Return the lowest set bit of a bitmap, or -1."""
    for index in range(len(words)):
        word = words[index]
        if word != np.uint64(0):
            return index * 64 + highest_one(word & (~word + np.uint64(1)))
    return -1
