"""Readers of Crypto Lake's tables `book` and `trades`: each row becomes one record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE, scale_levels, scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.common.records import label_column
from deltabook.udfs.sources.crypto_lake.columns import encode_labels
from deltabook.udfs.sources.crypto_lake.levels import ASK, BAD, BID, LEFT_OUT, without_float_rounding
from deltabook.udfs.sources.crypto_lake.records import (
    NO_ORDER,
    LakeColumns,
    LakeReader,
    level_columns,
    strict_messages,
)
from deltabook.udfs.sources.crypto_lake.values import NumberColumn, read_numbers, read_sequences, read_times

_Value = TypeVar("_Value", bound=np.generic)
_TRADE_SIDES = ("buy", "sell")


class BookReader(LakeReader):
    """Reader of the table `book`; each row, a book of the vendor, becomes a golden record."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the books of a batch."""
        depth = self.layout.depth
        levels = {
            what: [
                read_numbers(self.column(batch, f"{side}_{level}_{what}"))
                for side in ("bid", "ask")
                for level in range(depth)
            ]
            for what in ("price", "size")
        }
        ended = _find_ended_levels(levels, depth)
        columns = _make_level_columns(levels, ended)
        received = without_float_rounding(read_times(self.column(batch, "received_time")))
        sequence = read_sequences(self.column(batch, "sequence_number"))
        sequence = np.where(sequence > 0, sequence, received)
        columns |= {
            "record": "golden",
            "kind": "vendor_book",
            "timestamp": without_float_rounding(read_times(self.column(batch, "origin_time"))),
            "received": received,
            "sequence": sequence,
            "source_row": np.arange(row, row + batch.num_rows),
        }
        prices, sizes = levels["price"], levels["size"]
        unread = (_stack(price.integers for price in prices) == 0) | _stack(size.unread for size in sizes)
        doubtful = (~ended & unread).any(axis=1) | strict_messages(columns) | (sequence <= 0)
        records = self.build_batch(self.instruments.codes(batch), columns)
        for index in np.flatnonzero(doubtful).tolist():
            try:
                if sequence[index] <= 0:
                    raise ValueError(NO_ORDER)
                strict = scale_levels(*_printed_levels(levels, ended, index))
                book: Record = records.slice(index, 1).to_pylist()[0]
                self.records.add(book | strict)
            except ValueError as error:
                self.quarantine(batch, index, row, error)
        yield from self.emit(records, doubtful)


class TradeReader(LakeReader):
    """Reader of the table `trades`."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the trades of a batch."""
        prices, sizes = (read_numbers(self.column(batch, name)) for name in ("price", "quantity"))
        side = self.column(batch, "side")
        sides = _read_trade_sides(side)
        received = without_float_rounding(read_times(self.column(batch, "received_time")))
        columns: LakeColumns = {
            "record": "trade",
            "timestamp": without_float_rounding(read_times(self.column(batch, "origin_time"))),
            "received": received,
            "sequence": received,
            "source_row": np.arange(row, row + batch.num_rows),
            "trade_id": _read_trade_ids(self.column(batch, "trade_id")),
            "side": label_column(sides, [*_TRADE_SIDES, ""]),
            "price": prices.integers,
            "size": sizes.integers,
            "price_scale": prices.decimals.astype(np.int64),
            "size_scale": sizes.decimals.astype(np.int64),
        }
        records = self.build_batch(self.instruments.codes(batch), columns)
        unknown = sides == len(_TRADE_SIDES)
        doubtful = prices.unread | sizes.unread | unknown | (received <= 0) | (prices.integers == 0)
        for index in np.flatnonzero(doubtful).tolist():
            try:
                if unknown[index]:
                    raise ValueError(f"column side: expected buy or sell, found {_excerpt(side[index])}")
                if received[index] <= 0:
                    raise ValueError(
                        "expected a received_time, found none: the order of the trade is unknown"
                    )
                strict = scale_trade(prices.printed(index), sizes.printed(index))
                if strict["price"] == 0 and not strict["wide"]:
                    raise ValueError("a trade has price 0")
                trade: Record = records.slice(index, 1).to_pylist()[0]
                self.records.add(trade | strict)
            except ValueError as error:
                self.quarantine(batch, index, row, error)
        yield from self.emit(records, doubtful)


def _stack(columns: Iterable[NDArray[_Value]]) -> NDArray[_Value]:
    """Return the arrays of all levels, each with one value per row, as one array of shape [rows, levels]."""
    return np.stack(list(columns), axis=1)


def _find_ended_levels(levels: dict[str, list[NumberColumn]], depth: int) -> NDArray[np.bool_]:
    """Return which levels of each book do not count, bool[n, 2 · depth], bids before asks.

    A level does not count if it is absent (without price, without size, or of size 0), or if it follows an
    absent level of its side.
    """
    absent = _stack(price.absent for price in levels["price"]) | _stack(
        size.absent for size in levels["size"]
    )
    sizes = _stack(size.integers for size in levels["size"])
    decimals = _stack(size.decimals for size in levels["size"])
    absent |= (sizes == 0) & (decimals == DEFAULT_SCALE)
    by_side = absent.reshape(len(absent), 2, depth)
    ended: NDArray[np.bool_] = np.logical_or.accumulate(by_side, axis=2).reshape(absent.shape)
    return ended


def _make_level_columns(levels: dict[str, list[NumberColumn]], ended: NDArray[np.bool_]) -> LakeColumns:
    """Return the level columns of books, built as if each book were one message of 2 · depth rows.

    Parameters
    ----------
    levels : dict
        {`price` or `size`: one `NumberColumn` per level}, bids before asks.
    ended : bool[n, 2 · depth]
        Which levels do not count, as `_find_ended_levels` returns them.
    """
    count, both = ended.shape
    sides = np.where(ended, LEFT_OUT, np.repeat([BID, ASK], both // 2)).astype(np.uint8)
    prices, sizes = (_stack(level.integers for level in levels[what]) for what in ("price", "size"))
    price_decimals, size_decimals = (
        _stack(level.decimals for level in levels[what]) for what in ("price", "size")
    )
    price_decimals[ended] = size_decimals[ended] = BAD
    return level_columns(
        np.arange(count + 1) * both,
        sides.reshape(-1),
        prices.reshape(-1),
        price_decimals.reshape(-1),
        sizes.reshape(-1),
        size_decimals.reshape(-1),
    )


def _printed_levels(
    levels: dict[str, list[NumberColumn]], ended: NDArray[np.bool_], book: int
) -> list[list[tuple[str, str]]]:
    """Return [bids, asks] of one book, each as a list of printed (price, size)."""
    sides = np.split(np.arange(ended.shape[1]), 2)
    return [
        [
            (levels["price"][level].printed(book), levels["size"][level].printed(book))
            for level in side.tolist()
            if not ended[book, level]
        ]
        for side in sides
    ]


def _read_trade_sides(column: pa.Array) -> NDArray[np.int32]:
    """Return the index of each trade's side in `_TRADE_SIDES`, int32[n]; 2 for an unknown side."""
    if pt.is_boolean(column.type):  # true: the buyer is the aggressor
        codes = np.where(column.fill_null(False).to_numpy(zero_copy_only=False), 0, 1).astype(np.int32)
        codes[column.is_null().to_numpy(zero_copy_only=False)] = len(_TRADE_SIDES)
        return codes
    codes, names = encode_labels(column)
    known = [
        _TRADE_SIDES.index(name) if name in _TRADE_SIDES else len(_TRADE_SIDES)
        for name in ((text or "").lower() for text in names)
    ]
    known.append(len(_TRADE_SIDES))  # a null has code -1, which picks the last element
    return np.array(known, dtype=np.int32)[codes]


def _read_trade_ids(column: pa.Array) -> NDArray[np.int64]:
    """Return trade ids as integers, int64[n]; text that is no number becomes its hash, null becomes -1."""
    if pt.is_integer(column.type):
        given: NDArray[np.int64] = column.cast(pa.int64()).fill_null(NOT_GIVEN).to_numpy()
        return np.maximum(given, NOT_GIVEN)
    codes, texts = encode_labels(column)
    ids = [NOT_GIVEN if text is None else _parse_trade_id(text) for text in texts]
    by_code: NDArray[np.int64] = np.array([*ids, NOT_GIVEN], dtype=np.int64)  # code -1: null
    return by_code.take(codes)


def _parse_trade_id(text: str) -> int:
    """Convert a trade id from text to an integer: the printed number, or the hash of any other text."""
    is_integer = text.isascii() and text.isdecimal() and len(text) <= 18 and str(int(text)) == text
    return int(text) if is_integer else hash_id(text)


def _excerpt(cell: pa.Scalar) -> str:
    return repr(cell.as_py())[:80]
