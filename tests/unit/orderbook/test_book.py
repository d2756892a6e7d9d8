"""The kernel's book equals a book of dicts after every message, also with resets, seeds and kept levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.feeds import Checksum
from deltabook.schemas.names import NOT_GIVEN, Status
from deltabook.udfs.numbers.encoding import PrintedDigits
from deltabook.udfs.orderbook.book import Book, SideChanges
from deltabook.udfs.orderbook.book_kernel import NOT_CHECKED, RIGHT, WRONG, IntegrityFields
from deltabook.udfs.orderbook.continuity import APPLY, IGNORE, RESET, SEED, UpdateVerdicts
from deltabook.udfs.orderbook.ranked_book import ASK, BID

PRICES = (1, 2, 3, 40, 63, 64, 65, 66, 100, 127, 128, 129, 130, 190, 191, 192, 200)
"""Their ranks lie on both sides of the bitmap's words."""
SIZES = st.sampled_from([0, 0, 1, 2])
LEVELS = st.lists(st.tuples(st.sampled_from(PRICES), SIZES), max_size=8)
WHOLE = st.lists(st.tuples(st.sampled_from(PRICES), SIZES), max_size=10, unique_by=lambda level: level[0])
STATUS = st.sampled_from([Status.UNSEEDED, Status.SUSPECT, Status.UNVERIFIABLE, Status.VERIFIED])


@dataclass
class Message:
    action: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    status: int
    shown: int = 0
    kept: int = NOT_GIVEN
    repeats: str = ""
    """Of a snapshot: which of its sides are the book's own, or how they nearly are."""

    @property
    def sides(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return self.bids, self.asks


MESSAGE = st.one_of(
    st.builds(Message, st.sampled_from([IGNORE, APPLY, APPLY, APPLY]), LEVELS, LEVELS, STATUS),
    st.builds(Message, st.just(APPLY), LEVELS, LEVELS, STATUS, kept=st.integers(1, 4)),
    st.builds(Message, st.sampled_from([RESET, SEED]), WHOLE, WHOLE, STATUS, st.integers(0, 6)),
    st.builds(
        Message,
        st.just(RESET),
        WHOLE,
        WHOLE,
        STATUS,
        repeats=st.sampled_from(["bids and asks", "bids", "asks", "others", "fewer", "more"]),
    ),
)


@dataclass
class Oracle:
    """A book as two dicts."""

    depth: int
    status: int
    sides: tuple[dict[int, int], dict[int, int]]

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

    def apply(self, message: Message, every: bool) -> tuple[dict[str, Any] | None, int]:
        """The row written, if one is, and the verdict on a snapshot."""
        verdict, before, status = NOT_CHECKED, self.top(), message.status
        if message.action == RESET and self.status > Status.SUSPECT:
            told = tuple({price: size for price, size in levels if size} for levels in message.sides)
            verdict = RIGHT if told == self.sides else WRONG
        if message.action != IGNORE:
            for side, levels in enumerate(message.sides):
                self.change(side, levels, message)
        if self.status == Status.SUSPECT and message.action in (IGNORE, APPLY):
            status = Status.SUSPECT
        changed = self.top() != before or (every and message.action != IGNORE)
        written = (status != Status.UNSEEDED and changed) or status != self.status
        self.status = status
        if not written:
            return None, verdict
        shown = self.top() if status != Status.UNSEEDED else [[], []]
        levels = [len(side) if status != Status.UNSEEDED else 0 for side in self.sides]
        return {"top": shown, "levels": levels}, verdict

    def change(self, side: int, levels: list[tuple[int, int]], message: Message) -> None:
        book = self.sides[side]
        if message.action == RESET or (message.action == SEED and len(levels) < max(message.shown, 1)):
            book.clear()
        elif message.action == SEED:
            prices = [price for price, _ in levels]
            for price in [*book]:
                if (price >= min(prices)) if side == BID else (price <= max(prices)):
                    del book[price]
        for price, size in levels:
            book.pop(price, None)
            if size:
                book[price] = size
        worst_first = sorted(book, reverse=side == ASK)
        if message.kept > 0:
            for price in worst_first[: max(len(book) - message.kept, 0)]:
                del book[price]


def side_of(messages: list[Message], side: int) -> SideChanges:
    levels = [message.sides[side] for message in messages]
    flat = np.array([level for one in levels for level in one], dtype=np.int64).reshape(-1, 2)
    return SideChanges(np.cumsum([0, *map(len, levels)]), flat[:, 0].copy(), flat[:, 1].copy())


def column(values: list[int], kind: Any = np.int64) -> np.ndarray:
    return np.array(values, dtype=kind)


def fed(book: Book, messages: list[Message], every: bool) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows and verdicts of one batch, as the oracle tells them."""
    nothing = column([NOT_GIVEN] * len(messages))
    verdicts = UpdateVerdicts(
        column([message.action for message in messages], np.int8),
        column([message.status for message in messages], np.int8),
        column([NOT_GIVEN] * len(messages), np.int8),
        nothing.copy(),
        nothing.copy(),
        column([message.shown for message in messages]),
    )
    kept = column([message.kept for message in messages])
    integrity = IntegrityFields(int(Checksum.NONE), PrintedDigits(0, 0), nothing, nothing, nothing, kept)
    tops = book.apply(side_of(messages, BID), side_of(messages, ASK), verdicts, integrity, every)
    rows = []
    for row in range(len(tops.message)):
        top = []
        for side in (BID, ASK):
            start, end = tops.offsets[side][row : row + 2]
            prices, sizes = tops.prices[side][start:end].tolist(), tops.sizes[side][start:end].tolist()
            top.append(list(zip(prices, sizes, strict=True)))
        rows.append({"at": int(tops.message[row]), "top": top, "levels": tops.levels[row].tolist()})
    return rows, tops.snapshot_verdicts.tolist()


@pytest.mark.kernel
@cases(1_000, uncompiled=150)
@given(
    batches=st.lists(st.lists(MESSAGE, max_size=8), min_size=1, max_size=3),
    depth=st.sampled_from([1, 2, 3, 20]),
    every=st.booleans(),
    levels=st.sampled_from([0, 0, 5, 63, 70, 130]),
    status=STATUS,
)
@example([[Message(APPLY, [], [], Status.VERIFIED)]], 3, True, 129, Status.VERIFIED)
@example([[Message(SEED, [(1, 1)], [(1, 1)], Status.UNVERIFIABLE)]], 3, True, 63, Status.UNSEEDED)
def test_book_equals_dicts_after_every_message(
    batches: list[list[Message]], depth: int, every: bool, levels: int, status: Status
) -> None:
    prices = np.arange(1, levels + 1)
    book = Book((prices, prices), (prices, prices), depth, int(status))
    bids, asks = ({price: price for price in prices.tolist()} for _ in (BID, ASK))
    oracle = Oracle(depth, status, (bids, asks))
    for messages in batches:
        told = []
        for message in messages:
            oracle.repeat(message)
            told.append(oracle.apply(message, every))
        expected = [{"at": at} | row for at, (row, _) in enumerate(told) if row is not None]
        assert fed(book, messages, every) == (expected, [verdict for _, verdict in told])
        assert book.status == oracle.status
        for side in (BID, ASK):
            prices, sizes = book.sides[side]
            found = list(zip(prices.tolist(), sizes.tolist(), strict=True))
            assert found == sorted(oracle.sides[side].items())


@pytest.mark.kernel
def test_the_tick_is_the_step_of_the_prices() -> None:
    prices = np.arange(1, 4) * 1_000
    book = Book((prices, prices), (prices, prices), 3, int(Status.VERIFIED))
    fed(book, [Message(APPLY, [(5_000, 1)], [], Status.VERIFIED)], True)
    assert book.tick == 1_000
