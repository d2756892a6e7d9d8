"""Whether ids connect: what each book update does to the book, how far the book is proven, every gap.

Looks at ids alone, never at levels. One rule serves every feed (see `schemas.feeds.Continuity`):

- no snapshot yet: nothing is applied, the book is unseeded;
- a snapshot L replaces an unseeded or suspect book, and one that no diff has connected to yet;
- after a snapshot, a diff that ends before L is stale, and the first one that does not must connect;
- after that each diff must connect to the one before. One that does not is a gap: it is applied,
  and the book is suspect until the next snapshot;
- a snapshot met by an unbroken chain changes nothing, unless the next diff breaks the chain and
  connects to the snapshot: then the gap ends where it began, and the snapshot replaces the book.
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
    final: bool = True,
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
    final : bool
        Whether nothing comes after. If more may come, messages from a snapshot on that awaits the next
        diff's verdict are left out of the result: they are to be given again, before what comes.

    Returns
    -------
    (Verdicts, int)
        The verdicts of the messages judged, and the index of the first message that is out of order, or -1.
    """
    n = len(sequence)
    verdicts = Verdicts(
        np.zeros(n, np.int8),
        np.zeros(n, np.int8),
        np.full(n, _NO_GAP, np.int8),
        np.zeros(n, np.int64),
        np.zeros(n, np.int64),
    )
    judged, misplaced = _check(
        int(continuity),
        int(best_status),
        is_snapshot,
        first,
        previous,
        sequence,
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
def _check(
    rule,
    best_status,
    is_snapshot,
    first,
    previous,
    sequence,
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
        if last < state[ROW_SEQUENCE]:
            return row, row
        if is_snapshot[row]:
            replaces = state[STATUS] <= _SUSPECT or state[BRIDGE_DUE]
            if not replaces:
                following = row + 1
                while following < n and (is_snapshot[following] or _stale(rule, sequence[following], state)):
                    following += 1
                if following == n and not final:
                    return row, -1
                if following < n and not _connects(
                    rule, first[following], previous[following], sequence[following], state
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
            if not _connects(rule, first[row], previous[row], last, state):
                gap[row] = _UNBRIDGEABLE if state[BRIDGE_DUE] else _SEQUENCE_GAP
                if rule == _PREVIOUS_ID:
                    expected[row], found[row] = state[LAST_SEQUENCE], previous[row]
                else:
                    expected[row], found[row] = state[LAST_SEQUENCE] + 1, first[row]
                state[STATUS] = _SUSPECT
            state[LAST_SEQUENCE] = last
            state[BRIDGE_DUE] = 0
        state[ROW_SEQUENCE] = last
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
