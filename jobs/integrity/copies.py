"""Second copies of the files of the small tables that every repair relies on.

Of `runs` and `written` every file is kept twice; of the ledger, the id boundaries and the instruments the
data files that were published last. A copy is named after the file and the SHA-256 of its bytes, so that it
proves itself and its original. A run makes the copies at its end; the next run makes those that a killed one
has not made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from deltabook.jobs.crashing import crash_points
from deltabook.jobs.integrity.faults import Fault, damage
from deltabook.jobs.integrity.seals import proven_by
from deltabook.jobs.integrity.written import LOG, OF_RUNS, actions_of, log_files, written_since
from deltabook.jobs.ledger import content_hash
from deltabook.jobs.published import COPIES, add_actions, is_made
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import EPOCHS, FILES, HOURS, INSTRUMENTS, RUNS, WRITTEN
from deltabook.udfs.storage import copied, files_in, has_any, moved, names_in, remove

SMALL = (FILES, HOURS, EPOCHS, INSTRUMENTS)
"""Tables of which the data files that were published last have second copies."""
UNCOPIED = "it has no second copy"
"""Problem of a file that should have a copy, and is itself as it was."""
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
        kept = copies_of(warehouse, table)
        drop_copies(warehouse, table, all_copies_of(warehouse, table).keys() - kept.keys())
        # A commit is copied after the files that it adds: the newest copy proves that all before are there.
        first = 0 if is_thorough else max(_last_copied(kept), 0)  # a checkpoint may come later
        rows = written_since(warehouse, table, first, {}, kept.keys())
        for row in sorted(rows, key=lambda row: LOG in row["path"]):
            _copy(warehouse, table, row["path"], row["content_hash"])
    for table in SMALL:
        if is_made(warehouse, table):
            _keep_live(warehouse, table)


def _keep_live(warehouse: Path, table: Table) -> None:
    """Copy the data files of a table as it stands; remove copies of other ones."""
    copies = copies_of(warehouse, table)
    live = {str(action["path"]) for action in add_actions(warehouse, table)}
    for path in sorted(live - copies.keys()):
        _copy(warehouse, table, path, content_hash(warehouse / table.name / path))
    drop_copies(warehouse, table, copies.keys() - live)


def _last_copied(copies: dict[str, Copy]) -> int:
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
    for path, copy in all_copies_of(warehouse, table).items():
        if path in paths:
            remove(copy.place)


def copy_faults(warehouse: Path, table: Table, published: int, is_settled: bool) -> Iterator[Fault]:
    """Compare the files of a table with their second copies.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        `runs` or `written`.
    published : int
        Delta version up to which every file has to have a copy.
    is_settled : bool
        Whether nobody is writing the warehouse: a run makes its copies last.

    Yields
    ------
    Fault
        Each original that is not as its copy's name says, each copy of a sound original that is damaged, and
        each file without a copy, in a warehouse that has copies.
    """
    copies = copies_of(warehouse, table)
    if not copies and all_copies_of(warehouse, table):
        yield Fault(table.name, "", f"its second copies in {COPIES}/{table.name} are of another warehouse")
    for path, copy in sorted(copies.items()):
        if problem := damage(warehouse / table.name / path, copy.digest):
            yield Fault(table.name, path, problem)
        elif not copy.is_sound():
            name = f"{COPIES}/{table.name}/{copy.place.name}"
            yield Fault(table.name, path, f"its second copy {name} is damaged")
    if copies and is_own(warehouse, table, copies):
        last = published if is_settled else _last_copied(copies)
        for path in _named_by_log(warehouse, table, 0, last):
            if path not in copies and (warehouse / table.name / path).is_file():
                yield Fault(table.name, path, UNCOPIED)


def small_faults(
    warehouse: Path, table: Table, live: set[str] | None, digests: dict[str, str], is_settled: bool
) -> Iterator[Fault]:
    """Compare the published data files of a small table with their second copies.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        One of `SMALL`.
    live : set of str, optional
        Paths of its data files; None: its log cannot be read, and those that have copies are meant.
    digests : dict
        SHA-256 of the table's data files by path, as runs have recorded them.
    is_settled : bool
        Whether nobody is writing the warehouse.

    Yields
    ------
    Fault
        As `copy_faults`, but for a damaged file without a sound copy of what was recorded.
    """
    copies = copies_of(warehouse, table)
    if not has_any(warehouse / COPIES / RUNS.name, "*"):
        return  # no run that makes copies has written it
    for path in sorted(copies.keys() if live is None else live):
        copy, digest = copies.get(path), digests.get(path, "")
        problem = damage(warehouse / table.name / path, digest)
        is_copied = copy is not None and copy.digest == digest and copy.is_sound()
        if problem and is_copied:
            yield Fault(table.name, path, problem, is_copied=True)
        elif not problem and copy is None and is_settled:
            yield Fault(table.name, path, UNCOPIED, is_copied=True)
        elif not problem and copy is not None and not is_copied:
            name = f"{COPIES}/{table.name}/{copy.place.name}"
            yield Fault(table.name, path, f"its second copy {name} is damaged", is_copied=True)


def newest_changed(warehouse: Path) -> bool:
    """Return whether the newest copied commit of `runs` is not there as it was committed.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    """
    newest = max(copies_of(warehouse, RUNS).values(), key=lambda copy: copy.version, default=None)
    return newest is not None and bool(damage(warehouse / RUNS.name / newest.path, newest.digest))


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


def sound_data_files(warehouse: Path, table: Table, names: list[str]) -> dict[str, Path]:
    """Find the data files of a table that can be relied on: the originals, or their copies.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        `runs` or `written`.
    names : list of str
        Names of the Parquet files in the table's folder.

    Returns
    -------
    dict
        Place of each file by its name. Where copies are kept, files that have none and that no commit has
        added are left out; where there are no copies, all files are taken.
    """
    folder = warehouse / table.name
    copies = copies_of(warehouse, table)
    if not copies:
        return {name: folder / name for name in names}
    found = {}
    for path, copy in copies.items():
        if not path.startswith(f"{LOG}/"):
            if not damage(folder / path, copy.digest):
                found[path] = folder / path
            else:  # if the copy is damaged too, what the original holds is checked by its seal or proof
                found[path] = copy.place if copy.is_sound() else folder / path
    if is_own(warehouse, table, copies):
        named = {*_named_by_log(warehouse, table, 0)} - found.keys()
        found |= {name: folder / name for name in names if name in named}
    return found


def _named_by_log(warehouse: Path, table: Table, first: int, last: int | None = None) -> Iterator[str]:
    """Name the files of a log from one version to another, and the data files that its commits add."""
    for version, paths in log_files(warehouse, table).items():
        for path in paths if first <= version and (last is None or version <= last) else ():
            yield f"{LOG}/{path.name}"
            with suppress(ValueError, KeyError, TypeError):  # unreadable: a fault of its own
                actions = actions_of(path) if path.suffix == ".json" else []
                yield from [unquote(action["add"]["path"]) for action in actions if "add" in action]
