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

from deltabook.jobs.published import require_published
from deltabook.jobs.stored import Stored
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.feeds import FEEDS, Continuity
from deltabook.schemas.names import NOT_GIVEN, EventType, Status
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, EVENTS, HOURS, INSTRUMENTS, RUNS
from deltabook.udfs.ahead import ahead
from deltabook.udfs.checkpoints import opening_of
from deltabook.udfs.clocks import (
    NOTHING_CARRIED,
    Carried,
    Clock,
    Feeding,
    Hour,
    Stamps,
    last_times,
    read_stamps,
)
from deltabook.udfs.continuity import SEED_MARK
from deltabook.udfs.cursors import standing, updates_of
from deltabook.udfs.files import local_path, read_checkpoint
from deltabook.udfs.merging import merged
from deltabook.udfs.numbers import Scaled
from deltabook.udfs.rebuild import Opening
from deltabook.udfs.replay import Replay, Suspect
from deltabook.udfs.streams import Trades, later, read_updates, trades_of

_HOURS_KEPT, _STATES_KEPT = 4, 256


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
        If there is no such symbol, or its numbers are decimals, or no book of it was built yet.
    """

    def __init__(self, warehouse: Path, symbol: str, exchange: str | None, depth: int, clock: Clock):
        self.stored = Stored(warehouse.absolute(), _versions(warehouse))
        found = _instrument(self.stored, symbol, exchange)
        numbers = Scaled(found["price_scale"], found["size_scale"])
        self.feeding = Feeding(found["exchange"], symbol, FEEDS[found["feed"]], numbers, depth, clock)
        self.hours = self._files()
        self._met: dict[tuple[int, int], Opening] = {}
        self.stamps = lru_cache(_HOURS_KEPT)(self._stamps)
        self._last_times = cache(lambda index: last_times(self.feeding, self.hours[index]))
        self._events_of_checkpoints = cache(self._read_events_of_checkpoints)
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
        batches = ahead(read_updates(feeding, hour, event))
        opening, rest = self._carried(index, opening, batches, count - due, count)
        carried = int(updates.time[count - 1]) if count else self._carry(index)[EventType.BOOK_UPDATE]
        before = standing(feeding, hour.hour, opening)
        of_updates = updates_of(
            feeding,
            self.hours[index:],
            opening,
            carried,
            now,
            chain((part for part in rest if part.num_rows), batches),
        )
        blocks = merged(feeding, of_updates, self._trades(index, time), before)
        return Replay(feeding, blocks, before, now, end, suspect)

    def _state_before(self, index: int, row: int) -> tuple[int, Opening]:
        """Return the state nearest before a row of an hour, and its row: of a checkpoint, or met before."""
        event = max(found for found in self._events_of_checkpoints(index) if found <= row)
        met = max((at for number, at in self._met if number == index and at <= row), default=NOT_GIVEN)
        if met >= event:
            return met, self._met[index, met]
        hour = self.hours[index]
        checkpoint = read_checkpoint(hour.checkpoints, self.feeding.exchange, hour.hour, event)
        return event, opening_of(checkpoint, self.feeding.numbers)

    def _carried(
        self, index: int, opening: Opening, batches: Iterator[pa.RecordBatch], done: int, count: int
    ) -> tuple[Opening, list[pa.RecordBatch]]:
        """Carry a state on to so many updates of an hour; return it, and the rest of the last batch."""
        through, rows = self.feeding.rebuilder(opening, depth=1), self._updates(index).row
        through.skip_rows(True)
        rest: list[pa.RecordBatch] = []
        while done < count and (batch := next(batches, None)) is not None:
            stored = np.cumsum(batch["first_sequence"].to_numpy() != SEED_MARK)
            cut = int(np.searchsorted(stored, count - done)) + 1
            through.feed_batch(batch.slice(0, cut))
            done += int(stored[min(cut, len(stored)) - 1])
            opening, rest = through.opening(), [batch.slice(cut)]
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
        files = {table: self.stored.data_files(table) for table in (EVENTS, CHECKPOINTS)}
        keys = [
            key for key in files[CHECKPOINTS] if key[:2] == (of.exchange, of.symbol) and key in files[EVENTS]
        ]
        if not keys:
            raise WarehouseError(f"{of.exchange} {of.symbol} has no books yet: run `deltabook reconstruct`")
        seeds = self._seeds() if of.feed.continuity is Continuity.NONE else {}
        return [
            Hour(key[2], files[EVENTS][key][0], files[CHECKPOINTS][key][0], seeds.get(key)) for key in keys
        ]

    def _seeds(self) -> dict[Any, Any]:
        """Find the vendor's book that seeded the symbol's: the books have a row of its id."""
        from deltabook.jobs.seeds import find_seeds  # it imports pyspark

        seeds = {}
        for key, seed in find_seeds(self.stored).items():  # type: ignore[arg-type]
            if key[:2] == (self.feeding.exchange, self.feeding.symbol):
                row = (ds.field("sequence") == seed["seed_sequence"]) & (ds.field("hour") == key[2])
                statuses = self.books(row, "status")["status"].to_pylist()
                if any(status != Status.UNSEEDED.label for status in statuses):
                    seeds[key] = SimpleNamespace(**seed, is_decimal=False)
        return seeds

    def books(self, chosen: ds.Expression, *columns: str) -> pa.Table:
        """Read columns of those rows of the symbol's `books` that are chosen."""
        own = (self.feeding.exchange, self.feeding.symbol)
        files = [uri for key, uris in self.stored.data_files(BOOKS).items() for uri in uris if key[:2] == own]
        if not files:
            return BOOKS.arrow.empty_table().select(columns)
        chosen &= ds.field("exchange") == self.feeding.exchange
        return ds.dataset([local_path(uri) for uri in files]).to_table(columns=list(columns), filter=chosen)

    def _read_events_of_checkpoints(self, index: int) -> list[int]:
        hour = self.hours[index]
        chosen = (ds.field("hour") == hour.hour) & (ds.field("exchange") == self.feeding.exchange)
        found = ds.dataset(local_path(hour.checkpoints)).to_table(columns=["event"], filter=chosen)
        return found["event"].to_pylist()  # type: ignore[no-any-return]

    def _updates(self, index: int) -> Stamps:
        return self.stamps(index)[EventType.BOOK_UPDATE]

    def _stamps(self, index: int) -> dict[EventType, Stamps]:
        own, carried = read_stamps(self.feeding, self.hours[index]), self._carry(index)
        return {
            stream: replace(stamps, time=np.maximum(stamps.time, carried[stream]))
            for stream, stamps in own.items()
        }

    def _carry(self, index: int) -> Carried:
        """Return the times of the last messages of the hour before."""
        if not index or self.feeding.clock is Clock.EXCHANGE:
            return NOTHING_CARRIED
        return self._last_times(index - 1)


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
    if found[0]["is_decimal"]:
        raise WarehouseError(f"{symbol} has numbers that need DECIMAL(38,18): only int64 can be replayed")
    return found[0]
