"""States of live books between two micro-batches: a row of `checkpoints`, and the messages that wait."""

from __future__ import annotations

import uuid
from pathlib import Path

import pyarrow as pa

STATES = "states"
"""Their folder, in that of the live tables."""
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def write_state(root: str, row: pa.RecordBatch, waiting: pa.Table) -> str:
    """Write a state.

    Parameters
    ----------
    root : str
        Folder of the live tables.
    row : pyarrow.RecordBatch
        A row of `checkpoints` or `checkpoints_decimal`.
    waiting : pyarrow.Table
        Columns of `flat_events`, prices and sizes as that table has them.

    Returns
    -------
    str
        Name of its file.
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
    """Read a state: its row of `checkpoints`, and the messages that wait.

    Parameters
    ----------
    root : str
        Folder of the live tables.
    name : str
        Of its file.
    """
    with pa.OSFile(str(Path(root) / STATES / name)) as stream:
        state = pa.ipc.open_file(stream).read_all()
    return state, pa.ipc.open_stream(state["waiting"][0].as_py()).read_all()
