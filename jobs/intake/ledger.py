"""Find raw files to ingest, compare the files with the ledger of ingested files, and archive copies.

The ledger is the table `files`. The ledger has one row for the content of each raw file. The SHA-256 of the
file's bytes identifies the content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

from deltabook.jobs.process.crash_points import crash_points
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.rows import LedgerRow
from deltabook.schemas.tables import FILES
from deltabook.udfs.storage.locations import parse_location
from deltabook.udfs.storage.object_store import move_file
from deltabook.udfs.storage.raw_files import copy_raw_file, hash_file, list_raw_files

ARCHIVE_FOLDER = "_archive"
"""Folder of the warehouse that contains archived copies of raw files."""


EMPTY_FILE = "the file has no message"
"""Value of the column `reason` of a file that was read and has nothing to take."""


class RefusedFile(NamedTuple):
    """A raw file that is not ingested, and the reason."""

    path: str
    reason: str


def read_ledger(tables: TableReader) -> list[LedgerRow]:
    """Return all rows of the table `files`.

    Parameters
    ----------
    tables : TableReader
        Reader of the warehouse's tables.

    Returns
    -------
    list of LedgerRow
        Rows of the ledger; empty if no file was ingested yet.
    """
    return cast(list[LedgerRow], tables.rows(FILES))


def is_ingested(row: LedgerRow) -> bool:
    """Return whether a file of the ledger was read, and gave something or was empty.

    A file of which nothing was taken may be the file of another source, so it can be read again. (Earlier
    versions called such a file ingested.)

    Parameters
    ----------
    row : LedgerRow
        Row of the table `files`.
    """
    if row["state"] != "ingested":
        return False
    return row["events"] + row["golden"] + row["quarantined"] > 0 or bool(row["reason"])


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the raw files at the given paths, including all files below the given folders.

    Hidden files and folders are skipped. The tables of warehouses are skipped too.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.

    Returns
    -------
    list of Path
        Paths of the raw files, at least one.

    Raises
    ------
    SettingsError
        If a path does not exist, or if the paths contain no file. The message names all missing paths.
    """
    if problem := describe_missing_paths(paths):
        raise SettingsError(problem)
    files = list_raw_files(paths)
    if not files:
        raise SettingsError(f"no files in {', '.join(map(str, paths))}: pass a folder that has raw files")
    return files


def describe_missing_paths(paths: Sequence[Path]) -> str:
    """Return an error message that names every missing path; empty if all paths exist.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.

    Returns
    -------
    str
        One sentence without a period at its end.
    """
    absent = [str(path) for path in paths if not path.exists()]
    return f"no such file or folder: {', '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class FileBatch:
    """The files that `ingest` was asked to read, sorted into new, known, replaced and refused files.

    Attributes
    ----------
    new : dict
        Files to ingest, whose content was not ingested before: maps the hash of the content to the path.
    known : list of str
        Paths of files to skip, because their content was ingested before or is in `new` already.
    replaced : dict
        Files of `new` that were ingested before with other content: maps the hash of the old content to the
        path.
    refused : list of RefusedFile
        Files that were ingested before with other content and must not be replaced.
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
    """Sort files into new, known, replaced and refused files by comparing their content with the ledger.

    Parameters
    ----------
    files : sequence of Path
        Files to ingest.
    ledger : sequence of LedgerRow
        All rows of the table `files`.
    replace : bool
        Whether a file with new content may replace the content that was ingested from the same path.
    get_hash : callable
        Function that takes a path and returns the SHA-256 of the file's bytes, in hex.

    Returns
    -------
    FileBatch
        The sorted files. Each file is in exactly one of `new`, `known` and `refused`. `replaced` has a part
        of the files in `new`.
    """
    ingested = {row["content_hash"]: row["path"] for row in ledger if is_ingested(row)}
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
            reason = "the file has changed since it was ingested; --replace ingests the new content instead"
            batch.refused.append(RefusedFile(str(file), reason))
    return batch


def archive_file(path: Path, content_hash: str, warehouse: Path) -> str:
    """Copy a raw file into the warehouse's archive, and return the path of the copy.

    The copy has a temporary name until it is complete. An existing copy is not written again.

    Parameters
    ----------
    path : Path
        Raw file to copy.
    content_hash : str
        SHA-256 of the file's bytes, in hex.
    warehouse : Path
        Warehouse folder.

    Returns
    -------
    str
        Path of the copy, relative to the warehouse folder.
    """
    copy = get_archive_path(warehouse, content_hash)
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        partial = copy.with_suffix(".partial")
        copy_raw_file(path, partial)
        with crash_points("archive", "file"):
            move_file(partial, copy)
    return copy.relative_to(warehouse).as_posix()


def get_archive_path(warehouse: Path, content_hash: str) -> Path:
    """Return the path at which the archive stores the copy of a raw file.

    Parameters
    ----------
    warehouse : Path
        Present path of the warehouse folder. The archive is inside this folder, so the archive moves with the
        warehouse.
    content_hash : str
        SHA-256 of the raw file's bytes, in hex.

    Returns
    -------
    Path
        Path of the copy, whether or not the copy exists. The path is absolute if `warehouse` is absolute.
    """
    return warehouse / ARCHIVE_FOLDER / content_hash[:2] / content_hash


def list_raw_file_locations(warehouse: Path, row: Mapping[str, object]) -> list[Path]:
    """Return the paths where a raw file may be: the original path, then the path of the archived copy.

    Parameters
    ----------
    warehouse : Path
        Present path of the warehouse folder.
    row : mapping
        Row of the table `files`. If the column `archived` is empty, the raw file has no copy. The path in the
        column `archived` is not used, because moving the warehouse makes that path outdated.

    Returns
    -------
    list of Path
        One or two paths. The files at these paths may be missing.
    """
    copies = [get_archive_path(warehouse, str(row["content_hash"]))] if row["archived"] else []
    return [parse_location(str(row["path"])), *copies]
