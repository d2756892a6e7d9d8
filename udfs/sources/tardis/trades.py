"""Parser of the Tardis table `trades`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import scale_trade
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.message_fields import hash_id
from deltabook.udfs.sources.common.records import Records, build_batch, label_column
from deltabook.udfs.sources.csv.columns import Columns, TableSchema
from deltabook.udfs.sources.csv.tables import Messages
from deltabook.udfs.sources.tardis.rows import INSTRUMENT, TIMES, InstrumentNamer, RowParser, RowStamps

_SIDES = ("", "buy", "sell")


class TradeParser(RowParser):
    """Parser of `trades`; each row is a trade."""

    def __init__(self, path: str, names: tuple[str, ...], name_instrument: InstrumentNamer):
        choices = {"side": ("unknown", "buy", "sell")}
        super().__init__(
            path, TableSchema(names, INSTRUMENT, TIMES, choices, ("price", "amount")), name_instrument
        )

    def records(self, columns: Columns, messages: Messages) -> Iterator[pa.RecordBatch]:
        """Yield the records of the rows before `messages.end_row`."""
        strict = Records(self.path)
        common = RowStamps(self.clock, columns, messages, self.first_row, "trade")
        ids = self._read_ids(columns, messages.end_row)
        rows = np.flatnonzero(columns.read_by_kernel[: messages.end_row])
        if len(rows):
            batch = common.columns(rows) | {
                "trade_id": ids[rows],
                "side": label_column(columns.values["side"][rows], _SIDES),
                "price": columns.values["price"][rows],
                "size": columns.values["amount"][rows],
            }
            yield build_batch(self.path, batch, len(rows))
        for row in columns.strict_rows(messages.end_row):
            if reason := columns.explain_fault(row):
                strict.quarantine(self.first_row + row, columns.rows.line(row), reason)
            else:
                numbers = scale_trade(columns.text(row, "price"), columns.text(row, "amount"))
                side = _SIDES[columns.values["side"][row]]
                record: Record = {**common.record_of(row), **numbers, "trade_id": int(ids[row]), "side": side}
                strict.add(record)
        if len(strict):
            yield strict.take_batch()

    def _read_ids(self, columns: Columns, end: int) -> NDArray[np.int64]:
        """Return the trade id of each row, int64[n]; a text becomes its hash, an empty id becomes -1."""
        id_index = columns.index_of["id"]
        ids, is_integer = columns.rows.integers(id_index)
        is_text = ~(is_integer & (ids >= 0)) & columns.rows.whole & ~columns.rows.empty(id_index)
        ids[~is_integer] = NOT_GIVEN
        for row in np.flatnonzero(is_text[:end]).tolist():
            ids[row] = hash_id(columns.text(row, "id"))
        return ids
