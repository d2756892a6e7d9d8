"""Staged files: parsed records in Arrow's file format, before they are written to tables.

A stream consists of the records of one kind, exchange and symbol. Each staged file holds records of one
stream, from one part of one raw file. If a raw file is refused, its staged files are not used.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS, STAGED
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.file_source import FilePart, FileSource
from deltabook.udfs.sources.common.limits import Limits, too_many_symbols
from deltabook.udfs.storage.arrow_frames import GroupFunction, GroupKey, get_single_row, to_frame
from deltabook.udfs.storage.locations import parse_location
from deltabook.udfs.storage.object_store import create_file, open_input, open_mapped

_KEYS = ("record", "exchange", "symbol")
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")

_MOST_OPEN = 256
"""Largest number of staged files of one part that are open at once.

Many systems limit a process to 1,024 open files.
"""
_WAITING_BYTES = 64 << 20
"""Memory limit for waiting records, bytes. The records of a stream without an open file wait."""

Key = tuple[str, str, str]
"""Key of a stream: kind of record, exchange and symbol."""


class _StagedFields(TypedDict, total=False):
    """Columns of `staged` that differ between the files of one part."""

    record: str
    exchange: str
    symbol: str
    file: str
    records: int
    failed: bool
    source_row: int
    reason: str


class _Part(NamedTuple):
    """Row of `parts`: a raw file, the row groups to read from this file, and the name of its source.

    `row_groups` contains the index of the first row group to read, and the index after the last. An empty
    list means that the whole file is read.
    """

    source_file: str
    row_groups: list[int]
    source: str


class _OpenFile(NamedTuple):
    """A staged file that is being written: its row of `staged`, its writer and its output stream."""

    row: _StagedFields
    writer: pa.ipc.RecordBatchFileWriter
    sink: pa.NativeFile


def stage_groups(sources: Mapping[str, type[FileSource]], folder: str, limits: Limits) -> GroupFunction:
    """Return the function with which Spark parses one part of a raw file into staged files.

    Parameters
    ----------
    sources : mapping
        {name: source}.
    folder : str
        Folder or object store prefix of the staged files.
    limits : Limits
        Limits on the sizes of files and messages, and on the number of symbols.

    Returns
    -------
    callable
        A function for `udfs.spark.packing.make_task_function`. It takes one row of `parts` and yields rows of
        `staged`: one row for each staged file, then one row with the outcome of the part. If the part cannot
        be read to its end, or has too many symbols, the function yields only the row with the outcome.
    """

    def stage(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        part = get_single_row(groups, _Part)
        path, rows = str(part.source_file), [int(row) for row in part.row_groups]
        reader = sources[str(part.source)]({"path": path} | limits.to_options()).reader(None)
        files = _StagedFiles(folder, int(key[0]), limits.most_symbols)
        end: _StagedFields = {
            "record": "file",
            "exchange": "",
            "symbol": "",
            "file": "",
            "records": 0,
            "failed": False,
            "reason": "",
        }
        try:
            for batch in reader.read(FilePart(path, (rows[0], rows[1]) if rows else None)):
                if outcome := _read_outcome(batch):
                    end |= outcome
                else:
                    files.add(batch)
        except InputError as error:
            end |= {"reason": str(error), "failed": True}
        common = {"part": int(key[0]), "source_file": path, "source_row": NOT_GIVEN}
        staged = files.discard() if end["failed"] else files.close()
        rows_out = [common | {"failed": False, "reason": ""} | row for row in [*staged, end]]
        yield to_frame(pa.RecordBatch.from_pylist(rows_out, schema=STAGED.arrow))

    return stage


def read_staged(file: str, *names: str) -> pa.Table:
    """Read a staged file.

    Parameters
    ----------
    file : str
        Path of the staged file.
    *names : str
        Columns of `records` to read; without names, all columns.

    Returns
    -------
    pyarrow.Table
        The columns, in the order of `records`.
    """
    with open_mapped(file) as stream:
        return pa.ipc.open_file(stream, options=_select_columns(names)).read_all()


def read_staged_batches(file: str) -> Iterator[pa.Table]:
    """Read a staged file batch by batch.

    Parameters
    ----------
    file : str
        Path of the staged file.

    Yields
    ------
    pyarrow.Table
        Columns of `records`; one batch of the staged file.
    """
    with open_mapped(file) as stream:
        staged = pa.ipc.open_file(stream)
        for number in range(staged.num_record_batches):
            yield pa.Table.from_batches([staged.get_batch(number)])


def read_staged_between(file: str, first: int, end: int | None) -> pa.Table:
    """Read the records of a staged file whose ids lie in a range.

    Batches without such records are not read in full.

    Parameters
    ----------
    file : str
        Path of the staged file.
    first : int
        Lowest id, inclusive.
    end : int or None
        End of the range of ids, exclusive; None: no limit.

    Returns
    -------
    pyarrow.Table
        Columns of `records`.
    """
    with open_input(file) as stream:
        ids = pa.ipc.open_file(stream, options=_select_columns(("sequence",)))
        whole = pa.ipc.open_file(stream)
        parts = []
        for number in range(ids.num_record_batches):
            sequence = ids.get_batch(number)["sequence"]
            is_inside = pc.greater_equal(sequence, first)
            if end is not None:
                is_inside = pc.and_(is_inside, pc.less(sequence, end))
            count = pc.sum(is_inside).as_py() or 0
            if count:
                batch = whole.get_batch(number)
                parts.append(batch if count == batch.num_rows else batch.filter(is_inside))
        return pa.Table.from_batches(parts, schema=RECORDS.arrow)


def _select_columns(names: tuple[str, ...]) -> pa.ipc.IpcReadOptions:
    return pa.ipc.IpcReadOptions(included_fields=[RECORDS.names.index(name) for name in names] or None)


def _read_outcome(batch: pa.RecordBatch) -> _StagedFields:
    """Return `reason` and `failed` of a part; an empty dict if the batch is not the part's last batch."""
    # `as_py` of one value is cheaper than `to_pylist` of the row: a message may have thousands of levels.
    if batch["record"][-1].as_py() != "file":
        return {}
    last = batch.slice(batch.num_rows - 1).to_pylist()[0]
    return {"reason": last["reason"], "failed": last["kind"] == "failed"}


class _StagedFiles:
    """Writes the staged files of one part.

    The first `_MOST_OPEN` streams have one file each, which stays open until the end. Records of further
    streams wait in memory. When waiting records fill `_WAITING_BYTES`, they are written to one new file per
    stream. So a further stream may have several files.

    Parameters
    ----------
    folder : str
        Folder or object store prefix of the staged files.
    part : int
        Number of the part.
    most_symbols : int
        Largest number of symbols that a part may have.
    """

    def __init__(self, folder: str, part: int, most_symbols: int):
        self.folder = parse_location(folder)
        self.part = part
        self.most_symbols = most_symbols
        self.symbols: set[tuple[str, str]] = set()
        self.rows: list[_StagedFields] = []
        self.open: dict[Key, _OpenFile] = {}
        self.waiting: list[pa.RecordBatch] = []
        self.waiting_bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Write the records of a batch, or keep them waiting in memory.

        Raises
        ------
        InputError
            If the part has too many symbols.
        """
        batch, streams = _split_by_stream(batch)
        self.symbols.update(key[1:] for key, _, _ in streams if key[0] != "quarantine")
        if len(self.symbols) > self.most_symbols:
            raise InputError(too_many_symbols(len(self.symbols), self.most_symbols))
        is_waiting = np.zeros(batch.num_rows, np.bool_)
        for key, start, end in streams:
            records = batch.slice(start, end - start)
            if key not in self.open and len(self.open) < _MOST_OPEN:
                self.open[key] = self._create_file(key, records)
            if key not in self.open:
                is_waiting[start:end] = True
                continue
            row, writer, _ = self.open[key]
            row["records"] += records.num_rows
            writer.write_batch(records)
        if is_waiting.any():
            self.waiting.append(batch.filter(pa.array(is_waiting)))
            self.waiting_bytes += self.waiting[-1].nbytes
            if self.waiting_bytes > _WAITING_BYTES:
                self._write_waiting()

    def close(self) -> list[_StagedFields]:
        """Write the waiting records, close all files, and return the rows of `staged`, sorted by stream."""
        self._write_waiting()
        self._close_open()
        return sorted(self.rows, key=lambda row: (row["record"], row["exchange"], row["symbol"]))

    def discard(self) -> list[_StagedFields]:
        """Drop the waiting records of a refused part, close all files, and return an empty list."""
        self.waiting.clear()
        self._close_open()
        return []

    def _close_open(self) -> None:
        for _, writer, sink in self.open.values():
            writer.close()
            sink.close()

    def _create_file(self, key: Key, first: pa.RecordBatch) -> _OpenFile:
        """Create a staged file for a stream whose first records are `first`; add a row to `self.rows`."""
        # File names sort like the parts. So the messages of one recording are read in recorded order.
        file = self.folder / f"{self.part:08}-{len(self.rows):08}-{uuid.uuid4()}.arrow"
        row: _StagedFields = {"record": key[0], "exchange": key[1], "symbol": key[2]}
        row |= {"file": str(file), "records": 0}
        if key[0] == "quarantine":
            unreadable = first.slice(0, 1).to_pylist()[0]
            row |= {"source_row": unreadable["source_row"], "reason": unreadable["reason"]}
        self.rows.append(row)
        sink = create_file(file)
        return _OpenFile(row, pa.ipc.new_file(sink, RECORDS.arrow, options=_OPTIONS), sink)

    def _write_waiting(self) -> None:
        if not self.waiting:
            return
        batches = pa.Table.from_batches(self.waiting).combine_chunks().to_batches()
        self.waiting, self.waiting_bytes = [], 0
        for waiting in batches:
            batch, streams = _split_by_stream(waiting)
            for key, start, end in streams:
                records = batch.slice(start, end - start)
                row, writer, sink = self._create_file(key, records)
                row["records"] = records.num_rows
                writer.write_batch(records)
                writer.close()
                sink.close()


def _split_by_stream(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[Key, int, int]]]:
    """Return the batch sorted by stream, and (key, first row, row after the last) of each stream in it."""
    codes = np.zeros(batch.num_rows, dtype=np.int64)
    for name in _KEYS:
        encoded = batch[name].dictionary_encode()
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
    if len(codes) and (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        batch, codes = batch.take(pa.array(order)), codes[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    named = zip(*(batch[name].take(pa.array(starts)).to_pylist() for name in _KEYS), strict=True)
    ends = [*starts[1:].tolist(), batch.num_rows]
    return batch, list(zip(named, starts.tolist(), ends, strict=True))
