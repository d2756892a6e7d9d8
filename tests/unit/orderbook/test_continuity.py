"""Judge books by ids: small feeds test each rule; on random feeds the verdicts equal a simple oracle's."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import Market, Update, in_feed_order, rebuild
from properties import cases

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import STATUS_LABELS, GapKind
from deltabook.udfs.orderbook.continuity import (
    APPLY,
    IGNORE,
    MERGE,
    RESET,
    UpdateIds,
    check_updates,
    initial_state,
)

pytestmark = pytest.mark.kernel

RULES = {"spot": FEEDS["binance"], "usdm": FEEDS["binance_futures"]}
SEQUENCE_GAP, UNBRIDGEABLE = GapKind.SEQUENCE_GAP, GapKind.UNBRIDGEABLE_SNAPSHOT
NEW_SESSION = GapKind.NEW_SESSION
BREAK = 10
"""Time without a message after which a recording session may have ended, in these tests."""
Judged = list[tuple[int, str, tuple[int, int, int] | None]]


def snapshot(last: int, time: int = 0) -> Update:
    return Update(True, last, (), (), timestamp=time)


def diff(first: int, last: int, previous: int | None = None, time: int = 0) -> Update:
    before = first - 1 if previous is None else previous
    return Update(False, last, (), (), first, before, timestamp=time)


def ids_of(
    sequence: list[int],
    is_snapshot: list[bool] | None = None,
    first: list[int] | None = None,
    previous: list[int] | None = None,
    epoch: list[int] | None = None,
    damaged: list[bool] | None = None,
    time: list[int] | None = None,
    is_linked: bool = True,
) -> UpdateIds:
    n = len(sequence)
    numbers = [np.array(values, dtype=np.int64) for values in (epoch or [0] * n, first or sequence)]
    numbers += [np.array(values, dtype=np.int64) for values in (previous or sequence, sequence)]
    flags = [
        np.array(values, dtype=np.bool_) for values in (is_snapshot or [False] * n, damaged or [False] * n)
    ]
    times = np.array(time or [0] * n, dtype=np.int64)
    return UpdateIds(flags[0], *numbers, np.full(n, is_linked), flags[1], times)


def judge(market: Market, updates: list[Update], size: int = 10_000) -> Judged:
    """(action, status, (kind, expected, found) of a gap) of every message, in batches of `size`."""
    state = initial_state()
    judged: Judged = []
    held: list[Update] = []
    for start in range(0, len(updates), size):
        batch = held + updates[start : start + size]
        verdicts, misplaced = check_updates(
            RULES[market],
            ids_of(
                [update.sequence for update in batch],
                [update.is_snapshot for update in batch],
                [update.first_sequence for update in batch],
                [-1 if market == "spot" else update.prev_sequence for update in batch],
                time=[update.timestamp for update in batch],
            ),
            state,
            BREAK,
            final=start + size >= len(updates),
        )
        assert misplaced == -1
        held = batch[len(verdicts.action) :]
        gaps = zip(*(getattr(verdicts, name).tolist() for name in ("gap", "expected", "found")), strict=True)
        judged += [
            (action, STATUS_LABELS[status], gap if gap[0] >= 0 else None)
            for action, status, gap in zip(
                verdicts.action.tolist(), verdicts.status.tolist(), gaps, strict=True
            )
        ]
    return judged


def play(market: Market, *updates: Update) -> tuple[list[int], list[str], list[tuple[int, int, int]]]:
    judged = judge(market, list(updates))
    return (
        [action for action, _, _ in judged],
        [status for _, status, _ in judged],
        [gap for _, _, gap in judged if gap],
    )


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_diffs_without_a_snapshot_are_ignored_and_unseeded(market: Market) -> None:
    assert play(market, diff(1, 2), diff(3, 4), diff(9, 9)) == ([IGNORE] * 3, ["unseeded"] * 3, [])


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_snapshot_seeds_and_verifies(market: Market) -> None:
    assert play(market, diff(1, 2), snapshot(10)) == ([IGNORE, RESET], ["unseeded", "verified"], [])


@pytest.mark.parametrize(("first", "last"), [(11, 12), (5, 11), (11, 11), (10, 20)])
def test_spot_diff_that_holds_the_id_after_the_snapshot_bridges(first: int, last: int) -> None:
    assert play("spot", snapshot(10), diff(first, last)) == ([RESET, APPLY], ["verified"] * 2, [])


def test_spot_diff_at_the_snapshots_id_is_stale() -> None:
    assert play("spot", snapshot(10), diff(8, 10)) == ([RESET, IGNORE], ["verified"] * 2, [])


@pytest.mark.parametrize(("first", "last", "previous"), [(10, 12, 3), (5, 10, 3), (90, 95, 10), (1, 12, 99)])
def test_futures_diff_that_holds_or_follows_the_snapshots_id_bridges(
    first: int, last: int, previous: int
) -> None:
    assert play("usdm", snapshot(10), diff(first, last, previous)) == ([RESET, APPLY], ["verified"] * 2, [])


@pytest.mark.parametrize("previous", [9, 11])
def test_futures_diff_that_does_neither_is_an_unbridgeable_snapshot(previous: int) -> None:
    actions, statuses, gaps = play("usdm", snapshot(10), diff(11, 12, previous))
    assert (actions, statuses) == ([RESET, APPLY], ["verified", "suspect"])
    assert gaps == [(UNBRIDGEABLE, 10, previous)]


def test_spot_diff_that_leaves_ids_out_after_a_snapshot_is_an_unbridgeable_snapshot() -> None:
    actions, statuses, gaps = play("spot", snapshot(10), diff(12, 15))
    assert (actions, statuses, gaps) == ([RESET, APPLY], ["verified", "suspect"], [(UNBRIDGEABLE, 11, 12)])


def test_spot_hole_is_one_gap_and_suspect_until_the_next_snapshot() -> None:
    updates = [snapshot(10), diff(11, 12), diff(14, 15), diff(16, 17), snapshot(18), diff(19, 20)]
    actions, statuses, gaps = play("spot", *updates)
    assert actions == [RESET, APPLY, APPLY, APPLY, RESET, APPLY]
    assert statuses == ["verified", "verified", "suspect", "suspect", "verified", "verified"]
    assert gaps == [(SEQUENCE_GAP, 13, 14)]


def test_futures_hole_is_sound_by_the_previous_id_alone() -> None:
    updates = [snapshot(10), diff(9, 12, 8), diff(500, 510, 12), diff(511, 520, 511)]
    assert play("usdm", *updates)[1:] == (["verified"] * 3 + ["suspect"], [(SEQUENCE_GAP, 510, 511)])


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_stale_diff_is_ignored_and_overlap_is_applied(market: Market) -> None:
    actions, statuses, gaps = play(market, snapshot(10), diff(10, 12), diff(11, 12), diff(12, 15, 11))
    assert (actions, statuses, gaps) == ([RESET, APPLY, IGNORE, APPLY], ["verified"] * 4, [])


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_snapshot_on_an_unbroken_chain_is_merged(market: Market) -> None:
    actions, statuses, gaps = play(market, snapshot(10), diff(10, 12), snapshot(13), diff(13, 14, 12))
    assert (actions, statuses, gaps) == ([RESET, APPLY, MERGE, APPLY], ["verified"] * 4, [])


@pytest.mark.parametrize("market", ["spot", "usdm"])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_snapshot_that_the_diff_after_a_hole_bridges_heals_the_book(market: Market, size: int) -> None:
    updates = [snapshot(10), diff(10, 12), snapshot(50), diff(48, 55, 47), diff(56, 57)]
    judged = judge(market, updates, size)
    assert [action for action, _, _ in judged] == [RESET, APPLY, RESET, APPLY, APPLY]
    assert {status for _, status, _ in judged} == {"verified"}
    missing = (13, 48) if market == "spot" else (12, 47)
    assert [gap for _, _, gap in judged if gap] == [(SEQUENCE_GAP, *missing)]


@pytest.mark.parametrize("market", ["spot", "usdm"])
@pytest.mark.parametrize("between", [snapshot(50), snapshot(51)])
def test_a_second_snapshot_does_not_part_the_first_from_the_diff_behind_it(
    market: Market, between: Update
) -> None:
    updates = [snapshot(10), diff(10, 12), snapshot(50), between, diff(48, 55, 47), diff(56, 57)]
    judged = judge(market, updates)
    assert judged[2][0] == RESET
    assert {status for _, status, _ in judged} == {"verified"}


def test_a_snapshot_is_held_against_the_diff_behind_it_and_no_later_one() -> None:
    first, second = [snapshot(10), diff(11, 11), diff(12, 12)], [snapshot(13), diff(13, 13), diff(14, 20)]
    judged = judge("spot", first + second, size=3)
    assert [action for action, _, _ in judged] == [RESET, APPLY, APPLY, MERGE, APPLY, APPLY]
    assert not any(gap for _, _, gap in judged)


def test_futures_snapshot_needs_its_own_id_within_the_diff_or_just_before_it() -> None:
    actions, statuses, gaps = play("usdm", snapshot(10), diff(10, 12), snapshot(50), diff(52, 55, 47))
    assert (actions, statuses[-1], gaps) == (
        [RESET, APPLY, MERGE, APPLY],
        "suspect",
        [(SEQUENCE_GAP, 12, 47)],
    )
    actions, statuses, gaps = play("usdm", snapshot(10), diff(10, 12), snapshot(50), diff(48, 50, 47))
    assert (actions, statuses[-1], gaps) == (
        [RESET, APPLY, RESET, APPLY],
        "verified",
        [(SEQUENCE_GAP, 12, 47)],
    )


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_every_break_while_suspect_is_a_gap_of_its_own(market: Market) -> None:
    _, _, gaps = play(market, snapshot(10), diff(20, 21), diff(30, 31), diff(32, 33))
    assert [kind for kind, _, _ in gaps] == [UNBRIDGEABLE, SEQUENCE_GAP]


def test_row_of_a_smaller_id_is_reported_with_its_index() -> None:
    _, misplaced = check_updates(RULES["spot"], ids_of([5, 6, 4, 7]), initial_state())
    assert misplaced == 2


def test_row_of_a_smaller_id_is_reported_across_batches() -> None:
    state = initial_state()
    for number, expected in ((5, -1), (5, -1), (4, 0)):
        assert check_updates(RULES["spot"], ids_of([number]), state)[1] == expected


def test_a_snapshot_at_the_end_is_judged_unless_more_may_come() -> None:
    ids = ids_of([10, 11, 12], [True, False, True])
    for final, judged in (({}, 3), ({"final": True}, 3), ({"final": False}, 2)):
        assert len(check_updates(RULES["spot"], ids, initial_state(), **final)[0].action) == judged


def test_no_messages_leave_the_state() -> None:
    state = initial_state()
    _, misplaced = check_updates(RULES["spot"], ids_of([]), state)
    assert (misplaced, state.tolist()) == (-1, initial_state().tolist())


IDS = st.one_of(st.integers(1, 25), st.integers(1, 120))
CHAIN = st.lists(
    st.tuples(
        st.sampled_from(["next", "next", "next", "next", "hole", "overlap", "again", "snapshot", "wild"]),
        st.integers(1, 4),
        st.integers(-2, 3),
        IDS,
    ),
    max_size=30,
)


PAUSES = st.dictionaries(st.integers(0, 40), st.sampled_from([1, BREAK - 1, BREAK, BREAK + 1]), max_size=4)


def timed(updates: list[Update], pauses: dict[int, int]) -> list[Update]:
    """The updates, some of them after a pause."""
    times = accumulate(pauses.get(index, 0) for index in range(len(updates)))
    return [replace(update, timestamp=time) for update, time in zip(updates, times, strict=True)]


def feed_of(steps: list[tuple[str, int, int, int]]) -> list[Update]:
    """A chain of ids that is mostly sound, with snapshots, holes, overlaps, duplicates and nonsense."""
    updates: list[Update] = []
    last = 10
    for what, length, shift, number in steps:
        if what == "snapshot":
            updates.append(snapshot(max(0, last + shift)))
        elif what == "wild":
            updates.append(diff(min(number, last), max(number, last), number))
        elif what == "again":
            updates += updates[-length:]
        else:
            skip = {"next": 0, "hole": length, "overlap": -length}[what]
            first = max(0, last + 1 + skip)
            updates.append(diff(first, max(first, last + length), max(0, last + skip)))
            last = updates[-1].sequence
    return in_feed_order(updates)


def oracle(market: Market, updates: list[Update]) -> Judged:
    judged: Judged = []
    known = 0
    for state in rebuild(updates, market, silence=BREAK):
        action = IGNORE if not state.applied else RESET if state.is_snapshot else APPLY
        new = state.gaps[known:]
        known = len(state.gaps)
        (gap,) = new or (None,)
        broken = gap and (int(GapKind[gap.kind.upper()]), gap.expected, gap.found)
        judged.append((MERGE if state.merged else action, state.status, broken))
    return judged


@pytest.mark.parametrize("market", ["spot", "usdm"])
@cases(800)
@given(steps=CHAIN, sizes=st.sampled_from([1, 2, 3, 7]), pauses=PAUSES)
def test_verdicts_equal_the_oracles_in_any_batches(
    market: Market, steps: Any, sizes: int, pauses: dict[int, int]
) -> None:
    updates = timed(feed_of(steps), pauses)
    expected = oracle(market, updates)
    assert judge(market, updates) == expected
    assert judge(market, updates, sizes) == expected


@pytest.mark.parametrize("market", ["spot", "usdm"])
@cases(800)
@given(ids=st.lists(st.tuples(st.booleans(), IDS, IDS, IDS), max_size=25), pauses=PAUSES)
def test_verdicts_equal_the_oracles_on_any_ids(market: Market, ids: Any, pauses: dict[int, int]) -> None:
    updates = in_feed_order(
        snapshot(last) if is_snapshot else diff(min(first, last), max(first, last), previous)
        for is_snapshot, first, last, previous in ids
    )
    updates = timed(updates, pauses)
    assert judge(market, updates) == oracle(market, updates)


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_ids_that_begin_anew_are_a_gap_and_a_snapshot_behind_them_ends_it(market: Market) -> None:
    ids = ids_of([10, 12, 3, 4, 5], [True, False, False, True, False], [10, 11, 2, 4, 5],
                 [9, 10, 1, 3, 4], epoch=[0, 0, 1, 1, 1])  # fmt: skip
    verdicts, misplaced = check_updates(RULES[market], ids, initial_state())
    assert misplaced == -1
    assert verdicts.action.tolist() == [RESET, APPLY, APPLY, RESET, APPLY]
    assert [STATUS_LABELS[status] for status in verdicts.status] == [
        "verified", "verified", "suspect", "verified", "verified"
    ]  # fmt: skip
    assert verdicts.gap.tolist() == [-1, -1, SEQUENCE_GAP, -1, -1]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_a_damaged_message_makes_the_book_suspect_until_the_next_snapshot(market: Market) -> None:
    ids = ids_of([10, 12, 14, 16, 17], [True, False, False, True, False], [10, 11, 13, 16, 17],
                 [9, 10, 12, 15, 16], damaged=[False, True, False, False, False])  # fmt: skip
    verdicts, _ = check_updates(RULES[market], ids, initial_state())
    assert [STATUS_LABELS[status] for status in verdicts.status] == [
        "verified", "suspect", "suspect", "verified", "verified"
    ]  # fmt: skip
    assert verdicts.gap.tolist() == [-1, GapKind.QUARANTINED_ROW, -1, -1, -1]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_restart_of_the_ids_is_a_gap_that_names_both_ids_and_ends_at_a_snapshot(market: Market) -> None:
    ids = ids_of(
        [10, 12, 5, 7, 9, 10],
        [True, False, False, False, True, False],
        first=[10, 11, 4, 6, 9, 10],
        previous=[-1, 10, 3, 5, -1, 9],
        epoch=[0, 0, 1, 1, 1, 1],
    )
    verdicts, _ = check_updates(RULES[market], ids, initial_state())
    assert verdicts.action.tolist() == [RESET, APPLY, APPLY, APPLY, RESET, APPLY]
    labels = [STATUS_LABELS[status] for status in verdicts.status]
    assert labels == ["verified", "verified", "suspect", "suspect", "verified", "verified"]
    assert verdicts.gap.tolist() == [-1, -1, SEQUENCE_GAP, -1, -1, -1]
    assert (int(verdicts.expected[2]), int(verdicts.found[2])) == (13, 4)


def own(
    feed: str, ids: list[tuple[bool, int, int]], time: list[int] | None = None, is_linked: bool = True
) -> Any:
    """Verdicts on a feed's own (is snapshot, previous id, id)."""
    snapshots, previous, sequence = (list(values) for values in zip(*ids, strict=True))
    ids_given = ids_of(sequence, snapshots, None, previous, time=time, is_linked=is_linked)
    verdicts, misplaced = check_updates(FEEDS[feed], ids_given, initial_state(), BREAK)
    assert misplaced == -1
    return verdicts


def told(verdicts: Any) -> tuple[list[int], list[str], list[tuple[int, int, int]]]:
    gaps = zip(verdicts.gap.tolist(), verdicts.expected.tolist(), verdicts.found.tolist(), strict=True)
    labels = [STATUS_LABELS[status] for status in verdicts.status]
    return verdicts.action.tolist(), labels, [gap for gap in gaps if gap[0] >= 0]


def test_rising_ids_tell_a_hole_and_a_message_met_twice() -> None:
    ids = [(False, -1, 4), (True, -1, 5), (False, -1, 6), (False, -1, 6), (False, -1, 9), (True, -1, 10)]
    actions, statuses, gaps = told(own("bybit", ids))
    assert actions == [IGNORE, RESET, APPLY, IGNORE, APPLY, RESET]
    assert statuses == ["unseeded", "verified", "verified", "verified", "suspect", "verified"]
    assert gaps == [(SEQUENCE_GAP, 7, 9)]


def test_hole_in_rising_ids_before_a_snapshot_is_a_gap_that_the_snapshot_ends() -> None:
    actions, statuses, gaps = told(own("bybit", [(True, -1, 5), (False, -1, 6), (True, -1, 9)]))
    assert (actions, statuses) == ([RESET, APPLY, RESET], ["verified"] * 3)
    assert gaps == [(SEQUENCE_GAP, 7, 9)]
    # The diff before the first snapshot is not applied, but it has an id.
    assert told(own("bybit", [(False, -1, 3), (True, -1, 5)]))[2] == [(SEQUENCE_GAP, 4, 5)]
    for sequence in (5, 6, 7):
        assert told(own("bybit", [(True, -1, 5), (False, -1, 6), (True, -1, max(sequence, 6))]))[2] == []


def test_linked_ids_tell_a_hole_until_the_next_snapshot() -> None:
    ids = [(True, -1, 5), (False, 5, 8), (False, 9, 9), (False, 9, 10), (True, -1, 20), (False, 20, 21)]
    actions, statuses, gaps = told(own("okx", ids))
    assert actions == [RESET, APPLY, APPLY, APPLY, RESET, APPLY]
    assert statuses == ["verified", "verified", "suspect", "suspect", "verified", "verified"]
    assert gaps == [(SEQUENCE_GAP, 8, 9)]


def test_linked_ids_from_0_on_are_ids() -> None:
    ids = [(True, -1, 0), *((False, last - 1, last) for last in range(1, 5))]
    assert told(own("okx", ids)) == ([RESET] + [APPLY] * 4, ["verified"] * 5, [])


@pytest.mark.parametrize("market", ["spot", "usdm"])
@pytest.mark.parametrize(("time", "kind"), [(BREAK - 1, SEQUENCE_GAP), (BREAK, NEW_SESSION)])
def test_diff_that_does_not_connect_after_a_long_silence_begins_a_session(
    market: Market, time: int, kind: GapKind
) -> None:
    updates = [snapshot(10), diff(11, 12), diff(20, 21, time=time), diff(22, 23, time=time)]
    actions, statuses, gaps = play(market, *updates, snapshot(23, time), diff(24, 25, time=time))
    is_new = kind == NEW_SESSION
    seen = [IGNORE, IGNORE] if is_new else [APPLY, APPLY]
    assert actions == [RESET, APPLY, *seen, RESET, APPLY]
    bad = "unseeded" if is_new else "suspect"
    assert statuses == ["verified", "verified", bad, bad, "verified", "verified"]
    missing = (12, 20) if is_new else (13, 20) if market == "spot" else (12, 19)
    assert gaps == [(kind, *missing)]


@pytest.mark.parametrize("market", ["spot", "usdm"])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_snapshot_after_a_long_silence_begins_a_session_unless_the_next_diff_connects(
    market: Market, size: int
) -> None:
    seen, late = snapshot(50, time=BREAK), diff(51, 52, time=BREAK + 1)
    judged = judge(market, [snapshot(10), diff(11, 12), seen, late], size)
    assert [action for action, _, _ in judged] == [RESET, APPLY, RESET, APPLY]
    assert [gap for _, _, gap in judged if gap] == [(NEW_SESSION, 12, 50)]
    seen, late = snapshot(14, time=BREAK), diff(13, 15, time=BREAK + 1)
    judged = judge(market, [snapshot(10), diff(11, 12), seen, late], size)
    assert [action for action, _, _ in judged] == [RESET, APPLY, MERGE, APPLY]
    assert not any(gap for _, _, gap in judged)


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_restart_of_the_ids_after_a_long_silence_is_a_session(market: Market) -> None:
    ids = ids_of(
        [10, 12, 5, 7],
        [True, False, False, True],
        first=[10, 11, 4, 6],
        previous=[-1, 10, 3, 5],
        epoch=[0, 0, 1, 1],
        time=[0, 0, BREAK, BREAK],
    )
    verdicts, _ = check_updates(RULES[market], ids, initial_state(), BREAK)
    assert verdicts.action.tolist() == [RESET, APPLY, IGNORE, RESET]
    assert verdicts.gap.tolist() == [-1, -1, NEW_SESSION, -1]
    assert (int(verdicts.expected[2]), int(verdicts.found[2])) == (12, 4)


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_damaged_snapshot_on_an_unbroken_chain_is_ignored(market: Market) -> None:
    ids = ids_of([10, 12, 12, 14], [True, False, True, False], [10, 11, 12, 13], [9, 10, 12, 12],
                 damaged=[False, False, True, False])  # fmt: skip
    verdicts, _ = check_updates(RULES[market], ids, initial_state(), BREAK)
    assert told(verdicts) == ([RESET, APPLY, IGNORE, APPLY], ["verified"] * 4, [])


@pytest.mark.parametrize("name", ["kraken", "tardis", "okx"])
def test_feed_without_ids_begins_a_session_after_every_long_silence(name: str) -> None:
    ids = [(True, -1, 5), (False, -1, 8), (False, -1, 20), (True, -1, 22), (True, -1, 40)]
    times = [5, 8, 20, 22, 40]
    _, statuses, gaps = told(own(name, ids, times, is_linked=False))
    assert gaps == [(NEW_SESSION, 8, 20), (NEW_SESSION, 22, 40)]
    assert statuses == ["unverifiable"] * 2 + ["unseeded"] + ["unverifiable"] * 2


def test_ids_that_connect_carry_a_book_over_a_long_silence() -> None:
    times = [0, 0, BREAK, BREAK, 3 * BREAK]
    ids = [(True, -1, 5), (False, 5, 8), (False, 8, 9), (False, 9, 9), (False, 11, 12)]
    actions, statuses, gaps = told(own("okx", ids, times))
    assert (actions[-1], statuses) == (IGNORE, ["verified"] * 4 + ["unseeded"])
    assert gaps == [(NEW_SESSION, 9, 12)]
    ids = [(True, -1, 5), (False, -1, 6), (False, -1, 7), (True, -1, 8), (False, -1, 12)]
    actions, statuses, gaps = told(own("bybit", ids, times))
    assert (actions[-1], statuses) == (IGNORE, ["verified"] * 4 + ["unseeded"])
    assert gaps == [(NEW_SESSION, 8, 12)]


def test_every_message_of_an_unlinked_feed_is_applied() -> None:
    times = [0, 1, 2, 2 + BREAK, 3 + BREAK, 4 + BREAK, 9 + BREAK, 10 + BREAK]
    ids = ids_of(
        [5, 7, 9, 12, 2, 3, 4, 5],
        epoch=[0, 0, 0, 0, 1, 1, 1, 1],
        time=times,
        damaged=[False, False, True, False, False, True, False, False],
    )
    verdicts, misplaced = check_updates(FEEDS["crypto_lake"], ids, initial_state(), BREAK, silence=5)
    assert misplaced == -1
    actions, statuses, gaps = told(verdicts)
    assert actions == [APPLY] * 8
    # After a silence messages may be missing.
    assert statuses == [
        "unseeded", "unverifiable", "suspect", "unseeded", "unseeded", "suspect", "suspect", "unverifiable"
    ]  # fmt: skip
    assert gaps == [
        (GapKind.QUARANTINED_ROW, -1, -1),
        (NEW_SESSION, 9, 12),
        (NEW_SESSION, 12, 2),
        (GapKind.QUARANTINED_ROW, -1, -1),
    ]
