"""Sorts one symbol's events of one chunk into the feed's order, and removes duplicates.

Book updates and trades are two streams, each with its own order. Book updates are sorted by (epoch, update
id, diff before snapshot), trades by (epoch, trade id). Messages without ids are sorted by time, then by file
and row.

Sorting by the column `order_time` merges the two streams and keeps the order within each stream. The
`order_time` of an event is the highest `timestamp` of its stream up to this event, where wrong timestamps do
not count. At equal `order_time`, trades come before book updates.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.feeds import Continuity, Feed, Repeats
from deltabook.schemas.frames import FLAT_EVENTS, RECORDS
from deltabook.schemas.names import CLOCK_TOLERANCE, DAY, HOUR, NOT_GIVEN, EventType
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.ordering.clock_jumps import find_wrong_times
from deltabook.udfs.ordering.duplicates import find_repeats, join_parts
from deltabook.udfs.ordering.survey import choose_clock_times

_LEAST_DIGEST = 2**53
"""A trade id of this value or more is the digest of a text id. Digests have no order."""
_IDS = ("epoch", "sequence", "is_snapshot", "first_sequence", "prev_sequence")
"""Columns that order a stream with ids. Two copies of one message are equal in all these columns."""


def order_chunk(records: pa.Table, stored: pa.Table, chunk: int, feed: Feed, length: int = HOUR) -> pa.Table:
    """Return the events of one chunk in the feed's order, without duplicates.

    Parameters
    ----------
    records : pyarrow.Table
        New messages of one exchange and symbol, all of this chunk, at the instrument's scales. Columns of
        `schemas.frames.RECORDS`, and `epoch`. The messages of each file are in the order of the file.
    stored : pyarrow.Table
        Stored events of the chunk, columns of `schemas.frames.FLAT_EVENTS`; may be empty.
    chunk : int
        Start of the chunk, ns since 1970 UTC.
    feed : Feed
        Rules of the feed.
    length : int
        Length of the chunk, ns.

    Returns
    -------
    pyarrow.Table
        Columns of `schemas.frames.FLAT_EVENTS`. If a message occurs twice (see `schemas.feeds.Repeats`), the
        copy with the lower (source_file, source_row) is kept; of snapshots with one id, the deepest. So the
        result does not depend on which copy was stored first.
    """
    events = pa.concat_tables([stored.select(FLAT_EVENTS.names), make_events(records, chunk)])
    if events.num_rows == 0:
        return events
    events = in_stream_order(events, feed)
    is_update = to_numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    timestamps = to_numpy(events["timestamp"]).copy()
    snapshots = to_numpy(events["is_snapshot"])
    if not feed.timed_snapshots:
        # A stored snapshot has a neighbor's time. The neighbors may have changed, so assign the time again.
        timestamps[snapshots] = NOT_GIVEN
    order_times = np.empty(len(timestamps), dtype=np.int64)
    received = to_numpy(events["received"])
    for stream in (is_update, ~is_update):
        if not feed.timed_snapshots:
            filled = fill_missing_times(timestamps[stream], received[stream], chunk)
            timestamps[stream] = np.where(snapshots[stream], filled, timestamps[stream])
        order_times[stream] = _compute_order_times(
            timestamps[stream], received[stream], chunk, chunk + length
        )
    for name, values in (("timestamp", timestamps), ("order_time", order_times)):
        events = events.set_column(events.schema.get_field_index(name), name, pa.array(values))
    return _take_rows(events, np.lexsort((np.arange(len(is_update)), is_update, order_times)))


def in_stream_order(events: pa.Table, feed: Feed) -> pa.Table:
    """Return all trades, then all book updates, each stream in its own order and without duplicates.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `schemas.frames.FLAT_EVENTS`, in any order.
    feed : Feed
        Rules of the feed.
    """
    events = _take_rows(events, _sort_streams(events, feed))
    if feed.repeats is Repeats.JOINED:
        events = join_parts(events)
    if feed.repeats is Repeats.BY_IDS:
        repeated = _find_repeated_ids(events)
    else:
        repeated = find_repeats(events, with_sequence=feed.repeats is Repeats.JOINED)
    return events.filter(pa.array(~repeated)) if repeated.any() else events


def make_events(records: pa.Table, hour: int) -> pa.Table:
    """Return records as events without an order time.

    Parameters
    ----------
    records : pyarrow.Table
        Messages of one chunk; columns of `schemas.frames.RECORDS`, and `epoch`.
    hour : int
        Start of the chunk, ns since 1970 UTC.

    Returns
    -------
    pyarrow.Table
        Columns of `schemas.frames.FLAT_EVENTS`; `order_time` is -1.
    """
    count = records.num_rows
    is_update = pc.equal(records["record"], "book_update")
    columns = {
        "date": pa.repeat(pa.scalar(hour // DAY, pa.int32()), count).cast(pa.date32()),
        "hour": pa.repeat(pa.scalar(hour, pa.int64()), count),
        "order_time": pa.repeat(pa.scalar(NOT_GIVEN, pa.int64()), count),
        "event_type": pc.if_else(is_update, str(EventType.BOOK_UPDATE), str(EventType.TRADE)),
        "epoch": records["epoch"],
    }
    columns |= {name: records[name] for name in FLAT_EVENTS.names if name in RECORDS.names}
    return pa.table([columns[name] for name in FLAT_EVENTS.names], schema=FLAT_EVENTS.arrow)


def sort_keys(events: pa.Table, feed: Feed) -> list[NDArray[np.int64]]:
    """Return the columns that sort a stream, each int64[n]; the column that counts most comes first.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `schemas.frames.FLAT_EVENTS`.
    feed : Feed
        Rules of the feed.
    """
    has_ids = feed.continuity is not Continuity.NONE
    names = _IDS if has_ids else ("epoch", "sequence", "received")
    columns = [to_numpy(events[name]).astype(np.int64) for name in names]
    if not has_ids:
        # Messages of one time, such as two snapshots, are sorted by receive time, unless the clock fell.
        columns[2] = np.maximum(columns[2], columns[1])
    if not feed.trade_ids:
        trade_ids = to_numpy(events["trade_id"])
        columns.append(np.where(trade_ids < _LEAST_DIGEST, trade_ids, NOT_GIVEN))
    return columns


def _count_levels(events: pa.Table) -> NDArray[np.int64]:
    """Return the number of levels of each event."""
    counts: NDArray[np.int64] = to_numpy(
        pc.add(*(pc.list_value_length(events[f"{side}_prices"]) for side in ("bid", "ask")))
    ).astype(np.int64)
    return counts


def _sort_streams(events: pa.Table, feed: Feed) -> NDArray[np.int64]:
    """Return the indices that put trades before book updates and sort each of the two streams by its keys."""
    is_update = to_numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    files = pc.rank(events["source_file"], sort_keys="ascending", tiebreaker="dense")
    keys = [is_update, *sort_keys(events, feed)]
    is_snapshot = to_numpy(events["is_snapshot"])
    if feed.continuity is Continuity.LINKED and len(pc.unique(events["source_file"])) == 1:
        # The sequence of a message without an id is its time. In one file such messages stay in file order.
        # In several recordings, a snapshot has the time of the last change that it includes.
        is_time = to_numpy(pc.equal(events["sequence"], events["timestamp"]))
        keys[3] = np.where(is_time, 0, is_snapshot)
    if feed.repeats is Repeats.BY_IDS and is_snapshot.any():  # of snapshots with one id, the deepest is kept
        keys.append(np.where(is_snapshot, -_count_levels(events), 0))
    keys += [to_numpy(files), to_numpy(events["source_row"])]
    return np.lexsort(keys[::-1])  # a stable sort: several trades of one row keep their order


def _take_rows(events: pa.Table, order: NDArray[np.int64]) -> pa.Table:
    # One recording is usually in order already. `take` would then only make a copy.
    return events if (np.diff(order) == 1).all() else events.take(pa.array(order))


def _find_repeated_ids(events: pa.Table) -> NDArray[np.bool_]:
    """Return True for each event whose ids equal the previous event's ids; the events are in stream order."""
    is_update = to_numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
    repeated = np.zeros(events.num_rows, dtype=np.bool_)
    repeated[1:] = is_update[1:] == is_update[:-1]
    for name in (*_IDS, "trade_id"):
        values = to_numpy(events[name])
        repeated[1:] &= values[1:] == values[:-1]
    return repeated


def fill_missing_times(
    timestamps: NDArray[np.int64], received: NDArray[np.int64], fallback: int
) -> NDArray[np.int64]:
    """Return the timestamps of a stream with the missing timestamps filled in.

    A missing timestamp is replaced with the last given timestamp before it. Missing timestamps at the start
    of the stream are replaced with the first given timestamp. If no timestamp is given, the receive times are
    used.

    Parameters
    ----------
    timestamps, received : int64[n]
        Timestamps and receive times in the stream's own order, ns since 1970 UTC; -1 where not given.
    fallback : int
        Time for messages without a receive time, if the stream has no timestamps, ns since 1970 UTC.
    """
    given = timestamps != NOT_GIVEN
    if given.all():
        return timestamps
    if not given.any():
        return np.where(received != NOT_GIVEN, received, fallback)
    latest = np.maximum.accumulate(np.where(given, np.arange(len(given)), -1))
    latest[latest < 0] = int(np.argmax(given))
    filled: NDArray[np.int64] = timestamps[latest]
    return filled


def _compute_order_times(
    timestamps: NDArray[np.int64], received: NDArray[np.int64], start: int, end: int
) -> NDArray[np.int64]:
    """Return the running maximum of a stream's timestamps, int64[n], where wrong timestamps do not count.

    The chunk lasts from `start` to `end`, ns since 1970 UTC. If all timestamps are wrong, every result is
    `start`.
    """
    times = choose_clock_times(timestamps, received)
    wrong = (times == NOT_GIVEN) | (times >= end + CLOCK_TOLERANCE) | find_wrong_times(times, received)
    if wrong.all():
        return np.full(len(times), start)
    return np.maximum.accumulate(np.where(wrong, times[~wrong].min(), times))
