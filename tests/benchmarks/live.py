"""Measure the delay of live books, and how fast they catch up. Usage: python live.py FOLDER.

A separate process writes simulated captures, one file per symbol. It writes each line when the line is due,
with the present time as its receive time. The delay of a row of books is measured from the receive time of
its line to the commit that makes the row visible.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from heapq import merge
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from feeds import DELTABOOK
from report import tell

from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

SYMBOLS, SECONDS, WARM_UP = 8, 90, 45
LOOK = 0.02
ROUNDS = ((1.0, 2.0), (0.2, 0.3))
"""Of each: --trigger and --patience."""
SECOND = 1_000_000_000


def lines_of(number: int, messages: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield receive time, symbol and message of each line."""
    for line in capture_lines(Market(number), messages, f"S{number}USDT", partial_depth=False):
        received, message = line.split(b" ", 1)
        yield int(received), number, message


def write(folder: Path) -> None:
    """Write the captures as they are due."""
    made = folder.parent / f"{SYMBOLS} symbols, {SECONDS} s"
    if not made.exists():  # the market takes longer to simulate than to record
        lines = merge(*(lines_of(number, 10 * SECONDS) for number in range(SYMBOLS)))
        made.write_bytes(b"".join(b"%d %d %s" % line for line in lines))
    parts = (line.split(b" ", 2) for line in made.read_bytes().splitlines(keepends=True))
    due = [(int(received), int(number), message) for received, number, message in parts]
    files = [(folder / f"s{number}.jsonl").open("ab", buffering=0) for number in range(SYMBOLS)]
    first, started, at = due[0][0], time.time_ns(), 0
    while at < len(due):
        now, waiting = time.time_ns(), [b""] * SYMBOLS
        while at < len(due) and due[at][0] - first <= now - started:
            _, number, message = due[at]
            waiting[number] += b"%d %s" % (now, message)
            at += 1
        for file, data in zip(files, waiting, strict=True):
            file.write(data)
        time.sleep(LOOK)


def follow(captures: Path, warehouse: Path, *options: str) -> list[dict]:
    """Run `deltabook live`; return what it has told of its micro-batches."""
    command = [str(DELTABOOK), "live", "binance", str(captures), "--warehouse", str(warehouse)]
    told = subprocess.run([*command, "--log", "json", *options], capture_output=True, text=True, check=False)
    if told.returncode:
        raise SystemExit(told.stderr[-2000:])
    lines = (json.loads(line) for line in told.stderr.splitlines() if line.startswith("{"))
    return [line for line in lines if line.get("event") == "micro-batch"]


def delays(warehouse: Path) -> np.ndarray:
    """Seconds from each row's receive time to the commit that shows it, without those of the start."""
    books, found = warehouse / "live" / "books", []
    for log in books.glob("_delta_log/*.json"):
        shown = log.stat().st_mtime_ns
        for line in log.read_text().splitlines():
            if path := json.loads(line).get("add", {}).get("path"):
                received = pq.ParquetFile(books / path).read(["received"])["received"].to_numpy()
                found.append(np.stack((received, shown - received)))
    received, late = np.concatenate(found, axis=1)
    return late[received > received.min() + WARM_UP * SECOND] / SECOND


def delay(folder: Path, trigger: float, patience: float) -> dict:
    captures, warehouse = folder / "live captures", folder / "warehouse live"
    for path in (captures, warehouse):
        shutil.rmtree(path, ignore_errors=True)
    captures.mkdir(parents=True)
    writer = subprocess.Popen([sys.executable, __file__, str(captures), "write"])
    while not any(path.stat().st_size for path in captures.glob("*")):
        time.sleep(LOOK)
    options = ["--trigger", str(trigger), "--patience", str(patience), "--stop-after-idle", "5"]
    batches = follow(captures, warehouse, *options)
    writer.wait()
    half, most, nearly_all = np.percentile(delays(warehouse), [50, 90, 99])
    busy = [batch["seconds"] for batch in batches if batch["messages"]]
    return {
        "what": f"--trigger {trigger} --patience {patience}",
        "messages/s": round(sum(batch["messages"] for batch in batches) / SECONDS),
        "delay, median": round(float(half), 2),
        "p90": round(float(most), 2),
        "p99": round(float(nearly_all), 2),
        "micro-batches": len(busy),
        "s each": round(float(np.median(busy)), 2),
    }


def catch_up(folder: Path) -> dict:
    """Follow what the last round has recorded, all of which is there."""
    shutil.rmtree(folder / "warehouse live", ignore_errors=True)
    started = time.monotonic()
    batches = follow(folder / "live captures", folder / "warehouse live", "--once", "--trigger", "0")
    seconds = time.monotonic() - started
    steady = batches[1:]  # the first one waits for workers and kernels
    messages, busy = (sum(batch[name] for batch in steady) for name in ("messages", "seconds"))
    return {
        "what": "catching up",
        "messages/s": round(messages / busy),
        "micro-batches": len(batches),
        "s each": round(float(np.median([batch["seconds"] for batch in steady])), 2),
        "messages": sum(batch["messages"] for batch in batches),
        "s with start": round(seconds, 1),
    }


def main(folder: Path) -> None:
    rows = [delay(folder, trigger, patience) for trigger, patience in ROUNDS]
    rows.append(catch_up(folder))
    names = dict.fromkeys(name for row in rows for name in row)
    rows = [{name: row.get(name, "") for name in names} for row in rows]
    tell(folder, "live", f"{SYMBOLS} symbols, written for {SECONDS} s; delays in seconds", rows)


if __name__ == "__main__":
    if sys.argv[2:] == ["write"]:
        write(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]))
