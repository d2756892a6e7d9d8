"""Crypto Lake rows into the Delta table `events`, beside peers that only read the same files into memory.

python tests/benchmarks/reading.py FOLDER [ROUNDS]: three symbol-hours of 8 M rows are made in FOLDER once.
Each round runs each program once, in a process of its own, one after another.
"""

import json
import shutil
import statistics
import sys
from pathlib import Path

from lake_data import HOUR_ROWS, hours_file
from measure import measure
from peers import READERS
from rich.console import Console
from rich.table import Table

SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
DELTABOOK = str(Path(__file__).parents[2] / ".venv" / "bin" / "deltabook")


def raw_files(folder: Path) -> Path:
    """Make the files if they are not there."""
    raw = folder / "three symbols"
    for seed, symbol in enumerate(SYMBOLS):
        hours_file(raw, symbol=symbol, seed=seed)
    return raw


def ingest(raw: Path, warehouse: Path) -> dict[str, float]:
    """Run `deltabook ingest` into a new warehouse; see that every level change is in it."""
    shutil.rmtree(warehouse, ignore_errors=True)
    measured = measure(
        [DELTABOOK, "ingest", "crypto_lake", str(raw), "--warehouse", str(warehouse), "--json"]
    )
    summary = json.loads(measured.stdout.splitlines()[-1])
    rows = summary["level_changes"]
    return {"rows": rows, "seconds": summary["ingest_seconds"], "process": measured.seconds}


def warm_ingest(raw: Path, warehouse: Path) -> dict[str, float]:
    """The same in a session that has ingested before: without the start of the JVM and of its workers."""
    command = [str(Path(DELTABOOK).with_name("python")), str(Path(__file__).with_name("warm.py"))]
    measured = measure([*command, str(raw), str(warehouse)])
    return json.loads(measured.stdout.splitlines()[-1]) | {"process": measured.seconds}


def peer(name: str, raw: Path) -> dict[str, float]:
    measured = measure([sys.executable, str(Path(__file__).with_name("peers.py")), name, str(raw)])
    return json.loads(measured.stdout) | {"process": measured.seconds}


def main(folder: Path, rounds: int) -> None:
    raw = raw_files(folder)
    programs = {
        "deltabook ingest": lambda: ingest(raw, folder / "warehouse"),
        "deltabook ingest, session warm": lambda: warm_ingest(raw, folder / "warehouse"),
    }
    programs |= {f"{name}, reading only": lambda name=name: peer(name, raw) for name in READERS}
    runs = {name: [] for name in programs}
    for _ in range(rounds):
        for name, run in programs.items():
            runs[name].append(run())
            if runs[name][-1]["rows"] != HOUR_ROWS * len(SYMBOLS):
                raise SystemExit(f"{name} has read {runs[name][-1]['rows']:,} rows")
    title = f"{HOUR_ROWS * len(SYMBOLS):,} rows, {len(SYMBOLS)} files, median of {rounds} rounds"
    table = Table("", "seconds", "M rows/s", "of deltabook's time", "whole process, s", title=title)
    middle = {
        name: [statistics.median(run[what] for run in found) for what in ("seconds", "process")]
        for name, found in runs.items()
    }
    ours = middle["deltabook ingest"][0]
    for name, (seconds, process) in middle.items():
        rate = HOUR_ROWS * len(SYMBOLS) / seconds / 1e6
        table.add_row(name, f"{seconds:.1f}", f"{rate:.2f}", f"{seconds / ours:.2f}", f"{process:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
