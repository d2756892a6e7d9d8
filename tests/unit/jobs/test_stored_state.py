"""No rename in code changes what warehouses store, and a warehouse of deltabook 0.1.0 is upgraded."""

from __future__ import annotations

import ast
import json
import tarfile
from collections import defaultdict
from importlib.resources import files
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path

import pytest
from captures import simulated_lines, write
from conftest import invoke
from kept import found_in, rows_of
from places import PROJECT, TESTS

from deltabook.jobs.runtime.session import DAEMON
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import DeltabookError
from deltabook.schemas.fingerprints import make_fingerprint, values_of
from deltabook.schemas.names import Cadence, OnGap, Repair, RowPolicy, Seed
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
    assert make_fingerprint("books", {"b": [1, "x"], "a": values_of(WRITING)}) == "666419362f80349c"


def test_every_setting_of_rows_changes_the_fingerprint():
    other = RowPolicy(8, Cadence.MESSAGE, ("5m",), OnGap.RAISE, 1, 2, 3, Seed.NONE, Repair.NONE, 4)
    for name in vars(other):
        changed = RowPolicy(**(vars(WRITING) | {name: getattr(other, name)}))
        assert values_of(changed) != values_of(WRITING), name


def test_the_fingerprint_of_settings_is_pinned():
    assert load_settings(None, {}).fingerprint == "f7b7642f6d6e5260"


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


UNCHANGED = ("events", "golden", "files", "quarantine", "hours", "epochs", "instruments")


@pytest.mark.spark
def test_a_warehouse_of_an_earlier_version_is_upgraded_from_its_events(spark, earlier):
    refused = invoke("book", "ETH-USDT", "--warehouse", earlier)
    assert refused.exit_status == 2
    assert "earlier version of deltabook" in refused.said
    assert f"deltabook reconstruct --warehouse {earlier}" in refused.said
    before = rows_of(earlier, UNCHANGED)
    upgraded = invoke("reconstruct", "--warehouse", earlier, *OF_BOOKS, "--json")
    assert (upgraded.summary["symbol_hours"], upgraded.summary["symbol_hours_rebuilt"]) == (6, 6)
    assert rows_of(earlier, UNCHANGED) == before
    again = invoke("reconstruct", "--warehouse", earlier, *OF_BOOKS, "--json")
    assert again.summary["symbol_hours_rebuilt"] == 0
    found = found_in(earlier, deep=True)
    assert {finding["table"] for finding in found} == {"files"}  # the raw files are gone


@pytest.mark.spark
def test_an_upgrade_gives_the_books_of_a_new_warehouse(spark, earlier, tmp_path):
    lines = write(tmp_path / "b.gz", simulated_lines())
    for warehouse in (earlier, tmp_path / "new"):
        run = invoke("run", "binance", lines, "--warehouse", warehouse, *SETTINGS, "--json")
        assert run.exit_status in (0, 1), run.said
    of_simulated = [
        [row for row in rows_of(warehouse, ("books", "checkpoints"))["books"] if "BTC-USDT" in row]
        for warehouse in (earlier, tmp_path / "new")
    ]
    assert of_simulated[0] == of_simulated[1] != []


@pytest.mark.spark
def test_runs_have_the_keys_of_before_in_their_summaries(spark, earlier):
    invoke("run", "binance", write(earlier / "b.gz", simulated_lines()), "--warehouse", earlier, *SETTINGS)
    keys = defaultdict(list)
    runs = TableReader(earlier).rows(RUNS, "command", "summary", "finished")
    for row in sorted(runs, key=itemgetter("finished")):
        keys[row["command"]].append({*json.loads(row["summary"])})
    assert {*keys} == {"ingest", "reconstruct", "validate"}
    for command, found in keys.items():
        assert found[-1] >= found[0], command
