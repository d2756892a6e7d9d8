"""Id epochs: where a venue restarts its ids, and on which side of each restart a message lies.

In the order of time, ids after a restart are lower than before it, and stay lower. The result does not depend
on the files that hold the messages, nor on the order in which these arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import CLOCK_TOLERANCE, NOT_GIVEN

NEIGHBORS = 8
"""Messages on each side of a restart that must agree."""
_FEWEST = 3


@dataclass(frozen=True)
class Restart:
    """One restart of a stream's ids.

    Attributes
    ----------
    time : int
        Time of the first message after it, ns since 1970 UTC.
    below : int
        Near the restart, ids from this value on belong before it, lower ids after it.
    """

    time: int
    below: int


def flatten_restarts(restarts: list[Restart]) -> list[int]:
    """Return the times and ids of restarts in turn, as Spark rows store them."""
    return [part for restart in restarts for part in (restart.time, restart.below)]


def unflatten_restarts(flat: Sequence[int]) -> list[Restart]:
    """Return the restarts of a list that `flatten_restarts` made."""
    return [Restart(int(time), int(below)) for time, below in zip(flat[::2], flat[1::2], strict=True)]


def find_restarts(sequence: NDArray[np.int64], times: NDArray[np.int64]) -> list[Restart]:
    """Find where the ids of a stream restart.

    Parameters
    ----------
    sequence : int64[n]
        Ids of a stream, in any order.
    times : int64[n]
        Times of the messages, ns since 1970 UTC; -1 where not given.

    Returns
    -------
    list of Restart
        In the order of time. Ids that fall because a timestamp is wrong are not a restart: they fill the
        hole that they left elsewhere.
    """
    given = np.flatnonzero(times != NOT_GIVEN)
    given = given[np.lexsort((sequence[given], times[given]))]
    ids, stamps = sequence[given], times[given]
    restarts: list[Restart] = []
    start = 0
    for index in (np.flatnonzero(ids[1:] < ids[:-1]) + 1).tolist():
        before, after = ids[max(start, index - NEIGHBORS) : index], ids[index : index + NEIGHBORS]
        if min(len(before), len(after)) < _FEWEST or after.max() >= before.min():
            continue
        if stamps[index] == stamps[index - 1] or _fills_hole(ids[start:index], after):
            continue
        near = stamps[start:index] >= stamps[index] - CLOCK_TOLERANCE
        below = min(int(before.min()), int(ids[start:index][near].min(initial=before.min())))
        restarts.append(Restart(int(stamps[index]), below))
        start = index
    return restarts


def assign_epochs(
    sequence: NDArray[np.int64], times: NDArray[np.int64], restarts: list[Restart]
) -> NDArray[np.int64]:
    """Return the id epoch of each message: the number of restarts before it.

    Parameters
    ----------
    sequence, times : int64[n]
        Ids and times of messages, times in ns since 1970 UTC. A time of -1 (not given) means epoch 0.
    restarts : list of Restart
        In the order of time.

    Returns
    -------
    int64[n]
        From 0. Within `CLOCK_TOLERANCE` of a restart the id decides, otherwise the time.
    """
    epochs = np.zeros(len(sequence), dtype=np.int64)
    for restart in restarts:
        near = (times >= restart.time - CLOCK_TOLERANCE) & (sequence < restart.below)
        epochs += near | (times >= restart.time + CLOCK_TOLERANCE)
    return epochs


def _fills_hole(before: NDArray[np.int64], after: NDArray[np.int64]) -> bool:
    """Return whether ids lie within the range of the earlier ids, where none of those are."""
    low, high = after.min(), after.max()
    inside = (before >= low) & (before <= high)
    return bool(not inside.any() and before.min() < low and before.max() > high)
