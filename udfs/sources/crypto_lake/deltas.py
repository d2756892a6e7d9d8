"""Reader of Crypto Lake's table book_delta_v2: joins level changes into messages."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.udfs.numbers.decimal_text import scale_levels
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
from deltabook.udfs.sources.crypto_lake.records import NO_ORDER, LakeReader, level_columns, strict_messages
from deltabook.udfs.sources.crypto_lake.values import read_numbers, read_sequences, read_times

_LEVELS = ("sides", "prices", "price_decimals", "sizes", "size_decimals")


class DeltaReader(LakeReader):
    """Reader that joins level changes into messages, also across the ends of batches."""

    def __init__(self, layout: Layout, path: str, limits: Limits):
        super().__init__(layout, path, limits)
        self.open: dict[str, NDArray[Any]] = {}
        """Rows of the last message so far, which the next batch may continue."""
        self.open_row = 1
        """Row in the file of the first of these rows."""
        self.last_ids: dict[int, int] = {}
        """Last id of each instrument, by code."""
        self.printed: dict[int, tuple[str, str]] = {}
        """Printed (price, size) of the rows that no kernel can read, by row in the file."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the complete messages: those that a row of another message follows.

        Raises
        ------
        InputError
            If the last message has more than `most_levels` rows.
        """
        rows = self._read_rows(batch, row)
        if self.open:
            row = self.open_row
            rows = {name: np.concatenate((self.open[name], rows[name])) for name in rows}
        starts = message_starts(rows["received"], rows["sequence"], rows["instrument"])
        closed = int(starts[-1])
        if len(rows["received"]) - closed > self.limits.most_levels:
            raise InputError(too_many_levels(len(rows["received"]) - closed, self.limits.most_levels))
        self.open = {name: values[closed:].copy() for name, values in rows.items()}
        self.open_row = row + closed
        yield from self._make_messages(rows, np.append(starts[starts < closed], closed), row)

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Yield the last message."""
        if self.open and len(self.open["received"]):
            yield from self._make_messages(
                self.open, np.array([0, len(self.open["received"])]), self.open_row
            )

    def _read_rows(self, batch: pa.RecordBatch, row: int) -> dict[str, NDArray[Any]]:
        """Return the columns of a batch as arrays; unreadable rows go to quarantine with side `LEFT_OUT`."""
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
        return {
            "received": read_times(self.column(batch, "received_time")),
            "origin": read_times(self.column(batch, "origin_time")),
            "sequence": read_sequences(self.column(batch, "sequence_number")),
            "instrument": self.instruments.codes(batch),
            "sides": sides,
            "prices": prices.integers,
            "price_decimals": prices.decimals,
            "sizes": sizes.integers,
            "size_decimals": sizes.decimals,
        }

    def _make_messages(
        self, rows: dict[str, NDArray[Any]], bounds: NDArray[np.int64], row: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield the records of messages.

        Parameters
        ----------
        rows : dict of arrays
            Columns of the rows, as `_read_rows` returns them.
        bounds : int64[:]
            First row of each message, and the end of the last.
        row : int
            Row in the file of the first of `rows`, from 1.
        """
        first = bounds[:-1]
        received = without_float_rounding(rows["received"][first])
        sequence = rows["sequence"][first]
        if (sequence <= 0).any():
            sequence = self._fill_ids(sequence, rows["instrument"][first], received)
        if (sequence <= 0).any():
            raise InputError(f"row {row + int(first[np.argmax(sequence <= 0)])}: {NO_ORDER}")
        left_out = rows["sides"][: bounds[-1]] == LEFT_OUT
        damaged: Any = False
        if left_out.any():
            damaged = np.logical_or.reduceat(left_out, first)
        columns = level_columns(bounds, *(rows[name] for name in _LEVELS))
        columns |= {
            "record": "book_update",
            "timestamp": without_float_rounding(rows["origin"][first]),
            "received": received,
            "sequence": sequence,
            "source_row": first + row,
            "damaged": damaged,
        }
        batch = self.build_batch(rows["instrument"][first], columns)
        strict = strict_messages(columns)
        for message in np.flatnonzero(strict).tolist():
            record = batch.slice(message, 1).to_pylist()[0]
            self.records.add(record | self._read_strict(rows, record, bounds[message : message + 2], row))
        end_row = row + bounds[-1]
        self.printed = {number: level for number, level in self.printed.items() if number >= end_row}
        yield from self.emit(batch, strict)

    def _fill_ids(
        self, sequence: NDArray[np.int64], instrument: NDArray[np.int32], received: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the ids, where a message without one takes its neighbour's.

        Receive times stand for ids only if the instrument has no id at all: ids and times do not compare.
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

    def _read_strict(
        self, rows: dict[str, NDArray[Any]], record: dict[str, Any], bounds: NDArray[np.int64], row: int
    ) -> dict[str, Any]:
        """Return the level columns of a message, read from its printed numbers."""
        levels: dict[int, list[tuple[str, str]]] = {ASK: [], BID: [], LEFT_OUT: []}
        for index in range(*bounds.tolist()):
            printed = self.printed.get(row + index)
            if printed is None:
                price, size = (
                    _print_decimal(
                        int(rows[f"{what}s"][index]),
                        int(rows[f"{what}_decimals"][index])
                        if record[f"{what}_scale"] == STRICT
                        else record[f"{what}_scale"],
                    )
                    for what in ("price", "size")
                )
                printed = price, size
            levels[int(rows["sides"][index])].append(printed)
        return scale_levels(levels[BID], levels[ASK])


def _print_decimal(integer: int, decimals: int) -> str:
    """Return integer · 10^-decimals as text."""
    return format(Decimal(integer).scaleb(-decimals).normalize(), "f")
