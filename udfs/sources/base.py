"""What every source of files shares: one task a file, blocks of whole lines, a verdict at the end."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from deltabook.schemas.errors import InputError
from deltabook.schemas.names import NOT_GIVEN
from deltabook.schemas.tables import RECORDS

BLOCK_BYTES = 8 << 20
"""Bytes that are parsed at a time; a block is one Arrow batch."""
LONGEST_LINE = 64 << 20
"""A longer line is no message: the file is refused instead of filling the memory."""
_GZIP_MAGIC = b"\x1f\x8b"

EMPTY_RECORD: dict[str, Any] = {
    column.name: {"BIGINT": NOT_GIVEN, "STRING": "", "BINARY": b"", "BOOLEAN": False, "ARRAY<BIGINT>": []}[
        column.type
    ]
    for column in RECORDS.columns
}
"""A record with every column at its sentinel."""


class FileSource(DataSource):
    """A source that reads files, one task a file.

    Options: `path` (one file) or `paths` (a JSON list of files), and `scales`, a JSON object
    ``{"EXCHANGE SYMBOL": [price_scale, size_scale]}`` for instruments that differ from their feed.

    A file that cannot be read to its end (truncated gzip, bad CRC, mixed time units) does not stop
    the others: its last record says ``record="file", kind="failed"`` with the reason, and whoever
    stores the records leaves out that file's.
    """

    def schema(self) -> str:
        """Return the columns of `records` as DDL."""
        return RECORDS.ddl

    def reader(self, schema: object) -> DataSourceReader:
        """Return the reader that Spark sends to its workers."""
        paths = json.loads(self.options["paths"]) if "paths" in self.options else [self.options["path"]]
        scales = {
            tuple(key.split(" ")): tuple(value)
            for key, value in json.loads(self.options.get("scales", "{}")).items()
        }
        return _Reader(self, paths, scales)

    def parse(self, stream: IO[bytes], path: str, scales: dict[Any, Any]) -> Iterator[pa.RecordBatch]:
        """Yield the records of one file.

        Parameters
        ----------
        stream : binary file
            The file's content, decompressed.
        path : str
            Its name, for `source_file`.
        scales : dict
            ``{(exchange, symbol): (price_scale, size_scale)}`` of the instruments set apart.

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


class _File(InputPartition):
    def __init__(self, path: str):
        super().__init__(path)


class _Reader(DataSourceReader):
    def __init__(self, source: FileSource, paths: Sequence[str], scales: dict[Any, Any]):
        self.source = source
        self.paths = paths
        self.scales = scales

    def partitions(self) -> Sequence[InputPartition]:
        return [_File(path) for path in self.paths]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        path = str(partition.value)
        state, reason = "read", ""
        try:
            with open_file(path) as stream:
                yield from self.source.parse(stream, path, self.scales)
        except (OSError, EOFError, zlib.error, InputError) as error:
            state, reason = "failed", f"{type(error).__name__}: {error}"
        yield to_batch([{"record": "file", "kind": state, "reason": reason, "source_file": path}])


def open_file(path: str) -> Any:
    """Open a file for reading, decompressing it if its first bytes say gzip, whatever its name."""
    with Path(path).open("rb") as raw:
        compressed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return gzip.open(path) if compressed else Path(path).open("rb")


def line_blocks(stream: IO[bytes], block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield blocks of whole lines; only the last may lack its newline.

    Raises
    ------
    InputError
        If a line is longer than `LONGEST_LINE`.
    """
    rest = b""
    while chunk := stream.read(block_bytes):
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


def to_batch(records: list[dict[str, Any]]) -> pa.RecordBatch:
    """Make a batch of a few records given as dicts; columns left out get their sentinels."""
    return pa.RecordBatch.from_pylist([EMPTY_RECORD | record for record in records], schema=RECORDS.arrow)
