"""Help the tests of faults: make captures to damage, and read what the tables say about these captures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from captures import simulated_lines, write
from conftest import Outcome, invoke

from deltabook.jobs.tables.delta_tables import open_table, table_exists
from deltabook.schemas import tables
from deltabook.schemas.tables import Table
from deltabook.udfs.simulator import crypto_lake
from deltabook.udfs.simulator.market import Market

BOOK = ("sequence", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes", "status", "trade_count")


def into(warehouse: Path) -> tuple[object, ...]:
    return "--warehouse", warehouse, "--json"


def build(
    source: str, files: list[Path], warehouse: Path, *how: object, config: Path | None = None
) -> Outcome:
    """Ingest and reconstruct: the last outcome, with the summaries of both."""
    given = () if config is None else ("--config", config)
    how = (*how, *given)
    taken = invoke("ingest", source, *files, "--no-validate", *given, *into(warehouse))
    built = invoke("reconstruct", "--no-validate", *how, *into(warehouse))
    status = taken.exit_status or built.exit_status
    rebuilt = built.summary.items() if built.stdout else ()
    given_last = {name: value for name, value in rebuilt if value is not None}
    summary = json.dumps(taken.summary | given_last) if built.stdout else built.stdout
    return Outcome(status, summary, taken.stderr + built.stderr)


def rows(warehouse: Path, table: Table, *columns: str) -> list[dict[str, Any]]:
    if not table_exists(warehouse, table):
        return []
    return open_table(warehouse, table).to_pyarrow_table(columns=list(columns) or None).to_pylist()


def books(warehouse: Path, *names: str) -> list[str]:
    """Rows of `books` as plain values, in order."""
    found = rows(warehouse, tables.BOOKS, *(names or BOOK), "order_time", "symbol")
    return sorted(repr(tuple(row.values())) for row in found)


def books_by_id(warehouse: Path, *names: str) -> dict[int, dict[str, Any]]:
    found = rows(warehouse, tables.BOOKS, *(names or [name for name in BOOK if name != "trade_count"]))
    return {row["sequence"]: row for row in found}


def gap_kinds(warehouse: Path) -> set[str]:
    return {gap["kind"] for gap in rows(warehouse, tables.GAPS, "kind")}


def versions(warehouse: Path) -> dict[str, int]:
    """Delta version of every table."""
    return {
        table.name: open_table(warehouse, table).version()
        for table in tables.TABLES.values()
        if table_exists(warehouse, table)
    }


def reasons(run: Outcome) -> dict[str, str]:
    """Why each file was refused, by its name."""
    return {Path(refused["path"]).name: refused["reason"] for refused in run.summary["refused"]}


def edited(line: bytes, **changes: object) -> bytes:
    """A capture line with fields of its message changed."""
    received, text = line.split(b" ", 1)
    message = json.loads(text)
    message.get("data", message).update(changes)
    return received + b" " + json.dumps(message, separators=(",", ":")).encode() + b"\n"


def lake(folder: Path, seeded: bool = True, seed: int = 5) -> list[Path]:
    feed = crypto_lake.tables(Market(seed), 60, "BINANCE", "BTC-USDT", seeded=seeded, book_every=5)
    return crypto_lake.write_tables(feed, folder)


def of_table(files: list[Path], name: str) -> Path:
    return next(file for file in files if f"/{name}/" in file.as_posix())


def sound_capture(folder: Path) -> tuple[list[bytes], Path]:
    """A capture without faults: its lines, and its warehouse."""
    lines = list(simulated_lines(60))
    run = build("binance", [write(folder / "raw.gz", lines)], folder / "w")
    assert run.exit_status == 0, run.said
    return lines, folder / "w"
