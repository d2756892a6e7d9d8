"""What runs have recorded of themselves, read from data files alone: it has to tell when logs are damaged.

`runs` and `written` are only ever appended to, so every row that was written is in some data file, whatever
became of their logs. A row of `runs` counts if its seal fits; a file of `written`, if it is as the runs
after it say: the newest one's proofs, and from there back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from deltabook.jobs.records.copy_faults import sound_data_files
from deltabook.jobs.records.file_faults import damage
from deltabook.jobs.records.file_records import LOG, OF_RUNS, log_files, published_version
from deltabook.jobs.records.second_copies import copies_of
from deltabook.jobs.tables.published import add_actions, is_made
from deltabook.jobs.tables.seals import proven_paths, sealed_rows
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, WRITTEN
from deltabook.udfs.storage.object_store import names_in, opened
from deltabook.udfs.storage.raw_files import content_hash

_KNOWN = [name for name in WRITTEN.names if name != "content"]
MADE_AGAIN = "made_again"
"""Key in the summary of the first row of a table `runs` that was made again."""


@dataclass(frozen=True)
class Recorded:
    """What the data files of `runs` and `written` tell.

    Attributes
    ----------
    runs : list of dict
        Sealed rows of `runs`, the newest last.
    files : dict
        Rows of `written`, without contents, by table and path; those that the newest run has added to
        `written` itself have no size.
    sealed : dict
        Rows of `runs`, by data file: of those files in which every row's seal fits.
    is_whole : bool
        Whether no data file of `written` is lost or damaged: what no row tells of, no run has written.
    is_settled : bool
        Whether nobody was writing the warehouse when this was read.
    is_written_foreign : bool
        Whether `written` is of another warehouse: then it tells nothing, as if it were lost.
    """

    runs: list[dict[str, Any]]
    files: dict[str, dict[str, dict[str, Any]]]
    sealed: dict[str, list[dict[str, Any]]]
    is_whole: bool
    is_settled: bool
    is_written_foreign: bool
    _sources: dict[tuple[str, str], Path]

    @classmethod
    def of(cls, warehouse: Path, is_settled: bool = True) -> Recorded:
        """Read what runs have recorded.

        Parameters
        ----------
        warehouse : Path
            Folder of the tables.
        is_settled : bool
            Whether nobody is writing the warehouse. If somebody may be, a row of `runs` without a commit is
            not published yet, and is left out; else its commit is lost.
        """
        last = _last_commit(warehouse) if not is_settled else None
        places = {table: _places(warehouse, table) for table in OF_RUNS}
        sealed = {
            name: rows
            for name, path in places[RUNS].items()
            if (rows := sealed_rows(path)) and (last is None or max(row["version"] for row in rows) <= last)
        }
        is_written_foreign = False
        if _are_foreign(warehouse, sealed, places[WRITTEN]):
            if is_written_foreign := not _has_any(warehouse, places[WRITTEN]):
                places[WRITTEN] = {}
            else:
                sealed = {}
        rows_of = sorted(chain(*sealed.values()), key=lambda row: int(row["finished"]))
        # A run killed at its very end has left a row that was never published: another has its version.
        runs = list({row["version"]: row for row in rows_of}.values())
        place = {row["run_id"]: number for number, row in enumerate(runs)}
        parts = [
            (place.get(rows[0]["run_id"], -1), name, path, rows)
            for name, path, rows in _read(places[WRITTEN])
            if rows
        ]
        is_made_again = bool(runs) and MADE_AGAIN in json.loads(runs[0]["summary"])
        files: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        proofs = json.loads(runs[-1]["proofs"]) if runs else {}
        files[WRITTEN.name] = {path: {"content_hash": proof} for path, proof in proofs.items()}
        sources: dict[tuple[str, str], Path] = {}
        for number, name, path, rows in sorted(parts, reverse=True, key=itemgetter(0)):
            told = files[WRITTEN.name].get(name)
            is_changed = told is not None and told["content_hash"] != content_hash(path)
            # What a killed run recorded, the next has recorded again. A run whose row is damaged is proven by
            # the runs after it.
            if is_changed or (runs and number < 0 and told is None):
                continue
            for row in rows:
                if number < 0 and is_made_again and row["table"] == RUNS.name:
                    continue  # of the table that was lost
                if row["path"] not in files[row["table"]]:
                    files[row["table"]][row["path"]] = row
                    sources[row["table"], row["path"]] = path
        is_whole = not is_written_foreign and _are_whole(warehouse, files, places[WRITTEN])
        return cls(runs, files, sealed, is_whole, is_settled, is_written_foreign, sources)

    @property
    def newest(self) -> dict[str, Any]:
        """The newest run.

        Raises
        ------
        WarehouseError
            If there is none.
        """
        if not self.runs:
            raise WarehouseError(
                "no row of `runs` is left, so nothing tells what was published: `deltabook restore --yes` "
                "makes it again from `written`"
            )
        return self.runs[-1]

    def version(self, table: Table, run: dict[str, Any] | None = None) -> int:
        """Return the version of a table that a run published, the newest one if None; -1: it had none."""
        return published_version(table, run or self.newest)

    def kept_from(self) -> int:
        """Return the place among `runs` from which on `maintain` has kept all files."""
        places = {run["run_id"]: place for place, run in enumerate(self.runs)}
        upkeep = [json.loads(run["summary"]) for run in self.runs if run["command"] == "maintain"]
        return max((places.get(told["kept_from"], 0) for told in upkeep), default=0)

    def content(self, table: Table, path: str) -> bytes:
        """Return the bytes of a commit, as they were recorded; none if they were not."""
        source = self._sources.get((table.name, path))
        if source is None:
            return b""
        chosen = [("table", "=", table.name), ("path", "=", path)]
        with opened(source) as stream:
            rows = pq.read_table(stream, columns=["content"], filters=chosen)
        return bytes(rows["content"][0].as_py()) if rows.num_rows else b""


def _are_whole(warehouse: Path, files: dict[str, dict[str, dict[str, Any]]], places: dict[str, Path]) -> bool:
    """Whether the data files that `written` has, or ever had if its log cannot be read, are as they were."""
    proofs = {path: row["content_hash"] for path, row in files[WRITTEN.name].items() if LOG not in path}
    if copies := copies_of(warehouse, WRITTEN):  # `maintain` removes them with their originals
        proofs = {path: proof for path, proof in proofs.items() if path in copies or path in places}
    else:
        with suppress(WarehouseError):
            if is_made(warehouse, WRITTEN):
                live = {row["path"] for row in add_actions(warehouse, WRITTEN)}
                proofs = {path: proof for path, proof in proofs.items() if path in live}
    return all(name in places and not damage(places[name], proof) for name, proof in proofs.items())


def _are_foreign(warehouse: Path, sealed: dict[str, list[dict[str, Any]]], places: dict[str, Path]) -> bool:
    """Whether rows of `runs` prove none of the data files of `written`: one is of another warehouse."""
    if copies_of(warehouse, RUNS) or not places or not sealed:
        return False
    return proven_paths(chain(*sealed.values())).isdisjoint(places)


def _has_any(warehouse: Path, places: dict[str, Path]) -> bool:
    """Whether any data file that `written` tells of is there."""
    return any(
        (warehouse / row["table"] / row["path"]).is_file()
        for _, _, rows in _read(places)
        for row in rows
        if row["table"] not in (RUNS.name, WRITTEN.name)
        and LOG not in row["path"]  # files of logs have the same names everywhere
    )


def _last_commit(warehouse: Path) -> int:
    """Return the newest version of `runs` that was committed; -1 if there is none."""
    copies = [copy.version for copy in copies_of(warehouse, RUNS).values()]
    return max([*log_files(warehouse, RUNS), *copies], default=-1)


def _places(warehouse: Path, table: Table) -> dict[str, Path]:
    """Find the data files of a table that can be relied on, in its log or not."""
    return sound_data_files(warehouse, table, [*names_in(warehouse / table.name, "*.parquet")])


def _read(places: dict[str, Path]) -> Iterator[tuple[str, Path, list[dict[str, Any]]]]:
    """Read data files of `written`; one that cannot be read is left out: it is found as a data file."""
    for name, path in places.items():
        try:
            with opened(path) as stream:
                rows = pq.read_table(stream, columns=_KNOWN).to_pylist()
        except Exception:  # damaged Parquet raises errors of Arrow, of the system, of Unicode ...
            continue
        yield name, path, rows
