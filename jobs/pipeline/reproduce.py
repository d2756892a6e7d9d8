"""The job `reconstruct --as-of`: the books of an earlier run, built again and compared with what it wrote."""

from __future__ import annotations

import hashlib
import uuid
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deltabook.jobs.console.progress import Progress
from deltabook.jobs.pipeline.reconstruct import Known, rebuild_work
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import BOOKS, RUNS, both
from deltabook.udfs.spark.rebuild_groups import rebuild_groups
from deltabook.udfs.storage.object_store import readable, remove_tree

_BATCH_ROWS = 65_536
_SHOWN = 10


def reproduce(warehouse: Warehouse, run_id: str, progress: Progress) -> dict[str, Any]:
    """Build the books of an earlier run again, from the events that it had; write nothing.

    Parameters
    ----------
    warehouse : Warehouse
        Whose run.
    run_id : str
        Of `runs`.
    progress : Progress
        Where to show what is done.

    Returns
    -------
    dict
        The run, how many symbol-hours it had, those that differ, and the digest of all books.

    Raises
    ------
    WarehouseError
        If there is no such run, or it was made with other settings.
    """
    run = _run(warehouse, run_id)
    past = Warehouse(warehouse.spark, warehouse.settings, dict(run["versions"]))
    known = Known.of(past)
    keys = list(known.files)
    told = {key: {"changed": True, "chained": True, "replayed": True} for key in keys}
    scratch = warehouse.root / f"_as_of-{uuid.uuid4().hex[:8]}"
    rebuild = rebuild_groups(str(scratch), warehouse.settings.writing)
    try:
        references = known.references(keys, {}, told)
        work = rebuild_work(references, ("exchange", "symbol"), rebuild, known.costs(keys))
        with progress.stage("rebuilding", "symbols", len({key[:2] for key in keys})) as show:
            found = warehouse.apply(work, show, scratch)
        tables = [table.name for table in both(BOOKS)]
        digests = {
            (row.exchange, row.symbol, row.hour): books_digest(scratch / row.table / row.path)
            for row in found
            if row.table in tables
        }
    finally:
        remove_tree(scratch)
    written = {key: books_digest(names[0]) for key, names in past.files_of_both(BOOKS).items()}
    differing = sorted(key for key in digests.keys() | written.keys() if digests.get(key) != written.get(key))
    whole = hashlib.sha256("".join(digests[key] for key in sorted(digests)).encode())
    return {
        "as_of": run["run_id"],
        "code_versions": [run["code_version"]],
        "symbol_hours": len(written),
        "differing": [" ".join(map(str, key)) for key in differing],
        "digest": whole.hexdigest(),
    }


def books_digest(file: Path | str) -> str:
    """Return the SHA-256 of a data file's rows, columns and order included, as hex digits."""
    digest = hashlib.sha256()
    rows = pq.ParquetFile(readable(file)).read().combine_chunks()
    for batch in rows.to_batches(max_chunksize=_BATCH_ROWS):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema.remove_metadata()) as stream:
            stream.write_batch(batch.replace_schema_metadata())
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _run(warehouse: Warehouse, run_id: str) -> dict[str, Any]:
    require_published(warehouse.root)
    runs = sorted(warehouse.rows(RUNS), key=itemgetter("finished"))
    found = [run for run in runs if run["run_id"] == run_id]
    if not found:
        last = ", ".join(run["run_id"] for run in runs[-_SHOWN:])
        raise WarehouseError(f"no run {run_id} in {warehouse.root}; the last ones: {last or 'none'}")
    if found[0]["settings_hash"] != warehouse.settings.fingerprint:
        raise WarehouseError(
            f"run {run_id} was made with other settings ({found[0]['settings_hash']}, these are "
            f"{warehouse.settings.fingerprint}): give the same --config, --depth, --cadence, --on-gap, --seed"
        )
    return found[0]
