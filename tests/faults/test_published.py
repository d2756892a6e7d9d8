"""A lost table `runs`: no command mistakes the warehouse for an empty one, and errors name the remedy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from captures import simulated_lines, write
from conftest import invoke
from kept import build_kept, done, files_in, found_in, rows_of

from deltabook.jobs.tables.published import HAS_RUNS_PROPERTY, published_versions
from deltabook.jobs.warehouse.warehouse import Warehouse

pytestmark = pytest.mark.spark

AT = "2024-08-08T23:54:15Z"


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory) -> Path:
    return build_kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def copied(kept, tmp_path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "w"))


def as_by_earlier_versions(warehouse: Path) -> None:
    """Take away what shows that `runs` was there, but for its rows and those of `written`."""
    shutil.rmtree(warehouse / "_copies", ignore_errors=True)
    for commit in warehouse.glob("*/_delta_log/00000000000000000000.json"):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            action.get("metaData", {}).get("configuration", {}).pop(HAS_RUNS_PROPERTY, None)
        commit.write_text("\n".join(map(json.dumps, actions)) + "\n")


def commands(warehouse: Path) -> list[tuple[object, ...]]:
    raw = warehouse.parent / "captures" / "raw.gz"
    write(raw, simulated_lines(20, "spot", "XRPUSDT", 5))
    where = ("--warehouse", warehouse)
    return [
        ("run", "binance", raw, *where),
        ("run", "binance", raw, *where, "--once", "--json"),
        ("ingest", "binance", raw, *where),
        ("reconstruct", *where),
        ("validate", *where),
        ("maintain", "--yes", *where),
        ("live", "binance", raw.parent, *where, "--chunk", "5s"),
        ("status", *where),
        ("sql", "SELECT count(*) FROM events", *where),
        ("book", "BTC-USDT", "--at", AT, *where),
        ("replay", "BTC-USDT", "--from", AT, *where),
        ("raw", "BTC-USDT", "1", *where),
        ("report", *where),
        ("export", "books", "--out", warehouse.parent / "out", *where),
        ("reconstruct", "--as-of", "20240809T001500-1a2b3c4d", *where),
    ]


@pytest.mark.parametrize("is_earlier", [False, True], ids=["now", "by an earlier version"])
@pytest.mark.parametrize(
    "lost", [("runs",), ("runs", "_copies"), ("runs", "written", "_copies")], ids="+".join
)
def test_without_runs_every_command_refuses_and_names_the_remedy(copied, kept, is_earlier, lost):
    if is_earlier:
        as_by_earlier_versions(copied)
    for name in lost:
        shutil.rmtree(copied / name, ignore_errors=True)
    before = files_in(copied)
    for command in commands(copied):
        refused = invoke(*command)
        assert refused.exit_status == 2, (command, refused.said)
        assert "runs: " in refused.said and "`deltabook restore`" in refused.said, (command, refused.said)
    assert {path: data for path, data in files_in(copied).items() if path in before} == before
    (*_, finding) = found_in(copied)
    named = "a new --warehouse" if "written" in lost else "deltabook restore --yes"
    assert finding["table"] == "runs" and named in finding["remedy"]
    restored = invoke("restore", "--yes", "--warehouse", copied)
    if "written" in lost:
        assert restored.exit_status == 2
        assert "neither `runs` nor `written` left" in restored.said
        assert {path: data for path, data in files_in(copied).items() if path in before} == before
    else:
        assert restored.exit_status == 0, restored.said
        assert rows_of(copied) == rows_of(kept)
        assert is_earlier or found_in(copied) == []
        done("validate", "--warehouse", copied)


def test_new_folder_and_killed_first_run_do_not_count_as_lost(kept, tmp_path, monkeypatch):
    raw = kept.parent / "BTCUSDT.gz"
    for number, killed in enumerate(("create.hours", "overwrite.files", "append.written", "append.runs")):
        for is_earlier in (False, True):
            warehouse = tmp_path / f"{number}{is_earlier}"
            warehouse.mkdir()
            kill_first(raw, warehouse, killed, monkeypatch)
            if is_earlier and killed in ("create.hours", "overwrite.files"):
                as_by_earlier_versions(warehouse)
                shutil.rmtree(warehouse / "runs")
            assert published_versions(warehouse) == {}
            assert "is empty" in invoke("status", "--warehouse", warehouse).said
            assert "is empty" in invoke("verify", "--warehouse", warehouse).said
            done("ingest", "binance", raw, "--warehouse", warehouse, "--no-validate")
            assert found_in(warehouse) == []


def kill_first(raw: Path, warehouse: Path, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    action, table = point.split(".")
    name = {"create": "_create"}.get(action, action)
    method = getattr(Warehouse, name)

    def die_before(self: Warehouse, of: object, *arguments: object) -> object:
        if getattr(of, "name", "") == table:
            raise Killed
        return method(self, of, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, name, die_before)
        with pytest.raises(Killed):
            invoke("ingest", "binance", raw, "--warehouse", warehouse, "--no-validate")


@pytest.mark.parametrize("source", ["other", "older"])
def test_runs_of_another_warehouse_stop_every_writer(kept, copied, tmp_path, source):
    """Another warehouse's, or those of a backup: the next run would take tables back to its versions."""
    other = tmp_path / "other"
    if source == "other":
        for _ in range(2):
            raw = write(tmp_path / "x.gz", simulated_lines(20, "spot", "XRPUSDT", 5))
            done("ingest", "binance", raw, "--warehouse", other, "--no-validate")
    else:
        newest = sorted((copied / "runs" / "_delta_log").glob("*.json"))[-1]
        shutil.copytree(copied, other)
        (other / "runs" / "_delta_log" / newest.name).unlink()
    shutil.rmtree(copied / "runs")
    shutil.copytree(other / "runs", copied / "runs")
    before = files_in(copied)
    for command in (("reconstruct",), ("validate",), ("maintain", "--yes")):
        refused = invoke(*command, "--warehouse", copied)
        assert refused.exit_status == 2 and "runs" in refused.said, (command, refused.said)
    assert files_in(copied) == before
    done("restore", "--yes", "--warehouse", copied)
    assert found_in(copied) == []
    assert rows_of(copied) == rows_of(kept)


@pytest.mark.parametrize("alone", ["minValues", "maxValues"])
def test_statistics_in_the_log_of_runs_have_no_influence(copied, alone):
    """Nothing proves them in a warehouse of an earlier version."""
    as_by_earlier_versions(copied)
    expected = published_versions(copied)
    for commit in (copied / "runs/_delta_log").glob("0*.json"):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            if "stats" in action.get("add", {}):
                stats = json.loads(action["add"]["stats"])
                values = stats[alone]
                stats[alone] = {name: 7 if isinstance(value, int) else "7" for name, value in values.items()}
                action["add"]["stats"] = json.dumps(stats)
        commit.write_text("\n".join(map(json.dumps, actions)) + "\n")
    assert published_versions(copied) == expected
