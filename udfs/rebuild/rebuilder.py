"""Rebuilds the books of one symbol from events in the feed's order, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.errors import OrderError
from deltabook.schemas.feeds import Feed
from deltabook.schemas.names import (
    NOT_GIVEN,
    Cadence,
    EventType,
    GapKind,
    GoldenKind,
    Repair,
    RowPolicy,
    Seed,
    Status,
)
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.numbers.encoding import Numbers
from deltabook.udfs.orderbook import continuity
from deltabook.udfs.orderbook.book import Book, TopOfBookRows
from deltabook.udfs.orderbook.book_kernel import NOT_CHECKED, RIGHT, WRONG
from deltabook.udfs.orderbook.continuity import UpdateIds, UpdateVerdicts
from deltabook.udfs.orderbook.event_columns import (
    locate_message,
    read_integrity_fields,
    read_side_changes,
    read_update_ids,
)
from deltabook.udfs.orderbook.gaps import GapLog, GapRow, MessageLocation, make_gap_row
from deltabook.udfs.orderbook.ranked_book import ASK, BID
from deltabook.udfs.ordering.clock_jumps import find_clock_jumps
from deltabook.udfs.rebuild.book_rows import BookRows
from deltabook.udfs.rebuild.checkpoints import BookState
from deltabook.udfs.rebuild.coverage import Coverage
from deltabook.udfs.rebuild.order_flow import (
    Amounts,
    TradeFlow,
)
from deltabook.udfs.truths.correction_gaps import close_recovered, record_corrections
from deltabook.udfs.truths.support import SupportRules
from deltabook.udfs.truths.unlinked_book import NO_SUPPORT, WARM_TIME, LevelCorrections, UnlinkedBook
from deltabook.udfs.truths.vendor_books import NO_VENDOR_BOOKS, VendorBookQueue


@dataclass
class Comparison:
    """Counts how often the book matched checksums, or snapshots, of the feed.

    Attributes
    ----------
    compared, matched : int
        Number of messages that were compared, and number of those that matched.
    first_divergence : int
        Sequence of the first message that did not match; -1 if all matched.
    """

    compared: int = 0
    matched: int = 0
    first_divergence: int = NOT_GIVEN

    def count(self, verdicts: NDArray[np.int8], sequence: NDArray[np.int64]) -> None:
        """Add a batch of n messages to the counts.

        Parameters
        ----------
        verdicts : int8[n]
            `NOT_CHECKED`, `WRONG` or `RIGHT`.
        sequence : int64[n]
            Last update id, or receive time, of each message.
        """
        self.compared += int(np.count_nonzero(verdicts != NOT_CHECKED))
        self.matched += int(np.count_nonzero(verdicts == RIGHT))
        wrong = np.flatnonzero(verdicts == WRONG)
        if len(wrong) and self.first_divergence == NOT_GIVEN:
            self.first_divergence = int(sequence[wrong[0]])


class Rebuilder:
    """Applies batches of events to the book of one symbol, and makes the rows of `books`.

    Parameters
    ----------
    exchange, symbol : str
        Names as the tables store them.
    feed : Feed
        Rules of the feed.
    policy : RowPolicy
        Which rows of `books` are made.
    numbers : Numbers
        Encoding of the prices and sizes.
    state : BookState
        State of the book before the first batch.

    Attributes
    ----------
    book : Book
        The full book after the last batch.
    rows : BookRows
        Makes the rows of `books` or `books_decimal`.
    gaps : GapLog
        Gaps so far.
    coverage : Coverage
        Time per status so far.
    held : pyarrow.RecordBatch or None
        Events that are not applied yet, because they depend on the next diff; see `BookState.held`.
    """

    def __init__(
        self,
        exchange: str,
        symbol: str,
        feed: Feed,
        policy: RowPolicy,
        numbers: Numbers,
        state: BookState,
    ):
        self.exchange, self.symbol = exchange, symbol
        self.feed = feed
        self.policy = policy
        self.numbers, self.printed_digits = numbers, numbers.printed_digits
        self.rows = BookRows(exchange, symbol, policy, numbers)
        self.gaps = GapLog()
        self.id_state = _make_id_state(state)
        last_status = int(state.status) if state.updates_seen else NOT_GIVEN
        self.rules = state.rules or _make_support_rules(policy)
        sides = (state.bids, state.asks, policy.depth, last_status, state.known)
        self.book = (
            UnlinkedBook(*sides, state.support, self.rules)
            if feed.is_unlinked
            else Book(*sides, feed.whole_snapshots)
        )
        self.vendor_books: VendorBookQueue | None = None
        self.corrections: LevelCorrections | None = None
        self.coverage = Coverage(policy.silence, state.update_time, self.book.count_known(), policy.depth)
        self.comparisons: dict[GoldenKind, Comparison] = {}
        self.chunk, self.is_clock_off = NOT_GIVEN, np.zeros(2, dtype=np.bool_)
        self.order_time = state.order_time
        volumes = (state.trade_count, state.buy_volume, state.sell_volume)
        self.trade_flow = TradeFlow(state.trade_sequence, volumes, feed.trade_ids)
        self.held = state.held
        self.last_update: MessageLocation | None = None
        self.skip_rows(False)

    def skip_rows(self, skipped: bool) -> None:
        """Choose whether the next batches make rows of `books`.

        Parameters
        ----------
        skipped : bool
            True: apply events without making rows. False: make rows.
        """
        self.rows_skipped = skipped
        self.rows.follow(self.book.sides if self.book.status > Status.UNSEEDED else None)

    def capture_state(self) -> BookState:
        """Return the state after the last batch, from which the next chunk can start."""
        updates_seen = bool(self.id_state[continuity.UPDATES_SEEN])
        trade_count, buy_volume, sell_volume = map(int, self.trade_flow.totals)
        return BookState(
            sequence=int(self.id_state[continuity.LAST_SEQUENCE]),
            trade_sequence=self.trade_flow.last_id,
            order_time=self.order_time,
            update_time=self.coverage.update_time,
            status=Status(max(self.book.status, int(Status.UNSEEDED))),
            proven_status=self._proven_status(),
            bridge_due=bool(self.id_state[continuity.BRIDGE_DUE]),
            updates_seen=updates_seen,
            bids=self.book.sides[BID],
            asks=self.book.sides[ASK],
            known=self.book.known,
            support=self.book.support if isinstance(self.book, UnlinkedBook) else NO_SUPPORT,
            rules=self.rules if self.feed.is_unlinked else None,
            trade_count=trade_count,
            buy_volume=buy_volume,
            sell_volume=sell_volume,
            epoch=int(self.id_state[continuity.ROW_EPOCH]) if updates_seen else 0,
            silence=self.policy.silence,
            held=self.held,
        )

    def use_vendor_books(self, books: VendorBookQueue) -> None:
        """Set the vendor books that may belong between the next messages of an unlinked feed."""
        self.vendor_books = books if self.rules.uses_vendor else None

    def apply_events(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """Apply a batch of events of one chunk.

        Parameters
        ----------
        events : pyarrow.RecordBatch
            Columns of `schemas.frames.FLAT_EVENTS`, encoded by `numbers`, in the feed's order, all of one
            chunk.

        Returns
        -------
        pyarrow.RecordBatch
            The new rows of `books` or `books_decimal`; empty while rows are skipped.

        Raises
        ------
        OrderError
            If a book update has a smaller id than the book update before it, within one epoch.
        """
        if self.held is not None and events.num_rows:
            # Held events move to the chunk of the events that decide how they are used.
            events = pa.concat_batches([_move_to_chunk(self.held, events), events])
        return self._apply(events, final=False)

    def finish(self) -> list[GapRow]:
        """Apply the held events; return all rows of `gaps`, without exchange and symbol.

        Call it once, after the last batch.
        """
        if self.held is not None:
            self._apply(self.held, final=True)
        rows = self.gaps.rows()
        if self._proven_status() is Status.UNSEEDED and self.last_update is not None:
            rows.append(make_gap_row(GapKind.MISSING_SNAPSHOT, self.last_update, NOT_GIVEN, NOT_GIVEN))
        return rows

    def take_comparisons(self) -> dict[GoldenKind, Comparison]:
        """Return the comparisons since the last call, by kind, and clear them."""
        comparisons, self.comparisons = self.comparisons, {}
        return {kind: comparison for kind, comparison in comparisons.items() if comparison.compared}

    def _apply(self, events: pa.RecordBatch, final: bool) -> pa.RecordBatch:
        """Apply events and return the new rows of `books`; with `final`, no event is held back."""
        is_update = to_numpy(pc.equal(events["event_type"], EventType.BOOK_UPDATE))
        update_rows = np.flatnonzero(is_update)
        # If every event is a book update, `take` would only make a copy.
        updates = events if is_update.all() else events.take(pa.array(update_rows))
        ids = read_update_ids(updates)
        last = (int(self.id_state[continuity.ROW_EPOCH]), int(self.id_state[continuity.LAST_SEQUENCE]))
        has_last = bool(self.id_state[continuity.UPDATES_SEEN])
        verdicts, out_of_order = continuity.check_updates(
            self.feed, ids, self.id_state, self.policy.session_break, final, self.policy.silence
        )
        if out_of_order >= 0:
            self._raise_order_error(updates, out_of_order)
        n_decided = len(verdicts.action)
        self.held = None if n_decided == len(update_rows) else events.slice(update_rows[n_decided])
        if self.held is not None:
            end = update_rows[n_decided]
            events, is_update = events.slice(0, end), is_update[:end]
            updates, update_rows = updates.slice(0, n_decided), update_rows[:n_decided]
        status_before = self.book.status
        tops = self._apply_updates(updates, ids, verdicts, last if has_last else None)
        crossed = _find_crossed(tops)
        self._record_gaps(events, updates, ids, verdicts, tops, crossed, status_before)
        self._count_comparisons(tops, ids)
        flow = self._sum_trades(events, update_rows[tops.message], is_update)
        if events.num_rows:
            self.order_time = int(events["order_time"][-1].as_py())
        if updates.num_rows:
            self.last_update = locate_message(updates, updates.num_rows - 1)
        if self.rows_skipped:
            return pa.RecordBatch.from_pylist([], schema=self.rows.table.arrow)
        return self._make_rows(updates, tops, verdicts, flow, crossed)

    def _make_rows(
        self,
        updates: pa.RecordBatch,
        tops: TopOfBookRows,
        verdicts: UpdateVerdicts,
        flow: Amounts,
        crossed: NDArray[np.bool_],
    ) -> pa.RecordBatch:
        """Return the rows of `books` of a batch."""
        is_replaced = verdicts.action[tops.message] == continuity.RESET
        if self.corrections is not None:
            is_replaced |= np.isin(tops.message, self.corrections.message)
        return self.rows.make(updates, tops, verdicts.status, flow, crossed, is_replaced)

    def _raise_order_error(self, updates: pa.RecordBatch, index: int) -> None:
        location = locate_message(updates, index)
        raise OrderError(
            f"{self.exchange} {self.symbol}: update {location.sequence} ({location.source_file}, row "
            f"{location.source_row}) comes after an update with a larger id: the table `events` is not in "
            "the feed's order; ingest the hour again"
        )

    def _proven_status(self) -> Status:
        """Return the status of the book by ids alone; of an unlinked book: apart from single levels."""
        if isinstance(self.book, UnlinkedBook):
            return self.book.support.phase
        return Status(int(self.id_state[continuity.STATUS]))

    def _apply_updates(
        self,
        updates: pa.RecordBatch,
        ids: UpdateIds,
        verdicts: UpdateVerdicts,
        last: tuple[int, int] | None,
    ) -> TopOfBookRows:
        """Apply book updates to the book and return the rows of its top levels.

        `last` is the epoch and the id of the message before; None if there was none.
        """
        every_message = self.policy.of_kernel is Cadence.MESSAGE
        bids, asks = read_side_changes(updates, "bid"), read_side_changes(updates, "ask")
        if isinstance(self.book, UnlinkedBook):
            vendor, before = (self.vendor_books or NO_VENDOR_BOOKS).take_before(
                ids.epoch, ids.sequence, to_numpy(updates["received"]), last
            )
            tops, self.corrections = self.book.apply_unlinked(
                bids, asks, ids.time, verdicts, vendor, before, every_message
            )
            return tops
        integrity = None
        if self.feed.own_snapshots:
            integrity = read_integrity_fields(updates, self.feed.checksum, self.printed_digits)
        return self.book.apply(bids, asks, verdicts, integrity, every_message)

    def _record_gaps(
        self,
        events: pa.RecordBatch,
        updates: pa.RecordBatch,
        ids: UpdateIds,
        verdicts: UpdateVerdicts,
        tops: TopOfBookRows,
        crossed: NDArray[np.bool_],
        status_before: int,
    ) -> None:
        """Record every gap of a batch except those of its trades."""
        locate = partial(locate_message, updates)
        self.gaps.record_updates(verdicts, locate)
        if self.corrections is not None:
            record_corrections(self.gaps, self.corrections, self.numbers, locate)
            close_recovered(self.gaps, verdicts, ids, locate)
        # A suspect book may be crossed. The gap that made the book suspect is recorded already.
        is_unexplained = crossed & (verdicts.status[tops.message] != Status.SUSPECT)
        if self.feed.is_unlinked:
            is_unexplained = crossed
        self.gaps.record_crossed_books(is_unexplained, tops.message, locate)
        self._record_silence(updates, status_before, verdicts, tops.known_depth)
        self._record_clock_jumps(events)

    def _record_silence(
        self,
        updates: pa.RecordBatch,
        status_before: int,
        verdicts: UpdateVerdicts,
        known_depth: NDArray[np.int64],
    ) -> None:
        """Count time by status, and record each silence as a gap."""
        if not updates.num_rows:
            return
        times, chunk = to_numpy(updates["order_time"]), int(updates["hour"][0].as_py())
        is_session_start = verdicts.gap == GapKind.NEW_SESSION
        for index, time_before in self.coverage.count_updates(
            chunk, times, status_before, verdicts.status, known_depth, is_session_start
        ):
            location = locate_message(updates, index)
            due, resolved_time = time_before + self.policy.silence, location.order_time
            self.gaps.closed.append(
                make_gap_row(GapKind.SILENCE, location, due, resolved_time)
                | {"from_time": time_before, "resolved_time": resolved_time, "resolved_by": "book_update"}
                | {"resolved_sequence": location.sequence}
            )

    def _record_clock_jumps(self, events: pa.RecordBatch) -> None:
        """Record a gap for each event at which the exchange's clock jumps."""
        if not events.num_rows:
            return
        chunk = int(events["hour"][0].as_py())
        if chunk != self.chunk:  # start anew in each chunk: a chunk may be rebuilt without the chunk before
            self.chunk, self.is_clock_off = chunk, np.zeros(2, dtype=np.bool_)
        for index in find_clock_jumps(events, self.is_clock_off):
            times = int(events["order_time"][index].as_py()), int(events["timestamp"][index].as_py())
            self.gaps.closed.append(make_gap_row(GapKind.CLOCK_JUMP, locate_message(events, index), *times))

    def _count_comparisons(self, tops: TopOfBookRows, ids: UpdateIds) -> None:
        """Count how many checksums and snapshots the book was compared with, and how many matched."""
        for kind, verdicts in (
            (GoldenKind.CHECKSUM, tops.checksum_verdicts),
            (GoldenKind.SNAPSHOT, tops.snapshot_verdicts),
        ):
            self.comparisons.setdefault(kind, Comparison()).count(verdicts, ids.sequence)

    def _sum_trades(
        self, events: pa.RecordBatch, row_events: NDArray[np.int64], is_update: NDArray[np.bool_]
    ) -> Amounts:
        """Record missing trade ids as gaps; return the trade count and volumes that each row gets.

        The result is that of `TradeFlow.sum_between_rows`.
        """
        trades = np.flatnonzero(~is_update)
        ids = to_numpy(events["sequence"])[trades]
        for index, expected in self.trade_flow.find_id_gaps(ids):
            location = locate_message(events, int(trades[index]))
            self.gaps.closed.append(make_gap_row(GapKind.TRADE_GAP, location, expected, int(ids[index])))
        sides = events["side"].take(pa.array(trades))
        amounts = self.numbers.amounts(to_numpy(events["size"])[trades])
        return self.trade_flow.sum_between_rows(events.num_rows, trades, ids, sides, amounts, row_events)


def _make_id_state(state: BookState) -> NDArray[np.int64]:
    """Return the state from which `continuity.check_updates` continues a book, int64[STATE_FIELDS]."""
    id_state = continuity.initial_state()
    id_state[continuity.LAST_SEQUENCE] = state.sequence
    id_state[continuity.STATUS] = state.proven_status
    id_state[continuity.BRIDGE_DUE] = state.bridge_due
    id_state[continuity.UPDATES_SEEN] = state.updates_seen
    if state.updates_seen:
        id_state[continuity.ROW_EPOCH] = state.epoch
        id_state[continuity.ROW_TIME] = state.update_time
    return id_state


def _make_support_rules(policy: RowPolicy) -> SupportRules:
    """Return the rules for seeds and corrections that a policy sets."""
    return SupportRules(
        uses_vendor=policy.seed is not Seed.NONE,
        warms=policy.seed is not Seed.GOLDEN,
        repairs=policy.repair is Repair.OLDER,
        reseed_after=policy.reseed_after,
        warm_time=WARM_TIME,
    )


def _find_crossed(tops: TopOfBookRows) -> NDArray[np.bool_]:
    """Return whether each row is crossed: best bid above best ask. A locked book (equal prices) is valid."""
    crossed = np.zeros(len(tops.message), dtype=np.bool_)
    starts = [tops.offsets[side][:-1] for side in (BID, ASK)]
    has_both = (np.diff(tops.offsets[BID]) > 0) & (np.diff(tops.offsets[ASK]) > 0)
    crossed[has_both] = tops.prices[BID][starts[BID][has_both]] > tops.prices[ASK][starts[ASK][has_both]]
    return crossed


def _move_to_chunk(held: pa.RecordBatch, events: pa.RecordBatch) -> pa.RecordBatch:
    """Return held events with the `date` and `hour` of the events that follow them."""
    for name in ("date", "hour"):
        column = pa.repeat(events[name][0], held.num_rows)
        held = held.set_column(held.schema.get_field_index(name), held.schema.field(name), column)
    return held
