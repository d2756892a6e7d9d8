"""Growing files, and how far each has been read: always behind a whole line.

Several files are read side by side by the receive times of their lines: where there is more than is read at
once, none gets ahead of another, for what comes much later than its neighbours would count as late.
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
from deltabook.udfs.sources.common.limits import LONGEST_LINE
from deltabook.udfs.sources.common.message_files import split_line
from deltabook.udfs.storage.raw_files import PARTIAL, list_files

_PACKED = (b"\x1f\x8b", b"PK")
_NOT_WHOLE = (EOFError, OSError, InputError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)
_LEAST_SHARE = 64 << 10
_WITNESS = 256
_LINES_ASKED = 8


class Position(NamedTuple):
    """How far a file has been read.

    Attributes
    ----------
    bytes, rows : int
        Of its content, unpacked: what lies before.
    witness : int
        CRC-32 of the last bytes before: the file is still the one that was read.
    """

    bytes: int = 0
    rows: int = 0
    witness: int = 0


class Follower:
    """Looks how far the files of a folder have grown.

    Parameters
    ----------
    folder : Path
        Searched to the bottom.
    at : mapping
        Position of each file that was read before, by path.
    most_bytes : int
        About how much is read at once, of all files together.
    """

    def __init__(self, folder: Path, at: Mapping[str, Position], most_bytes: int):
        self.folder = folder
        self.at = dict(at)
        self.most_bytes = most_bytes
        self._done: dict[str, tuple[int, int]] = {}  # packed files as they were when read to their end

    def look(self) -> dict[str, Position]:
        """Return the positions up to which all files can be read next.

        Raises
        ------
        InputError
            If a file is not any more what was read of it.
        """
        files = {str(path): path for path in list_files([self.folder])}
        grown = [path for path in files.values() if self._has_grown(path)]
        share = max(self.most_bytes // max(len(grown), 1), _LEAST_SHARE)
        found = {str(path): _Ahead(path, self.at.get(str(path), Position()), share) for path in grown}
        lasts = [ahead.last_time for ahead in found.values() if not ahead.ends]
        until = min((time for time in lasts if time != NOT_GIVEN), default=NOT_GIVEN)
        for name, ahead in found.items():
            self.at[name] = ahead.position(until)
            if ahead.is_packed and ahead.ends and self.at[name].bytes == ahead.end:
                self._done[name] = _looks(files[name])
        # What is gone was read, or never will be.
        self.at = {name: position for name, position in self.at.items() if name in files}
        return dict(self.at)

    def _has_grown(self, path: Path) -> bool:
        if path.name.lower().endswith(PARTIAL):
            return False
        try:
            size = path.stat().st_size
            if _is_packed(path):
                return self._done.get(str(path)) != _looks(path) and _is_whole(path)
        except FileNotFoundError:
            return False
        read = self.at.get(str(path), Position()).bytes
        if size < read:
            raise InputError(
                f"{path} has {size} bytes, of which {read} were read: it was cut or replaced. Let the "
                "recorder begin new files under new names; put it back, or move it away, and start again"
            )
        return size > read


class _Ahead:
    """What lies behind a position in one file: whole lines."""

    def __init__(self, path: Path, at: Position, share: int):
        self.at = at
        self.is_packed = _is_packed(path)
        with open_file(str(path)) as stream:
            stream.seek(max(at.bytes - _WITNESS, 0))
            self.before = stream.read(min(at.bytes, _WITNESS))
            if zlib.crc32(self.before) != at.witness:
                raise InputError(
                    f"{path}: what lies before byte {at.bytes} is not what was read there: it was replaced. "
                    "Let the recorder begin new files under new names; put the file back, or move it away, "
                    "and start again"
                )
            data = stream.read(share)
            self.ends = len(data) < share
            while not self.ends and b"\n" not in data:
                more = stream.read(share)
                data, self.ends = data + more, len(more) < share
                if len(data) > LONGEST_LINE:
                    raise InputError(
                        f"{path}: the line at byte {at.bytes} is longer than {LONGEST_LINE >> 20} MiB"
                    )
        lines = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        if self.is_packed and self.ends and data and not data.endswith(b"\n"):
            lines = np.append(lines, len(data))  # a packed file is whole: no more will come
        self.data = data
        self.lines: NDArray[np.int64] = lines
        self.last_time = self._time(len(lines) - 1)

    @property
    def end(self) -> int:
        """Position in bytes behind the last whole line."""
        return self.at.bytes + (int(self.lines[-1]) if len(self.lines) else 0)

    def position(self, until: int) -> Position:
        """Return the position behind the lines received up to a time, ns; -1: behind all."""
        count = len(self.lines)
        if NOT_GIVEN not in (until, self.last_time):
            low = 0
            while low < count:
                middle = (low + count) // 2
                low, count = (middle + 1, count) if self._time(middle) <= until else (low, middle)
        if not count:
            return self.at
        end = int(self.lines[count - 1])
        witness = zlib.crc32((self.before + self.data[:end])[-_WITNESS:])
        return Position(self.at.bytes + end, self.at.rows + count, witness)

    def _time(self, line: int) -> int:
        """Return when a line was received, or one of those next to it; -1 if they do not say."""
        for number in range(line, min(line + _LINES_ASKED, len(self.lines))) if line >= 0 else ():
            start = int(self.lines[number - 1]) if number else 0
            try:
                found = split_line(self.data[start : int(self.lines[number])])
            except ValueError:
                continue
            if found is not None and found.received != NOT_GIVEN:
                return found.received
        return NOT_GIVEN


def _is_packed(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) in _PACKED


def _is_whole(path: Path) -> bool:
    """Whether a packed file can be read to its end: its recorder has closed it."""
    try:
        with open_file(str(path)) as stream:
            while stream.read(1 << 20):
                pass
    except _NOT_WHOLE:
        return False
    return True


def _looks(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
