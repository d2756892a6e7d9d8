"""Sorts messages of feeds without ids by receive time, and replaces wrong receive times of a faulty clock."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from deltabook.schemas.names import NANOSECONDS_PER_SECOND

MAX_LEAD = 600 * NANOSECONDS_PER_SECOND
"""Largest time, ns, by which a receive time may be later than the receive times that follow it in the file.

A larger difference is an error of the clock.
"""
LOOKAHEAD = 8
"""Number of following receive times with which a receive time is compared."""


def order_receive_times(times: NDArray[np.int64], last_time: int) -> NDArray[np.int64]:
    """Return receive times that never decrease in file order, with the errors of a faulty clock replaced.

    A time is called wild if it is an error of the clock: if it is more than `MAX_LEAD` later than the median
    of the next `LOOKAHEAD` times. If fewer than `LOOKAHEAD` times follow, the median of the last `LOOKAHEAD`
    times is used.

    Parameters
    ----------
    times : int64[:]
        Receive times in file order, ns since 1970 UTC; none below 0.
    last_time : int
        Last time that this function returned for earlier lines of the file, ns; -1 for the first lines.

    Returns
    -------
    int64[:]
        The running maximum of the times that are not wild, starting at `last_time`. A wild time is replaced
        by the running maximum before it. A wild time at the start of the file has no running maximum before
        it, and is replaced by the first time that is not wild.
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
