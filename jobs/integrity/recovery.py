"""Recover what can be computed again: books from intact events, or a whole warehouse from its raw files."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import TypedDict

from deltabook.jobs.console.formats import format_chunk
from deltabook.jobs.intake.ledger import get_archive_path, read_ledger
from deltabook.jobs.integrity.audit import (
    REBUILT_TABLES,
    VALIDATION_TABLES,
    FileProblems,
    StageDisplay,
    audit_files,
    find_run_faults,
    has_content,
    read_run_records,
)
from deltabook.jobs.integrity.recount import count_rows
from deltabook.jobs.integrity.repair_plan import find_repairs
from deltabook.jobs.records.active_files import ActiveFile
from deltabook.jobs.records.file_faults import FaultFields
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.delta_tables import CHUNK_PROPERTY, open_table, table_exists
from deltabook.jobs.tables.stored import ChunkKey, TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.rows import LedgerRow, RunRow
from deltabook.schemas.tables import EVENTS, FILES, HOURS, RUNS, TABLES, VERDICTS, both
from deltabook.udfs.storage.locations import is_remote
from deltabook.udfs.storage.object_store import copy_file

RAW_FOLDER = "_raw"
"""Folder of a warehouse for raw files whose originals are lost; they keep their old names in it."""


class RestoreReport(TypedDict, total=False):
    """What `restore` changes, or would change.

    Attributes
    ----------
    is_done : bool
        Whether the changes were made.
    logs : list of FaultFields
        Faults of logs, `runs` and `written` that are repaired.
    taken_back : list of FaultFields
        Unpublished commits that are rolled back.
    files : list of str
        Damaged data files that are removed from their tables: table and path.
    rebuilt, judged : list of str
        Chunks that lose their books or their verdicts.
    run : str or None
        Id of the run that is restored.
    undone : list of str
        Ids of later runs.
    ingest_again : list of str
        Paths of raw files that only later runs ingested.
    recorded_again : int
        Number of files that are recorded as they are now, because their records are lost.
    """

    is_done: bool
    logs: list[FaultFields]
    taken_back: list[FaultFields]
    files: list[str]
    rebuilt: list[str]
    judged: list[str]
    run: str | None
    undone: list[str]
    ingest_again: list[str]
    recorded_again: int


class RawFileLocations(TypedDict):
    """Raw files of a warehouse, for ingesting them again.

    Attributes
    ----------
    ledger_of : str
        Id of the run whose ledger lists them.
    batches : list of (str, list of Path)
        Source and paths of the files of each run, in the order in which they were ingested.
    missing : list of str
        Paths of files that are lost together with their copies.
    unlisted : list of str
        Paths of files with events that the ledger does not list.
    chunk : str or None
        Chunk length of the warehouse, such as 1h; None if it cannot be read.
    archived : bool
        Whether the warehouse has copies of raw files.
    """

    ledger_of: str
    batches: list[tuple[str, list[Path]]]
    missing: list[str]
    unlisted: list[str]
    chunk: str | None
    archived: bool


def drop_damaged_results(settings: Settings, is_meant: bool, stage: StageDisplay) -> RestoreReport:
    """Remove damaged books and verdicts, so that the next `reconstruct` and `validate` compute them again.

    Parameters
    ----------
    settings : Settings
        Settings with the address of the warehouse.
    is_meant : bool
        Whether to apply the changes; otherwise only report them.
    stage : callable
        Function that shows a stage; see `StageDisplay`.

    Returns
    -------
    RestoreReport
        The fields `is_done`, `files`, `rebuilt` and `judged`.

    Raises
    ------
    WarehouseError
        If tables are damaged that cannot be computed from events.
    """
    warehouse = Warehouse.without_spark(settings)
    root = warehouse.root
    audit = audit_files(root, read_run_records(root), stage)
    damaged_files = audit.damaged_files
    inputs = [
        file.table.name for file in damaged_files if file.table not in (*REBUILT_TABLES, *VALIDATION_TABLES)
    ]
    if audit.unreadable_tables or inputs:
        names = ", ".join(sorted(audit.unreadable_tables.union(inputs)))
        raise WarehouseError(
            f"{names} cannot be rebuilt from events: run `deltabook verify` to see what repairs them first"
        )
    event_files = [file for file in audit.intact_files if file.table in both(EVENTS)]
    chunks = sorted({key for file in event_files for key in _list_chunks(file)})
    books = [file for file in damaged_files if file.table in REBUILT_TABLES]
    verdicts = [file for file in damaged_files if file.table in VALIDATION_TABLES]
    rebuilt = [key for key in chunks if any(file.may_contain(key) for file in books)]
    judged = [key for key in chunks if any(file.may_contain(key) for file in verdicts)]
    if is_meant and damaged_files:
        with warehouse.writing("restore") as run:
            with run.stage("taking out"):
                for table in TABLES.values():
                    warehouse.drop(table, damaged_files)
                for table in REBUILT_TABLES:
                    warehouse.delete(table, warehouse.predicate(rebuilt))
                warehouse.delete(VERDICTS, warehouse.predicate(judged))
            run.summary |= {"rebuilt": len(rebuilt), "judged": len(judged)}
    return {
        "is_done": is_meant,
        "files": [f"{file.table.name} {file.path}" for file in damaged_files],
        "rebuilt": [*map(_label_chunk, rebuilt)],
        "judged": [*map(_label_chunk, judged)],
    }


def _list_chunks(file: ActiveFile) -> Iterator[ChunkKey]:
    for hour in set(file.hours or ()):
        yield str(file.exchange), str(file.symbol), hour


def _label_chunk(key: ChunkKey) -> str:
    return f"{key[0]} {key[1]} {format_chunk(key[2])}"


def locate_raw_files(warehouse: Path, into: Path, stage: StageDisplay) -> RawFileLocations:
    """Find the raw files that a warehouse was built from, so that they can be ingested into a new one.

    A raw file that only exists as an archived copy is copied into the folder `_raw` of the new warehouse,
    with its old name.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder; its ledger lists the files.
    into : Path
        Folder of the new warehouse.
    stage : callable
        Function that shows a stage; see `StageDisplay`.

    Raises
    ------
    WarehouseError
        If the ledger of every run is damaged.
    SettingsError
        If the new warehouse is in an object store or exists already.
    """
    if is_remote(into):
        raise SettingsError(
            f"--into {into}: expected a local folder, because copies of raw files are written into it"
        )
    if table_exists(into, RUNS):
        raise SettingsError(f"--into {into}: expected a new folder, but it has a warehouse")
    run, ledger = _read_newest_intact_ledger(warehouse)
    batches: dict[tuple[str, str], list[Path]] = {}
    missing = []
    with stage("raw files", "files", len(ledger)) as advance:
        for row in sorted(ledger, key=itemgetter("run_id", "path")):
            path = _find_raw_file(warehouse, row, into)
            if path is None:
                missing.append(row["path"])
            else:
                batches.setdefault((row["run_id"], row["source"]), []).append(path)
            advance()
    return {
        "ledger_of": run["run_id"],
        "batches": [(source, paths) for (_, source), paths in batches.items()],
        "missing": missing,
        "unlisted": _list_unlisted_files(warehouse, run, {row["path"] for row in ledger}, stage),
        "chunk": _read_chunk_length(warehouse),
        "archived": any(row["archived"] for row in ledger),
    }


def _list_unlisted_files(warehouse: Path, run: RunRow, listed: set[str], stage: StageDisplay) -> list[str]:
    """Return the raw files with events that the ledger of an earlier run does not list."""
    records = read_run_records(warehouse)
    if run["run_id"] == records.newest["run_id"]:
        return []
    intact_files = audit_files(warehouse, records, stage).intact_files
    counts = count_rows(warehouse, intact_files, lambda: None)
    return sorted(counts.rows[EVENTS.name].keys() - listed)


def _read_newest_intact_ledger(warehouse: Path) -> tuple[RunRow, list[LedgerRow]]:
    """Return the newest run whose ledger is intact, and the ledger's rows of ingested files."""
    records = read_run_records(warehouse)
    if faults := [*find_repairs(warehouse, FILES, records)]:
        raise WarehouseError(
            f"table {warehouse / FILES.name}: {faults[0].file}: {faults[0].problem}: run `deltabook restore` "
            "first"
        )
    known: FileProblems = {}
    for run in reversed(records.runs):
        has_ledger = records.version(FILES, run) >= 0
        if has_ledger and not find_run_faults(warehouse, records, run, known, [FILES]):
            rows = read_ledger(TableReader(warehouse, dict(run["versions"])))
            return run, [row for row in rows if row["state"] == "ingested"]
    raise WarehouseError(
        f"table {warehouse / FILES.name} is damaged in every run: ingest the raw files into a new --warehouse"
    )


def _find_raw_file(warehouse: Path, row: LedgerRow, into: Path) -> Path | None:
    """Return the path of an unchanged raw file, or of its archived copy under the old name; None if lost."""
    path = Path(row["path"])
    if has_content(path, row["content_hash"]):
        return path
    archived = get_archive_path(warehouse, row["content_hash"])
    if not row["archived"] or not has_content(archived, row["content_hash"]):
        return None
    # Sources may read the names of folders, so the copy keeps the whole path.
    target = into / RAW_FOLDER / path.relative_to(path.anchor)
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_file(archived, target)
    return target


def _read_chunk_length(warehouse: Path) -> str | None:
    """Return the chunk length of a warehouse, such as 1h; None if its log cannot be read."""
    try:
        return open_table(warehouse, HOURS).metadata().configuration.get(CHUNK_PROPERTY)
    except WarehouseError:
        return None
