"""Functions that read, write and list files, in local folders and in object stores.

In an object store, operations on single files use `upath.UPath`, and operations that must be fast use Arrow's
S3 file system. Credentials, endpoint and region come from the usual environment variables of S3 clients:
AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_REGION, …
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from shutil import copyfile, rmtree
from typing import TYPE_CHECKING, cast

import pyarrow as pa
from pyarrow import fs

from deltabook.schemas.errors import SettingsError
from deltabook.udfs.storage.locations import RETRY_POLICY, get_table_address, is_remote, parse_location

if TYPE_CHECKING:
    from obstore.store import S3Store
    from pyarrow.dataset import Dataset
    from upath import UPath

_MESSAGE_LENGTH = 300
"""Maximum number of characters that are shown of an object store's own error message."""


@dataclass(frozen=True)
class StoredFile:
    """A file in a folder or in an object store.

    Attributes
    ----------
    path : Path
        Path of the file.
    bytes : int
        Size of the file.
    modified : int
        Time of the last change, ns since 1970 UTC.
    """

    path: Path
    bytes: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> StoredFile:
        """Return the description of a local file, with its size and time of last change."""
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns)


def get_arrow_source(path: Path | str) -> str | pa.NativeFile:
    """Return what Arrow's readers accept as a file: a path, or an open file of an object store.

    Parameters
    ----------
    path : Path or str
        Path or URI of the file.

    Returns
    -------
    str or pyarrow.NativeFile
        Path of a local file, or an open file of an object store.
    """
    if is_remote(path):
        return _s3_file_system().open_input_file(_s3_key(path))
    return str(parse_location(str(path)))


def open_input(path: Path | str) -> pa.NativeFile:
    """Open a file for reading at random positions.

    Parameters
    ----------
    path : Path or str
        Path or URI of the file.
    """
    source = get_arrow_source(path)
    return pa.OSFile(source) if isinstance(source, str) else source


def open_mapped(path: Path | str) -> pa.NativeFile:
    """Open a file for reading it as a whole; a local file is memory-mapped.

    Parameters
    ----------
    path : Path or str
        Path or URI of the file.
    """
    source = get_arrow_source(path)
    return pa.memory_map(source) if isinstance(source, str) else source


def read_file(path: Path) -> bytes:
    """Return the bytes of a small file."""
    with open_input(path) as stream:
        return bytes(stream.read())


def create_file(path: Path) -> pa.NativeFile:
    """Open a new file for writing. In an object store, the file becomes visible when it is closed."""
    if is_remote(path):
        return _s3_file_system().open_output_stream(_s3_key(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    return pa.OSFile(str(path), "wb")


def open_dataset(paths: Sequence[Path | str]) -> Dataset:
    """Open several Parquet files as one dataset.

    Parameters
    ----------
    paths : sequence of Path or str
        Paths or URIs of the files; all are local, or all are in the same object store.
    """
    import pyarrow.dataset as ds  # takes 60 ms, which would slow down --help

    if paths and is_remote(paths[0]):
        return ds.dataset([_s3_key(path) for path in paths], filesystem=_s3_file_system())
    return ds.dataset([str(parse_location(str(path))) for path in paths])


def open_file_system(folder: Path) -> fs.FileSystem:
    """Return an Arrow file system whose root is a folder."""
    if is_remote(folder):
        return fs.SubTreeFileSystem(_s3_key(folder), _s3_file_system())
    return fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())


def list_folder(folder: Path, deep: bool = False) -> list[StoredFile]:
    """Return the files of a folder, sorted by path.

    An object store needs one request for every thousand files.

    Parameters
    ----------
    folder : Path
        Folder to list. If the folder does not exist, there are no files.
    deep : bool
        Whether to include files of subfolders.

    Returns
    -------
    list of StoredFile
        Sorted by path.
    """
    if is_remote(folder):
        selector = fs.FileSelector(_s3_key(folder), allow_not_found=True, recursive=deep)
        entries = [entry for entry in _s3_file_system().get_file_info(selector) if entry.is_file]
        prefix = len(_s3_key(folder)) + 1
        files = [
            StoredFile(folder / entry.path[prefix:], entry.size or 0, entry.mtime_ns or 0)
            for entry in entries
        ]
    else:
        paths = folder.rglob("*") if deep else folder.glob("*")
        files = [StoredFile.of(path) for path in paths if path.is_file()]
    return sorted(files, key=lambda file: file.path)


def list_folder_names(folder: Path) -> list[str]:
    """Return the names of a folder's entries, without sizes; an empty list if there is no such folder."""
    if is_remote(folder):
        return [file.path.name for file in list_folder(folder)]
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def list_subfolder_names(folder: Path) -> list[str]:
    """Return the names of a folder's subfolders, sorted; an empty list if there is no such folder."""
    if is_remote(folder):
        selector = fs.FileSelector(_s3_key(folder), allow_not_found=True)
        entries = _s3_file_system().get_file_info(selector)
        return sorted(entry.base_name for entry in entries if entry.type == fs.FileType.Directory)
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def match_file_sizes(folder: Path, *patterns: str) -> dict[str, int]:
    """Return {name: size in bytes} of a folder's files that match any glob pattern, sorted by name."""
    sizes = {file.path.name: file.bytes for file in list_folder(folder)}
    return {name: size for name, size in sizes.items() if any(fnmatch(name, each) for each in patterns)}


def has_matching_file(folder: Path, *patterns: str) -> bool:
    """Return whether a folder has a file that matches any of the glob patterns."""
    if is_remote(folder):
        return bool(match_file_sizes(folder, *patterns))
    # Stop at the first match: a Delta log may have thousands of files.
    return any(any(folder.glob(each)) for each in patterns)


def get_file_sizes(paths: Sequence[Path | str]) -> list[int]:
    """Return the sizes of files in bytes; 0 for a missing file.

    Parameters
    ----------
    paths : sequence of Path or str
        Paths or URIs of the files; all are local, or all are in the same object store.
    """
    if paths and is_remote(paths[0]):
        entries = _s3_file_system().get_file_info([_s3_key(path) for path in paths])
        return [entry.size or 0 for entry in entries]
    return [_get_local_size(parse_location(str(path))) for path in paths]


def _get_local_size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def copy_file(file: Path, target: Path) -> None:
    """Copy a file. Source and target may each be local or in an object store."""
    if is_remote(file) or is_remote(target):
        with open_input(file) as source, create_file(target) as sink:
            sink.upload(source)
    else:
        copyfile(file, target)


def move_file(file: Path, target: Path) -> None:
    """Move a file, and replace an existing target; an object store copies, then removes the file."""
    if is_remote(file):
        file.rename(target)
    else:
        file.replace(target)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all its contents; do nothing if the folder does not exist."""
    if is_remote(folder):
        if folder.exists():
            cast("UPath", folder).rmdir(recursive=True)
    else:
        rmtree(folder, ignore_errors=True)


def remove_file(file: Path) -> None:
    """Remove a file, and then the file's folder if it is empty; an object store has no empty folders."""
    file.unlink(missing_ok=True)
    if not is_remote(file):
        with suppress(OSError):  # raised if the folder has other files
            file.parent.rmdir()


def check_reachable(location: Path) -> None:
    """Check that tables can be opened at a location.

    A local path must be valid for the Delta client. An object store must answer.

    Parameters
    ----------
    location : Path
        Folder of a warehouse; it need not exist yet.

    Raises
    ------
    SettingsError
        If a table cannot have this path, or if the bucket cannot be read. The message includes the object
        store's own message.
    """
    if not is_remote(location):
        get_table_address(location)
        return
    store, key = open_store(location)
    try:
        with wrap_store_errors(location):
            store.list_with_delimiter(f"{key}/_delta_log")
    except OSError as error:
        raise SettingsError(
            f"{error}. Check that the bucket exists, and that AWS_ENDPOINT_URL, AWS_REGION and the "
            "credentials are right"
        ) from None


@contextmanager
def wrap_store_errors(location: Path) -> Iterator[None]:
    """Raise errors of an object store inside the block as `OSError`.

    Errors that say that an object already exists, or that a precondition failed, pass unchanged.

    Parameters
    ----------
    location : Path
        Location that the block reads or writes; named in the message.

    Raises
    ------
    OSError
        If the object store fails. The message includes the store's own message, in one line.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except BaseError as error:
        message = re.sub(r"<[^>]*>", " ", str(error)).split("Debug source:")[0]
        message = " ".join(message.split())[:_MESSAGE_LENGTH]
        raise OSError(f"{location} cannot be reached: {message}") from error


def is_store_error(error: BaseException) -> bool:
    """Return whether an error comes from the client of an object store."""
    return type(error).__module__.split(".")[0] == "obstore"


def open_store(location: Path) -> tuple[S3Store, str]:
    """Return the client of a location's bucket, and the location's key in the bucket.

    Unlike a `UPath`, the client can write an object on the condition that it does not exist.

    Parameters
    ----------
    location : Path
        A location in an object store.

    Returns
    -------
    (obstore.store.S3Store, str)
        Client of the bucket, and key of the location.
    """
    from obstore.store import S3Store

    bucket, key = _s3_key(location).split("/", 1)
    return S3Store(bucket, retry_config=RETRY_POLICY), key


def _s3_key(path: Path | str) -> str:
    """Return ``bucket/key``, the form in which Arrow's S3 file system names files."""
    return str(path).split("://", 1)[1]


@cache
def _s3_file_system() -> fs.S3FileSystem:
    return fs.S3FileSystem(
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL"),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
    )
