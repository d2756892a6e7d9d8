"""Merges messages into one file that has two orders: the exchange's order, and the order of arrival.

hftbacktest reads the rows with the bit `TO_EXCHANGE` in file order as the exchange's order, and the rows with
the bit `TO_LOCAL` in file order as the order of arrival at the recorder. A row may belong to both orders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EVENT_DTYPE = np.dtype(
    [
        *(("ev", "u8"), ("exch_ts", "i8"), ("local_ts", "i8"), ("px", "f8"), ("qty", "f8")),
        *(("order_id", "u8"), ("ival", "i8"), ("fval", "f8")),
    ],
    align=True,
)
"""Type of one row of hftbacktest's data."""
TO_EXCHANGE, TO_LOCAL = 1 << 31, 1 << 30
"""Bits of the column `ev`: TO_EXCHANGE for the exchange's order, TO_LOCAL for the order of arrival."""


@dataclass(frozen=True)
class _Messages:
    """n messages, each with one or more rows.

    Attributes
    ----------
    rows : EVENT_DTYPE[:]
        Rows of all messages, one message after another.
    starts : int64[n + 1]
        Message i has the rows ``starts[i]:starts[i + 1]``.
    local : int64[n]
        Time when each message arrives at the recorder, ns since 1970 UTC.
    """

    rows: NDArray[np.void]
    starts: NDArray[np.int64]
    local: NDArray[np.int64]

    def find_rows(self, messages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of the rows of the given messages, one message after another."""
        counts = np.diff(self.starts)[messages]
        within_message = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        indices: NDArray[np.int64] = np.repeat(self.starts[messages], counts) + within_message
        return indices


_NO_MESSAGES = _Messages(np.empty(0, dtype=EVENT_DTYPE), np.zeros(1, np.int64), np.empty(0, dtype=np.int64))


class TwoClockOrder:
    """Merges messages into rows that have both orders.

    The recorder's rows of a message that has not arrived at the recorder yet wait for a later call.
    """

    def __init__(self) -> None:
        self.waiting = _NO_MESSAGES

    def add(
        self,
        rows: NDArray[np.void],
        counts: NDArray[np.int64],
        local: NDArray[np.int64],
        after: NDArray[np.int64],
    ) -> NDArray[np.void]:
        """Add messages, and return the next rows of the file.

        A message is punctual if no later message arrives before it. The rows of a punctual message belong to
        both orders. The rows of any other message are written twice: once for the exchange, once for the
        recorder.

        Between two punctual messages, the file has two parts. The first part has the exchange's rows of the
        messages between the two, in the exchange's order. The second part has the recorder's rows of the
        messages that arrived before the second punctual message.

        Parameters
        ----------
        rows : EVENT_DTYPE[:]
            Rows of n messages, in the exchange's order; may be changed in place.
        counts : int64[n]
            Number of rows of each message.
        local : int64[n]
            Time when each message arrives at the recorder, ns since 1970 UTC.
        after : int64[n]
            Earliest time when any later message arrives at the recorder, ns since 1970 UTC.

        Returns
        -------
        EVENT_DTYPE[:]
            Rows in file order, with the bits `TO_EXCHANGE` and `TO_LOCAL` set.
        """
        has_rows = counts > 0
        counts, local, is_punctual = counts[has_rows], local[has_rows], (local <= after)[has_rows]
        n_waiting = len(self.waiting.local)
        if not n_waiting and is_punctual.all():
            rows["ev"] |= TO_EXCHANGE | TO_LOCAL
            return rows
        messages = _Messages(
            np.concatenate((self.waiting.rows, rows)),
            np.concatenate((self.waiting.starts, self.waiting.starts[-1] + np.cumsum(counts))),
            np.concatenate((self.waiting.local, local)),
        )
        is_punctual = np.concatenate((np.zeros(n_waiting, np.bool_), is_punctual))
        by_arrival = np.argsort(messages.local, kind="stable")
        feed_rank = np.arange(len(by_arrival))
        arrival_rank, arrived_punctual = np.empty_like(by_arrival), np.empty_like(by_arrival)
        arrival_rank[by_arrival] = np.arange(len(by_arrival))
        arrived_punctual[by_arrival] = np.cumsum(is_punctual[by_arrival]) - is_punctual[by_arrival]
        sent_punctual: NDArray[np.int64] = np.cumsum(is_punctual) - is_punctual
        waits = ~is_punctual & (arrived_punctual == is_punctual.sum())
        delayed = np.flatnonzero(~is_punctual & (feed_rank >= n_waiting))
        arrived = np.flatnonzero(~is_punctual & ~waits)
        punctual = np.flatnonzero(is_punctual)
        # Each part has: indices of the part's messages, the number of punctual messages before each of these
        # messages, the turn of the part between two punctual messages (0, 1 or 2), the rank that orders the
        # part's messages, and the bits to set.
        parts = (
            (delayed, sent_punctual[delayed], 0, feed_rank, TO_EXCHANGE),
            (arrived, arrived_punctual[arrived], 1, arrival_rank, TO_LOCAL),
            (punctual, sent_punctual[punctual], 2, feed_rank, TO_EXCHANGE | TO_LOCAL),
        )
        selected = np.concatenate([part[0] for part in parts])
        sort_keys = [
            np.concatenate([rank[part] for part, _, _, rank, _ in parts]),
            np.concatenate([np.full(len(part), turn) for part, _, turn, _, _ in parts]),
            np.concatenate([before for _, before, _, _, _ in parts]),
        ]
        bits = np.concatenate([np.full(len(part), part_bits) for part, _, _, _, part_bits in parts])
        order = np.lexsort(sort_keys)
        selected, bits = selected[order], bits[order]
        ordered = messages.rows[messages.find_rows(selected)]
        ordered["ev"] |= np.repeat(bits, np.diff(messages.starts)[selected]).astype(np.uint64)
        still_waiting = by_arrival[waits[by_arrival]]
        starts = np.concatenate(([0], np.cumsum(np.diff(messages.starts)[still_waiting])))
        self.waiting = _Messages(
            messages.rows[messages.find_rows(still_waiting)], starts, messages.local[still_waiting]
        )
        return ordered

    def take_waiting(self) -> NDArray[np.void]:
        """Return the recorder's rows of the messages that still wait, in the order of arrival."""
        rows, self.waiting = self.waiting.rows, _NO_MESSAGES
        rows["ev"] |= TO_LOCAL
        return rows
