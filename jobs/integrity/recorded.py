"""Read the tables `runs` and `written`, in which runs record hashes and sizes of the files that they wrote.

The data files of both tables are read without the Delta logs, so the logs may be damaged. Runs only append
rows to the tables, so the data files contain all rows.

A row of `runs` is valid if the row's seal, a hash over the other columns, matches. A data file of `written`
is valid if the file's SHA-256 is recorded. The column `proofs` of the newest row of `runs` contains the
hashes of the files that the newest run added to `written`. The rows in these files contain the hashes of
older files of `written`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

import pyarrow.parquet as pq

from deltabook.jobs.records.copy_faults import find_sound_data_files
from deltabook.jobs.records.file_faults import describe_damage
from deltabook.jobs.records.file_records import LOG_FOLDER, RUN_TABLES, list_log_files, published_version
from deltabook.jobs.records.second_copies import list_copies
from deltabook.jobs.tables.delta_tables import read_add_actions, table_exists
from deltabook.jobs.tables.seals import collect_proven_paths, read_sealed_rows
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import PublishedVersions, RunRow, WrittenRow
from deltabook.schemas.tables import RUNS, WRITTEN
from deltabook.udfs.storage.object_store import match_file_sizes, open_input
from deltabook.udfs.storage.raw_files import hash_file

_COLUMNS = [name for name in WRITTEN.names if name != "content"]
RECREATED_KEY = "made_again"
"""Key in `runs.summary` that marks the first row after `restore` has created the lost table `runs` anew."""


class RecordedFile(NamedTuple):
    """Hash and size that a run recorded for a file when the run wrote the file.

    Attributes
    ----------
    digest : str
        SHA-256 of the file's bytes, in hex.
    size : int
        Size of the file in bytes; -1 if the size is not recorded.
    """

    digest: str
    size: int


RecordedFiles = dict[str, dict[str, RecordedFile]]
"""Maps a table's name to a dict that maps paths below the table's folder to the recorded files."""


@dataclass(frozen=True)
class RunRecords:
    """Valid rows of `runs`, and the hashes and sizes of files in valid rows of `written`.

    Attributes
    ----------
    runs : list of RunRow
        Rows of `runs` whose seal matches, the newest row last.
    files : dict
        Maps a table's name to a dict that maps paths below the table's folder to hash and size. The size is
        unknown (-1) for files that the newest run added to `written`.
    sealed_rows : dict
        Maps the name of each data file of `runs` to the rows in the file. Files with a wrong seal are left
        out.
    is_complete : bool
        Whether all data files of `written` are intact. If True, a file that is not in `files` was not written
        by any run.
    is_idle : bool
        Whether no process was writing to the warehouse while the tables were read.
    is_written_foreign : bool
        Whether the table `written` belongs to another warehouse. If True, the rows of `written` are ignored.
    """

    runs: list[RunRow]
    files: RecordedFiles
    sealed_rows: dict[str, list[RunRow]]
    is_complete: bool
    is_idle: bool
    is_written_foreign: bool
    _record_files: dict[tuple[str, str], Path]

    @classmethod
    def read(cls, warehouse: Path, is_idle: bool = True) -> RunRecords:
        """Read the hashes and sizes that the runs of a warehouse recorded.

        Parameters
        ----------
        warehouse : Path
            Warehouse folder.
        is_idle : bool
            Whether no process is writing to the warehouse. If True, rows of `runs` that no commit adds are
            valid, because their commits must have been lost. If False, such rows are ignored, because the run
            of such a row may not be published yet.
        """
        last_version = None if is_idle else _newest_committed_version(warehouse)
        run_files, written_files = (_find_data_files(warehouse, table) for table in RUN_TABLES)
        sealed_rows = _read_sealed_files(run_files, last_version)
        is_written_foreign = False
        if _are_unrelated(warehouse, sealed_rows, written_files):
            is_written_foreign = not _describes_warehouse(warehouse, written_files)
            if is_written_foreign:
                written_files = {}
            else:
                sealed_rows = {}
        runs = _order_runs(sealed_rows)
        files, record_files = _read_recorded_files(written_files, runs)
        is_complete = not is_written_foreign and _is_written_complete(warehouse, files, written_files)
        return cls(runs, files, sealed_rows, is_complete, is_idle, is_written_foreign, record_files)

    @property
    def newest(self) -> RunRow:
        """Row of the newest run.

        Raises
        ------
        WarehouseError
            If there is no run.
        """
        if not self.runs:
            raise WarehouseError(
                "no readable row of `runs` is left, so the published versions are unknown: run `deltabook "
                "restore --yes` to recreate `runs` from `written`"
            )
        return self.runs[-1]

    def version(self, table: Table, run: PublishedVersions | None = None) -> int:
        """Return the Delta version of a table that a run published; -1 if the run did not publish the table.

        Parameters
        ----------
        table : Table
            Table whose version is looked up.
        run : PublishedVersions, optional
            Row of `runs`. None selects the newest run.
        """
        return published_version(table, run or self.newest)

    def first_retained_index(self) -> int:
        """Return the index in `runs` of the oldest run of which `maintain` has removed no files."""
        indices = {run["run_id"]: index for index, run in enumerate(self.runs)}
        summaries = [json.loads(run["summary"]) for run in self.runs if run["command"] == "maintain"]
        return max((indices.get(summary["kept_from"], 0) for summary in summaries), default=0)

    def read_content(self, table: Table, path: str) -> bytes:
        """Return the bytes of a commit that `written` has recorded; empty if `written` has no record of it.

        Parameters
        ----------
        table : Table
            Table of the commit.
        path : str
            Path of the commit below the table's folder.
        """
        record_file = self._record_files.get((table.name, path))
        if record_file is None:
            return b""
        filters = [("table", "=", table.name), ("path", "=", path)]
        with open_input(record_file) as stream:
            rows = pq.read_table(stream, columns=["content"], filters=filters)
        return bytes(rows["content"][0].as_py()) if rows.num_rows else b""


def _read_sealed_files(run_files: dict[str, Path], last_version: int | None) -> dict[str, list[RunRow]]:
    """Return {name: rows} of the data files of `runs` in which the seals of all rows match.

    If `last_version` is not None, files with a row of a later version of `runs` are left out.
    """
    sealed_rows = {}
    for name, path in run_files.items():
        rows = read_sealed_rows(path)
        if rows and (last_version is None or max(row["version"] for row in rows) <= last_version):
            sealed_rows[name] = rows
    return sealed_rows


def _order_runs(sealed_rows: dict[str, list[RunRow]]) -> list[RunRow]:
    """Return one row for each version of `runs`, ordered by the time at which the runs finished.

    Two rows can have equal versions: a run that was killed before its last commit leaves a row that was never
    published, and the next run uses the version number again. Of these rows, only the later is returned.
    """
    rows = sorted(chain(*sealed_rows.values()), key=lambda row: int(row["finished"]))
    return list({row["version"]: row for row in rows}.values())


def _read_recorded_files(
    written_files: dict[str, Path], runs: list[RunRow]
) -> tuple[RecordedFiles, dict[tuple[str, str], Path]]:
    """Return the recorded files, and the data file of `written` that records each file.

    The data files of `written` are read from the newest to the oldest, because newer data files contain the
    hashes that prove older data files. `written_files` maps the names of these data files to their paths, and
    `runs` are the valid rows of `runs`. The second dict of the result maps (table name, path) to a data file.
    """
    run_indices = {row["run_id"]: index for index, row in enumerate(runs)}
    parts = [
        (run_indices.get(rows[0]["run_id"], -1), name, path, rows)
        for name, path, rows in _read_written_files(written_files)
        if rows
    ]
    is_runs_recreated = bool(runs) and RECREATED_KEY in json.loads(runs[0]["summary"])
    proofs: dict[str, str] = json.loads(runs[-1]["proofs"]) if runs else {}
    files: RecordedFiles = defaultdict(dict)
    files[WRITTEN.name] = {path: RecordedFile(digest, -1) for path, digest in proofs.items()}
    record_files: dict[tuple[str, str], Path] = {}
    for run_index, name, path, rows in sorted(parts, reverse=True, key=lambda part: part[0]):
        record = files[WRITTEN.name].get(name)
        is_changed = record is not None and record.digest != hash_file(path)
        # Skip a file whose bytes have changed. Also skip a file of a run without a valid row in `runs`,
        # unless a later run recorded the file's hash. A run without a valid row may have been killed. The
        # next run then records the same files again.
        if is_changed or (runs and run_index < 0 and record is None):
            continue
        for row in rows:
            if run_index < 0 and is_runs_recreated and row["table"] == RUNS.name:
                continue  # the record describes a file of the lost table `runs`, not of the recreated table
            if row["path"] not in files[row["table"]]:
                size = -1 if row["bytes"] is None else int(row["bytes"])
                files[row["table"]][row["path"]] = RecordedFile(str(row["content_hash"]), size)
                record_files[row["table"], row["path"]] = path
    return files, record_files


def _is_written_complete(warehouse: Path, files: RecordedFiles, written_files: dict[str, Path]) -> bool:
    """Return whether all active data files of the table `written` exist and are intact.

    If `written` has no second copies and no readable log, all recorded data files are checked instead of the
    active data files.
    """
    proofs = {path: record.digest for path, record in files[WRITTEN.name].items() if LOG_FOLDER not in path}
    if copies := list_copies(warehouse, WRITTEN):  # `maintain` removes copies together with their originals
        proofs = {path: proof for path, proof in proofs.items() if path in copies or path in written_files}
    else:
        with suppress(WarehouseError):
            if table_exists(warehouse, WRITTEN):
                active_paths = {action["path"] for action in read_add_actions(warehouse, WRITTEN)}
                proofs = {path: proof for path, proof in proofs.items() if path in active_paths}
    return all(
        name in written_files and not describe_damage(written_files[name], proof)
        for name, proof in proofs.items()
    )


def _are_unrelated(
    warehouse: Path, sealed_rows: dict[str, list[RunRow]], written_files: dict[str, Path]
) -> bool:
    """Return whether the tables `runs` and `written` come from different warehouses.

    The tables come from different warehouses if the rows of `runs` do not record the hash of any existing
    data file of `written`. If `runs` has second copies, the result is False without a check.
    """
    if list_copies(warehouse, RUNS) or not written_files or not sealed_rows:
        return False
    return collect_proven_paths(chain(*sealed_rows.values())).isdisjoint(written_files)


def _describes_warehouse(warehouse: Path, written_files: dict[str, Path]) -> bool:
    """Return whether the warehouse has any of the data files that the rows of `written` record."""
    return any(
        (warehouse / row["table"] / row["path"]).is_file()
        for _, _, rows in _read_written_files(written_files)
        for row in rows
        if row["table"] not in (RUNS.name, WRITTEN.name)
        and LOG_FOLDER not in row["path"]  # log files have the same names in every warehouse
    )


def _newest_committed_version(warehouse: Path) -> int:
    """Return the newest version of `runs` in the log or in the second copies of the log; -1 if none."""
    copied_versions = [copy.version for copy in list_copies(warehouse, RUNS).values()]
    return max([*list_log_files(warehouse, RUNS), *copied_versions], default=-1)


def _find_data_files(warehouse: Path, table: Table) -> dict[str, Path]:
    """Return the path to read for each data file of the table, by file name: its own, or its second copy's.

    The log of the table is not read; see `find_sound_data_files`.
    """
    names = [*match_file_sizes(warehouse / table.name, "*.parquet")]
    return find_sound_data_files(warehouse, table, names)


def _read_written_files(files: dict[str, Path]) -> Iterator[tuple[str, Path, list[WrittenRow]]]:
    """Yield the name, path and rows of each readable data file of `written`, without the column `content`.

    Unreadable files are skipped. `check_data_files` reports them.
    """
    for name, path in files.items():
        try:
            with open_input(path) as stream:
                rows = pq.read_table(stream, columns=_COLUMNS).to_pylist()
        except Exception:  # damaged Parquet raises Arrow errors, OSError, UnicodeDecodeError ...
            continue
        yield name, path, cast(list[WrittenRow], rows)
