"""Order of a feed's messages by receive time, the time of the recorder's clock, for feeds without ids."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from deltabook.schemas.names import NANOSECONDS_PER_SECOND

MAX_LEAD = 600 * NANOSECONDS_PER_SECOND
"""Largest lead of a receive time over the following ones, ns; a larger lead is a clock fault."""
LOOKAHEAD = 8
"""Number of following receive times with which a receive time is compared."""


def order_receive_times(times: NDArray[np.int64], last_time: int) -> NDArray[np.int64]:
    """Return receive times that never fall in file order, with the times of a faulty clock replaced.

    A time is wild, that is, the fault of a clock, if it is more than `MAX_LEAD` ahead of the median of the
    next `LOOKAHEAD` times. If fewer than `LOOKAHEAD` times follow, the median is that of the last `LOOKAHEAD`
    times.

    Parameters
    ----------
    times : int64[:]
        Receive times in file order, ns since 1970 UTC; none below 0.
    last_time : int
        Last time returned for earlier lines of the file, ns; -1 if there are none.

    Returns
    -------
    int64[:]
        The running maximum of the times that are not wild, starting at `last_time`. A wild time is replaced
        by the running maximum before it. Wild times at the start of the file have no
        maximum before them: the first time that is not wild replaces them.
    """
    count = len(times)
    if count == 0:
        return times.copy()
    width = min(LOOKAHEAD, count)
    middle = (width - 1) // 2
    medians = np.partition(sliding_window_view(times, width), middle, axis=1)[:, middle]
    following = np.minimum(np.arange(1, count + 1), count - width)
    wild = times - medians[following] > MAX_LEAD
    ordered = np.maximum.accumulate(np.maximum(np.where(wild, last_time, times), last_time))
    ordered[ordered < 0] = times[~wild][0]
    return ordered
