"""Packs groups into a few Spark tasks, and stores the result of each group in a file.

A group is the unit of work of one function: one chunk, symbol or symbol-day. The rows of a group are
references: each row names the data files that a worker reads.

Every Spark task has a fixed cost: 10 ms in the JVM and a round trip to Python. So several groups share a
task, and all tasks have about equal cost. A worker writes the result of a group to a small file as soon as
the group is done. These result files have three uses:

- A retried task skips the groups that have a result file.
- The driver counts the result files to show progress.
- If a task dies, the first group of the task without a result file is the group that killed the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from heapq import heapreplace
from pathlib import Path

import pandas as pd
import pyarrow as pa

from deltabook.udfs.storage.arrow_frames import GroupFunction, GroupKey, to_batch, to_frame
from deltabook.udfs.storage.locations import parse_location
from deltabook.udfs.storage.object_store import create_file, move_file, open_input

GROUP, TASK = "group", "task"
"""Columns that are added to references.

`group` is the number of the group, in the order of the references. `task` is the number of the group's task.
"""
RESULT_SUFFIX = ".arrow"
"""Ending of the files that hold the results of finished groups."""

TaskFunction = Callable[[GroupKey, pd.DataFrame, pd.DataFrame], pd.DataFrame]
"""A function for `groupBy(task).cogroup(…).applyInPandas`; it takes a task's key and two frames."""


def assign_tasks(costs: Sequence[float], max_tasks: int) -> list[int]:
    """Return the task of each group, so that all tasks have about equal cost.

    Groups are assigned in descending order of cost, each to the task with the lowest cost so far.

    Parameters
    ----------
    costs : sequence of float
        Estimated cost of each group, in any unit, 0 or more.
    max_tasks : int
        Maximum number of tasks, 1 or more.

    Returns
    -------
    list of int
        Number of the task of each group, from 0. Task 0 is the costliest, because Spark starts tasks in the
        order of their numbers.
    """
    count = min(max_tasks, len(costs))
    # A heap of (cost, number of groups, task). At equal cost, the task with fewer groups gets the next group.
    loads = [(0.0, 0, task) for task in range(count)]
    tasks = [0] * len(costs)
    for group in sorted(range(len(costs)), key=lambda group: -costs[group]):
        load, groups, task = loads[0]
        tasks[group] = task
        heapreplace(loads, (load + costs[group], groups + 1, task))
    costliest_first = sorted(loads, key=lambda load: (-load[0], load[2]))
    number = {task: rank for rank, (_, _, task) in enumerate(costliest_first)}
    return [number[task] for task in tasks]


def store_results(function: GroupFunction, folder: str, schema: pa.Schema) -> GroupFunction:
    """Wrap a function so that it stores the result of each group, and returns a stored result at a retry.

    Parameters
    ----------
    function : callable
        Function that processes one group.
    folder : str
        Folder for the result files of finished groups.
    schema : pyarrow.Schema
        Schema of what `function` yields.

    Returns
    -------
    callable
        Function that processes one group and yields the group's result as one frame. The rows of the group
        must have the column `group`, which contains the number of the group. The result file is named after
        this number.
    """

    @wraps(function)
    def apply(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        frames = list(groups)
        file = _get_result_file(folder, int(frames[0][GROUP].iloc[0]))
        result = _read_result(file)
        if result is None:
            batches = [to_batch(frame, schema) for frame in function(key, iter(frames))]
            result = _join_batches(batches, schema)
            _write_result(file, result)
        yield to_frame(result)

    return apply


def make_task_function(function: GroupFunction, keys: Sequence[str], schema: pa.Schema) -> TaskFunction:
    """Return a function that processes all groups of one Spark task.

    Parameters
    ----------
    function : callable
        Function that processes one group. It takes the key and the frames of the group.
    keys : sequence of str
        Columns whose values are the key of a group.
    schema : pyarrow.Schema
        Schema of what `function` yields.

    Returns
    -------
    callable
        Function for `groupBy(task).cogroup(…).applyInPandas`. It takes the task's references and returns the
        results of all groups, joined.
    """

    def apply(key: GroupKey, references: pd.DataFrame, unused: pd.DataFrame) -> pd.DataFrame:
        results = [
            to_batch(frame, schema)
            for _, rows in references.groupby(GROUP)
            for frame in function(tuple(rows.iloc[0][[*keys]]), iter([rows]))
        ]
        return to_frame(_join_batches(results, schema))

    return apply


def _join_batches(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Return one batch with the rows of all batches; an empty batch if there are no rows."""
    joined = pa.Table.from_batches(batches, schema=schema).combine_chunks().to_batches()
    return joined[0] if joined else pa.RecordBatch.from_pylist([], schema=schema)


def _get_result_file(folder: str, group: int) -> Path:
    return parse_location(folder) / f"{group}{RESULT_SUFFIX}"


def _read_result(file: Path) -> pa.RecordBatch | None:
    """Return the stored result of a group; None if an earlier attempt did not finish the group."""
    if not file.exists():
        return None
    with open_input(file) as stream, pa.ipc.open_stream(stream) as reader:
        result: pa.RecordBatch = reader.read_next_batch()
    return result


def _write_result(file: Path, result: pa.RecordBatch) -> None:
    """Write a result under a temporary name, then rename the file: no reader sees an incomplete file."""
    partial = file.with_suffix(".partial")
    with create_file(partial) as sink, pa.ipc.new_stream(sink, result.schema) as writer:
        writer.write_batch(result)
    move_file(partial, file)
