"""The tables book and trades of Crypto Lake: a record a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE, scaled_levels, scaled_trade
from deltabook.udfs.sources.common.message_files import text_id
from deltabook.udfs.sources.crypto_lake.columns import labels
from deltabook.udfs.sources.crypto_lake.levels import ASK, BAD, BID, LEFT_OUT, without_float_rounding
from deltabook.udfs.sources.crypto_lake.records import (
    NO_PLACE,
    LakeReader,
    labelled,
    level_columns,
    strict_messages,
)
from deltabook.udfs.sources.crypto_lake.values import Numbers, numbers, sequences, times

_TRADE_SIDES = ("buy", "sell")


class BookReader(LakeReader):
    """Makes golden rows of the vendor's books."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the books of a batch."""
        depth = self.layout.depth
        levels = {
            what: [
                numbers(self.column(batch, f"{side}_{level}_{what}"))
                for side in ("bid", "ask")
                for level in range(depth)
            ]
            for what in ("price", "size")
        }
        ended = _ended(levels, depth)
        columns = _book_levels(levels, ended)
        received = without_float_rounding(times(self.column(batch, "received_time")))
        sequence = sequences(self.column(batch, "sequence_number"))
        sequence = np.where(sequence > 0, sequence, received)
        columns |= {
            "record": "golden",
            "kind": "vendor_book",
            "timestamp": without_float_rounding(times(self.column(batch, "origin_time"))),
            "received": received,
            "sequence": sequence,
            "source_row": np.arange(row, row + batch.num_rows),
        }
        unread = (_stacked(levels["price"], "integers") == 0) | _stacked(levels["size"], "unread")
        doubtful = (~ended & unread).any(axis=1) | strict_messages(columns) | (sequence <= 0)
        made = self.batch(self.instruments.codes(batch), columns)
        for index in np.flatnonzero(doubtful).tolist():
            try:
                if sequence[index] <= 0:
                    raise ValueError(NO_PLACE)
                strict = scaled_levels(*_printed(levels, ended, index))
                self.records.add(made.slice(index, 1).to_pylist()[0] | strict)
            except ValueError as error:
                self.quarantine(batch, index, row, error)
        yield from self.made(made, doubtful)


class TradeReader(LakeReader):
    """Makes a trade of each row."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the trades of a batch."""
        prices, sizes = (numbers(self.column(batch, name)) for name in ("price", "quantity"))
        side = self.column(batch, "side")
        sides = _trade_sides(side)
        received = without_float_rounding(times(self.column(batch, "received_time")))
        columns: dict[str, Any] = {
            "record": "trade",
            "timestamp": without_float_rounding(times(self.column(batch, "origin_time"))),
            "received": received,
            "sequence": received,
            "source_row": np.arange(row, row + batch.num_rows),
            "trade_id": _trade_ids(self.column(batch, "trade_id")),
            "side": labelled(sides, [*_TRADE_SIDES, ""]),
            "price": prices.integers,
            "size": sizes.integers,
            "price_scale": prices.decimals.astype(np.int64),
            "size_scale": sizes.decimals.astype(np.int64),
        }
        made = self.batch(self.instruments.codes(batch), columns)
        unknown = sides == len(_TRADE_SIDES)
        doubtful = prices.unread | sizes.unread | unknown | (received <= 0) | (prices.integers == 0)
        for index in np.flatnonzero(doubtful).tolist():
            try:
                if unknown[index]:
                    raise ValueError(f"column side: expected buy or sell, found {_shown(side[index])}")
                if received[index] <= 0:
                    raise ValueError("received_time is not given: the trade has no place in the order")
                numbers_of = scaled_trade(prices.printed(index), sizes.printed(index))
                if numbers_of["price"] == 0 and not numbers_of["wide"]:
                    raise ValueError("a trade has price 0")
                self.records.add(made.slice(index, 1).to_pylist()[0] | numbers_of)
            except ValueError as error:
                self.quarantine(batch, index, row, error)
        yield from self.made(made, doubtful)


def _stacked(levels: list[Numbers], field: str) -> NDArray[Any]:
    return np.stack([getattr(level, field) for level in levels], axis=1)


def _ended(levels: dict[str, list[Numbers]], depth: int) -> NDArray[np.bool_]:
    """Return which levels of each book are absent, or behind one on their side that is."""
    absent = _stacked(levels["price"], "absent") | _stacked(levels["size"], "absent")
    sizes, decimals = (_stacked(levels["size"], field) for field in ("integers", "decimals"))
    absent |= (sizes == 0) & (decimals == DEFAULT_SCALE)
    by_side = absent.reshape(len(absent), 2, depth)
    ended: NDArray[np.bool_] = np.logical_or.accumulate(by_side, axis=2).reshape(absent.shape)
    return ended


def _book_levels(levels: dict[str, list[Numbers]], ended: NDArray[np.bool_]) -> dict[str, Any]:
    """Make the level columns of books: each is a message of all its levels, bids before asks."""
    count, both = ended.shape
    sides = np.where(ended, LEFT_OUT, np.repeat([BID, ASK], both // 2)).astype(np.uint8)
    prices, sizes = (_stacked(levels[what], "integers") for what in ("price", "size"))
    price_decimals, size_decimals = (_stacked(levels[what], "decimals") for what in ("price", "size"))
    price_decimals[ended] = size_decimals[ended] = BAD
    return level_columns(
        np.arange(count + 1) * both,
        sides.reshape(-1),
        prices.reshape(-1),
        price_decimals.reshape(-1),
        sizes.reshape(-1),
        size_decimals.reshape(-1),
    )


def _printed(
    levels: dict[str, list[Numbers]], ended: NDArray[np.bool_], book: int
) -> list[list[tuple[str, str]]]:
    """Return the bids and asks of one book as printed."""
    sides = np.split(np.arange(ended.shape[1]), 2)
    return [
        [
            (levels["price"][at].printed(book), levels["size"][at].printed(book))
            for at in side.tolist()
            if not ended[book, at]
        ]
        for side in sides
    ]


def _trade_sides(column: pa.Array) -> NDArray[np.int32]:
    """Return codes of `_TRADE_SIDES`, and the number of them for what is neither."""
    if pt.is_boolean(column.type):  # true: the buyer is the aggressor
        codes = np.where(column.fill_null(False).to_numpy(zero_copy_only=False), 0, 1).astype(np.int32)
        codes[column.is_null().to_numpy(zero_copy_only=False)] = len(_TRADE_SIDES)
        return codes
    codes, names = labels(column)
    known = [
        _TRADE_SIDES.index(name) if name in _TRADE_SIDES else len(_TRADE_SIDES)
        for name in ((text or "").lower() for text in names)
    ]
    known.append(len(_TRADE_SIDES))  # where code -1, null, points
    return np.array(known, dtype=np.int32)[codes]


def _trade_ids(column: pa.Array) -> NDArray[np.int64]:
    """Return ids as integers: a text that is not one becomes its hash; -1 where none is given."""
    if pt.is_integer(column.type):
        given: NDArray[np.int64] = column.cast(pa.int64()).fill_null(NOT_GIVEN).to_numpy()
        return np.maximum(given, NOT_GIVEN)
    codes, texts = labels(column)
    ids = [NOT_GIVEN if text is None else _trade_id(text) for text in texts]
    by_code: NDArray[np.int64] = np.array([*ids, NOT_GIVEN], dtype=np.int64)  # null is code -1, the last
    return by_code.take(codes)


def _trade_id(text: str) -> int:
    is_integer = text.isascii() and text.isdecimal() and len(text) <= 18 and str(int(text)) == text
    return int(text) if is_integer else text_id(text)


def _shown(cell: pa.Scalar) -> str:
    return repr(cell.as_py())[:80]
