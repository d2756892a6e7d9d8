"""The job `ingest`: raw files into `events` and `golden`, each file once.

Each file is parsed once, into staged records; from them the hours' id boundaries are found, and each
symbol-hour that gains messages is put into the feed's order together with what it held before.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F

from deltabook.jobs.ledger import choose_new, content_hash, find_files
from deltabook.jobs.progress import Progress
from deltabook.jobs.settings import Settings
from deltabook.jobs.staged import golden, group_ids, per_file, unreadable
from deltabook.jobs.warehouse import Run, Slice, Warehouse
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import EventType
from deltabook.schemas.tables import (
    EVENT_DATA,
    EVENT_REFERENCES,
    EVENTS,
    FILES,
    FLAT_EVENTS,
    GOLDEN,
    HOURS,
    INSTRUMENTS,
    QUARANTINE,
    RECORDS,
)
from deltabook.udfs.boundaries import IdGroup, IdRange, ends, merge_hours
from deltabook.udfs.hours import order_group
from deltabook.udfs.sources.binance import BinanceSource

SOURCES = {source.name(): source for source in (BinanceSource,)}
"""Every source, by the name that users type."""

Instrument = tuple[str, str]
_KEYS = ("exchange", "symbol", "hour")


def ingest(
    warehouse: Warehouse, run: Run, source: str, paths: Sequence[Path], progress: Progress
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

    Returns
    -------
    dict
        Counts of files, events, level changes and golden rows, and what was refused and why.

    Raises
    ------
    SettingsError
        If a path or the source does not exist.
    """
    started = time.monotonic()
    ledger = warehouse.rows(FILES)
    new, known, changed = choose_new(find_files(paths), ledger)
    summary: dict[str, Any] = {"files_new": len(new), "files_known": len(known), "refused": changed}
    counts = dict.fromkeys(
        ("files_read", "events", "level_changes", "trades", "trades_skipped", "golden", "quarantined"), 0
    )
    if new:
        counts |= _ingest_new(warehouse, run, source, new, ledger, progress, summary["refused"])
    seconds = time.monotonic() - started
    rate = round((counts["level_changes"] + counts["trades"]) / seconds) if new else 0
    return summary | counts | {"ingest_seconds": round(seconds, 2), "ingest_events_per_second": rate}


def _ingest_new(
    warehouse: Warehouse,
    run: Run,
    source: str,
    new: dict[str, Path],
    ledger: list[dict[str, Any]],
    progress: Progress,
    refused: list[dict[str, str]],
) -> dict[str, int]:
    spark = warehouse.spark
    instruments = {(row["exchange"], row["symbol"]): row for row in warehouse.rows(INSTRUMENTS)}
    scales = _scales(warehouse.settings, instruments)
    spark.dataSource.register(SOURCES[source])
    folder = str(warehouse.staging / run.run_id)
    with progress.stage("reading", "files", len(new)):
        (
            spark.read.format(source)
            .option("paths", json.dumps([str(path) for path in new.values()]))
            .option(
                "scales",
                json.dumps({f"{exchange} {symbol}": pair for (exchange, symbol), pair in scales.items()}),
            )
            .load()
            .write.partitionBy(*RECORDS.partition_by)
            .parquet(folder)
        )
    staged = spark.read.schema(RECORDS.ddl).parquet(folder)
    outcomes = staged.where("record = 'file'").select("kind", "reason", "source_file").collect()
    counted = per_file(staged)
    reasons = {row.source_file: row.reason for row in outcomes if row.kind == "failed"}
    for digest, path in new.items():
        if content_hash(path) != digest:
            reasons[str(path)] = "it changed while it was read; ingest it when it is complete"
    reasons |= unreadable(staged, counted)
    failed = sorted(reasons)
    refused += [{"path": path, "reason": reason} for path, reason in sorted(reasons.items())]
    staged = staged.where(~F.col("source_file").isin(failed)) if failed else staged
    groups = group_ids(staged)
    _describe(instruments, scales, groups)
    for path in failed:
        counted.pop(path, None)
    _write_events(warehouse, groups, instruments, progress)
    if any(group.record == "golden" or group.snapshots for group in groups):
        warehouse.append(GOLDEN, golden(staged))
    if any(row["quarantined"] for row in counted.values()):
        warehouse.append(QUARANTINE, staged.where("record = 'quarantine'").select(QUARANTINE.names))
    if instruments:
        warehouse.overwrite(INSTRUMENTS, list(instruments.values()))
    nothing = {"events": 0, "golden": 0, "quarantined": 0}
    kept = [row for row in ledger if row["content_hash"] not in new]
    warehouse.overwrite(
        FILES,
        kept
        + [
            {
                "content_hash": digest,
                "path": str(path),
                "bytes": path.stat().st_size,
                "state": "failed" if str(path) in reasons else "ingested",
                "reason": reasons.get(str(path), ""),
                "run_id": run.run_id,
                **counted.get(str(path), nothing),
            }
            for digest, path in new.items()
        ],
    )
    totals = {name: sum(row[name] for row in counted.values()) for name in nothing}
    trades = {"trade": 0, "agg_trade": 0, "skipped": 0}
    for group in groups:
        if group.record in trades:
            taken = group.record == instruments[group.exchange, group.symbol]["trade_stream"]
            trades[group.record if taken else "skipped"] += group.messages
    return {
        "files_read": len(new) - len(failed),
        **totals,
        "level_changes": sum(group.level_changes for group in groups if group.record == "book_update"),
        "trades": trades["trade"] + trades["agg_trade"],
        "trades_skipped": trades["skipped"],
    }


def _scales(
    settings: Settings, instruments: dict[Instrument, dict[str, Any]]
) -> dict[Instrument, tuple[int, int]]:
    """Return the scales of instruments that differ from their feed; what is recorded cannot change."""
    scales = {}
    for exchange, symbols in settings.instruments.items():
        for symbol, wanted in symbols.items():
            scales[exchange, symbol] = (wanted.price_scale, wanted.size_scale)
    for key, row in instruments.items():
        recorded = (row["price_scale"], row["size_scale"])
        if scales.get(key, recorded) != recorded:
            raise SettingsError(
                f"instruments.{key[0]}.{key[1]}: the warehouse holds scales {recorded}, the settings say "
                f"{scales[key]}; scales never change: use a new --warehouse"
            )
        feed = FEEDS[key[0]]
        if recorded != (feed.price_scale, feed.size_scale):
            scales[key] = recorded
    return scales


def _describe(
    instruments: dict[Instrument, dict[str, Any]],
    scales: dict[Instrument, tuple[int, int]],
    groups: list[Row],
) -> None:
    """Record the instruments met for the first time, and which stream gives each its trades."""
    streams: dict[Instrument, set[str]] = defaultdict(set)
    for group in groups:
        streams[group.exchange, group.symbol].add(group.record)
    for key, found in sorted(streams.items()):
        feed = FEEDS[key[0]]
        price_scale, size_scale = scales.get(key, (feed.price_scale, feed.size_scale))
        instrument = instruments.setdefault(
            key,
            {
                "exchange": key[0],
                "symbol": key[1],
                "price_scale": price_scale,
                "size_scale": size_scale,
                "trade_stream": "",
            },
        )
        # The first met is kept: ids of single and aggregated trades do not mix. Single ones are preferred.
        if not instrument["trade_stream"]:
            instrument["trade_stream"] = next((name for name in ("trade", "agg_trade") if name in found), "")


def _write_events(
    warehouse: Warehouse,
    groups: list[Row],
    instruments: dict[Instrument, dict[str, Any]],
    progress: Progress,
) -> None:
    """Order every symbol-hour that gains messages, and put it in the place of what it held."""
    stored: dict[tuple[str, str, str], list[IdRange]] = defaultdict(list)
    for row in sorted(warehouse.rows(HOURS), key=itemgetter("hour")):
        stored[row["exchange"], row["symbol"], row["event_type"]].append(
            IdRange(row["hour"], row["first_sequence"], row["last_sequence"])
        )
    streams: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for group in groups:
        if group.record == "book_update":
            streams[group.exchange, group.symbol, EventType.BOOK_UPDATE].append(group)
        elif group.record == instruments[group.exchange, group.symbol]["trade_stream"]:
            streams[group.exchange, group.symbol, EventType.TRADE].append(group)
    references: dict[Slice, dict[str, Any]] = {}
    for stream, found in streams.items():
        exchange, symbol, event_type = stream
        new = [IdGroup(group.time, group.first, group.last, group.received) for group in found]
        stored[stream] = merge_hours(stored[stream], new)
        for hour, (first, end) in ends(stored[stream]).items():
            files = [group.file for group in found if group.first < end and group.last >= first]
            if not files:
                continue
            reference = references.setdefault((exchange, symbol, hour), _reference((exchange, symbol, hour)))
            reference["record_files"] += sorted(set(files))
            kind = "update" if event_type == EventType.BOOK_UPDATE else "trade"
            reference[f"first_{kind}"], reference[f"end_{kind}"] = first, end
    if not references:
        return
    symbols, hours = (sorted({key[place] for key in references}) for place in (1, 2))
    stored_files = warehouse.data_files(EVENTS, F.col("symbol").isin(symbols) & F.col("hour").isin(hours))
    touched = stored_files.keys() & references.keys()
    for key in touched:
        references[key]["event_files"] = stored_files[key]
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
    warehouse.overwrite(
        HOURS,
        [
            {
                "exchange": exchange,
                "symbol": symbol,
                "event_type": str(event_type),
                "hour": found.hour,
                "first_sequence": found.first,
                "last_sequence": found.last,
            }
            for (exchange, symbol, event_type), hours in stored.items()
            for found in hours
        ],
    )


def _reference(key: Slice) -> dict[str, Any]:
    return {
        "exchange": key[0],
        "symbol": key[1],
        "hour": key[2],
        "record_files": [],
        "event_files": [],
        "first_update": 0,
        "end_update": 0,
        "first_trade": 0,
        "end_trade": 0,
    }


if __name__ == "__main__":
    from deltabook.jobs.cli import main

    main("ingest")
