"""Arrow tables as the pandas frames that `applyInPandas` passes on, without a copy."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa


class _ArrowSeries(pd.Series):
    @property
    def _constructor(self) -> Any:
        return _ArrowSeries

    def apply(self, *_arguments: Any, **_options: Any) -> Any:
        """Return the series itself: its values are Arrow already.

        Spark converts a list column value by value, by this method. Measured on 3.2 M rows of
        4 x 20 levels: 35 s with that conversion, 3.6 s without.
        """
        return self


class _ArrowFrame(pd.DataFrame):
    @property
    def _constructor(self) -> Any:
        return _ArrowFrame

    @property
    def _constructor_sliced(self) -> Any:
        return _ArrowSeries


def to_frame(batch: pa.RecordBatch) -> pd.DataFrame:
    """Wrap a batch as a frame for Spark.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
        Columns in the order and of the types of the declared result.

    Returns
    -------
    pandas.DataFrame
        Its columns are the batch's arrays themselves.
    """
    arrays = {name: pd.arrays.ArrowExtensionArray(batch.column(name)) for name in batch.schema.names}
    return _ArrowFrame(arrays, copy=False)
