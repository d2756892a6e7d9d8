"""Measure what `deltabook maintain` does to a month of hourly runs. Usage: python upkeep.py FOLDER.

One hour is ingested, rebuilt and validated. The other hours have the same rows with later times, so that the
month ends now. The script commits these hours in the way in which the three stages of an hourly run commit an
hour. Each run writes the new hour, and rewrites the previous hour as if late messages had arrived.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from feeds import DELTABOOK
from pyspark.sql import Row, SparkSession
from report import tell
from rich.console import Console

from deltabook.jobs.lookup.book import read_book
from deltabook.jobs.lookup.status import read_status
from deltabook.jobs.maintenance.maintain import maintain_warehouse
from deltabook.jobs.maintenance.retention import RetentionPolicy
from deltabook.jobs.maintenance.verify import verify_warehouse
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.table_writer import Rows
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas import tables
from deltabook.schemas.columns import Table
from deltabook.schemas.names import DAY, HOUR
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.storage.data_files import write_data_file

HOURS, SECONDS = 720, 20
"""How many, and how much of each is simulated."""
IDS = 1_000_000_000
"""From an id of one hour to the same of the next."""
_TIMES = {
    "hour",
    "timestamp",
    "received",
    "order_time",
    "update_time",
    "from_time",
    "to_time",
    "first_time",
    "last_time",
}
_IDS = {"sequence", "first_sequence", "last_sequence", "prev_sequence", "trade_sequence", "trade_id"}


def first_hour(folder: Path) -> Path:
    """Build the hour that the others repeat."""
    warehouse, raw = folder / "hour", folder / "0.gz"
    shutil.rmtree(warehouse, ignore_errors=True)
    lines = list(capture_lines(Market(3), SECONDS * 10, "BTCUSDT", market_type="spot"))
    raw.write_bytes(gzip.compress(b"".join(lines), 1, mtime=0))
    command = [str(DELTABOOK), "run", "binance", str(raw), "--warehouse", str(warehouse)]
    subprocess.run(command, check=True, capture_output=True)
    return warehouse


def later(rows: pa.Table, hours: int, raw: Path, run_id: str) -> pa.Table:
    """Return rows as they would be of a later hour."""
    for place, field in enumerate(rows.schema):
        rows = rows.set_column(
            place, field, _later(field, rows[field.name].combine_chunks(), hours, raw, run_id)
        )
    if "date" in rows.schema.names:
        days = pc.cast(pc.divide(rows["hour"], DAY), pa.int32()).cast(pa.date32())
        rows = rows.set_column(rows.schema.names.index("date"), "date", days)
    return rows


def _later(field: pa.Field, values: Any, hours: int, raw: Path, run_id: str) -> Any:
    if pa.types.is_struct(field.type):
        parts = [
            _later(field.type[n], values.field(n), hours, raw, run_id) for n in range(field.type.num_fields)
        ]
        return pa.StructArray.from_arrays(parts, fields=[*field.type])
    step = HOUR if field.name in _TIMES else IDS if field.name in _IDS else 0
    if step:
        return pc.if_else(pc.greater_equal(values, 0), pc.add(values, step * hours), values)
    told = {"source_file": str(raw), "path": str(raw), "run_id": run_id, "content_hash": f"{hours:064x}"}
    return pa.repeat(pa.scalar(told[field.name]), len(values)) if field.name in told else values


class Alone(Warehouse):
    """A warehouse that nobody else writes: what it has written it need not read again before each run."""

    held: dict[str, DeltaTable]
    published: list[dict[str, Any]]

    def _roll_back_unpublished(self) -> None:
        pass

    def _runs(self) -> list[dict[str, Any]]:
        return self.published

    def _create(self, table: Table) -> DeltaTable:
        if table.name not in self.held:
            self.held[table.name] = super()._create(table)
        self.held[table.name].update_incremental()
        return self.held[table.name]

    def _newest_version(self, table: Table) -> int:
        return self._create(table).version()

    def append(self, table: Table, rows: Rows) -> None:
        super().append(table, rows)
        self.published += rows if table is tables.RUNS else ()


class Month:
    """A warehouse in the making.

    Parameters
    ----------
    folder : Path
        Where to make it.
    """

    def __init__(self, folder: Path):
        hour = first_hour(folder)
        stored = TableReader(hour, published_versions(hour))
        names = [name for name in tables.TABLES if stored.exists(tables.TABLES[name])]
        self.rows = {
            name: stored.dataset(tables.TABLES[name]).to_table(columns=tables.TABLES[name].names)
            for name in names
            if name not in ("runs", "written")
        }
        self.raw, self.root = folder, folder / "month"
        shutil.rmtree(self.root, ignore_errors=True)
        self.warehouse = Alone(cast(SparkSession, None), load_settings(None, {"warehouse": self.root}))
        self.warehouse.held, self.warehouse.published = {}, []
        self.hour = int(self.rows["hours"]["hour"][0].as_py())
        self.all: dict[str, list[dict[str, Any]]] = {name: [] for name in ("files", "hours", "verdicts")}
        self.seen: set[Path] = set()

    def make(self) -> Path:
        """Write every hour's runs, each at its time."""
        ends = time.time_ns()
        for number in range(HOURS):
            at = ends - (HOURS - number) * HOUR
            for command, work in (
                ("ingest", self.ingest),
                ("reconstruct", self.rebuild),
                ("validate", self.judge),
            ):
                with patch.object(time, "time_ns", lambda at=at: at), self.warehouse.writing(command) as run:
                    work(number, run.run_id)
                at += HOUR // 60
            self.date(at)
        return self.root

    def of(self, table: Table, number: int, run_id: str = "") -> pa.Table:
        return later(self.rows[table.name], number, self.raw / f"{number}.gz", run_id)

    def write(self, table: Table, numbers: list[int]) -> None:
        added = []
        for number in numbers:
            rows = self.of(table, number)
            for batch in rows.combine_chunks().to_batches():
                added += [Row(**row) for row in write_data_file(str(self.root), table, [batch]).to_pylist()]
        replaced = [self.key(number) for number in numbers[:-1]] if "hour" in table.names else []
        self.warehouse.add(table, added, replaced)

    def key(self, number: int) -> tuple[str, str, int]:
        return "BINANCE", "BTC-USDT", self.hour + number * HOUR

    def whole(self, table: Table, number: int, run_id: str) -> None:
        self.all[table.name] += self.of(table, number, run_id).to_pylist()
        self.warehouse.overwrite(table, self.all[table.name])

    def ingest(self, number: int, run_id: str) -> None:
        hours = [*range(max(number - 1, 0), number + 1)]
        self.write(tables.EVENTS, hours)
        self.whole(tables.HOURS, number, run_id)
        self.write(tables.GOLDEN, [number])
        self.warehouse.overwrite(tables.INSTRUMENTS, self.rows["instruments"].to_pylist())
        self.whole(tables.FILES, number, run_id)

    def rebuild(self, number: int, _run_id: str) -> None:
        hours = [*range(max(number - 1, 0), number + 1)]
        self.write(tables.CHECKPOINTS, hours)
        rows = [row for one in hours for row in self.of(tables.COVERAGE, one).to_pylist()]
        self.warehouse.replace(tables.COVERAGE, rows, [self.key(one) for one in hours[:-1]])
        self.write(tables.BOOKS, hours)

    def judge(self, number: int, run_id: str) -> None:
        validations = self.of(tables.VALIDATIONS, number, run_id)
        for suite in pc.unique(validations["suite"]):
            self.warehouse.append(
                tables.VALIDATIONS, validations.filter(pc.equal(validations["suite"], suite)).to_pylist()
            )
        self.write(tables.SAMPLES, [number])
        self.warehouse.append(tables.FIDELITY, self.of(tables.FIDELITY, number, run_id).to_pylist())
        self.whole(tables.VERDICTS, number, run_id)

    def date(self, at: int) -> None:
        """Give new files the time at which they would have been written."""
        for path in self.root.rglob("*"):
            if path not in self.seen and path.is_file():
                os.utime(path, ns=(at, at))
                self.seen.add(path)


def timed(work: Callable[[], Any], rounds: int = 3) -> float:
    """Return the seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        started = time.monotonic()
        work()
        seconds.append(time.monotonic() - started)
    return min(seconds)


def measured(when: str, warehouse: Path, at: int) -> dict[str, Any]:
    """Count the files, and time what reads them."""
    files = [path for path in warehouse.rglob("*") if path.is_file()]
    logs = [path for path in files if path.parent.name == "_delta_log"]
    data = [path for path in files if path.suffix == ".parquet" and path.parent.name != "_delta_log"]
    versions = published_versions(warehouse)
    stored = TableReader(warehouse, versions)
    return {
        "": when,
        "data files": len(data),
        "MB": sum(path.stat().st_size for path in data) / 1e6,
        "files of logs": len(logs),
        "MB of logs": sum(path.stat().st_size for path in logs) / 1e6,
        "what is published, ms": timed(lambda: published_versions(warehouse)) * 1e3,
        "fidelity, ms": timed(lambda: stored.rows(tables.FIDELITY)) * 1e3,
        "events' files, ms": timed(lambda: stored.data_files(tables.EVENTS)) * 1e3,
        "book, ms": timed(lambda: read_book(warehouse, "BTC-USDT", at, None)) * 1e3,
        "status, s": timed(lambda: read_status(warehouse)),
        "verify, s": timed(lambda: verify_warehouse(warehouse, False, Console(file=io.StringIO())), 1),
    }


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "month").exists():
        Month(folder).make()
    warehouse = folder / "looked after"
    shutil.rmtree(warehouse, ignore_errors=True)
    shutil.copytree(folder / "month", warehouse)
    settings, now = load_settings(None, {"warehouse": warehouse}), time.time_ns()
    hours = TableReader(warehouse, published_versions(warehouse)).rows(tables.HOURS, "hour", "first_time")
    at = sorted(row["first_time"] for row in hours)[len(hours) // 2] + HOUR // 1000
    rows = [measured(f"{HOURS} hourly runs", warehouse, at)]
    for when, later in (("after maintain --keep 7d", 0), ("and 8 days later again", 8 * DAY)):
        started = time.monotonic()
        maintain_warehouse(settings, RetentionPolicy(7 * DAY, None, now + later), True)
        taken = time.monotonic() - started
        rows.append(measured(when, warehouse, at) | {"maintain, s": taken})
    tell(folder, "upkeep", "A month of hourly runs, before upkeep and after", rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
