"""Ctrl-C, SIGTERM and a killed JVM, in real processes.

The command prints one line, ends with the right exit status and publishes nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time

import pytest
from captures import simulated_lines, write
from conftest import invoke
from processes import TRACES, running

from deltabook.jobs.process import interruptions
from deltabook.jobs.process.interruptions import Interrupted
from deltabook.jobs.tables.published import published_versions

LINE = "deltabook: interrupted: nothing of this run is published"
AFTER_INGEST = "deltabook: interrupted: ingest was published, nothing after it"
BOTH = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def raw(tmp_path):
    return write(tmp_path / "raw.gz", simulated_lines(60))


@pytest.fixture
def handlers(monkeypatch):
    """The handlers of the command line, in this process; as they were after the test."""
    before = {number: signal.getsignal(number) for number in BOTH}
    monkeypatch.setattr(interruptions, "_state", interruptions._State())
    interruptions.install_handlers()
    yield interruptions._state
    if interruptions._state.timer:
        interruptions._state.timer.cancel()
    logging.disable(logging.NOTSET)
    for number, handler in before.items():
        signal.signal(number, handler)


def jvms_below(group: int) -> list[str]:
    """Processes of a group, but the one that is being collected."""
    found = []
    for folder in os.scandir("/proc"):
        if folder.name.isdecimal():
            try:
                if os.getpgid(int(folder.name)) == group:
                    found.append(folder.name)
            except ProcessLookupError:
                continue
    return found


def assert_interrupted(process, number, *others):
    assert process.ended() == BOTH[number], process.said
    assert process.lines[-1] in (LINE, *others)
    assert not [trace for trace in TRACES if trace in process.said]
    end = time.monotonic() + 120
    while jvms_below(process.process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert jvms_below(process.process.pid) == []


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_interrupts_with_the_status_of_shells(handlers, number):
    with pytest.raises(Interrupted):
        signal.raise_signal(number)
    assert interruptions.is_interrupted()
    assert interruptions.exit_status() == BOTH[number]
    assert f"deltabook: {interruptions.interruption_message()}" == LINE


def test_a_signal_waits_for_the_end_of_a_commit(handlers):
    done = []
    with pytest.raises(Interrupted), interruptions.delay_interruption():
        with interruptions.delay_interruption():
            signal.raise_signal(signal.SIGINT)
            done.append("inner")
        done.append("outer")
        interruptions.note_published("ingest")
    assert done == ["inner", "outer"]
    assert interruptions.interruption_message() == "interrupted: ingest was published, nothing after it"


def test_a_block_that_runs_until_ctrl_c_ends_and_the_next_signal_interrupts(handlers):
    with interruptions.end_block_on_interrupt():
        signal.raise_signal(signal.SIGINT)
        raise AssertionError
    assert not interruptions.is_interrupted()
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_the_caller_ignores_stays_ignored(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruptions.install_handlers()
    signal.raise_signal(signal.SIGINT)
    assert not interruptions.is_interrupted()


@pytest.mark.long
def test_a_second_signal_or_a_swallowed_one_ends_the_process(tmp_path):
    begin = "import signal\nfrom deltabook.jobs.process import interruptions\n"
    begin += "interruptions.install_handlers()\n"
    swallow = "try:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass\n"
    second = f"{begin}{swallow}signal.raise_signal(signal.SIGTERM)\nprint('alive')\n"
    late = f"{begin}interruptions._UNDO_SECONDS = 0.2\n{swallow}import time\ntime.sleep(60)\n"
    for code in (second, late):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{LINE}\n")


@pytest.mark.long
@pytest.mark.parametrize("command", ["status", "verify", "report"])
def test_commands_without_spark_are_interrupted_at_any_time(command, tmp_path):
    for delay in (0.15, 0.4, 0.9):
        with running(tmp_path / "log", command, "--warehouse", tmp_path / "w") as process:
            time.sleep(delay)
            if process.process.poll() is None:
                process.send(signal.SIGINT, whole_group=True)
                if process.ended() != 2:  # it was not done yet
                    assert (process.process.returncode, process.lines) in [(130, [LINE]), (-2, [])]


@pytest.mark.long
def test_ctrl_c_at_a_terminal_during_a_run_publishes_and_leaves_nothing(raw, tmp_path):
    warehouse = tmp_path / "w"
    with running(tmp_path / "log", "run", "binance", raw, "--warehouse", warehouse) as process:
        process.until_said("reading")
        process.send(signal.SIGINT, whole_group=True)
        assert_interrupted(process, signal.SIGINT)
    assert published_versions(warehouse) == {}
    assert not (warehouse / "_staging").exists()


@pytest.mark.long
def test_a_jvm_that_is_killed_during_a_run_is_reported_in_one_line(raw, tmp_path):
    with running(tmp_path / "log", "run", "binance", raw, "--warehouse", tmp_path / "w") as process:
        process.until_said("reading")
        process.jvm().kill()
        assert process.ended() == 2
    told = process.lines[-1]
    assert told.startswith("deltabook: Spark's JVM was killed by signal 9: for lack of memory")
    assert "Nothing of this run is published" in told and "lower driver_memory" in told
    assert not [trace for trace in TRACES if trace in process.said], process.said
    assert published_versions(tmp_path / "w") == {}


@pytest.mark.long
@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize("whole_group", [True, False], ids=["group", "alone"])
@pytest.mark.parametrize(
    ("moment", "pause"),
    [
        ("jvm", 0.0),
        ("jvm", 0.5),
        ("jvm", 2.0),
        ("reading", 0.3),
        ("sorting", 0.3),
        ("checking", 0.1),
    ],
)
def test_a_run_is_interrupted_at_any_time(raw, tmp_path, number, whole_group, moment, pause):
    with running(tmp_path / "log", "run", "binance", raw, "--warehouse", tmp_path / "w") as process:
        if moment == "jvm":
            process.until(process.jvm)
        elif moment:
            process.until_said(moment)
        time.sleep(pause)
        process.send(number, whole_group)
        assert_interrupted(process, number, *([AFTER_INGEST] if moment == "checking" else []))
    again = invoke("run", "binance", raw, "--warehouse", tmp_path / "w")
    assert again.exit_status == 0, again.said


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    raw = write(folder / "raw.gz", simulated_lines(60))
    assert invoke("run", "binance", raw, "--warehouse", folder / "w").exit_status == 0
    return folder / "w"


@pytest.mark.long
@pytest.mark.parametrize("number", BOTH)
@pytest.mark.parametrize(
    "asking",
    [
        ("sql",),
        ("sql", "SELECT count(*) FROM range(100000000000) AS a, range(10000000)", "--unsafe"),
        ("export", "books", "--out", "{out}"),
    ],
    ids=["prompt", "query", "export"],
)
def test_sql_and_export_are_interrupted(warehouse, tmp_path, number, asking):
    arguments = [word.format(out=tmp_path / "out") for word in asking]
    with running(tmp_path / "log", *arguments, "--warehouse", warehouse, stdin="SELECT 1;\n") as process:
        process.until(process.jvm)
        time.sleep(6)
        if process.process.poll() is None:
            process.send(number, whole_group=True)
            assert_interrupted(process, number)
            assert not list(tmp_path.glob("out/*"))


@pytest.mark.long
@pytest.mark.parametrize("number", BOTH)
def test_live_books_end_on_request_with_their_micro_batch(raw, tmp_path, number):
    arguments = ("live", "binance", raw.parent, "--warehouse", tmp_path / "w")
    with running(tmp_path / "log", *arguments) as process:
        process.until_said("following")
        time.sleep(2)
        process.send(number, whole_group=True)
        assert process.ended() == 0, process.said
    assert not [trace for trace in TRACES if trace in process.said], process.said


@pytest.mark.long
@pytest.mark.parametrize(
    ("moment", "pause"), [("jvm", 0.0), ("jvm", 1.0), ("sorting", 0.4), ("checking", 0.1)]
)
def test_a_jvm_may_be_killed_at_any_time(raw, tmp_path, moment, pause):
    with running(tmp_path / "log", "run", "binance", raw, "--warehouse", tmp_path / "w") as process:
        process.until(process.jvm) if moment == "jvm" else process.until_said(moment)
        jvm = process.jvm()
        time.sleep(pause)
        jvm.kill()
        assert process.ended() == 2, process.said
    assert "JVM" in process.lines[-1] and "driver_memory" in process.lines[-1]
    assert not [trace for trace in TRACES if trace in process.said], process.said
