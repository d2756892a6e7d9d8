"""Seeds: the first book that a vendor published, for feeds that send no snapshot."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pyspark.sql import functions as F

from deltabook.jobs.placing import Placing
from deltabook.jobs.stored import Slice
from deltabook.jobs.warehouse import Warehouse
from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.feeds import FEEDS, Continuity
from deltabook.schemas.names import NOT_GIVEN, EventType, GoldenKind
from deltabook.schemas.tables import GOLDEN, INSTRUMENTS, both
from deltabook.udfs.boundaries import ends, position
from deltabook.udfs.numbers import to_integer

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
    first = F.min_by(F.struct("sequence", *SIDE_NAMES), F.struct("sequence", "source_file", "source_row"))
    rows = [
        row
        for table in both(GOLDEN)
        if warehouse.exists(table)
        for row in warehouse.read(table)
        .where(F.col("kind") == GoldenKind.VENDOR_BOOK)
        .groupBy("exchange", "symbol")
        .agg(first.alias("book"))
        .collect()
    ]
    hours = Placing(warehouse).hours
    seeds = {}
    for row in rows:
        stream = (row.exchange, row.symbol, EventType.BOOK_UPDATE)
        if (row.exchange, row.symbol) in without_ids and hours.get(stream):
            place = position(0, row.book.sequence)
            ranges = ends(hours[stream])
            hour = next((hour for hour, (_, end) in ranges.items() if place < end), max(ranges))
            seed = {f"seed_{name}": list(map(_integer, row.book[name])) for name in SIDE_NAMES}
            seeds[row.exchange, row.symbol, hour] = seed | {"seed_sequence": row.book.sequence}
    return seeds


def _integer(number: int | Decimal) -> int:
    """Return a price or size as `hour_references` carries it: at its table's scale."""
    return to_integer(number) if isinstance(number, Decimal) else number
