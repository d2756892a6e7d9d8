"""Finds where a venue restarts its ids, and assigns each message to an id epoch.

At a restart, the ids drop, and the ids of the next messages stay lower than before. The result does not
depend on how messages are distributed over files, nor on the order in which files arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import CLOCK_TOLERANCE, NOT_GIVEN

NEIGHBORS = 8
"""Number of messages before a possible restart, and after it, whose ids are compared."""
_FEWEST = 3
"""Fewest messages that must stand before a restart, and after it, to recognize the restart."""


@dataclass(frozen=True)
class Restart:
    """One restart of a stream's ids.

    Attributes
    ----------
    time : int
        Time of the first message after the restart, ns since 1970 UTC.
    below : int
        Id that decides for messages whose times lie within `CLOCK_TOLERANCE` of the restart. A message with a
        lower id is after the restart. A message with this id or a higher id is before the restart.
    """

    time: int
    below: int


def flatten_restarts(restarts: list[Restart]) -> list[int]:
    """Return restarts as the flat list [time, below, time, below, …] that Spark rows store."""
    return [part for restart in restarts for part in (restart.time, restart.below)]


def unflatten_restarts(flat: Sequence[int]) -> list[Restart]:
    """Return the restarts of a list that `flatten_restarts` made."""
    return [Restart(int(time), int(below)) for time, below in zip(flat[::2], flat[1::2], strict=True)]


def find_restarts(sequence: NDArray[np.int64], times: NDArray[np.int64]) -> list[Restart]:
    """Find where the ids of a stream restart.

    A wrong timestamp can also make ids decrease in the order of time. Such a decrease is not a restart. It is
    recognized because the lower ids fill a gap between the earlier ids.

    Parameters
    ----------
    sequence : int64[n]
        Ids of a stream, in any order.
    times : int64[n]
        Times of the messages, ns since 1970 UTC; -1 where not given.

    Returns
    -------
    list of Restart
        Restarts, sorted by time.
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

    The time of a message decides whether it is after a restart. If the time lies within `CLOCK_TOLERANCE` of
    the restart, the id decides; see `Restart.below`.

    Parameters
    ----------
    sequence, times : int64[n]
        Ids and times of messages, times in ns since 1970 UTC. A message with time -1 (not given) gets
        epoch 0.
    restarts : list of Restart
        Restarts, sorted by time.

    Returns
    -------
    int64[n]
        Epochs, starting with 0.
    """
    epochs = np.zeros(len(sequence), dtype=np.int64)
    for restart in restarts:
        near = (times >= restart.time - CLOCK_TOLERANCE) & (sequence < restart.below)
        epochs += near | (times >= restart.time + CLOCK_TOLERANCE)
    return epochs


def _fills_hole(before: NDArray[np.int64], after: NDArray[np.int64]) -> bool:
    """Return whether the ids `after` fit into a gap between the ids `before`."""
    low, high = after.min(), after.max()
    inside = (before >= low) & (before <= high)
    return bool(not inside.any() and before.min() < low and before.max() > high)
