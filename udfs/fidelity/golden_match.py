"""Pairing of the books of a chunk with golden rows by id, one window of ids after another.

A golden row is an independent truth about a book. Windows limit the memory: a chunk of one hour may have a
million golden rows of 80 numbers each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import NOT_GIVEN, SKIPPED, Cadence, Status
from deltabook.udfs.fidelity.golden_rows import (
    GOLDEN_COLUMNS,
    KNOWN_COLUMNS,
    TIMES,
    Filter,
    GoldenReader,
    GoldenRows,
    Ids,
    JudgedChunk,
    count_known_levels,
    find_sound,
    make_empty_table,
    read_matching_rows,
)
from deltabook.udfs.numbers.book_faults import (
    CROSSED,
    EMPTY_SIDE,
    NOT_POSITIVE,
    NOT_SORTED,
    find_book_faults,
)

_BOOK_COLUMNS = ("epoch", "sequence", "order_time", "cadence", "crossed", *KNOWN_COLUMNS)
"""Columns of `books` that are read for the whole chunk at once. Levels are read window by window."""
_LEVEL_COLUMNS = ("epoch", "sequence", "status", *TIMES, *SIDE_NAMES)
"""Columns of `books` that are read window by window."""


class ChunkBooks:
    """The rows of `books` of one chunk, and the last row before the chunk.

    Levels are read only on request, because they need much more memory than the other columns.

    Parameters
    ----------
    reference : JudgedChunk
        The chunk and its files.

    Attributes
    ----------
    rows : pyarrow.Table
        The columns `_BOOK_COLUMNS` of the chunk's rows, in the feed's order.
    epoch, sequence : int64[n]
        Epoch and last update id of each row. If there is a row before the chunk, it comes first.
    is_sound : bool[n]
        Whether the status of each row is sound; see `Status.is_sound`.
    known_levels : int64[n, 2]
        Number of known levels by row and side. FULL_DEPTH: the side is known as a whole, because the feed's
        snapshots are whole and all its levels are known.
    has_every_change : bool[n]
        True for a row of books that have a row for every change or message; False for a row of a time grid.
    is_unverifiable : bool[n]
        Whether the status of each row is `unverifiable`.
    """

    def __init__(self, reference: JudgedChunk):
        self.reference = reference
        chunk = int(reference.hour)
        self.rows = self._read(reference.book_files, _BOOK_COLUMNS, [("hour", "=", chunk)])
        before = self._read(reference.files_before, _BOOK_COLUMNS, [("hour", "<", chunk)])
        rows = pa.concat_tables([before.slice(max(before.num_rows - 1, 0)), self.rows])
        self.epoch, self.sequence = (rows[name].to_numpy() for name in ("epoch", "sequence"))
        self.is_sound = find_sound(rows)
        self.known_levels = count_known_levels(rows, reference.feed)
        self.is_unverifiable = pc.equal(rows["status"], Status.UNVERIFIABLE.label).to_numpy()
        self.has_every_change = pc.is_in(rows["cadence"], pa.array([*map(str, Cadence)])).to_numpy()

    def read_levels(self, first: int, last: int) -> pa.Table:
        """Read the times and levels of a range of rows. All rows of the range have the same epoch.

        Parameters
        ----------
        first, last : int
            Indices of the first and the last row of the range. No row after the range may have the same id
            as the row `last`.

        Returns
        -------
        pyarrow.Table
            Ids, status, times and levels; last + 1 - first rows.
        """
        filters = [
            ("epoch", "=", int(self.epoch[first])),
            ("sequence", ">=", int(self.sequence[first])),
            ("sequence", "<=", int(self.sequence[last])),
        ]
        files = [*self.reference.files_before, *self.reference.book_files]
        rows = self._read(files, _LEVEL_COLUMNS, filters)
        # Rows before `first` that have the same id match the filters too, and are cut off.
        return rows.slice(rows.num_rows - (last + 1 - first))

    def pair(
        self,
        golden: GoldenRows,
        book_rows: Ids,
        golden_rows: Ids,
        ids: Ids,
        depth: int,
        skipped: dict[str, int],
    ) -> Window:
        """Return the window that compares rows of books, in order, with golden rows; see `Window`."""
        first, last = (int(book_rows[0]), int(book_rows[-1])) if len(book_rows) else (0, -1)
        return Window(
            self.read_levels(first, last) if len(book_rows) else make_empty_table(_LEVEL_COLUMNS),
            golden.rows,
            book_rows - first,
            golden_rows,
            ids,
            np.minimum(self.known_levels[book_rows], golden.known_levels[golden_rows]),
            self.is_unverifiable[book_rows],
            depth,
            skipped,
        )

    def _read(self, files: Sequence[str], columns: tuple[str, ...], filters: Sequence[Filter]) -> pa.Table:
        return read_matching_rows(files, columns, [("exchange", "=", self.reference.exchange), *filters])


@dataclass(frozen=True)
class Window:
    """Books and golden rows of successive ids of one epoch, and the pairs to compare.

    Attributes
    ----------
    books, golden : pyarrow.Table
        Ids, times and levels, in the feed's order; status too, if the rows are of `books`.
    book_rows, golden_rows : int64[n]
        Row of `books` and row of `golden` of each pair.
    ids : int64[n]
        Update id at which each pair is compared.
    known_levels : int64[n, 2]
        Known bids and asks of each pair's book.
    is_unverifiable : bool[n]
        Whether the book of each pair has the status `unverifiable`.
    depth : int
        Maximum number of levels per side to compare.
    skipped : dict of str to int
        Number of pairs that are not compared, by reason; see `schemas.names.SKIPPED`.
    """

    books: pa.Table
    golden: pa.Table
    book_rows: Ids
    golden_rows: Ids
    ids: Ids
    known_levels: Ids
    is_unverifiable: NDArray[np.bool_]
    depth: int
    skipped: dict[str, int]

    def without(self, left_out: NDArray[np.bool_], reason: str) -> Window:
        """Return the window without some pairs, and count them as skipped.

        Parameters
        ----------
        left_out : bool[n]
            The pairs to leave out.
        reason : str
            Reason under which they are counted.
        """
        if not left_out.any():
            return self
        kept = ~left_out
        return replace(
            self,
            book_rows=self.book_rows[kept],
            golden_rows=self.golden_rows[kept],
            ids=self.ids[kept],
            known_levels=self.known_levels[kept],
            is_unverifiable=self.is_unverifiable[kept],
            skipped=self.skipped | {reason: int(left_out.sum())},
        )


def read_windows(
    reference: JudgedChunk,
    reader: GoldenReader,
    depth: int,
    updates: pa.Table,
    books: ChunkBooks,
    window_diffs: int,
) -> Iterator[Window]:
    """Pair a chunk's books with the golden rows of one kind, by id.

    A ticker states the best bid and ask. The book after each diff is paired with the newest ticker whose id
    is not above the id of the diff. A window that has no ticker after its first id is skipped: the recording
    of tickers has stopped, and the last ticker is outdated.

    A vendor's book, or a book of another recording, is paired with the book after the diff whose last id
    equals its id. Without such a diff there is no pair.

    Books on a time grid do not have a row for every change. A row of such books is only paired at its own id.

    `Window.skipped` counts the pairs that are not compared, by reason; see `schemas.names.SKIPPED`.

    Parameters
    ----------
    reference : JudgedChunk
        The chunk and its files.
    reader : GoldenReader
        Reads the golden rows.
    depth : int
        Maximum number of levels per side to compare.
    updates : pyarrow.Table
        Columns `epoch`, `sequence`, `is_snapshot` and those that the reader needs, of the chunk's book
        updates, ascending.
    books : ChunkBooks
        The chunk's books.
    window_diffs : int
        Maximum number of diffs in a window.

    Yields
    ------
    Window
        Each window has at least one pair, or skipped pairs.
    """
    is_ticker = reader.is_ticker
    snapshots, diffs = (updates.filter(pc.equal(updates["is_snapshot"], value)) for value in (True, False))
    epochs, ids = (diffs[name].to_numpy() for name in ("epoch", "sequence"))
    # The newest ticker before the first diff may belong to the previous chunk.
    earliest_id = min(int(reference.golden_from), int(ids[0])) if is_ticker and len(ids) else 0
    for epoch in np.unique(epochs).tolist():
        start, end = np.searchsorted(epochs, [epoch, epoch + 1])
        first_book, last_book = np.searchsorted(books.epoch, [epoch, epoch + 1])
        snapshot_ids = snapshots.filter(pc.equal(snapshots["epoch"], epoch))["sequence"].to_numpy()
        snapshot_ids = np.append(np.int64(NOT_GIVEN), snapshot_ids)
        last_golden = make_empty_table(GOLDEN_COLUMNS)
        for begin in range(start, end if first_book < last_book else start, window_diffs):
            window = ids[begin : min(begin + window_diffs, end)]
            low = int(window[0]) if begin == start else int(ids[begin - 1]) + 1
            if is_ticker and begin == start:
                low = earliest_id
            found = reader.read(epoch, low, int(window[-1]), diffs.slice(begin, len(window)))
            if is_ticker and last_golden.num_rows:
                found = GoldenRows.of(pa.concat_tables([last_golden, found.rows]))
            golden, skipped = found.rows, {**found.skipped}
            last_golden = golden.slice(max(golden.num_rows - 1, 0)) if golden.num_rows else last_golden
            golden_ids = golden["sequence"].to_numpy()
            if (not len(golden_ids) and not skipped) or (is_ticker and not golden_ids[-1] > window[0]):
                continue
            at_ids = window if is_ticker else golden_ids
            golden_rows = _find_newest(golden_ids, at_ids) if is_ticker else np.arange(len(golden_ids))
            book_rows = _find_newest(books.sequence[first_book:last_book], at_ids)
            diff_rows = _find_newest(window, at_ids)
            is_pair = (golden_rows >= 0) & (book_rows >= 0) & (diff_rows >= 0)
            is_pair &= window[diff_rows] == at_ids
            book_rows += first_book
            is_pair &= books.has_every_change[book_rows] | (books.sequence[book_rows] == at_ids)
            reasons = [
                ~books.is_sound[book_rows],
                _find_impossible(golden, is_ticker)[golden_rows],
                (books.known_levels[book_rows] == 0).all(axis=1),
            ]
            if is_ticker:
                reasons.append(golden_ids[golden_rows] < snapshot_ids[_find_newest(snapshot_ids, at_ids)])
            for reason, has_reason in zip(SKIPPED, reasons, strict=False):
                skipped[reason] = int((is_pair & has_reason).sum())
                is_pair &= ~has_reason
            if is_pair.any() or any(skipped.values()):
                pairs = np.flatnonzero(is_pair)
                yield books.pair(found, book_rows[pairs], golden_rows[pairs], at_ids[pairs], depth, skipped)


def _find_impossible(golden: pa.Table, is_ticker: bool) -> NDArray[np.bool_]:
    """Return which golden rows cannot be right; a ticker with one side can."""
    faults = find_book_faults(golden)
    is_impossible = faults[NOT_POSITIVE] | faults[NOT_SORTED] | faults[CROSSED]
    return is_impossible if is_ticker else is_impossible | faults[EMPTY_SIDE]


def _find_newest(ids: Ids, at_ids: Ids) -> Ids:
    """Return, for each of `at_ids`, the index of the last id that is not above it; -1 if there is none.

    `ids` must be ascending.
    """
    return np.searchsorted(ids, at_ids, side="right") - 1
