"""What all exported formats share: what is asked for, the rows to write, and what is told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.exports import Form, What
from deltabook.schemas.names import NOT_GIVEN, Status
from deltabook.udfs.storage.event_files import batches_of_hour
from deltabook.udfs.storage.prefetch import ahead

BATCH_ROWS = 16_384
UNPROVEN = (Status.UNSEEDED.label, Status.SUSPECT.label)
"""Statuses of books that no format without a status may hold."""


@dataclass(frozen=True)
class Asked:
    """What is to be exported.

    Attributes
    ----------
    what, form : What, Form
        What, and as what.
    folder : str
        Where files are written.
    levels : int
        Levels a side, where a level has columns of its own.
    since, until : int
        Rows with an `order_time` from the one up to the other, ns.
    price_type, size_type : pyarrow.DataType
        Decimals that hold all prices and all sizes.
    """

    what: What
    form: Form
    folder: str
    levels: int
    since: int
    until: int
    price_type: pa.DataType
    size_type: pa.DataType

    def chosen(self, order_time: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows are asked for, by their time."""
        chosen: NDArray[np.bool_] = (order_time >= self.since) & (order_time < self.until)
        return chosen


@dataclass
class Tally:
    """What is told of a file as it is written; see `schemas.exports.EXPORTED`."""

    rows: int = 0
    first_time: int = NOT_GIVEN
    last_time: int = NOT_GIVEN
    statuses: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    shift: int = 0

    def add(self, rows: int, order_time: NDArray[np.int64]) -> None:
        """Count rows that are written, and note their times.

        Parameters
        ----------
        rows : int
            How many.
        order_time : int64[:]
            Of what they are written of, ns.
        """
        if not rows:
            return
        self.rows += rows
        if self.first_time == NOT_GIVEN:
            self.first_time = int(order_time[0])
        self.last_time = int(order_time[-1])


@dataclass(frozen=True)
class Target:
    """One symbol-day on its way into a file.

    Attributes
    ----------
    hours : sequence of rows of `export_references`
        In order; at least one.
    asked : Asked
        What is asked for.
    tally : Tally
        Is filled while the file is written.
    """

    hours: Sequence[Any]
    asked: Asked
    tally: Tally

    @property
    def of(self) -> Any:
        """What all hours have in common: exchange, symbol, date, scales."""
        return self.hours[0]

    @property
    def scale_of(self) -> dict[str, int]:
        """Decimal digits of int64 prices and sizes."""
        return {name: int(getattr(self.of, name)) for name in ("price_scale", "size_scale")}

    @property
    def type_of(self) -> dict[str, pa.DataType]:
        """Types of exact prices and sizes."""
        return {"price_scale": self.asked.price_type, "size_scale": self.asked.size_type}


def flattened(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Return the columns of a batch of `events`, the fields of `data` beside the others."""
    columns = {name: batch[name] for name in batch.schema.names if name != "data"}
    if "data" in batch.schema.names:
        data = batch["data"]
        columns |= {part.name: values for part, values in zip(data.type, data.flatten(), strict=True)}
    return columns


def rows_asked(target: Target, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows that are asked for, in the feed's order.

    Parameters
    ----------
    target : Target
        Whose.
    columns : sequence of str, optional
        Which to read, order_time among them; None: all.

    Yields
    ------
    pyarrow.RecordBatch
        As the data files have them; none is empty.
    """
    for reference in target.hours:
        for file in reference.data_files:
            hour = batches_of_hour(file, reference.exchange, int(reference.hour), BATCH_ROWS, columns)
            for batch in ahead(hour):
                chosen = target.asked.chosen(batch["order_time"].to_numpy())
                batch = batch if chosen.all() else batch.filter(pa.array(chosen))
                if batch.num_rows:
                    yield batch


def proven_rows(target: Target, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of books that are asked for and proven; count those, and those left out.

    Parameters
    ----------
    target : Target
        Whose.
    columns : sequence of str
        As `rows_asked` takes them, `status` among them.

    Yields
    ------
    pyarrow.RecordBatch
        None is empty.
    """
    for batch in rows_asked(target, columns):
        unproven = pc.is_in(batch["status"], pa.array(UNPROVEN))
        target.tally.left_out.update(counts_of(batch["status"].filter(unproven)))
        batch = batch.filter(pc.invert(unproven))
        if batch.num_rows:
            target.tally.statuses.update(counts_of(batch["status"]))
            target.tally.add(batch.num_rows, batch["order_time"].to_numpy())
            yield batch


def counts_of(labels: pa.Array) -> dict[str, int]:
    """Count each label."""
    values, counts = pc.value_counts(labels).flatten()
    return dict(zip(values.to_pylist(), counts.to_pylist(), strict=True))
