"""Measure the disk space of books, kept as events and checkpoints or in full after every message.

Usage: python storage.py FOLDER. The input is the real captures if they are available, else simulated
captures.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from feeds import CAPTURES, DELTABOOK
from report import tell

from deltabook.jobs.tools.demo import write_captures


def bytes_of(warehouse: Path, table: str) -> int:
    return sum(
        path.stat().st_size
        for path in (warehouse / table).rglob("*.parquet")
        if "_delta_log" not in path.parts
    )


def in_memory(warehouse: Path, table: str) -> int:
    """Bytes of a table's numbers once read, eight a number."""
    total = 0
    for path in (warehouse / table).rglob("*.parquet"):
        if "_delta_log" not in path.parts:
            with path.open("rb") as stream:
                for batch in pq.ParquetFile(stream).iter_batches(batch_size=512):
                    total += batch.nbytes
    return total


def main(folder: Path) -> None:
    captures = CAPTURES if CAPTURES.is_dir() else folder / "simulated captures"
    if captures != CAPTURES and not captures.exists():
        write_captures(captures)
    rows = []
    for market in ("spot", "usdm") if captures == CAPTURES else ("",):
        raw = sorted(map(str, (captures / market).glob("*.gz")))
        size = {}
        for depth in ("20", "full"):
            warehouse = folder / f"warehouse depth {depth}"
            shutil.rmtree(warehouse, ignore_errors=True)
            command = [
                str(DELTABOOK),
                "run",
                "binance",
                *raw,
                "--warehouse",
                str(warehouse),
                "--depth",
                depth,
            ]
            subprocess.run([*command, "--cadence", "message"], check=True, capture_output=True)
            size[depth] = {table: (bytes_of(warehouse, table), in_memory(warehouse, table))
                           for table in ("events", "checkpoints", "books")}  # fmt: skip
        kept = [sum(size["20"][table][place] for table in ("events", "checkpoints")) for place in (0, 1)]
        for depth in ("20", "full"):
            disk, memory = size[depth]["books"]
            rows.append({
                "captures": market or "simulated", "levels": "20 a side" if depth == "20" else "all",
                "events + checkpoints, MB": kept[0] / 1e6, "books, MB": disk / 1e6,
                "disk saved": f"{1 - kept[0] / disk:.0%}", "in memory, MB": kept[1] / 1e6,
                "books, MB in memory": memory / 1e6, "memory saved": f"{1 - kept[1] / memory:.0%}",
            })  # fmt: skip
    tell(folder, "storage", "A row of books after every message, and what it can be rebuilt from", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
