"""`Recording`: the recorded messages of one symbol, from which a replay starts at any position. No JVM.

A replay starts from a checkpoint, which is the full state of the book before one event.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import NOT_GIVEN, EventType
from deltabook.schemas.rows import ChunkRow, InstrumentRow, VendorFields
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, EVENTS, HOURS, INSTRUMENTS, RUNS, form_of
from deltabook.udfs.numbers.encoding import Codes, Numbers, Rows, Scaled
from deltabook.udfs.rebuild.checkpoints import BookState, read_held_events, restore_book_state
from deltabook.udfs.replay.clocks import (
    NO_LAST_TIMES,
    ChunkFiles,
    ChunkVendor,
    Clock,
    LastTimes,
    ReplayFeed,
    StreamTimes,
    read_last_times,
    read_stream_times,
)
from deltabook.udfs.replay.cursors import apply_updates, make_standing_book
from deltabook.udfs.replay.merging import merge_streams
from deltabook.udfs.replay.replay import Replay, Suspect
from deltabook.udfs.replay.streams import (
    Trades,
    drop_trades_until,
    read_chunk_events,
    read_trades,
    read_updates,
    use_vendor_books,
)
from deltabook.udfs.storage.event_files import read_chunk_batches
from deltabook.udfs.storage.object_store import open_dataset
from deltabook.udfs.storage.prefetch import prefetch
from deltabook.udfs.truths.vendor_books import read_vendor_books

_CACHED_CHUNKS, _CACHED_STATES = 24, 256
"""Maximum number of chunks whose times and checkpoints stay in memory, and of book states.

The times and checkpoints of a chunk with 8 M level changes take 13 MB.
"""


class Position(NamedTuple):
    """A position among the book updates of a recording.

    Attributes
    ----------
    chunk : int
        Index of the chunk in `Recording.chunks`.
    updates : int
        Number of updates of the chunk before the position.
    """

    chunk: int
    updates: int


class Recording:
    """Recorded messages of one symbol, read at the table versions of the run that built the books.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol : str
        Symbol as in the tables.
    exchange : str or None
        Needed if several exchanges list the symbol.
    depth : int
        Number of levels per side in an observation.
    clock : Clock
        Clock that orders the messages.
    known_only : bool
        Whether books are cut to their known levels.

    Raises
    ------
    WarehouseError
        If the symbol does not exist, or its books were not built yet.
    """

    def __init__(
        self,
        warehouse: Path,
        symbol: str,
        exchange: str | None,
        depth: int,
        clock: Clock,
        known_only: bool = False,
    ):
        self.stored = TableReader(warehouse.absolute(), _book_versions(warehouse))
        instrument = _read_instrument(self.stored, symbol, exchange)
        self.is_decimal = bool(instrument["is_decimal"])
        numbers: Numbers = Scaled(instrument["price_scale"], instrument["size_scale"])
        # `Codes` replaces each decimal by its rank. It needs all numbers, so it is built below.
        if self.is_decimal:
            numbers = Codes.of([])
        feed = FEEDS[instrument["feed"]]
        self.feed = ReplayFeed(instrument["exchange"], symbol, feed, numbers, depth, clock, known_only)
        self.chunks = self._list_chunks()
        if self.is_decimal:
            self.feed = replace(self.feed, numbers=Codes.of(self._all_numbers()))
        self._known_states: dict[tuple[int, int], BookState] = {}
        self._own_times = lru_cache(_CACHED_CHUNKS)(
            lambda index: read_stream_times(self.feed, self.chunks[index])
        )
        self._last_times = cache(lambda index: read_last_times(self.feed, self.chunks[index]))
        self._checkpoints = lru_cache(_CACHED_CHUNKS)(self._read_checkpoints)
        self._update_ids, self._trade_ids = (
            {row["hour"]: row for row in self.read_id_ranges() if row["event_type"] == stream}
            for stream in (EventType.BOOK_UPDATE, EventType.TRADE)
        )

    def first_time(self) -> int:
        """Return the time of the first message by the clock, ns since 1970 UTC."""
        return min(int(stamps.time[0]) for stamps in self.stream_times(0).values() if len(stamps.time))

    def position_of_time(self, time: int) -> Position:
        """Return the position after all updates up to a time (inclusive).

        Parameters
        ----------
        time : int
            Time by the clock, ns since 1970 UTC.
        """
        chunks = [index for index, chunk in enumerate(self.chunks) if chunk.start in self._update_ids] or [0]
        firsts = [
            self._update_ids[chunk.start]["first_time"]
            for chunk in self.chunks
            if chunk.start in self._update_ids
        ]
        number = max(bisect_right(firsts, time) - 1, 0)
        while number and not self._updates(chunks[number]).until(time):
            number -= 1
        while number + 1 < len(chunks) and self._updates(chunks[number]).time[-1] <= time:
            if not self._updates(chunks[number + 1]).until(time):
                break
            number += 1
        count = self._updates(chunks[number]).until(time)
        return Position(chunks[number], count) if count else Position(0, 0)

    def time_before(self, position: Position) -> int:
        """Return the time of the last update before a position.

        Parameters
        ----------
        position : Position
            Position that has at least one update before it in the same chunk.

        Returns
        -------
        int
            Time by the clock, ns since 1970 UTC.
        """
        return int(self._updates(position.chunk).time[position.updates - 1])

    def position_of_sequence(self, sequence: int) -> Position:
        """Return the position after all updates up to an update id (inclusive).

        Parameters
        ----------
        sequence : int
            Update id. If the venue has restarted its ids, the first occurrence of the id counts.

        Raises
        ------
        WarehouseError
            If the id is outside the range of recorded ids.
        """
        for index, chunk in enumerate(self.chunks):
            if chunk.start in self._update_ids and sequence <= self._update_ids[chunk.start]["last_sequence"]:
                after = np.flatnonzero(self._updates(index).sequence > sequence)
                count = int(after[0]) if len(after) else len(self._updates(index).sequence)
                if count:
                    return Position(index, count)
                if index:
                    return Position(index - 1, len(self._updates(index - 1).sequence))
                break
        first = min((row["first_sequence"] for row in self._update_ids.values()), default=NOT_GIVEN)
        last = max((row["last_sequence"] for row in self._update_ids.values()), default=NOT_GIVEN)
        raise WarehouseError(
            f"{self.feed.exchange} {self.feed.symbol} has no update {sequence}: ids run from {first} to "
            f"{last}"
        )

    def replay(self, position: Position, time: int, now: int, end: int, suspect: Suspect) -> Replay:
        """Return a replay that starts at a position.

        Parameters
        ----------
        position : Position
            Position among the updates.
        time : int
            Time by the clock, ns since 1970 UTC. The replay begins with the first trade after this time.
        now, end : int
            Start (inclusive) and end (exclusive) of the replay by the clock, ns since 1970 UTC.
        suspect : Suspect
            What the replay does with steps in which the book is unsound.
        """
        index, count = position
        feed, chunk, updates = self.feed, self.chunks[index], self._updates(index)
        row = int(updates.row[count - 1]) + 1 if count else 0
        state_row, state = self._find_state(index, row)
        applied = int(np.searchsorted(updates.row, state_row))
        batches = read_updates(feed, chunk, state_row, row)
        state, rest = self._carry_state(index, state, batches, applied, count)
        last_time = (
            int(updates.time[count - 1]) if count else self._times_before(index)[EventType.BOOK_UPDATE]
        )
        before = make_standing_book(feed, chunk.start, state)
        update_blocks = apply_updates(
            feed,
            self.chunks[index:],
            state,
            last_time,
            now,
            chain(rest, prefetch(batches)),
        )
        blocks = merge_streams(feed, update_blocks, self._read_trades(index, time), before)
        return Replay(feed, blocks, before, now, end, suspect)

    def _find_state(self, index: int, row: int) -> tuple[int, BookState]:
        """Return (row of the state, state) for the last known book state at or before a row of a chunk.

        The state is a checkpoint, or a state that an earlier replay has reached and stored.
        """
        checkpoints = self._checkpoints(index)
        rows = checkpoints["event"].to_numpy()
        nearest = int(np.argmax(np.where(rows <= row, rows, NOT_GIVEN)))
        checkpoint_row = int(rows[nearest])
        reached = (own for chunk, own in self._known_states if chunk == index and own <= row)
        known_row = max(reached, default=NOT_GIVEN)
        if known_row >= checkpoint_row:
            return known_row, self._known_states[index, known_row]
        return checkpoint_row, restore_book_state(checkpoints.slice(nearest, 1), self.feed.numbers)

    def _carry_state(
        self, index: int, state: BookState, batches: Iterator[pa.RecordBatch], applied: int, count: int
    ) -> tuple[BookState, list[pa.RecordBatch]]:
        """Return the book state after `count` updates of a chunk, and the rest of the last batch.

        `state` is the book after the first `applied` updates of the chunk.
        """
        rebuilder, rows = self.feed.rebuilder(state, depth=1), self._updates(index).row
        rebuilder.skip_rows(True)
        use_vendor_books(self.feed, rebuilder, self.chunks[index])
        rest: list[pa.RecordBatch] = []
        for batch in prefetch(_take_updates(batches, count - applied)):
            cut = count - applied
            rebuilder.apply_events(batch.slice(0, cut))
            applied += min(cut, batch.num_rows)
            state, rest = rebuilder.capture_state(), [batch.slice(cut)] if cut < batch.num_rows else []
            self._known_states[index, int(rows[applied - 1]) + 1] = state
        while len(self._known_states) > _CACHED_STATES:
            del self._known_states[next(iter(self._known_states))]
        return state, rest

    def _read_trades(self, index: int, time: int) -> Iterator[Trades]:
        """Yield the trades after a time; `index` is the chunk of the last book update up to that time.

        By the clock `received`, trades of the chunk before it may also arrive after the time.
        """
        is_late = self.feed.clock is Clock.RECEIVED and self._times_before(index)[EventType.TRADE] > time
        for number in range(index - int(is_late), index + 1):
            times = self.stream_times(number)[EventType.TRADE]
            count = times.until(time)
            last_time = int(times.time[count - 1]) if count else self._times_before(number)[EventType.TRADE]
            if count < len(times.time):
                first = int(times.row[count])
                return read_trades(self.feed, self._chunks_with_trades(number), first, last_time)
        trades = read_trades(self.feed, self._chunks_with_trades(index + 1), 0, last_time)
        return drop_trades_until(trades, time)

    def _chunks_with_trades(self, index: int) -> list[ChunkFiles]:
        """Return the chunks that have trades, starting with the chunk at `index`."""
        return [chunk for chunk in self.chunks[index:] if chunk.start in self._trade_ids]

    def read_id_ranges(self) -> list[ChunkRow]:
        """Return the rows of the table `hours` of this symbol: ids and times of each stream by chunk."""
        return cast(list[ChunkRow], self.read_rows(HOURS))

    def read_rows(self, table: Table, *columns: str) -> list[dict[str, Any]]:
        """Return the rows of this symbol in a small table.

        Parameters
        ----------
        table : Table
            Table with the columns exchange and symbol.
        *columns : str
            Columns to read; default: all.
        """
        names = ("exchange", "symbol", *columns) if columns else ()
        own = (self.feed.exchange, self.feed.symbol)
        return [row for row in self.stored.rows(table, *names) if (row["exchange"], row["symbol"]) == own]

    def _list_chunks(self) -> list[ChunkFiles]:
        """Return the chunks of the symbol that have both events and checkpoints."""
        own = (self.feed.exchange, self.feed.symbol)
        events, checkpoints = (
            self.stored.data_files(form_of(table, self.is_decimal)) for table in (EVENTS, CHECKPOINTS)
        )
        keys = [key for key in checkpoints if key[:2] == own and key in events]
        if not keys:
            raise WarehouseError(f"{' '.join(own)} has no books yet: run `deltabook reconstruct`")
        from deltabook.jobs.pipeline.vendor_files import find_vendor_files

        vendor = find_vendor_files(self.stored) if self.feed.feed.is_unlinked else {}
        return [
            ChunkFiles(key[2], events[key][0], checkpoints[key][0], self._locate_vendor(vendor.get(key)))
            for key in keys
        ]

    def _locate_vendor(self, fields: VendorFields | None) -> ChunkVendor | None:
        return ChunkVendor(self.feed.exchange, self.is_decimal, **fields) if fields else None

    def _all_numbers(self) -> Iterator[Rows]:
        """Yield all rows of the symbol that have prices or sizes: checkpoints, events and vendor books."""
        for index, chunk in enumerate(self.chunks):
            checkpoints = self._read_checkpoints(index)
            yield checkpoints
            held = (read_held_events(checkpoints.slice(row, 1)) for row in range(len(checkpoints)))
            yield from filter(None, held)
            yield from read_chunk_events(self.feed, chunk)
            if chunk.vendor:
                yield read_vendor_books(chunk.vendor)

    def read_books(self, chosen: ds.Expression, *columns: str) -> pa.Table:
        """Return the rows of `books` of this symbol that meet a condition.

        Parameters
        ----------
        chosen : Expression
            Condition on the columns of `books`.
        *columns : str
            Columns to read.
        """
        own = (self.feed.exchange, self.feed.symbol)
        table = form_of(BOOKS, self.is_decimal)
        files = [uri for key, uris in self.stored.data_files(table).items() for uri in uris if key[:2] == own]
        if not files:
            return table.arrow.empty_table().select(columns)
        chosen &= ds.field("exchange") == self.feed.exchange
        return open_dataset(list(files)).to_table(columns=list(columns), filter=chosen)

    def _read_checkpoints(self, index: int) -> pa.Table:
        """Return the rows of the table `checkpoints` of a chunk."""
        chunk = self.chunks[index]
        batches = read_chunk_batches(chunk.checkpoints, self.feed.exchange, chunk.start)
        return pa.Table.from_batches(batches)

    def _updates(self, index: int) -> StreamTimes:
        return self.stream_times(index)[EventType.BOOK_UPDATE]

    def stream_times(self, index: int) -> dict[EventType, StreamTimes]:
        """Return the ids and times of a chunk's book updates and trades.

        Parameters
        ----------
        index : int
            Index of the chunk in `chunks`.
        """
        before = self._times_before(index)
        return {stream: own.since(before[stream]) for stream, own in self._own_times(index).items()}

    def _times_before(self, index: int) -> LastTimes:
        """Return the time of the last message before a chunk, for each stream; -1 if there is none."""
        if self.feed.clock is Clock.EXCHANGE:
            return NO_LAST_TIMES
        rows = {EventType.BOOK_UPDATE: self._update_ids, EventType.TRADE: self._trade_ids}
        return {stream: self._last_time(index, stream, rows[stream]) for stream in EventType}

    def _last_time(self, index: int, stream: EventType, chunks: Container[int]) -> int:
        """Return the time of the last message of a stream before a chunk; NOT_GIVEN if there is none.

        `chunks` has the starts of the chunks in which the stream has messages.
        """
        before = (number for number in reversed(range(index)) if self.chunks[number].start in chunks)
        times = (self._last_times(number)[stream] for number in before)
        return next((time for time in times if time != NOT_GIVEN), NOT_GIVEN)


def _take_updates(batches: Iterator[pa.RecordBatch], count: int) -> Iterator[pa.RecordBatch]:
    """Yield batches until these have `count` updates in total."""
    while count > 0 and (batch := next(batches, None)) is not None:
        yield batch
        count -= batch.num_rows


def _book_versions(warehouse: Path) -> dict[str, int]:
    """Return the table versions that the newest run of `reconstruct` published.

    At these versions, the checkpoints match the events.
    """
    require_published(warehouse)
    runs = TableReader(warehouse.absolute()).rows(RUNS, "command", "finished", "versions")
    built = [row for row in runs if row["command"] == "reconstruct"]
    if not built:
        raise WarehouseError(f"warehouse {warehouse} has no books yet: run `deltabook reconstruct`")
    return dict(max(built, key=itemgetter("finished"))["versions"])


def _read_instrument(stored: TableReader, symbol: str, exchange: str | None) -> InstrumentRow:
    """Return the row of `instruments` of a symbol; raise an error if there is not exactly one."""
    rows = cast(list[InstrumentRow], stored.rows(INSTRUMENTS))
    matches = [row for row in rows if row["symbol"] == symbol and exchange in (None, row["exchange"])]
    if len(matches) != 1:
        known = ", ".join(sorted(f"{row['exchange']} {row['symbol']}" for row in rows))
        problem = "is listed on several exchanges" if matches else "does not exist"
        name = " ".join(filter(None, (exchange, symbol)))
        raise WarehouseError(f"{name} {problem} in {stored.root}; there are: {known}")
    return matches[0]
