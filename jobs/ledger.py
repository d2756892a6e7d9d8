"""Raw files and the ledger: which files there are, and which of them are new."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deltabook.schemas.errors import SettingsError


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List the files that paths name, folders searched to the bottom.

    What is hidden within a folder is left out, and so are the tables of warehouses.

    Raises
    ------
    SettingsError
        Naming every path that does not exist, or if there is no file at all.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise SettingsError(f"no such file or folder: {', '.join(missing)}")
    found = {
        file.absolute()
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file() and (file == path or not _left_out(file.relative_to(path), path))
    }
    if not found:
        raise SettingsError(f"no files in {', '.join(map(str, paths))}")
    return sorted(found)


def choose_new(
    files: list[Path], ledger: list[dict[str, Any]]
) -> tuple[dict[str, Path], list[str], list[dict[str, str]]]:
    """Tell files apart by content.

    Parameters
    ----------
    files : list of Path
        Candidates.
    ledger : list of dict
        Rows of the table `files`.

    Returns
    -------
    (dict, list, list)
        New files by content hash; paths whose content is known; known paths with new content, each
        with the reason why it is refused.
    """
    stored = {row["content_hash"]: row["path"] for row in ledger if row["state"] == "ingested"}
    names = {path: digest for digest, path in stored.items()}
    new: dict[str, Path] = {}
    known: list[str] = []
    changed: list[dict[str, str]] = []
    for file in files:
        digest = content_hash(file)
        if digest in stored or digest in new:
            known.append(str(file))
        elif str(file) in names:
            reason = "its content has changed since it was ingested; ingest it under another name"
            changed.append({"path": str(file), "reason": reason})
        else:
            new[digest] = file
    return new, known, changed


def content_hash(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _left_out(relative: Path, folder: Path) -> bool:
    """Whether a file lies in something hidden, or in a Delta table."""
    if any(part.startswith((".", "_")) for part in relative.parts):
        return True
    return any((folder / parent / "_delta_log").is_dir() for parent in relative.parents)
