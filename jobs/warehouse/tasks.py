"""Apply a function to groups of references in a few Spark tasks of about equal cost.

A reference is one row that tells a worker what to do, such as which files to read. References with equal keys
form a group. The driver shows how many groups are finished. If a group fails, the error names the group.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession

from deltabook.jobs.process.crash_points import crash_points
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WorkError
from deltabook.udfs.spark.packing import (
    GROUP,
    RESULT_SUFFIX,
    TASK,
    assign_tasks,
    make_task_function,
    store_results,
)
from deltabook.udfs.storage.arrow_frames import GroupFunction
from deltabook.udfs.storage.locations import is_remote
from deltabook.udfs.storage.object_store import get_file_sizes, list_folder_names, remove_tree
from deltabook.udfs.storage.worker_errors import describe_dead_worker, find_dead_task, name_group_in_errors

_TASKS_PER_CORE = 4
"""Number of tasks for each core.

Costs are only estimates. With several tasks for each core, all cores still finish at about the same time.
"""
_POLL_SECONDS, _POLL_STORE_SECONDS = 0.3, 3.0
"""Seconds between two counts of finished groups: in a local folder, and in an object store."""


@dataclass(frozen=True)
class GroupedWork:
    """A function, and the groups of references that it is applied to.

    Attributes
    ----------
    shape : Table
        Columns of the references.
    references : sequence of mapping
        Rows with the columns of `shape`. Each row tells a worker what to do, such as which files to read.
    keys : sequence of str
        Names of the columns whose values identify a group.
    function : callable
        Function from the key and the frames of one group to an iterator of frames with the columns of
        `result`.
    result : Table
        Columns of the rows that the function yields.
    costs : sequence of float, optional
        Estimated cost of each reference, in any unit. None means that all references cost the same.
    """

    shape: Table
    references: Sequence[Mapping[str, object]]
    keys: Sequence[str]
    function: GroupFunction
    result: Table
    costs: Sequence[float] | None = None


def apply_to_groups(
    spark: SparkSession, work: GroupedWork, cores: int, root: Path, scratch: Path, show: Callable[[int], None]
) -> list[Row]:
    """Apply a function to each group of references and return all rows that the function yields.

    Parameters
    ----------
    spark : SparkSession
        Session that runs the tasks.
    work : GroupedWork
        Function to apply, and at least one reference.
    cores : int
        Number of tasks that run at the same time.
    root : Path
        Folder that the function writes into. Error messages name this folder.
    scratch : Path
        Folder that the driver and the workers can reach. A temporary folder inside it holds the results of
        finished groups.
    show : callable
        Function that is called with the number of finished groups while the tasks run.

    Returns
    -------
    list of Row
        Rows with the columns of `work.result`.

    Raises
    ------
    WorkError
        If all attempts for a group fail, because the function raises an error or its worker dies. The message
        names the group.
    """
    groups = _number_groups(work)
    tasks = _assign_tasks(work, groups, cores)
    folder = scratch / f"results-{uuid.uuid4()}"
    try:
        with _showing_progress(folder, show), crash_points("work", work.result.name):
            return _run_tasks(spark, work, groups, tasks, folder, root)
    except (PySparkException, Py4JError) as error:
        task = find_dead_task(str(error))
        if task is None:
            raise
        raise WorkError(describe_dead_worker(_find_lost_group(work, groups, tasks, task, folder))) from error
    finally:
        remove_tree(folder)


def sum_file_sizes(references: Sequence[Mapping[str, object]], *columns: str) -> list[int]:
    """Return the total size in bytes of the files that each reference names, to estimate costs.

    Parameters
    ----------
    references : sequence of mapping
        Rows that name files.
    *columns : str
        Names of the columns that hold lists of files. A missing file counts as 0 bytes; the worker that tries
        to read the file reports the error.
    """
    files_of_references = [
        [file for column in columns for file in cast(Sequence[str], row[column])] for row in references
    ]
    files = [*{file for files_of_reference in files_of_references for file in files_of_reference}]
    sizes = dict(zip(files, get_file_sizes(files), strict=True))
    return [sum(sizes[file] for file in files_of_reference) for files_of_reference in files_of_references]


def _number_groups(work: GroupedWork) -> list[int]:
    """Return the group number of each reference.

    Groups are numbered from 0 in the order of their first references.
    """
    numbers: dict[tuple[object, ...], int] = {}
    return [
        numbers.setdefault(tuple(row[name] for name in work.keys), len(numbers)) for row in work.references
    ]


def _assign_tasks(work: GroupedWork, groups: list[int], cores: int) -> list[int]:
    """Return the task number of each reference, chosen so that all tasks cost about the same.

    `groups` has the group number of each reference.
    """
    costs = work.costs or [1.0] * len(work.references)
    cost_of_group = [0.0] * (max(groups) + 1)
    for group, cost in zip(groups, costs, strict=True):
        cost_of_group[group] += cost
    task_of_group = assign_tasks(cost_of_group, cores * _TASKS_PER_CORE)
    return [task_of_group[group] for group in groups]


def _find_lost_group(
    work: GroupedWork, groups: list[int], tasks: list[int], task: int, folder: Path
) -> list[Mapping[str, object]]:
    """Return the references of the first unfinished group of a task.

    If all groups of the task are finished, the result is the first reference of the task. `groups` and
    `tasks` have the group number and the task number of each reference. `folder` has the result files of
    finished groups.
    """
    finished = _list_finished_groups(folder)
    lost = [
        group
        for group, task_of_group in zip(groups, tasks, strict=True)
        if task_of_group == task and group not in finished
    ]
    if not lost:
        return [work.references[tasks.index(task)]]
    return [row for row, group in zip(work.references, groups, strict=True) if group == min(lost)]


def _run_tasks(
    spark: SparkSession, work: GroupedWork, groups: list[int], tasks: list[int], folder: Path, root: Path
) -> list[Row]:
    """Run the Spark tasks and return all rows that the function yields.

    `groups` and `tasks` hold the group number and the task number of each reference.
    """
    rows = pa.Table.from_pylist([*work.references], schema=work.shape.arrow)
    for name, numbers in ((GROUP, groups), (TASK, tasks)):
        rows = rows.append_column(name, pa.array(numbers, pa.int32()))
    count = max(tasks) + 1
    references = spark.createDataFrame(rows, f"{work.shape.ddl}, {GROUP} INT, {TASK} INT")
    # Use a cogrouped map of the references and the task numbers instead of a grouped map of the references.
    # In a grouped map, Spark 4.1 never frees the first Arrow buffers: 0.1 to 0.5 MB of direct memory per
    # task. A cogrouped map has no such leak.
    task_numbers = pa.table({TASK: pa.array(range(count), pa.int32())})
    partners = spark.createDataFrame(task_numbers, f"{TASK} INT")
    schema = work.result.arrow
    storing = store_results(work.function, str(folder), schema)
    function = make_task_function(name_group_in_errors(storing, str(root)), work.keys, schema)
    # `repartitionById` sends each reference to the partition of its task number, so the grouping needs no
    # further shuffle.
    left, right = (frame.repartitionById(count, TASK).groupBy(TASK) for frame in (references, partners))
    return left.cogroup(right).applyInPandas(function, work.result.ddl).collect()


@contextmanager
def _showing_progress(folder: Path, show: Callable[[int], None]) -> Iterator[None]:
    """While the block runs, call `show` with the number of finished groups at regular intervals."""
    is_ended = threading.Event()
    seconds = _POLL_STORE_SECONDS if is_remote(folder) else _POLL_SECONDS

    def poll() -> None:
        while not is_ended.wait(seconds):
            try:
                count = len(_list_finished_groups(folder))
            except OSError:
                continue  # the tasks use the same store, and report an error that lasts
            show(count)

    poller = threading.Thread(target=poll, daemon=True)
    poller.start()
    try:
        yield
    finally:
        is_ended.set()
        poller.join()


def _list_finished_groups(folder: Path) -> set[int]:
    """Return the numbers of the groups that have a result file in a folder."""
    names = list_folder_names(folder)
    return {int(name.removesuffix(RESULT_SUFFIX)) for name in names if name.endswith(RESULT_SUFFIX)}
