"""Raw files and the ledger: which files there are, and which of them are new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltabook.jobs.process.crash_points import crash_points
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.storage.object_store import copied, located, moved
from deltabook.udfs.storage.raw_files import content_hash, list_files

ARCHIVE = "_archive"
"""Folder of the warehouse for copies of raw files."""


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List the files that paths name, folders searched to the bottom.

    What is hidden within a folder is left out, and so are the tables of warehouses.

    Raises
    ------
    SettingsError
        Naming every path that does not exist, or if there is no file at all.
    """
    if told := missing(paths):
        raise SettingsError(told)
    found = list_files(paths)
    if not found:
        raise SettingsError(f"no files in {', '.join(map(str, paths))}")
    return found


def missing(paths: Sequence[Path]) -> str:
    """Name every path that does not exist; empty if there is none."""
    absent = [str(path) for path in paths if not path.exists()]
    return f"no such file or folder: {', '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class Batch:
    """Candidate files, told apart by content.

    Attributes
    ----------
    new : dict
        Paths of files with new content, by content hash.
    known : list of str
        Paths whose content is known.
    replaced : dict
        Paths that get new content in this batch, by the hash of the old.
    changed : list of dict
        Known paths with new content that are refused: `path` and `reason`.
    """

    new: dict[str, Path] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)
    changed: list[dict[str, str]] = field(default_factory=list)


def choose(
    files: Sequence[Path],
    ledger: list[dict[str, Any]],
    replace: bool,
    digest_of: Callable[[Path], str] = content_hash,
) -> Batch:
    """Tell files apart by content.

    Parameters
    ----------
    files : sequence of Path
        Candidates.
    ledger : list of dict
        Rows of the table `files`.
    replace : bool
        Whether known paths with new content are taken.
    digest_of : callable
        Tells the content hash of each.

    Returns
    -------
    Batch
        What to do with each.
    """
    stored = {row["content_hash"]: row["path"] for row in ledger if row["state"] == "ingested"}
    names = {path: digest for digest, path in stored.items()}
    batch = Batch()
    for file in files:
        digest = digest_of(file)
        if digest in stored or digest in batch.new:
            batch.known.append(str(file))
        elif str(file) not in names:
            batch.new[digest] = file
        elif replace:
            batch.new[digest] = file
            batch.replaced[names[str(file)]] = str(file)
        else:
            reason = "its content has changed since it was ingested; --replace puts it in the old one's place"
            batch.changed.append({"path": str(file), "reason": reason})
    return batch


def archive(path: Path, digest: str, warehouse: Path) -> str:
    """Keep a copy of a file under its hash, whole or not at all.

    Parameters
    ----------
    path : Path
        The raw file.
    digest : str
        SHA-256 of its bytes, in hex.
    warehouse : Path
        Folder of the tables.

    Returns
    -------
    str
        Path of the copy below the warehouse's folder.
    """
    kept = archived_copy(warehouse, digest)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        copied(path, partial)
        with crash_points("archive", "file"):
            moved(partial, kept)
    return kept.relative_to(warehouse).as_posix()


def archived_copy(warehouse: Path, digest: str) -> Path:
    """Return the place of the copy of a raw file: it moves with the warehouse.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    digest : str
        SHA-256 of the file's bytes, in hex.
    """
    return warehouse / ARCHIVE / digest[:2] / digest


def places_of(warehouse: Path, row: dict[str, Any]) -> list[Path]:
    """List where a raw file of the ledger may be: where it was read, and its copy if one was kept.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    row : dict
        Row of the table `files`; the path in `archived` may be of a place from which the warehouse was moved.
    """
    copies = [archived_copy(warehouse, row["content_hash"])] if row["archived"] else []
    return [located(row["path"]), *copies]
