"""Books of a simulated exchange whose messages are lost, or whose vendor books are wrong."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from events import COMPILED
from naive_unlinked import Level, Message, Rules, State
from test_unlinked_book import apply_messages, make_book, read_row

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import Status
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.truths.vendor_books import VendorBookQueue, queue_vendor_books

pytestmark = pytest.mark.kernel

STEP_NS = 100_000_000
"""Time from one message to the next."""
RULES = Rules(reseed_after=2_000_000_000, warm_time=10_000_000_000)
MESSAGES = 3_000 if COMPILED else 200
SHOWN = 10
"""Levels a side of a vendor book."""
Sides = tuple[list[Level], list[Level]]
"""Bids and asks, best first."""


class Exchange:
    """An exchange whose true book is known. It is never crossed, and has more levels than a vendor shows.

    Parameters
    ----------
    seed : int
        Seed of the random orders.
    """

    def __init__(self, seed: int):
        self.random = Random(seed)
        self.middle = 10_000
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for distance in range(1, 41):
            for side in (0, 1):
                if self.random.random() < 0.7:
                    self.sides[side][self._price(side, distance)] = self._size()

    def _price(self, side: int, distance: int) -> int:
        return self.middle - distance if side == 0 else self.middle + distance - 1

    def _size(self) -> int:
        return self.random.randint(1, 9)

    def top(self, depth: int) -> Sides:
        bids, asks = (sorted(side.items()) for side in self.sides)
        return bids[::-1][:depth], asks[:depth]

    def change(self) -> Sides:
        """Change some levels; return the new sizes, 0 for a level that is gone."""
        before = [dict(side) for side in self.sides]
        self.middle += self.random.choice([-1, 0, 0, 0, 0, 1])
        for side in (0, 1):  # what the middle has passed is traded away
            passed = [p for p in self.sides[side] if (p >= self.middle if side == 0 else p < self.middle)]
            for price in passed:
                del self.sides[side][price]
        for _ in range(self.random.randint(0, 3)):
            side = self.random.randint(0, 1)
            price = self._price(side, min(int(self.random.expovariate(0.25)) + 1, 40))
            if self.random.random() < 0.45:
                self.sides[side].pop(price, None)
            else:
                self.sides[side][price] = self._size()
        for side in (0, 1):
            while len(self.sides[side]) < SHOWN + 2:
                self.sides[side][self._price(side, self.random.randint(1, 40))] = self._size()
        changes = [
            [(price, now.get(price, 0)) for price in was | now if was.get(price) != now.get(price)]
            for was, now in zip(before, self.sides, strict=True)
        ]
        return changes[0], changes[1]


class Feed(NamedTuple):
    """What was recorded of an exchange.

    Attributes
    ----------
    messages : list of Message
        Messages in order; their ids are their indices.
    truth : list of (list, list)
        The true best levels after each message.
    vendor : list of (int, list, list)
        Id of the last message that each vendor book includes, and its levels: SHOWN a side, and one more that
        takes the place of a lost one.
    """

    messages: list[Message]
    truth: list[Sides]
    vendor: list[tuple[int, list[Level], list[Level]]]


def record(seed: int, count: int, period: int = 10, lost_deletes: float = 0) -> Feed:
    """Return a feed with true vendor books, about every `period` messages."""
    exchange, random = Exchange(seed), Random(seed + 1)
    messages, truth, vendor = [], [], []
    for number in range(count):
        sides = tuple(
            [(price, size) for price, size in side if size or random.random() >= lost_deletes]
            for side in exchange.change()
        )
        messages.append(Message(number * STEP_NS, *sides, begins_session=number == 0))
        truth.append(exchange.top(SHOWN))
        if random.random() < 1 / period:
            vendor.append((number, *exchange.top(SHOWN + 1)))
    return Feed(messages, truth, vendor)


def queue_vendor(feed: Feed) -> VendorBookQueue:
    columns = {name: [] for name in SIDE_NAMES}
    for _, *sides in feed.vendor:
        for name, (side, part) in zip(SIDE_NAMES, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
            columns[name].append([level[part] for level in sides[side][:SHOWN]])
    ids = [number for number, *_ in feed.vendor]
    kinds = {name: pa.array(lists, pa.list_(pa.int64())) for name, lists in columns.items()}
    numbers = {"epoch": [0] * len(ids), "sequence": ids, "received": [at * STEP_NS + 1 for at in ids]}
    ints = {name: pa.array(values, pa.int64()) for name, values in numbers.items()}
    return queue_vendor_books(pa.table(ints | kinds), Scaled(0, 0))


def rebuild(feed: Feed, size: int = 10_000) -> tuple[list[State], VendorBookQueue]:
    """Rebuild the books in batches of `size` messages."""
    book, queue, states = make_book(RULES, SHOWN), queue_vendor(feed), []
    for start in range(0, len(feed.messages), size):
        messages = feed.messages[start : start + size]
        ids = np.arange(start, start + len(messages))
        last = (0, start - 1) if start else None
        vendor, before = queue.take_before(0 * ids, ids, ids * STEP_NS, last)
        rows, _, status = apply_messages(book, messages, vendor, before, every_message=True)
        assert rows.message.tolist() == list(range(len(messages)))
        for row, code in enumerate(status):
            depth = int(rows.known_depth[row])
            states.append(State(Status(code).label, **read_row(rows, row), known_depth=depth))
    return states, queue


class Mistakes(NamedTuple):
    """Counts over the books that are told.

    Attributes
    ----------
    told, known : int
        Sides that are told, and those of which at least the best level is known.
    wrong_best, wrong_level : int
        Known sides with a wrong best price, and with any wrong known level.
    """

    told: int
    known: int
    wrong_best: int
    wrong_level: int


def count_mistakes(feed: Feed, states: list[State]) -> Mistakes:
    told = known = wrong_best = wrong_level = 0
    for state, truth in zip(states, feed.truth, strict=True):
        if state.status != "unverifiable":
            continue
        for shown, true, count in zip((state.bids, state.asks), truth, state.known, strict=True):
            told += 1
            known += count > 0
            wrong_best += count > 0 and shown[0][0] != true[0][0]
            wrong_level += shown[:count] != true[:count]
    return Mistakes(told, known, wrong_best, wrong_level)


def cross(random: Random, bids: list[Level], asks: list[Level]) -> Sides:
    """Return a crossed book: one side still has a level that the other side has passed."""
    depth = random.randint(1, 3)
    if random.random() < 0.5:
        return [(asks[min(depth, len(asks)) - 1][0] + 1, 5), *bids], asks
    return bids, [(bids[min(depth, len(bids)) - 1][0] - 1, 5), *asks]


def falsify(
    random: Random, bids: list[Level], asks: list[Level], kind: str, worst: tuple[int, int] = (0, 10**9)
) -> Sides:
    """Return a book with one wrong level, half the time the best one: `lost`, `resized` or `added`.

    The wrong level is not worse than the bid or ask price of `worst`.
    """
    sides = [list(bids), list(asks)]
    side, sign = random.choice([(0, 1), (1, -1)])
    levels = sides[side]
    choice = [at for at, (price, _) in enumerate(levels[:SHOWN]) if sign * price >= sign * worst[side]]
    at = 0 if random.random() < 0.5 else random.choice(choice or [0])
    if at not in choice:
        return bids, asks
    if kind == "lost":
        del levels[at]
    elif kind == "resized":
        levels[at] = (levels[at][0], levels[at][1] + 1)
    else:  # just better than the level, where there is none
        price = levels[at][0] + sign
        best_other = sides[1 - side][0][0]
        if price not in dict(levels) and sign * price < sign * best_other:
            levels.insert(at, (price, 5))
    return sides[0], sides[1]


def corrupt(
    feed: Feed, share: float, kind: str, seed: int, most_in_a_row: int = 10**9, is_within: bool = True
) -> Feed:
    """Return the feed with a share of its vendor books made wrong: `crossed`, or as `falsify` does.

    Parameters
    ----------
    feed : Feed
        A feed with true vendor books.
    share : float
        Share of the vendor books that become wrong, from 0 to 1.
    kind : str
        `crossed`, a kind of `falsify`, or `any` of these kinds.
    seed : int
        Seed of the choices.
    most_in_a_row : int
        Number of successive vendor books that can be wrong.
    is_within : bool
        Whether a level is only wrong in the price range of an earlier vendor book.
    """
    random, vendor, in_a_row = Random(seed), [], 0
    worst = (10**9, 0) if is_within else (0, 10**9)
    for number, bids, asks in feed.vendor:
        sides = (bids, asks)
        in_a_row += 1
        if random.random() >= share or in_a_row > most_in_a_row:
            in_a_row = 0
        else:
            mistake = random.choice(["lost", "resized", "added"]) if kind == "any" else kind
            sides = cross(random, *sides) if kind == "crossed" else falsify(random, *sides, mistake, worst)
        vendor.append((number, *sides))
        worst = (min(worst[0], sides[0][SHOWN - 1][0]), max(worst[1], sides[1][SHOWN - 1][0]))
    return feed._replace(vendor=vendor)


@pytest.mark.parametrize("period", [2, 10, 50])
@pytest.mark.parametrize("size", [10_000, 17])
def test_true_vendor_books_and_all_messages_give_true_books(period: int, size: int) -> None:
    feed = record(seed=period, count=MESSAGES, period=period)
    found = count_mistakes(feed, rebuild(feed, size)[0])
    assert (found.wrong_best, found.wrong_level) == (0, 0)
    if COMPILED:
        assert found.known >= 0.99 * found.told >= 0.97 * 2 * MESSAGES


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_crossed_vendor_books_are_as_good_as_none(share: float) -> None:
    feed = corrupt(record(seed=1, count=MESSAGES), share, "crossed", seed=2)
    states, queue = rebuild(feed)
    crossed = [one for one in feed.vendor if one[1][0][0] >= one[2][0][0]]
    assert sum(queue.rejected[name] for name in ("crossed", "locked")) == len(crossed) > 0
    found = count_mistakes(feed, states)
    assert (found.wrong_best, found.wrong_level) == (0, 0)
    rest = feed._replace(vendor=[one for one in feed.vendor if one not in crossed])
    assert rebuild(rest)[0] == states


def sum_mistakes(share: float, kind: str, **rules: Any) -> Mistakes:
    """Count the mistakes in the books of several feeds with wrong vendor books."""
    counts = []
    for seed in range(4 if COMPILED else 1):
        feed = corrupt(record(seed, MESSAGES, period=5), share, kind, seed, **rules)
        counts.append(count_mistakes(feed, rebuild(feed)[0]))
    return Mistakes(*map(sum, zip(*counts, strict=True)))


@pytest.mark.parametrize("share", [0.1, 0.4])
@pytest.mark.parametrize("kind", ["lost", "resized", "added", "any"])
def test_two_wrong_vendor_books_in_a_row_make_no_known_level_wrong(kind: str, share: float) -> None:
    found = sum_mistakes(share, kind, most_in_a_row=2)
    assert (found.wrong_best, found.wrong_level) == (0, 0)
    if COMPILED:
        assert found.known >= 0.75 * 4 * 2 * MESSAGES


@pytest.mark.parametrize("kind", ["lost", "resized", "added", "any"])
def test_few_told_best_prices_are_wrong_if_vendor_books_are_often_wrong(kind: str) -> None:
    # Three in a row that are wrong at the same level are believed, and so is one that is the first to show a
    # price.
    found = sum_mistakes(0.4, kind, is_within=False)
    assert found.wrong_best <= 0.001 * found.known
    assert found.wrong_level <= 0.005 * found.known


@pytest.mark.parametrize(("kind", "most"), [("lost", 0.005), ("resized", 0), ("added", 0.002)])
def test_a_wrong_first_vendor_book_is_believed_until_it_is_contradicted(kind: str, most: float) -> None:
    known = wrong = 0
    for seed in range(20):
        feed = record(seed, count=400)
        number, bids, asks = feed.vendor[0]
        first = (number, *falsify(Random(seed), bids, asks, kind))
        found = count_mistakes(feed, rebuild(feed._replace(vendor=[first, *feed.vendor[1:]]))[0])
        known, wrong = known + found.known, wrong + found.wrong_best
    assert wrong <= most * known


@pytest.mark.parametrize(("lost", "period"), [(0.001, 10), (0.001, 50), (0.01, 5), (0.01, 10)])
def test_lost_deletes_make_few_told_best_prices_wrong(lost: float, period: int) -> None:
    known = wrong = 0
    for seed in range(3 if COMPILED else 1):
        feed = record(seed, MESSAGES, period, lost)
        states, _ = rebuild(feed)
        found = count_mistakes(feed, states)
        known, wrong = known + found.known, wrong + found.wrong_best
        for bids, asks, truth in list_told_best(feed, states):
            # Only a stranded level is wrong, which a message has set again before the next vendor book. No
            # level is missing.
            assert bids >= truth[0][0][0] and asks <= truth[1][0][0]
    assert wrong < 0.001 * known
    if COMPILED:
        assert known >= 0.9 * 2 * 3 * MESSAGES


def list_told_best(feed: Feed, states: list[State]) -> list[tuple[int, int, Sides]]:
    """Return the best bid and ask of the books that are told with both known, and the true levels."""
    return [
        (state.bids[0][0], state.asks[0][0], truth)
        for state, truth in zip(states, feed.truth, strict=True)
        if state.status == "unverifiable" and all(state.known)
    ]
