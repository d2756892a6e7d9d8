"""Remove damaged data that can be computed again, and find the raw files of a damaged warehouse.

Books and verdicts can be computed again from intact events. A whole warehouse can be computed again from its
raw files.
"""

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
from deltabook.schemas.tables import EVENTS, FILES, HOURS, RUNS, TABLES, both
from deltabook.schemas.validation_tables import VERDICTS
from deltabook.udfs.storage.locations import is_remote
from deltabook.udfs.storage.object_store import copy_file
from deltabook.udfs.storage.raw_files import has_content

RAW_FOLDER = "_raw"
"""Folder in a new warehouse for copies of lost raw files; the original paths are repeated in this folder."""


class RestoreReport(TypedDict, total=False):
    """Changes that `restore` made; after a dry run, the planned changes.

    Attributes
    ----------
    is_done : bool
        Whether the changes were made.
    logs : list of FaultFields
        Repaired faults: faults of table logs, and of any files of `runs`, `written` and small tables.
    taken_back : list of FaultFields
        Unpublished commits that are rolled back.
    files : list of str
        Table name and path of each damaged data file that is removed from the table.
    rebuilt : list of str
        Names of the chunks whose books are removed, so that `reconstruct` computes the books again.
    judged : list of str
        Names of the chunks whose verdicts are removed, so that `validate` computes the verdicts again.
    run : str or None
        Id of the run whose table versions are restored.
    undone : list of str
        Ids of the runs after the restored run. The changes of these runs are undone.
    ingest_again : list of str
        Paths of raw files that only undone runs ingested.
    recorded_again : int
        Number of files whose recorded hashes are lost. The present hashes of these files are recorded anew.
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
    """Locations of a warehouse's raw files, for ingesting the files again.

    Attributes
    ----------
    ledger_of : str
        Id of the run that published the ledger (table `files`) from which the raw files are taken.
    batches : list of (str, list of Path)
        One entry for each source of each run: the source's name, and the paths of the files that the run
        ingested from the source. Entries are in the order of the runs.
    missing : list of str
        Original paths of raw files that are lost and have no intact archived copy.
    unlisted : list of str
        Paths of raw files that have events in the warehouse but are missing in the ledger of `ledger_of`.
    chunk : str or None
        Chunk length of the warehouse, such as `1h`; None if the chunk length cannot be read.
    archived : bool
        Whether the ledger lists archived copies of raw files.
    """

    ledger_of: str
    batches: list[tuple[str, list[Path]]]
    missing: list[str]
    unlisted: list[str]
    chunk: str | None
    archived: bool


def drop_damaged_results(settings: Settings, is_meant: bool, stage: StageDisplay) -> RestoreReport:
    """Remove damaged books and verdicts. The next `reconstruct` and `validate` compute these results again.

    Parameters
    ----------
    settings : Settings
        Settings with the address of the warehouse.
    is_meant : bool
        Whether to apply the changes. If False, the changes are only reported.
    stage : callable
        Function that shows a stage; see `StageDisplay`.

    Returns
    -------
    RestoreReport
        Report with the fields `is_done`, `files`, `rebuilt` and `judged` only.

    Raises
    ------
    WarehouseError
        If a table log is damaged, or if a damaged table cannot be computed from events.
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
            f"{names}: damaged, and --rebuild cannot repair this damage: run `deltabook verify`, which names "
            "the commands that repair these tables, and run these commands first"
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
    """Yield the chunk of a data file of events, or the first and the last of several chunks in the file."""
    for hour in set(file.hours or ()):
        yield str(file.exchange), str(file.symbol), hour


def _label_chunk(key: ChunkKey) -> str:
    """Return the name of a chunk for messages: exchange, symbol and start."""
    return f"{key[0]} {key[1]} {format_chunk(key[2])}"


def locate_raw_files(warehouse: Path, into: Path, stage: StageDisplay) -> RawFileLocations:
    """Return where the raw files of a warehouse are, so that a new warehouse can ingest the files.

    If only the archived copy of a raw file is left, this function copies the archived copy into the folder
    `_raw` of the new warehouse, where the copy has the original path of the raw file.

    Parameters
    ----------
    warehouse : Path
        Folder of the old warehouse, whose ledger lists the raw files.
    into : Path
        Folder of the new warehouse. The folder must be local.
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
            f"--into {into}: expected a local folder, because copies of raw files are written to this folder"
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
    """Return the raw files that have events but are missing in the ledger of `run`.

    `listed` contains the paths in the ledger of `run`. The result is empty if `run` is the newest run,
    because the newest ledger lists all ingested files.
    """
    records = read_run_records(warehouse)
    if run["run_id"] == records.newest["run_id"]:
        return []
    intact_files = audit_files(warehouse, records, stage).intact_files
    counts = count_rows(warehouse, intact_files, lambda: None)
    return sorted(counts.rows[EVENTS.name].keys() - listed)


def _read_newest_intact_ledger(warehouse: Path) -> tuple[RunRow, list[LedgerRow]]:
    """Return the newest run whose ledger is intact, and this ledger's rows about ingested files."""
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
    """Return a path at which a raw file of the ledger exists unchanged; None if the raw file is lost.

    If only the archived copy is left, the archived copy is copied into the folder `into`, and the path of
    this new copy is returned.
    """
    path = Path(row["path"])
    if has_content(path, row["content_hash"]):
        return path
    archived = get_archive_path(warehouse, row["content_hash"])
    if not row["archived"] or not has_content(archived, row["content_hash"]):
        return None
    # Sources may read metadata from the names of folders, so the copy's path has the whole original path.
    target = into / RAW_FOLDER / path.relative_to(path.anchor)
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_file(archived, target)
    return target


def _read_chunk_length(warehouse: Path) -> str | None:
    """Return the chunk length of a warehouse, such as `1h`; None if the log of `hours` cannot be read."""
    try:
        return open_table(warehouse, HOURS).metadata().configuration.get(CHUNK_PROPERTY)
    except WarehouseError:
        return None
