"""A warehouse in an object store has the same bytes as a local warehouse, and one writer at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from captures import simulated_lines, write
from conftest import invoke
from crashing import assert_same, state
from servers import end, until
from stores import SECRET, started

from deltabook.jobs.process.crash_points import CRASH_AT
from deltabook.jobs.tables.published import published_table
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse import s3_lease
from deltabook.jobs.warehouse.s3_lease import Lease
from deltabook.schemas.tables import BOOKS
from deltabook.udfs.storage.locations import parse_location

pytestmark = [pytest.mark.spark, pytest.mark.long]
DAMAGED = b"PAR1 and nothing else"


@pytest.fixture(scope="session", autouse=True)
def store(tmp_path_factory):
    """Before any session: workers inherit the variables that name it."""
    with started(tmp_path_factory.mktemp("store")) as found:
        os.environ.update(found.variables)
        yield found


@pytest.fixture(scope="module")
def captured(store, spark, tmp_path_factory):
    """Raw files, one of which comes late, and the states of a local warehouse without and with it."""
    folder = tmp_path_factory.mktemp("captured")
    lines = simulated_lines(400)
    raw = folder / "raw"
    write(raw / "a.gz", lines[: len(lines) // 2])
    write(raw / "b.gz", simulated_lines(300, "spot", "ETHUSDT", 4))
    whole = ("--warehouse", folder / "w")
    assert invoke("run", "binance", raw, "--archive", *whole).exit_status == 0
    early = tables(folder / "w")
    write(folder / "late" / "c.gz", lines[len(lines) // 2 :])
    assert invoke("run", "binance", folder / "late", "--archive", *whole).exit_status == 0
    return folder, early, tables(folder / "w")


@pytest.fixture(scope="module")
def built(store, captured):
    """The same in the store."""
    folder, early, late = captured
    place = store.place("built")
    assert invoke("run", "binance", folder / "raw", "--archive", "--warehouse", place).exit_status == 0
    assert_same(tables(place), early, "first run")
    assert invoke("run", "binance", folder / "late", "--archive", "--warehouse", place).exit_status == 0
    assert_same(tables(place), late, "late file")
    return place


def tables(place: object) -> dict[str, str]:
    """What a warehouse says; the ledger names the copies in it by their place."""
    return {name: digest for name, digest in state(parse_location(str(place))).items() if name != "files"}


def findings(place: str) -> set[tuple[str, str]]:
    """Table and file of each thing that `verify` finds wrong."""
    told = invoke("verify", "--warehouse", place, "--json")
    assert told.exit_status == (1 if told.summary["findings"] else 0)
    return {(fault["table"], fault["file"]) for fault in told.summary["findings"]}


def command(*arguments: object, at: str = "", **variables: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    named = os.environ | {"DELTABOOK_MASTER": "local[1]"} | variables | ({CRASH_AT: at} if at else {})
    words = [str(Path(sys.executable).with_name("deltabook")), *map(str, arguments)]
    return subprocess.Popen(words, env=named, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_books_are_those_of_a_folder_and_nothing_is_written_beside_the_store(built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("status", "--warehouse", built).exit_status == 0
    found = invoke("book", "BTC-USDT", "--warehouse", built, "--json")
    assert found.exit_status == 0 and found.summary["bids"]
    assert not list(tmp_path.iterdir())


def test_spark_reads_the_tables_by_s3a(built):
    text = "SELECT count(*) AS n FROM book"
    asked = command("sql", text, "--warehouse", built, "--format", "json")
    told, said = asked.communicate(timeout=300)
    assert asked.returncode == 0, said
    local = invoke("status", "--warehouse", built, "--json").summary
    assert json.loads(told.splitlines()[-1])["n"] == sum(one["book_rows"] for one in local["instruments"])
    assert SECRET not in told + said


def test_replay_export_and_raw_read_the_store(built, tmp_path):
    lines = invoke("replay", "BTC-USDT", "--warehouse", built, "--format", "csv").stdout.splitlines()
    assert len(lines) > 400
    out = ("--out", tmp_path / "out")
    assert invoke("export", "books", "--symbol", "BTC-USDT", *out, "--warehouse", built).exit_status == 0
    assert list((tmp_path / "out").rglob("*.parquet"))


def test_the_raw_record_comes_from_the_archive_where_the_file_is_gone(store, captured, tmp_path):
    write(tmp_path / "raw" / "gone.gz", simulated_lines(30))
    place = store.place("gone")
    assert invoke("ingest", "binance", tmp_path / "raw", "--archive", "--warehouse", place).exit_status == 0
    (tmp_path / "raw" / "gone.gz").unlink()
    events = published_table(place, "events").to_table(columns=["sequence"])
    sequence = events["sequence"][-1].as_py()
    told = invoke("raw", "BTC-USDT", sequence, "--warehouse", place)
    assert told.exit_status == 0 and str(sequence) in told.stdout


def test_damage_is_named_and_taken_back(store, built, captured):
    place = store.place("damaged")
    folder, *_ = captured
    for part in ("raw", "late"):
        assert invoke("run", "binance", folder / part, "--warehouse", place).exit_status == 0
    before = tables(place)
    log = max((store.folder / "damaged" / "events" / "_delta_log").glob("*.json"))
    log.unlink()
    assert findings(place) == {("events", f"_delta_log/{log.name}")}
    assert invoke("restore", "--yes", "--warehouse", place).exit_status == 0
    assert not findings(place)
    uri = TableReader(parse_location(place)).data_files(BOOKS).popitem()[1][0]
    path = uri.removeprefix(f"{place}/books/")
    (store.folder / "damaged" / "books" / path).write_bytes(DAMAGED)
    assert findings(place) == {("books", path)}
    assert invoke("restore", "--rebuild", "--yes", "--warehouse", place).exit_status == 0
    assert invoke("reconstruct", "--warehouse", place).exit_status == 0
    assert not findings(place)
    assert tables(place)["books"] == before["books"]


def test_maintain_and_a_scheduled_run_work_there(store, built, captured):
    folder, _, late = captured
    done = invoke("run", "binance", folder / "raw", folder / "late", "--once", "--warehouse", built, "--json")
    assert done.exit_status == 0 and done.summary["files_known"] == 3
    assert invoke("maintain", "--yes", "--warehouse", built).exit_status == 0
    assert invoke("verify", "--deep", "--warehouse", built).exit_status == 0
    assert_same(tables(built), late, "maintained")


def test_of_two_writers_one_is_refused(store, captured):
    folder, *_ = captured
    place = store.place("two")
    lease = Lease(parse_location(place) / ".lock")
    lease.acquire()
    try:
        refused = invoke("run", "binance", folder / "raw", "--warehouse", place)
    finally:
        lease.release()
    assert refused.exit_status == 4 and "being written by another process" in refused.said
    both = [command("run", "binance", folder / "raw", "--warehouse", place) for _ in range(2)]
    ended = [(one.communicate(timeout=400)[1], one.returncode) for one in both]
    assert sorted(status for _, status in ended) in ([0, 0], [0, 4]), ended
    assert_same(tables(place), captured[1], "two")
    assert not (store.folder / "two" / ".lock").exists()


@pytest.mark.parametrize("point", ["add.events.after", "append.runs.before", "lock.warehouse.after"])
def test_a_killed_run_is_taken_over_and_nothing_is_lost_or_doubled(store, captured, point):
    folder, early, _ = captured
    name = f"killed-{point}"
    place = store.place(name)
    killed = command("run", "binance", folder / "raw", "--archive", "--warehouse", place, at=point)
    killed.communicate(timeout=400)
    assert killed.returncode == -9
    assert (store.folder / name / ".lock").exists()
    began = time.monotonic()
    assert invoke("run", "binance", folder / "raw", "--archive", "--warehouse", place).exit_status == 0
    assert time.monotonic() - began > s3_lease.EXPIRY_SECONDS - s3_lease.RENEWAL_SECONDS
    assert_same(tables(place), early, point)


def test_a_writer_that_was_stopped_for_a_minute_is_taken_over_and_publishes_nothing(store, captured):
    folder, early, late = captured
    place = store.place("stopped")
    stopped = command("run", "binance", folder / "raw", "--archive", "--warehouse", place)
    until((store.folder / "stopped" / "events" / "_delta_log").exists, stopped)
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        time.sleep(60)
        heir = invoke("run", "binance", folder / "raw", "--archive", "--warehouse", place)
        assert heir.exit_status == 0, heir.said
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    _, said = stopped.communicate(timeout=300)
    assert stopped.returncode == 2 and "Traceback" not in said, said
    assert "so another process may be writing" in said.splitlines()[-1]
    assert_same(tables(place), early, "stopped")
    assert invoke("run", "binance", folder / "late", "--archive", "--warehouse", place).exit_status == 0
    assert_same(tables(place), late, "stopped, then a late file")


def test_what_cannot_be_reached_is_sound_in_one_line(store, monkeypatch):
    told = invoke("status", "--warehouse", "s3a://no-such-bucket/w")
    assert told.exit_status == 2 and "NoSuchBucket" in told.stderr
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-but-secret")
    told = invoke("status", "--warehouse", store.place("built"))
    assert told.exit_status == 2 and "cannot be reached" in told.stderr
    assert "wrong-but-secret" not in told.stderr
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    told = invoke("status", "--warehouse", store.place("built"))
    assert told.exit_status == 2 and "cannot be reached" in told.stderr
    assert not list(Path(store.folder).glob("no-such-bucket"))


def test_a_store_that_goes_away_in_mid_run_is_sound(captured, tmp_path):
    folder, *_ = captured
    with started(tmp_path) as leaving:
        place = leaving.place("left")
        run = command("run", "binance", folder / "raw", "--warehouse", place, **leaving.variables)
        until((leaving.folder / "left" / "_staging").exists, run)
        end(leaving.process)
        _, said = run.communicate(timeout=300)
    assert run.returncode == 2 and "Traceback" not in said
    assert "run again" in said.splitlines()[-1].lower() and SECRET not in said
