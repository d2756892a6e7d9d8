"""Coverage: how long a book had each status, and how long the feed was silent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import KNOWN_DEPTHS, NOT_GIVEN, STATUS_LABELS


class Coverage:
    """Counts how long a book has each status, from each book update to the next.

    Parameters
    ----------
    silence : int
        Longest time after a book update that counts for the book's status, ns. The remaining time until the
        next book update counts as silence.
    update_time : int
        order_time of the last book update so far, ns since 1970 UTC; -1 if there was no book update yet.
    known_depth : int
        Number of levels that are known on both sides after the last book update.
    depth : int
        Number of levels per side of `books`; no more than these are looked at.
    """

    def __init__(self, silence: int, update_time: int, known_depth: int, depth: int):
        self.silence = silence
        self.update_time = update_time
        self.known_depth = known_depth
        self.depth = depth
        self.rows: dict[int, dict[str, int]] = {}

    def count_updates(
        self,
        chunk: int,
        times: NDArray[np.int64],
        status_before: int,
        status: NDArray[np.int8],
        known_depth: NDArray[np.int64],
        is_session_start: NDArray[np.bool_],
    ) -> list[tuple[int, int]]:
        """Count a batch of book updates of one chunk.

        Parameters
        ----------
        chunk : int
            Start of the chunk, ns since 1970 UTC.
        times : int64[n]
            order_time of each update, ns since 1970 UTC, not decreasing.
        status_before : int
            `Status` of the book before the first update; -1 if there was no update before.
        status : int8[n]
            `Status` of the book after each update.
        known_depth : int64[n]
            Number of levels that are known on both sides after each update.
        is_session_start : bool[n]
            Whether a recording session begins with the update. The time before it was not recorded, and does
            not count.

        Returns
        -------
        list of (int, int)
            For each silence: index of the update that ends the silence, and order_time of the update before
            the silence, ns since 1970 UTC.
        """
        if not len(times):
            return []
        names = (*STATUS_LABELS, "silent", *KNOWN_DEPTHS)
        row = self.rows.setdefault(chunk, dict.fromkeys(names, 0))
        row["from_time"] = min(row.get("from_time", int(times[0])), int(times[0]))
        row["to_time"] = int(times[-1])
        times_before = np.concatenate(([self.update_time], times[:-1]))
        statuses_before = np.concatenate(([max(status_before, 0)], status[:-1]))
        depths_before = np.concatenate(([self.known_depth], known_depth[:-1]))
        lengths = np.where((times_before == NOT_GIVEN) | is_session_start, 0, times - times_before)
        covered = np.minimum(lengths, self.silence)
        for code, label in enumerate(STATUS_LABELS):
            row[label] += int(covered[statuses_before == code].sum())
        row["silent"] += int((lengths - covered).sum())
        for name, count in KNOWN_DEPTHS.items():
            row[name] += int(covered[depths_before >= min(count, self.depth)].sum())
        self.update_time, self.known_depth = int(times[-1]), int(known_depth[-1])
        after_silence = np.flatnonzero(lengths > self.silence).tolist()
        return [(index, int(times_before[index])) for index in after_silence]

    def take_rows(self) -> list[dict[str, int]]:
        """Return the rows of `coverage` counted so far, without exchange and symbol, and clear them."""
        rows, self.rows = self.rows, {}
        return [row | {"hour": chunk} for chunk, row in rows.items()]
