"""Writes and reads state files; a state file stores one live book from one micro-batch to the next.

A state file contains the book as a row of `checkpoints`, and the waiting messages. Waiting messages were
read, but are not yet applied to the book (see `settled_messages`).
"""

from __future__ import annotations

import uuid
from pathlib import Path

import pyarrow as pa

STATES = "states"
"""Name of the folder with the state files, a subfolder of the folder of the live tables."""
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def write_state(root: str, row: pa.RecordBatch, waiting: pa.Table) -> str:
    """Write the state of a live book to a new file.

    Parameters
    ----------
    root : str
        Folder of the live tables.
    row : pyarrow.RecordBatch
        The book as a row of `checkpoints` or `checkpoints_decimal`.
    waiting : pyarrow.Table
        Waiting messages, with the columns of `flat_events`. Prices and sizes have the types of the table that
        `row` belongs to.

    Returns
    -------
    str
        Name of the new file in the folder `STATES`.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, waiting.schema) as writer:
        writer.write_table(waiting)
    state = row.append_column("waiting", pa.array([sink.getvalue().to_pybytes()], pa.binary()))
    folder, name = Path(root) / STATES, f"{uuid.uuid4()}.arrow"
    folder.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_file(str(folder / name), state.schema, options=_OPTIONS) as file:
        file.write_batch(state)
    return name


def read_state(root: str, name: str) -> tuple[pa.Table, pa.Table]:
    """Read the state of a live book.

    Parameters
    ----------
    root : str
        Folder of the live tables.
    name : str
        Name of the file in the folder `STATES`, as `write_state` returned it.

    Returns
    -------
    (row, waiting) : (pyarrow.Table, pyarrow.Table)
        The book as a row of `checkpoints` or `checkpoints_decimal`, and the waiting messages.
    """
    with pa.OSFile(str(Path(root) / STATES / name)) as stream:
        state = pa.ipc.open_file(stream).read_all()
    return state, pa.ipc.open_stream(state["waiting"][0].as_py()).read_all()
