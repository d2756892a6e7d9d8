"""The function that Spark applies to each symbol-day of an export.

A symbol-day is one symbol of one exchange on one UTC date. The function reads the symbol-day's data files and
writes one exported file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from deltabook.schemas.exports import EXPORTED, Form
from deltabook.udfs.export import crypto_lake, hftbacktest, parquet, tardis
from deltabook.udfs.export.rows import ExportRequest, FileTally, SymbolDay
from deltabook.udfs.storage.arrow_frames import GroupFunction, GroupKey, to_frame


class _FileFormat(NamedTuple):
    """Functions of one export format: one returns the path of a symbol-day's file, one writes the file."""

    make_path: Callable[[SymbolDay], str]
    write_file: Callable[[SymbolDay, Path], None]


_FORMATS = {
    Form.PARQUET: _FileFormat(parquet.make_path, parquet.write_file),
    Form.CRYPTO_LAKE: _FileFormat(crypto_lake.make_path, crypto_lake.write_file),
    Form.TARDIS: _FileFormat(tardis.make_path, tardis.write_file),
    Form.HFTBACKTEST: _FileFormat(hftbacktest.make_path, hftbacktest.write_file),
}


def export_groups(request: ExportRequest) -> GroupFunction:
    """Return the function that exports one symbol-day.

    Parameters
    ----------
    request : ExportRequest
        Options of the export, the same for all symbol-days.

    Returns
    -------
    callable
        Function for `make_task_function`; the key of a group is (exchange, symbol, date). The function takes
        rows of `export_references` and yields one row of `exported`. While a file is incomplete, its name
        ends with `.partial`.
    """

    def export(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        chunks = list(pd.concat(groups).sort_values("hour").itertuples(index=False))
        names = dict(zip(("exchange", "symbol", "date"), map(str, key), strict=False))
        row = names | _export_day(SymbolDay(chunks, request, FileTally()))
        yield to_frame(pa.RecordBatch.from_pylist([row], schema=EXPORTED.arrow))

    return export


def _export_day(day: SymbolDay) -> dict[str, object]:
    """Write the file of a symbol-day; return the columns of `exported` that describe the file."""
    file_format = _FORMATS[day.request.form]
    path = file_format.make_path(day)
    complete = Path(day.request.folder) / path
    partial = complete.with_name(f"{complete.name}.partial")
    complete.parent.mkdir(parents=True, exist_ok=True)
    file_format.write_file(day, partial)
    file: dict[str, str | int] = {"path": "", "bytes": 0, "sha256": ""}
    if day.tally.rows:
        with partial.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        file = {"path": path, "bytes": partial.stat().st_size, "sha256": digest}
        partial.replace(complete)
    counts = {name: list(getattr(day.tally, name).items()) for name in ("statuses", "left_out")}
    return vars(day.tally) | counts | file
