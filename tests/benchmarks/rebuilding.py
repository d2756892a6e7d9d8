"""Events into books, in a warm session: python rebuilding.py FOLDER, with the project's own Python.

Crypto Lake files of 1, 2, 4 and 8 symbol-hours of 8 M level changes are made in FOLDER once, each with the
vendor's book that seeds it. A change of a setting that no row shows makes every hour be rebuilt.
"""

import shutil
import sys
import time
from pathlib import Path

from lake_data import lake_path, write_deltas, write_seed
from rich.console import Console
from rich.table import Table

from deltabook.jobs import reconstruct as job
from deltabook.jobs.ingest import ingest
from deltabook.jobs.progress import Progress
from deltabook.jobs.session import spark_session
from deltabook.jobs.settings import load_settings
from deltabook.jobs.warehouse import Warehouse

ROWS = 8_000_000
ROWS_PER_MESSAGE = 25
MESSAGE_NANOSECONDS = 3_600_000_000_000 * ROWS_PER_MESSAGE // ROWS - 50_000
ROUNDS = 3


def lake_folder(folder: Path, hours: int) -> Path:
    """Make the files if they are not there."""
    lake = folder / f"{ROWS * hours} rows, seeded"
    path = lake_path(lake, "book_delta_v2")
    if not path.exists():
        partial = path.with_suffix(".partial")
        shape = {"rows_per_message": ROWS_PER_MESSAGE, "message_nanoseconds": MESSAGE_NANOSECONDS}
        write_deltas(partial, ROWS * hours, **shape)
        write_seed(lake_path(lake, "book"))
        partial.rename(path)
    return lake


def rebuild(spark, root: Path, silence: int) -> tuple[float, int]:
    """Rebuild every hour; return the seconds and the rows of books."""
    settings = load_settings(None, {"warehouse": root, "seed": "golden", "silence_seconds": silence})
    warehouse = Warehouse(spark, settings)
    with warehouse.writing("reconstruct"):
        started = time.perf_counter()
        summary = job.reconstruct(warehouse, Progress(spark, Console(file=sys.stderr)))
        seconds = time.perf_counter() - started
    if summary["symbol_hours_rebuilt"] != summary["symbol_hours"]:
        raise SystemExit(f"rebuilt {summary['symbol_hours_rebuilt']} of {summary['symbol_hours']} hours")
    return seconds, sum(summary["book_rows"].values())


def main(folder: Path) -> None:
    spark = spark_session(load_settings(None, {"master": "local[2]"}))
    chosen = job._at_once
    table = Table("symbol-hours", "level changes", "way", "seconds", "M level changes/s", "rows of books")
    for hours in (1, 2, 4, 8):
        root = folder / "warehouse"
        shutil.rmtree(root, ignore_errors=True)
        warehouse = Warehouse(spark, load_settings(None, {"warehouse": root}))
        with warehouse.writing("ingest") as run:
            progress = Progress(spark, Console(file=sys.stderr))
            ingest(warehouse, run, "crypto_lake", [lake_folder(folder, hours)], progress)
        for way, at_once in (("one pass", lambda *_: True), ("chain, then replay", lambda *_: False)):
            job._at_once = at_once
            took = [
                rebuild(spark, root, 3000 + number + 100 * (way != "one pass")) for number in range(ROUNDS)
            ]
            seconds, rows = min(took)
            rate = ROWS * hours / seconds / 1e6
            table.add_row(str(hours), f"{ROWS * hours:,}", way, f"{seconds:.1f}", f"{rate:.2f}", f"{rows:,}")
    job._at_once = chosen
    Console(width=110).print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
