"""Kernels for bitmaps of 64-bit words, and two operations that numba lacks: count bits, find highest bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from deltabook.udfs.numba_kernel import kernel

if TYPE_CHECKING:
    from numba.core.base import BaseContext
    from numba.core.typing.context import BaseContext as TypingContext
    from numba.core.typing.templates import Signature

    CodeGenerator = Callable[[BaseContext, ir.IRBuilder, Signature, list[ir.Value]], ir.Value]

_WORD_BITS = 64

if config.DISABLE_JIT:

    def count_set_bits(word: np.uint64) -> int:
        """Return the number of set bits of a word."""
        return int(word).bit_count()

    def highest_set_bit(word: np.uint64) -> int:
        """Return the index of the highest set bit of a non-zero word."""
        return int(word).bit_length() - 1

else:

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def count_set_bits(_typing_context: TypingContext, word: types.Type) -> tuple[Signature, CodeGenerator]:
        """Return the number of set bits of a word."""

        def generate(
            _context: BaseContext, builder: ir.IRBuilder, _signature: Signature, arguments: list[ir.Value]
        ) -> ir.Value:
            return builder.ctpop(arguments[0])

        return types.int64(word), generate

    @intrinsic  # type: ignore[untyped-decorator, unused-ignore]
    def highest_set_bit(_typing_context: TypingContext, word: types.Type) -> tuple[Signature, CodeGenerator]:
        """Return the index of the highest set bit of a non-zero word."""

        def generate(
            _context: BaseContext, builder: ir.IRBuilder, _signature: Signature, arguments: list[ir.Value]
        ) -> ir.Value:
            zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
            return builder.sub(ir.Constant(ir.IntType(_WORD_BITS), _WORD_BITS - 1), zeros)

        return types.int64(word), generate


@kernel
def set_bits(words, bits):
    """Set bits of a bitmap; cost: one memory access per bit.

    Parameters
    ----------
    words : uint64[:]
        The bitmap, changed in place: bit b is bit ``b & 63`` of word ``b >> 6``.
    bits : int64[:]
        Indices of the bits.
    """
    for bit in bits:
        words[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)


@kernel
def highest_at_or_below(words, start):
    """Return the highest set bit at or below `start`, or -1; cost: one memory access per word passed.

    Parameters
    ----------
    words : uint64[:]
        The bitmap.
    start : int
        Index of a bit. If the index is below 0, the result is -1.
    """
    if start < 0:
        return -1
    index = start >> 6
    word = words[index] & (~np.uint64(0) >> np.uint64(63 - (start & 63)))
    while word == np.uint64(0):
        index -= 1
        if index < 0:
            return -1
        word = words[index]
    return index * 64 + highest_set_bit(word)


@kernel
def lowest_bit(words):
    """Return the lowest set bit of a bitmap, uint64[:], or -1; cost: one memory access per word passed."""
    for index in range(len(words)):
        word = words[index]
        if word != np.uint64(0):
            return index * 64 + highest_set_bit(word & (~word + np.uint64(1)))
    return -1
