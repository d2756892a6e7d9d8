"""Every schedule in `conf/schedules` is well formed, and the command line accepts its command."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from places import PROJECT
from typer.main import get_command

from deltabook.jobs.cli.commands import app

ROOT = PROJECT
FOLDER = ROOT / "conf" / "schedules"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROGRAM = "/opt/deltabook/bin/deltabook"
BUSY = 4


def parsed(words: list[str]) -> dict[str, object]:
    """What the command line makes of the words after the program's name."""
    commands = get_command(app).commands
    return commands[words[0]].make_context(words[0], words[1:]).params


def assert_runs(words: list[str], how: str = "once") -> None:
    found = parsed(words)
    assert (found["source"], found[how], found["as_json"]) == ("binance", True, True)
    assert found["paths"][0].is_absolute() and Path(found["warehouse"]).is_absolute()


def words_of(command: str) -> list[str]:
    program, *words = shlex.split(command)
    assert program == PROGRAM
    return words


def unit(name: str) -> ConfigParser:
    found = ConfigParser(interpolation=None, strict=False)
    found.optionxform = str
    found.read_string((FOLDER / name).read_text())
    return found


def test_every_schedule_is_tested_here():
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == {
        "airflow_dag.py",
        "databricks.yml",
        "deltabook-watch.service",
        "deltabook.cron",
        "deltabook.service",
        "deltabook.timer",
        "kubernetes.yaml",
    }


@pytest.fixture
def cron() -> str:
    """The line, without its times."""
    (line,) = [
        line for line in (FOLDER / "deltabook.cron").read_text().splitlines() if not line.startswith("#")
    ]
    assert "%" not in line  # cron takes it for the end of the command
    *times, command = line.split(None, 5)
    assert times == ["17", "*", "*", "*", "*"]
    return command


def test_cron_line_runs_a_command_that_is_read(cron):
    assert_runs(words_of(cron.split(" >> ")[0]))


@pytest.mark.parametrize(("status", "mailed"), [(0, False), (BUSY, False), (1, True), (2, True), (3, True)])
def test_cron_line_mails_failures_alone(cron, tmp_path, status, mailed):
    program = tmp_path / "deltabook"
    program.write_text(f"#!/bin/sh\necho '{{}}'\necho what is said >&2\nexit {status}\n")
    program.chmod(0o755)
    line = cron.replace(PROGRAM, str(program)).replace("/srv/", f"{tmp_path}/")
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.stdout == ("what is said\n" if mailed else "")
    assert (tmp_path / "deltabook.jsonl").read_text() == "{}\n"


def test_units_run_commands_that_are_read():
    run, watch, timer = map(unit, ("deltabook.service", "deltabook-watch.service", "deltabook.timer"))
    assert_runs(words_of(run["Service"]["ExecStart"]))
    assert_runs(words_of(watch["Service"]["ExecStart"]), "watch")
    assert int(run["Service"]["SuccessExitStatus"]) == BUSY
    assert timer["Timer"]["OnCalendar"] == "*:17"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path):
    for path in (*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")):
        text = path.read_text().replace(PROGRAM, sys.executable)
        (tmp_path / path.name).write_text(re.sub("^User=.*$", "User=root", text, flags=re.MULTILINE))
    units = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_airflow_dag_calls_a_command_that_is_read():
    tree = ast.parse((FOLDER / "airflow_dag.py").read_text())
    (operator,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BashOperator"
    ]
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in operator.keywords}
    assert_runs(words_of(given["bash_command"]))
    assert given["skip_on_exit_code"] == BUSY


def test_databricks_bundle_names_the_package_and_a_command_that_is_read():
    bundle = yaml.safe_load((FOLDER / "databricks.yml").read_text())
    job = bundle["resources"]["jobs"]["deltabook"]
    (task,), (cluster,) = job["tasks"], job["job_clusters"]
    wheel = task["python_wheel_task"]
    assert wheel["package_name"] == PROJECT["name"]
    assert PROJECT["scripts"][wheel["entry_point"]] == "deltabook.jobs.cli.program:main"
    assert_runs(wheel["parameters"])
    assert task["job_cluster_key"] == cluster["job_cluster_key"]
    used = re.findall(r"\$\{var\.(\w+)\}", str(bundle["resources"]))
    assert set(used) == bundle["variables"].keys()
    assert job["max_concurrent_runs"] == 1


def test_kubernetes_manifest_names_a_job_the_pinned_versions_and_arguments_that_are_read():
    manifest = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    template = manifest["spec"]["template"]
    job = Path(template["mainApplicationFile"].removeprefix("local://"))
    assert (ROOT / job.relative_to("/opt/deltabook")).is_file()
    assert_runs([job.stem, *template["arguments"]])
    constraints = (ROOT / "conf" / "constraints.txt").read_text()
    pinned = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    assert template["sparkVersion"] == pinned["pyspark"]
    (package,) = template["deps"]["packages"]
    assert package.rsplit(":", 1)[1] == pinned["delta-spark"]
    assert manifest["spec"]["concurrencyPolicy"] == "Forbid"
    volumes = {volume["name"] for volume in template["volumes"]}
    for pod in (template["driver"], template["executor"]):
        assert {mount["name"] for mount in pod["volumeMounts"]} == volumes
