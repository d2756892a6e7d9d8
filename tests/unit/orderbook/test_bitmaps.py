"""Bitmaps find the same smallest and largest ranks as Python sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.udfs.orderbook.bitmaps import highest_at_or_below, lowest_bit, set_bits

RANKS = st.sets(st.sampled_from([*range(3), *range(61, 67), 100, *range(126, 130), 191, 192, 199]))


@pytest.mark.kernel
@cases(300)
@given(ranks=RANKS)
def test_highest_and_lowest_are_those_of_the_set(ranks: set[int]) -> None:
    words = np.zeros(4, dtype=np.uint64)
    set_bits(words, np.array(sorted(ranks), dtype=np.int64))
    assert lowest_bit(words) == min(ranks, default=-1)
    for start in (-2, -1, *range(200)):
        assert highest_at_or_below(words, start) == max((rank for rank in ranks if rank <= start), default=-1)


@pytest.mark.kernel
@pytest.mark.parametrize("rank", [0, 1, 62, 63, 64, 65, 127, 128, 255])
def test_each_rank_has_a_bit_of_its_own(rank: int) -> None:
    words = np.zeros(4, dtype=np.uint64)
    set_bits(words, np.array([rank]))
    assert [int(word) for word in words] == [
        1 << rank % 64 if rank // 64 == place else 0 for place in range(4)
    ]
    assert lowest_bit(words) == highest_at_or_below(words, 255) == rank
