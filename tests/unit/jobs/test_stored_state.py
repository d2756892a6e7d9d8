"""Names stored in warehouses do not change with the code. A warehouse of version 0.1.0 needs no rebuild."""

from __future__ import annotations

import ast
import json
import tarfile
from collections import defaultdict
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest
from captures import simulated_lines, write
from conftest import invoke
from kept import rows_of
from places import PROJECT, TESTS

from deltabook.jobs.runtime.session import DAEMON
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import DeltabookError
from deltabook.schemas.fingerprints import Fingerprint, first_text_of, values_of
from deltabook.schemas.names import Cadence, OnGap, RowPolicy
from deltabook.schemas.tables import RUNS
from deltabook.udfs import numba_kernel

EARLIER = TESTS / "data" / "warehouse-0.1.0.tar.xz"
"""Made by `run`: half of a simulated Binance capture with a gap, and three small Crypto Lake files."""
OF_BOOKS = ("--cadence", "change,1s", "--seed", "golden")
SETTINGS = ("--chunk", "2s", *OF_BOOKS)
ROOT = PROJECT
CRASH_POINTS = {
    "archive",
    "copy",
    "lock.warehouse.after",
    "remove",
    "repair.done.before",
    "repair.reverse.before",
    "repair.step.after",
    "repair.step.before",
    "repair.step.inside",
    "repair.steps.after",
    "work",
    "write",
}
WRITING = RowPolicy(depth=7, cadence="change", grids=("1s",), on_gap=OnGap.WAIT)


@pytest.fixture
def earlier(tmp_path) -> Path:
    with tarfile.open(EARLIER) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "w"


def test_the_fingerprint_of_named_values_is_pinned():
    made = Fingerprint.of("books", {"b": [1, "x"], "a": values_of(WRITING)}, ["1", "x"])
    assert made == Fingerprint("9f9da19e1a7498e8", "16c10dfd2a1bf252")
    assert made.fits(made.value)
    assert made.fits(made.first)
    assert not made.fits(None)


def test_settings_of_rows_have_the_first_forms_text():
    assert first_text_of(WRITING) == (
        "Writing(depth=7, cadence='change', grids=('1s',), on_gap=<OnGap.WAIT: 'wait'>, "
        "silence=3600000000000, ofi_levels=5, checkpoint_every=500000)"
    )


def test_every_setting_of_rows_is_in_both_forms():
    other = RowPolicy(8, Cadence.MESSAGE, ("5m",), OnGap.RAISE, 1, 2, 3)
    for name in vars(other):
        changed = RowPolicy(**(vars(WRITING) | {name: getattr(other, name)}))
        assert values_of(changed) != values_of(WRITING), name
        assert first_text_of(changed) != first_text_of(WRITING), name


def test_the_fingerprint_of_settings_is_pinned():
    assert load_settings(None, {}).fingerprint == "b9dcb1175b1f1b9c"


def test_names_of_crash_points_are_pinned():
    """`make test-crash` names them, and so do notes of what was survived."""
    paths = [path for room in ("jobs", "udfs", "expectations") for path in (ROOT / room).rglob("*.py")]
    calls = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    found = {
        call.args[0].value
        for call in calls
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") in ("crash_point", "crash_points")
        and isinstance(call.args[0], ast.Constant)
    }
    assert found == CRASH_POINTS


def test_names_that_are_looked_up_by_text_are_there():
    from deltabook.jobs.process.error_causes import OWN_ERRORS

    assert f"{DeltabookError.__module__}." == OWN_ERRORS
    assert find_spec(DAEMON) is not None


def test_kernels_are_compiled_again_when_any_source_of_theirs_changes():
    every = {path for room in ("udfs", "schemas") for path in (ROOT / room).rglob("*.py")}
    texts = {
        *numba_kernel._read_sources(files("deltabook.udfs")),
        *numba_kernel._read_sources(files("deltabook.schemas")),
    }
    assert texts == {path.read_text() for path in every}


@pytest.mark.spark
def test_a_warehouse_of_an_earlier_version_goes_on_without_being_built_again(spark, earlier, tmp_path):
    before = rows_of(earlier)
    again = invoke("reconstruct", "--warehouse", earlier, *OF_BOOKS, "--json")
    assert (again.summary["symbol_hours"], again.summary["symbol_hours_rebuilt"]) == (6, 0)
    assert rows_of(earlier) == before
    lines = simulated_lines()
    more = write(tmp_path / "b.gz", lines[len(lines) // 2 :])
    run = invoke("run", "binance", more, "--warehouse", earlier, *SETTINGS, "--json")
    assert 0 < run.summary["symbol_hours_rebuilt"] < run.summary["symbol_hours"]
    after = rows_of(earlier)
    kept = [row for row in before["verdicts"] if "ETH-USDT" in row]
    assert kept
    assert {*kept} <= {*after["verdicts"]}  # by the runs that were there before


@pytest.mark.spark
def test_runs_have_the_keys_of_before_in_their_summaries(spark, earlier):
    invoke("run", "binance", write(earlier / "b.gz", simulated_lines()), "--warehouse", earlier, *SETTINGS)
    keys = defaultdict(list)
    for row in TableReader(earlier).rows(RUNS, "command", "summary"):
        keys[row["command"]].append({*json.loads(row["summary"])})
    assert {*keys} == {"ingest", "reconstruct", "validate"}
    for command, found in keys.items():
        assert found[-1] >= found[0], command
