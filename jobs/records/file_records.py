"""What a run has written, file by file: rows of `written`, and the seal of its row of `runs`.

Parquet and Delta keep no checksum of their files. A data file is hashed where it is written; what the driver
writes, tables too small to count and all logs, is hashed when the run is published.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltabook.jobs.tables.published import LOG_FILES
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, TABLES, WRITTEN
from deltabook.udfs.storage.object_store import content, names_in
from deltabook.udfs.storage.raw_files import content_hash

LOG = "_delta_log"
OF_RUNS = (RUNS, WRITTEN)
"""Tables that tell of runs: they are only ever added to, and no run brings them back to what they were."""
_NO_RUN: dict[str, Any] = {"versions": {}, "version": -1}


def log_files(warehouse: Path, table: Table) -> dict[int, list[Path]]:
    """List the commits of a table's log, and the checkpoints of them, by version.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        Which.
    """
    found: dict[int, list[Path]] = {}
    log = warehouse / table.name / LOG
    for name in names_in(log, *LOG_FILES):
        version = name.split(".")[0]
        if version.isdecimal():
            found.setdefault(int(version), []).append(log / name)
    return found


def actions_of(commit: Path) -> list[dict[str, Any]]:
    """Read a commit.

    Parameters
    ----------
    commit : Path
        A JSON file of a log.

    Raises
    ------
    ValueError
        If it is not what Delta writes.
    """
    actions = [json.loads(line) for line in content(commit).decode().splitlines()]
    if not actions or not all(isinstance(action, dict) for action in actions):
        raise ValueError("no actions")
    return actions


def written_since(
    warehouse: Path,
    table: Table,
    first: int,
    hashes: dict[tuple[str, str], str],
    known: Container[str] = (),
) -> Iterator[dict[str, Any]]:
    """Tell what a table has got by its commits from one on.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    table : Table
        Which.
    first : int
        Delta version of the first of these commits.
    hashes : dict
        SHA-256 by table and path, of the data files that workers have hashed; others are hashed here.
    known : container of str
        Paths that are passed over.

    Yields
    ------
    dict
        Rows of `written`, without the run.
    """
    folder = warehouse / table.name
    for version, paths in log_files(warehouse, table).items():
        for path in paths if version >= first else ():
            is_commit = path.suffix == ".json"
            if f"{LOG}/{path.name}" not in known:
                yield _row(folder, table, f"{LOG}/{path.name}", content(path) if is_commit else b"")
            for action in _actions(path) if is_commit else ():
                if "add" in action:
                    name = unquote(action["add"]["path"])
                    # What a killed run has written may have been removed since.
                    if name not in known and (folder / name).is_file():
                        yield _row(folder, table, name, b"", hashes.get((table.name, name)))


def _actions(commit: Path) -> list[dict[str, Any]]:
    """Read a commit that adds what no run has recorded; one that restores adds nothing new."""
    try:
        actions = actions_of(commit)
    except ValueError as error:
        raise WarehouseError(f"{commit} cannot be read ({error}): see `deltabook verify`") from None
    if any(action.get("commitInfo", {}).get("operation") == "RESTORE" for action in actions):
        return []
    return actions


def _row(folder: Path, table: Table, path: str, content: bytes, known: str | None = None) -> dict[str, Any]:
    return {
        "table": table.name,
        "path": path,
        "bytes": (folder / path).stat().st_size,
        "content_hash": known or content_hash(folder / path),
        "content": content,
    }


def published_version(table: Table, run: dict[str, Any]) -> int:
    """Return the Delta version of a table that a row of `runs` publishes; -1: there was none.

    Parameters
    ----------
    table : Table
        Which.
    run : dict
        The row.
    """
    return int(run["version"]) if table is RUNS else int(dict(run["versions"]).get(table.name, -1))


def recorded_before(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run before the last one that has added to `written`.

    What that run and later ones have added to `written` and `runs` themselves is in no row of it.

    Parameters
    ----------
    runs : list of dict
        Rows of `runs`, the newest last.
    """
    for older, newer in zip([*runs[-2::-1], _NO_RUN], reversed(runs), strict=False):
        if published_version(WRITTEN, newer) != published_version(WRITTEN, older):
            return older
    return _NO_RUN


def newly_written(
    warehouse: Path, runs: list[dict[str, Any]], hashes: dict[tuple[str, str], str]
) -> Iterator[dict[str, Any]]:
    """Tell what the tables have got since the last run was published.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    runs : list of dict
        Rows of `runs`, the newest last: its versions are recorded, but for its own `written` and `runs`.
    hashes : dict
        As of `written_since`.

    Yields
    ------
    dict
        Rows of `written`, without the run.
    """
    for table in TABLES.values():
        run = recorded_before(runs) if table in OF_RUNS else (runs or [_NO_RUN])[-1]
        yield from written_since(warehouse, table, published_version(table, run) + 1, hashes)


def proofs_of(warehouse: Path, recorded: int) -> dict[str, str]:
    """Hash what a run has added to `written`: no row of it can tell.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    recorded : int
        Version of `written` that the run before it has published; -1: none.

    Returns
    -------
    dict
        SHA-256 by path below the table's folder.
    """
    return {row["path"]: row["content_hash"] for row in written_since(warehouse, WRITTEN, recorded + 1, {})}
