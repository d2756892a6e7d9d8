"""Computes many steps of a replay at once, with the changes of books and trades in each step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import Status
from deltabook.udfs.replay.merging import BookArrays, MessageBlock
from deltabook.udfs.replay.streams import Trades


@dataclass(frozen=True)
class CarriedChanges:
    """Changes since the last observation that were in earlier blocks of messages.

    Attributes
    ----------
    trades : tuple of Trades
        Trades of the earlier blocks, in order.
    updates : int
        Number of book updates.
    ofi : int
        Order flow imbalance of the best level, scaled.
    unproven : bool
        Whether the book was unsound after any of the updates.
    gap : bool
        Like `unproven`, but also True if the book was unsound before the first of the updates.
    """

    trades: tuple[Trades, ...] = ()
    updates: int = 0
    ofi: int = 0
    unproven: bool = False
    gap: bool = False

    def flow(self) -> NDArray[np.int64]:
        """Return the number of trades with an aggressor side, bought size and sold size, scaled; int64[3]."""
        return sum(
            (_measure_trades(trades).sum(axis=1) for trades in self.trades), np.zeros(3, dtype=np.int64)
        )


@dataclass(frozen=True)
class Steps:
    """n steps through one block of messages.

    Attributes
    ----------
    books : BookArrays
        The books after a batch of updates, among them the block's updates.
    trades : Trades
        A batch of trades, among them the block's trades.
    carried : CarriedChanges
        Changes from earlier blocks that belong to the first step.
    end : int64[n]
        Number of the block's messages up to each step's end.
    time : int64[n]
        Time of each step's end by the clock, ns since 1970 UTC.
    update, trade : int64[n + 1]
        Counts of updates in `books`, and of trades in `trades`. The first element counts the updates or
        trades before the first step. The other elements count the updates or trades before each step's end.
    row : int64[n + 1]
        Row of `books`. The first element is the row before the first step. The other elements are the rows at
        each step's end.
    """

    books: BookArrays
    trades: Trades
    carried: CarriedChanges
    end: NDArray[np.int64]
    time: NDArray[np.int64]
    update: NDArray[np.int64]
    trade: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        block: MessageBlock,
        start: int,
        end: NDArray[np.int64],
        time: NDArray[np.int64],
        carried: CarriedChanges,
    ) -> Steps:
        """Cut a block into steps.

        Parameters
        ----------
        block : MessageBlock
            Block of messages to cut.
        start : int
            Number of messages before the first step.
        end, time : int64[n]
            Number of messages before each step's end, and time of each step's end by the clock, ns since
            1970 UTC.
        carried : CarriedChanges
            Changes from earlier blocks that belong to the first step.
        """
        bounds = np.concatenate(([start], end))
        update = block.updates[bounds]
        row = block.books.updates.row[update]
        return cls(block.books, block.trades, carried, end, time, update, block.trades_before(bounds), row)

    @property
    def status(self) -> NDArray[np.int8]:
        """Code of `Status` at each step's end, int8[n]."""
        return self.books.status[self.row[1:]]

    @cached_property
    def unproven(self) -> NDArray[np.bool_]:
        """Whether the book was unsound after any update of each step, or at its end, bool[n]."""
        is_unproven = (np.diff(self.books.unproven[self.update]) > 0) | (self.status <= Status.SUSPECT)
        if len(is_unproven):
            is_unproven[0] |= self.carried.unproven
        return is_unproven

    @cached_property
    def gap(self) -> NDArray[np.bool_]:
        """Whether the book was unsound at any time since the previous step's end, bool[n]."""
        has_gap: NDArray[np.bool_] = self.unproven | (self.books.status[self.row[:-1]] <= Status.SUSPECT)
        if len(has_gap):
            has_gap[0] |= self.carried.gap
        return has_gap

    @cached_property
    def ofi(self) -> NDArray[np.int64]:
        """Order flow imbalance of the best level in each step, scaled, int64[n]."""
        flow = np.diff(self.books.ofi[self.row + 1])
        flow[:1] += self.carried.ofi
        return flow

    def sum_changes(self) -> CarriedChanges:
        """Return the sum of the changes of all steps and of the carried changes."""
        trades = self.trades.part(int(self.trade[0]), int(self.trade[-1]))
        return CarriedChanges(
            (*self.carried.trades, trades) if len(trades) else self.carried.trades,
            self.carried.updates + int(self.update[-1] - self.update[0]),
            int(self.ofi.sum()),
            bool(self.unproven.any()),
            bool(self.gap.any()),
        )

    def flow(self) -> NDArray[np.int64]:
        """Return each step's number of trades with an aggressor side, bought size, sold size; int64[3, n]."""
        flow = _measure_trades(self.trades.part(int(self.trade[0]), int(self.trade[-1])))
        sums = np.concatenate((np.zeros((3, 1), dtype=np.int64), np.cumsum(flow, axis=1)), axis=1)
        by_step = np.diff(sums[:, self.trade - self.trade[0]], axis=1)
        first: NDArray[np.int64] = by_step[:, :1] + self.carried.flow()[:, np.newaxis]
        return np.concatenate((first, by_step[:, 1:]), axis=1)

    def batch(self) -> pa.RecordBatch:
        """Return one row for each step, with the columns of `Replay.batches`."""
        rows, books = self.row[1:], self.books.updates.books
        if rows[0] >= 0 and (np.diff(rows) == 1).all():
            books = books.slice(int(rows[0]), len(rows))
        else:
            books = pa.concat_batches([books, self.books.updates.before])
            books = books.take(pa.array(np.where(rows < 0, books.num_rows - 1, rows)))
        updates = np.diff(self.update)
        updates[0] += self.carried.updates
        source = self.books.source
        trade_count, *volumes = self.flow()
        bought, sold, flow = (source.numbers.volume(sums, source.symbol) for sums in (*volumes, self.ofi))
        columns = {
            "time": self.time,
            **{name: books[name] for name in ("epoch", "sequence")},
            "status": self.status,
            "gap": self.gap,
            **{name: books[name] for name in (*SIDE_NAMES, "bid_levels", "ask_levels")},
            "updates": updates,
            "trade_count": trade_count.astype(np.int64),
            "buy_volume": bought,
            "sell_volume": sold,
            "ofi": flow,
        }
        return pa.RecordBatch.from_arrays(list(map(pa.array, columns.values())), names=list(columns))


def _measure_trades(trades: Trades) -> NDArray[np.int64]:
    """Return three numbers for each trade, int64[3, trades].

    The first is 1 if the trade has an aggressor side, else 0. The second is the size if the aggressor bought,
    else 0. The third is the size if the aggressor sold, else 0.
    """
    parts = np.abs(trades.side), trades.size * (trades.side == 1), trades.size * (trades.side == -1)
    return np.stack(parts)
