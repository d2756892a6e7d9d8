"""Spark streaming data source that reads a folder of growing captures.

An offset contains the position in each file, and the number of silences of the whole feed so far. A silence
begins when no new line was written for `patience` seconds. A micro-batch consists of the lines between two
offsets, so that a repeated micro-batch gives the same records.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition

from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.binance.depth_csv import is_depth_csv
from deltabook.udfs.sources.common.file_source import FileSource
from deltabook.udfs.sources.common.limits import Limits, too_many_symbols
from deltabook.udfs.sources.common.records import Records
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.storage.containers import open_file
from deltabook.udfs.streaming.growing_files import GrowingFolder, Position

_CONTEXT_BYTES = 64 << 10
"""Largest size of each of the two earlier parts of a file that `read_lines` reads again, bytes."""
_TASK_BYTES = 1 << 20
"""A task gets no further file once its lines have this size, bytes."""


class Offset(TypedDict):
    """The end of a micro-batch; stored as JSON, so the keys must not change.

    Attributes
    ----------
    files : mapping
        {path: `Position` up to which the file is read}.
    silences : int
        Number of silences of the whole feed so far.
    """

    files: Mapping[str, Sequence[int]]
    silences: int


START: Offset = {"files": {}, "silences": 0}
"""The offset before the first line."""


class LiveSource(DataSource):
    """Spark data source that reads the new lines of the files in a folder.

    Options: `source` (a key of `SOURCES`), `folder`, `offset` (JSON: the offset at the end of the last run),
    `most_bytes` (approximate limit of a micro-batch), `patience` (seconds without new lines that count as a
    silence; -1: there are no silences), and the fields of `Limits`.
    """

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.readStream.format`."""
        return "deltabook_live"

    def schema(self) -> str:
        """Return the columns of `records` as DDL."""
        return RECORDS.ddl

    def streamReader(self, schema: object) -> DataSourceStreamReader:  # noqa: N802
        """Return the reader of the folder, from which the driver gets offsets, and workers get records."""
        return _FolderStreamReader(dict(self.options))


class LineRange(NamedTuple):
    """Lines of one file that a micro-batch reads.

    Attributes
    ----------
    path : str
        The file.
    start, end : Position
        Position before the first line, and position after the last line.
    """

    path: str
    start: Position
    end: Position

    @property
    def size(self) -> int:
        """Number of bytes of the lines."""
        return self.end.bytes - self.start.bytes


class _FolderStreamReader(DataSourceStreamReader):
    """Reader of the folder, from which the driver gets offsets, and workers get records."""

    def __init__(self, options: dict[str, str]):
        self.source: FileSource = SOURCES[options["source"]](Limits.from_options(options).to_options())
        self.patience = float(options["patience"])
        positions, self.silences = _read_offset(json.loads(options["offset"]))
        self.folder = GrowingFolder(Path(options["folder"]), positions, int(options["most_bytes"]))
        self.last_growth = time.monotonic()
        self.is_silent = False

    def initialOffset(self) -> dict[str, object]:  # noqa: N802
        return {**START}

    def latestOffset(self) -> dict[str, object]:  # noqa: N802
        before = dict(self.folder.positions)
        positions = self.folder.advance()
        now = time.monotonic()
        if any(position != before.get(path) for path, position in positions.items()):
            self.last_growth, self.is_silent = now, False
        elif 0 <= self.patience <= now - self.last_growth and not self.is_silent:
            self.silences, self.is_silent = self.silences + 1, True
        return {"files": positions, "silences": self.silences}

    def partitions(self, start: dict[str, object], end: dict[str, object]) -> Sequence[InputPartition]:
        (starts, _), (ends, silences) = _read_offset(start), _read_offset(end)
        # After a restart, Spark repeats the last micro-batch, whose end this new reader has not computed.
        self.folder.positions = {**self.folder.positions, **ends}
        self.silences = max(self.silences, silences)
        ranges = [LineRange(path, starts.get(path, Position()), after) for path, after in ends.items()]
        return [InputPartition(task) for task in _split_into_tasks(ranges)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        for line_range in partition.value:
            yield from read_lines(self.source, *line_range)


def read_lines(source: FileSource, path: str, start: Position, end: Position) -> Iterator[pa.RecordBatch]:
    """Parse some lines of a file, with the same result as if the whole file were read.

    A parser learns from earlier lines: the unit of times, the books of the file, and the last message of each
    book. The parser therefore also reads up to 64 KB from the start of the file, and up to 64 KB just before
    the lines. The records of these earlier lines are dropped.

    Parameters
    ----------
    source : FileSource
        Source that parses the lines; each line must be one whole message.
    path : str
        The file.
    start, end : Position
        Position before the first line, and position after the last line.

    Yields
    ------
    pyarrow.RecordBatch
        Records in the schema of `records`. If the source refuses the rest of the lines, the last record is a
        quarantine record with the reason.
    """
    with open_file(path) as stream:
        context = _read_context(stream, start)
        stream.seek(start.bytes)
        lines = stream.read(end.bytes - start.bytes)
    skipped, last_row = context.count(b"\n"), 0
    try:
        if is_depth_csv(context + lines):
            raise InputError("a T_DEPTH table has several rows per message: read it with `deltabook run`")
        symbols: set[tuple[str, str]] = set()
        limit = source.limits.most_symbols
        for batch in source.parse(io.BytesIO(context + lines), path):
            names = pa.table([batch["exchange"], batch["symbol"]], ["exchange", "symbol"])
            distinct = names.group_by(names.column_names).aggregate([]).to_pylist()
            symbols.update((row["exchange"], row["symbol"]) for row in distinct if row["symbol"])
            if len(symbols) > limit:
                raise InputError(too_many_symbols(len(symbols), limit))
            rows = batch["source_row"].to_numpy()
            last_row = max(last_row, int(rows.max(initial=0)))
            yield _shift_rows(batch.filter(pa.array(rows > skipped)), start.rows - skipped)
    except InputError as error:
        refused = Records(path)
        row = start.rows + 1 + max(last_row - skipped, 0)
        reason = f"lines {start.rows + 1} to {end.rows}: refused from line {row} on: {error}"
        refused.quarantine(row, b"", reason)
        yield refused.take_batch()


def _split_into_tasks(ranges: list[LineRange]) -> Iterator[list[LineRange]]:
    """Yield the line ranges of each task. Small ranges share a task; empty ranges are left out."""
    task: list[LineRange] = []
    for line_range in ranges:
        if line_range.start == line_range.end:
            continue
        task.append(line_range)
        if sum(one_range.size for one_range in task) >= _TASK_BYTES:
            yield task
            task = []
    if task:
        yield task


def _read_context(stream: IO[bytes], start: Position) -> bytes:
    """Return the first and the last whole lines before a position, at most `_CONTEXT_BYTES` of each."""
    head = stream.read(min(start.bytes, _CONTEXT_BYTES))
    head = head[: head.rfind(b"\n") + 1]
    tail_start = max(len(head), start.bytes - _CONTEXT_BYTES)
    stream.seek(tail_start)
    tail = stream.read(start.bytes - tail_start)
    # If there is a gap between head and tail, the tail may start within a line: drop this partial line.
    return head + (tail if tail_start == len(head) else tail[tail.find(b"\n") + 1 :])


def _shift_rows(batch: pa.RecordBatch, shift: int) -> pa.RecordBatch:
    """Return the records with `shift` added to `source_row`, so that it counts rows of the whole file."""
    index = RECORDS.names.index("source_row")
    return batch.set_column(index, RECORDS.arrow.field(index), pc.add(batch["source_row"], shift))


def _read_offset(offset: Mapping[str, object]) -> tuple[dict[str, Position], int]:
    """Return the positions by path, and the number of silences, of an `Offset` as Spark passes it."""
    files, silences = offset["files"], offset["silences"]
    assert isinstance(files, dict) and isinstance(silences, int)
    return {path: Position(*values) for path, values in files.items()}, silences
