"""An hour's book updates and its trades, read from its data file: two streams, each in the feed's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import DAY, NOT_GIVEN, EventType
from deltabook.udfs.clocks import OF_STAMPS, Clock, Feeding, Hour, numpy_of, times
from deltabook.udfs.files import local_path
from deltabook.udfs.seeding import with_seed

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
        Scaled.
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


def read_updates(feeding: Feeding, hour: Hour, first: int = 0) -> Iterator[pa.RecordBatch]:
    """Yield an hour's book updates.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    hour : Hour
        Its files.
    first : int
        Events of the hour that come before.

    Yields
    ------
    pyarrow.RecordBatch
        Columns of `flat_events`, in the feed's order, none of them a trade.
    """
    events = _flat_events(feeding, hour, first)
    for batch in with_seed(events, hour.seed) if hour.seed else events:
        is_update = pc.equal(batch["event_type"], EventType.BOOK_UPDATE)
        updates = batch if pc.all(is_update).as_py() else batch.filter(is_update)
        if updates.num_rows:
            yield updates


def _flat_events(feeding: Feeding, hour: Hour, first: int) -> Iterator[pa.RecordBatch]:
    date = pa.scalar(hour.hour // DAY, pa.int32()).cast(pa.date32())
    for batch in _rows_from(hour, feeding.exchange, first, None):
        columns = {name: batch[name] for name in batch.schema.names if name != "data"}
        data = batch["data"]
        columns |= {field.name: values for field, values in zip(data.type, data.flatten(), strict=True)}
        columns["symbol"] = pa.repeat(pa.scalar(feeding.symbol), batch.num_rows)
        columns["date"] = pa.repeat(date, batch.num_rows)
        arrays = [columns[field.name].cast(field.type) for field in FLAT_EVENTS.arrow]
        yield pa.RecordBatch.from_arrays(arrays, schema=FLAT_EVENTS.arrow)


def _rows_from(
    hour: Hour, exchange: str, first: int, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """Yield an hour's rows of its data file but for the first ones; row groups of those are not read."""
    file = pq.ParquetFile(local_path(hour.events))
    groups = list(range(file.num_row_groups))
    while first and groups and _is_of(file, groups[0], exchange, hour.hour):
        rows = file.metadata.row_group(groups[0]).num_rows
        if rows > first:
            break
        first -= rows
        del groups[0]
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=columns):
        chosen = pc.and_(pc.equal(batch["exchange"], exchange), pc.equal(batch["hour"], hour.hour))
        rows = batch if pc.all(chosen).as_py() else batch.filter(chosen)
        passed = min(first, rows.num_rows)
        first -= passed
        if rows.num_rows > passed:
            yield rows.slice(passed)


def _is_of(file: pq.ParquetFile, group: int, exchange: str, hour: int) -> bool:
    """Whether all rows of a row group are known to be of one hour."""
    metadata = file.metadata.row_group(group)
    found = [metadata.column(place) for place in range(metadata.num_columns)]
    ends = {column.path_in_schema: column.statistics for column in found}
    expected = {"exchange": exchange, "hour": hour}
    return all(ends[name] and ends[name].min == ends[name].max == expected[name] for name in expected)


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
        for batch in _rows_from(hour, feeding.exchange, 0 if number else first, _OF_TRADE):
            rows = batch.filter(pc.equal(batch["event_type"], EventType.TRADE))
            if not rows.num_rows:
                continue
            received, order_time, trade_id = (numpy_of(rows[name]) for name in OF_STAMPS[3:])
            time = times(feeding.clock, received, order_time, carried)
            carried = int(time[-1]) if feeding.clock is Clock.RECEIVED else NOT_GIVEN
            fresh = np.ones(len(time), dtype=np.bool_)
            if feeding.feed.trade_ids:
                fresh = np.diff(trade_id, prepend=last_id) != 0
            last_id = int(trade_id[-1])
            side, price, size = (rows["data"].field(name) for name in ("side", "price", "size"))
            signs = np.zeros(len(time), dtype=np.int64)
            for name, sign in _SIGN.items():
                signs[numpy_of(pc.equal(side, name))] = sign
            arrays = (time, trade_id, signs, numpy_of(price), numpy_of(size))
            yield Trades(hour.hour, *(values[fresh] for values in arrays))


def later(trades: Iterator[Trades], time: int) -> Iterator[Trades]:
    """Leave out the trades up to a time, ns by the clock."""
    for part in trades:
        count = int(np.searchsorted(part.time, time, side="right"))
        if count < len(part):
            yield part.part(count, len(part))
