"""Make a small intact warehouse, so that tests can damage copies of it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from captures import simulated_lines, write
from conftest import Outcome, invoke
from rich.console import Console

from deltabook.jobs.maintenance.verify import verify_warehouse
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.tables import TABLES


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


def rows_of(warehouse: Path) -> dict[str, list[str]]:
    """Rows of every published table except `runs` and `written`, each as text."""
    stored = TableReader(warehouse, published_versions(warehouse))
    return {
        table.name: sorted(map(repr, stored.rows(table)))
        for table in TABLES.values()
        if table.name not in ("runs", "written") and stored.exists(table)
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
