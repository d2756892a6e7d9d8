"""Measure how fast events are rebuilt into books in a warm session. Usage: python rebuilding.py FOLDER.

Run the script with the project's own Python. Crypto Lake files of 1 to 16 symbol-hours of 8 M level changes
are made in FOLDER once, each with the vendor's book that seeds it. To force a rebuild of every hour, the
script changes a setting that has no effect on the rows.
"""

import shutil
import sys
import time
from pathlib import Path

from lake_data import HOUR_ROWS, hours_file
from rich.console import Console
from rich.table import Table

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.pipeline import reconstruct as job
from deltabook.jobs.pipeline.ingest import ingest
from deltabook.jobs.runtime.session import spark_session
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import RowPolicy
from deltabook.schemas.tables import BOOKS, CHECKPOINTS, EVENTS
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.rebuild.checkpoints import restore_book_state
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.storage.data_files import write_data_file
from deltabook.udfs.storage.event_files import read_checkpoint, read_events

KEY = ("BINANCE", "BTC-USDT")
ROUNDS = 2
HOURS = (1, 2, 4, 8, 16)
CADENCES = ("change", "change,100ms,1s", "message", "100ms", "1s")
silences = iter(range(60, 3600))


def opened(spark, root: Path, **settings) -> Warehouse:
    return Warehouse(spark, load_settings(None, {"warehouse": root, "seed": "golden"} | settings))


def rebuild(spark, root: Path, **settings) -> tuple[float, int]:
    """Rebuild every hour; return the seconds and the rows of books."""
    warehouse = opened(spark, root, silence_seconds=next(silences), **settings)
    with warehouse.writing("reconstruct"):
        started = time.perf_counter()
        summary = job.reconstruct(warehouse, Progress(spark, Console(file=sys.stderr)))
        seconds = time.perf_counter() - started
    if summary["symbol_hours_rebuilt"] != summary["symbol_hours"]:
        raise SystemExit(f"rebuilt {summary['symbol_hours_rebuilt']} of {summary['symbol_hours']} hours")
    return seconds, sum(summary["book_rows"].values())


def stages(warehouse: Warehouse) -> dict[str, float]:
    """Seconds of an hour's stages on one core, one after another."""
    hour = sorted(warehouse.data_files(EVENTS))[1]
    (events_file,), (checkpoint_file,) = (
        warehouse.data_files(table)[hour] for table in (EVENTS, CHECKPOINTS)
    )
    numbers, best = Scaled(2, 5), {}
    for _ in range(ROUNDS):
        opening = restore_book_state(read_checkpoint(checkpoint_file, KEY[0], hour[2]), numbers)
        rebuilder = Rebuilder(*KEY, FEEDS["crypto_lake"], RowPolicy(), numbers, opening)
        times = [time.perf_counter()]
        events = list(read_events(events_file, *KEY, hour[2]))
        times.append(time.perf_counter())
        books = [rebuilder.apply_events(batch) for batch in events]
        times.append(time.perf_counter())
        write_data_file(str(warehouse.root / "_measured"), BOOKS, books)
        times.append(time.perf_counter())
        for name, start, end in zip(
            ("reading", "kernel and rows", "writing"), times, times[1:], strict=False
        ):
            best[name] = min(best.get(name, end - start), end - start)
    shutil.rmtree(warehouse.root / "_measured")
    return best


def main(folder: Path) -> None:
    spark = spark_session(load_settings(None, {"master": "local[2]"}))
    chosen = job.is_single_pass_faster
    ways = {"one pass": lambda *_: True, "chain, then replay": lambda *_: False}
    roots = {hours: folder / f"warehouse {hours}" for hours in HOURS}
    for hours, root in roots.items():
        shutil.rmtree(root, ignore_errors=True)
        with opened(spark, root).writing("ingest") as run:
            lake = hours_file(folder / f"{hours} hours, seeded", hours, with_seed=True)
            ingest(opened(spark, root), run, "crypto_lake", [lake], Progress(spark, Console(file=sys.stderr)))
    seconds: dict[tuple[str, int], float] = {}
    rows: dict[int, int] = {}
    cadences: dict[str, float] = {}
    for _ in range(ROUNDS):  # what is compared lies close together in time
        for way, at_once in ways.items():
            job.is_single_pass_faster = at_once
            for hours, root in roots.items():
                took, rows[hours] = rebuild(spark, root)
                seconds[way, hours] = min(seconds.get((way, hours), took), took)
        job.is_single_pass_faster = chosen
        for cadence in CADENCES:
            took, _ = rebuild(spark, roots[2], cadence=cadence)
            cadences[cadence] = min(cadences.get(cadence, took), took)
    tell(seconds, rows, cadences, stages(opened(spark, roots[4])))


def tell(
    seconds: dict[tuple[str, int], float],
    rows: dict[int, int],
    cadences: dict[str, float],
    parts: dict[str, float],
) -> None:
    console = Console(width=110)
    table = Table("symbol-hours", "way", "seconds", "a further hour", "M level changes/s", "rows of books")
    for (way, hours), took in seconds.items():
        further = f"{(took - seconds[way, 1]) / (hours - 1):.2f}" if hours > 1 else ""
        rate = HOUR_ROWS * hours / took / 1e6
        table.add_row(str(hours), way, f"{took:.1f}", further, f"{rate:.2f}", f"{rows[hours]:,}")
    console.print(table)
    whole = sum(parts.values())
    for name, took in parts.items():
        console.print(f"{name}: {took:.2f} s an hour on one core, {took / whole:.0%}")
    for cadence, took in cadences.items():
        console.print(f"--cadence {cadence}: {took / cadences['change']:.2f} of the time of change")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
