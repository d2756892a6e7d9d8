"""Find new raw files in folders: complete files whose content is not in the ledger.

The ledger is the table `files`. The ledger identifies a file by the hash of the file's content, so every scan
needs the hash of every file. Hashing a month of captures takes minutes, at 1 GB/s. Therefore the file
`_seen.json` caches the hash of each file together with the file's size and two times: the time of
modification (mtime) and the time of the last change of any kind (ctime). A scan hashes a file again only if
the size, the mtime or the ctime of the file has changed. Programs can set the mtime back, but not the ctime.
The cache can be deleted at any time: the next scan then hashes all files again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deltabook.jobs.intake.ledger import (
    RefusedFile,
    classify_files,
    describe_missing_paths,
    read_ledger,
)
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.feeds import AUTO
from deltabook.schemas.names import NANOSECONDS_PER_SECOND
from deltabook.schemas.rows import LedgerRow
from deltabook.udfs.storage.object_store import move_file, read_file
from deltabook.udfs.storage.raw_files import (
    PARTIAL_SUFFIXES,
    get_stored_file,
    has_name_of_document,
    hash_file,
    list_raw_files,
)

HASH_CACHE = "_seen.json"
"""File of the warehouse that caches the hashes of raw files."""


class CachedHash(msgspec.Struct, array_like=True, frozen=True):
    """The content hash of a file, and the size and times of the file when the hash was computed.

    Attributes
    ----------
    bytes : int
        Size of the file in bytes.
    modified : int
        Time of modification (mtime), ns since 1970 UTC.
    changed : int
        Time of the last change of any kind (ctime), ns since 1970 UTC.
    content_hash : str
        SHA-256 of the file's bytes, in hex; empty if the file could not be read.
    """

    bytes: int
    modified: int
    changed: int
    content_hash: str


@dataclass(frozen=True)
class FolderScan:
    """The result of a scan: the files that were found, sorted into new, known, waiting and refused files.

    Attributes
    ----------
    new : list of Path
        Files to ingest: the content has neither been ingested nor been refused by the source.
    known : int
        Number of files whose content was ingested before.
    waiting : int
        Number of files to leave for a later scan because they may be incomplete: files that are empty, that
        have changed recently, or that have a suffix of partial files.
    refused : list of RefusedFile
        Files that this scan refuses and that were not refused before, or have changed since.
    refused_before : list of RefusedFile
        Files that were refused before and have not changed since.
    """

    new: list[Path]
    known: int
    waiting: int
    refused: list[RefusedFile]
    refused_before: list[RefusedFile]


def scan_folders(root: Path, source: str, paths: Sequence[Path], replace: bool, settle: int) -> FolderScan:
    """Scan folders, and sort the files in them into new, known, waiting and refused files.

    Parameters
    ----------
    root : Path
        Folder of the warehouse. Files in this folder are skipped.
    source : str
        Name of the source that is to ingest the files. A file that another source refused counts as new.
    paths : sequence of Path
        Files and folders to scan.
    replace : bool
        Whether a file with new content may replace the content that was ingested from the file's path.
    settle : int
        Seconds without a change after which a file counts as complete.

    Returns
    -------
    FolderScan
        The sorted files. Every file counts in exactly one attribute.

    Raises
    ------
    FileNotFoundError
        If a path does not exist. The message names all missing paths. A later scan may succeed, for example
        after a disk was mounted again.
    """
    if problem := describe_missing_paths(paths):
        raise FileNotFoundError(problem)
    ledger = read_published_ledger(root)
    cache = _read_cache(root / HASH_CACHE)
    files = [file for file in list_raw_files(paths) if root not in file.parents and not _is_document(file)]
    stats, waiting = _select_settled(files, settle)
    hashes, unreadable = _hash_files(stats, cache)
    readable = [file for file in stats if hashes[str(file)].content_hash]
    batch = classify_files(readable, ledger, replace, lambda file: hashes[str(file)].content_hash)
    failed = {
        row["content_hash"]: row["reason"]
        for row in ledger
        if row["state"] == "failed" and source in (row["source"], AUTO)
    }
    refused: list[RefusedFile] = []
    refused_before: list[RefusedFile] = [
        RefusedFile(str(path), failed[content_hash])
        for content_hash, path in batch.new.items()
        if content_hash in failed
    ]
    for file in [*unreadable, *batch.refused]:
        is_unchanged = cache.get(file.path) == hashes[file.path]
        (refused_before if is_unchanged else refused).append(file)
    # Other scans may cover other paths. Cache entries of files at other paths stay while the files exist.
    others = {path: entry for path, entry in cache.items() if path not in hashes and Path(path).exists()}
    if hashes | others != cache:
        _write_cache(root / HASH_CACHE, hashes | others)
    return FolderScan(
        new=[path for content_hash, path in batch.new.items() if content_hash not in failed],
        known=len(batch.known),
        waiting=waiting,
        refused=refused,
        refused_before=refused_before,
    )


def read_published_ledger(root: Path) -> list[LedgerRow]:
    """Return the rows of the last published version of the ledger (table `files`).

    Parameters
    ----------
    root : Path
        Folder of the warehouse.

    Returns
    -------
    list of LedgerRow
        The rows; empty if no run has published yet.
    """
    return read_ledger(TableReader(root, published_versions(root)))


def _is_document(file: Path) -> bool:
    """Return whether a file is no data, such as a README or a picture."""
    if not has_name_of_document(str(file)):
        return False
    from deltabook.udfs.sources.recognition import recognize_file  # it imports pyspark

    return recognize_file(str(file)).is_document


def _select_settled(files: Sequence[Path], settle: int) -> tuple[dict[Path, os.stat_result], int]:
    """Return the `stat` result of each complete file, and the number of files that may be incomplete.

    `settle` is the number of seconds without a change after which a file counts as complete. An empty file
    always counts as incomplete, because a recorder may open a file long before it writes the first byte.
    """
    latest = time.time_ns() - settle * NANOSECONDS_PER_SECOND
    stats, waiting = {}, 0
    for file in files:
        try:
            stat = get_stored_file(file).stat()
        except FileNotFoundError:  # the file was renamed or removed after it was listed
            continue
        if stat.st_size == 0 or stat.st_ctime_ns > latest or file.name.lower().endswith(PARTIAL_SUFFIXES):
            waiting += 1
        else:
            stats[file] = stat
    return stats, waiting


def _hash_files(
    stats: Mapping[Path, os.stat_result], cache: Mapping[str, CachedHash]
) -> tuple[dict[str, CachedHash], list[RefusedFile]]:
    """Return a dict that maps the path of each file to its hash, and return the unreadable files.

    A file is read only if its size, mtime or ctime differs from the file's entry in the cache.
    """
    hashes: dict[str, CachedHash] = {}
    unreadable: list[RefusedFile] = []
    for file, stat in stats.items():
        state = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
        cached = cache.get(str(file))
        if cached and cached.content_hash and (cached.bytes, cached.modified, cached.changed) == state:
            hashes[str(file)] = cached
            continue
        try:
            hashes[str(file)] = CachedHash(*state, hash_file(file))
        except OSError as error:  # go on with the other files; the next scan tries this file again
            hashes[str(file)] = CachedHash(*state, "")
            unreadable.append(RefusedFile(str(file), f"the file cannot be read: {error.strerror}"))
    return hashes, unreadable


def _read_cache(path: Path) -> dict[str, CachedHash]:
    """Return a dict that maps paths to cached hashes; an empty dict if the cache is missing or damaged."""
    try:
        return msgspec.json.decode(read_file(path), type=dict[str, CachedHash])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _write_cache(path: Path, hashes: Mapping[str, CachedHash]) -> None:
    """Write the cache atomically: write a file with a temporary name, then rename the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(hashes))
    move_file(partial, path)
