"""Measure `deltabook run` on a simulated day as Crypto Lake ships it. Usage: python lake_day.py FOLDER.

The day begins in mid-stream, without a snapshot. It has 109 M rows of `book_delta_v2` in one file, 250,000
rows of `book` of which a tenth are crossed, and lost deletes. The command has no option. Every row of `books`
that is not marked as possibly wrong is compared with the simulated market.

A lost delete of a best level cannot be seen if a message sets the level again before the next row of `book`.
So a few unmarked rows are wrong. The benchmark fails if these are more than one in a thousand.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from feeds import DELTABOOK
from measure import measure
from report import tell
from requirements import LEAST_RATE, STAGE, minutes

from deltabook.schemas.names import UNSOUND_LABELS
from deltabook.udfs.simulator.crypto_lake import LakeFaults, day_chunks, make_table
from deltabook.udfs.simulator.market import Market, MarketChunk
from deltabook.udfs.simulator.recorder import Recorder

START = 1_723_075_200_000_000_000
"""2024-08-08 00:00 UTC, ns."""
DELTAS, BOOKS = 109_000_000, 250_000
MARKET = {"intensity": 20, "quiet_share": 0.85}
CHANGES = 19.6
"""Mean number of rows of `book_delta_v2` in a message of this market."""
MESSAGES = round(DELTAS / CHANGES)
FAULTS = LakeFaults(lost_deletes=0.0001, crossed_books=0.1, book_delay=300_000_000)
DAY = 86_400_000_000_000
SIMULATED = 100_000_000
"""Time that a message takes on the simulated market, ns. The day is compressed to 24 hours."""
MOST_WRONG = 0.001
CHUNK, ROW_GROUP = 8_192, 1_000_000
EXCHANGE, SYMBOL = "BINANCE_FUTURES", "BTC-USDT-PERP"


def make(folder: Path) -> None:
    """Write the day and the truth: best bid and ask, prices and sizes, after each message."""
    if (folder / "truth.npz").exists():
        return
    market = Market(11, start_time=START, **MARKET)
    market.advance(2_000)  # the book is old when the day begins
    writers: dict[str, pq.ParquetWriter] = {}
    waiting: dict[str, list] = {}
    truth: list[np.ndarray] = []
    every = MESSAGES // BOOKS
    for rows, chunk in day_chunks(market, MESSAGES, Recorder(), every, FAULTS, CHUNK):
        truth.append(describe(chunk))
        for name, columns in rows.items():
            for time in ("received_time", "origin_time"):
                columns[time] = compress(columns[time])
            waiting.setdefault(name, []).append(columns)
            if sum(len(part["origin_time"]) for part in waiting[name]) >= ROW_GROUP:
                write(folder, name, waiting.pop(name), writers)
    for name, parts in waiting.items():
        write(folder, name, parts, writers)
    for writer in writers.values():
        writer.close()
    np.savez(folder / "truth.npz", truth=np.concatenate(truth))


def compress(times: np.ndarray) -> np.ndarray:
    """Map times of the simulated market to the day, in whole milliseconds."""
    first = START + 2_000 * SIMULATED
    scaled = (times - first) / (MESSAGES * SIMULATED) * (DAY - 10**9)
    return START + np.maximum(scaled, 0).astype(np.int64) // 10**6 * 10**6


def describe(chunk: MarketChunk) -> np.ndarray:
    """Return the id of each message, and the best bid and ask after it, int64[n, 5]."""
    sides = (chunk.top_bid_prices, chunk.top_bid_sizes, chunk.top_ask_prices, chunk.top_ask_sizes)
    return np.stack([chunk.last_update_ids, *(values[:, 0] for values in sides)], axis=1)


def write(folder: Path, name: str, parts: list, writers: dict[str, pq.ParquetWriter]) -> None:
    table = make_table(name, parts, {"exchange": EXCHANGE, "symbol": SYMBOL}, float_times=True)
    table = table.drop_columns(["exchange", "symbol"])
    if name not in writers:
        where = folder / "raw" / name / f"exchange={EXCHANGE}" / f"symbol={SYMBOL}" / "dt=2024-08-08"
        where.mkdir(parents=True, exist_ok=True)
        writers[name] = pq.ParquetWriter(where / "1.snappy.parquet", table.schema, compression="snappy")
    writers[name].write_table(table)


def compare(warehouse: Path, truth: np.ndarray, scales: tuple[int, int]) -> tuple[int, int, int]:
    """Return the number of rows of books, of rows with a sound status, and of wrong ones among these."""
    rows = sound = wrong = 0
    units = np.array([10 ** scales[0], 10 ** scales[1]] * 2)
    dataset = DeltaTable(str(warehouse / "books")).to_pyarrow_dataset()
    names = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
    for batch in dataset.to_batches(columns=["sequence", "status", *names], batch_size=1 << 16):
        is_sound = ~np.isin(batch["status"].to_numpy(zero_copy_only=False), UNSOUND_LABELS)
        rows, sound = rows + batch.num_rows, sound + int(is_sound.sum())
        best = [first_of(batch[name]) for name in names]
        at = np.searchsorted(truth[:, 0], batch["sequence"].to_numpy())
        true = truth[at, 1:] * units
        equal = (true == np.stack(best, axis=1)).all(axis=1)
        wrong += int((is_sound & ~equal).sum())
    return rows, sound, wrong


def first_of(lists: pa.ListArray) -> np.ndarray:
    """Return the first number of each list; 0 if there is none."""
    offsets, values = lists.offsets.to_numpy(), np.append(lists.values.to_numpy(), 0)
    return np.where(np.diff(offsets) > 0, values[offsets[:-1]], 0)


def main(folder: Path) -> None:
    data, warehouse = folder / "lake day", folder / "warehouse lake day"
    make(data)
    shutil.rmtree(warehouse, ignore_errors=True)
    command = [str(DELTABOOK), "run", "crypto_lake", str(data / "raw"), "--warehouse", str(warehouse)]
    measured = measure([*command, "--json"], memory=True)
    summary = json.loads(measured.stdout.splitlines()[-1])
    stages = [(name, float(seconds)) for name, seconds in STAGE.findall(measured.stderr)]
    changes = summary["level_changes"]
    rates = minutes(stages, changes, measured.seconds)
    (instrument,) = DeltaTable(str(warehouse / "instruments")).to_pyarrow_table().to_pylist()
    market = Market(0)
    scales = (
        instrument["price_scale"] - market.price_scale,
        instrument["size_scale"] - market.size_scale,
    )
    rows, sound, wrong = compare(warehouse, np.load(data / "truth.npz")["truth"], scales)
    told = sum(share for status, share in summary["coverage"].items() if status not in UNSOUND_LABELS)
    rows_of = [
        {"what": "level changes in one file", "figure": changes},
        {"what": "trades", "figure": summary["trades"]},
        {"what": "seconds, from the shell and back", "figure": measured.seconds},
        {"what": "changes/s", "figure": changes / measured.seconds},
        {"what": "changes/s in a minute: least", "figure": min(rates)},
        {"what": "peak memory of all processes, MiB", "figure": measured.peak_bytes >> 20},
        {"what": "rows of books", "figure": rows},
        {"what": "rows that may be wrong by their status", "figure": rows - sound},
        {"what": "other rows, not equal to the market's best bid and ask", "figure": wrong},
        {"what": "share of the other rows that are right, %", "figure": 100 * (1 - wrong / sound)},
        {"what": "share of the time with a sound book", "figure": told},
        *({"what": f"gaps: {kind}", "figure": count} for kind, count in summary["gaps_by_kind"].items()),
        *({"what": f"stage {name}, s", "figure": seconds} for name, seconds in stages),
    ]
    tell(folder, "lake_day", "A day of Crypto Lake in one command", rows_of, minutes=rates)
    for is_missed, what in (
        (changes < 0.99 * DELTAS, f"{changes:,} level changes"),
        (wrong > MOST_WRONG * sound, f"{wrong:,} of {sound:,} unmarked rows of books are wrong"),
        (min(rates) < LEAST_RATE, f"{min(rates):,.0f} changes/s in the slowest minute"),
        (summary["exit_status"] != 0, f"exit status {summary['exit_status']}"),
    ):
        if is_missed:
            raise SystemExit(f"a day of Crypto Lake: {what}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
