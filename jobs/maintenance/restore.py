"""The command `restore`: a warehouse as a run has published it. Computes nothing with Spark.

First files of logs, and of `runs` and `written`, are put back from their copies: all of them, or none. Then
tables go back by Delta's time travel, published as a run of its own. What is replaced is moved to the folder
`_aside`; nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deltabook.jobs.integrity.audit import Counting, Examined, examine, read_recorded, run_faults
from deltabook.jobs.integrity.log_audit import beyond
from deltabook.jobs.integrity.log_repair import drop_unread, mend, mends
from deltabook.jobs.integrity.lost_runs import lost_runs, make_runs_again
from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.records.active_files import LiveFile
from deltabook.jobs.records.file_faults import damage
from deltabook.jobs.records.file_records import OF_RUNS, written_since
from deltabook.jobs.runtime.disk_errors import disk_named
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import empty, had_rows, is_made, open_table
from deltabook.jobs.tables.stored import Stored
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import FILES, RUNS, TABLES, WRITTEN

_SHOWN = 5


def restore(settings: Settings, run_id: str | None, is_meant: bool, stage: Counting) -> dict[str, Any]:
    """Bring every table back to what a run published.

    Parameters
    ----------
    settings : Settings
        Which warehouse.
    run_id : str, optional
        The run; None: the newest of which everything is as it was written.
    is_meant : bool
        Whether to do it, or only to tell what would be done.
    stage : callable
        Shows what is done.

    Returns
    -------
    dict
        `is_done`; `logs`: what is mended of them; `taken_back`: what was changed after the newest run;
        `run`: the one that is restored; `undone`: later runs; `ingest_again`: raw files that only these
        had; `files`: damaged ones that are taken out of `runs`; `recorded_again`: how many files nothing
        has proved since records of them are lost.

    Raises
    ------
    WarehouseError
        If there is no such run, or something of it is lost or damaged.
    """
    warehouse = Warehouse.without_spark(settings)
    root = warehouse.root
    if not had_rows(root):
        raise empty(root)
    with disk_named(root), warehouse.locked():
        recorded = read_recorded(root, is_locked=True)
        told: dict[str, Any] = {"is_done": is_meant, "logs": [], "recorded_again": 0}
        told |= {"run": run_id, "taken_back": [], "undone": [], "ingest_again": []}
        if not recorded.runs:
            told["logs"] = [asdict(lost_runs(root, recorded))]
            if is_meant:
                told["run"] = make_runs_again(warehouse, recorded)
            return told
        if run_id is not None:
            _run_named(recorded, run_id)
        faults = [fault for table in TABLES.values() for fault in mends(root, table, recorded)]
        told["logs"] = [asdict(fault) for fault in faults]
        if faults and not is_meant:  # what stands in the tables is known when their logs are mended
            return told
        if faults:
            mend(warehouse, recorded, faults)
        later = [fault for table in TABLES.values() for fault in beyond(root, table, recorded)]
    examined = examine(root, recorded, stage)
    # Whoever was told of logs alone has not agreed to more: data files are for the next time.
    chosen = _chosen(root, recorded, examined, run_id) if run_id or not faults else recorded.newest
    unproven = [file for file in examined.broken if file.table is WRITTEN]
    unread = [file for file in examined.broken if file.table is RUNS]
    undone = recorded.runs[recorded.runs.index(chosen) + 1 :]
    told |= {
        "taken_back": [asdict(fault) for fault in later],
        "run": chosen["run_id"],
        "undone": [run["run_id"] for run in undone],
        "ingest_again": _only_of(root, recorded, chosen, examined) if undone else [],
        "files": [f"{RUNS.name} {file.path}, whose rows are lost" for file in unread],
    }
    is_record_lost = bool(unproven) or not recorded.is_whole
    if not is_meant or not (faults or later or undone or is_record_lost or unread):
        return told
    if unread:
        drop_unread(warehouse, unread)
    with warehouse.writing("restore") as run:
        run.records = True  # of logs that were mended too
        with run.stage("going back"):
            for table in TABLES.values():
                version, wanted = recorded.version(table), max(recorded.version(table, chosen), 0)
                if table not in OF_RUNS and version > 0 and version != wanted:
                    open_table(root, table).restore(wanted)
        if is_record_lost:
            told["recorded_again"] = _record_again(warehouse, recorded, unproven, run.run_id)
        run.summary |= {"restored": chosen["run_id"], "undone": told["undone"]}
    return told


def _run_named(recorded: Recorded, run_id: str) -> dict[str, Any]:
    found = [run for run in recorded.runs if run["run_id"] == run_id]
    if not found:
        last = ", ".join(run["run_id"] for run in recorded.runs[-_SHOWN:])
        raise WarehouseError(f"no run {run_id} in this warehouse; the last ones: {last}")
    return dict(found[0])


def _chosen(root: Path, recorded: Recorded, examined: Examined, run_id: str | None) -> dict[str, Any]:
    """Choose the run that is restored."""
    known = examined.problems()
    if run_id is None:
        for run in reversed(recorded.runs):
            if not run_faults(root, recorded, run, known):
                return dict(run)
        raise WarehouseError(
            "of every run something is lost or damaged: `deltabook restore --from-archive --into "
            "NEW_WAREHOUSE` ingests the raw files again, and `--rebuild` mends what follows from events"
        )
    run = _run_named(recorded, run_id)
    faults = run_faults(root, recorded, run, known)
    kept = recorded.kept_from()
    if faults and recorded.runs.index(run) < kept:
        raise WarehouseError(
            f"run {run_id} cannot be restored: `deltabook maintain` has removed files that only it and "
            "earlier ones had; the oldest of which everything was kept is "
            f"{recorded.runs[kept]['run_id']}"
        )
    if faults:
        named = "; ".join(f"{fault.table} {fault.file}: {fault.problem}" for fault in faults[:_SHOWN])
        raise WarehouseError(f"run {run_id} cannot be restored: {named}")
    return run


def _only_of(root: Path, recorded: Recorded, chosen: dict[str, Any], examined: Examined) -> list[str]:
    """List the raw files that only later runs than the chosen one have ingested, if the ledger is sound."""
    if not examined.is_sound(FILES):
        return []
    ledgers = [
        {
            row["content_hash"]: row["path"]
            for row in Stored(root, dict(run["versions"])).rows(FILES)
            if row["state"] == "ingested"
        }
        for run in (recorded.newest, chosen)
    ]
    return sorted(path for digest, path in ledgers[0].items() if digest not in ledgers[1])


def _record_again(warehouse: Warehouse, recorded: Recorded, lost: list[LiveFile], run_id: str) -> int:
    """Take damaged data files out of `written`, and record what only they told of as it is now."""
    warehouse.drop(WRITTEN, lost)
    root = warehouse.root
    known = {name: {*files} for name, files in recorded.files.items()}
    # Commits that were made again are not those that were recorded.
    of_written = recorded.files[WRITTEN.name]
    known[WRITTEN.name] = {
        path
        for path, row in of_written.items()
        if not damage(root / WRITTEN.name / path, str(row["content_hash"]))
    }
    rows = [
        row | {"run_id": run_id}
        for table in TABLES.values()
        if is_made(root, table)
        for row in written_since(root, table, 0, {}, known.get(table.name, ()))
    ]
    warehouse.append(WRITTEN, rows)
    return len(rows)


def told_of(done: dict[str, Any]) -> Iterator[str]:
    """Tell people what a restore does, or would do.

    Parameters
    ----------
    done : dict
        As `restore` or `again.rebuild` returns it.

    Yields
    ------
    str
        Lines.
    """
    for fault in done.get("logs", ()):
        yield f"mended       {fault['table']} {fault['file']}: {fault['problem']}"
    for fault in done.get("taken_back", ()):
        yield f"taken back   {fault['table']}: {fault['problem']}"
    for name in done.get("files", ()):
        yield f"taken out    {name}"
    for hour in done.get("rebuilt", ()):
        yield f"to rebuild   {hour}"
    for hour in done.get("judged", ()):
        yield f"to judge     {hour}"
    if done.get("logs"):
        yield "then         deltabook verify, which can read now what these logs tell"
    if done.get("run"):
        yield f"run          {done['run']}"
    for run in done.get("undone", ()):
        yield f"undone       run {run}"
    for path in done.get("ingest_again", ()):
        yield f"ingest again {path}"
    if done.get("recorded_again"):
        yield f"recorded     {done['recorded_again']:,} files as they are now: nothing proves what they were"
    yield "done" if done["is_done"] else "nothing is done: --yes does it"
