"""The job `ingest`: raw files into `events` and `golden`, each file once.

Each file is parsed once, into staged records. Each stream of them is surveyed whole, which tells its
hours, its epochs and the digits of its numbers; then each symbol-hour that gains messages is put into
the feed's order together with what it held before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from deltabook.jobs.instruments import Instrument, describe, foreign
from deltabook.jobs.ledger import Batch, archive, choose, content_hash, find_files
from deltabook.jobs.placing import Placing
from deltabook.jobs.progress import Progress
from deltabook.jobs.replacing import replaced_hours, take_out
from deltabook.jobs.staged import Stream, golden, misfits, per_file, rescaled, survey, unreadable
from deltabook.jobs.warehouse import Run, Slice, Warehouse
from deltabook.schemas.columns import EVENT_DATA
from deltabook.schemas.frames import EVENT_REFERENCES, FLAT_EVENTS, RECORDS
from deltabook.schemas.tables import EPOCHS, EVENTS, FILES, GOLDEN, HOURS, INSTRUMENTS, QUARANTINE
from deltabook.udfs.decimals import DEFAULT_SCALE
from deltabook.udfs.epochs import Restart
from deltabook.udfs.hours import order_group
from deltabook.udfs.sources.registry import SOURCES

_KEYS = ("exchange", "symbol", "hour")
_STAGED_BLOCK = 16 << 20
"""Bytes of a staged row group: an hour is found by its ids, and small groups leave the others unread."""


@dataclass(frozen=True)
class Options:
    """How to ingest.

    Attributes
    ----------
    replace : bool
        Whether a known file with new content takes the place of the old.
    archive : bool
        Whether to keep a copy of each file in the warehouse, by its hash.
    """

    replace: bool = False
    archive: bool = False


def ingest(
    warehouse: Warehouse,
    run: Run,
    source: str,
    paths: Sequence[Path],
    progress: Progress,
    options: Options | None = None,
) -> dict[str, Any]:
    """Read files into the warehouse.

    Parameters
    ----------
    warehouse : Warehouse
        Is being written by `run`.
    run : Run
        The run this belongs to.
    source : str
        A name of `SOURCES`.
    paths : sequence of Path
        Files and folders.
    progress : Progress
        Where to show what is done.
    options : Options, optional
        How; the defaults if None.

    Returns
    -------
    dict
        Counts of files, events, level changes and golden rows, and what was refused and why.

    Raises
    ------
    SettingsError
        If a path does not exist.
    """
    started = time.monotonic()
    options = options or Options()
    ledger = warehouse.rows(FILES)
    batch = choose(find_files(paths), ledger, options.replace)
    summary: dict[str, Any] = {
        "files_new": len(batch.new),
        "files_known": len(batch.known),
        "files_replaced": len(batch.replaced),
        "refused": batch.changed,
    }
    counts = dict.fromkeys(
        ("files_read", "events", "level_changes", "trades", "trades_skipped", "golden", "quarantined"), 0
    )
    if batch.new:
        counts |= _ingest_new(warehouse, run, source, batch, ledger, progress, summary["refused"], options)
    seconds = time.monotonic() - started
    rate = round((counts["level_changes"] + counts["trades"]) / seconds) if batch.new else 0
    return summary | counts | {"ingest_seconds": round(seconds, 2), "ingest_events_per_second": rate}


def _ingest_new(
    warehouse: Warehouse,
    run: Run,
    source: str,
    batch: Batch,
    ledger: list[dict[str, Any]],
    progress: Progress,
    refused: list[dict[str, str]],
    options: Options,
) -> dict[str, int]:
    placing = Placing(warehouse)
    instruments = {(row["exchange"], row["symbol"]): row for row in warehouse.rows(INSTRUMENTS)}
    again = replaced_hours(warehouse, batch, ledger)
    staged = _stage(warehouse, run, source, [*batch.new.values(), *again.files], progress)
    counted = per_file(staged)
    reasons = _failures(staged, batch, counted)
    with progress.stage("surveying", "files", len(batch.new)):
        surveyed = survey(warehouse, staged, placing.known)
    for (exchange, symbol), reason in foreign(instruments, source, surveyed).items():
        theirs = staged.where((F.col("exchange") == exchange) & (F.col("symbol") == symbol))
        reasons |= {row.source_file: reason for row in theirs.select("source_file").distinct().collect()}
    failed = sorted(reasons)
    refused += [{"path": path, "reason": reason} for path, reason in sorted(reasons.items())]
    if failed:
        staged = staged.where(~F.col("source_file").isin(failed))
        surveyed = survey(warehouse, staged, placing.known)
    for path in failed:
        counted.pop(path, None)
    describe(instruments, warehouse.settings, source, surveyed)
    references = placing.place(surveyed, instruments)
    for key in again.hours:
        placing.touch(references, key, instruments[key[:2]])
    out = sorted({*batch.replaced.values(), *map(str, again.files)} - set(failed))
    _write_events(warehouse, references, [path for path in out if path not in failed], progress)
    if references:
        for table, rows in zip((HOURS, EPOCHS), placing.rows(), strict=True):
            if rows or warehouse.exists(table):
                warehouse.overwrite(table, rows)
    take_out(warehouse, out)
    _write_others(warehouse, staged, surveyed, instruments, counted, placing.restarts)
    if instruments:
        warehouse.overwrite(INSTRUMENTS, list(instruments.values()))
    _write_ledger(warehouse, run, source, batch, ledger, counted, reasons, options)
    told_anew = {path: row for path, row in counted.items() if Path(path) not in again.files}
    return _counts(surveyed, instruments, told_anew, len(batch.new) - len(set(failed)))


def _stage(warehouse: Warehouse, run: Run, source: str, paths: list[Path], progress: Progress) -> DataFrame:
    """Parse every file once; return the staged records."""
    spark = warehouse.spark
    spark.dataSource.register(SOURCES[source])
    folder = str(warehouse.staging / run.run_id)
    with progress.stage("reading", "files", len(paths)):
        (
            spark.read.format(source)
            .option("paths", json.dumps([str(path) for path in paths]))
            .load()
            .write.partitionBy(*RECORDS.partition_by)
            .option("parquet.block.size", _STAGED_BLOCK)
            .parquet(folder)
        )
    return spark.read.schema(RECORDS.ddl).parquet(folder)


def _failures(staged: DataFrame, batch: Batch, counted: dict[str, dict[str, int]]) -> dict[str, str]:
    """Name the files that are refused whole, and why."""
    outcomes = staged.where("record = 'file'").select("kind", "reason", "source_file").collect()
    reasons = unreadable(staged, counted)
    reasons |= {row.source_file: row.reason for row in outcomes if row.kind == "failed"}
    for digest, path in batch.new.items():
        if content_hash(path) != digest:
            reasons[str(path)] = "it changed while it was read; ingest it when it is complete"
    return reasons


def _write_events(
    warehouse: Warehouse, references: dict[Slice, dict[str, Any]], left_out: list[str], progress: Progress
) -> None:
    """Order every symbol-hour that gains messages, and put it in the place of what it held."""
    if not references:
        return
    symbols, hours = (sorted({key[place] for key in references}) for place in (1, 2))
    stored = warehouse.data_files(EVENTS, F.col("symbol").isin(symbols) & F.col("hour").isin(hours))
    touched = stored.keys() & references.keys()
    for key in touched:
        references[key] |= {"event_files": stored[key], "left_out": left_out}
    with progress.stage("ordering", "symbol-hours", len(references)):
        events = (
            warehouse.frame(EVENT_REFERENCES, list(references.values()))
            .repartitionByRange(len(references), *_KEYS)
            .groupBy(*_KEYS)
            .applyInPandas(order_group, FLAT_EVENTS.ddl)
        )
        fields = [column.name for column in EVENT_DATA]
        head = [name for name in FLAT_EVENTS.names if name not in fields]
        warehouse.replace(
            EVENTS, events.select(*head, F.struct(*fields).alias("data")), list(references), bool(touched)
        )


def _write_others(
    warehouse: Warehouse,
    staged: DataFrame,
    surveyed: list[Row],
    instruments: dict[Instrument, dict[str, Any]],
    counted: dict[str, dict[str, int]],
    restarts: dict[Stream, list[Restart]],
) -> None:
    """Write what is not an event: golden rows, and what is in quarantine."""
    if any(row["quarantined"] for row in counted.values()):
        warehouse.append(QUARANTINE, staged.where("record = 'quarantine'").select(QUARANTINE.names))
    scales = {key: (row["price_scale"], row["size_scale"]) for key, row in instruments.items()}
    usual = all(
        scales[row.exchange, row.symbol] == (DEFAULT_SCALE, DEFAULT_SCALE)
        and not (row.price_digits or row.size_digits or row.wide)
        for row in surveyed
    )
    if not usual:
        wrong = misfits(staged, scales)
        if not wrong.isEmpty():
            warehouse.append(QUARANTINE, wrong)
        staged = rescaled(staged, scales)
    kinds = {
        "golden": any(row.record == "golden" for row in surveyed),
        "snapshot": any(row.snapshots for row in surveyed),
        "checksum": any(row.checksums for row in surveyed),
    }
    if any(kinds.values()):
        warehouse.append(GOLDEN, golden(staged, [kind for kind in kinds if kinds[kind]], restarts))


def _write_ledger(
    warehouse: Warehouse,
    run: Run,
    source: str,
    batch: Batch,
    ledger: list[dict[str, Any]],
    counted: dict[str, dict[str, int]],
    reasons: dict[str, str],
    options: Options,
) -> None:
    nothing = {"events": 0, "golden": 0, "quarantined": 0}
    gone = {*batch.new, *(digest for digest, path in batch.replaced.items() if path not in reasons)}
    kept = [row for row in ledger if row["content_hash"] not in gone]
    new = [
        {
            "content_hash": digest,
            "path": str(path),
            "bytes": path.stat().st_size,
            "source": source,
            "archived": archive(path, digest, warehouse.root) if options.archive else "",
            "state": "failed" if str(path) in reasons else "ingested",
            "reason": reasons.get(str(path), ""),
            "run_id": run.run_id,
            **counted.get(str(path), nothing),
        }
        for digest, path in batch.new.items()
    ]
    warehouse.overwrite(FILES, kept + new)


def _counts(
    surveyed: list[Row],
    instruments: dict[Instrument, dict[str, Any]],
    counted: dict[str, dict[str, int]],
    files_read: int,
) -> dict[str, int]:
    names = ("events", "golden", "quarantined")
    totals = {name: sum(row[name] for row in counted.values()) for name in names}
    trades = {True: 0, False: 0}
    for group in surveyed:
        if group.record in ("trade", "agg_trade"):
            taken = group.record == instruments[group.exchange, group.symbol]["trade_stream"]
            trades[taken] += group.messages
    return {
        "files_read": files_read,
        **totals,
        "level_changes": sum(group.level_changes for group in surveyed if group.record == "book_update"),
        "trades": trades[True],
        "trades_skipped": trades[False],
    }


if __name__ == "__main__":
    from deltabook.jobs.cli import main

    main("ingest")
