"""Build a grid of equal time steps over a recording, with long pauses cut out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deltabook.jobs.report.data_files import DataFile
from deltabook.schemas.names import NANOSECONDS_PER_SECOND

COLUMNS = 600
"""Approximate number of time columns of a depth map."""
LONGEST = 60
"""Seconds for which a book is shown after its row. A longer time without a row is a pause."""
PAUSES = 30
"""Maximum number of pauses that are cut out of a time axis. The longest pauses are cut out."""
_SHORTEST_STEP = 1_000_000

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class TimeGrid:
    """Time steps of equal length over stretches of time. The pauses between stretches have no steps.

    Attributes
    ----------
    starts, ends : int64[k]
        First and last time of each stretch, ns since 1970 UTC, ascending.
    first : int64[k]
        Index of the first step of each stretch.
    step : int
        Length of a step, ns.
    count : int
        Total number of steps.
    """

    starts: Integers
    ends: Integers
    first: Integers
    step: int
    count: int

    def steps(self, times: Integers) -> Integers:
        """Return the index of the step that contains each time.

        Parameters
        ----------
        times : int64[n]
            Times in ns since 1970 UTC. A time in a pause belongs to the last step before the pause.
        """
        stretch = np.maximum(np.searchsorted(self.starts, times, "right") - 1, 0)
        last = np.append(self.first[1:], self.count)[stretch] - 1
        steps = self.first[stretch] + (times - self.starts[stretch]) // self.step
        return np.clip(steps, self.first[stretch], last)

    def times(self) -> Integers:
        """Return the start of each step, ns since 1970 UTC, int64[count]."""
        stretch = np.searchsorted(self.first, np.arange(self.count), "right") - 1
        return self.starts[stretch] + (np.arange(self.count) - self.first[stretch]) * self.step


def build_time_grid(files: list[DataFile], columns: int = COLUMNS) -> TimeGrid:
    """Return a time grid over the times that data files cover, without long pauses.

    Parameters
    ----------
    files : list of DataFile
        At least one data file.
    columns : int
        Approximate number of steps.
    """
    starts, ends = join_stretches([(file.first, file.last) for file in files])
    step = max(-(-int((ends - starts).sum()) // columns), _SHORTEST_STEP)
    counts = (ends - starts) // step + 1
    return TimeGrid(starts, ends, np.cumsum(counts) - counts, step, int(counts.sum()))


def join_stretches(stretches: Iterable[tuple[int, int]]) -> tuple[Integers, Integers]:
    """Merge stretches of time that overlap or are separated by a short pause.

    Parameters
    ----------
    stretches : iterable of (int, int)
        Start and end of each stretch, ns since 1970 UTC; at least one stretch.

    Returns
    -------
    (int64[k], int64[k])
        Starts and ends of the merged stretches. Only long pauses remain between the stretches. A pause is
        long if it exceeds both the limit `LONGEST` and a twentieth of the recorded time. If there are more
        long pauses than `PAUSES`, only the longest remain.
    """
    merged: list[list[int]] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    shortest = max(LONGEST * NANOSECONDS_PER_SECOND, sum(end - start for start, end in merged) // 20)
    pauses = sorted((later[0] - earlier[1] for earlier, later in pairwise(merged)), reverse=True)
    shortest = max([shortest, *pauses[PAUSES : PAUSES + 1]])
    joined = merged[:1]
    for stretch in merged[1:]:
        if stretch[0] - joined[-1][1] > shortest:
            joined.append(stretch)
        else:
            joined[-1][1] = stretch[1]
    starts, ends = zip(*joined, strict=True)
    return np.array(starts, np.int64), np.array(ends, np.int64)
