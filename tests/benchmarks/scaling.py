"""Measure how run time depends on input and settings, and fit a model. Usage: python scaling.py FOLDER.

The sizes vary in hours, symbols, changes per hour, changes per message, depth and cores. Each size is
ingested and rebuilt in a warm session. The model is fitted to the runs on two cores by least squares. The
script prints a table, but does not judge whether the times grow linearly.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from lake_data import HOUR_NANOSECONDS, lake_path, write_deltas, write_seed
from report import tell

UNIT = 500_000
"""Level changes of a symbol-hour."""
SIZES: list[dict[str, Any]] = [
    *({"hours": hours} for hours in (1, 2, 4, 8, 16, 32)),
    *({"symbols": symbols} for symbols in (2, 4, 8, 16, 32, 64)),
    *({"hours": 4, "hourly": hourly} for hourly in (50_000, 2_000_000, 8_000_000)),
    *({"hours": 8, "per_message": per_message} for per_message in (5, 100)),
    *({"hours": 8, "depth": depth} for depth in (1, 100)),
    *({"hours": 8, "symbols": 2, "cores": cores} for cores in (1, 2)),
]
YEAR_SYMBOLS, YEAR_CHANGES = 50, 8_000_000


def raw(folder: Path, hours: int, symbols: int, hourly: int, per_message: int) -> Path:
    """Make a folder of files, if it is not there."""
    root = folder / "scaling" / f"{hours} hours of {hourly}, {symbols} symbols, {per_message} a message"
    span = HOUR_NANOSECONDS * per_message // hourly
    for number in range(symbols):
        symbol = f"S{number}-USDT"
        path = lake_path(root, "book_delta_v2", symbol=symbol)
        if not path.exists():
            partial = path.with_name(".partial")
            shape = {"rows_per_message": per_message, "message_nanoseconds": span, "symbol": symbol}
            write_deltas(partial, hourly * hours, **shape, seed=number)
            write_seed(lake_path(root, "book", symbol=symbol), symbol=symbol)
            partial.rename(path)
    return root


def measured(folder: Path, cores: int) -> list[dict[str, Any]]:
    """Run all sizes of a number of cores in one session of its own."""
    command = [sys.executable, __file__, str(folder), str(cores)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def run_sizes(folder: Path, cores: int) -> list[dict[str, Any]]:
    import shutil

    from rich.console import Console

    from deltabook.jobs.console.progress import Progress
    from deltabook.jobs.pipeline.ingest import ingest
    from deltabook.jobs.pipeline.reconstruct import reconstruct
    from deltabook.jobs.runtime.session import spark_session
    from deltabook.jobs.runtime.settings import load_settings
    from deltabook.jobs.warehouse.warehouse import Warehouse

    root, rows, warm = folder / "warehouse scaling", [], count()
    spark = spark_session(load_settings(None, {"master": f"local[{cores}]"}))
    progress = Progress(spark, Console(file=sys.stderr))
    sizes = [size for size in SIZES if size.get("cores", 2) == cores]
    for size in [sizes[0], *sizes]:  # the first one twice: it warms the session
        hours, symbols = size.get("hours", 1), size.get("symbols", 1)
        path = raw(folder, hours, symbols, size.get("hourly", UNIT), size.get("per_message", 25))
        shutil.rmtree(root, ignore_errors=True)
        overrides = {"warehouse": root, "seed": "golden", "depth": str(size.get("depth", 20))}
        warehouse = Warehouse(spark, load_settings(None, overrides))
        with warehouse.writing("ingest") as run:
            read = ingest(warehouse, run, "crypto_lake", [path], progress)
        with warehouse.writing("reconstruct"):
            built = reconstruct(warehouse, progress)
        if next(warm):
            rows.append({
                "hours": hours, "symbols": symbols, "changes a message": size.get("per_message", 25),
                "depth": size.get("depth", 20), "cores": cores, "symbol-hours": built["symbol_hours"],
                "M changes": read["level_changes"] / 1e6, "ingest, s": read["ingest_seconds"],
                "rebuild, s": built["reconstruct_seconds"],
            })  # fmt: skip
    return rows


def fitted(rows: list[dict[str, Any]]) -> tuple[np.ndarray, float]:
    """Fit seconds = a run + symbol-hours * b + million changes * c; return the three and the worst error."""
    chosen = [
        row for row in rows if row["cores"] == 2 and row["depth"] == 20 and row["changes a message"] == 25
    ]
    inputs = np.array([[1.0, row["symbol-hours"], row["M changes"]] for row in chosen])
    seconds = np.array([row["ingest, s"] + row["rebuild, s"] for row in chosen])
    # Relative errors count alike, so that small runs are not drowned by the long ones.
    parts, *_ = np.linalg.lstsq(inputs / seconds[:, None], np.ones(len(seconds)), rcond=None)
    return parts, float(np.abs(inputs @ parts / seconds - 1).max())


def main(folder: Path) -> None:
    rows = [row for cores in (2, 1) for row in measured(folder, cores)]
    for row in rows:
        row["M changes/s"] = row["M changes"] / (row["ingest, s"] + row["rebuild, s"])
    (run, symbol_hour, million), worst = fitted(rows)
    hours = YEAR_SYMBOLS * 365 * 24
    year = hours * symbol_hour + hours * YEAR_CHANGES / 1e6 * million
    notes = (
        f"two cores, warm: {run:.2f} s a run + {symbol_hour * 1000:.0f} ms a symbol-hour + {million:.3f} s a "
        f"million changes; every run within {worst:.0%}",
        f"a year of {YEAR_SYMBOLS} symbols, {YEAR_CHANGES / 1e6:.0f} M changes a symbol-hour: {hours:,} "
        f"symbol-hours, {year * 2 / 3600:,.0f} core-hours; {year / 86_400:.1f} days on these two cores",
    )
    model = {"run": run, "symbol_hour": symbol_hour, "million_changes": million, "worst_error": worst}
    tell(folder, "scaling", "Ingest and rebuild, warm session", rows, notes, model=model)


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2].isdigit():
        print(json.dumps(run_sizes(Path(sys.argv[1]), int(sys.argv[2]))))
    else:
        main(Path(sys.argv[1]))
