"""Sorts a live feed's messages, and finds how many of them can already be applied to the book.

Each instrument has two streams: trades and book updates. The two streams are merged by time. A message is

- *waiting* from the time it is read until it is applied to the book;
- *settled* once a message of the other stream with a later time was read. From then on, no message can arrive
  that belongs before the settled message;
- *late* if messages that belong after this message were applied before it. This happens if the stream of the
  message was quiet for longer than `patience`, because the other stream waits no longer than `patience`;
- *missed* if messages of the same stream that belong after this message were already applied. A missed
  message is a repetition, or a message that the live book can no longer apply, or the first message after a
  restart of ids that only later messages show.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

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
"""The two streams of an instrument. At equal times, trades come before book updates."""


class StoredProgress(TypedDict):
    """A `StreamProgress` as a dict for JSON. The keys must not change, because states are stored.

    `place` is the sort key, `time` the epoch time, and `stamp` the timestamp.
    """

    place: list[int]
    time: int
    order_time: int
    stamp: int
    restarts: list[int]


@dataclass
class StreamProgress:
    """Progress of one stream, up to its last applied message.

    Attributes
    ----------
    sort_key : list of int
        Sort key of the last applied message, as `sort_keys` returns it; empty before the first message.
    epoch_time : int
        Time that decided the id epoch of the last applied message, ns since 1970 UTC; -1 before the first
        message.
    order_time : int
        Running maximum of the stream's timestamps, ns since 1970 UTC; -1 before the first message.
    timestamp : int
        Timestamp of the last message that has a timestamp, ns since 1970 UTC; -1 if there is no such message.
    restarts : list of int
        Restarts of the stream's ids, in the form that `flatten_restarts` returns.
    """

    sort_key: list[int] = field(default_factory=list)
    epoch_time: int = NOT_GIVEN
    order_time: int = NOT_GIVEN
    timestamp: int = NOT_GIVEN
    restarts: list[int] = field(default_factory=list)

    @classmethod
    def from_stored(cls, stored: StoredProgress) -> StreamProgress:
        """Return the progress from the dict that `to_stored` returned."""
        return cls(stored["place"], stored["time"], stored["order_time"], stored["stamp"], stored["restarts"])

    def to_stored(self) -> StoredProgress:
        """Return the progress as a dict for JSON."""
        return {
            "place": self.sort_key,
            "time": self.epoch_time,
            "order_time": self.order_time,
            "stamp": self.timestamp,
            "restarts": self.restarts,
        }


@dataclass(frozen=True)
class WaitingMessages:
    """Waiting messages in the order in which the book applies them, and missed messages.

    Attributes
    ----------
    events : pyarrow.Table
        The n waiting messages, columns of `flat_events`.
    own_times : int64[n]
        Order time of each message in its own stream, ns since 1970 UTC. The column `order_time` may have a
        higher value, because it is raised to the order time of the last applied message of either stream.
    missed : pyarrow.Table
        Missed messages (see the module's docstring), columns of `flat_events`.
    """

    events: pa.Table
    own_times: NDArray[np.int64]
    missed: pa.Table

    def count_late(self, count: int) -> int:
        """Return how many of the first `count` messages are late, that is, have a raised order time."""
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
        {event type: progress of the stream}; new restarts of ids are added to these objects.
    feed : Feed
        Rules of the feed.
    last_time : int
        Order time of the last applied message of either stream, ns; -1 if there is none.
    chunk : int
        Length of a chunk, ns.

    Returns
    -------
    WaitingMessages
        The waiting messages in order, and the missed messages.
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
    """Return the number of settled messages. They come first among the waiting messages.

    Parameters
    ----------
    waiting : WaitingMessages
        Waiting messages in order.
    progress : dict
        {event type: progress of the stream}.
    """
    events = waiting.events
    is_update = _is_of_stream(events, EventType.BOOK_UPDATE)
    times, last = to_numpy(events["order_time"]), {}
    # A snapshot without a time gets the time of a neighboring message, and waits until this message arrives.
    timed = ~(to_numpy(events["is_snapshot"]) & (to_numpy(events["timestamp"]) == NOT_GIVEN))
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        last[stream] = int(times[chosen & timed].max(initial=progress[stream].order_time))
    # At equal times trades come first. So a book update is settled only once a trade has a later time.
    passed = np.where(is_update, times < last[EventType.TRADE], times <= last[EventType.BOOK_UPDATE])
    passed &= timed
    return int(np.argmin(passed)) if not passed.all() else len(passed)


def get_arrival_times(events: pa.Table) -> NDArray[np.int64]:
    """Return each message's receive time or, if not given, its timestamp, int64[n], ns since 1970 UTC."""
    received = to_numpy(events["received"])
    return np.where(received == NOT_GIVEN, to_numpy(events["timestamp"]), received)


def update_progress(
    progress: dict[EventType, StreamProgress], applied: pa.Table, own_times: NDArray[np.int64], feed: Feed
) -> None:
    """Update the progress of the streams, in place, after messages were applied.

    Parameters
    ----------
    progress : dict
        {event type: progress of the stream}; updated in place.
    applied : pyarrow.Table
        The n applied messages in order, columns of `flat_events`.
    own_times : int64[n]
        Order time of each message in its own stream, ns since 1970 UTC, as in `WaitingMessages`.
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
    """Return the messages with the column `epoch` filled.

    Restarts of ids that the messages show are added to `progress`.
    """
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
    """Return which messages belong before the last applied message of their stream, bool[n].

    Parameters
    ----------
    columns : list of int64[n]
        Sort keys of the messages, one array per component of the key.
    last_key : list of int
        Sort key of the last applied message; empty if there is none.
    also_equal : bool
        True: a message with the same sort key as the last applied message counts too.
    """
    less = np.zeros(len(columns[0]), dtype=np.bool_)
    equal = np.full(len(less), bool(last_key))
    for values, bound in zip(columns, last_key, strict=False):
        less |= equal & (values < bound)
        equal &= values == bound
    return less | (equal & also_equal)


def _running_maximum(
    timestamps: NDArray[np.int64], received: NDArray[np.int64], before: int
) -> NDArray[np.int64]:
    """Return the order time of each message: the running maximum of the stream's timestamps.

    Parameters
    ----------
    timestamps, received : int64[n]
        Timestamp and receive time of each message, ns since 1970 UTC; -1 if not given. Timestamps that
        contradict neighboring timestamps are left out.
    before : int
        The stream's last order time, with which the maximum starts; -1 if there is none.
    """
    times = choose_clock_times(timestamps, received)
    wrong = (times == NOT_GIVEN) | find_wrong_times(times, received)
    if before == NOT_GIVEN:
        before = int((received if wrong.all() else times[~wrong]).min(initial=np.iinfo(np.int64).max))
    rising: NDArray[np.int64] = np.maximum.accumulate(np.where(wrong, before, times))
    return np.maximum(rising, before)


def _is_of_stream(events: pa.Table, stream: EventType) -> NDArray[np.bool_]:
    """Return which messages belong to a stream, bool[n]."""
    return to_numpy(pc.equal(events["event_type"], stream)).astype(np.bool_)


def _set_columns(events: pa.Table, **columns: NDArray[np.generic]) -> pa.Table:
    """Return the messages with some columns replaced."""
    for name, values in columns.items():
        index = FLAT_EVENTS.names.index(name)
        column_type = events.schema.field(index)
        events = events.set_column(index, column_type, pa.array(values).cast(column_type.type))
    return events
