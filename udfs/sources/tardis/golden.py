"""Tardis' tables of whole books, `book_snapshot_N` and `quotes`: a golden record a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.udfs.numbers.decimal_text import scaled_levels
from deltabook.udfs.sources.common.records import Records, column_batch
from deltabook.udfs.sources.csv.columns import Columns, Shape
from deltabook.udfs.sources.csv.tables import Messages
from deltabook.udfs.sources.tardis.rows import INSTRUMENT, TIMES, Named, RowParser, RowStamps

Pairs = Sequence[Sequence[str]]


class GoldenParser(RowParser):
    """Reads a table of books.

    Parameters
    ----------
    path : str
        The file's name.
    names : tuple of str
        Its columns.
    named : callable
        From exchange and symbol as printed to those of the tables.
    kind : str
        Kind of the golden records.
    asks, bids : sequence of (str, str)
        The columns of price and size of each level, best first.
    """

    def __init__(self, path: str, names: tuple[str, ...], named: Named, kind: str, asks: Pairs, bids: Pairs):
        self.sides = {"bid": bids, "ask": asks}
        prices = [price for side in (bids, asks) for price, _ in side]
        numbers = (*prices, *(size for side in (bids, asks) for _, size in side))
        shape = Shape(names, INSTRUMENT, TIMES, {}, numbers, frozenset(numbers), frozenset(prices))
        super().__init__(path, shape, named)
        self.kind = kind

    def records(self, columns: Columns, messages: Messages) -> Iterator[pa.RecordBatch]:
        """Yield the records of the rows before `messages.end`."""
        common = RowStamps(self.clock, columns, messages, self.first_row, "golden", self.kind)
        end, strict = messages.end, Records(self.path)
        given = {side: self._given(columns, pairs) for side, pairs in self.sides.items()}
        broken = np.logical_or.reduce([here[1] for here in given.values()])
        rows = np.flatnonzero(columns.plain[:end] & ~broken[:end])
        if len(rows):
            batch = common.columns(rows)
            for side, pairs in self.sides.items():
                batch |= _levels(columns, side, pairs, given[side][0][rows], rows)
            yield column_batch(self.path, batch, len(rows))
        odd = (broken | ~columns.plain) & (columns.rows.counts > 0)
        for row in np.flatnonzero(odd[:end]).tolist():
            reason = columns.fault(row)
            if not reason and broken[row]:
                reason = "a level has a price or an amount only, or stands behind an empty one"
            if reason:
                strict.quarantine(self.first_row + row, columns.rows.line(row), reason)
            else:
                printed = [self._printed(columns, row, self.sides[side]) for side in ("bid", "ask")]
                strict.add(common.one(row) | scaled_levels(*printed))
        if len(strict):
            yield strict.batch()

    def _given(self, columns: Columns, pairs: Pairs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which levels each row has, and which rows' levels are not one run of whole pairs."""
        places = [[columns.place[name] for name in pair] for pair in pairs]
        prices, sizes = (
            np.stack([~columns.rows.empty(pair[what]) for pair in places], axis=1) for what in (0, 1)
        )
        broken = (prices != sizes).any(axis=1) | (prices[:, 1:] & ~prices[:, :-1]).any(axis=1)
        return prices, broken

    def _printed(self, columns: Columns, row: int, pairs: Pairs) -> list[tuple[str, str]]:
        levels = [(columns.text(row, price), columns.text(row, size)) for price, size in pairs]
        return [level for level in levels if level[0]]


def _levels(
    columns: Columns, side: str, pairs: Pairs, given: NDArray[np.bool_], rows: NDArray[np.int64]
) -> dict[str, Any]:
    """Return the columns of one side."""
    offsets = pa.array(np.concatenate(([0], np.cumsum(given.sum(axis=1)))).astype(np.int32))
    lists = {}
    for place, what in ((0, "prices"), (1, "sizes")):
        values = np.stack([columns.values[pair[place]][rows] for pair in pairs], axis=1)
        lists[f"{side}_{what}"] = pa.ListArray.from_arrays(offsets, pa.array(values[given]))
    return lists
