"""Record the size and SHA-256 of each file that a run writes.

Parquet and Delta store no checksum of their files. Each run therefore adds a row to the table `written` for
each file that it wrote. A run cannot add rows for the files that it adds to `written` itself. Instead, the
run stores the hashes of these files in the column `proofs` of its row in `runs`.

Workers hash the data files that they write. The driver writes the data files of small tables and all log
files, and hashes them when it publishes the run.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict
from urllib.parse import unquote

from deltabook.jobs.tables.delta_tables import LOG_FILE_PATTERNS
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import FileRecord, PublishedVersions
from deltabook.schemas.tables import RUNS, TABLES, WRITTEN
from deltabook.udfs.storage.object_store import match_file_sizes, read_file
from deltabook.udfs.storage.raw_files import hash_file

LOG_FOLDER = "_delta_log"
"""Folder inside a table's folder that holds the Delta log."""
RUN_TABLES = (RUNS, WRITTEN)
"""Tables that describe runs, and the files that runs wrote.

Runs only append to these tables, and `restore` keeps all rows of these tables.
"""
_NO_RUN: PublishedVersions = {"versions": {}, "version": -1}
"""Stands for the state before the first run, in which no table is published."""

FileHashes = dict[tuple[str, str], str]
"""Maps (table name, path of a data file below the table's folder) to the SHA-256 of the file in hex."""


class AddedPath(TypedDict):
    """Description of a data file in a Delta commit that adds the file.

    Attributes
    ----------
    path : str
        Path of the file below the table's folder, with special characters escaped as in a URL.
    dataChange : bool
        Whether the file has new rows. False if the commit only rearranges rows, as compaction does.
    """

    path: str
    dataChange: NotRequired[bool]


class CommitInfo(TypedDict, total=False):
    """Facts about a Delta commit.

    Attributes
    ----------
    operation : str
        Name of the operation that made the commit, such as WRITE or RESTORE.
    """

    operation: str


class LogAction(TypedDict, total=False):
    """One action of a Delta commit: one line of its JSON file. Other kinds of actions have other keys.

    Attributes
    ----------
    add : AddedPath
        Data file that the commit adds.
    commitInfo : CommitInfo
        Facts about the commit.
    """

    add: AddedPath
    commitInfo: CommitInfo


def list_log_files(warehouse: Path, table: Table) -> dict[int, list[Path]]:
    """Return a dict that maps each Delta version of a table to the paths of its commit and checkpoints.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        The table.
    """
    log = warehouse / table.name / LOG_FOLDER
    files: dict[int, list[Path]] = {}
    for name in match_file_sizes(log, *LOG_FILE_PATTERNS):
        version = name.split(".")[0]
        if version.isdecimal():
            files.setdefault(int(version), []).append(log / name)
    return files


def read_actions(commit: Path) -> list[LogAction]:
    """Return the actions of a Delta commit, one dict for each line of the file.

    Only the syntax is checked. An action of a damaged commit may lack keys or have values of other types.

    Parameters
    ----------
    commit : Path
        JSON file of a Delta log.

    Raises
    ------
    ValueError
        If the file is not a Delta commit.
    """
    actions = [json.loads(line) for line in read_file(commit).decode().splitlines()]
    if not actions or not all(isinstance(action, dict) for action in actions):
        raise ValueError("no actions")
    return actions


def list_written_since(
    warehouse: Path,
    table: Table,
    first_version: int,
    hashes: FileHashes,
    known_paths: Container[str] = (),
) -> Iterator[FileRecord]:
    """Yield a record for each log file from a version on, and for each data file that these log files add.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    table : Table
        Table whose files are recorded.
    first_version : int
        Delta version of the first commit to record.
    hashes : dict
        Known hashes of data files. A file without a known hash is read and hashed.
    known_paths : container of str
        Paths of files to skip, relative to the table's folder.

    Yields
    ------
    FileRecord
        Record of one file.

    Raises
    ------
    WarehouseError
        If a commit cannot be read.
    """
    folder = warehouse / table.name
    for version, paths in list_log_files(warehouse, table).items():
        for path in paths if version >= first_version else ():
            is_commit = path.suffix == ".json"
            log_path = f"{LOG_FOLDER}/{path.name}"
            if log_path not in known_paths:
                yield _record_file(folder, table, log_path, read_file(path) if is_commit else b"")
            for action in _read_adding_actions(path) if is_commit else ():
                if "add" in action:
                    name = unquote(action["add"]["path"])
                    # A data file that a killed run has written may have been removed in the meantime.
                    if name not in known_paths and (folder / name).is_file():
                        yield _record_file(folder, table, name, b"", hashes.get((table.name, name)))


def _read_adding_actions(commit: Path) -> list[LogAction]:
    """Return the actions of a commit; empty for a RESTORE commit, which adds no new files."""
    try:
        actions = read_actions(commit)
    except ValueError as error:
        raise WarehouseError(
            f"{commit} cannot be read ({error}): run `deltabook verify` to list damaged files, then "
            "`deltabook restore` to put them back"
        ) from None
    if any(action.get("commitInfo", {}).get("operation") == "RESTORE" for action in actions):
        return []
    return actions


def _record_file(
    folder: Path, table: Table, path: str, content: bytes, digest: str | None = None
) -> FileRecord:
    """Return the record of one file, with the given content and SHA-256.

    If `digest` is None, the file is hashed.
    """
    return {
        "table": table.name,
        "path": path,
        "bytes": (folder / path).stat().st_size,
        "content_hash": digest or hash_file(folder / path),
        "content": content,
    }


def published_version(table: Table, run: PublishedVersions) -> int:
    """Return the Delta version of a table that a run published; -1 if the run did not publish the table.

    Parameters
    ----------
    table : Table
        Table whose version is looked up.
    run : PublishedVersions
        Row of the table `runs`.
    """
    return int(run["version"]) if table is RUNS else int(dict(run["versions"]).get(table.name, -1))


def last_recorded_run(runs: Sequence[PublishedVersions]) -> PublishedVersions:
    """Return the newest run whose new files of the tables `runs` and `written` are recorded in `written`.

    A run cannot record the files that it adds to `runs` and `written` itself. The next run that adds rows to
    `written` records these files. Therefore the result is the run before the newest run that added rows to
    `written`.

    Parameters
    ----------
    runs : sequence of PublishedVersions
        Rows of `runs`, the newest last.
    """
    for older, newer in zip([*runs[-2::-1], _NO_RUN], reversed(runs), strict=False):
        if published_version(WRITTEN, newer) != published_version(WRITTEN, older):
            return older
    return _NO_RUN


def list_unrecorded_files(
    warehouse: Path, runs: Sequence[PublishedVersions], hashes: FileHashes
) -> Iterator[FileRecord]:
    """Yield the records of all files that were written since the last run was published.

    Files of `runs` and `written` are recorded by a later run. For these two tables, the function therefore
    yields the records of all files that were written after the run that `last_recorded_run` returns.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    runs : sequence of PublishedVersions
        Rows of `runs`, the newest last.
    hashes : dict
        Known hashes of data files. A file without a known hash is read and hashed.

    Yields
    ------
    FileRecord
        Record of one file.
    """
    for table in TABLES.values():
        run = last_recorded_run(runs) if table in RUN_TABLES else [_NO_RUN, *runs][-1]
        yield from list_written_since(warehouse, table, published_version(table, run) + 1, hashes)


def hash_new_records(warehouse: Path, recorded_version: int) -> dict[str, str]:
    """Return the hashes of the files that a run added to `written`, for the column `proofs` of `runs`.

    Parameters
    ----------
    warehouse : Path
        Warehouse folder.
    recorded_version : int
        Delta version of `written` that the previous run published; -1 if no run has published `written`.

    Returns
    -------
    dict
        Maps the path of each file, below the folder of `written`, to the SHA-256 of the file in hex.
    """
    records = list_written_since(warehouse, WRITTEN, recorded_version + 1, {})
    return {record["path"]: record["content_hash"] for record in records}
