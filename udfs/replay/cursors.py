"""A book carried through one symbol's updates, batch by batch, in the order in which a clock tells them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import FULL_DEPTH, NOT_GIVEN, EventType, Status
from deltabook.schemas.tables import BOOKS, form_of
from deltabook.udfs.orderbook.rebuilder import Opening
from deltabook.udfs.replay.clocks import Clock, Feeding, Hour, numpy_of, times
from deltabook.udfs.replay.streams import read_updates
from deltabook.udfs.storage.prefetch import ahead


@dataclass(frozen=True)
class Updates:
    """Book updates of one hour, each with the book after it.

    Attributes
    ----------
    hour : int
        ns since 1970 UTC.
    time, sequence : int64[n]
        By the clock, ns, and the id of each update.
    row : int64[n + 1]
        The row of `books` that holds before the first and after each; -1: `before`.
    place : int64[n + 1]
        The number, from the cursor's start, of the one before the first, and of each.
    books : pyarrow.RecordBatch
        Rows of `books`, one after each update that was applied; `received` is the update's place.
    before : pyarrow.RecordBatch
        One row: the book before the first of `books`.
    opening : Opening
        The whole state before `events`.
    events : pyarrow.RecordBatch
        The updates read last, whose `received` is their place.
    """

    hour: int
    time: NDArray[np.int64]
    sequence: NDArray[np.int64]
    row: NDArray[np.int64]
    place: NDArray[np.int64]
    books: pa.RecordBatch
    before: pa.RecordBatch
    opening: Opening
    events: pa.RecordBatch


def updates_of(
    feeding: Feeding,
    hours: Sequence[Hour],
    opening: Opening,
    carried: int,
    now: int,
    batches: Iterator[pa.RecordBatch],
) -> Iterator[Updates]:
    """Carry a book through hours.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    hours : sequence of Hour
        The one that is being read, and those after it.
    opening : Opening
        The state before `batches`.
    carried : int
        Time of the last update before them, ns; -1 if none.
    now : int
        Time at which the cursor starts, ns: that of what was held back until then.
    batches : iterator of pyarrow.RecordBatch
        What is left of the first hour, as of `read_updates`.

    Yields
    ------
    Updates
        In the feed's order. A snapshot fetched apart that meets a whole book counts only if the next diff
        says that the chain is broken: by the clock `received` it comes with that diff.
    """
    held = _held_updates(opening)
    rebuilder = feeding.rebuilder(replace(opening, held=held))
    before = _row_of(feeding, opening, feeding.depth)
    pending = None if held is None else _Messages.of(feeding, held, hours[0].hour, -held.num_rows, now)
    place, events = 0, pa.RecordBatch.from_pylist([], schema=FLAT_EVENTS.arrow)
    for number, hour in enumerate(hours):
        for events in batches if number == 0 else ahead(read_updates(feeding, hour)):
            messages = _Messages.of(feeding, events, hour.hour, place, carried)
            carried = int(messages.time[-1]) if feeding.clock is Clock.RECEIVED else NOT_GIVEN
            place += events.num_rows
            events = _placed(events, messages.place)
            state = rebuilder.opening()
            books = rebuilder.feed_batch(events)
            rebuilder.gaps.closed.clear()
            messages = messages if pending is None else pending.joined(messages)
            waits = place if rebuilder.held is None else int(rebuilder.held["received"][0].as_py())
            judged = int(np.searchsorted(messages.place, waits))
            pending = messages.part(judged, len(messages.place))
            yield from messages.part(0, judged).updates(feeding, books, before, state, events)
            before = books.slice(books.num_rows - 1) if books.num_rows else before
    if pending is not None and len(pending.place):
        nothing = _no_books(feeding)
        yield from pending.updates(feeding, nothing, before, rebuilder.opening(), events.slice(0, 0))


@dataclass(frozen=True)
class _Messages:
    """Updates that were read: arrays of one length."""

    hour: NDArray[np.int64]
    time: NDArray[np.int64]
    sequence: NDArray[np.int64]
    is_snapshot: NDArray[np.bool_]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, feeding: Feeding, events: pa.RecordBatch, hour: int, place: int, carried: int) -> _Messages:
        names = ("received", "order_time", "sequence", "is_snapshot")
        received, order_time, sequence, is_snapshot = (numpy_of(events[name]) for name in names)
        time = times(feeding.clock, received, order_time, carried)
        if place < 0:
            time = np.full(len(time), carried)
        places = np.arange(place, place + len(time))
        return cls(np.full(len(time), hour), time, sequence, is_snapshot, places)

    def part(self, start: int, end: int) -> _Messages:
        return _Messages(*(values[start:end] for values in vars(self).values()))

    def joined(self, later: _Messages) -> _Messages:
        return _Messages(*map(np.concatenate, zip(vars(self).values(), vars(later).values(), strict=True)))

    def updates(
        self,
        feeding: Feeding,
        books: pa.RecordBatch,
        before: pa.RecordBatch,
        opening: Opening,
        events: pa.RecordBatch,
    ) -> Iterator[Updates]:
        """Yield them hour by hour."""
        place = np.concatenate((self.place[:1] - 1, self.place))
        row = np.searchsorted(numpy_of(books["received"]), place, side="right") - 1
        if feeding.clock is Clock.RECEIVED and not feeding.feed.own_snapshots:
            self._await_verdicts(row, books, before)
        bounds = [0, *(np.flatnonzero(np.diff(self.hour)) + 1).tolist(), len(self.hour)]
        for start, end in pairwise(bounds):
            if end > start:
                times_and_ids = self.time[start:end], self.sequence[start:end]
                states = row[start : end + 1], place[start : end + 1]
                hour = int(self.hour[start])
                yield Updates(hour, *times_and_ids, *states, books, before, opening, events)

    def _await_verdicts(self, row: NDArray[np.int64], books: pa.RecordBatch, before: pa.RecordBatch) -> None:
        """Let a snapshot that replaced a whole book come with the diff that said that it does."""
        applied = np.diff(row) > 0
        for index in np.flatnonzero(self.is_snapshot & applied).tolist():
            previous = books["status"][int(row[index])] if row[index] >= 0 else before["status"][0]
            if previous.as_py() in (Status.UNSEEDED.label, Status.SUSPECT.label):
                continue
            diffs = np.flatnonzero(applied[index:] & ~self.is_snapshot[index:])
            if len(diffs):
                following = index + int(diffs[0])
                self.time[index:following] = self.time[following]


def full_book(feeding: Feeding, updates: Updates, count: int) -> dict[str, NDArray[np.int64]]:
    """Return the whole book after some of the updates, by replaying their batch.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    updates : Updates
        The batch.
    count : int
        After how many.

    Returns
    -------
    dict
        int64 arrays by name as in `books`, scaled, best first; objects of an instrument of DECIMAL(38,18).
    """
    place, events = int(updates.place[count]), updates.events
    at = max(place - int(events["received"][0].as_py()), 0) if events.num_rows else 0
    through = feeding.rebuilder(updates.opening, depth=1)
    through.skip_rows(True)
    through.feed_batch(events.slice(0, at))
    state = through.opening()
    deep, found = feeding.rebuilder(state, FULL_DEPTH), _row_of(feeding, state, FULL_DEPTH)
    for number in range(at, events.num_rows):
        rows = deep.feed_batch(events.slice(number, 1))
        rows = rows.filter(pc.less_equal(rows["received"], place))
        found = rows.slice(rows.num_rows - 1) if rows.num_rows else found
        if deep.held is None:
            break
    return {name: feeding.numbers.addends(found[name][0].values) for name in SIDE_NAMES}


def standing(feeding: Feeding, hour: int, opening: Opening) -> Updates:
    """Return no updates, and the book of a state.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    hour : int
        ns since 1970 UTC.
    opening : Opening
        The state.
    """
    none = np.empty(0, dtype=np.int64)
    nothing = _no_books(feeding)
    events = pa.RecordBatch.from_pylist([], schema=FLAT_EVENTS.arrow)
    before = np.full(1, NOT_GIVEN)
    shown = _row_of(feeding, opening, feeding.depth)
    return Updates(hour, none, none, before, before, nothing, shown, opening, events)


def _held_updates(opening: Opening) -> pa.RecordBatch | None:
    if opening.held is None:
        return None
    is_update = pc.equal(opening.held["event_type"], EventType.BOOK_UPDATE)
    held = opening.held.filter(is_update)
    return _placed(held, np.arange(-held.num_rows, 0))


def _placed(events: pa.RecordBatch, places: NDArray[np.int64]) -> pa.RecordBatch:
    """Return events that carry their places in the column `received`."""
    at = events.schema.get_field_index("received")
    return events.set_column(at, events.schema.field(at), pa.array(places))


def _row_of(feeding: Feeding, opening: Opening, depth: int) -> pa.RecordBatch:
    """Return a state as a row of `books`."""
    row: dict[str, Any] = {column.name: NOT_GIVEN for column in BOOKS.columns if column.type == "BIGINT"}
    row |= {"exchange": feeding.exchange, "symbol": feeding.symbol, "status": opening.status.label}
    row |= {"epoch": opening.epoch, "sequence": opening.sequence, "crossed": False}
    shown = depth if opening.status > Status.UNSEEDED else 0
    for side, (prices, sizes), step in (("bid", opening.bids, -1), ("ask", opening.asks, 1)):
        row |= {f"{side}_prices": prices[::step][:shown], f"{side}_sizes": sizes[::step][:shown]}
        row[f"{side}_levels"] = len(prices) if shown else 0
    scaled = pa.RecordBatch.from_pylist([row], schema=BOOKS.arrow)
    return feeding.numbers.decode(scaled).cast(_no_books(feeding).schema)


def _no_books(feeding: Feeding) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=form_of(BOOKS, feeding.numbers.is_decimal).arrow)
