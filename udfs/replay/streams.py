"""Reading of the book updates and the trades of a chunk: two streams, each in the feed's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN, EventType
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.replay.clocks import (
    STAMP_COLUMNS,
    ChunkFiles,
    Clock,
    ReplayFeed,
    compute_times,
    mask_event_type,
)
from deltabook.udfs.storage.event_files import read_chunk_batches, read_events
from deltabook.udfs.truths.vendor_books import queue_vendor_books, read_vendor_books

_TRADE_COLUMNS = (*STAMP_COLUMNS, "data.side", "data.price", "data.size")
_BATCH_ROWS = 16_384
_SIDE_SIGNS = {"buy": 1, "sell": -1}


@dataclass(frozen=True)
class Trades:
    """n trades of one chunk.

    Attributes
    ----------
    chunk : int
        Start of the chunk, ns since 1970 UTC.
    time : int64[n]
        Time of each trade by the clock, ns since 1970 UTC.
    trade_id : int64[n]
        Id of each trade.
    side : int64[n]
        1 if the aggressor bought, -1 if the aggressor sold, 0 if the trade has no aggressor side.
    price, size : int64[n]
        Price and size of each trade, scaled. If the instrument is stored as DECIMAL(38,18), these are object
        arrays of Python integers.
    """

    chunk: int
    time: NDArray[np.int64]
    trade_id: NDArray[np.int64]
    side: NDArray[np.int64]
    price: NDArray[np.int64]
    size: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time)

    def part(self, start: int, end: int) -> Trades:
        """Return the trades from index `start` (inclusive) to `end` (exclusive)."""
        arrays = (self.time, self.trade_id, self.side, self.price, self.size)
        return Trades(self.chunk, *(array[start:end] for array in arrays))

    def append_to(self, earlier: Sequence[Trades]) -> Trades:
        """Return the earlier trades, followed by the trades of this object."""
        if not earlier:
            return self
        names = ("time", "trade_id", "side", "price", "size")
        parts = ([getattr(trades, name) for trades in (*earlier, self)] for name in names)
        return Trades(self.chunk, *map(np.concatenate, parts))


NO_TRADES = Trades(NOT_GIVEN, *(np.empty(0, dtype=np.int64) for _ in range(5)))


def read_updates(
    source: ReplayFeed, files: ChunkFiles, skip_rows: int = 0, align_row: int = 0
) -> Iterator[pa.RecordBatch]:
    """Yield the book updates of a chunk.

    Parameters
    ----------
    source : ReplayFeed
        Instrument and encoding.
    files : ChunkFiles
        Files of the chunk.
    skip_rows, align_row : int
        See `event_files.read_chunk_batches`.

    Yields
    ------
    pyarrow.RecordBatch
        Columns of `flat_events`, encoded, in the feed's order; book updates only.
    """
    for batch in read_chunk_events(source, files, skip_rows, align_row):
        is_update = pc.equal(batch["event_type"], EventType.BOOK_UPDATE)
        updates = batch if pc.all(is_update).as_py() else batch.filter(is_update)
        if updates.num_rows:
            yield source.numbers.encode(updates)


def read_chunk_events(
    source: ReplayFeed, files: ChunkFiles, skip_rows: int = 0, align_row: int = 0
) -> Iterator[pa.RecordBatch]:
    """Yield the events of a chunk.

    Parameters
    ----------
    source : ReplayFeed
        Instrument.
    files : ChunkFiles
        Files of the chunk.
    skip_rows, align_row : int
        See `event_files.read_chunk_batches`.

    Yields
    ------
    pyarrow.RecordBatch
        Columns of `flat_events` or of its decimal form, in the feed's order. Prices and sizes are as stored.
    """
    is_decimal = source.numbers.is_decimal
    return read_events(
        files.events,
        source.exchange,
        source.symbol,
        files.start,
        is_decimal,
        _BATCH_ROWS,
        skip_rows,
        align_row,
    )


def use_vendor_books(source: ReplayFeed, rebuilder: Rebuilder, files: ChunkFiles) -> None:
    """Give a rebuilder the vendor books of a chunk, if there are any."""
    if files.vendor:
        rebuilder.use_vendor_books(queue_vendor_books(read_vendor_books(files.vendor), source.numbers))


def read_trades(
    source: ReplayFeed, chunks: Sequence[ChunkFiles], skip_rows: int, last_time: int
) -> Iterator[Trades]:
    """Yield the trades of successive chunks.

    Parameters
    ----------
    source : ReplayFeed
        Instrument and clock.
    chunks : sequence of ChunkFiles
        Files of the chunks.
    skip_rows : int
        Number of events of the first chunk to skip.
    last_time : int
        Time of the last trade before the trades to read, ns since 1970 UTC; -1 if there is none.

    Yields
    ------
    Trades
        Trades in the feed's order. If the feed has trade ids, a trade with the id of the previous trade is
        left out.
    """
    last_id = NOT_GIVEN
    for number, files in enumerate(chunks):
        skipped = 0 if number else skip_rows
        for batch in read_chunk_batches(
            files.events, source.exchange, files.start, _BATCH_ROWS, _TRADE_COLUMNS, skipped
        ):
            rows = batch.filter(pa.array(mask_event_type(batch["event_type"], EventType.TRADE)))
            if not rows.num_rows:
                continue
            received, order_time, trade_id = (to_numpy(rows[name]) for name in STAMP_COLUMNS[1:])
            time = compute_times(source.clock, received, order_time, last_time)
            last_time = int(time[-1]) if source.clock is Clock.RECEIVED else NOT_GIVEN
            is_new = np.ones(len(time), dtype=np.bool_)
            if source.feed.trade_ids:
                is_new = np.diff(trade_id, prepend=last_id) != 0
            last_id = int(trade_id[-1])
            price, size = (source.numbers.addends(rows["data"].field(name)) for name in ("price", "size"))
            signs = np.zeros(len(time), dtype=np.int64)
            for name, sign in _SIDE_SIGNS.items():
                signs[to_numpy(pc.equal(rows["data"].field("side"), name))] = sign
            arrays = (time, trade_id, signs, price, size)
            yield Trades(files.start, *(values[is_new] for values in arrays))


def drop_trades_until(trades: Iterator[Trades], time: int) -> Iterator[Trades]:
    """Yield the trades whose time by the clock is after `time`, ns since 1970 UTC."""
    for part in trades:
        count = int(np.searchsorted(part.time, time, side="right"))
        if count < len(part):
            yield part.part(count, len(part))
