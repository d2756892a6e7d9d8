"""Runs report their progress as JSON, bars and lines, and the table `runs` stores times and memory."""

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

from deltabook.jobs.console.logging import LogForm, is_json_log, log_event, log_fields, set_log_form
from deltabook.jobs.console.stage_display import format_rate, show_stage
from deltabook.jobs.process import memory
from deltabook.jobs.report.inputs import read_report_inputs
from deltabook.jobs.report.runs import list_stages

COMMAND = (sys.executable, "-c", "from deltabook.jobs.cli.program import main; main()")
TAKING_OVER = """
import os, subprocess
from deltabook.jobs.cli import program
from deltabook.jobs.console.logging import LogForm, set_log_form
def run(_):
    set_log_form(LogForm.JSON)
    subprocess.run(["sh", "-c", "echo of a child >&2; echo password=hunter2 >&2"])
    os.write(2, b"no end of line")
    raise KeyError("unforeseen")
program._run_command = run
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
    """A warehouse of a capture that has lost a diff, its file, and the run."""
    folder, lines = tmp_path_factory.mktemp("lossy"), list(simulated_lines())
    del lines[depth_rows(lines)[60]]
    raw = write(folder / "raw.gz", lines)
    run = invoke("run", "binance", raw, "--warehouse", folder / "w", "--log", "json", "--json")
    return folder / "w", raw, run


@pytest.fixture(scope="module")
def runs(lossy):
    rows = DeltaTable(lossy[0] / "runs").to_pyarrow_table().to_pylist()
    return sorted(rows, key=lambda row: row["finished"])


@pytest.mark.spark
def test_json_log_has_the_run_ids_of_the_table_runs(lossy, runs):
    records = [one for one in objects(lossy[2].stderr) if "run_id" in one]
    expected = [(row["run_id"], row["command"]) for row in runs]
    assert [key for key, _ in groupby((one["run_id"], one["command"]) for one in records)] == expected
    for run_id, _ in expected:
        events = [one["event"] for one in records if one["run_id"] == run_id and one["event"] != "message"]
        assert (events[0], events[-1]) == ("run started", "run published")
        assert events[1:-1] == ["stage started", "stage ended"] * ((len(events) - 2) // 2)


@pytest.mark.spark
def test_json_ends_with_the_exit_status_and_names_what_failed_as_warnings(lossy):
    records = objects(lossy[2].stderr)
    assert (records[-1]["event"], records[-1]["exit_status"], records[-1]["command"]) == ("ended", 1, "run")
    warnings = [one["message"] for one in records if one["level"] == "warn"]
    assert any(line.startswith("failed events: BINANCE BTC-USDT") for line in warnings)
    assert lossy[2].exit_status == lossy[2].summary["exit_status"] == 1


@pytest.mark.spark
def test_runs_store_the_seconds_of_their_stages_and_peak_memory(lossy, runs):
    records = [one for one in objects(lossy[2].stderr) if one["event"] == "stage ended"]
    for row in runs:
        summary = json.loads(row["summary"])
        ended = [one for one in records if one["run_id"] == row["run_id"]]
        assert [*summary["stages"]] == [one["stage"] for one in ended]
        for one in ended:
            assert 0 < one["seconds"] <= summary["stages"][one["stage"]] <= row["finished"] - row["started"]
            assert one["rate"] == pytest.approx(one["total"] / one["seconds"], rel=0.5)
        assert all(bytes_held > 1_000_000 for bytes_held in summary["peak_memory"].values())
    assert "rebuilding" in lossy[2].summary["stages"]
    assert "judging fidelity" in lossy[2].summary["stages"]


@pytest.mark.spark
def test_report_and_verify_read_summaries_with_stages(lossy):
    found = {(row["command"], row["stage"]) for row in list_stages(read_report_inputs(lossy[0]))}
    assert {("ingest", "ingest"), ("reconstruct", "reconstruct"), ("validate", "validate")} <= found
    assert invoke("verify", "--warehouse", lossy[0]).exit_status == 0


@pytest.mark.spark
def test_error_within_a_run_has_its_id_and_leaves_nothing_in_runs(lossy, runs):
    refused = invoke("reconstruct", "--on-gap", "raise", "--warehouse", lossy[0], "--log", "json")
    records = objects(refused.stderr)
    error = records[-1]
    assert (error["event"], error["level"], error["exit_status"]) == ("error", "error", refused.exit_status)
    assert error["command"] == "reconstruct"
    assert error["run_id"] == records[0]["run_id"] not in {row["run_id"] for row in runs}
    assert "run published" not in {one["event"] for one in records}


@pytest.mark.spark
def test_json_log_of_a_scheduled_round_does_not_affect_the_next_command(lossy):
    (warehouse, raw, _), once = lossy, ("--once", "--settle", 0)
    run = invoke("run", "binance", raw, "--warehouse", warehouse, *once, "--log", "json", "--json")
    assert [one["event"] for one in objects(run.stderr)] == ["message", "ended"]
    assert run.summary["files_known"] == 1
    assert not is_json_log()
    run = invoke("run", "binance", raw, "--warehouse", warehouse, *once)
    assert run.stderr.startswith("nothing new")


@pytest.mark.spark
def test_spark_jobs_of_a_stage_are_a_group_named_by_run_and_stage(spark):
    from deltabook.jobs.console.progress import Progress

    progress = Progress(spark, Console(file=StringIO()))
    with log_fields(run_id="of-a-test"), progress.stage("judging", "symbol-hours", 2, "raw"):
        spark.range(10).count()
    assert spark.sparkContext.statusTracker().getJobIdsForGroup("of-a-test judging raw")
    assert [*progress.seconds] == ["judging raw"]


def test_terminal_shows_no_log_records_if_the_root_logger_is_configured(tmp_path, monkeypatch):
    handler = logging.StreamHandler(StringIO())
    monkeypatch.setattr(logging.root, "handlers", [handler])
    run = invoke("run", "binance", tmp_path / "missing", "--warehouse", tmp_path / "w")
    assert run.stderr.startswith("deltabook: no such file or folder")
    assert handler.stream.getvalue() == ""


def test_error_before_any_run_is_one_object_without_passwords(tmp_path):
    run = invoke("run", "binance", "s3://me:hunter2@bucket/raw", "--warehouse", tmp_path, "--log", "json")
    (error,) = objects(run.stderr)
    assert (error["event"], error["exit_status"], error["command"]) == ("error", 2, "run")
    assert run.exit_status == 2
    assert "***@bucket" in error["message"]
    assert "hunter2" not in run.stderr


def test_settings_file_and_environment_can_set_the_json_log(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("log: json\n")
    missing = "run", "binance", tmp_path / "missing", "--warehouse", tmp_path / "w"
    status, out, by_file = run_apart(*missing, "--once", "--config", config)
    assert (status, out, objects(by_file)[-1]["exit_status"]) == (2, "", 2)
    status, out, by_environment = run_apart(*missing, "--depth", "0", DELTABOOK_LOG="json")
    assert "settings are not usable" in objects(by_environment)[-1]["message"]
    status, _, as_text = run_apart(*missing, "--log", "text", DELTABOOK_LOG="json")
    assert (status, as_text.startswith("deltabook: ")) == (2, True)


def test_usage_error_is_json_objects():
    status, _, stderr = run_apart("run", "--log", "json")
    assert status == 2
    assert "Missing argument 'SOURCE'." in [one["message"] for one in objects(stderr)]


def test_output_of_child_processes_and_unexpected_errors_are_json_objects():
    done = subprocess.run([sys.executable, "-c", TAKING_OVER], capture_output=True, text=True)
    by_logger = {one["logger"]: one for one in objects(done.stderr)}
    messages = {one["message"] for one in objects(done.stderr)}
    assert {"of a child", "password=***", "no end of line"} < messages
    assert by_logger["deltabook"]["event"] == "error"
    assert "KeyError: 'unforeseen'" in by_logger["deltabook"]["traceback"]
    assert done.returncode == by_logger["deltabook"]["exit_status"] == 70


def test_other_packages_are_logged_from_warnings_on(monkeypatch):
    monkeypatch.setattr(sys, "stderr", StringIO())
    set_log_form(LogForm.JSON)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("of Python", stacklevel=1)
        other = logging.getLogger("other")
        other.setLevel(logging.DEBUG)
        other.info("not heard")
        other.warning("heard")
        with log_fields(command="ingest"), log_fields(run_id="r"):
            log_event("stage ended", "done", seconds=1.5)
    finally:
        set_log_form(LogForm.TEXT)
    records = objects(sys.stderr.getvalue())
    assert ["of Python" in one["message"] for one in records] == [True, False, False]
    assert [one["message"] for one in records[1:]] == ["heard", "done"]
    assert records[-1].items() >= {"command": "ingest", "run_id": "r", "seconds": 1.5}.items()


@pytest.mark.parametrize("total", [1, 10])
def test_bar_has_rate_and_time_left_where_there_are_several_units(total):
    screen = StringIO()
    with show_stage(Console(file=screen, force_terminal=True, width=120), "reading", total, "files") as show:
        for done in range(1, total):
            show(done)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert bool(re.search(r"\d:\d\d:\d\d [\d,.]+ per second \d:\d\d:\d\d left", text)) is (total > 1)


def test_line_of_a_pipe_has_the_rate_of_several_units():
    said = StringIO()
    with show_stage(Console(file=said), "reading", 40, "files"):
        pass
    with show_stage(Console(file=said), "judging", 1, "symbol-hours", "raw"):
        pass
    first, second = said.getvalue().splitlines()
    assert re.fullmatch(r"reading +40 files in 0\.0 s, [\d,]+\.\d per second", first)
    assert re.fullmatch(r"checking +1 symbol-hours: raw in 0\.0 s", second)


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1234.5, "1,234.5 per second"), (0.5, "0.5 per second"), (0.0012, "0.0012 per second")],
)
def test_rates_are_per_second(rate, text):
    assert format_rate(rate) == text


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


def test_unknown_peak_memory_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_PROCESSES", tmp_path)
    found = memory.peak_memory()
    assert found.pop("driver") > 1_000_000
    assert found == {"jvm": None, "workers": None}
