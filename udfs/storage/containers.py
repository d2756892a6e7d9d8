"""Containers of raw files: compression and archives, recognized by content; the name does not matter.

Compression: gzip, bzip2 and xz (any number of members), zstd and lz4 (any number of frames). Archives: zip,
and tar, compressed or not. A file of an archive has the path `ARCHIVE!/FILE`, such as
`okx.tar.gz!/BTC-USDT.data`, and may be compressed once more. An archive with one file is read under its own
path.

A file of a compressed tar is found by unpacking all files before it, so a tar of many large files takes long.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, cast

import pyarrow as pa

from deltabook.schemas.errors import InputError

SEPARATOR = "!/"
"""Text between the path of an archive and the name of a file in it."""
UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    pa.ArrowException,
)
"""Errors that say that a container is damaged."""

_ZIP, _TAR = "zip", "tar"
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": "compressed with 7z",
    b"Rar!\x1a\x07": "compressed with RAR",
    b"\x1f\x9d": "compressed with compress (.Z)",
    b"\xff\x06\x00\x00sNaPpY": "compressed with snappy",
    b"LZIP": "compressed with lzip",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
}
_TAR_MARK, _TAR_BLOCK = slice(257, 262), 512
_MARKS = {codecs.BOM_UTF8: "", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def split_member(path: str) -> tuple[str, str]:
    """Split a raw file's path into the path of the stored file and the name of the file in the archive.

    Parameters
    ----------
    path : str
        A path, or `ARCHIVE!/FILE`.

    Returns
    -------
    (path, member) : (str, str)
        The path of the stored file, and the name in the archive; the name is empty for a file of its own.
    """
    stored, separator, member = path.partition(SEPARATOR)
    return (stored, member) if separator and member else (path, "")


def is_parquet(path: str) -> bool:
    """Return whether a raw file is a Parquet file of its own.

    Parameters
    ----------
    path : str
        Path of a raw file.
    """
    stored, member = split_member(path)
    with Path(stored).open("rb") as stream:
        return not member and stream.read(4) == b"PAR1"


def describe_container(path: str) -> str:
    """Return what a raw file is wrapped in, such as ``gzip`` or ``tar.zstd``; empty for a plain file.

    Parameters
    ----------
    path : str
        Path of a raw file.
    """
    with ExitStack() as opened:
        stored, member = split_member(path)
        names = _decompress(_open_stored(stored, opened), opened)[1]
        kind, files = _look_into(stored)
        if kind:
            names.insert(0, kind)
            if member or len(files) == 1:
                names += _decompress(_open_member(stored, member, opened), opened)[1]
        return ".".join(names)


def list_members(path: str) -> list[str]:
    """Return the paths `ARCHIVE!/FILE` of the files in an archive.

    Hidden files, folders and the files that macOS adds to archives are left out.

    Parameters
    ----------
    path : str
        Path of any file.

    Returns
    -------
    list of str
        Sorted paths; empty if the file is no archive, has one file only, or cannot be read.
    """
    try:
        _, names = _look_into(path)
    except (*UNREADABLE, InputError):
        return []  # the source that reads the file reports the error
    return [f"{path}{SEPARATOR}{name}" for name in sorted(names)] if len(names) > 1 else []


@contextmanager
def open_member(path: str) -> Iterator[IO[bytes]]:
    """Open a file of an archive as it is stored there: compression inside the archive stays.

    Parameters
    ----------
    path : str
        Path `ARCHIVE!/FILE`.

    Yields
    ------
    binary file
        The stored content.

    Raises
    ------
    InputError
        If the archive has no such file, or the file has a password.
    """
    with ExitStack() as opened:
        yield _open_member(*split_member(path), opened)


@contextmanager
def open_file(path: str) -> Iterator[IO[bytes]]:
    """Open a raw file for reading, and unpack it; text in UTF-16 becomes UTF-8, a byte order mark is removed.

    Parameters
    ----------
    path : str
        Path of a plain or packed file, or `ARCHIVE!/FILE`.

    Yields
    ------
    binary file
        The unpacked content.

    Raises
    ------
    InputError
        If the file is an archive with no file or several files, if it has a password, or if it is packed in a
        way that is not known.
    """
    with ExitStack() as opened:
        stored, member = split_member(path)
        stream, _ = _decompress(_open_stored(stored, opened), opened)
        if member or _archive_kind(stream):
            stream, _ = _decompress(_open_member(stored, member, opened), opened)
        start = _peek(stream)
        if foreign := next((what for magic, what in _FOREIGN.items() if start.startswith(magic)), ""):
            remedy = "Unpack the file" if foreign.startswith("compressed") else "Remove it from the input"
            raise InputError(f"the file is {foreign}. {remedy}")
        yield _decode_text(stream, start)


def _open_stored(path: str, opened: ExitStack) -> IO[bytes]:
    return opened.enter_context(Path(path).open("rb"))


def _peek(stream: IO[bytes]) -> bytes:
    """Return the first bytes of a stream without reading them."""
    return cast(io.BufferedReader, stream).peek(_TAR_BLOCK)


def _decompress(stream: IO[bytes], opened: ExitStack) -> tuple[IO[bytes], list[str]]:
    """Return the decompressed content of a stream, and the name of its compression as a list."""
    start = _peek(stream)
    kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")
    if kind in ("zstd", "lz4"):
        packed = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), kind)
        return cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, packed))), [kind]
    modules = {"gzip": gzip.GzipFile, "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}
    if kind in modules:
        unpack = gzip.GzipFile(fileobj=stream) if kind == "gzip" else modules[kind](stream)
        return cast(IO[bytes], opened.enter_context(unpack)), [kind]
    return stream, []


def _archive_kind(stream: IO[bytes]) -> str:
    """Return `zip`, `tar`, or an empty text if the content is no archive."""
    start = _peek(stream)
    if start[_TAR_MARK] == b"ustar":
        return _TAR
    return _ZIP if start.startswith(_ZIP_MAGIC) else ""


def _look_into(path: str) -> tuple[str, list[str]]:
    """Return the kind of an archive, and the names of its files that may be raw files; empty if it is none.

    A compressed tar is unpacked to list it, so the last results are kept.
    """
    stat = Path(path).stat()
    return _list_archive(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _list_archive(path: str, _modified: int, _size: int) -> tuple[str, list[str]]:
    """Return what `_look_into` returns; time and size of the file tell its versions apart."""
    with ExitStack() as opened:
        stream, _ = _decompress(_open_stored(path, opened), opened)
        kind = _archive_kind(stream)
        return kind, _list_files(stream, kind) if kind else []


def _list_files(stream: IO[bytes], kind: str) -> list[str]:
    """Return the names of the files of an archive that may be raw files."""
    if kind == _ZIP:
        with zipfile.ZipFile(stream) as archive:
            names = [member.filename for member in archive.infolist() if not member.is_dir()]
    else:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            names = [member.name for member in tar if member.isfile()]
    return [name for name in names if not any(part[:1] in "._" for part in PurePosixPath(name).parts)]


def _open_member(stored: str, member: str, opened: ExitStack) -> IO[bytes]:
    """Open a file of an archive; an empty `member` means the only file."""
    stream, _ = _decompress(_open_stored(stored, opened), opened)
    kind = _archive_kind(stream)
    if not member:
        names = _look_into(stored)[1]
        if len(names) != 1:
            found = f"expected one file in the {kind}, found {len(names)}"
            raise InputError(f"{found}. Unpack the {kind} and pass its files")
        member = names[0]
    if kind == _ZIP:
        try:
            archive = opened.enter_context(zipfile.ZipFile(stream))
            return opened.enter_context(archive.open(member))
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise InputError(
                f"the zip cannot be unpacked: {error}. Unpack the zip and pass its file"
            ) from error
        except KeyError:
            raise InputError(f"the zip has no file {member}") from None
    tar = opened.enter_context(tarfile.open(fileobj=stream, mode="r|"))  # noqa: SIM115
    for entry in tar:
        content = tar.extractfile(entry) if entry.name == member and entry.isfile() else None
        if content is not None:
            return opened.enter_context(content)
    raise InputError(f"the tar has no file {member}")


def _decode_text(stream: IO[bytes], start: bytes) -> IO[bytes]:
    """Return a stream whose text is UTF-8 without a byte order mark; `start` is the beginning of the text."""
    mark = next((mark for mark in _MARKS if start.startswith(mark)), b"")
    if not mark:
        return stream
    stream.read(len(mark))
    return cast(IO[bytes], io.BufferedReader(_Recoded(stream, _MARKS[mark]))) if _MARKS[mark] else stream


class _Recoded(io.RawIOBase):
    """A stream of UTF-8 text, read from a stream of another encoding."""

    def __init__(self, stream: IO[bytes], encoding: str):
        self.stream = stream
        self.decoder = codecs.getincrementaldecoder(encoding)("replace")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read text into a buffer, and return the number of bytes; 0 at the end."""
        text = ""
        while not text and (data := self.stream.read(max(2, len(buffer) // 3))):
            text = self.decoder.decode(data)
        encoded = text.encode()
        buffer[: len(encoded)] = encoded
        return len(encoded)
