"""Bybit's `orderbook.1` messages beside a deeper book of the instrument; the source `bybit` uses them.

Bybit numbers the messages of each depth apart (`u`), but all depths share the cross sequence `seq`. So a
message of depth 1 shows the best bid and ask of the deeper book exactly where both have the same `seq`. At
any other `seq`, the deeper book is older or newer, because Bybit sends it less often.
"""

from __future__ import annotations

from collections.abc import Iterator

from deltabook.udfs.numbers.record import Record

_MOST_HELD = 1_000
"""Number of messages of depth 1 that wait for the first message of a deeper book."""
_MOST_KNOWN = 256
"""Number of past messages of the deeper book that are kept, and of messages of depth 1 that wait."""


class TopsOfBook:
    """Messages of depth 1 of one instrument, and what they are: a book of depth 1, or golden rows.

    A file with messages of depth 1 alone has a book of depth 1. This is decided at the end of the file, or
    when `_MOST_HELD` messages wait.
    """

    def __init__(self) -> None:
        self.held: list[tuple[int | None, Record]] = []
        """(cross sequence, book update) of each message that waits until the book's depth is decided."""
        self._sequences: dict[int, int] = {}
        self._waiting: dict[int, Record] = {}

    def hold(self, cross_sequence: int | None, update: Record) -> bool:
        """Hold a message of depth 1, and return whether no more can be held.

        Parameters
        ----------
        cross_sequence : int or None
            `seq` of the message; None if it has none.
        update : Record
            The book update, with its `source_row`.
        """
        self.held.append((cross_sequence, update))
        return len(self.held) >= _MOST_HELD

    def take_updates(self) -> Iterator[Record]:
        """Yield the messages that are held as updates of a book of depth 1."""
        held, self.held = self.held, []
        for _, update in held:
            yield update

    def take_golden_rows(self) -> Iterator[Record]:
        """Yield golden rows of the messages that are held, as far as their message of the book is known."""
        held, self.held = self.held, []
        for cross_sequence, update in held:
            yield from self.add_top(cross_sequence, update)

    def add_top(self, cross_sequence: int | None, update: Record) -> Iterator[Record]:
        """Yield the golden row of a message of depth 1, or keep it until its message of the book arrives.

        Parameters
        ----------
        cross_sequence : int or None
            `seq` of the message; without it, the message gives no golden row.
        update : Record
            The book update, with its `source_row`. A delta gives no golden row: it may lack a side.
        """
        if cross_sequence is None or not update["is_snapshot"]:
            return
        golden: Record = {"record": "golden", "kind": "vendor_book", "is_snapshot": False}
        row = update | golden
        if cross_sequence in self._sequences:
            yield row | {"sequence": self._sequences[cross_sequence]}
        elif cross_sequence > max(self._sequences, default=-1):
            self._waiting[cross_sequence] = row
            if len(self._waiting) > _MOST_KNOWN:
                del self._waiting[next(iter(self._waiting))]

    def add_message(self, cross_sequence: int | None, sequence: int) -> Iterator[Record]:
        """Note a message of the deeper book, and yield the golden row that it decides.

        Parameters
        ----------
        cross_sequence : int or None
            `seq` of the message; None if it has none.
        sequence : int
            `u` of the message.
        """
        if cross_sequence is None:
            return
        self._sequences[cross_sequence] = sequence
        if len(self._sequences) > _MOST_KNOWN:
            del self._sequences[next(iter(self._sequences))]
        if self._waiting:
            if row := self._waiting.pop(cross_sequence, None):
                yield row | {"sequence": sequence}
            self._waiting = {seq: row for seq, row in self._waiting.items() if seq > cross_sequence}
