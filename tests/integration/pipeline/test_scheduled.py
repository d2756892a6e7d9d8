"""Scheduled runs ingest each finished file once, report each error once, and survive kills and bad files."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from captures import depth_rows, simulated_lines, write
from conftest import invoke
from crashing import runs, state
from filelock import FileLock

from deltabook.jobs.pipeline import new_files, scheduled
from deltabook.jobs.pipeline.new_files import HASH_CACHE, scan_folders
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.names import NANOSECONDS_PER_SECOND

HISTORY = {"validations", "mismatches", "samples", "fidelity", "golden, bytes"}
"""What tells of each run, so that two runs leave more than one; golden rows are the same, in other files."""

NAMING = ("files", "file_lines", "events", "events, bytes", "golden")
"""What names raw files, which each test has in a folder of its own."""


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, bytes]:
    """A capture in three files, of which the middle one comes late."""
    lines, folder = list(simulated_lines(90)), tmp_path_factory.mktemp("parts")
    first, second = depth_rows(lines)[30], depth_rows(lines)[60]
    cut = {"a.gz": lines[:first], "late.gz": lines[first:second], "c.gz": lines[second:]}
    return {name: write(folder / name, part).read_bytes() for name, part in cut.items()}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "captures").mkdir()
    return tmp_path / "captures"


def put(folder: Path, parts: dict[str, bytes], *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(parts[name])


def once(folder: Path, *how: object):
    return invoke("run", "binance", folder, *of(folder), "--once", *how)


def of(folder: Path) -> tuple[object, ...]:
    return "--settle", 0, "--warehouse", folder.parent / "w", "--json"


def read_state(folder: Path, *but: str) -> dict[str, str]:
    found = state(folder.parent / "w")
    return {name: digest for name, digest in found.items() if name not in HISTORY | {*but}}


def seen(folder: Path, settle: int = 0, replace: bool = False):
    return scan_folders(folder.parent / "w", "binance", [folder], replace, settle)


# Which files are ingested, and when.


def test_file_waits_until_it_has_not_changed_for_long_enough(folder, monkeypatch):
    (folder / "a.jsonl").write_bytes(b"1\n")
    now = (folder / "a.jsonl").stat().st_ctime_ns
    for later, new in ((0, 0), (59, 0), (60, 1)):
        clock = SimpleNamespace(time_ns=lambda later=later: now + later * NANOSECONDS_PER_SECOND)
        monkeypatch.setattr(new_files, "time", clock)
        found = seen(folder, settle=60)
        assert (len(found.new), found.waiting) == (new, 1 - new)


def test_unfinished_empty_and_hidden_files_are_not_ingested(folder):
    for name in ("a.jsonl.tmp", "b.gz.PART", "c.partial", ".d.gz", "_e/f.gz"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"1\n")
    (folder / "opened.jsonl").touch()
    found = seen(folder)
    assert (found.new, found.waiting) == ([], 4)


def test_warehouse_within_the_folder_is_no_capture(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "report.html").write_bytes(b"x")
    assert scan_folders(tmp_path / "w", "binance", [tmp_path], False, 0).new == []


def test_file_is_hashed_again_only_if_it_may_have_changed(folder, monkeypatch):
    path = folder / "a.jsonl"
    path.write_bytes(b"1\n")
    read = []
    monkeypatch.setattr(new_files, "hash_file", lambda file: read.append(file.name) or file.read_text())
    seen(folder)
    seen(folder)
    assert read == ["a.jsonl"]
    before = path.stat()
    path.write_bytes(b"2\n")  # as long as before, and said to be as old
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    seen(folder)
    assert len(read) == 2
    (folder.parent / "w" / HASH_CACHE).write_bytes(b'{"half')
    assert seen(folder).new == [path]
    assert len(read) == 3


def test_unreadable_file_is_reported_once_and_blocks_no_other(folder, monkeypatch):
    hashed = new_files.hash_file

    def hash_or_fail(file: Path) -> str:
        if file.name == "bad":
            raise PermissionError(13, "Permission denied")
        return hashed(file)

    monkeypatch.setattr(new_files, "hash_file", hash_or_fail)
    for name in ("bad", "good"):
        (folder / name).write_bytes(b"1\n")
    found = seen(folder)
    assert [path.name for path in found.new] == ["good"]
    assert [(Path(one.path).name, one.reason) for one in found.refused] == [
        ("bad", "the file cannot be read: Permission denied")
    ]
    again = seen(folder)
    assert (again.refused, again.refused_before) == ([], found.refused)
    monkeypatch.setattr(new_files, "hash_file", hashed)
    assert {path.name for path in seen(folder).new} == {"bad"}  # the two are the same content


def test_file_that_another_source_refused_is_new(folder, monkeypatch):
    (folder / "a.jsonl").write_bytes(b"1\n")
    failed = {"content_hash": new_files.hash_file(folder / "a.jsonl"), "path": str(folder / "a.jsonl")}
    failed |= {"state": "failed", "reason": "not JSON"}
    for source, new in (("binance", 0), ("okx", 1)):
        monkeypatch.setattr(
            new_files, "read_published_ledger", lambda _, by=source: [failed | {"source": by}]
        )
        found = seen(folder)
        assert (len(found.new), len(found.refused_before)) == (new, 1 - new)


# Exit statuses and messages.


def test_contradicting_options_are_refused(tmp_path):
    for how in (("--once", "--watch"), ("--settle", 5)):
        asked = invoke("run", "binance", tmp_path, *how)
        assert asked.exit_status == 2
        assert "pass at most one of --once and --watch" in asked.said


def test_nothing_new_starts_no_spark(folder):
    script = (
        "import sys\nfrom deltabook.jobs.cli.commands import app\n"
        "try: app(sys.argv[1:])\nfinally: print('pyspark' in sys.modules, 'py4j' in sys.modules)"
    )
    command = ["run", "binance", folder, "--once", "--warehouse", folder.parent / "w", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, command)], capture_output=True, text=True, check=True
    )
    summary, spark = done.stdout.splitlines()
    assert spark == "False False"
    assert json.loads(summary)["exit_status"] == json.loads(summary)["files_new"] == 0
    assert "nothing new" in done.stderr


def test_missing_folder_is_wrong_usage(folder):
    for how in ("--once", "--watch"):
        asked = invoke("run", "binance", folder / "no", *of(folder), how)
        assert asked.exit_status == 2
        assert f"no such file or folder: {folder / 'no'}" in asked.said


@pytest.mark.parametrize("lock", [".lock", ".schedule.lock"])
def test_other_writer_is_reported_at_once_with_its_own_status(folder, parts, lock):
    put(folder, parts, "a.gz")
    (folder.parent / "w").mkdir()
    with FileLock(folder.parent / "w" / lock):
        run = once(folder)
    assert (run.exit_status, run.summary["exit_status"]) == (4, 4)
    assert "nothing was done" in run.summary["error"]
    assert "nothing was done" in run.said


@pytest.mark.spark
def test_late_file_repairs_books_and_old_failures_are_not_reported_again(deltabook, folder, parts, tmp_path):
    put(folder, parts, "a.gz", "c.gz")
    first = once(folder)
    assert (first.exit_status, first.summary["files_read"]) == (1, 2), first.said
    assert first.summary["symbol_hours_failed_now"]
    idle = once(folder)
    assert (idle.exit_status, idle.summary["files_new"], idle.summary["files_known"]) == (0, 0, 2)
    assert "nothing new" in idle.said
    assert runs(tmp_path / "w") == 3
    write(folder / "eth.gz", simulated_lines(40, "spot", "ETHUSDT", 4))
    more = once(folder)  # the chunk with the gap is still there, and was reported
    assert (more.exit_status, more.summary["symbol_hours_failed"]) == (0, 1), more.said
    put(folder, parts, "late.gz")
    late = once(folder)
    assert (late.exit_status, late.summary["files_read"], late.summary["gaps"]) == (0, 1, 0), late.said
    assert late.summary["files_known"] == 3
    repaired = read_state(folder)
    shutil.rmtree(tmp_path / "w")
    assert invoke("run", "binance", folder, "--warehouse", tmp_path / "w").exit_status == 0
    assert read_state(folder) == repaired
    assert any(name.endswith("bytes") for name in repaired)


@pytest.fixture(scope="module")
def undisturbed(spark, parts, tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed") / "captures"
    folder.mkdir()
    put(folder, parts, *parts)
    assert once(folder).exit_status == 0
    return read_state(folder, *NAMING)


@pytest.mark.spark
@pytest.mark.parametrize("published", [1, 2, 3])
def test_killed_round_is_completed_without_a_new_file(
    deltabook, folder, parts, undisturbed, monkeypatch, published
):
    """Killed at the end of a stage, or before the report: `--once` has something to do, and then nothing."""
    put(folder, parts, *parts)
    publish, count = Warehouse._publish, iter(range(3))

    def publish_or_die(self, run):
        if next(count) == published:
            raise Killed
        publish(self, run)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, "_publish", publish_or_die)
        patched.setattr(scheduled, "write_last_report", die)
        with pytest.raises(Killed):
            once(folder)
    assert runs(folder.parent / "w") == published
    run = once(folder)
    assert run.exit_status == 0, run.said
    assert run.summary["files_new"] == 0
    assert (folder.parent / "w" / "report.html").exists()
    assert read_state(folder, *NAMING) == undisturbed
    before = runs(folder.parent / "w")
    assert before == 3
    idle = once(folder)
    assert (idle.exit_status, idle.summary["report"], runs(folder.parent / "w")) == (0, None, before)


@pytest.mark.spark
def test_refused_file_is_reported_once_and_retried_when_it_changes(deltabook, folder, parts):
    put(folder, parts, "a.gz")
    (folder / "c.gz").write_bytes(parts["c.gz"][:5000])
    first = once(folder, "--no-validate")
    assert (first.exit_status, first.summary["files_read"]) == (3, 1)
    (refused,) = first.summary["refused"]
    assert refused["path"] == str(folder / "c.gz")
    again = once(folder, "--no-validate")
    assert (again.exit_status, again.summary["refused_before"]) == (0, [refused])
    assert runs(folder.parent / "w") == 2
    put(folder, parts, "c.gz")
    whole = gzip.decompress(parts["a.gz"]).splitlines(keepends=True)
    write(folder / "a.gz", whole[:-5])
    grown = once(folder, "--no-validate")  # the one is whole now, the other is not what was read
    assert (grown.exit_status, grown.summary["files_read"]) == (3, 1)
    assert "has changed since it was ingested" in grown.summary["refused"][0]["reason"]
    quiet = once(folder, "--no-validate")
    assert (quiet.exit_status, len(quiet.summary["refused_before"])) == (0, 1)
    replaced = once(folder, "--no-validate", "--replace")
    assert (replaced.summary["files_replaced"], replaced.summary["refused_before"]) == (1, [])


# Watching.


@pytest.fixture
def watching(folder, monkeypatch):
    """Watch the folder; between looks, what is given is done, and then the watch is asked to end."""

    def watch(*steps, how=()):
        left, pauses = iter(steps), []

        def pause(seconds, asked):
            pauses.append(seconds)
            step = next(left, None)
            if step:
                step()
            else:
                os.kill(os.getpid(), signal.SIGTERM)
            assert asked.is_set() == (step is None)

        monkeypatch.setattr(scheduled, "sleep_until_stop", pause)
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        done = invoke("run", "binance", folder, *of(folder), "--watch", *how)
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
        return done, [json.loads(line) for line in done.stdout.splitlines()], pauses

    return watch


@pytest.mark.spark
def test_watch_ingests_new_files_and_survives_errors(deltabook, folder, parts, undisturbed, watching):
    held = FileLock(folder.parent / "w" / ".lock")
    away = folder.with_name("away")

    def hold():
        held.acquire()
        put(folder, parts, "late.gz")

    def spoil():
        held.release()
        (folder / "notes.gz").write_bytes(b"no capture")

    steps = (
        lambda: None,  # nothing is new, and nothing is shown
        lambda: put(folder, parts, "a.gz", "c.gz"),
        hold,
        spoil,
        lambda: folder.rename(away),
        lambda: None,
        lambda: away.rename(folder),
    )
    done, rounds, pauses = watching(*steps)
    assert done.exit_status == 0, done.said
    assert [one["exit_status"] for one in rounds] == [1, 4, 3, 2, 2]
    assert [one.get("files_read") for one in rounds] == [2, None, 1, None, None]
    assert "nothing was done" in rounds[1]["error"]
    assert Path(rounds[2]["refused"][0]["path"]).name == "notes.gz"
    assert "no such file or folder" in rounds[3]["error"]
    assert pauses == [1, 1, 1, 1, 1, 2, 4, 1]
    assert "2 files read, 0 refused, 0 waiting; 1 of 1 chunks rebuilt" in done.said
    assert read_state(folder, *NAMING) == undisturbed


@pytest.mark.spark
def test_signal_in_a_round_lets_it_finish(deltabook, folder, parts, undisturbed, watching, monkeypatch):
    put(folder, parts, *parts)
    publish = Warehouse._publish

    def asked_to_end(self, run):
        if run.command == "ingest":
            os.kill(os.getpid(), signal.SIGINT)
        publish(self, run)

    monkeypatch.setattr(Warehouse, "_publish", asked_to_end)
    monkeypatch.setattr(scheduled, "sleep_until_stop", lambda *_: None)
    done = invoke("run", "binance", folder, *of(folder), "--watch")
    assert done.exit_status == 0, done.said
    assert read_state(folder, *NAMING) == undisturbed
    assert runs(folder.parent / "w") == 3


@pytest.mark.spark
def test_wrong_settings_end_the_watch(deltabook, folder, parts, watching):
    put(folder, parts, "a.gz")
    assert invoke("ingest", "binance", folder, "--warehouse", folder.parent / "w").exit_status == 0
    done, rounds, _ = watching(lambda: put(folder, parts, "c.gz"), how=("--chunk", "10m"))
    assert (done.exit_status, rounds[-1]["exit_status"]) == (2, 2)
    assert "give --chunk 1h" in rounds[-1]["error"]


@pytest.mark.spark
def test_watch_ends_when_spark_dies(deltabook, folder, parts, watching, monkeypatch):
    def refuse(*_):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(scheduled, "run_stages", refuse)
    put(folder, parts, "a.gz")
    done, rounds, pauses = watching()
    assert (done.exit_status, rounds[-1]["exit_status"], pauses) == (2, 2, [])
    assert "Spark has stopped" in done.said
