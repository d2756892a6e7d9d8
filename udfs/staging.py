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

from deltabook.schemas.frames import RECORDS, STAGED
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.frames import Group, only_row, to_frame
from deltabook.udfs.sources.base import FilePart, FileSource
from deltabook.udfs.storage import created, located, mapped, opened

_KEYS = ("record", "exchange", "symbol")
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")

Key = tuple[str, str, str]
"""Record, exchange and symbol."""


def stage_groups(source: type[FileSource], folder: str) -> Group:
    """Make the function that parses one part of a raw file into staged files.

    Parameters
    ----------
    source : subclass of FileSource
        Reads it.
    folder : str
        Where to stage.

    Returns
    -------
    callable
        For `packed`, grouped by part: one row of `parts` in, rows of `staged` out.
    """

    def stage(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        reference = only_row(groups)
        path, rows = str(reference.source_file), [int(row) for row in reference.row_groups]
        reader = source({"path": path}).reader(None)
        files = _Files(folder, int(key[0]))
        end = {"record": "file", "exchange": "", "symbol": "", "file": "", "records": 0}
        for batch in reader.read(FilePart(path, (rows[0], rows[1]) if rows else None)):
            for stream, records in _by_stream(batch):
                if stream[0] == "file":
                    last = records.to_pylist()[-1]
                    end |= {"reason": last["reason"], "failed": last["kind"] == "failed"}
                else:
                    files.add(stream, records)
        common = {"part": int(key[0]), "source_file": path, "source_row": NOT_GIVEN}
        told = [common | {"failed": False, "reason": ""} | row for row in [*files.close(), end]]
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


class _Files:
    """The staged files of one part, a stream each."""

    def __init__(self, folder: str, part: int):
        self.folder = located(folder)
        self.part = part
        self.rows: dict[Key, dict[str, Any]] = {}
        self.writers: dict[Key, pa.ipc.RecordBatchFileWriter] = {}
        self.sinks: list[Any] = []

    def add(self, stream: Key, records: pa.RecordBatch) -> None:
        if stream not in self.rows:
            # Names sort as the parts do: one recording's messages are met in its own order.
            file = self.folder / f"{self.part:08}-{uuid.uuid4()}.arrow"
            self.sinks.append(created(file))
            self.writers[stream] = pa.ipc.new_file(self.sinks[-1], RECORDS.arrow, options=_OPTIONS)
            self.rows[stream] = dict(zip(_KEYS, stream, strict=True)) | {"file": str(file), "records": 0}
            if stream[0] == "quarantine":
                first = records.slice(0, 1).to_pylist()[0]
                self.rows[stream] |= {name: first[name] for name in ("source_row", "reason")}
        self.rows[stream]["records"] += records.num_rows
        self.writers[stream].write_batch(records)

    def close(self) -> list[dict[str, Any]]:
        for closed in (*self.writers.values(), *self.sinks):
            closed.close()
        return [self.rows[stream] for stream in sorted(self.rows)]


def _by_stream(batch: pa.RecordBatch) -> Iterator[tuple[Key, pa.RecordBatch]]:
    """Split a batch by stream, in its own order."""
    codes = np.zeros(batch.num_rows, dtype=np.int64)
    for name in _KEYS:
        encoded = batch[name].dictionary_encode()
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy()
    found, firsts = np.unique(codes, return_index=True)
    for code, first in zip(found.tolist(), firsts.tolist(), strict=True):
        record, exchange, symbol = (str(batch[name][first]) for name in _KEYS)
        yield (
            (record, exchange, symbol),
            (batch if len(found) == 1 else batch.filter(pa.array(codes == code))),
        )
