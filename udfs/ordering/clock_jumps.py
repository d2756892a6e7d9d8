"""Clocks that jump: which stamps their neighbours in the feed's own order contradict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import CLOCK_TOLERANCE, NANOSECONDS_PER_SECOND, NOT_GIVEN, EventType
from deltabook.udfs.numba_kernel import kernel

LONGEST_WAY = 1800 * NANOSECONDS_PER_SECOND
"""From the exchange to the recorder, ns: where some stamps are this near to their receipt, others err."""


def contradicted(times: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the stamps that cannot be right.

    Parameters
    ----------
    times, received : int64[n]
        Stamps in the feed's own order, and when each was received, ns; -1 where not given.

    Returns
    -------
    bool[n]
        True for a stamp further than `LONGEST_WAY` from its receipt, if others are near theirs, and for
        one that is off the rise of the rest.
    """
    wrong = far_from_receipt(times, received)
    found: NDArray[np.bool_] = wrong | off_the_rise(np.where(wrong, NOT_GIVEN, times))
    return found


def far_from_receipt(times: NDArray[np.int64], received: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the stamps further than `LONGEST_WAY` from their receipt; none if the clocks never agree.

    Parameters
    ----------
    times, received : int64[n]
        Stamps, in any order, and when each was received, ns; -1 where not given.

    Returns
    -------
    bool[n]
        False where either is not given.
    """
    both = (times != NOT_GIVEN) & (received != NOT_GIVEN)
    near = both & (np.abs(times - received) <= LONGEST_WAY)
    far: NDArray[np.bool_] = both & ~near & bool(near.any())
    return far


def off_the_rise(times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the stamps that do not fit the longest run which does not fall: the fewest are wrong.

    Parameters
    ----------
    times : int64[n]
        Stamps in the feed's own order, ns; -1 where not given.

    Returns
    -------
    bool[n]
        True for a stamp that is not of that run, and more than `CLOCK_TOLERANCE` after a later stamp of
        it or before an earlier one. Stamps that do not fall are never found, however long a feed is silent.
    """
    found = np.zeros(len(times), dtype=np.bool_)
    given = np.flatnonzero(times != NOT_GIVEN)
    stamps = times[given]
    if not len(stamps) or (stamps >= np.maximum.accumulate(stamps) - CLOCK_TOLERANCE).all():
        return found
    right = np.zeros(len(stamps), dtype=np.bool_)
    _longest_rise(stamps, right)
    least_after = np.minimum.accumulate(np.where(right, stamps, stamps.max())[::-1])[::-1]
    most_before = np.maximum.accumulate(np.where(right, stamps, stamps.min()))
    off = (stamps > least_after + CLOCK_TOLERANCE) | (stamps < most_before - CLOCK_TOLERANCE)
    found[given] = ~right & off
    return found


@kernel
def _longest_rise(stamps, right):
    """Mark a longest subsequence that does not fall; cost: a binary search a stamp."""
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


def clock_jumps(events: pa.RecordBatch, off_before: NDArray[np.bool_]) -> list[int]:
    """List the events at which a stream's clock leaves the time of its neighbours.

    Parameters
    ----------
    events : pyarrow.RecordBatch
        Columns of `flat_events`, in the feed's order.
    off_before : bool[2]
        Whether the last book update and the last trade before were off; changed in place.

    Returns
    -------
    list of int
        Index of the first event of each run whose `timestamp` is ahead of its `order_time`, or more
        than `CLOCK_TOLERANCE` behind it.
    """
    timestamps, order_times = _numpy(events["timestamp"]), _numpy(events["order_time"])
    off = (timestamps > order_times) | (timestamps < order_times - CLOCK_TOLERANCE)
    off &= timestamps != NOT_GIVEN
    if not off.any() and not off_before.any():
        return []
    is_update = _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    starts: list[int] = []
    for which, stream in enumerate((is_update, ~is_update)):
        at = np.flatnonzero(stream)
        if not len(at):
            continue
        begins = off[at] & ~np.concatenate((off_before[which : which + 1], off[at][:-1]))
        off_before[which] = off[at[-1]]
        starts += at[begins].tolist()
    return sorted(starts)


def _numpy(column: pa.Array) -> NDArray[Any]:
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
