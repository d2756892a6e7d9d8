"""Reader of Crypto Lake's table `book_delta_v2`, which joins level changes into messages.

The float of a price or size usually converts to a scaled integer in a kernel. The reader reads the other
numbers from their printed text ("strict").
"""

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
    """Reader that joins level changes into messages, even if the rows of a message lie in two batches."""

    def __init__(self, layout: Layout, path: str, limits: Limits):
        super().__init__(layout, path, limits)
        self.open: dict[str, NDArray[Any]] = {}
        """{column: rows of the last message so far}. The next batch may continue this message."""
        self.open_row = 1
        """Row number in the file of the first row in `open`, from 1."""
        self.last_ids: dict[int, int] = {}
        """{code of an instrument: its last id}."""
        self.printed: dict[int, tuple[str, str]] = {}
        """{row number in the file: printed (price, size)}, for the rows that no kernel can read."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the complete messages up to this batch.

        A message is complete when a row of another message follows.

        Raises
        ------
        InputError
            If the unfinished last message has more than `most_levels` rows.
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
        """Yield the last message of the file."""
        if self.open and len(self.open["received"]):
            yield from self._make_messages(
                self.open, np.array([0, len(self.open["received"])]), self.open_row
            )

    def _read_rows(self, batch: pa.RecordBatch, row: int) -> dict[str, NDArray[Any]]:
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
            Index of each message's first row, and the index after the last row of the last message.
        row : int
            Row number in the file of the first of `rows`, from 1.
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
        """Return the id of each message; a message without an id gets the id of a neighbour.

        The neighbour is the previous message of the instrument with an id, else the next one. If no message
        of the instrument has had an id so far, receive times replace ids. In all other cases receive times
        are not used, because ids and times cannot be compared.

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

    def _read_strict(
        self, rows: dict[str, NDArray[Any]], record: dict[str, Any], bounds: NDArray[np.int64], row: int
    ) -> dict[str, Any]:
        """Return the level columns of one message, read strictly from its printed numbers.

        Parameters
        ----------
        rows : dict of arrays
            Columns of the rows, as `_read_rows` returns them.
        record : dict
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
