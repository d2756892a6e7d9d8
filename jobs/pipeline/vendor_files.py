"""Where the vendor books of each chunk are, for feeds whose books rest on them (`Feed.is_unlinked`)."""

from __future__ import annotations

from collections.abc import Sequence

from deltabook.jobs.intake.streams import read_chunks
from deltabook.jobs.tables.stored import ChunkKey, IdRangeFile, TableReader
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import INT64_MAX, EventType
from deltabook.schemas.rows import ChunkRow, VendorFields
from deltabook.schemas.tables import GOLDEN, INSTRUMENTS, both

NO_VENDOR: VendorFields = {"vendor_files": [], "vendor_from": 0, "vendor_to": 0}
"""Columns `vendor_*` of a chunk without vendor books."""


def find_vendor_files(tables: TableReader) -> dict[ChunkKey, VendorFields]:
    """Return the data files of `golden` that may have vendor books of each chunk, and the ids to read.

    A vendor book belongs to the chunk of the first message that it does not include. So the ids begin after
    the last id of the chunk before.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.

    Returns
    -------
    dict
        The columns `vendor_*` of `rebuild_references` by (exchange, symbol, chunk); chunks of linked feeds
        and chunks without such files are absent.
    """
    unlinked = {
        (row["exchange"], row["symbol"]) for row in tables.rows(INSTRUMENTS) if FEEDS[row["feed"]].is_unlinked
    }
    if not unlinked:
        return {}
    golden: dict[str, list[IdRangeFile]] = {}
    for table in both(GOLDEN):
        for symbol, files in tables.files_by_symbol(table).items():
            golden.setdefault(symbol, []).extend(files)
    chunks: dict[tuple[str, str], list[ChunkRow]] = {}
    for row in read_chunks(tables):
        if row["event_type"] == EventType.BOOK_UPDATE and (row["exchange"], row["symbol"]) in unlinked:
            chunks.setdefault((row["exchange"], row["symbol"]), []).append(row)
    found: dict[ChunkKey, VendorFields] = {}
    for (exchange, symbol), rows in chunks.items():
        for before, row in zip([None, *rows], rows, strict=False):
            if chosen := _choose_files(golden.get(symbol, []), rows, before, row):
                found[exchange, symbol, row["hour"]] = chosen
    return found


def _choose_files(
    files: Sequence[IdRangeFile], rows: Sequence[ChunkRow], before: ChunkRow | None, row: ChunkRow
) -> VendorFields | None:
    """Return the files and ids for one chunk of an instrument; None if there are no files.

    If the ids of the messages and of the vendor books have no range in common, one of the two has no ids and
    times instead: then all files are read. So they are at a restart of the ids.
    """
    first = before or row
    least, most = first["last_sequence"] + 1 if before else row["first_sequence"], row["last_sequence"]
    lowest = min(each["first_sequence"] for each in rows)
    highest = max(each["last_sequence"] for each in rows)
    is_comparable = any(low <= highest and high >= lowest for _, low, high in files)
    if not is_comparable or first["first_epoch"] != row["last_epoch"]:
        least, most = 0, INT64_MAX
    chosen = [file for file, low, high in files if low <= most and high >= least]
    return {"vendor_files": chosen, "vendor_from": least, "vendor_to": most} if chosen else None
