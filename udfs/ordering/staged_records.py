"""Parsed records on their way into the tables: files in Arrow's own format, one a stream and part.

Each holds records of one exchange, symbol and kind, of one raw file: a raw file that is refused
is left out with its files.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.errors import InputError
from deltabook.schemas.frames import RECORDS, STAGED
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.sources.common.file_source import FilePart, FileSource
from deltabook.udfs.sources.common.limits import Limits, too_many_symbols
from deltabook.udfs.storage.arrow_frames import Group, only_row, to_frame
from deltabook.udfs.storage.object_store import created, located, mapped, opened

_KEYS = ("record", "exchange", "symbol")
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")

_MOST_OPEN = 256
"""Staged files of one part that are open at once: a process may often have no more than 1,024."""
_WAITING_BYTES = 64 << 20
"""Bytes of records that wait for a file."""

Key = tuple[str, str, str]
"""Record, exchange and symbol."""


def stage_groups(source: type[FileSource], folder: str, limits: Limits) -> Group:
    """Make the function that parses one part of a raw file into staged files.

    Parameters
    ----------
    source : subclass of FileSource
        Reads it.
    folder : str
        Where to stage.
    limits : Limits
        What a file and a message may hold.

    Returns
    -------
    callable
        For `packed`, grouped by part: one row of `parts` in, rows of `staged` out. Of a part that could not
        be read, or that names too many symbols, only the end is told.
    """

    def stage(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        reference = only_row(groups)
        path, rows = str(reference.source_file), [int(row) for row in reference.row_groups]
        reader = source({"path": path} | limits.options()).reader(None)
        files = _Files(folder, int(key[0]), limits.most_symbols)
        end = {"record": "file", "exchange": "", "symbol": "", "file": "", "records": 0}
        try:
            for batch in reader.read(FilePart(path, (rows[0], rows[1]) if rows else None)):
                if outcome := _outcome(batch):
                    end |= outcome
                else:
                    files.add(batch)
        except InputError as error:
            end |= {"reason": str(error), "failed": True}
        common = {"part": int(key[0]), "source_file": path, "source_row": NOT_GIVEN}
        staged = files.discard() if end["failed"] else files.close()
        told = [common | {"failed": False, "reason": ""} | row for row in [*staged, end]]
        yield to_frame(pa.RecordBatch.from_pylist(told, schema=STAGED.arrow))

    return stage


def read_staged(file: str, *names: str) -> pa.Table:
    """Read a staged file.

    Parameters
    ----------
    file : str
        Its path.
    *names : str
        Columns of `records`; none: all.

    Returns
    -------
    pyarrow.Table
        Those columns, in the order of `records`.
    """
    with mapped(file) as stream:
        return pa.ipc.open_file(stream, options=_columns(names)).read_all()


def staged_batches(file: str) -> Iterator[pa.Table]:
    """Read a staged file batch by batch.

    Parameters
    ----------
    file : str
        Its path.

    Yields
    ------
    pyarrow.Table
        Columns of `records`; of one batch, as it was staged.
    """
    with mapped(file) as stream:
        staged = pa.ipc.open_file(stream)
        for number in range(staged.num_record_batches):
            yield pa.Table.from_batches([staged.get_batch(number)])


def read_staged_between(file: str, first: int, end: int | None) -> pa.Table:
    """Read the records of a staged file whose ids lie in a range; batches without any are passed over.

    Parameters
    ----------
    file : str
        Its path.
    first, end : int
        Least id, and the id after the greatest; None: no end.

    Returns
    -------
    pyarrow.Table
        Columns of `records`.
    """
    with opened(file) as stream:
        ids = pa.ipc.open_file(stream, options=_columns(("sequence",)))
        whole = pa.ipc.open_file(stream)
        found = []
        for number in range(ids.num_record_batches):
            sequence = ids.get_batch(number)["sequence"]
            wanted = pc.greater_equal(sequence, first)
            if end is not None:
                wanted = pc.and_(wanted, pc.less(sequence, end))
            count = pc.sum(wanted).as_py() or 0
            if count:
                batch = whole.get_batch(number)
                found.append(batch if count == batch.num_rows else batch.filter(wanted))
        return pa.Table.from_batches(found, schema=RECORDS.arrow)


def _columns(names: tuple[str, ...]) -> pa.ipc.IpcReadOptions:
    return pa.ipc.IpcReadOptions(included_fields=[RECORDS.names.index(name) for name in names] or None)


def _outcome(batch: pa.RecordBatch) -> dict[str, Any]:
    """Return what a batch tells of the end of its file; nothing if it is of messages."""
    if batch["record"][-1].as_py() != "file":  # the others' last message may have thousands of levels
        return {}
    last = batch.slice(batch.num_rows - 1).to_pylist()[0]
    return {"reason": last["reason"], "failed": last["kind"] == "failed"}


class _Files:
    """The staged files of one part.

    The first streams have a file each, open until the end. Records of the others wait until they fill
    the room for them; then each of their streams gets a file, and may get another later.
    """

    def __init__(self, folder: str, part: int, most_symbols: int):
        self.folder = located(folder)
        self.part = part
        self.most_symbols = most_symbols
        self.symbols: set[tuple[str, str]] = set()
        self.rows: list[dict[str, Any]] = []
        self.open: dict[Key, tuple[dict[str, Any], pa.ipc.RecordBatchFileWriter, Any]] = {}
        self.waiting: list[pa.RecordBatch] = []
        self.waiting_bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Write a batch, or keep what has to wait; raises InputError if there are too many symbols."""
        batch, streams = _in_streams(batch)
        self.symbols.update(key[1:] for key, _, _ in streams if key[0] != "quarantine")
        if len(self.symbols) > self.most_symbols:
            raise InputError(too_many_symbols(len(self.symbols), self.most_symbols))
        late = np.zeros(batch.num_rows, np.bool_)
        for key, start, end in streams:
            records = batch.slice(start, end - start)
            if key not in self.open and len(self.open) < _MOST_OPEN:
                self.open[key] = self._created(key, records)
            if key not in self.open:
                late[start:end] = True
                continue
            row, writer, _ = self.open[key]
            row["records"] += records.num_rows
            writer.write_batch(records)
        if late.any():
            self.waiting.append(batch.filter(pa.array(late)))
            self.waiting_bytes += self.waiting[-1].nbytes
            if self.waiting_bytes > _WAITING_BYTES:
                self._write_waiting()

    def close(self) -> list[dict[str, Any]]:
        """Complete the files; return their rows of `staged`, sorted by stream."""
        self._write_waiting()
        self._close_open()
        return sorted(self.rows, key=lambda row: tuple(row[name] for name in _KEYS))

    def discard(self) -> list[dict[str, Any]]:
        """Leave out the records of a part that is refused; return no file."""
        self.waiting.clear()
        self._close_open()
        return []

    def _close_open(self) -> None:
        for _, writer, sink in self.open.values():
            writer.close()
            sink.close()

    def _created(self, key: Key, first: pa.RecordBatch) -> tuple[dict[str, Any], Any, Any]:
        # Names sort as the parts and their files do: one recording's messages are met in its own order.
        file = self.folder / f"{self.part:08}-{len(self.rows):08}-{uuid.uuid4()}.arrow"
        row = dict(zip(_KEYS, key, strict=True)) | {"file": str(file), "records": 0}
        if key[0] == "quarantine":
            unreadable = first.slice(0, 1).to_pylist()[0]
            row |= {name: unreadable[name] for name in ("source_row", "reason")}
        self.rows.append(row)
        sink = created(file)
        return row, pa.ipc.new_file(sink, RECORDS.arrow, options=_OPTIONS), sink

    def _write_waiting(self) -> None:
        if not self.waiting:
            return
        whole = pa.Table.from_batches(self.waiting).combine_chunks().to_batches()
        self.waiting, self.waiting_bytes = [], 0
        for part in whole:
            batch, streams = _in_streams(part)
            for key, start, end in streams:
                records = batch.slice(start, end - start)
                row, writer, sink = self._created(key, records)
                row["records"] = records.num_rows
                writer.write_batch(records)
                writer.close()
                sink.close()


def _in_streams(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[Key, int, int]]]:
    """Sort a batch by stream, each in its own order; return it, and the first row and end of each stream."""
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
