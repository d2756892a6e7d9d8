"""Compute and check the seals of `runs`.

The seal of a row is the SHA-256 of its other columns. A seal that does not match shows that the row is
damaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq

from deltabook.schemas.rows import RunRow, UnsealedRun
from deltabook.schemas.tables import RUNS
from deltabook.udfs.storage.object_store import open_input


def compute_seal(run: UnsealedRun) -> str:
    """Return the seal of a row of `runs`: the SHA-256 of its other columns, as 64 hex digits.

    Parameters
    ----------
    run : UnsealedRun
        Row of `runs`. The column `seal` is ignored if it is present.
    """
    values: Mapping[str, object] = run
    columns = {name: values[name] for name in RUNS.names if name != "seal"}
    columns["versions"] = sorted(dict(run["versions"]).items())
    return hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest()


def is_seal_valid(run: RunRow) -> bool:
    """Return whether the seal of a row of `runs` matches its other columns.

    Parameters
    ----------
    run : RunRow
        Row of `runs` as read from its file. If the file is damaged, values may have the wrong type.
    """
    try:
        return compute_seal(run) == run["seal"] and isinstance(json.loads(run["proofs"]), dict)
    except (TypeError, ValueError, AttributeError):
        return False


def read_sealed_rows(file: Path) -> list[RunRow]:
    """Return the rows of a data file of `runs`; empty if the file is unreadable or a seal does not match.

    Parameters
    ----------
    file : Path
        Data file of `runs`, or a second copy of one.
    """
    try:
        with open_input(file) as stream:
            rows = pq.read_table(stream, columns=[*RUNS.names]).to_pylist()
    except Exception:  # damaged Parquet raises Arrow errors, OSError, UnicodeDecodeError ...
        return []
    return cast(list[RunRow], rows) if all(map(is_seal_valid, rows)) else []


def read_proven_paths(files: Iterable[Path]) -> set[str]:
    """Return the paths of those files of `written` whose hashes are in the `proofs` of data files of `runs`.

    Parameters
    ----------
    files : iterable of Path
        Data files of `runs`, or second copies of data files of `runs`. A file is skipped if it is unreadable,
        or if the seal of one of its rows does not match.

    Returns
    -------
    set of str
        Paths below the folder of `written`.
    """
    return collect_proven_paths(run for file in files for run in read_sealed_rows(file))


def collect_proven_paths(runs: Iterable[RunRow]) -> set[str]:
    """Return the paths of the files of `written` whose hashes are in the column `proofs` of rows of `runs`.

    Parameters
    ----------
    runs : iterable of RunRow
        Rows whose seal matches.

    Returns
    -------
    set of str
        Paths below the folder of `written`.
    """
    return {path for run in runs for path in json.loads(run["proofs"])}
