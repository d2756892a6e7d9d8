"""Events in two orders at once: the exchange's, as they stand, and the recorder's, as they arrive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EVENT = np.dtype(
    [
        *(("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8")),
        *(("order_id", "u8"), ("ival", "i8"), ("fval", "f8")),
    ],
    align=True,
)
"""A row of hftbacktest's data."""
TO_EXCHANGE, TO_LOCAL = 1 << 31, 1 << 30
"""Bits of `ev`: who sees the row."""

_NOTHING = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class _Messages:
    """Messages as rows: where each one's begin, and when it arrives."""

    rows: NDArray[np.void]
    starts: NDArray[np.int64]
    local: NDArray[np.int64]

    def of(self, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places of the rows of some messages, one message after another."""
        counts = np.diff(self.starts)[which]
        inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        places: NDArray[np.int64] = np.repeat(self.starts[which], counts) + inside
        return places


_NONE_PENDING = _Messages(np.empty(0, dtype=EVENT), np.zeros(1, np.int64), _NOTHING)


class Ordered:
    """Puts messages in both orders; those that have not arrived yet wait."""

    def __init__(self) -> None:
        self.waiting = _NONE_PENDING

    def add(
        self,
        rows: NDArray[np.void],
        counts: NDArray[np.int64],
        local: NDArray[np.int64],
        after: NDArray[np.int64],
    ) -> NDArray[np.void]:
        """Return the next rows of the file.

        Between two messages that arrive before all later ones, the others are first told to the exchange,
        then locally those that have arrived by then, each order kept.

        Parameters
        ----------
        rows : EVENT[:]
            Of n messages, in the exchange's order.
        counts : int64[n]
            Rows of each.
        local : int64[n]
            When each arrives, ns.
        after : int64[n]
            When the first of all later messages arrives, ns.
        """
        told = counts > 0
        counts, local, punctual = counts[told], local[told], (local <= after)[told]
        early = len(self.waiting.local)
        if not early and punctual.all():
            rows["ev"] |= TO_EXCHANGE | TO_LOCAL
            return rows
        messages = _Messages(
            np.concatenate((self.waiting.rows, rows)),
            np.concatenate((self.waiting.starts, self.waiting.starts[-1] + np.cumsum(counts))),
            np.concatenate((self.waiting.local, local)),
        )
        punctual = np.concatenate((np.zeros(early, np.bool_), punctual))
        arrival = np.argsort(messages.local, kind="stable")
        stretch, place = np.empty(len(arrival), np.int64), np.empty(len(arrival), np.int64)
        stretch[arrival] = np.cumsum(punctual[arrival]) - punctual[arrival]
        place[arrival] = np.arange(len(arrival))
        index = np.arange(len(arrival))
        delayed = ~punctual
        waits = delayed & (stretch == punctual.sum())
        to_exchange = np.flatnonzero(delayed & (index >= early))
        to_local = np.flatnonzero(delayed & ~waits)
        both = np.flatnonzero(punctual)
        standing: NDArray[np.int64] = np.cumsum(punctual) - punctual
        parts = (
            (to_exchange, standing[to_exchange], 0, index, TO_EXCHANGE),
            (to_local, stretch[to_local], 1, place, TO_LOCAL),
            (both, standing[both], 2, index, TO_EXCHANGE | TO_LOCAL),
        )
        which = np.concatenate([part[0] for part in parts])
        keys = [
            np.concatenate([order[chosen] for chosen, _, _, order, _ in parts]),
            np.concatenate([np.full(len(chosen), turn) for chosen, _, turn, _, _ in parts]),
            np.concatenate([of_part for _, of_part, _, _, _ in parts]),
        ]
        flags = np.concatenate([np.full(len(chosen), seen) for chosen, _, _, _, seen in parts])
        sequence = np.lexsort(keys)
        which, flags = which[sequence], flags[sequence]
        found = messages.rows[messages.of(which)]
        found["ev"] |= np.repeat(flags, np.diff(messages.starts)[which]).astype(np.uint64)
        left = arrival[waits[arrival]]
        bounds = np.concatenate(([0], np.cumsum(np.diff(messages.starts)[left])))
        self.waiting = _Messages(messages.rows[messages.of(left)], bounds, messages.local[left])
        return found

    def rest(self) -> NDArray[np.void]:
        """Return what has not arrived yet, in the order of arrival."""
        rows, self.waiting = self.waiting.rows, _NONE_PENDING
        rows["ev"] |= TO_LOCAL
        return rows
