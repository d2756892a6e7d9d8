"""What runs tell while they work, as JSON, bars and lines, and what `runs` keeps of it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from datetime import datetime
from io import StringIO
from itertools import groupby

import pytest
from captures import depth_rows, simulated_lines, write
from conftest import invoke
from deltalake import DeltaTable
from rich.console import Console

from deltabook.jobs.console.logging import LogForm, belonging, event, is_json, log_as, rate_text, shown
from deltabook.jobs.process import memory
from deltabook.jobs.report.facts import read_facts
from deltabook.jobs.report.runs import stages

COMMAND = (sys.executable, "-c", "from deltabook.jobs.cli.program import main; main()")
TAKING_OVER = """
import os, subprocess
from deltabook.jobs import program
from deltabook.jobs.console.logging import LogForm, log_as
def run(_):
    log_as(LogForm.JSON)
    subprocess.run(["sh", "-c", "echo of a child >&2; echo password=hunter2 >&2"])
    os.write(2, b"no end of line")
    raise KeyError("unforeseen")
program._run = run
program.main()
"""


def objects(text: str) -> list[dict]:
    """Every line is one object that a collector can read."""
    found = [json.loads(line) for line in text.splitlines()]
    for one in found:
        assert {"time", "level", "event", "message", "logger"} <= one.keys()
        assert datetime.fromisoformat(one["time"]).utcoffset().total_seconds() == 0
        assert one["level"] in ("info", "warn", "error")
    return found


def run_apart(*arguments: object, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], env=os.environ | environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def lossy(spark, tmp_path_factory):
    """A warehouse of a capture that has lost a diff, its file, and how the run was told."""
    folder, lines = tmp_path_factory.mktemp("lossy"), list(simulated_lines())
    del lines[depth_rows(lines)[60]]
    raw = write(folder / "raw.gz", lines)
    told = invoke("run", "binance", raw, "--warehouse", folder / "w", "--log", "json", "--json")
    return folder / "w", raw, told


@pytest.fixture(scope="module")
def runs(lossy):
    rows = DeltaTable(lossy[0] / "runs").to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: row["finished"])


@pytest.mark.spark
def test_json_tells_each_run_with_the_id_that_runs_has(lossy, runs):
    told = [one for one in objects(lossy[2].stderr) if "run_id" in one]
    expected = [(row["run_id"], row["command"]) for row in runs]
    assert [key for key, _ in groupby((one["run_id"], one["command"]) for one in told)] == expected
    for run_id, _ in expected:
        events = [one["event"] for one in told if one["run_id"] == run_id and one["event"] != "message"]
        assert (events[0], events[-1]) == ("run started", "run published")
        assert events[1:-1] == ["stage started", "stage ended"] * ((len(events) - 2) // 2)


@pytest.mark.spark
def test_json_ends_with_the_exit_status_and_names_what_failed_as_warnings(lossy):
    told = objects(lossy[2].stderr)
    assert (told[-1]["event"], told[-1]["exit_status"], told[-1]["command"]) == ("ended", 1, "run")
    warnings = [one["message"] for one in told if one["level"] == "warn"]
    assert any(line.startswith("failed events: BINANCE BTC-USDT") for line in warnings)
    assert lossy[2].exit_status == lossy[2].summary["exit_status"] == 1


@pytest.mark.spark
def test_runs_keep_the_seconds_of_their_stages_in_order_and_peak_memory(lossy, runs):
    told = [one for one in objects(lossy[2].stderr) if one["event"] == "stage ended"]
    for row in runs:
        summary = json.loads(row["summary"])
        ended = [one for one in told if one["run_id"] == row["run_id"]]
        assert [*summary["stages"]] == [one["stage"] for one in ended]
        for one in ended:
            assert 0 < one["seconds"] <= summary["stages"][one["stage"]] <= row["finished"] - row["started"]
            assert one["rate"] == pytest.approx(one["total"] / one["seconds"], rel=0.5)
        assert all(bytes_held > 1_000_000 for bytes_held in summary["peak_memory"].values())
    assert "rebuilding" in lossy[2].summary["stages"]
    assert "judging fidelity" in lossy[2].summary["stages"]


@pytest.mark.spark
def test_report_and_verify_take_the_new_summaries(lossy):
    found = {(row["command"], row["stage"]) for row in stages(read_facts(lossy[0]))}
    assert {("ingest", "ingest"), ("reconstruct", "reconstruct"), ("validate", "validate")} <= found
    assert invoke("verify", "--warehouse", lossy[0]).exit_status == 0


@pytest.mark.spark
def test_error_within_a_run_has_its_id_and_leaves_nothing_in_runs(lossy, runs):
    refused = invoke("reconstruct", "--on-gap", "raise", "--warehouse", lossy[0], "--log", "json")
    told = objects(refused.stderr)
    error = told[-1]
    assert (error["event"], error["level"], error["exit_status"]) == ("error", "error", refused.exit_status)
    assert error["command"] == "reconstruct"
    assert error["run_id"] == told[0]["run_id"] not in {row["run_id"] for row in runs}
    assert "run published" not in {one["event"] for one in told}


@pytest.mark.spark
def test_scheduled_round_is_json_too_and_the_next_command_is_text(lossy):
    (warehouse, raw, _), once = lossy, ("--once", "--settle", 0)
    told = invoke("run", "binance", raw, "--warehouse", warehouse, *once, "--log", "json", "--json")
    assert [one["event"] for one in objects(told.stderr)] == ["message", "ended"]
    assert told.summary["files_known"] == 1
    assert not is_json()
    told = invoke("run", "binance", raw, "--warehouse", warehouse, *once)
    assert told.stderr.startswith("nothing new")


@pytest.mark.spark
def test_spark_jobs_of_a_stage_are_a_group_named_by_run_and_stage(spark):
    from deltabook.jobs.console.progress import Progress

    progress = Progress(spark, Console(file=StringIO()))
    with belonging(run_id="of-a-test"), progress.stage("judging", "symbol-hours", 2, "raw"):
        spark.range(10).count()
    assert spark.sparkContext.statusTracker().getJobIdsForGroup("of-a-test judging raw")
    assert [*progress.seconds] == ["judging raw"]


def test_people_see_no_records_whoever_configures_the_root_logger(tmp_path, monkeypatch):
    handler = logging.StreamHandler(StringIO())
    monkeypatch.setattr(logging.root, "handlers", [handler])
    told = invoke("run", "binance", tmp_path / "missing", "--warehouse", tmp_path / "w")
    assert told.stderr.startswith("deltabook: no such file or folder")
    assert handler.stream.getvalue() == ""


def test_error_before_any_run_is_one_object_without_passwords(tmp_path):
    told = invoke("run", "binance", "s3://me:hunter2@bucket/raw", "--warehouse", tmp_path, "--log", "json")
    (error,) = objects(told.stderr)
    assert (error["event"], error["exit_status"], error["command"]) == ("error", 2, "run")
    assert told.exit_status == 2
    assert "***@bucket" in error["message"]
    assert "hunter2" not in told.stderr


def test_settings_file_and_environment_ask_for_json_too(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("log: json\n")
    missing = "run", "binance", tmp_path / "missing", "--warehouse", tmp_path / "w"
    status, out, by_file = run_apart(*missing, "--once", "--config", config)
    assert (status, out, objects(by_file)[-1]["exit_status"]) == (2, "", 2)
    status, out, by_environment = run_apart(*missing, "--depth", "0", DELTABOOK_LOG="json")
    assert "settings are not usable" in objects(by_environment)[-1]["message"]
    status, _, as_text = run_apart(*missing, "--log", "text", DELTABOOK_LOG="json")
    assert (status, as_text.startswith("deltabook: ")) == (2, True)


def test_usage_error_is_objects():
    status, _, told = run_apart("run", "--log", "json")
    assert status == 2
    assert "Missing argument 'source'." in [one["message"] for one in objects(told)]


def test_what_children_print_and_what_nobody_foresaw_is_objects():
    done = subprocess.run([sys.executable, "-c", TAKING_OVER], capture_output=True, text=True)
    by_logger = {one["logger"]: one for one in objects(done.stderr)}
    messages = {one["message"] for one in objects(done.stderr)}
    assert {"of a child", "password=***", "no end of line"} < messages
    assert by_logger["deltabook"]["event"] == "error"
    assert "KeyError: 'unforeseen'" in by_logger["deltabook"]["traceback"]
    assert done.returncode == by_logger["deltabook"]["exit_status"] == 70


def test_other_packages_are_heard_from_warnings_on(monkeypatch):
    monkeypatch.setattr(sys, "stderr", StringIO())
    log_as(LogForm.JSON)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("of Python", stacklevel=1)
        other = logging.getLogger("other")
        other.setLevel(logging.DEBUG)
        other.info("not heard")
        other.warning("heard")
        with belonging(command="ingest"), belonging(run_id="r"):
            event("stage ended", "done", seconds=1.5)
    finally:
        log_as(LogForm.TEXT)
    told = objects(sys.stderr.getvalue())
    assert ["of Python" in one["message"] for one in told] == [True, False, False]
    assert [one["message"] for one in told[1:]] == ["heard", "done"]
    assert told[-1].items() >= {"command": "ingest", "run_id": "r", "seconds": 1.5}.items()


@pytest.mark.parametrize("total", [1, 10])
def test_bar_has_rate_and_time_left_where_there_are_several_units(total):
    screen = StringIO()
    with shown(Console(file=screen, force_terminal=True, width=120), "reading", total, "files") as show:
        for done in range(1, total):
            show(done)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert bool(re.search(r"\d:\d\d:\d\d [\d,.]+/s \d:\d\d:\d\d left", text)) is (total > 1)


def test_line_of_a_pipe_has_the_rate_of_several_units():
    said = StringIO()
    with shown(Console(file=said), "reading", 40, "files"):
        pass
    with shown(Console(file=said), "judging", 1, "symbol-hours", "raw"):
        pass
    first, second = said.getvalue().splitlines()
    assert re.fullmatch(r"reading      40 files in 0\.0 s, [\d,]+\.\d/s", first)
    assert re.fullmatch(r"judging      1 symbol-hours: raw in 0\.0 s", second)


@pytest.mark.parametrize(("rate", "text"), [(1234.5, "1,234.5/s"), (0.5, "30.0/min"), (0.001, "3.6/h")])
def test_slow_rates_are_by_the_minute_or_hour(rate, text):
    assert rate_text(rate) == text


def processes(folder, rows):
    for process, parent, name, peak in rows:
        status = folder / str(process) / "status"
        status.parent.mkdir()
        status.write_text(f"Name:\t{name}\nPPid:\t{parent}\nVmHWM:\t  {peak} kB\n")
    return folder


@pytest.mark.parametrize("is_submitted", [False, True])
def test_peak_memory_is_of_this_process_its_jvm_and_the_jvms_workers(tmp_path, monkeypatch, is_submitted):
    here, jvm = os.getpid(), 10_000_001
    rows = [
        (here, jvm if is_submitted else 1, "python3", 100),
        (jvm, 1 if is_submitted else here, "java", 200),
        (10_000_002, jvm, "python3", 30),
        (10_000_003, 10_000_002, "python3", 4),
        (10_000_004, here, "sh", 5_000),
        (10_000_005, 1, "java", 6_000),
    ]
    monkeypatch.setattr(memory, "_PROCESSES", processes(tmp_path, rows))
    assert memory.peak_memory() == {"driver": 100 * 1024, "jvm": 200 * 1024, "workers": 34 * 1024}


def test_peak_memory_of_what_cannot_be_known_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROCESSES", tmp_path)
    found = memory.peak_memory()
    assert found.pop("driver") > 1_000_000
    assert found == {"jvm": None, "workers": None}
