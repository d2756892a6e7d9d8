"""Measure `deltabook ingest` on Crypto Lake rows, beside libraries that only read the files into memory.

Usage: python reading.py FOLDER [PEERS_PYTHON]. Three symbol-hours of 8 M rows are made in FOLDER once. Each
round runs each program once, one after another, each in its own process.
"""

import json
import shutil
import statistics
import sys
from pathlib import Path

from feeds import DELTABOOK
from lake_data import HOUR_ROWS
from measure import measure
from peer_readers import READERS
from pipeline import SYMBOLS, lake_files
from report import tell

ROUNDS = 3


def ingest(raw: Path, warehouse: Path) -> dict[str, float]:
    """Run `deltabook ingest` into a new warehouse; see that every level change is in it."""
    shutil.rmtree(warehouse, ignore_errors=True)
    measured = measure(
        [str(DELTABOOK), "ingest", "crypto_lake", str(raw), "--warehouse", str(warehouse), "--json"]
    )
    summary = json.loads(measured.stdout.splitlines()[-1])
    rows = summary["level_changes"]
    return {"rows": rows, "seconds": summary["ingest_seconds"], "process": measured.seconds}


def warm_ingest(raw: Path, warehouse: Path) -> dict[str, float]:
    """The same in a session that has ingested before: without the start of the JVM and of its workers."""
    command = [sys.executable, str(Path(__file__).with_name("warm.py"))]
    measured = measure([*command, str(raw), str(warehouse)])
    return json.loads(measured.stdout.splitlines()[-1]) | {"process": measured.seconds}


def peer(name: str, raw: Path, python: str) -> dict[str, float]:
    measured = measure([python, str(Path(__file__).with_name("peer_readers.py")), name, str(raw)])
    return json.loads(measured.stdout) | {"process": measured.seconds}


def main(folder: Path, peers_python: str | None) -> None:
    lake_files(folder)
    raw = folder / "three symbols" / "book_delta_v2"
    programs = {
        "deltabook ingest": lambda: ingest(raw, folder / "warehouse"),
        "deltabook ingest, session warm": lambda: warm_ingest(raw, folder / "warehouse"),
    }
    if peers_python:
        programs |= {
            f"{name}, reading only": lambda name=name: peer(name, raw, peers_python) for name in READERS
        }
    runs = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, run in programs.items():
            runs[name].append(run())
            if runs[name][-1]["rows"] != HOUR_ROWS * len(SYMBOLS):
                raise SystemExit(f"{name} has read {runs[name][-1]['rows']:,} rows")
    middle = {
        name: [statistics.median(run[what] for run in found) for what in ("seconds", "process")]
        for name, found in runs.items()
    }
    ours = middle["deltabook ingest"][0]
    rows = [
        {"program": name, "seconds": seconds, "M rows/s": HOUR_ROWS * len(SYMBOLS) / seconds / 1e6,
         "of deltabook's time": seconds / ours, "whole process, s": process}
        for name, (seconds, process) in middle.items()
    ]  # fmt: skip
    title = (
        f"{HOUR_ROWS * len(SYMBOLS):,} rows of {len(SYMBOLS)} files into `events`, median of {ROUNDS} rounds"
    )
    tell(folder, "reading", title, rows, ("Peers read the same files into memory and write nothing.",))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
