"""Which vendor books are trusted, and between which messages each belongs: against plain loops."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases
from test_fidelity_groups import file_of, levels

from deltabook.schemas.columns import DECIMAL, SIDE_NAMES
from deltabook.schemas.tables import GOLDEN
from deltabook.udfs.numbers.book_faults import CROSSED, EMPTY_SIDE, LOCKED, NOT_POSITIVE, NOT_SORTED
from deltabook.udfs.numbers.encoding import Codes, Scaled
from deltabook.udfs.orderbook.book import SideChanges
from deltabook.udfs.truths.vendor_books import (
    NO_VENDOR_BOOKS,
    VendorBookQueue,
    VendorBooks,
    queue_vendor_books,
    read_vendor_books,
)

Ids = tuple[int, int]
"""Epoch and id."""


def make_rows(books: list[dict[str, list[int]]], is_decimal: bool = False) -> pa.Table:
    """Return rows of `read_vendor_books` with the ids 1, 2, …"""
    number = Decimal if is_decimal else int
    kind = pa.list_(DECIMAL if is_decimal else pa.int64())
    columns = {
        name: pa.array([[number(value) for value in book[name]] for book in books], kind)
        for name in SIDE_NAMES
    }
    ids = range(1, len(books) + 1)
    numbers = {"epoch": [0] * len(books), "sequence": ids, "received": [10 * number for number in ids]}
    return pa.table({name: pa.array(values, pa.int64()) for name, values in numbers.items()} | columns)


def read_side(side: SideChanges, index: int) -> tuple[list[int], list[int]]:
    start, end = side.offsets[index : index + 2].tolist()
    return side.prices[start:end].tolist(), side.sizes[start:end].tolist()


def find_fault(book: dict[str, list[int]]) -> str | None:
    """Return the first reason for which a book is not trusted."""
    bids, asks = book["bid_prices"], book["ask_prices"]
    if not bids or not asks:
        return EMPTY_SIDE
    if any(number <= 0 for name in SIDE_NAMES for number in book[name]):
        return NOT_POSITIVE
    if any(price <= worse for price, worse in pairwise(bids)):
        return NOT_SORTED
    if any(price >= worse for price, worse in pairwise(asks)):
        return NOT_SORTED
    if bids[0] > asks[0]:
        return CROSSED
    return LOCKED if bids[0] == asks[0] else None


BIDS = [[6], [6, 5], [6, 5, 4], [5, 4], [], [7], [8, 6], [5, 6], [6, 6], [6, 0], [-1]]
ASKS = [[7], [7, 8], [7, 8, 9], [8, 9], [], [6], [5, 7], [9, 8], [8, 8], [0, 7], [-1, 7]]
BOOK = st.builds(levels, st.sampled_from(BIDS), st.sampled_from(ASKS))


@pytest.mark.kernel
@cases(400)
@given(st.lists(BOOK, max_size=8), st.booleans())
def test_only_possible_books_are_queued_and_the_others_are_counted_by_their_first_fault(
    books: list[dict[str, list[int]]], is_decimal: bool
) -> None:
    rows = make_rows(books, is_decimal)
    queue = queue_vendor_books(rows, Codes.of([rows]) if is_decimal else Scaled(0, 0))
    faults = [find_fault(book) for book in books]
    assert +queue.rejected == Counter(fault for fault in faults if fault)
    trusted = [(number, book) for number, book in enumerate(books, 1) if faults[number - 1] is None]
    found = queue.books
    assert found.sequence.tolist() == [number for number, _ in trusted]
    assert found.received.tolist() == [10 * number for number, _ in trusted]
    for index, (_, book) in enumerate(trusted):
        sides = [book[f"{side}_prices"] for side in ("bid", "ask")]
        shown = [read_side(side, index) for side in (found.bids, found.asks)]
        if not is_decimal:
            assert shown == [(prices, prices) for prices in sides]
        assert [len(prices) for prices, _ in shown] == [*map(len, sides)]


def test_books_are_taken_by_index() -> None:
    books = queue_vendor_books(
        make_rows([levels([6, 5], [7]), levels([5], [7, 8]), levels([4], [9])]), Scaled(0, 0)
    ).books
    found = books.take(np.array([2, 0]))
    assert (found.sequence.tolist(), len(found)) == ([3, 1], 2)
    assert [read_side(found.bids, index)[0] for index in (0, 1)] == [[4], [6, 5]]
    assert [read_side(found.asks, index)[0] for index in (0, 1)] == [[9], [7]]


def make_queue(ids: list[Ids], received: list[int]) -> VendorBookQueue:
    """Return a queue of vendor books of one level; the bid's price is the index of the book."""
    offsets, prices = np.arange(len(ids) + 1), np.arange(len(ids))
    side = SideChanges(offsets, prices, prices + 1)
    epoch, sequence = (np.array([one[part] for one in ids], dtype=np.int64) for part in (0, 1))
    received_array = np.array(received, dtype=np.int64)
    return VendorBookQueue(VendorBooks(epoch, sequence, received_array, side, side))


def take_all(
    queue: VendorBookQueue, ids: list[Ids], received: list[int], cuts: list[int], last: Ids | None
) -> list[tuple[int, int]]:
    """Take the vendor books of all messages in batches; return the index of each and of its message."""
    taken = []
    bounds = sorted({0, *(min(cut, len(ids)) for cut in cuts), len(ids)})
    for begin, end in pairwise(bounds):
        epoch, sequence = (np.array([one[part] for one in ids[begin:end]]) for part in (0, 1))
        books, before = queue.take_before(epoch, sequence, np.array(received[begin:end]), last)
        assert np.array_equal(books.bids.offsets, np.arange(len(books) + 1))
        taken += zip(books.bids.prices.tolist(), (before + begin).tolist(), strict=True)
        last = ids[end - 1]
    return taken


IDS = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), max_size=8)


@cases(500)
@given(
    IDS.map(sorted),
    IDS.map(lambda ids: sorted({*ids})),
    st.lists(st.integers(1, 8), max_size=3),
    st.none() | st.tuples(st.integers(0, 1), st.integers(0, 9)),
)
def test_a_book_belongs_before_the_first_message_that_it_does_not_include(
    vendor: list[Ids], ids: list[Ids], cuts: list[int], last: Ids | None
) -> None:
    ids = [one for one in ids if last is None or one > last]
    queue = make_queue(vendor, [1_000 + index for index in range(len(vendor))])
    expected, old = [], 0
    for index, one in enumerate(vendor):
        before = sum(message <= one for message in ids)
        if before == len(ids) and (not ids or one != ids[-1]):
            continue  # messages that it includes may follow
        if before == 0 and (last is None or one < last):
            old += 1  # the book has moved on, or messages may be missing in between
        else:
            expected.append((index, before))
    assert take_all(queue, ids, [2_000] * len(ids), cuts, last) == expected
    assert queue.rejected["older than the last message"] == old


TIMES = st.lists(st.integers(1, 20), max_size=8)


@cases(500)
@given(
    TIMES.map(sorted),
    TIMES.map(lambda times: sorted({*times})),
    st.lists(st.integers(1, 8), max_size=3),
    st.none() | st.integers(1, 20),
)
def test_receive_times_decide_if_the_messages_have_no_ids(
    vendor: list[int], received: list[int], cuts: list[int], last: int | None
) -> None:
    received = [time for time in received if last is None or time > last]
    queue = make_queue([(0, 100 + index) for index in range(len(vendor))], vendor)
    expected, old = [], 0
    for index, time in enumerate(vendor):
        before = sum(one <= time for one in received)
        if before == len(received) and (not received or time != received[-1]):
            continue
        if before == 0 and (last is None or time < last):
            old += 1
        else:
            expected.append((index, before))
    ids = [(0, time) for time in received]  # the `sequence` of a message without an id is its receive time
    assert take_all(queue, ids, received, cuts, None if last is None else (0, last)) == expected
    assert queue.rejected["older than the last message"] == old


@cases(300)
@given(TIMES.map(sorted), TIMES)
def test_receive_times_decide_if_the_vendor_books_have_no_ids(vendor: list[int], received: list[int]) -> None:
    queue = make_queue([(0, time) for time in vendor], vendor)
    expected = []
    for index, time in enumerate(vendor):
        later = [at for at, one in enumerate(received) if one > time]
        is_last = bool(received) and time == received[-1]
        if (later or is_last) and later[:1] != [0]:
            expected.append((index, later[0] if later else len(received)))
    ids = [(0, 100 + index) for index in range(len(received))]
    assert take_all(queue, ids, received, [], None) == expected


def test_a_book_that_was_received_late_does_not_make_another_be_left_out() -> None:
    # The second vendor book has the receive time of the last message; the first one was received later.
    queue = make_queue([(0, 100), (0, 101)], [30, 20])
    ids, received = [(0, 10), (0, 20), (0, 40)], [10, 20, 40]
    taken = take_all(queue, ids, received, [2], None)
    assert {index for index, _ in taken} == {0, 1}


def test_no_rows_and_no_messages_give_no_books() -> None:
    assert queue_vendor_books(make_rows([]), Scaled(0, 0)) is NO_VENDOR_BOOKS
    nothing = np.empty(0, dtype=np.int64)
    books, before = NO_VENDOR_BOOKS.take_before(np.array([0]), np.array([1]), np.array([1]), None)
    assert (len(books), len(before)) == (0, 0)
    queue = make_queue([(0, 1)], [1])
    books, before = queue.take_before(nothing, nothing, nothing, (0, 0))
    assert (len(books), len(before), queue.used) == (0, 0, 0)


def test_the_vendor_books_of_a_chunk_are_read_in_order_of_their_ids(tmp_path: Path) -> None:
    def row(number: int, file: str = "a", at: int = 0, **fields: Any) -> dict[str, Any]:
        usual = {"kind": "vendor_book", "sequence": number, "source_file": file, "source_row": at}
        return usual | levels([number], [number + 10]) | fields

    files = [
        [row(5, "b"), row(3), row(9), row(2)],
        [row(5, "a", 2, received=1), row(5, "a", 1, received=2), row(1, epoch=1)],
        [row(4, kind="book_ticker"), row(4, exchange="OTHER"), row(6)],
    ]
    reference = SimpleNamespace(
        exchange="BINANCE",
        is_decimal=False,
        vendor_files=[file for rows in files for file in file_of(tmp_path, GOLDEN, rows)],
        vendor_from=1,
        vendor_to=6,
    )
    found = read_vendor_books(reference)
    assert found.column_names == ["epoch", "sequence", "received", *SIDE_NAMES]
    read = found.to_pydict()
    ids = list(zip(read["epoch"], read["sequence"], read["received"], strict=True))
    assert ids == [(0, 2, 0), (0, 3, 0), (0, 5, 2), (0, 5, 1), (0, 5, 0), (0, 6, 0), (1, 1, 0)]
    assert read["ask_prices"][0] == [12]
