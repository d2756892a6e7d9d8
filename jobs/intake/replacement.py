"""Prepare the replacement of raw files: find the chunks and files to process again, and delete old rows."""

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
from deltabook.udfs.storage.raw_files import has_content


@dataclass(frozen=True)
class InvalidatedWork:
    """Work to do again because raw files are replaced: chunks to write, and other raw files to read.

    Attributes
    ----------
    chunks : list of (exchange, symbol, chunk start)
        Chunks with events of the replaced files.
    files : list of Path
        Raw files from which messages were dropped earlier as duplicates of messages in other files. If the
        file with the kept message is replaced, the dropped message may be the only copy of the message.
    """

    chunks: list[ChunkKey]
    files: list[Path]


def find_invalidated_work(
    warehouse: Warehouse, batch: FileBatch, ledger: Sequence[LedgerRow]
) -> InvalidatedWork:
    """Return the chunks to write again and the raw files to read again, because a batch replaces files.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse. The table `events` must still contain the rows of the replaced files.
    batch : FileBatch
        Files to ingest.
    ledger : sequence of LedgerRow
        All rows of the table `files`.

    Returns
    -------
    InvalidatedWork
        Chunks and files; both lists are empty if no file is replaced.

    Raises
    ------
    WarehouseError
        If a file that has to be read again is missing or has changed.
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
        if not has_content(path, row["content_hash"]):
            raise WarehouseError(
                f"{path}: missing or changed. The file has to be read again, because it may have messages of "
                "the file that is replaced. Restore the file, or ingest all files into a new --warehouse"
            )
        files.append(path)
    return InvalidatedWork(sorted(tuple(row) for row in chunks.collect()), files)


def delete_rows_of_files(warehouse: Warehouse, paths: Sequence[str]) -> None:
    """Delete the rows of raw files from `golden` and `quarantine`, before the files are read again.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse. The caller must have locked the warehouse.
    paths : sequence of str
        Paths of raw files, as in the column `source_file`.
    """
    for table in (*both(GOLDEN), QUARANTINE):
        if paths:
            warehouse.delete(table, f"source_file IN ({', '.join(map(_quote_sql, paths))})")


def _quote_sql(text: str) -> str:
    """Return a text as a quoted SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
