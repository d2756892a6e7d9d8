"""Writes messages about failures of Spark workers, with the instrument, position, cause and remedy."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import SupportsInt

import numpy as np
import pandas as pd
import pyarrow as pa

from deltabook.schemas.errors import DeltabookError, WarehouseError, WorkError
from deltabook.udfs.storage.arrow_frames import GroupFunction, GroupKey

_DISK_FULL = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
_NOT_WRITABLE = [os.strerror(code) for code in (errno.EROFS, errno.EACCES, errno.EPERM)]
_FAILED_TASK = re.compile(r"Task (\d+) in stage \S+ failed \d+ times")
_DEATHS = ("Python worker exited unexpectedly", "ExecutorLostFailure")
_NOT_PUBLISHED = "nothing of this run is published, and what was published before stays readable"


def name_group_in_errors(function: GroupFunction, folder: str) -> GroupFunction:
    """Wrap a function so that its errors name the group that failed.

    Parameters
    ----------
    function : callable
        Function that processes one group. Notes that the function adds to an error say where in the group the
        error occurred.
    folder : str
        Folder of the warehouse that the function writes to.

    Returns
    -------
    callable
        Function that processes one group. Errors of deltabook's own classes pass unchanged. If the disk is
        full or not writable, a `WarehouseError` is raised. Any other error becomes a `WorkError` that names
        the group.
    """

    def work(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        frames = list(groups)
        try:
            yield from function(key, iter(frames))
        except DeltabookError:
            raise
        except Exception as error:
            if problem := describe_disk_problem(error, folder):
                raise WarehouseError(problem) from error
            rows = [
                {str(name): value for name, value in row.items()}
                for frame in frames
                for row in frame.to_dict("records")
            ]
            raise WorkError(_describe_failure(function, rows, error)) from error

    return work


def find_dead_task(trace: str) -> int | None:
    """Return the number of the task whose worker process or executor died on every attempt.

    Parameters
    ----------
    trace : str
        Text of Spark's error.

    Returns
    -------
    int or None
        Number of the task; None if the error has another cause.
    """
    match = _FAILED_TASK.search(trace)
    return int(match[1]) if match and any(death in trace for death in _DEATHS) else None


def describe_dead_worker(references: Sequence[Mapping[str, object]]) -> str:
    """Return the message for a group whose worker process died on every attempt.

    Parameters
    ----------
    references : sequence of mapping
        Rows of the group: dicts by column name.
    """
    group = ", ".join([*_name_group(references), *_name_chunks(references)])
    return (
        f"{group}: its worker process died on every attempt: killed for lack of memory, or crashed. "
        f"{_NOT_PUBLISHED.capitalize()}. Free memory, or run fewer tasks at once, for example with "
        "--master local[1], and run again"
    )


def describe_disk_problem(error: BaseException, folder: str) -> str:
    """Return a message with the remedy if the disk is full or not writable; empty for any other error.

    Parameters
    ----------
    error : BaseException
        Error of any library. Its text contains the operating system's own message.
    folder : str
        Folder that was being written to.
    """
    text = str(error)
    # If a copy failed, `filename2` is the file that was being written.
    path = getattr(error, "filename2", None) or getattr(error, "filename", None) or folder
    for reason in _DISK_FULL:
        if reason in text:
            return f"{path}: {reason.lower()}: {_NOT_PUBLISHED}. Free some space on this disk, and run again"
    for reason in _NOT_WRITABLE:
        # If a file outside the folder could not be read, the error already names the file.
        if reason in text and Path(path).is_relative_to(folder):
            return (
                f"{path} is not writable: {reason.lower()}. Fix its permissions, or choose another "
                "--warehouse"
            )
    return ""


def describe_batch(events: pa.RecordBatch) -> str:
    """Return the position of a batch of events as text: its chunk, its ids, and its rows of the raw files.

    Parameters
    ----------
    events : pyarrow.RecordBatch
        Columns of `flat_events`, with at least one row.
    """
    first, last = (events.slice(row, 1).to_pylist()[0] for row in (0, events.num_rows - 1))
    ends = [f"{row['source_file']}, row {row['source_row']}" for row in (first, last)]
    return (
        f"hour {_format_time(first['hour'])}, sequence {first['sequence']} to {last['sequence']} "
        f"({ends[0]}, to {ends[1]})"
    )


def _format_time(time: int) -> str:
    """Return a time, given in ns since 1970 UTC, as ISO 8601 text with whole seconds."""
    return f"{np.datetime64(int(time), 'ns').astype('datetime64[s]')}Z"


def _describe_failure(function: GroupFunction, rows: Sequence[Mapping[str, object]], error: Exception) -> str:
    """Return the message for an error: the group, the position, the line of code, the cause, the remedy."""
    group = ", ".join([*_name_group(rows), *(getattr(error, "__notes__", None) or _name_chunks(rows))])
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    line = ""
    if innermost:
        line = f" ({Path(innermost.tb_frame.f_code.co_filename).name}, line {innermost.tb_lineno})"
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"{group}: {function.__name__} failed{line}: {cause}. {_NOT_PUBLISHED.capitalize()}. Run again. If "
        "the run fails at the same position, leave the raw file out, and report this line"
    )


def _name_group(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the instrument of a group's rows, or the raw file if the rows have no instrument."""
    columns = [name for name in ("exchange", "symbol", "record") if name in rows[0]] or ["source_file"]
    return [" ".join(str(rows[0][name]) for name in columns)]


def _name_chunks(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return one text with the first and last chunk of a group's rows; empty if the rows have no chunk."""
    chunks = sorted(int(hour) for row in rows if isinstance(hour := row.get("hour"), SupportsInt))
    if not chunks:
        return []
    last = f" to {_format_time(chunks[-1])}" if len(chunks) > 1 else ""
    return [f"hour {_format_time(chunks[0])}{last}"]
