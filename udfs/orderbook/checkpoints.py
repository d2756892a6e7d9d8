"""Rows of `checkpoints`: the state before an event, written and read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from deltabook.schemas.names import Status
from deltabook.schemas.tables import CHECKPOINTS, form_of
from deltabook.udfs.numbers.encoding import Numbers
from deltabook.udfs.orderbook.book import Levels
from deltabook.udfs.orderbook.rebuilder import Opening

_SCALARS = (
    "sequence",
    "trade_sequence",
    "order_time",
    "update_time",
    "bridge_due",
    "updates_seen",
    "epoch",
    "trade_count",
)
_VOLUMES = ("buy_volume", "sell_volume")


def checkpoint_row(opening: Opening, numbers: Numbers, named: dict[str, Any]) -> pa.RecordBatch:
    """Make the row of a state.

    Parameters
    ----------
    opening : Opening
        The state before an event.
    numbers : Numbers
        What its prices and sizes are.
    named : dict
        exchange, symbol, hour, event and fingerprint.

    Returns
    -------
    pyarrow.RecordBatch
        One row of `checkpoints` or `checkpoints_decimal`.
    """
    table = form_of(CHECKPOINTS, numbers.is_decimal)
    row = named | {name: getattr(opening, name) for name in (*_SCALARS, "status")}
    row |= {"held": b"" if opening.held is None else _stream(numbers.decode(opening.held))}
    row |= {"bid_prices": opening.bids[0], "bid_sizes": opening.bids[1]}
    row |= {"ask_prices": opening.asks[0], "ask_sizes": opening.asks[1]}
    whole = pa.schema([field for field in CHECKPOINTS.arrow if field.name not in _VOLUMES])
    rows = numbers.decode(pa.RecordBatch.from_pylist([row], schema=whole))
    for name in _VOLUMES:
        column = numbers.volume([getattr(opening, name)], f"{named['exchange']} {named['symbol']}")
        rows = rows.append_column(name, column)
    return rows.select(table.names).cast(table.arrow)


def held_events(checkpoint: pa.Table) -> pa.RecordBatch | None:
    """Return the events that a checkpoint holds back, prices and sizes as its table has them."""
    held = checkpoint["held"][0].as_py()
    return pa.ipc.open_stream(held).read_all().to_batches()[0] if held else None


def opening_of(checkpoint: pa.Table, numbers: Numbers) -> Opening:
    """Return the state that a checkpoint tells.

    Parameters
    ----------
    checkpoint : pyarrow.Table
        One row of `checkpoints` or `checkpoints_decimal`.
    numbers : Numbers
        What its prices and sizes are.
    """
    held = held_events(checkpoint)
    coded = numbers.encode(checkpoint)
    row: dict[str, Any] = {name: checkpoint[name][0].as_py() for name in (*_SCALARS, *_VOLUMES, "status")}
    return Opening(
        held=None if held is None else numbers.encode(held),
        status=Status(row.pop("status")),
        bids=_levels(coded, "bid"),
        asks=_levels(coded, "ask"),
        **{name: row[name] for name in _SCALARS},
        buy_volume=numbers.amount(row["buy_volume"]),
        sell_volume=numbers.amount(row["sell_volume"]),
    )


def pieces(batches: Iterator[pa.RecordBatch], every: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Cut events behind the message with which `every` level changes have come since the last cut.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Columns of `flat_events`.
    every : int
        Level changes.

    Yields
    ------
    (pyarrow.RecordBatch, bool)
        The same events, and whether a cut comes before them.
    """
    count, is_due = 0, False
    for batch in batches:
        if not batch.num_rows:
            continue
        offsets = [batch[f"{side}_prices"].offsets.to_numpy().astype(np.int64) for side in ("bid", "ask")]
        ends = count + sum(of_side[1:] - of_side[0] for of_side in offsets)
        start = base = 0
        while (cut := int(np.searchsorted(ends, base + every)) + 1) <= batch.num_rows:
            yield batch.slice(start, cut - start), is_due
            start, base, is_due = cut, int(ends[cut - 1]), True
        if start < batch.num_rows:
            yield batch.slice(start), is_due
            is_due = False
        count = int(ends[-1]) - base


def _levels(coded: pa.Table, side: str) -> Levels:
    return coded[f"{side}_prices"][0].values.to_numpy(), coded[f"{side}_sizes"][0].values.to_numpy()


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
