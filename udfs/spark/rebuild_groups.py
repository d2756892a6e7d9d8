"""The function that Spark applies to hours of events: carries a book through them, writes what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain as chained
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from deltabook.schemas.errors import GapError, WarehouseError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import REBUILT
from deltabook.schemas.names import GAP_LABELS, NOT_GIVEN, GapKind, OnGap, Status, Writing
from deltabook.schemas.tables import CHECKPOINTS, CHECKS, COVERAGE, GAPS, GRIDS, form_of
from deltabook.udfs.numbers.encoding import Codes, Numbers, Rows, Scaled
from deltabook.udfs.orderbook.checkpoints import checkpoint_row, held_events, opening_of, pieces
from deltabook.udfs.orderbook.continuity import SEED_MARK
from deltabook.udfs.orderbook.rebuilder import Opening, Rebuilder
from deltabook.udfs.orderbook.row_cadence import Thinning
from deltabook.udfs.orderbook.vendor_seed import with_seed
from deltabook.udfs.storage.arrow_frames import Group, to_frame
from deltabook.udfs.storage.data_files import DataFile, write_data_file
from deltabook.udfs.storage.event_files import BATCH_ROWS, read_checkpoint, read_events
from deltabook.udfs.storage.prefetch import ahead
from deltabook.udfs.storage.worker_errors import place_of

_NOT_OF_THE_STATE = ("exchange", "symbol", "hour", "event", "fingerprint")
_USUAL_DEPTH, _DEEPEST = 20, 5000
_NO_BREAK = {GAP_LABELS[kind] for kind in (GapKind.CLOCK_JUMP, GapKind.SILENCE)}


def rebuild_groups(root: str, writing: Writing) -> Group:
    """Make the function that rebuilds hours of one symbol, one after another.

    Parameters
    ----------
    root : str
        Folder of the warehouse.
    writing : Writing
        Which rows of books are written.

    Returns
    -------
    callable
        For `packed`, grouped by exchange, symbol, …: rows of `hour_references` in, rows of `rebuilt`
        out. Of an hour that is `chained`: the data file with its checkpoints, every gap, every comparison,
        its coverage. Of one that is `replayed`: the data files with its books. Hours that would come out
        as they are stored, since nothing before them differs any more, are passed over.
    """

    def rebuild(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        hours = list(pd.concat(groups).sort_values("hour").itertuples(index=False))
        rows = _Rebuild(root, writing, str(key[0]), str(key[1]), hours).rows()
        named = {"exchange": str(key[0]), "symbol": str(key[1])}
        yield to_frame(pa.RecordBatch.from_pylist([row | named for row in rows], schema=REBUILT.arrow))

    return rebuild


class _Rebuild:
    """Hours of one symbol on their way through one book."""

    def __init__(self, root: str, writing: Writing, exchange: str, symbol: str, hours: list[Any]):
        self.root, self.writing = root, writing
        self.exchange, self.symbol = exchange, symbol
        self.hours = hours
        self.numbers = self._numbers()
        self.rebuilder = self._rebuilder(self._checkpoint(hours[0]))

    def rows(self) -> list[dict[str, Any]]:
        """Go through the hours; return the rows of `rebuilt`."""
        rows: list[dict[str, Any]] = []
        differs = False
        waiting = list(self.hours)
        while waiting:
            reference = waiting.pop(0)
            if differs and not reference.changed and self._as_stored(reference):
                last = reference
                while waiting and not waiting[0].changed:
                    last = waiting.pop(0)
                if not waiting:
                    break
                if not waiting[0].checkpoint_file:  # a new hour opens from the one before it
                    waiting.insert(0, last)
                rows += self._finished()
                differs = False
                self.rebuilder = self._rebuilder(self._checkpoint(waiting[0]))
                continue
            differs |= bool(reference.changed)
            rows += self._hour(reference)
        return rows + self._finished() if self.hours[0].chained else rows

    def _hour(self, reference: Any) -> list[dict[str, Any]]:
        added = self._books_and_checkpoints(reference)
        rows = [row | {"hour": int(reference.hour)} for row in added]
        if reference.chained:
            rows += [
                asdict(found) | {"table": CHECKS.name, "hour": int(reference.hour), "kind": str(kind)}
                for kind, found in self.rebuilder.take_compared().items()
            ]
        return rows

    def _books_and_checkpoints(self, reference: Any) -> list[dict[str, Any]]:
        """Go through an hour; return the rows of `added` of the files that are written."""
        self.rebuilder.skip_rows(not reference.replayed)
        books = self._cadences() if reference.replayed else []
        checkpoints = [self._row(reference)]
        event = 0
        for events, is_due in pieces(self._events(reference), self.writing.checkpoint_every):
            if is_due:
                checkpoints.append(self._row(reference, event))
            rows = self._fed(events)
            for thinning, file in books:
                file.add(thinning.choose(rows))
            event += _stored(events)
        added = []
        for thinning, file in books:
            for rows in thinning.rest():
                file.add(rows)
            added += file.close()
        if reference.chained:
            table = form_of(CHECKPOINTS, self.numbers.is_decimal)
            added += write_data_file(self.root, table, checkpoints).to_pylist()
        return added

    def _cadences(self) -> list[tuple[Thinning, DataFile]]:
        grids = form_of(GRIDS, self.numbers.is_decimal)
        tables = {self.writing.cadence: self.rebuilder.books} | dict.fromkeys(self.writing.grids, grids)
        return [
            (Thinning(self.writing, cadence, self.numbers), DataFile(self.root, table))
            for cadence, table in tables.items()
        ]

    def _fed(self, events: pa.RecordBatch) -> pa.RecordBatch:
        try:
            rows = self.rebuilder.feed_batch(self.numbers.encode(events))
        except Exception as error:
            error.add_note(place_of(events))
            raise
        if self.writing.on_gap is OnGap.RAISE:
            self._raise_at_gap()
        return rows

    def _raise_at_gap(self) -> None:
        for gap in self.rebuilder.gaps.rows():
            if gap["kind"] not in _NO_BREAK:
                raise GapError(
                    f"{self.exchange} {self.symbol}: {gap['kind']} at sequence {gap['sequence']} "
                    f"({gap['source_file']}, row {gap['source_row']}): expected {gap['expected']}, found "
                    f"{gap['found']}. Nothing is published. Add what is missing, or go on past gaps with "
                    "--on-gap flag or wait"
                )

    def _finished(self) -> list[dict[str, Any]]:
        """Return the gaps and coverage of the book so far."""
        gaps = self.rebuilder.finish()
        if self.writing.on_gap is OnGap.RAISE:
            self._raise_at_gap()
        covered = self.rebuilder.coverage.take_rows()
        return [row | {"table": GAPS.name} for row in gaps] + [
            row | {"table": COVERAGE.name} for row in covered
        ]

    def _as_stored(self, reference: Any) -> bool:
        """Whether an hour opens as its stored books did, and no gap is open that its events may end."""
        if self.rebuilder.gaps.are_open or self.rebuilder.held is not None:
            return False
        if self.rebuilder.opening().status is Status.UNSEEDED:
            return False
        found = pa.Table.from_batches([self._row(reference)])
        names = [name for name in found.schema.names if name not in _NOT_OF_THE_STATE]
        found = found.select(names)
        stored = self._checkpoint(reference)
        return stored is not None and bool(stored.select(names).cast(found.schema).equals(found))

    def _row(self, reference: Any, event: int = 0) -> pa.RecordBatch:
        named = {"exchange": self.exchange, "symbol": self.symbol, "hour": int(reference.hour)}
        named |= {"event": event}
        return checkpoint_row(
            self.rebuilder.opening(), self.numbers, named | {"fingerprint": reference.fingerprint}
        )

    def _events(self, reference: Any) -> Iterator[pa.RecordBatch]:
        if len(reference.event_files) != 1:
            raise WarehouseError(
                f"{self.exchange} {self.symbol}: hour {reference.hour} lies in {len(reference.event_files)} "
                "data files, expected one: ingest the hour again"
            )
        file, hour, is_decimal = reference.event_files[0], int(reference.hour), bool(reference.is_decimal)
        # Deep rows are many numbers: fewer are made at once.
        rows = max(1, BATCH_ROWS * _USUAL_DEPTH // max(_USUAL_DEPTH, min(self.writing.depth, _DEEPEST)))
        events = ahead(read_events(file, self.exchange, self.symbol, hour, is_decimal, rows))
        return events if reference.seed_sequence == NOT_GIVEN else with_seed(events, reference)

    def _numbers(self) -> Numbers:
        """Return what prices and sizes are; decimals are collected by reading the hours once."""
        first = self.hours[0]
        if not first.is_decimal:
            return Scaled(int(first.price_scale), int(first.size_scale))
        openings = [self._checkpoint(reference) for reference in self.hours]
        parts = [(opening, held_events(opening)) for opening in openings if opening is not None]
        known: list[Rows] = [rows for part in parts for rows in part if rows is not None]
        return Codes.of(chained(known, (batch for hour in self.hours for batch in self._events(hour))))

    def _checkpoint(self, reference: Any) -> pa.Table | None:
        if not reference.checkpoint_file:
            return None
        return read_checkpoint(reference.checkpoint_file, self.exchange, int(reference.hour))

    def _rebuilder(self, checkpoint: pa.Table | None) -> Rebuilder:
        opening = Opening() if checkpoint is None else opening_of(checkpoint, self.numbers)
        feed = FEEDS[self.hours[0].feed]
        return Rebuilder(self.exchange, self.symbol, feed, self.writing, self.numbers, opening)


def _stored(events: pa.RecordBatch) -> int:
    """Count events of the file: a seed is none."""
    seeds: int = pc.sum(pc.equal(events["first_sequence"], SEED_MARK)).as_py() or 0
    return int(events.num_rows) - seeds
