"""Divide ids into chunks: every id has one chunk, and boundaries of chunks with stored rows never move."""

from __future__ import annotations

import itertools
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.names import HOUR, NOT_GIVEN
from deltabook.udfs.ordering.chunk_boundaries import END, IdGroup, IdRange, find_chunk_bounds, merge_chunks

Event = tuple[int, int]
"""(id, hour of its time, counted from 0; -1: no time)"""


def group(hour: int, first: int, last: int) -> IdGroup:
    return IdGroup(hour * HOUR if hour >= 0 else NOT_GIVEN, first, last, 5 * HOUR + 7)


def hours(*ranges: tuple[int, int, int]) -> list[IdRange]:
    return [IdRange(hour * HOUR, first, last) for hour, first, last in ranges]


def groups_of(events: list[Event]) -> list[IdGroup]:
    """A file's messages by hour, as ingest aggregates them."""
    ids: dict[int, list[int]] = defaultdict(list)
    for number, hour in events:
        ids[hour].append(number)
    return [group(hour, min(numbers), max(numbers)) for hour, numbers in ids.items()]


def hour_of(found: list[IdRange], number: int) -> int:
    (hour,) = [hour for hour, (first, end) in find_chunk_bounds(found).items() if first <= number < end]
    return hour // HOUR


def check_disjoint(found: list[IdRange]) -> None:
    assert all(a.hour < b.hour and a.last < b.first for a, b in itertools.pairwise(found))
    assert all(one.first <= one.last for one in found)


def test_first_files_hours_begin_at_their_least_ids() -> None:
    assert merge_chunks([], [group(0, 5, 9), group(1, 10, 30)]) == hours((0, 5, 9), (1, 10, 30))


def test_order_of_groups_does_not_matter() -> None:
    groups = [group(0, 5, 9), group(1, 10, 30), group(2, 31, 31), group(1, 12, 28), group(-1, 11, 11)]
    found = {tuple(merge_chunks([], list(order))) for order in itertools.permutations(groups)}
    assert found == {tuple(hours((0, 5, 9), (1, 10, 30), (2, 31, 31)))}


def test_later_file_of_the_same_hour_raises_its_last_id() -> None:
    assert merge_chunks(hours((0, 5, 9)), [group(0, 10, 20)]) == hours((0, 5, 20))


def test_later_hour_is_added_and_the_earlier_stay() -> None:
    assert merge_chunks(hours((0, 5, 9)), [group(1, 10, 20)]) == hours((0, 5, 9), (1, 10, 20))


def test_earlier_file_lowers_the_first_hour() -> None:
    assert merge_chunks(hours((3, 50, 90)), [group(3, 20, 40)]) == hours((3, 20, 90))


def test_earlier_hour_is_put_before_the_first() -> None:
    assert merge_chunks(hours((3, 50, 90)), [group(2, 20, 40)]) == hours((2, 20, 40), (3, 50, 90))


def test_hour_between_two_is_opened_by_a_late_file() -> None:
    stored = hours((0, 5, 9), (2, 50, 90))
    assert merge_chunks(stored, [group(1, 10, 49)]) == hours((0, 5, 9), (1, 10, 49), (2, 50, 90))


def test_id_that_fell_back_in_time_stays_in_the_hour_that_its_neighbours_reached() -> None:
    """Event times wander: ids 10 to 12 are of hour 1 although 11 is stamped in hour 0."""
    found = merge_chunks([], groups_of([(8, 0), (9, 0), (10, 1), (11, 0), (12, 1)]))
    assert [hour_of(found, number) for number in (8, 9, 10, 11, 12)] == [0, 0, 1, 1, 1]


def test_frozen_boundary_does_not_move_for_a_late_file_on_its_earlier_side() -> None:
    """Id 8 is stored in hour 0; a late id 7 stamped in hour 1 may not pull 8 over."""
    found = merge_chunks(hours((0, 5, 9), (1, 10, 20)), [group(1, 7, 7)])
    assert found == hours((0, 5, 9), (1, 10, 20))


def test_frozen_boundary_does_not_move_for_a_late_file_on_its_later_side() -> None:
    found = merge_chunks(hours((0, 5, 9), (1, 10, 20)), [group(0, 15, 15)])
    assert found == hours((0, 5, 9), (1, 10, 20))


def test_ids_between_two_stored_hours_go_where_their_time_says() -> None:
    stored = hours((0, 5, 9), (1, 50, 60))
    assert merge_chunks(stored, [group(1, 20, 49)]) == hours((0, 5, 9), (1, 20, 60))
    assert merge_chunks(stored, [group(0, 10, 49)]) == hours((0, 5, 49), (1, 50, 60))
    assert merge_chunks(stored, [group(0, 10, 30), group(1, 31, 49)]) == hours((0, 5, 30), (1, 31, 60))


def test_messages_without_a_time_join_the_hour_around_them() -> None:
    """Spot snapshots have no time: before all diffs, between them and after."""
    stored = hours((0, 5, 9), (1, 10, 20))
    assert merge_chunks(stored, [group(-1, 3, 3)]) == hours((0, 3, 9), (1, 10, 20))
    assert merge_chunks(stored, [group(-1, 9, 9)]) == stored
    assert merge_chunks(stored, [group(-1, 25, 25)]) == hours((0, 5, 9), (1, 10, 25))


def test_nothing_but_messages_without_a_time_takes_the_hour_of_receipt() -> None:
    assert merge_chunks([], [group(-1, 3, 4), group(-1, 1, 1)]) == hours((5, 1, 4))
    assert merge_chunks([], [IdGroup(NOT_GIVEN, 3, 3)]) == hours((0, 3, 3))


def test_hour_that_only_a_stray_stamp_names_is_dropped_when_later_ids_are_frozen() -> None:
    """Hour 1 would begin at id 15, which lies inside the frozen hour 2."""
    stored = hours((0, 5, 9), (2, 10, 20))
    assert merge_chunks(stored, [group(1, 15, 15)]) == stored


def test_last_hour_has_no_end() -> None:
    assert find_chunk_bounds(hours((0, 5, 9), (1, 12, 20))) == {0: (5, 12), HOUR: (12, END)}


def test_message_without_a_time_below_a_first_hour_that_is_never_reached_is_placed() -> None:
    """A snapshot, then a diff stamped in hour 1, then one back in hour 0: the snapshot may not be lost."""
    found = merge_chunks([], groups_of([(0, -1), (1, 1), (2, 0)]))
    assert [hour_of(found, number) for number in (0, 1, 2)] == [1, 1, 1]
    stored = merge_chunks(hours((2, 10, 20)), groups_of([(3, -1), (15, 1)]))
    assert [hour_of(stored, number) for number in (3, 10, 15)] == [2, 2, 2]


FILES = st.lists(
    st.dictionaries(st.integers(0, 40), st.integers(-1, 4), min_size=1, max_size=10), min_size=1, max_size=5
)


@cases(3_000)
@given(files=FILES)
def test_wild_files_in_any_order_are_placed_disjoint_and_move_nothing_stored(
    files: list[dict[int, int]],
) -> None:
    found: list[IdRange] = []
    placed: dict[int, int] = {}
    for file in files:
        found = merge_chunks(found, groups_of(list(file.items())))
        check_disjoint(found)
        for number, hour in placed.items():
            assert hour_of(found, number) == hour
        for number in file:
            placed[number] = hour_of(found, number)
            one = next(one for one in found if one.hour == placed[number] * HOUR)
            assert one.first <= number <= one.last


CLEAN = st.lists(st.integers(0, 2), min_size=3, max_size=30).map(
    lambda steps: list(itertools.accumulate(steps))
)


@cases(600)
@given(stamps=CLEAN, data=st.data())
def test_clean_files_give_the_same_hours_in_any_order_of_arrival(
    stamps: list[int], data: st.DataObject
) -> None:
    """Times that rise with the ids: however the feed is cut and in whatever order it comes."""
    events = list(enumerate(stamps, start=100))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(events) - 1), max_size=5)))
    files = [events[start:end] for start, end in itertools.pairwise([0, *cuts, len(events)])]
    found: list[IdRange] = []
    for file in data.draw(st.permutations(files)):
        found = merge_chunks(found, groups_of(file))
    assert found == merge_chunks([], groups_of(events))
    assert [hour_of(found, number) for number, _ in events] == stamps


@cases(300)
@given(files=FILES)
def test_same_file_again_moves_no_boundary(files: list[dict[int, int]]) -> None:
    found: list[IdRange] = []
    for file in files:
        found = merge_chunks(found, groups_of(list(file.items())))
    for file in files:
        assert find_chunk_bounds(merge_chunks(found, groups_of(list(file.items())))) == find_chunk_bounds(
            found
        )
