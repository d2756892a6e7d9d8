"""How long a book had each status, and when its feed was silent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN, STATUS_LABELS


class Coverage:
    """Counts time by status, from one book update to the next.

    Parameters
    ----------
    silence : int
        Longest time between two updates that has the status of the first; what is longer is silent. ns.
    update_time : int
        order_time of the last book update before, ns; -1 if there was none.
    """

    def __init__(self, silence: int, update_time: int):
        self.silence = silence
        self.update_time = update_time
        self.rows: dict[int, dict[str, int]] = {}

    def note(
        self, hour: int, times: NDArray[np.int64], status_before: int, status: NDArray[np.int8]
    ) -> list[tuple[int, int]]:
        """Count a batch of one hour's book updates.

        Parameters
        ----------
        hour : int
            Start of the hour, ns.
        times : int64[n]
            order_time of each update, ns; they do not fall.
        status_before : int
            Status of the book before the first.
        status : int8[n]
            Status of the book after each.

        Returns
        -------
        list of (int, int)
            Index of each update that ends a silence, and the time of the update before it, ns.
        """
        if not len(times):
            return []
        row = self.rows.setdefault(hour, dict.fromkeys((*STATUS_LABELS, "silent"), 0))
        row["from_time"] = min(row.get("from_time", int(times[0])), int(times[0]))
        row["to_time"] = int(times[-1])
        before = np.concatenate(([self.update_time], times[:-1]))
        held = np.concatenate(([max(status_before, 0)], status[:-1]))
        lengths = np.where(before == NOT_GIVEN, 0, times - before)
        shown = np.minimum(lengths, self.silence)
        for code, label in enumerate(STATUS_LABELS):
            row[label] += int(shown[held == code].sum())
        row["silent"] += int((lengths - shown).sum())
        self.update_time = int(times[-1])
        return [(at, int(before[at])) for at in np.flatnonzero(lengths > self.silence).tolist()]

    def take_rows(self) -> list[dict[str, Any]]:
        """Return the rows of `coverage` so far, without exchange and symbol, and begin anew."""
        rows, self.rows = self.rows, {}
        return [row | {"hour": hour} for hour, row in rows.items()]
