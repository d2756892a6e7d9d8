"""Build small warehouses: a sound one for tests that spoil copies of it, and one for tests without Spark."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path

from captures import depth_rows, simulated_lines, write
from conftest import Outcome, invoke
from faulted import edited
from places import TESTS
from rich.console import Console

from deltabook.jobs.maintenance.verify import verify_warehouse
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.tables import TABLES
from deltabook.udfs.simulator import crypto_lake
from deltabook.udfs.simulator.market import Market

STORED = TESTS / "data" / "warehouse.tar.xz"
"""The warehouse of `build_stored`. Run this file to write it anew, after a change of `SCHEMA_VERSION`."""


def build_kept(folder: Path) -> Path:
    """Two symbols, read in two goes, rebuilt and judged, with copies of their raw files; the warehouse."""
    where = ("--warehouse", folder / "w")
    for symbol, seed in (("BTCUSDT", 3), ("ETHUSDT", 4)):
        raw = write(folder / f"{symbol}.gz", simulated_lines(40, "spot", symbol, seed))
        done("ingest", "binance", raw, *where, "--archive", "--chunk", "5s", "--no-validate")
        done("reconstruct", *where, "--no-validate")
    done("validate", *where)
    return folder / "w"


def done(*arguments: object) -> Outcome:
    outcome = invoke(*arguments)
    assert outcome.exit_status == 0, outcome.said
    return outcome


def found_in(warehouse: Path, *, deep: bool = False) -> list[dict]:
    return list(verify_warehouse(warehouse, deep, Console(file=io.StringIO()))["findings"])


def rows_of(warehouse: Path, names: Collection[str] = ()) -> dict[str, list[str]]:
    """Rows of published tables, each as text: of those named, or of all except `runs` and `written`."""
    chosen = names or {*TABLES} - {"runs", "written"}
    stored = TableReader(warehouse, published_versions(warehouse))
    return {
        table.name: sorted(map(repr, stored.rows(table)))
        for table in TABLES.values()
        if table.name in chosen and stored.exists(table)
    }


def files_in(folder: Path) -> dict[str, bytes]:
    """Bytes of every file except locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock")
    }


def state(folder: Path) -> str:
    """A digest of every file's name and bytes."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def build_stored(folder: Path) -> Path:
    """Build the warehouse that `tests/data/warehouse.tar.xz` holds, for tests that read without Spark.

    BTC-USDT: half of a simulated Binance capture that lacks a message; the tickers of two chunks are wrong.
    ETH-USDT: a small simulated Crypto Lake day.
    """
    lines = simulated_lines()
    lines = lines[: len(lines) // 2]
    lost = depth_rows(lines)[-2]
    spoilt = [_spoil_ticker(line) for row, line in enumerate(lines) if row != lost]
    given = ("--warehouse", folder / "w", "--chunk", "2s", "--cadence", "change,1s")
    invoke("run", "binance", write(folder / "a.gz", spoilt), *given)
    day = crypto_lake.tables(Market(5), 20, "BINANCE", "ETH-USDT", seeded=False, book_every=5)
    invoke("run", "crypto_lake", *crypto_lake.write_tables(day, folder / "lake"), *given)
    (folder / "w" / "report.html").unlink()
    return folder / "w"


def _spoil_ticker(line: bytes) -> bytes:
    """Return a line; if it is a ticker of two certain chunks, with another best bid size."""
    at = int(line.split(b" ", 1)[0]) // 10**9
    if b"bookTicker" in line and 1723161258 <= at < 1723161262:
        return edited(line, B="77777.00000000")
    return line


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as built, tarfile.open(STORED, "w:xz") as archive:
        archive.add(build_stored(Path(built)), "w")
