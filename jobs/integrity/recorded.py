"""What runs have recorded of themselves, read from data files alone: it has to tell when logs are damaged.

`runs` and `written` are only ever appended to, so every row that was written is in some data file, whatever
became of their logs. A row of `runs` counts if its seal fits; a file of `written`, if it is as the runs
after it say: the newest one's proofs, and from there back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deltabook.jobs.integrity.written import LOG, published_version, seal_of
from deltabook.jobs.ledger import content_hash
from deltabook.jobs.published import is_made, open_table
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, WRITTEN
from deltabook.udfs.storage import names_in, opened

_KNOWN = [name for name in WRITTEN.names if name != "content"]


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
    """

    runs: list[dict[str, Any]]
    files: dict[str, dict[str, dict[str, Any]]]
    sealed: dict[str, list[dict[str, Any]]]
    is_whole: bool
    _sources: dict[tuple[str, str], Path]

    @classmethod
    def of(cls, warehouse: Path) -> Recorded:
        """Read it."""
        sealed = {
            path.name: rows
            for path, rows in _data_files(warehouse, RUNS, RUNS.names)
            if rows and all(seal_of(row) == row["seal"] for row in rows)
        }
        rows_of = sorted(chain(*sealed.values()), key=lambda row: int(row["finished"]))
        # A run killed at its very end has left a row that was never published: another has its version.
        runs = list({row["version"]: row for row in rows_of}.values())
        place = {row["run_id"]: number for number, row in enumerate(runs)}
        parts = [
            (place.get(rows[0]["run_id"], -1), path, rows)
            for path, rows in _data_files(warehouse, WRITTEN, _KNOWN)
            if rows
        ]
        files: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        proofs = json.loads(runs[-1]["proofs"]) if runs else {}
        files[WRITTEN.name] = {path: {"content_hash": proof} for path, proof in proofs.items()}
        sources: dict[tuple[str, str], Path] = {}
        for number, path, rows in sorted(parts, reverse=True, key=lambda part: part[0]):
            told = files[WRITTEN.name].get(path.name)
            is_changed = told is not None and told["content_hash"] != content_hash(path)
            if is_changed or (runs and number < 0):  # what a killed run recorded, the next has recorded again
                continue
            for row in rows:
                if row["path"] not in files[row["table"]]:
                    files[row["table"]][row["path"]] = row
                    sources[row["table"], row["path"]] = path
        return cls(runs, files, sealed, _are_whole(warehouse, files), sources)

    @property
    def newest(self) -> dict[str, Any]:
        """The newest run.

        Raises
        ------
        WarehouseError
            If there is none.
        """
        if not self.runs:
            raise WarehouseError("no run of this warehouse has left its row: run `deltabook run` first")
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


def _are_whole(warehouse: Path, files: dict[str, dict[str, dict[str, Any]]]) -> bool:
    """Whether the data files that `written` has, or ever had if its log cannot be read, are as they were."""
    proofs = {path: row["content_hash"] for path, row in files[WRITTEN.name].items() if LOG not in path}
    with suppress(WarehouseError):
        if is_made(warehouse, WRITTEN):
            actions = pa.table(open_table(warehouse, WRITTEN).get_add_actions(flatten=True))
            proofs = {path: proofs[path] for path in actions["path"].to_pylist() if path in proofs}
    paths = {warehouse / WRITTEN.name / path: proof for path, proof in proofs.items()}
    return all(path.is_file() and content_hash(path) == proof for path, proof in paths.items())


def _data_files(
    warehouse: Path, table: Table, columns: Sequence[str]
) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Read the data files of a table that can be read, in its log or not."""
    folder = warehouse / table.name
    for path in [folder / name for name in names_in(folder, "*.parquet")]:
        try:
            with opened(path) as stream:
                yield path, pq.read_table(stream, columns=[*columns]).to_pylist()
        except (pa.ArrowException, OSError):
            continue  # what cannot be read is found with the other data files
