"""When a symbol's messages come, by the exchange's clock or by the recorder's.

Either clock keeps a stream's own order. `exchange`: hour by hour by `order_time`, which is the order of the
table. `received`: by the running maximum of `received`, since an update that came before one that precedes
it in the feed is of no use until that one is there too. A message without a receive time arrives at its
`order_time`, or with the one before it if that came later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.feeds import Feed
from deltabook.schemas.names import NOT_GIVEN, Cadence, EventType, Writing
from deltabook.udfs.numbers.encoding import Numbers
from deltabook.udfs.orderbook.rebuilder import Opening, Rebuilder
from deltabook.udfs.storage.event_files import batches_of_hour

OF_STAMPS = ("event_type", "received", "order_time", "sequence")
_OFI_LEVELS = 5
_STAMPS_AT_ONCE = 1 << 18

Carried = dict[EventType, int]
"""Time of the last message of each stream, ns; -1 if there was none."""
NOTHING_CARRIED: Carried = dict.fromkeys(EventType, NOT_GIVEN)


class Clock(StrEnum):
    """Whose time orders a replay."""

    RECEIVED = "received"
    """The recorder's: nothing is seen before it had arrived."""
    EXCHANGE = "exchange"
    """The exchange's, `order_time`: the order of the table `books`."""


@dataclass(frozen=True)
class Hour:
    """The files of one symbol-hour.

    Attributes
    ----------
    hour : int
        Its start, ns since 1970 UTC.
    events, checkpoints : str
        URIs of the data files that hold it.
    seed : row of `hour_references`, or None
        The vendor's book that seeded its own.
    """

    hour: int
    events: str
    checkpoints: str
    seed: Any = None


@dataclass(frozen=True)
class Feeding:
    """Whose messages are read, and how.

    Attributes
    ----------
    exchange, symbol : str
        As in the tables.
    feed : Feed
        The rules of the feed.
    numbers : Numbers
        What its prices and sizes are.
    depth : int
        Levels a side that count as the top.
    clock : Clock
        What orders the messages.
    """

    exchange: str
    symbol: str
    feed: Feed
    numbers: Numbers
    depth: int
    clock: Clock

    @cached_property
    def scales(self) -> tuple[int, int]:
        """Decimal digits of prices and of sizes."""
        printing = self.numbers.printing
        return printing.price_scale, printing.size_scale

    def rebuilder(self, opening: Opening, depth: int = 0) -> Rebuilder:
        """Return what carries a book on from a state, and makes a row of it after each message.

        Parameters
        ----------
        opening : Opening
            The state.
        depth : int
            Levels a side; 0: as many as count as the top.
        """
        depth = depth or self.depth
        writing = Writing(depth, Cadence.MESSAGE, ofi_levels=min(_OFI_LEVELS, depth))
        return Rebuilder(self.exchange, self.symbol, self.feed, writing, self.numbers, opening)


@dataclass(frozen=True)
class Stamps:
    """One stream's messages of an hour.

    Attributes
    ----------
    row, sequence : int64[n]
        Place among all the hour's events, and id.
    time : int64[n]
        By the clock, ns; does not fall.
    """

    row: NDArray[np.int64]
    sequence: NDArray[np.int64]
    time: NDArray[np.int64]

    def until(self, time: int) -> int:
        """Count the messages up to a time, ns."""
        return int(np.searchsorted(self.time, time, side="right"))

    def since(self, time: int) -> Stamps:
        """Return them after a message of a time, ns: none comes before it."""
        early = self.until(time)
        if not early:
            return self
        return replace(self, time=np.concatenate((np.full(early, time), self.time[early:])))


def read_stamps(feeding: Feeding, hour: Hour) -> dict[EventType, Stamps]:
    """Read when an hour's messages come, without what they say; of those before the hour nothing is known.

    Parameters
    ----------
    feeding : Feeding
        Whose, and by which clock.
    hour : Hour
        Its files.

    Returns
    -------
    dict
        `Stamps` of both streams.
    """
    batches = batches_of_hour(hour.events, feeding.exchange, hour.hour, _STAMPS_AT_ONCE, OF_STAMPS)
    nothing = np.empty(0, dtype=np.int64)
    parts = {stream: [(nothing, nothing, nothing)] for stream in EventType}
    carried, first = dict(NOTHING_CARRIED), 0
    # Batch by batch, in memory that is used again: half the time of whole columns, on 300,000 messages.
    for batch in batches:
        is_update = of_type(batch["event_type"], EventType.BOOK_UPDATE)
        received, order_time, sequence = (numpy_of(batch[name]) for name in OF_STAMPS[1:])
        for stream, chosen in ((EventType.BOOK_UPDATE, is_update), (EventType.TRADE, ~is_update)):
            at = np.flatnonzero(chosen)
            if len(at):
                time = times(feeding.clock, received[at], order_time[at], carried[stream])
                parts[stream].append((first + at, sequence[at], time))
                carried[stream] = int(time[-1])
        first += batch.num_rows
    return {stream: Stamps(*map(np.concatenate, zip(*found, strict=True))) for stream, found in parts.items()}


def last_times(feeding: Feeding, hour: Hour) -> Carried:
    """Read the greatest receive time of either stream in an hour.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    hour : Hour
        Its files.
    """
    found = dict(NOTHING_CARRIED)
    batches = batches_of_hour(hour.events, feeding.exchange, hour.hour, _STAMPS_AT_ONCE, OF_STAMPS[:3])
    for batch in batches:
        came = arrivals(*(numpy_of(batch[name]) for name in OF_STAMPS[1:3]))
        is_update = of_type(batch["event_type"], EventType.BOOK_UPDATE)
        for stream, chosen in ((EventType.BOOK_UPDATE, is_update), (EventType.TRADE, ~is_update)):
            found[stream] = int(came.max(where=chosen, initial=found[stream]))
    return found


def of_type(kinds: pa.DictionaryArray, stream: EventType) -> NDArray[np.bool_]:
    """Say which of the values of `event_type`, read as a dictionary, are a stream's."""
    found: NDArray[np.bool_] = numpy_of(kinds.indices) == pc.index(kinds.dictionary, stream).as_py()
    return found


def times(
    clock: Clock, received: NDArray[np.int64], order_time: NDArray[np.int64], carried: int
) -> NDArray[np.int64]:
    """Return the clock's time of a stream's messages.

    Parameters
    ----------
    clock : Clock
        Which.
    received, order_time : int64[n]
        Of the messages in the feed's own order, ns; `received` is -1 where not given.
    carried : int
        Time of the message before the first, ns; -1 if none.

    Returns
    -------
    int64[n]
        ns since 1970 UTC.
    """
    if clock is Clock.EXCHANGE:
        return order_time
    time = arrivals(received, order_time)
    np.maximum.accumulate(time, out=time)
    return np.maximum(time, carried, out=time)


def arrivals(received: NDArray[np.int64], order_time: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return when messages came, ns: at `order_time` where no receive time is given."""
    return np.where(received == NOT_GIVEN, order_time, received)


def numpy_of(array: pa.Array) -> NDArray[Any]:
    """Return an array's values."""
    return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
