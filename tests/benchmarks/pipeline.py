"""Measure `deltabook run` on two cores, beside other programs that do only a part of its work.

Usage: python pipeline.py FOLDER [PEERS_PYTHON]. The input is a simulated hour of 8 M level changes, for one
symbol and for three symbols, as Crypto Lake files and as raw Binance JSON with the same changes. The last
book of every program must equal deltabook's. If a program writes the top 20 levels, it must also write the
same number of rows.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from binance_data import write_capture
from deltalake import DeltaTable
from feeds import DELTABOOK, changes_in
from lake_data import LOTS, TICKS, hours_file
from measure import keep_best, measure
from peer_pipelines import PIPELINES
from report import tell

SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
ROUNDS = 2
MOST = {
    "lakeapi + pandas": 1_000_000,
    "polars + sortedcontainers": 2_000_000,
    "json + sortedcontainers": 2_000_000,
}
"""Level changes that a loop in Python plays; the others play all."""
OMITS = {
    "lakeapi + pandas": "levels below the best, sizes; ids, gaps, checks, features",
    "polars + sortedcontainers": "ids, gaps, checks, features; prices are floats",
    "json + sortedcontainers": "ids, gaps, checks, features; prices are floats",
    "hftbacktest, its format and replay": "ids, gaps, checks, features; prices are floats",
    "hftbacktest, its converter and replay": "ids, gaps, checks, features; prices are floats",
}


def lake_files(folder: Path) -> dict[str, Path]:
    """Make the Crypto Lake files if they are not there; each symbol's `book_delta_v2` file."""
    files = {}
    for seed, symbol in enumerate(SYMBOLS):
        hours_file(folder / "three symbols", symbol=symbol, seed=seed, with_seed=True)
        found = (folder / "three symbols").glob(f"book_delta_v2/*/symbol={symbol}/*/*.parquet")
        files[symbol] = next(found)
    return files


def binance_files(folder: Path) -> dict[str, Path]:
    """Make the captures if they are not there."""
    files = {}
    for symbol, lake in lake_files(folder).items():
        name = symbol.replace("-", "")
        files[symbol] = folder / "captures" / f"{name.lower()}_20240808.gz"
        if not files[symbol].exists():
            write_capture(files[symbol], changes_in(lake), name)
    return files


def deltabook(source: str, paths: list[Path], warehouse: Path) -> dict[str, Any]:
    """Run the whole pipeline; give its seconds, changes and checks."""
    shutil.rmtree(warehouse, ignore_errors=True)
    command = [str(DELTABOOK), "run", source, *map(str, paths), "--warehouse", str(warehouse), "--json"]
    measured = measure(command + (["--seed", "golden"] if source == "crypto_lake" else []))
    summary = json.loads(measured.stdout.splitlines()[-1])
    return summary | {"process": measured.seconds}


def last_top(warehouse: Path, symbol: str) -> tuple[int, list[list[list[float]]]]:
    """The rows of a symbol's books, and the last one's levels as numbers."""
    rows = DeltaTable(warehouse / "books").to_pyarrow_table(
        filters=[("symbol", "=", symbol)],
        columns=["sequence", "status", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes"],
    )
    rows = rows.filter(pc.not_equal(rows["status"], "unseeded"))
    last = rows.sort_by("sequence").slice(len(rows) - 1).to_pylist()[0]
    scales = instrument_scales(warehouse, symbol)
    return len(rows), [
        [
            [price / scales[0], size / scales[1]]
            for price, size in zip(last[f"{side}_prices"], last[f"{side}_sizes"], strict=True)
        ]
        for side in ("bid", "ask")
    ]


def instrument_scales(warehouse: Path, symbol: str) -> tuple[int, int]:
    row = (
        DeltaTable(warehouse / "instruments")
        .to_pyarrow_table(filters=[("symbol", "=", symbol)])
        .to_pylist()[0]
    )
    return 10 ** row["price_scale"], 10 ** row["size_scale"]


def main(folder: Path, peers_python: str | None) -> None:
    rows, first = [], SYMBOLS[0]
    changes = changes_in(lake_files(folder)[first])
    for source, files, feed in (
        ("crypto_lake", lake_files(folder), "Crypto Lake, Parquet"),
        ("binance", binance_files(folder), "Binance, JSON in gzip"),
    ):
        one, three = folder / "pipeline one", folder / "pipeline three"
        raw = {  # a file's seed lies beside it
            one: [files[first], *(folder / "three symbols").glob(f"book/*/symbol={first}/*/*.parquet")]
            if source == "crypto_lake"
            else [files[first]],
            three: [folder / "three symbols"] if source == "crypto_lake" else list(files.values()),
        }
        names = [name for name in PIPELINES if peers_python and _reads(name, source)]
        best: dict[str, dict[str, Any]] = {}
        for _ in range(ROUNDS):
            for root, paths in raw.items():
                told = deltabook(source, paths, root)
                what = "one symbol" if root is one else "three symbols"
                told["changes"] = told["level_changes"]
                for name, seconds in (
                    (f"deltabook run, {what}", told["process"]),
                    (
                        f"deltabook run, {what}, its stages",
                        sum(told[f"{job}_seconds"] for job in ("ingest", "reconstruct", "validate")),
                    ),
                ):
                    keep_best(best, name, told | {"seconds": seconds})
            for name in names:
                # Whole messages, so that its last book can be compared.
                most = len(changes.first(MOST.get(name, len(changes.prices))).prices)
                out = folder / "peer.parquet"
                command = [str(peers_python), str(Path(__file__).with_name("peer_pipelines.py")), name]
                measured = measure([*command, str(files[first]), str(out), str(most)])
                told = json.loads(measured.stdout.splitlines()[-1])
                keep_best(best, name, told | {"seconds": measured.seconds})
        written, top = last_top(one, _symbol(source))
        ours = best["deltabook run, three symbols"]
        for name, told in best.items():
            if name in names:
                _same(name, told, changes, written, top)
            rate = told["changes"] / told["seconds"]
            rows.append({
                "raw files": feed, "program": name, "level changes": told["changes"],
                "seconds": told["seconds"],
                "M changes/s": rate / 1e6, "times slower": ours["changes"] / ours["seconds"] / rate,
                "rows of books": told.get("rows") or sum(told["book_rows"].values()),
                "omits": OMITS.get(name, ""),
            })  # fmt: skip
    title = f"Raw files to books on disk, whole processes, best of {ROUNDS} rounds"
    notes = (
        "A line `its stages` leaves out the start of Python and of the JVM, as a session that runs on does.",
    )
    tell(folder, "pipeline", title, rows, notes)


def _reads(name: str, source: str) -> bool:
    return (name.startswith("json") or "converter" in name) == (source == "binance")


def _symbol(source: str) -> str:
    return SYMBOLS[0] if source == "crypto_lake" else f"{SYMBOLS[0]}-PERP"


def _same(name: str, told: dict[str, Any], changes: Any, written: int, top: list[list[list[float]]]) -> None:
    """See that a program's last book is right, and its rows as many as deltabook's; stop if not."""
    at = int(changes.offsets.searchsorted(told["changes"], side="right")) - 1
    if told["changes"] == len(changes.prices):
        expected = top
        if "lakeapi" not in name and told["rows"] != written:
            raise SystemExit(f"{name}: {told['rows']:,} rows of books, not {written:,}")
    else:
        sides = changes.book(at)
        expected = [
            [
                [price / TICKS, size / LOTS]
                for price, size in sorted(sides[is_bid].items(), reverse=is_bid)[:20]
            ]
            for is_bid in (True, False)
        ]
    found = [[[round(price, 2), round(size, 5)] for price, size in side] for side in told["top"]]
    wanted = [[[round(price, 2), round(size, 5)] for price, size in side] for side in expected]
    if found != wanted:
        raise SystemExit(f"{name}: another last book than deltabook's")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
