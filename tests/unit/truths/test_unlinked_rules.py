"""Rules for the book of an unlinked feed, each by a tiny feed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from naive_unlinked import Correction, Level, Message, Rules, VendorBook
from test_unlinked_book import apply_batch, make_book, read_corrections, read_row

from deltabook.schemas.names import Status
from deltabook.udfs.truths.unlinked_book import UnlinkedBook

pytestmark = pytest.mark.kernel

RULES = Rules(reseed_after=3, warm_time=10)
DEPTH = 3
BIDS: list[Level] = [(100, 1), (99, 1), (98, 1)]
ASKS: list[Level] = [(101, 1), (102, 1), (103, 1)]
TRUE = VendorBook(BIDS, ASKS)


class Feed:
    """A book to which messages and vendor books are applied one by one, or several in one batch."""

    def __init__(self, rules: Rules = RULES, depth: int = DEPTH):
        self.book = make_book(rules, depth)
        self.time = 0
        self.waiting: list[VendorBook] = []
        self.turns: list[Any] = []
        self.corrections: list[Correction] = []
        self.status: list[str] = []
        self.depths: list[int] = []

    def vendor(self, bids: list[Level] | None = None, asks: list[Level] | None = None) -> None:
        """Receive a vendor book before the next message, or at the end of the batch."""
        self.waiting.append(VendorBook(BIDS if bids is None else bids, ASKS if asks is None else asks))

    def message(self, bids: Any = (), asks: Any = (), pause: int = 1, **parts: bool) -> None:
        """Add a message to the batch."""
        self.time += pause
        self.turns.append((self.waiting, Message(self.time, bids, asks, **parts)))
        self.waiting = []

    def apply(self, every_message: bool = True) -> list[dict[str, Any]]:
        """Apply the batch, and the vendor books after its last message.

        Return each row with its message, the status and the known depth.
        """
        rows, corrections, status = apply_batch(self.book, self.turns, every_message, self.waiting)
        self.status = [Status(code).label for code in status]
        self.depths = rows.known_depth.tolist()
        self.turns, self.waiting, self.corrections = [], [], read_corrections(corrections)
        return [
            read_row(rows, row)
            | {"message": at, "status": Status(status[at]).label, "depth": int(rows.known_depth[at])}
            for row, at in enumerate(rows.message.tolist())
        ]

    def last(self, bids: Any = (), asks: Any = (), pause: int = 1, **parts: bool) -> dict[str, Any]:
        """Apply the batch with one more message; return the row after it."""
        self.message(bids, asks, pause, **parts)
        return self.apply()[-1]


def seeded(rules: Rules = RULES, depth: int = DEPTH) -> Feed:
    """Return a feed whose book equals a true vendor book, of which three levels a side are known."""
    feed = Feed(rules, depth)
    feed.message(begins_session=True)
    feed.vendor()
    row = feed.last()
    assert (row["status"], row["bids"], row["asks"]) == ("unverifiable", BIDS[:depth], ASKS[:depth])
    assert row["known"] == [min(depth, 3)] * 2
    return feed


def test_messages_alone_build_a_book_after_ten_seconds_without_a_crossing() -> None:
    feed = Feed()
    assert feed.last([(90, 1)], begins_session=True)["status"] == "warming"
    assert feed.last([(100, 1)], [(101, 1)])["status"] == "warming"
    assert feed.last(pause=9)["status"] == "warming"
    # A removed level begins the ten seconds again, and so does an empty side.
    assert feed.last(asks=[(100, 1)])["status"] == "suspect"
    assert feed.last(pause=9)["status"] == "warming"
    assert feed.last(asks=[(100, 0), (101, 0)])["status"] == "warming"
    assert feed.last(asks=[(102, 1)])["status"] == "warming"
    assert feed.last(pause=9)["status"] == "warming"
    row = feed.last()
    assert (row["status"], row["bids"], row["asks"]) == ("unverifiable", [(90, 1)], [(102, 1)])
    # No level is known: better bids may be missing that have not changed since.
    assert (row["known"], row["depth"]) == ([0, 0], 0)


def test_a_bid_between_the_best_ask_and_a_later_one_is_known() -> None:
    feed = Feed(Rules(warm_time=1))
    feed.message([(90, 1)], [(100, 1)], begins_session=True)
    feed.message([], [(100, 0), (110, 1)])
    row = feed.last([(105, 1)])
    assert (row["status"], row["known"]) == ("unverifiable", [1, 0])


def test_a_book_that_waits_for_a_vendor_book_is_hidden_until_then() -> None:
    feed = Feed(Rules(warms=False))
    feed.message([(97, 1), (99, 5)], [(110, 1)], begins_session=True)
    feed.message([(96, 1)], pause=100)
    rows = feed.apply()
    assert [(row["message"], row["status"], row["bids"]) for row in rows] == [(0, "unseeded", [])]
    feed.vendor()
    row = feed.last()
    assert (row["status"], row["levels"], row["known"]) == ("unverifiable", [5, 4], [3, 3])
    assert (row["bids"], row["asks"]) == (BIDS, ASKS)


def test_a_seed_replaces_the_levels_in_the_vendors_range_alone() -> None:
    feed = Feed(depth=9)
    feed.message([(100, 9), (99, 1), (95, 9)], [(102, 1), (104, 9)], begins_session=True)
    feed.vendor([(100, 1), (98, 1)], [(101, 1), (103, 1)])
    row = feed.last()
    assert row["bids"] == [(100, 1), (98, 1), (95, 9)]
    assert row["asks"] == [(101, 1), (103, 1), (104, 9)]
    assert (row["known"], row["depth"]) == ([2, 2], 2)
    assert {(one.side, one.price, one.old_size, one.new_size) for one in feed.corrections} == {
        ("bid", 100, 9, 1),
        ("bid", 99, 1, 0),
        ("bid", 98, 0, 1),
        ("ask", 101, 0, 1),
        ("ask", 102, 1, 0),
        ("ask", 103, 0, 1),
    }
    assert {one.kind for one in feed.corrections} == {"seeded"}


def test_the_shorter_side_of_a_vendor_book_may_have_more_levels() -> None:
    feed = Feed()
    feed.message([(90, 1)], begins_session=True)
    feed.vendor([(100, 1)], ASKS)
    row = feed.last([(95, 1)])
    assert (row["bids"], row["levels"]) == ([(100, 1), (95, 1), (90, 1)], [3, 3])
    assert (row["known"], row["depth"]) == ([1, 3], 1)
    row = feed.last([(100, 0)])
    assert (row["bids"][0], row["known"], row["depth"]) == ((95, 1), [0, 3], 0)


def test_three_vendor_books_in_a_row_correct_a_level() -> None:
    feed = seeded()
    for status in ("suspect", "suspect"):  # the best bid is disputed
        feed.vendor([(99, 1), (98, 1)])
        row = feed.last()
        assert (row["status"], row["bids"], row["known"]) == (status, BIDS, [0, 0])
        assert feed.corrections == []
    feed.vendor([(99, 1), (98, 1)])
    row = feed.last()
    assert (row["status"], row["bids"], row["known"]) == ("unverifiable", BIDS[1:], [2, 3])
    assert feed.corrections == [Correction(0, "bid", 100, 1, 0, "stranded", 0)]


def test_a_dispute_below_the_best_level_limits_what_is_known() -> None:
    feed = seeded()
    feed.vendor(asks=[(101, 1), (102, 7), (103, 1)])
    row = feed.last()
    assert (row["status"], row["asks"]) == ("unverifiable", ASKS)
    assert (row["known"], row["depth"]) == ([3, 1], 1)


@pytest.mark.parametrize("ends", ["vendor book", "message", "delete"])
def test_an_equal_vendor_book_or_a_message_ends_a_dispute(ends: str) -> None:
    feed = seeded()
    for _ in range(2):
        feed.vendor(BIDS[1:])
        feed.message()
    assert feed.apply()[-1]["status"] == "suspect"
    if ends == "vendor book":
        feed.vendor()
    row = feed.last({"message": [(100, 1)], "delete": [(100, 0)]}.get(ends, []))
    bids = BIDS[1:] if ends == "delete" else BIDS
    assert (row["status"], row["bids"], row["known"]) == ("unverifiable", bids, [len(bids), 3])
    feed.vendor(BIDS[1:])  # the count begins anew
    feed.message([(100, 1)])
    feed.vendor(BIDS[1:])
    row = feed.last()
    assert (row["status"], row["bids"], feed.corrections) == ("suspect", BIDS, [])


def test_a_vendor_book_that_does_not_reach_a_level_says_nothing_of_it() -> None:
    feed = seeded()
    feed.vendor([(100, 1)], [(101, 1)])
    assert feed.last()["known"] == [3, 3]


def test_a_level_that_only_the_vendor_has_is_added_where_the_book_is_not_known() -> None:
    feed = seeded(depth=9)
    feed.vendor([*BIDS, (97, 1), (96, 1)], [(101, 1), (102, 1), (103, 1), (104, 1), (105, 1)])
    row = feed.last()
    assert (row["bids"], row["known"]) == ([*BIDS, (97, 1), (96, 1)], [5, 5])
    feed.message([(97, 0), (98, 0)])
    feed.vendor([*BIDS, (97, 1), (96, 1)], [(101, 1), (102, 1), (103, 1), (104, 1), (105, 1)])
    row = feed.last()  # a message has deleted them
    assert (row["bids"], row["known"]) == ([(100, 1), (99, 1), (96, 1)], [3, 5])


def test_a_level_that_the_first_vendor_book_of_its_price_lacks_is_missing_until_a_message_sets_it() -> None:
    feed = Feed()
    feed.message(begins_session=True)
    feed.vendor([(99, 1), (98, 1), (97, 1)])  # wrong: the best bid is missing
    for _ in range(5):
        feed.vendor()
        row = feed.last()
        assert (row["status"], row["bids"][0], row["known"][0]) == ("unverifiable", (99, 1), 3)
    assert feed.last([(100, 2)])["bids"][0] == (100, 2)


def test_a_message_that_crosses_removes_the_older_level() -> None:
    feed = seeded()
    feed.message()
    feed.message([(101, 4)])
    row = feed.apply()[-1]
    assert (row["status"], row["known"]) == ("suspect", [0, 0])
    assert (row["bids"], row["asks"]) == ([(101, 4), (100, 1), (99, 1)], ASKS[1:])
    assert feed.corrections == [Correction(1, "ask", 101, 1, 0, "crossed", 0)]
    row = feed.last()
    assert (row["status"], row["known"]) == ("unverifiable", [3, 2])


def test_a_message_removes_every_older_level_that_it_crosses() -> None:
    feed = seeded()
    row = feed.last(asks=[(99, 3)])
    assert (row["bids"], row["asks"]) == ([(98, 1)], [(99, 3), (101, 1), (102, 1)])
    assert [(one.price, one.kind) for one in feed.corrections] == [(100, "crossed"), (99, "crossed")]


def test_a_message_that_sets_both_levels_that_cross_or_a_book_without_repair_stays_crossed() -> None:
    feed = seeded()
    row = feed.last([(105, 1)], [(105, 1), (101, 0), (102, 0), (103, 0)])
    assert (row["status"], row["bids"][0], row["asks"][0]) == ("suspect", (105, 1), (105, 1))
    feed = seeded(Rules(repairs=False))
    row = feed.last([(101, 1)])
    assert (row["status"], row["bids"][0], row["asks"][0]) == ("suspect", (101, 1), (101, 1))
    assert feed.corrections == []


def test_one_vendor_book_corrects_a_level_that_crosses() -> None:
    feed = seeded(Rules(repairs=False, reseed_after=100))
    feed.message([(102, 1)])
    feed.vendor([(100, 1), (99, 1), (98, 1)])
    row = feed.last()
    assert (row["status"], row["bids"], row["asks"]) == ("unverifiable", BIDS, ASKS)
    assert feed.corrections == [Correction(1, "bid", 102, 1, 0, "stranded", 0)]


def test_a_vendor_book_restores_a_level_that_was_removed() -> None:
    feed = seeded()
    assert feed.last([(101, 4)])["asks"] == ASKS[1:]
    feed.vendor()
    row = feed.last([(101, 0)])
    assert row["asks"] == ASKS
    assert feed.corrections == [Correction(0, "ask", 101, 0, 1, "restored", 0)]


def test_a_vendor_book_does_not_restore_a_level_that_a_message_deleted_after_its_removal() -> None:
    feed = seeded()
    feed.message([(101, 4)])
    feed.message([(101, 0)], [(101, 0)])
    feed.vendor()
    assert feed.last()["asks"] == ASKS[1:]


def test_a_vendor_book_replaces_a_book_that_has_been_crossed_for_long() -> None:
    feed = seeded(Rules(repairs=False, reseed_after=3))
    feed.message([(103, 5), (97, 5)], [(102, 9)])
    feed.message(pause=1)
    feed.vendor([(101, 2), (100, 1)], [(102, 1), (104, 1)])
    row = feed.last(pause=2)
    assert (row["status"], row["bids"]) == ("unverifiable", [(101, 2), (100, 1), (99, 1)])
    assert row["asks"] == [(102, 1), (104, 1)]
    assert row["levels"] == [5, 2]  # bids below the vendor's stay
    assert {one.kind for one in feed.corrections} == {"reseeded"}


def test_a_missing_part_makes_the_book_suspect_until_a_vendor_book_replaces_it_all() -> None:
    feed = seeded(depth=9)
    feed.message([(90, 1)])
    row = feed.last([(100, 2)], lacks_part=True)
    assert (row["status"], row["bids"][0], row["known"]) == ("suspect", (100, 2), [0, 0])
    assert feed.last(pause=5)["status"] == "suspect"
    feed.vendor()
    row = feed.last()
    assert (row["status"], row["bids"], row["known"]) == ("unverifiable", BIDS, [3, 3])
    assert {(one.price, one.kind) for one in feed.corrections} == {(100, "reseeded"), (90, "reseeded")}


def test_without_a_vendor_book_a_damaged_book_is_stable_after_ten_seconds_but_not_known() -> None:
    feed = seeded()
    feed.message(lacks_part=True)
    assert feed.last(pause=9)["status"] == "suspect"
    row = feed.last()
    assert (row["status"], row["known"], row["depth"]) == ("unverifiable", [0, 0], 0)


def test_a_session_begins_with_an_empty_book() -> None:
    feed = seeded()
    row = feed.last([(50, 1)], [(60, 1)], begins_session=True)
    assert (row["status"], row["bids"], row["asks"]) == ("warming", [(50, 1)], [(60, 1)])
    assert row["known"] == [0, 0]


def test_what_a_vendor_book_contradicts_is_lowered_back_to_the_vendor_book_before() -> None:
    feed = seeded()
    feed.vendor()
    for _ in range(3):
        feed.message()
    feed.vendor([(100, 1), (98, 1), (97, 1)], [(102, 1), (103, 1)])  # lacks the second bid and the best ask
    feed.message()
    rows = feed.apply()
    assert [(row["status"], row["known"], row["depth"]) for row in rows] == [("suspect", [0, 0], 0)] * 4


def test_what_a_crossing_shows_to_be_stranded_is_lowered_where_it_is_among_the_top_levels() -> None:
    feed = seeded()
    feed.vendor()
    feed.message([(99, 0), (98, 0)])
    feed.message([(100, 0), (99, 5)])
    feed.message([], [(99, 1)])
    rows = feed.apply()
    assert [row["bids"] for row in rows] == [[(100, 1)], [(99, 5)], []]
    assert [row["status"] for row in rows] == ["unverifiable", "suspect", "suspect"]


def test_a_side_that_messages_empty_does_not_cross() -> None:
    feed = seeded()
    row = feed.last([(price, 0) for price, _ in BIDS], [(95, 1)])
    assert (row["status"], row["bids"], row["levels"]) == ("unverifiable", [], [0, 4])
    assert feed.corrections == []


@pytest.mark.parametrize("begins_batch", [False, True])
def test_what_is_lowered_after_the_fact_does_not_depend_on_which_rows_are_written(begins_batch: bool) -> None:
    found = []
    for every_message in (True, False):
        feed = seeded()
        feed.vendor()
        feed.message([(100, 5)])
        if begins_batch:  # no message of the next batch has a row of its own
            feed.apply(every_message)
        feed.message()
        feed.message()
        feed.vendor(BIDS[1:])
        feed.message()
        feed.apply(every_message)
        found.append((feed.status, feed.depths))
    assert found[1] == found[0] == (["suspect"] * len(feed.status), [0] * len(feed.status))


def test_a_vendor_book_after_the_last_message_lowers_it() -> None:
    feed = seeded()
    feed.message()
    feed.vendor(BIDS[1:])
    (row,) = feed.apply()
    assert (row["status"], row["known"], row["depth"]) == ("suspect", [0, 0], 0)
    assert feed.book.status == Status.SUSPECT
    assert feed.last()["status"] == "suspect"


def test_corrections_after_the_last_message_are_at_that_message() -> None:
    feed = seeded()
    feed.message()
    feed.message()
    for _ in range(3):
        feed.vendor(BIDS[1:])
    feed.apply()
    assert feed.corrections == [Correction(1, "bid", 100, 1, 0, "stranded", 1)]


def test_a_row_is_written_when_a_message_makes_a_level_known_again() -> None:
    feed = seeded()
    feed.vendor([(100, 1), (98, 1), (97, 1)])
    feed.message()
    feed.message([(99, 1)])  # sets the size that the disputed bid has
    rows = feed.apply(every_message=False)
    assert [(row["message"], row["known"], row["depth"]) for row in rows] == [(0, [1, 3], 1), (1, [3, 3], 3)]


def carry(book: UnlinkedBook, depth: int = DEPTH) -> UnlinkedBook:
    """Return the book that continues from the state of another one."""
    (bids, asks), known = book.sides, book.known
    return UnlinkedBook(bids, asks, depth, book.status, known, book.support, book.rules)


@pytest.mark.parametrize("case", ["known", "disputed", "best disputed", "suspect", "empty side", "unsettled"])
def test_a_book_that_continues_knows_as_many_levels_as_after_the_last_message(case: str) -> None:
    feed = seeded()
    if case == "disputed":
        feed.vendor(asks=[(101, 1), (102, 7), (103, 1)])
    elif case == "best disputed":
        feed.vendor(BIDS[1:])
    changes = {"unsettled": [(101, 1)], "empty side": [(100, 0), (99, 0), (98, 0)]}
    row = feed.last(changes.get(case, []), lacks_part=case == "suspect")
    expected = {"known": 3, "disputed": 1}.get(case, 0)
    assert row["depth"] == carry(feed.book).count_known() == expected


def test_prices_that_were_marked_stay_marked_from_batch_to_batch() -> None:
    feed = seeded()
    feed.vendor(BIDS[1:], [(101, 1), (103, 1)])
    feed.vendor(BIDS[1:])
    feed.last([(90, 1)])
    support = feed.book.support
    assert support.disputed_bids.tolist() == [100, 100]
    assert support.disputed_asks.tolist() == []
    feed.book = carry(feed.book)
    feed.last([(103, 4)], [(104, 1)])
    support = feed.book.support
    assert (support.removed_asks.tolist(), support.is_unsettled) == ([101, 102, 103], True)
    assert np.array_equal(support.removed_bids, [])
