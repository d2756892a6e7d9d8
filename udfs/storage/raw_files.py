"""Lists and hashes raw files, which are the files that a recorder or a vendor wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from deltabook.schemas.errors import InputError
from deltabook.udfs.storage.locations import explain_invalid_names
from deltabook.udfs.storage.object_store import open_input

PARTIAL_SUFFIXES = (".tmp", ".part", ".partial")
"""Endings of incomplete files. A recorder renames such a file when the file is complete."""


def list_raw_files(paths: Sequence[Path]) -> list[Path]:
    """Return the given files and all files in the given folders, sorted; subfolders are included.

    Within a folder, Delta tables are skipped, and so are files and folders whose name starts with a dot or an
    underscore.

    Parameters
    ----------
    paths : sequence of Path
        Files and folders.

    Returns
    -------
    list of Path
        Absolute paths; may be empty.

    Raises
    ------
    InputError
        If a path is not UTF-8. The ledger (table `files`) cannot hold such a path.
    """
    files = sorted(
        {
            file.absolute()
            for path in paths
            for file in ([path] if path.is_file() else path.rglob("*"))
            if file.is_file() and (file == path or not _is_skipped(file.relative_to(path), path))
        }
    )
    if problem := explain_invalid_names(files):
        raise InputError(problem)
    return files


def _is_skipped(relative: Path, folder: Path) -> bool:
    """Return whether to skip a file of a folder, because it is hidden or belongs to a Delta table."""
    if any(part.startswith((".", "_")) for part in relative.parts):
        return True
    return any((folder / parent / "_delta_log").is_dir() for parent in relative.parents)


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open_input(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
