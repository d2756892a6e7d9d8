"""The function that Spark applies to a micro-batch of one symbol: carries its book on by what is settled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.columns import DECIMAL
from deltabook.schemas.errors import DeltabookError, WarehouseError, WorkError
from deltabook.schemas.feeds import FEEDS, feed_of
from deltabook.schemas.frames import CARRIED, RECORDS
from deltabook.schemas.names import NOT_GIVEN, EventType, Status, Writing
from deltabook.schemas.tables import BOOKS, QUARANTINE, form_of
from deltabook.udfs.numbers.decimal_text import DEFAULT_SCALE
from deltabook.udfs.numbers.encoding import Codes, Numbers, Rows, Scaled
from deltabook.udfs.numbers.scales import digits_needed, misfits, rescale, scale_for, to_decimals
from deltabook.udfs.orderbook.checkpoints import checkpoint_row, held_events, opening_of
from deltabook.udfs.orderbook.rebuilder import Opening, Rebuilder
from deltabook.udfs.orderbook.row_cadence import Thinning
from deltabook.udfs.ordering.feed_order import as_events
from deltabook.udfs.storage.data_files import DataFile
from deltabook.udfs.storage.worker_errors import disk_problem, place_of
from deltabook.udfs.streaming.book_states import read_state, write_state
from deltabook.udfs.streaming.settled_messages import STREAMS, Reached, arrivals, in_order, note, settled

Told = dict[str, Any]
"""What is kept of a symbol beside its state: see `_Carrying.told`."""


@dataclass(frozen=True)
class Carried:
    """What a micro-batch starts from.

    Attributes
    ----------
    root : str
        Folder of the live tables.
    source : str
        A name of `SOURCES`.
    writing : Writing
        Which rows of books are written.
    chunk : int
        Length of an hour, ns.
    patience : int
        How long a message waits for others, ns.
    clock : int
        When the last message of all was received, ns; -1 if there was none.
    is_silent : bool
        Whether nothing more comes: everything is overdue.
    instruments : mapping
        Rows of `instruments` that the warehouse or the settings fix, by exchange and symbol.
    restarts : mapping
        Restarts of ids that the warehouse knows, as `epochs.flatten` lists them, by exchange, symbol and
        event type.
    symbols : mapping
        What is kept of each symbol.
    """

    root: str
    source: str
    writing: Writing
    chunk: int
    patience: int
    clock: int
    is_silent: bool
    instruments: Mapping[tuple[str, str], dict[str, Any]]
    restarts: Mapping[tuple[str, str, str], list[int]]
    symbols: Mapping[tuple[str, str], Told]


_TRADES = ("trade", "agg_trade")


def carry_groups(before: Carried) -> Callable[[tuple[pa.Scalar, ...], pa.Table, pa.Table], pa.Table]:
    """Make the function that carries one symbol's book through a micro-batch.

    Parameters
    ----------
    before : Carried
        What the micro-batch starts from.

    Returns
    -------
    callable
        For new rows of `records`, cogrouped by exchange and symbol with the symbols whose messages wait, and
        `applyInArrow`: rows of `carried` out. Records without a symbol are those that could not be read.
    """

    def carry(key: tuple[pa.Scalar, ...], records: pa.Table, waiting: pa.Table) -> pa.Table:
        exchange, symbol = (str(part) for part in key)
        records = records.cast(RECORDS.arrow)
        try:
            if symbol:
                rows = _Carrying(before, exchange, symbol, records).rows()
            else:
                rows = _unreadable(before.root, records)
        except DeltabookError:
            raise
        except Exception as error:
            if told := disk_problem(error, before.root):
                raise WarehouseError(told) from error
            where = ", ".join(getattr(error, "__notes__", ()))
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise WorkError(f"{exchange} {symbol}: {where}: {cause}") from error
        empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in CARRIED.arrow}
        named = {"exchange": exchange, "symbol": symbol}
        return pa.Table.from_pylist([empty | named | row for row in rows], schema=CARRIED.arrow)

    return carry


def _unreadable(root: str, records: pa.Table) -> list[dict[str, Any]]:
    quarantined = DataFile(root, QUARANTINE)
    for batch in records.filter(pc.equal(records["record"], "quarantine")).to_batches():
        quarantined.add(batch.select(QUARANTINE.names))
    return quarantined.close()


class _Carrying:
    """One symbol's book on its way through one micro-batch."""

    def __init__(self, before: Carried, exchange: str, symbol: str, records: pa.Table):
        self.before, self.exchange, self.symbol = before, exchange, symbol
        kept = before.symbols.get((exchange, symbol), {})
        messages = records.filter(pc.is_in(records["record"], pa.array(["book_update", *_TRADES])))
        self.instrument = self._instrument(kept.get("instrument"), messages)
        self.is_decimal = bool(self.instrument["is_decimal"])
        self.feed = FEEDS[self.instrument["feed"]]
        known = {stream: before.restarts.get((exchange, symbol, stream), []) for stream in STREAMS}
        reached = kept.get("reached") or {stream: {"restarts": known[stream]} for stream in STREAMS}
        self.reached = {stream: Reached(**reached[stream]) for stream in STREAMS}
        self.quarantined = DataFile(before.root, QUARANTINE)
        taken = messages.filter(
            pc.is_in(messages["record"], pa.array(["book_update", self.instrument["trade_stream"]]))
        )
        self.counts = {"messages": taken.num_rows, "skipped": records.num_rows - taken.num_rows}
        new = self._at_scale(taken)
        state, old = None, None
        if kept:
            state, old = read_state(before.root, kept["state"])
        self.numbers = self._numbers(new, old, state)
        self.opening = Opening() if state is None else opening_of(state, self.numbers)
        parts = [as_events(self.numbers.encode(new), 0), *([] if old is None else [self.numbers.encode(old)])]
        self.waiting = pa.concat_tables(parts)
        self.clock = int(arrivals(self.waiting).max(initial=before.clock))

    def rows(self) -> list[dict[str, Any]]:
        """Return rows of `carried`: the data files that were written, and what is told of the symbol."""
        waiting = in_order(self.waiting, self.reached, self.feed, self.opening.order_time, self.before.chunk)
        count, rebuilder, books = self._taken(waiting.events, settled(waiting, self.reached))
        note(self.reached, waiting.events.slice(0, count), waiting.own_times[:count], self.feed)
        gone = self._overdue(waiting.missed)
        # A whole book needs no snapshot: it would only have been compared with it.
        needed = ~waiting.missed["is_snapshot"].to_numpy() | (self.opening.status <= Status.SUSPECT)
        self.counts |= {"late": waiting.late(count), "missed": int(np.count_nonzero(gone & needed))}
        self.counts |= {"rows": sum(rows.num_rows for rows in books)}
        left = pa.concat_tables([waiting.events.slice(count), waiting.missed.filter(pa.array(~gone))])
        added = self._write(books)
        return [*added, *self.quarantined.close(), {"told": json.dumps(self._told(rebuilder, left))}]

    def _instrument(self, kept: dict[str, Any] | None, messages: pa.Table) -> dict[str, Any]:
        """Return the instrument's row: as it is fixed, or as the first messages need it."""
        fixed = kept or self.before.instruments.get((self.exchange, self.symbol))
        row = {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "feed": feed_of(self.before.source, self.exchange).name,
            **(fixed or _needed(messages)),
        }
        kinds = set(pc.unique(messages["record"]).to_pylist())
        first = next((kind for kind in _TRADES if kind in kinds), "")
        return row | {"trade_stream": row.get("trade_stream") or first}

    def _at_scale(self, records: pa.Table) -> pa.Table:
        """Bring records to the instrument's scales, or to decimals; what does not fit goes to quarantine."""
        if self.is_decimal:
            records = to_decimals(records)
        else:
            self.quarantined.add(misfits(records, *self._scales()))
            records = rescale(records, *self._scales())
        return records.append_column("epoch", pa.array(np.zeros(records.num_rows, dtype=np.int64)))

    def _scales(self) -> tuple[int, int]:
        return int(self.instrument["price_scale"]), int(self.instrument["size_scale"])

    def _numbers(self, new: pa.Table, old: pa.Table | None, state: pa.Table | None) -> Numbers:
        if not self.is_decimal:
            return Scaled(*self._scales())
        known: list[Rows | None] = [new, old, state, None if state is None else held_events(state)]
        return Codes.of(rows for rows in known if rows is not None)

    def _overdue(self, events: pa.Table) -> Any:
        """Tell which messages have waited for `patience` or longer."""
        return (arrivals(events) <= self.clock - self.before.patience) | self.before.is_silent

    def _taken(self, events: pa.Table, count: int) -> tuple[int, Rebuilder, list[pa.RecordBatch]]:
        """Carry the book through what is settled or overdue.

        Where the book breaks, or as long as it has not begun, a snapshot fetched apart may still come that
        belongs before what has come: the messages wait for it, but no longer than `patience`.
        """
        due = np.flatnonzero(self._overdue(events))
        overdue = int(due[-1]) + 1 if len(due) else 0
        count = max(count, overdue)
        rebuilder, books = self._fed(events.slice(0, count))
        broken = self._broken_at(events, rebuilder, books)
        if broken is None or (pc.sum(events["is_snapshot"].slice(broken + 1)).as_py() or 0):
            return count, rebuilder, books
        waits = max(broken, overdue)
        return (count, rebuilder, books) if waits >= count else (waits, *self._fed(events.slice(0, waits)))

    def _fed(self, events: pa.Table) -> tuple[Rebuilder, list[pa.RecordBatch]]:
        opening, writing = self.opening, self.before.writing
        rebuilder = Rebuilder(self.exchange, self.symbol, self.feed, writing, self.numbers, opening)
        books = []
        hours = events["hour"].to_numpy()
        cuts = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), len(hours)]
        for start, end in pairwise(cuts):
            if end > start:
                batch = events.slice(start, end - start).combine_chunks().to_batches()[0]
                try:
                    books.append(rebuilder.feed_batch(batch))
                except Exception as error:
                    error.add_note(place_of(batch))
                    raise
        return rebuilder, books

    def _broken_at(self, events: pa.Table, rebuilder: Rebuilder, books: list[pa.RecordBatch]) -> int | None:
        """Return where the stretch began in which the book is not whole at the end; None if it is whole."""
        if rebuilder.opening().status > Status.SUSPECT:
            return None
        rows = pa.Table.from_batches(books, schema=rebuilder.books.arrow)
        unproven = pa.array([Status.UNSEEDED.label, Status.SUSPECT.label])
        whole = np.flatnonzero(~pc.is_in(rows["status"], unproven).to_numpy())
        if not len(whole) and self.opening.status <= Status.SUSPECT:
            return 0
        first = int(whole[-1]) + 1 if len(whole) else 0
        if first >= rows.num_rows:
            return 0
        row = rows.slice(first, 1).to_pylist()[0]
        found = pc.and_(
            pc.equal(events["epoch"], row["epoch"]), pc.equal(events["sequence"], row["sequence"])
        )
        found = pc.and_(found, pc.equal(events["event_type"], EventType.BOOK_UPDATE))
        return max(int(pc.index(found, True).as_py()), 0)

    def _write(self, books: list[pa.RecordBatch]) -> list[dict[str, Any]]:
        """Write the rows of books, a data file for each day."""
        table = form_of(BOOKS, self.is_decimal)
        thinning = Thinning(self.before.writing, self.before.writing.cadence, self.numbers)
        files: dict[Any, DataFile] = {}
        for rows in map(thinning.choose, books):
            if rows.num_rows:
                day = rows["date"][0].as_py()
                files.setdefault(day, DataFile(self.before.root, table)).add(rows)
        return [row for file in files.values() for row in file.close()]

    def _told(self, rebuilder: Rebuilder, left: pa.Table) -> Told:
        """Write the state; return what else is kept, and what was counted."""
        state = rebuilder.opening()
        named = {"exchange": self.exchange, "symbol": self.symbol, "hour": NOT_GIVEN, "event": 0}
        row = checkpoint_row(state, self.numbers, named | {"fingerprint": ""})
        return {
            "instrument": self.instrument,
            "reached": {stream: asdict(reached) for stream, reached in self.reached.items()},
            "state": write_state(self.before.root, row, self.numbers.decode(left)),
            "waiting": left.num_rows,
            "clock": self.clock,
            "status": state.status.label,
            "counts": self.counts,
        }


def _needed(records: pa.Table) -> dict[str, int | bool]:
    """Return the scales that hold the first messages, as `ingest` chooses them."""
    scales: dict[str, int | bool] = {"is_decimal": False}
    for name in ("price_scale", "size_scale"):
        usual = (records[name].to_numpy() == DEFAULT_SCALE).all()
        scale = DEFAULT_SCALE if usual else scale_for(*digits_needed(records, name))
        if scale is None or pc.any(pc.not_equal(records["wide"], b"")).as_py():
            return {"price_scale": DECIMAL.scale, "size_scale": DECIMAL.scale, "is_decimal": True}
        scales[name] = scale
    return scales
