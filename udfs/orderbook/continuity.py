"""Continuity of update ids: decides what each book update does to the book, and finds the gaps.

The checks use only ids, never levels (see `schemas.feeds.Continuity`). A chain is a series of book updates
whose ids connect. Some venues serve snapshots apart from the stream of diffs. For these venues:

- Before the first snapshot, no diff is applied: the book is unseeded.
- A snapshot with last id L replaces the book if the book is unseeded or suspect, or if no diff has been
  applied since the previous snapshot.
- After a snapshot, a diff whose ids end before L is stale. The first diff that is not stale must connect to
  L.
- Each later diff must connect to the diff before it. If a diff does not connect, there is a gap: the diff is
  applied, and the book is suspect until the next snapshot.
- A snapshot on an unbroken chain only adds levels where the book is not known, with one exception: the next
  diff breaks the chain and connects to the snapshot. Then the snapshot replaces the book, and a gap opens and
  closes at the snapshot.
- When the venue restarts its ids (a new epoch), no diff can connect, so there is a gap.

Other venues send snapshots within the stream. Each of these snapshots replaces the book and closes every gap.
If the ids show that messages before such a snapshot are missing, there is a gap that the snapshot closes.

An unlinked feed has neither ids that connect nor snapshots. All its diffs are applied; `udfs.truths` decides
what the book is worth.

On every feed, a damaged message makes the book suspect. If no id connects a message to the message before it,
and a long time lies between the two, the recording was stopped and started again: a new session begins, and
the book is unseeded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Continuity, Feed
from deltabook.schemas.names import HOUR, NOT_GIVEN, GapKind, Status
from deltabook.udfs.numba_kernel import kernel

IGNORE, APPLY, MERGE, RESET = range(4)
"""What a message does to the book.

IGNORE: nothing, because a diff is stale or comes before the first snapshot. APPLY: apply the level changes.
MERGE: add the levels of a snapshot where the book is not known. RESET: replace the whole book.
"""

LAST_SEQUENCE, STATUS, BRIDGE_DUE, UPDATES_SEEN, ROW_EPOCH, ROW_SEQUENCE, ROW_TIME, STATE_FIELDS = range(8)
"""Indices into the state, int64[STATE_FIELDS].

LAST_SEQUENCE: last id that the book includes. STATUS: status of the book. BRIDGE_DUE: 1 after a snapshot,
until the first diff that is not stale. UPDATES_SEEN: 1 after the first message. ROW_EPOCH, ROW_SEQUENCE and
ROW_TIME: epoch, id and order_time of the last message. STATE_FIELDS: length of the state.
"""

_NO_GAP = -1
_BEFORE_ANY_EPOCH = -(2**62)
_UNSEEDED, _SUSPECT, _UNVERIFIABLE = int(Status.UNSEEDED), int(Status.SUSPECT), int(Status.UNVERIFIABLE)
_SEQUENCE_GAP, _UNBRIDGEABLE = int(GapKind.SEQUENCE_GAP), int(GapKind.UNBRIDGEABLE_SNAPSHOT)
_QUARANTINED_ROW, _NEW_SESSION = int(GapKind.QUARANTINED_ROW), int(GapKind.NEW_SESSION)
_NONE, _PREVIOUS_ID = int(Continuity.NONE), int(Continuity.PREVIOUS_ID)
_LINKED, _RISING = int(Continuity.LINKED), int(Continuity.RISING)


class UpdateIds(NamedTuple):
    """The ids of n book updates, without their levels.

    Attributes
    ----------
    is_snapshot : bool[n]
        True if the message holds a whole book, False if it holds level changes.
    epoch, first, previous, sequence : int64[n]
        Epoch of each message. `first` and `sequence` are the message's first and last update id. `previous`
        is the last update id of the message before, as the venue gives it. -1 where not given.
    is_linked : bool[n]
        True if the message carries ids that link to each other; False if `sequence` is only a time.
    damaged : bool[n]
        True if a part of the message is in quarantine.
    time : int64[n]
        order_time of each message, ns since 1970 UTC.
    """

    is_snapshot: NDArray[np.bool_]
    epoch: NDArray[np.int64]
    first: NDArray[np.int64]
    previous: NDArray[np.int64]
    sequence: NDArray[np.int64]
    is_linked: NDArray[np.bool_]
    damaged: NDArray[np.bool_]
    time: NDArray[np.int64]


class UpdateVerdicts(NamedTuple):
    """What n book updates do to the book, and what their ids prove.

    Attributes
    ----------
    action : int8[n]
        IGNORE, APPLY, MERGE or RESET.
    status : int8[n]
        `Status` of the book after the message.
    gap : int8[n]
        `GapKind` that the message reveals, or -1.
    expected, found : int64[n]
        The id that the gap's message should have had, and the id that it has. Undefined without a gap.
    """

    action: NDArray[np.int8]
    status: NDArray[np.int8]
    gap: NDArray[np.int8]
    expected: NDArray[np.int64]
    found: NDArray[np.int64]


class _FeedRules(NamedTuple):
    """The rules of a feed, as integers for the kernels.

    Attributes
    ----------
    continuity : int
        A `Continuity`: the rule by which ids connect.
    best_status : int
        `Status` of a book whose chain is unbroken.
    session_break : int
        Shortest time between two messages that no id connects, ns, at which a new recording session begins.
    silence : int
        Shortest time between two messages, ns, after which the book of an unlinked feed is suspect.
    """

    continuity: int
    best_status: int
    session_break: int
    silence: int


def initial_state() -> NDArray[np.int64]:
    """Return the state of an unseeded book before the first message, int64[STATE_FIELDS]."""
    state = np.zeros(STATE_FIELDS, dtype=np.int64)
    state[LAST_SEQUENCE] = state[ROW_SEQUENCE] = state[ROW_TIME] = NOT_GIVEN
    state[ROW_EPOCH] = _BEFORE_ANY_EPOCH
    return state


def check_updates(
    feed: Feed,
    ids: UpdateIds,
    state: NDArray[np.int64],
    session_break: int = HOUR,
    final: bool = True,
    silence: int = HOUR,
) -> tuple[UpdateVerdicts, int]:
    """Decide what each book update does to the book, and find the gaps between updates.

    Parameters
    ----------
    feed : Feed
        The feed, with the rules of its ids.
    ids : UpdateIds
        Ids of n messages, in the feed's order.
    state : int64[STATE_FIELDS]
        State after the previous batch; changed in place to the state after this one.
    session_break : int
        Shortest time between two messages that no id connects, ns, at which a new recording session begins.
    final : bool
        True if this is the last batch. False: more messages follow. Whether a snapshot replaces the book may
        depend on a diff of the next batch. Then the verdicts end before that snapshot. Pass the snapshot and
        all messages after it again, at the start of the next batch.
    silence : int
        Shortest time between two messages, ns, after which the book of an unlinked feed is suspect: messages
        may be missing.

    Returns
    -------
    (UpdateVerdicts, int)
        Verdicts on the decided messages, and the index of the first message that is out of order; -1 if all
        messages are in order.
    """
    n_messages = len(ids.sequence)
    verdicts = UpdateVerdicts(
        action=np.zeros(n_messages, np.int8),
        status=np.zeros(n_messages, np.int8),
        gap=np.full(n_messages, _NO_GAP, np.int8),
        expected=np.zeros(n_messages, np.int64),
        found=np.zeros(n_messages, np.int64),
    )
    rules = _FeedRules(int(feed.continuity), int(feed.best_status), session_break, silence)
    check = _check_own_snapshot_feed if feed.own_snapshots else _check_fetched_snapshot_feed
    if feed.is_unlinked:
        check = _check_unlinked_feed
    n_decided, out_of_order = check(rules, ids, state, final, verdicts)
    return UpdateVerdicts._make(values[:n_decided] for values in verdicts), out_of_order


@kernel
def _check_fetched_snapshot_feed(rules, ids, state, final, verdicts):
    """Check the messages of a feed whose snapshots come apart from the stream of diffs.

    Cost: a few comparisons per message.

    Parameters
    ----------
    rules : _FeedRules
        Rules of the feed.
    ids : UpdateIds
        Ids of n messages.
    state : int64[STATE_FIELDS]
        State before the messages; changed in place.
    final : bool
        The parameter `final` of `check_updates`.
    verdicts : UpdateVerdicts
        Arrays that the kernel fills. The caller fills `gap` with -1 and the other arrays with 0.

    Returns
    -------
    (int, int)
        Number of decided messages, and the index of the first message that is out of order; -1 if all
        messages are in order.
    """
    # Unpack the tuples once, before the loop: access through a tuple inside the loop counts references, which
    # made the kernel 100 times slower.
    is_snapshot, epoch, first, previous, sequence, _, damaged, time = ids
    action, status, gap, expected, found = verdicts
    rule, n_messages = rules.continuity, len(sequence)
    for index in range(n_messages):
        last = sequence[index]
        if _is_out_of_order(epoch[index], last, state):
            return index, index
        is_restart = epoch[index] != state[ROW_EPOCH]
        if _is_long_after(time[index], state, rules.session_break) and (
            is_restart
            or is_snapshot[index]
            or (
                not _is_stale(rule, last, state)
                and (rule == _NONE or not _connects(rule, first[index], previous[index], last, state))
            )
        ):
            # A snapshot shows no id of the message before it; the next diff may still connect to the book.
            following = _next_diff(is_snapshot, epoch, index)
            if following == n_messages and not final:
                return index, -1
            if (
                is_restart
                or following == n_messages
                or epoch[following] != epoch[index]
                or rule == _NONE
                or not _connects(rule, first[following], previous[following], sequence[following], state)
            ):
                gap[index], expected[index] = _NEW_SESSION, state[LAST_SEQUENCE]
                found[index] = last if is_snapshot[index] else first[index]
                state[STATUS], state[LAST_SEQUENCE], state[BRIDGE_DUE] = _UNSEEDED, NOT_GIVEN, 0
        elif is_restart and state[UPDATES_SEEN] and state[STATUS] != _UNSEEDED:
            gap[index] = _SEQUENCE_GAP
            expected[index], found[index] = state[LAST_SEQUENCE] + 1, first[index]
            state[STATUS] = _SUSPECT
            state[LAST_SEQUENCE] = NOT_GIVEN
        if is_snapshot[index]:
            replaces = state[STATUS] <= _SUSPECT or state[BRIDGE_DUE] != 0
            if not replaces:
                # The next diff that is not stale decides whether the snapshot replaces the book.
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
            action[index] = RESET if replaces else MERGE
            if replaces:
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
        if damaged[index] and action[index] == MERGE:
            action[index] = IGNORE
        if damaged[index] and action[index] != IGNORE:
            state[STATUS] = _SUSPECT
            if gap[index] == _NO_GAP:
                gap[index], expected[index], found[index] = _QUARANTINED_ROW, NOT_GIVEN, NOT_GIVEN
        _set_last_message(epoch[index], last, time[index], state)
        status[index] = state[STATUS]
    return n_messages, -1


@kernel
def _check_own_snapshot_feed(rules, ids, state, _final, verdicts):
    """Check the messages of a feed that sends snapshots within the stream, or no snapshots.

    Parameters, result and cost are those of `_check_fetched_snapshot_feed`. This kernel decides every
    message, so it ignores `_final`.
    """
    is_snapshot, epoch, _, previous, sequence, is_linked, damaged, time = ids
    action, status, gap, expected, found = verdicts
    rule, n_messages = rules.continuity, len(sequence)
    for index in range(n_messages):
        last = sequence[index]
        if _is_out_of_order(epoch[index], last, state):
            return index, index
        links = rule == _LINKED and is_linked[index]
        proven = rules.best_status if rule == _RISING or links else _UNVERIFIABLE
        is_same_epoch = epoch[index] == state[ROW_EPOCH]
        is_stale = rule == _RISING and is_same_epoch and last <= state[LAST_SEQUENCE]
        follows = False
        if is_same_epoch:
            if rule == _RISING:
                follows = last <= state[LAST_SEQUENCE] + 1
            elif links:
                follows = previous[index] == state[LAST_SEQUENCE]
        if _is_long_after(time[index], state, rules.session_break) and not follows:
            gap[index], expected[index], found[index] = _NEW_SESSION, state[LAST_SEQUENCE], last
            state[STATUS] = _UNSEEDED
        if is_snapshot[index]:
            if rule == _RISING and is_same_epoch and gap[index] == _NO_GAP and not follows:
                gap[index], expected[index], found[index] = _SEQUENCE_GAP, state[LAST_SEQUENCE] + 1, last
            action[index], state[STATUS] = RESET, proven
        elif state[STATUS] == _UNSEEDED or is_stale:
            action[index] = IGNORE
        else:
            action[index] = APPLY
            if rule == _RISING and not follows:
                gap[index], expected[index], found[index] = _SEQUENCE_GAP, state[LAST_SEQUENCE] + 1, last
            elif links and not follows:
                gap[index], expected[index] = _SEQUENCE_GAP, state[LAST_SEQUENCE]
                found[index] = previous[index]
            state[STATUS] = _SUSPECT if gap[index] != _NO_GAP else min(state[STATUS], proven)
        if damaged[index] and action[index] != IGNORE:
            if state[STATUS] != _UNSEEDED and gap[index] == _NO_GAP:
                gap[index], expected[index], found[index] = _QUARANTINED_ROW, NOT_GIVEN, NOT_GIVEN
            state[STATUS] = min(state[STATUS], _SUSPECT)
        state[LAST_SEQUENCE] = last
        _set_last_message(epoch[index], last, time[index], state)
        status[index] = state[STATUS]
    return n_messages, -1


@kernel
def _check_unlinked_feed(rules, ids, state, _final, verdicts):
    """Check the messages of a feed that has neither ids that connect nor snapshots.

    Parameters, result and cost are those of `_check_fetched_snapshot_feed`. The status of a message says what
    the message itself proves: UNSEEDED if it begins a recording session, SUSPECT if it is damaged or if
    messages may be missing before it, else UNVERIFIABLE.
    """
    _, epoch, _, _, sequence, _, damaged, time = ids
    action, status, gap, expected, found = verdicts
    n_messages = len(sequence)
    for index in range(n_messages):
        last = sequence[index]
        if _is_out_of_order(epoch[index], last, state):
            return index, index
        action[index], status[index] = APPLY, _UNVERIFIABLE
        if not state[UPDATES_SEEN]:
            status[index] = _UNSEEDED
        elif epoch[index] != state[ROW_EPOCH] or _is_long_after(time[index], state, rules.session_break):
            gap[index], expected[index], found[index] = _NEW_SESSION, state[LAST_SEQUENCE], last
            status[index] = _UNSEEDED
        elif _is_long_after(time[index], state, rules.silence):  # recorded as a silence
            status[index] = _SUSPECT
        if damaged[index] and status[index] != _UNSEEDED:
            if gap[index] == _NO_GAP:
                gap[index], expected[index], found[index] = _QUARANTINED_ROW, NOT_GIVEN, NOT_GIVEN
            status[index] = _SUSPECT
        state[LAST_SEQUENCE], state[STATUS] = last, _UNVERIFIABLE
        _set_last_message(epoch[index], last, time[index], state)
    return n_messages, -1


@kernel
def _is_long_after(time, state, least):
    """Return whether a message comes at least some time, ns, after the last one."""
    return state[ROW_TIME] != NOT_GIVEN and time - state[ROW_TIME] >= least


@kernel
def _next_diff(is_snapshot, epoch, index):
    """Return the index of the first diff from `index` on, or of the first message of another epoch."""
    following = index
    while following < len(epoch) and epoch[following] == epoch[index] and is_snapshot[following]:
        following += 1
    return following


@kernel
def _is_out_of_order(epoch, sequence, state):
    """Return whether a message's epoch and id come before those of the last checked message."""
    return epoch < state[ROW_EPOCH] or (epoch == state[ROW_EPOCH] and sequence < state[ROW_SEQUENCE])


@kernel
def _set_last_message(epoch, sequence, time, state):
    """Store a message's epoch, id and time in the state as those of the last checked message."""
    state[ROW_EPOCH], state[ROW_SEQUENCE], state[ROW_TIME] = epoch, sequence, time
    state[UPDATES_SEEN] = 1


@kernel
def _is_stale(rule, last, state):
    """Return whether the book already includes a diff whose last id is `last`."""
    if rule == _PREVIOUS_ID and state[BRIDGE_DUE]:
        return last < state[LAST_SEQUENCE]
    return last <= state[LAST_SEQUENCE]


@kernel
def _connects(rule, first, previous, last, state):
    """Return whether a diff with these ids follows the book without a gap; the diff must not be stale."""
    if rule == _PREVIOUS_ID:
        if state[BRIDGE_DUE]:
            return first <= state[LAST_SEQUENCE] <= last or previous == state[LAST_SEQUENCE]
        return previous <= state[LAST_SEQUENCE]
    return first <= state[LAST_SEQUENCE] + 1


@kernel
def _bridges(rule, first, previous, last, snapshot_last, state):
    """Return whether a diff with these ids connects to a snapshot whose last id is `snapshot_last`."""
    chain_last = state[LAST_SEQUENCE]
    state[LAST_SEQUENCE], state[BRIDGE_DUE] = snapshot_last, 1
    bridges = not _is_stale(rule, last, state) and _connects(rule, first, previous, last, state)
    state[LAST_SEQUENCE], state[BRIDGE_DUE] = chain_last, 0
    return bridges


@kernel
def _gap_ids(rule, first, previous, state):
    """Return the id that a diff needed to connect to the book, and the id that the diff has."""
    if rule == _PREVIOUS_ID:
        return state[LAST_SEQUENCE], previous
    return state[LAST_SEQUENCE] + 1, first
