"""Whether ids connect: what each book update does to the book, how far the book is proven, every gap.

Looks at ids alone, never at levels (see `schemas.feeds.Continuity`). A feed whose snapshots are
fetched apart:

- no snapshot yet: nothing is applied, the book is unseeded;
- a snapshot L replaces an unseeded or suspect book, and one that no diff has connected to yet;
- after a snapshot, a diff that ends before L is stale, and the first one that does not must connect;
- after that each diff must connect to the one before. One that does not is a gap: it is applied,
  and the book is suspect until the next snapshot;
- a snapshot met by an unbroken chain changes nothing, unless the next diff breaks the chain and
  connects to the snapshot: then the gap ends where it began, and the snapshot replaces the book;
- where the venue restarts its ids (`epoch`), nothing connects: a gap.

A feed whose snapshots are messages of its own: each replaces the book, and ends every gap. A feed
without snapshots keeps what it hears of an unseeded book, which a vendor's top levels may seed.
After a message that is damaged, whatever the feed, the book is suspect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Continuity, Feed
from deltabook.schemas.names import NOT_GIVEN, GapKind, Status
from deltabook.udfs.numba_kernel import kernel

IGNORE, APPLY, RESET, SEED = range(4)
"""What a message does: nothing (stale, unseeded or only compared), its changes, the whole book, or the
top levels of a book that was not known to be whole."""

LAST_SEQUENCE, STATUS, BRIDGE_DUE, UPDATES_SEEN, ROW_EPOCH, ROW_SEQUENCE, STATE_FIELDS = range(7)
"""Fields of the state: last id in the book, status, a snapshot awaits its first diff, any message met,
epoch and id of the last row (to check that rows come in order)."""

SEED_MARK = -2
"""`first_sequence` of a vendor's top levels put among a feed's messages; `prev_sequence` is then how many
levels a side they could show."""

_NO_GAP = -1
_BEFORE_ANY_EPOCH = -(2**62)
_UNSEEDED, _SUSPECT, _UNVERIFIABLE = int(Status.UNSEEDED), int(Status.SUSPECT), int(Status.UNVERIFIABLE)
_SEQUENCE_GAP, _UNBRIDGEABLE = int(GapKind.SEQUENCE_GAP), int(GapKind.UNBRIDGEABLE_SNAPSHOT)
_QUARANTINED_ROW = int(GapKind.QUARANTINED_ROW)
_NONE, _PREVIOUS_ID = int(Continuity.NONE), int(Continuity.PREVIOUS_ID)
_LINKED, _RISING = int(Continuity.LINKED), int(Continuity.RISING)


@dataclass(frozen=True)
class Ids:
    """What n book updates say of themselves, without their levels.

    Attributes
    ----------
    is_snapshot : bool[n]
        Whole book or changes.
    epoch, first, previous, sequence : int64[n]
        Epoch, and first, previous and last update id of each message; -1 where not given.
    given : bool[n]
        Whether the feed gives ids that link, so that `sequence` is no time.
    damaged : bool[n]
        Whether a part is in quarantine.
    """

    is_snapshot: NDArray[np.bool_]
    epoch: NDArray[np.int64]
    first: NDArray[np.int64]
    previous: NDArray[np.int64]
    sequence: NDArray[np.int64]
    given: NDArray[np.bool_]
    damaged: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdicts:
    """What the ids of n messages say.

    Attributes
    ----------
    action : int8[n]
        IGNORE, APPLY or RESET.
    status : int8[n]
        `Status` after the message.
    gap : int8[n]
        `GapKind` that the message shows, or -1.
    expected, found : int64[n]
        The ids of that gap; undefined where there is none.
    """

    action: NDArray[np.int8]
    status: NDArray[np.int8]
    gap: NDArray[np.int8]
    expected: NDArray[np.int64]
    found: NDArray[np.int64]


def initial_state() -> NDArray[np.int64]:
    """Return the state before the first message: unseeded, nothing seen."""
    state = np.zeros(STATE_FIELDS, dtype=np.int64)
    state[LAST_SEQUENCE] = state[ROW_SEQUENCE] = NOT_GIVEN
    state[ROW_EPOCH] = _BEFORE_ANY_EPOCH
    return state


def check_updates(feed: Feed, ids: Ids, state: NDArray[np.int64], final: bool = True) -> tuple[Verdicts, int]:
    """Judge book updates in the feed's order.

    Parameters
    ----------
    feed : Feed
        Its rules.
    ids : Ids
        Of n messages.
    state : int64[STATE_FIELDS]
        Changed in place; carries over to the next batch.
    final : bool
        Whether nothing comes after. If more may come, messages from a snapshot on that awaits the next
        diff's verdict are left out of the result: they are to be given again, before what comes.

    Returns
    -------
    (Verdicts, int)
        The verdicts of the messages judged, and the index of the first message that is out of order, or -1.
    """
    n = len(ids.sequence)
    verdicts = Verdicts(
        np.zeros(n, np.int8),
        np.zeros(n, np.int8),
        np.full(n, _NO_GAP, np.int8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
    )
    check = _check_own if feed.own_snapshots else _check
    judged, misplaced = check(
        int(feed.continuity),
        int(feed.best_status),
        ids.is_snapshot,
        ids.epoch,
        ids.first,
        ids.previous,
        ids.sequence,
        ids.given,
        ids.damaged,
        state,
        final,
        verdicts.action,
        verdicts.status,
        verdicts.gap,
        verdicts.expected,
        verdicts.found,
    )
    return Verdicts(*(values[:judged] for values in vars(verdicts).values())), misplaced


@kernel
def _misplaced(epoch, sequence, state):
    return epoch < state[ROW_EPOCH] or (epoch == state[ROW_EPOCH] and sequence < state[ROW_SEQUENCE])


@kernel
def _check(
    rule,
    best_status,
    is_snapshot,
    epoch,
    first,
    previous,
    sequence,
    _given,
    damaged,
    state,
    final,
    action,
    status,
    gap,
    expected,
    found,
):
    """Judge each message from the one before; return (messages judged, index of a misplaced one or -1).

    Cost: a few comparisons a message.
    """
    n = len(sequence)
    for row in range(n):
        last = sequence[row]
        if _misplaced(epoch[row], last, state):
            return row, row
        restarted = epoch[row] != state[ROW_EPOCH]
        if restarted and state[UPDATES_SEEN] and state[STATUS] != _UNSEEDED:
            gap[row] = _SEQUENCE_GAP
            expected[row], found[row] = state[LAST_SEQUENCE] + 1, first[row]
            state[STATUS] = _SUSPECT
            state[LAST_SEQUENCE] = NOT_GIVEN
        if is_snapshot[row]:
            replaces = state[STATUS] <= _SUSPECT or state[BRIDGE_DUE]
            if not replaces:
                following = row + 1
                while (
                    following < n
                    and epoch[following] == epoch[row]
                    and (is_snapshot[following] or _stale(rule, sequence[following], state))
                ):
                    following += 1
                if following == n and not final:
                    return row, -1
                if (
                    following < n
                    and epoch[following] == epoch[row]
                    and not _connects(rule, first[following], previous[following], sequence[following], state)
                ):
                    # Does the diff that breaks the chain connect to this snapshot?
                    chain_last = state[LAST_SEQUENCE]
                    state[LAST_SEQUENCE], state[BRIDGE_DUE] = last, 1
                    replaces = not _stale(rule, sequence[following], state) and _connects(
                        rule, first[following], previous[following], sequence[following], state
                    )
                    state[LAST_SEQUENCE], state[BRIDGE_DUE] = chain_last, 0
                    if replaces:
                        gap[row] = _SEQUENCE_GAP
                        if rule == _PREVIOUS_ID:
                            expected[row], found[row] = chain_last, previous[following]
                        else:
                            expected[row], found[row] = chain_last + 1, first[following]
            if replaces:
                action[row] = RESET
                state[LAST_SEQUENCE] = last
                state[STATUS] = best_status
                state[BRIDGE_DUE] = 1
        elif state[STATUS] != _UNSEEDED and not _stale(rule, last, state):
            action[row] = APPLY
            if gap[row] == _NO_GAP and not _connects(rule, first[row], previous[row], last, state):
                gap[row] = _UNBRIDGEABLE if state[BRIDGE_DUE] else _SEQUENCE_GAP
                if rule == _PREVIOUS_ID:
                    expected[row], found[row] = state[LAST_SEQUENCE], previous[row]
                else:
                    expected[row], found[row] = state[LAST_SEQUENCE] + 1, first[row]
                state[STATUS] = _SUSPECT
            state[LAST_SEQUENCE] = last
            state[BRIDGE_DUE] = 0
        if damaged[row] and action[row] != IGNORE:
            state[STATUS] = _SUSPECT
            if gap[row] == _NO_GAP:
                gap[row], expected[row], found[row] = _QUARANTINED_ROW, NOT_GIVEN, NOT_GIVEN
        state[ROW_EPOCH], state[ROW_SEQUENCE] = epoch[row], last
        state[UPDATES_SEEN] = 1
        status[row] = state[STATUS]
    return n, -1


@kernel
def _check_own(
    rule,
    best_status,
    is_snapshot,
    epoch,
    first,
    previous,
    sequence,
    given,
    damaged,
    state,
    _final,
    action,
    status,
    gap,
    expected,
    found,
):
    """Judge the messages of a feed that sends its own snapshots; cost and result as of `_check`."""
    n = len(sequence)
    for row in range(n):
        last = sequence[row]
        if _misplaced(epoch[row], last, state):
            return row, row
        proven = best_status if rule == _RISING or (rule == _LINKED and given[row]) else _UNVERIFIABLE
        same_ids = epoch[row] == state[ROW_EPOCH]
        if first[row] == SEED_MARK:
            if state[STATUS] == _UNSEEDED:
                action[row], state[STATUS], expected[row] = SEED, _UNVERIFIABLE, previous[row]
        elif is_snapshot[row]:
            action[row], state[STATUS] = RESET, proven
        elif state[STATUS] == _UNSEEDED:
            action[row] = APPLY if rule == _NONE else IGNORE
        elif rule == _RISING and same_ids and last <= state[LAST_SEQUENCE]:
            action[row] = IGNORE
        else:
            action[row] = APPLY
            if rule == _RISING and not (same_ids and last == state[LAST_SEQUENCE] + 1):
                gap[row], expected[row], found[row] = _SEQUENCE_GAP, state[LAST_SEQUENCE] + 1, last
            elif rule == _LINKED and given[row] and previous[row] != state[LAST_SEQUENCE]:
                gap[row], expected[row], found[row] = _SEQUENCE_GAP, state[LAST_SEQUENCE], previous[row]
            state[STATUS] = _SUSPECT if gap[row] != _NO_GAP else min(state[STATUS], proven)
        if damaged[row] and action[row] != IGNORE:
            if state[STATUS] != _UNSEEDED and gap[row] == _NO_GAP:
                gap[row], expected[row], found[row] = _QUARANTINED_ROW, NOT_GIVEN, NOT_GIVEN
            state[STATUS] = min(state[STATUS], _SUSPECT)
        if first[row] != SEED_MARK:
            state[LAST_SEQUENCE] = last
        state[ROW_EPOCH], state[ROW_SEQUENCE] = epoch[row], last
        state[UPDATES_SEEN] = 1
        status[row] = state[STATUS]
    return n, -1


@kernel
def _stale(rule, last, state):
    if rule == _PREVIOUS_ID and state[BRIDGE_DUE]:
        return last < state[LAST_SEQUENCE]
    return last <= state[LAST_SEQUENCE]


@kernel
def _connects(rule, first, previous, last, state):
    """Whether a diff that is not stale leaves no id between itself and the book."""
    if rule == _PREVIOUS_ID:
        if state[BRIDGE_DUE]:
            return first <= state[LAST_SEQUENCE] <= last or previous == state[LAST_SEQUENCE]
        return previous <= state[LAST_SEQUENCE]
    return first <= state[LAST_SEQUENCE] + 1
