"""The ledger of raw files: which files paths name, which of them are new, and where copies are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, cast

from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.rows import LedgerRow
from deltabook.schemas.tables import FILES
from deltabook.udfs.storage.locations import parse_location
from deltabook.udfs.storage.object_store import copy_file, move_file
from deltabook.udfs.storage.raw_files import hash_file, list_raw_files

ARCHIVE_FOLDER = "_archive"
"""Folder of the warehouse that holds copies of raw files."""


class RefusedFile(TypedDict):
    """A raw file that was not ingested, and why."""

    path: str
    reason: str


def read_ledger(tables: TableReader) -> list[LedgerRow]:
    """Return all rows of the table `files`.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.

    Returns
    -------
    list of LedgerRow
        Empty if nothing was ingested yet.
    """
    return cast(list[LedgerRow], tables.rows(FILES))


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the raw files that paths name; folders are searched recursively.

    Hidden files and folders are skipped, and so are the tables of warehouses.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.

    Returns
    -------
    list of Path
        At least one file.

    Raises
    ------
    SettingsError
        If a path does not exist (the message names all of them), or if there is no file at all.
    """
    if problem := describe_missing_paths(paths):
        raise SettingsError(problem)
    files = list_raw_files(paths)
    if not files:
        raise SettingsError(f"no files in {', '.join(map(str, paths))}")
    return files


def describe_missing_paths(paths: Sequence[Path]) -> str:
    """Return an error message that names every path that does not exist; empty if all exist.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.

    Returns
    -------
    str
        One sentence without a final full stop.
    """
    absent = [str(path) for path in paths if not path.exists()]
    return f"no such file or folder: {', '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class FileBatch:
    """Candidate files, sorted into groups by their content and the ledger.

    Attributes
    ----------
    new : dict
        Content hash to path of each file whose content is not in the ledger.
    known : list of str
        Paths of files whose content is in the ledger or occurs twice in this batch.
    replaced : dict
        Content hash of the ingested content to path, for each path that gets new content.
    refused : list of RefusedFile
        Files whose path is in the ledger with other content, if files may not be replaced.
    """

    new: dict[str, Path] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)
    refused: list[RefusedFile] = field(default_factory=list)


def classify_files(
    files: Sequence[Path],
    ledger: Sequence[LedgerRow],
    replace: bool,
    get_hash: Callable[[Path], str] = hash_file,
) -> FileBatch:
    """Sort files into new, known, replaced and refused ones by comparing their content with the ledger.

    Parameters
    ----------
    files : sequence of Path
        Candidates.
    ledger : sequence of LedgerRow
        All rows of the table `files`.
    replace : bool
        Whether a file may replace ingested content of the same path.
    get_hash : callable
        ``path -> SHA-256 of the file's bytes``, in hex.

    Returns
    -------
    FileBatch
        Every candidate is in exactly one of its groups; `replaced` repeats paths of `new`.
    """
    ingested = {row["content_hash"]: row["path"] for row in ledger if row["state"] == "ingested"}
    hash_of_path = {path: content_hash for content_hash, path in ingested.items()}
    batch = FileBatch()
    for file in files:
        content_hash = get_hash(file)
        if content_hash in ingested or content_hash in batch.new:
            batch.known.append(str(file))
        elif str(file) not in hash_of_path:
            batch.new[content_hash] = file
        elif replace:
            batch.new[content_hash] = file
            batch.replaced[hash_of_path[str(file)]] = str(file)
        else:
            reason = (
                "its content has changed since it was ingested; --replace ingests the new content instead"
            )
            batch.refused.append({"path": str(file), "reason": reason})
    return batch


def archive_file(path: Path, content_hash: str, warehouse: Path) -> str:
    """Copy a raw file into the warehouse's archive, completely or not at all; return the copy's path.

    Parameters
    ----------
    path : Path
        The raw file.
    content_hash : str
        SHA-256 of its bytes, in hex.
    warehouse : Path
        Folder of the tables.

    Returns
    -------
    str
        Path of the copy relative to the warehouse's folder.
    """
    copy = get_archive_path(warehouse, content_hash)
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial = copy.with_suffix(".partial")
        copy_file(path, partial)
        with crash_points("archive", "file"):
            move_file(partial, copy)
    return copy.relative_to(warehouse).as_posix()


def get_archive_path(warehouse: Path, content_hash: str) -> Path:
    """Return the path at which the archive stores the copy of a raw file.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables, where it is now: the archive moves with it.
    content_hash : str
        SHA-256 of the file's bytes, in hex.

    Returns
    -------
    Path
        Absolute if `warehouse` is; the copy need not exist.
    """
    return warehouse / ARCHIVE_FOLDER / content_hash[:2] / content_hash


def list_raw_file_locations(warehouse: Path, row: Mapping[str, Any]) -> list[Path]:
    """Return the paths at which a raw file of the ledger may be: its original path, then its copy if any.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    row : mapping
        Row of the table `files`. Its `archived` only says whether there is a copy: the path in it is outdated
        if the warehouse was moved.

    Returns
    -------
    list of Path
        One or two paths; nothing need exist there.
    """
    copies = [get_archive_path(warehouse, row["content_hash"])] if row["archived"] else []
    return [parse_location(row["path"]), *copies]
