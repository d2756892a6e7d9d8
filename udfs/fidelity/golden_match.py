"""Holding an hour's books against golden rows by id: exactly, level by level, a window of ids at a time.

A window bounds what is in memory: an hour may have a million golden rows of 80 numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import NOT_GIVEN, Cadence, GoldenKind, Status
from deltabook.schemas.tables import BOOKS, GOLDEN
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.numbers.encoding import words
from deltabook.udfs.storage.object_store import opened

Ids = NDArray[np.int64]
_TIMES = ("timestamp", "received")
_FIELDS = {field.name: field for field in (*GOLDEN.arrow, *BOOKS.arrow)}
_PAIRS = (("bid_prices", "bid_sizes"), ("ask_prices", "ask_sizes"))


class ShownBooks:
    """An hour's rows of books and the last one before: ids and statuses at hand, sides read when needed.

    Parameters
    ----------
    reference : row of `judge_references`
        Names the files.

    Attributes
    ----------
    rows : pyarrow.Table
        Epoch, sequence, order_time, status, cadence and crossed of the hour's rows, in the feed's order.
    epoch, sequence : int64[n]
        Of the last row before the hour, if there is one, and of its rows.
    seeded, every, unverifiable : bool[n]
        Whether a row has a book; is one of all; has that status.
    """

    def __init__(self, reference: Any):
        self.reference = reference
        hour = ("hour", "=", int(reference.hour))
        self.rows = self._read(reference.book_files, _LIGHT, [hour])
        before = self._read(reference.files_before, _LIGHT, [("hour", "<", int(reference.hour))])
        known = pa.concat_tables([before.slice(max(before.num_rows - 1, 0)), self.rows])
        self.epoch, self.sequence = (known[name].to_numpy() for name in ("epoch", "sequence"))
        self.seeded = pc.not_equal(known["status"], Status.UNSEEDED.label).to_numpy()
        self.unverifiable = pc.equal(known["status"], Status.UNVERIFIABLE.label).to_numpy()
        self.every = pc.is_in(known["cadence"], pa.array([*map(str, Cadence)])).to_numpy()

    def sides(self, low: int, high: int) -> pa.Table:
        """Read times and levels of a range of rows of one epoch.

        Parameters
        ----------
        low, high : int
            The first and the last of them; `high` is the last of its id.
        """
        ids = [("sequence", ">=", int(self.sequence[low])), ("sequence", "<=", int(self.sequence[high]))]
        files = [*self.reference.files_before, *self.reference.book_files]
        epoch = ("epoch", "=", int(self.epoch[low]))
        rows = self._read(files, (*_TIMES, *SIDE_NAMES), [epoch, *ids])
        # Rows of the first one's id that stand before it come along.
        return rows.slice(rows.num_rows - (high + 1 - low))

    def _read(self, files: Any, columns: tuple[str, ...], chosen: list[Any]) -> pa.Table:
        return read_rows(files, columns, [("exchange", "=", self.reference.exchange), *chosen])


_LIGHT = ("epoch", "sequence", "order_time", "status", "cadence", "crossed")


@dataclass(frozen=True)
class Window:
    """Books and golden rows of successive ids of one epoch, and which are to be compared.

    Attributes
    ----------
    books, golden : pyarrow.Table
        Times and levels, in the feed's order.
    of_books, of_golden : int64[n]
        Row of either, for each comparison.
    at : int64[n]
        The id of each.
    unverifiable : int
        How many of those books have that status.
    depth : int
        Levels a side that are compared at most.
    """

    books: pa.Table
    golden: pa.Table
    of_books: Ids
    of_golden: Ids
    at: Ids
    unverifiable: int
    depth: int


def windows(
    reference: Any, kind: GoldenKind, depth: int, diffs: pa.Table, shown: ShownBooks, rows: int
) -> Iterator[Window]:
    """Pair an hour's books with the golden rows of a kind, by id.

    A ticker is compared at each diff with the last one whose id is not above the diff's; a vendor's book at
    its own id, if that is a diff's last one. Where not every change has a row, the newest row is the book
    only at its own id. Where the recording of tickers has stopped, the last one is no truth any more.

    Parameters
    ----------
    reference : row of `judge_references`
        Names the files.
    kind : GoldenKind
        `book_ticker` or `vendor_book`.
    depth : int
        Levels a side that are compared at most.
    diffs : pyarrow.Table
        Epoch and sequence of the hour's diffs, ascending.
    shown : ShownBooks
        Its books.
    rows : int
        Diffs a window.

    Yields
    ------
    Window
        With one comparison at least.
    """
    is_ticker = kind is GoldenKind.BOOK_TICKER
    epochs, ids = (diffs[name].to_numpy() for name in ("epoch", "sequence"))
    columns = ("epoch", "sequence", "source_row", *_TIMES, *SIDE_NAMES)
    kept = [("exchange", "=", reference.exchange), ("kind", "=", str(kind))]
    # The newest ticker before the first diff may be one of the hour before.
    since = min(int(reference.golden_from), int(ids[0])) if is_ticker and len(ids) else 0
    for epoch in np.unique(epochs).tolist():
        start, end = np.searchsorted(epochs, [epoch, epoch + 1])
        first, last = np.searchsorted(shown.epoch, [epoch, epoch + 1])
        held = _empty(columns)
        for begin in range(start, end if first < last else start, rows):
            window = ids[begin : min(begin + rows, end)]
            low = (
                since
                if is_ticker and begin == start
                else int(ids[begin - 1]) + 1
                if begin > start
                else int(window[0])
            )
            chosen = [("epoch", "=", epoch), ("sequence", ">=", low), ("sequence", "<=", int(window[-1]))]
            golden = read_rows(reference.golden_files, columns, [*kept, *chosen])
            golden = golden.sort_by([("sequence", "ascending"), ("source_row", "ascending")])
            if is_ticker and held.num_rows:
                golden = pa.concat_tables([held, golden])
            held = golden.slice(max(golden.num_rows - 1, 0)) if golden.num_rows else held
            known = golden["sequence"].to_numpy()
            if not len(known) or (is_ticker and not known[-1] > window[0]):
                continue
            at = window if is_ticker else known
            found = _newest(known, at) if is_ticker else np.arange(len(known))
            book, diff = _newest(shown.sequence[first:last], at), _newest(window, at)
            right = (found >= 0) & (book >= 0) & (diff >= 0) & (window[diff] == at)
            book += first
            right &= shown.seeded[book] & (shown.every[book] | (shown.sequence[book] == at))
            if right.any():
                at, book, found = at[right], book[right], found[right]
                books = shown.sides(int(book[0]), int(book[-1]))
                unverifiable = int(shown.unverifiable[book].sum())
                yield Window(books, golden, book - book[0], found, at, unverifiable, depth)


def read_rows(files: Any, columns: tuple[str, ...], chosen: list[Any]) -> pa.Table:
    """Read some rows of data files; row groups that hold none of them are not read.

    Parameters
    ----------
    files : sequence of str
        URIs.
    columns : tuple of str
        Which to read.
    chosen : list of (str, str, value)
        What holds of each row: column, operator, value.

    Returns
    -------
    pyarrow.Table
        In the order of the files.
    """
    tables = []
    for file in files:
        # A file object, not a path: pyarrow would take `symbol=…` in a path for a column.
        with opened(file) as stream:
            tables.append(pq.read_table(stream, columns=list(columns), filters=chosen))
    tables = [table for table in tables if table.num_rows] or tables[:1]
    return pa.concat_tables(tables) if tables else _empty(columns)


def _empty(columns: tuple[str, ...]) -> pa.Table:
    return pa.schema([_FIELDS[name] for name in columns]).empty_table()


def _newest(ids: Ids, at: Ids) -> Ids:
    """Return the place of the last of ascending ids that is not above each of `at`, or -1."""
    return np.searchsorted(ids, at, side="right") - 1


class Matches:
    """What comparing has counted so far.

    Parameters
    ----------
    depth : int
        Levels a side that are counted one by one.

    Attributes
    ----------
    compared, matched, unverifiable : int
        Books; equal ones; those of that status.
    first_divergence : int
        Least id that did not match; -1 if none.
    levels, prices, sizes : int64[depth]
        By level, both sides: golden levels compared; books with the same price there; with the same size.
    """

    def __init__(self, depth: int):
        self.compared = self.matched = self.unverifiable = 0
        self.first_divergence = NOT_GIVEN
        self.levels, self.prices, self.sizes = (np.zeros(depth, dtype=np.int64) for _ in range(3))

    def add(self, window: Window) -> Ids:
        """Compare a window's pairs.

        Parameters
        ----------
        window : Window
            The next one.

        Returns
        -------
        int64[n]
            For each pair the first level that differs on either side; the window's depth if none does.
        """
        first = np.full(len(window.at), window.depth, dtype=np.int64)
        counted = (self.levels, self.prices, self.sizes)
        for side in _PAIRS:
            book, golden = (_lists(table, side) for table in (window.books, window.golden))
            compare_side(*book, *golden, window.of_books, window.of_golden, window.depth, first, *counted)
        equal = first == window.depth
        self.compared += len(first)
        self.matched += int(equal.sum())
        self.unverifiable += window.unverifiable
        if not equal.all():
            least = int(window.at[~equal].min())
            is_first = self.first_divergence == NOT_GIVEN
            self.first_divergence = least if is_first else min(self.first_divergence, least)
        return first

    def metrics(self, minimum: float) -> list[dict[str, Any]]:
        """Return columns of `fidelity`: all books, and each level's prices and sizes.

        Parameters
        ----------
        minimum : float
            The share that match must be above this.
        """
        whole = match_metric("match", 0, self.compared, self.matched, minimum)
        whole |= {"unverifiable": self.unverifiable, "first_divergence": self.first_divergence}
        return [
            whole,
            *(
                match_metric(name, level + 1, int(levels), int(matched[level]), minimum)
                for level, levels in enumerate(self.levels)
                for name, matched in (("price_match", self.prices), ("size_match", self.sizes))
                if levels
            ),
        ]


def match_metric(name: str, level: int, compared: int, matched: int, minimum: float) -> dict[str, Any]:
    """Return columns of `fidelity` that tell how many of something were equal.

    Parameters
    ----------
    name : str
        The metric.
    level : int
        Of the book, from 1; 0: of no one level.
    compared, matched : int
        How many.
    minimum : float
        The share must be above this to pass.
    """
    told = {"metric": name, "level": level, "compared": compared, "matched": matched}
    if not compared:
        return told | {"verdict": "none"}
    share = matched / compared
    return told | {"value": share, "golden_value": 1.0, "verdict": "passed" if share > minimum else "failed"}


def _lists(table: pa.Table, side: tuple[str, str]) -> tuple[NDArray[Any], NDArray[Any], Ids]:
    """Return prices, sizes and where each row's begin; a number is one word, or two of a decimal's."""
    found = []
    for name in side:
        lists = table[name].combine_chunks()
        starts = lists.offsets.to_numpy().astype(np.int64)
        found.append(words(lists.values.slice(starts[0], starts[-1] - starts[0])))
    return found[0], found[1], starts - starts[0]


@kernel
def compare_side(
    prices,
    sizes,
    starts,
    known_prices,
    known_sizes,
    known_starts,
    of_books,
    of_golden,
    depth,
    first,
    levels,
    same_prices,
    same_sizes,
):
    """Compare one side of books with golden ones, level by level.

    A golden side may be shorter than the book's, but empty only if that is.

    Parameters
    ----------
    prices, sizes : int64[m, words]
        Of all the books, best first.
    starts : int64[rows + 1]
        Where each book's begin.
    known_prices, known_sizes, known_starts : int64 arrays
        The same of the golden rows.
    of_books, of_golden : int64[n]
        The pairs.
    depth : int
        Levels that are compared at most.
    first : int64[n]
        The first level that differs so far; is lowered.
    levels, same_prices, same_sizes : int64[n]
        Counts of the first n levels; are raised.
    """
    for pair in range(len(of_books)):
        begin, known_begin = starts[of_books[pair]], known_starts[of_golden[pair]]
        have = starts[of_books[pair] + 1] - begin
        want = min(known_starts[of_golden[pair] + 1] - known_begin, depth)
        if want == 0 and have > 0:
            first[pair] = 0
        for level in range(want):
            counts = level < len(levels)
            if counts:
                levels[level] += 1
            if level >= have:
                first[pair] = min(first[pair], level)
                continue
            price = size = True
            for word in range(prices.shape[1]):
                price &= prices[begin + level, word] == known_prices[known_begin + level, word]
                size &= sizes[begin + level, word] == known_sizes[known_begin + level, word]
            if counts:
                same_prices[level] += price
                same_sizes[level] += size
            if not (price and size):
                first[pair] = min(first[pair], level)
