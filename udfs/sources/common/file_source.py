"""Base class of all sources, and a function that splits files into blocks of lines.

One Spark task reads one part of a file. The last record of the part says whether the part could be read.

To add a source, write a subclass of `FileSource`, or of `message_files.MessageSource` if each line of the
files is one JSON message. Give the class a `name`. Start the module's docstring with "Source `name`" and
state the rules of the feed there. Then list the class in `registry` and its feeds in `schemas.feeds`.
`tests/unit/sources/test_every_source.py` checks each source.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.limits import (
    ALWAYS_ALLOWED_BYTES,
    MAX_EXPANSION,
    MAX_LINE_BYTES,
    Limits,
    too_many_levels,
)
from deltabook.udfs.sources.common.records import Records
from deltabook.udfs.storage.containers import UNREADABLE, open_file, split_member

BLOCK_BYTES = 8 << 20
"""Size of a block of lines, bytes. A source parses one block at a time, usually into one Arrow batch."""

LineCounts: TypeAlias = Counter[str]
"""{kind of line: number of lines}. For a table, rows are counted.

The kinds are `TAKEN`, `QUARANTINED`, `BLANK`, `CONNECTION`, `HEADER`, ``other: NAME`` (a channel or kind of
message that the source does not read) and ``dropped: RULE`` (a message that a rule of the source leaves out).
The sum is the number of lines of the file.
"""
TAKEN, QUARANTINED, BLANK, CONNECTION, HEADER = "taken", "quarantined", "blank", "connection", "header"

Part = tuple[int, int] | None
"""(first row group, end) of a part of a Parquet file, where `end` is exclusive; None for the whole file."""


class FileSource(DataSource):
    """A Spark data source that reads files into `records`, with one task per part of a file.

    Options: `path` (one file) or `paths` (a JSON list of files), and the fields of `Limits`.

    The last record of each part has ``record="file"``. The `kind` of this record is `read` or `failed`. With
    `failed`, its `reason` explains why; with `read`, its `reason` has the `LineCounts` of the part as JSON. A
    file that cannot be read to its end (truncated gzip, bad CRC, mixed time units) does not stop the other
    files. The code that stores the records drops all records of a failed file.

    Attributes
    ----------
    by_lines : bool
        Whether each line is one whole message. Such a file can be read while a recorder appends lines.
    hosts : tuple of str
        Ends of the host names of the venue, which connection lines and responses show.
    """

    by_lines: ClassVar[bool] = False
    hosts: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def recognizes(cls, message: object) -> bool:
        """Return whether a decoded message has the form of a book, trade or ticker message of the venue.

        Parameters
        ----------
        message : object
            The decoded JSON of one line, without its envelope.
        """
        return False

    def schema(self) -> str:
        """Return the columns of `records` as DDL."""
        return RECORDS.ddl

    @property
    def limits(self) -> Limits:
        """Limits on the size of one file and of one message, from the source's options."""
        return Limits.from_options(self.options)

    def reader(self, schema: object) -> DataSourceReader:
        """Return the reader that Spark sends to its workers."""
        paths = json.loads(self.options["paths"]) if "paths" in self.options else [self.options["path"]]
        return _FileReader(self, paths)

    def parts(self, path: str) -> list[Part]:
        """Return the parts into which a file is split, one for each Spark task; called on the driver."""
        return [None]

    def read_part(self, path: str, part: Part) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of one part of a file, and return the number of its lines by kind.

        Raises
        ------
        InputError
            If the whole file must be refused.
        """
        with open_file(path) as stream:
            return (yield from self.parse(stream, path))

    def parse(self, stream: IO[bytes], path: str) -> Generator[pa.RecordBatch, None, LineCounts]:
        """Yield the records of one file.

        Parameters
        ----------
        stream : binary file
            The decompressed content of the file.
        path : str
            Path of the raw file, as column `source_file` stores it.

        Yields
        ------
        pyarrow.RecordBatch
            Records in the schema of `records`.

        Returns
        -------
        LineCounts
            Number of lines by kind.

        Raises
        ------
        InputError
            If the whole file must be refused; none of its records is stored.
        """
        raise NotImplementedError


class FilePart(InputPartition):
    """One part of a file for one Spark task; its `value` is (path of the file, part)."""

    def __init__(self, path: str, part: Part):
        super().__init__((path, part))


class _FileReader(DataSourceReader):
    """Reader that plans one task per part of a file on the driver, and reads parts on the workers."""

    def __init__(self, source: FileSource, paths: Sequence[str]):
        self.source = source
        self.paths = paths

    def partitions(self) -> Sequence[InputPartition]:
        return [FilePart(path, part) for path in self.paths for part in self._plan_parts(path)]

    def _plan_parts(self, path: str) -> list[Part]:
        """Return the parts of a file; one part for the whole file if the driver cannot open the file."""
        try:
            return self.source.parts(path)
        except (OSError, InputError, pa.ArrowException):
            return [None]  # the task that reads the file reports the error

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        path, part = partition.value
        outcome, most_levels = "read", self.source.limits.most_levels
        try:
            batches = self.source.read_part(path, part)
            lines = yield from _fill_level_changes(batches, most_levels)
            reason = json.dumps({kind: count for kind, count in lines.items() if count})
        except InputError as error:
            outcome, reason = "failed", str(error)
        except UNREADABLE as error:
            outcome, reason = "failed", f"{type(error).__name__}: {error}"
        end = Records(path)
        end.add({"record": "file", "kind": outcome, "reason": reason})
        yield end.take_batch()


def _fill_level_changes(
    batches: Generator[pa.RecordBatch, None, LineCounts], most_levels: int
) -> Generator[pa.RecordBatch, None, LineCounts]:
    """Yield all batches with their level changes counted, and return what `batches` returns."""
    while True:
        try:
            batch = next(batches)
        except StopIteration as end:
            lines: LineCounts = end.value
            return lines
        yield _count_level_changes(batch, most_levels)


def count_quarantined(batch: pa.RecordBatch) -> int:
    """Return the number of quarantine records of a batch."""
    return pc.sum(pc.equal(batch["record"], "quarantine")).as_py() or 0


def _count_level_changes(batch: pa.RecordBatch, most_levels: int) -> pa.RecordBatch:
    """Return the batch with column `level_changes`, the number of level changes of each message.

    Later code can then sum the column instead of reading the levels.

    Raises
    ------
    InputError
        If a message has more than `most_levels` level changes.
    """
    sides = [pc.list_value_length(batch[f"{side}_prices"]) for side in ("bid", "ask")]
    counts = pc.add(*sides).to_numpy(zero_copy_only=False).astype(np.int64)
    for row in np.flatnonzero(np.not_equal(batch["wide"].to_numpy(zero_copy_only=False), b"")).tolist():
        printed_levels = json.loads(batch["wide"][row].as_py())
        counts[row] = sum(len(printed_levels.get(side, ())) for side in ("bids", "asks"))
    if (largest := int(counts.max(initial=0))) > most_levels:
        raise InputError(too_many_levels(largest, most_levels))
    index = batch.schema.get_field_index("level_changes")
    return batch.set_column(index, batch.schema.field(index), pa.array(counts))


def line_blocks(stream: IO[bytes], path: str = "", block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield blocks of whole lines; only the last line of the stream may lack its newline.

    Parameters
    ----------
    stream : binary file
        The decompressed content of the file.
    path : str
        Path of the stored file. The size of the stored file, times `MAX_EXPANSION`, limits the decompressed
        size. An empty path means that there is no limit.
    block_bytes : int
        Number of bytes to read at once.

    Yields
    ------
    bytes
        A block of whole lines, about `block_bytes` bytes long, or one line that is longer.

    Raises
    ------
    InputError
        If a line is longer than `MAX_LINE_BYTES`, or the decompressed size exceeds its limit.
    """
    stored = Path(split_member(path)[0])
    stored_bytes = stored.stat().st_size if path and stored.is_file() else None
    rest, read_bytes = b"", 0
    while data := stream.read(block_bytes):
        read_bytes += len(data)
        if stored_bytes is not None and read_bytes > max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * stored_bytes):
            raise InputError(
                f"the decompressed file is more than {MAX_EXPANSION} times as large as the stored file: the "
                "file is not a capture. Remove the file from the input"
            )
        cut = data.rfind(b"\n") + 1
        if cut:
            yield rest + data[:cut]
            rest = data[cut:]
        else:
            rest += data
        if len(rest) > MAX_LINE_BYTES:
            raise InputError(
                f"a line is longer than {MAX_LINE_BYTES >> 20} MiB: the file is not a capture. "
                "Remove the file from the input"
            )
    if rest:
        yield rest


class MixedUnitsError(InputError):
    """The event times of one file mix units, so the unit of each time is uncertain."""


class TimeUnit:
    """Detects the unit of one file's event times, and converts the times to ns.

    The magnitude of a time shows its unit: milliseconds, microseconds or nanoseconds.
    """

    _UNITS = ((2**63 // 10**6, 1_000_000), (2**63 // 10**3, 1_000), (2**63, 1))
    """(upper bound of a time in this unit, exclusive; length of the unit in ns), for ms, µs and ns."""

    def __init__(self) -> None:
        self.nanoseconds_per_unit = 0
        """Length of the unit of the file's times, ns; 0 until the first time of the file is converted."""

    def to_nanoseconds(self, printed_times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Convert times from the file's unit to ns.

        Parameters
        ----------
        printed_times : int64[:]
            Times since 1970 UTC in the unit of the file; 0 and -1 mean not given.

        Returns
        -------
        int64[:]
            The times in ns since 1970 UTC; -1 where not given.

        Raises
        ------
        MixedUnitsError
            If the file's times have several units.
        """
        given = printed_times > 0
        if not given.any():
            return np.where(given, printed_times, NOT_GIVEN)
        bounds = printed_times[given].min(), printed_times[given].max()
        units = {self._unit_of(int(time)) for time in bounds}
        units.add(self.nanoseconds_per_unit or max(units))
        if len(units) > 1:
            raise MixedUnitsError(
                "event times mix units (milliseconds, microseconds or nanoseconds). Split the file, so that "
                "all times of a file have one unit"
            )
        self.nanoseconds_per_unit = units.pop()
        return np.where(given, printed_times * self.nanoseconds_per_unit, NOT_GIVEN)

    def time_to_nanoseconds(self, printed_time: int) -> int:
        """Convert one time to ns; see `to_nanoseconds`."""
        if printed_time > 0 and self._unit_of(printed_time) == self.nanoseconds_per_unit:
            return printed_time * self.nanoseconds_per_unit
        return int(self.to_nanoseconds(np.array([printed_time], dtype=np.int64))[0])

    def _unit_of(self, time: int) -> int:
        """Return the length in ns of a time's unit, which the magnitude of the time shows."""
        return next(unit for bound, unit in self._UNITS if time < bound)
