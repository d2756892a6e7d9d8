"""Epochs: where a venue restarts its ids, and which side of each restart a message is on.

A restart shows in the order of time: from it on ids are lower than before, and stay so. Which
file a message is in, and when that file comes, does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import CLOCK_TOLERANCE, NOT_GIVEN

NEIGHBOURS = 8
"""Messages on each side of a restart that must agree."""
_FEWEST = 3


@dataclass(frozen=True)
class Restart:
    """One restart of a stream's ids.

    Attributes
    ----------
    time : int
        Of the first message behind it, ns.
    below : int
        Close to the restart, ids from this one on belong before it.
    """

    time: int
    below: int


def flatten(restarts: list[Restart]) -> list[int]:
    """Return times and ids in turn, as references carry restarts."""
    return [part for restart in restarts for part in (restart.time, restart.below)]


def unflatten(flat: Sequence[int]) -> list[Restart]:
    """Return the restarts of what `flatten` has made."""
    return [Restart(int(time), int(below)) for time, below in zip(flat[::2], flat[1::2], strict=True)]


def find_restarts(sequence: NDArray[np.int64], times: NDArray[np.int64]) -> list[Restart]:
    """Find where a stream's ids begin anew.

    Parameters
    ----------
    sequence : int64[n]
        Ids of a stream, in any order.
    times : int64[n]
        Their times, ns; -1 where not given.

    Returns
    -------
    list of Restart
        In the order of time. Ids that fall with a stamp that is wrong are none: they fill the hole
        that they left.
    """
    given = np.flatnonzero(times != NOT_GIVEN)
    given = given[np.lexsort((sequence[given], times[given]))]
    ids, stamps = sequence[given], times[given]
    restarts: list[Restart] = []
    start = 0
    for at in _falls(ids).tolist():
        before, after = ids[max(start, at - NEIGHBOURS) : at], ids[at : at + NEIGHBOURS]
        if min(len(before), len(after)) < _FEWEST or after.max() >= before.min():
            continue
        if stamps[at] == stamps[at - 1] or _fills_a_hole(ids[start:at], after):
            continue
        near = stamps[start:at] >= stamps[at] - CLOCK_TOLERANCE
        below = min(int(before.min()), int(ids[start:at][near].min(initial=before.min())))
        restarts.append(Restart(int(stamps[at]), below))
        start = at
    return restarts


def epochs_of(
    sequence: NDArray[np.int64], times: NDArray[np.int64], restarts: list[Restart]
) -> NDArray[np.int64]:
    """Return the epoch of each message: how many restarts it lies behind.

    Parameters
    ----------
    sequence, times : int64[n]
        Ids and times of messages; a time of -1 (not given) is taken as the first epoch's.
    restarts : list of Restart
        In the order of time.

    Returns
    -------
    int64[n]
        From 0. Within `CLOCK_TOLERANCE` of a restart the id decides, else the time.
    """
    epochs = np.zeros(len(sequence), dtype=np.int64)
    for restart in restarts:
        near = (times >= restart.time - CLOCK_TOLERANCE) & (sequence < restart.below)
        epochs += near | (times >= restart.time + CLOCK_TOLERANCE)
    return epochs


def _falls(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(ids[1:] < ids[:-1]) + 1


def _fills_a_hole(before: NDArray[np.int64], after: NDArray[np.int64]) -> bool:
    low, high = after.min(), after.max()
    inside = (before >= low) & (before <= high)
    return bool(not inside.any() and before.min() < low and before.max() > high)
