"""Spark jobs over groups of references: packed into a few tasks, counted as they finish, failures named."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession

from deltabook.jobs.process.crash_points import crash_points
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WorkError
from deltabook.udfs.spark.packing import GROUP, RESULT_SUFFIX, TASK, kept, pack, packed
from deltabook.udfs.storage.arrow_frames import Group
from deltabook.udfs.storage.object_store import bytes_of, is_remote, names_in_folder, remove_tree
from deltabook.udfs.storage.worker_errors import dead_task, dead_worker, naming

_TASKS_A_CORE = 4
"""Enough for cores to end at about the same time, where costs are only estimated."""
_POLL_SECONDS, _POLL_STORE_SECONDS = 0.3, 3.0


@dataclass(frozen=True)
class Work:
    """A function and the groups of references that it is applied to.

    Attributes
    ----------
    shape : Table
        Columns of the references.
    references : sequence of dict
        Rows in that shape.
    keys : sequence of str
        Columns whose values make a group.
    function : callable
        Takes the key and the frames of one group.
    result : Table
        Columns of the rows that it yields.
    costs : sequence of float, optional
        Estimated cost of each reference, in any unit; None: all cost the same.
    """

    shape: Table
    references: Sequence[dict[str, Any]]
    keys: Sequence[str]
    function: Group
    result: Table
    costs: Sequence[float] | None = None


def apply_packed(
    spark: SparkSession, work: Work, cores: int, root: Path, scratch: Path, show: Callable[[int], None]
) -> list[Row]:
    """Apply a function to each group of references.

    Parameters
    ----------
    spark : SparkSession
        Runs the tasks.
    work : Work
        The function and its references, at least one.
    cores : int
        How many tasks run at once.
    root : Path
        What the function writes into, for messages.
    scratch : Path
        Folder that driver and workers reach, for the results of finished groups; a folder in it is made and
        removed.
    show : callable
        Is told how many groups are done, several times a second.

    Returns
    -------
    list of Row
        All rows that the function has yielded.

    Raises
    ------
    WorkError
        If the function fails for a group, or its worker dies, each time that it is tried: names the group.
    """
    groups = _groups(work)
    costs = work.costs or [1.0] * len(work.references)
    cost_of_group = [0.0] * (max(groups) + 1)
    for group, cost in zip(groups, costs, strict=True):
        cost_of_group[group] += cost
    task_of_group = pack(cost_of_group, cores * _TASKS_A_CORE)
    tasks = [task_of_group[group] for group in groups]
    folder = scratch / f"results-{uuid.uuid4()}"
    try:
        with _counted(folder, show), crash_points("work", work.result.name):
            return _run(spark, work, groups, tasks, folder, root)
    except (PySparkException, Py4JError) as error:
        task = dead_task(str(error))
        if task is None:
            raise
        dead = [one for one in range(len(groups)) if tasks[one] == task and groups[one] not in _done(folder)]
        whose = [work.references[one] for one in dead if groups[one] == min(groups[one] for one in dead)]
        raise WorkError(dead_worker(whose or [work.references[tasks.index(task)]])) from error
    finally:
        remove_tree(folder)


def bytes_read(references: Sequence[Mapping[str, Any]], *columns: str) -> list[int]:
    """Return how many bytes the files of each reference have, as an estimate of its cost.

    Parameters
    ----------
    references : sequence of mapping
        Rows.
    *columns : str
        Those that hold lists of files. A file that is not there counts 0: the worker tells of it.
    """
    of_references = [[file for column in columns for file in row[column]] for row in references]
    files = [*{file for of_reference in of_references for file in of_reference}]
    sizes = dict(zip(files, bytes_of(files), strict=True))
    return [sum(sizes[file] for file in of_reference) for of_reference in of_references]


def _groups(work: Work) -> list[int]:
    """Number the groups in the order of their first references; return that of each reference."""
    numbers: dict[tuple[Any, ...], int] = {}
    return [
        numbers.setdefault(tuple(row[name] for name in work.keys), len(numbers)) for row in work.references
    ]


def _run(
    spark: SparkSession, work: Work, groups: list[int], tasks: list[int], folder: Path, root: Path
) -> list[Row]:
    rows = pa.Table.from_pylist([*work.references], schema=work.shape.arrow)
    for name, numbers in ((GROUP, groups), (TASK, tasks)):
        rows = rows.append_column(name, pa.array(numbers, pa.int32()))
    count = max(tasks) + 1
    references = spark.createDataFrame(rows, f"{work.shape.ddl}, {GROUP} INT, {TASK} INT")
    # Spark 4.1 never frees the first Arrow buffers of a grouped map, about 0.1 to 0.5 MB of direct memory a
    # task. That of two cogrouped frames has none, so the references are cogrouped with their tasks' numbers.
    numbers = pa.table({TASK: pa.array(range(count), pa.int32())})
    partners = spark.createDataFrame(numbers, f"{TASK} INT")
    schema = work.result.arrow
    function = packed(naming(kept(work.function, str(folder), schema), str(root)), work.keys, schema)
    # A reference goes to the partition of its task's number, so no further exchange is needed to group.
    left, right = (frame.repartitionById(count, TASK).groupBy(TASK) for frame in (references, partners))
    return left.cogroup(right).applyInPandas(function, work.result.ddl).collect()


@contextmanager
def _counted(folder: Path, show: Callable[[int], None]) -> Iterator[None]:
    """Tell how many groups are done, until the context ends."""
    ended = threading.Event()
    seconds = _POLL_STORE_SECONDS if is_remote(folder) else _POLL_SECONDS

    def poll() -> None:
        while not ended.wait(seconds):
            show(len(_done(folder)))

    poller = threading.Thread(target=poll, daemon=True)
    poller.start()
    try:
        yield
    finally:
        ended.set()
        poller.join()


def _done(folder: Path) -> set[int]:
    """Return the numbers of the groups that have a result."""
    names = names_in_folder(folder)
    return {int(name.removesuffix(RESULT_SUFFIX)) for name in names if name.endswith(RESULT_SUFFIX)}
