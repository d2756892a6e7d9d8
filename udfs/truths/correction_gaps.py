"""Rows of `gaps` for corrections of an unlinked book, and for the gaps that the book has recovered from."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa

from deltabook.schemas.names import GapKind, Status
from deltabook.udfs.numbers.encoding import Numbers
from deltabook.udfs.orderbook.continuity import UpdateIds, UpdateVerdicts
from deltabook.udfs.orderbook.gaps import GapLog, Locate, make_gap_row
from deltabook.udfs.orderbook.ranked_book import BID
from deltabook.udfs.truths.support import CROSSED, RESEEDED, RESTORED, SEEDED, STRANDED
from deltabook.udfs.truths.unlinked_book import LevelCorrections

_KINDS = {
    RESEEDED: GapKind.RESEED,
    STRANDED: GapKind.STRANDED_LEVEL,
    CROSSED: GapKind.STRANDED_LEVEL,
    RESTORED: GapKind.RESTORED_LEVEL,
}
_MOST_LEVELS = 1000
"""Largest number of levels that one row lists."""


def record_corrections(log: GapLog, corrections: LevelCorrections, numbers: Numbers, locate: Locate) -> None:
    """Add a row of `gaps` for the corrections at each message, by kind.

    Parameters
    ----------
    log : GapLog
        The log to add to.
    corrections : LevelCorrections
        Corrections of a batch.
    numbers : Numbers
        Encoding of prices and sizes.
    locate : callable
        Returns the `MessageLocation` of the message at an index.
    """
    is_recorded = corrections.kind != SEEDED
    keys = np.stack([corrections.message, corrections.kind.astype(np.int64)], axis=1)
    for message, kind in np.unique(keys[is_recorded], axis=0).tolist():
        chosen = np.flatnonzero((corrections.message == message) & (corrections.kind == kind))
        location, since = locate(message), locate(int(corrections.since[chosen].min()))
        row = make_gap_row(_KINDS[kind], location, len(chosen), len(chosen))
        row["from_time"] = since.order_time
        row["resolved_sequence"], row["resolved_time"] = location.sequence, location.order_time
        row["resolved_by"] = "book_update" if kind == CROSSED else "vendor_book"
        row["updates_affected"] = message - int(corrections.since[chosen].min())
        row["levels"] = _print_levels(corrections, chosen[:_MOST_LEVELS], numbers)
        log.closed.append(row)


def close_recovered(log: GapLog, verdicts: UpdateVerdicts, ids: UpdateIds, locate: Locate) -> None:
    """Close each open gap at the first later message after which the book is not suspect.

    Parameters
    ----------
    log : GapLog
        The log with the open gaps.
    verdicts : UpdateVerdicts
        Status of the book after n messages.
    ids : UpdateIds
        Ids of the messages.
    locate : callable
        Returns the `MessageLocation` of the message at an index.
    """
    if not log.open:
        return
    recovered = np.flatnonzero(verdicts.status >= Status.UNVERIFIABLE)
    still_open = []
    for gap in log.open:
        is_later = (ids.epoch[recovered] > gap["epoch"]) | (
            (ids.epoch[recovered] == gap["epoch"]) & (ids.sequence[recovered] > gap["sequence"])
        )
        if not is_later.any():
            still_open.append(gap)
            continue
        index = int(recovered[np.argmax(is_later)])
        location = locate(index)
        gap["resolved_sequence"], gap["resolved_time"] = location.sequence, location.order_time
        gap["resolved_by"] = "book_update"
        gap["updates_affected"] += log.applied - (len(verdicts.status) - 1 - index)
        log.closed.append(gap)
    log.open = still_open


def _print_levels(corrections: LevelCorrections, chosen: np.ndarray, numbers: Numbers) -> list[str]:
    """Return each correction as text: side, price, size before and size after."""
    prices = _print_numbers(numbers, corrections.price[chosen], "bid_prices")
    before = _print_numbers(numbers, corrections.old_size[chosen], "bid_sizes")
    after = _print_numbers(numbers, corrections.new_size[chosen], "bid_sizes")
    sides = ["bid" if side == BID else "ask" for side in corrections.side[chosen].tolist()]
    return [" ".join(texts) for texts in zip(sides, prices, before, after, strict=True)]


def _print_numbers(numbers: Numbers, values: np.ndarray, column: str) -> list[str]:
    """Return encoded prices or sizes as exact decimal numbers."""
    lists = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), pa.array(values))
    decoded = numbers.decode(pa.RecordBatch.from_arrays([lists], names=[column]))[column][0].as_py()
    digits = numbers.printed_digits
    scale = 0 if numbers.is_decimal else (digits.price_scale if "price" in column else digits.size_scale)
    return [f"{(Decimal(value).scaleb(-scale)).normalize():f}" for value in decoded]
