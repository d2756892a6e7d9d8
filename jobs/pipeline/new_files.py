"""New files in a folder: those whose content is not in the ledger and that nobody writes any more.

The ledger knows files by their content, so a look at a month of captures would hash all of them: at 1 GB/s,
minutes of every hour. Therefore `_seen.json` caches the hash of each file with its size and times, and a file
for which these are unchanged is not read again. Among the times is that of the last change of any kind
(ctime), which no program can set back, unlike the time of modification. The cache can be deleted at any time:
then all files are hashed again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deltabook.jobs.intake.ledger import RefusedFile, classify_files, describe_missing_paths, read_ledger
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.names import NANOSECONDS_PER_SECOND
from deltabook.schemas.rows import LedgerRow
from deltabook.udfs.storage.object_store import move_file, read_file
from deltabook.udfs.storage.raw_files import PARTIAL_SUFFIXES, hash_file, list_raw_files

HASH_CACHE = "_seen.json"
"""File of the warehouse that caches the hashes of raw files."""


class CachedHash(msgspec.Struct, array_like=True, frozen=True):
    """The content hash of a file, with the size and times that the file had when it was hashed.

    Attributes
    ----------
    bytes : int
        Size.
    modified : int
        Time of modification (mtime), ns since 1970 UTC.
    changed : int
        Time of the last change of any kind (ctime), ns since 1970 UTC.
    content_hash : str
        SHA-256 of its bytes, in hex; empty if it could not be read.
    """

    bytes: int
    modified: int
    changed: int
    content_hash: str


@dataclass(frozen=True)
class FolderScan:
    """The files that a scan has found, by what is to be done with them.

    Attributes
    ----------
    new : list of Path
        Files to ingest: no row of the ledger has their content.
    known : int
        Number of files whose content was ingested before.
    waiting : int
        Number of files to leave for a later scan: they are empty, were changed recently, or have the name of
        an unfinished file.
    refused : list of RefusedFile
        Files that this scan is the first to refuse.
    refused_before : list of RefusedFile
        Files that were refused before and have not changed since.
    """

    new: list[Path]
    known: int
    waiting: int
    refused: list[RefusedFile]
    refused_before: list[RefusedFile]


def scan_folders(root: Path, source: str, paths: Sequence[Path], replace: bool, settle: int) -> FolderScan:
    """Return the new files of folders, by the published ledger and the time of each file's last change.

    Parameters
    ----------
    root : Path
        Folder of the warehouse; files in it are skipped.
    source : str
        Name of the source that would ingest them. A file that another source refused counts as new.
    paths : sequence of Path
        Files and folders to scan.
    replace : bool
        Whether a file may replace ingested content of the same path.
    settle : int
        Seconds for which a file must not have changed.

    Returns
    -------
    FolderScan
        Every file is in one of its groups.

    Raises
    ------
    FileNotFoundError
        If a path does not exist; the message names all of them. They may exist again at the next scan.
    """
    if problem := describe_missing_paths(paths):
        raise FileNotFoundError(problem)
    ledger = read_published_ledger(root)
    cache = _read_cache(root / HASH_CACHE)
    files = [file for file in list_raw_files(paths) if root not in file.parents]
    stats, waiting = _select_settled(files, settle)
    hashes, unreadable = _hash_files(stats, cache)
    readable = [file for file in stats if hashes[str(file)].content_hash]
    batch = classify_files(readable, ledger, replace, lambda file: hashes[str(file)].content_hash)
    failed = {
        row["content_hash"]: row["reason"]
        for row in ledger
        if row["state"] == "failed" and row["source"] == source
    }
    refused: list[RefusedFile] = []
    refused_before: list[RefusedFile] = [
        {"path": str(path), "reason": failed[content_hash]}
        for content_hash, path in batch.new.items()
        if content_hash in failed
    ]
    for file in [*unreadable, *batch.refused]:
        is_unchanged = cache.get(file["path"]) == hashes[file["path"]]
        (refused_before if is_unchanged else refused).append(file)
    # Other scans may have other paths: their entries stay while the files exist.
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
    """Return the rows of `files` as the last finished run published them.

    Parameters
    ----------
    root : Path
        Folder of the warehouse.

    Returns
    -------
    list of LedgerRow
        Empty if nothing was published yet.
    """
    return read_ledger(TableReader(root, published_versions(root)))


def _select_settled(files: Sequence[Path], settle: int) -> tuple[dict[Path, os.stat_result], int]:
    """Return the state of each file that is complete, and the number of files that may still be written.

    A recorder may open a file long before it first writes to it: an empty file waits however old it is.
    """
    latest = time.time_ns() - settle * NANOSECONDS_PER_SECOND
    stats, waiting = {}, 0
    for file in files:
        try:
            stat = file.stat()
        except FileNotFoundError:  # it was renamed or removed after it was listed
            continue
        if stat.st_size == 0 or stat.st_ctime_ns > latest or file.name.lower().endswith(PARTIAL_SUFFIXES):
            waiting += 1
        else:
            stats[file] = stat
    return stats, waiting


def _hash_files(
    stats: Mapping[Path, os.stat_result], cache: Mapping[str, CachedHash]
) -> tuple[dict[str, CachedHash], list[RefusedFile]]:
    """Return the hash of each file by path, from the cache where it is valid, and the unreadable files."""
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
        except OSError as error:  # every scan tries it again, and the other files must not wait for it
            hashes[str(file)] = CachedHash(*state, "")
            unreadable.append({"path": str(file), "reason": f"it cannot be read: {error.strerror}"})
    return hashes, unreadable


def _read_cache(path: Path) -> dict[str, CachedHash]:
    """Return the cached hashes by path; none if the cache is missing or damaged."""
    try:
        return msgspec.json.decode(read_file(path), type=dict[str, CachedHash])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _write_cache(path: Path, hashes: Mapping[str, CachedHash]) -> None:
    """Write the cache completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(hashes))
    move_file(partial, path)
