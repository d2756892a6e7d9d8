"""Putting one symbol-hour into the feed's order.

Each stream keeps its own order: book updates by (epoch, update id, diff before snapshot), trades by
(epoch, trade id). `order_time` merges the two without reordering either: it is the running maximum
of `timestamp` in each stream's order, and at equal times trades come before book updates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import HOUR, NOT_GIVEN, EventType
from deltabook.schemas.tables import FLAT_EVENTS, RECORDS

_NANOSECONDS_PER_DAY = 24 * HOUR
_IDS = ("epoch", "sequence", "is_snapshot", "first_sequence", "prev_sequence")
"""What orders a stream, and what two records of one message have in common."""


def order_hour(records: pa.Table, stored: pa.Table, hour: int) -> pa.Table:
    """Order one hour's events.

    Parameters
    ----------
    records : pyarrow.Table
        New messages of one exchange and symbol, in the columns of `records`, all of this hour.
    stored : pyarrow.Table
        The hour's events so far, in the columns of `flat_events`; may be empty.
    hour : int
        Start of the hour, ns since 1970 UTC.

    Returns
    -------
    pyarrow.Table
        Columns of `flat_events`, in the feed's order. A message met twice (same ids) is kept once,
        the one of the lesser (source_file, source_row): the result does not depend on which of them
        was stored first.
    """
    events = pa.concat_tables([_as_events(records, hour), stored.select(FLAT_EVENTS.names)]).combine_chunks()
    if events.num_rows == 0:
        return events
    events = events.take(pa.array(_stream_order(events)))
    events = events.filter(pa.array(~_repeats(events)))
    is_update = _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    timestamps = _numpy(events["timestamp"]).copy()
    if not FEEDS[events["exchange"][0].as_py()].timed_snapshots:
        # One that is stored has been given a time before; its neighbours may be others by now.
        timestamps[_numpy(events["is_snapshot"])] = NOT_GIVEN
    order_times = np.empty(len(timestamps), dtype=np.int64)
    for stream in (is_update, ~is_update):
        timestamps[stream] = _fill_times(timestamps[stream], _numpy(events["received"])[stream], hour)
        order_times[stream] = np.maximum.accumulate(timestamps[stream])
    for name, values in (("timestamp", timestamps), ("order_time", order_times)):
        events = events.set_column(events.schema.get_field_index(name), name, pa.array(values))
    merged = np.lexsort((np.arange(len(is_update)), is_update, order_times))
    return events.take(pa.array(merged))


def _as_events(records: pa.Table, hour: int) -> pa.Table:
    count = records.num_rows
    is_update = pc.equal(records["record"], "book_update")
    columns: dict[str, Any] = {
        "date": pa.repeat(pa.scalar(hour // _NANOSECONDS_PER_DAY, pa.int32()), count).cast(pa.date32()),
        "hour": pa.repeat(pa.scalar(hour, pa.int64()), count),
        "order_time": pa.repeat(pa.scalar(NOT_GIVEN, pa.int64()), count),
        "event_type": pc.if_else(is_update, str(EventType.BOOK_UPDATE), str(EventType.TRADE)),
        "epoch": pa.repeat(pa.scalar(0, pa.int64()), count),
    }
    columns |= {name: records[name] for name in FLAT_EVENTS.names if name in RECORDS.names}
    return pa.table([columns[name] for name in FLAT_EVENTS.names], schema=FLAT_EVENTS.arrow)


def _stream_order(events: pa.Table) -> NDArray[np.int64]:
    files = pc.rank(events["source_file"], sort_keys="ascending", tiebreaker="dense")
    keys = [
        _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE)),
        *(_numpy(events[name]) for name in _IDS),
        _numpy(files),
        _numpy(events["source_row"]),
    ]
    return np.lexsort(keys[::-1])


def _repeats(events: pa.Table) -> NDArray[np.bool_]:
    """Whether each event, in stream order, has the ids of the one before it."""
    is_update = _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    repeated = np.zeros(events.num_rows, dtype=np.bool_)
    repeated[1:] = is_update[1:] == is_update[:-1]
    for name in _IDS:
        values = _numpy(events[name])
        repeated[1:] &= values[1:] == values[:-1]
    return repeated


def _fill_times(timestamps: NDArray[np.int64], received: NDArray[np.int64], hour: int) -> NDArray[np.int64]:
    """Give a snapshot without a time its predecessor's, or, if it is first, its successor's."""
    given = timestamps != NOT_GIVEN
    if not given.any():
        return np.where(received != NOT_GIVEN, received, hour)
    latest = np.maximum.accumulate(np.where(given, np.arange(len(given)), -1))
    latest[latest < 0] = int(np.argmax(given))
    filled: NDArray[np.int64] = timestamps[latest]
    return filled


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    return column.to_numpy()  # type: ignore[no-any-return]
