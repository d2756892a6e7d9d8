"""Computes when each message of a symbol-day reaches the exchange, and when it reaches the recorder.

This module reads only the columns with times, not the levels and trades of the messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import INT64_MAX, EventType
from deltabook.udfs.export.rows import ExportChunk, SymbolDay
from deltabook.udfs.rebuild.checkpoints import read_held_events
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
        Time of each message at the exchange, ns since 1970 UTC: the running maximum of `order_time`.
    local : int64[n]
        Time of each message at the recorder, ns since 1970 UTC: the time of the clock `received` (see
        `replay.clocks`) plus the shift that `read_arrivals` returns.
    after : int64[n]
        Earliest `local` time of all later messages of the symbol-day, ns since 1970 UTC.
    """

    exchange: NDArray[np.int64]
    local: NDArray[np.int64]
    after: NDArray[np.int64]

    def part(self, start: int, end: int) -> Arrivals:
        """Return the arrivals of the messages from index `start` to before index `end`."""
        return Arrivals(*(values[start:end] for values in vars(self).values()))

    def take(self, indices: NDArray[np.int64]) -> Arrivals:
        """Return the arrivals of the messages at some indices, in the order of the indices."""
        return Arrivals(*(values[indices] for values in vars(self).values()))

    def append(self, later: Arrivals) -> Arrivals:
        """Return these arrivals followed by the arrivals `later`."""
        return Arrivals(*map(np.concatenate, zip(vars(self).values(), vars(later).values(), strict=True)))


def read_arrivals(day: SymbolDay) -> tuple[Iterator[tuple[ExportChunk, Arrivals]], int]:
    """Read the arrival times of all messages of a symbol-day.

    A checkpoint may contain messages that were read but not yet applied to the book. If the export leaves out
    the previous chunk, these messages come first in the chunk of the checkpoint.

    Parameters
    ----------
    day : SymbolDay
        The symbol-day to read. The function reads the time columns of the symbol-day's events twice.

    Returns
    -------
    (iterator of (ExportChunk, Arrivals), int)
        The chunks with their arrivals, in time order; and the shift in ns. If the shift is added to all
        receive times, no message arrives before the exchange sends the message. The shift is the smallest
        such number, 0 or more.
    """
    shift, earliest_local = 0, []
    for _, exchange, local in _read_times(day):
        shift = max(shift, int((exchange - local).max(initial=0)))
        earliest_local.append(int(local.min(initial=INT64_MAX)))

    def yield_chunks() -> Iterator[tuple[ExportChunk, Arrivals]]:
        for number, (chunk, exchange, local) in enumerate(_read_times(day)):
            next_chunks = min(earliest_local[number + 1 :], default=INT64_MAX)
            from_here = np.minimum.accumulate(np.append(local, next_chunks)[::-1])[::-1]
            after = np.minimum(from_here[1:], INT64_MAX - shift)
            yield chunk, Arrivals(exchange, local + shift, after + shift)

    return yield_chunks(), shift


def _read_times(day: SymbolDay) -> Iterator[tuple[ExportChunk, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (chunk, times at the exchange, times at the recorder) for each chunk of a symbol-day.

    The times are int64[n], ns since 1970 UTC, one for each message. They do not include the shift.
    """
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


def _read_held_times(chunk: ExportChunk) -> pa.Table | None:
    """Return the time columns of the unapplied messages in a chunk's checkpoint; None if there are none."""
    checkpoint = read_start_checkpoint(chunk)
    held = None if checkpoint is None else read_held_events(checkpoint)
    return None if held is None else _select_times(held)


def _select_times(rows: pa.RecordBatch) -> pa.Table:
    kinds = rows["event_type"].cast(pa.string())  # the column may be dictionary-encoded
    return pa.table({"event_type": kinds} | {name: rows[name] for name in _COLUMNS[1:]})
