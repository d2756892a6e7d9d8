"""Raw files: which there are in folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from deltabook.schemas.errors import InputError
from deltabook.udfs.storage.object_store import name_problem, opened

PARTIAL = (".tmp", ".part", ".partial")
"""How the names of files end that somebody will rename when they are whole."""


def list_files(paths: Sequence[Path]) -> list[Path]:
    """List the files that paths name, folders searched to the bottom; there may be none.

    What is hidden within a folder is left out, and so are the tables of warehouses.

    Raises
    ------
    InputError
        If the path of any of them is not text, which the ledger could not hold.
    """
    found = sorted(
        {
            file.absolute()
            for path in paths
            for file in ([path] if path.is_file() else path.rglob("*"))
            if file.is_file() and (file == path or not _left_out(file.relative_to(path), path))
        }
    )
    if told := name_problem(found):
        raise InputError(told)
    return found


def _left_out(relative: Path, folder: Path) -> bool:
    """Whether a file lies in something hidden, or in a Delta table."""
    if any(part.startswith((".", "_")) for part in relative.parts):
        return True
    return any((folder / parent / "_delta_log").is_dir() for parent in relative.parents)


def content_hash(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with opened(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
