"""Second copies of the files of the small tables that every repair relies on.

Of `runs` and `written` every file is kept twice; of the ledger, the id boundaries and the instruments the
data files that were published last. A copy is named after the file and the SHA-256 of its bytes, so that it
proves itself and its original. A run makes the copies at its end; the next run makes those that a killed one
has not made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.records.file_faults import damage
from deltabook.jobs.records.file_records import LOG, OF_RUNS, written_since
from deltabook.jobs.tables.published import COPIES, add_actions, is_made
from deltabook.jobs.tables.seals import proven_by
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import EPOCHS, FILES, HOURS, INSTRUMENTS, RUNS, WRITTEN
from deltabook.udfs.storage.object_store import copied, files_in, moved, names_in, remove
from deltabook.udfs.storage.raw_files import content_hash

SMALL = (FILES, HOURS, EPOCHS, INSTRUMENTS)
"""Tables of which the data files that were published last have second copies."""
_NAMED = re.compile(r"(?P<name>.+)\.(?P<digest>[0-9a-f]{64})")
_OF_LOG = re.compile(r"\d{20}\.")


@dataclass(frozen=True)
class Copy:
    """The second copy of one file.

    Attributes
    ----------
    table : Table
        One that has copies.
    path : str
        Path of the original below the table's folder.
    digest : str
        SHA-256 of the original as it was written, in hex.
    place : Path
        Where the copy is.
    """

    table: Table
    path: str
    digest: str
    place: Path

    @property
    def version(self) -> int:
        """Delta version of a commit; -1 for any other file."""
        name = self.path.removeprefix(f"{LOG}/")
        return int(name.split(".")[0]) if name != self.path and name.endswith(".json") else -1

    def is_sound(self) -> bool:
        """Return whether the copy has the bytes of the original."""
        return self.place.is_file() and content_hash(self.place) == self.digest


def copies_of(warehouse: Path, table: Table) -> dict[str, Copy]:
    """List the second copies of a table's files by the path of the original; those of elsewhere are left out.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        One that has copies.
    """
    copies = all_copies_of(warehouse, table)
    return {} if are_foreign(warehouse, table, copies) else copies


def are_foreign(warehouse: Path, table: Table, copies: dict[str, Copy]) -> bool:
    """Return whether copies are of another warehouse's files, and the originals of this one's.

    Rows of `runs` prove files of `written`. Where originals and copies of one of the two differ altogether,
    those are of this warehouse that go together with the other table.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        One that has copies.
    copies : dict
        As `all_copies_of` returns them.
    """
    if table not in OF_RUNS or is_own(warehouse, table, copies):
        return False
    other = WRITTEN if table is RUNS else RUNS
    originals, others = _data_files(warehouse, table), _data_files(warehouse, other)
    others |= _places_of_data(all_copies_of(warehouse, other))
    sides = (originals, _places_of_data(copies))
    if table is WRITTEN:
        proven = proven_by(others.values())
        fits = [not proven.isdisjoint(side) for side in sides]
    else:
        fits = [not proven_by(side.values()).isdisjoint(others) for side in sides]
    return fits == [True, False]


def _places_of_data(copies: dict[str, Copy]) -> dict[str, Path]:
    return {path: copy.place for path, copy in copies.items() if not path.startswith(f"{LOG}/")}


def _data_files(warehouse: Path, table: Table) -> dict[str, Path]:
    folder = warehouse / table.name
    return {name: folder / name for name in names_in(folder, "*.parquet")}


def all_copies_of(warehouse: Path, table: Table) -> dict[str, Copy]:
    """List the second copies of a table's files by the path of the original, whosever they are.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        One that has copies.
    """
    found = {}
    for file in files_in(warehouse / COPIES / table.name):
        if named := _NAMED.fullmatch(file.path.name):
            name = named["name"]
            path = f"{LOG}/{name}" if _OF_LOG.match(name) else name
            found[path] = Copy(table, path, named["digest"], file.path)
    return found


def keep_copies(warehouse: Path, is_thorough: bool = False) -> None:
    """Copy what `runs` and `written` have got since their last copied commit, and small tables as they are.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables; its lock is held.
    is_thorough : bool
        Whether to look at earlier commits, too, whose copies may be lost.
    """
    for table in OF_RUNS:
        if not is_made(warehouse, table):
            continue
        kept = all_copies_of(warehouse, table)
        if are_foreign(warehouse, table, kept):
            drop_copies(warehouse, table, {*kept})
            kept = {}
        # A commit is copied after the files that it adds: the newest copy proves that all before are there.
        first = 0 if is_thorough else max(last_copied(kept), 0)  # a checkpoint may come later
        rows = written_since(warehouse, table, first, {}, kept.keys())
        # An empty file is damaged: nothing is to be kept of it.
        for row in sorted(filter(itemgetter("bytes"), rows), key=lambda row: LOG in row["path"]):
            _copy(warehouse, table, row["path"], row["content_hash"])
    for table in SMALL:
        if is_made(warehouse, table):
            _keep_live(warehouse, table)


def _keep_live(warehouse: Path, table: Table) -> None:
    """Copy the data files of a table as it stands; remove copies of other ones."""
    copies = copies_of(warehouse, table)
    live = {str(action["path"]) for action in add_actions(warehouse, table)}
    for path in sorted(live - copies.keys()):
        if (original := warehouse / table.name / path).is_file():
            _copy(warehouse, table, path, content_hash(original))
    drop_copies(warehouse, table, copies.keys() - live)


def last_copied(copies: dict[str, Copy]) -> int:
    """Return the newest version whose commit has a copy; -1 if none has.

    Parameters
    ----------
    copies : dict
        As `copies_of` returns them.
    """
    return max((copy.version for copy in copies.values()), default=-1)


def _copy(warehouse: Path, table: Table, path: str, digest: str) -> None:
    folder = warehouse / COPIES / table.name
    folder.mkdir(parents=True, exist_ok=True)
    name = path.removeprefix(f"{LOG}/")
    partial = folder / f"{name}.partial"
    with crash_points("copy", table.name):
        copied(warehouse / table.name / path, partial)
        moved(partial, folder / f"{name}.{digest}")


def drop_copies(warehouse: Path, table: Table, paths: set[str]) -> None:
    """Remove the copies of files that are about to be removed.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables; its lock is held.
    table : Table
        Any.
    paths : set of str
        Paths of the originals below the table's folder.
    """
    copies = all_copies_of(warehouse, table) if paths else {}
    for path in paths & copies.keys():
        remove(copies[path].place)


def is_own(warehouse: Path, table: Table, copies: dict[str, Copy]) -> bool:
    """Return whether the log of a table is the one that was copied, whatever files of it are damaged.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        `runs` or `written`.
    copies : dict
        As `copies_of` returns them.
    """
    commits = [copy for copy in copies.values() if copy.version >= 0]
    there = [copy for copy in commits if (warehouse / table.name / copy.path).is_file()]
    return not there or any(not damage(warehouse / table.name / one.path, one.digest) for one in there)
