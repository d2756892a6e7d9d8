"""The job `ingest`: read raw files into the tables `events` and `golden`. Each file is read once.

1. Workers parse each raw file and write the parsed messages, called records, to temporary files (staged
   files).
2. A survey of each stream finds the chunks and epochs of the stream, and how many digits the prices and sizes
   need. A stream is all messages of one type of one instrument. A chunk is a range of ids, one hour by
   default. An epoch is a range of ids between two restarts of a venue's ids.
3. For each chunk that gains or loses messages, workers sort the messages into the feed's order, and write the
   chunk as a new data file, which replaces the stored events of the chunk.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.intake.assignment import assign_sources, explain_nothing_taken
from deltabook.jobs.intake.chunk_assignment import ChunkAssignment
from deltabook.jobs.intake.instruments import (
    DEFAULT_SCALES,
    Instrument,
    add_new_instruments,
    find_foreign_instruments,
    get_scales,
    read_instruments,
)
from deltabook.jobs.intake.ledger import (
    EMPTY_FILE,
    FileBatch,
    RefusedFile,
    archive_file,
    classify_files,
    find_files,
    read_ledger,
)
from deltabook.jobs.intake.replacement import delete_rows_of_files, find_invalidated_work
from deltabook.jobs.intake.staged_files import RecordCounts, StagedFiles, stage_files, survey_streams
from deltabook.jobs.intake.streams import Stream
from deltabook.jobs.pipeline.summary import JobSummary
from deltabook.jobs.tables.stored import CHUNK_KEY_COLUMNS, ChunkKey
from deltabook.jobs.warehouse.run import Run
from deltabook.jobs.warehouse.tasks import GroupedWork
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.feeds import AUTO
from deltabook.schemas.frames import ADDED, EVENT_REFERENCES, OTHER_REFERENCES
from deltabook.schemas.names import EventType
from deltabook.schemas.rows import EventReference, InstrumentRow, LedgerRow, OtherReference, SurveyRow
from deltabook.schemas.tables import (
    EPOCHS,
    EVENTS,
    FILE_LINES,
    FILES,
    GOLDEN,
    HOURS,
    INSTRUMENTS,
    QUARANTINE,
    both,
)
from deltabook.udfs.ordering.id_resets import Restart, flatten_restarts
from deltabook.udfs.sources.common.file_source import LineCounts
from deltabook.udfs.spark.ingest_groups import extract_golden_groups, order_groups
from deltabook.udfs.storage.raw_files import get_stored_file, hash_file


@dataclass(frozen=True)
class IngestOptions:
    """Options of the job `ingest`.

    Attributes
    ----------
    replace : bool
        Whether a file with new content may replace the content that was ingested from the file's path.
    archive : bool
        Whether to store a copy of each raw file in the warehouse's archive.
    """

    replace: bool = False
    archive: bool = False


def ingest(
    warehouse: Warehouse,
    run: Run,
    source: str,
    paths: Sequence[Path],
    progress: Progress,
    options: IngestOptions | None = None,
) -> JobSummary:
    """Read new raw files into the warehouse, and return counts of what was read.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse to which `run` writes.
    run : Run
        The run to which this job belongs.
    source : str
        Name of the source that parses the files: a key of `SOURCES`, or `AUTO`.
    paths : sequence of Path
        Raw files, and folders that contain raw files.
    progress : Progress
        The display that shows the progress of each step.
    options : IngestOptions, optional
        Options of the job; None means the defaults of `IngestOptions`.

    Returns
    -------
    JobSummary
        Counts of files, events, level changes and golden rows; the refused files with their reasons; the
        duration in seconds; the level changes and trades per second.

    Raises
    ------
    SettingsError
        If a path does not exist, or if the settings give scales for an instrument that differ from the stored
        scales of the instrument.
    WarehouseError
        If the replacement of a file makes it necessary to read another file again, and this other file is
        missing or has changed.
    """
    started = time.monotonic()
    options = options or IngestOptions()
    ledger = read_ledger(warehouse)
    batch = classify_files(find_files(paths), ledger, options.replace)
    summary: JobSummary = {
        "files_new": len(batch.new),
        "files_known": len(batch.known),
        "files_replaced": len(batch.replaced),
        "refused": [],
        "passed_over": [],
        "taken_for": {},
        "lines": {},
        "files_read": 0,
        "events": 0,
        "level_changes": 0,
        "trades": 0,
        "trades_skipped": 0,
        "golden": 0,
        "quarantined": 0,
        "decimal_instruments": [],
    }
    if batch.new:
        summary |= _ingest_new_files(warehouse, run, source, batch, ledger, progress, options)
    summary["refused"] = [file._asdict() for file in batch.refused]
    seconds = time.monotonic() - started
    summary["ingest_seconds"] = round(seconds, 2)
    rate = round((summary["level_changes"] + summary["trades"]) / seconds) if batch.new else 0
    summary["ingest_events_per_second"] = rate
    return summary


def _ingest_new_files(
    warehouse: Warehouse,
    run: Run,
    source: str,
    batch: FileBatch,
    ledger: Sequence[LedgerRow],
    progress: Progress,
    options: IngestOptions,
) -> JobSummary:
    """Ingest the new files of a batch, and return counts of the messages and records in the files.

    Files that cannot be ingested are added to `batch.refused`.
    """
    assigned = assign_sources(batch.new.values(), source)
    passed_over = {file.path for file in assigned.passed_over}
    for content_hash in [key for key, path in batch.new.items() if str(path) in passed_over]:
        del batch.new[content_hash]
    chunks = ChunkAssignment(warehouse)
    instruments = read_instruments(warehouse)
    invalidated = find_invalidated_work(warehouse, batch, ledger)
    source_of_path = {row["path"]: row["source"] for row in ledger}
    sources = assigned.sources | {str(path): source_of_path[str(path)] for path in invalidated.files}
    staged = stage_files(warehouse, run.run_id, sources, progress)
    lines = staged.count_lines()
    built_from, foreign = _find_foreign_files(instruments, sources, staged)
    reasons = (
        dict(assigned.refused)
        | _find_files_without_messages(sources, staged, lines)
        | staged.find_failures(warehouse.settings.most_symbols)
        | foreign
        | _find_changed_files(batch)
    )
    batch.refused.extend(RefusedFile(*item) for item in sorted(reasons.items()))
    staged = staged.without(reasons)
    surveyed = survey_streams(warehouse, staged, chunks.get_bounds, progress)
    add_new_instruments(instruments, warehouse.settings, built_from, surveyed)
    references = chunks.assign(surveyed, instruments)
    for key in invalidated.chunks:
        if key not in references:
            references[key] = chunks.make_empty_reference(key, instruments[key[:2]])
    left_out = sorted({*batch.replaced.values(), *map(str, invalidated.files)} - reasons.keys())
    _write_events(warehouse, references, surveyed, left_out, progress)
    if references:
        for table, rows in ((HOURS, chunks.list_chunks()), (EPOCHS, chunks.list_epochs())):
            if rows or warehouse.exists(table):
                warehouse.overwrite(table, rows)
    delete_rows_of_files(warehouse, left_out)
    _write_other_records(warehouse, staged, surveyed, instruments, chunks.restarts, progress)
    if instruments:
        warehouse.overwrite(INSTRUMENTS, list(instruments.values()))
    records_of_file = staged.count_records()
    read_by = {str(path): sources.get(str(path), source) for path in batch.new.values()}
    _write_ledger(warehouse, run, read_by, batch, ledger, records_of_file, reasons, options)
    _write_lines(warehouse, batch, {path: lines[path] for path in lines if path not in reasons})
    records_of_new = [
        records for path, records in records_of_file.items() if Path(path) not in invalidated.files
    ]
    new = {path for path in read_by if path not in reasons}
    counts = _count(surveyed, instruments, records_of_new, len(new))
    total: LineCounts = sum((lines[path] for path in new), Counter())
    return counts | {
        "passed_over": [file._asdict() for file in assigned.passed_over],
        "taken_for": dict(Counter(read_by[path] for path in sorted(new))) if source == AUTO else {},
        "lines": dict(total.most_common()),
    }


def _find_foreign_files(
    instruments: Mapping[Instrument, InstrumentRow], sources: Mapping[str, str], staged: StagedFiles
) -> tuple[dict[Instrument, str], dict[str, str]]:
    """Return the source of each instrument, and {path: reason} of the files with those of another source."""
    named = [
        (row.source_file, ((row.exchange, row.symbol), sources[row.source_file]))
        for row in staged.list_message_files()
    ]
    built_from, reasons = find_foreign_instruments(instruments, (pair for _, pair in named))
    return built_from, {path: reasons[pair] for path, pair in named if pair in reasons}


def _find_files_without_messages(
    sources: Mapping[str, str], staged: StagedFiles, lines: Mapping[str, LineCounts]
) -> dict[str, str]:
    """Return {path: reason} of the files that have messages, of which their source took none."""
    read = {row.source_file for row in staged.list_message_files()}
    reasons = {
        path: explain_nothing_taken(path, sources[path], of_file)
        for path, of_file in lines.items()
        if path not in read
    }
    return {path: reason for path, reason in reasons.items() if reason}


def _find_changed_files(batch: FileBatch) -> dict[str, str]:
    """Return {path: reason} of the files to refuse because they have changed since they were hashed."""
    reason = "the file changed while it was read; ingest the file when it is complete"
    return {str(path): reason for digest, path in batch.new.items() if hash_file(path) != digest}


def _write_events(
    warehouse: Warehouse,
    references: dict[ChunkKey, EventReference],
    surveyed: Sequence[SurveyRow],
    left_out: list[str],
    progress: Progress,
) -> None:
    """Sort the messages of every chunk in `references`, and replace the chunk's stored events.

    Stored events of the raw files in `left_out` are dropped.
    """
    stored = warehouse.files_of_both(EVENTS)
    stored_keys = sorted(stored.keys() & references.keys())
    for key in stored_keys:
        references[key]["event_files"] = stored[key]
        references[key]["left_out"] = left_out
    costs: Counter[ChunkKey] = Counter()
    for row in surveyed:
        costs[row.exchange, row.symbol, row.time] += row.messages + row.level_changes
    keys = sorted(references)
    work = GroupedWork(
        EVENT_REFERENCES,
        [references[key] for key in keys],
        CHUNK_KEY_COLUMNS,
        order_groups(str(warehouse.root)),
        ADDED,
        [costs[key] for key in keys],
    )
    with progress.stage("ordering", "chunks", len(references)) as show:
        data_files = warehouse.apply(work, show)
    for table in both(EVENTS):
        warehouse.add(table, data_files, stored_keys)


def _write_other_records(
    warehouse: Warehouse,
    staged: StagedFiles,
    surveyed: Sequence[SurveyRow],
    instruments: Mapping[Instrument, InstrumentRow],
    restarts: Mapping[Stream, list[Restart]],
    progress: Progress,
) -> None:
    """Write golden rows to `golden`, and lines that could not be parsed to `quarantine`."""
    files: dict[Instrument, list[str]] = defaultdict(list)
    records: Counter[Instrument] = Counter()
    files_to_search = {
        row.file for row in surveyed if _may_have_others(row, instruments[row.exchange, row.symbol])
    }
    for row in staged.files:
        if row.record in ("golden", "quarantine") or row.file in files_to_search:
            files[row.exchange, row.symbol].append(row.file)
            records[row.exchange, row.symbol] += row.records
    if not files:
        return
    references = []
    for exchange, symbol in sorted(files):
        instrument = instruments.get((exchange, symbol))
        reference: OtherReference = {
            "exchange": exchange,
            "symbol": symbol,
            **(get_scales(instrument) if instrument else DEFAULT_SCALES),
            "record_files": files[exchange, symbol],
            "restarts": flatten_restarts(restarts.get((exchange, symbol, EventType.BOOK_UPDATE), [])),
        }
        references.append(reference)
    write = extract_golden_groups(str(warehouse.root))
    costs = [records[key] for key in sorted(files)]
    work = GroupedWork(OTHER_REFERENCES, references, ("exchange", "symbol"), write, ADDED, costs)
    with progress.stage("keeping", "symbols' golden rows and quarantine", len(references)) as show:
        data_files = warehouse.apply(work, show)
    for table in (*both(GOLDEN), QUARANTINE):
        warehouse.add(table, data_files)


def _may_have_others(row: SurveyRow, instrument: InstrumentRow) -> bool:
    """Return whether a staged file of events may also contain rows for `golden` or `quarantine`.

    Snapshots and checksums are golden rows too. Messages with prices or sizes that do not fit the
    instrument's scales go to quarantine.
    """
    is_golden = row.snapshots or row.checksums
    has_unusual_numbers = row.price_digits or row.size_digits or row.wide
    return bool(is_golden or has_unusual_numbers) or get_scales(instrument) != DEFAULT_SCALES


def _write_ledger(
    warehouse: Warehouse,
    run: Run,
    read_by: Mapping[str, str],
    batch: FileBatch,
    ledger: Sequence[LedgerRow],
    records_of_file: Mapping[str, RecordCounts],
    reasons: Mapping[str, str],
    options: IngestOptions,
) -> None:
    """Add a row to the table `files` for each file that was read or refused; drop rows of replaced files."""
    replaced = {content_hash for content_hash, path in batch.replaced.items() if path not in reasons}
    rows = [row for row in ledger if row["content_hash"] not in {*batch.new, *replaced}]
    for content_hash, path in batch.new.items():
        reason, records = reasons.get(str(path), ""), records_of_file.get(str(path), RecordCounts())
        row: LedgerRow = {
            "content_hash": content_hash,
            "path": str(path),
            "bytes": get_stored_file(path).stat().st_size,
            "source": read_by[str(path)],
            "archived": archive_file(path, content_hash, warehouse.root) if options.archive else "",
            "state": "failed" if reason else "ingested",
            "reason": reason or ("" if any(records) else EMPTY_FILE),
            "events": records.events,
            "golden": records.golden,
            "quarantined": records.quarantined,
            "run_id": run.run_id,
        }
        rows.append(row)
    warehouse.overwrite(FILES, rows)


def _write_lines(warehouse: Warehouse, batch: FileBatch, lines: Mapping[str, LineCounts]) -> None:
    """Replace the rows of the table `file_lines` of the new files."""
    hash_of_path = {str(path): content_hash for content_hash, path in batch.new.items()}
    rows = [row for row in warehouse.rows(FILE_LINES) if row["source_file"] not in hash_of_path]
    rows += [
        {"source_file": path, "content_hash": hash_of_path[path], "kind": kind, "lines": count}
        for path, of_file in sorted(lines.items())
        if path in hash_of_path
        for kind, count in sorted(of_file.items())
        if count
    ]
    warehouse.overwrite(FILE_LINES, sorted(rows, key=lambda row: (row["source_file"], row["kind"])))


def _count(
    surveyed: Sequence[SurveyRow],
    instruments: Mapping[Instrument, InstrumentRow],
    records_of_files: Sequence[RecordCounts],
    files_read: int,
) -> JobSummary:
    """Return counts of the messages and records that were read, for the run's summary."""
    trades = {True: 0, False: 0}
    for row in surveyed:
        if row.record in ("trade", "agg_trade"):
            is_used = row.record == instruments[row.exchange, row.symbol]["trade_stream"]
            trades[is_used] += row.messages
    keys = {(row.exchange, row.symbol) for row in surveyed}
    return {
        "files_read": files_read,
        "events": sum(records.events for records in records_of_files),
        "golden": sum(records.golden for records in records_of_files),
        "quarantined": sum(records.quarantined for records in records_of_files),
        "level_changes": sum(row.level_changes for row in surveyed if row.record == "book_update"),
        "trades": trades[True],
        "trades_skipped": trades[False],
        "decimal_instruments": sorted(" ".join(key) for key in keys if instruments[key]["is_decimal"]),
    }
