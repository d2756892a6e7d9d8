"""Selects the rows of `books` to write: by cadence (`--cadence`), and by status of the book (`--on-gap`)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.names import Cadence, OnGap, RowPolicy, Status, step_of
from deltabook.udfs.numbers.encoding import Numbers

_SUMMED_COLUMNS = ("trade_count", "buy_volume", "sell_volume", "ofi")


class RowCadence:
    """Selects the rows of `books` of one chunk that a cadence stores.

    Parameters
    ----------
    policy : RowPolicy
        The policy whose field `on_gap` says whether rows of a suspect book are left out.
    cadence : str
        A member of `Cadence` selects every row. A time step such as "1s" selects the last row of each step;
        this row gets the sums of trades and order flow over all rows of the step.
    numbers : Numbers
        Encoding of the rows' prices and sizes.
    """

    def __init__(self, policy: RowPolicy, cadence: str, numbers: Numbers):
        self.numbers = numbers
        self.leaves_out_suspect = policy.on_gap is OnGap.WAIT
        self.label = policy.label(cadence)
        self.step = 0 if cadence in tuple(Cadence) else step_of(cadence)
        # The row of the last step, which may continue in the next batch.
        self.last_row: pa.RecordBatch | None = None

    def select_rows(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Take the next batch and return the selected rows whose time steps are complete.

        Parameters
        ----------
        rows : pyarrow.RecordBatch
            The next rows of `books` or `books_decimal`, in the feed's order.
        """
        rows = _drop_suspect_rows(rows) if self.leaves_out_suspect else rows
        if not self.step or not rows.num_rows:
            return rows
        rows = rows if self.last_row is None else pa.concat_batches([self.last_row, rows])
        steps = rows["order_time"].to_numpy() // self.step
        step_ends = np.append(np.flatnonzero(np.diff(steps)), len(steps) - 1)
        summed = _sum_steps(rows, step_ends, self.numbers)
        self.last_row = summed.slice(summed.num_rows - 1)
        return self._label_rows(summed.slice(0, summed.num_rows - 1))

    def take_last_row(self) -> list[pa.RecordBatch]:
        """Return a list with the row of the last time step; an empty list if there is no such row.

        Call this method after the last batch.
        """
        return [] if self.last_row is None else [self._label_rows(self.last_row)]

    def _label_rows(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows with this cadence in the column `cadence`."""
        column = rows.schema.get_field_index("cadence")
        labels = pa.repeat(pa.scalar(self.label, pa.string()), rows.num_rows)
        return rows.set_column(column, rows.schema.field(column), labels)


def _drop_suspect_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    suspect = np.array([status == Status.SUSPECT.label for status in rows["status"].to_pylist()], dtype=bool)
    return rows.filter(pa.array(~suspect)) if suspect.any() else rows


def _sum_steps(rows: pa.RecordBatch, step_ends: NDArray[np.int64], numbers: Numbers) -> pa.RecordBatch:
    """Return the rows at `step_ends`, each with the sums over all rows of its time step."""
    selected = rows.take(pa.array(step_ends))
    for name in _SUMMED_COLUMNS:
        column = rows[name]
        is_list = pa.types.is_list(column.type)
        values = column.flatten() if is_list else column
        is_count = name == "trade_count"
        amounts = values.to_numpy() if is_count else numbers.addends(values)
        amounts = amounts.reshape(rows.num_rows, len(amounts) // rows.num_rows)
        # Differences of running sums stay exact even if the sums wrap around int64.
        sums = np.diff(np.cumsum(amounts, axis=0)[step_ends], axis=0, prepend=amounts[:1] * 0).ravel()
        summed = pa.array(sums) if is_count else numbers.volume(sums, str(rows["symbol"][0]))
        if is_list:
            offsets = np.arange(len(step_ends) + 1, dtype=np.int32) * amounts.shape[1]
            summed = pa.ListArray.from_arrays(pa.array(offsets), summed)
        selected = selected.set_column(rows.schema.get_field_index(name), rows.schema.field(name), summed)
    return selected
