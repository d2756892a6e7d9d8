"""Rebuilding one symbol's books from events in the feed's order, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.errors import OrderError
from deltabook.schemas.feeds import Checksum, Feed
from deltabook.schemas.names import (
    NOT_GIVEN,
    STATUS_LABELS,
    Cadence,
    EventType,
    GapKind,
    GoldenKind,
    Status,
    Writing,
)
from deltabook.schemas.tables import BOOKS, form_of
from deltabook.udfs.numbers.encoding import Numbers, Printing
from deltabook.udfs.orderbook import continuity
from deltabook.udfs.orderbook.book import (
    ASK,
    BID,
    NOT_CHECKED,
    RIGHT,
    WRONG,
    Book,
    Levels,
    Proofs,
    Side,
    Tops,
)
from deltabook.udfs.orderbook.coverage import Coverage
from deltabook.udfs.orderbook.gaps import GapLog, gap_row
from deltabook.udfs.orderbook.order_flow import Top, order_flow, top_of
from deltabook.udfs.ordering.clock_jumps import clock_jumps

_OF_MESSAGE = ["date", "hour", "timestamp", "received", "order_time", "epoch", "sequence"]
_NOTHING: Levels = (np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True)
class Opening:
    """All that an hour needs to know of the hours before it: a row of `checkpoints`.

    Attributes
    ----------
    sequence, trade_sequence : int
        Last update id in the book, last trade id seen; -1 if none.
    order_time : int
        Of the last event, ns; -1 if none.
    update_time : int
        order_time of the last book update, ns; -1 if none.
    status : Status
        Of the book after the last message.
    bridge_due, updates_seen : bool
        A snapshot awaits its first diff; a book update was met.
    bids, asks : (int64[:], int64[:])
        The full book: prices and sizes, scaled or codes, prices ascending.
    trade_count, buy_volume, sell_volume : int
        Trades since the last row of `books`.
    epoch : int
        Of the last book update.
    held : pyarrow.RecordBatch or None
        Last events of the hour before, from a snapshot on whose use depends on the next diff.
    """

    sequence: int = NOT_GIVEN
    trade_sequence: int = NOT_GIVEN
    order_time: int = NOT_GIVEN
    update_time: int = NOT_GIVEN
    status: Status = Status.UNSEEDED
    bridge_due: bool = False
    updates_seen: bool = False
    bids: Levels = _NOTHING
    asks: Levels = _NOTHING
    trade_count: int = 0
    buy_volume: int = 0
    sell_volume: int = 0
    epoch: int = 0
    held: pa.RecordBatch | None = None


@dataclass
class Comparison:
    """How often the book equalled what it could be held against.

    Attributes
    ----------
    compared, matched : int
        Messages.
    first_divergence : int
        Sequence of the first that did not match; -1 if none.
    """

    compared: int = 0
    matched: int = 0
    first_divergence: int = NOT_GIVEN

    def note(self, verdicts: NDArray[np.int8], sequence: NDArray[np.int64]) -> None:
        """Count a batch's verdicts, `NOT_CHECKED`, `WRONG` or `RIGHT`, at these sequences."""
        self.compared += int(np.count_nonzero(verdicts != NOT_CHECKED))
        self.matched += int(np.count_nonzero(verdicts == RIGHT))
        wrong = np.flatnonzero(verdicts == WRONG)
        if len(wrong) and self.first_divergence == NOT_GIVEN:
            self.first_divergence = int(sequence[wrong[0]])


class Rebuilder:
    """Carries one symbol's book through batches of events.

    Parameters
    ----------
    exchange, symbol : str
        Whose books.
    feed : Feed
        The rules of the feed.
    writing : Writing
        Which rows are written.
    numbers : Numbers
        What its prices and sizes are.
    opening : Opening
        The state before the first batch.
    """

    def __init__(
        self,
        exchange: str,
        symbol: str,
        feed: Feed,
        writing: Writing,
        numbers: Numbers,
        opening: Opening,
    ):
        self.exchange, self.symbol = exchange, symbol
        self.feed = feed
        self.writing = writing
        self.numbers, self.printing = numbers, numbers.printing
        self.books = form_of(BOOKS, numbers.is_decimal)
        self.gaps = GapLog()
        self.state = continuity.initial_state()
        self.state[continuity.LAST_SEQUENCE] = opening.sequence
        # What a checksum proved of the last message says nothing of the next.
        proven_by_ids = Status.UNVERIFIABLE if opening.status is Status.CHECKED else opening.status
        self.state[continuity.STATUS] = proven_by_ids
        self.state[continuity.BRIDGE_DUE] = opening.bridge_due
        self.state[continuity.UPDATES_SEEN] = opening.updates_seen
        if opening.updates_seen:
            self.state[continuity.ROW_EPOCH] = opening.epoch
        last_status = int(opening.status) if opening.updates_seen else NOT_GIVEN
        self.book = Book(opening.bids, opening.asks, writing.depth, last_status)
        self.coverage = Coverage(writing.silence, opening.update_time)
        self.compared: dict[GoldenKind, Comparison] = {}
        self.hour, self.off_clock = NOT_GIVEN, np.zeros(2, dtype=np.bool_)
        self.trade_sequence = opening.trade_sequence
        self.order_time = opening.order_time
        self.flow = np.array([opening.trade_count, opening.buy_volume, opening.sell_volume])
        self.held = opening.held
        self.last_place: dict[str, Any] = {}
        self.skip_rows(False)

    def skip_rows(self, skipped: bool) -> None:
        """From here on make no rows of books, or make them again: the book alone is carried on."""
        self.rows_skipped = skipped
        seeded = self.book.status > Status.UNSEEDED
        depth, (bids, asks) = self.writing.depth, self.book.sides
        best: list[Levels] = [_NOTHING, _NOTHING]
        if seeded:
            best = [(bids[0][::-1][:depth], bids[1][::-1][:depth]), (asks[0][:depth], asks[1][:depth])]
        prices, sizes = zip(*best, strict=True)
        self.shown = top_of(prices, tuple(map(self.numbers.amounts, sizes)))

    def opening(self) -> Opening:
        """Return the state as it stands, for the next hour to start from."""
        return Opening(
            sequence=int(self.state[continuity.LAST_SEQUENCE]),
            trade_sequence=self.trade_sequence,
            order_time=self.order_time,
            update_time=self.coverage.update_time,
            status=Status(max(self.book.status, int(Status.UNSEEDED))),
            bridge_due=bool(self.state[continuity.BRIDGE_DUE]),
            updates_seen=bool(self.state[continuity.UPDATES_SEEN]),
            bids=self.book.sides[BID],
            asks=self.book.sides[ASK],
            trade_count=int(self.flow[0]),
            buy_volume=int(self.flow[1]),
            sell_volume=int(self.flow[2]),
            epoch=int(self.state[continuity.ROW_EPOCH]) if self.state[continuity.UPDATES_SEEN] else 0,
            held=self.held,
        )

    def feed_batch(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """Apply a batch of one hour's events.

        Parameters
        ----------
        events : pyarrow.RecordBatch
            Columns of `schemas.frames.FLAT_EVENTS`, as `numbers` codes them, in the feed's order, all of
            one hour.

        Returns
        -------
        pyarrow.RecordBatch
            The rows of `books` (or `books_decimal`) made, in that table's columns; none while skipped.

        Raises
        ------
        OrderError
            If a book update comes before one with a smaller id.
        """
        if self.held is not None and events.num_rows:
            # What waited belongs to the hour in which it is decided.
            events = pa.concat_batches([_moved(self.held, events), events])
        return self._feed(events, final=False)

    def _feed(self, events: pa.RecordBatch, final: bool) -> pa.RecordBatch:
        is_update = _numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
        at = np.flatnonzero(is_update)
        # Without trades among them, taking the updates would only copy them.
        updates = events if len(at) == events.num_rows else events.take(pa.array(at))
        ids = _ids(updates)
        verdicts, misplaced = continuity.check_updates(self.feed, ids, self.state, final)
        if misplaced >= 0:
            raise OrderError(
                f"{self.exchange} {self.symbol}: update {ids.sequence[misplaced]} "
                f"({updates['source_file'][misplaced]}, row {updates['source_row'][misplaced]}) comes after "
                "a later one: the table `events` is not in the feed's order; ingest the hour again"
            )
        judged = len(verdicts.action)
        self.held = None if judged == len(at) else events.slice(at[judged])
        if self.held is not None:
            events, is_update = events.slice(0, at[judged]), is_update[: at[judged]]
            updates, at = updates.slice(0, judged), at[:judged]
        proofs = _proofs(updates, self.feed.checksum, self.printing) if self.feed.own_snapshots else None
        status_before = self.book.status
        every = self.writing.of_kernel is Cadence.MESSAGE
        tops = self.book.apply(_side(updates, "bid"), _side(updates, "ask"), verdicts, proofs, every)
        self.gaps.note_updates(verdicts, lambda index: _place(updates, index))
        crossed = _crossed(tops)
        # Of a suspect book it is no news: its gap is told.
        news = crossed & (verdicts.status[tops.message] != Status.SUSPECT)
        self.gaps.note_crossed(news, tops.message, lambda index: _place(updates, index))
        self._note_silence(updates, status_before, verdicts.status)
        for jump in self._clock_jumps(events):
            place = _place(events, jump)
            stamps = int(events["order_time"][jump].as_py()), int(events["timestamp"][jump].as_py())
            self.gaps.closed.append(gap_row(GapKind.CLOCK_JUMP, place, *stamps))
        for kind, found in (
            (GoldenKind.CHECKSUM, tops.checksum_verdicts),
            (GoldenKind.SNAPSHOT, tops.snapshot_verdicts),
        ):
            self.compared.setdefault(kind, Comparison()).note(found, ids.sequence)
        flow = self._trade_flow(events, at[tops.message], is_update)
        if events.num_rows:
            self.order_time = int(events["order_time"][-1].as_py())
        if len(at):
            self.last_place = _place(updates, len(at) - 1)
        if self.rows_skipped:
            return pa.RecordBatch.from_pylist([], schema=self.books.arrow)
        return self._rows(updates, tops, verdicts, flow, crossed)

    def _note_silence(self, updates: pa.RecordBatch, status_before: int, status: NDArray[np.int8]) -> None:
        if not updates.num_rows:
            return
        times, hour = _numpy(updates["order_time"]), int(updates["hour"][0].as_py())
        for index, before in self.coverage.note(hour, times, status_before, status):
            place = _place(updates, index)
            due, found = before + self.writing.silence, place["order_time"]
            self.gaps.closed.append(
                gap_row(GapKind.SILENCE, place, due, found)
                | {"from_time": before, "resolved_time": found, "resolved_by": "book_update"}
                | {"resolved_sequence": place["sequence"]}
            )

    def _clock_jumps(self, events: pa.RecordBatch) -> list[int]:
        if not events.num_rows:
            return []
        hour = int(events["hour"][0].as_py())
        if hour != self.hour:  # each hour tells its own, so that it can be rebuilt alone
            self.hour, self.off_clock = hour, np.zeros(2, dtype=np.bool_)
        return clock_jumps(events, self.off_clock)

    def take_compared(self) -> dict[GoldenKind, Comparison]:
        """Return what was compared since the last call, by kind, and begin anew."""
        compared, self.compared = self.compared, {}
        return {kind: found for kind, found in compared.items() if found.compared}

    def finish(self) -> list[dict[str, Any]]:
        """Return all rows of `gaps` (without exchange and symbol) once the last batch is in."""
        if self.held is not None:
            self._feed(self.held, final=True)
        rows = self.gaps.rows()
        if self.state[continuity.STATUS] == Status.UNSEEDED and self.last_place:
            rows.append(gap_row(GapKind.MISSING_SNAPSHOT, self.last_place, NOT_GIVEN, NOT_GIVEN))
        return rows

    def _trade_flow(
        self, events: pa.RecordBatch, rows_at: NDArray[np.int64], is_update: NDArray[np.bool_]
    ) -> NDArray[Any]:
        """Note trade gaps; return (count, buy, sell) between rows, shape [rows, 3], and keep the rest."""
        at = np.flatnonzero(~is_update)
        ids = _numpy(events["sequence"])[at]
        before = np.concatenate(([self.trade_sequence], ids[:-1])) if len(ids) else ids
        jumped = (ids > before + 1) & (before != NOT_GIVEN) & self.feed.trade_ids
        for jump in np.flatnonzero(jumped).tolist():
            place = _place(events, int(at[jump]))
            self.gaps.closed.append(gap_row(GapKind.TRADE_GAP, place, int(before[jump]) + 1, int(ids[jump])))
        if len(ids):
            self.trade_sequence = int(ids[-1])
        fresh = at[(ids != before) | (not self.feed.trade_ids)]
        sides = events["side"].take(pa.array(fresh))
        amounts = self.numbers.amounts(_numpy(events["size"])[fresh])
        flow = np.zeros((events.num_rows + 1, 3), dtype=amounts.dtype)
        for column, side in ((1, "buy"), (2, "sell")):
            chosen = _numpy(pc.equal(sides, side))
            flow[fresh[chosen] + 1, column] = amounts[chosen]
            flow[fresh[chosen] + 1, 0] = 1
        # Differences of running sums stay exact even if the sums wrap around int64.
        flow = self.flow + np.cumsum(flow, axis=0)
        bounds = np.concatenate(([0], rows_at + 1))
        between: NDArray[Any] = np.diff(flow[bounds], axis=0)
        if len(between):
            between[0] += self.flow
            self.flow = flow[-1] - flow[bounds[-1]]
        else:
            self.flow = flow[-1]
        return between

    def _rows(
        self,
        updates: pa.RecordBatch,
        tops: Tops,
        verdicts: continuity.Verdicts,
        flow: NDArray[Any],
        crossed: NDArray[np.bool_],
    ) -> pa.RecordBatch:
        rows = updates.select(_OF_MESSAGE).take(pa.array(tops.message))
        columns: dict[str, Any] = {name: rows[name] for name in _OF_MESSAGE}
        for name, side in (("bid", BID), ("ask", ASK)):
            offsets = pa.array(tops.offsets[side].astype(np.int32))
            columns[f"{name}_prices"] = pa.ListArray.from_arrays(offsets, pa.array(tops.prices[side]))
            columns[f"{name}_sizes"] = pa.ListArray.from_arrays(offsets, pa.array(tops.sizes[side]))
            columns[f"{name}_levels"] = tops.levels[:, side]
        columns |= {
            "exchange": _repeated(self.exchange, rows.num_rows),
            "symbol": _repeated(self.symbol, rows.num_rows),
            "cadence": _repeated(self.writing.label(self.writing.cadence), rows.num_rows),
            "trade_count": flow[:, 0].astype(np.int64),
            "status": pa.array(STATUS_LABELS).take(pa.array(verdicts.status[tops.message])),
            "crossed": crossed,
        }
        arrays = {name: pa.array(column) for name, column in columns.items()}
        rows = self.numbers.decode(pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays)))
        what = f"{self.exchange} {self.symbol}"
        for place, name in ((1, "buy_volume"), (2, "sell_volume")):
            rows = rows.append_column(name, self.numbers.volume(flow[:, place], what))
        rows = rows.append_column("ofi", self._order_flow(tops, verdicts, what))
        return rows.select(self.books.names).cast(self.books.arrow)

    def _order_flow(self, tops: Tops, verdicts: continuity.Verdicts, what: str) -> pa.Array:
        sizes = tuple(self.numbers.amounts(values) for values in tops.sizes)
        books = Top(tops.offsets, tops.prices, sizes)  # type: ignore[arg-type]
        replaced = verdicts.action[tops.message] >= continuity.RESET
        flow = order_flow(self.shown, books, replaced, min(self.writing.ofi_levels, self.writing.depth))
        if len(replaced):
            self.shown = books.last()
        offsets = np.arange(len(replaced) + 1, dtype=np.int32) * flow.shape[1]
        return pa.ListArray.from_arrays(pa.array(offsets), self.numbers.volume(flow.ravel(), what))


def _crossed(tops: Tops) -> NDArray[np.bool_]:
    """Whether the best bid is above the best ask; equal is locked, which is valid."""
    crossed = np.zeros(len(tops.message), dtype=np.bool_)
    starts = [tops.offsets[side][:-1] for side in (BID, ASK)]
    both = (np.diff(tops.offsets[BID]) > 0) & (np.diff(tops.offsets[ASK]) > 0)
    crossed[both] = tops.prices[BID][starts[BID][both]] > tops.prices[ASK][starts[ASK][both]]
    return crossed


def _moved(held: pa.RecordBatch, events: pa.RecordBatch) -> pa.RecordBatch:
    """Give held events the hour of those that come after them."""
    for name in ("date", "hour"):
        column = pa.repeat(events[name][0], held.num_rows)
        held = held.set_column(held.schema.get_field_index(name), held.schema.field(name), column)
    return held


def _place(events: pa.RecordBatch, index: int) -> dict[str, Any]:
    names = ("hour", "epoch", "sequence", "order_time", "source_file", "source_row")
    return {name: events[name][index].as_py() for name in names}


def _ids(updates: pa.RecordBatch) -> continuity.Ids:
    names = ("is_snapshot", "epoch", "first_sequence", "prev_sequence", "sequence", "damaged")
    column = {name: _numpy(updates[name]) for name in names}
    return continuity.Ids(
        is_snapshot=column["is_snapshot"],
        epoch=column["epoch"],
        first=column["first_sequence"],
        previous=column["prev_sequence"],
        sequence=column["sequence"],
        # A message without an id has its time in the place of one.
        given=(column["prev_sequence"] != NOT_GIVEN) | (column["sequence"] != _numpy(updates["timestamp"])),
        damaged=column["damaged"],
    )


def _proofs(updates: pa.RecordBatch, kind: Checksum, printing: Printing) -> Proofs:
    names = ("checksum", "price_digits", "size_digits", "kept_levels")
    return Proofs(kind, printing, *(_numpy(updates[name]) for name in names))


def _side(updates: pa.RecordBatch, name: str) -> Side:
    prices, sizes = updates[f"{name}_prices"], updates[f"{name}_sizes"]
    offsets = _numpy(prices.offsets).astype(np.int64)
    start, end = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    size_start = int(sizes.offsets[0].as_py()) if len(sizes) else 0
    return Side(
        offsets - start,
        _numpy(prices.values)[start:end],
        _numpy(sizes.values)[size_start : size_start + end - start],
    )


def _numpy(array: pa.Array) -> NDArray[Any]:
    return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _repeated(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)
