"""Tardis' table of trades."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scaled_trade
from deltabook.udfs.sources.common.message_files import text_id
from deltabook.udfs.sources.common.records import Records, column_batch, labels
from deltabook.udfs.sources.csv.columns import Columns, Shape
from deltabook.udfs.sources.csv.tables import Messages
from deltabook.udfs.sources.tardis.rows import INSTRUMENT, TIMES, Named, RowParser, RowStamps

_SIDES = ("", "buy", "sell")


class TradeParser(RowParser):
    """Reads `trades`."""

    def __init__(self, path: str, names: tuple[str, ...], named: Named):
        choices = {"side": ("unknown", "buy", "sell")}
        super().__init__(path, Shape(names, INSTRUMENT, TIMES, choices, ("price", "amount")), named)

    def records(self, columns: Columns, messages: Messages) -> Iterator[pa.RecordBatch]:
        """Yield the records of the rows before `messages.end`."""
        strict = Records(self.path)
        common = RowStamps(self.clock, columns, messages, self.first_row, "trade")
        ids = self._ids(columns, messages.end)
        rows = np.flatnonzero(columns.plain[: messages.end])
        if len(rows):
            batch = common.columns(rows) | {
                "trade_id": ids[rows],
                "side": labels(columns.values["side"][rows], _SIDES),
                "price": columns.values["price"][rows],
                "size": columns.values["amount"][rows],
            }
            yield column_batch(self.path, batch, len(rows))
        for row in columns.unusual(messages.end):
            if reason := columns.fault(row):
                strict.quarantine(self.first_row + row, columns.rows.line(row), reason)
            else:
                numbers = scaled_trade(columns.text(row, "price"), columns.text(row, "amount"))
                side = _SIDES[columns.values["side"][row]]
                strict.add(common.one(row) | numbers | {"trade_id": int(ids[row]), "side": side})
        if len(strict):
            yield strict.batch()

    def _ids(self, columns: Columns, end: int) -> NDArray[np.int64]:
        """Return trade ids: the number, or what stands for a text; -1 for none."""
        place = columns.place["id"]
        ids, numeric = columns.rows.integers(place)
        named = ~(numeric & (ids >= 0)) & columns.rows.whole & ~columns.rows.empty(place)
        ids[~numeric] = NOT_GIVEN
        for row in np.flatnonzero(named[:end]).tolist():
            ids[row] = text_id(columns.text(row, "id"))
        return ids
