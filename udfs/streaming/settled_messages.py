"""Order of the messages of a live feed, and which of them are settled: nothing can come before them.

Each instrument has two streams, trades and book updates. A message is settled once the other stream has
passed its time. A quiet stream delays the other by at most `patience`; its later messages are applied after
those that did not wait. A message that comes behind the applied messages of its own stream is missed: it is a
repeat, or ids have restarted (the messages after it show that), or the live book has lost it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.feeds import Feed, Repeats
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import DAY, NOT_GIVEN, EventType
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.ordering.clock_jumps import find_wrong_times
from deltabook.udfs.ordering.feed_order import fill_missing_times, in_stream_order, sort_keys
from deltabook.udfs.ordering.id_resets import assign_epochs, flatten_restarts, unflatten_restarts
from deltabook.udfs.ordering.survey import (
    StoredMessages,
    add_new_restarts,
    choose_clock_times,
    choose_epoch_times,
)

STREAMS = (EventType.TRADE, EventType.BOOK_UPDATE)
"""The streams of an instrument, in the order in which messages of equal times are applied."""


@dataclass
class StreamProgress:
    """Progress of one stream: its last applied message.

    Attributes
    ----------
    sort_key : list of int
        Sort key of the last message, as `ordering.sort_keys` returns it; empty if there was none.
    epoch_time : int
        Time that assigned the last message's id epoch, ns since 1970 UTC.
    order_time : int
        Running maximum of the stream's timestamps, ns since 1970 UTC.
    timestamp : int
        Last timestamp that was given, ns since 1970 UTC.
    restarts : list of int
        Restarts of ids, as `flatten_restarts` lists them.
    """

    sort_key: list[int] = field(default_factory=list)
    epoch_time: int = NOT_GIVEN
    order_time: int = NOT_GIVEN
    timestamp: int = NOT_GIVEN
    restarts: list[int] = field(default_factory=list)

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> StreamProgress:
        """Return the progress that `to_stored` returned."""
        return cls(*(stored[key] for key in _STORED_KEYS))

    def to_stored(self) -> dict[str, Any]:
        """Return the progress under the persistent keys of stored states."""
        values = (self.sort_key, self.epoch_time, self.order_time, self.timestamp, self.restarts)
        return dict(zip(_STORED_KEYS, values, strict=True))


_STORED_KEYS = ("place", "time", "order_time", "stamp", "restarts")


@dataclass(frozen=True)
class WaitingMessages:
    """Waiting messages in the order in which they are applied, and missed messages.

    Attributes
    ----------
    events : pyarrow.Table
        Waiting messages, columns of `flat_events`.
    own_times : int64[n]
        Order time of each message in its own stream, ns, before it was raised to that of the last applied
        message.
    missed : pyarrow.Table
        Messages behind the applied messages of their stream, columns of `flat_events`.
    """

    events: pa.Table
    own_times: NDArray[np.int64]
    missed: pa.Table

    def count_late(self, count: int) -> int:
        """Return how many of the first `count` messages are late: their order time was raised."""
        return int(np.count_nonzero(to_numpy(self.events["order_time"])[:count] > self.own_times[:count]))


def order_messages(
    events: pa.Table, progress: dict[EventType, StreamProgress], feed: Feed, last_time: int, chunk: int
) -> WaitingMessages:
    """Sort waiting messages into the order in which the book applies them.

    Parameters
    ----------
    events : pyarrow.Table
        Waiting messages in any order, columns of `flat_events`.
    progress : dict
        Progress of each stream; `restarts` is updated.
    feed : Feed
        Rules of the feed.
    last_time : int
        Order time of the last applied message of either stream, ns; -1 if there is none.
    chunk : int
        Length of a chunk, ns.

    Returns
    -------
    WaitingMessages
        The messages in order, and the missed ones.
    """
    events = in_stream_order(_assign_epochs(events, progress), feed)
    is_update = _is_of_stream(events, EventType.BOOK_UPDATE)
    parts, missed, stream_times = [], [], []
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        part, reached = events.filter(pa.array(chosen)), progress[stream]
        is_missed = _find_missed(sort_keys(part, feed), reached.sort_key, feed.repeats is Repeats.BY_IDS)
        missed.append(part.filter(pa.array(is_missed)))
        part = part.filter(pa.array(~is_missed))
        timestamps, received = to_numpy(part["timestamp"]).copy(), to_numpy(part["received"])
        if not feed.timed_snapshots:
            snapshots = to_numpy(part["is_snapshot"])
            timestamps[snapshots] = NOT_GIVEN
            filled = fill_missing_times(
                np.append(reached.timestamp, timestamps), np.full(len(timestamps) + 1, NOT_GIVEN), NOT_GIVEN
            )
            timestamps = np.where(snapshots, filled[1:], timestamps)
        parts.append(_set_columns(part, timestamp=timestamps))
        stream_times.append(_running_maximum(timestamps, received, reached.order_time))
    events, own_times = pa.concat_tables(parts), np.concatenate(stream_times)
    order_times = np.maximum(own_times, last_time)
    chunks = order_times // chunk * chunk
    events = _set_columns(events, order_time=order_times, hour=chunks, date=(chunks // DAY).astype(np.int32))
    is_update = _is_of_stream(events, EventType.BOOK_UPDATE)
    order = np.lexsort((np.arange(len(is_update)), is_update, order_times))
    return WaitingMessages(events.take(pa.array(order)), own_times[order], pa.concat_tables(missed))


def count_settled(waiting: WaitingMessages, progress: dict[EventType, StreamProgress]) -> int:
    """Return the number of settled messages, from the first: no message can come before them.

    Parameters
    ----------
    waiting : WaitingMessages
        Waiting messages in order.
    progress : dict
        Progress of each stream.
    """
    events = waiting.events
    is_update = _is_of_stream(events, EventType.BOOK_UPDATE)
    times, last = to_numpy(events["order_time"]), {}
    # A snapshot without a time takes a neighbour's; it has none until a neighbour has one.
    timed = ~(to_numpy(events["is_snapshot"]) & (to_numpy(events["timestamp"]) == NOT_GIVEN))
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        last[stream] = int(times[chosen & timed].max(initial=progress[stream].order_time))
    # At equal times trades come first, so a book update waits until trades have passed its time.
    passed = np.where(is_update, times < last[EventType.TRADE], times <= last[EventType.BOOK_UPDATE])
    passed &= timed
    return int(np.argmin(passed)) if not passed.all() else len(passed)


def get_arrival_times(events: pa.Table) -> NDArray[np.int64]:
    """Return the receive time of each message, or its timestamp if that is not given; ns, int64[n]."""
    received = to_numpy(events["received"])
    return np.where(received == NOT_GIVEN, to_numpy(events["timestamp"]), received)


def update_progress(
    progress: dict[EventType, StreamProgress], applied: pa.Table, own_times: NDArray[np.int64], feed: Feed
) -> None:
    """Update the progress of the streams, in place, after messages were applied.

    Parameters
    ----------
    progress : dict
        Progress of each stream; updated.
    applied : pyarrow.Table
        Applied messages in order, columns of `flat_events`.
    own_times : int64[n]
        Order time of each message in its own stream, ns, as in `WaitingMessages`.
    feed : Feed
        Rules of the feed.
    """
    is_update = _is_of_stream(applied, EventType.BOOK_UPDATE)
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        if not chosen.any():
            continue
        part, reached = applied.filter(pa.array(chosen)), progress[stream]
        timestamps, received = to_numpy(part["timestamp"]), to_numpy(part["received"])
        reached.sort_key = [int(column[-1]) for column in sort_keys(part, feed)]
        reached.epoch_time = int(choose_epoch_times(timestamps, received)[-1])
        reached.order_time = int(own_times[chosen][-1])
        given = timestamps[
            (timestamps != NOT_GIVEN) & (feed.timed_snapshots | ~to_numpy(part["is_snapshot"]))
        ]
        reached.timestamp = int(given[-1]) if len(given) else reached.timestamp


def _assign_epochs(events: pa.Table, progress: dict[EventType, StreamProgress]) -> pa.Table:
    """Return the messages with their id epochs; add the restarts that they show to the progress."""
    is_update = _is_of_stream(events, EventType.BOOK_UPDATE)
    epochs = np.zeros(len(is_update), dtype=np.int64)
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        part, reached = events.filter(pa.array(chosen)), progress[stream]
        sequence, timestamps, received = (
            to_numpy(part[name]) for name in ("sequence", "timestamp", "received")
        )
        times = choose_epoch_times(timestamps, received)
        last = (
            [[value] for value in (*reached.sort_key[:2], reached.epoch_time)]
            if reached.sort_key
            else [[], [], []]
        )
        known = StoredMessages(*(np.array(values, dtype=np.int64) for values in last))
        restarts = add_new_restarts(unflatten_restarts(reached.restarts), known, sequence, times)
        reached.restarts = flatten_restarts(restarts)
        epochs[chosen] = assign_epochs(sequence, times, restarts)
    return _set_columns(events, epoch=epochs)


def _find_missed(
    columns: list[NDArray[np.int64]], last_key: list[int], also_equal: bool
) -> NDArray[np.bool_]:
    """Return which sort keys are below that of the last message, or equal to it if `also_equal`; bool[n]."""
    less = np.zeros(len(columns[0]), dtype=np.bool_)
    equal = np.full(len(less), bool(last_key))
    for values, bound in zip(columns, last_key, strict=False):
        less |= equal & (values < bound)
        equal &= values == bound
    return less | (equal & also_equal)


def _running_maximum(
    timestamps: NDArray[np.int64], received: NDArray[np.int64], before: int
) -> NDArray[np.int64]:
    """Return the running maximum of the timestamps, without wrong ones, from the stream's last order time."""
    times = choose_clock_times(timestamps, received)
    wrong = (times == NOT_GIVEN) | find_wrong_times(times, received)
    if before == NOT_GIVEN:
        before = int((received if wrong.all() else times[~wrong]).min(initial=np.iinfo(np.int64).max))
    rising: NDArray[np.int64] = np.maximum.accumulate(np.where(wrong, before, times))
    return np.maximum(rising, before)


def _is_of_stream(events: pa.Table, stream: EventType) -> NDArray[np.bool_]:
    """Return which messages belong to a stream, bool[n]."""
    return to_numpy(pc.equal(events["event_type"], stream)).astype(np.bool_)


def _set_columns(events: pa.Table, **columns: NDArray[Any]) -> pa.Table:
    """Return the messages with some columns replaced."""
    for name, values in columns.items():
        index = FLAT_EVENTS.names.index(name)
        column_type = events.schema.field(index)
        events = events.set_column(index, column_type, pa.array(values).cast(column_type.type))
    return events
