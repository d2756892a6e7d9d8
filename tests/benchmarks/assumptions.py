"""Measure assumptions behind the design. Usage: python assumptions.py FOLDER.

For each assumption, two ways of doing the same work are timed in turn on one symbol-hour of 8 M level
changes, in plain Python processes without Spark. The ids of the assumptions, such as R-CLD-01, are explained
in `jobs/decisions`. Other scripts measure two of the assumptions: `storage.py` measures R-CLD-01, and
`kernel.py` measures R-GMN-04.
"""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from feeds import DELTABOOK
from lake_data import HOUR_ROWS, hours_file
from report import tell

from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import RowPolicy
from deltabook.schemas.tables import BOOKS
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.rebuild.checkpoints import restore_book_state
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.storage.data_files import write_data_file
from deltabook.udfs.storage.event_files import BATCH_ROWS, read_checkpoint, read_events

KEY = ("BINANCE", "BTC-USDT")
ROUNDS = 3
SYMBOLS = 4


def warehouse_of(folder: Path) -> Path:
    """An hour, ingested and rebuilt, so that its opening book is there."""
    root = folder / "warehouse assumptions"
    if not root.exists():
        raw = hours_file(folder / "2 hours, seeded", 2, with_seed=True)
        command = [
            str(DELTABOOK),
            "run",
            "crypto_lake",
            str(raw),
            "--warehouse",
            str(root),
            "--seed",
            "golden",
        ]
        subprocess.run(command, check=True, capture_output=True)
    return root


def file_of(root: Path, table: str) -> tuple[str, int]:
    """The data file of a table's second hour, and the hour."""
    actions = pa.table(DeltaTable(root / table).get_add_actions(flatten=True))
    rows = sorted(actions.to_pylist(), key=lambda row: row["min.hour"])
    return str(root / table / rows[-1]["path"]), rows[-1]["min.hour"]


def rebuild_hour(root: Path, rows: int = BATCH_ROWS, write: bool = True) -> int:
    """Rebuild the hour as a worker does, but for its threads; return the rows of books."""
    events, hour = file_of(root, "events")
    checkpoint, _ = file_of(root, "checkpoints")
    numbers = Scaled(2, 5)
    opening = restore_book_state(read_checkpoint(checkpoint, KEY[0], hour), numbers)
    rebuilder = Rebuilder(*KEY, FEEDS["crypto_lake"], RowPolicy(), numbers, opening)
    batches = (rebuilder.apply_events(batch) for batch in read_events(events, *KEY, hour, batch_rows=rows))
    written = root / "_measured" / str(time.monotonic_ns())
    if write:
        write_data_file(str(written), BOOKS, batches)
        shutil.rmtree(written)
        return 0
    return sum(batch.num_rows for batch in batches)


def seconds(*ways: Callable[[], Any]) -> list[float]:
    """The best time of each way; what is compared runs in turn."""
    best = [float("inf")] * len(ways)
    for _ in range(ROUNDS):
        for place, way in enumerate(ways):
            started = time.perf_counter()
            way()
            best[place] = min(best[place], time.perf_counter() - started)
    return best


def batches(root: Path) -> tuple[str, str]:
    sizes = (64, 512, 4096, BATCH_ROWS, 65_536)
    took = seconds(*(lambda size=size: rebuild_hour(root, size) for size in sizes))
    best = min(took)
    told = ", ".join(f"{size:,}: {second / best:.2f}" for size, second in zip(sizes, took, strict=True))
    verdict = "confirmed" if took[0] > 1.1 * best else "refuted"
    return verdict, f"time by messages a batch, of the best: {told}"


def mapped(root: Path) -> tuple[str, str]:
    events, _ = file_of(root, "events")
    plain = root / "_measured.arrow"
    table = pq.ParquetFile(events).read()
    with pa.OSFile(str(plain), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)

    def ipc(memory_map: bool) -> Callable[[], Any]:
        def read() -> int:
            with pa.memory_map(str(plain)) if memory_map else pa.OSFile(str(plain)) as source:
                found = pa.ipc.open_file(source).read_all()
                data = found["data"].combine_chunks()
                return sum(
                    column.flatten().to_numpy().sum()
                    for column in (data.field("bid_sizes"), data.field("ask_sizes"))
                )

        return read

    parquet, parquet_mapped, arrow, arrow_mapped = seconds(
        lambda: pq.ParquetFile(events).read(),
        lambda: pq.ParquetFile(events, memory_map=True).read(),
        ipc(False),
        ipc(True),
    )
    sizes = Path(events).stat().st_size, plain.stat().st_size
    plain.unlink()
    gain, ipc_gain = parquet / parquet_mapped, arrow / arrow_mapped
    verdict = "confirmed" if gain > 1.1 else "refuted"
    return verdict, (
        f"Parquet read mapped: {gain:.2f} times as fast, not 13; uncompressed Arrow mapped: "
        f"{ipc_gain:.1f} times as fast as read, but {sizes[1] / sizes[0]:.1f} times the disk"
    )


def processes(root: Path) -> tuple[str, str]:
    """Four symbols' hours: one after another, two at a time, or a process each."""

    def pool(workers: int) -> float:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
            list(executor.map(rebuild_hour, [root] * workers))  # warm
            best = float("inf")
            for _ in range(ROUNDS):
                started = time.perf_counter()
                list(executor.map(rebuild_hour, [root] * SYMBOLS))
                best = min(best, time.perf_counter() - started)
            return best

    one, two, each = pool(1), pool(2), pool(SYMBOLS)
    verdict = "confirmed" if each < 0.95 * two else "refuted"
    return verdict, (
        f"{SYMBOLS} symbols on two cores: one process {one:.1f} s, one a core {two:.1f} s, "
        f"one a symbol {each:.1f} s: what counts is a process a core"
    )


def collector(root: Path) -> tuple[str, str]:
    def without() -> None:
        gc.disable()
        try:
            rebuild_hour(root)
        finally:
            gc.enable()

    on, off = seconds(lambda: rebuild_hour(root), without)
    return (
        "confirmed" if on > 1.05 * off else "refuted"
    ), f"an hour with the collector on: {on / off:.2f} of off"


def decimals(folder: Path) -> tuple[str, str]:
    """The same hour through int64 and through DECIMAL(38,18): sums of a column, and bytes."""
    events, _ = file_of(folder, "events")
    data = pq.ParquetFile(events).read(columns=["data"])["data"].combine_chunks()
    whole = pa.concat_arrays([data.field(name).flatten() for name in ("bid_prices", "ask_prices")])
    wide = whole.cast(pa.decimal128(38, 0))
    integer, decimal = seconds(
        lambda: (pc.sort_indices(whole), pc.sum(whole)), lambda: (pc.sort_indices(wide), pc.sum(wide))
    )
    paths = [folder / "_measured.parquet", folder / "_measured_wide.parquet"]
    for path, column in zip(paths, (whole, wide), strict=True):
        pq.write_table(pa.table({"price": column}), path, compression="zstd")
    sizes = [path.stat().st_size for path in paths]
    for path in paths:
        path.unlink()
    verdict = "confirmed" if decimal > 1.1 * integer else "refuted"
    return verdict, (
        f"Decimal128 takes {decimal / integer:.1f} times the time to sort and sum, 2 times the memory, "
        f"{sizes[1] / sizes[0]:.2f} times the disk; kept for what int64 cannot hold"
    )


def checkpoints(root: Path) -> tuple[str, str]:
    """States kept within an hour against none but its opening: time and bytes of `reconstruct`."""
    took, kept = {}, {}
    for every in (100_000, 1_000_000, 1_000_000_000):
        best = float("inf")
        for _ in range(ROUNDS):
            command = [str(DELTABOOK), "reconstruct", "--warehouse", str(root), "--seed", "golden", "--json"]
            done = subprocess.run(
                [*command, "--checkpoint-every", str(every)], check=True, capture_output=True, text=True
            )
            summary = json.loads(done.stdout.splitlines()[-1])
            if summary["symbol_hours_rebuilt"]:
                best = min(best, summary["reconstruct_seconds"])
        took[every] = best
        kept[every] = sum(
            row["size_bytes"]
            for row in pa.table(DeltaTable(root / "checkpoints").get_add_actions()).to_pylist()
        )
    base = 1_000_000_000
    told = "; ".join(
        f"every {every:,} changes: {took[every] / took[base]:.2f} of the time, {kept[every] / 1e6:.1f} MB"
        for every in took
    )
    verdict = "confirmed" if took[1_000_000] < 1.25 * took[base] else "refuted"
    return verdict, f"states within 2 hours of 8 M changes, against openings alone: {told}"


ASSUMPTIONS: dict[str, tuple[str, Callable[[Path], tuple[str, str]]]] = {
    "R-GMN-01, R-GMN-06": ("scaled int64 beats Decimal128", decimals),
    "R-ALL-01": ("messages go through the kernel in batches", batches),
    "R-CLD-02": ("memory-mapped files are read 13 times as fast", mapped),
    "R-GMN-02": ("one process a symbol", processes),
    "R-OAI-03": ("states are kept within an hour, copied when written", checkpoints),
    "R-CLD-04": ("the garbage collector is off in the hot path", collector),
}


def main(folder: Path) -> None:
    root = warehouse_of(folder)
    if rebuild_hour(root, write=False) < HOUR_ROWS // 100:
        raise SystemExit("the hour has hardly any books")
    rows = []
    for number, (claim, measure) in ASSUMPTIONS.items():
        verdict, figure = measure(root)
        rows.append({"assumption": number, "claim": claim, "verdict": verdict, "figure": figure})
    tell(folder, "assumptions", "Assumptions, tried", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
