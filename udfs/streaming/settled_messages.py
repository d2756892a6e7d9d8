"""Messages of a feed that goes on: their order as far as it is known, and which of them are settled.

A message is settled once the other stream of its symbol has passed its time, so that nothing comes before it
any more. A stream that is quiet holds the other no longer than `patience`; what comes later still is taken
behind what has gone before it. A message whose place has been passed in its own stream cannot be taken: it
was there before, or ids begin anew, which shows in those after it, or it is lost to the live book.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.feeds import Feed, Repeats
from deltabook.schemas.frames import FLAT_EVENTS
from deltabook.schemas.names import DAY, NOT_GIVEN, EventType
from deltabook.udfs.ordering.clock_jumps import contradicted
from deltabook.udfs.ordering.feed_order import in_stream_order, places, with_neighbours
from deltabook.udfs.ordering.id_resets import epochs_of, flatten, unflatten
from deltabook.udfs.ordering.survey import Known, epoch_times, with_new, witnessed_times

STREAMS = (EventType.TRADE, EventType.BOOK_UPDATE)
"""In the order in which messages of one time are taken."""


@dataclass
class Reached:
    """How far one stream has been taken.

    Attributes
    ----------
    place : list of int
        What orders the last message, as `ordering.places` tells it; empty if there was none.
    time : int
        Of the last message, as epochs are told by it, ns.
    order_time : int
        Running maximum of the stream's stamps, ns.
    stamp : int
        Last timestamp that was given, ns.
    restarts : list of int
        Restarts of ids, as `epochs.flatten` lists them.
    """

    place: list[int] = field(default_factory=list)
    time: int = NOT_GIVEN
    order_time: int = NOT_GIVEN
    stamp: int = NOT_GIVEN
    restarts: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Waiting:
    """Messages in the order in which they are taken, and those that have missed their place.

    Attributes
    ----------
    events : pyarrow.Table
        Columns of `flat_events`.
    own_times : int64[n]
        order_time of each before it was raised to what had gone before: its stream's own.
    missed : pyarrow.Table
        Columns of `flat_events`.
    """

    events: pa.Table
    own_times: NDArray[np.int64]
    missed: pa.Table

    def late(self, count: int) -> int:
        """Return how many of the first `count` were raised."""
        return int(np.count_nonzero(_numpy(self.events["order_time"])[:count] > self.own_times[:count]))


def in_order(
    events: pa.Table, reached: dict[EventType, Reached], feed: Feed, taken: int, chunk: int
) -> Waiting:
    """Put waiting messages into the order in which they are to be taken, as far as they tell it.

    Parameters
    ----------
    events : pyarrow.Table
        Columns of `flat_events`, in any order.
    reached : dict
        How far each stream was taken.
    feed : Feed
        Its rules.
    taken : int
        order_time of the last message that was taken, of either stream, ns; -1 if none was.
    chunk : int
        Length of an hour, ns.
    """
    events = in_stream_order(_numbered(events, reached), feed)
    is_update = _of(events, EventType.BOOK_UPDATE)
    parts, missed, times = [], [], []
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        part, so_far = events.filter(pa.array(chosen)), reached[stream]
        behind = _behind(places(part, feed), so_far.place, feed.repeats is Repeats.BY_IDS)
        missed.append(part.filter(pa.array(behind)))
        part = part.filter(pa.array(~behind))
        stamps, received = _numpy(part["timestamp"]).copy(), _numpy(part["received"])
        if not feed.timed_snapshots:
            snapshots = _numpy(part["is_snapshot"])
            stamps[snapshots] = NOT_GIVEN
            filled = with_neighbours(
                np.append(so_far.stamp, stamps), np.full(len(stamps) + 1, NOT_GIVEN), NOT_GIVEN
            )
            stamps = np.where(snapshots, filled[1:], stamps)
        parts.append(_with(part, timestamp=stamps))
        times.append(_rising(stamps, received, so_far.order_time))
    events, own_times = pa.concat_tables(parts), np.concatenate(times)
    order_times = np.maximum(own_times, taken)
    hours = order_times // chunk * chunk
    events = _with(events, order_time=order_times, hour=hours, date=(hours // DAY).astype(np.int32))
    is_update = _of(events, EventType.BOOK_UPDATE)
    order = np.lexsort((np.arange(len(is_update)), is_update, order_times))
    return Waiting(events.take(pa.array(order)), own_times[order], pa.concat_tables(missed))


def settled(waiting: Waiting, reached: dict[EventType, Reached]) -> int:
    """Count the messages, from the first, that nothing can come before any more."""
    events = waiting.events
    is_update = _of(events, EventType.BOOK_UPDATE)
    times, last = _numpy(events["order_time"]), {}
    # A snapshot without a time has none as long as none of its neighbours has.
    timed = ~(_numpy(events["is_snapshot"]) & (_numpy(events["timestamp"]) == NOT_GIVEN))
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        last[stream] = int(times[chosen & timed].max(initial=reached[stream].order_time))
    # At one time trades come first: a book update waits until trades are beyond it.
    passed = np.where(is_update, times < last[EventType.TRADE], times <= last[EventType.BOOK_UPDATE])
    passed &= timed
    return int(np.argmin(passed)) if not passed.all() else len(passed)


def arrivals(events: pa.Table) -> NDArray[np.int64]:
    """Return when messages were received, or, where that is not given, sent, ns."""
    received = _numpy(events["received"])
    return np.where(received == NOT_GIVEN, _numpy(events["timestamp"]), received)


def note(
    reached: dict[EventType, Reached], taken: pa.Table, own_times: NDArray[np.int64], feed: Feed
) -> None:
    """Note how far the streams are taken now.

    Parameters
    ----------
    reached : dict
        Changed in place.
    taken : pyarrow.Table
        Messages, in order.
    own_times : int64[n]
        As in `Waiting`.
    feed : Feed
        Its rules.
    """
    is_update = _of(taken, EventType.BOOK_UPDATE)
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        if not chosen.any():
            continue
        part, so_far = taken.filter(pa.array(chosen)), reached[stream]
        stamps, received = _numpy(part["timestamp"]), _numpy(part["received"])
        so_far.place = [int(column[-1]) for column in places(part, feed)]
        so_far.time = int(epoch_times(stamps, received)[-1])
        so_far.order_time = int(own_times[chosen][-1])
        given = stamps[(stamps != NOT_GIVEN) & (feed.timed_snapshots | ~_numpy(part["is_snapshot"]))]
        so_far.stamp = int(given[-1]) if len(given) else so_far.stamp


def _numbered(events: pa.Table, reached: dict[EventType, Reached]) -> pa.Table:
    """Give messages their epoch; restarts of ids that they show are noted."""
    is_update = _of(events, EventType.BOOK_UPDATE)
    epochs = np.zeros(len(is_update), dtype=np.int64)
    for stream, chosen in zip(STREAMS, (~is_update, is_update), strict=True):
        part, so_far = events.filter(pa.array(chosen)), reached[stream]
        sequence, stamps, received = (_numpy(part[name]) for name in ("sequence", "timestamp", "received"))
        times = epoch_times(stamps, received)
        last = [[place] for place in (*so_far.place[:2], so_far.time)] if so_far.place else [[], [], []]
        known = Known(*(np.array(values, dtype=np.int64) for values in last))
        restarts = with_new(unflatten(so_far.restarts), known, sequence, times)
        so_far.restarts = flatten(restarts)
        epochs[chosen] = epochs_of(sequence, times, restarts)
    return _with(events, epoch=epochs)


def _behind(columns: list[NDArray[np.int64]], place: list[int], also_equal: bool) -> NDArray[np.bool_]:
    """Tell which places lie before another one, or are that one."""
    less = np.zeros(len(columns[0]), dtype=np.bool_)
    equal = np.full(len(less), bool(place))
    for values, bound in zip(columns, place, strict=False):
        less |= equal & (values < bound)
        equal &= values == bound
    return less | (equal & also_equal)


def _rising(stamps: NDArray[np.int64], received: NDArray[np.int64], before: int) -> NDArray[np.int64]:
    """Return the running maximum of the stamps that nothing contradicts, from that of the messages before."""
    times = witnessed_times(stamps, received)
    wrong = (times == NOT_GIVEN) | contradicted(times, received)
    if before == NOT_GIVEN:
        before = int((received if wrong.all() else times[~wrong]).min(initial=np.iinfo(np.int64).max))
    rising: NDArray[np.int64] = np.maximum.accumulate(np.where(wrong, before, times))
    return np.maximum(rising, before)


def _of(events: pa.Table, stream: EventType) -> NDArray[np.bool_]:
    return _numpy(pc.equal(events["event_type"], stream)).astype(np.bool_)


def _with(events: pa.Table, **columns: NDArray[Any]) -> pa.Table:
    for name, values in columns.items():
        at = FLAT_EVENTS.names.index(name)
        events = events.set_column(
            at, events.schema.field(at), pa.array(values).cast(events.schema.field(at).type)
        )
    return events


def _numpy(column: Any) -> NDArray[Any]:
    return column.to_numpy()  # type: ignore[no-any-return]
