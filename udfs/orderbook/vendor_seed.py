"""Seeding a book from a vendor's own: its top levels, put among the feed's messages where they belong."""

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


def with_seed(batches: Iterator[pa.RecordBatch], reference: Any) -> Iterator[pa.RecordBatch]:
    """Put the seed behind the last book update that it contains.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        One hour's events, columns of `flat_events`, not coded yet, in the feed's order.
    reference : row of `hour_references`
        Names the seed: its sequence and levels.

    Yields
    ------
    pyarrow.RecordBatch
        The events, and among them the seed as a snapshot whose `first_sequence` is `SEED_MARK`.
    """
    waiting, last = True, None
    for batch in batches:
        last = batch if batch.num_rows else last
        if waiting and batch.num_rows:
            is_update = pc.equal(batch["event_type"], EventType.BOOK_UPDATE)
            behind = pc.and_(is_update, pc.greater(batch["sequence"], int(reference.seed_sequence)))
            if pc.any(behind).as_py():
                at = int(np.argmax(behind.to_numpy(zero_copy_only=False)))
                seed = _seed(reference, batch, max(at - 1, 0))
                batch = pa.concat_batches([batch.slice(0, at), seed, batch.slice(at)])
                waiting = False
        yield batch
    if waiting and last is not None:
        yield _seed(reference, last, last.num_rows - 1)


def _seed(reference: Any, events: pa.RecordBatch, beside: int) -> pa.RecordBatch:
    neighbour = events.slice(beside, 1).to_pylist()[0]
    levels: dict[str, list[Any]] = {
        side: [int(value) for value in getattr(reference, f"seed_{side}")] for side in SIDE_NAMES
    }
    if reference.is_decimal:
        levels = {side: list(map(to_decimal, values)) for side, values in levels.items()}
    given = {
        "event_type": str(EventType.BOOK_UPDATE),
        "sequence": int(reference.seed_sequence),
        "is_snapshot": True,
        "first_sequence": SEED_MARK,
        "prev_sequence": max(len(levels["bid_prices"]), len(levels["ask_prices"])),
        "damaged": False,
        "checksum": NOT_GIVEN,
        "kept_levels": NOT_GIVEN,
        "timestamp": neighbour["order_time"],
    }
    return pa.RecordBatch.from_pylist([neighbour | given | levels], schema=events.schema)
