"""Reads Crypto Lake's table `book_delta_v2`, and joins level changes into messages.

A kernel converts almost all prices and sizes from floats to scaled integers. A number that the kernel cannot
convert is called strict, and so is the message with such a number. The reader parses strict numbers from
their printed text.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.udfs.numbers.decimal_text import scale_levels
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.limits import Limits, too_many_levels
from deltabook.udfs.sources.crypto_lake.columns import Layout
from deltabook.udfs.sources.crypto_lake.levels import (
    ASK,
    BAD,
    BID,
    LEFT_OUT,
    STRICT,
    message_starts,
    without_float_rounding,
)
from deltabook.udfs.sources.crypto_lake.records import (
    NO_ORDER,
    LakeColumns,
    LakeReader,
    level_columns,
    strict_messages,
)
from deltabook.udfs.sources.crypto_lake.values import read_numbers, read_sequences, read_times


class _DeltaRows(NamedTuple):
    """Rows of the table as arrays, one value per row.

    Attributes
    ----------
    received, origin : int64[n]
        Receive time and exchange's time, ns since 1970 UTC; 0 or less if not given.
    sequence : int64[n]
        Ids; 0 if not given.
    instrument : int32[n]
        Code of each row's instrument.
    sides : uint8[n]
        `ASK`, `BID` or `LEFT_OUT`.
    prices, sizes : int64[n]
        Prices and sizes, each multiplied by 10^decimals.
    price_decimals, size_decimals : uint8[n]
        Decimals of each number, as `levels.fixed_point` writes them.
    """

    received: NDArray[np.int64]
    origin: NDArray[np.int64]
    sequence: NDArray[np.int64]
    instrument: NDArray[np.int32]
    sides: NDArray[np.uint8]
    prices: NDArray[np.int64]
    price_decimals: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    size_decimals: NDArray[np.uint8]


class DeltaReader(LakeReader):
    """Reader that joins level changes into messages, even if the rows of a message lie in two batches."""

    def __init__(self, layout: Layout, path: str, limits: Limits):
        super().__init__(layout, path, limits)
        self.open: _DeltaRows | None = None
        """Rows of the last message so far, which the next batch may continue; None before the first batch."""
        self.open_row = 1
        """Row number in the file of the first row in `open`, from 1."""
        self.last_ids: dict[int, int] = {}
        """{code of an instrument: last id of the instrument}."""
        self.printed: dict[int, tuple[str, str]] = {}
        """{row number in the file: printed (price, size)}, for the rows that no kernel can read."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the messages that are complete once this batch is read.

        A message is complete when a row of another message follows its rows.

        Raises
        ------
        InputError
            If the unfinished last message has more than `most_levels` rows.
        """
        rows = self._read_rows(batch, row)
        if self.open is not None:
            row = self.open_row
            rows = _join_rows(self.open, rows)
        starts = message_starts(rows.received, rows.sequence, rows.instrument)
        closed = int(starts[-1])
        if len(rows.received) - closed > self.limits.most_levels:
            raise InputError(too_many_levels(len(rows.received) - closed, self.limits.most_levels))
        self.open = _DeltaRows._make(values[closed:].copy() for values in rows)
        self.open_row = row + closed
        yield from self._make_messages(rows, np.append(starts[starts < closed], closed), row)

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Yield the last message of the file."""
        if self.open is not None and len(self.open.received):
            yield from self._make_messages(self.open, np.array([0, len(self.open.received)]), self.open_row)

    def _read_rows(self, batch: pa.RecordBatch, row: int) -> _DeltaRows:
        """Return the columns of a batch as arrays; put unreadable rows in quarantine.

        An unreadable row stays in the arrays, with side `LEFT_OUT`.
        """
        prices = read_numbers(self.column(batch, "price"))
        sizes = read_numbers(self.column(batch, "size"))
        is_bid = self.column(batch, "side_is_bid")
        sides = is_bid.fill_null(False).to_numpy(zero_copy_only=False).view(np.uint8)
        doubtful = (prices.integers == 0) | sizes.unread
        if is_bid.null_count:
            doubtful |= is_bid.is_null().to_numpy(zero_copy_only=False)
        for index in np.flatnonzero(doubtful).tolist():
            level = prices.printed(index), sizes.printed(index)
            try:
                if not is_bid[index].is_valid:
                    raise ValueError("column side_is_bid: expected true or false, found null")
                scale_levels([level], [])
            except ValueError as error:
                self.quarantine(batch, index, row, error)
                sides[index] = LEFT_OUT
                prices.decimals[index] = sizes.decimals[index] = BAD
            else:
                self.printed[row + index] = level
        return _DeltaRows(
            received=read_times(self.column(batch, "received_time")),
            origin=read_times(self.column(batch, "origin_time")),
            sequence=read_sequences(self.column(batch, "sequence_number")),
            instrument=self.instruments.codes(batch),
            sides=sides,
            prices=prices.integers,
            price_decimals=prices.decimals,
            sizes=sizes.integers,
            size_decimals=sizes.decimals,
        )

    def _make_messages(
        self, rows: _DeltaRows, bounds: NDArray[np.int64], row: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield the records of messages.

        Parameters
        ----------
        rows : _DeltaRows
            The rows, as `_read_rows` returns them. Prices and sizes are rescaled in place.
        bounds : int64[:]
            Index of each message's first row, and the index after the last row of the last message.
        row : int
            Row number in the file of the first of `rows`, from 1.
        """
        first = bounds[:-1]
        received = without_float_rounding(rows.received[first])
        sequence = rows.sequence[first]
        if (sequence <= 0).any():
            sequence = self._fill_ids(sequence, rows.instrument[first], received)
        if (sequence <= 0).any():
            raise InputError(f"row {row + int(first[np.argmax(sequence <= 0)])}: {NO_ORDER}")
        left_out = rows.sides[: bounds[-1]] == LEFT_OUT
        damaged: NDArray[np.bool_] | bool = False
        if left_out.any():
            damaged = np.logical_or.reduceat(left_out, first)
        columns: LakeColumns = {
            **level_columns(
                bounds, rows.sides, rows.prices, rows.price_decimals, rows.sizes, rows.size_decimals
            ),
            "record": "book_update",
            "timestamp": without_float_rounding(rows.origin[first]),
            "received": received,
            "sequence": sequence,
            "source_row": first + row,
            "damaged": damaged,
        }
        batch = self.build_batch(rows.instrument[first], columns)
        strict = strict_messages(columns)
        for message in np.flatnonzero(strict).tolist():
            record: Record = batch.slice(message, 1).to_pylist()[0]
            strict_levels = self._read_strict(rows, record, bounds[message : message + 2], row)
            self.records.add(record | strict_levels)
        end_row = row + bounds[-1]
        self.printed = {number: level for number, level in self.printed.items() if number >= end_row}
        yield from self.emit(batch, strict)

    def _fill_ids(
        self, sequence: NDArray[np.int64], instrument: NDArray[np.int32], received: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the id of each message; a message without an id gets the id of a neighbor.

        The neighbor is the previous message of the instrument that has an id. Without such a message, the
        neighbor is the next message of the instrument that has an id. Receive times replace ids only if no
        message of the instrument has had an id so far, because ids and times cannot be compared.

        Parameters
        ----------
        sequence : int64[m]
            Id of each message; 0 if not given.
        instrument : int32[m]
            Code of each message's instrument.
        received : int64[m]
            Receive time of each message, ns since 1970 UTC.
        """
        filled = sequence.copy()
        for code in np.unique(instrument).tolist():
            messages_of_code = np.flatnonzero(instrument == code)
            given = sequence[messages_of_code] > 0
            if not given.any():
                last_id = self.last_ids.get(code)
                filled[messages_of_code] = received[messages_of_code] if last_id is None else last_id
                continue
            latest = np.maximum.accumulate(np.where(given, np.arange(len(messages_of_code)), -1))
            latest[latest < 0] = int(np.argmax(given))
            filled[messages_of_code] = sequence[messages_of_code[latest]]
            self.last_ids[code] = int(filled[messages_of_code[-1]])
        return filled

    def _read_strict(self, rows: _DeltaRows, record: Record, bounds: NDArray[np.int64], row: int) -> Record:
        """Return the level columns of one message, parsed from its printed numbers.

        Parameters
        ----------
        rows : _DeltaRows
            The rows, as `_read_rows` returns them, after `_make_messages` has rescaled their numbers.
        record : Record
            The message's record, with the scales of its numbers.
        bounds : int64[2]
            Index of the message's first row, and the index after its last row.
        row : int
            Row number in the file of the first of `rows`, from 1.
        """
        levels: dict[int, list[tuple[str, str]]] = {ASK: [], BID: [], LEFT_OUT: []}
        for index in range(*bounds.tolist()):
            printed = self.printed.get(row + index)
            if printed is None:
                price, size = int(rows.prices[index]), int(rows.sizes[index])
                price_scale, size_scale = record["price_scale"], record["size_scale"]
                if price_scale == STRICT:
                    price_scale = int(rows.price_decimals[index])
                if size_scale == STRICT:
                    size_scale = int(rows.size_decimals[index])
                printed = _print_decimal(price, price_scale), _print_decimal(size, size_scale)
            levels[int(rows.sides[index])].append(printed)
        return scale_levels(levels[BID], levels[ASK])


def _join_rows(first: _DeltaRows, second: _DeltaRows) -> _DeltaRows:
    """Return the rows of both arguments, one after the other."""
    return _DeltaRows(
        received=np.concatenate((first.received, second.received)),
        origin=np.concatenate((first.origin, second.origin)),
        sequence=np.concatenate((first.sequence, second.sequence)),
        instrument=np.concatenate((first.instrument, second.instrument)),
        sides=np.concatenate((first.sides, second.sides)),
        prices=np.concatenate((first.prices, second.prices)),
        price_decimals=np.concatenate((first.price_decimals, second.price_decimals)),
        sizes=np.concatenate((first.sizes, second.sizes)),
        size_decimals=np.concatenate((first.size_decimals, second.size_decimals)),
    )


def _print_decimal(integer: int, decimals: int) -> str:
    """Return integer · 10^-decimals as text."""
    return format(Decimal(integer).scaleb(-decimals).normalize(), "f")
