"""Book updates and trades in one order, and the arrays in which observations look things up."""

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
from deltabook.udfs.replay.clocks import Clock, Feeding, numpy_of
from deltabook.udfs.replay.cursors import Updates
from deltabook.udfs.replay.streams import NO_TRADES, Trades

_LABELS = pa.array(STATUS_LABELS)


class Shown:
    """What the books of one batch of updates show, as arrays by row; index -1 is the book before.

    Parameters
    ----------
    feeding : Feeding
        Whose.
    updates : Updates
        The batch.
    """

    def __init__(self, feeding: Feeding, updates: Updates):
        self.feeding, self.updates = feeding, updates
        books, before, integers = updates.books, updates.before, feeding.numbers.addends
        self.before = {name: integers(before[name][0].values) for name in SIDE_NAMES}
        columns = (integers(books[name].flatten()) for name in SIDE_NAMES)
        self.bid_prices, self.bid_sizes, self.ask_prices, self.ask_sizes = columns
        offsets = (numpy_of(books[name].offsets) for name in ("bid_prices", "ask_prices"))
        self.bids, self.asks = ((bounds - bounds[0]).tolist() for bounds in offsets)
        both = [pc.index_in(rows["status"], _LABELS) for rows in (books, before)]
        self.status = np.concatenate([numpy_of(codes) for codes in both]).astype(np.int8)
        self.sequence = np.concatenate([numpy_of(rows["sequence"]) for rows in (books, before)])
        unproven = self.status[updates.row[1:]] <= Status.SUSPECT
        self.unproven = np.concatenate(([0], np.cumsum(unproven)))

    @cached_property
    def statuses(self) -> list[int]:
        """`status` as a list."""
        return self.status.tolist()  # type: ignore[no-any-return]

    @cached_property
    def sequences(self) -> list[int]:
        """`sequence` as a list."""
        return self.sequence.tolist()  # type: ignore[no-any-return]

    @cached_property
    def ofi(self) -> NDArray[np.int64]:
        """Sum of the best level's order flow imbalance over the rows before each, int64[rows + 1]."""
        books = self.updates.books
        flow = self.feeding.numbers.addends(books["ofi"].flatten())
        by_row = flow.reshape(len(books), -1)[:, 0] if len(books) else flow
        return np.concatenate(([0], np.cumsum(by_row)))


@dataclass(frozen=True)
class Block:
    """Messages of both streams in one order.

    Attributes
    ----------
    time : int64[n]
        By the clock, ns.
    updates : int64[n + 1]
        How many updates of `shown` come before each message, and before the end.
    first : int
        Trades of `trades` before the block.
    shown : Shown
        The books.
    trades : Trades
        Those of the block, and others.
    """

    time: NDArray[np.int64]
    updates: NDArray[np.int64]
    first: int
    shown: Shown
    trades: Trades

    def trades_before(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the trades of `trades` before messages of the block."""
        counts: NDArray[np.int64] = self.first + at - (self.updates[at] - self.updates[0])
        return counts


def merged(
    feeding: Feeding, updates: Iterator[Updates], trades: Iterator[Trades], before: Updates
) -> Iterator[Block]:
    """Merge two streams by the clock, trades before updates of the same time.

    Parameters
    ----------
    feeding : Feeding
        Whose, and by which clock.
    updates, trades : iterator
        Each in its own order.
    before : Updates
        Without updates: the book before the first.

    Yields
    ------
    Block
        No more than what has been read of either.
    """
    update, trade = next(updates, None), next(trades, None)
    shown = Shown(feeding, update or before)
    first_update = first_trade = 0
    while update is not None or trade is not None:
        n_updates, n_trades = _ready(feeding.clock, update, first_update, trade, first_trade)
        yield _block(shown, first_update, n_updates, trade or NO_TRADES, first_trade, n_trades)
        first_update, first_trade = first_update + n_updates, first_trade + n_trades
        if update is not None and first_update == len(update.time):
            update = next(updates, None)
            if update is not None:
                shown, first_update = Shown(feeding, update), 0
        if trade is not None and first_trade == len(trade):
            trade, first_trade = next(trades, None), 0


def _ready(
    clock: Clock, update: Updates | None, first_update: int, trade: Trades | None, first_trade: int
) -> tuple[int, int]:
    """Count what may be told before more is read of either."""
    n_updates = 0 if update is None else len(update.time) - first_update
    n_trades = 0 if trade is None else len(trade) - first_trade
    if update is None or trade is None:
        return n_updates, n_trades
    if clock is Clock.EXCHANGE and update.hour != trade.hour:
        return (n_updates, 0) if update.hour < trade.hour else (0, n_trades)
    return (
        int(np.searchsorted(update.time[first_update:], trade.time[-1], side="left")),
        int(np.searchsorted(trade.time[first_trade:], update.time[-1], side="right")),
    )


def _block(
    shown: Shown, first_update: int, n_updates: int, trades: Trades, first_trade: int, n_trades: int
) -> Block:
    of_updates = shown.updates.time[first_update : first_update + n_updates]
    of_trades = trades.time[first_trade : first_trade + n_trades]
    is_update = np.ones(n_updates + n_trades, dtype=np.bool_)
    is_update[np.arange(n_trades) + np.searchsorted(of_updates, of_trades, side="left")] = False
    time = np.empty(len(is_update), dtype=np.int64)
    time[is_update], time[~is_update] = of_updates, of_trades
    counts = first_update + np.concatenate(([0], np.cumsum(is_update)))
    return Block(time, counts, first_trade, shown, trades)
