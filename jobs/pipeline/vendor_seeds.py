"""Seeds: the first book that a vendor published, for feeds that send no snapshot."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow.compute as pc

from deltabook.jobs.intake.chunk_assignment import Placing
from deltabook.jobs.tables.stored import IdFile, Slice
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.feeds import FEEDS, Continuity
from deltabook.schemas.names import NOT_GIVEN, EventType, GoldenKind
from deltabook.schemas.tables import GOLDEN, INSTRUMENTS, both
from deltabook.udfs.numbers.encoding import to_integer
from deltabook.udfs.ordering.chunk_boundaries import ends, position
from deltabook.udfs.storage.object_store import dataset_of

NO_SEED: dict[str, Any] = {"seed_sequence": NOT_GIVEN} | {f"seed_{side}": [] for side in SIDE_NAMES}
"""The columns of `hour_references` where nothing seeds the hour's book."""


def find_seeds(warehouse: Warehouse) -> dict[Slice, dict[str, Any]]:
    """Find the first vendor's book of each symbol whose feed has no ids, and the hour it belongs to.

    Returns
    -------
    dict
        The seed's columns of `hour_references`, by (exchange, symbol, hour).
    """
    without_ids = {
        (row["exchange"], row["symbol"])
        for row in warehouse.rows(INSTRUMENTS)
        if FEEDS[row["feed"]].continuity is Continuity.NONE
    }
    files: dict[str, list[IdFile]] = {}
    for table in both(GOLDEN):
        files |= warehouse.files_by_symbol(table)
    hours = Placing(warehouse).hours
    seeds = {}
    for exchange, symbol in sorted(without_ids):
        stream = (exchange, symbol, EventType.BOOK_UPDATE)
        if hours.get(stream) and (book := _first_book(exchange, files.get(symbol, []))):
            place = position(0, book["sequence"])
            ranges = ends(hours[stream])
            hour = next((hour for hour, (_, end) in ranges.items() if place < end), max(ranges))
            seed = {f"seed_{name}": list(map(_integer, book[name])) for name in SIDE_NAMES}
            seeds[exchange, symbol, hour] = seed | {"seed_sequence": book["sequence"]}
    return seeds


def _first_book(exchange: str, files: list[IdFile]) -> dict[str, Any] | None:
    """Read the vendor's first book of an exchange from a symbol's data files: its id, then that id's rows."""
    chosen = (pc.field("kind") == str(GoldenKind.VENDOR_BOOK)) & (pc.field("exchange") == exchange)
    if not files:
        return None
    dataset = dataset_of([file for file, _, _ in files])
    ids = dataset.to_table(columns=["sequence"], filter=chosen)["sequence"]
    if not len(ids):
        return None
    of_id = chosen & (pc.field("sequence") == pc.min(ids))
    rows = dataset.to_table(columns=["sequence", "source_file", "source_row", *SIDE_NAMES], filter=of_id)
    first: dict[str, Any] = rows.sort_by(
        [("source_file", "ascending"), ("source_row", "ascending")]
    ).to_pylist()[0]
    return first


def _integer(number: int | Decimal) -> int:
    """Return a price or size as `hour_references` carries it: at its table's scale."""
    return to_integer(number) if isinstance(number, Decimal) else number
