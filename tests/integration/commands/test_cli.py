"""The command line without Spark: it prints help, reports usage errors and reads settings."""

import os
import subprocess
import sys

import pytest
from conftest import invoke
from places import PROJECT

from deltabook.jobs.console.formats import format_time, parse_time
from deltabook.jobs.process.java import find_java_problem
from deltabook.jobs.runtime.settings import load_settings
from deltabook.schemas.errors import SettingsError

COMMANDS = ["ingest", "reconstruct", "validate", "run", "sql", "book", "demo"]


WITHOUT_SPARK = ["replay", "status", "report", "raw"]


@pytest.mark.parametrize("command", COMMANDS + WITHOUT_SPARK)
def test_every_command_has_help(command):
    shown = invoke(command, "--help")
    assert shown.exit_status == 0
    for option in ("--warehouse", "--config", "--json"):
        assert option in shown.stdout
    assert ("--master" in shown.stdout) == (command in COMMANDS)


def test_help_does_not_load_spark():
    code = (
        "import sys; import deltabook.jobs.cli; sys.exit('pyspark' in sys.modules or 'numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_option_is_a_usage_error():
    assert invoke("run", "--nothing").exit_status == 2


def test_all_problems_of_settings_are_reported_together(tmp_path):
    config = tmp_path / "mine.yaml"
    scales = "{BINANCE: {btc: {price_scale: 99, size_scale: 8}}}"
    config.write_text(f"depth: 0\ncadence: hourly\ncolour: red\ninstruments: {scales}\n")
    outcome = invoke("validate", "--config", config)
    assert outcome.exit_status == 2
    for problem in ("depth", "cadence", "colour", "price_scale"):
        assert problem in outcome.stderr


@pytest.mark.parametrize("content", ["[1, 2", "just text", None])
def test_unreadable_settings_file_is_named(tmp_path, content):
    config = tmp_path / "mine.yaml"
    if content is not None:
        config.write_text(content)
    outcome = invoke("validate", "--config", config)
    assert outcome.exit_status == 2
    assert "mine.yaml" in outcome.said


def test_unreadable_environment_is_a_settings_error(monkeypatch):
    monkeypatch.setenv("DELTABOOK_INSTRUMENTS", "abc")
    outcome = invoke("validate")
    assert outcome.exit_status == 2
    assert "instruments" in outcome.said


def test_flags_come_before_environment_before_file(tmp_path, monkeypatch):
    config = tmp_path / "mine.yaml"
    config.write_text("depth: 5\nwarehouse: from-file\nmaster: local[3]\n")
    monkeypatch.setenv("DELTABOOK_WAREHOUSE", "from-environment")
    monkeypatch.setenv("DELTABOOK_DEPTH", "6")
    settings = load_settings(config, {"depth": 7, "warehouse": None})
    assert (settings.depth, str(settings.warehouse), settings.master) == (7, "from-environment", "local[3]")
    assert load_settings(None, {}).depth == 6


def test_book_reports_an_empty_warehouse(tmp_path):
    outcome = invoke("book", "BTCUSDT", "--warehouse", tmp_path)
    assert outcome.exit_status == 2
    assert "is empty: run `deltabook run`" in outcome.said


def test_missing_java_is_one_clear_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    problem = find_java_problem()
    assert problem is not None
    assert "Java 17 or newer is needed, but no java is on the PATH" in problem
    assert "openjdk-17-jre-headless" in problem


@pytest.mark.parametrize(
    ("printed", "right"), [("1.8.0_392", False), ("11.0.2", False), ("17.0.9", True), ("21", True)]
)
def test_old_java_is_reported_with_its_version(tmp_path, monkeypatch, printed, right):
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{printed}\" 2024-01-01' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert (find_java_problem() is None) == right


def test_java_check_runs_without_the_environment():
    script = PROJECT / "jobs" / "process" / "java.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", script],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2024-08-09", 1_723_161_600_000_000_000),
        ("2024-08-09T00:00:01.5Z", 1_723_161_601_500_000_000),
        ("2024-08-09T02:00:01.000001+02:00", 1_723_161_601_000_001_000),
        ("2024-08-09T00:00:01.123456789Z", 1_723_161_601_123_456_789),
        ("1723161601500000001", 1_723_161_601_500_000_001),
        ("1723161601", 1_723_161_601_000_000_000),
        ("1723161601500", 1_723_161_601_500_000_000),
    ],
)
def test_times_are_iso_8601_in_utc_or_nanoseconds(text, nanoseconds):
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["yesterday", "172316160", "01723161601500", "99999999999999999999", "\u0661" * 19]
)
def test_unreadable_time_says_what_is_expected(text):
    with pytest.raises(SettingsError, match="expected ISO 8601"):
        parse_time(text)


def test_times_are_shown_to_the_nanosecond():
    assert format_time(1_723_161_601_500_000_001) == "2024-08-09T00:00:01.500000001Z"


@pytest.mark.parametrize("command", ["--help", "run --help", "sources", "plan", "plan --json"])
def test_a_reader_that_leaves_ends_a_command_quietly(command):
    reading, writing = os.pipe()
    os.close(reading)
    code = "from deltabook.jobs.cli.program import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_of_captures_is_no_warehouse(tmp_path):
    (tmp_path / "btcusdt.gz").touch()
    for command in (["status"], ["book", "BTC-USDT"]):
        answer = invoke(*command, "--warehouse", tmp_path)
        assert answer.exit_status == 2
        assert "not a warehouse: the folder has files, but no tables" in answer.said


def test_help_names_arguments_in_capitals_flags_without_types_and_defaults(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    lines = invoke("run", "--help").stdout.splitlines()
    assert any("run [OPTIONS] SOURCE [PATHS…]" in line for line in lines)
    assert not any("<bool>" in line for line in lines)
    shipped = load_settings(None, {})
    for option, default in (
        ("--warehouse", shipped.warehouse),
        ("--master", shipped.master),
        ("--depth", shipped.depth),
        ("--cadence", shipped.cadence),
        ("--checkpoint-every", shipped.checkpoint_every),
        ("--chunk", shipped.chunk),
        ("--on-gap", shipped.on_gap),
        ("--seed", shipped.seed),
        ("--log", shipped.log),
    ):
        (line,) = [line for line in lines if line.startswith(f"│ {option} ")]
        assert f"[default: {default}]" in line
