"""What has arrived in a folder since the ledger was written: files that are new, and written to their end.

The ledger knows files by content, so to look at a month of captures is to hash it: at 1 GB/s, minutes of each
hour. So the hash that a file had is kept beside its size and times in `_seen.json`, and a file that still has
them is not read again. The time of its last change of any kind (ctime) is among them, which no program can
put back, as it can the time of modification. That file decides nothing: without it all is hashed again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from deltabook.jobs.intake.ledger import choose, missing
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.names import NANOSECONDS_PER_SECOND
from deltabook.schemas.tables import FILES
from deltabook.udfs.storage.object_store import content, moved
from deltabook.udfs.storage.raw_files import PARTIAL, content_hash, list_files

SEEN = "_seen.json"


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """A file as it was when it was last hashed: size, times of change in ns, content hash."""

    bytes: int
    modified: int
    changed: int
    content_hash: str
    """Empty: it could not be read."""


@dataclass(frozen=True)
class Arrivals:
    """What one look at the folders has found.

    Attributes
    ----------
    new : list of Path
        Files to read: their content is in no row of the ledger.
    known : int
        Files whose content has been read.
    waiting : int
        Files that are empty, have changed within the time to settle, or are named as unfinished.
    refused : list of dict
        `path` and `reason` of files refused by this look.
    refused_before : list of dict
        Of files refused earlier, and unchanged since: they are not tried again.
    """

    new: list[Path]
    known: int
    waiting: int
    refused: list[dict[str, str]]
    refused_before: list[dict[str, str]]


def look(root: Path, source: str, paths: Sequence[Path], replace: bool, settle: int) -> Arrivals:
    """Tell the files apart: by the ledger as it is published, and by whether they are still written.

    Parameters
    ----------
    root : Path
        Folder of the warehouse; what lies within is no capture.
    source : str
        Who is to read them: what another source refused is new to this one.
    paths : sequence of Path
        Files and folders.
    replace : bool
        Whether known paths with new content are taken.
    settle : int
        Seconds for which a file must not have changed.

    Raises
    ------
    FileNotFoundError
        Naming every path that does not exist: it may be there again at the next look.
    """
    if told := missing(paths):
        raise FileNotFoundError(told)
    ledger = published_ledger(root)
    before = _read(root / SEEN)
    stats, waiting = _settled([file for file in list_files(paths) if root not in file.parents], settle)
    seen, unread = {}, []
    for file, stat in stats.items():
        stamp = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
        found = before.get(str(file))
        if found and found.content_hash and (found.bytes, found.modified, found.changed) == stamp:
            seen[str(file)] = found
            continue
        try:
            seen[str(file)] = Seen(*stamp, content_hash(file))
        except OSError as error:  # it is tried again at each look, and must not keep the others out
            seen[str(file)] = Seen(*stamp, "")
            unread.append({"path": str(file), "reason": f"it cannot be read: {error.strerror}"})
    readable = [file for file in stats if seen[str(file)].content_hash]
    batch = choose(readable, ledger, replace, lambda file: seen[str(file)].content_hash)
    failed = {
        row["content_hash"]: row["reason"]
        for row in ledger
        if row["state"] == "failed" and row["source"] == source
    }
    again = [
        {"path": str(path), "reason": failed[digest]}
        for digest, path in batch.new.items()
        if digest in failed
    ]
    refused: list[dict[str, str]] = []
    for one in [*unread, *batch.changed]:
        is_told = before.get(one["path"]) == seen[one["path"]]
        (again if is_told else refused).append(one)
    elsewhere = {path: found for path, found in before.items() if path not in seen and Path(path).exists()}
    if seen | elsewhere != before:
        _write(root / SEEN, seen | elsewhere)
    return Arrivals(
        new=[path for digest, path in batch.new.items() if digest not in failed],
        known=len(batch.known),
        waiting=waiting,
        refused=refused,
        refused_before=again,
    )


def published_ledger(root: Path) -> list[dict[str, Any]]:
    """Return the rows of `files` as the last finished run published them."""
    return Stored(root, published_versions(root)).rows(FILES)


def _settled(files: Sequence[Path], settle: int) -> tuple[dict[Path, os.stat_result], int]:
    """Leave out the files that are still written; return the others, as they are, and how many those were.

    A recorder may open a file long before it first writes: an empty one waits however old it is.
    """
    latest = time.time_ns() - settle * NANOSECONDS_PER_SECOND
    stats, waiting = {}, 0
    for file in files:
        try:
            stat = file.stat()
        except FileNotFoundError:  # renamed or taken away since it was listed
            continue
        if stat.st_size == 0 or stat.st_ctime_ns > latest or file.name.lower().endswith(PARTIAL):
            waiting += 1
        else:
            stats[file] = stat
    return stats, waiting


def _read(path: Path) -> dict[str, Seen]:
    try:
        return msgspec.json.decode(content(path), type=dict[str, Seen])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _write(path: Path, seen: dict[str, Seen]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(seen))
    moved(partial, path)
