"""Vendor seeds: books of a data vendor from which the rebuild of an instrument can start.

A feed without snapshots does not say with which levels its book begins. The first book that the vendor
published for the instrument, a golden row, then serves as the seed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import pyarrow.compute as pc

from deltabook.jobs.intake.streams import make_id_ranges, read_chunks
from deltabook.jobs.tables.stored import ChunkKey, IdRangeFile, TableReader
from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.feeds import FEEDS, Continuity
from deltabook.schemas.names import NOT_GIVEN, EventType, GoldenKind
from deltabook.schemas.rows import SeedFields
from deltabook.schemas.tables import GOLDEN, INSTRUMENTS, both
from deltabook.udfs.numbers.encoding import to_integer
from deltabook.udfs.ordering.chunk_boundaries import find_chunk_bounds, make_position
from deltabook.udfs.storage.object_store import open_dataset

NO_SEED: SeedFields = {
    "seed_sequence": NOT_GIVEN,
    "seed_bid_prices": [],
    "seed_bid_sizes": [],
    "seed_ask_prices": [],
    "seed_ask_sizes": [],
}
"""Values of the seed columns for a chunk that does not start from a vendor's book."""


class _VendorBook(NamedTuple):
    """A vendor's book: its id, and its levels as the table `golden` stores them, best level first."""

    sequence: int
    bid_prices: list[int | Decimal]
    bid_sizes: list[int | Decimal]
    ask_prices: list[int | Decimal]
    ask_sizes: list[int | Decimal]


def find_seeds(tables: TableReader) -> dict[ChunkKey, SeedFields]:
    """Return the vendor's first book of each instrument whose feed has no ids.

    The key is the chunk that contains this book's id. The rebuild of that chunk starts from the book.

    Parameters
    ----------
    tables : TableReader
        The warehouse's tables.

    Returns
    -------
    dict
        The seed columns of `rebuild_references` by (exchange, symbol, chunk).
    """
    without_ids = {
        (row["exchange"], row["symbol"])
        for row in tables.rows(INSTRUMENTS)
        if FEEDS[row["feed"]].continuity is Continuity.NONE
    }
    files: dict[str, list[IdRangeFile]] = {}
    for table in both(GOLDEN):
        files |= tables.files_by_symbol(table)
    ranges = make_id_ranges(read_chunks(tables))
    seeds: dict[ChunkKey, SeedFields] = {}
    for exchange, symbol in sorted(without_ids):
        stream = (exchange, symbol, EventType.BOOK_UPDATE)
        if ranges.get(stream) and (book := _read_first_book(exchange, files.get(symbol, []))):
            book_position = make_position(0, book.sequence)
            bounds = find_chunk_bounds(ranges[stream])
            chunk = next((chunk for chunk, (_, end) in bounds.items() if book_position < end), max(bounds))
            # Do not reorder these keys: stored fingerprints depend on their order.
            seeds[exchange, symbol, chunk] = {
                "seed_bid_prices": list(map(_to_integer, book.bid_prices)),
                "seed_bid_sizes": list(map(_to_integer, book.bid_sizes)),
                "seed_ask_prices": list(map(_to_integer, book.ask_prices)),
                "seed_ask_sizes": list(map(_to_integer, book.ask_sizes)),
                "seed_sequence": book.sequence,
            }
    return seeds


def _read_first_book(exchange: str, files: list[IdRangeFile]) -> _VendorBook | None:
    """Return the vendor's book with the lowest id in the given data files of `golden`, or None."""
    is_vendor_book = (pc.field("kind") == str(GoldenKind.VENDOR_BOOK)) & (pc.field("exchange") == exchange)
    if not files:
        return None
    dataset = open_dataset([file for file, _, _ in files])
    # Read only ids first, so that the levels of only one book are read.
    ids = dataset.to_table(columns=["sequence"], filter=is_vendor_book)["sequence"]
    if not len(ids):
        return None
    is_first = is_vendor_book & (pc.field("sequence") == pc.min(ids))
    rows = dataset.to_table(columns=["sequence", "source_file", "source_row", *SIDE_NAMES], filter=is_first)
    first = rows.sort_by([("source_file", "ascending"), ("source_row", "ascending")]).to_pylist()[0]
    return _VendorBook(first["sequence"], *(first[name] for name in SIDE_NAMES))


def _to_integer(number: int | Decimal) -> int:
    """Return a price or size as an integer at the scale of the instrument's tables."""
    return to_integer(number) if isinstance(number, Decimal) else number
