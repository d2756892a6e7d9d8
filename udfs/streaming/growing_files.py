"""Growing capture files of a folder, and the positions up to which they are read: always after a whole line.

Several files are read in step, by the receive times of their lines. If there is more than one micro-batch
takes, no file gets ahead of another, because the messages of the others would then count as late.
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
from deltabook.udfs.sources.common.file_source import open_file
from deltabook.udfs.sources.common.limits import MAX_LINE_BYTES
from deltabook.udfs.sources.common.message_files import split_line
from deltabook.udfs.storage.raw_files import PARTIAL_SUFFIXES, list_raw_files

_PACKED = (b"\x1f\x8b", b"PK")
_NOT_WHOLE = (EOFError, OSError, InputError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)
_MIN_SHARE = 64 << 10
"""Smallest number of bytes of one file that a micro-batch takes."""
_WITNESS_BYTES = 256
_MAX_LINES_SEARCHED = 8
"""Number of lines that are searched for a receive time."""


class Position(NamedTuple):
    """Position in a file up to which it is read; stored as a JSON list.

    Attributes
    ----------
    bytes, rows : int
        Number of bytes and lines before the position, in the decompressed content.
    witness : int
        CRC-32 of the last bytes before the position; shows whether the file was replaced.
    """

    bytes: int = 0
    rows: int = 0
    witness: int = 0


class GrowingFolder:
    """Finds the new lines of the files in a folder.

    Parameters
    ----------
    folder : Path
        Folder of the captures, with all its subfolders.
    positions : mapping
        {path: position up to which the file was read}.
    most_bytes : int
        Approximate limit of the bytes of one micro-batch, of all files together.
    """

    def __init__(self, folder: Path, positions: Mapping[str, Position], most_bytes: int):
        self.folder = folder
        self.positions = dict(positions)
        self.most_bytes = most_bytes
        self._finished: dict[str, tuple[int, int]] = {}
        """(size, modification time) of the packed files that were read to their end, by path."""

    def advance(self) -> dict[str, Position]:
        """Move the positions to the end of the next micro-batch, and return them.

        Returns
        -------
        dict
            {path: position up to which the file can be read next}.

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
        # A file that is gone was read, or cannot be read any more.
        self.positions = {name: position for name, position in self.positions.items() if name in files}
        return dict(self.positions)

    def _has_grown(self, path: Path) -> bool:
        """Return whether a file has unread content that can be read now."""
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
                f"{path} has {size} bytes, but {read_bytes} were read: it was truncated or replaced. Restore "
                "or remove the file, and restart. Let the recorder begin new files under new names"
            )
        return size > read_bytes


class _UnreadLines:
    """Whole lines of one file after a position.

    Parameters
    ----------
    path : Path
        The file.
    start : Position
        Position up to which the file was read.
    share : int
        Approximate number of bytes to read.

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
                    f"{path}: the bytes before byte {start.bytes} have changed since they were read: it "
                    "was replaced. Restore or remove the file, and restart. Let the recorder begin new files "
                    "under new names"
                )
            data = stream.read(share)
            self.reaches_end = len(data) < share
            while not self.reaches_end and b"\n" not in data:
                more = stream.read(share)
                data, self.reaches_end = data + more, len(more) < share
                if len(data) > MAX_LINE_BYTES:
                    raise InputError(
                        f"{path}: the line at byte {start.bytes} is longer than {MAX_LINE_BYTES >> 20} MiB. "
                        "Remove the file from the folder: it is not a capture"
                    )
        line_ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        if self.is_packed and self.reaches_end and data and not data.endswith(b"\n"):
            line_ends = np.append(line_ends, len(data))  # a packed file is complete and grows no more
        self.data = data
        self.line_ends: NDArray[np.int64] = line_ends
        self.last_time = self._receive_time(len(line_ends) - 1)

    @property
    def end(self) -> int:
        """Number of bytes of the file up to the end of the last whole line."""
        return self.start.bytes + (int(self.line_ends[-1]) if len(self.line_ends) else 0)

    def position(self, until: int) -> Position:
        """Return the position after the lines that were received up to a time.

        Parameters
        ----------
        until : int
            Receive time, ns since 1970 UTC; -1 for all lines.
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
        """Return the receive time of a line, or of the next line that has one, ns; -1 if none is near."""
        for index in range(line, min(line + _MAX_LINES_SEARCHED, len(self.line_ends))) if line >= 0 else ():
            start = int(self.line_ends[index - 1]) if index else 0
            try:
                split = split_line(self.data[start : int(self.line_ends[index])])
            except ValueError:
                continue
            if split is not None and split.received != NOT_GIVEN:
                return split.received
        return NOT_GIVEN


def _is_packed(path: Path) -> bool:
    """Return whether a file is gzip or zip."""
    with path.open("rb") as stream:
        return stream.read(2) in _PACKED


def _is_whole(path: Path) -> bool:
    """Return whether a packed file can be read to its end, so that its recorder has closed it."""
    try:
        with open_file(str(path)) as stream:
            while stream.read(1 << 20):
                pass
    except _NOT_WHOLE:
        return False
    return True


def _size_and_time(path: Path) -> tuple[int, int]:
    """Return the size, bytes, and the modification time, ns, of a file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
