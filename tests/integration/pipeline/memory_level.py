"""Check that memory does not grow over many tasks and micro-batches: `make test-memory`.

pytest does not collect this file, because it runs for hours with its default counts. The environment
variables DELTABOOK_TASKS and DELTABOOK_BATCHES set other counts.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_tasks import REFERENCES, RESULTS, note_task, numbered, unfreed

from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.streaming.follow_settings import FollowSettings
from deltabook.jobs.streaming.live import live
from deltabook.jobs.warehouse.tasks import GroupedWork
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

TASKS = int(os.environ.get("DELTABOOK_TASKS", 50_000))
BATCHES = int(os.environ.get("DELTABOOK_BATCHES", 20_000))
SYMBOLS = 5000
LEVEL = 16
"""MB by which the JVM's direct memory may grow from the first report to the last: one block of its pool."""
# Read by each JVM that is started from here on.
os.environ["JDK_JAVA_OPTIONS"] = "-XX:NativeMemoryTracking=summary"


def direct_memory(spark) -> float:
    """Return the MB that the JVM holds outside of its heap for buffers, after garbage collection."""
    jvm = spark.sparkContext._jvm
    jvm.java.lang.System.gc()
    process = jvm.java.lang.ProcessHandle.current().pid()
    jcmd = subprocess.run(
        ["jcmd", str(process), "VM.native_memory"], capture_output=True, text=True, check=True
    )
    return int(re.search(r"Other \(reserved=(\d+)KB", jcmd.stdout)[1]) / 1024


def report(what: str, count: int, spark) -> float:
    memory = direct_memory(spark)
    say(f"{what} {count:,}: {memory:.1f} MB direct, unfreed {unfreed(spark)}")
    return memory


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def test_direct_memory_is_level_over_many_tasks(spark, tmp_path):
    warehouse = Warehouse(spark, load_settings(None, {"warehouse": str(tmp_path / "w")}))
    memory = []
    for share in range(10):
        for _ in range(TASKS // 80):
            found = warehouse.apply(GroupedWork(REFERENCES, numbered(16), ["symbol"], note_task, RESULTS))
            assert len({row.task for row in found}) == 8
        memory.append(report("tasks", (share + 1) * TASKS // 10, spark))
    assert memory[-1] - memory[0] < LEVEL


class Batches(logging.Handler):
    """Counts micro-batches by what `live` logs, and notes the memory twenty times."""

    def __init__(self, spark):
        super().__init__()
        self.spark, self.count, self.memory = spark, 0, []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "fields", {}).get("event") == "micro-batch":
            self.count += 1
            if self.count % (BATCHES // 20) == 0:
                self.memory.append(report("micro-batches", self.count, self.spark))

    def is_over(self) -> bool:
        return self.count >= BATCHES


def feed(file: Path, ended: threading.Event) -> None:
    """Let a capture grow by a few lines fifty times a second."""
    with file.open("ab", buffering=0) as stream:
        for number, line in enumerate(capture_lines(Market(7), 10_000_000, "BTCUSDT")):
            stream.write(line)
            if number % 4 == 0 and ended.wait(0.02):
                return


def test_direct_memory_is_level_over_many_micro_batches(spark, tmp_path):
    captures = tmp_path / "captures"
    captures.mkdir()
    ended, batches, log = threading.Event(), Batches(spark), logging.getLogger("deltabook")
    feeder = threading.Thread(target=feed, args=(captures / "btc.jsonl", ended))
    log.addHandler(batches)
    feeder.start()
    try:
        warehouse = Warehouse(spark, load_settings(None, {"warehouse": str(tmp_path / "w")}))
        live(warehouse, FollowSettings("binance", captures, trigger=0.001), batches.is_over)
    finally:
        ended.set()
        feeder.join()
        log.removeHandler(batches)
    assert batches.memory[-1] - batches.memory[0] < LEVEL


def one_diff(number: int) -> str:
    """Return the line of a Binance capture with the first diff of a symbol of its own."""
    symbol, time_ms = f"A{number}USDT", 1_723_161_600_000 + number
    data = {"e": "depthUpdate", "E": time_ms, "s": symbol, "U": 1, "u": 2, "b": [["1.5", "2"]], "a": []}
    message = json.dumps({"stream": f"{symbol.lower()}@depth@100ms", "data": data})
    return f"{time_ms}000000 {message}\n"


def test_a_file_of_many_symbols_needs_little_direct_memory(tmp_path):
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(one_diff(number) for number in range(SYMBOLS)))
    started = time.monotonic()
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("deltabook")),
            "run",
            "binance",
            raw,
            "--warehouse",
            tmp_path / "w",
            "--json",
        ],
        env=os.environ | {"JDK_JAVA_OPTIONS": "-XX:MaxDirectMemorySize=512m"},
        capture_output=True,
        text=True,
        check=False,
    )
    say(f"{SYMBOLS:,} symbols in {time.monotonic() - started:.0f} s")
    summary = json.loads(run.stdout.splitlines()[-1])
    assert (summary["events"], summary["refused"]) == (SYMBOLS, [])
