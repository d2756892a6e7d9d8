"""The log of gaps: a message opens a gap, and the snapshot that replaces the book closes the gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.names import GAP_LABELS, NOT_GIVEN, GapKind
from deltabook.udfs.orderbook.continuity import APPLY, RESET, UpdateVerdicts

_NOT_CLOSED_BY_SNAPSHOTS = (GapKind.CHECKSUM_FAILURE, GapKind.QUARANTINED_ROW)
"""Kinds of gaps that a snapshot can open itself. The snapshot that opens such a gap does not close it."""


class MessageLocation(NamedTuple):
    """Identifies one message by columns of `events`.

    Attributes
    ----------
    hour : int
        Start of the message's chunk, ns since 1970 UTC.
    epoch, sequence : int
        Id epoch, and last update id of a book update or trade id of a trade.
    order_time : int
        Running maximum of the timestamps, by which trades and book updates are merged, ns since 1970 UTC.
    source_file : str
        Path of the raw file.
    source_row : int
        Row of the message in that file.
    """

    hour: int
    epoch: int
    sequence: int
    order_time: int
    source_file: str
    source_row: int


class GapRow(TypedDict):
    """Row of `gaps` without exchange and symbol."""

    # pylint: disable=duplicate-code  # the tuple in `schemas.rows` cannot inherit these fields
    hour: int
    kind: str
    epoch: int
    sequence: int
    expected: int
    found: int
    from_time: int
    resolved_sequence: int
    resolved_time: int
    resolved_by: str
    updates_affected: int
    levels: list[str]
    source_file: str
    source_row: int


Locate = Callable[[int], MessageLocation]
"""A function from a message's index to its location, called only for messages that open or close gaps."""


@dataclass
class GapLog:
    """Collects the rows of `gaps` of one exchange and symbol.

    Attributes
    ----------
    closed : list of GapRow
        Rows that no later message can change.
    open : list of GapRow
        Gaps that no snapshot has closed yet.
    applied : int
        Number of diffs applied so far. A gap's `updates_affected` is the difference of two such numbers.
    crossing : GapRow or None
        The gap of a book that is crossed after the last row; None if the book is not crossed.
    """

    closed: list[GapRow] = field(default_factory=list)
    open: list[GapRow] = field(default_factory=list)
    applied: int = 0
    crossing: GapRow | None = None

    @property
    def has_open_gaps(self) -> bool:
        """True if a later message can still change a row of `gaps`."""
        return bool(self.open) or self.crossing is not None

    def record_updates(self, verdicts: UpdateVerdicts, locate: Locate) -> None:
        """Record the gaps that a batch of book updates opens or closes.

        Parameters
        ----------
        verdicts : UpdateVerdicts
            Verdicts on n messages.
        locate : callable
            Returns the `MessageLocation` of the message at an index.
        """
        applied = self.applied + np.cumsum(verdicts.action == APPLY)
        replaces_book = verdicts.action == RESET
        for index in np.flatnonzero((verdicts.gap >= 0) | replaces_book).tolist():
            location = locate(index)
            new_gaps: list[GapRow] = []
            if verdicts.gap[index] >= 0:
                kind = GapKind(verdicts.gap[index])
                expected, found = int(verdicts.expected[index]), int(verdicts.found[index])
                gap = make_gap_row(kind, location, expected, found)
                # Subtract the number of applied diffs now, and add the later number when the gap closes.
                # A diff that opens the gap is itself affected.
                is_affected = verdicts.action[index] == APPLY or kind in _NOT_CLOSED_BY_SNAPSHOTS
                gap["updates_affected"] = int(is_affected) - int(applied[index])
                if kind in _NOT_CLOSED_BY_SNAPSHOTS:
                    new_gaps.append(gap)
                else:
                    self.open.append(gap)
            if replaces_book[index]:
                self.close_open(location, "snapshot", int(applied[index]))
            self.open += new_gaps
        if len(applied):
            self.applied = int(applied[-1])

    def record_crossed_books(
        self, crossed: NDArray[np.bool_], message: NDArray[np.int64], locate: Locate
    ) -> None:
        """Record where a batch's books become crossed, and where they stop being crossed.

        Parameters
        ----------
        crossed : bool[r]
            For each row of `books`, True if its best bid is above its best ask.
        message : int64[r]
            Index of the message that each row follows.
        locate : callable
            Returns the `MessageLocation` of the message at an index.
        """
        if not len(crossed):
            return
        flips = np.flatnonzero(np.diff(crossed, prepend=self.crossing is not None)).tolist()
        for row, end in pairwise(sorted({0, *flips, len(crossed)})):
            if row in flips:
                self._flip_crossing(locate(int(message[row])))
            if self.crossing is not None:
                self.crossing["updates_affected"] += end - row

    def rows(self) -> list[GapRow]:
        """Return all rows of `gaps`; the affected diffs of an open gap are counted up to the last message."""
        still_open: list[GapRow] = [
            {**gap, "updates_affected": gap["updates_affected"] + self.applied} for gap in self.open
        ]
        return self.closed + still_open + ([] if self.crossing is None else [self.crossing])

    def close_open(self, location: MessageLocation, resolved_by: str, applied: int) -> None:
        """Close every open gap at a message.

        Parameters
        ----------
        location : MessageLocation
            The message.
        resolved_by : str
            Value of the column `resolved_by`.
        applied : int
            Number of diffs applied up to the message.
        """
        for gap in self.open:
            gap["resolved_sequence"] = location.sequence
            gap["resolved_time"] = location.order_time
            gap["resolved_by"] = resolved_by
            gap["updates_affected"] += applied
        self.closed += self.open
        self.open = []

    def _flip_crossing(self, location: MessageLocation) -> None:
        """Open the gap of a crossed book at a message; if one is open, close it."""
        if self.crossing is None:
            self.crossing = make_gap_row(GapKind.CROSSED_BOOK, location, NOT_GIVEN, NOT_GIVEN)
            return
        self.crossing["resolved_sequence"] = location.sequence
        self.crossing["resolved_time"] = location.order_time
        self.crossing["resolved_by"] = "book_update"
        self.closed.append(self.crossing)
        self.crossing = None


def make_gap_row(kind: GapKind, location: MessageLocation, expected: int, found: int) -> GapRow:
    """Return a row of `gaps` for a gap that is not resolved yet.

    Parameters
    ----------
    kind : GapKind
        Kind of the gap.
    location : MessageLocation
        The message that opens the gap.
    expected, found : int
        The expected id, checksum or time (ns since 1970 UTC), and the value in the feed.

    Returns
    -------
    GapRow
        The columns of `gaps` except `exchange` and `symbol`.
    """
    return {
        "hour": location.hour,
        "kind": GAP_LABELS[kind],
        "epoch": location.epoch,
        "sequence": location.sequence,
        "expected": expected,
        "found": found,
        "from_time": location.order_time,
        "resolved_sequence": NOT_GIVEN,
        "resolved_time": NOT_GIVEN,
        "resolved_by": "",
        "updates_affected": 0,
        "levels": [],
        "source_file": location.source_file,
        "source_row": location.source_row,
    }
