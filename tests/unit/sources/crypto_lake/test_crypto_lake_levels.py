"""The kernels of the source `crypto_lake` give the same results as plain Python."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lake_tables import T0, odd_floats
from properties import cases

from deltabook.schemas.names import INT64_MAX
from deltabook.udfs.sources.crypto_lake.levels import (
    BAD,
    STRICT,
    fixed_point,
    message_starts,
    scale_messages,
    split_sides,
    without_float_rounding,
)


@pytest.mark.kernel
class TestKernels:
    @given(st.lists(odd_floats, max_size=20))
    @example([9999999.99999999, 10000000.0, 9999999.999999998, 92233720368.5475, 1e-9, 1.000000001])
    @cases(150)
    def test_a_float_becomes_the_shortest_decimal_that_prints_the_same(self, floats):
        integers, decimals = np.empty(len(floats), np.int64), np.empty(len(floats), np.uint8)
        unusual = fixed_point(np.array(floats, np.float64), integers, decimals)
        assert unusual == sum(decimals != 8)
        for value, integer, digits in zip(floats, integers.tolist(), decimals.tolist(), strict=True):
            if not 0 <= value < float("inf"):
                assert digits == BAD
            elif digits != STRICT:
                assert Decimal(integer).scaleb(-digits) == Decimal(repr(value))
                assert digits == 8 or integer % 10 != 0

    @given(st.integers(0, 10**15 - 1), st.integers(0, 8))
    @cases(150)
    def test_kernel_reads_every_decimal_of_15_digits(self, coefficient, digits):
        value = float(Decimal(coefficient).scaleb(-digits))
        if value >= 9.2e10 or (value >= 1e7 and digits > 4):
            return
        integers, decimals = np.empty(1, np.int64), np.empty(1, np.uint8)
        fixed_point(np.array([value]), integers, decimals)
        assert (int(integers[0]), int(decimals[0])) == (coefficient * 10 ** (8 - digits), 8)

    @given(
        st.lists(st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(0, 1)), min_size=1, max_size=30)
    )
    @cases(150)
    def test_messages_start_where_a_key_changes(self, keys):
        received, sequence, instrument = (np.array(column) for column in zip(*keys, strict=True))
        starts = message_starts(received, sequence, instrument.astype(np.int32))
        assert starts.tolist() == [row for row in range(len(keys)) if row == 0 or keys[row] != keys[row - 1]]

    @given(
        st.lists(
            st.lists(
                st.tuples(st.integers(0, INT64_MAX), st.sampled_from([BAD, 8, 9, 18, STRICT])), max_size=4
            ),
            min_size=1,
            max_size=5,
        )
    )
    @cases(150)
    def test_a_message_has_one_scale_or_none(self, messages):
        bounds = np.cumsum([0, *(len(message) for message in messages)])
        flat = [number for message in messages for number in message]
        integers = np.array([integer for integer, _ in flat], np.int64)
        decimals = np.array([digits for _, digits in flat], np.uint8)
        scales = scale_messages(bounds, decimals, integers)
        for message, scale, start in zip(messages, scales.tolist(), bounds.tolist(), strict=False):
            good = [(v, d, start + at) for at, (v, d) in enumerate(message) if d != BAD]
            wanted = max([8, *(d for _, d, _ in good)])
            if wanted != STRICT and any(v * 10 ** (wanted - d) > INT64_MAX for v, d, _ in good):
                wanted = STRICT
            assert scale == wanted
            for v, d, at in good:
                assert integers[at] == (v if scale == STRICT else v * 10 ** (scale - d))

    @given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=6))
    @cases(150)
    def test_sides_are_split_in_their_order(self, messages):
        bounds = np.cumsum([0, *(len(message) for message in messages)])
        sides = np.array([side for message in messages for side in message], np.uint8)
        rows = np.arange(len(sides))
        offsets, prices, sizes = split_sides(bounds, sides, rows, rows * 10)
        for number in range(len(messages)):
            mine = rows[bounds[number] : bounds[number + 1]]
            for side in (0, 1):
                kept = slice(offsets[side, number], offsets[side, number + 1])
                wanted = mine[sides[mine] == side]
                assert prices[side, kept].tolist() == wanted.tolist()
                assert sizes[side, kept].tolist() == (wanted * 10).tolist()

    @given(st.integers(1_160_000_000_000_000, 2_140_000_000_000_000))
    @cases(150)
    def test_a_microsecond_that_a_float_rounded_is_restored(self, microseconds):
        nanoseconds = microseconds * 1000
        rounded = [int(float(nanoseconds)), int(nanoseconds / 1e9 * 1e9), nanoseconds]
        assert without_float_rounding(np.array(rounded)).tolist() == [nanoseconds] * 3

    def test_nanoseconds_that_no_float_rounded_stay(self):
        kept = [T0 + 1, T0 + 999, T0 + 100, T0 + 500, INT64_MAX, INT64_MAX - 255, 1, 999]
        assert without_float_rounding(np.array(kept)).tolist() == kept
        assert without_float_rounding(np.array([0, -1, -(2**63)])).tolist() == [-1, -1, -1]
