"""Rows of `gaps` for corrections, and the end of gaps from which an unlinked book has recovered."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.columns import DECIMAL
from deltabook.schemas.names import NOT_GIVEN, GapKind, Status
from deltabook.udfs.numbers.encoding import Codes, Numbers, Scaled
from deltabook.udfs.orderbook.continuity import APPLY, UpdateIds, UpdateVerdicts
from deltabook.udfs.orderbook.gaps import GapLog, MessageLocation, make_gap_row
from deltabook.udfs.orderbook.ranked_book import ASK, BID
from deltabook.udfs.truths.correction_gaps import close_recovered, record_corrections
from deltabook.udfs.truths.support import CROSSED, RESEEDED, RESTORED, SEEDED, STRANDED
from deltabook.udfs.truths.unlinked_book import LevelCorrections

Row = tuple[int, int, int, int, int, int, int]
"""A correction: message, side, price, old size, new size, kind, since."""


def locate(index: int) -> MessageLocation:
    return MessageLocation(0, 0, 100 + index, 1_000 + index, "file", 10 + index)


def make_corrections(rows: list[Row]) -> LevelCorrections:
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]
    columns = columns or [np.empty(0, dtype=np.int64)] * 7
    columns[5] = columns[5].astype(np.int8)
    return LevelCorrections(*columns)


ROWS = [
    (0, BID, 1000, 0, 5, SEEDED, 0),
    (2, BID, 995, 15, 0, STRANDED, 1),
    (2, ASK, 1010, 20, 35, STRANDED, 0),
    (2, ASK, 1000, 3, 0, CROSSED, 2),
    (4, BID, 990, 0, 1, RESTORED, 3),
    (4, ASK, 1020, 0, 7, SEEDED, 3),
    (5, BID, 995, 8, 9, RESEEDED, 4),
]


def test_corrections_of_one_kind_at_one_message_are_one_row_and_seeds_are_none() -> None:
    log = GapLog()
    record_corrections(log, make_corrections(ROWS), Scaled(1, 2), locate)
    columns = ("kind", "sequence", "from_time", "resolved_sequence", "resolved_time", "resolved_by", "levels")
    found = [(*(row[name] for name in columns), row["updates_affected"]) for row in log.rows()]
    stranded = ["bid 99.5 0.15 0", "ask 101 0.2 0.35"]
    assert found == [
        ("stranded_level", 102, 1_000, 102, 1_002, "vendor_book", stranded, 2),
        ("stranded_level", 102, 1_002, 102, 1_002, "book_update", ["ask 100 0.03 0"], 0),
        ("restored_level", 104, 1_003, 104, 1_004, "vendor_book", ["bid 99 0 0.01"], 1),
        ("reseed", 105, 1_004, 105, 1_005, "vendor_book", ["bid 99.5 0.08 0.09"], 1),
    ]
    assert not log.has_open_gaps
    assert {row["source_row"] for row in log.rows()} == {12, 14, 15}


def test_levels_of_decimals_are_printed_exactly() -> None:
    numbers = [Decimal("0.000000000000000001"), Decimal(123456789), Decimal(0), Decimal(2)]
    lists = pa.array([numbers], pa.list_(DECIMAL))
    rows = pa.table({"bid_prices": lists, "bid_sizes": lists, "ask_prices": lists, "ask_sizes": lists})
    codes: Numbers = Codes.of([rows])
    encoded = codes.encode(rows)
    prices, sizes = (encoded[name][0].as_py() for name in ("bid_prices", "bid_sizes"))
    log = GapLog()
    record_corrections(log, make_corrections([(0, BID, prices[1], sizes[0], 0, STRANDED, 0)]), codes, locate)
    assert log.rows()[0]["levels"] == ["bid 123456789 0.000000000000000001 0"]


def test_a_row_lists_a_thousand_levels_at_most() -> None:
    log = GapLog()
    rows = [(0, BID, 1 + price, 1, 0, RESEEDED, 0) for price in range(1_500)]
    record_corrections(log, make_corrections(rows), Scaled(0, 0), locate)
    (row,) = log.rows()
    assert len(row["levels"]) == 1_000


def test_no_corrections_give_no_rows() -> None:
    log = GapLog()
    record_corrections(log, make_corrections([]), Scaled(0, 0), locate)
    record_corrections(log, make_corrections(ROWS[:1]), Scaled(0, 0), locate)
    assert log.rows() == []


def verdicts_of(status: list[int]) -> UpdateVerdicts:
    n = len(status)
    nothing = np.full(n, NOT_GIVEN)
    action, codes = (np.full(n, APPLY, dtype=np.int8), np.array(status, dtype=np.int8))
    return UpdateVerdicts(action, codes, nothing.astype(np.int8), nothing, nothing)


def ids_of(epochs: list[int], sequences: list[int]) -> UpdateIds:
    n = len(epochs)
    false, zero = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.int64)
    epoch, sequence = np.array(epochs, dtype=np.int64), np.array(sequences, dtype=np.int64)
    return UpdateIds(false, epoch, zero, zero, sequence, false, false, zero)


STATUS = st.sampled_from([Status.UNSEEDED, Status.WARMING, Status.SUSPECT, Status.UNVERIFIABLE])


@cases(300)
@given(
    status=st.lists(STATUS, min_size=1, max_size=10),
    opened=st.lists(st.integers(0, 9), max_size=3, unique=True),
    restart=st.integers(1, 10),
    cut=st.integers(0, 10),
)
def test_a_gap_ends_at_the_first_later_message_that_leaves_the_book_right(
    status: list[Status], opened: list[int], restart: int, cut: int
) -> None:
    count = len(status)
    epochs = [int(at >= restart) for at in range(count)]
    sequences = [100 + at if at < restart else at for at in range(count)]  # ids begin anew

    def locate_in(begin: int, index: int) -> MessageLocation:
        at = begin + index
        return MessageLocation(0, epochs[at], sequences[at], 1_000 + at, "file", at)

    opened = sorted(at for at in opened if at < count)
    log = GapLog()
    for begin, end in ((0, min(cut, count)), (min(cut, count), count)):
        if begin == end:
            continue
        for at in opened:
            if begin <= at < end:
                gap = make_gap_row(GapKind.SEQUENCE_GAP, locate_in(0, at), 0, 0)
                gap["updates_affected"] = -at  # the messages applied before
                log.open.append(gap)
        log.applied = end
        close_recovered(
            log,
            verdicts_of(status[begin:end]),
            ids_of(epochs[begin:end], sequences[begin:end]),
            lambda index, begin=begin: locate_in(begin, index),
        )
    expected = {}
    for at in opened:
        right = [one for one in range(at + 1, count) if status[one] >= Status.UNVERIFIABLE]
        end = right[0] if right else None
        time = NOT_GIVEN if end is None else 1_000 + end
        affected = (count if end is None else end + 1) - at
        expected[1_000 + at] = (time, "" if end is None else "book_update", affected)
    found = {
        row["from_time"]: (row["resolved_time"], row["resolved_by"], row["updates_affected"])
        for row in log.rows()
    }
    assert found == expected
    assert log.has_open_gaps == any(time == NOT_GIVEN for time, *_ in expected.values())


@pytest.mark.parametrize("status", [Status.CHECKED, Status.VERIFIED])
def test_a_better_status_ends_a_gap_too(status: Status) -> None:
    log = GapLog(open=[make_gap_row(GapKind.SEQUENCE_GAP, locate(0), 0, 0)], applied=2)
    close_recovered(log, verdicts_of([Status.SUSPECT, status]), ids_of([0, 0], [100, 101]), locate)
    assert log.rows()[0]["resolved_sequence"] == 101
