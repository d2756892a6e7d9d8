"""Read the chunks and epochs of the streams of a warehouse.

A stream is all book updates, or all trades, of one instrument. A chunk is a range of ids of a stream, one
hour by default. An epoch is a range of ids between two restarts of the venue's ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter
from typing import cast

from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.names import EventType
from deltabook.schemas.rows import ChunkRow, EpochRow
from deltabook.schemas.tables import EPOCHS, HOURS
from deltabook.udfs.ordering.chunk_boundaries import IdRange, make_position

Stream = tuple[str, str, str]
"""Exchange, symbol and event type of a stream."""

EVENT_TYPES = {"book_update": EventType.BOOK_UPDATE, "trade": EventType.TRADE, "agg_trade": EventType.TRADE}
"""Maps each kind of parsed record to the type of its events. Records of other kinds do not become events."""


def get_stream(row: ChunkRow | EpochRow) -> Stream:
    """Return the stream that a row of `hours` or `epochs` belongs to.

    Parameters
    ----------
    row : ChunkRow or EpochRow
        Row of the table `hours` or `epochs`.

    Returns
    -------
    tuple of str
        Exchange, symbol and event type.
    """
    return row["exchange"], row["symbol"], row["event_type"]


def read_chunks(tables: TableReader) -> list[ChunkRow]:
    """Return the rows of the table `hours`, sorted by start of the chunk.

    Parameters
    ----------
    tables : TableReader
        Reader of the warehouse's tables.

    Returns
    -------
    list of ChunkRow
        One row for each chunk of each stream.
    """
    return cast(list[ChunkRow], sorted(tables.rows(HOURS), key=itemgetter("hour")))


def read_epochs(tables: TableReader) -> list[EpochRow]:
    """Return the rows of the table `epochs`, sorted by number of the epoch.

    Parameters
    ----------
    tables : TableReader
        Reader of the warehouse's tables.

    Returns
    -------
    list of EpochRow
        One row for each restart of the ids of each stream.
    """
    return cast(list[EpochRow], sorted(tables.rows(EPOCHS), key=itemgetter("epoch")))


def make_id_ranges(chunks: Iterable[ChunkRow]) -> dict[Stream, list[IdRange]]:
    """Return a dict that maps each stream to the id ranges of its chunks.

    Parameters
    ----------
    chunks : iterable of ChunkRow
        Rows of the table `hours`, in the order in which `read_chunks` returns them.

    Returns
    -------
    dict
        Maps each stream to a list of id ranges, in the order of the chunks. The dict is a `defaultdict`: an
        unknown stream has an empty list.
    """
    ranges: dict[Stream, list[IdRange]] = defaultdict(list)
    for row in chunks:
        first = make_position(row["first_epoch"], row["first_sequence"])
        last = make_position(row["last_epoch"], row["last_sequence"])
        ranges[get_stream(row)].append(IdRange(row["hour"], first, last))
    return ranges
