"""The command `raw`: the raw record behind an event, from the file that the ledger knows."""

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

from deltabook.jobs.intake.ledger import places_of
from deltabook.jobs.tables.instrument_lookup import instruments_named
from deltabook.jobs.tables.published import open_dataset, require_published
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import EVENTS, FILES, both
from deltabook.udfs.sources.common.file_source import open_file
from deltabook.udfs.storage.object_store import copied, is_remote
from deltabook.udfs.storage.raw_files import content_hash

_TABULAR = ("crypto_lake", "tardis")


@dataclass(frozen=True)
class RawRecord:
    """One event's raw record.

    Attributes
    ----------
    event : dict
        Its row of `events`.
    path : str
        The raw file, or its copy in the archive.
    rows : list of bytes
        The line, or the rows of a table that make the message.
    """

    event: dict[str, Any]
    path: str
    rows: list[bytes]


def raw_records(warehouse: Path, symbol: str, sequence: int, exchange: str | None) -> list[RawRecord]:
    """Find the raw records behind the events of one id.

    Parameters
    ----------
    warehouse : Path
        The folder of the tables.
    symbol : str
        As in the tables.
    sequence : int
        Update id or trade id.
    exchange : str, optional
        If several list the symbol.

    Returns
    -------
    list of RawRecord
        In the order of `events`; a book update and a trade may have the same id.

    Raises
    ------
    WarehouseError
        If there is no such symbol (names those there are) or event, or the raw file is not there as it was,
        nor a copy of it.
    """
    versions = require_published(warehouse)
    instruments_named(warehouse, symbol, exchange)
    wanted = (pc.field("symbol") == symbol) & (pc.field("sequence") == sequence)
    if exchange is not None:
        wanted &= pc.field("exchange") == exchange
    events = [event for table in both(EVENTS) for event in _rows(warehouse, table, versions, wanted)]
    if not events:
        raise WarehouseError(f"{symbol} {sequence}: no such event in {warehouse}")
    ledger = {row["path"]: row for row in _rows(warehouse, FILES, versions, None)}
    return [_record(warehouse, event, ledger[event["source_file"]]) for event in events]


def _rows(warehouse: Path, table: Table, versions: dict[str, int], wanted: Any) -> list[dict[str, Any]]:
    if table.name not in versions:
        return []
    dataset = open_dataset(warehouse, table, versions[table.name])
    return dataset.to_table(filter=wanted).to_pylist()  # type: ignore[no-any-return]


def _record(warehouse: Path, event: dict[str, Any], file: dict[str, Any]) -> RawRecord:
    for place in places_of(warehouse, file):
        if place.is_file() and content_hash(place) == file["content_hash"]:
            levels = len(event["data"]["bid_prices"]) + len(event["data"]["ask_prices"])
            with _in_a_folder(place) as path:
                rows = max(levels, 1) if _is_table(path, file["source"]) else 1
                return RawRecord(event, str(place), _read(path, event["source_row"], rows))
    raise WarehouseError(
        f"{file['path']} is not there as it was ingested (SHA-256 {file['content_hash']}), and no copy of it "
        "was kept: put it back; ingest with --archive keeps copies"
    )


@contextmanager
def _in_a_folder(place: Path) -> Iterator[str]:
    """Give the path of a file, or of a copy of one from an object store."""
    if not is_remote(place):
        yield str(place)
        return
    with TemporaryDirectory() as folder:
        copied(place, Path(folder) / place.name)
        yield str(Path(folder) / place.name)


def _is_table(path: str, source: str) -> bool:
    if source in _TABULAR:
        return True
    with open_file(path) as stream:
        return stream.read(16).startswith(b"symbol,timestamp")


def _read(path: str, row: int, rows: int) -> list[bytes]:
    with Path(path).open("rb") as raw:
        if raw.read(4) == b"PAR1":
            table = pq.ParquetFile(path).read().slice(row - 1, rows)
            return [json.dumps(found, default=str).encode() for found in table.to_pylist()]
    with open_file(path) as stream:
        return [line.rstrip(b"\r\n") for line in islice(stream, row - 1, row - 1 + rows)]
