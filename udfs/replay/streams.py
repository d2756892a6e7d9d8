"""An hour's book updates and its trades, read from its data file: two streams, each in the feed's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN, EventType
from deltabook.udfs.orderbook.vendor_seed import with_seed
from deltabook.udfs.replay.clocks import OF_STAMPS, Clock, Feeding, Hour, numpy_of, of_type, times
from deltabook.udfs.storage.event_files import batches_of_hour, read_events

_OF_TRADE = (*OF_STAMPS, "data.side", "data.price", "data.size")
_BATCH_ROWS = 16_384
_SIGN = {"buy": 1, "sell": -1}


@dataclass(frozen=True)
class Trades:
    """Trades of one hour.

    Attributes
    ----------
    hour : int
        ns since 1970 UTC.
    time, trade_id : int64[n]
        By the clock, ns, and id.
    side : int64[n]
        1 if the aggressor bought, -1 if the aggressor sold, 0 of a trade outside the book.
    price, size : int64[n]
        Scaled; Python's integers, as objects, of an instrument of DECIMAL(38,18).
    """

    hour: int
    time: NDArray[np.int64]
    trade_id: NDArray[np.int64]
    side: NDArray[np.int64]
    price: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)

    def part(self, start: int, end: int) -> Trades:
        """Return those from `start` to before `end`."""
        arrays = (self.time, self.trade_id, self.side, self.price, self.size)
        return Trades(self.hour, *(array[start:end] for array in arrays))

    def behind(self, earlier: Sequence[Trades]) -> Trades:
        """Return these after others."""
        if not earlier:
            return self
        names = ("time", "trade_id", "side", "price", "size")
        parts = ([getattr(one, name) for one in (*earlier, self)] for name in names)
        return Trades(self.hour, *map(np.concatenate, parts))


NO_TRADES = Trades(NOT_GIVEN, *(np.empty(0, dtype=np.int64) for _ in range(5)))


def read_updates(feeding: Feeding, hour: Hour, first: int = 0, place: int = 0) -> Iterator[pa.RecordBatch]:
    """Yield an hour's book updates.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    hour : Hour
        Its files.
    first, place : int
        Events of the hour that come before, and behind which a batch is to end: as of `batches_of_hour`.

    Yields
    ------
    pyarrow.RecordBatch
        Columns of `flat_events`, coded, in the feed's order, none of them a trade.
    """
    for batch in seeded_events(feeding, hour, first, place):
        is_update = pc.equal(batch["event_type"], EventType.BOOK_UPDATE)
        updates = batch if pc.all(is_update).as_py() else batch.filter(is_update)
        if updates.num_rows:
            yield feeding.numbers.encode(updates)


def seeded_events(feeding: Feeding, hour: Hour, first: int = 0, place: int = 0) -> Iterator[pa.RecordBatch]:
    """Yield an hour's events, and its seed among them, numbers as the table has them.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    hour : Hour
        Its files.
    first, place : int
        As of `read_updates`.

    Yields
    ------
    pyarrow.RecordBatch
        Columns of `flat_events`, or of its decimal form, in the feed's order.
    """
    of, is_decimal = feeding, feeding.numbers.is_decimal
    events = read_events(
        hour.events, of.exchange, of.symbol, hour.hour, is_decimal, _BATCH_ROWS, first, place
    )
    return with_seed(events, hour.seed) if hour.seed else events


def trades_of(feeding: Feeding, hours: Sequence[Hour], first: int, carried: int) -> Iterator[Trades]:
    """Read the trades of hours.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    hours : sequence of Hour
        Their files.
    first : int
        Events of the first hour that come before.
    carried : int
        Time of the last trade before them, ns; -1 if none.

    Yields
    ------
    Trades
        In the feed's order; one told twice is left out.
    """
    last_id = NOT_GIVEN
    for number, hour in enumerate(hours):
        start = 0 if number else first
        for batch in batches_of_hour(hour.events, feeding.exchange, hour.hour, _BATCH_ROWS, _OF_TRADE, start):
            rows = batch.filter(pa.array(of_type(batch["event_type"], EventType.TRADE)))
            if not rows.num_rows:
                continue
            received, order_time, trade_id = (numpy_of(rows[name]) for name in OF_STAMPS[1:])
            time = times(feeding.clock, received, order_time, carried)
            carried = int(time[-1]) if feeding.clock is Clock.RECEIVED else NOT_GIVEN
            fresh = np.ones(len(time), dtype=np.bool_)
            if feeding.feed.trade_ids:
                fresh = np.diff(trade_id, prepend=last_id) != 0
            last_id = int(trade_id[-1])
            price, size = (feeding.numbers.addends(rows["data"].field(name)) for name in ("price", "size"))
            signs = np.zeros(len(time), dtype=np.int64)
            for name, sign in _SIGN.items():
                signs[numpy_of(pc.equal(rows["data"].field("side"), name))] = sign
            arrays = (time, trade_id, signs, price, size)
            yield Trades(hour.hour, *(values[fresh] for values in arrays))


def later(trades: Iterator[Trades], time: int) -> Iterator[Trades]:
    """Leave out the trades up to a time, ns by the clock."""
    for part in trades:
        count = int(np.searchsorted(part.time, time, side="right"))
        if count < len(part):
            yield part.part(count, len(part))
