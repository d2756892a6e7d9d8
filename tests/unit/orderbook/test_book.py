"""The book's kernel, message by message, against dicts: levels, known ranges, rows and verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.feeds import Checksum
from deltabook.schemas.names import FULL_DEPTH, NOT_GIVEN, Status
from deltabook.udfs.numbers.encoding import PrintedDigits
from deltabook.udfs.orderbook.book import Book, SideChanges
from deltabook.udfs.orderbook.book_kernel import NOT_CHECKED, RIGHT, WRONG, IntegrityFields
from deltabook.udfs.orderbook.continuity import APPLY, IGNORE, MERGE, RESET, UpdateVerdicts
from deltabook.udfs.orderbook.known_range import NOTHING_KNOWN, KnownRange
from deltabook.udfs.orderbook.ranked_book import ASK, BID

PRICES = (1, 2, 3, 40, 63, 64, 65, 66, 100, 127, 128, 129, 130, 190, 191, 192, 200)
"""Their ranks lie on both sides of the bitmap's words."""
SIZES = st.sampled_from([0, 0, 1, 2])
LEVELS = st.lists(st.tuples(st.sampled_from(PRICES), SIZES), max_size=8)
WHOLE = st.lists(st.tuples(st.sampled_from(PRICES), SIZES), max_size=10, unique_by=lambda level: level[0])
STATUS = st.sampled_from([Status.UNSEEDED, Status.SUSPECT, Status.UNVERIFIABLE, *[Status.VERIFIED] * 3])
SEEDED = STATUS.filter(lambda status: status > Status.UNSEEDED)
"""What a snapshot can make of a book."""
KNOWN = st.sampled_from(
    [NOTHING_KNOWN, KnownRange(is_whole=True), *map(KnownRange, [False] * 4, (1, 3, 64, 128))]
)
NOTHING = (NOTHING_KNOWN, NOTHING_KNOWN)
SIGNS = (1, -1)
"""By side: a price times it is greater the better the price is."""


@dataclass
class Message:
    action: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    status: int
    kept: int = NOT_GIVEN
    repeats: str = ""
    """Of a snapshot: which of its sides are the book's own, or how they nearly are."""

    @property
    def sides(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return self.bids, self.asks


MESSAGE = st.one_of(
    st.builds(Message, st.sampled_from([IGNORE, APPLY, APPLY, APPLY]), LEVELS, LEVELS, STATUS),
    st.builds(Message, st.just(APPLY), LEVELS, LEVELS, STATUS, kept=st.integers(1, 4)),
    st.builds(Message, st.sampled_from([RESET, MERGE]), WHOLE, WHOLE, SEEDED),
    st.builds(
        Message,
        st.just(RESET),
        WHOLE,
        WHOLE,
        SEEDED,
        repeats=st.sampled_from(["bids and asks", "bids", "asks", "others", "fewer", "more"]),
    ),
)


def worst_known(known: KnownRange, sign: int) -> float:
    """The least signed price that is known."""
    if known.is_whole:
        return -math.inf
    return math.inf if known.price is None else sign * known.price


@dataclass
class Oracle:
    """A book as two dicts, and the least signed price that is known of each side."""

    depth: int
    status: int
    sides: tuple[dict[int, int], dict[int, int]]
    known: list[float]
    is_whole: bool
    """Whether snapshots show every level."""
    waiting: list[Message] = field(default_factory=list)
    """Snapshots to merge with the next message of the batch that is applied."""
    counts: list[int] = field(default_factory=list)
    """Known levels of each side, of the top levels."""

    def __post_init__(self) -> None:
        self.count()

    def repeat(self, message: Message) -> None:
        """Give a snapshot levels that are the book's, or nearly."""
        bids, asks = ([*side.items()] for side in self.sides)
        changed = {
            "others": [(price, size + 1) for price, size in asks],
            "fewer": asks[1:],
            "more": [*asks, (max(self.sides[ASK], default=0) + 1, 1)],
        }
        if message.repeats:
            message.bids = message.bids if message.repeats == "asks" else bids
            message.asks = message.asks if message.repeats == "bids" else changed.get(message.repeats, asks)

    def top(self) -> list[list[tuple[int, int]]]:
        bids = sorted(self.sides[BID].items(), reverse=True)[: self.depth]
        return [bids, sorted(self.sides[ASK].items())[: self.depth]]

    def apply(self, message: Message, every: bool) -> dict[str, Any]:
        """What is told of a message: its row, if it writes one, and the verdict, known depth and status."""
        verdict, before, status = NOT_CHECKED, self.top(), message.status
        if message.action == RESET and self.status > Status.SUSPECT:
            told = tuple({price: size for price, size in levels if size} for levels in message.sides)
            verdict = RIGHT if told == self.sides else WRONG
        if status == Status.UNSEEDED and self.status > Status.UNSEEDED:
            for book in self.sides:
                book.clear()
        is_merged = (
            bool(self.waiting) and message.action == APPLY and min(status, self.status) > Status.SUSPECT
        )
        if message.action == MERGE:
            self.waiting.append(message)
        elif message.action != IGNORE:
            for one in [*(self.waiting if is_merged else []), message]:
                for side, levels in enumerate(one.sides):
                    self.change(side, levels, one)
            self.waiting = []
        if self.status == Status.SUSPECT and message.action != RESET and status > Status.SUSPECT:
            status = Status.SUSPECT
        changed = self.top() != before and message.action in (APPLY, RESET)
        if status <= Status.SUSPECT:
            self.known, self.counts = [math.inf, math.inf], [0, 0]
        elif changed or is_merged or message.action == RESET:
            self.sweep()
            self.count()
        depth = self.known_depth()
        if depth == 0:
            status = min(status, Status.UNVERIFIABLE)
        has_row = changed or (every and message.action in (APPLY, RESET))
        written = (status != Status.UNSEEDED and has_row) or status != self.status
        self.status = status
        told = {"verdict": verdict, "known depth": depth, "status": status, "row": None}
        if written:
            shown = self.top() if status != Status.UNSEEDED else [[], []]
            levels = [len(side) if status != Status.UNSEEDED else 0 for side in self.sides]
            told["row"] = {"top": shown, "levels": levels, "known": list(self.counts)}
        return told

    def change(self, side: int, levels: list[tuple[int, int]], message: Message) -> None:
        book, known, sign = self.sides[side], self.known[side], SIGNS[side]
        if message.action == RESET:
            book.clear()
        for price, size in levels:
            if message.action == MERGE and (price in book or sign * price >= known):
                continue
            book.pop(price, None)
            if size:
                book[price] = size
        if message.action in (MERGE, RESET):
            worst = min((sign * price for price, size in levels if size), default=-math.inf)
            if message.action == RESET:
                self.known[side] = -math.inf if self.is_whole else worst
            else:
                self.known[side] = min(known, worst)
        worst_first = sorted(book, reverse=side == ASK)
        if message.kept > 0:
            for price in worst_first[: max(len(book) - message.kept, 0)]:
                del book[price]

    def sweep(self) -> None:
        """No bid is at or above the best ask, and the reverse."""
        bids, asks = self.sides
        if bids and asks and max(bids) < min(asks):
            self.known[BID] = min(self.known[BID], min(asks))
            self.known[ASK] = min(self.known[ASK], -max(bids))

    def count(self) -> None:
        self.counts = []
        for top, known, sign in zip(self.top(), self.known, SIGNS, strict=True):
            unknown = [place for place, (price, _) in enumerate(top) if sign * price < known]
            self.counts.append(unknown[0] if unknown else len(top))

    def known_depth(self) -> int:
        sides = zip(self.counts, self.top(), self.known, strict=True)
        return min(
            FULL_DEPTH if known == -math.inf and count == len(top) else count for count, top, known in sides
        )


def side_of(messages: list[Message], side: int) -> SideChanges:
    levels = [message.sides[side] for message in messages]
    flat = np.array([level for one in levels for level in one], dtype=np.int64).reshape(-1, 2)
    return SideChanges(np.cumsum([0, *map(len, levels)]), flat[:, 0].copy(), flat[:, 1].copy())


def column(values: list[int], kind: Any = np.int64) -> np.ndarray:
    return np.array(values, dtype=kind)


def fed(book: Book, messages: list[Message], every: bool) -> list[dict[str, Any]]:
    """What is told of the messages of one batch, as the oracle tells it."""
    nothing = column([NOT_GIVEN] * len(messages))
    verdicts = UpdateVerdicts(
        column([message.action for message in messages], np.int8),
        column([message.status for message in messages], np.int8),
        column([NOT_GIVEN] * len(messages), np.int8),
        nothing.copy(),
        nothing.copy(),
    )
    kept = column([message.kept for message in messages])
    integrity = IntegrityFields(int(Checksum.NONE), PrintedDigits(0, 0), nothing, nothing, nothing, kept)
    tops = book.apply(side_of(messages, BID), side_of(messages, ASK), verdicts, integrity, every)
    told = [
        {"verdict": verdict, "known depth": depth, "status": status, "row": None}
        for verdict, depth, status in zip(
            tops.snapshot_verdicts.tolist(), tops.known_depth.tolist(), verdicts.status.tolist(), strict=True
        )
    ]
    for row in range(len(tops.message)):
        top = []
        for side in (BID, ASK):
            start, end = tops.offsets[side][row : row + 2]
            prices, sizes = tops.prices[side][start:end].tolist(), tops.sizes[side][start:end].tolist()
            top.append(list(zip(prices, sizes, strict=True)))
        found = {"top": top, "levels": tops.levels[row].tolist(), "known": tops.known[row].tolist()}
        told[int(tops.message[row])]["row"] = found
    return told


@pytest.mark.kernel
@cases(1_000, uncompiled=150)
@given(
    batches=st.lists(st.lists(MESSAGE, max_size=8), min_size=1, max_size=3),
    depth=st.sampled_from([1, 2, 3, 20]),
    every=st.booleans(),
    levels=st.sampled_from([0, 0, 5, 63, 70, 130]),
    status=STATUS,
    known=st.tuples(KNOWN, KNOWN),
    is_whole=st.sampled_from([False, False, True]),
    apart=st.sampled_from([0, 100, 200]),
)
@example([[Message(APPLY, [], [], Status.VERIFIED)]], 3, True, 129, Status.VERIFIED, NOTHING, False, 0)
@example(
    [[Message(MERGE, [(1, 1)], [(1, 1)], Status.UNVERIFIABLE)]],
    3,
    True,
    63,
    Status.VERIFIED,
    NOTHING,
    False,
    0,
)
@example([[Message(RESET, [], [], Status.VERIFIED)], []], 3, True, 0, Status.UNSEEDED, NOTHING, False, 0)
def test_book_equals_dicts_after_every_message(
    batches: list[list[Message]],
    depth: int,
    every: bool,
    levels: int,
    status: Status,
    known: tuple[KnownRange, KnownRange],
    is_whole: bool,
    apart: int,
) -> None:
    if status <= Status.SUSPECT:
        known = NOTHING
    prices = np.arange(1, levels + 1)
    book = Book((prices, prices), (prices + apart, prices), depth, int(status), known, is_whole)
    bids, asks = ({price + shift: price for price in prices.tolist()} for shift in (0, apart))
    least = [worst_known(one, sign) for one, sign in zip(known, SIGNS, strict=True)]
    oracle = Oracle(depth, status, (bids, asks), least, is_whole)
    for messages in batches:
        expected = []
        oracle.waiting = []
        for message in messages:
            message.asks = [(price + apart, size) for price, size in message.asks]
            oracle.repeat(message)
            expected.append(oracle.apply(message, every))
        assert fed(book, messages, every) == expected
        assert book.status == oracle.status
        assert [worst_known(one, sign) for one, sign in zip(book.known, SIGNS, strict=True)] == oracle.known
        if expected:
            assert book.count_known() == expected[-1]["known depth"]
        for side in (BID, ASK):
            prices, sizes = book.sides[side]
            found = list(zip(prices.tolist(), sizes.tolist(), strict=True))
            assert found == sorted(oracle.sides[side].items())


@pytest.mark.kernel
def test_the_tick_is_the_step_of_the_prices() -> None:
    prices = np.arange(1, 4) * 1_000
    book = Book((prices, prices), (prices, prices), 3, int(Status.VERIFIED), NOTHING, False)
    fed(book, [Message(APPLY, [(5_000, 1)], [], Status.VERIFIED)], True)
    assert book.tick == 1_000
