"""Makes the rows of the table `books` from the top levels after each message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import STATUS_LABELS, RowPolicy
from deltabook.schemas.tables import BOOKS, form_of
from deltabook.udfs.arrow_arrays import cut_lists, to_numpy
from deltabook.udfs.numbers.encoding import Numbers
from deltabook.udfs.orderbook.book import Levels, TopOfBookRows
from deltabook.udfs.orderbook.ranked_book import ASK, BID
from deltabook.udfs.rebuild.order_flow import Amounts, TopLevels, compute_order_flow, make_top_levels

_MESSAGE_COLUMNS = ["date", "hour", "timestamp", "received", "order_time", "epoch", "sequence"]
"""Columns that a row of `books` takes from the message it follows."""
_NO_LEVELS: Levels = (np.empty(0, np.int64), np.empty(0, np.int64))


class BookRows:
    """Makes the rows of `books` or `books_decimal` of one symbol, batch by batch.

    Parameters
    ----------
    exchange, symbol : str
        Names as the tables store them.
    policy : RowPolicy
        Depth and cadence of the rows.
    numbers : Numbers
        Encoding of the prices and sizes.

    Attributes
    ----------
    table : Table
        The table of the rows: `books` or `books_decimal`.
    """

    def __init__(self, exchange: str, symbol: str, policy: RowPolicy, numbers: Numbers):
        self.exchange, self.symbol = exchange, symbol
        self.policy, self.numbers = policy, numbers
        self.table = form_of(BOOKS, numbers.is_decimal)
        self.follow(None)

    def follow(self, sides: Sequence[Levels] | None) -> None:
        """Set the book before the next row, from which the row's order flow is counted.

        Parameters
        ----------
        sides : sequence of Levels, or None
            All bids and all asks, by rising price; None if there is no book.
        """
        depth = self.policy.depth
        best: list[Levels] = [_NO_LEVELS, _NO_LEVELS]
        if sides is not None:
            bids, asks = sides
            best = [(bids[0][::-1][:depth], bids[1][::-1][:depth]), (asks[0][:depth], asks[1][:depth])]
        (bid_prices, bid_sizes), (ask_prices, ask_sizes) = best
        amounts = self.numbers.amounts
        self._last_top = make_top_levels((bid_prices, ask_prices), (amounts(bid_sizes), amounts(ask_sizes)))

    def make(
        self,
        updates: pa.RecordBatch,
        tops: TopOfBookRows,
        status: NDArray[np.int8],
        flow: Amounts,
        crossed: NDArray[np.bool_],
        is_replaced: NDArray[np.bool_],
    ) -> pa.RecordBatch:
        """Return the rows of a batch of n messages.

        Parameters
        ----------
        updates : pyarrow.RecordBatch
            The messages.
        tops : TopOfBookRows
            Top levels of r rows.
        status : int8[n]
            Status of the book after each message.
        flow : Amounts
            Trade count and volumes of each row; see `TradeFlow.sum_between_rows`.
        crossed, is_replaced : bool[r]
            Whether the book of each row is crossed, and whether its levels changed without an update. Such a
            change is no order flow.
        """
        messages = updates.select(_MESSAGE_COLUMNS).take(pa.array(tops.message))
        columns = {name: messages[name] for name in _MESSAGE_COLUMNS}
        for name, side in (("bid", BID), ("ask", ASK)):
            offsets = pa.array(tops.offsets[side].astype(np.int32))
            columns[f"{name}_prices"] = pa.ListArray.from_arrays(offsets, pa.array(tops.prices[side]))
            columns[f"{name}_sizes"] = pa.ListArray.from_arrays(offsets, pa.array(tops.sizes[side]))
            columns[f"{name}_levels"] = tops.levels[:, side]
            columns[f"{name}_known_levels"] = tops.known[:, side]
        columns |= {
            "exchange": _repeat_text(self.exchange, messages.num_rows),
            "symbol": _repeat_text(self.symbol, messages.num_rows),
            "cadence": _repeat_text(self.policy.label(self.policy.cadence), messages.num_rows),
            "trade_count": flow[:, 0].astype(np.int64),
            "status": pa.array(STATUS_LABELS).take(pa.array(status[tops.message])),
            "crossed": crossed,
        }
        arrays = {name: pa.array(column) for name, column in columns.items()}
        rows = self.numbers.decode(pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays)))
        instrument = f"{self.exchange} {self.symbol}"
        for column, name in ((1, "buy_volume"), (2, "sell_volume")):
            rows = rows.append_column(name, self.numbers.volume(flow[:, column], instrument))
        rows = rows.append_column("ofi", self._make_order_flow(tops, is_replaced, instrument))
        return rows.select(self.table.names).cast(self.table.arrow)

    def _make_order_flow(
        self, tops: TopOfBookRows, is_replaced: NDArray[np.bool_], instrument: str
    ) -> pa.Array:
        """Return the column `ofi` of a batch's rows."""
        sizes = self.numbers.amounts(tops.sizes[BID]), self.numbers.amounts(tops.sizes[ASK])
        books = TopLevels(tops.offsets, tops.prices, sizes)
        levels = min(self.policy.ofi_levels, self.policy.depth)
        flow = compute_order_flow(self._last_top, books, is_replaced, levels)
        if len(is_replaced):
            self._last_top = books.last()
        offsets = np.arange(len(is_replaced) + 1, dtype=np.int32) * flow.shape[1]
        return pa.ListArray.from_arrays(pa.array(offsets), self.numbers.volume(flow.ravel(), instrument))


def _repeat_text(value: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), count)


def cut_to_known(books: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows of `books` without the levels that are not known; other columns do not change.

    Parameters
    ----------
    books : pyarrow.RecordBatch
        Rows of `books` or `books_decimal`, with the columns of levels and of known levels.
    """
    columns = dict(zip(books.schema.names, books.columns, strict=True))
    for name in SIDE_NAMES:
        known = to_numpy(columns[f"{name[:3]}_known_levels"]).astype(np.int64)
        columns[name] = cut_lists(columns[name], known)
    return pa.RecordBatch.from_arrays([*columns.values()], schema=books.schema)
