"""Measure one `deltabook run` on more than 100 M level changes. Usage: python requirements.py FOLDER.

The input has three symbols with five hours of 8 M level changes each, in messages of ten changes, and the
vendor's book of 20 levels after every message. In total, 120 M changes are rebuilt and compared with 12 M
golden books.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
import sys
from pathlib import Path

from deltalake import DeltaTable
from feeds import DELTABOOK
from lake_books import write_books
from lake_data import HOUR_NANOSECONDS, HOUR_ROWS, lake_path, write_deltas
from measure import measure
from report import tell

SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
HOURS, PER_MESSAGE = 5, 10
LEAST_GOLDEN, LEAST_RATE = 11_150_000, 100_000
STAGE = re.compile(r"^(\w+) +[\d,]+ .* in ([\d.]+) s$", re.MULTILINE)


def make(folder: Path) -> None:
    for seed, symbol in enumerate(SYMBOLS):
        path = lake_path(folder, "book_delta_v2", symbol=symbol)
        if not path.exists():
            span = HOUR_NANOSECONDS * PER_MESSAGE // HOUR_ROWS - 20_000
            partial = path.with_name(".partial")
            shape = {"rows_per_message": PER_MESSAGE, "message_nanoseconds": span, "symbol": symbol}
            write_deltas(partial, HOUR_ROWS * HOURS, **shape, seed=100 + seed)
            partial.rename(path)
        write_books(folder, symbol)


def minutes(stages: list[tuple[str, float]], changes: int, whole: float) -> list[float]:
    """Changes a second of every minute, the last one as long as it is.

    A change has passed through when all stages have had it: each stage is an equal part of the way, and
    goes through its changes evenly. What comes before, between and after the stages carries none.
    """
    starts, at = [], whole - sum(seconds for _, seconds in stages)
    for _, seconds in stages:
        starts.append((at, at + seconds, changes / len(stages) / seconds))
        at += seconds
    rates = []
    for begin in range(0, math.ceil(whole), 60):
        finish = min(begin + 60.0, whole)
        done = sum(rate * max(0.0, min(end, finish) - max(start, begin)) for start, end, rate in starts)
        rates.append(done / (finish - begin))
    return rates


def main(folder: Path) -> None:
    raw, warehouse = folder / "requirements", folder / "warehouse requirements"
    make(raw)
    shutil.rmtree(warehouse, ignore_errors=True)
    command = [str(DELTABOOK), "run", "crypto_lake", str(raw), "--warehouse", str(warehouse)]
    measured = measure([*command, "--seed", "golden", "--json"], memory=True)
    summary = json.loads(measured.stdout.splitlines()[-1])
    stages = [(name, float(seconds)) for name, seconds in STAGE.findall(measured.stderr)]
    changes = summary["level_changes"]
    golden = summary["golden_matches"]["vendor_book"]
    rates = minutes(stages, changes, measured.seconds)
    published = DeltaTable(warehouse / "runs").to_pyarrow_table()["command"].to_pylist()
    for wrong, what in (
        (changes < 100_000_000, f"{changes:,} level changes"),
        (golden["compared"] < LEAST_GOLDEN, f"{golden['compared']:,} golden books compared"),
        (
            golden["matched"] != golden["compared"],
            f"{golden['matched']:,} of {golden['compared']:,} golden books equal",
        ),
        (min(rates) < LEAST_RATE, f"{min(rates):,.0f} changes/s in the slowest minute"),
        (
            any(verdict != "passed" for verdict in summary["verdicts"].values()),
            f"verdicts {summary['verdicts']}",
        ),
        (sorted(published) != ["ingest", "reconstruct", "validate"], f"published: {published}"),
    ):
        if wrong:
            raise SystemExit(f"the requirements are not met: {what}")
    rows = [
        {"what": "level changes, three symbols, one command", "figure": changes},
        {"what": "symbol-hours", "figure": summary["symbol_hours"]},
        {"what": "golden books compared, equal at 20 levels a side", "figure": golden["matched"]},
        {"what": "seconds, from the shell and back", "figure": measured.seconds},
        {"what": "changes/s", "figure": changes / measured.seconds},
        {"what": "changes/s in a minute: least", "figure": min(rates)},
        {"what": "changes/s in a minute: median", "figure": statistics.median(rates)},
        {"what": "changes/s in a minute: most", "figure": max(rates)},
        {"what": "peak memory of all processes, MiB", "figure": measured.peak_bytes >> 20},
        {"what": "peak memory of the Python processes, MiB", "figure": measured.peak_python_bytes >> 20},
        *({"what": f"stage {name}, s", "figure": seconds} for name, seconds in stages),
    ]
    note = (
        "A minute's rate counts a change once all stages have had it, each stage as an equal part of its way."
    )
    tell(folder, "requirements", "100 M level changes in one command", rows, (note,), minutes=rates)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
