"""The table book_delta_v2 of Crypto Lake: level changes joined to messages."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.udfs.numbers.decimal_text import scaled_levels
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
from deltabook.udfs.sources.crypto_lake.records import NO_PLACE, LakeReader, level_columns, strict_messages
from deltabook.udfs.sources.crypto_lake.values import numbers, sequences, times

_LEVELS = ("sides", "prices", "price_decimals", "sizes", "size_decimals")


class DeltaReader(LakeReader):
    """Joins level changes to messages, also those that a batch's end cuts."""

    def __init__(self, layout: Layout, path: str, limits: Limits):
        super().__init__(layout, path, limits)
        self.open: dict[str, NDArray[Any]] = {}
        self.open_row = 1
        self.last_ids: dict[int, int] = {}
        self.printed: dict[int, tuple[str, str]] = {}
        """Price and size, by row, that no kernel reads."""

    def read(self, batch: pa.RecordBatch, row: int) -> Iterator[pa.RecordBatch]:
        """Yield the messages that a later row has shown to be complete.

        Raises
        ------
        InputError
            If the last message has more rows than a message may have level changes.
        """
        rows = self._rows(batch, row)
        if self.open:
            row = self.open_row
            rows = {name: np.concatenate((self.open[name], rows[name])) for name in rows}
        starts = message_starts(rows["received"], rows["sequence"], rows["instrument"])
        closed = int(starts[-1])
        if len(rows["received"]) - closed > self.limits.most_levels:
            raise InputError(too_many_levels(len(rows["received"]) - closed, self.limits.most_levels))
        self.open = {name: values[closed:].copy() for name, values in rows.items()}
        self.open_row = row + closed
        yield from self._messages(rows, np.append(starts[starts < closed], closed), row)

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Yield the last message."""
        if self.open and len(self.open["received"]):
            yield from self._messages(self.open, np.array([0, len(self.open["received"])]), self.open_row)

    def _rows(self, batch: pa.RecordBatch, row: int) -> dict[str, NDArray[Any]]:
        prices = numbers(self.column(batch, "price"))
        sizes = numbers(self.column(batch, "size"))
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
                scaled_levels([level], [])
            except ValueError as error:
                self.quarantine(batch, index, row, error)
                sides[index] = LEFT_OUT
                prices.decimals[index] = sizes.decimals[index] = BAD
            else:
                self.printed[row + index] = level
        return {
            "received": times(self.column(batch, "received_time")),
            "origin": times(self.column(batch, "origin_time")),
            "sequence": sequences(self.column(batch, "sequence_number")),
            "instrument": self.instruments.codes(batch),
            "sides": sides,
            "prices": prices.integers,
            "price_decimals": prices.decimals,
            "sizes": sizes.integers,
            "size_decimals": sizes.decimals,
        }

    def _messages(
        self, rows: dict[str, NDArray[Any]], bounds: NDArray[np.int64], row: int
    ) -> Iterator[pa.RecordBatch]:
        first = bounds[:-1]
        received = without_float_rounding(rows["received"][first])
        sequence = rows["sequence"][first]
        if (sequence <= 0).any():
            sequence = self._placed(sequence, rows["instrument"][first], received)
        if (sequence <= 0).any():
            raise InputError(f"row {row + int(first[np.argmax(sequence <= 0)])}: {NO_PLACE}")
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
        batch = self.batch(rows["instrument"][first], columns)
        strict = strict_messages(columns)
        for message in np.flatnonzero(strict).tolist():
            record = batch.slice(message, 1).to_pylist()[0]
            self.records.add(record | self._strict_levels(rows, record, bounds[message : message + 2], row))
        self.printed = {at: level for at, level in self.printed.items() if at >= row + bounds[-1]}
        yield from self.made(batch, strict)

    def _placed(
        self, sequence: NDArray[np.int64], instrument: NDArray[np.int32], received: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Give a message without an id its neighbour's, as an id never compares with a time."""
        placed = sequence.copy()
        for code in np.unique(instrument).tolist():
            ours = np.flatnonzero(instrument == code)
            given = sequence[ours] > 0
            if not given.any():
                known = self.last_ids.get(code)
                placed[ours] = received[ours] if known is None else known
                continue
            latest = np.maximum.accumulate(np.where(given, np.arange(len(ours)), -1))
            latest[latest < 0] = int(np.argmax(given))
            placed[ours] = sequence[ours[latest]]
            self.last_ids[code] = int(placed[ours[-1]])
        return placed

    def _strict_levels(
        self, rows: dict[str, NDArray[Any]], record: dict[str, Any], bounds: NDArray[np.int64], row: int
    ) -> dict[str, Any]:
        """Read a message's levels the strict way: from its numbers as printed."""
        levels: dict[int, list[tuple[str, str]]] = {ASK: [], BID: [], LEFT_OUT: []}
        for index in range(*bounds.tolist()):
            printed = self.printed.get(row + index)
            if printed is None:
                price, size = (
                    _printed(
                        int(rows[f"{what}s"][index]),
                        int(rows[f"{what}_decimals"][index])
                        if record[f"{what}_scale"] == STRICT
                        else record[f"{what}_scale"],
                    )
                    for what in ("price", "size")
                )
                printed = price, size
            levels[int(rows["sides"][index])].append(printed)
        return scaled_levels(levels[BID], levels[ASK])


def _printed(integer: int, decimals: int) -> str:
    return format(Decimal(integer).scaleb(-decimals).normalize(), "f")
