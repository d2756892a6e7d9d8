"""Which pairs of a book and a golden row are compared, and why others are not: each reason by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_fidelity_groups import START, file_of, levels

from deltabook.schemas.names import FULL_DEPTH, STATUS_LABELS, GoldenKind
from deltabook.schemas.tables import BOOKS, GOLDEN
from deltabook.udfs.fidelity.golden_match import ChunkBooks, Window, read_windows
from deltabook.udfs.fidelity.golden_rows import StoredGolden

BIDS, ASKS = [9, 8], [11, 12]


class Chunk:
    """Books, golden rows and messages of one chunk, by update id."""

    def __init__(self, root: Path, kind: GoldenKind, feed: str = "binance"):
        self.root, self.kind, self.feed = root, kind, feed
        self.diffs: list[int] = []
        self.snapshots: list[int] = []
        self.books: list[dict[str, Any]] = []
        self.golden: list[dict[str, Any]] = []

    def add_book(self, number: int, **fields: Any) -> None:
        usual = {"bid_known_levels": 2, "ask_known_levels": 2, "bid_levels": 2, "ask_levels": 2}
        usual |= {"sequence": number, "status": "verified", "cadence": "change"}
        self.books.append(usual | levels(BIDS, ASKS) | fields)

    def add_golden(self, number: int, bids: list[int] = BIDS, asks: list[int] = ASKS, **fields: Any) -> None:
        self.golden.append({"sequence": number, "kind": str(self.kind)} | levels(bids, asks) | fields)

    def read(self) -> list[Window]:
        updates = sorted([(number, False) for number in self.diffs] + [(at, True) for at in self.snapshots])
        reference = SimpleNamespace(
            exchange="BINANCE",
            hour=START,
            feed=self.feed,
            book_files=file_of(self.root, BOOKS, self.books),
            files_before=[],
            golden_files=file_of(self.root, GOLDEN, self.golden),
            golden_from=0,
        )
        columns = {
            "epoch": [0] * len(updates),
            "sequence": [number for number, _ in updates],
            "is_snapshot": [is_snapshot for _, is_snapshot in updates],
        }
        depth = 1 if self.kind is GoldenKind.BOOK_TICKER else 2
        books = ChunkBooks(reference)
        return [
            *read_windows(reference, StoredGolden(reference, self.kind), depth, pa.table(columns), books, 100)
        ]

    def count(self) -> tuple[list[int], dict[str, int]]:
        """Return the ids of the compared pairs, and the number of pairs that are not, by reason."""
        windows = self.read()
        skipped: Counter[str] = Counter()
        for window in windows:
            skipped.update(window.skipped)
        return [number for window in windows for number in window.ids.tolist()], +skipped


@pytest.mark.parametrize("kind", [GoldenKind.BOOK_TICKER, GoldenKind.VENDOR_BOOK])
def test_only_books_that_are_told_are_compared(tmp_path: Path, kind: GoldenKind) -> None:
    chunk = Chunk(tmp_path, kind)
    for number, status in enumerate(STATUS_LABELS, 1):
        chunk.diffs.append(number)
        chunk.add_book(number, status=status)
        chunk.add_golden(number)
    assert STATUS_LABELS[:3] == ("unseeded", "warming", "suspect")
    assert chunk.count() == ([4, 5, 6], {"unsound": 3})


IMPOSSIBLE = [
    (BIDS, [8, 12]),  # crossed
    ([8, 9], ASKS),  # not sorted
    ([9, 9], ASKS),
    (BIDS, [11, 11]),
    ([9, 0], ASKS),  # not positive
    (BIDS, [-1, 11]),
]
ONE_SIDED = [([], ASKS), (BIDS, []), ([], [])]
LOCKED = (BIDS, [9, 12])


@pytest.mark.parametrize("kind", [GoldenKind.BOOK_TICKER, GoldenKind.VENDOR_BOOK])
def test_golden_rows_that_no_exchange_has_are_skipped(tmp_path: Path, kind: GoldenKind) -> None:
    chunk = Chunk(tmp_path, kind)
    rows = [*IMPOSSIBLE, *ONE_SIDED, LOCKED]
    for number, sides in enumerate(rows, 1):
        chunk.diffs.append(number)
        chunk.add_book(number)
        chunk.add_golden(number, *sides)
    if kind is GoldenKind.BOOK_TICKER:  # a ticker may say that a side is empty
        assert chunk.count() == ([7, 8, 9, 10], {"impossible": 6})
    else:
        assert chunk.count() == ([10], {"impossible": 9})


def test_a_book_of_which_nothing_is_known_is_not_compared(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path, GoldenKind.BOOK_TICKER)
    for number, known in enumerate([(0, 0), (1, 0), (0, 2)], 1):
        chunk.diffs.append(number)
        chunk.add_book(number, bid_known_levels=known[0], ask_known_levels=known[1])
        chunk.add_golden(number)
    assert chunk.count() == ([2, 3], {"unknown": 1})


def test_a_ticker_older_than_a_snapshot_is_outdated(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path, GoldenKind.BOOK_TICKER)
    chunk.diffs, chunk.snapshots = [1, 3, 5, 6, 7, 9], [4, 7]
    chunk.add_book(1)
    for number in (2, 6, 9):
        chunk.add_golden(number)
    # At 1 there is no ticker yet. At 5, the ticker 2 is older than the snapshot 4.
    # At 7, the ticker 6 is older than the snapshot 7.
    assert chunk.count() == ([3, 6, 9], {"outdated": 2})


def test_a_ticker_with_the_id_of_the_snapshot_is_not_outdated(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path, GoldenKind.BOOK_TICKER)
    chunk.diffs, chunk.snapshots = [1, 4, 5], [4]
    chunk.add_book(1)
    chunk.add_golden(4)
    chunk.add_golden(5)
    assert chunk.count() == ([4, 5], {})


def test_a_vendor_book_is_of_its_own_id_and_never_outdated(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path, GoldenKind.VENDOR_BOOK)
    chunk.diffs, chunk.snapshots = [1, 3, 5], [4]
    chunk.add_book(1)
    for number in (2, 3, 5):  # no diff ends with 2
        chunk.add_golden(number)
    assert chunk.count() == ([3, 5], {})


def test_a_pair_is_counted_under_its_first_reason(tmp_path: Path) -> None:
    chunk = Chunk(tmp_path, GoldenKind.BOOK_TICKER)
    chunk.diffs, chunk.snapshots = [1, 4, 5], [3]
    chunk.add_book(1, status="suspect")
    chunk.add_book(4)
    chunk.add_golden(1, *IMPOSSIBLE[0])
    chunk.add_golden(5)
    assert chunk.count() == ([5], {"unsound": 1, "impossible": 1})


@pytest.mark.parametrize(("feed", "is_whole"), [("binance", False), ("kraken", True), ("crypto_lake", False)])
def test_known_levels_are_those_of_the_rows(tmp_path: Path, feed: str, is_whole: bool) -> None:
    chunk = Chunk(tmp_path, GoldenKind.VENDOR_BOOK, feed)
    chunk.diffs = [1, 2, 3]
    chunk.add_book(1)
    chunk.add_book(2, bid_known_levels=1, ask_known_levels=0)
    chunk.add_book(3, ask_levels=7)
    for number in chunk.diffs:
        chunk.add_golden(number)
    (window,) = chunk.read()
    whole = FULL_DEPTH if is_whole else 2  # all levels of the side are known, and no snapshot lacks one
    expected = [[whole, whole], [1, 0], [whole, 2]]
    assert np.array_equal(window.known_levels, expected)
