"""What the command line says before any Spark starts."""

import os
import subprocess
import sys

import pytest
from conftest import invoke
from places import PROJECT

from deltabook.jobs.console.formats import parse_time, show_time
from deltabook.jobs.process.java import java_problem
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


def test_all_problems_of_settings_are_told_at_once(tmp_path):
    config = tmp_path / "mine.yaml"
    scales = "{BINANCE: {btc: {price_scale: 99, size_scale: 8}}}"
    config.write_text(f"depth: 0\ncadence: hourly\ncolour: red\ninstruments: {scales}\n")
    told = invoke("validate", "--config", config)
    assert told.exit_status == 2
    for problem in ("depth", "cadence", "colour", "price_scale"):
        assert problem in told.stderr


@pytest.mark.parametrize("content", ["[1, 2", "just text", None])
def test_unreadable_settings_file_is_named(tmp_path, content):
    config = tmp_path / "mine.yaml"
    if content is not None:
        config.write_text(content)
    told = invoke("validate", "--config", config)
    assert told.exit_status == 2
    assert "mine.yaml" in told.said


def test_unreadable_environment_is_a_settings_error(monkeypatch):
    monkeypatch.setenv("DELTABOOK_INSTRUMENTS", "abc")
    told = invoke("validate")
    assert told.exit_status == 2
    assert "instruments" in told.said


def test_flags_come_before_environment_before_file(tmp_path, monkeypatch):
    config = tmp_path / "mine.yaml"
    config.write_text("depth: 5\nwarehouse: from-file\nmaster: local[3]\n")
    monkeypatch.setenv("DELTABOOK_WAREHOUSE", "from-environment")
    monkeypatch.setenv("DELTABOOK_DEPTH", "6")
    settings = load_settings(config, {"depth": 7, "warehouse": None})
    assert (settings.depth, str(settings.warehouse), settings.master) == (7, "from-environment", "local[3]")
    assert load_settings(None, {}).depth == 6


def test_empty_warehouse_is_told_by_book(tmp_path):
    told = invoke("book", "BTCUSDT", "--warehouse", tmp_path)
    assert told.exit_status == 2
    assert "is empty: run `deltabook run`" in told.said


def test_missing_java_is_one_clear_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    problem = java_problem()
    assert problem is not None
    assert "Java 17 or newer is needed, but no java is on the PATH" in problem
    assert "openjdk-17-jre-headless" in problem


@pytest.mark.parametrize(
    ("printed", "right"), [("1.8.0_392", False), ("11.0.2", False), ("17.0.9", True), ("21", True)]
)
def test_old_java_is_told_with_its_version(tmp_path, monkeypatch, printed, right):
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{printed}\" 2024-01-01' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert (java_problem() is None) == right


def test_java_check_runs_without_the_environment():
    script = PROJECT / "jobs" / "java.py"
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
    ],
)
def test_times_are_iso_8601_in_utc_or_nanoseconds(text, nanoseconds):
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["yesterday", "1723161601", "1723161601500", "99999999999999999999", "\u0661" * 19]
)
def test_unreadable_time_says_what_is_expected(text):
    with pytest.raises(SettingsError, match="expected ISO 8601"):
        parse_time(text)


def test_times_are_shown_to_the_nanosecond():
    assert show_time(1_723_161_601_500_000_001) == "2024-08-09T00:00:01.500000001Z"
