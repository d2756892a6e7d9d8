"""Continues each instrument's live book with the instrument's messages in a micro-batch.

The docstring of `settled_messages` defines settled, waiting, missed and late messages. A waiting message is
overdue if it has waited for `BatchStart.patience` or longer, or if the whole feed is silent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deltabook.schemas.columns import DECIMAL
from deltabook.schemas.errors import DeltabookError, WarehouseError, WorkError
from deltabook.schemas.feeds import FEEDS, feed_of
from deltabook.schemas.frames import CARRIED, RECORDS
from deltabook.schemas.names import NOT_GIVEN, UNSOUND_LABELS, EventType, RowPolicy, Status
from deltabook.schemas.rows import InstrumentRow, ScaleFields
from deltabook.schemas.tables import BOOKS, QUARANTINE, form_of
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.encoding import Codes, Numbers, Rows, Scaled
from deltabook.udfs.numbers.scales import (
    choose_scale,
    count_digits_needed,
    make_misfit_rows,
    rescale,
    to_decimals,
)
from deltabook.udfs.ordering.feed_order import make_events
from deltabook.udfs.rebuild.checkpoints import (
    BookState,
    CheckpointKeys,
    make_checkpoint_row,
    read_held_events,
    restore_book_state,
)
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.rebuild.row_policy import RowCadence
from deltabook.udfs.storage.data_files import AddedFile, DataFile
from deltabook.udfs.storage.worker_errors import describe_batch, describe_disk_problem
from deltabook.udfs.streaming.book_states import read_state, write_state
from deltabook.udfs.streaming.settled_messages import (
    STREAMS,
    StoredProgress,
    StreamProgress,
    count_settled,
    get_arrival_times,
    order_messages,
    update_progress,
)


class SymbolState(TypedDict):
    """State of one instrument between two micro-batches.

    The state is stored as JSON, so the keys must not change.

    Attributes
    ----------
    instrument : dict
        The instrument's row of the table `instruments`.
    reached : dict
        {event type: progress of the stream of this type}, as `StreamProgress.to_stored` returns it.
    state : str
        Name of the state file with the book and the waiting messages (see `book_states`).
    waiting : int
        Number of waiting messages.
    clock : int
        Latest arrival time of a message, ns since 1970 UTC; -1 if there was none.
    status : str
        Label of the book's status, such as `verified`.
    counts : dict
        Counts of the last micro-batch: `messages`, `skipped`, `late` and `missed` messages, and `rows` of
        books.
    """

    instrument: InstrumentRow
    reached: dict[str, StoredProgress]
    state: str
    waiting: int
    clock: int
    status: str
    counts: dict[str, int]


class _StateRow(TypedDict):
    """Row of `carried` with an instrument's new state, a `SymbolState` as JSON; other columns are empty."""

    symbol_state: str


@dataclass(frozen=True)
class BatchStart:
    """State before a micro-batch, and the settings of the live feed.

    Attributes
    ----------
    root : str
        Folder of the live tables.
    source : str
        Name of the source, a key of `SOURCES`.
    writing : RowPolicy
        Which rows of books to write.
    chunk : int
        Length of a chunk, ns.
    patience : int
        Longest time that a message waits for earlier messages that may still arrive, ns.
    clock : int
        Latest arrival time of a message of any instrument, ns since 1970 UTC; -1 if there was none.
    is_silent : bool
        Whether the whole feed is silent. If so, all waiting messages are overdue.
    instruments : mapping
        {(exchange, symbol): row of `instruments`}, for instruments that the warehouse or the settings define.
    restarts : mapping
        {(exchange, symbol, event type): restarts of ids that the warehouse knows}, in the form that
        `flatten_restarts` returns.
    symbols : mapping
        {(exchange, symbol): state of the instrument after the previous micro-batch}.
    """

    root: str
    source: str
    writing: RowPolicy
    chunk: int
    patience: int
    clock: int
    is_silent: bool
    instruments: Mapping[tuple[str, str], InstrumentRow]
    restarts: Mapping[tuple[str, str, str], list[int]]
    symbols: Mapping[tuple[str, str], SymbolState]


_TRADES = ("trade", "agg_trade")


def make_batch_function(
    start: BatchStart,
) -> Callable[[tuple[pa.Scalar, ...], pa.Table, pa.Table], pa.Table]:
    """Return the function that continues one instrument's book with the messages of a micro-batch.

    Parameters
    ----------
    start : BatchStart
        State from which the micro-batch starts.

    Returns
    -------
    callable
        A function for Spark's `applyInArrow` on cogrouped tables. Its inputs are the key (exchange, symbol),
        new rows of `records`, and a table that lists the instruments with waiting messages. Its output is
        rows of `carried`, which describe data files and the new state. Records without a symbol are lines
        that could not be read; they go to quarantine.
    """

    def continue_book(key: tuple[pa.Scalar, ...], records: pa.Table, waiting: pa.Table) -> pa.Table:
        exchange, symbol = (str(part) for part in key)
        records = records.cast(RECORDS.arrow)
        try:
            rows: Sequence[AddedFile | _StateRow] = (
                _LiveBook(start, exchange, symbol, records).rows()
                if symbol
                else _quarantine_unreadable(start.root, records)
            )
        except DeltabookError:
            raise
        except Exception as error:
            if disk_problem := describe_disk_problem(error, start.root):
                raise WarehouseError(disk_problem) from error
            where = ", ".join(getattr(error, "__notes__", ()))
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise WorkError(f"{exchange} {symbol}: {where}: {cause}") from error
        empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in CARRIED.arrow}
        names = {"exchange": exchange, "symbol": symbol}
        return pa.Table.from_pylist([{**empty, **names, **row} for row in rows], schema=CARRIED.arrow)

    return continue_book


def _quarantine_unreadable(root: str, records: pa.Table) -> list[AddedFile]:
    """Write the unreadable records to quarantine; return rows of `carried` that describe the files."""
    quarantined = DataFile(root, QUARANTINE)
    for batch in records.filter(pc.equal(records["record"], "quarantine")).to_batches():
        quarantined.add(batch.select(QUARANTINE.names))
    return quarantined.close()


class _LiveBook:
    """The live book of one instrument during one micro-batch."""

    def __init__(self, start: BatchStart, exchange: str, symbol: str, records: pa.Table):
        self.start, self.exchange, self.symbol = start, exchange, symbol
        stored = start.symbols.get((exchange, symbol))
        messages = records.filter(pc.is_in(records["record"], pa.array(["book_update", *_TRADES])))
        self.instrument = self._choose_instrument(stored["instrument"] if stored else None, messages)
        self.is_decimal = bool(self.instrument["is_decimal"])
        self.feed = FEEDS[self.instrument["feed"]]
        if stored:
            self.progress = {
                stream: StreamProgress.from_stored(stored["reached"][stream]) for stream in STREAMS
            }
        else:
            known_restarts = {
                stream: start.restarts.get((exchange, symbol, stream), []) for stream in STREAMS
            }
            self.progress = {stream: StreamProgress(restarts=known_restarts[stream]) for stream in STREAMS}
        self.quarantined = DataFile(start.root, QUARANTINE)
        accepted = messages.filter(
            pc.is_in(messages["record"], pa.array(["book_update", self.instrument["trade_stream"]]))
        )
        self.counts = {"messages": accepted.num_rows, "skipped": records.num_rows - accepted.num_rows}
        new = self._rescale(accepted)
        state, old = None, None
        if stored:
            state, old = read_state(start.root, stored["state"])
        self.numbers = self._make_numbers(new, old, state)
        self.opening = BookState() if state is None else restore_book_state(state, self.numbers)
        parts = [
            make_events(self.numbers.encode(new), 0),
            *([] if old is None else [self.numbers.encode(old)]),
        ]
        self.waiting = pa.concat_tables(parts)
        self.clock = int(get_arrival_times(self.waiting).max(initial=start.clock))

    def rows(self) -> list[AddedFile | _StateRow]:
        """Apply the settled and overdue messages; return rows of `carried`.

        The last row holds the instrument's new state. The other rows describe the written data files.
        """
        waiting = order_messages(
            self.waiting, self.progress, self.feed, self.opening.order_time, self.start.chunk
        )
        settled = count_settled(waiting, self.progress)
        count, rebuilder, books = self._apply_settled(waiting.events, settled)
        update_progress(self.progress, waiting.events.slice(0, count), waiting.own_times[:count], self.feed)
        dropped = self._find_overdue(waiting.missed)
        # A missed snapshot counts only if the book needed it, that is, if the book is unsound.
        needed = ~waiting.missed["is_snapshot"].to_numpy() | (self.opening.status <= Status.SUSPECT)
        self.counts |= {"late": waiting.count_late(count), "missed": int(np.count_nonzero(dropped & needed))}
        self.counts |= {"rows": sum(rows.num_rows for rows in books)}
        left = pa.concat_tables([waiting.events.slice(count), waiting.missed.filter(pa.array(~dropped))])
        files = self._write_books(books)
        state = self._write_state(rebuilder, left)
        return [*files, *self.quarantined.close(), {"symbol_state": json.dumps(state)}]

    def _choose_instrument(self, stored: InstrumentRow | None, messages: pa.Table) -> InstrumentRow:
        """Return the instrument's row of `instruments`.

        The result is the row in the instrument's state, if there is a state. Otherwise, the result is the row
        that the warehouse or the settings define. If neither defines a row, the result is a new row whose
        scales fit the first messages.
        """
        fixed = stored or self.start.instruments.get((self.exchange, self.symbol))
        kinds = set(pc.unique(messages["record"]).to_pylist())
        first = next((kind for kind in _TRADES if kind in kinds), "")
        return {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "feed": feed_of(self.start.source, self.exchange).name,
            **(fixed or _choose_scales(messages)),
            "trade_stream": (fixed.get("trade_stream") if fixed else "") or first,
        }

    def _rescale(self, records: pa.Table) -> pa.Table:
        """Return records at the instrument's scales, or as decimals.

        Records with a number that the scales cannot hold go to quarantine.
        """
        if self.is_decimal:
            records = to_decimals(records)
        else:
            self.quarantined.add(make_misfit_rows(records, *self._scales()))
            records = rescale(records, *self._scales())
        return records.append_column("epoch", pa.array(np.zeros(records.num_rows, dtype=np.int64)))

    def _scales(self) -> tuple[int, int]:
        """Return (price scale, size scale), in decimal digits."""
        return int(self.instrument["price_scale"]), int(self.instrument["size_scale"])

    def _make_numbers(self, new: pa.Table, old: pa.Table | None, state: pa.Table | None) -> Numbers:
        """Return the encoding of prices and sizes as the integers that the kernels use.

        The integers are numbers at the instrument's scales. For an instrument with decimals, they are codes:
        a code is the rank of a number among all distinct numbers.
        """
        if not self.is_decimal:
            return Scaled(*self._scales())
        known: list[Rows | None] = [new, old, state, None if state is None else read_held_events(state)]
        return Codes.of(rows for rows in known if rows is not None)

    def _find_overdue(self, events: pa.Table) -> NDArray[np.bool_]:
        """Return which messages are overdue (see the module's docstring), bool[n]."""
        latest_arrival = self.clock - self.start.patience
        is_overdue: NDArray[np.bool_] = get_arrival_times(events) <= latest_arrival
        return is_overdue | self.start.is_silent

    def _apply_settled(self, events: pa.Table, settled: int) -> tuple[int, Rebuilder, list[pa.RecordBatch]]:
        """Apply the settled and the overdue messages to the book.

        If a message breaks the book, a snapshot that belongs before this message may still arrive. The
        messages from the break on then wait for a snapshot, at most for `patience`. If the book has had no
        snapshot yet, all messages wait in this way.

        Parameters
        ----------
        events : pyarrow.Table
            Waiting messages in order, columns of `flat_events`.
        settled : int
            Number of settled messages, which are the first messages in `events`.

        Returns
        -------
        (count, rebuilder, books) : (int, Rebuilder, list of RecordBatch)
            Number of applied messages, the rebuilder after the last applied message, and rows of `books`.
        """
        overdue_rows = np.flatnonzero(self._find_overdue(events))
        overdue = int(overdue_rows[-1]) + 1 if len(overdue_rows) else 0
        count = max(settled, overdue)
        rebuilder, books = self._rebuild(events.slice(0, count))
        first_broken = self._find_break(events, rebuilder, books)
        if first_broken is None or (pc.sum(events["is_snapshot"].slice(first_broken + 1)).as_py() or 0):
            return count, rebuilder, books
        shorter = max(first_broken, overdue)
        if shorter >= count:
            return count, rebuilder, books
        return (shorter, *self._rebuild(events.slice(0, shorter)))

    def _rebuild(self, events: pa.Table) -> tuple[Rebuilder, list[pa.RecordBatch]]:
        """Apply messages to the opening book; return the rebuilder, and one batch of `books` per chunk."""
        opening, writing = self.opening, self.start.writing
        rebuilder = Rebuilder(self.exchange, self.symbol, self.feed, writing, self.numbers, opening)
        books = []
        chunks = events["hour"].to_numpy()
        bounds = [0, *(np.flatnonzero(np.diff(chunks)) + 1).tolist(), len(chunks)]
        for start, end in pairwise(bounds):
            if end > start:
                batch = events.slice(start, end - start).combine_chunks().to_batches()[0]
                try:
                    books.append(rebuilder.apply_events(batch))
                except Exception as error:
                    error.add_note(describe_batch(batch))
                    raise
        return rebuilder, books

    def _find_break(self, events: pa.Table, rebuilder: Rebuilder, books: list[pa.RecordBatch]) -> int | None:
        """Return the index of the message that broke the book; None if the book is whole after all messages.

        A book is whole if its status is sound. If the book was never whole, the result
        is 0.
        """
        if rebuilder.capture_state().status > Status.SUSPECT:
            return None
        rows = pa.Table.from_batches(books, schema=rebuilder.rows.table.arrow)
        unproven = pa.array(UNSOUND_LABELS)
        whole = np.flatnonzero(~pc.is_in(rows["status"], unproven).to_numpy())
        if not len(whole) and self.opening.status <= Status.SUSPECT:
            return 0
        first = int(whole[-1]) + 1 if len(whole) else 0
        if first >= rows.num_rows:
            return 0
        row = rows.slice(first, 1).to_pylist()[0]
        is_message = pc.and_(
            pc.equal(events["epoch"], row["epoch"]), pc.equal(events["sequence"], row["sequence"])
        )
        is_message = pc.and_(is_message, pc.equal(events["event_type"], EventType.BOOK_UPDATE))
        return max(int(pc.index(is_message, True).as_py()), 0)

    def _write_books(self, books: list[pa.RecordBatch]) -> list[AddedFile]:
        """Write rows of `books`, one data file per day; return rows of `carried` that describe the files."""
        table = form_of(BOOKS, self.is_decimal)
        cadence = RowCadence(self.start.writing, self.start.writing.cadence, self.numbers)
        files: dict[date, DataFile] = {}
        for rows in map(cadence.select_rows, books):
            if rows.num_rows:
                day = rows["date"][0].as_py()
                files.setdefault(day, DataFile(self.start.root, table)).add(rows)
        return [row for file in files.values() for row in file.close()]

    def _write_state(self, rebuilder: Rebuilder, left: pa.Table) -> SymbolState:
        """Write the book and the waiting messages to a state file; return the instrument's new state."""
        state = rebuilder.capture_state()
        keys: CheckpointKeys = {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "hour": NOT_GIVEN,
            "event": 0,
            "fingerprint": "",
        }
        row = make_checkpoint_row(state, self.numbers, keys)
        return {
            "instrument": self.instrument,
            "reached": {stream: progress.to_stored() for stream, progress in self.progress.items()},
            "state": write_state(self.start.root, row, self.numbers.decode(left)),
            "waiting": left.num_rows,
            "clock": self.clock,
            "status": state.status.label,
            "counts": self.counts,
        }


def _choose_scales(records: pa.Table) -> ScaleFields:
    """Return the scales that hold all numbers of the first messages.

    The stage `ingest` uses the same rule.

    Returns
    -------
    ScaleFields
        `price_scale` and `size_scale` in decimal digits, and `is_decimal`: whether no int64 scale is enough.
    """
    scales = []
    for name in ("price_scale", "size_scale"):
        usual = (records[name].to_numpy() == DEFAULT_SCALE).all()
        scale = DEFAULT_SCALE if usual else choose_scale(*count_digits_needed(records, name))
        if scale is None or pc.any(pc.not_equal(records["wide"], b"")).as_py():
            return {"price_scale": DECIMAL.scale, "size_scale": DECIMAL.scale, "is_decimal": True}
        scales.append(scale)
    price_scale, size_scale = scales
    return {"is_decimal": False, "price_scale": price_scale, "size_scale": size_scale}
