"""Which rows of books are written: all, those of a proven book, or the last of each step of a grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from deltabook.schemas.names import OnGap, Status, Writing
from deltabook.udfs.numbers import Numbers

_SUMS = ("trade_count", "buy_volume", "sell_volume", "ofi")


def written_rows(
    batches: Iterator[pa.RecordBatch], writing: Writing, numbers: Numbers
) -> Iterator[pa.RecordBatch]:
    """Choose the rows of one hour's books that are written.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Rows of `books` or `books_decimal`, in the feed's order.
    writing : Writing
        Which.
    numbers : Numbers
        What their prices and sizes are.

    Yields
    ------
    pyarrow.RecordBatch
        The rows chosen. On a grid, each step has the last of its rows, with the sums of them all.
    """
    chosen = map(_proven, batches) if writing.on_gap is OnGap.WAIT else batches
    yield from _last_of_steps(chosen, writing.step, numbers) if writing.step else chosen


def _proven(rows: pa.RecordBatch) -> pa.RecordBatch:
    suspect = np.array([status == Status.SUSPECT.label for status in rows["status"].to_pylist()], dtype=bool)
    return rows.filter(pa.array(~suspect)) if suspect.any() else rows


def _last_of_steps(
    batches: Iterator[pa.RecordBatch], step: int, numbers: Numbers
) -> Iterator[pa.RecordBatch]:
    held: pa.RecordBatch | None = None  # the last row so far: the next batch may be of its step
    for rows in batches:
        if not rows.num_rows:
            continue
        rows = rows if held is None else pa.concat_batches([held, rows])
        steps = rows["order_time"].to_numpy() // step
        lasts = np.append(np.flatnonzero(np.diff(steps)), len(steps) - 1)
        summed = _summed(rows, lasts, numbers)
        yield summed.slice(0, summed.num_rows - 1)
        held = summed.slice(summed.num_rows - 1)
    if held is not None:
        yield held


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
