"""Builders of Arrow batches in the schema of `records` (`schemas.frames.RECORDS`), from rows or columns.

A sentinel is the value that a column has when nothing is given: -1, False, or an empty text or list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.frames import RECORDS
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.record import Record

RecordColumns: TypeAlias = dict[str, NDArray[np.generic] | pa.Array]
"""{column of `records`: array with one value per record}."""

_SENTINELS: dict[str, object] = {
    "BIGINT": NOT_GIVEN,
    "STRING": "",
    "BINARY": b"",
    "BOOLEAN": False,
    "ARRAY<BIGINT>": (),
}
"""{type of a column: its sentinel}."""

EMPTY_RECORD: dict[str, object] = {column.name: _SENTINELS[column.type] for column in RECORDS.columns} | {
    "price_scale": DEFAULT_SCALE,
    "size_scale": DEFAULT_SCALE,
}
"""A record in which every column has its sentinel, or the default scale."""


class Records:
    """Collects records of one file, and turns the collected records into a batch.

    Parameters
    ----------
    path : str
        Path of the raw file, as column `source_file` stores it.
    """

    def __init__(self, path: str):
        self.path = path
        self._rows: list[Record] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def pending(self) -> list[Record]:
        """Records added since the last batch; the caller may still change them in place."""
        return self._rows

    def add(self, record: Record) -> None:
        """Add a record; columns that the record lacks get their sentinels."""
        self._rows.append(record)

    def quarantine(self, row: int, raw: bytes, reason: str) -> None:
        """Add a quarantine record.

        Parameters
        ----------
        row : int
            Row of the unreadable line in the file, from 1.
        raw : bytes
            Bytes of the unreadable line or row.
        reason : str
            Why the line or row is not readable.
        """
        self.add({"record": "quarantine", "source_row": row, "raw": raw, "reason": reason})

    def take_batch(self) -> pa.RecordBatch:
        """Return the records added since the last batch as a batch, and empty the collection."""
        rows, self._rows = self._rows, []
        arrays = []
        for field in RECORDS.arrow:
            default = self.path if field.name == "source_file" else EMPTY_RECORD[field.name]
            values = [row.get(field.name, default) for row in rows]
            arrays.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=RECORDS.arrow)


def build_batch(
    path: str, columns: Mapping[str, NDArray[np.generic] | pa.Array], count: int
) -> pa.RecordBatch:
    """Return a batch of records, built from whole columns.

    Parameters
    ----------
    path : str
        Path of the raw file, as column `source_file` stores it.
    columns : mapping
        {column of `records`: array of `count` values}; absent columns get their sentinels.
    count : int
        Number of records.

    Returns
    -------
    pyarrow.RecordBatch
        Records in the schema of `records`.
    """
    arrays = []
    for field in RECORDS.arrow:
        if field.name in columns:
            arrays.append(pa.array(columns[field.name], field.type))
        else:
            default = path if field.name == "source_file" else EMPTY_RECORD[field.name]
            arrays.append(pa.repeat(pa.scalar(default, field.type), count))
    return pa.RecordBatch.from_arrays(arrays, schema=RECORDS.arrow)


def label_column(codes: NDArray[np.int32] | NDArray[np.int64], texts: Sequence[str]) -> pa.Array:
    """Return the text column ``texts[codes]``.

    Parameters
    ----------
    codes : int[:]
        Index of each value's text in `texts`.
    texts : sequence of str
        The distinct texts.

    Returns
    -------
    pyarrow.StringArray
        One text per code.
    """
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(texts, pa.string())).cast(pa.string())
