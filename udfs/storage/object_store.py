"""Where a warehouse's files lie: in a folder, or in an object store with the interface of S3.

A place in an object store is a `upath.UPath`, which is used as a `pathlib.Path` is; what has to be fast goes
through Arrow's own file system. Who may reach the store, and where it is, is told by the variables of the
environment that every client of S3 knows: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_REGION, …
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from shutil import copyfile, rmtree
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes, urlsplit

import pyarrow as pa
from pyarrow import fs

from deltabook.schemas.errors import SettingsError

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

SCHEME = "s3a"
"""Of places in an object store: Spark's name for it; `s3://` is taken for the same."""
_REMOTE = re.compile(
    r"s3a?://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[\w.+@=-]+(?:/[\w.+@=-]+)*)/?"
)
_COLLAPSED = re.compile(r"s3a?:/(?!/)")
_UNADDRESSABLE = (
    (re.compile(r"[\x00-\x1f\x7f]"), "a control character"),
    (re.compile(r"[\[\]|^\\]"), "one of [ ] | ^ \\"),
    (re.compile(r"%[0-9A-Fa-f]{2}"), "a % with two hexadecimal digits after it"),
    (re.compile(r"(?:^|/)_delta_log(?:/|$)"), "a folder named _delta_log"),
)
"""Parts of a path that the Delta client cannot open, by any spelling of the address: it takes a path for an
address twice, and decodes it twice. Each was tried; what is not listed here works."""
_NO_TEXT = "bytes that are not UTF-8"
_PATIENCE: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
_WORDS = 300
_HINT = "install deltabook[s3], or name a folder"


@dataclass(frozen=True)
class File:
    """A file, its size, and when it was written, ns since 1970 UTC."""

    path: Path
    bytes: int
    written: int

    @classmethod
    def of(cls, path: Path) -> File:
        """Look at one of a folder."""
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)


def located(text: str | Path) -> Path:
    """Return a place by its name.

    Parameters
    ----------
    text : str or Path
        A path, a `file:` URI, or `s3a://bucket/folder`.

    Returns
    -------
    Path
        Of an object store a `upath.UPath`.

    Raises
    ------
    SettingsError
        If the name is none, or what an object store needs is not installed.
    """
    if not isinstance(text, str):
        if _COLLAPSED.match(str(text)):
            raise SettingsError(f"{text}: a Path has no s3a:// any more: give the name as text")
        return text
    if text.startswith("file:"):
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(text).path)))
    if "://" not in text:
        return Path(text)
    named = _REMOTE.fullmatch(text)
    if named is None or ".." in text:
        raise SettingsError(f"{text!r}: expected a folder, or s3a://bucket/folder")
    try:
        from obstore.fsspec import register
        from upath import UPath
    except ImportError as error:
        raise SettingsError(f"{text}: {error.name} is not installed: {_HINT}") from None
    register(SCHEME)
    # A store that does not answer must not hold a command for minutes.
    return cast(Path, UPath(f"{SCHEME}://{named['bucket']}/{named['key']}", retry_config=_PATIENCE))


def name_problem(places: Iterable[Path | str]) -> str:
    """Return what is wrong with paths that no table, ledger or message can hold.

    Parameters
    ----------
    places : iterable of Path or str
        Any paths.

    Returns
    -------
    str
        One line that names each of them; empty if all are text.
    """
    shown = [repr(os.fsencode(place))[1:] for place in places if not _is_text(os.fspath(place))]
    return f"{', '.join(shown)}: the path has {_NO_TEXT}. Rename it" if shown else ""


def _is_text(path: str) -> bool:
    """Whether a path is UTF-8: Python stands surrogates for the bytes that are not."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def table_address(folder: Path) -> str:
    """Return the address by which the Delta client opens a table.

    Parameters
    ----------
    folder : Path
        The table's folder; it need not exist yet.

    Returns
    -------
    str
        An absolute path, or the address of an object store. A path is given as it is, not percent-encoded:
        the client encodes it itself.

    Raises
    ------
    SettingsError
        If the client cannot open any table there; it names the part of the path, and the remedy.
    """
    if is_remote(folder):
        return str(folder)
    # The client follows links before it opens a table, so that is the name that counts.
    resolved = os.path.realpath(folder)
    found = [named for pattern, named in _UNADDRESSABLE if pattern.search(resolved)]
    if not _is_text(resolved):
        found.insert(0, _NO_TEXT)
    if found:
        raise SettingsError(
            f"{repr(os.fsencode(resolved))[1:]} cannot hold a Delta table: the path has {found[0]}. "
            "Rename the folder, or choose another --warehouse"
        )
    return str(folder.absolute())


def is_remote(place: Path | str) -> bool:
    """Whether a place is in an object store."""
    return str(place).startswith(f"{SCHEME}://")


def readable(place: Path | str) -> str | pa.NativeFile:
    """Return what Arrow's readers take.

    Parameters
    ----------
    place : Path or str
        A file, by its path or URI.

    Returns
    -------
    str or pyarrow.NativeFile
        Its path, or the opened file of an object store.
    """
    if is_remote(place):
        return _files().open_input_file(_key(place))
    return str(located(str(place)))


def opened(place: Path | str) -> pa.NativeFile:
    """Open a file to read from any place of it.

    Parameters
    ----------
    place : Path or str
        Its path or URI.
    """
    found = readable(place)
    return pa.OSFile(found) if isinstance(found, str) else found


def content(place: Path) -> bytes:
    """Read a small file whole."""
    with opened(place) as stream:
        return bytes(stream.read())


def mapped(place: Path | str) -> pa.NativeFile:
    """Open a file to read all of it, without a copy where that can be.

    Parameters
    ----------
    place : Path or str
        Its path or URI.
    """
    found = readable(place)
    return pa.memory_map(found) if isinstance(found, str) else found


def created(place: Path) -> pa.NativeFile:
    """Open a new file to write; one of an object store is there once it is closed."""
    if is_remote(place):
        return _files().open_output_stream(_key(place))
    place.parent.mkdir(parents=True, exist_ok=True)
    return pa.OSFile(str(place), "wb")


def dataset_of(places: Sequence[Path | str]) -> Dataset:
    """Open several Parquet files as one.

    Parameters
    ----------
    places : sequence of Path or str
        Their paths or URIs; all in one store.
    """
    import pyarrow.dataset as ds  # 60 ms that no --help should wait for

    if places and is_remote(places[0]):
        return ds.dataset([_key(place) for place in places], filesystem=_files())
    return ds.dataset([str(located(str(place))) for place in places])


def files_below(folder: Path) -> fs.FileSystem:
    """Return Arrow's own file system, of what is below a folder."""
    if is_remote(folder):
        return fs.SubTreeFileSystem(_key(folder), _files())
    return fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())


def files_in(folder: Path, deep: bool = False) -> list[File]:
    """List the files of a folder; in an object store by one request for each thousand.

    Parameters
    ----------
    folder : Path
        Which; one that is not there has none.
    deep : bool
        Whether those of folders in it, too.

    Returns
    -------
    list of File
        Sorted by path.
    """
    if is_remote(folder):
        asked = fs.FileSelector(_key(folder), allow_not_found=True, recursive=deep)
        found = [one for one in _files().get_file_info(asked) if one.is_file]
        below = len(_key(folder)) + 1
        files = [File(folder / one.path[below:], one.size or 0, one.mtime_ns or 0) for one in found]
    else:
        paths = folder.rglob("*") if deep else folder.glob("*")
        files = [File.of(path) for path in paths if path.is_file()]
    return sorted(files, key=lambda file: file.path)


def names_in_folder(folder: Path) -> list[str]:
    """List the names of what is in a folder, without looking at the files; one that is not there has none."""
    if is_remote(folder):
        return [file.path.name for file in files_in(folder)]
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def names_in(folder: Path, *patterns: str) -> dict[str, int]:
    """Tell the bytes of a folder's files by their names, of those that fit one of some patterns, sorted."""
    files = {file.path.name: file.bytes for file in files_in(folder)}
    return {name: size for name, size in files.items() if any(fnmatch(name, each) for each in patterns)}


def has_any(folder: Path, *patterns: str) -> bool:
    """Whether a folder has a file whose name fits one of some patterns."""
    if is_remote(folder):
        return bool(names_in(folder, *patterns))
    return any(any(folder.glob(each)) for each in patterns)  # a log may have thousands


def bytes_of(places: Sequence[Path | str]) -> list[int]:
    """Return the sizes of files; 0 for one that is not there.

    Parameters
    ----------
    places : sequence of Path or str
        Their paths or URIs; all in one store.
    """
    if places and is_remote(places[0]):
        return [one.size or 0 for one in _files().get_file_info([_key(place) for place in places])]
    return [_size(located(str(place))) for place in places]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def copied(file: Path, target: Path) -> None:
    """Copy a file, from one store to another or within one."""
    if is_remote(file) or is_remote(target):
        with opened(file) as source, created(target) as sink:
            sink.upload(source)
    else:
        copyfile(file, target)


def moved(file: Path, target: Path) -> None:
    """Put a file in the place of another, or of none; in an object store that is a copy."""
    if is_remote(file):
        file.rename(target)
    else:
        file.replace(target)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all within it, if it is there."""
    if is_remote(folder):
        if folder.exists():
            cast(Any, folder).rmdir(recursive=True)
    else:
        rmtree(folder, ignore_errors=True)


def remove(file: Path) -> None:
    """Remove a file, and its folder if nothing else is in it; an object store has no empty ones."""
    file.unlink(missing_ok=True)
    if not is_remote(file):
        with suppress(OSError):  # other files are in it
            file.parent.rmdir()


def require_reached(place: Path) -> None:
    """Check that tables can be opened in a place: by its path, or because its object store answers.

    Parameters
    ----------
    place : Path
        A warehouse's folder; it need not exist yet.

    Raises
    ------
    SettingsError
        If the path cannot be an address of tables, or its bucket cannot be read, with the store's own words.
    """
    if not is_remote(place):
        table_address(place)
        return
    store, key = object_of(place)
    try:
        with named(place):
            store.list_with_delimiter(f"{key}/_delta_log")
    except OSError as error:
        raise SettingsError(
            f"{error}. See that the bucket is there, and that AWS_ENDPOINT_URL, AWS_REGION and the "
            "credentials name the right ones"
        ) from None


@contextmanager
def named(place: Path) -> Iterator[None]:
    """Tell of an object store that fails by a system's error; that an object is there, or not, is none.

    Parameters
    ----------
    place : Path
        What was asked for.

    Raises
    ------
    OSError
        With the store's own words in one line.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except BaseError as error:
        words = re.sub(r"<[^>]*>", " ", str(error)).split("Debug source:")[0]
        raise OSError(f"{place} cannot be reached: {' '.join(words.split())[:_WORDS]}") from error


def is_of_store(error: BaseException) -> bool:
    """Whether an error is one of an object store's client."""
    return type(error).__module__.split(".")[0] == "obstore"


def object_of(place: Path) -> tuple[Any, str]:
    """Return the store of a place and its key there, for what no path can do: writing on a condition."""
    from obstore.store import S3Store

    bucket, key = _key(place).split("/", 1)
    return S3Store(bucket, retry_config=_PATIENCE), key


def _key(place: Path | str) -> str:
    """Return bucket and key, as Arrow has them."""
    return str(place).split("://", 1)[1]


@cache
def _files() -> fs.S3FileSystem:
    return fs.S3FileSystem(
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL"),
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
    )
