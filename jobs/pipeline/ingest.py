"""The job `ingest`: raw files into `events` and `golden`, each file once.

Each file is parsed once, into staged records. Each stream of them is surveyed whole, which tells its
hours, its epochs and the digits of its numbers; then each symbol-hour that gains messages is put into
the feed's order together with what it held before.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import Row

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.intake.chunk_assignment import Placing
from deltabook.jobs.intake.instruments import USUAL_SCALES, Instrument, describe, foreign
from deltabook.jobs.intake.ledger import Batch, archive, choose, find_files
from deltabook.jobs.intake.replacement import replaced_hours, take_out
from deltabook.jobs.intake.staged_files import Staged, Stream, stage, survey
from deltabook.jobs.tables.stored import KEYS, Slice
from deltabook.jobs.warehouse.tasks import Work
from deltabook.jobs.warehouse.warehouse import Run, Warehouse
from deltabook.schemas.frames import ADDED, EVENT_REFERENCES, OTHER_REFERENCES
from deltabook.schemas.names import EventType
from deltabook.schemas.tables import EPOCHS, EVENTS, FILES, GOLDEN, HOURS, INSTRUMENTS, QUARANTINE, both
from deltabook.udfs.ordering.id_resets import Restart, flatten
from deltabook.udfs.spark.ingest_groups import order_groups, others_groups
from deltabook.udfs.storage.raw_files import content_hash


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
    counts: dict[str, Any] = dict.fromkeys(
        ("files_read", "events", "level_changes", "trades", "trades_skipped", "golden", "quarantined"), 0
    )
    counts["decimal_instruments"] = []
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
) -> dict[str, Any]:
    placing = Placing(warehouse)
    instruments = {(row["exchange"], row["symbol"]): row for row in warehouse.rows(INSTRUMENTS)}
    again = replaced_hours(warehouse, batch, ledger)
    staged = stage(warehouse, run.run_id, source, [*batch.new.values(), *again.files], progress)
    reasons = (
        staged.failures(warehouse.settings.most_symbols)
        | _foreign_files(instruments, source, staged)
        | _changed_files(batch)
    )
    refused += [{"path": path, "reason": reason} for path, reason in sorted(reasons.items())]
    staged = staged.without(reasons)
    surveyed = survey(warehouse, staged, placing.known, progress)
    describe(instruments, warehouse.settings, source, surveyed)
    references = placing.place(surveyed, instruments)
    for key in again.hours:
        placing.touch(references, key, instruments[key[:2]])
    out = sorted({*batch.replaced.values(), *map(str, again.files)} - reasons.keys())
    _write_events(warehouse, references, surveyed, out, progress)
    if references:
        for table, rows in zip((HOURS, EPOCHS), placing.rows(), strict=True):
            if rows or warehouse.exists(table):
                warehouse.overwrite(table, rows)
    take_out(warehouse, out)
    _write_others(warehouse, staged, surveyed, instruments, placing.restarts, progress)
    if instruments:
        warehouse.overwrite(INSTRUMENTS, list(instruments.values()))
    counted = staged.counted()
    _write_ledger(warehouse, run, source, batch, ledger, counted, reasons, options)
    told_anew = {path: row for path, row in counted.items() if Path(path) not in again.files}
    return _counts(surveyed, instruments, told_anew, len(batch.new) - len(reasons))


def _foreign_files(
    instruments: dict[Instrument, dict[str, Any]], source: str, staged: Staged
) -> dict[str, str]:
    """Name the files that tell of instruments which the warehouse builds from another source."""
    messages = staged.messages()
    reasons = foreign(instruments, source, {(row.exchange, row.symbol) for row in messages})
    told = [(row.source_file, reasons.get((row.exchange, row.symbol))) for row in messages]
    return {path: reason for path, reason in told if reason}


def _changed_files(batch: Batch) -> dict[str, str]:
    """Name the files that were still being written."""
    reason = "it changed while it was read; ingest it when it is complete"
    return {str(path): reason for digest, path in batch.new.items() if content_hash(path) != digest}


def _write_events(
    warehouse: Warehouse,
    references: dict[Slice, dict[str, Any]],
    surveyed: list[Row],
    left_out: list[str],
    progress: Progress,
) -> None:
    """Order every symbol-hour that gains messages, and put it in the place of what it held."""
    stored = warehouse.files_of_both(EVENTS)
    for key in stored.keys() & references.keys():
        references[key] |= {"event_files": stored[key], "left_out": left_out}
    gains: Counter[Slice] = Counter()
    for row in surveyed:
        gains[row.exchange, row.symbol, row.time] += row.messages + row.level_changes
    keys = sorted(references)
    rows, costs = [references[key] for key in keys], [gains[key] for key in keys]
    work = Work(EVENT_REFERENCES, rows, KEYS, order_groups(str(warehouse.root)), ADDED, costs)
    with progress.stage("ordering", "symbol-hours", len(references)) as show:
        added = warehouse.apply(work, show)
    for table in both(EVENTS):
        warehouse.add(table, added, sorted(stored.keys() & references.keys()))


def _write_others(
    warehouse: Warehouse,
    staged: Staged,
    surveyed: list[Row],
    instruments: dict[Instrument, dict[str, Any]],
    restarts: dict[Stream, list[Restart]],
    progress: Progress,
) -> None:
    """Write what is not an event: golden rows, and what is in quarantine."""
    files: dict[Instrument, list[str]] = defaultdict(list)
    records: Counter[Instrument] = Counter()
    looked_into = {row.file for row in surveyed if _has_others(row, instruments[row.exchange, row.symbol])}
    for row in staged.files:
        if row.record in ("golden", "quarantine") or row.file in looked_into:
            files[row.exchange, row.symbol].append(row.file)
            records[row.exchange, row.symbol] += row.records
    references = [
        {
            "exchange": exchange,
            "symbol": symbol,
            **_scales(instruments.get((exchange, symbol))),
            "record_files": files[exchange, symbol],
            "restarts": flatten(restarts.get((exchange, symbol, EventType.BOOK_UPDATE), [])),
        }
        for exchange, symbol in sorted(files)
    ]
    if not references:
        return
    write = others_groups(str(warehouse.root))
    costs = [records[key] for key in sorted(files)]
    work = Work(OTHER_REFERENCES, references, ("exchange", "symbol"), write, ADDED, costs)
    with progress.stage("keeping", "symbols' golden rows and quarantine", len(references)) as show:
        added = warehouse.apply(work, show)
    for table in (*both(GOLDEN), QUARANTINE):
        warehouse.add(table, added)


def _has_others(found: Row, instrument: dict[str, Any]) -> bool:
    """Whether messages make golden rows, or may have numbers that the instrument's scales do not hold."""
    unusual = found.price_digits or found.size_digits or found.wide or _scales(instrument) != USUAL_SCALES
    return bool(found.snapshots or found.checksums or unusual)


def _scales(instrument: dict[str, Any] | None) -> dict[str, int | bool]:
    return {name: instrument[name] for name in USUAL_SCALES} if instrument else USUAL_SCALES


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
) -> dict[str, Any]:
    names = ("events", "golden", "quarantined")
    totals = {name: sum(row[name] for row in counted.values()) for name in names}
    met = {(group.exchange, group.symbol) for group in surveyed}
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
        "decimal_instruments": sorted(" ".join(key) for key in met if instruments[key]["is_decimal"]),
    }
