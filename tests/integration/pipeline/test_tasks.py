"""Pack groups into few Spark tasks: each group is done once, progress is shown, and no memory is lost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyspark.cloudpickle import register_pickle_by_value

from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.warehouse.tasks import GroupedWork, sum_file_sizes
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Column, Table
from deltabook.udfs.storage.arrow_frames import to_frame

pytestmark = pytest.mark.spark

# Workers know nothing of this file: its functions go to them whole.
register_pickle_by_value(sys.modules[__name__])

REFERENCES = Table("references", "A number.", (Column("symbol", "STRING", "Its name."),))
RESULTS = Table(
    "results",
    "What came of it.",
    (Column("symbol", "STRING", "Its name."), Column("task", "BIGINT", "The Spark partition.")),
)


def note_task(key: tuple[Any, ...], frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    from pyspark import TaskContext

    task = TaskContext.get().partitionId()
    yield to_frame(pa.RecordBatch.from_pylist([{"symbol": key[0], "task": task}], schema=RESULTS.arrow))


def unfreed(spark) -> tuple[int, int]:
    """Return how many Arrow allocators the JVM has not closed, and their bytes."""
    root = spark.sparkContext._jvm.org.apache.spark.sql.util.ArrowUtils.rootAllocator()
    return root.getChildAllocators().size(), root.getAllocatedMemory()


@pytest.fixture
def warehouse(spark, tmp_path):
    return Warehouse(spark, load_settings(None, {"warehouse": str(tmp_path / "w")}))


def numbered(count: int) -> list[dict[str, str]]:
    return [{"symbol": f"S{number}"} for number in range(count)]


@pytest.mark.parametrize(("groups", "tasks"), [(1, 1), (3, 3), (8, 8), (500, 8)])
def test_groups_share_four_tasks_a_core_and_each_is_done_once(warehouse, groups, tasks):
    found = warehouse.apply(GroupedWork(REFERENCES, numbered(groups), ["symbol"], note_task, RESULTS))
    assert sorted(row.symbol for row in found) == sorted(row["symbol"] for row in numbered(groups))
    assert {row.task for row in found} == {*range(tasks)}
    assert not any(warehouse.staging.glob("*"))


def test_the_most_expensive_group_has_the_first_task_alone(warehouse):
    costs = [1] * 50 + [1000] + [1] * 49
    found = warehouse.apply(GroupedWork(REFERENCES, numbered(100), ["symbol"], note_task, RESULTS, costs))
    assert [row.symbol for row in found if row.task == 0] == ["S50"]


def test_cost_is_the_size_of_files_and_a_missing_file_costs_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    files = [{"of": [str(tmp_path / "a")] * 2}, {"of": [str(tmp_path / "missing")]}, {"of": []}]
    assert sum_file_sizes(files, "of") == [6, 0, 0]


def test_finished_groups_are_shown_while_others_run(warehouse):
    def slow(key, frames):
        import time

        time.sleep(0.02)
        yield from note_task(key, frames)

    shown: list[int] = []
    warehouse.apply(GroupedWork(REFERENCES, numbered(100), ["symbol"], slow, RESULTS), shown.append)
    assert any(0 < done < 100 for done in shown)
    assert shown == sorted(shown)


def test_tasks_of_packed_groups_leave_no_direct_memory_behind(spark, warehouse):
    before = unfreed(spark)
    for _ in range(5):
        warehouse.apply(GroupedWork(REFERENCES, numbered(40), ["symbol"], note_task, RESULTS))
    assert unfreed(spark) == before


def test_spark_itself_still_leaves_memory_of_a_grouped_map_behind(spark):
    """Where this fails, Spark has been mended: `tasks` and `live` need to cogroup no longer."""

    def count(key, table):
        return pa.table({"n": pa.array([table.num_rows], pa.int64())})

    allocators, size = unfreed(spark)
    numbers = spark.range(4).selectExpr("CAST(id AS INT) AS id")
    groups = numbers.repartitionById(4, "id").groupBy("id").applyInArrow(count, "n BIGINT")
    assert len(groups.collect()) == 4
    more_allocators, more_bytes = unfreed(spark)
    assert more_allocators == allocators + 4
    assert more_bytes > size + 4 * 10_000
