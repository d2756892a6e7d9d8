"""Kill a worker, make its function fail, or give it a long chunk: runs recover, or publish nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
from benchmarks.lake_data import lake_path, write_deltas, write_seed
from captures import simulated_lines, write
from conftest import invoke
from faulted import books, build, into, rows
from places import SUPPORT
from pyspark.cloudpickle import register_pickle_by_value

import deltabook.jobs.pipeline.reconstruct
from deltabook.jobs.pipeline.reconstruct import RebuildInputs, RebuildSteps
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas import tables
from deltabook.schemas.names import HOUR

pytestmark = pytest.mark.spark

# Workers know nothing of this file: its functions go to them whole.
register_pickle_by_value(sys.modules[__name__])

USUAL, LONG = 2_000_000, 8_000_000
"""Level changes of an hour."""


def test_a_killed_worker_is_replaced_and_its_chunks_are_equal(spark, tmp_path, monkeypatch):
    raw = write(tmp_path / "raw.gz", simulated_lines(60))
    build("binance", [raw], tmp_path / "sound")
    rebuild_groups, mark = deltabook.jobs.pipeline.reconstruct.rebuild_groups, str(tmp_path / "killed")

    def dying_groups(root, writing):
        rebuild = rebuild_groups(root, writing)

        def rebuild_or_die(key, groups):
            import os
            import signal
            from pathlib import Path

            if not Path(mark).exists():
                Path(mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield from rebuild(key, groups)

        rebuild_or_die.__annotations__ = get_type_hints(rebuild)
        return rebuild_or_die

    monkeypatch.setattr(deltabook.jobs.pipeline.reconstruct, "rebuild_groups", dying_groups)
    run = build("binance", [raw], tmp_path / "w")
    assert (run.exit_status, Path(mark).exists()) == (0, True), run.said
    assert books(tmp_path / "w") == books(tmp_path / "sound") != []
    assert contents(tmp_path / "w") == contents(tmp_path / "sound")


def contents(warehouse: Path) -> list[bytes]:
    """Data files of `books`, as they are stored."""
    uris = open_table(warehouse, tables.BOOKS).file_uris()
    return sorted(Path(uri.removeprefix("file://")).read_bytes() for uri in uris)


MODULES = {
    "staged": "deltabook.jobs.intake.staged_files",
    "ingest": "deltabook.jobs.pipeline.ingest",
    "reconstruct": "deltabook.jobs.pipeline.reconstruct",
    "judge": "deltabook.jobs.pipeline.fidelity_suite",
}


def failing(module, name: str, tries: Path, fail):
    """Make a job's workers fail: `fail` runs in them, before the function that `name` of `module` makes."""
    make, told = getattr(module, name), str(tries)

    def making(*given):
        function = make(*given)

        def work(key, groups):
            with Path(told).open("a") as lines:
                lines.write("tried\n")
            fail()
            yield from function(key, groups)

        work.__annotations__, work.__name__ = get_type_hints(function), function.__name__
        return work

    return making


def raise_two_lines():
    raise ZeroDivisionError("poisoned,\nover two lines")


def poison_kernel():
    from deltabook.udfs.rebuild.rebuilder import Rebuilder

    Rebuilder.apply_events = lambda self, events: 1 // (0 * events.num_rows)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def ingested(spark, tmp_path):
    """A capture, and its warehouse before it is rebuilt."""
    raw = write(tmp_path / "raw.gz", simulated_lines(60))
    assert invoke("ingest", "binance", raw, *into(tmp_path / "w")).exit_status == 0
    return raw, tmp_path / "w"


@pytest.mark.parametrize(
    ("job", "name", "fail", "who", "why"),
    [
        ("staged", "stage_groups", raise_two_lines, "{raw}: stage failed", "poisoned, over two lines. "),
        ("ingest", "order_groups", raise_two_lines, "{whose}: order failed", "poisoned, over two lines. "),
        ("ingest", "order_groups", die, "{whose}: its worker process died", "lack of memory, or crashed. "),
        ("reconstruct", "rebuild_groups", die, "{whose}: its worker process died", "--master local[1]"),
        (
            "reconstruct",
            "rebuild_groups",
            poison_kernel,
            "{whose}, sequence {first} to {last} ({raw}, row {row}, to {raw}, row {end}): rebuild failed",
            "ZeroDivisionError: integer division or modulo by zero. ",
        ),
        ("judge", "judge_groups", raise_two_lines, "{whose}: judge failed", "poisoned, over two lines. "),
    ],
)
def test_a_group_that_fails_is_named_in_one_line_and_nothing_is_published(
    ingested, tmp_path, monkeypatch, job, name, fail, who, why
):
    raw, warehouse = ingested
    other = write(tmp_path / "other.gz", simulated_lines(40, "spot", "ETHUSDT", 4))
    if job in ("staged", "ingest"):
        raw, command = other, ("ingest", "binance", other)
    elif job == "reconstruct":
        command = ("reconstruct",)
    else:
        assert invoke("reconstruct", *into(warehouse)).exit_status == 0
        command = ("validate",)
    before = published_versions(warehouse)
    module = import_module(MODULES[job])
    with monkeypatch.context() as patched:
        patched.setattr(module, name, failing(module, name, tmp_path / "tries", fail))
        run = invoke(*command, *into(warehouse))
    assert (run.exit_status, run.stdout) == (2, "")
    line = run.stderr.splitlines()[-1]
    assert [line] == [line for line in run.stderr.splitlines() if " in " not in line]  # but for stages done
    events = rows(warehouse, tables.EVENTS, "sequence", "source_row")
    told = {
        "whose": f"BINANCE {'ETH' if raw == other else 'BTC'}-USDT, hour 2024-08-08T23:00:00Z",
        "raw": raw,
        "first": events[0]["sequence"],
        "last": events[-1]["sequence"],
        "row": events[0]["source_row"],
        "end": events[-1]["source_row"],
    }
    assert line.startswith("deltabook: " + who.format(**told)), line
    assert why in line
    assert "Nothing of this run is published" in line
    assert (tmp_path / "tries").read_text() == 2 * "tried\n"
    assert published_versions(warehouse) == before
    assert invoke(*command, *into(warehouse)).exit_status == 0


def test_a_longer_chunk_takes_no_more_memory(spark, tmp_path):
    peaks = [peak_of_hour(spark, tmp_path / str(count), count) for count in (USUAL, LONG)]
    assert peaks[1] < 1.2 * peaks[0]


def peak_of_hour(spark, folder: Path, changes: int) -> int:
    """Most memory that rebuilding an hour of so many level changes takes, KiB."""
    write_deltas(lake_path(folder, "book_delta_v2"), changes, message_nanoseconds=HOUR * 20 // changes)
    write_seed(lake_path(folder, "book"))
    assert invoke("ingest", "crypto_lake", folder, *into(folder / "w")).exit_status == 0
    warehouse = Warehouse(spark, load_settings(None, {"warehouse": folder / "w", "seed": "golden"}))
    inputs = RebuildInputs.read(warehouse)
    steps = dict.fromkeys(inputs.files, RebuildSteps(changed=True, chained=True, replayed=True))
    assert len(steps) == 2  # the first message is of the hour before
    (references := folder / "references").write_text(json.dumps(inputs.make_references(steps, {})))
    program = SUPPORT / "rebuilding_process.py"
    done = subprocess.run(
        [sys.executable, program, folder / "w", references], capture_output=True, text=True, check=True
    )
    peak, files = json.loads(done.stdout)
    assert files == 2
    return peak
