"""Replacement of a raw file: the work that it invalidates, and the rows that have to be deleted first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import functions as F

from deltabook.jobs.intake.ledger import FileBatch
from deltabook.jobs.tables.stored import ChunkKey
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import LedgerRow
from deltabook.schemas.tables import EVENTS, GOLDEN, QUARANTINE, both
from deltabook.udfs.storage.raw_files import hash_file


@dataclass(frozen=True)
class InvalidatedWork:
    """Work that has to be repeated because raw files are replaced.

    Attributes
    ----------
    chunks : list of (exchange, symbol, chunk)
        Chunks that hold events of the replaced files.
    files : list of Path
        Other files that have some of the same messages: which copy of a message stays is decided anew.
    """

    chunks: list[ChunkKey]
    files: list[Path]


def find_invalidated_work(
    warehouse: Warehouse, batch: FileBatch, ledger: Sequence[LedgerRow]
) -> InvalidatedWork:
    """Return the chunks to write and the files to read once more, because a batch replaces files.

    Parameters
    ----------
    warehouse : Warehouse
        Its `events` still hold the rows of the replaced files.
    batch : FileBatch
        Files that are ingested.
    ledger : sequence of LedgerRow
        All rows of the table `files`.

    Returns
    -------
    InvalidatedWork
        Empty if no file is replaced.

    Raises
    ------
    WarehouseError
        If a file with some of the same messages is missing or has changed.
    """
    if not batch.replaced:
        return InvalidatedWork([], [])
    events = warehouse.read_both(
        EVENTS, lambda rows: rows.select("exchange", "symbol", "hour", "source_file")
    )
    replaced = list(batch.replaced.values())
    chunks = events.where(F.col("source_file").isin(replaced)).select("exchange", "symbol", "hour").distinct()
    events_of_file = {
        row.source_file: row["count"] for row in events.groupBy("source_file").count().collect()
    }
    files = []
    for row in ledger:
        has_all_events = events_of_file.get(row["path"], 0) >= row["events"]
        if row["state"] != "ingested" or row["path"] in replaced or has_all_events:
            continue
        path = Path(row["path"])
        if not path.is_file() or hash_file(path) != row["content_hash"]:
            raise WarehouseError(
                f"{path}: it has some messages that another file has too, so a replacement has to read it "
                "again, but it is missing or has changed. Restore the file, or ingest everything into a new "
                "--warehouse"
            )
        files.append(path)
    return InvalidatedWork(sorted(tuple(row) for row in chunks.collect()), files)


def delete_rows_of_files(warehouse: Warehouse, paths: Sequence[str]) -> None:
    """Delete the golden and the quarantined rows of raw files, before the files are read again.

    Parameters
    ----------
    warehouse : Warehouse
        Is being written.
    paths : sequence of str
        Paths of raw files, as in `source_file`.
    """
    for table in (*both(GOLDEN), QUARANTINE):
        if paths:
            warehouse.delete(table, f"source_file IN ({', '.join(map(_quote_sql, paths))})")


def _quote_sql(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
