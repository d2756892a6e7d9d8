"""What the second copies tell: which files differ from them, and which can be relied on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from deltabook.jobs.records.file_faults import Fault, damage
from deltabook.jobs.records.file_records import LOG, actions_of, log_files
from deltabook.jobs.records.second_copies import all_copies_of, copies_of, is_own, last_copied
from deltabook.jobs.tables.published import COPIES
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import RUNS
from deltabook.udfs.storage.object_store import has_any

UNCOPIED = "it has no second copy"
"""Problem of a file that should have a copy, and is itself as it was."""


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
        last = published if is_settled else last_copied(copies)
        for path in _named_by_log(warehouse, table, 0, last):
            original = warehouse / table.name / path
            if path not in copies and original.is_file() and original.stat().st_size:
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
