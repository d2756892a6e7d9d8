"""What there is to do for the upkeep of a warehouse, read from its logs and folders without Spark.

Kept is every version that was published at any time within the retention: of each table the version that
the oldest of these runs names, and all later ones. A file goes if none of them has it and it was not written
within the retention, whether earlier versions had it or a killed run has left it. A log's commits go if a
checkpoint that is no later than that oldest version stands for them; `written` keeps their bytes.

Data files of events, golden rows, checkpoints, books and samples stay as they are: one is a symbol-hour, and
its name tells what was rebuilt and judged of it.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltabook.jobs.intake.ledger import ARCHIVE
from deltabook.jobs.integrity.audit import read_recorded
from deltabook.jobs.integrity.log_audit import log_faults
from deltabook.jobs.records.active_files import LiveFile, live_files
from deltabook.jobs.records.file_records import LOG, OF_RUNS, actions_of, log_files, published_version
from deltabook.jobs.tables.published import is_made, require_published
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.names import DAY
from deltabook.schemas.tables import (
    CHECKS,
    COVERAGE,
    FIDELITY,
    FILES,
    GAPS,
    MISMATCHES,
    QUARANTINE,
    RUNS,
    TABLES,
    VALIDATIONS,
    both,
)
from deltabook.udfs.storage.object_store import File, files_in

JOINED = (GAPS, CHECKS, COVERAGE, FIDELITY, *both(MISMATCHES), VALIDATIONS, QUARANTINE, *OF_RUNS)
"""Tables to which each run adds a few rows, and which are read whole."""
FEWEST = 32
"""Files of a partition from which on they are joined: not sooner, for all of its rows are written again."""
LARGEST = 32 << 20
"""Bytes of a data file to which nothing is joined any more."""
FLOOR = 7 * DAY
"""The least retention: whatever reads or writes has ended by then."""
_LENGTH = re.compile(r"(\d+)d")
_PARTIAL = ".partial"
_UNFINISHED = re.compile(r"\.tmp$|#\d+$")
"""Names that a file of a log has until all of it is written."""


@dataclass(frozen=True)
class Policy:
    """How long things are kept.

    Attributes
    ----------
    keep : int
        Versions and files of so many ns.
    archive : int, optional
        Copies of raw files likewise; None: all of them.
    now : int
        The end of that time, ns since 1970 UTC.
    """

    keep: int
    archive: int | None
    now: int

    @classmethod
    def of(cls, keep: str, archive: str | None) -> Policy:
        """Read it from options, such as 30d.

        Raises
        ------
        SettingsError
            If one is no number of days, or less than the floor.
        """
        kept, archived = (_length(keep, "--keep"), archive and _length(archive, "--prune-archive"))
        return cls(kept, archived or None, time.time_ns())

    @property
    def since(self) -> int:
        """From when on versions and files are kept, ns since 1970 UTC."""
        return self.now - self.keep


def _length(text: str, option: str) -> int:
    found = _LENGTH.fullmatch(text)
    length = int(found[1]) * DAY if found else 0
    if length < FLOOR:
        raise SettingsError(
            f"{option} {text}: expected days, such as 30d, and not under {FLOOR // DAY}d: what is younger, "
            "readers, runs at work and `restore` may need"
        )
    return length


@dataclass(frozen=True)
class Chore:
    """What is to be done to one table.

    Attributes
    ----------
    table : Table
        Which.
    held, logs : list of File
        All files of its folder, and of its log.
    small : list of LiveFile
        Data files that are joined.
    unneeded, unneeded_logs : list of File
        Those that go.
    """

    table: Table
    held: list[File]
    logs: list[File]
    small: list[LiveFile]
    unneeded: list[File]
    unneeded_logs: list[File]

    def told(self) -> dict[str, Any]:
        """Return its row of what the command tells."""
        sizes: Counter[str] = Counter()
        for file in self.small:
            sizes[str(file.partition)] += file.bytes
        return {
            "table": self.table.name,
            **_counts("files", self.held),
            "joined": len(self.small),
            "joined_into": sum(math.ceil(size / LARGEST) for size in sizes.values()),
            **_counts("removed", self.unneeded),
            **_counts("log", self.logs),
            **_counts("log_removed", self.unneeded_logs),
        }


def _counts(name: str, files: list[File]) -> dict[str, int]:
    return {name: len(files), f"{name}_bytes": sum(file.bytes for file in files)}


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes
    ----------
    policy : Policy
        How long things are kept.
    kept : list of dict
        Rows of `runs` of which everything is kept, the newest last.
    chores : list of Chore
        One for each table.
    left : list of File
        What killed commands have left beside the tables.
    ledger : list of dict
        Rows of `files`.
    copies : list of File
        Copies of raw files that go.
    """

    policy: Policy
    kept: list[dict[str, Any]]
    chores: list[Chore]
    left: list[File]
    ledger: list[dict[str, Any]]
    copies: list[File]

    @classmethod
    def of(cls, root: Path, policy: Policy, is_locked: bool = False) -> Plan:
        """Make it.

        Parameters
        ----------
        root : Path
            Folder of the warehouse.
        policy : Policy
            How long things are kept.
        is_locked : bool
            Whether the caller holds the warehouse's lock.

        Raises
        ------
        WarehouseError
            If nothing was published yet, or a log is not as it was written.
        """
        versions = require_published(root)
        recorded = read_recorded(root, is_locked)
        runs = sorted(Stored(root).rows(RUNS), key=lambda row: int(row["finished"]))
        before = [number for number, run in enumerate(runs) if run["finished"] <= policy.since]
        kept = runs[before[-1] if before else 0 :]
        chores = []
        for table in (one for one in TABLES.values() if is_made(root, one)):
            if recorded.version(table) >= 0 and (faults := [*log_faults(root, table, recorded)]):
                raise WarehouseError(
                    f"table {root / table.name}: {faults[0].file}: {faults[0].problem}; nothing is removed "
                    "where a log is not whole: `deltabook verify` names what mends it"
                )
            # Version 0 is the empty table.
            ends = [max(published_version(table, run), 0) for run in (kept[0], runs[-1])]
            chores.append(_chore(root, table, ends[0], ends[1], policy.since))
        ledger = Stored(root, versions).rows(FILES)
        left = [file for file in files_in(root / ARCHIVE, deep=True) if file.path.suffix == _PARTIAL]
        left += [file for folder in root.glob("_as_of-*") for file in files_in(folder, deep=True)]
        return cls(policy, kept, chores, _older(left, policy.since), ledger, _copies(root, ledger, policy))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (
            self.left
            or self.copies
            or any(chore.small or chore.unneeded or chore.unneeded_logs for chore in self.chores)
        )

    @cached_property
    def pruned(self) -> list[dict[str, Any]]:
        """The ledger's rows whose copies go."""
        names = {file.path.name for file in self.copies}
        return [row for row in self.ledger if row["archived"] and row["content_hash"] in names]

    def told(self) -> dict[str, Any]:
        """Return what the command tells of it."""
        last = [row for row in self.pruned if not Path(row["path"]).is_file()]
        return {
            "kept_from": self.kept[0]["run_id"],
            "kept_since": self.policy.since,
            "kept_runs": len(self.kept),
            "tables": [chore.told() for chore in self.chores],
            **_counts("left", self.left),
            **_counts("copies", self.copies),
            "last_copies": len(last),
        }


def _chore(root: Path, table: Table, oldest: int, published: int, since: int) -> Chore:
    """Find what is to be done to a table, of which versions from `oldest` on are kept."""
    folder = root / table.name
    logs = files_in(folder / LOG, deep=True)
    held = [file for file in files_in(folder, deep=True) if folder / LOG not in file.path.parents]
    live = live_files(root, table, published)
    needed = _needed(root, table, oldest) | {file.path for file in live}
    unneeded = [
        file for file in held if file.written < since and str(file.path.relative_to(folder)) not in needed
    ]
    covered = _covered(log_files(root, table), oldest)
    unneeded_logs = [
        file
        for file in logs
        if file.written < since and (file.path in covered or _UNFINISHED.search(file.path.name))
    ]
    return Chore(table, held, logs, _small(live) if table in JOINED else [], unneeded, unneeded_logs)


def _needed(root: Path, table: Table, oldest: int) -> set[str]:
    """Name the data files of a version and all later ones."""
    files = log_files(root, table)
    commits = {version: path for version, paths in files.items() for path in paths if path.suffix == ".json"}
    # What Delta itself has removed of a log nobody can go back to.
    first = (
        oldest
        if 0 in commits
        else max(oldest, min(version for version, paths in files.items() if len(paths) > 1))
    )
    if lost := set(range(first + 1, max(files) + 1)) - commits.keys():
        raise WarehouseError(
            f"table {root / table.name}: the commits of {len(lost):,} versions from {min(lost)} on are lost: "
            "`deltabook verify` names what mends them"
        )
    needed = {file.path for file in live_files(root, table, first)}
    for version, path in commits.items():
        for action in actions_of(path) if version > first else ():
            if "add" in action:
                needed.add(unquote(action["add"]["path"]))
    return needed


def _covered(files: dict[int, list[Path]], oldest: int) -> set[Path]:
    """List what is earlier in a log than the last checkpoint that is no later than a version."""
    checkpoints = [
        version
        for version, paths in files.items()
        if version <= oldest and any(path.suffix != ".json" for path in paths)
    ]
    return {
        path for version, paths in files.items() for path in paths if version < max(checkpoints, default=-1)
    }


def _small(live: list[LiveFile]) -> list[LiveFile]:
    """Choose the files that are joined with others of their partition."""
    partitions: dict[str, list[LiveFile]] = defaultdict(list)
    for file in live:
        if file.bytes < LARGEST:
            partitions[str(file.partition)].append(file)
    if max(map(len, partitions.values()), default=0) < FEWEST:
        return []
    return [file for files in partitions.values() if len(files) > 1 for file in files]


def _copies(root: Path, ledger: list[dict[str, Any]], policy: Policy) -> list[File]:
    """List the copies of raw files that are old enough to go; those of refused files are kept."""
    if policy.archive is None:
        return []
    refused = {row["content_hash"] for row in ledger if row["state"] == "failed"}
    found = [
        file
        for file in files_in(root / ARCHIVE, deep=True)
        if file.path.suffix != _PARTIAL and file.path.name not in refused
    ]
    return _older(found, policy.now - policy.archive)


def _older(files: Iterable[File], than: int) -> list[File]:
    return [file for file in files if file.written < than]
