"""Upkeep of live books: rows that runs have published go, small files are joined, old ones removed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import WriterProperties

from deltabook.jobs.tables.published import open_table, published_versions
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.names import valid_name
from deltabook.schemas.tables import BOOKS, both

_LARGEST = 128 << 20
_COMPRESSED = WriterProperties(compression="ZSTD", compression_level=1)
_READING_HOURS = 1
"""For how long a reader may still need files that were joined, and the log that names them."""
KEPT_LOG = {"delta.logRetentionDuration": f"interval {_READING_HOURS} hours"}


def tidy(tables: Warehouse, warehouse: Path) -> None:
    """Bring live books in order.

    Parameters
    ----------
    tables : Warehouse
        Those of the folder `live`, which the caller writes.
    warehouse : Path
        The folder of the published tables.
    """
    versions = published_versions(warehouse)
    for table in both(BOOKS):
        if not tables.exists(table):
            continue
        if table.name in versions:
            tables.delete(table, _published(warehouse, table, versions[table.name]))
        held = open_table(tables.root, table)
        with tables.committing("join", table):
            held.optimize.compact(target_size=_LARGEST, writer_properties=_COMPRESSED)
        held.vacuum(_READING_HOURS, dry_run=False, enforce_retention_duration=False)
        held.create_checkpoint()
        held.cleanup_metadata()


def _published(warehouse: Path, table: Table, version: int) -> str:
    """Return the SQL condition for rows before the last one that was published of their symbol-hour."""
    actions = pa.table(open_table(warehouse, table, version).get_add_actions(flatten=True)).to_pylist()
    return " OR ".join(
        f"(exchange = '{valid_name(row['min.exchange'], 'exchange')}' "
        f"AND symbol = '{valid_name(row['partition.symbol'], 'symbol')}' "
        f"AND hour = {int(row['min.hour'])} AND order_time < {int(row['max.order_time'])})"
        for row in actions
        if row["min.hour"] == row["max.hour"]
    )
