"""What of a warehouse is not as its runs have recorded it, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from deltabook.jobs.console.logging import shown
from deltabook.jobs.integrity.data_file_audit import checked, live_of_run
from deltabook.jobs.integrity.log_audit import log_faults
from deltabook.jobs.integrity.recorded import Recorded
from deltabook.jobs.records.active_files import LiveFile, live_files
from deltabook.jobs.records.file_faults import Fault
from deltabook.jobs.records.file_records import LOG, OF_RUNS
from deltabook.jobs.tables.published import empty, had_rows
from deltabook.jobs.warehouse.locks import WRITING, tried
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import (
    BOOKS,
    CHECKPOINTS,
    CHECKS,
    COVERAGE,
    FIDELITY,
    GAPS,
    GRIDS,
    MISMATCHES,
    RUNS,
    SAMPLES,
    TABLES,
    VALIDATIONS,
    VERDICTS,
    both,
)
from deltabook.udfs.storage.raw_files import content_hash

REBUILT = (*both(CHECKPOINTS), *both(BOOKS), *both(GRIDS), GAPS, CHECKS, COVERAGE)
"""Tables that `reconstruct` makes of events."""
JUDGED = (FIDELITY, SAMPLES, *both(MISMATCHES), VERDICTS, VALIDATIONS)
"""Tables that `validate` makes of those."""


@dataclass
class Examined:
    """What was found of the newest run's versions.

    Attributes
    ----------
    faults : list of Fault
        Of logs, then of data files.
    sound : list of LiveFile
        Data files that are as they were written.
    broken : list of LiveFile
        Those that are not.
    unread : set of str
        Tables whose logs cannot be followed: their data files are not looked at.
    commits : int
        Files of logs that were compared.
    """

    faults: list[Fault] = field(default_factory=list)
    sound: list[LiveFile] = field(default_factory=list)
    broken: list[LiveFile] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    commits: int = 0

    @property
    def bytes(self) -> int:
        """Size of the data files that were read."""
        return sum(file.bytes for file in (*self.sound, *self.broken))

    def is_sound(self, table: Table) -> bool:
        """Whether all of a table is as it was written."""
        return table.name not in self.unread and all(file.table is not table for file in self.broken)

    def problems(self) -> dict[tuple[str, str], str]:
        """Return what is wrong with each data file, by table and path; empty if nothing is."""
        known = {(file.table.name, file.path): "" for file in self.sound}
        return known | {(fault.table, fault.file): fault.problem for fault in self.faults}


Counting = Callable[[str, str, int], Any]
"""``(doing, unit, total) -> context``: shows a stage; what it yields is called once a unit."""


def counting_on(console: Console) -> Counting:
    """Make what shows stages: on a terminal a bar, elsewhere one line when each ends.

    Parameters
    ----------
    console : Console
        Where to.
    """

    @contextmanager
    def stage(doing: str, unit: str, total: int) -> Iterator[Callable[[], None]]:
        with shown(console, doing, total, unit) as show:
            numbers = count(1)
            yield lambda: show(next(numbers))

    return stage


def read_recorded(warehouse: Path, is_locked: bool = False) -> Recorded:
    """Read what runs have recorded.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    is_locked : bool
        Whether the caller holds the lock; else it is held here while this is read, if it is free.

    Returns
    -------
    Recorded
        Without runs where `runs` is lost.

    Raises
    ------
    WarehouseError
        If nothing was published yet.
    """
    if not had_rows(warehouse):
        raise empty(warehouse)
    with nullcontext(True) if is_locked else tried(warehouse / WRITING) as is_free:
        return Recorded.of(warehouse, bool(is_free))


def examine(warehouse: Path, recorded: Recorded, stage: Counting) -> Examined:
    """Compare the logs and data files of the newest run's versions with what was recorded.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    recorded : Recorded
        What runs have recorded.
    stage : callable
        Shows what is done.
    """
    found = Examined()
    had = [table for table in TABLES.values() if recorded.version(table) >= 0]
    files: list[LiveFile] = []
    with stage("logs", "tables", len(had)) as seen:
        for table in had:
            faults = [*log_faults(warehouse, table, recorded)]
            found.faults += faults
            found.commits += sum(path.startswith(f"{LOG}/") for path in recorded.files[table.name])
            if faults:
                found.unread.add(table.name)
            else:
                files += live_files(warehouse, table, recorded.version(table))
            seen()
    with stage("hashing", "data files", len(files)) as seen:
        for file, problem in checked(warehouse, recorded, files):
            if problem:
                found.faults.append(Fault(file.table.name, file.path, problem, file.named))
            (found.broken if problem else found.sound).append(file)
            seen()
    return found


def run_faults(
    warehouse: Path,
    recorded: Recorded,
    run: dict[str, Any],
    known: dict[tuple[str, str], str],
    tables: Iterable[Table] = TABLES.values(),
) -> list[Fault]:
    """Tell what of a run's versions is not as it was written.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    recorded : Recorded
        What runs have recorded.
    run : dict
        Row of `runs`.
    known : dict
        Problems of files that were read already, by table and path; takes those that are read now.
    tables : iterable of Table
        Which to look at; those of runs are passed over.
    """
    try:
        files = [*live_of_run(warehouse, recorded, run, [one for one in tables if one not in OF_RUNS])]
    except WarehouseError as error:
        return [Fault(RUNS.name, "", str(error))]
    new = [file for file in files if (file.table.name, file.path) not in known]
    for file, problem in checked(warehouse, recorded, new):
        known[file.table.name, file.path] = problem
    return [
        Fault(file.table.name, file.path, problem, file.named)
        for file in files
        if (problem := known[file.table.name, file.path])
    ]


def remedy_of(fault: Fault, warehouse: Path) -> str:
    """Return the commands that mend a fault.

    Parameters
    ----------
    fault : Fault
        What was found.
    warehouse : Path
        Folder of the tables.
    """
    table, where = TABLES[fault.table], f"--warehouse {warehouse}"
    if fault.remedy:
        return fault.remedy
    if table in OF_RUNS or fault.is_copied or fault.file.startswith(f"{LOG}/"):
        return f"deltabook restore --yes {where}"
    judging = f"deltabook validate {where}"
    building = f"deltabook reconstruct {where}, with the settings of before; {judging}"
    if table in REBUILT:
        return f"deltabook restore --rebuild --yes {where}; {building}" if fault.file else building
    if table in JUDGED:
        return f"deltabook restore --rebuild --yes {where}; {judging}"
    return f"deltabook restore --from-archive --into NEW_WAREHOUSE {where}"


def holds(file: Path, digest: str) -> bool:
    """Whether a file is there, with the content of this SHA-256."""
    return file.is_file() and content_hash(file) == digest
