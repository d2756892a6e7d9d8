"""Export to hftbacktest's format: a structured array of events in an npz file, made from a feed's messages.

A book is proven if its status is sound. The `Rebuilder` decides what each message does
to the book and whether the book is proven. While the book is proven, every level change becomes a row of the
file. When a book becomes proven, the file has rows that clear both sides, and then the whole book as a
snapshot. When a book is no longer proven, the file has rows that clear both sides.

A row has an exchange time and a local time. hftbacktest reads the file in two orders, and in each order its
time must not fall (see `two_clock_order`). Rows follow the feed's order. A message that reaches the recorder
late, after a later message of the feed, has its rows twice: once for the exchange, at its place in the feed,
and once for the recorder, at the time of its arrival.

The export holds in memory the times of one chunk, the events of one batch, and the rows of messages that have
not arrived yet.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.feeds import FEEDS, Checksum
from deltabook.schemas.names import NOT_GIVEN, STATUS_LABELS, EventType, RowPolicy, Status
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.export.arrival_times import Arrivals, read_arrivals
from deltabook.udfs.export.depth_limit import CHANGES, CLEAR, NOTHING, WHOLE, ShownPrices
from deltabook.udfs.export.rows import ExportChunk, SymbolDay
from deltabook.udfs.export.two_clock_order import EVENT_DTYPE, TwoClockOrder
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.numbers.exported_numbers import bounds, doubles
from deltabook.udfs.orderbook.book import Levels, SideChanges, TopOfBookRows
from deltabook.udfs.orderbook.continuity import APPLY, MERGE, RESET, UpdateVerdicts
from deltabook.udfs.orderbook.ranked_book import ASK, BID
from deltabook.udfs.rebuild.checkpoints import BookState, restore_book_state
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.storage.event_files import read_events, read_start_checkpoint
from deltabook.udfs.storage.prefetch import prefetch
from deltabook.udfs.truths.vendor_books import queue_vendor_books, read_vendor_books

DEPTH, TRADE, CLEARED, SNAPSHOT = 1, 2, 3, 4
"""Kinds of rows in the column `ev`: level change, trade, clear of one side, level of a snapshot."""
BUY, SELL = 1 << 29, 1 << 28
"""Bits of the column `ev`. BUY: bids, and trades of a buying aggressor. SELL: asks, and of a selling one."""
_COMPRESSION_LEVEL = 1
_COPY_BYTES = 1 << 20


def make_path(day: SymbolDay) -> str:
    """Return the path of a symbol-day's file, relative to the export's folder."""
    key = day.instrument
    return f"{key.exchange}_{key.symbol}_{key.date}.npz"


def write_file(day: SymbolDay, path: Path) -> None:
    """Write the file of a symbol-day; write no file if the symbol-day has no rows.

    Parameters
    ----------
    day : SymbolDay
        The symbol-day to export.
    path : Path
        The file to write.
    """
    # An npy array begins with its length, which is known only after the last row. So the rows go to a
    # temporary file first.
    rows_path = path.with_name(f"{path.name}.rows")
    try:
        with rows_path.open("wb") as stream:
            for rows in prefetch(_Exporter(day).make_rows()):
                stream.write(rows.data)
                day.tally.rows += len(rows)
        if day.tally.rows:
            with rows_path.open("rb") as stream:
                _write_npz(stream, day.tally.rows, path)
    finally:
        rows_path.unlink()


def _write_npz(rows: IO[bytes], count: int, path: Path) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(EVENT_DTYPE), "fortran_order": False, "shape": (count,)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as packed,
        packed.open("data.npy", "w", force_zip64=True) as array,
    ):
        np.lib.format.write_array_header_1_0(array, header)
        shutil.copyfileobj(rows, array, _COPY_BYTES)


class _RecordingRebuilder(Rebuilder):
    """A rebuilder that stores the last batch's updates and their verdicts, instead of making rows of books.

    Attributes
    ----------
    updates : pyarrow.RecordBatch
        Book updates of the last batch.
    verdicts : UpdateVerdicts
        What each update does to the book, and the status of the book after it.
    """

    updates: pa.RecordBatch
    verdicts: UpdateVerdicts

    def _make_rows(
        self,
        updates: pa.RecordBatch,
        tops: TopOfBookRows,
        verdicts: UpdateVerdicts,
        flow: NDArray[np.generic],
        crossed: NDArray[np.bool_],
    ) -> pa.RecordBatch:
        self.updates, self.verdicts = updates, verdicts
        return updates


@dataclass(frozen=True)
class _Batch:
    """n events in the feed's order. The rebuilder has decided what each event does to the book.

    Attributes
    ----------
    events : pyarrow.RecordBatch
        The events, with the columns of `flat_events`; prices and sizes are scaled integers.
    arrivals : Arrivals
        Arrival times of the n events.
    is_update : bool[n]
        Whether each event is a book update; other events are trades.
    is_requested : bool[n]
        Whether the `order_time` of each event is in the requested range.
    """

    events: pa.RecordBatch
    arrivals: Arrivals
    is_update: NDArray[np.bool_]
    is_requested: NDArray[np.bool_]


class _Exporter:
    """Converts the events of one symbol-day to rows of the file, and rebuilds the book to do so."""

    def __init__(self, day: SymbolDay):
        self.day, self.order = day, TwoClockOrder()
        self.feed, self.numbers = FEEDS[day.instrument.feed], Scaled(*day.scales.values())
        self.shown_prices = (ShownPrices(-1), ShownPrices(1))
        self.is_book_shown = False
        self.last_trade = NOT_GIVEN

    def make_rows(self) -> Iterator[NDArray[np.void]]:
        """Yield the rows of the file, batch by batch."""
        chunks, self.day.tally.shift = read_arrivals(self.day)
        for chunk, arrivals in chunks:
            if not chunk.follows:
                yield from self._end_book()
                self.rebuilder = self._make_rebuilder(self._read_state(chunk))
                self.pending_arrivals = arrivals.part(0, 0)
            yield from self._convert_chunk(chunk, arrivals)
        rows = self.order.take_waiting()
        if len(rows):
            yield rows

    def _end_book(self) -> Iterator[NDArray[np.void]]:
        """Yield rows that clear the book, if the file shows one; called where the next chunk is missing."""
        if self.is_book_shown:
            rows = np.zeros(2, dtype=EVENT_DTYPE)
            rows["ev"], rows["px"] = (CLEARED | BUY, CLEARED | SELL), np.nan
            last = self.last_arrival
            rows["exch_ts"], rows["local_ts"] = last.exchange[-1], last.local[-1]
            yield self.order.add(rows, np.full(1, 2), last.local, last.after)
        self.is_book_shown = False

    def _make_rebuilder(self, state: BookState) -> _RecordingRebuilder:
        key = self.day.instrument
        policy = RowPolicy(depth=1, silence=state.silence, ofi_levels=1)
        return _RecordingRebuilder(key.exchange, key.symbol, self.feed, policy, self.numbers, state)

    def _read_state(self, chunk: ExportChunk) -> BookState:
        checkpoint = read_start_checkpoint(chunk)
        return BookState() if checkpoint is None else restore_book_state(checkpoint, self.numbers)

    def _convert_chunk(self, chunk: ExportChunk, arrivals: Arrivals) -> Iterator[NDArray[np.void]]:
        """Yield the rows of a chunk."""
        self.pending_arrivals = self.pending_arrivals.append(arrivals)
        self.vendor_books = read_vendor_books(chunk)
        self.rebuilder.use_vendor_books(queue_vendor_books(self.vendor_books, self.numbers))
        for events in prefetch(self._read_events(chunk)):
            state, held = self.rebuilder.capture_state(), self.rebuilder.held
            queue = events if held is None else pa.concat_batches([held, events])
            self.rebuilder.apply_events(events)
            yield self._convert_decided(queue, state)
        if chunk.is_last and self.rebuilder.held is not None:
            # The rebuilder holds back the last snapshot until a diff follows. No diff will follow, so the
            # held events are applied now.
            queue, state = self.rebuilder.held, self.rebuilder.capture_state()
            self.rebuilder.finish()
            yield self._convert_decided(queue, state)

    def _read_events(self, chunk: ExportChunk) -> Iterator[pa.RecordBatch]:
        for file in chunk.data_files:
            yield from read_events(file, chunk.exchange, chunk.symbol, int(chunk.hour))

    def _convert_decided(self, queue: pa.RecordBatch, state: BookState) -> NDArray[np.void]:
        """Return the rows of the events that the rebuilder has decided; it may hold back the last ones.

        Parameters
        ----------
        queue : pyarrow.RecordBatch
            Events that the rebuilder held back before, followed by the new events.
        state : BookState
            State of the book before these events.
        """
        held = self.rebuilder.held
        events = queue.slice(0, queue.num_rows - (0 if held is None else held.num_rows))
        pending, count = self.pending_arrivals, events.num_rows
        arrivals = pending.part(0, count)
        self.pending_arrivals = pending.part(count, len(pending.local))
        if count:
            latest = np.full(1, int(arrivals.local.max()))
            self.last_arrival = replace(arrivals.part(count - 1, count), local=latest)
        is_update = to_numpy(pc.equal(events["event_type"], str(EventType.BOOK_UPDATE)))
        is_requested = self.day.request.contains(to_numpy(events["order_time"]))
        batch = _Batch(events, arrivals, is_update, is_requested)
        kinds, sides = self._decide_updates(batch, state)
        return self._make_batch_rows(batch, kinds, sides)

    def _decide_updates(self, batch: _Batch, state: BookState) -> tuple[NDArray[np.int64], list[SideChanges]]:
        """Return the kind of each update of a batch (see `depth_limit`), and the level changes to write.

        Returns
        -------
        (kinds, sides) : (int64[m], [SideChanges, SideChanges])
            NOTHING, CHANGES, WHOLE or CLEAR for each of the m updates; and the level changes to write, bids
            and asks.
        """
        updates, verdicts = self.rebuilder.updates, self.rebuilder.verdicts
        update_rows = np.flatnonzero(batch.is_update)
        is_requested, is_proven = batch.is_requested[update_rows], verdicts.status > Status.SUSPECT
        is_shown = np.concatenate(([self.is_book_shown], is_proven & is_requested))
        was_shown = is_shown[:-1]
        is_changed_otherwise = _find_merging_diffs(verdicts.action)
        if self.rebuilder.corrections is not None:
            is_changed_otherwise[self.rebuilder.corrections.message] = True
        begins = is_requested & is_proven & (~was_shown | is_changed_otherwise) & (verdicts.action != RESET)
        is_whole = begins | (is_requested & is_proven & (verdicts.action == RESET))
        kinds = np.full(len(update_rows), NOTHING)
        kinds[is_requested & is_proven & was_shown & (verdicts.action == APPLY)] = CHANGES
        kinds[is_whole] = WHOLE
        kinds[is_requested & ~is_proven & was_shown] = CLEAR
        self.is_book_shown = bool(is_shown[-1])
        for status in verdicts.status[is_requested & ~is_proven].tolist():
            self.day.tally.left_out[STATUS_LABELS[status]] += 1
        sides = [_read_side(updates, name) for name in ("bid", "ask")]
        for index in np.flatnonzero(begins)[::-1].tolist():
            books = self._rebuild_book(batch.events, int(update_rows[index]), state)
            sides = [_replace_levels(side, index, book) for side, book in zip(sides, books, strict=True)]
        if self.feed.checksum is Checksum.KRAKEN:
            limits = to_numpy(updates["kept_levels"])
            sides = [
                shown.limit_depth(side, limits, kinds)
                for shown, side in zip(self.shown_prices, sides, strict=True)
            ]
        return kinds, sides

    def _rebuild_book(self, events: pa.RecordBatch, index: int, state: BookState) -> list[Levels]:
        """Return [bids, asks] of the whole book after the event at `index`, each side best first.

        Parameters
        ----------
        events : pyarrow.RecordBatch
            Events of a batch.
        index : int
            Index of the last event to apply.
        state : BookState
            State of the book before the batch.
        """
        rebuilder = self._make_rebuilder(replace(state, held=None))
        rebuilder.use_vendor_books(queue_vendor_books(self.vendor_books, self.numbers))
        rebuilder.apply_events(events.slice(0, index + 1))
        rebuilder.finish()  # applies a snapshot that waits for the next diff
        bids, asks = rebuilder.book.sides
        return [(bids[0][::-1], bids[1][::-1]), asks]

    def _make_batch_rows(
        self, batch: _Batch, kinds: NDArray[np.int64], sides: list[SideChanges]
    ) -> NDArray[np.void]:
        """Return the next rows of the file for a batch of events, ordered by both clocks of the format.

        Parameters
        ----------
        batch : _Batch
            The events.
        kinds : int64[m]
            Kind of each of the m updates, as `_decide_updates` returns it.
        sides : [SideChanges, SideChanges]
            Level changes of the updates, bids and asks.
        """
        update_rows = np.flatnonzero(batch.is_update)
        has_levels, clears = (kinds == CHANGES) | (kinds == WHOLE), (kinds == WHOLE) | (kinds == CLEAR)
        levels = [np.where(has_levels, np.diff(side.offsets), 0) for side in sides]
        counts = np.zeros(len(batch.is_update), dtype=np.int64)
        counts[update_rows] = 2 * clears + levels[BID] + levels[ASK]
        trades = self._select_trades(batch)
        counts[trades] = 1
        starts = np.cumsum(counts) - counts
        rows = np.zeros(int(counts.sum()), dtype=EVENT_DTYPE)
        rows["exch_ts"] = np.repeat(batch.arrivals.exchange, counts)
        rows["local_ts"] = np.repeat(batch.arrivals.local, counts)
        for side, bit in ((BID, BUY), (ASK, SELL)):
            targets = starts[update_rows[clears]] + side
            rows["ev"][targets], rows["px"][targets] = CLEARED | bit, np.nan
        event_kinds = np.where(kinds == WHOLE, SNAPSHOT, DEPTH)
        begin = starts[update_rows] + 2 * clears
        for changes, count, bit in zip(sides, levels, (BUY, SELL), strict=True):
            within_update = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            targets = np.repeat(begin, count) + within_update
            sources = np.repeat(changes.offsets[:-1], count) + within_update
            rows["ev"][targets] = np.repeat(event_kinds, count) | bit
            prices, sizes = pa.array(changes.prices[sources]), pa.array(changes.sizes[sources])
            self._set_numbers(rows, targets, prices, sizes)
            begin = begin + count
        traded = batch.events.select(["side", "price", "size"]).take(pa.array(trades))
        rows["ev"][starts[trades]] = TRADE
        for name, bit in (("buy", BUY), ("sell", SELL)):
            rows["ev"][starts[trades][to_numpy(pc.equal(traded["side"], name))]] |= bit
        self._set_numbers(rows, starts[trades], traded["price"], traded["size"])
        self._record_times(batch, counts)
        return self.order.add(rows, counts, batch.arrivals.local, batch.arrivals.after)

    def _set_numbers(
        self, rows: NDArray[np.void], targets: NDArray[np.int64], price: pa.Array, size: pa.Array
    ) -> None:
        """Set the prices and sizes of the rows at the indices `targets`, converted to doubles."""
        scales = self.day.scales
        rows["px"][targets] = doubles(price, scales["price_scale"])
        rows["qty"][targets] = doubles(size, scales["size_scale"])

    def _select_trades(self, batch: _Batch) -> NDArray[np.int64]:
        """Return the indices of the requested trades, without trades that repeat the previous trade id."""
        trades = np.flatnonzero(~batch.is_update)
        ids = to_numpy(batch.events["sequence"])[trades]
        is_new = np.ones(len(trades), dtype=np.bool_)
        if self.feed.trade_ids and len(trades):
            is_new = np.diff(ids, prepend=self.last_trade) != 0
            self.last_trade = int(ids[-1])
        return trades[is_new & batch.is_requested[trades]]

    def _record_times(self, batch: _Batch, counts: NDArray[np.int64]) -> None:
        """Update the first and last time of the tally with the events that have rows."""
        times = to_numpy(batch.events["order_time"])[counts > 0]
        tally = self.day.tally
        if len(times):
            tally.first_time = int(times[0]) if tally.first_time == NOT_GIVEN else tally.first_time
            tally.last_time = int(times[-1])


def _find_merging_diffs(action: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return whether each update is the first diff applied after a snapshot that is merged into the book.

    The merge takes effect at this diff.
    """
    applied = np.flatnonzero(action == APPLY)
    following = np.searchsorted(applied, np.flatnonzero(action == MERGE))
    is_first = np.zeros(len(action), dtype=np.bool_)
    is_first[applied[following[following < len(applied)]]] = True
    return is_first


def _read_side(updates: pa.RecordBatch, name: str) -> SideChanges:
    """Return the level changes of updates on one side, `bid` or `ask`."""
    prices, sizes = updates[f"{name}_prices"], updates[f"{name}_sizes"]
    return SideChanges(bounds(prices), to_numpy(prices.flatten()), to_numpy(sizes.flatten()))


def _replace_levels(side: SideChanges, index: int, levels: Levels) -> SideChanges:
    """Return the level changes of a side, with `levels` in place of the changes of the update at `index`."""
    start, end = side.offsets[index : index + 2].tolist()
    offsets = side.offsets.copy()
    offsets[index + 1 :] += len(levels[0]) - (end - start)
    prices, sizes = (
        np.concatenate((old[:start], new, old[end:]))
        for old, new in zip((side.prices, side.sizes), levels, strict=True)
    )
    return SideChanges(offsets, prices, sizes)
