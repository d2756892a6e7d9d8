"""Continuity of update ids: what each book update does to the book, its status after it, and every gap.

The checks use ids alone, never levels (see `schemas.feeds.Continuity`). Some venues serve snapshots apart
from the stream of diffs:

- Before the first snapshot nothing is applied: the book is unseeded.
- A snapshot with last id L replaces a book that is unseeded or suspect, or that no diff has followed yet.
- After a snapshot, a diff that ends before L is stale. The first diff that is not stale must connect to L.
- Each later diff must connect to the diff before it. If it does not, that is a gap: the diff is applied, and
  the book is suspect until the next snapshot.
- A snapshot on an unbroken chain changes nothing, unless the next diff breaks the chain and connects to the
  snapshot. Then the snapshot replaces the book, and the gap opens and closes there.
- When the venue restarts its ids (a new epoch), nothing connects: that is a gap.

Other venues send snapshots within the stream. Each of those replaces the book and ends every gap. A feed
without any snapshots applies its diffs to an unseeded book, which a vendor's top levels may seed later.
On every feed, a damaged message makes the book suspect.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Continuity, Feed
from deltabook.schemas.names import NOT_GIVEN, GapKind, Status
from deltabook.udfs.numba_kernel import kernel

IGNORE, APPLY, RESET, SEED = range(4)
"""What a message does to the book: nothing (it is stale, comes before any snapshot, or is only compared),
apply its level changes, replace the whole book, or replace the range that a vendor's top levels cover."""

LAST_SEQUENCE, STATUS, BRIDGE_DUE, UPDATES_SEEN, ROW_EPOCH, ROW_SEQUENCE, STATE_FIELDS = range(7)
"""Indices into the state: last id in the book, status, 1 while a snapshot awaits its first diff, 1 once any
message was seen, epoch and id of the last message (to check the order), and the length of the state."""

SEED_MARK = -2
"""`first_sequence` of a vendor's top levels that stand among a feed's messages. Their `prev_sequence` is the
number of levels per side that the vendor shows."""

_NO_GAP = -1
_BEFORE_ANY_EPOCH = -(2**62)
_UNSEEDED, _SUSPECT, _UNVERIFIABLE = int(Status.UNSEEDED), int(Status.SUSPECT), int(Status.UNVERIFIABLE)
_SEQUENCE_GAP, _UNBRIDGEABLE = int(GapKind.SEQUENCE_GAP), int(GapKind.UNBRIDGEABLE_SNAPSHOT)
_QUARANTINED_ROW = int(GapKind.QUARANTINED_ROW)
_NONE, _PREVIOUS_ID = int(Continuity.NONE), int(Continuity.PREVIOUS_ID)
_LINKED, _RISING = int(Continuity.LINKED), int(Continuity.RISING)


class UpdateIds(NamedTuple):
    """The ids of n book updates, without their levels.

    Attributes
    ----------
    is_snapshot : bool[n]
        True for a whole book, False for level changes.
    epoch, first, previous, sequence : int64[n]
        Epoch, and first, previous and last update id of each message; -1 where not given.
    is_linked : bool[n]
        True if the message carries ids that link to each other; False if `sequence` is only a time.
    damaged : bool[n]
        True if a part of the message is in quarantine.
    """

    is_snapshot: NDArray[np.bool_]
    epoch: NDArray[np.int64]
    first: NDArray[np.int64]
    previous: NDArray[np.int64]
    sequence: NDArray[np.int64]
    is_linked: NDArray[np.bool_]
    damaged: NDArray[np.bool_]


class UpdateVerdicts(NamedTuple):
    """What n book updates do to the book, and what their ids prove.

    Attributes
    ----------
    action : int8[n]
        IGNORE, APPLY, RESET or SEED.
    status : int8[n]
        `Status` of the book after the message.
    gap : int8[n]
        `GapKind` that the message reveals, or -1.
    expected, found : int64[n]
        The ids of that gap; undefined where there is none.
    seed_depth : int64[n]
        Levels per side that a vendor's seed shows; 0 for any other message.
    """

    action: NDArray[np.int8]
    status: NDArray[np.int8]
    gap: NDArray[np.int8]
    expected: NDArray[np.int64]
    found: NDArray[np.int64]
    seed_depth: NDArray[np.int64]


class _FeedRules(NamedTuple):
    """The rules of a feed as the kernels read them.

    Attributes
    ----------
    continuity : int
        A `Continuity`: how ids connect.
    best_status : int
        `Status` of a book whose chain is unbroken.
    """

    continuity: int
    best_status: int


def initial_state() -> NDArray[np.int64]:
    """Return the state before the first message, int64[STATE_FIELDS]: unseeded, nothing seen."""
    state = np.zeros(STATE_FIELDS, dtype=np.int64)
    state[LAST_SEQUENCE] = state[ROW_SEQUENCE] = NOT_GIVEN
    state[ROW_EPOCH] = _BEFORE_ANY_EPOCH
    return state


def check_updates(
    feed: Feed, ids: UpdateIds, state: NDArray[np.int64], final: bool = True
) -> tuple[UpdateVerdicts, int]:
    """Decide what each book update does, and find the gaps between updates.

    Parameters
    ----------
    feed : Feed
        The rules that the feed's ids follow.
    ids : UpdateIds
        Ids of n messages, in the feed's order.
    state : int64[STATE_FIELDS]
        State after the previous batch; changed in place to the state after this one.
    final : bool
        True if no message follows. If False, and the use of a snapshot depends on a diff that is still to
        come, the result ends before that snapshot. Pass those messages again at the start of the next batch.

    Returns
    -------
    (UpdateVerdicts, int)
        Verdicts on the messages that are decided, and the index of the first message that is out of order,
        or -1.
    """
    n_messages = len(ids.sequence)
    verdicts = UpdateVerdicts(
        action=np.zeros(n_messages, np.int8),
        status=np.zeros(n_messages, np.int8),
        gap=np.full(n_messages, _NO_GAP, np.int8),
        expected=np.zeros(n_messages, np.int64),
        found=np.zeros(n_messages, np.int64),
        seed_depth=np.zeros(n_messages, np.int64),
    )
    rules = _FeedRules(int(feed.continuity), int(feed.best_status))
    check = _check_own_snapshot_feed if feed.own_snapshots else _check_fetched_snapshot_feed
    n_decided, out_of_order = check(rules, ids, state, final, verdicts)
    return UpdateVerdicts._make(values[:n_decided] for values in verdicts), out_of_order


@kernel
def _check_fetched_snapshot_feed(rules, ids, state, final, verdicts):
    """Check the messages of a feed whose snapshots are fetched apart; cost: a few comparisons per message.

    Parameters
    ----------
    rules : _FeedRules
        Rules of the feed.
    ids : UpdateIds
        Ids of n messages.
    state : int64[STATE_FIELDS]
        Changed in place.
    final : bool
        As of `check_updates`.
    verdicts : UpdateVerdicts
        Filled; `gap` must hold -1 and the other arrays 0.

    Returns
    -------
    (int, int)
        Number of messages decided, and the index of the first message that is out of order, or -1.
    """
    # The arrays are taken out of their tuples once: access through a tuple inside the loop counts references,
    # and made the kernel 100 times slower.
    is_snapshot, epoch, first, previous, sequence, _, damaged = ids
    action, status, gap, expected, found, _ = verdicts
    rule, n_messages = rules.continuity, len(sequence)
    for index in range(n_messages):
        last = sequence[index]
        if _is_out_of_order(epoch[index], last, state):
            return index, index
        is_restart = epoch[index] != state[ROW_EPOCH]
        if is_restart and state[UPDATES_SEEN] and state[STATUS] != _UNSEEDED:
            gap[index] = _SEQUENCE_GAP
            expected[index], found[index] = state[LAST_SEQUENCE] + 1, first[index]
            state[STATUS] = _SUSPECT
            state[LAST_SEQUENCE] = NOT_GIVEN
        if is_snapshot[index]:
            replaces = state[STATUS] <= _SUSPECT or state[BRIDGE_DUE] != 0
            if not replaces:
                # The next diff that the book does not hold yet decides whether the snapshot is used.
                following = index + 1
                while (
                    following < n_messages
                    and epoch[following] == epoch[index]
                    and (is_snapshot[following] or _is_stale(rule, sequence[following], state))
                ):
                    following += 1
                if following == n_messages and not final:
                    return index, -1
                if following < n_messages and epoch[following] == epoch[index]:
                    diff = (first[following], previous[following], sequence[following])
                    replaces = not _connects(rule, *diff, state) and _bridges(rule, *diff, last, state)
                    if replaces:
                        gap[index] = _SEQUENCE_GAP
                        expected[index], found[index] = _gap_ids(rule, diff[0], diff[1], state)
            if replaces:
                action[index] = RESET
                state[LAST_SEQUENCE] = last
                state[STATUS] = rules.best_status
                state[BRIDGE_DUE] = 1
        elif state[STATUS] != _UNSEEDED and not _is_stale(rule, last, state):
            action[index] = APPLY
            if gap[index] == _NO_GAP and not _connects(rule, first[index], previous[index], last, state):
                gap[index] = _UNBRIDGEABLE if state[BRIDGE_DUE] else _SEQUENCE_GAP
                expected[index], found[index] = _gap_ids(rule, first[index], previous[index], state)
                state[STATUS] = _SUSPECT
            state[LAST_SEQUENCE] = last
            state[BRIDGE_DUE] = 0
        if damaged[index] and action[index] != IGNORE:
            state[STATUS] = _SUSPECT
            if gap[index] == _NO_GAP:
                gap[index], expected[index], found[index] = _QUARANTINED_ROW, NOT_GIVEN, NOT_GIVEN
        _set_last_message(epoch[index], last, state)
        status[index] = state[STATUS]
    return n_messages, -1


@kernel
def _check_own_snapshot_feed(rules, ids, state, _final, verdicts):
    """Check the messages of a feed that sends its own snapshots, or none.

    Parameters, result and cost are those of `_check_fetched_snapshot_feed`; every message is decided.
    """
    is_snapshot, epoch, first, previous, sequence, is_linked, damaged = ids
    action, status, gap, expected, found, seed_depth = verdicts
    rule, n_messages = rules.continuity, len(sequence)
    for index in range(n_messages):
        last = sequence[index]
        if _is_out_of_order(epoch[index], last, state):
            return index, index
        links = rule == _LINKED and is_linked[index]
        proven = rules.best_status if rule == _RISING or links else _UNVERIFIABLE
        is_same_epoch = epoch[index] == state[ROW_EPOCH]
        if first[index] == SEED_MARK:
            if state[STATUS] == _UNSEEDED:
                action[index], state[STATUS], seed_depth[index] = SEED, _UNVERIFIABLE, previous[index]
        elif is_snapshot[index]:
            action[index], state[STATUS] = RESET, proven
        elif state[STATUS] == _UNSEEDED:
            action[index] = APPLY if rule == _NONE else IGNORE
        elif rule == _RISING and is_same_epoch and last <= state[LAST_SEQUENCE]:
            action[index] = IGNORE
        else:
            action[index] = APPLY
            if rule == _RISING and not (is_same_epoch and last == state[LAST_SEQUENCE] + 1):
                gap[index], expected[index], found[index] = _SEQUENCE_GAP, state[LAST_SEQUENCE] + 1, last
            elif links and previous[index] != state[LAST_SEQUENCE]:
                gap[index], expected[index] = _SEQUENCE_GAP, state[LAST_SEQUENCE]
                found[index] = previous[index]
            state[STATUS] = _SUSPECT if gap[index] != _NO_GAP else min(state[STATUS], proven)
        if damaged[index] and action[index] != IGNORE:
            if state[STATUS] != _UNSEEDED and gap[index] == _NO_GAP:
                gap[index], expected[index], found[index] = _QUARANTINED_ROW, NOT_GIVEN, NOT_GIVEN
            state[STATUS] = min(state[STATUS], _SUSPECT)
        if first[index] != SEED_MARK:
            state[LAST_SEQUENCE] = last
        _set_last_message(epoch[index], last, state)
        status[index] = state[STATUS]
    return n_messages, -1


@kernel
def _is_out_of_order(epoch, sequence, state):
    """Return whether a message sorts before the last message that was checked."""
    return epoch < state[ROW_EPOCH] or (epoch == state[ROW_EPOCH] and sequence < state[ROW_SEQUENCE])


@kernel
def _set_last_message(epoch, sequence, state):
    """Record in the state the message that was checked last."""
    state[ROW_EPOCH], state[ROW_SEQUENCE] = epoch, sequence
    state[UPDATES_SEEN] = 1


@kernel
def _is_stale(rule, last, state):
    """Return whether the book already holds a diff whose last id is `last`."""
    if rule == _PREVIOUS_ID and state[BRIDGE_DUE]:
        return last < state[LAST_SEQUENCE]
    return last <= state[LAST_SEQUENCE]


@kernel
def _connects(rule, first, previous, last, state):
    """Return whether a diff of these ids, if it is not stale, follows the book without a gap."""
    if rule == _PREVIOUS_ID:
        if state[BRIDGE_DUE]:
            return first <= state[LAST_SEQUENCE] <= last or previous == state[LAST_SEQUENCE]
        return previous <= state[LAST_SEQUENCE]
    return first <= state[LAST_SEQUENCE] + 1


@kernel
def _bridges(rule, first, previous, last, snapshot_last, state):
    """Return whether a diff of these ids connects to a snapshot that ends at `snapshot_last`."""
    chain_last = state[LAST_SEQUENCE]
    state[LAST_SEQUENCE], state[BRIDGE_DUE] = snapshot_last, 1
    bridges = not _is_stale(rule, last, state) and _connects(rule, first, previous, last, state)
    state[LAST_SEQUENCE], state[BRIDGE_DUE] = chain_last, 0
    return bridges


@kernel
def _gap_ids(rule, first, previous, state):
    """Return the id that should have come after the book, and the id that a diff shows instead."""
    if rule == _PREVIOUS_ID:
        return state[LAST_SEQUENCE], previous
    return state[LAST_SEQUENCE] + 1, first
