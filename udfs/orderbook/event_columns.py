"""Conversion of event batches to the arrays that the book's kernels take."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from deltabook.schemas.feeds import Checksum
from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.numbers.encoding import PrintedDigits
from deltabook.udfs.orderbook.book import SideChanges
from deltabook.udfs.orderbook.book_kernel import IntegrityFields
from deltabook.udfs.orderbook.continuity import UpdateIds
from deltabook.udfs.orderbook.gaps import MessageLocation


def locate_message(events: pa.RecordBatch, index: int) -> MessageLocation:
    """Return where one event is: its chunk, ids and time, and its row in the raw file.

    Parameters
    ----------
    events : pyarrow.RecordBatch
        Columns of `schemas.frames.FLAT_EVENTS`.
    index : int
        Row of the event.
    """
    return MessageLocation(*(events[name][index].as_py() for name in MessageLocation._fields))


def read_update_ids(updates: pa.RecordBatch) -> UpdateIds:
    """Return the ids of n book updates.

    Parameters
    ----------
    updates : pyarrow.RecordBatch
        Columns of `schemas.frames.FLAT_EVENTS`, book updates only.
    """
    names = ("is_snapshot", "epoch", "first_sequence", "prev_sequence", "sequence", "damaged")
    column = {name: to_numpy(updates[name]) for name in names}
    # The sequence of a message without an id is the message's time.
    has_id = column["sequence"] != to_numpy(updates["timestamp"])
    return UpdateIds(
        is_snapshot=column["is_snapshot"],
        epoch=column["epoch"],
        first=column["first_sequence"],
        previous=column["prev_sequence"],
        sequence=column["sequence"],
        is_linked=(column["prev_sequence"] != NOT_GIVEN) | has_id,
        damaged=column["damaged"],
        time=to_numpy(updates["order_time"]),
    )


def read_integrity_fields(
    updates: pa.RecordBatch, checksum: Checksum, digits: PrintedDigits
) -> IntegrityFields:
    """Return the checksums and truncation depths of n book updates, which the kernel checks the book against.

    Parameters
    ----------
    updates : pyarrow.RecordBatch
        Columns of `schemas.frames.FLAT_EVENTS`, book updates only.
    checksum : Checksum
        The venue's formula.
    digits : PrintedDigits
        Decimal digits of prices and sizes.
    """
    names = ("checksum", "price_digits", "size_digits", "kept_levels")
    return IntegrityFields(int(checksum), digits, *(to_numpy(updates[name]) for name in names))


def read_side_changes(updates: pa.RecordBatch, side: str) -> SideChanges:
    """Return the level changes of n book updates on one side.

    Parameters
    ----------
    updates : pyarrow.RecordBatch
        Columns of `schemas.frames.FLAT_EVENTS`, book updates only, prices and sizes as int64.
    side : str
        "bid" or "ask".
    """
    prices, sizes = updates[f"{side}_prices"], updates[f"{side}_sizes"]
    offsets = to_numpy(prices.offsets).astype(np.int64)
    start, end = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
    size_start = int(sizes.offsets[0].as_py()) if len(sizes) else 0
    return SideChanges(
        offsets - start,
        to_numpy(prices.values)[start:end],
        to_numpy(sizes.values)[size_start : size_start + end - start],
    )
