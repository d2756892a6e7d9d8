"""Reads and checks the locations of warehouses: local folders, and folders in S3-like object stores.

A location in an object store is a `upath.UPath`, which behaves like a `pathlib.Path`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote_to_bytes, urlsplit

from deltabook.schemas.errors import SettingsError

if TYPE_CHECKING:
    from obstore.store import RetryConfig

SCHEME = "s3a"
"""URI scheme of locations in an object store, as Spark spells it; `s3://` is accepted too."""
RETRY_POLICY: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
"""Retry limits for the client of an object store: a silent store must not block a command for minutes."""
_STORE_URI = re.compile(
    r"s3a?://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>[\w.+@=-]+(?:/[\w.+@=-]+)*)/?"
)
_COLLAPSED_URI = re.compile(r"s3a?:/(?!/)")
"""Matches a URI of an object store after `pathlib.Path` has turned its double slash into a single one."""
_UNADDRESSABLE = (
    (re.compile(r"[\x00-\x1f\x7f]"), "a control character"),
    (re.compile(r"[\[\]|^\\]"), "one of [ ] | ^ \\"),
    (re.compile(r"%[0-9A-Fa-f]{2}"), "a % with two hexadecimal digits after it"),
    (re.compile(r"(?:^|/)_delta_log(?:/|$)"), "a folder named _delta_log"),
)
"""Parts of a path that the Delta client cannot open, as (pattern, description).

The client parses and decodes a path twice, so no escape of these parts helps. Each pattern was tested; all
other paths work.
"""
_NOT_UTF8 = "bytes that are not UTF-8"
_INSTALL_HINT = "install deltabook[s3], or pass a local folder"


def parse_location(text: str | Path) -> Path:
    """Convert the text of a location to a path.

    Parameters
    ----------
    text : str or Path
        A path, a `file:` URI, or `s3a://bucket/folder`. A Path is returned as it is.

    Returns
    -------
    Path
        A `pathlib.Path` for a local folder, a `upath.UPath` for an object store.

    Raises
    ------
    SettingsError
        If the text is not a valid location, or if the packages for object stores are not installed.
    """
    if not isinstance(text, str):
        if _COLLAPSED_URI.match(str(text)):
            raise SettingsError(f"{text}: a Path cannot hold s3a://. Pass the location as text")
        return text
    if text.startswith("file:"):
        return Path(os.fsdecode(unquote_to_bytes(urlsplit(text).path)))
    if "://" not in text:
        return Path(text)
    uri = _STORE_URI.fullmatch(text)
    if uri is None or ".." in text:
        raise SettingsError(f"{text!r}: expected a folder, or s3a://bucket/folder")
    try:
        from obstore.fsspec import register
        from upath import UPath
    except ImportError as error:
        raise SettingsError(f"{text}: {error.name} is not installed: {_INSTALL_HINT}") from None
    register(SCHEME)
    return cast(Path, UPath(f"{SCHEME}://{uri['bucket']}/{uri['key']}", retry_config=RETRY_POLICY))


def is_remote(path: Path | str) -> bool:
    """Return whether a path or URI is in an object store."""
    return str(path).startswith(f"{SCHEME}://")


def explain_invalid_names(paths: Iterable[Path | str]) -> str:
    """Return an error message for paths that are not UTF-8, because tables cannot hold such paths.

    Parameters
    ----------
    paths : iterable of Path or str
        Paths of files or folders.

    Returns
    -------
    str
        One line that names each path that is not UTF-8; empty if all paths are UTF-8.
    """
    invalid = [repr(os.fsencode(path))[1:] for path in paths if not _is_utf8(os.fspath(path))]
    return f"{', '.join(invalid)}: the path has {_NOT_UTF8}. Rename the file or folder" if invalid else ""


def get_table_address(folder: Path) -> str:
    """Return the address by which the Delta client opens a table.

    Parameters
    ----------
    folder : Path
        The table's folder; it need not exist yet.

    Returns
    -------
    str
        An absolute path, or the URI of an object store. A path is not percent-encoded, because the client
        encodes it.

    Raises
    ------
    SettingsError
        If the client cannot open a table at this path. The message names the invalid part of the path and
        the remedy.
    """
    if is_remote(folder):
        return str(folder)
    # The client resolves links before it opens a table, so the resolved path must be valid.
    resolved = os.path.realpath(folder)
    problems = [description for pattern, description in _UNADDRESSABLE if pattern.search(resolved)]
    if not _is_utf8(resolved):
        problems.insert(0, _NOT_UTF8)
    if problems:
        raise SettingsError(
            f"{repr(os.fsencode(resolved))[1:]} cannot hold a Delta table: the path has {problems[0]}. "
            "Rename the folder, or choose another --warehouse"
        )
    return str(folder.absolute())


def _is_utf8(path: str) -> bool:
    """Return whether a path is UTF-8. Python shows other bytes as surrogate characters."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)
