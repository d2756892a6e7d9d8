"""The function that Spark applies to each symbol, which runs distribution tests over all chunks together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa

from deltabook.schemas.frames import JUDGED
from deltabook.schemas.names import ALL_HOURS
from deltabook.schemas.validation_tables import FIDELITY
from deltabook.udfs.fidelity.distribution_tests import compare_pooled
from deltabook.udfs.fidelity.golden_rows import read_matching_rows
from deltabook.udfs.fidelity.sampling import Series
from deltabook.udfs.spark.fidelity_groups import make_metric_row
from deltabook.udfs.spark.inspect_groups import EMPTY_RESULT
from deltabook.udfs.spark.references import SamplesToPool
from deltabook.udfs.storage.arrow_frames import GroupKey, get_single_row, to_frame

_COLUMNS = ("kind", "metric", "level", "hour", "rebuilt", "golden")


class _ChunkSamples(TypedDict):
    """Row of `samples`: the tested samples of one metric in one chunk."""

    kind: str
    metric: str
    level: int
    hour: int
    rebuilt: list[float]
    golden: list[float]


def pool_group(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
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
    reference = get_single_row(groups, SamplesToPool)
    filters = [("exchange", "=", reference.exchange)]
    samples = read_matching_rows(reference.sample_files, _COLUMNS, filters)
    series: dict[str, dict[tuple[str, int], list[_ChunkSamples]]] = {}
    for row in samples.sort_by("hour").to_pylist():
        series.setdefault(row["kind"], {}).setdefault((row["metric"], row["level"]), []).append(row)
    instrument = {"exchange": reference.exchange, "symbol": reference.symbol, "hour": ALL_HOURS}
    results = []
    for kind, metrics in series.items():
        pooled = {
            name: (
                _join_chunks(chunk["rebuilt"] for chunk in chunks),
                _join_chunks(chunk["golden"] for chunk in chunks),
            )
            for name, chunks in metrics.items()
        }
        results += [
            EMPTY_RESULT | instrument | {"table": FIDELITY.name, "kind": kind} | make_metric_row(metric)
            for metric in compare_pooled(pooled)
        ]
    yield to_frame(pa.RecordBatch.from_pylist(results, schema=JUDGED.arrow))


def _join_chunks(samples: Iterable[list[float]]) -> Series:
    return np.concatenate([np.asarray(chunk, dtype=np.float64) for chunk in samples])
