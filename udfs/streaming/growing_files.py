"""Finds the unread lines of a folder's growing captures, and the position up to which each file is read.

A position is always the end of a line. If a micro-batch cannot take all unread lines, it takes lines of all
files up to the same receive time. If a micro-batch read one file further than the other files, the messages
of the other files would later count as late.
"""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.envelopes import split_line
from deltabook.udfs.sources.common.limits import MAX_LINE_BYTES
from deltabook.udfs.storage.containers import open_file
from deltabook.udfs.storage.raw_files import PARTIAL_SUFFIXES, list_raw_files

_PACKED = (b"\x1f\x8b", b"PK")
_NOT_WHOLE = (EOFError, OSError, InputError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)
_MIN_SHARE = 64 << 10
"""Smallest share of one file in a micro-batch, bytes."""
_WITNESS_BYTES = 256
_MAX_LINES_SEARCHED = 8
"""Largest number of lines in which a receive time is searched for."""


class Position(NamedTuple):
    """Position up to which a file is read; stored as a JSON list.

    Attributes
    ----------
    bytes, rows : int
        Number of bytes and of lines before the position, in the decompressed content.
    witness : int
        CRC-32 of the last 256 bytes before the position. If this CRC has changed, the file was replaced.
    """

    bytes: int = 0
    rows: int = 0
    witness: int = 0


class GrowingFolder:
    """Finds the new lines of the files in a folder, micro-batch by micro-batch.

    Parameters
    ----------
    folder : Path
        Folder of the captures, with all its subfolders.
    positions : mapping
        {path: position up to which the file was read}.
    most_bytes : int
        Approximate limit of one micro-batch, bytes of all files together.
    """

    def __init__(self, folder: Path, positions: Mapping[str, Position], most_bytes: int):
        self.folder = folder
        self.positions = dict(positions)
        self.most_bytes = most_bytes
        self._finished: dict[str, tuple[int, int]] = {}
        """{path: (size in bytes, modification time in ns)} of packed files that were read to their end."""

    def advance(self) -> dict[str, Position]:
        """Move the positions to the end of the next micro-batch, and return the new positions.

        Returns
        -------
        dict
            {path: position at the end of the next micro-batch}.

        Raises
        ------
        InputError
            If a file was truncated or replaced after it was read.
        """
        files = {str(path): path for path in list_raw_files([self.folder])}
        grown = [path for path in files.values() if self._has_grown(path)]
        share = max(self.most_bytes // max(len(grown), 1), _MIN_SHARE)
        unread_lines = {
            str(path): _UnreadLines(path, self.positions.get(str(path), Position()), share) for path in grown
        }
        last_times = [unread.last_time for unread in unread_lines.values() if not unread.reaches_end]
        until = min((time for time in last_times if time != NOT_GIVEN), default=NOT_GIVEN)
        for name, unread in unread_lines.items():
            self.positions[name] = unread.position(until)
            if unread.is_packed and unread.reaches_end and self.positions[name].bytes == unread.end:
                self._finished[name] = _size_and_time(files[name])
        # Forget files that no longer exist: either they were read, or they can never be read.
        self.positions = {name: position for name, position in self.positions.items() if name in files}
        return dict(self.positions)

    def _has_grown(self, path: Path) -> bool:
        """Return whether a file has unread lines that can be read now.

        Raises
        ------
        InputError
            If the file has fewer bytes than were already read from it.
        """
        if path.name.lower().endswith(PARTIAL_SUFFIXES):
            return False
        try:
            size = path.stat().st_size
            if _is_packed(path):
                return self._finished.get(str(path)) != _size_and_time(path) and _is_whole(path)
        except FileNotFoundError:
            return False
        read_bytes = self.positions.get(str(path), Position()).bytes
        if size < read_bytes:
            raise InputError(
                f"{path} has {size} bytes, but {read_bytes} were read: the file was truncated or replaced. "
                "Restore or remove the file, and start the command again. Let the recorder begin new files "
                "under new names"
            )
        return size > read_bytes


class _UnreadLines:
    """The next unread whole lines of one file, from a position on.

    Parameters
    ----------
    path : Path
        The file.
    start : Position
        Position up to which the file was already read.
    share : int
        Number of bytes to read. If the first line is longer, the whole line is read.

    Raises
    ------
    InputError
        If the file was replaced, or a line is longer than `MAX_LINE_BYTES`.
    """

    def __init__(self, path: Path, start: Position, share: int):
        self.start = start
        self.is_packed = _is_packed(path)
        with open_file(str(path)) as stream:
            stream.seek(max(start.bytes - _WITNESS_BYTES, 0))
            self.bytes_before = stream.read(min(start.bytes, _WITNESS_BYTES))
            if zlib.crc32(self.bytes_before) != start.witness:
                raise InputError(
                    f"{path}: the bytes before byte {start.bytes} have changed since they were read: the "
                    "file was replaced. Restore or remove the file, and start the command again. Let the "
                    "recorder begin new files under new names"
                )
            data = stream.read(share)
            self.reaches_end = len(data) < share
            while not self.reaches_end and b"\n" not in data:
                more = stream.read(share)
                data, self.reaches_end = data + more, len(more) < share
                if len(data) > MAX_LINE_BYTES:
                    raise InputError(
                        f"{path}: the line at byte {start.bytes} is longer than {MAX_LINE_BYTES >> 20} MiB. "
                        "The file is not a capture: remove the file from the folder"
                    )
        line_ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        if self.is_packed and self.reaches_end and data and not data.endswith(b"\n"):
            line_ends = np.append(line_ends, len(data))  # a packed file is complete once it is readable
        self.data = data
        self.line_ends: NDArray[np.int64] = line_ends
        self.last_time = self._receive_time(len(line_ends) - 1)

    @property
    def end(self) -> int:
        """Number of bytes of the file up to the end of the last whole line that was read."""
        return self.start.bytes + (int(self.line_ends[-1]) if len(self.line_ends) else 0)

    def position(self, until: int) -> Position:
        """Return the position after the last line that was received no later than `until`.

        Parameters
        ----------
        until : int
            Receive time, ns since 1970 UTC; -1 for the position after all lines.
        """
        count = len(self.line_ends)
        if NOT_GIVEN not in (until, self.last_time):
            low = 0
            while low < count:
                middle = (low + count) // 2
                low, count = (middle + 1, count) if self._receive_time(middle) <= until else (low, middle)
        if not count:
            return self.start
        end = int(self.line_ends[count - 1])
        witness = zlib.crc32((self.bytes_before + self.data[:end])[-_WITNESS_BYTES:])
        return Position(self.start.bytes + end, self.start.rows + count, witness)

    def _receive_time(self, line: int) -> int:
        """Return the receive time of a line, ns since 1970 UTC.

        If the line has no receive time, the result is the receive time of the next line that has one. At most
        `_MAX_LINES_SEARCHED` lines are searched; if none of these lines has a receive time, the result is -1.
        """
        for index in range(line, min(line + _MAX_LINES_SEARCHED, len(self.line_ends))) if line >= 0 else ():
            start = int(self.line_ends[index - 1]) if index else 0
            try:
                split = split_line(self.data[start : int(self.line_ends[index])])
            except ValueError:
                continue
            if split.received != NOT_GIVEN:
                return split.received
        return NOT_GIVEN


def _is_packed(path: Path) -> bool:
    """Return whether a file is packed, that is, a gzip or zip file."""
    with path.open("rb") as stream:
        return stream.read(2) in _PACKED


def _is_whole(path: Path) -> bool:
    """Return whether a packed file can be read to its end, because the recorder has closed the file."""
    try:
        with open_file(str(path)) as stream:
            while stream.read(1 << 20):
                pass
    except _NOT_WHOLE:
        return False
    return True


def _size_and_time(path: Path) -> tuple[int, int]:
    """Return the size in bytes and the modification time in ns of a file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
