"""What a person is told when a worker's function fails: whose work it was, where in it, why, what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from deltabook.schemas.errors import DeltabookError, WarehouseError, WorkError
from deltabook.udfs.storage.arrow_frames import Group

_FULL = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
_SHUT = [os.strerror(code) for code in (errno.EROFS, errno.EACCES, errno.EPERM)]
_TASK = re.compile(r"Task (\d+) in stage \S+ failed \d+ times")
_DIED = ("Python worker exited unexpectedly", "ExecutorLostFailure")
_STAYS = "nothing of this run is published, and what was published before stays readable"


def naming(function: Group, folder: str) -> Group:
    """Let a worker's function say whose work it was at when it failed.

    Parameters
    ----------
    function : callable
        Takes one group. Notes that its errors carry tell the place.
    folder : str
        Of the warehouse, into which it writes.

    Returns
    -------
    callable
        Does the same. An error of deltabook's own passes; any other becomes one that names the group.
    """

    def work(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        frames = list(groups)
        try:
            yield from function(key, iter(frames))
        except DeltabookError:
            raise
        except Exception as error:
            if told := disk_problem(error, folder):
                raise WarehouseError(told) from error
            rows: list[Any] = [row for frame in frames for row in frame.to_dict("records")]
            raise WorkError(_told(function, rows, error)) from error

    return work


def dead_task(trace: str) -> int | None:
    """Return the number of the task whose worker process, or cluster executor, died whenever it was tried.

    Parameters
    ----------
    trace : str
        Text of Spark's error.

    Returns
    -------
    int or None
        None if the error is of another kind.
    """
    found = _TASK.search(trace)
    return int(found[1]) if found and any(died in trace for died in _DIED) else None


def dead_worker(references: Sequence[Mapping[str, Any]]) -> str:
    """Write the line for a worker that died each time that it was tried.

    Parameters
    ----------
    references : sequence of mapping
        The group that it was working on.
    """
    who = ", ".join([*_whose(references), *_hours(references)])
    return (
        f"{who}: its worker process died, and again when it was tried again: killed for want of memory, or "
        f"crashed. {_STAYS.capitalize()}. Free memory, or let fewer run at once, as with --master local[1], "
        "and run again"
    )


def disk_problem(error: BaseException, folder: str) -> str:
    """Tell what to do where the disk is full or cannot be written; empty if the error is of another kind.

    Parameters
    ----------
    error : BaseException
        Whatever was raised: libraries wrap the system's own words, which tell it.
    folder : str
        What was being written.
    """
    text = str(error)
    # Of a copy, the second name is the one that is written.
    named = getattr(error, "filename2", None) or getattr(error, "filename", None) or folder
    for reason in _FULL:
        if reason in text:
            return f"{named}: {reason.lower()}: {_STAYS}. Free some space there, and run again"
    for reason in _SHUT:
        # What could not be read is named by the error itself.
        if reason in text and Path(named).is_relative_to(folder):
            return (
                f"{named} cannot be written: {reason.lower()}. Let it be written, or name another --warehouse"
            )
    return ""


def place_of(events: pa.RecordBatch) -> str:
    """Tell where a batch of events lies: its hour, its ids, and its rows of the raw file.

    Parameters
    ----------
    events : pyarrow.RecordBatch
        Columns of `flat_events`, one row at least.
    """
    first, last = (events.slice(row, 1).to_pylist()[0] for row in (0, events.num_rows - 1))
    ends = [f"{row['source_file']}, row {row['source_row']}" for row in (first, last)]
    return (
        f"hour {_iso(first['hour'])}, sequence {first['sequence']} to {last['sequence']} "
        f"({ends[0]}, to {ends[1]})"
    )


def _iso(time: int) -> str:
    return f"{np.datetime64(int(time), 'ns').astype('datetime64[s]')}Z"


def _told(function: Group, rows: Sequence[Mapping[str, Any]], error: Exception) -> str:
    """Write one line: whose, where, what, and the remedy."""
    who = ", ".join([*_whose(rows), *(getattr(error, "__notes__", None) or _hours(rows))])
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    line = f" ({Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno})" if at else ""
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"{who}: {function.__name__} failed{line}: {cause}. {_STAYS.capitalize()}. Run again; if it fails "
        "there again, leave that file out, and report this line"
    )


def _whose(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the instrument of a group, or the raw file whose part it is."""
    named = [name for name in ("exchange", "symbol", "record") if name in rows[0]] or ["source_file"]
    return [" ".join(str(rows[0][name]) for name in named)]


def _hours(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    hours = sorted(int(row["hour"]) for row in rows if "hour" in row)
    if not hours:
        return []
    return [f"hour {_iso(hours[0])}" + (f" to {_iso(hours[-1])}" if len(hours) > 1 else "")]
