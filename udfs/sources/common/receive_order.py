"""Order by the recorder's clock, for feeds whose messages have no ids."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from deltabook.schemas.names import NANOSECONDS_PER_SECOND

WILDLY_AHEAD = 600 * NANOSECONDS_PER_SECOND
"""A time further ahead of those that follow it is a fault of the clock."""
FOLLOWING = 8
"""Times that are looked at to judge one."""


def file_order(times: NDArray[np.int64], before: int) -> NDArray[np.int64]:
    """Make receive times non-decreasing in file order; one wild time does not drag the later ones along.

    Parameters
    ----------
    times : int64[:]
        Receive times in file order, ns since 1970 UTC; none below 0.
    before : int
        Last time returned for the lines before these, ns; -1 if there are none.

    Returns
    -------
    int64[:]
        The running maximum. A time more than `WILDLY_AHEAD` of the median of the `FOLLOWING` times after
        it (of the last ones, where fewer follow) takes the maximum before it; if nothing is before it,
        the first time that is not wild.
    """
    count = len(times)
    if count == 0:
        return times.copy()
    width = min(FOLLOWING, count)
    middle = (width - 1) // 2
    medians = np.partition(sliding_window_view(times, width), middle, axis=1)[:, middle]
    following = np.minimum(np.arange(1, count + 1), count - width)
    wild = times - medians[following] > WILDLY_AHEAD
    ordered = np.maximum.accumulate(np.maximum(np.where(wild, before, times), before))
    ordered[ordered < 0] = times[~wild][0]
    return ordered
