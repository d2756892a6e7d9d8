"""Tickers without an update id, which wait until it is known which book message they describe."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

from deltabook.udfs.numbers.record import Record

_MOST_MESSAGES = 256
"""Number of past book messages of a symbol that are kept, to find the one that a late ticker describes."""
_MOST_TICKERS = 1_000
"""Number of tickers of a symbol that wait at once."""


class HeldTickers:
    """Finds the book message that a ticker describes: the last one whose clock is not above the ticker's.

    A clock is a time or an id that book messages and tickers share. A ticker waits until a book message with
    a later clock arrives, because a book message with an earlier clock may arrive after the ticker.
    """

    def __init__(self) -> None:
        self._messages: dict[str, deque[tuple[int, int]]] = {}
        self._waiting: dict[str, deque[tuple[int, Record]]] = {}

    def add_message(self, symbol: str, clock: int, sequence: int) -> Iterator[Record]:
        """Note a book message, and yield the tickers that it decides, with their `sequence`.

        Parameters
        ----------
        symbol : str
            Symbol of the message.
        clock : int
            Clock of the message.
        sequence : int
            Sequence of the message.
        """
        messages = self._messages.setdefault(symbol, deque(maxlen=_MOST_MESSAGES))
        waiting = self._waiting.get(symbol, ())
        while waiting and waiting[0][0] < clock:
            yield from self._assign(symbol, *waiting.popleft())
        messages.append((clock, sequence))

    def add_ticker(self, symbol: str, clock: int, record: Record) -> Iterator[Record]:
        """Keep a ticker, or yield it at once if a later book message is known.

        Parameters
        ----------
        symbol : str
            Symbol of the ticker.
        clock : int
            Clock of the ticker.
        record : Record
            The golden record without its `sequence`.
        """
        messages = self._messages.get(symbol)
        if messages and messages[-1][0] > clock:
            yield from self._assign(symbol, clock, record)
            return
        waiting = self._waiting.setdefault(symbol, deque())
        waiting.append((clock, record))
        if len(waiting) > _MOST_TICKERS:
            yield from self._assign(symbol, *waiting.popleft())

    def finish(self) -> Iterator[Record]:
        """Yield the tickers that still wait at the end of the file."""
        for symbol, waiting in self._waiting.items():
            for clock, record in waiting:
                yield from self._assign(symbol, clock, record)
        self._waiting.clear()

    def _assign(self, symbol: str, clock: int, record: Record) -> Iterator[Record]:
        """Yield a ticker with the sequence of its book message; nothing if that message is not known."""
        messages = self._messages.get(symbol, ())
        index = bisect_right([of_message for of_message, _ in messages], clock)
        if index:
            yield record | {"sequence": messages[index - 1][1]}
