"""The log of gaps: a gap stays open until a message resolves it, and counts the updates until then."""

from __future__ import annotations

import numpy as np
import pytest

from deltabook.schemas.names import NOT_GIVEN, GapKind
from deltabook.udfs.orderbook.continuity import APPLY, IGNORE, MERGE, RESET, UpdateVerdicts
from deltabook.udfs.orderbook.gaps import GapLog, MessageLocation

pytestmark = pytest.mark.kernel


def place_of(index: int) -> MessageLocation:
    return MessageLocation(0, 0, 100 + index, 1_000 + index, "f", index)


def verdicts(*judged: tuple[int, int]) -> UpdateVerdicts:
    """(action, gap) of each message."""
    action, gap = (np.array(values, dtype=np.int8) for values in zip(*judged, strict=True))
    numbers = np.arange(len(judged), dtype=np.int64)
    return UpdateVerdicts(action, np.zeros_like(action), gap, numbers + 50, numbers + 60)


def test_a_gap_is_open_until_a_snapshot_and_counts_what_came_meanwhile() -> None:
    log = GapLog()
    log.record_updates(
        verdicts((RESET, -1), (APPLY, -1), (APPLY, GapKind.SEQUENCE_GAP), (APPLY, -1)), place_of
    )
    assert log.has_open_gaps
    (row,) = log.rows()
    assert (row["expected"], row["found"], row["resolved_sequence"]) == (52, 62, NOT_GIVEN)
    assert row["updates_affected"] == 2
    log.record_updates(verdicts((APPLY, -1), (RESET, -1), (APPLY, -1)), place_of)
    assert not log.has_open_gaps
    (row,) = log.rows()
    assert (row["updates_affected"], row["resolved_sequence"], row["resolved_by"]) == (3, 101, "snapshot")


def test_quiet_messages_are_not_asked_for_their_place_and_a_merged_snapshot_ends_no_gap() -> None:
    log, asked = GapLog(), []

    def place(index: int) -> MessageLocation:
        asked.append(index)
        return place_of(index)

    log.record_updates(verdicts((APPLY, -1), (APPLY, GapKind.SEQUENCE_GAP), (APPLY, -1), (MERGE, -1)), place)
    assert log.has_open_gaps
    (row,) = log.rows()
    assert (row["updates_affected"], row["resolved_by"], asked) == (2, "", [1])


def test_a_session_is_open_until_its_own_snapshot() -> None:
    log = GapLog()
    log.record_updates(verdicts((APPLY, -1), (IGNORE, GapKind.NEW_SESSION), (IGNORE, -1)), place_of)
    (row,) = log.rows()
    assert (row["kind"], row["expected"], row["found"]) == ("new_session", 51, 61)
    assert (row["updates_affected"], row["resolved_sequence"], row["levels"]) == (0, NOT_GIVEN, [])
    log.record_updates(verdicts((RESET, -1)), place_of)
    (row,) = log.rows()
    assert (row["updates_affected"], row["resolved_sequence"], row["resolved_by"]) == (0, 100, "snapshot")


def test_a_snapshot_that_begins_a_session_ends_its_gap() -> None:
    log = GapLog()
    log.record_updates(verdicts((APPLY, -1), (RESET, GapKind.NEW_SESSION)), place_of)
    (row,) = log.rows()
    assert (row["sequence"], row["resolved_sequence"], row["updates_affected"]) == (101, 101, 0)


def test_a_gap_that_a_vendors_book_ends_counts_what_came_meanwhile() -> None:
    log = GapLog()
    log.record_updates(verdicts((APPLY, GapKind.SEQUENCE_GAP), (APPLY, -1), (APPLY, -1)), place_of)
    log.close_open(place_of(2), "vendor_book", log.applied - 1)
    assert not log.has_open_gaps
    (row,) = log.rows()
    assert (row["updates_affected"], row["resolved_sequence"], row["resolved_by"]) == (2, 102, "vendor_book")


def test_a_crossed_book_is_open_until_an_update_uncrosses_it() -> None:
    log = GapLog()
    rows = np.arange(3)
    log.record_crossed_books(np.array([False, True, True]), rows, place_of)
    assert log.has_open_gaps
    (row,) = log.rows()
    assert (row["kind"], row["sequence"], row["updates_affected"]) == ("crossed_book", 101, 2)
    log.record_crossed_books(np.array([True, False, False]), rows, place_of)
    assert not log.has_open_gaps
    (row,) = log.rows()
    assert (row["updates_affected"], row["resolved_sequence"], row["resolved_by"]) == (3, 101, "book_update")
