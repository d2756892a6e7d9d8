"""Groups of references packed into a few Spark tasks, each group with a result file of its own.

A Spark task costs 10 ms of the JVM and a round trip to Python, whatever it does, so groups share tasks of
about equal cost. What a group has yielded is kept in a small file as soon as the group is done. A task that
is tried again skips the groups that have one, the driver counts the files to show progress, and the first
group of a dead task that has none is the one that killed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from heapq import heapreplace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from deltabook.udfs.storage.arrow_frames import Group, batch_of, to_frame
from deltabook.udfs.storage.object_store import created, located, moved, opened

GROUP, TASK = "group", "task"
"""Columns beside the references: number of a group, in the order of the references; number of its task."""
RESULT_SUFFIX = ".arrow"

Packed = Callable[[tuple[Any, ...], pd.DataFrame, pd.DataFrame], pd.DataFrame]
"""A function for `groupBy(task).cogroup(…).applyInPandas`."""


def pack(costs: Sequence[float], most: int) -> list[int]:
    """Assign groups to tasks of about equal cost: the dearest group first, each to the cheapest task so far.

    Parameters
    ----------
    costs : sequence of float
        Estimated cost of each group, in any unit, 0 or more.
    most : int
        Greatest number of tasks, 1 or more.

    Returns
    -------
    list of int
        Task of each group, from 0. Spark starts tasks in the order of their numbers, so the dearest is 0.
    """
    count = min(most, len(costs))
    # At equal cost the task with fewer groups is next.
    loads = [(0.0, 0, task) for task in range(count)]
    tasks = [0] * len(costs)
    for group in sorted(range(len(costs)), key=lambda group: -costs[group]):
        load, groups, task = loads[0]
        tasks[group] = task
        heapreplace(loads, (load + costs[group], groups + 1, task))
    dearest_first = sorted(loads, key=lambda one: (-one[0], one[2]))
    number = {task: place for place, (_, _, task) in enumerate(dearest_first)}
    return [number[task] for task in tasks]


def kept(function: Group, folder: str, schema: pa.Schema) -> Group:
    """Make a function keep what another one yields of a group, and skip a group whose result is kept already.

    Parameters
    ----------
    function : callable
        Takes one group.
    folder : str
        Where the results of finished groups are kept.
    schema : pyarrow.Schema
        Of what `function` yields.

    Returns
    -------
    callable
        Takes one group, with its number in the column `group`; yields what `function` does, as one frame.
    """

    @wraps(function)
    def apply(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        frames = list(groups)
        file = _result_file(folder, int(frames[0][GROUP].iloc[0]))
        result = _read_result(file)
        if result is None:
            result = _table([batch_of(frame, schema) for frame in function(key, iter(frames))], schema)
            _write_result(file, result)
        yield to_frame(result)

    return apply


def packed(function: Group, keys: Sequence[str], schema: pa.Schema) -> Packed:
    """Make the function that applies another one to each group of a task.

    Parameters
    ----------
    function : callable
        Takes one group: its key and its frames.
    keys : sequence of str
        Columns whose values are the key of a group.
    schema : pyarrow.Schema
        Of what `function` yields.

    Returns
    -------
    callable
        For `groupBy(task).cogroup(…).applyInPandas`: references in, what `function` yields of all groups out.
    """

    def apply(key: tuple[Any, ...], references: pd.DataFrame, nothing: pd.DataFrame) -> pd.DataFrame:
        results = [
            batch_of(frame, schema)
            for _, rows in references.groupby(GROUP)
            for frame in function(tuple(rows.iloc[0][[*keys]]), iter([rows]))
        ]
        return to_frame(_table(results, schema))

    return apply


def _table(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Join batches into one; none at all is an empty one."""
    whole = pa.Table.from_batches(batches, schema=schema).combine_chunks().to_batches()
    return whole[0] if whole else pa.RecordBatch.from_pylist([], schema=schema)


def _result_file(folder: str, group: int) -> Path:
    return located(folder) / f"{group}{RESULT_SUFFIX}"


def _read_result(file: Path) -> pa.RecordBatch | None:
    """Read what a group has yielded when its task was tried before; None if it did not come to its end."""
    if not file.exists():
        return None
    with opened(file) as stream, pa.ipc.open_stream(stream) as reader:
        result: pa.RecordBatch = reader.read_next_batch()
    return result


def _write_result(file: Path, result: pa.RecordBatch) -> None:
    """Write a result, whole or not at all."""
    partial = file.with_suffix(".partial")
    with created(partial) as sink, pa.ipc.new_stream(sink, result.schema) as writer:
        writer.write_batch(result)
    moved(partial, file)
