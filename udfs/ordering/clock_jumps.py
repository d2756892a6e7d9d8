"""Clock jumps: timestamps that contradict neighboring timestamps in the feed's own order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import CLOCK_TOLERANCE, NANOSECONDS_PER_SECOND, NOT_GIVEN, EventType
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.numba_kernel import kernel

LONGEST_DELAY = 1800 * NANOSECONDS_PER_SECOND
"""Longest plausible delay from the exchange to the recorder, ns.

If at least one timestamp differs from its receive time by at most this delay, the clocks of exchange and
recorder agree. Then every timestamp that differs from its receive time by more than this delay is wrong.
"""


def find_wrong_times(times: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the wrong timestamps: far from their receive times, or contradicting the feed's own order.

    Parameters
    ----------
    times, received : int64[n]
        Timestamps in the feed's own order, and receive times, ns since 1970 UTC; -1 where not given.

    Returns
    -------
    bool[n]
        True for a timestamp that `find_times_far_from_receipt` finds, or that `find_decreasing_times` finds
        among the remaining timestamps.
    """
    far = find_times_far_from_receipt(times, received)
    wrong: NDArray[np.bool_] = far | find_decreasing_times(np.where(far, NOT_GIVEN, times))
    return wrong


def find_times_far_from_receipt(times: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the timestamps that are more than `LONGEST_DELAY` away from their receive times.

    Parameters
    ----------
    times, received : int64[n]
        Timestamps, in any order, and receive times, ns since 1970 UTC; -1 where not given.

    Returns
    -------
    bool[n]
        True for a timestamp that is too far from its receive time. False where a timestamp or receive time is
        not given, and False everywhere if no timestamp is close to its receive time.
    """
    both = (times != NOT_GIVEN) & (received != NOT_GIVEN)
    near = both & (np.abs(times - received) <= LONGEST_DELAY)
    far: NDArray[np.bool_] = both & ~near & bool(near.any())
    return far


def find_decreasing_times(times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the timestamps that contradict the order of the feed by more than `CLOCK_TOLERANCE`.

    The timestamps in the longest subsequence that never decreases are right. Any other timestamp is wrong if
    it is more than `CLOCK_TOLERANCE` later than a right timestamp after it, or more than `CLOCK_TOLERANCE`
    earlier than a right timestamp before it. A pause of any length is no error.

    Parameters
    ----------
    times : int64[n]
        Timestamps in the feed's own order, ns since 1970 UTC; -1 where not given.

    Returns
    -------
    bool[n]
        True for a wrong timestamp.
    """
    wrong = np.zeros(len(times), dtype=np.bool_)
    given = np.flatnonzero(times != NOT_GIVEN)
    stamps = times[given]
    if not len(stamps) or (stamps >= np.maximum.accumulate(stamps) - CLOCK_TOLERANCE).all():
        return wrong
    right = np.zeros(len(stamps), dtype=np.bool_)
    _longest_rise(stamps, right)
    least_after = np.minimum.accumulate(np.where(right, stamps, stamps.max())[::-1])[::-1]
    most_before = np.maximum.accumulate(np.where(right, stamps, stamps.min()))
    off = (stamps > least_after + CLOCK_TOLERANCE) | (stamps < most_before - CLOCK_TOLERANCE)
    wrong[given] = ~right & off
    return wrong


@kernel
def _longest_rise(stamps, right):
    """Mark the members of a longest subsequence that does not decrease; cost: a binary search per timestamp.

    Parameters
    ----------
    stamps : int64[n]
        Timestamps, ns; not empty.
    right : bool[n]
        Set to True for the members of the subsequence. The caller fills the array with False.
    """
    ends = np.empty(len(stamps), dtype=np.int64)
    before = np.empty(len(stamps), dtype=np.int64)
    length = 0
    for index in range(len(stamps)):
        low, high = 0, length
        while low < high:
            middle = (low + high) // 2
            if stamps[ends[middle]] <= stamps[index]:
                low = middle + 1
            else:
                high = middle
        before[index] = ends[low - 1] if low else -1
        ends[low] = index
        length = max(length, low + 1)
    index = ends[length - 1]
    while index >= 0:
        right[index] = True
        index = before[index]


def find_clock_jumps(events: pa.RecordBatch, off_before: NDArray[np.bool_]) -> list[int]:
    """Find the events at which the exchange's clock jumps.

    The clock is off at an event whose `timestamp` is later than its `order_time`, or more than
    `CLOCK_TOLERANCE` earlier. The clock jumps at an event if the clock is off at this event, but was not off
    at the previous event of the same stream. Book updates are one stream, trades another.

    Parameters
    ----------
    events : pyarrow.RecordBatch
        Columns of `schemas.frames.FLAT_EVENTS`, in the feed's order.
    off_before : bool[2]
        Whether the clock was off at the last book update of the previous batch (index 0), and at its last
        trade (index 1). Changed in place to the values for this batch.

    Returns
    -------
    list of int
        Indices of the events, ascending.
    """
    timestamps, order_times = to_numpy(events["timestamp"]), to_numpy(events["order_time"])
    off = (timestamps > order_times) | (timestamps < order_times - CLOCK_TOLERANCE)
    off &= timestamps != NOT_GIVEN
    if not off.any() and not off_before.any():
        return []
    is_update = to_numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    starts: list[int] = []
    for stream, is_in_stream in enumerate((is_update, ~is_update)):
        rows = np.flatnonzero(is_in_stream)
        if not len(rows):
            continue
        is_start = off[rows] & ~np.concatenate((off_before[stream : stream + 1], off[rows][:-1]))
        off_before[stream] = off[rows[-1]]
        starts += rows[is_start].tolist()
    return sorted(starts)
