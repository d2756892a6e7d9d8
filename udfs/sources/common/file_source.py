"""What every source of files shares: tasks, blocks of whole lines, caps, a verdict at the end.

A new source is one file in this folder: a `FileSource` (or, for one JSON message a line, a
`messages.MessageSource`) with a name and a docstring that states the feed's rules, listed in
`registry`, with its feeds in `schemas.feeds`. `tests/test_sources.py` holds what each must keep.
"""

from __future__ import annotations

import gzip
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, ClassVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.limits import (
    LONGEST_LINE,
    MOST_EXPANSION,
    SMALL_BYTES,
    Limits,
    too_many_levels,
)
from deltabook.udfs.sources.common.records import Records

BLOCK_BYTES = 8 << 20
"""Bytes that are parsed at a time; a block is one Arrow batch."""
_GZIP_MAGIC, _ZIP_MAGIC = b"\x1f\x8b", b"PK\x03\x04"
_UNREADABLE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pa.ArrowException,
)

Part = tuple[int, int] | None
"""Row groups of a file, from and up to; None: the whole file."""


class FileSource(DataSource):
    """A source that reads files, a task for each part of each file.

    Options: `path` (one file) or `paths` (a JSON list of files), and the fields of `Limits`.

    A file that cannot be read to its end (truncated gzip, bad CRC, mixed time units) does not stop
    the others: its last record says ``record="file", kind="failed"`` with the reason, and whoever
    stores the records leaves out that file's.

    Attributes
    ----------
    by_lines : bool
        Whether each line is a message of its own, so that a file can be read while it grows.
    """

    by_lines: ClassVar[bool] = False

    def schema(self) -> str:
        """Return the columns of `records` as DDL."""
        return RECORDS.ddl

    @property
    def limits(self) -> Limits:
        """What one file and one message may hold."""
        return Limits.of(self.options)

    def reader(self, schema: object) -> DataSourceReader:
        """Return the reader that Spark sends to its workers."""
        paths = json.loads(self.options["paths"]) if "paths" in self.options else [self.options["path"]]
        return _Reader(self, paths)

    def parts(self, path: str) -> list[Part]:
        """Return the parts of a file that are read apart from each other; called while planning."""
        return [None]

    def read_part(self, path: str, part: Part) -> Iterator[pa.RecordBatch]:
        """Yield the records of one part of a file; raises InputError to refuse the file whole."""
        with open_file(path) as stream:
            yield from self.parse(stream, path)

    def parse(self, stream: IO[bytes], path: str) -> Iterator[pa.RecordBatch]:
        """Yield the records of one file.

        Parameters
        ----------
        stream : binary file
            The file's content, decompressed.
        path : str
            Its name, for `source_file`.

        Yields
        ------
        pyarrow.RecordBatch
            In the schema of `records`.

        Raises
        ------
        InputError
            If the file has to be refused whole.
        """
        raise NotImplementedError


class FilePart(InputPartition):
    """One part of a file, as Spark passes it to a reader: its value is (path, part)."""

    def __init__(self, path: str, part: Part):
        super().__init__((path, part))


class _Reader(DataSourceReader):
    def __init__(self, source: FileSource, paths: Sequence[str]):
        self.source = source
        self.paths = paths

    def partitions(self) -> Sequence[InputPartition]:
        return [FilePart(path, part) for path in self.paths for part in self._parts(path)]

    def _parts(self, path: str) -> list[Part]:
        try:
            return self.source.parts(path)
        except (OSError, InputError, pa.ArrowException):
            return [None]  # reading it will say why

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        path, part = partition.value
        state, reason = "read", ""
        try:
            most_levels = self.source.limits.most_levels
            for batch in self.source.read_part(path, part):
                yield _counted(batch, most_levels)
        except InputError as error:
            state, reason = "failed", str(error)
        except _UNREADABLE as error:
            state, reason = "failed", f"{type(error).__name__}: {error}"
        outcome = Records(path)
        outcome.add({"record": "file", "kind": state, "reason": reason})
        yield outcome.batch()


def _counted(batch: pa.RecordBatch, most_levels: int) -> pa.RecordBatch:
    """Fill `level_changes`, so that counting does not need to read the levels again.

    Raises
    ------
    InputError
        If a message has more than `most_levels`.
    """
    both = [pc.list_value_length(batch[f"{side}_prices"]) for side in ("bid", "ask")]
    counts = pc.add(*both).to_numpy(zero_copy_only=False).astype(np.int64)
    for row in np.flatnonzero(np.not_equal(batch["wide"].to_numpy(zero_copy_only=False), b"")).tolist():
        printed = json.loads(batch["wide"][row].as_py())
        counts[row] = sum(len(printed.get(side, ())) for side in ("bids", "asks"))
    if (most := int(counts.max(initial=0))) > most_levels:
        raise InputError(too_many_levels(most, most_levels))
    at = batch.schema.get_field_index("level_changes")
    return batch.set_column(at, batch.schema.field(at), pa.array(counts))


@contextmanager
def open_file(path: str) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressing it if its first bytes say gzip or zip, whatever its name.

    Raises
    ------
    InputError
        If a zip does not hold exactly one file, or one that needs a password or an unknown compression.
    """
    with Path(path).open("rb") as raw:
        magic = raw.read(4)
    if magic.startswith(_GZIP_MAGIC):
        with gzip.open(path) as decompressed:
            yield cast(IO[bytes], decompressed)
    elif magic == _ZIP_MAGIC:
        with ExitStack() as opened:
            yield _unzipped(path, opened)
    else:
        with Path(path).open("rb") as stream:
            yield stream


def _unzipped(path: str, opened: ExitStack) -> IO[bytes]:
    try:
        archive = opened.enter_context(zipfile.ZipFile(path))
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) == 1:
            return opened.enter_context(archive.open(members[0]))
    except (RuntimeError, ValueError) as error:  # a password, an unknown compression
        raise InputError(f"the zip cannot be unpacked: {error}; name what is in it instead") from error
    raise InputError(f"expected one file in the zip, found {len(members)}")


def line_blocks(stream: IO[bytes], path: str = "", block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield blocks of whole lines; only the last may lack its newline.

    Raises
    ------
    InputError
        If a line is longer than `LONGEST_LINE`, or the file grows out of proportion (a bomb).
    """
    stored = Path(path).stat().st_size if path and Path(path).is_file() else None
    rest, seen = b"", 0
    while chunk := stream.read(block_bytes):
        seen += len(chunk)
        if stored is not None and seen > max(SMALL_BYTES, MOST_EXPANSION * stored):
            raise InputError(f"it grows more than {MOST_EXPANSION} times when decompressed: not a capture")
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield rest + chunk[:cut]
            rest = chunk[cut:]
        else:
            rest += chunk
        if len(rest) > LONGEST_LINE:
            raise InputError(f"a line is longer than {LONGEST_LINE >> 20} MiB: not a capture file")
    if rest:
        yield rest


class MixedUnitsError(InputError):
    """The event times of one file have several units: none of them can be trusted."""


class TimeUnit:
    """The unit of one file's event times: milliseconds, microseconds or nanoseconds, by magnitude."""

    _UNITS = ((2**63 // 10**6, 1_000_000), (2**63 // 10**3, 1_000), (2**63, 1))
    """(exclusive upper bound of a time's magnitude, ns per unit)."""

    def __init__(self) -> None:
        self.nanoseconds_per_unit = 0

    def nanoseconds(self, printed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert times as printed to ns.

        Parameters
        ----------
        printed : int64[:]
            Times; -1 (not given) stays -1, and 0 counts as not given.

        Returns
        -------
        int64[:]
            ns since 1970 UTC.

        Raises
        ------
        MixedUnitsError
            If the file's times have several units.
        """
        given = printed > 0
        if not given.any():
            return np.where(given, printed, NOT_GIVEN)
        units = {self._unit(int(printed[given].min())), self._unit(int(printed[given].max()))}
        units.add(self.nanoseconds_per_unit or max(units))
        if len(units) > 1:
            raise MixedUnitsError("event times mix units (milliseconds, microseconds or nanoseconds)")
        self.nanoseconds_per_unit = units.pop()
        return np.where(given, printed * self.nanoseconds_per_unit, NOT_GIVEN)

    def one(self, printed: int) -> int:
        """Convert one time."""
        return int(self.nanoseconds(np.array([printed], dtype=np.int64))[0])

    def _unit(self, time: int) -> int:
        return next(unit for bound, unit in self._UNITS if time < bound)
