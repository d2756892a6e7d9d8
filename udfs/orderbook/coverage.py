"""Coverage: how long a book had each status, and how long the feed was silent."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN, STATUS_LABELS


class Coverage:
    """Counts how long a book has each status, from each book update to the next.

    Parameters
    ----------
    silence : int
        Longest time after a book update that counts for the book's status, ns. The remaining time until the
        next book update counts as silence.
    update_time : int
        order_time of the last book update so far, ns since 1970 UTC; -1 if there was no book update yet.
    """

    def __init__(self, silence: int, update_time: int):
        self.silence = silence
        self.update_time = update_time
        self.rows: dict[int, dict[str, int]] = {}

    def count_updates(
        self, chunk: int, times: NDArray[np.int64], status_before: int, status: NDArray[np.int8]
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

        Returns
        -------
        list of (int, int)
            For each silence: index of the update that ends the silence, and order_time of the update before
            the silence, ns since 1970 UTC.
        """
        if not len(times):
            return []
        row = self.rows.setdefault(chunk, dict.fromkeys((*STATUS_LABELS, "silent"), 0))
        row["from_time"] = min(row.get("from_time", int(times[0])), int(times[0]))
        row["to_time"] = int(times[-1])
        times_before = np.concatenate(([self.update_time], times[:-1]))
        statuses_before = np.concatenate(([max(status_before, 0)], status[:-1]))
        lengths = np.where(times_before == NOT_GIVEN, 0, times - times_before)
        covered = np.minimum(lengths, self.silence)
        for code, label in enumerate(STATUS_LABELS):
            row[label] += int(covered[statuses_before == code].sum())
        row["silent"] += int((lengths - covered).sum())
        self.update_time = int(times[-1])
        after_silence = np.flatnonzero(lengths > self.silence).tolist()
        return [(index, int(times_before[index])) for index in after_silence]

    def take_rows(self) -> list[dict[str, int]]:
        """Return the rows of `coverage` counted so far, without exchange and symbol, and clear them."""
        rows, self.rows = self.rows, {}
        return [row | {"hour": chunk} for chunk, row in rows.items()]
