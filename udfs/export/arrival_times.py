"""Times at which a symbol-day's messages reach the exchange and the recorder, read without their contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import EventType
from deltabook.udfs.export.rows import SymbolDay
from deltabook.udfs.numbers.decimal_text import INT64_MAX
from deltabook.udfs.orderbook.checkpoints import read_held_events
from deltabook.udfs.replay.clocks import NO_LAST_TIMES, Clock, compute_times
from deltabook.udfs.storage.event_files import read_chunk_batches, read_start_checkpoint

_COLUMNS = ("event_type", "received", "order_time")
_BATCH_ROWS = 1 << 18


@dataclass(frozen=True)
class Arrivals:
    """Arrival times of n messages, in the feed's order.

    Attributes
    ----------
    exchange : int64[n]
        Running maximum of `order_time`, ns since 1970 UTC.
    local : int64[n]
        Time of the clock `received` (see `replay.clocks`), shifted, ns.
    after : int64[n]
        When the earliest of all later messages arrives at the recorder, shifted, ns.
    """

    exchange: NDArray[np.int64]
    local: NDArray[np.int64]
    after: NDArray[np.int64]

    def part(self, start: int, end: int) -> Arrivals:
        """Return the messages from index `start` to before `end`."""
        return Arrivals(*(values[start:end] for values in vars(self).values()))

    def take(self, indices: NDArray[np.int64]) -> Arrivals:
        """Return the messages at some indices."""
        return Arrivals(*(values[indices] for values in vars(self).values()))

    def append(self, later: Arrivals) -> Arrivals:
        """Return these messages followed by others."""
        return Arrivals(*map(np.concatenate, zip(vars(self).values(), vars(later).values(), strict=True)))


def read_arrivals(day: SymbolDay) -> tuple[Iterator[tuple[Any, Arrivals]], int]:
    """Read the arrival times of all messages of a symbol-day.

    A chunk whose predecessor is missing starts with the messages that its checkpoint holds back.

    Parameters
    ----------
    day : SymbolDay
        The symbol-day; the time columns of its events are read twice.

    Returns
    -------
    (iterator of (row of `export_references`, Arrivals), int)
        Arrivals chunk by chunk, and the shift in ns that is added to every receive time so that no message
        is received before the exchange sent it.
    """
    shift, earliest_local = 0, []
    for _, exchange, local in _read_times(day):
        shift = max(shift, int((exchange - local).max(initial=0)))
        earliest_local.append(int(local.min(initial=INT64_MAX)))

    def yield_chunks() -> Iterator[tuple[Any, Arrivals]]:
        for number, (chunk, exchange, local) in enumerate(_read_times(day)):
            next_chunks = min(earliest_local[number + 1 :], default=INT64_MAX)
            from_here = np.minimum.accumulate(np.append(local, next_chunks)[::-1])[::-1]
            after = np.minimum(from_here[1:], INT64_MAX - shift)
            yield chunk, Arrivals(exchange, local + shift, after + shift)

    return yield_chunks(), shift


def _read_times(day: SymbolDay) -> Iterator[tuple[Any, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield for each chunk its row, and the messages' times by the exchange's and the recorder's clock."""
    last_exchange, last_local = 0, dict(NO_LAST_TIMES)
    for chunk in day.chunks:
        parts = [] if chunk.follows else [_read_held_times(chunk)]
        for file in chunk.data_files:
            batches = read_chunk_batches(file, chunk.exchange, int(chunk.hour), _BATCH_ROWS, _COLUMNS)
            parts += [_select_times(batch) for batch in batches]
        rows = pa.concat_tables([part for part in parts if part is not None])
        order_time, received = rows["order_time"].to_numpy(), rows["received"].to_numpy()
        exchange = np.maximum(np.maximum.accumulate(order_time), last_exchange)
        local = np.empty_like(exchange)
        for stream in EventType:
            is_stream = pc.equal(rows["event_type"], str(stream)).to_numpy()
            if is_stream.any():
                times = compute_times(
                    Clock.RECEIVED, received[is_stream], order_time[is_stream], last_local[stream]
                )
                local[is_stream], last_local[stream] = times, int(times[-1])
        last_exchange = int(exchange[-1]) if len(exchange) else last_exchange
        yield chunk, exchange, local


def _read_held_times(chunk: Any) -> pa.Table | None:
    """Return the times of the messages that a chunk's checkpoint holds back; None if there are none."""
    checkpoint = read_start_checkpoint(chunk)
    held = None if checkpoint is None else read_held_events(checkpoint)
    return None if held is None else _select_times(held)


def _select_times(rows: pa.RecordBatch) -> pa.Table:
    kinds = rows["event_type"].cast(pa.string())  # may be a dictionary
    return pa.table({"event_type": kinds} | {name: rows[name] for name in _COLUMNS[1:]})
