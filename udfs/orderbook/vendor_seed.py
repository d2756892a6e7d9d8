"""Seeds a book with a vendor's snapshot: inserts the snapshot's top levels as a message into the feed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import NOT_GIVEN, EventType
from deltabook.udfs.numbers.encoding import to_decimal
from deltabook.udfs.orderbook.continuity import SEED_MARK


class SeedFields(Protocol):
    """A row with the columns `seed_*` of `rebuild_references`: a vendor's snapshot, levels best first."""

    @property
    def is_decimal(self) -> bool:
        """True if the instrument's prices and sizes are decimals; False if they are scaled integers."""

    @property
    def seed_sequence(self) -> int:
        """Last update id that the snapshot includes."""

    @property
    def seed_bid_prices(self) -> Sequence[int | Decimal]:
        """Bid prices, as integers."""

    @property
    def seed_bid_sizes(self) -> Sequence[int | Decimal]:
        """Bid sizes, as integers."""

    @property
    def seed_ask_prices(self) -> Sequence[int | Decimal]:
        """Ask prices, as integers."""

    @property
    def seed_ask_sizes(self) -> Sequence[int | Decimal]:
        """Ask sizes, as integers."""


def insert_seed(batches: Iterator[pa.RecordBatch], seed: SeedFields) -> Iterator[pa.RecordBatch]:
    """Insert a vendor's snapshot into a chunk's events, after the last book update that it includes.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Events of one chunk, columns of `schemas.frames.FLAT_EVENTS`, not encoded yet, in the feed's order.
    seed : SeedFields
        The snapshot.

    Yields
    ------
    pyarrow.RecordBatch
        The events, with the vendor's snapshot inserted as a snapshot whose `first_sequence` is `SEED_MARK`.
    """
    is_inserted, last_batch = False, None
    for batch in batches:
        last_batch = batch if batch.num_rows else last_batch
        if not is_inserted and batch.num_rows:
            is_update = pc.equal(batch["event_type"], EventType.BOOK_UPDATE)
            is_after_seed = pc.and_(is_update, pc.greater(batch["sequence"], int(seed.seed_sequence)))
            if pc.any(is_after_seed).as_py():
                row = int(np.argmax(is_after_seed.to_numpy(zero_copy_only=False)))
                event = _make_seed_event(seed, batch, max(row - 1, 0))
                batch = pa.concat_batches([batch.slice(0, row), event, batch.slice(row)])
                is_inserted = True
        yield batch
    if not is_inserted and last_batch is not None:
        yield _make_seed_event(seed, last_batch, last_batch.num_rows - 1)


def _make_seed_event(seed: SeedFields, events: pa.RecordBatch, neighbor_row: int) -> pa.RecordBatch:
    """Return a seed as an event; the fields that a seed lacks are copied from a neighboring event."""
    neighbor = events.slice(neighbor_row, 1).to_pylist()[0]
    convert = to_decimal if seed.is_decimal else int
    levels = {side: [convert(int(value)) for value in getattr(seed, f"seed_{side}")] for side in SIDE_NAMES}
    own_fields = {
        "event_type": str(EventType.BOOK_UPDATE),
        "sequence": int(seed.seed_sequence),
        "is_snapshot": True,
        "first_sequence": SEED_MARK,
        "prev_sequence": max(len(levels["bid_prices"]), len(levels["ask_prices"])),
        "damaged": False,
        "checksum": NOT_GIVEN,
        "kept_levels": NOT_GIVEN,
        "timestamp": neighbor["order_time"],
    }
    return pa.RecordBatch.from_pylist([neighbor | own_fields | levels], schema=events.schema)
