"""Several processes on one warehouse: one process writes at a time, and readers see only published states."""

from __future__ import annotations

import json
import shutil
import time
from itertools import pairwise

import pytest
from crashing import (
    COUNTED,
    assert_each_file_is_in_once,
    assert_same,
    counting,
    counts,
    drivers,
    late_file,
    new_warehouse,
    runs,
    state,
)
from deltalake import DeltaTable, write_deltalake

from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.tables.published import published_versions
from deltabook.schemas.tables import TABLES

pytestmark = pytest.mark.spark


def held(folder, point, *commands):
    """Start a driver, and return when it has reached a point and stays there."""
    number = drivers().start(*commands, hold_at=point, folder=str(folder))
    while not (folder / "held").exists():
        time.sleep(0.01)
    return number


def statuses(told):
    return [status for status, *_ in told["outcomes"]]


def test_two_concurrent_ingests_of_one_file_ingest_it_once(tmp_path):
    late = late_file()
    late.put_back(0)
    before = runs(late.warehouse)
    first = held(tmp_path, "add.events.before:1", late.commands[0])
    second = drivers().start(late.commands[0])
    (tmp_path / "on").touch()
    told = [drivers().result(number) for number in (first, second)]
    assert [statuses(one) for one in told] == [late.statuses[:1], late.statuses[:1]]
    read = [json.loads(one["outcomes"][0][1].splitlines()[-1])["files_read"] for one in told]
    assert read == [1, 0]
    assert runs(late.warehouse) == before + 2
    assert_same(state(late.warehouse), late.states[1], "both done")
    assert_each_file_is_in_once(late.warehouse)


def test_two_concurrent_ingests_of_two_files_ingest_both(tmp_path):
    new = new_warehouse()
    new.put_back(0)
    command, source, first, other, *how = new.commands[0]
    numbers = [held(tmp_path, "overwrite.hours.before:1", (command, source, first, *how))]
    numbers.append(drivers().start((command, source, other, *how)))
    (tmp_path / "on").touch()
    assert [statuses(drivers().result(number)) for number in numbers] == [[0], [0]]
    assert_each_file_is_in_once(new.warehouse)
    names = ("events", "golden", "hours", "instruments", "files")
    found, expected = ({name: of[name] for name in names} for of in (state(new.warehouse), new.states[1]))
    assert_same(found, expected, "both done")


def test_a_reconstruct_that_starts_during_an_ingest_rebuilds_what_it_has_read(tmp_path):
    late = late_file()
    late.put_back(0)
    first = held(tmp_path, "add.events.before:1", late.commands[0])
    second = drivers().start(*late.commands[1:])
    (tmp_path / "on").touch()
    assert statuses(drivers().result(first)) + statuses(drivers().result(second)) == late.statuses
    assert_same(state(late.warehouse), late.states[-1], "both done")


def test_a_writer_that_cannot_get_the_lock_is_refused_and_changes_nothing(tmp_path):
    late = late_file()
    late.put_back(0)
    first = held(tmp_path, "add.events.after:1", late.commands[0])
    told = drivers().run(late.commands[1])
    assert_same(state(late.warehouse), late.states[0], "while the first is held")
    (tmp_path / "on").touch()
    [(status, stdout, stderr)] = told["outcomes"]
    assert (status, stdout) == (4, "")
    assert "is being written by another process: wait for it" in " ".join(stderr.split())
    assert statuses(drivers().result(first)) == late.statuses[:1]
    assert_same(state(late.warehouse), late.states[1], "the first is done")


def test_readers_see_only_published_states_during_a_rebuild():
    late, names = late_file(), (*COUNTED, "books", "gaps", "verdicts", "fidelity")
    late.put_back(0)
    seen = [late.states.index(state(late.warehouse))]
    writer = drivers().start(*late.commands)
    reader = drivers().start(*[counting(late.warehouse, names)] * 4)
    while seen[-1] < len(late.commands):
        seen.append(late.states.index(state(late.warehouse)))
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert statuses(drivers().result(writer)) == late.statuses
    expected = [counts(late.folder / str(step), names) for step in range(len(late.states))]
    assert all(one != other for one, other in pairwise(expected))
    told = drivers().result(reader)["outcomes"]
    assert [status for status, *_ in told] == [0] * 4, told
    counted = [expected.index(json.loads(stdout)) for _, stdout, _ in told]
    assert counted == sorted(counted)


@pytest.mark.parametrize(
    ("point", "step"),
    [("delete.events.before:1", 0), ("overwrite.files.before:1", 0), ("delete.books.before:1", 1)],
)
def test_a_foreign_commit_during_a_run_is_an_error_and_is_rolled_back(tmp_path, point, step):
    """Nobody else is to write there; who does meets Delta's own protection, and changes nothing."""
    late = late_file()
    late.put_back(step)
    name = point.split(".")[1]
    number = held(tmp_path, point, late.commands[step])
    table = DeltaTable(late.warehouse / name)
    rows = table.to_pyarrow_table()
    write_deltalake(table, rows.slice(0, 1), mode="overwrite")
    (tmp_path / "on").touch()
    [(status, _, stderr)] = drivers().result(number)["outcomes"]
    assert_same(state(late.warehouse), late.states[step], "after the conflict")
    assert status == 2, stderr
    lines = [line for line in stderr.splitlines() if line.startswith("deltabook: ")]
    assert len(lines) == 1
    assert f"table {late.warehouse / name} was changed by another program" in lines[0]
    assert "nothing of this run is published" in lines[0]
    assert statuses(drivers().run(late.commands[step])) == [late.statuses[step]]
    assert_same(state(late.warehouse), late.states[step + 1], "run again")
    versions = published_versions(late.warehouse)
    assert versions[name] == open_table(late.warehouse, TABLES[name]).version()


def test_a_lock_file_of_a_dead_process_does_not_block_others():
    new = new_warehouse()
    shutil.rmtree(new.warehouse, ignore_errors=True)
    new.warehouse.mkdir()
    (new.warehouse / ".lock").touch()
    assert statuses(drivers().run(new.commands[0])) == [0]
    assert_same(state(new.warehouse), new.states[1], "done")
