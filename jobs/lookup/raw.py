"""The command `raw`: show the lines of a raw file from which an event was read. Starts no Spark.

The event's row in `events` names the file and the line. The ledger (table `files`) has the hash of the file's
content, which shows whether the file has changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltabook.jobs.intake.ledger import list_raw_file_locations
from deltabook.jobs.tables.delta_tables import open_dataset
from deltabook.jobs.tables.instrument_lookup import find_instruments
from deltabook.jobs.tables.published import require_published
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.rows import LedgerRow
from deltabook.schemas.tables import EVENTS, FILES, both
from deltabook.udfs.sources.common.documents import one_message_per_line
from deltabook.udfs.sources.common.file_source import line_blocks
from deltabook.udfs.storage.containers import is_parquet, open_file
from deltabook.udfs.storage.locations import is_remote
from deltabook.udfs.storage.object_store import copy_file
from deltabook.udfs.storage.raw_files import has_content

_TABULAR = ("crypto_lake", "tardis")
"""Sources whose files have one row per level change."""


class EventLevels(TypedDict):
    """Prices of the level changes of a book update, from the column `data` of `events`."""

    bid_prices: Sequence[object]
    ask_prices: Sequence[object]


class EventRow(TypedDict):
    """The columns of a row of `events` that identify the event and its place in a raw file."""

    exchange: str
    symbol: str
    event_type: str
    sequence: int
    data: EventLevels
    source_file: str
    source_row: int


@dataclass(frozen=True)
class RawRecord:
    """The raw record of one event.

    Attributes
    ----------
    event : EventRow
        Row of `events`.
    path : str
        Path of the raw file, or of the raw file's copy in the archive.
    rows : list of bytes
        The line that contains the message. If each row of the file is one level change, all rows of the
        message.
    """

    event: EventRow
    path: str
    rows: list[bytes]


def read_raw_records(warehouse: Path, symbol: str, sequence: int, exchange: str | None) -> list[RawRecord]:
    """Return the raw record of each event of a symbol that has a given id.

    Parameters
    ----------
    warehouse : Path
        Folder of the tables.
    symbol : str
        Symbol as in the tables.
    sequence : int
        Update id or trade id.
    exchange : str, optional
        Exchange of the symbol; None: all exchanges.

    Returns
    -------
    list of RawRecord
        One record for each event with the id. A book update and a trade may have the same id, so there may be
        several events.

    Raises
    ------
    WarehouseError
        If the symbol does not exist (the message lists the existing symbols), if no event has the id, or if
        the raw file is missing or changed and has no copy.
    """
    versions = require_published(warehouse)
    symbol = find_instruments(warehouse, symbol, exchange)[0]["symbol"]
    wanted = (pc.field("symbol") == symbol) & (pc.field("sequence") == sequence)
    if exchange is not None:
        wanted &= pc.field("exchange") == exchange
    events: list[EventRow] = []
    for table in both(EVENTS):
        events += _read_rows(warehouse, table, versions, wanted).to_pylist()
    if not events:
        raise WarehouseError(
            f"{symbol} {sequence}: no such event in {warehouse}. Pass the id of an event, as in the column "
            "`sequence` of `events`"
        )
    files: list[LedgerRow] = _read_rows(warehouse, FILES, versions, None).to_pylist()
    ledger = {row["path"]: row for row in files}
    return [_read_record(warehouse, event, ledger[event["source_file"]]) for event in events]


def _read_rows(
    warehouse: Path, table: Table, versions: dict[str, int], wanted: pc.Expression | None
) -> pa.Table:
    """Return the rows of a table that a filter selects; no rows if `versions` lacks the table."""
    if table.name not in versions:
        return table.arrow.empty_table()
    return open_dataset(warehouse, table, versions[table.name]).to_table(filter=wanted)


def _read_record(warehouse: Path, event: EventRow, file: LedgerRow) -> RawRecord:
    """Read the raw record of an event from the raw file, or from a copy if the file is not intact."""
    for location in list_raw_file_locations(warehouse, file):
        if has_content(location, file["content_hash"]):
            levels = len(event["data"]["bid_prices"]) + len(event["data"]["ask_prices"])
            with _local_copy(location) as path:
                rows = max(levels, 1) if _is_table(path, file["source"]) else 1
                return RawRecord(event, str(location), _read_lines(path, event["source_row"], rows))
    raise WarehouseError(
        f"{file['path']} has changed or is missing (it was ingested with SHA-256 {file['content_hash']}), "
        "and the warehouse has no intact copy of the file: put the file back. `ingest --archive` stores "
        "copies"
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
    """Return `rows` rows of a file from row number `row` on (counted from 1). Parquet rows become JSON."""
    if is_parquet(path):
        table = pq.ParquetFile(path).read().slice(row - 1, rows)
        return [json.dumps(record, default=str).encode() for record in table.to_pylist()]
    with open_file(path) as stream:
        blocks = one_message_per_line(line_blocks(stream))
        lines = (line for block in blocks for line in block.splitlines())
        return list(islice(lines, row - 1, row - 1 + rows))
