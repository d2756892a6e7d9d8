"""The job `reconstruct --as-of`: rebuild the books of an earlier run, and compare them with the stored books.

The job proves that the stored books can be reproduced from the stored events.
"""

from __future__ import annotations

import hashlib
import uuid
from operator import itemgetter
from pathlib import Path
from typing import TypedDict, cast

import pyarrow as pa
import pyarrow.parquet as pq

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.pipeline.reconstruct import RebuildInputs, RebuildSteps, make_rebuild_work
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import ChunkKey
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import RebuiltRow, RunRow
from deltabook.schemas.tables import BOOKS, RUNS, both
from deltabook.udfs.spark.rebuild_groups import rebuild_groups
from deltabook.udfs.storage.object_store import get_arrow_source, remove_tree

_BATCH_ROWS = 65_536
_MOST_RUNS_SHOWN = 10


class Reproduction(TypedDict):
    """Result of `reproduce`; commands print it as JSON.

    Attributes
    ----------
    as_of : str
        Id of the run whose books were rebuilt.
    code_versions : list of str
        List with one item: the version of deltabook that wrote the books of the run `as_of`.
    symbol_hours : int
        Number of chunks that have stored books.
    differing : list of str
        Exchange, symbol and start (ns since 1970 UTC) of each chunk whose rebuilt books differ from its
        stored books.
    digest : str
        SHA-256 of all rebuilt books, in hex.
    """

    as_of: str
    code_versions: list[str]
    symbol_hours: int
    differing: list[str]
    digest: str


def reproduce(warehouse: Warehouse, run_id: str, progress: Progress) -> Reproduction:
    """Rebuild the books of an earlier run from the run's events, and return the chunks whose books differ.

    The warehouse's tables do not change: the rebuilt books are written to a temporary folder in the
    warehouse.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse of the run. The Delta logs must still have the table versions of the run.
    run_id : str
        Id of the run, as in the table `runs`.
    progress : Progress
        The display that shows how many symbols are done.

    Returns
    -------
    Reproduction
        The run, the chunks whose books differ, and a hash of all rebuilt books.

    Raises
    ------
    WarehouseError
        If the table `runs` does not have the run, or if the run used other settings.
    """
    run = _find_run(warehouse, run_id)
    past = Warehouse(warehouse.spark, warehouse.settings, dict(run["versions"]))
    rebuilt = _rebuild_books(warehouse, RebuildInputs.read(past), progress)
    written = {key: hash_books(names[0]) for key, names in past.files_of_both(BOOKS).items()}
    differing = sorted(key for key in rebuilt.keys() | written.keys() if rebuilt.get(key) != written.get(key))
    whole = hashlib.sha256("".join(rebuilt[key] for key in sorted(rebuilt)).encode())
    return {
        "as_of": run["run_id"],
        "code_versions": [run["code_version"]],
        "symbol_hours": len(written),
        "differing": [" ".join(map(str, key)) for key in differing],
        "digest": whole.hexdigest(),
    }


def hash_books(file: Path | str) -> str:
    """Return the SHA-256 of the values in a data file, in the order of the file's rows and columns.

    The hash does not depend on how the file is encoded or compressed.

    Parameters
    ----------
    file : Path or str
        Path or URI of a Parquet file.

    Returns
    -------
    str
        64 hex digits.
    """
    digest = hashlib.sha256()
    rows = pq.ParquetFile(get_arrow_source(file)).read().combine_chunks()
    for batch in rows.to_batches(max_chunksize=_BATCH_ROWS):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema.remove_metadata()) as stream:
            stream.write_batch(batch.replace_schema_metadata())
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _rebuild_books(warehouse: Warehouse, inputs: RebuildInputs, progress: Progress) -> dict[ChunkKey, str]:
    """Rebuild all books in a temporary folder of the warehouse, and return a hash of each chunk's books."""
    keys = list(inputs.files)
    steps = dict.fromkeys(keys, RebuildSteps(changed=True, chained=True, replayed=True))
    scratch = warehouse.root / f"_as_of-{uuid.uuid4().hex[:8]}"
    rebuild = rebuild_groups(str(scratch), warehouse.settings.row_policy)
    try:
        references = inputs.make_references(steps, {})
        work = make_rebuild_work(references, ("exchange", "symbol"), rebuild, inputs.estimate_costs(keys))
        with progress.stage("rebuilding", "symbols", len({key[:2] for key in keys})) as show:
            rows = map(RebuiltRow._make, warehouse.apply(work, show, scratch))
        names = [table.name for table in both(BOOKS)]
        return {
            (row.exchange, row.symbol, row.hour): hash_books(scratch / row.table / row.path)
            for row in rows
            if row.table in names
        }
    finally:
        remove_tree(scratch)


def _find_run(warehouse: Warehouse, run_id: str) -> RunRow:
    """Return the row of `runs` with the given id.

    Raise an error if no run has this id, or if the settings of the run differ from the present settings.
    """
    require_published(warehouse.root)
    runs = cast(list[RunRow], sorted(warehouse.rows(RUNS), key=itemgetter("finished")))
    run = next((run for run in runs if run["run_id"] == run_id), None)
    if run is None:
        newest = ", ".join(run["run_id"] for run in runs[-_MOST_RUNS_SHOWN:])
        raise WarehouseError(f"no run {run_id} in {warehouse.root}; the newest runs: {newest or 'none'}")
    if run["settings_hash"] != warehouse.settings.fingerprint:
        raise WarehouseError(
            f"run {run_id} used other settings: the hash of its settings is {run['settings_hash']}, the hash "
            f"of the present settings is {warehouse.settings.fingerprint}. Pass the --config, --depth, "
            "--cadence, --on-gap and --seed of that run"
        )
    return run
