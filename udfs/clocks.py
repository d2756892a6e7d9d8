"""When a symbol's messages come, by the exchange's clock or by the recorder's.

Either clock keeps a stream's own order. `exchange`: hour by hour by `order_time`, which is the order of the
table. `received`: by the running maximum of `received`, since an update that came before one that precedes
it in the feed is of no use until that one is there too. A message without a receive time arrives at its
`order_time`, or with the one before it if that came later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.schemas.feeds import Feed
from deltabook.schemas.names import NOT_GIVEN, Cadence, EventType, Writing
from deltabook.udfs.files import batches_of_hour, local_path
from deltabook.udfs.numbers import Scaled
from deltabook.udfs.rebuild import Opening, Rebuilder

OF_STAMPS = ("exchange", "hour", "event_type", "received", "order_time", "sequence")
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
    numbers : Scaled
        What its prices and sizes are.
    depth : int
        Levels a side that count as the top.
    clock : Clock
        What orders the messages.
    """

    exchange: str
    symbol: str
    feed: Feed
    numbers: Scaled
    depth: int
    clock: Clock

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
    return _stamps(feeding.clock, list(batches))


def last_times(feeding: Feeding, hour: Hour) -> Carried:
    """Read the time of each stream's last message in an hour.

    From the last one back, those row groups are read that can hold a later stamp.

    Parameters
    ----------
    feeding : Feeding
        Whose, and by which clock.
    hour : Hour
        Its files.
    """
    file, found = pq.ParquetFile(local_path(hour.events)), dict(NOTHING_CARRIED)
    for group in reversed(range(file.num_row_groups)):
        if _may_be_later(file.metadata.row_group(group), found):
            rows = file.read_row_group(group, columns=list(OF_STAMPS))
            chosen = (pc.field("exchange") == feeding.exchange) & (pc.field("hour") == hour.hour)
            for stream, stamps in _stamps(feeding.clock, rows.filter(chosen).to_batches()).items():
                found[stream] = max([found[stream], *stamps.time[-1:].tolist()])
    return found


def _may_be_later(group: Any, found: Carried) -> bool:
    columns = [group.column(at) for at in range(group.num_columns)]
    ends = {column.path_in_schema: column.statistics for column in columns}
    streams, stamps = ends["event_type"], (ends["received"], ends["order_time"])
    if streams is None or None in stamps:
        return True
    latest = max(end.max for end in stamps)
    return any(streams.min <= stream <= streams.max and found[stream] < latest for stream in found)


def _stamps(clock: Clock, batches: list[pa.RecordBatch]) -> dict[EventType, Stamps]:
    def column(name: str) -> NDArray[np.int64]:
        return np.concatenate([np.empty(0, dtype=np.int64), *(numpy_of(batch[name]) for batch in batches)])

    is_update = np.concatenate(
        [
            np.empty(0, dtype=np.bool_),
            *(numpy_of(pc.equal(batch["event_type"], EventType.BOOK_UPDATE)) for batch in batches),
        ]
    )
    received, order_time, sequence = (column(name) for name in OF_STAMPS[3:])
    streams = {EventType.BOOK_UPDATE: np.flatnonzero(is_update), EventType.TRADE: np.flatnonzero(~is_update)}
    return {
        stream: Stamps(at, sequence[at], times(clock, received[at], order_time[at], NOT_GIVEN))
        for stream, at in streams.items()
    }


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
    arrived = np.where(received == NOT_GIVEN, order_time, received)
    return np.maximum(np.maximum.accumulate(arrived), carried)


def numpy_of(array: pa.Array) -> NDArray[Any]:
    """Return an array's values."""
    return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
