"""The function that Spark applies to each symbol to test the samples of all the symbol's chunks together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.tables import FIDELITY
from deltabook.udfs.fidelity.distribution_tests import compare_pooled
from deltabook.udfs.fidelity.golden_match import read_matching_rows
from deltabook.udfs.fidelity.sampling import Series
from deltabook.udfs.spark.fidelity_groups import make_metric_row
from deltabook.udfs.spark.inspect_groups import EMPTY_RESULT
from deltabook.udfs.storage.arrow_frames import get_single_row, to_frame

_COLUMNS = ("kind", "metric", "level", "hour", "rebuilt", "golden")


def pool_group(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Test whether rebuilt and golden samples of all chunks of one symbol have the same distributions.

    Parameters
    ----------
    key : (str, str)
        Exchange and symbol.
    groups : iterator of pandas.DataFrame
        A single row of `total_references`, which names the data files of the samples.

    Yields
    ------
    pandas.DataFrame
        Rows of `judged` for the table `fidelity`. Their `hour` is `ALL_HOURS` (-1): all chunks together.
    """
    reference = get_single_row(groups)
    filters = [("exchange", "=", reference.exchange)]
    samples = read_matching_rows(reference.sample_files, _COLUMNS, filters)
    series: dict[str, dict[tuple[str, int], list[dict[str, Any]]]] = {}
    for row in samples.sort_by("hour").to_pylist():
        series.setdefault(row["kind"], {}).setdefault((row["metric"], row["level"]), []).append(row)
    instrument = {"exchange": reference.exchange, "symbol": reference.symbol, "hour": ALL_HOURS}
    results = []
    for kind, metrics in series.items():
        pooled = {
            name: (_join_chunks(chunks, "rebuilt"), _join_chunks(chunks, "golden"))
            for name, chunks in metrics.items()
        }
        results += [
            EMPTY_RESULT | instrument | {"table": FIDELITY.name, "kind": kind} | make_metric_row(metric)
            for metric in compare_pooled(pooled)
        ]
    yield to_frame(pa.RecordBatch.from_pylist(results, schema=JUDGED.arrow))


def _join_chunks(chunks: list[dict[str, Any]], side: str) -> Series:
    return np.concatenate([np.asarray(chunk[side], dtype=np.float64) for chunk in chunks])
