"""List the known intervals of a recording.

In a known interval, the book is sound, and the feed is not silent.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from deltabook.jobs.replay.recording import Recording
from deltabook.schemas.names import STATUS_LABELS, UNSOUND_LABELS, Cadence, EventType, GapKind, Status
from deltabook.schemas.tables import COVERAGE, GAPS

_EXACT_CADENCES = tuple(Cadence)
_NOT_KNOWN = (*UNSOUND_LABELS, "silent")


def list_known_intervals(recording: Recording, start: int, end: int) -> list[tuple[int, int]]:
    """Return the known intervals of a recording, in the order of time.

    Parameters
    ----------
    recording : Recording
        Recording of a symbol. All times are by the recording's clock.
    start, end : int
        Bounds of the returned intervals, ns since 1970 UTC.

    Returns
    -------
    list of (int, int)
        Times of the first and the last book update of each interval, cut to the bounds, ns since 1970 UTC.
    """
    fully_known = _fully_known_chunks(recording)
    silences = _silence_ids(recording)
    stretches: list[tuple[int, int]] = []
    continues = False
    for index, chunk in enumerate(recording.chunks):
        updates = recording.stream_times(index)[EventType.BOOK_UPDATE]
        if not len(updates.time):
            continue
        known = np.full(len(updates.time), True)
        if chunk.start not in fully_known:
            known = _is_known(recording, chunk.start, updates.sequence)
        breaks = known[1:] != known[:-1]
        breaks |= np.isin(updates.sequence[1:], silences)
        continues &= bool(known[0]) and updates.sequence[0] not in silences
        bounds = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(known)]
        for first, after in pairwise(bounds):
            if known[first]:
                since = stretches.pop()[0] if continues else int(updates.time[first])
                stretches.append((since, int(updates.time[after - 1])))
            continues = False
        continues = bool(known[-1])
    cut = [(max(first, start), min(last, end)) for first, last in stretches]
    return [(first, last) for first, last in cut if first < last]


def _fully_known_chunks(recording: Recording) -> set[int]:
    """Return the starts of the chunks in which the book is known all the time, ns since 1970 UTC."""
    rows = recording.read_rows(COVERAGE, "hour", *_NOT_KNOWN)
    return {row["hour"] for row in rows if not any(row[name] for name in _NOT_KNOWN)}


def _silence_ids(recording: Recording) -> list[int]:
    """Return the ids of the updates that ended silences."""
    rows = recording.read_rows(GAPS, "kind", "resolved_sequence")
    return [row["resolved_sequence"] for row in rows if row["kind"] == GapKind.SILENCE.label]


def _is_known(recording: Recording, hour: int, sequence: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the book is known after each update of a chunk, as bool[n].

    `hour` is the start of the chunk, and `sequence` has the ids of its n updates. The rows of `books` decide.
    All values are False if the chunk has several epochs, or if its rows were written in time steps.
    """
    columns = ("cadence", "epoch", "sequence", "status")
    rows = recording.read_books(ds.field("hour") == hour, *columns)
    if len(rows["epoch"].unique()) != 1 or rows["cadence"][0].as_py() not in _EXACT_CADENCES:
        return np.zeros(len(sequence), dtype=np.bool_)
    codes = np.array([STATUS_LABELS.index(label) for label in rows["status"].to_pylist()])
    row = np.searchsorted(rows["sequence"].to_numpy(), sequence, side="right") - 1
    known: NDArray[np.bool_] = (row >= 0) & (codes[row] > Status.SUSPECT)
    return known
