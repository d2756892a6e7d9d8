"""The function that Spark applies to each symbol to compare the distributions of all its hours together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.tables import FIDELITY
from deltabook.udfs.fidelity.distribution_tests import pooled
from deltabook.udfs.fidelity.golden_match import read_rows
from deltabook.udfs.fidelity.sampling import Series
from deltabook.udfs.spark.fidelity_groups import columns_of
from deltabook.udfs.spark.inspect_groups import NO_RESULT
from deltabook.udfs.storage.arrow_frames import only_row, to_frame

_OF_SERIES = ("kind", "metric", "level")


def total_group(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Compare what was sampled of a symbol's hours.

    Parameters
    ----------
    key : tuple
        Exchange and symbol.
    groups : iterator of pandas.DataFrame
        One row of `total_references`.

    Yields
    ------
    pandas.DataFrame
        Rows of `judged` for `fidelity`, with the hour -1.
    """
    reference = only_row(groups)
    chosen = [("exchange", "=", reference.exchange)]
    found = read_rows(reference.sample_files, (*_OF_SERIES, "hour", "rebuilt", "golden"), chosen)
    hours: dict[str, dict[tuple[str, int], list[Any]]] = {}
    for row in found.sort_by("hour").to_pylist():
        of_kind = hours.setdefault(row["kind"], {})
        of_kind.setdefault((row["metric"], row["level"]), []).append((row["rebuilt"], row["golden"]))
    named = {"exchange": reference.exchange, "symbol": reference.symbol, "hour": ALL_HOURS}
    rows = []
    for kind, metrics in hours.items():
        together = {name: (_joined(parts, 0), _joined(parts, 1)) for name, parts in metrics.items()}
        rows += [
            NO_RESULT | named | {"table": FIDELITY.name, "kind": kind} | columns_of(metric)
            for metric in pooled(together)
        ]
    yield to_frame(pa.RecordBatch.from_pylist(rows, schema=JUDGED.arrow))


def _joined(parts: list[Any], side: int) -> Series:
    return np.concatenate([np.asarray(part[side], dtype=np.float64) for part in parts])
