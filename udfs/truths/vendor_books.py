"""Vendor books of one symbol: which of them can be trusted, and between which messages each belongs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deltabook.schemas.columns import SIDE_NAMES
from deltabook.schemas.names import GoldenKind
from deltabook.schemas.tables import GOLDEN, form_of
from deltabook.udfs.arrow_arrays import to_numpy
from deltabook.udfs.numbers.book_faults import BOOK_FAULTS, find_book_faults
from deltabook.udfs.numbers.encoding import Numbers, Rows
from deltabook.udfs.orderbook.book import SideChanges
from deltabook.udfs.orderbook.event_columns import read_side_changes
from deltabook.udfs.storage.object_store import open_input

_COLUMNS = ("epoch", "sequence", "received", *SIDE_NAMES)
_ORDER = [(name, "ascending") for name in ("epoch", "sequence", "source_file", "source_row")]


@dataclass(frozen=True)
class VendorBooks:
    """k vendor books in order of their ids.

    Attributes
    ----------
    epoch, sequence : int64[k]
        Id epoch, and id of the last message that each vendor book includes.
    received : int64[k]
        Time at which each vendor book was received, ns since 1970 UTC.
    bids, asks : SideChanges
        Levels of the vendor books, best first.
    """

    epoch: NDArray[np.int64]
    sequence: NDArray[np.int64]
    received: NDArray[np.int64]
    bids: SideChanges
    asks: SideChanges

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, chosen: NDArray[np.intp]) -> VendorBooks:
        """Return the vendor books at some indices, intp[m]."""
        return VendorBooks(
            self.epoch[chosen],
            self.sequence[chosen],
            self.received[chosen],
            _take_side(self.bids, chosen),
            _take_side(self.asks, chosen),
        )


@dataclass
class VendorBookQueue:
    """The vendor books that a rebuild has not used yet.

    Attributes
    ----------
    books : VendorBooks
        Valid vendor books.
    rejected : Counter
        Number of vendor books that were not used, by reason.
    """

    books: VendorBooks
    rejected: Counter[str] = field(default_factory=Counter)
    used: int = 0

    def take_before(
        self,
        epoch: NDArray[np.int64],
        sequence: NDArray[np.int64],
        received: NDArray[np.int64],
        last: tuple[int, int] | None,
    ) -> tuple[VendorBooks, NDArray[np.int64]]:
        """Take the vendor books that belong before one of the next messages, or directly after the last one.

        A vendor book belongs before the first message that it does not include. Ids decide that. If either
        the messages or the vendor's books have no ids, their `sequence` is a receive time, and receive times
        decide. A vendor book that is older than the last message is not used: the book has moved on. Neither
        is one that comes before the first message of all, because messages may be missing in between.

        Parameters
        ----------
        epoch, sequence, received : int64[n]
            Epoch, id and receive time of the next messages, in the feed's order.
        last : (int, int) or None
            Epoch and id of the message before; None if there was none.

        Returns
        -------
        (VendorBooks, int64[m])
            Vendor books in order, and the index of the message before which each belongs; n for a vendor book
            that has the id of the last message.
        """
        rest = self.books.take(np.arange(self.used, len(self.books)))
        if not len(rest) or not len(sequence):
            return rest.take(np.empty(0, np.intp)), np.empty(0, np.int64)
        is_timed = bool((sequence == received).all())
        if is_timed or bool((rest.sequence == rest.received).all()):
            times = np.maximum.accumulate(received)
            before = np.maximum.accumulate(np.searchsorted(times, rest.received, side="right"))
            is_last = rest.received == received[-1]
            # Only a message without an id says when it was received.
            is_old = rest.received < last[1] if last and is_timed else before == 0
        else:
            before = _place(rest, epoch, sequence)
            is_last = (rest.epoch == epoch[-1]) & (rest.sequence == sequence[-1])
            is_old = before == 0
            if last is not None:
                is_old &= (rest.epoch < last[0]) | ((rest.epoch == last[0]) & (rest.sequence < last[1]))
        is_due = (before < len(sequence)) | is_last
        chosen = np.arange(len(rest) if is_due.all() else np.argmin(is_due))
        self.used += len(chosen)
        self.rejected["older than the last message"] += int(is_old[chosen].sum())
        chosen = chosen[~is_old[chosen]]
        return rest.take(chosen), before[chosen]


_NOTHING = np.empty(0, dtype=np.int64)
_NO_LEVELS = SideChanges(np.zeros(1, dtype=np.int64), _NOTHING, _NOTHING)
NO_VENDOR_BOOKS = VendorBookQueue(VendorBooks(_NOTHING, _NOTHING, _NOTHING, _NO_LEVELS, _NO_LEVELS))


class VendorReference(Protocol):
    """A row that says where the vendor books of a chunk are."""

    @property
    def exchange(self) -> str:
        """Exchange of the books."""

    @property
    def is_decimal(self) -> bool:
        """True if the instrument is stored as DECIMAL(38,18)."""

    @property
    def vendor_files(self) -> Sequence[str]:
        """URIs of data files of `golden` or `golden_decimal`; their partition is the symbol."""

    @property
    def vendor_from(self) -> int:
        """First id to read."""

    @property
    def vendor_to(self) -> int:
        """Last id to read, inclusive."""


def read_vendor_books(reference: VendorReference) -> pa.Table:
    """Read the vendor books of a chunk, in order of their ids.

    Parameters
    ----------
    reference : VendorReference
        Names the files and the ids.

    Returns
    -------
    pyarrow.Table
        Columns epoch, sequence, received and the levels, as stored.
    """
    filters = [
        ("exchange", "=", reference.exchange),
        ("kind", "=", str(GoldenKind.VENDOR_BOOK)),
        ("sequence", ">=", int(reference.vendor_from)),
        ("sequence", "<=", int(reference.vendor_to)),
    ]
    schema = form_of(GOLDEN, bool(reference.is_decimal)).arrow
    columns = [*_COLUMNS, "source_file", "source_row"]
    parts = [pa.schema([schema.field(name) for name in columns]).empty_table()]
    for file in reference.vendor_files:
        # Pass a file object, not a path: pyarrow would parse `symbol=…` in a path as a column.
        with open_input(file) as stream:
            parts.append(pq.read_table(stream, columns=columns, filters=filters).cast(parts[0].schema))
    return pa.concat_tables(parts).sort_by(_ORDER).select(list(_COLUMNS))


def queue_vendor_books(rows: pa.Table, numbers: Numbers) -> VendorBookQueue:
    """Return the vendor books that can be trusted; count the others by reason.

    A vendor book can be trusted if both sides have levels with positive prices and sizes, the levels are
    sorted, and the best bid is below the best ask.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows of `read_vendor_books`.
    numbers : Numbers
        Encoding of prices and sizes.
    """
    if not rows.num_rows:
        return NO_VENDOR_BOOKS
    faults = find_book_faults(rows)
    is_valid = np.ones(rows.num_rows, dtype=np.bool_)
    rejected: Counter[str] = Counter()
    for fault in BOOK_FAULTS:
        rejected[fault] += int((is_valid & faults[fault]).sum())
        is_valid &= ~faults[fault]
    encoded: Rows = numbers.encode(rows.filter(pa.array(is_valid)).combine_chunks())
    if not encoded.num_rows:
        return VendorBookQueue(NO_VENDOR_BOOKS.books, +rejected)
    batch = encoded.combine_chunks().to_batches()[0]
    bids, asks = read_side_changes(batch, "bid"), read_side_changes(batch, "ask")
    epoch, sequence, received = (to_numpy(batch[name]) for name in _COLUMNS[:3])
    books = VendorBooks(epoch, sequence, received, bids, asks)
    return VendorBookQueue(books, +rejected)


def _place(books: VendorBooks, epoch: NDArray[np.int64], sequence: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the first message after each vendor book, by epoch and id; n if there is none."""
    is_book = np.repeat([False, True], [len(sequence), len(books)])
    epochs, ids = np.concatenate((epoch, books.epoch)), np.concatenate((sequence, books.sequence))
    order = np.lexsort((is_book, ids, epochs))
    messages_before = np.cumsum(~is_book[order])
    before = np.empty(len(books), dtype=np.int64)
    before[order[is_book[order]] - len(sequence)] = messages_before[is_book[order]]
    return before


def _take_side(side: SideChanges, chosen: NDArray[np.intp]) -> SideChanges:
    """Return the levels of some books of one side."""
    lengths = np.diff(side.offsets)[chosen]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    levels = np.repeat(side.offsets[:-1][chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return SideChanges(offsets, side.prices[levels], side.sizes[levels])
