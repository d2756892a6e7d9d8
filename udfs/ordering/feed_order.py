"""Putting one symbol-hour into the feed's order.

Each stream keeps its own order: book updates by (epoch, update id, diff before snapshot), trades by
(epoch, trade id); where a feed has no ids, by its times and, at one time, by rows of its files.
`order_time` merges the two without reordering either: it is the running maximum of `timestamp` in
each stream's order, and at equal times trades come before book updates. A stamp that those after it
contradict has no part in that maximum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.feeds import Continuity, Feed, Repeats
from deltabook.schemas.frames import FLAT_EVENTS, RECORDS
from deltabook.schemas.names import CLOCK_TOLERANCE, DAY, HOUR, NOT_GIVEN, EventType
from deltabook.udfs.ordering.clock_jumps import contradicted
from deltabook.udfs.ordering.duplicates import join_parts, repeats_of_content
from deltabook.udfs.ordering.survey import witnessed_times

_LEAST_DIGEST = 2**53
"""A trade id from here on is the digest of a text, which orders nothing."""
_IDS = ("epoch", "sequence", "is_snapshot", "first_sequence", "prev_sequence")
"""What orders a stream with ids, and what two records of one message have in common."""


def order_hour(records: pa.Table, stored: pa.Table, hour: int, feed: Feed, chunk: int = HOUR) -> pa.Table:
    """Order one hour's events.

    Parameters
    ----------
    records : pyarrow.Table
        New messages of one exchange and symbol, in the columns of `records` and `epoch`, all of this
        hour, at the instrument's scales, each file's in its own order.
    stored : pyarrow.Table
        The hour's events so far, in the columns of `flat_events`; may be empty.
    hour : int
        Start of the hour, ns since 1970 UTC.
    feed : Feed
        Its rules.
    chunk : int
        Length of an hour, ns.

    Returns
    -------
    pyarrow.Table
        Columns of `flat_events`, in the feed's order. A message met twice (see `Repeats`) is kept
        once, the one of the lesser (source_file, source_row): the result does not depend on which of
        them was stored first.
    """
    events = pa.concat_tables([stored.select(FLAT_EVENTS.names), as_events(records, hour)])
    if events.num_rows == 0:
        return events
    events = in_stream_order(events, feed)
    is_update = _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    timestamps = _numpy(events["timestamp"]).copy()
    snapshots = _numpy(events["is_snapshot"])
    if not feed.timed_snapshots:
        # One that is stored has been given a time before; its neighbours may be others by now.
        timestamps[snapshots] = NOT_GIVEN
    order_times = np.empty(len(timestamps), dtype=np.int64)
    received = _numpy(events["received"])
    for stream in (is_update, ~is_update):
        if not feed.timed_snapshots:
            filled = with_neighbours(timestamps[stream], received[stream], hour)
            timestamps[stream] = np.where(snapshots[stream], filled, timestamps[stream])
        order_times[stream] = _order_times(timestamps[stream], received[stream], hour, hour + chunk)
    for name, values in (("timestamp", timestamps), ("order_time", order_times)):
        events = events.set_column(events.schema.get_field_index(name), name, pa.array(values))
    return _taken(events, np.lexsort((np.arange(len(is_update)), is_update, order_times)))


def in_stream_order(events: pa.Table, feed: Feed) -> pa.Table:
    """Put the trades, and behind them the book updates, each into their stream's own order, without repeats.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `flat_events`.
    feed : Feed
        Its rules.
    """
    events = _taken(events, _stream_order(events, feed))
    if feed.repeats is Repeats.JOINED:
        events = join_parts(events)
    if feed.repeats is Repeats.BY_IDS:
        repeated = _repeated_ids(events)
    else:
        repeated = repeats_of_content(events, with_sequence=feed.repeats is Repeats.JOINED)
    return events.filter(pa.array(~repeated)) if repeated.any() else events


def as_events(records: pa.Table, hour: int) -> pa.Table:
    """Make events of an hour's records, in the columns of `records` and `epoch`; none has an order yet."""
    count = records.num_rows
    is_update = pc.equal(records["record"], "book_update")
    columns: dict[str, Any] = {
        "date": pa.repeat(pa.scalar(hour // DAY, pa.int32()), count).cast(pa.date32()),
        "hour": pa.repeat(pa.scalar(hour, pa.int64()), count),
        "order_time": pa.repeat(pa.scalar(NOT_GIVEN, pa.int64()), count),
        "event_type": pc.if_else(is_update, str(EventType.BOOK_UPDATE), str(EventType.TRADE)),
        "epoch": records["epoch"],
    }
    columns |= {name: records[name] for name in FLAT_EVENTS.names if name in RECORDS.names}
    return pa.table([columns[name] for name in FLAT_EVENTS.names], schema=FLAT_EVENTS.arrow)


def places(events: pa.Table, feed: Feed) -> list[NDArray[np.int64]]:
    """Return the columns that order a stream of a feed, the first one first."""
    ids: tuple[str, ...] = _IDS
    if feed.continuity is Continuity.NONE:
        ids = ("epoch", "sequence", "received")  # its snapshots stand where they were heard
    columns = [_numpy(events[name]).astype(np.int64) for name in ids]
    if not feed.trade_ids:
        trade_ids = _numpy(events["trade_id"])
        columns.append(np.where(trade_ids < _LEAST_DIGEST, trade_ids, NOT_GIVEN))
    return columns


def _stream_order(events: pa.Table, feed: Feed) -> NDArray[np.int64]:
    is_update = _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    files = pc.rank(events["source_file"], sort_keys="ascending", tiebreaker="dense")
    keys = [is_update, *places(events, feed), _numpy(files), _numpy(events["source_row"])]
    return np.lexsort(keys[::-1])  # of equal keys the order stays: trades of one row


def _taken(events: pa.Table, order: NDArray[np.int64]) -> pa.Table:
    # One recording is in its own order already: taking would only copy it.
    return events if (np.diff(order) == 1).all() else events.take(pa.array(order))


def _repeated_ids(events: pa.Table) -> NDArray[np.bool_]:
    """Whether each event, in stream order, has the ids of the one before it."""
    is_update = _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    repeated = np.zeros(events.num_rows, dtype=np.bool_)
    repeated[1:] = is_update[1:] == is_update[:-1]
    for name in (*_IDS, "trade_id"):
        values = _numpy(events[name])
        repeated[1:] &= values[1:] == values[:-1]
    return repeated


def with_neighbours(
    timestamps: NDArray[np.int64], received: NDArray[np.int64], hour: int
) -> NDArray[np.int64]:
    """Give a snapshot without a time its predecessor's, or, if it is first, its successor's.

    Parameters
    ----------
    timestamps, received : int64[n]
        Of a stream in its own order, ns; -1 where not given.
    hour : int
        What is given where there are no times at all, ns.
    """
    given = timestamps != NOT_GIVEN
    if given.all():
        return timestamps
    if not given.any():
        return np.where(received != NOT_GIVEN, received, hour)
    latest = np.maximum.accumulate(np.where(given, np.arange(len(given)), -1))
    latest[latest < 0] = int(np.argmax(given))
    filled: NDArray[np.int64] = timestamps[latest]
    return filled


def _order_times(
    timestamps: NDArray[np.int64], received: NDArray[np.int64], hour: int, end: int
) -> NDArray[np.int64]:
    """Return the running maximum of the stamps that nothing contradicts."""
    times = witnessed_times(timestamps, received)
    wrong = (times == NOT_GIVEN) | (times >= end + CLOCK_TOLERANCE) | contradicted(times, received)
    if wrong.all():
        return np.full(len(times), hour)
    return np.maximum.accumulate(np.where(wrong, times[~wrong].min(), times))


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    return column.to_numpy()  # type: ignore[no-any-return]
