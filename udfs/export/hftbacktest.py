"""hftbacktest's events: a structured array in an npz, from the messages, by the rules of their feed.

What a message does to the book (nothing, its changes, the whole book) and how far the book is proven is told
by the `Rebuilder` itself. Of a proven book every change is an event; one that begins, or is proven again, is
a clear of both sides and a snapshot; one that is not proven any more is a clear.

An event has two times, and neither the exchange's order nor the local one may fall. Messages stand in the
feed's order; one that arrives after a later one is told twice, to the exchange where it stands and locally
where it arrives. Held at once: an hour's stamps, a batch's events, and those under way.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.feeds import FEEDS, Checksum
from deltabook.schemas.names import NOT_GIVEN, STATUS_LABELS, EventType, Status, Writing
from deltabook.udfs.export.arrival_times import Arrivals, arrivals_of
from deltabook.udfs.export.depth_limit import CHANGES, CLEAR, NOTHING, WHOLE, Kept
from deltabook.udfs.export.rows import Target
from deltabook.udfs.export.two_clock_order import EVENT, Ordered
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.numbers.exported_numbers import bounds, doubles
from deltabook.udfs.orderbook.book import ASK, BID, Levels, Side, Tops
from deltabook.udfs.orderbook.checkpoints import opening_of
from deltabook.udfs.orderbook.continuity import APPLY, RESET, SEED_MARK, Verdicts
from deltabook.udfs.orderbook.rebuilder import Opening, Rebuilder
from deltabook.udfs.orderbook.vendor_seed import with_seed
from deltabook.udfs.replay.clocks import numpy_of
from deltabook.udfs.storage.event_files import read_checkpoint, read_events
from deltabook.udfs.storage.object_store import dataset_of
from deltabook.udfs.storage.prefetch import ahead

DEPTH, TRADE, CLEARED, SNAPSHOT = 1, 2, 3, 4
BUY, SELL = 1 << 29, 1 << 28
"""Bits of `ev`: bids and buying aggressors, asks and selling ones."""
_COMPRESSION = 1
_COPIED = 1 << 20
_BEST_ALONE = Writing(depth=1, ofi_levels=1)


def path_of(target: Target) -> str:
    """Return where a symbol-day goes."""
    of = target.of
    return f"{of.exchange}_{of.symbol}_{of.date}.npz"


def write(target: Target, path: Path) -> None:
    """Write a symbol-day; nothing at all if it has no rows.

    Parameters
    ----------
    target : Target
        What is written.
    path : Path
        The file.
    """
    # The array's length stands before it: rows go into a file of their own first.
    aside = path.with_name(f"{path.name}.rows")
    try:
        with aside.open("wb") as stream:
            for rows in ahead(_Exporter(target).rows()):
                stream.write(rows.data)
                target.tally.rows += len(rows)
        if target.tally.rows:
            with aside.open("rb") as stream:
                _pack(stream, target.tally.rows, path)
    finally:
        aside.unlink()


def _pack(rows: IO[bytes], count: int, path: Path) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(EVENT), "fortran_order": False, "shape": (count,)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as packed,
        packed.open("data.npy", "w", force_zip64=True) as array,
    ):
        np.lib.format.write_array_header_1_0(array, header)
        shutil.copyfileobj(rows, array, _COPIED)


class _Judge(Rebuilder):
    """A rebuilder that makes no rows, and keeps what each update of the last batch does."""

    updates: pa.RecordBatch
    verdicts: Verdicts

    def _rows(
        self,
        updates: pa.RecordBatch,
        tops: Tops,
        verdicts: Verdicts,
        flow: NDArray[Any],
        crossed: NDArray[np.bool_],
    ) -> pa.RecordBatch:
        self.updates, self.verdicts = updates, verdicts
        return updates


@dataclass(frozen=True)
class _Batch:
    """Events that are decided, in the feed's order, and when they come."""

    events: pa.RecordBatch
    arrivals: Arrivals
    is_update: NDArray[np.bool_]
    asked: NDArray[np.bool_]


class _Exporter:
    """One symbol-day's events on their way through the book into rows."""

    def __init__(self, target: Target):
        self.target, self.ordered = target, Ordered()
        self.feed, self.numbers = FEEDS[target.of.feed], Scaled(*target.scale_of.values())
        self.kept = (Kept(-1), Kept(1))
        self.shown = False
        self.last_trade = NOT_GIVEN

    def rows(self) -> Iterator[NDArray[np.void]]:
        """Yield the rows of the file."""
        hours, self.target.tally.shift = arrivals_of(self.target)
        for reference, arrivals in hours:
            if not reference.follows:
                yield from self._broken()
                self.judge, self.waiting = self._judge(self._opening(reference)), arrivals.part(0, 0)
            yield from self._hour(reference, arrivals)
        yield from (rows for rows in (self.ordered.rest(),) if len(rows))

    def _broken(self) -> Iterator[NDArray[np.void]]:
        """Yield the rows that end a book after which an hour is left out."""
        if self.shown:
            rows = np.zeros(2, dtype=EVENT)
            rows["ev"], rows["px"] = (CLEARED | BUY, CLEARED | SELL), np.nan
            rows["exch_ts"], rows["local_ts"] = self.last.exchange[-1], self.last.local[-1]
            yield self.ordered.add(rows, np.full(1, 2), self.last.local, self.last.after)
        self.shown = False

    def _judge(self, opening: Opening) -> _Judge:
        of = self.target.of
        return _Judge(of.exchange, of.symbol, self.feed, _BEST_ALONE, self.numbers, opening)

    def _opening(self, reference: Any) -> Opening:
        if not reference.checkpoint_file:
            return Opening()
        checkpoint = read_checkpoint(reference.checkpoint_file, reference.exchange, int(reference.hour))
        return opening_of(checkpoint, self.numbers)

    def _hour(self, reference: Any, arrivals: Arrivals) -> Iterator[NDArray[np.void]]:
        """Yield the rows of an hour."""
        self.waiting = self.waiting.followed_by(arrivals)
        for events in ahead(self._events(reference)):
            state, held = self.judge.opening(), self.judge.held
            queue = events if held is None else pa.concat_batches([held, events])
            self.judge.feed_batch(events)
            yield self._batch(queue, state)
        if reference.is_last and self.judge.held is not None:
            # No diff will come that decides about the last snapshot: the book stays as it is.
            queue, state = self.judge.held, self.judge.opening()
            self.judge.finish()
            yield self._batch(queue, state)

    def _events(self, reference: Any) -> Iterator[pa.RecordBatch]:
        for file in reference.data_files:
            events = read_events(file, reference.exchange, reference.symbol, int(reference.hour))
            yield from with_seed(events, reference) if _is_seeded(reference) else events

    def _batch(self, queue: pa.RecordBatch, state: Opening) -> NDArray[np.void]:
        """Return the rows of the events of a queue that are decided."""
        held = self.judge.held
        events = queue.slice(0, queue.num_rows - (0 if held is None else held.num_rows))
        # A seed stands among the messages and comes with the one before it.
        own = numpy_of(pc.not_equal(events["first_sequence"], SEED_MARK))
        arrivals = self.waiting.take(np.maximum(np.cumsum(own) - 1, 0))
        self.waiting = self.waiting.part(int(own.sum()), len(self.waiting.local))
        if events.num_rows:
            latest = int(arrivals.local.max())
            self.last = replace(arrivals.part(len(own) - 1, len(own)), local=np.full(1, latest))
        is_update = numpy_of(pc.equal(events["event_type"], str(EventType.BOOK_UPDATE)))
        asked = self.target.asked.chosen(numpy_of(events["order_time"]))
        batch = _Batch(events, arrivals, is_update, asked)
        kinds, sides = self._book(batch, state)
        return self._rows(batch, kinds, sides)

    def _book(self, batch: _Batch, state: Opening) -> tuple[NDArray[np.int64], list[Side]]:
        """Return what of each update is told, and the levels that it is told with."""
        updates, verdicts = self.judge.updates, self.judge.verdicts
        at = np.flatnonzero(batch.is_update)
        asked, proven = batch.asked[at], verdicts.status > Status.SUSPECT
        shown = np.concatenate(([self.shown], (proven & asked)))
        before = shown[:-1]
        begins = asked & proven & ~before & (verdicts.action != RESET)
        whole = begins | (asked & proven & (verdicts.action == RESET))
        kinds = np.full(len(at), NOTHING)
        kinds[asked & proven & before & (verdicts.action == APPLY)] = CHANGES
        kinds[whole] = WHOLE
        kinds[asked & ~proven & before] = CLEAR
        self.shown = bool(shown[-1])
        for status in verdicts.status[asked & ~proven].tolist():
            self.target.tally.left_out[STATUS_LABELS[status]] += 1
        sides = [_side(updates, name) for name in ("bid", "ask")]
        for index in np.flatnonzero(begins)[::-1].tolist():
            books = self._after(batch.events, int(at[index]), state)
            sides = [_instead(side, index, levels) for side, levels in zip(sides, books, strict=True)]
        if self.feed.checksum is Checksum.KRAKEN:
            kept = numpy_of(updates["kept_levels"])
            sides = [one.told(side, kept, kinds) for one, side in zip(self.kept, sides, strict=True)]
        return kinds, sides

    def _after(self, events: pa.RecordBatch, at: int, state: Opening) -> list[Levels]:
        """Return the whole book after an event."""
        through = self._judge(replace(state, held=None))
        through.feed_batch(events.slice(0, at + 1))
        bids, asks = through.book.sides
        return [(bids[0][::-1], bids[1][::-1]), asks]

    def _rows(self, batch: _Batch, kinds: NDArray[np.int64], sides: list[Side]) -> NDArray[np.void]:
        """Return the rows of a batch, in both orders."""
        at = np.flatnonzero(batch.is_update)
        has_levels, clears = (kinds == CHANGES) | (kinds == WHOLE), (kinds == WHOLE) | (kinds == CLEAR)
        levels = [np.where(has_levels, np.diff(side.offsets), 0) for side in sides]
        counts = np.zeros(len(batch.is_update), dtype=np.int64)
        counts[at] = 2 * clears + levels[BID] + levels[ASK]
        trades = self._trades(batch)
        counts[trades] = 1
        starts = np.cumsum(counts) - counts
        rows = np.zeros(int(counts.sum()), dtype=EVENT)
        rows["exch_ts"] = np.repeat(batch.arrivals.exchange, counts)
        rows["local_ts"] = np.repeat(batch.arrivals.local, counts)
        for which, bit in ((BID, BUY), (ASK, SELL)):
            place = starts[at[clears]] + which
            rows["ev"][place], rows["px"][place] = CLEARED | bit, np.nan
        kind_of = np.where(kinds == WHOLE, SNAPSHOT, DEPTH)
        begin = starts[at] + 2 * clears
        for side, count, bit in zip(sides, levels, (BUY, SELL), strict=True):
            inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            place, source = np.repeat(begin, count) + inside, np.repeat(side.offsets[:-1], count) + inside
            rows["ev"][place] = np.repeat(kind_of, count) | bit
            self._numbers(rows, place, pa.array(side.prices[source]), pa.array(side.sizes[source]))
            begin = begin + count
        sold = batch.events.select(["side", "price", "size"]).take(pa.array(trades))
        rows["ev"][starts[trades]] = TRADE
        for name, bit in (("buy", BUY), ("sell", SELL)):
            rows["ev"][starts[trades][numpy_of(pc.equal(sold["side"], name))]] |= bit
        self._numbers(rows, starts[trades], sold["price"], sold["size"])
        self._note(batch, counts)
        return self.ordered.add(rows, counts, batch.arrivals.local, batch.arrivals.after)

    def _numbers(
        self, rows: NDArray[np.void], place: NDArray[np.int64], price: pa.Array, size: pa.Array
    ) -> None:
        scales = self.target.scale_of
        rows["px"][place] = doubles(price, scales["price_scale"])
        rows["qty"][place] = doubles(size, scales["size_scale"])

    def _trades(self, batch: _Batch) -> NDArray[np.int64]:
        """Return the places of the trades that are asked for, but of those that are told twice."""
        at = np.flatnonzero(~batch.is_update)
        ids = numpy_of(batch.events["sequence"])[at]
        fresh = np.ones(len(at), dtype=np.bool_)
        if self.feed.trade_ids and len(at):
            fresh = np.diff(ids, prepend=self.last_trade) != 0
            self.last_trade = int(ids[-1])
        return at[fresh & batch.asked[at]]

    def _note(self, batch: _Batch, counts: NDArray[np.int64]) -> None:
        told = numpy_of(batch.events["order_time"])[counts > 0]
        tally = self.target.tally
        if len(told):
            tally.first_time = int(told[0]) if tally.first_time == NOT_GIVEN else tally.first_time
            tally.last_time = int(told[-1])


def _is_seeded(reference: Any) -> bool:
    """Whether the vendor's book was put into the hour's books: they have a row of its id that has a book."""
    if reference.seed_sequence == NOT_GIVEN or not len(reference.book_files):
        return False
    chosen = pc.field("sequence") == int(reference.seed_sequence)
    chosen &= pc.field("hour") == int(reference.hour)
    chosen &= pc.field("exchange") == reference.exchange
    rows = dataset_of(list(reference.book_files))
    found = rows.to_table(columns=["status"], filter=chosen)["status"]
    return any(status != Status.UNSEEDED.label for status in found.to_pylist())


def _side(updates: pa.RecordBatch, name: str) -> Side:
    """Return one side's levels of updates."""
    prices, sizes = updates[f"{name}_prices"], updates[f"{name}_sizes"]
    return Side(bounds(prices), numpy_of(prices.flatten()), numpy_of(sizes.flatten()))


def _instead(side: Side, index: int, levels: Levels) -> Side:
    """Put other levels into the place of one update's."""
    start, end = side.offsets[index : index + 2].tolist()
    offsets = side.offsets.copy()
    offsets[index + 1 :] += len(levels[0]) - (end - start)
    prices, sizes = (
        np.concatenate((old[:start], new, old[end:]))
        for old, new in zip((side.prices, side.sizes), levels, strict=True)
    )
    return Side(offsets, prices, sizes)
