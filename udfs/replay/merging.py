"""Merges book updates and trades into one order, and turns books into arrays for fast look-up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import STATUS_LABELS, Status
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.replay.clocks import Clock, ReplayFeed
from deltabook.udfs.replay.cursors import BookUpdates
from deltabook.udfs.replay.streams import NO_TRADES, Trades

_LABELS = pa.array(STATUS_LABELS)


class BookArrays:
    """The books after a batch of updates, as NumPy arrays. Row -1 is the book before the updates.

    Parameters
    ----------
    source : ReplayFeed
        Instrument, and encoding of its prices and sizes.
    updates : BookUpdates
        The updates.

    Attributes
    ----------
    bid_prices, bid_sizes, ask_prices, ask_sizes : int64[:]
        Prices and sizes of the levels of all rows, end to end; scaled, best first in each row.
    bids, asks : list of int
        Offsets of each row's levels: row i has the bids ``bids[i]:bids[i + 1]``.
    before : dict
        Prices and sizes of row -1, by column name.
    status, sequence : int8[rows + 1], int64[rows + 1]
        Code of `Status` and last update id of each row. Row -1 is at the end of the arrays.
    unproven : int64[n + 1]
        Running count: element i is the number of updates, among the first i, after which the book was suspect
        or unseeded.
    """

    def __init__(self, source: ReplayFeed, updates: BookUpdates):
        self.source, self.updates = source, updates
        books, before, integers = updates.books, updates.before, source.numbers.addends
        self.before = {name: integers(before[name][0].values) for name in SIDE_NAMES}
        columns = (integers(books[name].flatten()) for name in SIDE_NAMES)
        self.bid_prices, self.bid_sizes, self.ask_prices, self.ask_sizes = columns
        offsets = (to_numpy(books[name].offsets) for name in ("bid_prices", "ask_prices"))
        self.bids, self.asks = ((bounds - bounds[0]).tolist() for bounds in offsets)
        both = [pc.index_in(rows["status"], _LABELS) for rows in (books, before)]
        self.status = np.concatenate([to_numpy(codes) for codes in both]).astype(np.int8)
        self.sequence = np.concatenate([to_numpy(rows["sequence"]) for rows in (books, before)])
        unproven = self.status[updates.row[1:]] <= Status.SUSPECT
        self.unproven = np.concatenate(([0], np.cumsum(unproven)))

    @cached_property
    def statuses(self) -> list[int]:
        """The array `status` as a list, which is faster to index."""
        return self.status.tolist()  # type: ignore[no-any-return]

    @cached_property
    def sequences(self) -> list[int]:
        """The array `sequence` as a list, which is faster to index."""
        return self.sequence.tolist()  # type: ignore[no-any-return]

    @cached_property
    def ofi(self) -> NDArray[np.int64]:
        """For each row, sum of the best level's order flow imbalance over earlier rows, int64[rows + 1]."""
        books = self.updates.books
        flow = self.source.numbers.addends(books["ofi"].flatten())
        by_row = flow.reshape(len(books), -1)[:, 0] if len(books) else flow
        return np.concatenate(([0], np.cumsum(by_row)))


@dataclass(frozen=True)
class MessageBlock:
    """Messages of both streams, merged into one order.

    Attributes
    ----------
    time : int64[n]
        Time by the clock, ns since 1970 UTC.
    updates : int64[n + 1]
        How many updates of `books` come before each of the n messages. The last element counts the updates
        before the end of the block.
    first_trade : int
        Number of trades of the batch `trades` that come before the block.
    books : BookArrays
        The books after a batch of updates, among them the block's updates.
    trades : Trades
        A batch of trades, among them the block's trades.
    """

    time: NDArray[np.int64]
    updates: NDArray[np.int64]
    first_trade: int
    books: BookArrays
    trades: Trades

    def trades_before(self, messages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many of `trades` come before each message whose index is in `messages`."""
        updates_before = self.updates[messages] - self.updates[0]
        counts: NDArray[np.int64] = self.first_trade + messages - updates_before
        return counts


def merge_streams(
    source: ReplayFeed, updates: Iterator[BookUpdates], trades: Iterator[Trades], before: BookUpdates
) -> Iterator[MessageBlock]:
    """Merge book updates and trades by their times. At equal times, trades come before updates.

    Parameters
    ----------
    source : ReplayFeed
        Instrument and clock.
    updates : iterator of BookUpdates
        Updates, in the feed's order.
    trades : iterator of Trades
        Trades, in the feed's order.
    before : BookUpdates
        Has no updates; holds the book before the first update.

    Yields
    ------
    MessageBlock
        Messages of both streams, up to the time to which both streams have been read.
    """
    update, trade = next(updates, None), next(trades, None)
    books = BookArrays(source, update or before)
    first_update = first_trade = 0
    while update is not None or trade is not None:
        n_updates, n_trades = _count_ready(source.clock, update, first_update, trade, first_trade)
        yield _make_block(books, first_update, n_updates, trade or NO_TRADES, first_trade, n_trades)
        first_update, first_trade = first_update + n_updates, first_trade + n_trades
        if update is not None and first_update == len(update.time):
            update = next(updates, None)
            if update is not None:
                books, first_update = BookArrays(source, update), 0
        if trade is not None and first_trade == len(trade):
            trade, first_trade = next(trades, None), 0


def _count_ready(
    clock: Clock, update: BookUpdates | None, first_update: int, trade: Trades | None, first_trade: int
) -> tuple[int, int]:
    """Return how many updates and how many trades can be merged before another batch must be read."""
    n_updates = 0 if update is None else len(update.time) - first_update
    n_trades = 0 if trade is None else len(trade) - first_trade
    if update is None or trade is None:
        return n_updates, n_trades
    if clock is Clock.EXCHANGE and update.chunk != trade.chunk:
        return (n_updates, 0) if update.chunk < trade.chunk else (0, n_trades)
    return (
        int(np.searchsorted(update.time[first_update:], trade.time[-1], side="left")),
        int(np.searchsorted(trade.time[first_trade:], update.time[-1], side="right")),
    )


def _make_block(
    books: BookArrays, first_update: int, n_updates: int, trades: Trades, first_trade: int, n_trades: int
) -> MessageBlock:
    update_times = books.updates.time[first_update : first_update + n_updates]
    trade_times = trades.time[first_trade : first_trade + n_trades]
    is_update = np.ones(n_updates + n_trades, dtype=np.bool_)
    is_update[np.arange(n_trades) + np.searchsorted(update_times, trade_times, side="left")] = False
    time = np.empty(len(is_update), dtype=np.int64)
    time[is_update], time[~is_update] = update_times, trade_times
    counts = first_update + np.concatenate(([0], np.cumsum(is_update)))
    return MessageBlock(time, counts, first_trade, books, trades)
