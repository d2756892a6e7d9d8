"""Output with --json: every command prints the published form, always with the same keys."""

from __future__ import annotations

import json

import pytest
from conftest import invoke
from jsonschema import Draft202012Validator
from typer.main import get_command

from deltabook.jobs.cli.commands import app
from deltabook.jobs.console.output_schema import complete_output, read_output_schema
from deltabook.jobs.tools.demo import write_captures

WITH_JSON = [
    name
    for name, command in get_command(app).commands.items()
    if any("--json" in parameter.opts for parameter in command.params)
]


def checked(*arguments):
    """Run a command, check its object, and return the outcome."""
    outcome = invoke(*arguments, "--json")
    definition = read_output_schema()["$defs"][arguments[0]]
    printed = json.loads(outcome.stdout.splitlines()[-1])
    problems = [
        f"{arguments}: {error.json_path}: {error.message}"
        for error in Draft202012Validator(definition).iter_errors(printed)
    ]
    assert problems == []
    assert printed["exit_status"] == outcome.exit_status
    return outcome


def test_schema_is_valid_and_has_every_command_with_json():
    schema = read_output_schema()
    Draft202012Validator.check_schema(schema)
    assert sorted(schema["$defs"]) == sorted(WITH_JSON)
    for definition in schema["$defs"].values():
        assert sorted(definition["properties"]) == definition["required"]
        assert definition["additionalProperties"] is False
        assert all(value["description"].endswith(".") for value in definition["properties"].values())


def test_missing_keys_become_null_and_the_status_zero():
    keys = read_output_schema()["$defs"]["run"]["properties"].keys()
    complete = complete_output("run", {"files_new": 3})
    assert complete.keys() == keys
    assert (complete["files_new"], complete["verdicts"], complete["exit_status"]) == (3, None, 0)
    assert complete_output("bench", {"a": 1}) == {"a": 1}


def test_plan_has_the_published_form(tmp_path):
    checked("plan")
    checked("plan", "--out", tmp_path / "plan.html")


@pytest.mark.spark
def test_every_command_of_a_warehouse_has_the_published_form(spark, tmp_path, monkeypatch):
    btc, eth = write_captures(tmp_path / "raw", messages=100)
    monkeypatch.setenv("DELTABOOK_WAREHOUSE", str(tmp_path / "w"))
    checked("ingest", "binance", btc, "--archive", "--no-validate")
    checked("reconstruct", "--no-validate")
    checked("validate")
    checked("golden", "binance", btc)
    run = checked("run", "binance", btc, eth, "--archive").summary
    assert (run["files_new"], run["files_known"], run["run_id"]) == (1, 1, run["run_ids"]["validate"])
    assert [*run["run_ids"]] == ["ingest", "reconstruct", "validate"]
    for _ in range(2):
        checked("run", "binance", tmp_path / "raw", "--once", "--settle", 0)
    checked("run", "binance", tmp_path / "none", "--once", "--settle", 0)
    checked("reconstruct", "--as-of", run["run_ids"]["reconstruct"])
    checked("sql", "SELECT 1 AS one")
    sequence = checked("book", "BTC-USDT").summary["sequence"]
    checked("raw", "BTC-USDT", sequence)
    checked("replay", "BTC-USDT")
    checked("replay", "BTC-USDT", "--from", "2100-01-01")
    checked("status")
    checked("report")
    checked("verify")
    checked("verify", "--deep")
    checked("restore")
    checked("restore", "--rebuild")
    checked("restore", "--from-archive", "--into", tmp_path / "again")
    checked("maintain")
    checked("export", "books", "--out", tmp_path / "out")


@pytest.mark.spark
def test_demo_and_live_have_the_published_form(spark, tmp_path):
    checked("demo", tmp_path / "demo")
    captures = tmp_path / "demo" / "captures"
    checked("live", "binance", captures, "--once", "--warehouse", tmp_path / "live")
