"""Whether ids connect: what each book update does to the book, how far the book is proven, every gap.

Looks at ids alone, never at levels. One rule serves every feed (see `schemas.feeds.Continuity`):

- no snapshot yet: nothing is applied, the book is unseeded;
- a snapshot L replaces an unseeded or suspect book; on an unbroken chain it is only compared with;
- after a snapshot, a diff that ends before L is stale, and the first one that does not must connect;
- after that each diff must connect to the one before. One that does not is a gap: it is applied,
  and the book is suspect until the next snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.feeds import Continuity
from deltabook.schemas.names import NOT_GIVEN, GapKind, Status
from deltabook.udfs.compile import kernel

IGNORE, APPLY, RESET = range(3)
"""What a message does: nothing (stale, unseeded or only compared), its changes, or the whole book."""

LAST_SEQUENCE, STATUS, BRIDGE_DUE, UPDATES_SEEN, ROW_SEQUENCE, STATE_FIELDS = range(6)
"""Fields of the state: last id in the book, status, a snapshot awaits its first diff, any message met,
id of the last row (to check that rows come in order)."""

_NO_GAP = -1
_UNSEEDED, _SUSPECT = int(Status.UNSEEDED), int(Status.SUSPECT)
_SEQUENCE_GAP, _UNBRIDGEABLE = int(GapKind.SEQUENCE_GAP), int(GapKind.UNBRIDGEABLE_SNAPSHOT)
_PREVIOUS_ID = int(Continuity.PREVIOUS_ID)


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
    return state


def check_updates(
    continuity: Continuity,
    best_status: Status,
    is_snapshot: NDArray[np.bool_],
    first: NDArray[np.int64],
    previous: NDArray[np.int64],
    sequence: NDArray[np.int64],
    state: NDArray[np.int64],
) -> tuple[Verdicts, int]:
    """Judge book updates in the feed's order.

    Parameters
    ----------
    continuity : Continuity
        The feed's rule.
    best_status : Status
        What its books can be at best.
    is_snapshot : bool[n]
        Whole book or changes.
    first, previous, sequence : int64[n]
        First, previous and last update id of each message; -1 where not given.
    state : int64[STATE_FIELDS]
        Changed in place; carries over to the next batch.

    Returns
    -------
    (Verdicts, int)
        The verdicts, and the index of the first message that is out of order, or -1.
    """
    n = len(sequence)
    verdicts = Verdicts(
        np.zeros(n, np.int8),
        np.zeros(n, np.int8),
        np.full(n, _NO_GAP, np.int8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
    )
    misplaced = _check(
        int(continuity),
        int(best_status),
        is_snapshot,
        first,
        previous,
        sequence,
        state,
        verdicts.action,
        verdicts.status,
        verdicts.gap,
        verdicts.expected,
        verdicts.found,
    )
    return verdicts, misplaced


@kernel
def _check(
    rule, best_status, is_snapshot, first, previous, sequence, state, action, status, gap, expected, found
):
    """Judge each message from the one before; cost: a few comparisons a message."""
    for row in range(len(sequence)):
        last = sequence[row]
        if last < state[ROW_SEQUENCE]:
            return row
        state[ROW_SEQUENCE] = last
        state[UPDATES_SEEN] = 1
        if is_snapshot[row]:
            if state[STATUS] <= _SUSPECT:
                action[row] = RESET
                state[LAST_SEQUENCE] = last
                state[STATUS] = best_status
                state[BRIDGE_DUE] = 1
        elif state[STATUS] != _UNSEEDED and not _stale(rule, last, state):
            action[row] = APPLY
            if not _connects(rule, first[row], previous[row], state):
                gap[row] = _UNBRIDGEABLE if state[BRIDGE_DUE] else _SEQUENCE_GAP
                if rule == _PREVIOUS_ID:
                    expected[row], found[row] = state[LAST_SEQUENCE], previous[row]
                else:
                    expected[row], found[row] = state[LAST_SEQUENCE] + 1, first[row]
                state[STATUS] = _SUSPECT
            state[LAST_SEQUENCE] = last
            state[BRIDGE_DUE] = 0
        status[row] = state[STATUS]
    return -1


@kernel
def _stale(rule, last, state):
    if rule == _PREVIOUS_ID and state[BRIDGE_DUE]:
        return last < state[LAST_SEQUENCE]
    return last <= state[LAST_SEQUENCE]


@kernel
def _connects(rule, first, previous, state):
    """Whether a diff that is not stale leaves no id between itself and the book."""
    if rule == _PREVIOUS_ID:
        if state[BRIDGE_DUE]:
            return first <= state[LAST_SEQUENCE] or previous == state[LAST_SEQUENCE]
        return previous <= state[LAST_SEQUENCE]
    return first <= state[LAST_SEQUENCE] + 1
