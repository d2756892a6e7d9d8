"""What is made anew when it is damaged: books of sound events, or a warehouse of its raw files."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from deltabook.jobs.console.formats import hour_text
from deltabook.jobs.intake.ledger import archived_copy
from deltabook.jobs.integrity.audit import (
    JUDGED,
    REBUILT,
    Counting,
    examine,
    holds,
    read_recorded,
    run_faults,
)
from deltabook.jobs.integrity.log_repair import mends
from deltabook.jobs.integrity.recount import recount
from deltabook.jobs.records.active_files import LiveFile
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import CHUNK_PROPERTY, is_made, open_table
from deltabook.jobs.tables.stored import Slice, Stored
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.tables import EVENTS, FILES, HOURS, RUNS, TABLES, VERDICTS, both
from deltabook.udfs.storage.object_store import copied, is_remote

RAW = "_raw"
"""Folder of a warehouse for raw files whose originals are lost, named as these were."""


def rebuild(settings: Settings, is_meant: bool, stage: Counting) -> dict[str, Any]:
    """Take out what is damaged of books and verdicts, so that they are made again of what is sound.

    Parameters
    ----------
    settings : Settings
        Which warehouse.
    is_meant : bool
        Whether to do it, or only to tell what would be done.
    stage : callable
        Shows what is done.

    Returns
    -------
    dict
        `is_done`, `files` that are taken out, `rebuilt` and `judged`: symbol-hours that lose their books,
        or their verdicts.

    Raises
    ------
    WarehouseError
        If something else is damaged.
    """
    warehouse = Warehouse.without_spark(settings)
    root = warehouse.root
    recorded = read_recorded(root)
    examined = examine(root, recorded, stage)
    others = [file for file in examined.broken if file.table not in (*REBUILT, *JUDGED)]
    if examined.unread or others:
        named = sorted(examined.unread | {file.table.name for file in others})
        raise WarehouseError(
            f"{', '.join(named)} cannot be built from events: `deltabook verify` names what mends that first"
        )
    events = [file for file in examined.sound if file.table in both(EVENTS)]
    keys = sorted({key for file in events for key in _keys(file)})
    books = [file for file in examined.broken if file.table in REBUILT]
    verdicts = [file for file in examined.broken if file.table in JUDGED]
    rebuilt = [key for key in keys if any(file.holds(key) for file in books)]
    judged = [key for key in keys if any(file.holds(key) for file in verdicts)]
    if is_meant and examined.broken:
        with warehouse.writing("restore") as run:
            with run.stage("taking out"):
                for table in TABLES.values():
                    warehouse.drop(table, examined.broken)
                for table in REBUILT:
                    warehouse.delete(table, warehouse.predicate(rebuilt))
                warehouse.delete(VERDICTS, warehouse.predicate(judged))
            run.summary |= {"rebuilt": len(rebuilt), "judged": len(judged)}
    return {
        "is_done": is_meant,
        "files": [f"{file.table.name} {file.path}" for file in examined.broken],
        "rebuilt": [*map(_named, rebuilt)],
        "judged": [*map(_named, judged)],
    }


def _keys(file: LiveFile) -> Iterator[Slice]:
    for hour in set(file.hours or ()):
        yield str(file.exchange), str(file.symbol), hour


def _named(key: Slice) -> str:
    return f"{key[0]} {key[1]} {hour_text(key[2])}"


def raw_files(warehouse: Path, into: Path, stage: Counting) -> dict[str, Any]:
    """Find the raw files that a warehouse was made of, and give copies their names back.

    Parameters
    ----------
    warehouse : Path
        Whose ledger lists them.
    into : Path
        A new warehouse. A file that is only left as a copy is put into its folder `_raw`.
    stage : callable
        Shows what is done.

    Returns
    -------
    dict
        `batches`: source and paths, in the order in which runs have read them; `missing`: what is lost;
        `unlisted`: what only a damaged ledger lists;
        `chunk`: length of the hours; `archived`: whether copies were kept; `ledger_of`: the run whose
        ledger is read.

    Raises
    ------
    WarehouseError
        If the ledger is damaged in every run.
    SettingsError
        If the new warehouse is not new.
    """
    if is_remote(into):
        raise SettingsError(f"--into {into}: copies of raw files are put beside it, so it has to be a folder")
    if is_made(into, RUNS):
        raise SettingsError(f"--into {into}: expected a new folder, it has a warehouse")
    run, rows = _ledger(warehouse)
    batches: dict[tuple[str, str], list[Path]] = {}
    missing = []
    with stage("raw files", "files", len(rows)) as seen:
        for row in sorted(rows, key=itemgetter("run_id", "path")):
            path = _held(warehouse, row, into)
            if path is None:
                missing.append(row["path"])
            else:
                batches.setdefault((row["run_id"], row["source"]), []).append(path)
            seen()
    return {
        "ledger_of": run["run_id"],
        "batches": [(source, paths) for (_, source), paths in batches.items()],
        "missing": missing,
        "unlisted": _unlisted(warehouse, run, {row["path"] for row in rows}, stage),
        "chunk": _chunk(warehouse),
        "archived": any(row["archived"] for row in rows),
    }


def _unlisted(warehouse: Path, run: dict[str, Any], listed: set[str], stage: Counting) -> list[str]:
    """List the raw files of events that the ledger of an earlier run does not know."""
    recorded = read_recorded(warehouse)
    if run["run_id"] == recorded.newest["run_id"]:
        return []
    found = recount(warehouse, examine(warehouse, recorded, stage).sound, lambda: None)
    return sorted(found.rows[EVENTS.name].keys() - listed)


def _ledger(warehouse: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the ledger of the newest run of which it is sound; return that run, and what it had ingested."""
    recorded = read_recorded(warehouse)
    if faults := [*mends(warehouse, FILES, recorded)]:
        raise WarehouseError(f"the ledger's log is damaged ({faults[0].file}): `deltabook restore` first")
    known: dict[tuple[str, str], str] = {}
    for run in reversed(recorded.runs):
        had = recorded.version(FILES, run) >= 0
        if had and not run_faults(warehouse, recorded, run, known, [FILES]):
            rows = Stored(warehouse, dict(run["versions"])).rows(FILES)
            return run, [row for row in rows if row["state"] == "ingested"]
    raise WarehouseError("the ledger is damaged in every run: ingest the raw files into a new --warehouse")


def _held(warehouse: Path, row: dict[str, Any], into: Path) -> Path | None:
    """Return the path of a raw file with the content that was ingested; of a copy, under the old name."""
    path = Path(row["path"])
    if holds(path, row["content_hash"]):
        return path
    copy = archived_copy(warehouse, row["content_hash"])
    if not row["archived"] or not holds(copy, row["content_hash"]):
        return None
    # Sources may read the folders' names: all of them are kept.
    named = into / RAW / path.relative_to(path.anchor)
    named.parent.mkdir(parents=True, exist_ok=True)
    copied(copy, named)
    return named


def _chunk(warehouse: Path) -> str | None:
    """Return the length of a warehouse's hours, if its log can be read."""
    try:
        return open_table(warehouse, HOURS).metadata().configuration.get(CHUNK_PROPERTY)
    except WarehouseError:
        return None
