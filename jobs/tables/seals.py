"""The seal of a row of `runs`: a hash of its other columns, by which a damaged row is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from deltabook.schemas.tables import RUNS
from deltabook.udfs.storage.object_store import opened


def seal_of(run: dict[str, Any]) -> str:
    """Return the SHA-256 of a row of `runs`, in hex.

    Parameters
    ----------
    run : dict
        The row; its column `seal` is left out.
    """
    told = {name: run[name] for name in RUNS.names if name != "seal"}
    told["versions"] = sorted(dict(told["versions"]).items())
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def is_sealed(run: dict[str, Any]) -> bool:
    """Return whether a row of `runs` is as its run has sealed it.

    Parameters
    ----------
    run : dict
        The row, as read: in a damaged file any column may hold anything.
    """
    try:
        return seal_of(run) == run["seal"] and isinstance(json.loads(run["proofs"]), dict)
    except (TypeError, ValueError, AttributeError):
        return False


def sealed_rows(place: Path) -> list[dict[str, Any]]:
    """Read the rows of a data file of `runs`; none if it cannot be read, or a seal does not fit.

    Parameters
    ----------
    place : Path
        The file, or a copy of it.
    """
    try:
        with opened(place) as stream:
            rows = pq.read_table(stream, columns=[*RUNS.names]).to_pylist()
    except Exception:  # damaged Parquet raises errors of Arrow, of the system, of Unicode ...
        return []
    return rows if all(map(is_sealed, rows)) else []


def proven_by(places: Iterable[Path]) -> set[str]:
    """Return the paths of files of `written` that rows of `runs` prove.

    Parameters
    ----------
    places : iterable of Path
        Data files of `runs`, or copies of them.
    """
    return proven_paths(row for place in places for row in sealed_rows(place))


def proven_paths(runs: Iterable[dict[str, Any]]) -> set[str]:
    """Return the paths of files of `written` that sealed rows of `runs` prove.

    Parameters
    ----------
    runs : iterable of dict
        The rows.
    """
    return {path for run in runs for path in json.loads(run["proofs"])}
