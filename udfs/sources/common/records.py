"""Records in the making: what a parser adds, column by column, until a batch is full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deltabook.schemas.frames import RECORDS
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE

_SENTINELS: dict[str, Any] = {"BIGINT": NOT_GIVEN, "STRING": "", "BINARY": b"", "BOOLEAN": False}
_SENTINELS["ARRAY<BIGINT>"] = ()

EMPTY_RECORD: dict[str, Any] = {column.name: _SENTINELS[column.type] for column in RECORDS.columns} | {
    "price_scale": DEFAULT_SCALE,
    "size_scale": DEFAULT_SCALE,
}
"""A record with every column at its sentinel."""


class Records:
    """Collects the records of one file.

    Parameters
    ----------
    path : str
        The file's name, for `source_file`.
    """

    def __init__(self, path: str):
        self.path = path
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def pending(self) -> list[dict[str, Any]]:
        """The records added since the last batch; they may still be completed in place."""
        return self._rows

    def add(self, record: dict[str, Any]) -> None:
        """Add a record given as a dict; columns left out get their sentinels."""
        self._rows.append(record)

    def quarantine(self, row: int, raw: bytes, reason: str) -> None:
        """Add an unreadable record: its row in the file from 1, its bytes, and why."""
        self.add({"record": "quarantine", "source_row": row, "raw": raw, "reason": reason})

    def batch(self) -> pa.RecordBatch:
        """Return what was added since the last batch, in the schema of `records`."""
        rows, self._rows = self._rows, []
        arrays = []
        for field in RECORDS.arrow:
            empty = self.path if field.name == "source_file" else EMPTY_RECORD[field.name]
            values = [row.get(field.name, empty) for row in rows]
            arrays.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=RECORDS.arrow)


def column_batch(path: str, columns: dict[str, Any], count: int) -> pa.RecordBatch:
    """Make records out of whole columns.

    Parameters
    ----------
    path : str
        The file's name, for `source_file`.
    columns : dict
        Arrays of `count` values by column; those left out get their sentinels.
    count : int
        How many records.

    Returns
    -------
    pyarrow.RecordBatch
        In the schema of `records`.
    """
    arrays = []
    for field in RECORDS.arrow:
        if field.name in columns:
            arrays.append(pa.array(columns[field.name], field.type))
        else:
            empty = path if field.name == "source_file" else EMPTY_RECORD[field.name]
            arrays.append(pa.repeat(pa.scalar(empty, field.type), count))
    return pa.RecordBatch.from_arrays(arrays, schema=RECORDS.arrow)


def labels(codes: NDArray[np.int64], texts: Sequence[str]) -> pa.Array:
    """Return the column of texts whose places in `texts` the codes are."""
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(texts, pa.string())).cast(pa.string())
