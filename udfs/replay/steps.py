"""Steps through one symbol's books and trades, many at once: what came in each, and how the book stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import Status
from deltabook.udfs.replay.merging import Block, Shown
from deltabook.udfs.replay.streams import Trades


@dataclass(frozen=True)
class Since:
    """What has come since the last observation in blocks that are through.

    Attributes
    ----------
    trades : tuple of Trades
        In order.
    updates, ofi : int
        Book updates, and the best level's order flow imbalance, scaled.
    unproven, gap : bool
        Whether the book was suspect or unseeded after any of them; or before them.
    """

    trades: tuple[Trades, ...] = ()
    updates: int = 0
    ofi: int = 0
    unproven: bool = False
    gap: bool = False

    def flow(self) -> NDArray[np.int64]:
        """Return the sums of the trades: how many, bought, sold; int64[3]."""
        return sum((_flow(trades).sum(axis=1) for trades in self.trades), np.zeros(3, dtype=np.int64))


@dataclass(frozen=True)
class Steps:
    """Steps through one block.

    Attributes
    ----------
    shown : Shown
        The books.
    trades : Trades
        Trades of the block, and others.
    since : Since
        What came before the block and belongs to the first step.
    end, time : int64[n]
        Messages of the block before each step's end, and its time by the clock, ns.
    update, trade, row : int64[n + 1]
        Updates of `shown` and trades of `trades` before the first step and before each one's end, and the
        row of `shown` that holds then.
    """

    shown: Shown
    trades: Trades
    since: Since
    end: NDArray[np.int64]
    time: NDArray[np.int64]
    update: NDArray[np.int64]
    trade: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(
        cls, block: Block, start: int, end: NDArray[np.int64], time: NDArray[np.int64], since: Since
    ) -> Steps:
        """Cut a block.

        Parameters
        ----------
        block : Block
            The messages.
        start : int
            Those before the first step.
        end, time : int64[n]
            Those before each step's end, and its time, ns.
        since : Since
            What belongs to the first step besides.
        """
        bounds = np.concatenate(([start], end))
        update = block.updates[bounds]
        row = block.shown.updates.row[update]
        return cls(block.shown, block.trades, since, end, time, update, block.trades_before(bounds), row)

    @property
    def status(self) -> NDArray[np.int8]:
        """Code of `Status` at each step, int8[n]."""
        return self.shown.status[self.row[1:]]

    @cached_property
    def unproven(self) -> NDArray[np.bool_]:
        """Whether the book is suspect or unseeded after any update of a step, or at its end, bool[n]."""
        found = (np.diff(self.shown.unproven[self.update]) > 0) | (self.status <= Status.SUSPECT)
        if len(found):
            found[0] |= self.since.unproven
        return found

    @cached_property
    def gap(self) -> NDArray[np.bool_]:
        """Whether the book was suspect or unseeded at some time since the step before, bool[n]."""
        found: NDArray[np.bool_] = self.unproven | (self.shown.status[self.row[:-1]] <= Status.SUSPECT)
        if len(found):
            found[0] |= self.since.gap
        return found

    @cached_property
    def ofi(self) -> NDArray[np.int64]:
        """Order flow imbalance of the best level in each step, scaled, int64[n]."""
        flow = np.diff(self.shown.ofi[self.row + 1])
        flow[:1] += self.since.ofi
        return flow

    def all_since(self) -> Since:
        """Return what came in all the steps, and before them."""
        trades = self.trades.part(int(self.trade[0]), int(self.trade[-1]))
        return Since(
            (*self.since.trades, trades) if len(trades) else self.since.trades,
            self.since.updates + int(self.update[-1] - self.update[0]),
            int(self.ofi.sum()),
            bool(self.unproven.any()),
            bool(self.gap.any()),
        )

    def flow(self) -> NDArray[np.int64]:
        """Return the trades in the book in each step: how many, bought, sold; int64[3, n], scaled."""
        flow = _flow(self.trades.part(int(self.trade[0]), int(self.trade[-1])))
        sums = np.concatenate((np.zeros((3, 1), dtype=np.int64), np.cumsum(flow, axis=1)), axis=1)
        found = np.diff(sums[:, self.trade - self.trade[0]], axis=1)
        first: NDArray[np.int64] = found[:, :1] + self.since.flow()[:, np.newaxis]
        return np.concatenate((first, found[:, 1:]), axis=1)

    def batch(self) -> pa.RecordBatch:
        """Return all steps as rows: see `Replay.batches`."""
        rows, books = self.row[1:], self.shown.updates.books
        if rows[0] >= 0 and (np.diff(rows) == 1).all():
            books = books.slice(int(rows[0]), len(rows))
        else:
            books = pa.concat_batches([books, self.shown.updates.before])
            books = books.take(pa.array(np.where(rows < 0, books.num_rows - 1, rows)))
        updates = np.diff(self.update)
        updates[0] += self.since.updates
        of = self.shown.feeding
        trade_count, *volumes = self.flow()
        bought, sold, flow = (of.numbers.volume(sums, of.symbol) for sums in (*volumes, self.ofi))
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


def _flow(trades: Trades) -> NDArray[np.int64]:
    """Return for each trade whether it is one in the book, and its size if bought, and if sold."""
    parts = np.abs(trades.side), trades.size * (trades.side == 1), trades.size * (trades.side == -1)
    return np.stack(parts)
