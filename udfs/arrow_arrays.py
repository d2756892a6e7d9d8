"""Conversions of Arrow columns that several packages need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def to_numpy(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Return a column's values as a NumPy array.

    The array shares the column's memory where possible. Booleans, strings and columns of several chunks are
    copied.

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
        A column without nulls. A null in a column of integers would turn the result into floats.
    """
    return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def count_labels(labels: pa.Array) -> dict[str, int]:
    """Return how often each label occurs.

    Parameters
    ----------
    labels : pyarrow.Array
        Labels, for example the statuses of books.
    """
    values, counts = pc.value_counts(labels).flatten()
    return dict(zip(values.to_pylist(), counts.to_pylist(), strict=True))


def cut_lists(lists: pa.ListArray, lengths: NDArray[np.int64]) -> pa.ListArray:
    """Return the first elements of each list.

    Parameters
    ----------
    lists : pyarrow.ListArray
        n lists without nulls.
    lengths : int64[n]
        Largest number of elements of each list that remain, 0 or more.
    """
    starts = lists.offsets.to_numpy().astype(np.int64)
    counts = np.minimum(np.diff(starts), lengths)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    chosen = np.repeat(starts[:-1] - offsets[:-1], counts) + np.arange(offsets[-1])
    values = lists.values.take(pa.array(chosen))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=lists.type)
