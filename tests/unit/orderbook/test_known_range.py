"""How deep a book is known: what a cut snapshot cannot show is never counted as known, nor verified."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from events import depth, events_of, feed, read_lines, rebuilder, snapshot
from hypothesis import given
from hypothesis import strategies as st
from properties import cases
from venue import FETCHED, WITH_IDS, Event, Sides, Venue, book_of

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import FULL_DEPTH, Cadence, RowPolicy
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.orderbook.known_range import NOTHING_KNOWN, WHOLE, KnownRange
from deltabook.udfs.orderbook.price_ranks import rank_prices
from deltabook.udfs.orderbook.ranked_book import ASK, BID
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.rebuild.rebuilder import Rebuilder

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("narrow_bitmaps")]

MILLISECOND = 1_000_000
CUT = (*FETCHED, "tardis")
"""Feeds whose snapshots may lack levels."""

_SIDE = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=4)
WALK = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.integers(7, 14),
        _SIDE,
        _SIDE,
        st.sampled_from(["", "", "", "", "after", "inside"]),
    ),
    min_size=3,
    max_size=16,
)
"""Ids that a diff spans, the price below which all bids are, its bids and asks (distance from that price and
size), and whether a snapshot stands behind it or is of the midst of it."""


def walk(name: str, steps: Iterable[Any]) -> Venue:
    """A venue whose prices move, and whose book is never crossed."""
    venue, middle = Venue(name), 7
    for place, (length, new_middle, bids, asks, kind) in enumerate(steps):
        gone = [(price, 0) for price in venue.book[BID] if price >= new_middle]
        bought = [(price, 0) for price in venue.book[ASK] if price < new_middle]
        told_bids = gone + [(new_middle - 1 - away, size) for away, size in bids]
        # The venue counts asks from above the bids.
        told_asks = [
            (price - 12, size) for price, size in bought + [(new_middle + away, size) for away, size in asks]
        ]
        if kind == "inside" and new_middle > middle:
            kind = "after"  # with its bids alone, the book would be crossed
        venue.step(length, told_bids, told_asks, "after" if place == 0 else kind)
        middle = new_middle
    return venue


def cut(events: list[Event], count: int) -> list[Event]:
    """The events with at most so many levels of each side of a snapshot."""
    found = []
    for event in events:
        if event["is_snapshot"]:
            event = dict(event)
            for side, sign in (("bid", -1), ("ask", 1)):
                pairs = zip(event[f"{side}_prices"], event[f"{side}_sizes"], strict=True)
                best = sorted(pairs, key=lambda pair: sign * pair[0])[:count]
                event[f"{side}_prices"], event[f"{side}_sizes"] = map(
                    list, zip(*best, strict=True) if best else ([], [])
                )
        found.append(event)
    return found


def building_of(name: str, levels: int = 100, cadence: Cadence = Cadence.MESSAGE) -> Rebuilder:
    return Rebuilder("X", "Y", FEEDS[name], RowPolicy(levels, cadence), Scaled(8, 8), BookState())


def rows_of(building: Rebuilder, events: list[Event], size: int = 10_000) -> list[dict[str, Any]]:
    return feed(building, pa.RecordBatch.from_pylist(events, schema=FLAT_EVENTS.arrow), size)


def best_first(sides: Sides) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return sorted(sides[BID].items(), reverse=True), sorted(sides[ASK].items())


def check_sound(row: dict[str, Any], truth: Sides) -> None:
    """What a row calls known is the truth, and if it is verified, so are its best levels."""
    counts = row["bid_known_levels"], row["ask_known_levels"]
    for ours, true, count in zip(best_first(book_of(row)), best_first(truth), counts, strict=True):
        assert ours[:count] == true[:count]
        if row["status"] == "verified":
            assert ours[:1] == true[:1]
            assert count > 0 or not true
            assert set(ours) <= set(true)
        assert row["status"] not in ("unseeded", "suspect") or count == 0


@pytest.mark.parametrize("name", CUT)
@cases(300)
@given(
    steps=WALK,
    shown=st.integers(1, 3),
    size=st.sampled_from([1, 3, 10_000]),
    cadence=st.sampled_from(list(Cadence)),
    data=st.data(),
)
def test_known_levels_of_a_cut_snapshot_are_those_of_the_full_book(
    name: str, steps: Any, shown: int, size: int, cadence: Cadence, data: st.DataObject
) -> None:
    venue = walk(name, steps)
    full = {row["sequence"]: row for row in rows_of(building_of(name), venue.events)}
    rows = rows_of(building_of(name, cadence=cadence), cut(venue.events, shown), size)
    for row in rows:
        check_sound(row, venue.truth[row["sequence"]])
        if row["status"] == "verified":
            assert full[row["sequence"]]["status"] == "verified"
            check_sound(row, book_of(full[row["sequence"]]))
    if name in WITH_IDS:
        lost = data.draw(st.integers(0, len(venue.events) - 1))
        for row in rows_of(building_of(name), cut(venue.events[:lost] + venue.events[lost + 1 :], shown)):
            check_sound(row, venue.truth[row["sequence"]])


@pytest.mark.parametrize("name", ["okx", "bybit", "kraken"])
@cases(100)
@given(steps=WALK, size=st.sampled_from([1, 3, 10_000]))
def test_whole_snapshots_make_every_level_known(name: str, steps: Any, size: int) -> None:
    venue = walk(name, steps)
    building = building_of(name)
    rows = rows_of(building, venue.events, size)
    for row in rows:
        if row["status"] != "unseeded":
            assert (row["bid_known_levels"], row["ask_known_levels"]) == (
                row["bid_levels"],
                row["ask_levels"],
            )
            assert book_of(row) == venue.truth[row["sequence"]]
    assert {row["status"] for row in rows[-1:]} <= {"verified", "checked"}
    assert building.book.count_known() == FULL_DEPTH


@pytest.mark.parametrize("name", FETCHED)
@cases(100)
@given(steps=WALK, shown=st.integers(1, 3))
def test_deeper_snapshots_never_make_less_known(name: str, steps: Any, shown: int) -> None:
    venue = walk(name, steps)
    few, more = (rows_of(building_of(name), cut(venue.events, count)) for count in (shown, shown + 2))
    for less, better in zip(few, more, strict=True):
        assert less["sequence"] == better["sequence"]
        for name in ("bid_known_levels", "ask_known_levels"):
            assert less[name] <= better[name]
        assert less["status"] == better["status"] or (less["status"], better["status"]) == (
            "unverifiable",
            "verified",
        )


def told(*lines: str, size: int = 10_000, levels: int = 20, cadence: Cadence = Cadence.MESSAGE) -> list[Any]:
    """(status, known bids, known asks) of every row of a spot feed."""
    rows = feed(rebuilder("spot", levels, cadence), events_of(read_lines(lines)), size)
    return [(row["status"], row["bid_known_levels"], row["ask_known_levels"]) for row in rows]


BIDS = [("10", "1"), ("9", "1"), ("8", "1")]
ASKS = [("11", "1"), ("12", "1"), ("13", "1")]
SEED = (depth("spot", 99, 100), snapshot("spot", 100, BIDS, ASKS))


@pytest.mark.parametrize("cadence", list(Cadence))
@pytest.mark.parametrize("size", [1, 10_000])
def test_book_is_not_verified_once_the_levels_of_its_snapshot_are_gone(cadence: Cadence, size: int) -> None:
    removals = [
        depth("spot", 101 + turn, 101 + turn, [], [(price, "0")]) for turn, (price, _) in enumerate(ASKS)
    ]
    later = [depth("spot", 104, 104, [], [("20", "1")]), depth("spot", 105, 105, [], [("13", "2")])]
    later += [depth("spot", 106, 106, [], [("13", "0")])]
    assert told(*SEED, *removals, *later, size=size, cadence=cadence) == [
        ("unseeded", 0, 0),
        ("verified", 3, 3),
        ("verified", 3, 2),
        ("verified", 3, 1),
        ("unverifiable", 3, 0),
        ("unverifiable", 3, 0),
        ("verified", 3, 1),
        ("unverifiable", 3, 0),
    ]


def test_level_beyond_the_snapshot_is_shown_and_not_known() -> None:
    deep = depth("spot", 101, 101, [("7", "1"), ("8.5", "1")], [("14", "1"), ("12.5", "1")])
    assert told(*SEED, deep)[-1] == ("verified", 4, 4)
    assert told(*SEED, deep, levels=2)[-1] == ("verified", 2, 2)


def test_prices_that_the_market_moves_over_are_known() -> None:
    """While an ask stands at 13, no bid is at 13 or above; so a bid at 12 that is set later hides none."""
    bought = depth("spot", 101, 101, [("12", "1")], [("11", "0"), ("12", "0")])
    sold = depth("spot", 102, 102, [(price, "0") for price, _ in (*BIDS, ("12", "1"))], [("9.5", "1")])
    again = depth("spot", 103, 103, [("9.4", "1")], [])
    refilled = depth("spot", 104, 104, [("9.45", "1")], [("9.5", "0"), ("9.6", "1")])
    assert told(*SEED, bought, sold, again, refilled)[2:] == [
        ("verified", 4, 1),
        ("unverifiable", 0, 2),
        ("verified", 1, 2),
        ("verified", 2, 2),
    ]


def test_prices_are_known_that_the_market_falls_to() -> None:
    gone = depth("spot", 101, 101, [(price, "0") for price, _ in BIDS] + [("5", "1")], [])
    fallen = depth("spot", 102, 102, [], [("6", "1")])
    bid = depth("spot", 103, 103, [("5.5", "1"), ("6", "0")], [])
    risen = depth("spot", 104, 104, [("6.5", "1")], [("6", "0")])
    assert told(*SEED, gone, fallen, bid, risen)[2:] == [
        ("unverifiable", 0, 3),
        ("unverifiable", 0, 4),
        ("unverifiable", 0, 4),
        ("verified", 1, 3),
    ]


def test_deeper_snapshot_on_an_unbroken_chain_adds_levels_and_verifies_again() -> None:
    gone = depth("spot", 101, 101, [], [(price, "0") for price, _ in ASKS] + [("15", "9")])
    asks = [("14", "1"), ("15", "9"), ("16", "1")]
    lines = [*SEED, gone, snapshot("spot", 101, BIDS, asks), depth("spot", 102, 102, [("10", "2")])]
    rows = feed(rebuilder("spot"), events_of(read_lines(lines)))
    assert [(row["status"], row["ask_known_levels"]) for row in rows[1:3]] == [
        ("verified", 3),
        ("unverifiable", 0),
    ]
    assert rows[-1]["ask_prices"] == [price * 10**8 for price in (14, 15, 16)]
    assert (rows[-1]["status"], rows[-1]["ask_known_levels"]) == ("verified", 3)


def test_merged_snapshot_leaves_levels_alone_that_the_book_knows_or_has() -> None:
    beyond = depth("spot", 101, 101, [("7", "5")])
    bids = [("10", "8"), ("9.5", "8"), ("7", "8"), ("6", "8")]
    lines = [*SEED, beyond, snapshot("spot", 101, bids, ASKS), depth("spot", 102, 102, [("10", "2")])]
    last = feed(rebuilder("spot"), events_of(read_lines(lines)))[-1]
    found = list(zip(last["bid_prices"], last["bid_sizes"], strict=True))
    expected = [(10, 2), (9, 1), (8, 1), (7, 5), (6, 8)]
    assert [(price // 10**8, size // 10**8) for price, size in found] == expected
    assert last["bid_known_levels"] == 5


def test_row_of_a_snapshot_ahead_of_the_chain_does_not_call_the_book_before_it_verified() -> None:
    """The snapshot is of id 103. The diff that tells what 102 and 103 changed comes after it."""
    lines = [
        *SEED,
        depth("spot", 101, 101),
        snapshot("spot", 103, [("9.5", "1"), *BIDS[1:], ("7", "1")], ASKS),
    ]
    lines += [depth("spot", 102, 104, [("10", "0"), ("9.5", "1")])]
    rows = feed(rebuilder("spot"), events_of(read_lines(lines)))
    assert [price / 10**8 for price in rows[-1]["bid_prices"]] == [9.5, 9, 8, 7]
    assert (rows[-1]["status"], rows[-1]["bid_known_levels"]) == ("verified", 4)
    for row in rows:
        if row["sequence"] == 103 and row["status"] == "verified":
            assert row["bid_prices"][0] == 950_000_000


def test_nothing_is_known_of_a_suspect_book() -> None:
    lines = [
        *SEED,
        depth("spot", 101, 101),
        depth("spot", 103, 103),
        depth("spot", 104, 104, [("10.5", "1")]),
    ]
    assert told(*lines, snapshot("spot", 110, BIDS, ASKS), depth("spot", 111, 111))[1:] == [
        ("verified", 3, 3),
        ("verified", 3, 3),
        ("suspect", 0, 0),
        ("suspect", 0, 0),
        ("verified", 3, 3),
        ("verified", 3, 3),
    ]


def test_crossed_book_extends_no_range() -> None:
    crossed = depth("spot", 101, 101, [("14", "1")])
    later = depth("spot", 102, 102, [("14", "0")], [("13.5", "1")])
    assert told(*SEED, crossed, later)[2:] == [("verified", 4, 3), ("verified", 3, 3)]


@pytest.mark.parametrize("size", [1, 10_000])
def test_what_an_emptied_side_had_is_not_its_best_level(size: int) -> None:
    """With no ask in the book, the best bid teaches nothing of the asks."""
    lines = [
        *SEED,
        depth("spot", 101, 101, [], [*((price, "0") for price, _ in ASKS), ("20", "1")]),
        depth("spot", 102, 102, [], [("20", "0")]),
        depth("spot", 103, 103, [("15", "1")]),
        depth("spot", 104, 104, [("15", "0")], [("14", "1")]),
    ]
    assert told(*lines, size=size)[2:] == [
        ("unverifiable", 3, 0),
        ("unverifiable", 3, 0),
        ("unverifiable", 4, 0),
        ("unverifiable", 3, 0),
    ]


@pytest.mark.parametrize(
    ("name", "pause", "kind"),
    [
        ("bybit", 0, "sequence_gap"),
        ("bybit", RowPolicy().session_break, "new_session"),
        ("okx", RowPolicy().session_break, "new_session"),
        ("kraken", RowPolicy().session_break, "new_session"),
    ],
)
def test_snapshot_after_lost_messages_is_not_compared_with_the_book_before_it(
    name: str, pause: int, kind: str
) -> None:
    venue = Venue(name)
    for turn in range(4):
        venue.step(1, [(turn + 1, 1)], [(turn + 1, 1)], "after" if turn in (0, 3) else "")
    first, second, third, *_, last = venue.events
    last = last | {"order_time": last["order_time"] + pause}
    building = building_of(name)
    rows = rows_of(building, [first, second, third, last])
    assert rows[-1]["status"] in ("verified", "checked")
    kinds = [one for one, comparison in building.take_comparisons().items() if comparison.compared]
    assert kinds == (["checksum"] if name == "kraken" else [])
    (gap,) = (gap for gap in building.finish() if gap["kind"] != "clock_jump")
    assert (gap["kind"], gap["resolved_sequence"]) == (kind, last["sequence"])


@pytest.mark.parametrize("size", [1, 10_000])
def test_coverage_counts_the_time_for_which_levels_are_known(size: int) -> None:
    asks = [(str(11 + level), "1") for level in range(6)]
    bids = [(str(10 - level), "1") for level in range(6)]
    gone = [(price, "0") for price, _ in asks]
    lines = [depth("spot", 99, 100), snapshot("spot", 100, bids, asks)]
    lines += [depth("spot", 110, 110, [], gone[:1]), depth("spot", 130, 130, [], gone[1:3])]
    lines += [depth("spot", 160, 160, [], gone[3:]), depth("spot", 200, 200)]
    events = events_of(read_lines([line.replace(f'"U":{number}', '"U":1') for line, number in
                                   zip(lines, (99, 0, 110, 130, 160, 200), strict=True)]))  # fmt: skip
    building = rebuilder("spot")
    feed(building, events, size)
    (row,) = building.coverage.take_rows()
    # 6 levels for 10 ms, 5 for 20 ms, 3 for 30 ms, none for 40 ms.
    times = {
        name: row[name] // MILLISECOND
        for name in ("verified", "unverifiable", "known_1", "known_5", "known_20")
    }
    assert times == {"verified": 60, "unverifiable": 40, "known_1": 60, "known_5": 30, "known_20": 0}


@cases(100)
@given(prices=st.sets(st.integers(-50, 50), min_size=1, max_size=20), data=st.data())
def test_rank_of_a_range_leads_back_to_the_range(prices: set[int], data: st.DataObject) -> None:
    ranks = rank_prices([np.array(sorted(prices), dtype=np.int64)], 0)
    known = data.draw(
        st.sampled_from(
            [NOTHING_KNOWN, KnownRange(is_whole=True), *(KnownRange(price=one) for one in prices)]
        )
    )
    for side in (BID, ASK):
        rank = known.find_rank(ranks, side)
        assert KnownRange.from_rank(int(rank), ranks, side) == known
        order = sorted(prices, reverse=side == ASK)
        if known.price is not None:
            assert order[rank] == known.price
        else:
            assert rank == (WHOLE if known.is_whole else len(prices))
