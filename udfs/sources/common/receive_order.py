"""Order of messages by the recorder's clock, for feeds without ids."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from deltabook.schemas.names import NANOSECONDS_PER_SECOND

MAX_LEAD = 600 * NANOSECONDS_PER_SECOND
"""Lead of a receive time over the times after it, ns, above which it counts as a clock fault."""
LOOKAHEAD = 8
"""Number of later times with which a receive time is compared."""


def order_receive_times(times: NDArray[np.int64], last_time: int) -> NDArray[np.int64]:
    """Return receive times made non-decreasing in file order, without the times of a faulty clock.

    Parameters
    ----------
    times : int64[:]
        Receive times in file order, ns since 1970 UTC; none below 0.
    last_time : int
        Last time returned for earlier lines of the file, ns; -1 if there are none.

    Returns
    -------
    int64[:]
        The running maximum of the times that are not wild. A time is wild if it is more than `MAX_LEAD` ahead
        of the median of the `LOOKAHEAD` times after it (of the last times, where fewer follow). A wild time
        takes the maximum before it; without one, the first time that is not wild.
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
