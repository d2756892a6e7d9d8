"""Lists and hashes raw files, which are the files that a recorder or a vendor wrote."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from deltabook.schemas.errors import InputError
from deltabook.udfs.storage.containers import list_members, open_member, split_member
from deltabook.udfs.storage.locations import explain_invalid_names
from deltabook.udfs.storage.object_store import copy_file, open_input

_BLOCK_BYTES = 1 << 20
_DOCUMENTS = (".md", ".rst", ".html", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".ico")
_DOCUMENT_NAMES = ("readme", "license", "copying", "changelog", "notice", "provenance")
PARTIAL_SUFFIXES = (".tmp", ".part", ".partial")
"""Endings of incomplete files. A recorder renames such a file when the file is complete."""


def list_raw_files(paths: Sequence[Path]) -> list[Path]:
    """Return the given files and all files in the given folders, sorted; subfolders are included.

    An archive with several files stands for these files: `ARCHIVE!/FILE` (see `containers`).

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
    stored = {
        file.absolute()
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.is_file() and (file == path or not _is_skipped(file.relative_to(path), path))
    }
    members = {file: list_members(str(file)) for file in stored}
    files = sorted(Path(name) for file in stored for name in members[file] or [str(file)])
    if problem := explain_invalid_names(files):
        raise InputError(problem)
    return files


def _is_skipped(relative: Path, folder: Path) -> bool:
    """Return whether to skip a file of a folder, because it is hidden or belongs to a Delta table."""
    if any(part.startswith((".", "_")) for part in relative.parts):
        return True
    return any((folder / parent / "_delta_log").is_dir() for parent in relative.parents)


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex; a file of an archive counts as it is stored."""
    if not split_member(str(file))[1]:
        with open_input(file) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha256()
    with open_member(str(file)) as content:
        while data := content.read(_BLOCK_BYTES):
            digest.update(data)
    return digest.hexdigest()


def get_stored_file(file: Path) -> Path:
    """Return the file on disk that a raw file is, or whose part it is: the archive of a file `ARCHIVE!/FILE`.

    Parameters
    ----------
    file : Path
        A raw file.
    """
    return Path(split_member(str(file))[0])


def has_content(file: Path, digest: str) -> bool:
    """Return whether a raw file exists and has content with a given SHA-256.

    Parameters
    ----------
    file : Path
        A raw file.
    digest : str
        SHA-256 in hex.
    """
    try:
        return get_stored_file(file).is_file() and hash_file(file) == digest
    except InputError:  # the archive has no such file any more
        return False


def copy_raw_file(file: Path, target: Path) -> None:
    """Copy a raw file; a file of an archive is copied as it is stored there, without the archive.

    Parameters
    ----------
    file : Path
        A raw file.
    target : Path
        Path of the copy.
    """
    if not split_member(str(file))[1]:
        return copy_file(file, target)
    with open_member(str(file)) as stream, TemporaryDirectory() as folder:
        unpacked = Path(folder) / "file"
        with unpacked.open("wb") as output:
            shutil.copyfileobj(stream, output)
        copy_file(unpacked, target)


def has_name_of_document(path: str) -> bool:
    """Return whether a file's name says that the file is no data, but a README or a picture.

    Parameters
    ----------
    path : str
        Path of the file.
    """
    name = Path(path).name.lower()
    return name.endswith(_DOCUMENTS) or name.partition(".")[0] in _DOCUMENT_NAMES
