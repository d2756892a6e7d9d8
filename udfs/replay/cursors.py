"""Books of one symbol after each book update, and the time of each update by a clock, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import FULL_DEPTH, NOT_GIVEN, UNSOUND_LABELS, EventType, Status
from deltabook.schemas.tables import BOOKS, form_of
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.orderbook.ranked_book import ASK, BID
from deltabook.udfs.rebuild.book_rows import cut_to_known
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.replay.clocks import ChunkFiles, Clock, ReplayFeed, compute_times
from deltabook.udfs.replay.streams import read_updates, use_vendor_books
from deltabook.udfs.storage.prefetch import prefetch


@dataclass(frozen=True)
class BookUpdates:
    """n book updates of one chunk, and the book after each of them.

    If a snapshot was fetched separately, only the next diff shows whether to apply it. So the rebuilder holds
    back the snapshot and the events after it until that diff arrives.

    Attributes
    ----------
    chunk : int
        Start of the chunk, ns since 1970 UTC.
    time : int64[n]
        Time of each update by the clock, ns since 1970 UTC.
    sequence : int64[n]
        Id of each update.
    row : int64[n + 1]
        Row of `books` that holds the book before the first update, then after each update; -1 stands for the
        row of `before`.
    number : int64[n + 1]
        Running number of the update before the first update, then of each update. The first update that is
        read has the number 0. Updates that the rebuilder already held back then have negative numbers.
    books : pyarrow.RecordBatch
        Rows of the table `books`, one for each applied update. The column `received` holds the running number
        of the update instead of a time.
    before : pyarrow.RecordBatch
        One row: the book before the first row of `books`.
    state : BookState
        Whole state of the book before the first of `events`.
    events : pyarrow.RecordBatch
        The batch of updates that was read last. The column `received` holds running numbers as in `books`.
    """

    chunk: int
    time: NDArray[np.int64]
    sequence: NDArray[np.int64]
    row: NDArray[np.int64]
    number: NDArray[np.int64]
    books: pa.RecordBatch
    before: pa.RecordBatch
    state: BookState
    events: pa.RecordBatch


def apply_updates(
    source: ReplayFeed,
    chunks: Sequence[ChunkFiles],
    state: BookState,
    last_time: int,
    now: int,
    batches: Iterator[pa.RecordBatch],
) -> Iterator[BookUpdates]:
    """Apply the book updates of successive chunks; yield the updates with the book after each of them.

    Parameters
    ----------
    source : ReplayFeed
        Instrument, encoding and clock.
    chunks : sequence of ChunkFiles
        Files of the chunk that is being read, and of the chunks after it.
    state : BookState
        State of the book before `batches`.
    last_time : int
        Time of the last update before `batches`, ns since 1970 UTC; -1 if there is none.
    now : int
        Start of the replay, ns since 1970 UTC. Updates that `state` holds back get this time.
    batches : iterator of pyarrow.RecordBatch
        The rest of the first chunk's updates, as `read_updates` yields them.

    Yields
    ------
    BookUpdates
        Updates in the feed's order. While the book is sound, a separately fetched
        snapshot is applied only if the next diff shows a gap. By the clock `received`, such a snapshot gets
        the time of that diff: before the diff arrives, nobody knows that the snapshot is needed.
    """
    held = _select_held_updates(state)
    rebuilder = source.rebuilder(replace(state, held=held))
    before = _make_book_row(source, state, source.depth)
    pending = None if held is None else _Messages.of(source, held, chunks[0].start, -held.num_rows, now)
    count, events = 0, pa.RecordBatch.from_pylist([], schema=FLAT_EVENTS.arrow)
    for index, files in enumerate(chunks):
        use_vendor_books(source, rebuilder, files)
        for events in batches if index == 0 else prefetch(read_updates(source, files)):
            messages = _Messages.of(source, events, files.start, count, last_time)
            last_time = int(messages.time[-1]) if source.clock is Clock.RECEIVED else NOT_GIVEN
            count += events.num_rows
            events = _set_numbers(events, messages.number)
            state_before = rebuilder.capture_state()
            books = _cut(source, rebuilder.apply_events(events))
            rebuilder.gaps.closed.clear()
            messages = messages if pending is None else pending.append(messages)
            first_held = count if rebuilder.held is None else int(rebuilder.held["received"][0].as_py())
            n_decided = int(np.searchsorted(messages.number, first_held))
            pending = messages.part(n_decided, len(messages.number))
            yield from messages.part(0, n_decided).updates(source, books, before, state_before, events)
            before = books.slice(books.num_rows - 1) if books.num_rows else before
    if pending is not None and len(pending.number):
        no_books = _make_no_books(source)
        yield from pending.updates(source, no_books, before, rebuilder.capture_state(), events.slice(0, 0))


@dataclass(frozen=True)
class _Messages:
    """n updates that were read: one array for each field. `BookUpdates` describes the fields."""

    chunk: NDArray[np.int64]
    time: NDArray[np.int64]
    sequence: NDArray[np.int64]
    is_snapshot: NDArray[np.bool_]
    number: NDArray[np.int64]

    @classmethod
    def of(
        cls, source: ReplayFeed, events: pa.RecordBatch, chunk: int, first_number: int, last_time: int
    ) -> _Messages:
        names = ("received", "order_time", "sequence", "is_snapshot")
        received, order_time, sequence, is_snapshot = (to_numpy(events[name]) for name in names)
        time = compute_times(source.clock, received, order_time, last_time)
        if first_number < 0:  # these updates were held back where reading began
            time = np.full(len(time), last_time)
        numbers = np.arange(first_number, first_number + len(time))
        return cls(np.full(len(time), chunk), time, sequence, is_snapshot, numbers)

    def part(self, start: int, end: int) -> _Messages:
        return _Messages(*(values[start:end] for values in vars(self).values()))

    def append(self, later: _Messages) -> _Messages:
        return _Messages(*map(np.concatenate, zip(vars(self).values(), vars(later).values(), strict=True)))

    def updates(
        self,
        source: ReplayFeed,
        books: pa.RecordBatch,
        before: pa.RecordBatch,
        state: BookState,
        events: pa.RecordBatch,
    ) -> Iterator[BookUpdates]:
        """Yield these updates, split by chunk."""
        number = np.concatenate((self.number[:1] - 1, self.number))
        row = np.searchsorted(to_numpy(books["received"]), number, side="right") - 1
        if source.clock is Clock.RECEIVED and not source.feed.own_snapshots:
            self._delay_snapshots(row, books, before)
        bounds = [0, *(np.flatnonzero(np.diff(self.chunk)) + 1).tolist(), len(self.chunk)]
        for start, end in pairwise(bounds):
            if end > start:
                yield BookUpdates(
                    int(self.chunk[start]),
                    self.time[start:end],
                    self.sequence[start:end],
                    row[start : end + 1],
                    number[start : end + 1],
                    books,
                    before,
                    state,
                    events,
                )

    def _delay_snapshots(self, row: NDArray[np.int64], books: pa.RecordBatch, before: pa.RecordBatch) -> None:
        """Give each snapshot that replaced a known book the time of the diff that revealed the gap.

        A known book is sound. The method changes `time` in place.
        """
        applied = np.diff(row) > 0
        for index in np.flatnonzero(self.is_snapshot & applied).tolist():
            previous = books["status"][int(row[index])] if row[index] >= 0 else before["status"][0]
            if previous.as_py() in UNSOUND_LABELS:
                continue
            diffs = np.flatnonzero(applied[index:] & ~self.is_snapshot[index:])
            if len(diffs):
                following = index + int(diffs[0])
                self.time[index:following] = self.time[following]


def rebuild_full_book(source: ReplayFeed, updates: BookUpdates, count: int) -> dict[str, NDArray[np.int64]]:
    """Return all levels of the book after the first `count` updates. Replays a batch, which takes ms.

    Parameters
    ----------
    source : ReplayFeed
        Instrument and encoding.
    updates : BookUpdates
        The updates.
    count : int
        Number of updates to apply.

    Returns
    -------
    dict of str to int64[:]
        `bid_prices`, `bid_sizes`, `ask_prices`, `ask_sizes`: scaled integers, best first. If the instrument
        is stored as DECIMAL(38,18), these are object arrays of Python integers.
    """
    number, events = int(updates.number[count]), updates.events
    start = max(number - int(events["received"][0].as_py()), 0) if events.num_rows else 0
    shallow = source.rebuilder(updates.state, depth=1)
    shallow.skip_rows(True)
    shallow.apply_events(events.slice(0, start))
    state = shallow.capture_state()
    deep, book = source.rebuilder(state, FULL_DEPTH), _make_book_row(source, state, FULL_DEPTH)
    for index in range(start, events.num_rows):
        rows = _cut(source, deep.apply_events(events.slice(index, 1)))
        rows = rows.filter(pc.less_equal(rows["received"], number))
        book = rows.slice(rows.num_rows - 1) if rows.num_rows else book
        if deep.held is None:
            break
    return {name: source.numbers.addends(book[name][0].values) for name in SIDE_NAMES}


def make_standing_book(source: ReplayFeed, chunk: int, state: BookState) -> BookUpdates:
    """Return a `BookUpdates` without updates: the book of a state is its `before`.

    Parameters
    ----------
    source : ReplayFeed
        Instrument and encoding.
    chunk : int
        Start of the chunk, ns since 1970 UTC.
    state : BookState
        State of the book.
    """
    empty = np.empty(0, dtype=np.int64)
    events = pa.RecordBatch.from_pylist([], schema=FLAT_EVENTS.arrow)
    row = number = np.full(1, NOT_GIVEN)
    book = _make_book_row(source, state, source.depth)
    return BookUpdates(chunk, empty, empty, row, number, _make_no_books(source), book, state, events)


def _select_held_updates(state: BookState) -> pa.RecordBatch | None:
    """Return the book updates that a state holds back, with numbers -n to -1; None if it holds none back."""
    if state.held is None:
        return None
    is_update = pc.equal(state.held["event_type"], EventType.BOOK_UPDATE)
    held = state.held.filter(is_update)
    return _set_numbers(held, np.arange(-held.num_rows, 0))


def _set_numbers(events: pa.RecordBatch, numbers: NDArray[np.int64]) -> pa.RecordBatch:
    """Return events with `numbers` in the column `received`, which the rebuilder copies to rows of books."""
    column = events.schema.get_field_index("received")
    return events.set_column(column, events.schema.field(column), pa.array(numbers))


def _make_book_row(source: ReplayFeed, state: BookState, depth: int) -> pa.RecordBatch:
    """Return the book of a state as a row of `books`, with at most `depth` levels per side."""
    row: dict[str, object] = {column.name: NOT_GIVEN for column in BOOKS.columns if column.type == "BIGINT"}
    row |= {"exchange": source.exchange, "symbol": source.symbol, "status": state.status.label}
    row |= {"epoch": state.epoch, "sequence": state.sequence, "crossed": False}
    shown = depth if state.status > Status.UNSEEDED else 0
    for side, (prices, sizes), step in (("bid", state.bids, -1), ("ask", state.asks, 1)):
        row |= {f"{side}_prices": prices[::step][:shown], f"{side}_sizes": sizes[::step][:shown]}
        row[f"{side}_levels"] = len(prices) if shown else 0
    known = source.rebuilder(state, depth).book.count_known_levels()
    row |= {"bid_known_levels": known[BID], "ask_known_levels": known[ASK]}
    scaled = pa.RecordBatch.from_pylist([row], schema=BOOKS.arrow)
    return _cut(source, source.numbers.decode(scaled).cast(_make_no_books(source).schema))


def _cut(source: ReplayFeed, books: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows of books, cut to the known levels if the replay shows only these."""
    return cut_to_known(books) if source.known_only else books


def _make_no_books(source: ReplayFeed) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=form_of(BOOKS, source.numbers.is_decimal).arrow)
