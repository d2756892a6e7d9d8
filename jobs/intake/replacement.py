"""Replacing a file: what of the tables it has to leave, and what has to be told again without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from deltabook.jobs.intake.ledger import Batch
from deltabook.jobs.tables.stored import Slice
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import EVENTS, GOLDEN, QUARANTINE, both
from deltabook.udfs.storage.raw_files import content_hash


@dataclass(frozen=True)
class Again:
    """What a replacement makes to be done again.

    Attributes
    ----------
    hours : list of (exchange, symbol, hour)
        Hours that hold events of the replaced files.
    files : list of Path
        Other files that told some of the same messages: which of them is kept is decided anew.
    """

    hours: list[Slice]
    files: list[Path]


def replaced_hours(warehouse: Warehouse, batch: Batch, ledger: list[dict[str, Any]]) -> Again:
    """Find what the replaced files have left in the tables.

    Parameters
    ----------
    warehouse : Warehouse
        As it stands.
    batch : Batch
        What is ingested.
    ledger : list of dict
        Rows of the table `files`.

    Returns
    -------
    Again
        Nothing if no file is replaced.

    Raises
    ------
    WarehouseError
        If a file that told some of the same messages is not there any more.
    """
    if not batch.replaced:
        return Again([], [])
    events = warehouse.read_both(
        EVENTS, lambda rows: rows.select("exchange", "symbol", "hour", "source_file")
    )
    out = list(batch.replaced.values())
    rows = events.where(F.col("source_file").isin(out)).select("exchange", "symbol", "hour").distinct()
    kept = {row.source_file: row["count"] for row in events.groupBy("source_file").count().collect()}
    files = []
    for row in ledger:
        if row["state"] != "ingested" or row["path"] in out or kept.get(row["path"], 0) >= row["events"]:
            continue
        path = Path(row["path"])
        if not path.is_file() or content_hash(path) != row["content_hash"]:
            raise WarehouseError(
                f"{row['path']} told some messages that another file has told too, so a replacement has to "
                "read it again, and it is not there as it was: put it back, or ingest all into a new "
                "--warehouse"
            )
        files.append(path)
    return Again(sorted(tuple(row) for row in rows.collect()), files)


def take_out(warehouse: Warehouse, paths: list[str]) -> None:
    """Delete the golden and quarantined rows of files that are told again."""
    for table in (*both(GOLDEN), QUARANTINE):
        if paths:
            warehouse.delete(table, f"source_file IN ({', '.join(map(_literal, paths))})")


def _literal(text: str) -> str:
    """Write a text in SQL."""
    return "'" + text.replace("'", "''") + "'"
