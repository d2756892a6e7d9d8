"""The command `raw`: show the raw record from which an event was read. Starts no Spark.

The ledger (table `files`) names the raw file and the hash of its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.jobs.intake.ledger import list_raw_file_locations
from deltabook.jobs.tables.delta_tables import open_dataset
from deltabook.jobs.tables.instrument_lookup import find_instruments
from deltabook.jobs.tables.published import require_published
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import EVENTS, FILES, both
from deltabook.udfs.sources.common.file_source import open_file
from deltabook.udfs.storage.locations import is_remote
from deltabook.udfs.storage.object_store import copy_file
from deltabook.udfs.storage.raw_files import hash_file

_TABULAR = ("crypto_lake", "tardis")


@dataclass(frozen=True)
class RawRecord:
    """The raw record of one event.

    Attributes
    ----------
    event : dict
        The event's row of `events`.
    path : str
        Path of the raw file, or of the file's copy in the archive.
    rows : list of bytes
        If each line of the file is a message: this line. If each row of the file is one level change: all
        rows of the message.
    """

    event: dict[str, Any]
    path: str
    rows: list[bytes]


def read_raw_records(warehouse: Path, symbol: str, sequence: int, exchange: str | None) -> list[RawRecord]:
    """Return the raw records of the events with one id.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol : str
        Symbol as in the tables.
    sequence : int
        Update id or trade id.
    exchange : str, optional
        Needed if several exchanges list the symbol.

    Returns
    -------
    list of RawRecord
        One for each event with the id, in the order of `events`. A book update and a trade may have the same
        id.

    Raises
    ------
    WarehouseError
        If the symbol does not exist (the message lists the existing symbols), if no event has the id, or if
        there is no unchanged raw file or copy.
    """
    versions = require_published(warehouse)
    find_instruments(warehouse, symbol, exchange)
    wanted = (pc.field("symbol") == symbol) & (pc.field("sequence") == sequence)
    if exchange is not None:
        wanted &= pc.field("exchange") == exchange
    events = [event for table in both(EVENTS) for event in _read_rows(warehouse, table, versions, wanted)]
    if not events:
        raise WarehouseError(f"{symbol} {sequence}: no such event in {warehouse}")
    ledger = {row["path"]: row for row in _read_rows(warehouse, FILES, versions, None)}
    return [_read_record(warehouse, event, ledger[event["source_file"]]) for event in events]


def _read_rows(warehouse: Path, table: Table, versions: dict[str, int], wanted: Any) -> list[dict[str, Any]]:
    if table.name not in versions:
        return []
    dataset = open_dataset(warehouse, table, versions[table.name])
    return dataset.to_table(filter=wanted).to_pylist()  # type: ignore[no-any-return]


def _read_record(warehouse: Path, event: dict[str, Any], file: dict[str, Any]) -> RawRecord:
    for location in list_raw_file_locations(warehouse, file):
        if location.is_file() and hash_file(location) == file["content_hash"]:
            levels = len(event["data"]["bid_prices"]) + len(event["data"]["ask_prices"])
            with _local_copy(location) as path:
                rows = max(levels, 1) if _is_table(path, file["source"]) else 1
                return RawRecord(event, str(location), _read_lines(path, event["source_row"], rows))
    raise WarehouseError(
        f"{file['path']} has changed or is missing (it was ingested with SHA-256 {file['content_hash']}), "
        "and there is no copy of it: put it back. `ingest --archive` stores copies"
    )


@contextmanager
def _local_copy(location: Path) -> Iterator[str]:
    """Yield a local path of a file; a file in an object store is first copied to a temporary folder."""
    if not is_remote(location):
        yield str(location)
        return
    with TemporaryDirectory() as folder:
        copy_file(location, Path(folder) / location.name)
        yield str(Path(folder) / location.name)


def _is_table(path: str, source: str) -> bool:
    """Return whether each row of a file is one level change, so that a message may have several rows."""
    if source in _TABULAR:
        return True
    with open_file(path) as stream:
        return stream.read(16).startswith(b"symbol,timestamp")


def _read_lines(path: str, row: int, rows: int) -> list[bytes]:
    """Return `rows` rows of a file from row number `row` on, counted from 1; Parquet rows become JSON."""
    with Path(path).open("rb") as raw:
        if raw.read(4) == b"PAR1":
            table = pq.ParquetFile(path).read().slice(row - 1, rows)
            return [json.dumps(record, default=str).encode() for record in table.to_pylist()]
    with open_file(path) as stream:
        return [line.rstrip(b"\r\n") for line in islice(stream, row - 1, row - 1 + rows)]
