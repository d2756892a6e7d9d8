"""Books of another recording of an instrument, as golden rows of the books that are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.feeds import FEEDS, Checksum
from deltabook.schemas.names import CLOCK_TOLERANCE, GoldenKind, Status
from deltabook.udfs.fidelity.golden_match import Window
from deltabook.udfs.fidelity.golden_rows import (
    GOLDEN_COLUMNS,
    KNOWN_COLUMNS,
    RECORDED_COLUMNS,
    TIMES,
    Filter,
    GoldenRows,
    Ids,
    count_known_levels,
    find_sound,
    read_matching_rows,
)
from deltabook.udfs.orderbook.checksums import KRAKEN_LEVELS, OKX_LEVELS

UPDATE_COLUMNS = ("epoch", "sequence", "order_time", *TIMES)
"""Columns of book updates that pair them with a recording."""
UNDECIDED, BOOK, RECORDING = "", "book", "recording"
"""Which of a book and a recorded book is wrong, by the exchange's tickers and checksums."""
_CHECKSUM_LEVELS = {
    Checksum.NONE: 0,
    Checksum.KRAKEN: KRAKEN_LEVELS,
    Checksum.OKX: OKX_LEVELS,
    Checksum.BITGET: OKX_LEVELS,
}
"""Number of levels per side that each checksum covers."""
_PROVEN = pa.array([Status.CHECKED.label, Status.VERIFIED.label])
"""Statuses of a book whose checksum, if the message has one, has matched."""
_MOST_DISTANCE = 360 * CLOCK_TOLERANCE
"""Largest time, ns, between messages with the same id in two recordings. The same ids can return later."""


@dataclass(frozen=True)
class Recording:
    """The books of another recording of the instrument that may belong to a chunk.

    Attributes
    ----------
    name : str
        Name of the recording.
    feed : str
        Feed of the recording.
    files : sequence of str
        Data files of its `books`, with a row for each message, in the order of the feed.
    """

    name: str
    feed: str
    files: Sequence[str]


class RecordedBooks:
    """Reads the books of a recording as golden rows, with the ids of the updates that they are compared with.

    A recorded book belongs to the update with the same id of the exchange. If one of the two recordings has
    no ids, its `sequence` is a receive time, and the last messages of the same exchange time belong together.

    Parameters
    ----------
    exchange : str
        Exchange of the instrument.
    recording : Recording
        The recording.
    updates : pyarrow.Table
        Columns `UPDATE_COLUMNS` and `is_snapshot` of the chunk's book updates, in the feed's order.
    """

    is_ticker = False

    def __init__(self, exchange: str, recording: Recording, updates: pa.Table):
        self.exchange, self.recording = exchange, recording
        has_ids = _has_ids(updates)
        if has_ids:
            first = read_matching_rows(recording.files[:1], UPDATE_COLUMNS, [("exchange", "=", exchange)])
            has_ids = _has_ids(first)
        self.key = "sequence" if has_ids else "timestamp"
        diffs = updates.filter(pc.invert(updates["is_snapshot"]))
        last = _find_last(diffs[self.key].to_numpy())
        self.last_diffs = diffs["sequence"].to_numpy()[last]

    def read(self, epoch: int, low: int, high: int, diffs: pa.Table) -> GoldenRows:
        """Return the recorded books that belong to the diffs of a window; see `GoldenReader`.

        Recorded books that may be wrong, or of which one side is not known, are left out and counted. So are
        diffs without a recorded book.
        """
        keys, times = (diffs[name].to_numpy() for name in (self.key, "order_time"))
        filters: list[Filter] = [
            ("exchange", "=", self.exchange),
            (self.key, ">=", int(keys.min())),
            (self.key, "<=", int(keys.max())),
            ("order_time", ">=", int(times.min()) - _MOST_DISTANCE),
            ("order_time", "<=", int(times.max()) + _MOST_DISTANCE),
        ]
        columns = ("epoch", "sequence", "order_time", *TIMES, *KNOWN_COLUMNS, *SIDE_NAMES)
        rows = read_matching_rows(self.recording.files, columns, filters)
        rows = self._choose_rows(rows)
        last_diffs = _find_last(keys)
        is_last = np.isin(diffs["sequence"].to_numpy()[last_diffs], self.last_diffs)
        last_diffs = last_diffs[is_last]
        row_keys = rows[self.key].to_numpy()
        _, paired_rows, paired = np.intersect1d(row_keys, keys[last_diffs], return_indices=True)
        rows, diff_of_row = rows.take(paired_rows), last_diffs[paired]
        order = np.argsort(diff_of_row)
        rows, diff_of_row = rows.take(order), diff_of_row[order]
        known = count_known_levels(rows, self.recording.feed)
        is_sound = find_sound(rows)
        is_known = is_sound & (known > 0).all(axis=1)
        skipped = {
            "unpaired": len(last_diffs) - len(diff_of_row),
            "recording unsound": int((~is_sound).sum()),
            "recording unknown": int((is_sound & ~is_known).sum()),
        }
        chosen = pa.array(is_known)
        sequence = diffs["sequence"].to_numpy()[diff_of_row[is_known]]
        columns_of = {name: rows[name].filter(chosen) for name in (*TIMES, *SIDE_NAMES)}
        columns_of |= {"epoch": pa.array(np.full(len(sequence), epoch))}
        columns_of |= {"sequence": pa.array(sequence), "source_row": pa.array(np.zeros_like(sequence))}
        own_columns = [rows[name].filter(chosen) for name in ("epoch", "sequence", "status")]
        columns_of |= dict(zip(RECORDED_COLUMNS, own_columns, strict=True))
        golden = pa.table({name: columns_of[name] for name in (*GOLDEN_COLUMNS, *RECORDED_COLUMNS)})
        return GoldenRows(golden, known[is_known], {name: count for name, count in skipped.items() if count})

    def _choose_rows(self, rows: pa.Table) -> pa.Table:
        """Return the last row of each key."""
        if self.key == "timestamp" and not FEEDS[self.recording.feed].timed_snapshots:
            # Such a snapshot has the time of a message before it, and may be ahead of it. It has a row of its
            # own only where it follows a book that may be wrong.
            follows_sound = np.concatenate(([False], find_sound(rows)[:-1]))[: rows.num_rows]
            rows = rows.filter(pa.array(follows_sound))
        return rows.take(_find_last(rows[self.key].to_numpy()))


def decide_wrong(
    window: Window,
    pairs: Ids,
    levels: Ids,
    exchange: str,
    feeds: tuple[str, str],
    golden_files: tuple[Sequence[str], Sequence[str]],
) -> NDArray[np.object_]:
    """Return which side of each differing pair is wrong, by the exchange's own tickers and checksums.

    By a ticker, a side is wrong if the other one has the best levels of the newest ticker whose id is not
    above the id of the pair, and this side has not. By a checksum, a side is wrong if the exchange's checksum
    of the other one matched, covers the level that differs, and this side has no such checksum. A pair is
    undecided if neither a ticker nor a checksum decides, or if they contradict each other.

    Parameters
    ----------
    window : Window
        Compared pairs.
    pairs : intp[k]
        Indices of the pairs that differ.
    levels : int64[k]
        First level that differs in each of these pairs, from 0.
    exchange : str
        Exchange of the instrument.
    feeds : (str, str)
        Feed of the books, and feed of the recording.
    golden_files : (sequence of str, sequence of str)
        Data files of `golden` that may have tickers and checksums with these ids: those of the warehouse, and
        those of its recordings.

    Returns
    -------
    object[k]
        UNDECIDED, BOOK or RECORDING.
    """
    by_ticker = _decide_by_tickers(window, pairs, exchange, [*golden_files[0], *golden_files[1]])
    book = window.books.select(["epoch", "sequence", "status"]).take(pa.array(window.book_rows[pairs]))
    recorded = window.golden.select(RECORDED_COLUMNS).take(pa.array(window.golden_rows[pairs]))
    recorded = recorded.rename_columns(book.schema.names)
    is_book_right, is_recording_right = (
        levels < _count_checked_levels(rows, exchange, feed, files)
        for rows, feed, files in zip((book, recorded), feeds, golden_files, strict=True)
    )
    by_checksum = np.full(len(pairs), UNDECIDED, dtype=object)
    by_checksum[is_book_right & ~is_recording_right] = RECORDING
    by_checksum[is_recording_right & ~is_book_right] = BOOK
    wrong = np.where(by_ticker == UNDECIDED, by_checksum, by_ticker)
    wrong[(by_checksum != UNDECIDED) & (by_checksum != wrong)] = UNDECIDED
    return wrong


def _count_checked_levels(rows: pa.Table, exchange: str, feed: str, golden_files: Sequence[str]) -> Ids:
    """Return, for each row of books, the number of levels per side that a matched checksum covers; 0: none.

    `rows` has the columns epoch, sequence and status.
    """
    checked = np.zeros(rows.num_rows, dtype=np.int64)
    levels = _CHECKSUM_LEVELS[FEEDS[feed].checksum]
    if not levels or not rows.num_rows:
        return checked
    ids = rows["sequence"].to_numpy()
    filters: list[Filter] = [
        ("exchange", "=", exchange),
        ("kind", "=", str(GoldenKind.CHECKSUM)),
        ("sequence", ">=", int(ids.min())),
        ("sequence", "<=", int(ids.max())),
    ]
    given = read_matching_rows(golden_files, ("epoch", "sequence"), filters)
    places = set(zip(given["epoch"].to_pylist(), given["sequence"].to_pylist(), strict=True))
    own = zip(rows["epoch"].to_pylist(), ids.tolist(), strict=True)
    is_proven = pc.is_in(rows["status"], _PROVEN).to_numpy()
    checked[is_proven & np.array([place in places for place in own])] = levels
    return checked


def _decide_by_tickers(
    window: Window, pairs: Ids, exchange: str, ticker_files: Sequence[str]
) -> NDArray[np.object_]:
    """Return which side of each differing pair is wrong, by the exchange's own best bid and ask."""
    wrong = np.full(len(pairs), UNDECIDED, dtype=object)
    filters: list[Filter] = [
        ("exchange", "=", exchange),
        ("kind", "=", str(GoldenKind.BOOK_TICKER)),
        ("sequence", ">=", int(window.ids[0])),
        ("sequence", "<=", int(window.ids[-1])),
    ]
    tickers = read_matching_rows(ticker_files, GOLDEN_COLUMNS, filters).sort_by("sequence")
    newest = np.searchsorted(tickers["sequence"].to_numpy(), window.ids[pairs], side="right") - 1
    for number in np.flatnonzero(newest >= 0).tolist():
        pair = int(pairs[number])
        true = _best_levels(tickers, int(newest[number]))
        is_book_right = _best_levels(window.books, int(window.book_rows[pair])) == true
        is_recording_right = _best_levels(window.golden, int(window.golden_rows[pair])) == true
        if is_book_right != is_recording_right:
            wrong[number] = RECORDING if is_book_right else BOOK
    return wrong


def _best_levels(rows: pa.Table, row: int) -> list[object]:
    """Return the best bid and ask of a row, with sizes."""
    levels = (rows[name][row].as_py() for name in SIDE_NAMES)
    return [one[0] if one else None for one in levels]


def _has_ids(rows: pa.Table) -> bool:
    """Return whether `sequence` is an id of the exchange, not a receive time."""
    return bool((rows["sequence"].to_numpy() != rows["received"].to_numpy()).any())


def _find_last(keys: Ids) -> NDArray[np.intp]:
    """Return the index of the last of each of the distinct keys, by key."""
    first_of_reversed = np.unique(keys[::-1], return_index=True)[1]
    return len(keys) - 1 - first_of_reversed
