"""The book of an unlinked feed against the plain oracle, after every message, in any batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import naive_unlinked as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_unlinked import Message, VendorBook
from properties import cases

from deltabook.schemas.names import NOT_GIVEN, Status
from deltabook.udfs.orderbook.book import SideChanges, TopOfBookRows
from deltabook.udfs.orderbook.continuity import APPLY, UpdateVerdicts
from deltabook.udfs.orderbook.known_range import NOTHING_KNOWN
from deltabook.udfs.orderbook.ranked_book import ASK, BID
from deltabook.udfs.truths.support import CROSSED, RESEEDED, RESTORED, SEEDED, STRANDED, SupportRules
from deltabook.udfs.truths.unlinked_book import NO_SUPPORT, LevelCorrections, UnlinkedBook
from deltabook.udfs.truths.vendor_books import VendorBooks

pytestmark = pytest.mark.kernel

KINDS = {SEEDED: "seeded", RESEEDED: "reseeded", STRANDED: "stranded", CROSSED: "crossed"}
KINDS |= {RESTORED: "restored"}
RULES = naive.Rules(reseed_after=3, warm_time=4)
Side = list[tuple[int, int]]


def make_book(rules: naive.Rules, depth: int) -> UnlinkedBook:
    """Return a book of which nothing is known."""
    nothing = np.empty(0, dtype=np.int64)
    known = (NOTHING_KNOWN, NOTHING_KNOWN)
    support_rules = SupportRules(True, rules.warms, rules.repairs, rules.reseed_after, rules.warm_time)
    return UnlinkedBook(
        (nothing, nothing), (nothing, nothing), depth, NOT_GIVEN, known, NO_SUPPORT, support_rules
    )


def make_changes(sides: list[Sequence[Any]]) -> SideChanges:
    flat = np.array([level for side in sides for level in side], dtype=np.int64).reshape(-1, 2)
    return SideChanges(np.cumsum([0, *map(len, sides)]), flat[:, 0].copy(), flat[:, 1].copy())


def proven_status(message: Message) -> Status:
    """Return what a message itself proves."""
    if message.begins_session:
        return Status.UNSEEDED
    return Status.SUSPECT if message.lacks_part else Status.UNVERIFIABLE


def apply_messages(
    book: UnlinkedBook, messages: list[Message], vendor: VendorBooks, before: Any, every_message: bool
) -> tuple[TopOfBookRows, LevelCorrections, list[int]]:
    """Apply messages and vendor books; return the rows, the corrections and the status after each message."""
    nothing = np.full(len(messages), NOT_GIVEN, dtype=np.int64)
    status = np.array([proven_status(message) for message in messages], dtype=np.int8)
    verdicts = UpdateVerdicts(
        np.full(len(messages), APPLY, dtype=np.int8), status, nothing.astype(np.int8), nothing, nothing
    )
    rows, corrections = book.apply_unlinked(
        make_changes([message.bids for message in messages]),
        make_changes([message.asks for message in messages]),
        np.array([message.time for message in messages], dtype=np.int64),
        verdicts,
        vendor,
        np.array(before, dtype=np.int64),
        every_message,
    )
    return rows, corrections, verdicts.status.tolist()


def apply_batch(
    book: UnlinkedBook, turns: list[naive.Turn], every_message: bool, after: Sequence[VendorBook] = ()
) -> tuple[TopOfBookRows, LevelCorrections, list[int]]:
    """Apply a batch of the oracle's turns, and vendor books after the last message; see `apply_messages`."""
    groups = [*(books for books, _ in turns), after]
    vendor = [one for books in groups for one in books]
    before = [index for index, books in enumerate(groups) for _ in books]
    numbers = np.arange(len(vendor), dtype=np.int64)
    sides = (make_changes([getattr(one, side) for one in vendor]) for side in ("bids", "asks"))
    books = VendorBooks(0 * numbers, numbers, numbers, *sides)
    return apply_messages(book, [message for _, message in turns], books, before, every_message)


def read_row(rows: TopOfBookRows, row: int) -> dict[str, Any]:
    sides = []
    for side in (BID, ASK):
        start, end = rows.offsets[side][row : row + 2].tolist()
        levels = zip(rows.prices[side][start:end], rows.sizes[side][start:end], strict=True)
        sides.append([(int(price), int(size)) for price, size in levels])
    counts = (rows.levels[row].tolist(), rows.known[row].tolist())
    return {"bids": sides[BID], "asks": sides[ASK], "levels": counts[0], "known": counts[1]}


def read_corrections(corrections: LevelCorrections) -> list[naive.Correction]:
    columns = (
        corrections.message,
        corrections.side,
        corrections.price,
        corrections.old_size,
        corrections.new_size,
        corrections.kind,
        corrections.since,
    )
    return [
        naive.Correction(message, naive.NAMES[side], price, old_size, new_size, KINDS[kind], since)
        for message, side, price, old_size, new_size, kind, since in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def in_order(corrections: Sequence[naive.Correction]) -> list[naive.Correction]:
    return sorted(
        corrections, key=lambda one: (one.message, one.side, one.price, one.kind, one.old_size, one.new_size)
    )


def describe(state: naive.State) -> dict[str, Any]:
    return {"bids": state.bids, "asks": state.asks, "levels": [*state.levels], "known": state.known}


def describe_support(book: UnlinkedBook) -> dict[str, Any]:
    """Return all that a book carries to the next batch, as `describe_oracle` does."""
    support, sides = book.support, []
    marks = (
        (support.disputed_bids, support.removed_bids),
        (support.disputed_asks, support.removed_asks),
    )
    for (prices, sizes), known, (disputed, removed) in zip(book.sides, book.known, marks, strict=True):
        levels = dict(zip(prices.tolist(), sizes.tolist(), strict=True))
        assert not known.is_whole
        sides.append((levels, known.price, disputed.tolist(), {*removed.tolist()}))
    times = (support.crossed_since, support.warm_since)
    return {
        "phase": support.phase.label,
        "times": times,
        "is_unsettled": support.is_unsettled,
        "sides": sides,
    }


def describe_oracle(oracle: naive.Book) -> dict[str, Any]:
    times = tuple(NOT_GIVEN if time is None else time for time in (oracle.crossed_since, oracle.stable_since))
    sides = [
        (
            side.levels,
            side.known_from,
            sorted(price for price, times in side.disputed.items() for _ in range(times)),
            side.removed,
        )
        for side in oracle.sides
    ]
    return {"phase": oracle.phase, "times": times, "is_unsettled": oracle.is_unsettled, "sides": sides}


FAR = 70
"""Levels a side far from the best, so that ranks lie in several words of the bitmaps."""
PRICES = (st.integers(100, 104), st.integers(104, 108))
"""Prices of bids and of asks. Only the price that both can have makes them cross."""
ANY_PRICE = st.integers(100, 108)


def list_changes(most: int) -> Any:
    """Draw level changes of bids and of asks."""
    sizes = st.sampled_from([0, 0, 1, 2])
    return st.tuples(*(st.lists(st.tuples(prices, sizes), max_size=most) for prices in PRICES))


@st.composite
def draw_sides(draw: Any) -> tuple[Side, Side]:
    """Draw valid sides of a vendor's book: two-sided, sorted and not crossed."""
    prices = sorted(draw(st.sets(ANY_PRICE, min_size=2, max_size=7)))
    cut = draw(st.integers(1, len(prices) - 1))
    sizes = draw(st.lists(st.integers(1, 2), min_size=len(prices), max_size=len(prices)))
    levels = list(zip(prices, sizes, strict=True))
    return levels[:cut][::-1], levels[cut:]


@dataclass(frozen=True)
class VendorDraw:
    """A vendor book: arbitrary, or the book itself with some levels changed, removed or added.

    Attributes
    ----------
    count
        Number of levels to which both sides are cut.
    sides
        The arbitrary book.
    changes
        None: the arbitrary book. Otherwise the changes of the book itself, bids and asks.
    """

    count: int
    sides: tuple[Side, Side]
    changes: tuple[Side, Side] | None

    def make(self, book: naive.Book) -> VendorBook:
        sides = list(self.sides)
        if self.changes is not None:
            changed = []
            for side, changes in zip(book.sides, self.changes, strict=True):
                levels = {price: size for price, size in (side.levels | dict(changes)).items() if size}
                changed.append([(price, levels[price]) for price in side.best_first(levels)])
            if all(changed) and changed[0][0][0] < changed[1][0][0]:
                sides = changed
        return VendorBook(*(side[: self.count] for side in sides))


@dataclass(frozen=True)
class MessageDraw:
    pause: int
    sides: tuple[Side, Side]
    part: str
    vendor: list[VendorDraw]


VENDOR = st.builds(VendorDraw, st.integers(1, 8), draw_sides(), st.none() | list_changes(2))
MESSAGE = st.builds(
    MessageDraw,
    st.integers(0, 3),
    list_changes(3),
    st.sampled_from(["whole"] * 18 + ["missing", "session"]),
    st.lists(VENDOR, max_size=2) | st.lists(VENDOR, max_size=1),
)


@dataclass(frozen=True)
class BatchDraw:
    """A batch: index of its first message, the messages, and vendor books after the last one."""

    first: int
    messages: list[MessageDraw]
    after: list[VendorDraw]


@dataclass
class Batch:
    """A batch as it was made while the oracle applied it, and what the oracle says."""

    turns: list[naive.Turn]
    after: list[VendorBook]
    states: list[naive.State]
    corrections: list[naive.Correction]


def make_batch(draw: BatchDraw, oracle: naive.Book, start: int, far: int) -> Batch:
    """Make the messages and vendor books of a batch, and apply them to the oracle.

    A vendor book may depend on the book just before it.
    """
    turns: list[naive.Turn] = []
    after: list[VendorBook] = []

    def take() -> Iterator[naive.Turn]:
        time = start
        for index, one in enumerate(draw.messages):
            time += one.pause
            begins = one.part == "session" or draw.first + index == 0
            bids, asks = map(list, one.sides)
            if begins:
                bids += [(price, 1) for price in range(1, far + 1)]
                asks += [(price, 1) for price in range(201, 201 + far)]
            message = Message(time, bids, asks, begins, one.part == "missing")
            vendor: list[VendorBook] = []
            turns.append((vendor, message))
            yield LazyVendorBooks(one.vendor, oracle, vendor), message

    states, corrections = oracle.apply(take(), LazyVendorBooks(draw.after, oracle, after))
    return Batch(turns, after, states, corrections)


@dataclass
class LazyVendorBooks:
    """Vendor books that are made when the oracle comes to them; `made` collects them."""

    draws: list[VendorDraw]
    oracle: naive.Book
    made: list[VendorBook]

    def __iter__(self) -> Iterator[VendorBook]:
        for draw in self.draws:
            self.made.append(draw.make(self.oracle))
            yield self.made[-1]


def batches_of(
    draws: list[MessageDraw], cuts: list[int], after: list[VendorDraw], is_early: bool
) -> list[BatchDraw]:
    """Cut a feed into batches.

    With `is_early`, the vendor books before the first message of a batch are used at the end of the one
    before.
    """
    bounds = sorted({0, *(min(cut, len(draws)) for cut in cuts), len(draws)})
    batches = []
    for begin, end in pairwise(bounds):
        messages = draws[begin:end]
        if begin and is_early:
            messages = [replace(messages[0], vendor=[]), *messages[1:]]
        next_vendor = draws[end].vendor if is_early and end < len(draws) else []
        batches.append(BatchDraw(begin, messages, after if end == len(draws) else next_vendor))
    return batches


FEED = {
    "draws": st.lists(MESSAGE, min_size=5, max_size=20),
    "cuts": st.lists(st.integers(1, 20), max_size=3),
    "after": st.lists(VENDOR, max_size=2),
    "is_early": st.booleans(),
    "depth": st.sampled_from([1, 2, 4, 20]),
    "far": st.sampled_from([0, 0, 1, FAR]),
    "rules": st.builds(
        naive.Rules,
        warms=st.booleans(),
        repairs=st.sampled_from([True, True, False]),
        reseed_after=st.sampled_from([0, 3, 100]),
        warm_time=st.sampled_from([1, 4]),
    ),
}


@cases(800, uncompiled=60)
@given(**FEED)
def test_book_equals_the_oracle_after_every_message(
    draws: list[MessageDraw],
    cuts: list[int],
    after: list[VendorDraw],
    is_early: bool,
    depth: int,
    far: int,
    rules: naive.Rules,
) -> None:
    oracle, book, time = naive.Book(rules, depth), make_book(rules, depth), 0
    for draw in batches_of(draws, cuts, after, is_early):
        batch = make_batch(draw, oracle, time, far)
        time = batch.turns[-1][1].time
        rows, corrections, status = apply_batch(book, batch.turns, True, batch.after)
        found = {int(at): read_row(rows, row) for row, at in enumerate(rows.message)}
        expected = {
            at: describe(state)
            for at, state in enumerate(batch.states)
            if at in found or state.status != "unseeded"
        }
        assert found == expected
        assert [Status(code).label for code in status] == [state.status for state in batch.states]
        assert rows.known_depth.tolist() == [state.known_depth for state in batch.states]
        assert in_order(read_corrections(corrections)) == in_order(batch.corrections)
        assert describe_support(book) == describe_oracle(oracle)


def check_rows_on_change(
    draws: list[MessageDraw],
    cuts: list[int],
    after: list[VendorDraw],
    is_early: bool,
    depth: int,
    far: int,
    rules: naive.Rules,
) -> None:
    """Compare what the last row before or at each message says with what the oracle says of the message."""
    oracle, book, time = naive.Book(rules, depth), make_book(rules, depth), 0
    shown: dict[str, Any] = {}
    for draw in batches_of(draws, cuts, after, is_early):
        batch = make_batch(draw, oracle, time, far)
        time = batch.turns[-1][1].time
        rows, _, status = apply_batch(book, batch.turns, False, batch.after)
        written = {int(at): read_row(rows, row) for row, at in enumerate(rows.message)}
        assert len(written) == len(rows.message)
        for at, state in enumerate(batch.states):
            if at in written:
                shown = written[at] | {"status": Status(status[at]).label}
            expected = describe(state) | {"status": state.status}
            del expected["levels"]  # a row counts the levels that the book had when the row was written
            if state.is_lowered:
                del expected["known"]
            assert {name: shown[name] for name in expected} == expected, at
            assert Status(status[at]).label == state.status, at
        assert rows.known_depth.tolist() == [state.known_depth for state in batch.states]
        assert describe_support(book) == describe_oracle(oracle)


@cases(600, uncompiled=40)
@given(**(FEED | {"cuts": st.just([])}))
def test_rows_on_change_say_what_the_oracle_says_after_every_message(**feed: Any) -> None:
    check_rows_on_change(**feed)


@cases(400, uncompiled=40)
@given(**FEED)
def test_rows_on_change_say_what_the_oracle_says_in_any_batches(**feed: Any) -> None:
    check_rows_on_change(**feed)
