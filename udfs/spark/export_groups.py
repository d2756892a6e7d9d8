"""The function that Spark applies to each symbol-day to be exported: reads its files, writes one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from deltabook.schemas.exports import EXPORTED, Form
from deltabook.udfs.export import crypto_lake, hftbacktest, parquet, tardis
from deltabook.udfs.export.rows import Asked, Tally, Target
from deltabook.udfs.storage.arrow_frames import Group, to_frame

_WRITERS: dict[Form, tuple[Callable[[Target], str], Callable[[Target, Path], None]]] = {
    Form.PARQUET: (parquet.path_of, parquet.write),
    Form.CRYPTO_LAKE: (crypto_lake.path_of, crypto_lake.write),
    Form.TARDIS: (tardis.path_of, tardis.write),
    Form.HFTBACKTEST: (hftbacktest.path_of, hftbacktest.write),
}


def export_groups(asked: Asked) -> Group:
    """Make the function that exports one symbol-day.

    Parameters
    ----------
    asked : Asked
        What is asked for.

    Returns
    -------
    callable
        For `packed`, grouped by exchange, symbol, date: rows of `export_references` in, one row of
        `exported` out. A file has its name only once it is whole.
    """

    def export(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        hours = list(pd.concat(groups).sort_values("hour").itertuples(index=False))
        named = dict(zip(("exchange", "symbol", "date"), map(str, key), strict=False))
        row = named | _exported(Target(hours, asked, Tally()))
        yield to_frame(pa.RecordBatch.from_pylist([row], schema=EXPORTED.arrow))

    return export


def _exported(target: Target) -> dict[str, Any]:
    path_of, write = _WRITERS[target.asked.form]
    path = path_of(target)
    whole = Path(target.asked.folder) / path
    partial = whole.with_name(f"{whole.name}.partial")
    whole.parent.mkdir(parents=True, exist_ok=True)
    write(target, partial)
    told: dict[str, Any] = {"path": "", "bytes": 0, "sha256": ""}
    if target.tally.rows:
        with partial.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        told = {"path": path, "bytes": partial.stat().st_size, "sha256": digest}
        partial.replace(whole)
    counts = {name: list(getattr(target.tally, name).items()) for name in ("statuses", "left_out")}
    return vars(target.tally) | counts | told
