"""Pack groups into tasks: tasks cost about the same, and a repeated task skips its finished groups."""

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import cases

from deltabook.udfs.spark.packing import GROUP, TASK, assign_tasks, make_task_function, store_results
from deltabook.udfs.storage.arrow_frames import to_frame

RESULT = pa.schema([("symbol", pa.string()), ("hours", pa.list_(pa.int64()))])


@cases(200)
@given(st.lists(st.floats(0, 1e12) | st.just(0.0), max_size=300), st.integers(1, 40))
@example([0.0] * 100, 8)
@example([10.0] + [1.0] * 10, 2)
def test_every_group_has_one_task_and_no_task_is_dearer_than_it_must_be(costs, most):
    tasks = assign_tasks(costs, most)
    count = min(most, len(costs))
    assert (len(tasks), {*tasks}) == (len(costs), {*range(count)})
    loads, sizes = [0.0] * count, [0] * count
    for cost, task in zip(costs, tasks, strict=True):
        loads[task] += cost
        sizes[task] += 1
    for load, next_load in pairwise(loads):
        assert load >= next_load * (1 - 1e-9)
    if costs:
        assert max(loads) <= (sum(costs) / count + max(costs)) * (1 + 1e-9)
        assert any(costs) or max(sizes) - min(sizes) <= 1


class Groups:
    """References of three symbols, and a function that notes which it was applied to."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.applied: list[str] = []
        self.fails = ""

    def run(self) -> list[dict]:
        rows = [("AAA", 1, 0), ("BBB", 7, 1), ("AAA", 2, 0), ("CCC", 5, 2)]
        references = pd.DataFrame(rows, columns=["symbol", "hour", GROUP]).assign(**{TASK: 0})
        function = make_task_function(store_results(self.apply, str(self.folder), RESULT), ["symbol"], RESULT)
        frame = function((0,), references, pd.DataFrame())
        return pa.table({name: pa.array(frame[name].array) for name in frame}).to_pylist()

    def apply(self, key, frames):
        (symbol,), (frame,) = key, frames
        self.applied.append(symbol)
        if symbol == self.fails:
            raise ZeroDivisionError(symbol)
        if symbol != "BBB":
            row = {"symbol": symbol, "hours": frame["hour"].tolist()}
            yield to_frame(pa.RecordBatch.from_pylist([row], schema=RESULT))


EXPECTED = [{"symbol": "AAA", "hours": [1, 2]}, {"symbol": "CCC", "hours": [5]}]


def test_each_group_is_applied_once_with_its_own_rows_and_may_yield_nothing(tmp_path):
    groups = Groups(tmp_path / "results")
    assert groups.run() == EXPECTED
    assert groups.applied == ["AAA", "BBB", "CCC"]


@pytest.mark.parametrize("fails", ["AAA", "BBB", "CCC"])
def test_a_task_that_is_tried_again_skips_the_groups_that_are_done(tmp_path, fails):
    groups = Groups(tmp_path / "results")
    groups.fails = fails
    with pytest.raises(ZeroDivisionError):
        groups.run()
    groups.fails, first = "", groups.applied
    groups.applied = []
    assert groups.run() == EXPECTED
    assert groups.applied == ["AAA", "BBB", "CCC"][len(first) - 1 :]


def test_a_result_that_was_being_written_is_none(tmp_path):
    groups = Groups(tmp_path)
    (tmp_path / "0.partial").write_bytes(b"half of it")
    assert groups.run() == EXPECTED
