"""The state of a book between two events, and its conversion to and from a row of the table `checkpoints`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa

from deltabook.schemas.names import HOUR, NOT_GIVEN, Status
from deltabook.schemas.tables import CHECKPOINTS, form_of
from deltabook.udfs.numbers.encoding import Numbers
from deltabook.udfs.orderbook.book import Levels
from deltabook.udfs.orderbook.known_range import NOTHING_KNOWN, KnownRange
from deltabook.udfs.truths.support import SupportRules
from deltabook.udfs.truths.unlinked_book import NO_SUPPORT, SupportState

_SCALARS = (
    "sequence",
    "trade_sequence",
    "order_time",
    "update_time",
    "bridge_due",
    "updates_seen",
    "epoch",
    "trade_count",
    "silence",
)
_VOLUMES = ("buy_volume", "sell_volume")
_NO_LEVELS: Levels = (np.empty(0, np.int64), np.empty(0, np.int64))


class CheckpointKeys(TypedDict):
    """Columns of `checkpoints` that say which book a state belongs to, and before which event."""

    exchange: str
    symbol: str
    hour: int
    event: int
    fingerprint: str


@dataclass(frozen=True)
class BookState:
    """State of a book between two events: all that a chunk needs from the chunks before it.

    Attributes
    ----------
    sequence, trade_sequence : int
        Last update id that the book includes, and last trade id; -1 if there was none yet.
    order_time : int
        order_time of the last event, ns since 1970 UTC; -1 if there was none yet.
    update_time : int
        order_time of the last book update, ns since 1970 UTC; -1 if there was none yet.
    status : Status
        Status of the book after the last message.
    proven_status : Status
        The same, by ids alone: without checksums, known ranges and vendor books.
    bridge_due : bool
        True after a snapshot, until the first diff that is not stale.
    updates_seen : bool
        True after the first book update, whether it was applied or not.
    bids, asks : (int64[:], int64[:])
        The full book: prices and sizes, scaled or codes, prices ascending.
    known : (KnownRange, KnownRange)
        Known range of the bids and of the asks.
    support : SupportState
        What supports the book of an unlinked feed.
    rules : SupportRules or None
        Rules for seeds and corrections with which the book of an unlinked feed is built; None if the first
        messages are still to come.
    trade_count, buy_volume, sell_volume : int
        Number of trades since the last row of `books`, and the traded volume by aggressor side.
    epoch : int
        Id epoch of the last book update.
    silence : int
        Setting `silence` with which the book is built; see `RowPolicy`.
    held : pyarrow.RecordBatch or None
        Events that are not applied yet, or None. The first is a snapshot. Whether the snapshot replaces the
        book depends on the next diff, which has not arrived yet.
    """

    sequence: int = NOT_GIVEN
    trade_sequence: int = NOT_GIVEN
    order_time: int = NOT_GIVEN
    update_time: int = NOT_GIVEN
    status: Status = Status.UNSEEDED
    proven_status: Status = Status.UNSEEDED
    bridge_due: bool = False
    updates_seen: bool = False
    bids: Levels = _NO_LEVELS
    asks: Levels = _NO_LEVELS
    known: tuple[KnownRange, KnownRange] = (NOTHING_KNOWN, NOTHING_KNOWN)
    support: SupportState = NO_SUPPORT
    rules: SupportRules | None = None
    trade_count: int = 0
    buy_volume: int = 0
    sell_volume: int = 0
    epoch: int = 0
    silence: int = HOUR
    held: pa.RecordBatch | None = None


def make_checkpoint_row(state: BookState, numbers: Numbers, keys: CheckpointKeys) -> pa.RecordBatch:
    """Return the row of `checkpoints` that stores a state.

    Parameters
    ----------
    state : BookState
        The state before an event.
    numbers : Numbers
        Encoding of the state's prices and sizes.
    keys : CheckpointKeys
        The other columns of the row.

    Returns
    -------
    pyarrow.RecordBatch
        One row of `checkpoints` or `checkpoints_decimal`.
    """
    table = form_of(CHECKPOINTS, numbers.is_decimal)
    row: dict[str, object] = {**keys}
    row |= {name: getattr(state, name) for name in (*_SCALARS, "status", "proven_status")}
    row |= {"held": b"" if state.held is None else _serialize(numbers.decode(state.held))}
    row |= {"bid_prices": state.bids[0], "bid_sizes": state.bids[1]}
    row |= {"ask_prices": state.asks[0], "ask_sizes": state.asks[1]}
    row |= _support_columns(state)
    schema = pa.schema([field for field in CHECKPOINTS.arrow if field.name not in _VOLUMES])
    rows = numbers.decode(pa.RecordBatch.from_pylist([row], schema=schema))
    for name in _VOLUMES:
        column = numbers.volume([getattr(state, name)], f"{keys['exchange']} {keys['symbol']}")
        rows = rows.append_column(name, column)
    return rows.select(table.names).cast(table.arrow)


def read_held_events(checkpoint: pa.Table) -> pa.RecordBatch | None:
    """Return the held events of a checkpoint (see `BookState.held`), or None if there are none.

    Parameters
    ----------
    checkpoint : pyarrow.Table
        One row of `checkpoints` or `checkpoints_decimal`.

    Returns
    -------
    pyarrow.RecordBatch or None
        Columns of `schemas.frames.FLAT_EVENTS`; prices and sizes as the checkpoint's table stores them.
    """
    held = checkpoint["held"][0].as_py()
    return pa.ipc.open_stream(held).read_all().to_batches()[0] if held else None


def restore_book_state(checkpoint: pa.Table, numbers: Numbers) -> BookState:
    """Return the state that a checkpoint stores.

    Parameters
    ----------
    checkpoint : pyarrow.Table
        One row of `checkpoints` or `checkpoints_decimal`.
    numbers : Numbers
        Encoding of the prices and sizes of the result.
    """
    held = read_held_events(checkpoint)
    encoded = numbers.encode(checkpoint)
    row = {name: checkpoint[name][0].as_py() for name in (*_SCALARS, *_VOLUMES, "status", "proven_status")}
    return BookState(
        held=None if held is None else numbers.encode(held),
        status=Status(row["status"]),
        proven_status=Status(row["proven_status"]),
        known=(_read_known(encoded, "bids"), _read_known(encoded, "asks")),
        support=_read_support(encoded),
        rules=_parse_rules(checkpoint["rules"][0].as_py()),
        bids=_read_levels(encoded, "bid"),
        asks=_read_levels(encoded, "ask"),
        **{name: row[name] for name in _SCALARS},
        buy_volume=numbers.amount(row["buy_volume"]),
        sell_volume=numbers.amount(row["sell_volume"]),
    )


def split_for_checkpoints(
    batches: Iterator[pa.RecordBatch], every: int
) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Cut a chunk's events into batches that end where a checkpoint is due: after `every` level changes.

    Parameters
    ----------
    batches : iterator of pyarrow.RecordBatch
        Columns of `schemas.frames.FLAT_EVENTS`.
    every : int
        Number of level changes between two checkpoints, counted from the previous checkpoint. A batch ends
        with the message that reaches this number.

    Yields
    ------
    (pyarrow.RecordBatch, bool)
        The next events, and whether a checkpoint is due before these events.
    """
    count, is_due = 0, False
    for batch in batches:
        if not batch.num_rows:
            continue
        offsets = [batch[f"{side}_prices"].offsets.to_numpy().astype(np.int64) for side in ("bid", "ask")]
        changes = count + sum(side_offsets[1:] - side_offsets[0] for side_offsets in offsets)
        start = last_cut = 0
        while (cut := int(np.searchsorted(changes, last_cut + every)) + 1) <= batch.num_rows:
            yield batch.slice(start, cut - start), is_due
            start, last_cut, is_due = cut, int(changes[cut - 1]), True
        if start < batch.num_rows:
            yield batch.slice(start), is_due
            is_due = False
        count = int(changes[-1]) - last_cut


def _support_columns(state: BookState) -> dict[str, object]:
    """Return the columns of known ranges and of the support of an unlinked book."""
    (bids, asks), support = state.known, state.support
    return {
        "bids_whole": bids.is_whole,
        "asks_whole": asks.is_whole,
        "bids_known_from": bids.prices,
        "asks_known_from": asks.prices,
        "disputed_bids": support.disputed_bids,
        "disputed_asks": support.disputed_asks,
        "removed_bids": support.removed_bids,
        "removed_asks": support.removed_asks,
        "crossed_since": support.crossed_since,
        "warm_since": support.warm_since,
        "unsettled": support.is_unsettled,
        "row_due": support.is_row_due,
        "rules": "" if state.rules is None else ",".join(str(int(value)) for value in state.rules),
    }


def _read_known(encoded: pa.Table, side: str) -> KnownRange:
    """Return the known range of one side, "bids" or "asks"."""
    prices = encoded[f"{side}_known_from"][0].as_py()
    return KnownRange(encoded[f"{side}_whole"][0].as_py(), prices[0] if prices else None)


def _read_support(encoded: pa.Table) -> SupportState:
    """Return what supports the book of an unlinked feed; its phase is the status by ids alone."""
    prices = (
        encoded[f"{what}_{side}"][0].values.to_numpy()
        for what in ("disputed", "removed")
        for side in ("bids", "asks")
    )
    return SupportState(
        Status(encoded["proven_status"][0].as_py()),
        *(encoded[name][0].as_py() for name in ("crossed_since", "warm_since", "unsettled", "row_due")),
        *prices,
    )


def _parse_rules(text: str) -> SupportRules | None:
    if not text:
        return None
    is_used, warms, repairs, reseed_after, warm_time = map(int, text.split(","))
    return SupportRules(bool(is_used), bool(warms), bool(repairs), reseed_after, warm_time)


def _read_levels(encoded: pa.Table, side: str) -> Levels:
    """Return the prices and sizes of one side, "bid" or "ask"."""
    return encoded[f"{side}_prices"][0].values.to_numpy(), encoded[f"{side}_sizes"][0].values.to_numpy()


def _serialize(batch: pa.RecordBatch) -> bytes:
    """Return a batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())
