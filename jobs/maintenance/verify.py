"""The command `verify`: a warehouse's logs, files and counts against what its runs have recorded. No Spark.

Logs are compared with what was written of them, data files with their hashes, and what can be counted anew
with the ledger. Several files are read at once: hashing lets other threads go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from deltabook.jobs.console.formats import size_text
from deltabook.jobs.intake.ledger import archived_copy, places_of
from deltabook.jobs.integrity.audit import (
    Counting,
    Examined,
    counting_on,
    examine,
    holds,
    read_recorded,
    remedy_of,
    run_faults,
)
from deltabook.jobs.integrity.log_audit import beyond, log_faults
from deltabook.jobs.integrity.log_repair import small_table_faults
from deltabook.jobs.integrity.lost_runs import lost_runs
from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.integrity.recount import needs_reading, recount, recount_faults
from deltabook.jobs.records.copy_faults import copy_faults
from deltabook.jobs.records.file_faults import Fault
from deltabook.jobs.records.file_records import OF_RUNS
from deltabook.jobs.records.file_replacement import unfinished_repairs
from deltabook.jobs.records.second_copies import SMALL
from deltabook.jobs.tables.published import had_rows
from deltabook.jobs.tables.stored import Stored
from deltabook.jobs.warehouse.locks import WRITING, tried
from deltabook.schemas.tables import FILES, HOURS, RUNS, TABLES


def verify(warehouse: Path, is_deep: bool, console: Console) -> dict[str, Any]:
    """Compare a warehouse with what its runs have recorded.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    is_deep : bool
        Whether to read also the raw files with their copies, and the files of earlier runs.
    console : Console
        Where to show what is done.

    Returns
    -------
    dict
        `run` (the newest), counts, rates, and `findings`: table, file, problem, hours and remedy of each.

    Raises
    ------
    WarehouseError
        If nothing was published yet.
    """
    started = time.monotonic()
    stage = counting_on(console)
    # What is published while this lasts is not looked at: everything is compared with this one state.
    with tried(warehouse / WRITING) if had_rows(warehouse) else nullcontext() as is_free:
        recorded = read_recorded(warehouse, is_locked=bool(is_free))
        faults = [*_interrupted(warehouse)] if is_free else []
        if recorded.runs:
            faults += _unpublished(warehouse, recorded, bool(is_free))
    if not recorded.runs:
        return _without_runs(warehouse, recorded, faults)
    examined = examine(warehouse, recorded, stage)
    hashed = time.monotonic() - started
    named = {(fault.table, fault.file) for fault in faults}
    faults += [fault for fault in examined.faults if (fault.table, fault.file) not in named]
    faults += _recounted(warehouse, recorded, examined, stage)
    deep: dict[str, Any] = {}
    if is_deep:
        faults += _raw_faults(warehouse, recorded, stage) if examined.is_sound(FILES) else []
        deep = {"runs": len(recorded.runs), "restorable": _restorable(warehouse, recorded, examined, stage)}
    seconds = time.monotonic() - started
    return {
        "warehouse": str(warehouse),
        "run": recorded.newest["run_id"],
        "is_written": not is_free,
        "log_files": examined.commits,
        "data_files": len(examined.sound) + len(examined.broken),
        "bytes": examined.bytes,
        "bytes_per_second": round(examined.bytes / hashed),
        "seconds": round(seconds, 2),
        "unread": sorted(examined.unread),
        "findings": _findings(faults, warehouse),
    } | deep


def _findings(faults: list[Fault], warehouse: Path) -> list[dict[str, Any]]:
    return [asdict(one) | {"remedy": remedy_of(one, warehouse)} for one in faults]


def _interrupted(warehouse: Path) -> Iterator[Fault]:
    """Tell of repairs that were killed: the next command that writes puts back what they have moved."""
    for folder in unfinished_repairs(warehouse):
        yield Fault(RUNS.name, "", f"a repair was killed and has left files in {folder}: it is not done")


def _unpublished(warehouse: Path, recorded: Recorded, is_free: bool) -> Iterator[Fault]:
    """Look at what only a settled warehouse tells, and at the second copies of what runs have recorded."""
    for table in OF_RUNS:
        yield from copy_faults(warehouse, table, recorded.version(table), is_free)
    for table in SMALL:
        if recorded.version(table) >= 0:
            is_log_sound = not any(log_faults(warehouse, table, recorded))
            yield from small_table_faults(warehouse, table, recorded, is_log_sound)
    for table in TABLES.values() if is_free else ():
        yield from beyond(warehouse, table, recorded)


def _without_runs(warehouse: Path, recorded: Recorded, faults: list[Fault]) -> dict[str, Any]:
    """Tell of a warehouse of which nothing can be compared, since nothing tells what was published."""
    counts = ("log_files", "data_files", "bytes", "bytes_per_second", "seconds")
    found = _findings([*faults, lost_runs(warehouse, recorded)], warehouse)
    told = {"warehouse": str(warehouse), "run": "", "is_written": False, "unread": [RUNS.name]}
    return told | dict.fromkeys(counts, 0) | {"findings": found}


def _recounted(warehouse: Path, recorded: Recorded, examined: Examined, stage: Counting) -> Iterator[Fault]:
    """Count anew what sound files hold, if the small tables that tell what there should be are sound."""
    if not examined.is_sound(FILES) or not examined.is_sound(HOURS):
        return
    is_whole = not (examined.broken or examined.unread)
    read = sum(needs_reading(file.table) for file in examined.sound)
    with stage("counting", "data files", read) as seen:
        counted = recount(warehouse, examined.sound, seen)
    stored = Stored(warehouse, dict(recorded.newest["versions"]))
    yield from recount_faults(stored, counted, _is_settled(recorded.runs), is_whole)


def _is_settled(runs: list[dict[str, Any]]) -> bool:
    """Whether books were rebuilt since events last changed."""
    places = {run["run_id"]: place for place, run in enumerate(runs)}
    place = len(runs) - 1
    while place >= 0 and runs[place]["command"] != "ingest":
        if runs[place]["command"] == "reconstruct":
            return True
        restored = json.loads(runs[place]["summary"]).get("restored")
        place = places.get(restored, -1) if runs[place]["command"] == "restore" else place - 1
    return False


def _restorable(warehouse: Path, recorded: Recorded, examined: Examined, stage: Counting) -> list[str]:
    """List the runs of which everything is as it was written."""
    known, restorable = examined.problems(), []
    with stage("runs", "published versions", len(recorded.runs)) as seen:
        for run in recorded.runs:
            if not run_faults(warehouse, recorded, run, known):
                restorable.append(str(run["run_id"]))
            seen()
    return restorable


def _raw_faults(warehouse: Path, recorded: Recorded, stage: Counting) -> Iterator[Fault]:
    """Compare raw files and their copies with the ledger."""
    ledger = Stored(warehouse, dict(recorded.newest["versions"])).rows(FILES)
    with stage("raw files", "files", len(ledger)) as seen:
        for row in ledger:
            held = [place for place in places_of(warehouse, row) if holds(place, row["content_hash"])]
            copy = archived_copy(warehouse, row["content_hash"])
            if row["state"] == "ingested" and not held and not row["reason"]:
                told = "it is not there as when it was ingested, nor is a copy"
                yield Fault(FILES.name, row["path"], told, remedy="put it back from a copy")
            elif row["archived"] and copy not in held:
                told = f"the copy of {row['path']} is lost or damaged"
                yield Fault(FILES.name, str(copy), told, remedy=f"copy {row['path']} there")
            seen()


def show_verified(found: dict[str, Any], console: Console) -> None:
    """Print what was found, for people.

    Parameters
    ----------
    found : dict
        As `verify` returns it.
    console : Console
        Where to.
    """
    tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    for one in found["findings"]:
        tell(f"{one['table']}  {one['file'] or 'rows'}: {one['problem']}")
        if one["hours"]:
            tell(f"    concerns {', '.join(one['hours'])}")
        tell(f"    mend it: {one['remedy']}")
    if found["is_written"]:
        tell("a run is writing it now, or its lock may not be tried: only what is published was looked at")
    if found["unread"]:
        tell(f"not looked into, for their logs: {', '.join(found['unread'])}; mend these, and verify again")
    if "restorable" in found:
        tell(f"{len(found['restorable'])} of {found['runs']} runs can be restored")
    size, rate = (size_text(found[name]) for name in ("bytes", "bytes_per_second"))
    files = f"{found['data_files']:,} data files ({size}, {rate}/s) and {found['log_files']:,} files of logs"
    tell(f"{files}: {len(found['findings']) or 'no'} findings")
