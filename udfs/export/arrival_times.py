"""When a symbol-day's messages come, to the exchange and to the recorder, without what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import EventType
from deltabook.udfs.export.rows import Target
from deltabook.udfs.numbers.decimal_text import INT64_MAX
from deltabook.udfs.orderbook.checkpoints import held_events
from deltabook.udfs.replay.clocks import NOTHING_CARRIED, Clock, times
from deltabook.udfs.storage.event_files import batches_of_hour, read_checkpoint

_READ = ("event_type", "received", "order_time")
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Arrivals:
    """Of n messages, in the feed's order.

    Attributes
    ----------
    exchange : int64[n]
        Running maximum of `order_time`, ns.
    local : int64[n]
        By the clock `received` (see `udfs.clocks`), shifted, ns.
    after : int64[n]
        When the first of all later messages arrives, ns.
    """

    exchange: NDArray[np.int64]
    local: NDArray[np.int64]
    after: NDArray[np.int64]

    def part(self, start: int, end: int) -> Arrivals:
        """Return those from `start` to before `end`."""
        return Arrivals(*(values[start:end] for values in vars(self).values()))

    def take(self, places: NDArray[np.int64]) -> Arrivals:
        """Return some of them."""
        return Arrivals(*(values[places] for values in vars(self).values()))

    def followed_by(self, later: Arrivals) -> Arrivals:
        """Return these, then others."""
        return Arrivals(*map(np.concatenate, zip(vars(self).values(), vars(later).values(), strict=True)))


def arrivals_of(target: Target) -> tuple[Iterator[tuple[Any, Arrivals]], int]:
    """Read when the messages of each hour come.

    An hour that follows none has the messages first that its opening holds back.

    Parameters
    ----------
    target : Target
        The symbol-day; its events are read twice, but for what they say.

    Returns
    -------
    (iterator of (row of `export_references`, Arrivals), int)
        Hour by hour; and what is added to every receive time so that none comes before its exchange's, ns.
    """
    shift, firsts = 0, []
    for _, exchange, local in _clocks(target):
        shift = max(shift, int((exchange - local).max(initial=0)))
        firsts.append(int(local.min(initial=INT64_MAX)))

    def hours() -> Iterator[tuple[Any, Arrivals]]:
        for number, (reference, exchange, local) in enumerate(_clocks(target)):
            later = min(firsts[number + 1 :], default=INT64_MAX)
            from_here = np.minimum.accumulate(np.append(local, later)[::-1])[::-1]
            after = np.minimum(from_here[1:], INT64_MAX - shift)
            yield reference, Arrivals(exchange, local + shift, after + shift)

    return hours(), shift


def _clocks(target: Target) -> Iterator[tuple[Any, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield hour by hour when messages come, before any shift."""
    at_exchange, arrived = 0, dict(NOTHING_CARRIED)
    for reference in target.hours:
        parts = [] if reference.follows else [_held(reference)]
        for file in reference.data_files:
            hour = batches_of_hour(file, reference.exchange, int(reference.hour), _AT_ONCE, _READ)
            parts += [_stamps(batch) for batch in hour]
        rows = pa.concat_tables([part for part in parts if part is not None])
        order_time, received = rows["order_time"].to_numpy(), rows["received"].to_numpy()
        exchange = np.maximum(np.maximum.accumulate(order_time), at_exchange)
        local = np.empty_like(exchange)
        for stream in EventType:
            chosen = pc.equal(rows["event_type"], str(stream)).to_numpy()
            if chosen.any():
                came = times(Clock.RECEIVED, received[chosen], order_time[chosen], arrived[stream])
                local[chosen], arrived[stream] = came, int(came[-1])
        at_exchange = int(exchange[-1]) if len(exchange) else at_exchange
        yield reference, exchange, local


def _held(reference: Any) -> pa.Table | None:
    """Return the messages that an hour's opening holds back."""
    if not reference.checkpoint_file:
        return None
    checkpoint = read_checkpoint(reference.checkpoint_file, reference.exchange, int(reference.hour))
    held = held_events(checkpoint)
    return None if held is None else _stamps(held)


def _stamps(rows: pa.RecordBatch) -> pa.Table:
    kinds = rows["event_type"].cast(pa.string())  # may be read as a dictionary
    return pa.table({"event_type": kinds} | {name: rows[name] for name in _READ[1:]})
