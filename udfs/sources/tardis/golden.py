"""Parser of the Tardis tables `book_snapshot_N` and `quotes`: each row has the best levels of a book.

Each row becomes one golden record. Later stages compare the rebuilt books with the golden records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.udfs.numbers.decimal_text import scale_levels
from deltabook.udfs.sources.common.records import RecordColumns, Records, build_batch
from deltabook.udfs.sources.csv.columns import Columns, TableSchema
from deltabook.udfs.sources.csv.tables import Messages
from deltabook.udfs.sources.tardis.rows import INSTRUMENT, TIMES, InstrumentNamer, RowParser, RowStamps

Pairs = Sequence[Sequence[str]]
"""(price column, size column) of each level, best first."""


class GoldenParser(RowParser):
    """Parser of a table with the best levels of a book in each row.

    Parameters
    ----------
    path : str
        Path of the raw file, as column `source_file` stores it.
    names : tuple of str
        Column names of the table.
    name_instrument : callable
        Maps the exchange and symbol that Tardis prints to the (exchange, symbol) that the tables store.
    kind : str
        Value of the column `kind` of the golden records: `book_ticker` or `vendor_book`.
    asks, bids : sequence of (str, str)
        Price column and size column of each level, best first.
    """

    def __init__(
        self,
        path: str,
        names: tuple[str, ...],
        name_instrument: InstrumentNamer,
        kind: str,
        asks: Pairs,
        bids: Pairs,
    ):
        self.sides = {"bid": bids, "ask": asks}
        prices = [price for side in (bids, asks) for price, _ in side]
        numbers = (*prices, *(size for side in (bids, asks) for _, size in side))
        schema = TableSchema(names, INSTRUMENT, TIMES, {}, numbers, frozenset(numbers), frozenset(prices))
        super().__init__(path, schema, name_instrument)
        self.kind = kind

    def records(self, columns: Columns, messages: Messages) -> Iterator[pa.RecordBatch]:
        """Yield the records of the rows before `messages.end_row`."""
        common = RowStamps(self.clock, columns, messages, self.first_row, "golden", self.kind)
        end, strict = messages.end_row, Records(self.path)
        given = {side: self._find_levels(columns, pairs) for side, pairs in self.sides.items()}
        broken = np.logical_or.reduce([is_broken for _, is_broken in given.values()])
        rows = np.flatnonzero(columns.read_by_kernel[:end] & ~broken[:end])
        if len(rows):
            batch = common.columns(rows)
            for side, pairs in self.sides.items():
                batch |= _make_level_columns(columns, side, pairs, given[side][0][rows], rows)
            yield build_batch(self.path, batch, len(rows))
        is_strict = (broken | ~columns.read_by_kernel) & (columns.rows.counts > 0)
        for row in np.flatnonzero(is_strict[:end]).tolist():
            reason = columns.explain_fault(row)
            if not reason and broken[row]:
                reason = "a level has only a price or only an amount, or follows an empty level"
            if reason:
                strict.quarantine(self.first_row + row, columns.rows.line(row), reason)
            else:
                printed = [self._printed_levels(columns, row, self.sides[side]) for side in ("bid", "ask")]
                strict.add({**common.record_of(row), **scale_levels(*printed)})
        if len(strict):
            yield strict.take_batch()

    def _find_levels(self, columns: Columns, pairs: Pairs) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Find the given levels and the broken rows of one side.

        A row is broken if a level has only a price or only a size, or follows an empty level.

        Returns
        -------
        (given, broken) : (bool[n, levels], bool[n])
            Whether each level has a price, and whether each row is broken.
        """
        indices = [[columns.index_of[name] for name in pair] for pair in pairs]
        prices, sizes = (
            np.stack([~columns.rows.empty(pair[what]) for pair in indices], axis=1) for what in (0, 1)
        )
        broken = (prices != sizes).any(axis=1) | (prices[:, 1:] & ~prices[:, :-1]).any(axis=1)
        return prices, broken

    def _printed_levels(self, columns: Columns, row: int, pairs: Pairs) -> list[tuple[str, str]]:
        """Return the printed (price, size) of a row's levels on one side."""
        levels = [(columns.text(row, price), columns.text(row, size)) for price, size in pairs]
        return [level for level in levels if level[0]]


def _make_level_columns(
    columns: Columns, side: str, pairs: Pairs, given: NDArray[np.bool_], rows: NDArray[np.int64]
) -> RecordColumns:
    """Return the columns `<side>_prices` and `<side>_sizes` of some rows.

    Parameters
    ----------
    columns : Columns
        Rows of the block.
    side : str
        `bid` or `ask`.
    pairs : sequence of (str, str)
        Price column and size column of each level, best first.
    given : bool[n, levels]
        Whether each level of the n rows is given.
    rows : int64[n]
        Indices of the rows in the block.
    """
    offsets = pa.array(np.concatenate(([0], np.cumsum(given.sum(axis=1)))).astype(np.int32))
    lists: RecordColumns = {}
    for column_index, what in enumerate(("prices", "sizes")):
        values = np.stack([columns.values[pair[column_index]][rows] for pair in pairs], axis=1)
        lists[f"{side}_{what}"] = pa.ListArray.from_arrays(offsets, pa.array(values[given]))
    return lists
