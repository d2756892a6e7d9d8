"""The stream of a growing folder of captures: a Python data source for Structured Streaming.

Its offset tells of each file how many bytes and lines were read, and how often the whole feed has been
silent. A micro-batch is what lies between two offsets: it can be read again, with the same result.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition

from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS
from deltabook.udfs.sources.binance.depth_csv import is_depth_csv
from deltabook.udfs.sources.common.file_source import FileSource, open_file
from deltabook.udfs.sources.common.limits import Limits, too_many_symbols
from deltabook.udfs.sources.common.records import Records
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.streaming.growing_files import Follower, Position

_CONTEXT = 64 << 10
_WORTH_A_TASK = 1 << 20

Offset = dict[str, Any]
"""`files`: position of each by path; `silences`: how often the feed has been silent for its patience."""
START: Offset = {"files": {}, "silences": 0}


class LiveSource(DataSource):
    """Reads what is new in the files of a folder.

    Options: `source` (a name of `SOURCES`), `folder`, `offset` (JSON: where the last run ended),
    `most_bytes` (of a micro-batch), `patience` (seconds without anything new that are a silence; -1: none),
    and the fields of `Limits`.
    """

    @classmethod
    def name(cls) -> str:
        """Return the name for `spark.readStream.format`."""
        return "deltabook_live"

    def schema(self) -> str:
        """Return the columns of `records` as DDL."""
        return RECORDS.ddl

    def streamReader(self, schema: object) -> DataSourceStreamReader:  # noqa: N802
        """Return the reader, which Spark asks for offsets and sends to its workers."""
        return _Reader(dict(self.options))


Lines = tuple[str, Position, Position]
"""Lines of one file: its path, and the positions before and behind them."""


class _Reader(DataSourceStreamReader):
    def __init__(self, options: dict[str, str]):
        self.source: FileSource = SOURCES[options["source"]](Limits.of(options).options())
        self.patience = float(options["patience"])
        offset = json.loads(options["offset"])
        self.silences = int(offset["silences"])
        self.follower = Follower(Path(options["folder"]), _positions(offset), int(options["most_bytes"]))
        self.grown = time.monotonic()
        self.is_silent = False

    def initialOffset(self) -> Offset:  # noqa: N802
        return START

    def latestOffset(self) -> Offset:  # noqa: N802
        before = dict(self.follower.at)
        found = self.follower.look()
        now = time.monotonic()
        if any(position != before.get(path) for path, position in found.items()):
            self.grown, self.is_silent = now, False
        elif 0 <= self.patience <= now - self.grown and not self.is_silent:
            self.silences, self.is_silent = self.silences + 1, True
        return {"files": found, "silences": self.silences}

    def partitions(self, start: Offset, end: Offset) -> Sequence[InputPartition]:
        before, ends = _positions(start), _positions(end)
        # A micro-batch that is done again is one that this reader has not found itself.
        self.follower.at = {**self.follower.at, **ends}
        self.silences = max(self.silences, int(end["silences"]))
        lines = ((path, before.get(path, Position()), behind) for path, behind in ends.items())
        return [InputPartition(part) for part in _parted([one for one in lines if one[1] != one[2]])]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        for lines in partition.value:
            yield from read_lines(self.source, *lines)


def read_lines(source: FileSource, path: str, start: Position, end: Position) -> Iterator[pa.RecordBatch]:
    """Parse some lines of a file as if the file were read whole.

    A parser learns from the lines before: the unit of times, which books a file has, the last message of
    each. It is given the first and the last 64 KB before, and what it makes of them is left out.

    Parameters
    ----------
    source : FileSource
        Parses them; every line is a message of its own.
    path : str
        The file.
    start, end : Position
        Behind which line, and up to which.

    Yields
    ------
    pyarrow.RecordBatch
        In the schema of `records`. Where the rest of the lines had to be refused, the last record is in
        quarantine, and says why.
    """
    with open_file(path) as stream:
        context = _before(stream, start)
        stream.seek(start.bytes)
        lines = stream.read(end.bytes - start.bytes)
    skipped, last = context.count(b"\n"), 0
    try:
        if is_depth_csv(context + lines):
            raise InputError("a table of rows, several of which make a message, is for `deltabook run`")
        symbols: set[tuple[str, str]] = set()
        most = source.limits.most_symbols
        for batch in source.parse(io.BytesIO(context + lines), path):
            named = pa.table([batch["exchange"], batch["symbol"]], ["exchange", "symbol"])
            found = named.group_by(named.column_names).aggregate([]).to_pylist()
            symbols.update((row["exchange"], row["symbol"]) for row in found if row["symbol"])
            if len(symbols) > most:
                raise InputError(too_many_symbols(len(symbols), most))
            rows = batch["source_row"].to_numpy()
            last = max(last, int(rows.max(initial=0)))
            yield _placed(batch.filter(pa.array(rows > skipped)), start.rows - skipped)
    except InputError as error:
        refused = Records(path)
        row, whole = start.rows + 1 + max(last - skipped, 0), f"line {start.rows + 1} to {end.rows}"
        refused.quarantine(row, b"", f"{whole}: what follows is refused: {error}")
        yield refused.batch()


def _parted(lines: list[Lines]) -> Iterator[list[Lines]]:
    """Share files out to tasks; what is little is read by one."""
    part: list[Lines] = []
    for one in lines:
        part.append(one)
        if sum(end.bytes - start.bytes for _, start, end in part) >= _WORTH_A_TASK:
            yield part
            part = []
    if part:
        yield part


def _before(stream: IO[bytes], start: Position) -> bytes:
    head = stream.read(min(start.bytes, _CONTEXT))
    head = head[: head.rfind(b"\n") + 1]
    tail_at = max(len(head), start.bytes - _CONTEXT)
    stream.seek(tail_at)
    tail = stream.read(start.bytes - tail_at)
    # Cut anywhere, it begins within a line.
    return head + (tail if tail_at == len(head) else tail[tail.find(b"\n") + 1 :])


def _placed(batch: pa.RecordBatch, shift: int) -> pa.RecordBatch:
    """Give records their row in the file."""
    at = RECORDS.names.index("source_row")
    return batch.set_column(at, RECORDS.arrow.field(at), pc.add(batch["source_row"], shift))


def _positions(offset: Offset) -> dict[str, Position]:
    return {path: Position(*found) for path, found in offset["files"].items()}
