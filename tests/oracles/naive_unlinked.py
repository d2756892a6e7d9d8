"""The slow oracle for a feed whose ids prove nothing, supported by the vendor's own books.

It is read as the specification, so it imports nothing of deltabook and prefers the plain to the fast. The
feed is Crypto Lake's `book_delta_v2`: messages set sizes, and may be lost without a trace. The lost ones are
mostly deletes. The vendor's books are the top levels of `book`; they can be wrong too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

Number = int | Decimal
Level = tuple[Number, Number]
Levels = Sequence[Level]
Status = Literal["unseeded", "warming", "suspect", "unverifiable"]
Kind = Literal["seeded", "reseeded", "stranded", "crossed", "restored"]
CONTRADICTIONS = 3
"""Number of vendor books in a row that have to contradict a level before it is corrected."""


@dataclass(frozen=True, slots=True)
class Message:
    """New sizes of levels; a size of 0 deletes a level."""

    time: int
    bids: Levels = ()
    asks: Levels = ()
    begins_session: bool = False  # the first message after the recording was started
    lacks_part: bool = False  # a part of it, or messages before it, are missing


@dataclass(frozen=True, slots=True)
class VendorBook:
    """The best levels of both sides, best first. There may be more below the last one."""

    bids: Levels
    asks: Levels


@dataclass(frozen=True, slots=True)
class Rules:
    warms: bool = True  # messages alone can build a book; otherwise it waits for a vendor book
    repairs: bool = True  # the older of two levels that cross is removed
    reseed_after: int = 2  # a vendor book replaces a book that has been crossed for so long
    warm_time: int = 10  # a book with two sides that do not cross for so long is stable


@dataclass(frozen=True, slots=True)
class Correction:
    """A level change that no message made; a size of 0 stands for no level."""

    message: (
        int  # index of the message before which the level changed; `crossed`: of the message that shows it
    )
    side: str
    price: Number
    old_size: Number
    new_size: Number
    kind: Kind
    since: int  # index of the message after which the level may have been wrong


@dataclass(slots=True)
class State:
    """The book after one message."""

    status: Status
    bids: list[Level]  # best first, at most `depth`
    asks: list[Level]
    levels: tuple[int, int]  # at full depth
    known: list[int]  # how many of the bids and of the asks, from the best, are known
    known_depth: int
    is_lowered: bool = False  # a vendor book or a later message proved it wrong after the fact

    def lower(self, side: int, price: Number) -> None:
        """Forget the levels from a price on that proved wrong; a book that begins with it becomes suspect."""
        prices = [level_price for level_price, _ in (self.bids, self.asks)[side]]
        if price not in prices:
            return
        level = prices.index(price)
        self.is_lowered = True
        self.known_depth = min(self.known_depth, level)
        self.known[side] = min(self.known[side], level)
        if level == 0:
            self.known = [0, 0]
            if self.status == "unverifiable":
                self.status = "suspect"


@dataclass(slots=True)
class Side:
    """Levels of one side, and what is known of them.

    `known_from` is the worst price of which it is known whether it has a level; so is every better price.
    """

    sign: int  # 1: bids, a higher price is better; -1: asks
    levels: dict[Number, Number] = field(default_factory=dict)
    known_from: Number | None = None
    disputed: dict[Number, int] = field(default_factory=dict)  # how many vendor books in a row contradict it
    removed: set[Number] = field(default_factory=set)  # these were removed, and no message has set them since

    def is_at_least(self, price: Number, other: Number) -> bool:
        return self.sign * price >= self.sign * other

    def best_first(self, prices: Iterable[Number] | None = None) -> list[Number]:
        return sorted(self.levels if prices is None else prices, reverse=self.sign > 0)

    def best(self) -> Number | None:
        return next(iter(self.best_first()), None)

    def top(self, depth: int) -> list[Level]:
        return [(price, self.levels[price]) for price in self.best_first()[:depth]]

    def knows(self, price: Number) -> bool:
        """Return whether it is known if there is a level at a price."""
        return self.known_from is not None and self.is_at_least(price, self.known_from)

    def extend_known(self, price: Number) -> None:
        if not self.knows(price):
            self.known_from = price

    def count_known(self, depth: int) -> int:
        """Return how many of the top levels come before the first unknown or disputed one."""
        count = 0
        for price in self.best_first()[:depth]:
            if not self.knows(price) or price in self.disputed:
                break
            count += 1
        return count

    def is_best_disputed(self) -> bool:
        return self.best() in self.disputed

    def set(self, price: Number, size: Number) -> None:
        self.levels.pop(price, None)
        if size:
            self.levels[price] = size

    def forget(self) -> None:
        self.known_from = None
        self.disputed.clear()
        self.removed.clear()


NAMES = ("bid", "ask")
Turn = tuple[Sequence[VendorBook], Message]
"""A message, and the vendor books that belong before it."""


class Book:
    """The full book of one instrument."""

    def __init__(self, rules: Rules, depth: int) -> None:
        self.rules, self.depth = rules, depth
        self.sides = (Side(1), Side(-1))
        self.phase: Status = "unseeded"  # the status apart from single levels
        self.crossed_since: int | None = None
        self.stable_since: int | None = None  # two sides that do not cross
        self.is_unsettled = False  # the last message has shown that a level was stranded
        self.states: list[State] = []
        self.corrections: list[Correction] = []
        self.supported = 0

    def apply(
        self, turns: Iterable[Turn], after: Iterable[VendorBook] = ()
    ) -> tuple[list[State], list[Correction]]:
        """Apply a batch of messages, and vendor books directly after the last one.

        Return the book after each message, and the corrections. What shows that earlier books were wrong
        lowers the states since the vendor book before, but none of an earlier batch.
        """
        self.states, self.corrections, self.supported = [], [], 0
        time = 0
        for vendor_books, message in turns:
            time = message.time
            for vendor in vendor_books:
                self._use(vendor, time)
                self.supported = len(self.states)
            self._apply(message)
        for vendor in after:
            self._use(vendor, time)
            self.supported = len(self.states)
        last = len(self.states) - 1
        corrections = [
            replace(one, message=min(one.message, last), since=min(one.since, last))
            for one in self.corrections
        ]
        return self.states, corrections

    def is_crossed(self) -> bool:
        """Return whether the best prices cross or are equal: the exchange's never do."""
        bid, ask = (side.best() for side in self.sides)
        return bid is not None and ask is not None and bid >= ask

    def _use(self, vendor: VendorBook, time: int) -> None:
        crossed_long = self.crossed_since is not None and time - self.crossed_since >= self.rules.reseed_after
        if self.phase != "unverifiable" or crossed_long:
            self._seed(vendor)
        else:
            self._compare(vendor)

    def _seed(self, vendor: VendorBook) -> None:
        """Replace the levels in the price range of a vendor book; in a damaged book, all levels."""
        kind: Kind = "seeded" if self.phase in ("unseeded", "warming") else "reseeded"
        is_cleared = self.phase == "suspect"
        for number, (side, levels) in enumerate(zip(self.sides, (vendor.bids, vendor.asks), strict=True)):
            shown = dict(levels)
            for price in side.best_first():
                is_in_range = side.is_at_least(price, levels[-1][0])
                if price not in shown and (is_in_range or is_cleared):
                    self._correct(number, price, 0, kind)
            for price, size in levels:
                if side.levels.get(price, 0) != size:
                    self._correct(number, price, size, kind)
            if is_cleared:
                side.forget()
            side.disputed.clear()
            side.removed.clear()
            side.extend_known(levels[-1][0])
        self.phase, self.crossed_since, self.is_unsettled = "unverifiable", None, False

    def _compare(self, vendor: VendorBook) -> None:
        """Dispute the levels that a vendor book contradicts; correct those that are disputed or cross."""
        bid, ask = (side.best() for side in self.sides)
        was_crossed = self.crossed_since is not None  # after the last message
        crossing = [
            {price for price in side.levels if was_crossed and side.is_at_least(price, other)}
            for side, other in zip(self.sides, (ask, bid), strict=True)
        ]
        contradicted: list[tuple[int, Number]] = []
        for number, (side, levels) in enumerate(zip(self.sides, (vendor.bids, vendor.asks), strict=True)):
            shown: dict[Number, Number] = dict(levels)
            contradicted_here = []
            for price in side.best_first({*side.levels, *shown}):
                size, true_size = side.levels.get(price, 0), shown.get(price, 0)
                if not side.is_at_least(price, levels[-1][0]):
                    continue  # worse than all that the vendor shows
                if size == true_size:
                    side.disputed.pop(price, None)
                elif not size:
                    if price in side.removed:
                        self._correct(number, price, true_size, "restored")
                        side.removed.discard(price)
                    elif not side.knows(price):
                        self._correct(number, price, true_size, "seeded")
                else:
                    contradicted_here.append(price)
                    times = side.disputed.pop(price, 0) + 1
                    if times == CONTRADICTIONS or price in crossing[number]:
                        self._correct(number, price, true_size, "stranded")
                        if not true_size:
                            side.removed.add(price)
                    else:
                        side.disputed[price] = times
            side.extend_known(levels[-1][0])
            contradicted += [(number, price) for price in contradicted_here[:1]]
        if not self.is_crossed():
            self.crossed_since = None
        for number, price in contradicted:
            self._lower_past(number, price)

    def _apply(self, message: Message) -> None:
        if message.begins_session or message.lacks_part:
            self.phase, self.crossed_since, self.stable_since = "suspect", None, None
            self.is_unsettled = False
            for side in self.sides:
                side.forget()
        if message.begins_session:
            self.phase = "warming" if self.rules.warms else "unseeded"
            for side in self.sides:
                side.levels.clear()
        for side, levels in zip(self.sides, (message.bids, message.asks), strict=True):
            for price, size in levels:
                side.set(price, size)
                side.disputed.pop(price, None)
                side.removed.discard(price)
        self.is_unsettled = False
        if self.rules.repairs:
            self._repair(message)
        self._follow(message.time)
        self.states.append(self._state())

    def _repair(self, message: Message) -> None:
        """Remove the older of two levels that cross, as long as the message sets exactly one of them."""
        while self.is_crossed():
            best = [side.best() for side in self.sides]
            is_set = [
                any(price == of and size for price, size in levels)
                for of, levels in zip(best, (message.bids, message.asks), strict=True)
            ]
            if is_set[0] == is_set[1]:
                return
            older = is_set.index(False)
            price = best[older]
            assert price is not None
            self._correct(older, price, 0, "crossed")
            self._lower_past(older, price)
            self.sides[older].disputed.pop(price, None)
            self.sides[older].removed.add(price)
            self.is_unsettled = True

    def _follow(self, time: int) -> None:
        """Note since when the book is crossed or stable; extend the known ranges.

        The exchange has no bid at or above its best ask, and no ask at or below its best bid.
        """
        bids, asks = self.sides
        bid, ask = bids.best(), asks.best()
        if self.is_crossed():
            self.crossed_since = time if self.crossed_since is None else self.crossed_since
            self.stable_since = None
            return
        self.crossed_since = None
        if bid is None or ask is None:
            self.stable_since = None
            return
        bids.extend_known(ask)
        asks.extend_known(bid)
        if self.phase in ("warming", "suspect"):
            if self.stable_since is None or self.is_unsettled:
                self.stable_since = time
            if time - self.stable_since >= self.rules.warm_time:
                self.phase = "unverifiable"

    def _status(self) -> Status:
        if self.phase == "unseeded":
            return "unseeded"
        if self.is_crossed() or self.is_unsettled:
            return "suspect"
        if self.phase == "unverifiable" and any(side.is_best_disputed() for side in self.sides):
            return "suspect"
        return self.phase

    def _state(self) -> State:
        status = self._status()
        is_hidden = status == "unseeded"
        bids, asks = ([] if is_hidden else side.top(self.depth) for side in self.sides)
        counts = [0 if is_hidden else len(side.levels) for side in self.sides]
        known = [0, 0]
        if status not in ("unseeded", "suspect"):
            known = [side.count_known(self.depth) for side in self.sides]
        return State(status, bids, asks, (counts[0], counts[1]), known, min(known))

    def _correct(self, number: int, price: Number, size: Number, kind: Kind) -> None:
        side, index = self.sides[number], len(self.states)
        old_size = side.levels.get(price, 0)
        self.corrections.append(Correction(index, NAMES[number], price, old_size, size, kind, self.supported))
        side.set(price, size)

    def _lower_past(self, number: int, price: Number) -> None:
        for state in self.states[self.supported :]:
            state.lower(number, price)
