"""Streams of messages: an instrument's book updates or trades, their chunks and the epochs of their ids."""

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
"""Exchange, symbol and event type."""

EVENT_TYPES = {"book_update": EventType.BOOK_UPDATE, "trade": EventType.TRADE, "agg_trade": EventType.TRADE}
"""Event type of each kind of record that becomes an event."""


def get_stream(row: ChunkRow | EpochRow) -> Stream:
    """Return the stream that a row of a table belongs to.

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
    """Return the rows of the table `hours`, in the order of the chunks.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.

    Returns
    -------
    list of ChunkRow
        Chunks of all streams.
    """
    return cast(list[ChunkRow], sorted(tables.rows(HOURS), key=itemgetter("hour")))


def read_epochs(tables: TableReader) -> list[EpochRow]:
    """Return the rows of the table `epochs`, in the order of the epochs.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.

    Returns
    -------
    list of EpochRow
        Restarts of ids of all streams.
    """
    return cast(list[EpochRow], sorted(tables.rows(EPOCHS), key=itemgetter("epoch")))


def make_id_ranges(chunks: Iterable[ChunkRow]) -> dict[Stream, list[IdRange]]:
    """Return the id range of every chunk, by stream.

    Parameters
    ----------
    chunks : iterable of ChunkRow
        In order, as `read_chunks` returns them.

    Returns
    -------
    dict
        Ranges by stream, in the order of their chunks; an unknown stream has none.
    """
    ranges: dict[Stream, list[IdRange]] = defaultdict(list)
    for row in chunks:
        first = make_position(row["first_epoch"], row["first_sequence"])
        last = make_position(row["last_epoch"], row["last_sequence"])
        ranges[get_stream(row)].append(IdRange(row["hour"], first, last))
    return ranges
