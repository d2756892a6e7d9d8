"""The log of discontinuities: opened by a message, closed by the snapshot that replaces the book."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import GAP_LABELS, NOT_GIVEN, GapKind
from deltabook.udfs.orderbook.continuity import APPLY, RESET, SEED, Verdicts

_SHOWN_BY_THE_BOOK = (GapKind.CHECKSUM_FAILURE, GapKind.QUARANTINED_ROW)
"""What a snapshot does not end, but shows of itself."""

Place = dict[str, Any]
"""Where a message stands: hour, epoch, sequence, order_time, source_file, source_row."""


@dataclass
class GapLog:
    """Collects the rows of `gaps` of one exchange and symbol.

    Attributes
    ----------
    closed : list of dict
        Rows that nothing can change any more.
    open : list of dict
        Gaps that no snapshot has ended yet.
    applied : int
        Book updates applied so far, to count those that each gap touched.
    crossing : dict or None
        The gap of a book that is crossed now.
    """

    closed: list[dict[str, Any]] = field(default_factory=list)
    open: list[dict[str, Any]] = field(default_factory=list)
    applied: int = 0
    crossing: dict[str, Any] | None = None

    @property
    def are_open(self) -> bool:
        """Whether what comes may still change a row."""
        return bool(self.open) or self.crossing is not None

    def note_updates(self, verdicts: Verdicts, place_of: Any) -> None:
        """Record what a batch of book updates shows.

        Parameters
        ----------
        verdicts : Verdicts
            Of n messages.
        place_of : callable
            ``index of message -> Place``; called only where something happened.
        """
        applied = self.applied + np.cumsum(verdicts.action == APPLY)
        ends = (verdicts.action == RESET) | (verdicts.action == SEED)
        for index in np.flatnonzero((verdicts.gap >= 0) | ends).tolist():
            place = place_of(index)
            gap = []
            if verdicts.gap[index] >= 0:
                kind = GapKind(verdicts.gap[index])
                gap = [gap_row(kind, place, int(verdicts.expected[index]), int(verdicts.found[index]))]
                # Becomes a difference when the gap closes; an update that shows it is touched too.
                shows = verdicts.action[index] == APPLY or kind in _SHOWN_BY_THE_BOOK
                gap[0]["updates_affected"] = int(shows) - int(applied[index])
                if kind not in _SHOWN_BY_THE_BOOK:
                    self.open, gap = self.open + gap, []
            if ends[index]:
                for ended in self.open:
                    ended["resolved_sequence"] = place["sequence"]
                    ended["resolved_time"] = place["order_time"]
                    ended["resolved_by"] = "snapshot" if verdicts.action[index] == RESET else "vendor_book"
                    ended["updates_affected"] += int(applied[index])
                self.closed += self.open
                self.open = []
            self.open += gap
        if len(applied):
            self.applied = int(applied[-1])

    def note_crossed(self, crossed: NDArray[np.bool_], message: NDArray[np.int64], place_of: Any) -> None:
        """Record where a batch's books begin to be crossed, and where they are no more.

        Parameters
        ----------
        crossed : bool[r]
            Of each row of books.
        message : int64[r]
            The message that each follows.
        place_of : callable
            ``index of message -> Place``.
        """
        if not len(crossed):
            return
        flips = np.flatnonzero(np.diff(crossed, prepend=self.crossing is not None)).tolist()
        for row, end in pairwise(sorted({0, *flips, len(crossed)})):
            if row in flips:
                self._cross(place_of(int(message[row])))
            if self.crossing is not None:
                self.crossing["updates_affected"] += end - row

    def _cross(self, place: Place) -> None:
        if self.crossing is None:
            self.crossing = gap_row(GapKind.CROSSED_BOOK, place, NOT_GIVEN, NOT_GIVEN)
            return
        ended = {"resolved_sequence": place["sequence"], "resolved_time": place["order_time"]}
        self.closed.append(self.crossing | ended | {"resolved_by": "book_update"})
        self.crossing = None

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows, open gaps counted up to the last message."""
        still_open = [gap | {"updates_affected": gap["updates_affected"] + self.applied} for gap in self.open]
        return self.closed + still_open + ([] if self.crossing is None else [self.crossing])


def gap_row(kind: GapKind, place: Place, expected: int, found: int) -> dict[str, Any]:
    """Make a row of `gaps` that nothing has resolved.

    Parameters
    ----------
    kind : GapKind
        What broke.
    place : dict
        The message that shows it.
    expected, found : int
        The id that should have come, and the one that did.

    Returns
    -------
    dict
        The columns of `gaps` but `exchange` and `symbol`.
    """
    return {
        "hour": place["hour"],
        "kind": GAP_LABELS[kind],
        "epoch": place["epoch"],
        "sequence": place["sequence"],
        "expected": expected,
        "found": found,
        "from_time": place["order_time"],
        "resolved_sequence": NOT_GIVEN,
        "resolved_time": NOT_GIVEN,
        "resolved_by": "",
        "updates_affected": 0,
        "source_file": place["source_file"],
        "source_row": place["source_row"],
    }
