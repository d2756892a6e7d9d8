"""Seeds a book with a vendor's snapshot: inserts the snapshot's top levels as a message into the feed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import NOT_GIVEN, EventType
from deltabook.udfs.numbers.encoding import to_decimal
from deltabook.udfs.orderbook.continuity import SEED_MARK


def insert_seed(batches: Iterator[pa.RecordBatch], reference: Any) -> Iterator[pa.RecordBatch]:
    """Insert a vendor's snapshot, the seed, after the last book update that the snapshot includes.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Events of one chunk, columns of `schemas.frames.FLAT_EVENTS`, not encoded yet, in the feed's order.
    reference : row of `rebuild_references`
        Holds the seed: its id in `seed_sequence`, and its levels in `seed_bid_prices`, `seed_bid_sizes`,
        `seed_ask_prices` and `seed_ask_sizes`.

    Yields
    ------
    pyarrow.RecordBatch
        The events, with the seed inserted as a snapshot whose `first_sequence` is `SEED_MARK`.
    """
    is_inserted, last_batch = False, None
    for batch in batches:
        last_batch = batch if batch.num_rows else last_batch
        if not is_inserted and batch.num_rows:
            is_update = pc.equal(batch["event_type"], EventType.BOOK_UPDATE)
            is_after_seed = pc.and_(is_update, pc.greater(batch["sequence"], int(reference.seed_sequence)))
            if pc.any(is_after_seed).as_py():
                row = int(np.argmax(is_after_seed.to_numpy(zero_copy_only=False)))
                seed = _make_seed_event(reference, batch, max(row - 1, 0))
                batch = pa.concat_batches([batch.slice(0, row), seed, batch.slice(row)])
                is_inserted = True
        yield batch
    if not is_inserted and last_batch is not None:
        yield _make_seed_event(reference, last_batch, last_batch.num_rows - 1)


def _make_seed_event(reference: Any, events: pa.RecordBatch, neighbor_row: int) -> pa.RecordBatch:
    """Return the seed as an event; fields that the seed lacks are copied from a neighboring event."""
    neighbor = events.slice(neighbor_row, 1).to_pylist()[0]
    levels: dict[str, list[Any]] = {
        side: [int(value) for value in getattr(reference, f"seed_{side}")] for side in SIDE_NAMES
    }
    if reference.is_decimal:
        levels = {side: list(map(to_decimal, values)) for side, values in levels.items()}
    own_fields = {
        "event_type": str(EventType.BOOK_UPDATE),
        "sequence": int(reference.seed_sequence),
        "is_snapshot": True,
        "first_sequence": SEED_MARK,
        "prev_sequence": max(len(levels["bid_prices"]), len(levels["ask_prices"])),
        "damaged": False,
        "checksum": NOT_GIVEN,
        "kept_levels": NOT_GIVEN,
        "timestamp": neighbor["order_time"],
    }
    return pa.RecordBatch.from_pylist([neighbor | own_fields | levels], schema=events.schema)
