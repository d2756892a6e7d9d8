"""Stretches of a recording through which the book was known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow.dataset as ds
from numpy.typing import NDArray

from deltabook.jobs.replay.recording import Recording
from deltabook.schemas.names import STATUS_LABELS, Cadence, EventType, GapKind, Status
from deltabook.schemas.tables import COVERAGE, GAPS

_EVERY_CHANGE = tuple(Cadence)
_NOT_KNOWN = (Status.UNSEEDED.label, Status.SUSPECT.label, "silent")


def proven_stretches(recording: Recording, start: int, end: int) -> list[tuple[int, int]]:
    """List when the book was neither suspect nor unseeded, nor its feed silent.

    Parameters
    ----------
    recording : Recording
        Of which symbol, and by which clock.
    start, end : int
        What lies before or after is cut off, ns.

    Returns
    -------
    list of (int, int)
        Times of the first and the last book update of each, ns.
    """
    whole = _whole_hours(recording)
    silences = _silences(recording)
    stretches: list[tuple[int, int]] = []
    goes_on = False
    for index, hour in enumerate(recording.hours):
        updates = recording.stamps(index)[EventType.BOOK_UPDATE]
        if not len(updates.time):
            continue
        known = np.full(len(updates.time), True)
        if hour.hour not in whole:
            known = _known(recording, hour.hour, updates.sequence)
        breaks = known[1:] != known[:-1]
        breaks |= np.isin(updates.sequence[1:], silences)
        goes_on &= bool(known[0]) and updates.sequence[0] not in silences
        bounds = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(known)]
        for first, after in pairwise(bounds):
            if known[first]:
                since = stretches.pop()[0] if goes_on else int(updates.time[first])
                stretches.append((since, int(updates.time[after - 1])))
            goes_on = False
        goes_on = bool(known[-1])
    cut = [(max(first, start), min(last, end)) for first, last in stretches]
    return [(first, last) for first, last in cut if first < last]


def _whole_hours(recording: Recording) -> set[int]:
    rows = recording.rows_of(COVERAGE, "hour", *_NOT_KNOWN)
    return {row["hour"] for row in rows if not any(row[name] for name in _NOT_KNOWN)}


def _silences(recording: Recording) -> list[int]:
    """List the ids of the updates that ended silences."""
    rows = recording.rows_of(GAPS, "kind", "resolved_sequence")
    return [row["resolved_sequence"] for row in rows if row["kind"] == GapKind.SILENCE.label]


def _known(recording: Recording, hour: int, sequence: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say after which updates of an hour the book was known, by the rows of `books`."""
    columns = ("cadence", "epoch", "sequence", "status")
    rows = recording.books(ds.field("hour") == hour, *columns)
    if len(rows["epoch"].unique()) != 1 or rows["cadence"][0].as_py() not in _EVERY_CHANGE:
        return np.zeros(len(sequence), dtype=np.bool_)
    codes = np.array([STATUS_LABELS.index(label) for label in rows["status"].to_pylist()])
    row = np.searchsorted(rows["sequence"].to_numpy(), sequence, side="right") - 1
    known: NDArray[np.bool_] = (row >= 0) & (codes[row] > Status.SUSPECT)
    return known
