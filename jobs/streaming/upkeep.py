"""Upkeep of live tables: delete rows that runs have published, merge small files, and remove old files."""

from __future__ import annotations

from pathlib import Path

from deltalake import WriterProperties

from deltabook.jobs.tables.delta_tables import open_table, read_add_actions
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.names import valid_name
from deltabook.schemas.tables import BOOKS, both

_LARGEST_FILE = 128 << 20
"""Target size of a merged data file, in bytes."""
_COMPRESSION = WriterProperties(compression="ZSTD", compression_level=1)
_READING_HOURS = 1
"""Hours for which replaced data files and old log files are kept for readers that still use these files."""
LOG_RETENTION = {"delta.logRetentionDuration": f"interval {_READING_HOURS} hours"}
"""Properties of live tables in Delta: how long Delta keeps old log files."""


def maintain_live_tables(tables: Warehouse, warehouse: Path) -> None:
    """Delete the live rows that runs have published, merge small data files, and remove old files.

    Parameters
    ----------
    tables : Warehouse
        The tables in the folder `live`. The caller must be the only writer of these tables.
    warehouse : Path
        Folder of the warehouse, with the published tables.
    """
    versions = published_versions(warehouse)
    for table in both(BOOKS):
        if not tables.exists(table):
            continue
        if table.name in versions:
            tables.delete(table, _make_published_predicate(warehouse, table, versions[table.name]))
        delta_table = open_table(tables.root, table)
        with tables.committing("join", table):
            delta_table.optimize.compact(target_size=_LARGEST_FILE, writer_properties=_COMPRESSION)
        delta_table.vacuum(_READING_HOURS, dry_run=False, enforce_retention_duration=False)
        delta_table.create_checkpoint()
        delta_table.cleanup_metadata()


def _make_published_predicate(warehouse: Path, table: Table, version: int) -> str:
    """Return an SQL condition that selects each live row before the last published row of its chunk."""
    return " OR ".join(
        f"(exchange = '{valid_name(row['min.exchange'], 'exchange')}' "
        f"AND symbol = '{valid_name(row['partition.symbol'], 'symbol')}' "
        f"AND hour = {int(row['min.hour'])} AND order_time < {int(row['max.order_time'])})"
        for row in read_add_actions(warehouse, table, version)
        if row["min.hour"] == row["max.hour"]
    )
