"""One symbol's events and checkpoints, opened without a JVM, and the way to any place among them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from itertools import chain
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.feeds import FEEDS, Continuity
from deltabook.schemas.names import NOT_GIVEN, EventType, Status
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, EVENTS, HOURS, INSTRUMENTS, RUNS, form_of
from deltabook.udfs.numbers.encoding import Codes, Numbers, Rows, Scaled
from deltabook.udfs.orderbook.checkpoints import held_events, opening_of
from deltabook.udfs.orderbook.continuity import SEED_MARK
from deltabook.udfs.orderbook.rebuilder import Opening
from deltabook.udfs.replay.clocks import (
    NOTHING_CARRIED,
    Carried,
    Clock,
    Feeding,
    Hour,
    Stamps,
    last_times,
    read_stamps,
)
from deltabook.udfs.replay.cursors import standing, updates_of
from deltabook.udfs.replay.merging import merged
from deltabook.udfs.replay.replay import Replay, Suspect
from deltabook.udfs.replay.streams import Trades, later, read_updates, seeded_events, trades_of
from deltabook.udfs.storage.event_files import batches_of_hour
from deltabook.udfs.storage.object_store import dataset_of
from deltabook.udfs.storage.prefetch import ahead

_HOURS_KEPT, _STATES_KEPT = 24, 256
"""Of an hour of 8 M level changes 13 MB are kept: when its messages come, and its checkpoints."""


class Recording:
    """What was recorded of one symbol, as of the run that built its books.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol : str
        As in the tables.
    exchange : str or None
        Needed if several exchanges list the symbol.
    depth : int
        Levels a side that count as the top.
    clock : Clock
        What orders the messages.

    Raises
    ------
    WarehouseError
        If there is no such symbol, or no book of it was built yet.
    """

    def __init__(self, warehouse: Path, symbol: str, exchange: str | None, depth: int, clock: Clock):
        self.stored = Stored(warehouse.absolute(), _versions(warehouse))
        found = _instrument(self.stored, symbol, exchange)
        self.is_decimal = bool(found["is_decimal"])
        numbers: Numbers = Scaled(found["price_scale"], found["size_scale"])
        if self.is_decimal:  # coded below, once all of them are known
            numbers = Codes.of([])
        self.feeding = Feeding(found["exchange"], symbol, FEEDS[found["feed"]], numbers, depth, clock)
        self.hours = self._files()
        if self.is_decimal:
            self.feeding = replace(self.feeding, numbers=Codes.of(self._numbers()))
        self._met: dict[tuple[int, int], Opening] = {}
        self._own_stamps = lru_cache(_HOURS_KEPT)(lambda index: read_stamps(self.feeding, self.hours[index]))
        self._last_times = cache(lambda index: last_times(self.feeding, self.hours[index]))
        self._checkpoints = lru_cache(_HOURS_KEPT)(self._read_checkpoints)
        self._ids, self._with_trades = (
            {row["hour"]: row for row in self.rows_of(HOURS) if row["event_type"] == stream}
            for stream in (EventType.BOOK_UPDATE, EventType.TRADE)
        )

    def first_time(self) -> int:
        """Return the time of the first message by the clock, ns."""
        return min(int(stamps.time[0]) for stamps in self.stamps(0).values() if len(stamps.time))

    def place_of_time(self, time: int) -> tuple[int, int]:
        """Find the updates up to a time, ns: the hour's index, and how many of the hour's."""
        hours = [index for index, hour in enumerate(self.hours) if hour.hour in self._ids] or [0]
        firsts = [self._ids[hour.hour]["first_time"] for hour in self.hours if hour.hour in self._ids]
        at = max(bisect_right(firsts, time) - 1, 0)
        while at and not self._updates(hours[at]).until(time):
            at -= 1
        while at + 1 < len(hours) and self._updates(hours[at]).time[-1] <= time:
            if not self._updates(hours[at + 1]).until(time):
                break
            at += 1
        count = self._updates(hours[at]).until(time)
        return (hours[at], count) if count else (0, 0)

    def time_of(self, index: int, count: int) -> int:
        """Return the time of the last of so many updates of an hour, by the clock, ns."""
        return int(self._updates(index).time[count - 1])

    def place_of_sequence(self, sequence: int) -> tuple[int, int]:
        """Find the updates up to an id, as `place_of_time` does.

        Raises
        ------
        WarehouseError
            If no recorded update has it, or spans it.
        """
        for index, hour in enumerate(self.hours):
            if hour.hour in self._ids and sequence <= self._ids[hour.hour]["last_sequence"]:
                after = np.flatnonzero(self._updates(index).sequence > sequence)
                count = int(after[0]) if len(after) else len(self._updates(index).sequence)
                if count:
                    return index, count
                if index:
                    return index - 1, len(self._updates(index - 1).sequence)
                break
        first = min((row["first_sequence"] for row in self._ids.values()), default=NOT_GIVEN)
        last = max((row["last_sequence"] for row in self._ids.values()), default=NOT_GIVEN)
        of = self.feeding
        raise WarehouseError(
            f"{of.exchange} {of.symbol} has no update {sequence}: ids run from {first} to {last}"
        )

    def replay(self, place: tuple[int, int], time: int, now: int, end: int, suspect: Suspect) -> Replay:
        """Open the replay behind a place.

        Parameters
        ----------
        place : (int, int)
            The hour's index, and how many of its updates come before.
        time : int
            Trades of this time by the clock, ns, or earlier come before too.
        now, end : int
            As of `Replay`, ns.
        suspect : Suspect
            As of `Replay`.
        """
        index, count = place
        feeding, hour, updates = self.feeding, self.hours[index], self._updates(index)
        row = int(updates.row[count - 1]) + 1 if count else 0
        event, opening = self._state_before(index, row)
        due = count - int(np.searchsorted(updates.row, event))
        if hour.seed and (updates.sequence[updates.row < event] > hour.seed.seed_sequence).any():
            hour = replace(hour, seed=None)
        batches = read_updates(feeding, hour, event, row)
        opening, rest = self._carried(index, opening, batches, count - due, count)
        carried = int(updates.time[count - 1]) if count else self._carry(index)[EventType.BOOK_UPDATE]
        before = standing(feeding, hour.hour, opening)
        of_updates = updates_of(
            feeding,
            self.hours[index:],
            opening,
            carried,
            now,
            chain(rest, ahead(batches)),
        )
        blocks = merged(feeding, of_updates, self._trades(index, time), before)
        return Replay(feeding, blocks, before, now, end, suspect)

    def _state_before(self, index: int, row: int) -> tuple[int, Opening]:
        """Return the state nearest before a row of an hour, and its row: of a checkpoint, or met before."""
        checkpoints = self._checkpoints(index)
        events = checkpoints["event"].to_numpy()
        at = int(np.argmax(np.where(events <= row, events, NOT_GIVEN)))
        event = int(events[at])
        met = max((at for number, at in self._met if number == index and at <= row), default=NOT_GIVEN)
        if met >= event:
            return met, self._met[index, met]
        return event, opening_of(checkpoints.slice(at, 1), self.feeding.numbers)

    def _carried(
        self, index: int, opening: Opening, batches: Iterator[pa.RecordBatch], done: int, count: int
    ) -> tuple[Opening, list[pa.RecordBatch]]:
        """Carry a state on to so many updates of an hour; return it, and the rest of the last batch."""
        through, rows = self.feeding.rebuilder(opening, depth=1), self._updates(index).row
        through.skip_rows(True)
        rest: list[pa.RecordBatch] = []
        for batch in ahead(_until(batches, count - done)):
            stored = _stored(batch)
            cut = int(np.searchsorted(stored, count - done)) + 1
            through.feed_batch(batch.slice(0, cut))
            done += int(stored[min(cut, len(stored)) - 1])
            opening, rest = through.opening(), [batch.slice(cut)] if cut < batch.num_rows else []
            self._met[index, int(rows[done - 1]) + 1] = opening
        while len(self._met) > _STATES_KEPT:
            del self._met[next(iter(self._met))]
        return opening, rest

    def _trades(self, index: int, time: int) -> Iterator[Trades]:
        """Read the trades after a time, from an hour on; by the clock `received`, from the one before it."""
        of_received = self.feeding.clock is Clock.RECEIVED
        since = index - int(of_received and self._carry(index)[EventType.TRADE] > time)
        for number in range(since, index + 1):
            stamps = self.stamps(number)[EventType.TRADE]
            count = stamps.until(time)
            carried = int(stamps.time[count - 1]) if count else self._carry(number)[EventType.TRADE]
            if count < len(stamps.time):
                first = int(stamps.row[count])
                return trades_of(self.feeding, self._trading(number), first, carried)
        found = trades_of(self.feeding, self._trading(index + 1), 0, carried)
        return later(found, time)

    def _trading(self, index: int) -> list[Hour]:
        """List the hours from one on that have trades."""
        return [hour for hour in self.hours[index:] if hour.hour in self._with_trades]

    def rows_of(self, table: Table, *columns: str) -> list[dict[str, Any]]:
        """Read rows of a small table that are the symbol's; all its columns, or these."""
        of = self.feeding
        named = ("exchange", "symbol", *columns) if columns else ()
        rows = self.stored.rows(table, *named)
        return [row for row in rows if (row["exchange"], row["symbol"]) == (of.exchange, of.symbol)]

    def _files(self) -> list[Hour]:
        of = self.feeding
        files = {
            table: self.stored.data_files(form_of(table, self.is_decimal)) for table in (EVENTS, CHECKPOINTS)
        }
        keys = [
            key for key in files[CHECKPOINTS] if key[:2] == (of.exchange, of.symbol) and key in files[EVENTS]
        ]
        if not keys:
            raise WarehouseError(f"{of.exchange} {of.symbol} has no books yet: run `deltabook reconstruct`")
        seeds = self._seeds() if of.feed.continuity is Continuity.NONE else {}
        return [
            Hour(key[2], files[EVENTS][key][0], files[CHECKPOINTS][key][0], seeds.get(key)) for key in keys
        ]

    def _numbers(self) -> Iterator[Rows]:
        """Read all that has prices and sizes."""
        for index, hour in enumerate(self.hours):
            checkpoints = self._read_checkpoints(index)
            yield checkpoints
            held = (held_events(checkpoints.slice(at, 1)) for at in range(len(checkpoints)))
            yield from filter(None, held)
            yield from seeded_events(self.feeding, hour)

    def _seeds(self) -> dict[Any, Any]:
        """Find the vendor's book that seeded the symbol's: the books have a row of its id."""
        from deltabook.jobs.pipeline.vendor_seeds import find_seeds  # it imports pyspark

        seeds = {}
        for key, seed in find_seeds(self.stored).items():  # type: ignore[arg-type]
            if key[:2] == (self.feeding.exchange, self.feeding.symbol):
                row = (ds.field("sequence") == seed["seed_sequence"]) & (ds.field("hour") == key[2])
                statuses = self.books(row, "status")["status"].to_pylist()
                if any(status != Status.UNSEEDED.label for status in statuses):
                    seeds[key] = SimpleNamespace(**seed, is_decimal=self.is_decimal)
        return seeds

    def books(self, chosen: ds.Expression, *columns: str) -> pa.Table:
        """Read columns of those rows of the symbol's `books` that are chosen."""
        own = (self.feeding.exchange, self.feeding.symbol)
        table = form_of(BOOKS, self.is_decimal)
        files = [uri for key, uris in self.stored.data_files(table).items() for uri in uris if key[:2] == own]
        if not files:
            return table.arrow.empty_table().select(columns)
        chosen &= ds.field("exchange") == self.feeding.exchange
        return dataset_of(list(files)).to_table(columns=list(columns), filter=chosen)

    def _read_checkpoints(self, index: int) -> pa.Table:
        """Read an hour's checkpoints: all at once, since they share a row group."""
        hour = self.hours[index]
        batches = batches_of_hour(hour.checkpoints, self.feeding.exchange, hour.hour)
        return pa.Table.from_batches(batches)

    def _updates(self, index: int) -> Stamps:
        return self.stamps(index)[EventType.BOOK_UPDATE]

    def stamps(self, index: int) -> dict[EventType, Stamps]:
        """Return when the messages of both streams of an hour come."""
        carried = self._carry(index)
        return {stream: own.since(carried[stream]) for stream, own in self._own_stamps(index).items()}

    def _carry(self, index: int) -> Carried:
        """Return the times of the last messages before an hour."""
        if self.feeding.clock is Clock.EXCHANGE:
            return NOTHING_CARRIED
        given = {EventType.BOOK_UPDATE: self._ids, EventType.TRADE: self._with_trades}
        return {stream: self._last_time(index, stream, given[stream]) for stream in EventType}

    def _last_time(self, index: int, stream: EventType, given: dict[int, Any]) -> int:
        """Return the time of a stream's last message before an hour, in the nearest one that has any."""
        before = (at for at in reversed(range(index)) if self.hours[at].hour in given)
        times = (self._last_times(at)[stream] for at in before)
        return next((time for time in times if time != NOT_GIVEN), NOT_GIVEN)


def _until(batches: Iterator[pa.RecordBatch], count: int) -> Iterator[pa.RecordBatch]:
    """Yield batches until they hold so many updates of the file."""
    while count > 0 and (batch := next(batches, None)) is not None:
        yield batch
        count -= int(_stored(batch)[-1])


def _stored(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """Count the updates of the file up to each: a seed is none."""
    return np.cumsum(batch["first_sequence"].to_numpy() != SEED_MARK)


def _versions(warehouse: Path) -> dict[str, int]:
    """Return the versions of the run that built the books last: later events are not in its checkpoints."""
    require_published(warehouse)
    runs = Stored(warehouse.absolute()).rows(RUNS, "command", "finished", "versions")
    built = [row for row in runs if row["command"] == "reconstruct"]
    if not built:
        raise WarehouseError(f"warehouse {warehouse} has no books yet: run `deltabook reconstruct`")
    return dict(max(built, key=itemgetter("finished"))["versions"])


def _instrument(stored: Stored, symbol: str, exchange: str | None) -> dict[str, Any]:
    rows = stored.rows(INSTRUMENTS)
    found = [row for row in rows if row["symbol"] == symbol and exchange in (None, row["exchange"])]
    if len(found) != 1:
        there = ", ".join(sorted(f"{row['exchange']} {row['symbol']}" for row in rows))
        what = "is listed on several exchanges" if found else "is not there"
        raise WarehouseError(f"{' '.join(filter(None, (exchange, symbol)))} {what} in {stored.root}: {there}")
    return found[0]
