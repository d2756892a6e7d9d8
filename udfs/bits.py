"""Bit operations of 64-bit words that numba does not offer by name, one machine instruction each."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

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
