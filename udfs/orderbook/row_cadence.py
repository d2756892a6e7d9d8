"""Which rows of books are written: all, those of a proven book, or the last of each step of a grid."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from deltabook.schemas.names import Cadence, OnGap, Status, Writing, step_of
from deltabook.udfs.numbers.encoding import Numbers

_SUMS = ("trade_count", "buy_volume", "sell_volume", "ofi")


class Thinning:
    """Chooses those of one hour's rows of books that one cadence has.

    Parameters
    ----------
    writing : Writing
        What becomes of suspect rows.
    cadence : str
        A member of `Cadence`: all the others. A step: of each step the last, with the sums over them all.
    numbers : Numbers
        What the rows' prices and sizes are.
    """

    def __init__(self, writing: Writing, cadence: str, numbers: Numbers):
        self.numbers = numbers
        self.waits = writing.on_gap is OnGap.WAIT
        self.label = writing.label(cadence)
        self.step = 0 if cadence in tuple(Cadence) else step_of(cadence)
        self.held: pa.RecordBatch | None = None  # the last row so far: the next batch may be of its step

    def choose(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows chosen of a batch of `books` or `books_decimal`, and of what the last one left.

        Parameters
        ----------
        rows : pyarrow.RecordBatch
            In the feed's order, after those before.
        """
        rows = _proven(rows) if self.waits else rows
        if not self.step or not rows.num_rows:
            return rows
        rows = rows if self.held is None else pa.concat_batches([self.held, rows])
        steps = rows["order_time"].to_numpy() // self.step
        lasts = np.append(np.flatnonzero(np.diff(steps)), len(steps) - 1)
        summed = _summed(rows, lasts, self.numbers)
        self.held = summed.slice(summed.num_rows - 1)
        return self._labelled(summed.slice(0, summed.num_rows - 1))

    def rest(self) -> list[pa.RecordBatch]:
        """Return what no later row can change, once the last batch is in."""
        return [] if self.held is None else [self._labelled(self.held)]

    def _labelled(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        at = rows.schema.get_field_index("cadence")
        labels = pa.repeat(pa.scalar(self.label, pa.string()), rows.num_rows)
        return rows.set_column(at, rows.schema.field(at), labels)


def _proven(rows: pa.RecordBatch) -> pa.RecordBatch:
    suspect = np.array([status == Status.SUSPECT.label for status in rows["status"].to_pylist()], dtype=bool)
    return rows.filter(pa.array(~suspect)) if suspect.any() else rows


def _summed(rows: pa.RecordBatch, lasts: np.ndarray, numbers: Numbers) -> pa.RecordBatch:
    """Return the rows at `lasts`, each with the sums over the rows since the one before."""
    chosen = rows.take(pa.array(lasts))
    for name in _SUMS:
        column = rows[name]
        is_list = pa.types.is_list(column.type)
        values = column.flatten() if is_list else column
        counted = name == "trade_count"
        amounts = values.to_numpy() if counted else numbers.addends(values)
        amounts = amounts.reshape(rows.num_rows, len(amounts) // rows.num_rows)
        # Differences of running sums stay exact even if the sums wrap around int64.
        sums = np.diff(np.cumsum(amounts, axis=0)[lasts], axis=0, prepend=amounts[:1] * 0).ravel()
        summed = pa.array(sums) if counted else numbers.volume(sums, str(rows["symbol"][0]))
        if is_list:
            offsets = np.arange(len(lasts) + 1, dtype=np.int32) * amounts.shape[1]
            summed = pa.ListArray.from_arrays(pa.array(offsets), summed)
        chosen = chosen.set_column(rows.schema.get_field_index(name), rows.schema.field(name), summed)
    return chosen
