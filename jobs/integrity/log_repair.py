"""Logs, and all files of `runs` and `written`, put back from the copies that runs have kept of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
from deltalake import CommitProperties
from pyspark.sql import Row

from deltabook.jobs.integrity.log_audit import POINTER, beyond, later_files, log_faults, misplaced_rows
from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.records.active_files import LiveFile, live_files
from deltabook.jobs.records.copy_faults import UNCOPIED, copy_faults, small_faults
from deltabook.jobs.records.file_faults import Fault, damage
from deltabook.jobs.records.file_records import (
    LOG,
    OF_RUNS,
    actions_of,
    log_files,
    published_version,
    recorded_before,
)
from deltabook.jobs.records.file_replacement import Step, repairing
from deltabook.jobs.records.second_copies import SMALL, all_copies_of, copies_of, keep_copies
from deltabook.jobs.tables.published import COPIES, is_made, open_table, published_versions
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, TABLES, WRITTEN
from deltabook.udfs.storage.object_store import files_in, readable


def mends(root: Path, table: Table, recorded: Recorded) -> Iterator[Fault]:
    """List what is to be mended before a table can be opened as it was published.

    Parameters
    ----------
    root : Path
        Folder of the tables.
    table : Table
        Which.
    recorded : Recorded
        What runs have recorded.

    Yields
    ------
    Fault
        Each file of its log; of `runs` and `written` also each data file and each second copy.
    """
    found: dict[str, Fault] = {}
    if recorded.version(table) >= 0:
        found = {fault.file: fault for fault in log_faults(root, table, recorded)}
    if table in OF_RUNS:
        for fault in copy_faults(root, table, recorded.version(table), recorded.is_settled):
            if fault.problem == UNCOPIED:
                found.setdefault(fault.file, fault)
            else:
                found[fault.file] = fault
    if table in SMALL and recorded.version(table) >= 0:
        found |= {fault.file: fault for fault in small_table_faults(root, table, recorded, not found)}
    yield from found.values()
    later = [*beyond(root, table, recorded)]
    if later and (table is RUNS or not _can_be_taken_back(root, table, recorded)):
        yield from later


def small_table_faults(root: Path, table: Table, recorded: Recorded, is_log_sound: bool) -> Iterator[Fault]:
    """Compare the data files of a small table with their second copies.

    Parameters
    ----------
    root : Path
        Folder of the tables.
    table : Table
        One of `SMALL`, which was published.
    recorded : Recorded
        What runs have recorded.
    is_log_sound : bool
        Whether its log tells its data files.
    """
    live = {file.path for file in live_files(root, table, recorded.version(table))} if is_log_sound else None
    digests = {path: str(row["content_hash"]) for path, row in recorded.files[table.name].items()}
    return small_faults(root, table, live, digests, recorded.is_settled)


def _can_be_taken_back(root: Path, table: Table, recorded: Recorded) -> bool:
    """Whether the commits after the published one follow it without a hole, and can be read."""
    published = max(recorded.version(table), 0)
    later = {version: paths for version, paths in log_files(root, table).items() if version > published}
    versions = [one for one, paths in later.items() if any(path.suffix == ".json" for path in paths)]
    try:
        for path in later_files(root, table, published):
            if path.suffix == ".json":
                actions_of(path)
    except ValueError:
        return False
    return sorted(later) == [*range(published + 1, published + 1 + len(versions))]


def mend(warehouse: Warehouse, recorded: Recorded, faults: list[Fault]) -> None:
    """Put files back as they were recorded, all of them or none; what was in their place goes to `_aside`.

    Parameters
    ----------
    warehouse : Warehouse
        Is locked.
    recorded : Recorded
        What runs have recorded.
    faults : list of Fault
        As `mends` yields them, of all tables.

    Raises
    ------
    WarehouseError
        If a commit is lost of which there is no copy, or the tables could not be read afterwards: then
        everything is as it was before.
    """
    root = warehouse.root
    tables = [table for table in TABLES.values() if any(fault.table == table.name for fault in faults)]
    steps: dict[str, Step] = {}
    for table in tables:
        for step in _steps(root, table, recorded, [fault for fault in faults if fault.table == table.name]):
            steps.setdefault(step.path, step)
    # Of `runs` and `written`, commits without any copy are made anew: the run that follows records them.
    made_anew = {
        (fault.table, fault.file)
        for fault in faults
        if TABLES[fault.table] in OF_RUNS
        and fault.file not in copies_of(root, TABLES[fault.table])
        and not recorded.content(TABLES[fault.table], fault.file)
    }
    folders = [f"{table.name}/{LOG}" for table in tables] + [
        f"{COPIES}/{table.name}" for table in (*OF_RUNS, *SMALL)
    ]
    with repairing(root, steps.values(), folders):
        for table in OF_RUNS:
            if table in tables:
                _add_lost(warehouse, table, recorded)
        keep_copies(root, is_thorough=True)
        _prove_readable(root, recorded, made_anew)


def _steps(root: Path, table: Table, recorded: Recorded, faults: list[Fault]) -> Iterator[Step]:
    """Tell which file of a table is replaced by what."""
    copies = copies_of(root, table)
    unproven = False
    moved = misplaced_rows(root, recorded) if table is RUNS and not copies else {}
    is_lost = recorded.is_written_foreign or not (recorded.is_whole or _is_readable(root, table))
    if table is WRITTEN and not copies and is_lost:
        yield from (
            Step(f"{table.name}/{LOG}/{file.path.name}") for file in files_in(root / table.name / LOG)
        )
    if not copies:
        for stray in all_copies_of(root, table).values():  # of another warehouse
            yield Step(str(stray.place.relative_to(root)))
    for fault in faults:
        if not fault.file:
            continue
        path, copy = f"{table.name}/{fault.file}", copies.get(fault.file)
        content = recorded.content(table, fault.file)
        if fault.file in moved:
            yield Step(path, root / table.name / moved[fault.file])
            continue
        if copy and not damage(root / path, copy.digest):
            yield Step(f"{COPIES}/{table.name}/{copy.place.name}", root / path)
            continue
        if copy and copy.is_sound():
            yield Step(path, copy.place)
            continue
        if copy:  # neither is as it was
            yield Step(f"{COPIES}/{table.name}/{copy.place.name}")
        if content and fault.problem != UNCOPIED:
            yield Step(path, content)
        elif not fault.file.startswith(f"{LOG}/") or _is_only_uncopied(fault, recorded):
            continue  # a damaged data file is taken out of the table later; a copy is made in any case
        elif not fault.file.endswith(".json"):
            yield Step(path)
            yield Step(f"{table.name}/{LOG}/{POINTER}")
        elif fault.file in recorded.files[table.name] and table not in OF_RUNS:
            raise WarehouseError(
                f"table {root / table.name}: no copy of {fault.file} is kept: put it back from one, or "
                "`deltabook restore --from-archive --into NEW_WAREHOUSE`"
            )
        else:
            yield Step(path)
            unproven = True
    last = max(recorded.version(table), 0)
    if table is RUNS and unproven:
        last = published_version(RUNS, recorded_before(recorded.runs))
    if table is RUNS or not _can_be_taken_back(root, table, recorded):
        for file in later_files(root, table, last):
            # One that has joined files is recorded; one that is copied is as it was.
            path = f"{LOG}/{file.name}"
            if path not in recorded.files[table.name] and path not in copies:
                yield Step(f"{table.name}/{path}")


def _is_readable(root: Path, table: Table) -> bool:
    try:
        open_table(root, table)
    except WarehouseError:
        return False
    return True


def _is_only_uncopied(fault: Fault, recorded: Recorded) -> bool:
    """Whether a file is one of its table, and has but lost its copy: a checkpoint of no run is not."""
    is_recorded = fault.file in recorded.files[fault.table]
    return fault.problem == UNCOPIED and (is_recorded or fault.file.endswith(".json"))


def _prove_readable(root: Path, recorded: Recorded, made_anew: set[tuple[str, str]]) -> None:
    """Open every table as it was published, and look whether anything is left to be mended.

    Raises
    ------
    WarehouseError
        If a table cannot be opened, or is still damaged.
    """
    if published_versions(root) != dict(recorded.newest["versions"]):
        raise WarehouseError(
            f"warehouse {root}: `runs` would not name what was published; nothing is changed"
        )
    for table in TABLES.values():
        if recorded.version(table) >= 0:
            live_files(root, table, recorded.version(table))
        left = [one for one in mends(root, table, recorded) if (one.table, one.file) not in made_anew]
        if left:
            raise WarehouseError(
                f"table {root / table.name}: {left[0].file} would still be damaged ({left[0].problem}); "
                "nothing is changed"
            )


def _add_lost(warehouse: Warehouse, table: Table, recorded: Recorded) -> None:
    """Add the newest runs' data files again, one by one, where their commits have no copy."""
    folder = warehouse.root / table.name
    unproven = published_version(RUNS, recorded_before(recorded.runs))
    if table is RUNS:
        names = [
            name
            for run in recorded.runs
            for name, rows in recorded.sealed.items()
            if rows == [run] and run["version"] > unproven
        ]
    else:
        proofs = {path: row for path, row in json.loads(recorded.newest["proofs"]).items() if LOG not in path}
        names = [path for path, proof in proofs.items() if not damage(folder / path, proof)]
    there = set()
    if is_made(warehouse.root, table):
        version = open_table(warehouse.root, table).version()
        there = {file.path for file in live_files(warehouse.root, table, version)}
    for name in names:
        if name not in there:
            warehouse.add(table, [_added(folder / name, table)])
    # The published version has to be there: what is lost of it is recorded again by the run that follows.
    newest = open_table(warehouse.root, table).version() if is_made(warehouse.root, table) else -1
    for _ in range(recorded.version(table) - newest if table is WRITTEN else 0):
        warehouse.add(table, [], properties=CommitProperties({"deltabook": "in the place of a lost commit"}))


def drop_unread(warehouse: Warehouse, files: list[LiveFile]) -> None:
    """Take damaged data files that have no copy out of `runs`; their rows are lost.

    Parameters
    ----------
    warehouse : Warehouse
        Not yet locked.
    files : list of LiveFile
        Data files of `runs`.
    """
    with warehouse.locked(), repairing(warehouse.root, [], [f"{RUNS.name}/{LOG}"]):
        warehouse.drop(RUNS, files)
        published_versions(warehouse.root)


def _added(file: Path, table: Table) -> Row:
    return Row(
        table=table.name,
        path=file.name,
        bytes=file.stat().st_size,
        content_hash="",
        partition="{}",
        modified=time.time_ns() // 1_000_000,
        statistics=json.dumps({"numRecords": pq.read_metadata(readable(file)).num_rows}),
    )
